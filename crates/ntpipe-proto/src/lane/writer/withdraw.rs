//! Taking pending writes back.

use super::super::record::LAST;
use super::super::{HEADER, Header, Outgoing, Pos};
use super::{OpId, Pending, Writer};
use crate::Error;

/// What became of an attempt to take a pending write back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// It had completed before: nothing is taken back.
    Completed,
    /// Its unread rest is gone (observed 10.9).
    Withdrawn,
    /// The reader is taking bytes of it at this moment: try again when it has moved.
    Contested,
}

impl Writer {
    /// Takes a pending write's unread rest back, also when half of it was read (observed 10.9).
    ///
    /// Mark, full fence, look at the reader's claim; the reader claims, full fence, looks at the
    /// mark: one always sees the other. A reader that sees the mark gives way; a writer that sees
    /// the claim waits until the reader has decided, which takes it no system call.
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) when the reader's cursors are impossible.
    pub fn withdraw(&mut self, lane: &impl Outgoing, id: OpId) -> Result<Withdrawal, Error> {
        self.refresh(lane)?;
        if self.pending.iter().any(|op| op.id == id && !op.withdrawing) {
            lane.fence();
            self.refresh(lane)?;
            self.settle(lane, lane.asked());
        }
        let is_it = |op: &Pending| op.id == id && op.kept.is_none();
        let Some(at) = self.pending.iter().position(is_it) else {
            return Ok(Withdrawal::Completed);
        };
        let head = self.taken.head.0;
        let Some(op) = self.pending.get_mut(at) else {
            return Ok(Withdrawal::Completed);
        };
        op.prune(head);
        op.withdrawing = true;
        // The last first: a reader that finds a mark finds all behind it too, and so never a message
        // with a hole.
        for (start, header) in op.records.iter().rev() {
            lane.mark_withdrawn(Pos(*start), *header);
        }
        let range = op.range();
        lane.fence(); // pairs with the reader's fence between its claim and its look at the mark
        let claim = lane.claim();
        self.refresh(lane)?;
        if let Some((first, last)) = range
            && claim > self.taken.head
            && claim.0 > first
            && claim.0 <= last
        {
            return Ok(Withdrawal::Contested);
        }
        self.remove(lane, at)
    }

    /// Removes a write whose unread rest no reader will take.
    fn remove(&mut self, lane: &impl Outgoing, at: usize) -> Result<Withdrawal, Error> {
        let Some(op) = self.pending.remove(at) else {
            return Ok(Withdrawal::Completed);
        };
        let taken = self
            .taken
            .consumed
            .saturating_sub(op.due - op.len)
            .min(op.len);
        let rest = op.len - taken;
        for later in self.pending.iter_mut().skip(at) {
            later.due -= rest;
            if later.after == op.end && op.whole {
                later.after = op.after;
            }
        }
        if op.is_uncharged() {
            self.uncharged.retain(|(end, _)| *end != op.due);
        }
        for (end, _) in self.uncharged.iter_mut().filter(|(end, _)| *end > op.due) {
            *end -= rest;
        }
        if op.whole {
            for flush in self.flushes.iter_mut().filter(|f| f.at == op.end) {
                flush.at = op.after;
            }
            if self.live_end == op.end {
                self.live_end = op.after;
            }
        }
        self.offered -= rest;
        lane.offer(self.offered);
        let keep = self.room_for_detached();
        let has_room =
            |writer: &mut Self| writer.make_room(lane, HEADER, 0, keep - HEADER.min(keep));
        if !op.whole && op.stored > 0 && has_room(self)? {
            // A reader in the middle of the message learns that no more of it will come.
            let cut = Header {
                len: 0,
                flags: LAST | op.flags,
            }
            .withdrawn();
            lane.store_header(Pos(self.tail), cut);
            self.tail += HEADER;
            lane.publish(Pos(self.tail));
        }
        self.settle(lane, 0);
        self.store_unstored(lane, None)?;
        let completed = op.whole && rest == 0 && op.len > 0;
        Ok(if completed {
            Withdrawal::Completed
        } else {
            Withdrawal::Withdrawn
        })
    }
}

impl Pending {
    /// Where its unread records lie.
    fn range(&self) -> Option<(u64, u64)> {
        let (first, _) = self.records.front()?;
        let (last, header) = self.records.back()?;
        Some((*first, last + header.size()))
    }
}
