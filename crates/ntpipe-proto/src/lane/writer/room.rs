//! Where the next record goes in the ring, and how much of the ring is free.
//!
//! A writer turns back early when the reader has left the ring's beginning: at once if it has caught
//! up, so that a pipe with little to do takes little memory; if there is always something to read, when
//! it has gone so far that its part of the caches is full. Else it goes round the whole ring.
//!
//! Until the reader has followed, what it has not read lies between two parts that are free:
//!
//! ```text
//!   0          tail             head        turned            capacity
//!   | this lap .. | free, near    | not read  SKIP | free, far    |
//! ```
//!
//! If the near part is used up, another SKIP of just that length leads round what is not read.

use super::super::record::{SKIP, TOTAL};
use super::super::{CORRUPT, FRAGMENT, HEADER, Header, Outgoing, Pos, padded};
use super::{MIN_PIECE, Writer};
use crate::Error;

/// The first place at which a writer may turn back early; further on with large quotas.
const MIN_TURN: u64 = 64 * 1024;
/// So often it asks how far it may go.
const STEP: u64 = 64 * 1024;
/// No early turn behind this place: what leads round it has a length of 32 bits.
const MAX_TURN: u64 = 1 << 31;
/// The room that a message of one byte takes.
const ONE_BYTE: u64 = 2 * HEADER;
/// What may be lost at the end of the near part: all but one of the bytes of the largest record.
const LOSS: u64 = HEADER + TOTAL + FRAGMENT;

/// The place in the ring from which on a writer with this quota may turn back early.
pub(super) fn first_turn(quota: u32) -> u64 {
    MIN_TURN.max(quota.into())
}

/// The ring space with which a write of `len` bytes is sure to be stored whole.
pub(super) fn room_for(len: u64) -> u64 {
    let records = len / MIN_PIECE + 3;
    len + records * (HEADER + TOTAL + 8) + FRAGMENT + HEADER
}

/// Where a record can be stored.
#[derive(Clone, Copy)]
enum Place {
    AtTail,
    /// At the beginning of the ring, although there is room before.
    Turning,
    /// Behind a SKIP that ends at this position.
    Behind(u64),
}

impl Writer {
    /// Sees to it that a record of `need` bytes has room at the tail, in one piece, and that `keep`
    /// bytes remain free. It begins what is left of a write: `rest` bytes.
    #[inline]
    pub(super) fn make_room(
        &mut self,
        lane: &impl Outgoing,
        need: u64,
        rest: u64,
        keep: u64,
    ) -> Result<bool, Error> {
        let need = padded(need);
        let offset = self.tail & (self.capacity - 1);
        // Whether it gets beyond a fragment's worth.
        if offset ^ (offset + need) >= FRAGMENT {
            self.look_around(lane, offset, need)?;
        }
        let mut place = self.place(need, rest, keep);
        if place.is_none() {
            self.refresh(lane)?;
            place = self.place(need, rest, keep);
        }
        match place {
            None => return Ok(false),
            Some(Place::AtTail) => {}
            Some(Place::Turning) => {
                self.turned = self.tail + HEADER;
                self.skip_to(lane, self.lap_end());
            }
            Some(Place::Behind(to)) => self.skip_to(lane, to),
        }
        Ok(true)
    }

    /// Looks now and then how far the reader has come, so that it turns back when that is possible and
    /// soon knows when the reader has followed; and how far it may go.
    #[cold]
    fn look_around(&mut self, lane: &impl Outgoing, at: u64, need: u64) -> Result<(), Error> {
        if self.turned > 0 || at >= self.turn {
            self.refresh(lane)?;
        }
        if self.turned == 0 && at / STEP != (at + need) / STEP {
            self.lap = lane.lap(STEP);
        }
        Ok(())
    }

    fn place(&self, need: u64, rest: u64, keep: u64) -> Option<Place> {
        if self.turned > 0 {
            return self.place_after_turn(need, keep);
        }
        let lap = self.lap_end() - self.tail;
        let free = self.free();
        if lap < need {
            return (free >= lap + need + keep).then_some(Place::Behind(self.tail + lap));
        }
        if self.may_turn(need, rest, keep) {
            return Some(Place::Turning);
        }
        (free >= need + keep).then_some(Place::AtTail)
    }

