//! Sleep and wake, withdrawal and waiting reads, over all interleavings and reorderings.
//!
//! `ci/loom.sh` runs this with the full fence and without it: without it each test must fail. The
//! product's own files are built into this crate, over loom's atomics and a futex that loom knows.
#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[allow(
    dead_code,
    reason = "what guards against strangers needs a clock, which loom has not"
)]
#[path = "../src/ring/bell.rs"]
mod bell;
#[path = "../src/ring/doorbell.rs"]
mod doorbell;
#[path = "loom/lane.rs"]
mod lane;
#[path = "../src/primitive.rs"]
mod primitive;
#[path = "loom/sys.rs"]
mod sys;

use std::task::Poll;

use loom::sync::Arc;
use loom::thread;
use ntpipe_proto::lane::{Begun, Charge, Incoming, OpId, Reader, Reading, Withdrawal, Writer};
use ntpipe_proto::{PipeType, ReadMode};

use bell::{Sleepers, Trust};
use doorbell::Rung;
use lane::{CAPACITY, Lane};
use primitive::{AtomicU32, Ordering};

/// What a sleeper waits for, and what wakes it.
struct Bells {
    /// What the peer publishes.
    published: AtomicU32,
    /// What threads of the sleeper's process have told it.
    told: AtomicU32,
    waiting: AtomicU32,
    bell: AtomicU32,
    sleepers: Sleepers,
}

impl Bells {
    fn new() -> Arc<Self> {
        let zero = || AtomicU32::new(0);
        Arc::new(Self {
            published: zero(),
            told: zero(),
            waiting: zero(),
            bell: zero(),
            sleepers: Sleepers::new(Trust::Same),
        })
    }

    /// Sleeps until the peer has published and this process has told this often.
    fn sleep(&self, published: u32, told: u32) {
        let ready = || {
            self.published.load(Ordering::Acquire) == published
                && self.told.load(Ordering::Acquire) == told
        };
        assert!((self.sleepers).sleep(&self.waiting, &self.bell, None, ready));
    }

    fn publish(&self) {
        self.published.fetch_add(1, Ordering::Release); // pairs with the Acquire in `sleep`
        bell::ring_for(&self.waiting, &self.bell);
    }

    fn tell(&self) {
        self.told.fetch_add(1, Ordering::Release); // pairs with the Acquire in `sleep`
        self.sleepers.ring(&self.bell);
    }
}

