//! One direction of a connected instance: records in a ring that two processes share.
//!
//! A lane has one writer end and one reader end, and each of the two runs its half of the engine:
//! [`Writer`] and [`Reader`] own their cursors and are handed the shared memory, as [`Outgoing`]
//! and [`Incoming`], on every call. A call either finishes or says *pending*: nothing more can be
//! done until the peer moves. How to wait for that is not the engine's business.
//!
//! ```text
//!            head (reader)                    tail (writer)
//!              v                                v
//!   ... taken  | record | record | record ...   |  free ...
//!              <------- at most `capacity` ----->
//! ```
//!
//! A writer that turns back early skips the rest of a lap, which counts as position and not as room.
//!
//! A record is eight bytes of header (length, flags) and its payload, padded to eight bytes; it
//! never crosses the end of the ring. One write is one or more records (`FIRST` .. `LAST`).
//!
//! Two counts decide what Windows promises. `offered` is the number of payload bytes that writes
//! have put in, whether or not all of it has found room in the ring; `consumed` is the number that
//! reads have taken. A write that ends at offset `E` is complete exactly when
//! `E - consumed <= quota + what a waiting read asks for` (observed 5, reference 2.5).
//!
//! Memory that the peer writes is hostile: each value is loaded once, checked and converted.

mod reader;
mod record;
#[cfg(test)]
mod tests;
mod words;
mod writer;

pub use reader::{Peek, Read, Reader, Reading};
pub use record::{FRAGMENT, HEADER, Header};
pub use writer::{Begun, Charge, Flush, OpId, Withdrawal, Writer};

use crate::Error;

/// A position in a lane: bytes since the lane began, record headers and padding included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pos(pub u64);

/// What the reader publishes, as the writer finds it: unchecked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Up to where the ring is free again.
    pub head: Pos,
    /// Payload bytes taken so far.
    pub consumed: u64,
}

/// The writer's view of a lane: its own pages, and what the reader tells in the reader's pages.
pub trait Outgoing {
    /// Stores the header of a record that is not published yet, or again without `WITHDRAWABLE`.
    fn store_header(&self, at: Pos, header: Header);
    /// Stores payload bytes of a record that is not published yet; never crosses the ring's end.
    fn store(&self, at: Pos, src: &[u8]);
    /// Marks a published record as withdrawn, with release ordering: after the marks before it.
    fn mark_withdrawn(&self, at: Pos, header: Header);
    /// Publishes the number of payload bytes that live writes have offered.
    fn offer(&self, offered: u64);
    /// Publishes everything before `tail`, with release ordering.
    fn publish(&self, tail: Pos);
    /// Publishes that the writes that had to wait and end at or before `to` are complete, unless
    /// they were withdrawn; with release ordering.
    fn complete(&self, to: Pos);
    /// What the reader has taken, with acquire ordering. Unchecked.
    fn taken(&self) -> Taken;
    /// Up to where the reader is taking bytes of a pending write right now. Unchecked.
    fn claim(&self) -> Pos;
    /// How many bytes all waiting reads ask for; 0 when none waits. Unchecked.
    fn asked(&self) -> u64;
    /// How far this writer may go from the ring's beginning while its reader is behind, before it turns
    /// back early; it has just written `step` bytes. Another answer changes what is fast, and nothing
    /// else.
    fn lap(&self, step: u64) -> u64;
    /// Orders the stores before it against the loads after it.
    fn fence(&self);
}

/// The reader's view of a lane: what the writer tells in its pages, and the reader's own pages.
pub trait Incoming {
    /// Up to where the writer has published, with acquire ordering. Unchecked.
    fn tail(&self) -> Pos;
    /// Up to where writes that had to wait are complete. Unchecked.
    fn completed(&self) -> Pos;
    /// The number of payload bytes that live writes have offered. Unchecked.
    fn offered(&self) -> u64;
    /// The header of the record at `at`, its flags with acquire ordering. Unchecked.
    fn header(&self, at: Pos) -> Header;
    /// Copies payload bytes out; never crosses the ring's end.
    fn load(&self, at: Pos, dst: &mut [u8]);
    /// Publishes how far this reader has come, with release ordering.
    fn publish(&self, taken: Taken);
    /// Publishes that the bytes before `to` are being taken.
    fn claim(&self, to: Pos);
    /// Publishes how many bytes all waiting reads ask for.
    fn ask(&self, bytes: u64);
    /// Orders the stores before it against the loads after it.
    fn fence(&self);
    /// Whether a read of bytes pauses when it has taken the last ones of a write that can be
    /// withdrawn: it returns then with what it has, and goes on when it is called again.
    ///
    /// For an end of several processes, which publishes only when its state is saved: of what was
    /// taken and not published, the claim can protect no more than one write.
    fn pauses(&self) -> bool {
        false
    }
}

/// The error of a peer whose shared memory contradicts itself; the lane is dead from then on.
const CORRUPT: Error = Error::INVALID_DATA;

/// The smallest ring.
const MIN_RING: u64 = 64 * 1024;
/// Up to this size a ring has room for a quota full of one-byte messages.
const ROOMY_RING: u64 = 64 * 1024 * 1024;

/// The size of the ring that a lane with this quota gets: a power of two.
///
/// A one-byte message takes sixteen bytes of ring, and writes that fit the quota must complete at
/// once (observed 5.1), so that the ring is sixteen times the quota as far as that is affordable,
/// and always at least twice the quota. Pages that are never touched cost nothing.
#[must_use]
pub fn ring_capacity(quota: u32) -> u64 {
    let quota = u64::from(quota);
    let roomy = (quota * 16 + MIN_RING).min(ROOMY_RING);
    roomy.max(quota * 2).next_power_of_two()
}

/// The most that is kept of a ring for writes that never wait: it holds some requests of usual
/// size, and a large write that can't use it still has three quarters of the smallest ring.
const MAX_RESERVE: u64 = 64 * 1024;

/// What a write that has to wait leaves free of a ring.
fn reserve(capacity: u64) -> u64 {
    MAX_RESERVE.min(capacity / 4)
}

/// A length of shared memory as an index of this process.
fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// A length of this process as a count in shared memory.
fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// The next multiple of eight.
fn padded(n: u64) -> u64 {
    (n + 7) & !7
}
