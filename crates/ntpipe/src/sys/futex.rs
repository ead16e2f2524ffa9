//! Sleeping on words of shared memory.
//!
//! All futexes here are shared between processes: the private flag can't be passed. Sleeping and
//! waking both work through a read-only mapping, for the kernel only reads the word.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::Timespec;
use rustix::io::Errno;
use rustix::thread::ClockId;
use rustix::thread::futex::{self, Flags, Wait, WaitFlags, WaitPtr, WaitvFlags};

/// The bits that every sleeper has some of.
pub(crate) const EVERYONE: NonZeroU32 = NonZeroU32::MAX;

/// The attempts that only yield: the way to sleep is short, and mostly nothing holds anybody up.
const YIELDS: u32 = 50;
const PAUSE: Duration = Duration::from_micros(50);

/// Sleeps until these bits of the word are woken, or the deadline has passed, unless the word no
/// longer has this value.
///
/// It may also return for no reason: the caller looks again.
pub(crate) fn wait(word: &AtomicU32, value: u32, bits: NonZeroU32, deadline: Option<Instant>) {
    let give_up = deadline.and_then(moment);
    // Interrupted, changed, timed out: the caller looks again in each case.
    let _ = futex::wait_bitset(word, Flags::empty(), value, give_up.as_ref(), bits);
}

/// How long a sleep on two words lasts where the kernel can only do one at a time.
const BRIEF: Duration = Duration::from_millis(5);

/// Sleeps until either word is woken, or the deadline has passed, unless one of them no longer has
/// its value. Before Linux 5.16 the second word is noticed a little late.
///
/// It may also return for no reason: the caller looks again.
pub(crate) fn wait_two(words: [(&AtomicU32, u32); 2], deadline: Option<Instant>) {
    let give_up = deadline.and_then(moment);
    let waits = words.map(|(word, value)| {
        let mut wait = Wait::new();
        wait.val = value.into();
        wait.uaddr = WaitPtr::new(word.as_ptr().cast());
        wait.flags = WaitFlags::SIZE_U32;
        wait
    });
    let clock = ClockId::Monotonic;
    let slept = futex::waitv(&waits, WaitvFlags::empty(), give_up.as_ref(), clock);
    if slept == Err(Errno::NOSYS) {
        let [(word, value), (other, other_value)] = words;
        if other.load(Ordering::Acquire) == other_value {
            let brief = Instant::now() + BRIEF;
            let until = deadline.map_or(brief, |at| at.min(brief));
            wait(word, value, EVERYONE, Some(until));
        }
    }
}

/// A moment by the clock of `Instant`, as the kernel wants it.
fn moment(at: Instant) -> Option<Timespec> {
    let left = Timespec::try_from(at.saturating_duration_since(Instant::now())).ok()?;
    rustix::time::clock_gettime(ClockId::Monotonic).checked_add(left)
}

/// Wakes all who sleep on the word with one of these bits, in any process; returns how many.
pub(crate) fn wake(word: &AtomicU32, bits: NonZeroU32) -> u32 {
    let woken = futex::wake_bitset(word, Flags::empty(), u32::MAX >> 1, bits);
    let woken = woken.inspect_err(|errno| tracing::debug!(%errno, "a wake-up failed"));
    woken.map_or(0, |woken| u32::try_from(woken).unwrap_or(u32::MAX))
}

/// Lets a thread that is on the way to sleep get there.
pub(crate) fn back_off(attempt: u32) {
    if attempt < YIELDS {
        thread::yield_now();
    } else {
        // It may have a lower priority than this one, and never run while this one does.
        let never = AtomicU32::new(0);
        wait(&never, 0, EVERYONE, Some(Instant::now() + PAUSE));
    }
}

#[cfg(test)]
mod tests;
