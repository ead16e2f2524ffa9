//! A lane in the memory of one process, for tests of the engine.

use std::cell::{Cell, RefCell};

use ntpipe_proto::lane::{Header, Incoming, Outgoing, Pos, Taken};

/// Both views of a lane over plain memory.
#[derive(Default)]
pub(crate) struct Memory {
    ring: RefCell<Vec<u8>>,
    pub(crate) tail: Cell<u64>,
    pub(crate) offered: Cell<u64>,
    pub(crate) completed: Cell<u64>,
    pub(crate) taken: Cell<Taken>,
    pub(crate) claim: Cell<u64>,
    pub(crate) asked: Cell<u64>,
    /// How far the writer may go.
    pub(crate) lap: Cell<u64>,
    /// Where records were marked as withdrawn, in order.
    pub(crate) marks: RefCell<Vec<u64>>,
}

impl Memory {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            ring: RefCell::new(vec![0; usize::try_from(capacity).unwrap()]),
            ..Self::default()
        }
    }

    fn at(&self, at: Pos) -> usize {
        usize::try_from(at.0).unwrap() & (self.ring.borrow().len() - 1)
    }
}

impl Outgoing for Memory {
    fn store_header(&self, at: Pos, header: Header) {
        let word = u64::from(header.len) | (u64::from(header.flags) << 32);
        Outgoing::store(self, at, &word.to_le_bytes());
    }

    fn store(&self, at: Pos, src: &[u8]) {
        let at = self.at(at);
        self.ring.borrow_mut()[at..at + src.len()].copy_from_slice(src);
    }

    fn mark_withdrawn(&self, at: Pos, header: Header) {
        self.marks.borrow_mut().push(at.0);
        self.store_header(at, header.withdrawn());
    }

    fn offer(&self, offered: u64) {
        self.offered.set(offered);
    }

    fn publish(&self, tail: Pos) {
        self.tail.set(tail.0);
    }

    fn complete(&self, to: Pos) {
        assert!(to.0 > self.completed.replace(to.0), "told twice");
    }

    fn taken(&self) -> Taken {
        self.taken.get()
    }

    fn claim(&self) -> Pos {
        Pos(self.claim.get())
    }

    fn asked(&self) -> u64 {
        self.asked.get()
    }

    fn lap(&self, _: u64) -> u64 {
        self.lap.get()
    }

    fn fence(&self) {}
}

impl Incoming for Memory {
    fn tail(&self) -> Pos {
        Pos(self.tail.get())
    }

    fn completed(&self) -> Pos {
        Pos(self.completed.get())
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
        let at = self.at(at);
        dst.copy_from_slice(&self.ring.borrow()[at..at + dst.len()]);
    }

    fn publish(&self, taken: Taken) {
        self.taken.set(taken);
    }

    fn claim(&self, to: Pos) {
        self.claim.set(to.0);
    }

    fn ask(&self, bytes: u64) {
        self.asked.set(bytes);
    }

    fn fence(&self) {}
}
