use std::task::Poll;

use super::*;
use crate::{PipeType, ReadMode};

mod detached;
#[path = "../../../tests/support/memory.rs"]
mod memory;
mod nowait;
mod pauses;
mod room;
mod save;
mod survivor;
mod waiting;

use memory::Memory;

/// A lane with both its ends.
struct Pair {
    memory: Memory,
    writer: Writer,
    reader: Reader,
    mode: ReadMode,
}

impl Pair {
    fn new(pipe_type: PipeType, quota: u32) -> Self {
        let capacity = ring_capacity(quota);
        let mode = match pipe_type {
            PipeType::Byte => ReadMode::Byte,
            PipeType::Message => ReadMode::Message,
        };
        Self {
            memory: Memory::new(capacity),
            writer: Writer::new(pipe_type, quota, capacity),
            reader: Reader::new(pipe_type, quota, capacity),
            mode,
        }
    }

    fn write(&mut self, src: &[u8]) -> Begun {
        self.writer
            .begin(&self.memory, src, Charge::Charged)
            .unwrap()
    }

    fn pending(&mut self, src: &[u8]) -> OpId {
        match self.write(src) {
            Begun::Pending(id) => id,
            Begun::Done => panic!("the write completed"),
        }
    }

    fn resume(&mut self, id: OpId, src: &[u8]) -> Poll<()> {
        self.writer.resume(&self.memory, id, src).unwrap()
    }

