//! The loops that are measured, and what comes out.
//!
//! Each message carries its number at both ends, and both processes check it.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::plan::Workload;

/// One end of a connection.
pub(super) trait Channel {
    /// Sends one message.
    fn send(&mut self, message: &[u8]) -> io::Result<()>;

    /// Receives one message of this length; `false` at the end.
    fn receive(&mut self, message: &mut [u8]) -> io::Result<bool>;

    /// Sends a message and receives its answer, in one call if there is such a thing.
    fn transact(&mut self, request: &[u8], reply: &mut [u8]) -> io::Result<bool> {
        self.send(request)?;
        self.receive(reply)
    }
}

/// What one run has measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    /// In the workload's unit.
    pub(super) figure: f64,
    /// What the slowest hundredth of the round trips took at least, if they were timed singly.
    pub(super) p99: Option<f64>,
    /// CPU time of both processes for one message, round trip or connection, in microseconds.
    pub(super) cpu: f64,
    /// What an idle connection takes of the server's memory, in KiB.
    pub(super) memory: Option<f64>,
    /// How often both processes woke up in a second in which nothing happened.
    pub(super) wakeups: Option<f64>,
}

/// What ends a stream, or asks for the end of a serving process.
pub(super) const LAST: u64 = u64::MAX;
/// Messages between two looks at the clock.
pub(super) const BATCH: u64 = 64;
/// The size of a call on a connection of its own.
pub(super) const CALL: usize = 64;
/// The size of a message where many connections are active.
pub(super) const PIECE: usize = 4 << 10;
/// How long nothing happens before a round trip after a pause.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

/// What a run of messages has taken.
pub(super) struct Measured {
    pub(super) time: Duration,
    pub(super) count: u64,
    pub(super) size: usize,
    /// What each round trip has taken, if they were timed singly.
    pub(super) singles: Vec<Duration>,
}

/// What kind of round trips.
#[derive(Clone, Copy)]
pub(super) struct Trips {
    pub(super) size: usize,
    pub(super) budget: Duration,
    pub(super) timing: Timing,
    pub(super) transact: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Timing {
    Together,
    Singly,
    /// Singly, with a pause before each.
    Paused,
}

impl Measured {
    pub(super) fn sample(mut self, workload: Workload, used: Duration) -> Sample {
        let seconds = self.time.as_secs_f64();
        let figure = match workload {
            Workload::Stream { .. } | Workload::Active { .. } => {
                to_f64(self.count) * size_f64(self.size) / 1e6 / seconds
            }
            Workload::Connect | Workload::First => to_f64(self.count) / seconds,
            Workload::RoundTrip { .. } | Workload::Transact { .. } | Workload::Paused { .. }
                if !self.singles.is_empty() =>
            {
                let at = self.singles.len() / 2;
                let (_, median, _) = self.singles.select_nth_unstable(at);
                median.as_secs_f64() * 1e6
            }
            Workload::RoundTrip { .. }
            | Workload::Transact { .. }
            | Workload::Paused { .. }
            | Workload::Idle { .. } => seconds * 1e6 / to_f64(self.count.max(1)),
        };
        let p99 = (!self.singles.is_empty()).then(|| {
            let at = self.singles.len() * 99 / 100;
            let (_, p99, _) = self.singles.select_nth_unstable(at);
            p99.as_secs_f64() * 1e6
        });
        Sample {
            figure,
            p99,
            cpu: used.as_secs_f64() * 1e6 / to_f64(self.count.max(1)),
            memory: None,
            wakeups: None,
        }
    }
}

/// Round trips until the time is over.
pub(super) fn round_trips(ends: &mut impl Channel, trips: Trips) -> io::Result<Measured> {
    let Trips { size, budget, .. } = trips;
    let (mut sent, mut received) = (blank(size), blank(size));
    let mut singles = Vec::new();
    let mut trip = |number| {
        stamp(&mut sent, number);
        let came = if trips.transact {
            ends.transact(&sent, &mut received)?
        } else {
            ends.send(&sent)?;
            ends.receive(&mut received)?
        };
        check(came && sent.first() == received.first() && sent.last() == received.last())?;
        check_number(&received, number)
    };
    let mut number = 0;
    // Not measured: until both sides run as they will.
    let warm_up = Instant::now();
    while warm_up.elapsed() < budget / 10 {
        trip(number)?;
        number += 1;
    }
    let start = Instant::now();
    let mut count = 0;
    let together = trips.timing == Timing::Together;
    // Where trips are slow the clock costs nothing, and many would take too long.
    let batch = if together && number >= BATCH {
        BATCH
    } else {
        1
    };
    while start.elapsed() < budget {
        if trips.timing == Timing::Paused {
            pause();
        }
        for _ in 0..batch {
            let begin = (!together).then(Instant::now);
            trip(number)?;
            number += 1;
            count += 1;
            singles.extend(begin.map(|begin| begin.elapsed()));
        }
    }
    Ok(Measured {
        time: start.elapsed(),
        count,
        size,
        singles,
    })
}

/// Lets both sides go to sleep.
#[expect(
    clippy::disallowed_methods,
    reason = "the time itself is what is wanted"
)]
fn pause() {
    thread::sleep(PAUSE);
}

