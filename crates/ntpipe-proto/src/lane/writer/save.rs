//! A writer's state as words.

use std::collections::VecDeque;

use super::super::record::{UNCHARGED, WITHDRAWABLE};
use super::super::words::{LIMIT, Words, check, header_word, push_bytes};
use super::super::{Pos, Taken, count};
use super::{Charge, Flushing, OpId, Pending, Writer};
use crate::{Error, PipeType};

impl Writer {
    /// Appends its state to `words`: a writer that is [restored](Self::restore) from them goes on
    /// where this one is.
    pub fn save(&self, words: &mut Vec<u64>) {
        words.extend([
            self.tail,
            self.turned,
            self.taken.head.0,
            self.offered,
            self.taken.consumed,
            self.next_id,
            self.live_end,
            self.completed,
        ]);
        words.push(count(self.pending.len()));
        for op in &self.pending {
            op.save(words);
        }
        words.push(count(self.uncharged.len()));
        for (end, len) in &self.uncharged {
            words.extend([*end, *len]);
        }
        words.push(count(self.flushes.len()));
        for flush in &self.flushes {
            words.extend([flush.id, flush.last.0, flush.at]);
        }
    }

    /// The writer whose state was saved: of a lane of this type, quota and capacity.
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) when no writer can have saved these words.
    pub fn restore(
        pipe_type: PipeType,
        quota: u32,
        capacity: u64,
        words: &[u64],
    ) -> Result<Self, Error> {
        let words = &mut Words::new(words);
        let mut writer = Self::new(pipe_type, quota, capacity);
        writer.tail = words.aligned(0, LIMIT)?;
        writer.turned = words.aligned(0, writer.tail)?;
        let head = Pos(words.within(0, writer.tail)?);
        writer.offered = words.within(0, LIMIT)?;
        let consumed = words.within(0, writer.offered)?;
        writer.taken = Taken { head, consumed };
        check(writer.is_placed())?;
        writer.next_id = words.within(0, LIMIT)?;
        writer.live_end = words.aligned(0, writer.tail)?;
        writer.completed = words.aligned(0, writer.tail)?;
        // They follow each other, in number and in what they offer.
        let (mut id, mut offered) = (0, 0);
        for _ in 0..words.items(Pending::WORDS)? {
            let op = Pending::restore(words, &writer)?;
            check(op.id.0 >= id && op.due - op.len >= offered)?;
            (id, offered) = (op.id.0 + 1, op.due);
            writer.pending.push_back(op);
        }
        offered = 0;
        for _ in 0..words.items(2)? {
            let end = words.within(offered, writer.offered)?;
            let len = words.within(1, end - offered)?;
            writer.uncharged.push_back((end, len));
            offered = end;
        }
        for _ in 0..words.items(3)? {
            let id = words.within(0, writer.next_id)?;
            let last = OpId(words.within(0, writer.next_id)?);
            let at = words.aligned(0, writer.tail)?;
            writer.flushes.push(Flushing { id, last, at });
        }
        words.end()?;
        Ok(writer)
    }
}

impl Pending {
    /// The least number of words that one takes.
    const WORDS: usize = 12;

    fn save(&self, words: &mut Vec<u64>) {
        words.extend([
            self.id.0,
            (self.charge == Charge::Uncharged).into(),
            self.due,
            self.len,
            self.stored,
            self.whole.into(),
            self.withdrawing.into(),
            (self.flags & WITHDRAWABLE != 0).into(),
            self.after,
            self.end,
        ]);
        words.push(count(self.records.len()));
        for (start, header) in &self.records {
            words.extend([*start, header_word(*header)]);
        }
        words.push(self.kept.is_some().into());
        push_bytes(words, self.kept.as_deref().unwrap_or_default());
    }

    fn restore(words: &mut Words<'_>, writer: &Writer) -> Result<Self, Error> {
        let id = OpId(words.within(0, writer.next_id.saturating_sub(1))?);
        let charge = match words.flag()? {
            true => Charge::Uncharged,
            false => Charge::Charged,
        };
        let due = words.within(0, writer.offered)?;
        let len = words.within(0, due)?;
        let mut op = Self {
            id,
            charge,
            len,
            due,
            stored: words.within(0, len)?,
            whole: words.flag()?,
            withdrawing: words.flag()?,
            flags: 0,
            after: 0,
            end: 0,
            records: VecDeque::new(),
            kept: None,
        };
        check(len == 0 || op.whole == (op.stored == len))?;
        if words.flag()? {
            op.flags |= WITHDRAWABLE;
        }
        if op.is_uncharged() {
            op.flags |= UNCHARGED;
        }
        op.after = words.aligned(0, writer.tail)?;
        op.end = words.aligned(0, writer.tail)?;
        let mut at = 0;
        for _ in 0..words.items(2)? {
            let start = words.aligned(at, writer.tail)?;
            let header = words.header()?;
            at = start + header.size();
            check(at <= writer.tail)?;
            op.records.push_back((start, header));
        }
        if words.flag()? {
            let is_detached = op.never_waits() && !op.whole && !op.withdrawing;
            check(is_detached && op.flags & WITHDRAWABLE == 0)?;
            op.kept = Some(words.bytes(op.len)?);
        }
        Ok(op)
    }
}
