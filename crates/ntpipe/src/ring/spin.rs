//! Looking again for a moment before going to sleep.
//!
//! A wake-up of an idle CPU costs far more than most peers take to answer; spinning that long at
//! most therefore never costs more than twice the sleep. Three rules keep it from hurting: when the
//! peer last ran on our CPU it can't run while we do, and who waits gives way to it instead; what was
//! in vain several times is tried only briefly until it pays again; an idle pipe sleeps.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::bell::{self, Sleepers, Trust};
use crate::sys::cpu;

/// How a lane's waits have gone lately.
#[derive(Debug)]
pub(super) struct Spin {
    credit: AtomicU32,
    waits: AtomicU32,
    /// So many waits do not give way: it was in vain, or took long.
    spared: AtomicU32,
}

const MAX_CREDIT: u32 = 8;
/// A wait without credit is a full one this often, to learn that it pays again.
const PROBE: u32 = 16;
/// The share of a full wait that one without credit gets.
const BRIEF: u32 = 16;
/// Looks between two looks at the clock.
const LOOKS: u32 = 64;
/// The same where each look is a system call.
const FEW_LOOKS: u32 = 4;
/// How often a wait gives way: once for the peer to do what is waited for, and once because the
/// kernel may go on with this thread all the same.
const YIELDS: u32 = 2;
/// A yield that takes longer has let others run.
const LONG_YIELD: Duration = Duration::from_micros(200);
/// So many waits do not give way after that.
const AFTER_LONG: u32 = 1000;
/// So many when the peer had nothing to say.
const AFTER_VAIN: u32 = 8;

/// How far to let the peer get ahead when what was waited for has come: two CPUs that touch the same
/// cache lines in turn slow each other down to a fraction of what they do some lines apart.
///
/// In pauses, of some nanoseconds each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace(u32);

impl Pace {
    /// Not at all.
    pub(crate) const PROMPT: Self = Self(0);
    /// A little: a reader that follows a stream.
    pub(crate) const BEHIND: Self = Self(32);

    /// More, for pieces of this size: each would cost a wait for the one that the peer does
    /// meanwhile. At most about half of what the peer does until it has used up its quota.
    pub(crate) fn far_behind(piece: u32, quota: u32) -> Self {
        Self((quota / piece.max(1) / 2 + quota / 1024).min(400))
    }
}

/// What who looks by system calls waits for: more than a wake-up has to be done on the other side
/// until it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookFor {
    /// What an owner answers, which has to wake up and to make its memory.
    Answer,
    /// What a client that has just come asks, which makes its memory meanwhile.
    Request,
    /// The next client.
    Client,
}

impl LookFor {
    /// Looks for a moment, unless that has not paid lately; whether it is there.
    pub(crate) fn until(self, mut ready: impl FnMut() -> bool) -> bool {
        static ANSWERS: Spin = Spin::new();
        static REQUESTS: Spin = Spin::new();
        static CLIENTS: Spin = Spin::new();
        if ready() {
            return true;
        }
        let (spin, waits) = match self {
            Self::Answer => (&ANSWERS, 3),
            Self::Request => (&REQUESTS, 2),
            Self::Client => (&CLIENTS, 2),
        };
        let limit = limit() * waits;
        !limit.is_zero() && spin.within(limit, FEW_LOOKS, ready)
    }
}

/// Whether anybody looks before going to sleep.
pub(crate) fn is_looking() -> bool {
    !limit().is_zero()
}

impl Default for Spin {
    fn default() -> Self {
        Self::new()
    }
}

impl Spin {
    /// Who begins is mostly about to be answered: the first wait is a full one.
    const fn new() -> Self {
        Self {
            credit: AtomicU32::new(1),
            waits: AtomicU32::new(0),
            spared: AtomicU32::new(0),
        }
    }

    /// Looks at `ready` until it is true, which is what this returns, or it is time to sleep.
    pub(super) fn until(&self, peer_cpu: u32, pace: Pace, mut ready: impl FnMut() -> bool) -> bool {
        if ready() {
            return true;
        }
        if peer_cpu == cpu::current() {
            return self.give_way(ready);
        }
        let limit = limit();
        if limit.is_zero() {
            return false;
        }
        // Before its first message a peer takes its memory into use.
        let is_first = self.waits.load(Ordering::Relaxed) == 0;
        let limit = if is_first { limit * 2 } else { limit };
        let hit = self.within(limit, LOOKS, ready);
        if hit {
            pause(pace);
        }
        hit
    }

    /// Lets the peer run on this CPU: it need not wake us then, nor we it the next time.
    fn give_way(&self, mut ready: impl FnMut() -> bool) -> bool {
        if wants_sleep() {
            return false;
        }
        let spared = self.spared.load(Ordering::Relaxed);
        if spared > 0 {
            self.spared.store(spared - 1, Ordering::Relaxed);
            return false;
        }
        for _ in 0..YIELDS {
            let start = Instant::now();
            thread::yield_now();
            // Others have work here: who sleeps until it is woken comes before them, who yields behind.
            let was_long = start.elapsed() > LONG_YIELD;
            if was_long {
                self.spared.store(AFTER_LONG, Ordering::Relaxed);
            }
            if was_long || ready() {
                return ready();
            }
        }
        self.spared.store(AFTER_VAIN, Ordering::Relaxed);
        false
    }

