//! Noticing that this process is a fork of the one that opened a pipe.
//!
//! A forked child has the parent's memory and descriptors, but not its threads: nothing would wake
//! a blocked call there. So every handle remembers the generation of the process that made it.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The number of forks between the first process that used pipes and this one.
pub(crate) fn generation() -> u32 {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        // SAFETY: `count_fork` is a function of this program; all it does is an atomic addition,
        // which is allowed in the child of a fork.
        let refused = unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
        if refused != 0 {
            tracing::warn!("forks can't be watched: a forked child must not use pipe handles");
        }
    });
    current()
}

/// The generation without starting the watch: for handles, which exist only after it has started.
pub(crate) fn current() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

extern "C" fn count_fork() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// A value of which each process has its own: a forked child begins with a new one, and never
/// touches a lock of its parent's that a thread may have held during the fork.
pub(crate) struct PerProcess<T: 'static> {
    slot: AtomicPtr<(u32, T)>,
}

impl<T: Default + Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self {
            slot: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// This process' value.
    pub(crate) fn get(&self) -> &'static T {
        let generation = generation();
        loop {
            let found = self.slot.load(Ordering::Acquire);
            // SAFETY: null, or a value that was leaked below and so lives for ever.
            if let Some((of, value)) = unsafe { found.as_ref() }
                && *of == generation
            {
                return value;
            }
            let new: *mut (u32, T) = Box::into_raw(Box::new((generation, T::default())));
            let stored =
                self.slot
                    .compare_exchange(found, new, Ordering::AcqRel, Ordering::Acquire);
            if stored.is_err() {
                // SAFETY: it was leaked just above, and nobody has seen it.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }
}
