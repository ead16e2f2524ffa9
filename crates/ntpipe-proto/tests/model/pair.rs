//! The engine's two ends beside the oracle: each step is taken by both, and both must agree.

use std::task::Poll;

use ntpipe_proto::lane::{
    Begun, Charge, Flush, OpId, Reader, Reading, Withdrawal, Writer, ring_capacity,
};
use ntpipe_proto::{Error, PipeType, ReadMode};

use crate::memory::Memory;
use crate::oracle::{Expected, Oracle};

/// An engine, an oracle, and what is under way.
pub(crate) struct Pair {
    memory: Memory,
    writer: Writer,
    reader: Reader,
    oracle: Oracle,
    pipe_type: PipeType,
    quota: u32,
    capacity: u64,
    /// Both ends are saved and restored between any two operations.
    moved: bool,
    /// The writes that the engine has not completed: its name, the oracle's, the bytes.
    pending: Vec<(OpId, usize, &'static [u8])>,
    /// Flushes, with the number of writes that each covers.
    flushes: Vec<(Flush, usize)>,
    waiting: Option<Waiting>,
    /// The ring may lack room for what the quota would take: until it has been resumed with room,
    /// the engine may be later than the oracle. It is never earlier.
    lags: bool,
}

/// A read that waits. There is one at most: the engine serves several in the order in which they
/// call it, which is up to their callers.
struct Waiting {
    op: Reading,
    mode: ReadMode,
    dst: Vec<u8>,
}

impl Pair {
    pub(crate) fn new(pipe_type: PipeType, quota: u32, moved: bool) -> Self {
        let capacity = ring_capacity(quota);
        Self {
            memory: Memory::new(capacity),
            writer: Writer::new(pipe_type, quota, capacity),
            reader: Reader::new(pipe_type, quota, capacity),
            oracle: Oracle::new(pipe_type, quota),
            pipe_type,
            quota,
            capacity,
            moved,
            pending: Vec::new(),
            flushes: Vec::new(),
            waiting: None,
            lags: false,
        }
    }

    pub(crate) fn write(&mut self, src: &'static [u8], charge: Charge) {
        let write = self.begin(src, charge);
        self.serve();
        self.expect_completion(write);
    }

    /// Writes without waiting.
    pub(crate) fn write_nowait(&mut self, src: &'static [u8]) {
        self.change_hands();
        let asked = (self.waiting.as_ref()).map_or(0, |read| read.dst.len() - read.op.filled());
        let expected = self.oracle.takes_nowait(count(src.len()), count(asked));
        let may_lack_room = self.lags || !self.oracle.fits_into(self.capacity, expected);
        if src.is_empty() && may_lack_room {
            return; // The result would not say whether there is an empty message now.
        }
        let written = self.writer.begin_nowait(&self.memory, src).unwrap();
        let all = count(written) == expected;
        let part = count(written) < expected && (written == 0 || self.pipe_type == PipeType::Byte);
        assert!(all || (may_lack_room && part), "{written} of {expected}");
        if written > 0 || src.is_empty() {
            self.oracle.wrote_nowait(&src[..written]);
            self.lags |= !self.oracle.fits_into(self.capacity, 0);
        }
        self.serve();
    }

    /// Gives every pending write its turn, and looks at all that can be seen without moving.
    pub(crate) fn settle(&mut self) {
        self.resume_all();
        self.lags = !self.oracle.fits_into(self.capacity, 0);
        for write in 0..self.oracle.written() {
            self.expect_completion(write);
        }
        let free = self.writer.free_quota(&self.memory);
        assert_eq!(free, Ok(self.oracle.free_quota()));
        for len in [0, 1] {
            let fits = !self.oracle.is_stalled() && self.oracle.free_quota() >= len;
            let len = usize::try_from(len).unwrap();
            let found = self.writer.fits(&self.memory, len).unwrap();
            assert!(
                found == fits || (self.lags && !found),
                "fits({len}) is {found}"
            );
        }
        self.poll_flushes();
    }

    pub(crate) fn resume(&mut self, which: usize) {
        let Some(&(id, write, src)) = self.choose(which) else {
            return;
        };
        self.resume_one(id, src);
        self.serve();
        self.expect_completion(write);
    }

