//! Lanes over plain memory.

use std::cell::{Cell, RefCell};

use ntpipe_proto::lane::{Header, Incoming, Outgoing, Pos, Reader, Taken, Writer, ring_capacity};
use ntpipe_proto::{End, PipeType, Quotas};

/// The two lanes of one connection.
#[derive(Debug)]
pub(super) struct Link {
    inbound: Lane,
    outbound: Lane,
}

impl Link {
    pub(super) fn new(pipe_type: PipeType, quotas: Quotas) -> Self {
        Self {
            inbound: Lane::new(pipe_type, quotas.inbound),
            outbound: Lane::new(pipe_type, quotas.outbound),
        }
    }

    /// The lane that this end writes.
    pub(super) fn written_by(&mut self, end: End) -> &mut Lane {
        match end {
            End::Server => &mut self.outbound,
            End::Client => &mut self.inbound,
        }
    }

    /// The lane that this end reads.
    pub(super) fn read_by(&mut self, end: End) -> &mut Lane {
        self.written_by(end.peer())
    }
}

/// One direction of a connection: the engine's two halves, and the memory between them.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) memory: Memory,
    pub(super) writer: Writer,
    pub(super) reader: Reader,
}

impl Lane {
    fn new(pipe_type: PipeType, quota: u32) -> Self {
        let capacity = ring_capacity(quota);
        Self {
            memory: Memory::new(capacity),
            writer: Writer::new(pipe_type, quota, capacity),
            reader: Reader::new(pipe_type, quota, capacity),
        }
    }
}

/// What the two halves of a lane share.
#[derive(Debug, Default)]
pub(super) struct Memory {
    ring: RefCell<Vec<u8>>,
    mask: u64,
    tail: Cell<Pos>,
    offered: Cell<u64>,
    completed: Cell<Pos>,
    taken: Cell<Taken>,
    claim: Cell<Pos>,
    asked: Cell<u64>,
}

impl Memory {
    fn new(capacity: u64) -> Self {
        let len = usize::try_from(capacity).unwrap_or(usize::MAX);
        Self {
            ring: RefCell::new(vec![0; len]),
            mask: capacity - 1,
            ..Self::default()
        }
    }

    /// Where a record's part lies; the engine keeps records within the ring.
    fn range(&self, at: Pos, len: usize) -> core::ops::Range<usize> {
        let start = usize::try_from(at.0 & self.mask).unwrap_or(usize::MAX);
        start..start.saturating_add(len)
    }

    fn copy_in(&self, at: Pos, src: &[u8]) {
        if let Some(part) = self.ring.borrow_mut().get_mut(self.range(at, src.len())) {
            part.copy_from_slice(src);
        }
    }
}

impl Outgoing for Memory {
    fn store_header(&self, at: Pos, header: Header) {
        let word = u64::from(header.len) | (u64::from(header.flags) << 32);
        self.copy_in(at, &word.to_le_bytes());
    }

    fn store(&self, at: Pos, src: &[u8]) {
        self.copy_in(at, src);
    }

    fn mark_withdrawn(&self, at: Pos, header: Header) {
        self.store_header(at, header.withdrawn());
    }

    fn offer(&self, offered: u64) {
        self.offered.set(offered);
    }

    fn publish(&self, tail: Pos) {
        self.tail.set(tail);
    }

    fn complete(&self, to: Pos) {
        self.completed.set(to);
    }

    fn taken(&self) -> Taken {
        self.taken.get()
    }

    fn claim(&self) -> Pos {
        self.claim.get()
    }

    fn asked(&self) -> u64 {
        self.asked.get()
    }

    fn lap(&self, _: u64) -> u64 {
        0
    }

    fn fence(&self) {}
}

impl Incoming for Memory {
    fn tail(&self) -> Pos {
        self.tail.get()
    }

    fn completed(&self) -> Pos {
        self.completed.get()
    }

    fn offered(&self) -> u64 {
        self.offered.get()
    }

    fn header(&self, at: Pos) -> Header {
        let mut words = [[0; 4]; 2];
        self.load(at, words.as_flattened_mut());
        let [len, flags] = words.map(u32::from_le_bytes);
        Header { len, flags }
    }

    fn load(&self, at: Pos, dst: &mut [u8]) {
        if let Some(part) = self.ring.borrow().get(self.range(at, dst.len())) {
            dst.copy_from_slice(part);
        }
    }

    fn publish(&self, taken: Taken) {
        self.taken.set(taken);
    }

    fn claim(&self, to: Pos) {
        self.claim.set(to);
    }

    fn ask(&self, bytes: u64) {
        self.asked.set(bytes);
    }

    fn fence(&self) {}
}
