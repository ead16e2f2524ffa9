//! What a dead writer leaves behind.

use super::super::record::{FIRST, UNCHARGED, WITHDRAWABLE};
use super::super::{CORRUPT, HEADER, Incoming};
use super::{Reader, Record};
use crate::Error;

/// What a writer that is gone has left behind: what it had not completed is withdrawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone {
    /// Writes that end here or before are complete: the writer has said so.
    pub(super) completed: u64,
    /// From here on, what could be withdrawn and is not known to be complete is lost.
    pub(super) incomplete: u64,
    /// From here on, nothing is whole.
    pub(super) torn: u64,
}

impl Reader {
    /// The writer is gone: what it had completed stays readable, the rest counts as withdrawn
    /// (observed 10.10, reference 2.4).
    ///
    /// A write without `WITHDRAWABLE` is complete if it is whole. The others the writer has told
    /// of, except one that reads made complete and that it had no time to look at again: that is
    /// within the quota now, and no other is.
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) as in [`read`](Self::read).
    pub fn writer_gone(&mut self, lane: &impl Incoming) -> Result<(), Error> {
        if self.gone.is_some() {
            return Ok(());
        }
        self.refresh(lane)?;
        let completed = lane.completed().0;
        if completed > self.tail || !completed.is_multiple_of(HEADER) {
            return Err(CORRUPT);
        }
        let mut gone = Gone {
            completed,
            incomplete: u64::MAX,
            torn: u64::MAX,
        };
        let mut unread = 0;
        let mut write = None;
        let mut at = self.peek_record(lane)?;
        while let Some(record) = at {
            if record.header.has(FIRST)
                && let Some(start) = write.take()
            {
                // The writer died while it marked that write as withdrawn, from its end on.
                gone.incomplete = gone.incomplete.min(start);
            }
            let start = *write.get_or_insert(record.start);
            if !record.header.has(UNCHARGED) {
                unread += record.left();
            }
            if unread > self.quota {
                gone.incomplete = gone.incomplete.min(start);
            }
            if record.is_last() {
                write = None;
            }
            at = self.record_at(lane, record.end())?;
        }
        gone.torn = write.unwrap_or(u64::MAX);
        self.gone = Some(gone);
        if let Some(record) = self.record
            && self.is_lost(&record)
        {
            self.drop_record(&record);
            self.publish(lane);
        }
        Ok(())
    }

    /// Whether the writer died before it had completed the write of this record.
    pub(super) fn is_lost(&self, record: &Record) -> bool {
        self.gone.as_ref().is_some_and(|gone| {
            let pended = record.header.has(WITHDRAWABLE) && record.end() > gone.completed;
            record.start >= gone.torn || (pended && record.start >= gone.incomplete)
        })
    }
}
