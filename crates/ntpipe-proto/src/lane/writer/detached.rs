//! Writes that never wait, where the ring has no room for them yet.
//!
//! An empty message and the request of a transaction are complete as soon as they are made
//! (observed 5.4, 11.6), also behind a write that is larger than the ring. The writer then keeps
//! them, *detached* from their callers, until what is before them is stored or taken back. Nobody
//! can be relied on to look after that, so that there has to be room for them at that moment: they
//! are detached only if it is free now, and whatever is stored before them leaves it free.

use super::super::record::WITHDRAWABLE;
use super::super::{FRAGMENT, HEADER, padded, reserve};
use super::{OpId, Pending, TOTAL, Writer, count, room_for};

impl Writer {
    /// Lets go of a pending write that never waits: from here on it is this writer's own. `false`
    /// if it is none, or if the room that it will need is not free.
    pub(super) fn detach(&mut self, id: OpId, src: &[u8]) -> bool {
        let needed = self.room_with_detached(Some(count(src.len())));
        let fits = needed <= self.free().min(reserve(self.capacity));
        let op = self.pending.iter_mut().find(|op| op.id == id);
        let Some(op) = op.filter(|op| fits && op.never_waits() && op.stored == 0) else {
            return false;
        };
        op.flags &= !WITHDRAWABLE;
        op.kept = Some(src.to_vec());
        true
    }

    /// How much has to stay free while the rest of `op` is stored: what detached writes will need;
    /// and room for some to come, unless all of the rest goes into the ring now.
    pub(super) fn room_to_keep(&self, op: &Pending) -> u64 {
        let rest = op.len - op.stored;
        let detached = self.room_for_detached();
        let most = self.free().saturating_sub(detached);
        let goes_in = match op.never_waits() {
            true => self.room_with_detached(Some(rest)) <= self.free(),
            false => room_for(rest) <= most || self.goes_in(rest, op.stored == 0, most),
        };
        match goes_in {
            true => detached,
            false => detached.max(reserve(self.capacity)),
        }
    }

    /// Whether `rest` bytes of a write, or all of it, take no more than `most` bytes of the ring
    /// from the tail on.
    fn goes_in(&self, mut rest: u64, mut is_first: bool, most: u64) -> bool {
        if rest > most {
            return false;
        }
        let mut lap = self.piece();
        let mut taken = 0;
        while rest > 0 && taken <= most {
            let piece = rest.min(FRAGMENT);
            let is_long = is_first && rest > FRAGMENT;
            let record = HEADER + if is_long { TOTAL } else { 0 } + padded(piece);
            if lap < record {
                taken += lap;
                lap = self.capacity;
            }
            taken += record;
            lap = lap.saturating_sub(record);
            rest -= piece;
            is_first = false;
        }
        taken <= most
    }

    /// The room that the detached writes will need, with one record that cuts the write before.
    pub(super) fn room_for_detached(&self) -> u64 {
        self.room_with_detached(None)
    }

    /// The same, with another of `len` bytes.
    fn room_with_detached(&self, len: Option<u64>) -> u64 {
        let detached = self.pending.iter().filter(|op| op.kept.is_some());
        let (mut records, mut skip) = (0, 0);
        for len in detached.map(|op| op.len - op.stored).chain(len) {
            let pieces = if len > FRAGMENT {
                len / FRAGMENT + 2
            } else {
                0
            };
            records += HEADER + padded(len) + pieces * (HEADER + TOTAL + 8);
            // At the ring's end up to one record's length may be lost, but a header always fits.
            let piece = if len > 0 {
                HEADER + TOTAL + padded(len.min(FRAGMENT))
            } else {
                0
            };
            skip = skip.max(piece);
        }
        match records {
            0 => 0,
            _ => HEADER + records + skip,
        }
    }
}
