//! Sleep and wake between two processes.
//!
//! A sleeper counts itself in a *waiting* word of its own pages, fences, and looks once more at
//! what it waits for; then it sleeps on two words: the *bell* in the peer's pages, and the *own
//! bell* of its process, which cancellation, a close in another thread and the service thread
//! ring. Who has published something fences and looks at the peer's waiting word: usually it is
//! zero, and then there is no system call. One of the two always sees the other.

use std::time::Instant;

use crate::primitive::{AtomicU32, Ordering, full_fence};
use crate::sys::futex;

/// Rings `bell` if anyone is counted in `waiting`; call it after publishing.
pub(crate) fn ring_for(waiting: &AtomicU32, bell: &AtomicU32) {
    full_fence(); // pairs with the fence in `sleep`
    if waiting.load(Ordering::Relaxed) != 0 {
        ring(bell);
    }
}

/// Wakes everyone who sleeps on `bell`.
#[cold]
pub(crate) fn ring(bell: &AtomicU32) {
    bell.fetch_add(1, Ordering::Release); // pairs with the Acquire loads in `sleep`
    futex::wake_all(bell);
}

/// Sleeps until a bell rings after `ready` has become true, or the deadline has passed.
///
/// Returns what `ready` said last.
pub(crate) fn sleep(
    waiting: &AtomicU32,
    bells: [&AtomicU32; 2],
    deadline: Option<Instant>,
    mut ready: impl FnMut() -> bool,
) -> bool {
    waiting.fetch_add(1, Ordering::Relaxed);
    full_fence(); // pairs with the fence in `ring_for`
    let is_ready = loop {
        let words = bells.map(|bell| (bell, bell.load(Ordering::Acquire)));
        if ready() {
            break true;
        }
        if deadline.is_some_and(|at| Instant::now() >= at) {
            break false;
        }
        futex::wait(words, deadline);
    };
    waiting.fetch_sub(1, Ordering::Relaxed);
    is_ready
}