    pub(crate) fn withdraw(&mut self, which: usize) {
        let Some(&(id, write, _)) = self.choose(which) else {
            return;
        };
        self.change_hands();
        let result = self.writer.withdraw(&self.memory, id).unwrap();
        self.pending.retain(|(other, ..)| *other != id);
        match result {
            Withdrawal::Completed => assert!(!self.oracle.withdraw(write), "{write} was pending"),
            Withdrawal::Withdrawn if self.lags => self.oracle.remove(write),
            Withdrawal::Withdrawn => assert!(self.oracle.withdraw(write), "{write} was complete"),
            Withdrawal::Contested => panic!("nobody reads at this moment"),
        }
    }

    pub(crate) fn flush(&mut self) {
        self.flushes
            .push((self.writer.flush(), self.oracle.written()));
    }

    pub(crate) fn forget_flush(&mut self) {
        if let Some((flush, _)) = self.flushes.pop() {
            self.writer.forget_flush(flush);
        }
    }

    /// Reads; on an empty lane it finds nothing and does not wait.
    pub(crate) fn read(&mut self, mode: ReadMode, room: usize) {
        if self.waiting.is_some() {
            return;
        }
        let mut read = Waiting::new(mode, room);
        assert_eq!(self.reader.is_empty(&self.memory), Ok(self.seems_empty()));
        if let Some(expected) = self.oracle.read(mode, room) {
            self.finish(&mut read, &expected);
        } else {
            assert_eq!(self.poll(&mut read), Ok(Poll::Pending));
            self.oracle.took(0);
        }
    }

    /// Reads; on an empty lane it waits.
    pub(crate) fn wait(&mut self, mode: ReadMode, room: usize) {
        self.read(mode, room);
        if self.waiting.is_none() && self.oracle.is_empty() && self.pending.is_empty() {
            let mut read = Waiting::new(mode, room);
            self.reader.ask(&self.memory, room);
            assert_eq!(self.poll(&mut read), Ok(Poll::Pending));
            self.oracle.took(0);
            self.waiting = Some(read);
        }
    }

    /// Gives the waiting read up.
    pub(crate) fn give_up(&mut self) {
        if let Some(mut read) = self.waiting.take() {
            self.reader.ask(&self.memory, 0);
            assert_eq!(self.poll(&mut read), Ok(Poll::Pending));
            self.reader.stop_asking(&self.memory);
        }
    }

    pub(crate) fn peek(&mut self, room: usize) {
        self.change_hands();
        let (bytes, expected) = self.oracle.peek(room);
        let mut dst = vec![0; room];
        let peek = self.reader.peek(&self.memory, &mut dst).unwrap();
        assert_eq!(peek.available, expected.available);
        if self.lags {
            assert!(bytes.starts_with(&dst[..peek.len]));
        } else {
            assert_eq!(peek, expected);
            assert!(dst[..peek.len] == bytes);
        }
    }

    /// Reads everything: all is complete then.
    pub(crate) fn drain(mut self) {
        self.give_up();
        let mode = self.natural_mode();
        while !self.oracle.is_empty() {
            self.read(mode, 1 << 20);
            self.settle();
        }
        self.read(mode, 1);
        self.settle();
        assert!(self.pending.is_empty() && self.flushes.is_empty());
    }

    /// The writer dies, perhaps right after another write that a waiting read has not seen yet.
    pub(crate) fn kill_writer(mut self, last: Option<&'static [u8]>) {
        let waiting = self.waiting.take();
        if let Some(src) = last {
            let write = self.begin(src, Charge::Charged);
            if let Some(read) = waiting {
                self.oracle.complete_writes(count(read.dst.len()));
            }
            self.expect_completion(write);
        }
        self.change_hands();
        self.reader.writer_gone(&self.memory).unwrap();
        self.oracle.writer_gone();
        if self.lags {
            // What had no room is lost, which the oracle does not know; it ends all the same.
            while self.poll(&mut Waiting::new(ReadMode::Byte, 1 << 20)) != Err(Error::BROKEN_PIPE) {
            }
            return;
        }
        let mode = self.natural_mode();
        while !self.oracle.is_empty() {
            self.peek(100);
            let room = if mode == ReadMode::Message {
                1000
            } else {
                1 << 20
            };
            self.read(mode, room);
        }
        for room in [0, 1] {
            let read = self.poll(&mut Waiting::new(mode, room));
            assert_eq!(read, Err(Error::BROKEN_PIPE));
            let peek = self.reader.peek(&self.memory, &mut [0; 8]);
            assert_eq!(peek, Err(Error::BROKEN_PIPE));
        }
    }

    /// The mode in which a reader of this pipe sees most.
    pub(crate) fn natural_mode(&self) -> ReadMode {
        match self.pipe_type {
            PipeType::Byte => ReadMode::Byte,
            PipeType::Message => ReadMode::Message,
        }
    }