    fn read(&mut self, len: usize) -> Poll<(Vec<u8>, bool)> {
        let mut dst = vec![0; len];
        let mut op = Reading::default();
        match self
            .reader
            .read(&mut op, &self.memory, self.mode, &mut dst)
            .unwrap()
        {
            Poll::Ready(read) => {
                dst.truncate(read.len);
                Poll::Ready((dst, read.more))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn peek(&mut self, len: usize) -> (Vec<u8>, Peek) {
        let mut dst = vec![0; len];
        let peek = self.reader.peek(&self.memory, &mut dst).unwrap();
        dst.truncate(peek.len);
        (dst, peek)
    }
}

fn some(bytes: &[u8]) -> Poll<(Vec<u8>, bool)> {
    Poll::Ready((bytes.to_vec(), false))
}

fn part(bytes: &[u8]) -> Poll<(Vec<u8>, bool)> {
    Poll::Ready((bytes.to_vec(), true))
}

#[test]
fn messages_keep_their_boundaries() {
    let mut pair = Pair::new(PipeType::Message, 64);
    assert_eq!(pair.write(b"one"), Begun::Done);
    assert_eq!(pair.write(b""), Begun::Done);
    assert_eq!(pair.write(b"three"), Begun::Done);
    assert_eq!(pair.read(16), some(b"one"));
    assert_eq!(pair.read(16), some(b""));
    assert_eq!(pair.read(2), part(b"th"));
    assert_eq!(pair.read(0), part(b""));
    assert_eq!(pair.read(16), some(b"ree"));
    assert_eq!(pair.read(16), Poll::Pending);
}

#[test]
fn byte_mode_reads_across_messages_but_shows_an_empty_one() {
    let mut pair = Pair::new(PipeType::Message, 64);
    pair.mode = ReadMode::Byte;
    for message in [&b"ab"[..], b"cd", b"", b"ef"] {
        assert_eq!(pair.write(message), Begun::Done);
    }
    assert_eq!(pair.read(3), some(b"abc"));
    assert_eq!(pair.read(9), some(b"d"));
    assert_eq!(pair.read(9), some(b""));
    assert_eq!(pair.read(9), some(b"ef"));
}

#[test]
fn a_write_completes_to_the_byte() {
    // observed 5.6
    let mut pair = Pair::new(PipeType::Byte, 5000);
    let src = vec![7; 7000];
    let id = pair.pending(&src);
    assert!(pair.read(1999).is_ready());
    assert_eq!(pair.resume(id, &src), Poll::Pending);
    assert!(pair.read(1).is_ready());
    assert_eq!(pair.resume(id, &src), Poll::Ready(()));
}

#[test]
fn a_pending_write_is_visible_and_nothing_overtakes_it() {
    let mut pair = Pair::new(PipeType::Message, 4);
    let big = pair.pending(b"abcdef");
    let small = pair.pending(b"x");
    assert_eq!(pair.write(b""), Begun::Done);
    let (bytes, peek) = pair.peek(4);
    assert_eq!(
        (&bytes[..], peek.available, peek.left, peek.messages),
        (&b"abcd"[..], 7, 2, 3)
    );
    assert_eq!(pair.read(2), part(b"ab"));
    assert_eq!(pair.resume(big, b"abcdef"), Poll::Ready(()));
    assert_eq!(pair.resume(small, b"x"), Poll::Pending);
    assert_eq!(pair.read(9), some(b"cdef"));
    assert_eq!(pair.resume(small, b"x"), Poll::Ready(()));
    assert_eq!(pair.read(9), some(b"x"));
    assert_eq!(pair.read(9), some(b""));
}

#[test]
fn quota_zero_is_a_rendezvous() {
    let mut pair = Pair::new(PipeType::Byte, 0);
    let id = pair.pending(b"ab");
    assert_eq!(pair.read(1), some(b"a"));
    assert_eq!(pair.resume(id, b"ab"), Poll::Pending);
    assert_eq!(pair.read(1), some(b"b"));
    assert_eq!(pair.resume(id, b"ab"), Poll::Ready(()));
}

#[test]
fn a_withdrawn_write_takes_its_half_read_rest_with_it() {
    // observed 10.9
    let mut pair = Pair::new(PipeType::Message, 4);
    let id = pair.pending(b"abcdef");
    let later = pair.pending(b"xyz");
    assert_eq!(pair.read(1), part(b"a"));
    assert_eq!(
        pair.writer.withdraw(&pair.memory, id),
        Ok(Withdrawal::Withdrawn)
    );
    assert_eq!(pair.peek(0).1.available, 3);
    assert_eq!(pair.resume(later, b"xyz"), Poll::Ready(()));
    assert_eq!(pair.read(9), some(b"xyz"));
    assert_eq!(pair.read(9), Poll::Pending);
}

#[test]
fn later_writes_leave_the_header_of_a_half_read_record_alone() {
    let mut pair = Pair::new(PipeType::Byte, 0);
    let half_read = vec![1; 40_000];
    let first = pair.pending(&half_read);
    let later = vec![0xff; 60_000];
    let second = pair.pending(&later);
    assert_eq!(pair.read(25_000), some(&half_read[..25_000]));
    let second_record = HEADER + 8 + FRAGMENT;
    assert_eq!(pair.memory.taken.get().head, Pos(second_record));
    assert_eq!(pair.resume(second, &later), Poll::Pending);
    assert_eq!(pair.peek(1).0, [1]);
    assert_eq!(pair.read(1), some(&[1]));
    assert_eq!(
        pair.writer.withdraw(&pair.memory, first),
        Ok(Withdrawal::Withdrawn)
    );
    let mut rest = Vec::new();
    while let Poll::Ready((bytes, _)) = pair.read(60_000) {
        rest.extend(bytes);
        let _ = pair.resume(second, &later);
    }
    assert!(rest == later);
}

#[test]
fn peek_does_not_count_what_was_withdrawn_of_an_earlier_message() {
    let mut pair = Pair::new(PipeType::Message, 0);
    let first = pair.pending(&[1; 30_000]);
    pair.pending(&[2; 20_000]);
    assert_eq!(pair.read(1), part(&[1]));
    assert_eq!(
        pair.writer.withdraw(&pair.memory, first),
        Ok(Withdrawal::Withdrawn)
    );
    assert_eq!(pair.peek(1).1.left, 19_999);
}

#[test]
fn what_is_ahead_is_as_much_as_the_next_read_can_get() {
    let mut pair = Pair::new(PipeType::Message, 100_000);
    let ahead = |pair: &mut Pair, mode| pair.reader.ahead(&pair.memory, mode).unwrap();
    assert_eq!(ahead(&mut pair, ReadMode::Message), None);
    for len in [40_000, 0, 7] {
        assert_eq!(pair.write(&vec![1; len]), Begun::Done);
    }
    assert_eq!(ahead(&mut pair, ReadMode::Message), Some(40_000));
    assert_eq!(ahead(&mut pair, ReadMode::Byte), Some(40_007));
    assert_eq!(pair.read(30_000), part(&[1; 30_000]));
    assert_eq!(ahead(&mut pair, ReadMode::Message), Some(10_000));
    assert_eq!(pair.read(10_000), some(&[1; 10_000]));
    for mode in [ReadMode::Message, ReadMode::Byte] {
        assert_eq!(ahead(&mut pair, mode), Some(0));
    }
    assert_eq!(pair.read(1), some(b""));
    assert_eq!(ahead(&mut pair, ReadMode::Message), Some(7));
}

#[test]
fn a_look_ahead_lets_go_of_what_was_withdrawn() {
    let mut pair = Pair::new(PipeType::Message, 0);
    let id = pair.pending(b"abc");
    assert_eq!(
        pair.writer.withdraw(&pair.memory, id),
        Ok(Withdrawal::Withdrawn)
    );
    let before = pair.reader.position();
    let found = pair.reader.ahead(&pair.memory, ReadMode::Message);
    assert_eq!(found, Ok(None));
    assert!(pair.reader.position() != before);
}

#[test]
fn what_fits_is_complete_and_cannot_be_withdrawn() {
    let mut pair = Pair::new(PipeType::Byte, 4);
    let id = pair.pending(b"abcdef");
    assert_eq!(pair.read(2), some(b"ab"));
    assert_eq!(
        pair.writer.withdraw(&pair.memory, id),
        Ok(Withdrawal::Completed)
    );
    assert_eq!(pair.read(9), some(b"cdef"));
}

#[test]
fn a_message_larger_than_the_ring_streams_through_it() {
    let mut pair = Pair::new(PipeType::Message, 1000);
    let src: Vec<u8> = (0..1_000_000_u32)
        .map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    let id = pair.pending(&src);
    assert_eq!(pair.peek(0).1.left, 1_000_000);
    let mut dst = vec![0; src.len()];
    let mut op = Reading::default();
    let read = loop {
        let read = pair
            .reader
            .read(&mut op, &pair.memory, ReadMode::Message, &mut dst)
            .unwrap();
        let _ = pair.resume(id, &src);
        if let Poll::Ready(read) = read {
            break read;
        }
    };
    assert_eq!(
        read,
        Read {
            len: src.len(),
            more: false
        }
    );
    assert!(dst == src);
}

#[test]
fn a_read_learns_that_the_rest_of_its_message_was_withdrawn() {
    let mut pair = Pair::new(PipeType::Message, 1000);
    let src = vec![9; 1_000_000];
    let id = pair.pending(&src);
    let mut dst = vec![0; src.len()];
    let mut op = Reading::default();
    let lane = &pair.memory;
    assert_eq!(
        pair.reader.read(&mut op, lane, ReadMode::Message, &mut dst),
        Ok(Poll::Pending)
    );
    assert_eq!(pair.writer.withdraw(lane, id), Ok(Withdrawal::Withdrawn));
    let filled = op.filled();
    let cut = Poll::Ready(Read {
        len: filled,
        more: true,
    });
    assert!(filled > 0);
    assert_eq!(
        pair.reader.read(&mut op, lane, ReadMode::Message, &mut dst),
        Ok(cut)
    );
    assert_eq!(pair.write(b"next"), Begun::Done);
    assert_eq!(pair.read(9), some(b"next"));
}

#[test]
fn a_flush_waits_for_what_was_written_before_it() {
    let mut pair = Pair::new(PipeType::Message, 4);
    assert_eq!(pair.write(b"ab"), Begun::Done);
    let big = pair.pending(b"cdef");
    let flush = pair.writer.flush();
    assert_eq!(pair.write(b""), Begun::Done);
    assert_eq!(
        pair.writer.poll_flush(&pair.memory, flush),
        Ok(Poll::Pending)
    );
    assert_eq!(
        pair.writer.withdraw(&pair.memory, big),
        Ok(Withdrawal::Withdrawn)
    );
    assert_eq!(
        pair.writer.poll_flush(&pair.memory, flush),
        Ok(Poll::Pending)
    );
    assert_eq!(pair.read(9), some(b"ab"));
    assert_eq!(
        pair.writer.poll_flush(&pair.memory, flush),
        Ok(Poll::Ready(()))
    );
}

#[test]
fn the_request_of_a_transaction_needs_no_quota() {
    // observed 11.6
    let mut pair = Pair::new(PipeType::Message, 4);
    let id = pair.pending(b"abcdef");
    let request = pair
        .writer
        .begin(&pair.memory, b"request", Charge::Uncharged);
    assert_eq!(request, Ok(Begun::Done));
    assert_eq!(pair.read(9), some(b"abcdef"));
    assert_eq!(pair.resume(id, b"abcdef"), Poll::Ready(()));
    assert_eq!(pair.write(b"more"), Begun::Done);
    assert_eq!(pair.read(9), some(b"request"));
    assert_eq!(pair.read(9), some(b"more"));
}

#[test]
fn the_request_stays_uncharged_when_an_empty_message_behind_it_is_withdrawn() {
    let mut pair = Pair::new(PipeType::Message, 4);
    let request = [7; 200_000];
    let begun = pair.writer.begin(&pair.memory, &request, Charge::Uncharged);
    assert!(matches!(begun, Ok(Begun::Pending(_))));
    // The first ones are not pending: the writer keeps them.
    let pending = (0..10_000).find_map(|_| match pair.write(b"") {
        Begun::Pending(id) => Some(id),
        Begun::Done => None,
    });
    let empty = pending.unwrap();
    assert_eq!(
        pair.writer.withdraw(&pair.memory, empty),
        Ok(Withdrawal::Withdrawn)
    );
    assert_eq!(pair.writer.free_quota(&pair.memory), Ok(4));
}

#[test]
fn a_quota_of_single_bytes_fits() {
    let quota = 65536;
    let mut pair = Pair::new(PipeType::Message, quota);
    for _ in 0..quota {
        assert_eq!(pair.write(b"x"), Begun::Done);
    }
    pair.pending(b"y");
    for _ in 0..quota {
        assert_eq!(pair.read(9), some(b"x"));
    }
    assert_eq!(pair.read(9), some(b"y"));
}

#[test]
fn a_quota_of_single_bytes_fits_wherever_the_lane_has_come() {
    // observed 5.1
    let quota = 65536;
    let mut pair = Pair::new(PipeType::Message, quota);
    for _ in 0..13 {
        assert_eq!(pair.write(&[0; 10_000]), Begun::Done);
        assert!(pair.read(10_000).is_ready());
    }
    for _ in 0..quota {
        assert_eq!(pair.write(b"x"), Begun::Done);
    }
}

#[test]
fn the_request_of_a_transaction_is_whole_wherever_the_lane_has_come() {
    let mut pair = Pair::new(PipeType::Message, 65536);
    for _ in 0..7 {
        assert_eq!(pair.write(&[0; 10_000]), Begun::Done);
        assert!(pair.read(10_000).is_ready());
    }
    let request = pair
        .writer
        .begin(&pair.memory, &[1; 200_000], Charge::Uncharged);
    assert_eq!(request, Ok(Begun::Done));
}

#[test]
fn impossible_cursors_are_a_lie() {
    let mut pair = Pair::new(PipeType::Byte, 64);
    assert_eq!(pair.write(b"abc"), Begun::Done);
    pair.memory.tail.set(1 << 40);
    let mut op = Reading::default();
    let read = pair
        .reader
        .read(&mut op, &pair.memory, ReadMode::Byte, &mut [0; 9]);
    assert_eq!(read, Err(Error::INVALID_DATA));
    pair.memory.taken.set(Taken {
        head: Pos(0),
        consumed: 99,
    });
    assert!(
        pair.writer
            .begin(&pair.memory, &[0; 64], Charge::Charged)
            .is_err()
    );
}

#[test]
fn a_byte_pipe_has_less_than_nothing_left_of_this_message() {
    let mut pair = Pair::new(PipeType::Byte, 64);
    assert_eq!(pair.write(b"abcdef"), Begun::Done);
    let left = |peek: Peek| peek.left_this_message(PipeType::Byte);
    assert_eq!(left(pair.peek(4).1), 0_u32.wrapping_sub(4));
    assert_eq!(left(pair.peek(0).1), 0);
    let mut pair = Pair::new(PipeType::Message, 64);
    assert_eq!(pair.write(b"abcdef"), Begun::Done);
    let left = |peek: Peek| peek.left_this_message(PipeType::Message);
    assert_eq!(left(pair.peek(4).1), 2);
    assert_eq!(left(pair.peek(0).1), 6);
}

/// A program that only peeks must find the next message too.
#[test]
fn a_peek_lets_go_of_what_was_withdrawn() {
    let mut pair = Pair::new(PipeType::Message, 10);
    let (long, short) = (vec![0xFF; 200_000], [8; 100]);
    let first = pair.pending(&long);
    let second = pair.pending(&short);
    assert_eq!(pair.read(50_000), part(&long[..50_000]));
    assert_eq!(pair.resume(first, &long), Poll::Pending);
    let withdrawal = pair.writer.withdraw(&pair.memory, first);
    assert_eq!(withdrawal, Ok(Withdrawal::Withdrawn));
    assert_eq!(pair.resume(second, &short), Poll::Pending);
    assert_eq!(pair.peek(0).1.available, 100);
    assert_eq!(pair.resume(second, &short), Poll::Pending);
    assert_eq!(pair.peek(0).1.left, 100);
    assert_eq!(pair.read(999), some(&short));
}

#[test]
fn a_full_buffer_in_the_middle_of_a_message_waits_for_nothing() {
    let mut pair = Pair::new(PipeType::Message, 1000);
    let src = vec![9; 1_000_000];
    pair.pending(&src);
    // All of the ring, to the byte: the rest of the message is not published yet.
    let mut dst = vec![0; src.len()];
    let mut op = Reading::default();
    let lane = &pair.memory;
    assert_eq!(
        pair.reader.read(&mut op, lane, ReadMode::Message, &mut dst),
        Ok(Poll::Pending)
    );
    let filled = op.filled();
    let mut pair = Pair::new(PipeType::Message, 1000);
    pair.pending(&src);
    assert_eq!(pair.read(filled), part(&src[..filled]));
}

#[test]
fn a_reader_never_sees_a_message_with_a_hole() {
    // Whoever finds a mark finds all records behind it marked too.
    let mut pair = Pair::new(PipeType::Message, 1000);
    let src: Vec<u8> = (0..50_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let id = pair.pending(&src);
    assert_eq!(
        pair.writer.withdraw(&pair.memory, id),
        Ok(Withdrawal::Withdrawn)
    );
    let marks = pair.memory.marks.borrow();
    assert!(
        marks.len() > 1 && marks.windows(2).all(|pair| pair[0] > pair[1]),
        "{marks:?}"
    );
}

#[test]
fn a_write_at_once_completes_or_leaves_no_trace() {
    let mut pair = Pair::new(PipeType::Message, 10);
    let at_once = |pair: &mut Pair, src: &[u8]| pair.writer.begin_at_once(&pair.memory, src);
    assert_eq!(at_once(&mut pair, b"12345678"), Ok(true));
    assert_eq!(at_once(&mut pair, b"123"), Ok(false));
    assert!(!pair.writer.is_pending());
    assert_eq!(at_once(&mut pair, b"12"), Ok(true));
    assert_eq!(pair.read(20), Poll::Ready((b"12345678".to_vec(), false)));
    assert_eq!(pair.read(20), Poll::Ready((b"12".to_vec(), false)));
    // Behind one that is pending nothing completes at once.
    let big = pair.pending(&[7; 11]);
    assert!(pair.writer.is_pending());
    assert_eq!(at_once(&mut pair, b""), Ok(false));
    assert_eq!(pair.read(20), Poll::Ready((vec![7; 11], false)));
    assert_eq!(pair.resume(big, &[7; 11]), Poll::Ready(()));
    assert_eq!(at_once(&mut pair, b""), Ok(true));
}

#[test]
fn a_read_goes_on_where_another_was_given_up() {
    let mut pair = Pair::new(PipeType::Message, 10);
    let sent = vec![7; 200_000];
    let id = pair.pending(&sent);
    let mut got = vec![0; sent.len()];
    let mut op = Reading::default();
    let read = |pair: &mut Pair, op: &mut Reading, got: &mut [u8]| {
        pair.reader.read(op, &pair.memory, ReadMode::Message, got)
    };
    assert_eq!(read(&mut pair, &mut op, &mut got), Ok(Poll::Pending));
    let filled = op.filled();
    assert!(filled > 0);
    assert_eq!(pair.reader.left_of_message(), (sent.len() - filled) as u64);
    let mut op = Reading::resumed(filled);
    let done = loop {
        let _ = pair.resume(id, &sent);
        if let Poll::Ready(read) = read(&mut pair, &mut op, &mut got).unwrap() {
            break read;
        }
    };
    assert_eq!((done.len, done.more), (sent.len(), false));
    assert!(got == sent);
}
