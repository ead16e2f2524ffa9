//! What a dead writer leaves behind.

use super::super::Incoming;
use super::super::record::UNCHARGED;
use super::{Reader, Record};
use crate::Error;

/// What a writer that is gone has left behind: what it had not completed is withdrawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone {
    /// From here on, writes that the quota counts had not completed.
    pub(super) incomplete: u64,
    /// From here on, nothing is whole.
    pub(super) torn: u64,
}

impl Reader {
    /// The writer is gone: what it had completed stays readable, the rest counts as withdrawn
    /// (observed 10.10, reference 2.4).
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) as in [`read`](Self::read).
    pub fn writer_gone(&mut self, lane: &impl Incoming) -> Result<(), Error> {
        if self.gone.is_some() {
            return Ok(());
        }
        let mut unread = 0;
        let (mut incomplete, mut torn) = (None, None);
        let mut write = None;
        let mut at = self.peek_record(lane)?;
        let mut first = true;
        while let Some(record) = at {
            let start = *write.get_or_insert(record.start);
            if !record.header.has(UNCHARGED) {
                unread += record.left();
            }
            let asked = self.asked.max(self.credit);
            let credit = if first { asked } else { 0 };
            if unread > self.quota.saturating_add(credit) && incomplete.is_none() {
                incomplete = Some(start);
            }
            if record.is_last() {
                write = None;
                first = false;
            }
            at = self.record_at(lane, record.end())?;
        }
        if let Some(start) = write {
            torn = Some(start);
        }
        self.gone = Some(Gone {
            incomplete: incomplete.unwrap_or(u64::MAX),
            torn: torn.unwrap_or(u64::MAX),
        });
        if let Some(record) = self.record
            && self.is_lost(&record)
        {
            self.drop_record(&record);
            self.publish(lane);
        }
        Ok(())
    }

    pub(super) fn is_lost(&self, record: &Record) -> bool {
        let charged = !record.header.has(UNCHARGED) && record.header.len > 0;
        (self.gone.as_ref())
            .is_some_and(|g| record.start >= g.torn || (charged && record.start >= g.incomplete))
    }
}
