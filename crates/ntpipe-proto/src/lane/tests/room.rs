//! Where records go in the ring, and that turning back early takes room from nobody.

use std::collections::VecDeque;

use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const QUOTA: u32 = 65536;
const START: u64 = 64 * 1024;

impl Pair {
    /// Writes and reads messages of `len` bytes until the writer has come to `to` in its first lap.
    fn advance(&mut self, to: u64, len: usize) {
        while self.memory.tail.get() < to {
            assert_eq!(self.write(&vec![7; len]), Begun::Done);
            assert!(self.read(len).is_ready());
        }
    }
}

#[test]
fn a_stream_stays_in_a_small_part_of_the_ring() {
    let mut pair = Pair::new(PipeType::Message, QUOTA);
    let capacity = ring_capacity(QUOTA);
    let (mut furthest, mut laps) = (0, 0);
    for i in 0..2000_u32 {
        let message = [i.to_le_bytes(), [0; 4]].concat().repeat(512);
        assert_eq!(pair.write(&message), Begun::Done);
        let tail = pair.memory.tail.get();
        furthest = furthest.max((tail - 1) & (capacity - 1));
        laps = tail / capacity;
        assert_eq!(pair.read(4096), some(&message));
    }
    assert!(furthest < START + FRAGMENT + 4096, "it came to {furthest}");
    assert!(laps > 100);
}

#[test]
fn a_stream_that_is_always_behind_goes_as_far_as_it_may() {
    for (lap, far) in [
        (0, START),
        (400_000, 400_000),
        (u64::MAX, ring_capacity(QUOTA) - 4104),
    ] {
        let mut pair = Pair::new(PipeType::Message, QUOTA);
        pair.memory.lap.set(lap);
        let mut furthest = 0;
        assert_eq!(pair.write(&[1; 4096]), Begun::Done);
        for _ in 0..1000 {
            assert_eq!(pair.write(&[1; 4096]), Begun::Done);
            furthest = furthest.max((pair.memory.tail.get() - 1) & (ring_capacity(QUOTA) - 1));
            assert!(pair.read(4096).is_ready());
        }
        // It asks, and looks, every 16 KiB.
        assert!(
            (far..far + 2 * FRAGMENT).contains(&furthest),
            "{lap}: {furthest}"
        );
    }
}

#[test]
fn what_the_quota_takes_fits_behind_an_early_turn_too() {
    // observed 5.1. The ring of the second has hardly more room than that takes.
    for quota in [QUOTA, 61_440] {
        for len in [1, 100, 5000, 16_000] {
            for behind in [0, 1, 2, 5, 20] {
                fill_behind_a_turn(quota, len, behind);
            }
        }
    }
}

/// The reader stays `behind` messages of `len` bytes behind until the writer has turned back, and
/// then takes nothing: the quota has to last.
fn fill_behind_a_turn(quota: u32, len: usize, behind: usize) {
    let capacity = ring_capacity(quota);
    let quota_bytes = usize::try_from(quota).unwrap();
    let mut pair = Pair::new(PipeType::Message, quota);
    pair.advance(START - 20_000, len);
    let mut unread = VecDeque::new();
    let mut next = 0_u8;
    let mut write = |pair: &mut Pair, len: usize| {
        next = next.wrapping_add(1);
        assert_eq!(pair.write(&vec![next; len]), Begun::Done);
        (next, len)
    };
    while pair.memory.tail.get() < capacity {
        if (unread.len() + 1) * len <= quota_bytes {
            unread.push_back(write(&mut pair, len));
        }
        let most = behind.min(quota_bytes / len - 1);
        while unread.len() > most {
            let (byte, len) = unread.pop_front().unwrap();
            assert_eq!(pair.read(len), some(&vec![byte; len]));
        }
    }
    let used: usize = unread.iter().map(|(_, len)| len).sum();
    for _ in used..quota_bytes {
        unread.push_back(write(&mut pair, 1));
    }
    pair.pending(b"too much");
    for (byte, len) in unread {
        assert_eq!(pair.read(len), some(&vec![byte; len]));
    }
    assert_eq!(pair.read(100), some(b"too much"));
}

