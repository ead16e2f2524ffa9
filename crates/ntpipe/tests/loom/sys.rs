//! In the place of the product's system calls: a kernel that loom understands.

pub(crate) mod futex {
    use std::num::NonZeroU32;
    use std::ptr;
    use std::time::Instant;

    use loom::sync::{Condvar, Mutex};
    use loom::thread;

    use crate::primitive::{AtomicU32, Ordering};

    pub(crate) const EVERYONE: NonZeroU32 = NonZeroU32::MAX;

    struct Sleeper {
        id: usize,
        word: usize,
        bits: NonZeroU32,
    }

    #[derive(Default)]
    struct Queue {
        sleepers: Vec<Sleeper>,
        next_id: usize,
    }

    struct Kernel {
        queue: Mutex<Queue>,
        woken: Condvar,
    }

    loom::lazy_static! {
        static ref KERNEL: Kernel = Kernel {
            queue: Mutex::new(Queue::default()),
            woken: Condvar::new(),
        };
    }

    fn key(word: &AtomicU32) -> usize {
        ptr::from_ref(word).addr()
    }

    /// Sleeps unless the word has changed, which is decided under the kernel's lock.
    /// No time passes here: a sleep that nobody ends is a deadlock, which loom reports.
    pub(crate) fn wait(word: &AtomicU32, value: u32, bits: NonZeroU32, _: Option<Instant>) {
        let mut queue = KERNEL.queue.lock().unwrap();
        if word.load(Ordering::Relaxed) != value {
            return;
        }
        let id = queue.next_id;
        queue.next_id += 1;
        let word = key(word);
        queue.sleepers.push(Sleeper { id, word, bits });
        while queue.sleepers.iter().any(|sleeper| sleeper.id == id) {
            queue = KERNEL.woken.wait(queue).unwrap();
        }
    }

    pub(crate) fn wake(word: &AtomicU32, bits: NonZeroU32) -> u32 {
        let mut queue = KERNEL.queue.lock().unwrap();
        let before = queue.sleepers.len();
        let word = key(word);
        (queue.sleepers)
            .retain(|sleeper| sleeper.word != word || sleeper.bits.get() & bits.get() == 0);
        let woken = before - queue.sleepers.len();
        if woken > 0 {
            KERNEL.woken.notify_all();
        }
        u32::try_from(woken).unwrap()
    }

    pub(crate) fn back_off(_: u32) {
        thread::yield_now();
    }
}
