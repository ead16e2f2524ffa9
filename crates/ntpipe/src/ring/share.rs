//! How far a busy writer goes round its ring: by its share of what this process writes.
//!
//! A stream is fastest if the writer comes back to a cache line when no cache has it any more, and so
//! goes round a large part of the ring. With many streams that would be more than all caches hold.

use std::sync::atomic::{AtomicU64, Ordering};

/// What all writers of the process go round together, in bytes: a part of the largest cache.
const ALL: u64 = 8 * 1024 * 1024;

/// What the writers of a process have written, in bytes, counted in steps.
#[derive(Debug, Default)]
struct Traffic(AtomicU64);

static TRAFFIC: Traffic = Traffic(AtomicU64::new(0));

/// One writer among those of the process.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// What all had written when this one had last written a step.
    before: AtomicU64,
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
        ALL * step / all.saturating_sub(before).max(step)
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
    fn many_share() {
        let traffic = Traffic::default();
        let all: Vec<Share> = (0..1000).map(|_| Share::default()).collect();
        let laps = || all.iter().map(|share| share.lap_among(&traffic, STEP));
        assert!(laps().count() == 1000);
        assert!(laps().all(|lap| lap == ALL / 1000));
    }

    #[test]
    fn who_comes_back_has_little_at_first() {
        let traffic = Traffic::default();
        let (often, seldom) = (Share::default(), Share::default());
        seldom.lap_among(&traffic, STEP);
        for _ in 0..99 {
            often.lap_among(&traffic, STEP);
        }
        assert_eq!(seldom.lap_among(&traffic, STEP), ALL / 100);
        assert_eq!(often.lap_among(&traffic, STEP), ALL / 2);
        assert_eq!(seldom.lap_among(&traffic, STEP), ALL / 2);
    }
}
