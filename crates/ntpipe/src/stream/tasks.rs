//! The tasks of this process that wait at an end: what event loops have instead of sleepers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

#[cfg(feature = "tokio")]
use ntpipe_proto::Error;

use super::lock;
#[cfg(feature = "tokio")]
use super::{PipeStream, Slot};

/// Who waits at an end without a thread.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    waiting: Mutex<Waiting>,
    /// How many event loops use the end.
    users: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    #[cfg(feature = "tokio")]
    next: u64,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    #[cfg(feature = "tokio")]
    ticket: Ticket,
    #[cfg(feature = "tokio")]
    cause: Cause,
    waker: Waker,
}

/// What a task waits for.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Something to read.
    Data,
    /// The peer has read.
    Room,
    /// The peer has written or read.
    Either,
    /// A client.
    Client,
}

/// A task's place among those that wait.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

impl Tasks {
    /// Wakes them all: they look for themselves. Call it after the change, and with no lock that a
    /// waker might need: it may drop its task, and with that an end.
    pub(crate) fn wake(&self) {
        let entries = std::mem::take(&mut lock(&self.waiting).entries);
        for entry in entries {
            entry.waker.wake();
        }
    }

    /// Whether an event loop uses the end, so that tasks may wait there.
    pub(super) fn are_used(&self) -> bool {
        self.users.load(Ordering::Relaxed) > 0
    }
}

#[cfg(feature = "tokio")]
impl PipeStream {
    /// An event loop uses this end, until [`leave_loop`](Self::leave_loop): meanwhile it can't be
    /// shared.
    ///
    /// # Errors
    /// `ERROR_NOT_SUPPORTED` (50) if other processes hold it.
    pub(crate) fn enter_loop(&self) -> Result<(), Error> {
        let read = lock(&self.read.side);
        if matches!(&read.link, Slot::Linked(link) if link.roster().is_some()) {
            return Err(Error::NOT_SUPPORTED);
        }
        // Who shares it looks at this under the same lock.
        self.tasks.users.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn leave_loop(&self) {
        self.tasks.users.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(feature = "tokio")]
impl Tasks {
    /// Whether the end has several doorbells.
    pub(crate) fn have_several_loops(&self) -> bool {
        self.users.load(Ordering::Relaxed) > 1
    }

    /// A task waits; look once more after this. It has at most one place, whose waker is the last.
    pub(crate) fn wait(&self, ticket: &mut Option<Ticket>, cause: Cause, waker: &Waker) {
        let mut waiting = lock(&self.waiting);
        let known = *ticket;
        if let Some(entry) = (waiting.entries.iter_mut()).find(|entry| Some(entry.ticket) == known)
        {
            entry.cause = cause;
            entry.waker.clone_from(waker);
            return;
        }
        let taken = known.unwrap_or(Ticket(waiting.next));
        if known.is_none() {
            waiting.next += 1;
            *ticket = Some(taken);
        }
        waiting.entries.push(Entry {
            ticket: taken,
            cause,
            waker: waker.clone(),
        });
    }

    /// A task waits no longer. `idle` is called for `Data` and `Room` if nobody else waits for it,
    /// while nobody can begin to.
    pub(crate) fn leave(&self, ticket: Ticket, idle: impl Fn(Cause)) {
        let mut waiting = lock(&self.waiting);
        let at = waiting.entries.iter().position(|e| e.ticket == ticket);
        // The others are woken in the order in which they came (observed 5.10).
        let left = at.map(|at| waiting.entries.remove(at));
        for cause in [Cause::Data, Cause::Room] {
            let waits = |entry: &Entry| entry.cause == cause || entry.cause == Cause::Either;
            if !waiting.entries.iter().any(waits) {
                idle(cause);
            }
        }
        drop(waiting);
        // A waker may drop its task.
        drop(left);
    }
}