#[test]
fn a_way_round_that_the_reader_has_not_gone_takes_no_room() {
    let quota = 61_440;
    let mut pair = Pair::new(PipeType::Message, quota);
    pair.advance(START / 2 - 2000, 1000);
    let write =
        |pair: &mut Pair, n: u32| (0..n).for_each(|_| assert_eq!(pair.write(b"x"), Begun::Done));
    let read = |pair: &mut Pair, n: u32| (0..n).for_each(|_| assert_eq!(pair.read(1), some(b"x")));
    // Much is unread, and then the beginning is left far enough for turning back.
    write(&mut pair, 31_000);
    read(&mut pair, 300);
    write(&mut pair, 5000);
    // What was unread then is read, no more.
    read(&mut pair, 30_700);
    write(&mut pair, quota - 5000);
    pair.pending(b"too much");
    read(&mut pair, quota);
}

#[test]
fn large_records_find_their_way_round_what_is_not_read() {
    let mut pair = Pair::new(PipeType::Byte, QUOTA);
    pair.advance(START - 9000, 8000);
    // Unread: one byte, which the writer has to get round; then more than the quota.
    assert_eq!(pair.write(b"1"), Begun::Done);
    let large: Vec<u8> = (0..900_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let id = pair.pending(&large);
    assert_eq!(pair.writer.stored(id), Some(900_000));
    assert!(pair.memory.tail.get() > 2 * 900_000, "it has turned back");
    let mut came = Vec::new();
    while came.len() <= large.len() {
        let Poll::Ready((bytes, _)) = pair.read(10_001) else {
            panic!("{} bytes came", came.len());
        };
        came.extend(bytes);
    }
    assert_eq!(came[0], b'1');
    assert!(came[1..] == large);
    assert!(pair.resume(id, &large).is_ready());
}

#[test]
fn a_writer_that_has_turned_can_be_saved_at_any_moment() {
    let mut pair = Pair::new(PipeType::Message, QUOTA);
    pair.advance(START, 8000);
    assert_eq!(pair.write(b"not read"), Begun::Done);
    let capacity = ring_capacity(QUOTA);
    for i in 0..6000_u32 {
        let mut words = Vec::new();
        pair.writer.save(&mut words);
        pair.writer = Writer::restore(PipeType::Message, QUOTA, capacity, &words).unwrap();
        assert_eq!(pair.write(&i.to_le_bytes()), Begun::Done);
    }
    assert_eq!(pair.read(8), some(b"not read"));
    for i in 0..6000_u32 {
        let mut words = Vec::new();
        pair.reader.save(&mut words);
        pair.reader = Reader::restore(PipeType::Message, QUOTA, capacity, &words).unwrap();
        assert_eq!(pair.read(4), some(&i.to_le_bytes()));
    }
    assert!(pair.memory.tail.get() > capacity, "it has turned back");
}

#[test]
fn a_reader_that_stops_in_what_was_skipped_lies() {
    let mut pair = Pair::new(PipeType::Message, QUOTA);
    pair.advance(START, 8000);
    let before = pair.memory.tail.get();
    assert_eq!(pair.write(b"not read"), Begun::Done);
    let consumed = pair.memory.taken.get().consumed;
    assert!(
        pair.memory.tail.get() > ring_capacity(QUOTA),
        "it has turned"
    );
    for (head, is_lie) in [
        (before, false),
        (before + 1, true),
        (before + 8, true),
        (ring_capacity(QUOTA) - 8, true),
        (ring_capacity(QUOTA), false),
    ] {
        let mut words = Vec::new();
        pair.writer.save(&mut words);
        let mut writer =
            Writer::restore(PipeType::Message, QUOTA, ring_capacity(QUOTA), &words).unwrap();
        let head = Pos(head);
        pair.memory.taken.set(Taken { head, consumed });
        let refused = writer.free_quota(&pair.memory).is_err();
        assert_eq!(refused, is_lie, "{head:?}");
    }
}

#[test]
fn a_skip_beyond_the_tail_or_the_ring_is_a_lie() {
    let capacity = ring_capacity(QUOTA);
    for (len, tail) in [(8, 8), (100, 56), (0, capacity - 8)] {
        let mut pair = Pair::new(PipeType::Byte, QUOTA);
        let header = Header { len, flags: 64 };
        pair.memory.store_header(Pos(0), header);
        pair.memory.tail.set(tail);
        let mut op = Reading::default();
        let read = (pair.reader).read(&mut op, &pair.memory, ReadMode::Byte, &mut [0; 9]);
        assert_eq!(
            read,
            Err(Error::INVALID_DATA),
            "{len} with a tail of {tail}"
        );
    }
}

#[test]
fn a_writer_that_was_lied_to_stays_whole() {
    let mut pair = Pair::new(PipeType::Message, QUOTA);
    pair.advance(START, 8000);
    let skip = pair.memory.tail.get();
    // Past what is not read, by the way round it.
    pair.pending(&[0; 1_000_000]);
    let taken = pair.memory.taken.get();
    let head = Pos(skip + 8);
    assert!(pair.memory.tail.get() > head.0 + ring_capacity(QUOTA));
    pair.memory.taken.set(Taken { head, ..taken });
    assert_eq!(
        pair.writer.free_quota(&pair.memory),
        Err(Error::INVALID_DATA)
    );
    pair.memory.taken.set(taken);
    pair.pending(b"goes on as before");
}

#[test]
fn nothing_turns_back_onto_what_is_not_read() {
    for first in [8, 200, 8000, 32_000] {
        let mut pair = Pair::new(PipeType::Message, QUOTA);
        pair.advance(1, first);
        for i in 0..65_u8 {
            assert_eq!(pair.write(&[i; 1000]), Begun::Done);
        }
        let large = [99; 200_000];
        let id = pair.pending(&large);
        assert_eq!(pair.writer.stored(id), Some(200_000));
        for i in 0..65_u8 {
            assert_eq!(pair.read(1000), some(&[i; 1000]));
        }
        assert_eq!(pair.read(200_000), some(&large));
    }
}

#[test]
fn a_reader_that_keeps_all_to_itself_knows_when_the_writer_is_stuck() {
    let large = vec![7; 9 << 20];
    for quota in [100, 5000, 61_440, QUOTA, 300_000] {
        for to in [0, START - 20_000, START - 3000, START + 9000, 500_000] {
            for unread in [0, 1, 3] {
                let mut pair = Pair::new(PipeType::Message, quota);
                pair.advance(to, 90);
                (0..unread).for_each(|_| assert_eq!(pair.write(&[1; 20]), Begun::Done));
                pair.pending(&large);
                // It learns how far the writer has come.
                pair.peek(10);
                let from = pair.reader.record_start();
                assert!(
                    !pair.reader.leaves_room(&pair.memory, from),
                    "{quota} {to} {unread}"
                );
            }
        }
    }
}

#[test]
fn what_an_early_turn_skips_leaves_room_but_not_all_of_it() {
    let large = vec![7; 9 << 20];
    for quota in [61_440, QUOTA] {
        for len in [90, 5000, 16_000] {
            let mut pair = Pair::new(PipeType::Message, quota);
            pair.memory.lap.set(0);
            assert_eq!(pair.write(&vec![1; len]), Begun::Done);
            while pair.memory.tail.get() < ring_capacity(quota) {
                assert_eq!(pair.write(&vec![1; len]), Begun::Done);
                pair.peek(10);
                let from = pair.reader.record_start();
                assert!(pair.reader.leaves_room(&pair.memory, from));
                if pair.memory.tail.get() < ring_capacity(quota) {
                    assert!(pair.read(len).is_ready());
                }
            }
            pair.pending(&large);
            pair.peek(10);
            let from = pair.reader.record_start();
            assert!(!pair.reader.leaves_room(&pair.memory, from));
        }
    }
}

#[test]
fn a_writer_that_lies_about_its_records_leaves_no_room() {
    let mut pair = Pair::new(PipeType::Message, QUOTA);
    assert_eq!(pair.write(&[1; 90]), Begun::Done);
    pair.peek(10);
    assert!(pair.reader.leaves_room(&pair.memory, Pos(0)));
    for lie in [
        Header { len: 100, flags: 3 },
        Header {
            len: u32::MAX,
            flags: 64,
        },
        Header {
            len: 0,
            flags: 1 << 31,
        },
    ] {
        pair.memory.store_header(Pos(0), lie);
        assert!(!pair.reader.leaves_room(&pair.memory, Pos(0)), "{lie:?}");
    }
}

#[test]
fn a_position_that_no_writer_lives_to_see_is_a_lie() {
    let end = 1 << 60;
    let mut pair = Pair::new(PipeType::Byte, QUOTA);
    let words = [end, end, 0, 0, 0, 0, 0, 0];
    let capacity = ring_capacity(QUOTA);
    pair.reader = Reader::restore(PipeType::Byte, QUOTA, capacity, &words).unwrap();
    pair.memory.tail.set(end);
    assert_eq!(pair.read(9), Poll::Pending);
    pair.memory.tail.set(end + capacity);
    let skip = Header { len: 0, flags: 64 };
    pair.memory.store_header(Pos(end), skip);
    let mut op = Reading::default();
    let read = (pair.reader).read(&mut op, &pair.memory, ReadMode::Byte, &mut [0; 9]);
    assert_eq!(read.err(), Some(Error::INVALID_DATA));
}

#[test]
fn what_leads_round_the_unread_is_in_use_until_it_is_passed() {
    let large = vec![7; 20 << 20];
    for messages in (40..200).step_by(5) {
        let mut pair = Pair::new(PipeType::Message, 300_000);
        pair.memory.lap.set(0);
        for n in 0..messages {
            assert_eq!(pair.write(&[1; 8000]), Begun::Done);
            if n >= 35 {
                assert!(pair.read(8000).is_ready());
            }
        }
        let id = pair.pending(&large);
        (0..messages.min(35)).for_each(|_| assert!(pair.read(8000).is_ready()));
        assert_eq!(pair.resume(id, &large), Poll::Pending);
        pair.peek(10);
        let from = pair.reader.record_start();
        assert!(!pair.reader.leaves_room(&pair.memory, from), "{messages}");
    }
}

/// A pipe with a history, in which a write is stuck that the ring has no room for.
fn stuck(quota: u32, lap: u64, history: &[(usize, bool)], left: usize) -> (Pair, OpId, Vec<u8>) {
    let mut pair = Pair::new(PipeType::Message, quota);
    pair.memory.lap.set(lap);
    let mut unread = VecDeque::new();
    for (len, writes) in history {
        let fits = unread.iter().sum::<usize>() + len <= quota as usize;
        if *writes && fits {
            assert_eq!(pair.write(&vec![1; *len]), Begun::Done);
            unread.push_back(*len);
        } else if let Some(len) = unread.pop_front() {
            assert!(pair.read(len).is_ready());
        }
    }
    let large = vec![7; usize::try_from(3 * ring_capacity(quota)).unwrap()];
    let id = pair.pending(&large);
    while unread.len() > left {
        assert!(pair.read(unread.pop_front().unwrap()).is_ready());
    }
    // The reader goes past what was skipped, the writer hears of it.
    for _ in 0..3 {
        pair.peek(10);
        assert_eq!(pair.resume(id, &large), Poll::Pending);
    }
    (pair, id, large)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_reader_never_waits_for_a_writer_that_is_stuck(
        quota in select(vec![4, 5000, 61_440, QUOTA, 300_000]),
        lap in select(vec![0, 100_000, 300_000, u64::MAX]),
        history in (1..40_000_usize).prop_flat_map(|most| vec((1..=most, weighted(0.6)), 0..150)),
        left in 0..3_usize,
    ) {
        let (mut pair, id, large) = stuck(quota, lap, &history, left);
        let before = pair.memory.tail.get();
        assert_eq!(pair.resume(id, &large), Poll::Pending);
        assert_eq!(pair.memory.tail.get(), before);
        pair.peek(10);
        let from = pair.reader.record_start();
        prop_assert!(!pair.reader.leaves_room(&pair.memory, from));
    }
}
