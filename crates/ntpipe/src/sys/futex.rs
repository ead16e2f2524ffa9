//! Sleeping on words of shared memory.
//!
//! All futexes here are shared between processes: the private flag can't be passed.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::Timespec;
use rustix::io::Errno;
use rustix::thread::ClockId;
use rustix::thread::futex::{self, Wait, WaitFlags, WaitvFlags};

/// How long a sleep lasts at most where the kernel can't watch two words (before Linux 5.16): so
/// late does such a sleeper notice what rings its own word.
const BOUNDED: Duration = Duration::from_millis(10);

/// Whether the kernel knows `futex_waitv`; learnt at the first sleep.
static TWO_WORDS: AtomicBool = AtomicBool::new(true);

/// Sleeps until one of the words is rung, has already changed, or the deadline has passed.
///
/// It may also return for no reason: the caller looks again.
pub(crate) fn wait(words: [(&AtomicU32, u32); 2], deadline: Option<Instant>) {
    if TWO_WORDS.load(Ordering::Relaxed) {
        match wait_two(words, deadline) {
            Err(Errno::NOSYS | Errno::PERM) => TWO_WORDS.store(false, Ordering::Relaxed),
            Ok(_) | Err(_) => return,
        }
    }
    let [(word, value), (other, unchanged)] = words;
    if other.load(Ordering::Acquire) != unchanged {
        return;
    }
    let left = deadline.map_or(BOUNDED, |at| at.saturating_duration_since(Instant::now()));
    let timeout = Timespec::try_from(left.min(BOUNDED)).ok();
    // Interrupted, changed, timed out: the caller looks again in each case.
    let _ = futex::wait(word, futex::Flags::empty(), value, timeout.as_ref());
}

fn wait_two(words: [(&AtomicU32, u32); 2], deadline: Option<Instant>) -> Result<usize, Errno> {
    let waiters = words.map(|(word, value)| {
        let mut wait = Wait::new();
        wait.val = u64::from(value);
        wait.uaddr = futex::WaitPtr::new(word.as_ptr().cast());
        wait.flags = WaitFlags::SIZE_U32;
        wait
    });
    // The kernel wants the moment at which to give up, by the clock of `Instant`.
    let timeout = deadline.and_then(|at| {
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        let left = Timespec::try_from(at.saturating_duration_since(Instant::now())).ok()?;
        now.checked_add(left)
    });
    futex::waitv(
        &waiters,
        WaitvFlags::empty(),
        timeout.as_ref(),
        ClockId::Monotonic,
    )
}

/// Wakes everyone who sleeps on the word, in any process.
pub(crate) fn wake_all(word: &AtomicU32) {
    if let Err(errno) = futex::wake(word, futex::Flags::empty(), u32::MAX >> 1) {
        tracing::debug!(%errno, "a wake-up failed");
    }
}
