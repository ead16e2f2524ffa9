//! Waiting until everything written has been read.

use std::task::Poll;

use super::super::Outgoing;
use super::{OpId, Writer};
use crate::Error;

/// A flush that waits until everything written before it has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush(u64);

impl From<Flush> for u64 {
    fn from(flush: Flush) -> Self {
        flush.0
    }
}

impl From<u64> for Flush {
    /// The flush that became this number; of another number the writer knows no flush.
    fn from(id: u64) -> Self {
        Self(id)
    }
}

#[derive(Debug)]
pub(super) struct Flushing {
    pub(super) id: u64,
    /// The last write that it covers.
    pub(super) last: OpId,
    /// The position that the reader must reach for those that are wholly stored.
    pub(super) at: u64,
}

impl Writer {
    /// Starts a flush: it is done once everything written before it has been read (observed 9.12).
    #[must_use]
    pub fn flush(&mut self) -> Flush {
        let id = self.next_id;
        self.next_id += 1;
        self.flushes.push(Flushing {
            id,
            last: OpId(id),
            at: self.live_end,
        });
        Flush(id)
    }

    /// Whether a flush is done; writes that were withdrawn meanwhile don't count (observed 9.15).
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) when the reader's cursors are impossible.
    pub fn poll_flush(&mut self, lane: &impl Outgoing, flush: Flush) -> Result<Poll<()>, Error> {
        self.refresh(lane)?;
        let Some(at) = self.flushes.iter().position(|f| f.id == flush.0) else {
            return Ok(Poll::Ready(()));
        };
        let done = self.flushes.get(at).is_none_or(|f| {
            self.taken.head.0 >= f.at && !self.pending.iter().any(|op| op.id < f.last && !op.whole)
        });
        if !done {
            return Ok(Poll::Pending);
        }
        self.flushes.swap_remove(at);
        Ok(Poll::Ready(()))
    }

    /// The flushes that wait.
    pub fn flushes(&self) -> impl Iterator<Item = Flush> + '_ {
        self.flushes.iter().map(|f| Flush(f.id))
    }

    /// Gives a flush up.
    pub fn forget_flush(&mut self, flush: Flush) {
        self.flushes.retain(|f| f.id != flush.0);
    }
}
