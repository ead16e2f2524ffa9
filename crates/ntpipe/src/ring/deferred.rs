//! A lane of an end that several processes hold: what it tells the peer waits for the commit.
//!
//! The engine runs as ever, but here its publications are only noted. The caller first saves the
//! engine's state where the other holders find it, and then [tells](DeferredIn::tell) the peer. A
//! holder that dies in between is followed by one that finds the state and tells the same again.
//!
//! What can't wait goes through at once: payload and headers behind the published tail, which
//! nobody reads yet; the reader's claim and the writer's marks, which the other side must see
//! before a look at it; and what a waiting read asks for.

use std::cell::{Cell, RefCell};

use ntpipe_proto::lane::{Header, Incoming, Outgoing, Pos, Taken};

use super::Link;

/// All that the reader of an end has published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadSoFar {
    pub(crate) taken: Taken,
    pub(crate) claim: Pos,
    pub(crate) asked: u64,
}

/// All that the writer of an end has published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WrittenSoFar {
    pub(crate) tail: Pos,
    pub(crate) offered: u64,
    pub(crate) completed: Pos,
}

impl ReadSoFar {
    pub(crate) fn to_words(self) -> [u64; 4] {
        let Taken { head, consumed } = self.taken;
        [head.0, consumed, self.claim.0, self.asked]
    }

    pub(crate) fn from_words([head, consumed, claim, asked]: [u64; 4]) -> Self {
        let head = Pos(head);
        Self {
            taken: Taken { head, consumed },
            claim: Pos(claim),
            asked,
        }
    }

    /// Tells the peer, perhaps once more.
    pub(crate) fn tell(&self, link: &Link) {
        // A lowered question before the bytes that it was about: they must not count twice.
        Incoming::ask(link, self.asked);
        Incoming::publish(link, self.taken);
        Incoming::claim(link, self.claim);
    }
}

impl WrittenSoFar {
    pub(crate) fn to_words(self) -> [u64; 3] {
        [self.tail.0, self.offered, self.completed.0]
    }

    pub(crate) fn from_words([tail, offered, completed]: [u64; 3]) -> Self {
        Self {
            tail: Pos(tail),
            offered,
            completed: Pos(completed),
        }
    }

    /// Tells the peer, perhaps once more.
    pub(crate) fn tell(&self, link: &Link) {
        Outgoing::offer(link, self.offered);
        Outgoing::publish(link, self.tail);
        Outgoing::complete(link, self.completed);
    }
}

/// The lane that a shared end reads.
pub(crate) struct DeferredIn<'a> {
    link: &'a Link,
    so_far: Cell<ReadSoFar>,
    /// Something was taken that the peer does not know of.
    has_taken: Cell<bool>,
}

impl<'a> DeferredIn<'a> {
    pub(crate) fn new(link: &'a Link, so_far: ReadSoFar) -> Self {
        Self {
            link,
            so_far: Cell::new(so_far),
            has_taken: Cell::new(false),
        }
    }

    /// What the peer is to know.
    pub(crate) fn so_far(&self) -> ReadSoFar {
        self.so_far.get()
    }

    /// Tells the peer; the engine's state has been saved.
    pub(crate) fn tell(&self) {
        self.so_far.get().tell(self.link);
    }

    fn note(&self, change: impl FnOnce(&mut ReadSoFar)) {
        let mut so_far = self.so_far.get();
        change(&mut so_far);
        self.so_far.set(so_far);
    }
}

impl Incoming for DeferredIn<'_> {
    fn tail(&self) -> Pos {
        Incoming::tail(self.link)
    }

    fn completed(&self) -> Pos {
        Incoming::completed(self.link)
    }

    fn offered(&self) -> u64 {
        Incoming::offered(self.link)
    }

    fn header(&self, at: Pos) -> Header {
        Incoming::header(self.link, at)
    }

    fn load(&self, at: Pos, dst: &mut [u8]) {
        Incoming::load(self.link, at, dst);
    }

    fn publish(&self, taken: Taken) {
        self.note(|so_far| so_far.taken = taken);
        self.has_taken.set(true);
    }

    fn claim(&self, to: Pos) {
        // Set back, it must not be seen before what was taken under it.
        if self.has_taken.get() && to <= self.so_far.get().taken.head {
            self.note(|so_far| so_far.claim = to);
        } else {
            Incoming::claim(self.link, to);
        }
    }

    fn ask(&self, bytes: u64) {
        self.note(|so_far| so_far.asked = bytes);
        Incoming::ask(self.link, bytes);
    }

    fn fence(&self) {
        Incoming::fence(self.link);
    }

    fn pauses(&self) -> bool {
        true
    }
}

/// The lane that a shared end writes.
pub(crate) struct DeferredOut<'a> {
    link: &'a Link,
    before: WrittenSoFar,
    so_far: Cell<WrittenSoFar>,
    /// Headers of published records that are to be changed.
    again: RefCell<Vec<(Pos, Header)>>,
}

impl<'a> DeferredOut<'a> {
    pub(crate) fn new(link: &'a Link, so_far: WrittenSoFar) -> Self {
        Self {
            link,
            before: so_far,
            so_far: Cell::new(so_far),
            again: RefCell::default(),
        }
    }

    /// What the peer is to know.
    pub(crate) fn so_far(&self) -> WrittenSoFar {
        self.so_far.get()
    }

    /// Tells the peer; the engine's state has been saved.
    pub(crate) fn tell(&self) {
        // Without these it takes such records for ones that can be withdrawn, which does no harm.
        for (at, header) in self.again.borrow().iter() {
            Outgoing::store_header(self.link, *at, *header);
        }
        self.so_far.get().tell(self.link);
    }

    fn note(&self, change: impl FnOnce(&mut WrittenSoFar)) {
        let mut so_far = self.so_far.get();
        change(&mut so_far);
        self.so_far.set(so_far);
    }
}

impl Outgoing for DeferredOut<'_> {
    fn store_header(&self, at: Pos, header: Header) {
        if at < self.before.tail {
            self.again.borrow_mut().push((at, header));
        } else {
            Outgoing::store_header(self.link, at, header);
        }
    }

    fn store(&self, at: Pos, src: &[u8]) {
        Outgoing::store(self.link, at, src);
    }

    fn mark_withdrawn(&self, at: Pos, header: Header) {
        Outgoing::mark_withdrawn(self.link, at, header);
    }

    fn offer(&self, offered: u64) {
        self.note(|so_far| so_far.offered = offered);
    }

    fn publish(&self, tail: Pos) {
        self.note(|so_far| so_far.tail = tail);
    }

    fn complete(&self, to: Pos) {
        self.note(|so_far| so_far.completed = to);
    }

    fn taken(&self) -> Taken {
        Outgoing::taken(self.link)
    }

    fn claim(&self) -> Pos {
        Outgoing::claim(self.link)
    }

    fn asked(&self) -> u64 {
        // Who asks must have been able to see what it pays for: the caller comes again after it has
        // told of that.
        if self.so_far.get().tail == self.before.tail {
            Outgoing::asked(self.link)
        } else {
            0
        }
    }

    fn lap(&self, step: u64) -> u64 {
        Outgoing::lap(self.link, step)
    }

    fn fence(&self) {
        Outgoing::fence(self.link);
    }
}
