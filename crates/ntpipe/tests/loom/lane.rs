//! A lane of loom's atomics, with the orderings of the product's own.

use loom::sync::atomic::AtomicU64;
use ntpipe_proto::lane::{Header, Incoming, Outgoing, Pos, Taken};

use crate::primitive::{Ordering, full_fence};

/// The size of the ring: a few records are enough.
pub(crate) const CAPACITY: u64 = 32;

pub(crate) struct Lane {
    /// The ring, in words of eight bytes.
    ring: [AtomicU64; 4],
    tail: AtomicU64,
    offered: AtomicU64,
    completed: AtomicU64,
    head: AtomicU64,
    consumed: AtomicU64,
    claim: AtomicU64,
    asked: AtomicU64,
}

impl Lane {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            ring: [(); 4].map(|()| zero()),
            tail: zero(),
            offered: zero(),
            completed: zero(),
            head: zero(),
            consumed: zero(),
            claim: zero(),
            asked: zero(),
        }
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        &self.ring[usize::try_from(at % CAPACITY / 8).unwrap()]
    }
}

fn word_of(header: Header) -> u64 {
    u64::from(header.len) | u64::from(header.flags) << 32
}

impl Outgoing for Lane {
    fn store_header(&self, at: Pos, header: Header) {
        self.word(at.0).store(word_of(header), Ordering::Relaxed);
    }

    fn store(&self, at: Pos, src: &[u8]) {
        for (from, bytes) in (at.0..).step_by(8).zip(src.chunks(8)) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            let word = u64::from_le_bytes(word);
            self.word(from).store(word, Ordering::Relaxed);
        }
    }

    fn mark_withdrawn(&self, at: Pos, header: Header) {
        self.store_header(at, header.withdrawn());
    }

    fn offer(&self, offered: u64) {
        self.offered.store(offered, Ordering::Relaxed);
    }

    fn publish(&self, tail: Pos) {
        self.tail.store(tail.0, Ordering::Release); // pairs with the Acquire in `tail`
    }

    fn complete(&self, to: Pos) {
        self.completed.store(to.0, Ordering::Release); // pairs with the Acquire in `completed`
    }

    fn taken(&self) -> Taken {
        // Both pair with the Releases in the reader's `publish`.
        let head = Pos(self.head.load(Ordering::Acquire));
        let consumed = self.consumed.load(Ordering::Acquire);
        Taken { head, consumed }
    }

    fn claim(&self) -> Pos {
        Pos(self.claim.load(Ordering::Acquire)) // pairs with the Release in the reader's `claim`
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire) // pairs with the Release in `ask`
    }

    fn lap(&self, _: u64) -> u64 {
        0
    }

    fn fence(&self) {
        full_fence();
    }
}

impl Incoming for Lane {
    fn tail(&self) -> Pos {
        Pos(self.tail.load(Ordering::Acquire)) // pairs with the Release in the writer's `publish`
    }

    fn completed(&self) -> Pos {
        // pairs with the Release in `complete`
        Pos(self.completed.load(Ordering::Acquire))
    }

    fn offered(&self) -> u64 {
        self.offered.load(Ordering::Relaxed)
    }

    fn header(&self, at: Pos) -> Header {
        let word = self.word(at.0).load(Ordering::Relaxed);
        Header {
            len: u32::try_from(word & u64::from(u32::MAX)).unwrap(),
            flags: u32::try_from(word >> 32).unwrap(),
        }
    }

    fn load(&self, at: Pos, dst: &mut [u8]) {
        for (from, byte) in (at.0..).zip(dst) {
            let word = self.word(from).load(Ordering::Relaxed).to_le_bytes();
            *byte = word[usize::try_from(from % 8).unwrap()];
        }
    }

    fn publish(&self, taken: Taken) {
        self.consumed.store(taken.consumed, Ordering::Release); // pairs with those in `taken`
        self.head.store(taken.head.0, Ordering::Release); // pairs with those in `taken`
    }

    fn claim(&self, to: Pos) {
        self.claim.store(to.0, Ordering::Release); // pairs with the Acquire in the writer's `claim`
    }

    fn ask(&self, bytes: u64) {
        self.asked.store(bytes, Ordering::Release); // pairs with the Acquire in `asked`
    }

    fn fence(&self) {
        full_fence();
    }
}
