//! What a reader finds of a writer that is gone.

use super::*;

impl Pair {
    /// The writer dies; what can be read after that, message by message.
    fn bequest(&mut self) -> Vec<Vec<u8>> {
        self.reader.writer_gone(&self.memory).unwrap();
        let mut found = Vec::new();
        loop {
            let mut dst = vec![0; 300_000];
            let mut op = Reading::default();
            let lane = &self.memory;
            match self.reader.read(&mut op, lane, self.mode, &mut dst) {
                Ok(Poll::Ready(read)) => {
                    assert!(!read.more);
                    dst.truncate(read.len);
                    found.push(dst);
                }
                other => {
                    assert_eq!(other, Err(Error::BROKEN_PIPE));
                    return found;
                }
            }
        }
    }
}

#[test]
fn a_dead_writers_pending_write_is_withdrawn_and_completed_ones_stay() {
    // observed 10.10
    let mut pair = Pair::new(PipeType::Message, 4);
    assert_eq!(pair.write(b"done"), Begun::Done);
    pair.pending(b"pending");
    assert_eq!(pair.write(b""), Begun::Done);
    pair.reader.writer_gone(&pair.memory).unwrap();
    assert_eq!(pair.read(9), some(b"done"));
    assert_eq!(pair.read(9), some(b""));
    let mut op = Reading::default();
    let end = pair
        .reader
        .read(&mut op, &pair.memory, ReadMode::Message, &mut [0; 9]);
    assert_eq!(end, Err(Error::BROKEN_PIPE));
}

#[test]
fn a_write_that_counted_on_a_read_that_gave_up_outlives_its_writer() {
    let mut pair = Pair::new(PipeType::Byte, 0);
    assert_eq!(pair.read(4), Poll::Pending);
    pair.reader.ask(&pair.memory, 4);
    assert_eq!(pair.write(b"done"), Begun::Done);
    pair.reader.ask(&pair.memory, 0);
    pair.reader.writer_gone(&pair.memory).unwrap();
    assert_eq!(pair.read(4), some(b"done"));
}

#[test]
fn a_write_that_counted_on_a_waiting_read_was_complete_whatever_was_asked_since() {
    let mut pair = Pair::new(PipeType::Message, 4);
    pair.reader.ask(&pair.memory, 3);
    assert_eq!(pair.write(b"1234567"), Begun::Done);
    pair.pending(b"8");
    pair.reader.ask(&pair.memory, 0);
    pair.reader.ask(&pair.memory, 0);
    assert_eq!(pair.bequest(), [b"1234567"]);
}

#[test]
fn a_write_that_reads_made_complete_outlives_a_writer_that_did_not_look() {
    // observed 5.6
    let mut pair = Pair::new(PipeType::Message, 4);
    pair.pending(b"123456");
    pair.pending(b"789");
    assert_eq!(pair.read(2), part(b"12"));
    assert_eq!(pair.bequest(), [b"3456"]);
    assert_eq!(pair.memory.completed.get(), 0);
}

#[test]
fn only_a_write_that_had_to_wait_is_told_of() {
    let mut pair = Pair::new(PipeType::Message, 4);
    assert_eq!(pair.write(b"ab"), Begun::Done);
    assert_eq!(pair.write(b""), Begun::Done);
    let request = pair.writer.begin(&pair.memory, b"ask", Charge::Uncharged);
    assert_eq!(request, Ok(Begun::Done));
    let id = pair.pending(b"def");
    assert_eq!(pair.memory.completed.get(), 0);
    assert_eq!(pair.read(2), some(b"ab"));
    assert_eq!(pair.resume(id, b"def"), Poll::Ready(()));
    assert_eq!(pair.memory.completed.get(), pair.memory.tail.get());
}

#[test]
fn a_request_in_pieces_is_complete_before_a_write_ahead_of_it() {
    // observed 11.6, 10.10
    let mut pair = Pair::new(PipeType::Message, 4);
    let first = vec![1; 40_000];
    let a = pair.pending(&first);
    let request = vec![2; 100_000];
    let begun = pair.writer.begin(&pair.memory, &request, Charge::Uncharged);
    let Ok(Begun::Pending(b)) = begun else {
        panic!("{begun:?}");
    };
    assert_eq!(pair.read(38_000), part(&first[..38_000]));
    assert_eq!(pair.resume(a, &first), Poll::Pending);
    assert_eq!(pair.resume(b, &request), Poll::Ready(()));
    assert_eq!(pair.bequest(), [request]);
}

#[test]
fn a_write_that_was_only_half_marked_is_gone_whole() {
    let mut pair = Pair::new(PipeType::Message, 20_000);
    let long = vec![1; 39_000];
    pair.pending(&long);
    pair.pending(b"behind it");
    // It marks the last record first, and comes no further.
    let mut at = Pos(0);
    let mut header = Incoming::header(&pair.memory, at);
    while !header.has(record::LAST) {
        at.0 += header.size();
        header = Incoming::header(&pair.memory, at);
    }
    pair.memory.mark_withdrawn(at, header);
    assert_eq!(pair.bequest(), [b""; 0]);
}

#[test]
fn a_completion_beyond_the_tail_is_a_lie() {
    for completed in [4, 8, !7] {
        let mut pair = Pair::new(PipeType::Message, 4);
        pair.memory.completed.set(completed);
        let gone = pair.reader.writer_gone(&pair.memory);
        assert_eq!(gone, Err(Error::INVALID_DATA));
    }
}

#[test]
fn a_read_in_the_middle_of_a_write_that_is_gone_comes_to_the_end() {
    for refilled in [false, true] {
        let mut pair = Pair::new(PipeType::Message, 4);
        let long = vec![1; 300_000];
        let id = pair.pending(&long);
        let mut dst = vec![0; long.len()];
        let mut op = Reading::default();
        let lane = &pair.memory;
        let read = pair.reader.read(&mut op, lane, pair.mode, &mut dst);
        assert!(read == Ok(Poll::Pending) && op.filled() > 0);
        if refilled {
            assert_eq!(pair.resume(id, &long), Poll::Pending);
        }
        let lane = &pair.memory;
        pair.reader.writer_gone(lane).unwrap();
        let read = pair.reader.read(&mut op, lane, pair.mode, &mut dst);
        assert_eq!(read, Err(Error::BROKEN_PIPE));
    }
}