    #[cold]
    fn place_after_turn(&self, need: u64, keep: u64) -> Option<Place> {
        if self.near().is_some_and(|near| near >= need) {
            return (self.free() >= need + keep).then_some(Place::AtTail);
        }
        let is_near = self.near().is_some();
        let far = self.far();
        let place = match is_near {
            true => Place::Behind(self.turned + self.capacity),
            false => Place::AtTail,
        };
        (far >= need + keep).then_some(place)
    }

    /// Stores a SKIP at the tail that ends at `to`.
    fn skip_to(&mut self, lane: &impl Outgoing, to: u64) {
        let len = match to.is_multiple_of(self.capacity) {
            true => 0,
            false => u32::try_from(to - self.tail - HEADER).unwrap_or(0),
        };
        lane.store_header(Pos(self.tail), Header { len, flags: SKIP });
        self.tail = to;
    }

    /// The bytes in one piece at the tail, if `keep` bytes are to remain free.
    pub(super) fn room(&self, keep: u64) -> u64 {
        let piece = self.piece();
        self.free().saturating_sub(keep).min(piece)
    }

    /// The bytes from the tail up to where the next SKIP has to be.
    pub(super) fn piece(&self) -> u64 {
        let lap = self.lap_end() - self.tail;
        match self.turned {
            0 => lap,
            _ => self.near().unwrap_or(lap),
        }
    }

    /// The bytes of the ring that are free and sure to be of use for a record of any length.
    pub(super) fn free(&self) -> u64 {
        if self.turned == 0 {
            return self.capacity - (self.tail - self.taken.head.0);
        }
        match self.near() {
            Some(near) => near + self.far().saturating_sub(LOSS),
            None => self.far(),
        }
    }

    /// Whether a write of `len` bytes is sure to go into the ring whole, now.
    pub(super) fn has_room_for(&self, len: u64) -> bool {
        room_for(len) <= self.free()
    }

    /// The end of the ring, as the position that follows the tail.
    fn lap_end(&self) -> u64 {
        (self.tail | (self.capacity - 1)) + 1
    }

    /// After an early turn: the bytes from the tail up to what is not read, without a SKIP that
    /// leads round it. `None` if the tail is past that.
    fn near(&self) -> Option<u64> {
        let wall = (self.taken.head.0 + self.capacity) & !(HEADER - 1);
        let is_before = self.tail < self.turned + self.capacity;
        is_before.then(|| wall.saturating_sub(self.tail + HEADER))
    }

    /// After an early turn: the bytes that are free behind what is not read.
    fn far(&self) -> u64 {
        let from = self.tail.max(self.turned + self.capacity);
        let to = ((self.turned - 1) | (self.capacity - 1)) + 1 + self.capacity;
        to.saturating_sub(from)
    }

    /// Whether the reader has left the ring's beginning, and there is no less room then for the rest
    /// of this write, and for whatever the quota takes, be it in messages of one byte.
    fn may_turn(&self, need: u64, rest: u64, keep: u64) -> bool {
        let offset = self.tail & (self.capacity - 1);
        if offset < self.turn || offset > MAX_TURN {
            return false;
        }
        let left = self.taken.head.0.saturating_sub(self.tail - offset);
        // What is led round is lost until the reader has gone the same way.
        let unread = self.tail - self.taken.head.0 + HEADER;
        let has_caught_up = unread == HEADER;
        let wanted = room_for(rest) + keep + self.quota * ONE_BYTE;
        (has_caught_up || offset >= self.lap)
            && left >= (self.turn / 2).max(need + 2 * HEADER)
            && self.capacity >= unread + LOSS + HEADER + wanted
    }

    /// Whether tail, head and an early turn can have come about.
    pub(super) fn is_placed(&self) -> bool {
        let head = self.taken.head.0;
        if self.turned == 0 {
            return self.tail - head <= self.capacity;
        }
        let lap = (self.turned - 1) | (self.capacity - 1);
        head + HEADER <= self.turned && (lap..=lap + 1 + self.capacity).contains(&self.tail)
    }

    /// Looks whether a reader that has come to `head` has followed an early turn.
    pub(super) fn look_for_turn(&mut self, head: u64) -> Result<(), Error> {
        let skip = self.turned - HEADER;
        let lap_end = (skip | (self.capacity - 1)) + 1;
        // It stops where the SKIP begins, and goes on where that leads.
        if head > skip && head < lap_end {
            return Err(CORRUPT);
        }
        if head >= lap_end {
            self.turned = 0;
        }
        Ok(())
    }
}
