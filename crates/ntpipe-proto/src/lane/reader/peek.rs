//! Looking at what is unread without taking it.

use super::super::record::FIRST;
use super::super::{Incoming, Pos, count, size};
use super::Reader;
use crate::{Error, PipeType, ReadMode};

/// What a peek found (observed 7, reference 1.10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    /// Bytes that were copied; they stay in the pipe.
    pub len: usize,
    /// All unread bytes, of pending writes too.
    pub available: u64,
    /// The unread bytes of the first message behind those copied; 0 on a byte pipe.
    pub left: u64,
    /// Unread messages, a half-read one included; 0 on a byte pipe.
    pub messages: u32,
}

impl Peek {
    /// What `PeekNamedPipe` says is left of this message, on a pipe of this type.
    ///
    /// For a byte pipe that is nothing less what was copied, which wraps around (observed 7.2).
    #[doc(alias = "lpBytesLeftThisMessage")]
    #[must_use]
    pub fn left_this_message(&self, pipe_type: PipeType) -> u32 {
        let low = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        match pipe_type {
            PipeType::Byte => low(count(self.len)).wrapping_neg(),
            PipeType::Message => low(self.left),
        }
    }
}

impl Reader {
    /// Looks at what a read would find, by the pipe's type, not the read mode (observed 7.4, 7.5).
    ///
    /// It takes nothing, but [`position`](Self::position) goes on past what was withdrawn.
    ///
    /// # Errors
    /// As [`read`](Self::read); an empty lane is no error unless the writer is gone (7.16).
    pub fn peek(&mut self, lane: &impl Incoming, dst: &mut [u8]) -> Result<Peek, Error> {
        let mut peek = Peek::default();
        let mut seen = 0;
        let mut first_message = 0;
        // What was withdrawn is let go of here too: the next write may wait for its room.
        let before = self.head;
        let mut at = self.next(lane)?;
        if self.head != before {
            self.publish(lane);
        }
        if at.is_none() && self.gone.is_some() {
            return Err(Error::BROKEN_PIPE);
        }
        while let Some(record) = at {
            let begins = record.header.has(FIRST);
            if peek.messages == 0 {
                let under_way = !begins || record.taken > 0;
                first_message = if under_way {
                    self.message_left
                } else {
                    record.total
                };
            }
            if begins || peek.messages == 0 {
                peek.messages += 1;
            }
            if peek.messages == 1 || self.pipe_type == PipeType::Byte {
                let to = dst.len().min(peek.len + size(record.left()));
                if let Some(part) = dst.get_mut(peek.len..to) {
                    lane.load(Pos(record.payload() + record.taken), part);
                    peek.len = to;
                }
            }
            seen += record.left();
            at = self.record_at(lane, record.end())?;
        }
        peek.available = match self.gone {
            Some(_) => seen,
            // Also what still waits for room in the ring.
            None => lane.offered().saturating_sub(self.consumed).max(seen),
        };
        match self.pipe_type {
            PipeType::Byte => peek.messages = 0,
            PipeType::Message => peek.left = first_message.saturating_sub(count(peek.len)),
        }
        Ok(peek)
    }
    /// How much room the next read can fill: the whole of the message that it finds, also what is
    /// still on its way, or all unread bytes; `None` if it finds nothing. It is for choosing a
    /// buffer, and may be too much, but is never 0 when there is a byte.
    ///
    /// It takes nothing, but [`position`](Self::position) goes on past what was withdrawn.
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) as in [`read`](Self::read).
    pub fn ahead(&mut self, lane: &impl Incoming, mode: ReadMode) -> Result<Option<u64>, Error> {
        let mut found = self.peek_record(lane)?;
        if found.is_none() {
            let before = self.head;
            found = self.next(lane)?;
            if self.head != before {
                self.publish(lane);
            }
        }
        let Some(record) = found else {
            return Ok(None);
        };
        let begins = record.header.has(FIRST) && record.taken == 0;
        let len = match mode {
            ReadMode::Message if begins => record.total,
            ReadMode::Message => self.message_left,
            // An empty message is a read by itself.
            ReadMode::Byte if record.len() == 0 => 0,
            ReadMode::Byte => lane.offered().saturating_sub(self.consumed),
        };
        Ok(Some(len.max(record.left())))
    }
}
