//! Writes in `PIPE_NOWAIT` mode.

use super::super::{FRAGMENT, Outgoing, count, size};
use super::{Begun, Charge, Writer, room_for};
use crate::{Error, PipeType};

impl Writer {
    /// Writes as much of `src` as needs no waiting, and returns how many bytes that is (reference
    /// 2.5, observed 6.3 to 6.8). It never leaves a pending write behind.
    ///
    /// What waiting reads take directly needs no quota. All of it is written if the rest fits the
    /// free quota. Otherwise a message pipe takes nothing, and a byte pipe what those reads take.
    ///
    /// Where Windows has memory without limit there is a ring here: what has no room in it is not
    /// written, although waiting reads would take it. A byte pipe takes the part that has room.
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) when the reader's cursors are impossible.
    #[doc(alias = "PIPE_NOWAIT")]
    pub fn begin_nowait(&mut self, lane: &impl Outgoing, src: &[u8]) -> Result<usize, Error> {
        if src.is_empty() {
            if let Begun::Pending(id) = self.begin(lane, src, Charge::Charged)? {
                self.withdraw(lane, id)?;
            }
            return Ok(0);
        }
        self.refresh(lane)?;
        self.settle(lane, 0);
        self.store_unstored(lane, None)?;
        if !self.pending.is_empty() {
            return Ok(0);
        }
        let len = count(src.len());
        // After the cursors: the reader asks for less before it tells what it took.
        let is_idle = self.taken.consumed == self.offered && self.taken.head.0 >= self.live_end;
        let direct = if is_idle { lane.asked().min(len) } else { 0 };
        let free = self.quota.saturating_sub(self.unread_charged(self.offered));
        let most = match self.pipe_type {
            _ if len - direct <= free => len,
            PipeType::Byte => direct,
            PipeType::Message => 0,
        };
        let fits = self.most_that_fits(lane, most)?;
        let taken = match self.pipe_type {
            PipeType::Byte => fits,
            PipeType::Message if fits == most => most,
            PipeType::Message => 0,
        };
        let Some(part) = src.get(..size(taken)).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        self.store_whole(lane, part)
    }

    /// How many of `len` bytes are sure to go into the ring as one write, now.
    fn most_that_fits(&mut self, lane: &impl Outgoing, len: u64) -> Result<u64, Error> {
        if len <= FRAGMENT || self.has_room_for(len) {
            return Ok(len);
        }
        self.refresh(lane)?;
        // Headers take less than one byte in 128.
        let spare = self.free().saturating_sub(room_for(0));
        Ok(len.min(spare - spare / 128))
    }

    /// Stores a write that is complete with that; returns its length, or 0 without room.
    fn store_whole(&mut self, lane: &impl Outgoing, src: &[u8]) -> Result<usize, Error> {
        let len = count(src.len());
        if len <= FRAGMENT {
            return Ok(if self.store_record(lane, src)? {
                src.len()
            } else {
                0
            });
        }
        let mut op = self.start(lane, len, Charge::Charged);
        self.store_pieces(lane, &mut op, src, 0)?;
        debug_assert!(op.whole, "there was room for it");
        Ok(src.len())
    }
}
