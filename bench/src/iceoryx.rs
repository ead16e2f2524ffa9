//! iceoryx2 as a pipe: publish and subscribe in each direction, nothing lost.
//!
//! A message is copied into the memory that the publisher lends, as `write` does; the subscriber
//! reads it in place and takes no more than its number from both ends, which is less than `read`
//! does. An empty message is the end.

use std::io;
use std::process;

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use crate::plan::Workload;
use crate::usage::Usage;
use crate::work::{self, Channel, Sample, blank, check_number, is_last};
use crate::{Part, READY};

pub(crate) const CAN: &[&str] = &["round-trip", "paused", "stream"];

/// Messages under way in one direction, at most.
const DEPTH: usize = 16;
/// So much of a message is its number.
const NUMBER: usize = 8;

pub(crate) fn drive(part: &Part, workload: Workload) -> io::Result<Sample> {
    let size = size(workload)?;
    let mut end = End::new(part, size, "there", "back")?;
    let other = part.other()?;
    let (us, they) = (Usage::of(process::id())?, Usage::of(other.id())?);
    let measured = match workload {
        Workload::Stream { .. } => work::stream(&mut end, size, part.budget()),
        _ => work::round_trips(&mut end, part.trips(workload, size)),
    }?;
    let used = Usage::of(other.id())?.cpu_since(&they) + Usage::of(process::id())?.cpu_since(&us);
    end.send(&[])?;
    other.finish()?;
    Ok(measured.sample(workload, used))
}

pub(crate) fn serve(part: &Part, workload: Workload) -> io::Result<()> {
    let size = size(workload)?;
    let mut end = End::new(part, size, "back", "there")?;
    println!("{READY}");
    let mut message = blank(size);
    if let Workload::Stream { .. } = workload {
        let mut number = 0;
        while end.receive(&mut message)? && !is_last(&message) {
            check_number(&message, number)?;
            number += 1;
        }
        end.send(&message)?;
    }
    while end.receive(&mut message)? {
        end.send(&message)?;
    }
    Ok(())
}

fn size(workload: Workload) -> io::Result<usize> {
    match workload {
        Workload::RoundTrip { size } | Workload::Paused { size } | Workload::Stream { size } => {
            Ok(size)
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Both directions, as one process sees them.
struct End {
    publisher: Publisher<ipc::Service, [u8], ()>,
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    /// Where who waits sleeps.
    events: Option<(Notifier<ipc::Service>, Listener<ipc::Service>)>,
    // The last: everything else belongs to it.
    _node: Node<ipc::Service>,
}

impl End {
    fn new(part: &Part, size: usize, to: &str, from: &str) -> io::Result<Self> {
        set_log_level(LogLevel::Error);
        let node = NodeBuilder::new()
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()
            .map_err(io::Error::other)?;
        let name = |direction: &str| -> io::Result<ServiceName> {
            let name = format!("{}/{direction}", part.name);
            name.as_str().try_into().map_err(io::Error::other)
        };
        let lane = |direction| {
            node.service_builder(&name(direction)?)
                .publish_subscribe::<[u8]>()
                .enable_safe_overflow(false)
                .subscriber_max_buffer_size(DEPTH)
                .max_publishers(1)
                .max_subscribers(1)
                .open_or_create()
                .map_err(io::Error::other)
        };
        let bell = |direction| {
            node.service_builder(&name(direction)?)
                .event()
                .open_or_create()
                .map_err(io::Error::other)
        };
        let subscriber = lane(from)?.subscriber_builder().create();
        let publisher = lane(to)?
            .publisher_builder()
            .initial_max_slice_len(size)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create();
        let events = match part.transport == "iceoryx2-event" {
            true => {
                let listener = bell(from)?.listener_builder().create();
                let notifier = bell(to)?.notifier_builder().create();
                Some((
                    notifier.map_err(io::Error::other)?,
                    listener.map_err(io::Error::other)?,
                ))
            }
            false => None,
        };
        Ok(Self {
            publisher: publisher.map_err(io::Error::other)?,
            subscriber: subscriber.map_err(io::Error::other)?,
            events,
            _node: node,
        })
    }
}

impl Channel for End {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let loan = self.publisher.loan_slice_uninit(message.len());
        let sample = loan.map_err(io::Error::other)?.write_from_slice(message);
        sample.send().map_err(io::Error::other)?;
        if let Some((notifier, _)) = &self.events {
            notifier.notify().map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn receive(&mut self, message: &mut [u8]) -> io::Result<bool> {
        let sample = loop {
            if let Some(sample) = self.subscriber.receive().map_err(io::Error::other)? {
                break sample;
            }
            match &mut self.events {
                Some((_, listener)) => {
                    listener.blocking_wait(|_| ()).map_err(io::Error::other)?;
                }
                None => std::hint::spin_loop(),
            }
        };
        let there = sample.payload();
        if there.len() != message.len() {
            return Ok(false);
        }
        // Both may be the same bytes.
        let part = message.len().min(NUMBER);
        let tail = message.len() - part;
        for range in [0..part, tail..message.len()] {
            if let (Some(to), Some(from)) = (message.get_mut(range.clone()), there.get(range)) {
                to.copy_from_slice(from);
            }
        }
        Ok(true)
    }
}