/// `sleepers` threads sleep until the peer's threads have published and their own process' have
/// told them; the last of these runs on the model's own thread.
fn all_wake(sleepers: usize, published: u32, told: u32) {
    loom::model(move || {
        let bells = Bells::new();
        let spawn = |act: fn(&Bells, u32, u32)| {
            let bells = Arc::clone(&bells);
            thread::spawn(move || act(&bells, published, told))
        };
        let mut threads: Vec<_> = (0..sleepers).map(|_| spawn(Bells::sleep)).collect();
        let mut ringers = Vec::new();
        ringers.extend((0..published).map(|_| (|bells, _, _| bells.publish()) as fn(&Bells, _, _)));
        ringers.extend((0..told).map(|_| (|bells, _, _| bells.tell()) as fn(&Bells, _, _)));
        let last = ringers.pop().unwrap();
        threads.extend(ringers.into_iter().map(spawn));
        last(&bells, published, told);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(bells.waiting.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn no_wake_up_is_lost() {
    all_wake(1, 1, 0);
}

#[test]
fn two_sleepers_on_one_word_both_wake() {
    all_wake(2, 1, 0);
}

#[test]
fn no_ring_of_its_own_process_is_lost() {
    all_wake(1, 0, 1);
}

#[test]
fn a_ring_of_their_own_process_wakes_both_sleepers() {
    all_wake(2, 0, 1);
}

#[test]
fn two_rings_of_its_own_process_at_once_are_not_lost() {
    all_wake(1, 0, 2);
}

#[test]
fn rings_of_the_peer_and_of_its_own_process_at_once_are_not_lost() {
    all_wake(1, 1, 1);
}

/// A task waits for publishers, each of which looks at the doorbell; it looks twice, as one does
/// that was woken for another reason. If it has not seen everything when it looked last, a ring has
/// come for that.
fn task_is_woken(publishers: u32) {
    loom::model(move || {
        let bells = Bells::new();
        let arming = Arc::new(AtomicU32::new(0));
        let (rung, rings) = (Arc::new(Rung::new()), Arc::new(AtomicU32::new(0)));
        let publish = || {
            let bells = Arc::clone(&bells);
            let (arming, rung, rings) =
                (Arc::clone(&arming), Arc::clone(&rung), Arc::clone(&rings));
            thread::spawn(move || {
                bells.published.fetch_add(1, Ordering::Release); // pairs with the Acquire in `look`
                if bell::ring_for(&bells.waiting, &bells.bell) && rung.is_due(&arming) {
                    rings.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let threads: Vec<_> = (0..publishers).map(|_| publish()).collect();
        let look = || {
            let before = rings.load(Ordering::Relaxed);
            doorbell::arm(&bells.waiting, &arming);
            (before, bells.published.load(Ordering::Acquire))
        };
        look();
        let (before, seen) = look();
        for thread in threads {
            thread.join().unwrap();
        }
        if seen < publishers {
            assert!(rings.load(Ordering::Relaxed) > before, "nobody rang");
        }
        doorbell::disarm(&bells.waiting);
        assert_eq!(bells.waiting.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_task_that_sleeps_is_rung_for() {
    task_is_woken(1);
}

#[test]
fn a_task_that_sleeps_is_rung_for_by_one_of_two() {
    task_is_woken(2);
}

/// One read of at most `len` bytes; how many it got.
fn read(reader: &mut Reader, lane: &Lane, len: usize) -> Option<usize> {
    let mut dst = [0; 2];
    let read = reader.read(
        &mut Reading::default(),
        lane,
        ReadMode::Byte,
        &mut dst[..len],
    );
    match read.unwrap() {
        Poll::Ready(read) => {
            assert!(dst[..read.len].iter().all(|byte| b"ab".contains(byte)));
            Some(read.len)
        }
        Poll::Pending => None,
    }
}

/// Takes a write back, however often it takes.
fn withdraw(writer: &mut Writer, lane: &Lane, id: OpId) -> Withdrawal {
    loop {
        match writer.withdraw(lane, id).unwrap() {
            Withdrawal::Contested => thread::yield_now(),
            decided @ (Withdrawal::Completed | Withdrawal::Withdrawn) => return decided,
        }
    }
}

/// A pending write of two bytes is withdrawn while reads of these sizes go on.
fn withdraw_against(sizes: &'static [usize]) {
    loom::model(move || {
        let lane = Arc::new(Lane::new());
        let mut writer = Writer::new(PipeType::Byte, 0, CAPACITY);
        let mut reader = Reader::new(PipeType::Byte, 0, CAPACITY);
        let begun = writer.begin(&*lane, b"ab", Charge::Charged);
        let Ok(Begun::Pending(id)) = begun else {
            panic!("{begun:?}");
        };
        let reading = thread::spawn({
            let lane = Arc::clone(&lane);
            move || {
                let got: usize = (sizes.iter())
                    .map_while(|len| read(&mut reader, &lane, *len))
                    .sum();
                (reader, got)
            }
        });
        let decided = withdraw(&mut writer, &lane, id);
        let (mut reader, got) = reading.join().unwrap();
        assert_eq!(decided == Withdrawal::Completed, got == 2);
        assert_eq!(
            read(&mut reader, &lane, 2),
            None,
            "what is taken back is gone"
        );
        let left = Incoming::offered(&*lane);
        assert_eq!(left, u64::try_from(got).unwrap(), "one has each byte");
    });
}

#[test]
fn a_write_is_read_or_withdrawn_but_not_both() {
    withdraw_against(&[2]);
}

#[test]
fn the_rest_of_a_half_read_write_is_read_or_withdrawn_but_not_both() {
    withdraw_against(&[1, 1]);
}

#[test]
fn a_write_that_counts_on_a_waiting_read_is_read_by_it() {
    loom::model(|| {
        let lane = Arc::new(Lane::new());
        let mut writer = Writer::new(PipeType::Byte, 0, CAPACITY);
        let mut reader = Reader::new(PipeType::Byte, 0, CAPACITY);
        let reading = thread::spawn({
            let lane = Arc::clone(&lane);
            move || {
                // It waits, looks once more, gives up, and looks once more.
                reader.ask(&*lane, 1);
                read(&mut reader, &lane, 1).or_else(|| {
                    reader.ask(&*lane, 0);
                    read(&mut reader, &lane, 1)
                })
            }
        });
        let begun = writer.begin(&*lane, b"a", Charge::Charged).unwrap();
        let got = reading.join().unwrap();
        if begun == Begun::Done {
            assert_eq!(got, Some(1));
        }
    });
}
