//! Writes that don't wait (observed 6, reference 2.5).

use super::*;

const QUOTA: u32 = 512;
const TYPES: [PipeType; 2] = [PipeType::Byte, PipeType::Message];

impl Pair {
    /// The bytes that were written of `len`; nothing pends after it.
    fn write_nowait(&mut self, len: usize) -> usize {
        let src: Vec<u8> = (0..len).map(|i| i.to_le_bytes()[0]).collect();
        let written = self.writer.begin_nowait(&self.memory, &src).unwrap();
        assert_eq!(self.writer.pending_ids().next(), None);
        written
    }

    fn available(&mut self) -> u64 {
        self.peek(0).1.available
    }

    /// A read of `len` bytes waits.
    fn wait(&mut self, len: usize) {
        assert_eq!(self.read(len), Poll::Pending);
        self.reader.ask(&self.memory, len);
        assert_eq!(self.read(len), Poll::Pending);
    }
}

#[test]
fn a_read_of_an_empty_pipe_leaves_nothing_behind() {
    // observed 6.1, 6.2
    for pipe_type in TYPES {
        let mut pair = Pair::new(pipe_type, 0);
        assert_eq!(pair.read(10), Poll::Pending);
        assert_eq!(pair.memory.asked.get(), 0);
        pair.pending(b"data");
        assert_eq!(pair.read(10), some(b"data"));
    }
}

#[test]
fn one_byte_more_than_the_free_quota_writes_nothing() {
    // observed 6.3
    for pipe_type in TYPES {
        let mut pair = Pair::new(pipe_type, QUOTA);
        assert_eq!(pair.write_nowait(513), 0);
        assert_eq!(pair.available(), 0);
        assert_eq!(pair.write_nowait(500), 500);
        assert_eq!(pair.write_nowait(13), 0);
        assert_eq!(pair.available(), 500);
        assert_eq!(pair.write_nowait(12), 12);
    }
}

#[test]
fn exactly_the_free_quota_is_written() {
    // observed 6.4
    for pipe_type in TYPES {
        let mut pair = Pair::new(pipe_type, QUOTA);
        assert_eq!(pair.write_nowait(512), 512);
        assert_eq!(pair.write_nowait(1), 0);
        let Poll::Ready((bytes, false)) = pair.read(600) else {
            panic!("it is there");
        };
        assert_eq!(bytes.len(), 512);
    }
}

#[test]
fn a_waiting_read_takes_more_than_the_quota() {
    // observed 6.5
    for pipe_type in TYPES {
        let mut pair = Pair::new(pipe_type, QUOTA);
        pair.wait(32768);
        assert_eq!(pair.write_nowait(513), 513);
        assert!(pair.read(32768).is_ready());
        let mut pair = Pair::new(pipe_type, QUOTA);
        pair.wait(32768);
        assert_eq!(pair.write_nowait(32768 + 512), 32768 + 512);
        assert!(pair.read(32768).is_ready());
        assert_eq!(pair.available(), 512);
    }
}

#[test]
fn what_a_waiting_read_leaves_is_written_if_it_fits() {
    // observed 6.6
    for pipe_type in TYPES {
        let mut pair = Pair::new(pipe_type, QUOTA);
        pair.wait(1);
        assert_eq!(pair.write_nowait(513), 513);
        assert!(pair.read(1).is_ready());
        assert_eq!(pair.available(), 512);
    }
}

#[test]
fn what_does_not_fit_behind_a_waiting_read_is_dropped_from_a_byte_pipe() {
    // observed 6.7
    let mut pair = Pair::new(PipeType::Byte, QUOTA);
    pair.wait(1);
    assert_eq!(pair.write_nowait(514), 1);
    assert_eq!(pair.read(1), some(&[0]));
    assert_eq!(pair.available(), 0);
}

#[test]
fn a_message_that_does_not_fit_leaves_the_waiting_read_alone() {
    // observed 6.8
    let mut pair = Pair::new(PipeType::Message, QUOTA);
    pair.wait(1);
    assert_eq!(pair.write_nowait(514), 0);
    assert_eq!(pair.read(1), Poll::Pending);
    assert_eq!(pair.memory.asked.get(), 1);
    assert_eq!(pair.write_nowait(513), 513);
}

#[test]
fn several_waiting_reads_count_together() {
    let mut pair = Pair::new(PipeType::Message, 0);
    pair.wait(3 + 4);
    assert_eq!(pair.write_nowait(8), 0);
    assert_eq!(pair.write_nowait(7), 7);
    // They are spoken for now.
    assert_eq!(pair.write_nowait(1), 0);
}

#[test]
fn a_write_of_nothing_is_a_message_without_waiting() {
    // observed 5.4
    let mut pair = Pair::new(PipeType::Message, 0);
    assert_eq!(pair.write_nowait(0), 0);
    assert_eq!(pair.read(1), some(b""));
    let mut pair = Pair::new(PipeType::Byte, 0);
    assert_eq!(pair.write_nowait(0), 0);
    assert_eq!(pair.read(1), Poll::Pending);
}

#[test]
fn it_does_not_overtake_a_write_that_waits() {
    let mut pair = Pair::new(PipeType::Byte, QUOTA);
    let src = [1; 600];
    let id = pair.pending(&src);
    let written = pair.writer.begin_nowait(&pair.memory, b"x");
    assert_eq!(written, Ok(0));
    assert!(pair.read(100).is_ready());
    assert_eq!(pair.write_nowait(12), 12, "512 minus the 500 left");
    assert_eq!(pair.resume(id, &src), Poll::Ready(()));
}

#[test]
fn what_has_no_room_in_the_ring_is_not_written() {
    let ring = usize::try_from(ring_capacity(0)).unwrap();
    let mut pair = Pair::new(PipeType::Message, 0);
    pair.wait(10 * ring);
    assert_eq!(pair.write_nowait(2 * ring), 0);
    assert_eq!(pair.available(), 0);
    let mut pair = Pair::new(PipeType::Byte, 0);
    pair.wait(10 * ring);
    let written = pair.write_nowait(2 * ring);
    assert!(written > ring / 2 && written < ring, "{written} of {ring}");
    assert!(pair.read(10 * ring).is_ready());

    // Withdrawn records that no read has passed hold the ring.
    let mut pair = Pair::new(PipeType::Message, 0);
    let long = vec![1; 2 * ring];
    let id = pair.pending(&long);
    assert_eq!(
        pair.writer.withdraw(&pair.memory, id),
        Ok(Withdrawal::Withdrawn)
    );
    pair.reader.ask(&pair.memory, 20_000);
    assert_eq!(pair.write_nowait(20_000), 0);
    assert_eq!(pair.read(20_000), Poll::Pending);
    assert_eq!(pair.write_nowait(20_000), 20_000);
}

#[test]
fn it_outlives_its_writer() {
    let mut pair = Pair::new(PipeType::Message, QUOTA);
    pair.wait(1000);
    assert_eq!(pair.write_nowait(1512), 1512);
    pair.reader.ask(&pair.memory, 0);
    pair.reader.writer_gone(&pair.memory).unwrap();
    assert_eq!(pair.available(), 1512);
}