pub(super) fn stream(
    ends: &mut impl Channel,
    size: usize,
    budget: Duration,
) -> io::Result<Measured> {
    let mut message = blank(size);
    let mut count = 0;
    let start = Instant::now();
    while start.elapsed() < budget {
        for _ in 0..BATCH {
            stamp(&mut message, count);
            ends.send(&message)?;
            count += 1;
        }
    }
    stamp(&mut message, LAST);
    ends.send(&message)?;
    // The other side answers when it has everything.
    check(ends.receive(&mut message)? && is_last(&message))?;
    Ok(Measured {
        time: start.elapsed(),
        count,
        size,
        singles: Vec::new(),
    })
}

/// Messages over all connections, each in its turn.
pub(super) fn in_turn(all: &mut [impl Channel], budget: Duration) -> io::Result<Measured> {
    let mut message = blank(PIECE);
    let mut count = 0;
    let mut start = Instant::now();
    for round in 0.. {
        stamp(&mut message, round);
        for ends in &mut *all {
            ends.send(&message)?;
        }
        if round == 0 {
            // Not measured: until each has touched its memory.
            start = Instant::now();
        } else {
            count += u64::try_from(all.len()).unwrap_or(0);
        }
        if start.elapsed() >= budget {
            break;
        }
    }
    stamp(&mut message, LAST);
    for ends in &mut *all {
        ends.send(&message)?;
    }
    // The other side answers when it has everything.
    for ends in all {
        check(ends.receive(&mut message)? && is_last(&message))?;
    }
    Ok(Measured {
        time: start.elapsed(),
        count,
        size: PIECE,
        singles: Vec::new(),
    })
}

/// The other side of [`in_turn`].
pub(super) fn take_in_turn(all: &mut [impl Channel]) -> io::Result<()> {
    let mut message = blank(PIECE);
    for round in 0.. {
        let mut last = 0;
        for ends in &mut *all {
            check(ends.receive(&mut message)?)?;
            if is_last(&message) {
                last += 1;
            } else {
                check_number(&message, round)?;
            }
        }
        if last == all.len() {
            break;
        }
    }
    for ends in &mut *all {
        ends.send(&message)?;
    }
    for ends in all {
        while ends.receive(&mut message)? {}
    }
    Ok(())
}

/// A round trip of [`CALL`] bytes.
pub(super) struct Call {
    sent: [u8; CALL],
    received: [u8; CALL],
}

impl Call {
    pub(super) fn new() -> Self {
        Self {
            sent: [0; CALL],
            received: [0; CALL],
        }
    }

    pub(super) fn run(&mut self, ends: &mut impl Channel, number: u64) -> io::Result<()> {
        stamp(&mut self.sent, number);
        ends.send(&self.sent)?;
        let came = ends.receive(&mut self.received)?;
        check(came && self.sent == self.received)
    }

    /// Sends the other process home.
    pub(super) fn last(&mut self, ends: &mut impl Channel) -> io::Result<()> {
        stamp(&mut self.sent, LAST);
        ends.send(&self.sent)
    }
}

/// Answers one call and closes; `false` if it was the last.
pub(super) fn answer(ends: &mut impl Channel) -> io::Result<bool> {
    let mut message = [0; CALL];
    let came = ends.receive(&mut message)?;
    if is_last(&message) {
        return Ok(false);
    }
    if came {
        ends.send(&message)?;
    }
    Ok(true)
}

/// A message without a number. Its pages are its own: fresh memory of zeros is one page of the
/// kernel's again and again, which no cache ever has to fetch.
pub(super) fn blank(size: usize) -> Vec<u8> {
    vec![0x5A; size]
}

/// Writes a message's number into both ends of it, as far as there is room.
pub(super) fn stamp(message: &mut [u8], number: u64) {
    let bytes = number.to_le_bytes();
    let len = message.len().min(bytes.len());
    if let (Some(to), Some(from)) = (message.get_mut(..len), bytes.get(..len)) {
        to.copy_from_slice(from);
    }
    let tail = message.len() - len;
    if let (Some(to), Some(from)) = (message.get_mut(tail..), bytes.get(..len)) {
        to.copy_from_slice(from);
    }
}

pub(super) fn check_number(message: &[u8], number: u64) -> io::Result<()> {
    check(has_number(message, number))
}

pub(super) fn is_last(message: &[u8]) -> bool {
    message.len() >= 8 && has_number(message, LAST)
}

/// Whether the message begins and ends with this number, as far as it is long enough.
fn has_number(message: &[u8], number: u64) -> bool {
    let bytes = number.to_le_bytes();
    let len = message.len().min(bytes.len());
    let expected = bytes.get(..len);
    message.get(..len) == expected && message.get(message.len() - len..) == expected
}

pub(super) fn check(right: bool) -> io::Result<()> {
    match right {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "what arrived is not what was sent",
        )),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
pub(super) fn to_f64(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
pub(super) fn size_f64(count: usize) -> f64 {
    count as f64
}
