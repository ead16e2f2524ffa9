#![cfg(feature = "tokio")]

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::thread;

use super::*;

/// Counts, with the lock in hand.
#[derive(Default)]
struct Counter(Arc<Mutex<usize>>);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        *self.0.try_lock().unwrap() += 1;
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        *self.0.try_lock().unwrap() += 100;
    }
}

fn counter() -> (Arc<Mutex<usize>>, Waker) {
    let count = Arc::default();
    let waker = Waker::from(Arc::new(Counter(Arc::clone(&count))));
    (count, waker)
}

#[test]
fn a_waker_is_called_when_the_last_lock_is_let_go() {
    let (count, waker) = counter();
    wake(waker.clone());
    assert_eq!(*count.lock().unwrap(), 1);
    let other = Mutex::new(());
    let outer = lock(&other);
    let inner = lock(&count);
    wake(waker.clone());
    discard(waker);
    drop(inner);
    assert_eq!(*count.lock().unwrap(), 1);
    drop(outer);
    assert_eq!(*count.lock().unwrap(), 102);
}

#[test]
fn the_order_of_letting_go_does_not_matter() {
    let (count, waker) = counter();
    let other = Mutex::new(());
    let outer = lock(&count);
    let inner = try_lock(&other).unwrap();
    assert!(try_lock(&count).is_none());
    wake(waker);
    drop(outer);
    assert_eq!(*count.lock().unwrap(), 0);
    drop(inner);
    assert_eq!(*count.lock().unwrap(), 101);
}

#[test]
fn nobody_waits_with_wakers_in_hand() {
    let (count, waker) = counter();
    let condvar = Condvar::new();
    let mut guard = lock(&count);
    wake(waker);
    // Nobody notifies.
    while *guard == 0 {
        guard = guard.wait(&condvar);
    }
    assert_eq!(*guard, 101);
    assert_eq!(*guard.wait_timeout(&condvar, Duration::from_millis(1)), 101);
}

#[test]
fn nobody_suffers_from_a_waker_that_panics() {
    struct Fragile;

    impl Wake for Fragile {
        fn wake(self: Arc<Self>) {
            panic!("on purpose");
        }
    }

    let (count, waker) = counter();
    let guard = lock(&count);
    wake(Waker::from(Arc::new(Fragile)));
    wake(waker);
    drop(guard);
    assert_eq!(*count.lock().unwrap(), 101);
    wake(Waker::from(Arc::new(Fragile)));
}

#[test]
fn a_waker_may_be_left_by_a_waker() {
    /// Wakes the next one under a lock.
    struct Chain(Arc<AtomicUsize>, usize);

    impl Wake for Chain {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            if self.1 > 0 {
                let mutex = Mutex::new(());
                let _guard = lock(&mutex);
                let next = Self(Arc::clone(&self.0), self.1 - 1);
                wake(Waker::from(Arc::new(next)));
            }
        }
    }

    let count = Arc::new(AtomicUsize::new(0));
    let mutex = Mutex::new(());
    let guard = lock(&mutex);
    for _ in 0..3 {
        wake(Waker::from(Arc::new(Chain(Arc::clone(&count), 4))));
    }
    assert_eq!(count.load(Ordering::Relaxed), 0);
    drop(guard);
    assert_eq!(count.load(Ordering::Relaxed), 15);
}

#[test]
fn a_thread_may_end_with_a_lock_to_take() {
    /// Wakes a task under a lock when its thread ends.
    struct Late(Waker);

    impl Drop for Late {
        fn drop(&mut self) {
            let mutex = Mutex::new(());
            let _guard = lock(&mutex);
            wake(self.0.clone());
        }
    }

    thread_local! {
        static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
    }

    let (count, waker) = counter();
    let thread = thread::spawn(move || {
        LATE.set(Some(Late(waker)));
        drop(lock(&Mutex::new(())));
    });
    thread.join().unwrap();
    assert_eq!(*count.lock().unwrap(), 101);
}
