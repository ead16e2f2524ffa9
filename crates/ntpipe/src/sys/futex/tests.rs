use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::ring::bell::{self, Sleepers, Trust};

/// Long enough that who is woken by it, not by a bell, fails the test.
const TOO_LATE: Duration = Duration::from_secs(4);

/// A thread sleeps until it is told; `ring` wakes it when it is surely on the way.
fn is_woken_by(ring: impl Fn(&Sleepers, &AtomicU32, &AtomicU32)) {
    let [waiting, bell] = &[0; 2].map(AtomicU32::new);
    let (sleepers, told) = (&Sleepers::new(Trust::Same), &AtomicBool::new(false));
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            let start = Instant::now();
            let ready = || told.load(Ordering::Acquire);
            assert!(sleepers.sleep(waiting, bell, None, ready));
            start.elapsed()
        });
        while waiting.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        told.store(true, Ordering::Release);
        ring(sleepers, waiting, bell);
        assert!(sleeper.join().unwrap() < TOO_LATE);
    });
    assert_eq!(waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn the_peer_wakes_a_sleeper() {
    for _ in 0..200 {
        is_woken_by(|_, waiting, bell| {
            bell::ring_for(waiting, bell);
        });
    }
}

#[test]
fn its_own_process_wakes_a_sleeper() {
    for _ in 0..200 {
        is_woken_by(|sleepers, _, bell| sleepers.ring(bell));
    }
}

#[test]
fn a_deadline_ends_a_sleep() {
    let [waiting, bell] = &[0; 2].map(AtomicU32::new);
    let deadline = Instant::now() + Duration::from_millis(5);
    assert!(!Sleepers::new(Trust::Same).sleep(waiting, bell, Some(deadline), || false));
    assert!(Instant::now() >= deadline);
}

#[test]
fn only_those_with_the_bits_are_woken_and_counted() {
    let (word, bits) = (
        &AtomicU32::new(0),
        [1, 2].map(|bit| NonZeroU32::new(bit).unwrap()),
    );
    thread::scope(|scope| {
        for own in bits {
            scope.spawn(move || wait(word, 0, own, Some(Instant::now() + TOO_LATE)));
        }
        for own in bits {
            let start = Instant::now();
            while wake(word, own) == 0 {
                assert!(start.elapsed() < TOO_LATE, "its sleeper was woken before");
                thread::yield_now();
            }
            assert_eq!(wake(word, own), 0);
        }
    });
}

#[test]
fn a_stranger_that_moves_sleepers_elsewhere_does_not_keep_them() {
    let [waiting, bell, elsewhere] = &[0; 3].map(AtomicU32::new);
    let (sleepers, told) = (&Sleepers::new(Trust::Stranger), &AtomicBool::new(false));
    thread::scope(|scope| {
        let ready = || told.load(Ordering::Acquire);
        let sleeper = scope.spawn(move || sleepers.sleep(waiting, bell, None, ready));
        while futex::requeue(bell, Flags::empty(), 0, 1, elsewhere) != Ok(1) {
            thread::yield_now();
        }
        told.store(true, Ordering::Release);
        sleepers.ring(bell);
        assert!(sleeper.join().unwrap());
    });
}
