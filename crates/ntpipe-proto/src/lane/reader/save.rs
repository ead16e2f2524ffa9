//! A reader's state as words.

use super::super::words::{LIMIT, Words, check, header_word};
use super::{Gone, Reader, Record};
use crate::{Error, PipeType};

impl Reader {
    /// Appends its state to `words`: a reader that is [restored](Self::restore) from them goes on
    /// where this one is.
    pub fn save(&self, words: &mut Vec<u64>) {
        words.extend([
            self.head,
            self.tail,
            self.consumed,
            self.within_message.into(),
            self.message_left,
            self.asked,
        ]);
        words.push(self.record.is_some().into());
        if let Some(record) = self.record {
            let header = header_word(record.header);
            words.extend([record.start, header, record.total, record.taken]);
        }
        words.push(self.gone.is_some().into());
        if let Some(gone) = self.gone {
            words.extend([gone.completed, gone.incomplete, gone.torn]);
        }
    }

    /// The reader whose state was saved: of a lane of this type, quota and capacity.
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) when no reader can have saved these words.
    pub fn restore(
        pipe_type: PipeType,
        quota: u32,
        capacity: u64,
        words: &[u64],
    ) -> Result<Self, Error> {
        let words = &mut Words::new(words);
        let mut reader = Self::new(pipe_type, quota, capacity);
        reader.head = words.within(0, LIMIT)?;
        reader.tail = words.aligned(reader.head, reader.furthest())?;
        reader.consumed = words.within(0, LIMIT)?;
        reader.within_message = words.flag()?;
        reader.message_left = words.word()?;
        reader.asked = words.word()?;
        if words.flag()? {
            reader.record = Some(reader.restore_record(words)?);
        } else {
            check(reader.head.is_multiple_of(8))?;
        }
        if words.flag()? {
            reader.gone = Some(Gone {
                completed: words.word()?,
                incomplete: words.word()?,
                torn: words.word()?,
            });
        }
        words.end()?;
        Ok(reader)
    }

    fn restore_record(&self, words: &mut Words<'_>) -> Result<Record, Error> {
        let start = words.aligned(0, self.head)?;
        let header = words.header()?;
        let mut record = Record {
            start,
            header,
            total: words.word()?,
            taken: 0,
        };
        let len = record.len();
        record.taken = words.within(0, len)?;
        check(record.total >= len && (record.taken < len || len == 0))?;
        let at = match record.taken {
            0 => start,
            taken => record.payload() + taken,
        };
        let lap_end = (start | (self.capacity - 1)) + 1;
        check(at == self.head && record.end() <= self.tail.min(lap_end))?;
        Ok(record)
    }
}
