//! The doorbell: how the peer wakes an event loop, which can't sleep on a word.
//!
//! A task that waits *arms*: it counts up the arming word of its end's pages, sets a mark in the
//! waiting word beside the count of sleepers, fences, and looks once more. Who has published
//! something sees the mark by the load that looks for sleepers, and rings once per arming. So the
//! socket that carries the rings holds few, however much is published; a ring that finds it full is
//! not needed.

#[cfg(any(feature = "tokio", loom))]
use super::bell::ARMED;
#[cfg(any(feature = "tokio", loom))]
use crate::primitive::full_fence;
use crate::primitive::{AtomicU32, Ordering};

/// Asks the peer for a ring; look once more at what is waited for after this, then sleep.
#[cfg(any(feature = "tokio", loom))]
pub(crate) fn arm(waiting: &AtomicU32, arming: &AtomicU32) {
    arming.fetch_add(1, Ordering::Relaxed);
    waiting.fetch_or(ARMED, Ordering::Relaxed);
    full_fence(); // pairs with the fence in `bell::ring_for`
}

/// Nobody waits for a ring any more.
#[cfg(any(feature = "tokio", loom))]
pub(crate) fn disarm(waiting: &AtomicU32) {
    waiting.fetch_and(!ARMED, Ordering::Relaxed);
}

/// The peer's arming for which this end has rung last.
#[derive(Debug)]
pub(crate) struct Rung(AtomicU32);

impl Rung {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Whether the peer has armed since the last ring; if so the caller rings. Call it after
    /// `bell::ring_for` has seen the mark: its fence is needed here too.
    ///
    /// Of several threads that publish at once, one that knows an older arming may make the next
    /// ring a needless one, never a missing one.
    pub(crate) fn is_due(&self, arming: &AtomicU32) -> bool {
        let now = arming.load(Ordering::Relaxed);
        self.0.load(Ordering::Relaxed) != now && self.0.swap(now, Ordering::Relaxed) != now
    }
}
