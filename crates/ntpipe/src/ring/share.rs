//! How far a busy writer goes round its ring: by its share of what this process writes.
//!
//! A stream is fastest if the writer comes back to a cache line when no cache has it any more, and so
//! goes round a large part of the ring. With many streams that would be more than all caches hold.

use std::sync::atomic::{AtomicU64, Ordering};

/// What all writers of the process go round together, in bytes: a part of the largest cache.
const ALL: u64 = 8 * 1024 * 1024;
/// The most that one pause counts for.
const PAUSE: u64 = 16 * ALL;
/// Of how many steps the last ones count for most: a task may write some in a row before it is
/// another's turn.
const SMOOTH: u64 = 8;

/// What the writers of a process have written, in bytes, counted in steps.
#[derive(Debug, Default)]
struct Traffic(AtomicU64);

static TRAFFIC: Traffic = Traffic(AtomicU64::new(0));

/// One writer among those of the process.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// What all had written when this one had last written a step.
    before: AtomicU64,
    /// What all write while this one writes a step, on average.
    average: AtomicU64,
}

impl Share {
    /// The writer has written another `step` bytes: how far it may go from the ring's beginning.
    pub(super) fn lap(&self, step: u64) -> u64 {
        self.lap_among(&TRAFFIC, step)
    }

    fn lap_among(&self, traffic: &Traffic, step: u64) -> u64 {
        // Nothing hangs on the order: it is an estimate.
        let all = traffic.0.fetch_add(step, Ordering::Relaxed) + step;
        let before = self.before.swap(all, Ordering::Relaxed);
        let since = all.saturating_sub(before).clamp(step, PAUSE);
        let average = self.average.load(Ordering::Relaxed);
        let average = average - average / SMOOTH + since / SMOOTH;
        self.average.store(average, Ordering::Relaxed);
        ALL * step / average.max(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 65536;

    #[test]
    fn who_writes_alone_has_all_of_it() {
        let (traffic, share) = (Traffic::default(), Share::default());
        for _ in 0..3 {
            assert_eq!(share.lap_among(&traffic, STEP), ALL);
        }
    }

    #[test]
    fn many_share_also_if_each_writes_much_in_a_row() {
        let traffic = Traffic::default();
        let all: Vec<Share> = (0..1000).map(|_| Share::default()).collect();
        for round in 0..5 {
            for share in &all {
                let laps = [(); 4].map(|()| share.lap_among(&traffic, STEP));
                assert!(round == 0 || laps.iter().all(|lap| *lap < STEP), "{laps:?}");
            }
        }
    }

    #[test]
    fn who_stays_alone_soon_has_all_of_it() {
        let traffic = Traffic::default();
        let (often, seldom) = (Share::default(), Share::default());
        for _ in 0..10_000 {
            often.lap_among(&traffic, STEP);
        }
        assert!(seldom.lap_among(&traffic, STEP) < STEP);
        let laps = (0..100).map(|_| seldom.lap_among(&traffic, STEP));
        assert!(laps.max().unwrap() > ALL / 2);
    }
}
