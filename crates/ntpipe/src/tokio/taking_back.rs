//! Taking back what is left of a write whose runtime is gone.
//!
//! A peer that is just taking some of it has to decide first, which takes it a few instructions, if
//! it runs. Nobody waits for that here: the service thread asks again.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ntpipe_proto::Error;
use ntpipe_proto::lane::{OpId, Withdrawal};

use super::end::{End, Holder};
use crate::ring::{Link, Peer};
use crate::service::{Readiness, Service, Source, Token};
use crate::sys::futex;

/// A write that is to be taken back.
pub(super) struct TakingBack<H: Holder> {
    pub(super) end: Arc<End<H>>,
    pub(super) link: Arc<Link>,
    pub(super) id: OpId,
}

/// One of which the peer was taking some.
struct Contested<H: Holder> {
    write: TakingBack<H>,
    since: Instant,
    token: OnceLock<Token>,
    service: Arc<Service>,
}

/// How often the peer is asked before the service thread takes over.
const LOOKS: u32 = 20;
/// How long until it is asked again.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a peer may take to decide; it must have been stopped in the middle of a copy.
const LIMIT: Duration = Duration::from_secs(5);

impl<H: Holder> TakingBack<H> {
    /// Takes the write back, now or soon; whether the peer has all of it.
    pub(super) fn begin(self) -> bool {
        for attempt in 0..LOOKS {
            match self.withdraw() {
                Withdrawal::Completed => return true,
                Withdrawal::Withdrawn => return false,
                Withdrawal::Contested => futex::back_off(attempt),
            }
        }
        match Service::get() {
            Ok(service) => Contested::begin(self, service),
            Err(_) => self.give_up(),
        }
        false
    }

    fn withdraw(&self) -> Withdrawal {
        self.end.pipe.withdraw(&self.link, self.id)
    }

    /// The connection would wait for it for ever.
    fn give_up(&self) {
        self.link.poison(Error::INVALID_DATA);
        self.end.pipe.tasks().wake();
    }
}

impl<H: Holder> Contested<H> {
    fn begin(write: TakingBack<H>, service: Arc<Service>) {
        let contested = Arc::new(Self {
            write,
            since: Instant::now(),
            token: OnceLock::new(),
            service: Arc::clone(&service),
        });
        let token = service.enlist(Arc::<Self>::clone(&contested));
        let _ = contested.token.set(token);
        service.set_timer(token, Some(Instant::now() + PAUSE));
    }
}

/// Only its timer is used.
impl<H: Holder> Source for Contested<H> {
    fn fd(&self) -> BorrowedFd<'_> {
        self.write.link.files().own.as_fd()
    }

    fn ready(&self, _: Readiness) {}

    fn expired(&self) {
        // The timer was set after it.
        let Some(token) = self.token.get() else {
            return;
        };
        // One that has gone never decides, and nothing waits for it.
        let is_there = self.write.link.peer() == Peer::Connected;
        if self.write.withdraw() == Withdrawal::Contested && is_there {
            if self.since.elapsed() < LIMIT {
                let again = Instant::now() + PAUSE;
                return self.service.set_timer(*token, Some(again));
            }
            self.write.give_up();
        }
        self.write.end.pipe.tasks().wake();
        self.service.forget(*token);
    }
}
