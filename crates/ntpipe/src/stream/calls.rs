//! The calls of tasks that wait at an end: how to end them from outside, and which of them read.
//!
//! Tasks of several handles for one end share this, as threads share [`Waiters`](super::Waiters).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::PipeStream;

/// The calls that wait at one end.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// How often calls were cancelled, above; how many have come since and still wait, below.
    rounds: AtomicU64,
    reads: AtomicUsize,
}

/// A call that waits: it is cancelled when another round has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    round: u64,
}

/// A read of a message that waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct WaitingRead<'a>(&'a AtomicUsize);

/// Where the count of rounds begins.
const ROUND: u32 = 32;

impl Calls {
    /// A call has to wait. Look at [`is_cancelled`](Self::is_cancelled) again once it can be woken.
    pub(crate) fn enter(&self) -> Call {
        let before = self.rounds.fetch_add(1, Ordering::Relaxed);
        Call {
            round: before >> ROUND,
        }
    }

    /// A call waits no longer.
    pub(crate) fn leave(&self, call: Call) {
        // Those that were cancelled are not counted any more.
        let leave = |rounds: u64| (rounds >> ROUND == call.round).then(|| rounds - 1);
        let _ = (self.rounds).fetch_update(Ordering::Relaxed, Ordering::Relaxed, leave);
    }

    /// Whether the call is to end; then nothing is done for it any more.
    pub(crate) fn is_cancelled(&self, call: Call) -> bool {
        // Who has been woken sees this by the lock of the tasks.
        self.rounds.load(Ordering::Relaxed) >> ROUND != call.round
    }

    /// Begins another round; whether a call waited in the last one.
    fn cancel(&self) -> bool {
        let next = |rounds: u64| {
            let round = (rounds >> ROUND).wrapping_add(1) << ROUND;
            (rounds != rounds >> ROUND << ROUND).then_some(round)
        };
        (self.rounds)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }

    /// A read of a message has to wait: a transaction must know (reference 1.11-2).
    pub(crate) fn enter_read(&self) -> WaitingRead<'_> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        WaitingRead(&self.reads)
    }

    /// How many of them wait.
    pub(super) fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

impl Drop for WaitingRead<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PipeStream {
    /// The calls of tasks that wait here.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Ends the calls of tasks that wait; whether there was one.
    pub(super) fn cancel_tasks(&self) -> bool {
        let found = self.calls.cancel();
        if found {
            self.tasks.wake();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_ends_the_calls_before_it_and_no_others() {
        let calls = Calls::default();
        assert!(!calls.cancel());
        let (one, two) = (calls.enter(), calls.enter());
        calls.leave(one);
        assert!(!calls.is_cancelled(two));
        assert!(calls.cancel());
        assert!(calls.is_cancelled(two));
        // Nobody waits that has not been cancelled.
        assert!(!calls.cancel());
        let three = calls.enter();
        assert!(!calls.is_cancelled(three));
        // It does not count for the others.
        calls.leave(two);
        assert!(calls.cancel() && calls.is_cancelled(three));
    }

    #[test]
    fn who_has_left_is_not_there_to_be_cancelled() {
        let calls = Calls::default();
        let call = calls.enter();
        calls.leave(call);
        assert!(!calls.cancel());
        let read = calls.enter_read();
        assert_eq!(calls.reads(), 1);
        drop(read);
        assert_eq!(calls.reads(), 0);
    }
}