    /// Looks for as long as `limit` if that has paid lately, with so many looks between two at the
    /// clock.
    fn within(&self, limit: Duration, looks: u32, mut ready: impl FnMut() -> bool) -> bool {
        // Threads may count at once: what gets lost is not worth a lock.
        let credit = self.credit.load(Ordering::Relaxed);
        let waits = self.waits.load(Ordering::Relaxed).wrapping_add(1);
        self.waits.store(waits, Ordering::Relaxed);
        let full = credit > 0 || waits.is_multiple_of(PROBE);
        let budget = if full { limit } else { limit / BRIEF };
        let start = Instant::now();
        let hit = loop {
            if (0..looks).any(|_| {
                std::hint::spin_loop();
                ready()
            }) {
                break true;
            }
            if start.elapsed() >= budget {
                break false;
            }
            // Who looks by system calls does not know where the other side runs.
            if looks == FEW_LOOKS {
                thread::yield_now();
            }
        };
        let credit = if hit {
            MAX_CREDIT.min(credit + 2)
        } else {
            credit.saturating_sub(1)
        };
        self.credit.store(credit, Ordering::Relaxed);
        hit
    }
}

/// Whether the environment wants that each wait sleeps at once.
fn wants_sleep() -> bool {
    // No lock: a fork while another thread has it would leave the child waiting for ever.
    static WANTS: AtomicU32 = AtomicU32::new(UNASKED);
    match WANTS.load(Ordering::Relaxed) {
        UNASKED => {
            let wants = wanted() == Some(Duration::ZERO);
            WANTS.store(wants.into(), Ordering::Relaxed);
            wants
        }
        wants => wants == 1,
    }
}

/// Not known yet what the environment wants.
const UNASKED: u32 = u32::MAX;

/// Lets the peer get ahead.
pub(super) fn pause(pace: Pace) {
    (0..pace.0).for_each(|_| std::hint::spin_loop());
}

/// How long a wait spins at most: twice what a wake-up costs here; nothing on a single CPU.
fn limit() -> Duration {
    // No lock: a fork while another thread has it would leave the child waiting for ever.
    static NANOS: AtomicU64 = AtomicU64::new(UNKNOWN);
    static WAITS: AtomicU32 = AtomicU32::new(0);
    let known = NANOS.load(Ordering::Relaxed);
    if known != UNKNOWN {
        return Duration::from_nanos(known);
    }
    let limit = match wanted() {
        Some(limit) => limit,
        // All of them: a process that is pinned to one still has peers on others.
        None if cpu::online() < 2 => Duration::ZERO,
        // One wait measures; the others do not wait for that.
        None if WAITS.fetch_add(1, Ordering::Relaxed) != FEW => return TYPICAL * 2,
        None => (wake_cost() * 2).clamp(SHORTEST, LONGEST),
    };
    let nanos = u64::try_from(limit.as_nanos()).unwrap_or(UNKNOWN);
    NANOS.store(nanos, Ordering::Relaxed);
    limit
}

/// Not measured yet.
const UNKNOWN: u64 = u64::MAX;

/// What the environment wants, in microseconds (`NTPIPE_SPIN_US`), but never more than is bearable.
fn wanted() -> Option<Duration> {
    let micros = std::env::var("NTPIPE_SPIN_US").ok()?.parse().ok()?;
    Some(Duration::from_micros(micros).min(LONGEST))
}

/// Below this a spin is a trap: both sides stay in the sleeping mode.
const SHORTEST: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_micros(100);
/// What is assumed where nothing can be measured.
const TYPICAL: Duration = Duration::from_micros(25);
/// So many waits of a process do with what is typical: measuring takes longer than most programs
/// wait that open a pipe, call and end.
const FEW: u32 = 32;
/// Hand-overs that are measured, once in a process.
const HANDOVERS: u32 = 12;

/// What it costs to wake a sleeping thread, from the wake-up to its running: the median of some.
fn wake_cost() -> Duration {
    let [turn, waiting, bell] = &[0; 3].map(AtomicU32::new);
    let sleepers = Sleepers::new(Trust::Same);
    // A thread that never runs must not keep us: a hand-over this late is given up.
    let give_up = Instant::now() + Duration::from_millis(50);
    let wait_for = |mine: u32| {
        let ready = || turn.load(Ordering::Acquire) == mine;
        sleepers.sleep(waiting, bell, Some(give_up), ready)
    };
    let hand_over = |to: u32| {
        turn.store(to, Ordering::Release);
        bell::ring(bell);
    };
    let mut costs: Vec<Duration> = thread::scope(|scope| {
        let echo = || {
            (0..HANDOVERS).all(|n| {
                wait_for(2 * n + 1) && {
                    hand_over(2 * n + 2);
                    true
                }
            })
        };
        if thread::Builder::new().spawn_scoped(scope, echo).is_err() {
            return Vec::new();
        }
        (0..HANDOVERS)
            .map_while(|n| {
                let start = Instant::now();
                hand_over(2 * n + 1);
                wait_for(2 * n + 2).then(|| start.elapsed() / 2)
            })
            .collect()
    });
    costs.sort_unstable();
    costs.get(costs.len() / 2).copied().unwrap_or(TYPICAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giving_way_in_vain_is_not_tried_again_at_once() {
        let spin = Spin::new();
        assert!(!spin.give_way(|| false));
        for _ in 0..AFTER_VAIN {
            assert!(!spin.give_way(|| panic!("it looks again")));
        }
        // Others may have run meanwhile, and then it is longer.
        spin.spared.store(0, Ordering::Relaxed);
        assert!(spin.give_way(|| true));
    }
}
