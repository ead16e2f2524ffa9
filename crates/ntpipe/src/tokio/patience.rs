//! Looking again for a moment before a task goes to sleep.
//!
//! A ring of the doorbell costs two system calls and a turn of the runtime's event loop. A peer
//! that is at work mostly takes less, so that a task first lets others run and is polled again, for
//! as long as that has paid lately. An idle pipe sleeps.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How the waits of one direction have gone lately.
#[derive(Debug, Default)]
pub(super) struct Patience {
    credit: AtomicU32,
    waits: AtomicU32,
}

/// How far one wait has come.
#[derive(Debug, Default)]
pub(super) struct Looking {
    looks: u32,
    until: Option<Instant>,
    is_over: bool,
}

const MAX_CREDIT: u32 = 8;
/// A wait without credit is a full one this often, to learn that it pays again.
const PROBE: u32 = 16;
/// What a wait without credit gets: the peer may be a task of the same thread.
const BRIEF: u32 = 2;
/// About what a ring and its way through the runtime cost.
const LIMIT: Duration = Duration::from_micros(30);

impl Patience {
    /// Whether to look again instead of going to sleep.
    pub(super) fn goes_on(&self, looking: &mut Looking) -> bool {
        if looking.is_over {
            return false;
        }
        if looking.looks == 0 {
            // Tasks may count at once: what gets lost is not worth a lock.
            let waits = self.waits.load(Ordering::Relaxed).wrapping_add(1);
            self.waits.store(waits, Ordering::Relaxed);
            if self.credit.load(Ordering::Relaxed) > 0 || waits.is_multiple_of(PROBE) {
                looking.until = Instant::now().checked_add(LIMIT);
            }
        }
        looking.looks += 1;
        if looking.looks <= BRIEF || looking.until.is_some_and(|at| Instant::now() < at) {
            return true;
        }
        looking.is_over = true;
        let credit = self.credit.load(Ordering::Relaxed);
        self.credit
            .store(credit.saturating_sub(1), Ordering::Relaxed);
        false
    }

    /// What was waited for has come.
    pub(super) fn found(&self, looking: &mut Looking) {
        if looking.looks > 0 && !looking.is_over {
            let credit = self.credit.load(Ordering::Relaxed);
            self.credit
                .store(MAX_CREDIT.min(credit + 2), Ordering::Relaxed);
        }
        *looking = Looking::default();
    }
}
