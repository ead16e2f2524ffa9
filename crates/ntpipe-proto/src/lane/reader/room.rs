//! How much room the writer has while the reader keeps what it reads to itself.

use super::super::record::SKIP;
use super::super::{FRAGMENT, HEADER, Incoming, Pos, padded, reserve};
use super::Reader;

/// What a writer needs to store a further piece, beside what it leaves free: the piece, and what is
/// lost where the ring ends.
const PIECE: u64 = 2 * FRAGMENT;

impl Reader {
    /// Whether the writer can go on with a write although everything from `from` on stays in the
    /// ring.
    ///
    /// In doubt the answer is no: a reader that waited in vain would wait for ever.
    pub fn leaves_room(&self, lane: &impl Incoming, from: Pos) -> bool {
        let Some((unread, skipped)) = self.walk(lane, from.0) else {
            return false;
        };
        // What lies between two parts that are free is lost once more.
        let lost = if skipped > 0 { 2 * FRAGMENT } else { 0 };
        let free = self.capacity.saturating_sub(unread);
        free > reserve(self.capacity) + PIECE + lost
    }

    /// The bytes in use from `from` to the tail, and those that are skipped between. What leads round
    /// what was not read is in use: it is lost to the writer until the reader has passed it, however
    /// much of that has been read since.
    fn walk(&self, lane: &impl Incoming, from: u64) -> Option<(u64, u64)> {
        let (mut at, mut unread, mut skipped) = (from, 0_u64, 0_u64);
        while at < self.tail {
            let header = lane.header(Pos(at));
            let lap_end = (at | (self.capacity - 1)) + 1;
            let (to, is_free) = match (header.has(SKIP), header.len) {
                (true, 0) => (lap_end, true),
                (true, len) => (at + HEADER + padded(len.into()), false),
                (false, _) => (at + header.size(), false),
            };
            if !header.is_known() || to > lap_end || to > self.tail {
                return None;
            }
            match is_free {
                true => skipped += to - at,
                false => unread += to - at,
            }
            at = to;
        }
        Some((unread, skipped))
    }
}