    fn begin(&mut self, src: &'static [u8], charge: Charge) -> usize {
        self.change_hands();
        let begun = self.writer.begin(&self.memory, src, charge).unwrap();
        let write = self.oracle.write(src, charge);
        self.lags |= !self.oracle.fits_into(self.capacity, 0);
        if let Begun::Pending(id) = begun {
            self.pending.push((id, write, src));
        }
        write
    }

    fn resume_all(&mut self) {
        for (id, _, src) in self.pending.clone() {
            self.resume_one(id, src);
        }
        self.serve();
    }

    fn resume_one(&mut self, id: OpId, src: &[u8]) {
        self.change_hands();
        if self.writer.resume(&self.memory, id, src) == Ok(Poll::Ready(())) {
            self.pending.retain(|(other, ..)| *other != id);
        }
    }

    /// Lets a waiting read have what is there.
    fn serve(&mut self) {
        let Some(mut read) = self.waiting.take() else {
            return;
        };
        let Some(expected) = self.oracle.read(read.mode, read.dst.len()) else {
            assert_eq!(self.poll(&mut read), Ok(Poll::Pending));
            self.waiting = Some(read);
            return;
        };
        self.finish(&mut read, &expected);
        self.reader.stop_asking(&self.memory);
    }

    /// Reads what the oracle has read.
    fn finish(&mut self, read: &mut Waiting, expected: &Expected) {
        let mut turns = 0;
        let found = loop {
            if let Poll::Ready(found) = self.poll(read).unwrap() {
                break found;
            }
            // The rest of a message that is larger than the ring, or what had no room behind
            // writes that were withdrawn.
            assert!(self.lags && turns < 10_000, "{expected:?} is not there");
            turns += 1;
            for (id, _, src) in self.pending.clone() {
                self.resume_one(id, src);
            }
        };
        let bytes = &read.dst[..found.len];
        if self.lags && read.mode == ReadMode::Byte {
            assert!(expected.bytes.starts_with(bytes));
            assert!(!bytes.is_empty() || expected.bytes.is_empty());
        } else {
            assert!(bytes == expected.bytes, "other bytes or another boundary");
        }
        assert_eq!(found.more, expected.more);
        self.oracle.took(found.len);
    }

    fn poll(&mut self, read: &mut Waiting) -> Result<Poll<ntpipe_proto::lane::Read>, Error> {
        self.change_hands();
        self.reader
            .read(&mut read.op, &self.memory, read.mode, &mut read.dst)
    }

    /// Both ends are saved and go on as what was restored.
    fn change_hands(&mut self) {
        if !self.moved {
            return;
        }
        let mut saved = Vec::new();
        self.writer.save(&mut saved);
        self.writer = Writer::restore(self.pipe_type, self.quota, self.capacity, &saved).unwrap();
        let is_ours = |id| self.pending.iter().any(|(other, ..)| *other == id);
        assert!(self.writer.pending_ids().all(is_ours));
        saved.clear();
        self.reader.save(&mut saved);
        self.reader = Reader::restore(self.pipe_type, self.quota, self.capacity, &saved).unwrap();
    }

    fn poll_flushes(&mut self) {
        self.change_hands();
        for (flush, writes) in std::mem::take(&mut self.flushes) {
            let done = self
                .writer
                .poll_flush(&self.memory, flush)
                .unwrap()
                .is_ready();
            assert_eq!(done, self.oracle.has_passed(writes));
            if !done {
                self.flushes.push((flush, writes));
            }
        }
    }

    /// Whether the ring is empty; only for a lane that may lag the oracle does not know.
    fn seems_empty(&mut self) -> bool {
        if self.lags {
            self.reader.is_empty(&self.memory).unwrap()
        } else {
            self.oracle.is_empty()
        }
    }

    fn expect_completion(&self, write: usize) {
        let found = self.pending.iter().any(|(_, other, _)| *other == write);
        let expected = self.oracle.is_pending(write);
        assert!(
            found == expected || (self.lags && found),
            "write {write}: pending is {found}"
        );
    }

    fn choose(&self, which: usize) -> Option<&(OpId, usize, &'static [u8])> {
        self.pending.get(which % self.pending.len().max(1))
    }
}

impl Waiting {
    fn new(mode: ReadMode, room: usize) -> Self {
        Self {
            op: Reading::default(),
            mode,
            dst: vec![0; room],
        }
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap()
}
