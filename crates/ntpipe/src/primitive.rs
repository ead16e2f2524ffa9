//! The only file that chooses between the standard library's atomics and loom's.
//!
//! Loom can't model mappings: its test takes in this file and `ring/bell.rs` as they are, with a
//! futex of its own. Loom does model fences.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicU32, Ordering},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex,
    atomic::{AtomicU32, Ordering},
};

/// A full fence: orders the stores before it against the loads after it.
///
/// The loom tests are run without it too (`cfg(ntpipe_without_fence)`), and must fail then.
pub(crate) fn full_fence() {
    #[cfg(all(not(loom), not(ntpipe_without_fence)))]
    std::sync::atomic::fence(Ordering::SeqCst);
    #[cfg(all(loom, not(ntpipe_without_fence)))]
    loom::sync::atomic::fence(Ordering::SeqCst);
}
