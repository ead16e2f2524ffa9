//! In the place of the product's system calls: a kernel that loom understands.

pub(crate) mod futex {
    use std::time::Instant;

    use loom::sync::{Condvar, Mutex};

    use crate::primitive::{AtomicU32, Ordering};

    /// All sleepers of all words: waking too many is allowed, they look again.
    struct Sleepers {
        lock: Mutex<()>,
        woken: Condvar,
    }

    loom::lazy_static! {
        static ref SLEEPERS: Sleepers = Sleepers {
            lock: Mutex::new(()),
            woken: Condvar::new(),
        };
    }

    /// Sleeps unless one of the words has changed, which is decided under the kernel's lock.
    /// No time passes here: a sleep that nobody ends is a deadlock, which loom reports.
    pub(crate) fn wait(words: [(&AtomicU32, u32); 2], _: Option<Instant>) {
        let sleepers = SLEEPERS.lock.lock().unwrap();
        if words
            .iter()
            .all(|(word, value)| word.load(Ordering::Relaxed) == *value)
        {
            drop(SLEEPERS.woken.wait(sleepers).unwrap());
        }
    }

    pub(crate) fn wake_all(_: &AtomicU32) {
        let _sleepers = SLEEPERS.lock.lock().unwrap();
        SLEEPERS.woken.notify_all();
    }
}
