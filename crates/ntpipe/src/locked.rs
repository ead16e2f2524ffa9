//! The locks of this process, and what has to wait until a thread holds none of them.
//!
//! The waker of a task is somebody else's code. It may run the task at once, or drop it and an end
//! with it, and so come back for the very lock under which it was called. So nobody calls one, or
//! drops one, under a lock: [`wake`] and [`discard`] leave word, and the guard of the last lock that
//! the thread holds does what is left once it has let go of that.

use std::ops::{Deref, DerefMut};
use std::sync::{self, Condvar, Mutex, PoisonError, TryLockError};
#[cfg(feature = "tokio")]
use std::task::Waker;
use std::time::Duration;

/// What [`lock`] returns.
pub(crate) struct MutexGuard<'a, T> {
    inner: sync::MutexGuard<'a, T>,
    #[cfg(feature = "tokio")]
    mutex: &'a Mutex<T>,
    // The last, for what is left is done when it is dropped.
    #[cfg_attr(not(feature = "tokio"), expect(dead_code, reason = "nothing is left"))]
    held: Held,
}

/// Takes a lock; a thread that panicked under it has left nothing half done that matters here.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    MutexGuard::new(mutex, mutex.lock().unwrap_or_else(PoisonError::into_inner))
}

/// As [`lock`], if nobody has it.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(inner) => Some(MutexGuard::new(mutex, inner)),
        Err(TryLockError::Poisoned(poisoned)) => {
            Some(MutexGuard::new(mutex, poisoned.into_inner()))
        }
        Err(TryLockError::WouldBlock) => None,
    }
}

impl<'a, T> MutexGuard<'a, T> {
    #[inline]
    fn new(
        #[cfg_attr(not(feature = "tokio"), expect(unused_variables, reason = "as above"))]
        mutex: &'a Mutex<T>,
        inner: sync::MutexGuard<'a, T>,
    ) -> Self {
        Self {
            inner,
            #[cfg(feature = "tokio")]
            mutex,
            held: Held::new(),
        }
    }

    /// Waits at a condition variable. It may return at any time: look again.
    pub(crate) fn wait(self, condvar: &Condvar) -> Self {
        #[cfg(feature = "tokio")]
        if self.held.has_work() {
            return self.let_go();
        }
        let inner = condvar.wait(self.inner);
        Self {
            inner: inner.unwrap_or_else(PoisonError::into_inner),
            ..self
        }
    }

    /// As [`wait`](Self::wait), for `time` at most.
    pub(crate) fn wait_timeout(self, condvar: &Condvar, time: Duration) -> Self {
        #[cfg(feature = "tokio")]
        if self.held.has_work() {
            return self.let_go();
        }
        let waited = condvar.wait_timeout(self.inner, time);
        Self {
            inner: waited.unwrap_or_else(PoisonError::into_inner).0,
            ..self
        }
    }

    /// Lets go of the lock, so that what is left is done, and takes it again.
    #[cfg(feature = "tokio")]
    #[cold]
    fn let_go(self) -> Self {
        let mutex = self.mutex;
        drop(self);
        lock(mutex)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// Wakes a task, once this thread holds no lock.
#[cfg(feature = "tokio")]
pub(crate) fn wake(waker: Waker) {
    left::leave(left::Work::Wake(waker));
}

/// Drops a waker, and perhaps a task with it, once this thread holds no lock.
#[cfg(feature = "tokio")]
pub(crate) fn discard(waker: Waker) {
    left::leave(left::Work::Drop(waker));
}

#[cfg(feature = "tokio")]
use left::Held;

#[cfg(feature = "tokio")]
mod left {
    use std::cell::{Cell, RefCell};
    use std::mem::{self, ManuallyDrop};
    use std::panic::{self, AssertUnwindSafe};
    use std::task::Waker;

    // Neither is ever destroyed: another thread-local value may hold an end.
    thread_local! {
        /// Twice the number of locks that the thread holds; odd if there is work left.
        static HELD: Cell<usize> = const { Cell::new(0) };
        /// What is left, in its order.
        static LEFT: RefCell<ManuallyDrop<Vec<Work>>> =
            const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    }

    pub(super) enum Work {
        Wake(Waker),
        Drop(Waker),
    }

    /// One lock that this thread holds.
    #[derive(Debug)]
    pub(super) struct Held;

    const ONE: usize = 2;
    const WORK: usize = 1;

    impl Held {
        #[inline]
        pub(super) fn new() -> Self {
            HELD.set(HELD.get() + ONE);
            Self
        }

        /// Whether there is work left that could be done without this lock.
        #[inline]
        pub(super) fn has_work(&self) -> bool {
            HELD.get() == ONE + WORK
        }
    }

    impl Drop for Held {
        #[inline]
        fn drop(&mut self) {
            let held = HELD.get() - ONE;
            HELD.set(held);
            if held == WORK {
                work();
            }
        }
    }

    pub(super) fn leave(work: Work) {
        let held = HELD.get();
        if held < ONE {
            return work.run();
        }
        LEFT.with_borrow_mut(|left| left.push(work));
        HELD.set(held | WORK);
    }

    /// Does what is left. What comes to be left meanwhile is done by whoever leaves it: it may be
    /// what the rest of this waits for.
    #[cold]
    fn work() {
        HELD.set(HELD.get() & !WORK);
        let left = LEFT.with_borrow_mut(|left| mem::take(&mut **left));
        left.into_iter().for_each(Work::run);
    }

    impl Work {
        /// Neither the others nor the call that has led here suffer from a waker that panics.
        fn run(self) {
            let run = AssertUnwindSafe(|| match self {
                Self::Wake(waker) => waker.wake(),
                Self::Drop(waker) => drop(waker),
            });
            if let Err(payload) = panic::catch_unwind(run) {
                // Dropping it is somebody else's code again.
                mem::forget(payload);
                tracing::error!("the waker of a task has panicked");
            }
        }
    }
}

/// Without tasks there is nothing to be left.
#[cfg(not(feature = "tokio"))]
#[derive(Debug)]
struct Held;

#[cfg(not(feature = "tokio"))]
impl Held {
    #[inline]
    fn new() -> Self {
        Self
    }
}

#[cfg(test)]
mod tests;
