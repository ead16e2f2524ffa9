//! A condition variable that costs nothing to tell of a change while nobody waits for one.

use std::sync::Condvar;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::locked::MutexGuard;

/// Threads that wait for a change of what a mutex guards: always of the same one.
///
/// Who makes the change does so under the mutex, and tells of it then or later.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    condvar: Condvar,
    /// Counted under the mutex: who has changed something since sees it.
    waiting: AtomicUsize,
}

impl Condition {
    /// It may return at any time: look again.
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let guard = guard.wait(&self.condvar);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    /// As [`wait`](Self::wait), for `time` at most.
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        time: Duration,
    ) -> MutexGuard<'a, T> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let guard = guard.wait_timeout(&self.condvar, time);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    /// Something has changed: those that wait look again.
    pub(crate) fn notify_all(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.condvar.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread;

    use super::*;
    use crate::locked::lock;

    #[test]
    fn who_waits_learns_of_each_change() {
        let (condition, turn) = (Condition::default(), Mutex::new(0));
        let play = |mine: u32| {
            let mut now = lock(&turn);
            for _ in 0..1000 {
                while *now % 2 != mine {
                    now = condition.wait(now);
                }
                *now += 1;
                condition.notify_all();
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| play(0));
            scope.spawn(|| play(1));
        });
        assert_eq!(turn.into_inner().unwrap(), 2000);
    }

    #[test]
    fn a_wait_ends_by_itself() {
        let condition = Condition::default();
        let mutex = Mutex::new(());
        drop(condition.wait_timeout(lock(&mutex), Duration::from_millis(1)));
        assert_eq!(condition.waiting.load(Ordering::Relaxed), 0);
    }
}
