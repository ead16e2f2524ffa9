//! What keeps an instance taken: its process has closed the end, and others hold it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};

use ntpipe_proto::Error;

use super::server_end::ServerEnd;
use super::{Readiness, Source};
use crate::shared::Watches;
use crate::stream::lock;

/// Those to whom a server end was passed on.
#[derive(Default)]
pub(super) struct Lodging {
    state: Mutex<State>,
    pub(super) watches: Watches,
}

#[derive(Default)]
struct State {
    /// Parts that were passed on and have not come to their end.
    lodgers: usize,
    /// The instance is theirs.
    has_begun: bool,
}

impl Lodging {
    /// Watches over one that holds the end, and all to whom it passes it on.
    pub(super) fn add(&self, fd: OwnedFd, end: Weak<ServerEnd>) -> Result<(), Error> {
        // Before the watch, which may bite at once.
        lock(&self.state).lodgers += 1;
        let watched = self.watches.add(Arc::new(Lodger { fd, end }));
        watched.inspect_err(|_| lock(&self.state).lodgers -= 1)
    }

    /// The process closes the end; `false` if nobody else is left.
    pub(super) fn begin(&self) -> bool {
        let mut state = lock(&self.state);
        state.has_begun = state.lodgers > 0;
        state.has_begun
    }

    /// Whether the instance is only theirs.
    pub(super) fn has_begun(&self) -> bool {
        lock(&self.state).has_begun
    }

    /// One is gone; whether it was the last one of an end that is theirs.
    fn leave(&self) -> bool {
        let mut state = lock(&self.state);
        state.lodgers = state.lodgers.saturating_sub(1);
        state.lodgers == 0 && std::mem::take(&mut state.has_begun)
    }
}

/// One that holds the end, and all to whom it has passed it on.
struct Lodger {
    /// Hangs up when they are gone.
    fd: OwnedFd,
    end: Weak<ServerEnd>,
}

impl Source for Lodger {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn ready(&self, _: Readiness) {
        if let Some(end) = self.end.upgrade()
            && end.lodging.leave()
        {
            end.close_for_good();
        }
    }
}
