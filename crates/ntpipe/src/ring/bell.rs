//! Sleep and wake between two processes, and within one.
//!
//! A sleeper counts itself in a *waiting* word of its own pages, fences, and looks once more at
//! what it waits for; then it sleeps on the *bell* in the peer's pages. Who has published something
//! fences and looks at the peer's waiting word: usually it is zero, and then there is no system
//! call. One of the two always sees the other.
//!
//! Cancellation, a close in another thread and the service thread wake the sleepers of their own
//! process, but can't write the peer's bell. See [`Sleepers::ring`] for how they do it: sleeping on
//! a second word costs each sleep a fifth more than it needs to.

use std::num::NonZeroU32;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::primitive::{AtomicU32, Mutex, Ordering, full_fence};
use crate::sys::futex;

/// The mark in a waiting word that a task waits for the doorbell; the rest counts sleepers.
pub(crate) const ARMED: u32 = 1 << 31;

/// Rings `bell` if anyone is counted in `waiting`, and says whether the doorbell is armed; call it
/// after publishing.
pub(crate) fn ring_for(waiting: &AtomicU32, bell: &AtomicU32) -> bool {
    full_fence(); // pairs with the fences in `Sleepers::sleep` and `doorbell::arm`
    let waiting = waiting.load(Ordering::Relaxed);
    if waiting & !ARMED != 0 {
        ring(bell);
    }
    waiting & ARMED != 0
}

/// Wakes everyone who sleeps on `bell`.
#[cold]
pub(crate) fn ring(bell: &AtomicU32) {
    bell.fetch_add(1, Ordering::Release); // pairs with the Acquire load in `Sleepers::sleep`
    futex::wake(bell, futex::EVERYONE);
}

/// What a peer may be able to do to the threads that sleep on its bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It runs as our user or as root: it could as well stop this process.
    Same,
    /// It may move sleepers to another word (`FUTEX_REQUEUE`), where nobody wakes them, or sleep
    /// on its bell itself and be counted for one of us.
    Stranger,
}

/// How long one sleep on a stranger's bell lasts at most, and so how late a ring may be noticed. A
/// timer costs each sleep about as much as a second word would; nobody else pays for it.
const LONGEST: Duration = Duration::from_secs(1);
/// How often a ring looks for those who sleep on a stranger's bell: for about a tenth of a second.
const ATTEMPTS: u32 = 1_000;

/// The threads of this process that sleep on one bell of the peer's.
#[derive(Debug)]
pub(crate) struct Sleepers {
    trust: Trust,
    rings: AtomicU32,
    /// How many go to sleep after an even and after an odd number of rings.
    asleep: [AtomicU32; 2],
    ringing: Mutex<()>,
}

/// The futex bits of who went to sleep after an even number of rings.
const EVEN: NonZeroU32 = NonZeroU32::MIN;
/// The futex bits of who went to sleep after an odd number of rings.
const ODD: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

impl Sleepers {
    pub(crate) fn new(trust: Trust) -> Self {
        Self {
            trust,
            rings: AtomicU32::new(0),
            asleep: [AtomicU32::new(0), AtomicU32::new(0)],
            ringing: Mutex::new(()),
        }
    }

    /// The number that changes whenever these threads are rung for.
    pub(crate) fn rings(&self) -> u32 {
        self.rings.load(Ordering::Acquire) // pairs with the Release in `ring`
    }

    /// Sleeps until a bell rings after `ready` has become true, or the deadline has passed.
    ///
    /// Returns what `ready` said last; `ready` must not ring.
    pub(crate) fn sleep(
        &self,
        waiting: &AtomicU32,
        bell: &AtomicU32,
        deadline: Option<Instant>,
        mut ready: impl FnMut() -> bool,
    ) -> bool {
        waiting.fetch_add(1, Ordering::Relaxed);
        let mut is_over = || {
            let rings = self.rings();
            let (asleep, bits) = self.group(rings);
            asleep.fetch_add(1, Ordering::Relaxed);
            full_fence(); // pairs with the fences in `ring_for` and `Sleepers::ring`
            let value = bell.load(Ordering::Acquire); // pairs with the Release in `ring`
            let is_over = if ready() {
                Some(true)
            } else if deadline.is_some_and(|at| Instant::now() >= at) {
                Some(false)
            } else {
                // A ring since then does not look for this group again.
                if self.rings() == rings {
                    futex::wait(bell, value, bits, self.give_up(deadline));
                }
                None
            };
            asleep.fetch_sub(1, Ordering::Relaxed);
            is_over
        };
        let is_ready = loop {
            if let Some(is_ready) = is_over() {
                break is_ready;
            }
        };
        waiting.fetch_sub(1, Ordering::Relaxed);
        is_ready
    }

    /// Wakes the threads of this process that sleep on `bell`; call it after publishing.
    ///
    /// Who is on the way into the kernel can't be kept out, for the bell's value is the peer's. So
    /// this wakes those who had begun before the ring until all of them were there to be woken, or
    /// have left; usually nobody sleeps, and there is no system call.
    ///
    /// Those who begin later, or whom a look did not count, see the ring after their fence and do
    /// not sleep in the group that is being woken. Rings exclude each other, so that it does not
    /// get new members by a later ring either: whom the kernel wakes has been counted, and the
    /// count only falls. One end is held by one process: nobody else sleeps there. (A thread that
    /// is held up between its two looks at `rings` for exactly 2^32 rings is mistaken; it would have
    /// to miss all of them.)
    pub(crate) fn ring(&self, bell: &AtomicU32) {
        let _one_at_a_time = (self.ringing.lock()).unwrap_or_else(PoisonError::into_inner);
        let rings = self.rings.fetch_add(1, Ordering::Release); // pairs with the Acquire in `rings`
        full_fence(); // pairs with the fence in `sleep`
        let (asleep, bits) = self.group(rings);
        let attempts = match self.trust {
            Trust::Same => u32::MAX,
            Trust::Stranger => ATTEMPTS,
        };
        for attempt in 0..attempts {
            let counted = asleep.load(Ordering::Relaxed);
            if counted == 0 || futex::wake(bell, bits) >= counted {
                return;
            }
            futex::back_off(attempt);
        }
    }

    /// When one sleep is to end, even if nobody rings.
    fn give_up(&self, deadline: Option<Instant>) -> Option<Instant> {
        match self.trust {
            Trust::Same => deadline,
            Trust::Stranger => {
                let guard = Instant::now() + LONGEST;
                Some(deadline.map_or(guard, |at| at.min(guard)))
            }
        }
    }

    /// The sleepers after this many rings: their count, and what the kernel knows them by.
    fn group(&self, rings: u32) -> (&AtomicU32, NonZeroU32) {
        let [even, odd] = &self.asleep;
        match rings.is_multiple_of(2) {
            true => (even, EVEN),
            false => (odd, ODD),
        }
    }
}
