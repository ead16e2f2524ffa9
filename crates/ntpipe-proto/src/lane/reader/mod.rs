//! The reader's half of a lane: taking bytes.

use std::task::Poll;

use super::record::{FIRST, LAST, LONG, SKIP, WITHDRAWABLE, WITHDRAWN};
use super::words::LIMIT;
use super::{CORRUPT, HEADER, Header, Incoming, Pos, Taken, count, padded, size};
use crate::{Error, PipeType, ReadMode};

mod peek;
mod room;
mod save;
mod survivor;

pub use peek::Peek;
use survivor::Gone;

/// What a finished read returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Bytes that were copied.
    pub len: usize,
    /// The message has more bytes than the buffer: the next read goes on with it. Windows calls it
    /// `ERROR_MORE_DATA` (234); it is no error.
    pub more: bool,
}

/// A read under way: what it has already copied of the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    filled: usize,
}

impl Reading {
    /// Bytes that it has already copied. Who gives the read up keeps them for the next one, which begins
    /// as [`resumed`](Self::resumed): they are nowhere else.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// A read that goes on with a message, in a buffer that begins with what an earlier one has
    /// copied of it: `filled` bytes.
    #[must_use]
    pub fn resumed(filled: usize) -> Self {
        Self { filled }
    }
}

/// The reader end of a lane: cursors and the message that is half read.
///
/// [`read`](Self::read) takes bytes, [`peek`](Self::peek) looks at them. On *pending* the caller
/// says with [`ask`](Self::ask) what it waits for, and waits until the writer has moved.
#[derive(Debug)]
pub struct Reader {
    pipe_type: PipeType,
    quota: u64,
    capacity: u64,
    /// The next unread byte: the beginning of a record, or a place within `record`.
    head: u64,
    consumed: u64,
    /// How far the writer has published, checked.
    tail: u64,
    record: Option<Record>,
    /// The last record that was taken is not the last of its write.
    within_message: bool,
    /// The bytes of the message under way that were not taken, as its writer announced them.
    message_left: u64,
    /// What all waiting reads ask for.
    asked: u64,
    /// What the read that is under way asks for of that; it does while it is under way only.
    share: u64,
    gone: Option<Gone>,
}

/// A record whose header was checked.
#[derive(Clone, Copy, Debug)]
struct Record {
    start: u64,
    header: Header,
    /// The length of the whole write, if this is its first record.
    total: u64,
    taken: u64,
}

impl Record {
    fn len(&self) -> u64 {
        u64::from(self.header.len)
    }

    fn left(&self) -> u64 {
        self.len() - self.taken
    }

    fn payload(&self) -> u64 {
        self.start + self.header.prefix()
    }

    fn end(&self) -> u64 {
        self.start + self.header.size()
    }

    fn is_last(&self) -> bool {
        self.header.has(LAST)
    }
}

impl Reader {
    /// A reader at the beginning of an empty lane.
    #[must_use]
    pub fn new(pipe_type: PipeType, quota: u32, capacity: u64) -> Self {
        Self {
            pipe_type,
            quota: u64::from(quota),
            capacity,
            head: 0,
            consumed: 0,
            tail: 0,
            record: None,
            within_message: false,
            message_left: 0,
            asked: 0,
            share: 0,
            gone: None,
        }
    }

    /// Reads into `dst`: bytes across messages in byte mode (observed 5.22), one message or as
    /// much of it as fits in message mode (5.18, 5.19).
    ///
    /// On an empty lane it is pending, also for an empty `dst` (5.11). An empty message ends a
    /// byte-mode read and is delivered by itself, as 0 bytes (5.23).
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) when the writer's pages contradict themselves. When the writer is
    /// gone and all that it completed has been read: `ERROR_BROKEN_PIPE` (109).
    pub fn read(
        &mut self,
        op: &mut Reading,
        lane: &impl Incoming,
        mode: ReadMode,
        dst: &mut [u8],
    ) -> Result<Poll<Read>, Error> {
        if op.filled == 0
            && let Some(len) = self.take_at_once(lane, dst)?
        {
            self.publish(lane);
            // A read of bytes goes on with the next records while it has room.
            if mode == ReadMode::Message || len == dst.len() {
                return Ok(Poll::Ready(Read { len, more: false }));
            }
            op.filled = len;
        }
        // Waiting reads are served in order, so that this is the first of them.
        self.share = self.asked.min(count(dst.len().saturating_sub(op.filled)));
        let before = self.head;
        // A writer that withdraws each record as it is claimed must not keep us for ever: it is
        // pending after one ring of them, and the caller looks again before it sleeps.
        let limit = before + self.capacity;
        let result = match mode {
            ReadMode::Byte => self.read_bytes(op, lane, dst, limit),
            ReadMode::Message => self.read_message(op, lane, dst, limit),
        };
        if let Ok(Poll::Ready(_)) = result {
            self.lower_asked(lane, self.share);
        }
        if self.head != before {
            self.publish(lane);
        }
        match result {
            Ok(Poll::Pending) if self.gone.is_some() => Err(Error::BROKEN_PIPE),
            Ok(_) | Err(_) => result,
        }
    }

    /// Whether there is nothing to read: neither bytes nor an empty message.
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) as in [`read`](Self::read).
    pub fn is_empty(&mut self, lane: &impl Incoming) -> Result<bool, Error> {
        Ok(self.peek_record(lane)?.is_none())
    }

    /// Says how many bytes all waiting reads ask for together; less when one of them gives up.
    ///
    /// The next writes count on that (observed 5.7, 5.10): each only while nothing before it is
    /// unread. After saying it, read once more before sleeping or giving up. Waiting reads are
    /// served in order, so that [`read`](Self::read) is for the first of them: it lowers what is
    /// asked for by what it takes, and when it has ended by the rest that it asked for.
    pub fn ask(&mut self, lane: &impl Incoming, bytes: usize) {
        self.asked = count(bytes);
        lane.ask(self.asked);
        lane.fence(); // pairs with the writer's fence between its tail and its question
    }

    /// No read waits any more.
    pub fn stop_asking(&mut self, lane: &impl Incoming) {
        if self.asked > 0 {
            self.asked = 0;
            lane.ask(0);
        }
    }

    /// What its writer has announced of the message under way, and nobody has taken.
    #[must_use]
    pub fn left_of_message(&self) -> u64 {
        self.message_left
    }

    /// Whether the message that it took from last goes on: nobody has seen its end, nor that the rest
    /// was taken back.
    #[must_use]
    pub fn is_within_message(&self) -> bool {
        self.within_message
    }

    /// Whether it has taken all that it knows of: the next read has to look for more.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        self.head == self.tail
    }

    /// How far it has come.
    #[must_use]
    pub fn position(&self) -> Pos {
        Pos(self.head)
    }

    /// Where the record begins that it reads next, or has read in part.
    #[must_use]
    pub fn record_start(&self) -> Pos {
        Pos(self.record.map_or(self.head, |record| record.start))
    }

    fn read_bytes(
        &mut self,
        op: &mut Reading,
        lane: &impl Incoming,
        dst: &mut [u8],
        limit: u64,
    ) -> Result<Poll<Read>, Error> {
        while let Some(record) = self.next(lane)? {
            if record.len() == 0 {
                if op.filled == 0 {
                    self.finish(&record);
                    return Ok(Poll::Ready(Read::default()));
                }
                break;
            }
            let Some(rest) = dst.get_mut(op.filled..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            let taken = self.take(lane, record, rest)?;
            op.filled += taken.unwrap_or(0);
            if lane.pauses() && record.header.has(WITHDRAWABLE) && record.is_last() {
                break;
            }
            // A look at the next record is the next read's, which has a shorter way to do it.
            if op.filled == dst.len() || (taken.is_none() && self.head >= limit) {
                break;
            }
        }
        let read = Read {
            len: op.filled,
            more: false,
        };
        let some = op.filled > 0 || (dst.is_empty() && self.record.is_some());
        Ok(if some {
            Poll::Ready(read)
        } else {
            Poll::Pending
        })
    }

    fn read_message(
        &mut self,
        op: &mut Reading,
        lane: &impl Incoming,
        dst: &mut [u8],
        limit: u64,
    ) -> Result<Poll<Read>, Error> {
        loop {
            if op.filled > 0 && op.filled == dst.len() && self.within_message {
                // The rest may still be on its way: that there is one is certain.
                return Ok(Poll::Ready(Read {
                    len: op.filled,
                    more: true,
                }));
            }
            let record = self.next(lane)?;
            if record.is_none() && self.gone.is_some() {
                // What was read of a message that its writer never finished was not written.
                return Ok(Poll::Pending);
            }
            if op.filled > 0 && !self.within_message && record.is_none_or(|r| r.taken == 0) {
                // The writer took the rest of the message back while this read waited for it.
                return Ok(Poll::Ready(Read {
                    len: op.filled,
                    more: true,
                }));
            }
            let Some(record) = record else {
                return Ok(Poll::Pending);
            };
            if record.len() == 0 {
                self.finish(&record);
                return Ok(Poll::Ready(Read::default()));
            }
            let Some(rest) = dst.get_mut(op.filled..).filter(|rest| !rest.is_empty()) else {
                return Ok(Poll::Ready(Read {
                    len: op.filled,
                    more: true,
                }));
            };
            let taken = self.take(lane, record, rest)?;
            op.filled += taken.unwrap_or(0);
            if taken.is_none() && self.head >= limit {
                return Ok(Poll::Pending);
            }
            if taken.is_some() && self.record.is_none() && record.is_last() {
                return Ok(Poll::Ready(Read {
                    len: op.filled,
                    more: false,
                }));
            }
        }
    }

    /// The path of most reads: a whole write in one record, which can't be withdrawn, and room for
    /// it. `None` if it is anything else, an error included: the long way says what.
    #[inline]
    fn take_at_once(
        &mut self,
        lane: &impl Incoming,
        dst: &mut [u8],
    ) -> Result<Option<usize>, Error> {
        if self.record.is_some() || self.asked > 0 || self.gone.is_some() {
            return Ok(None);
        }
        if self.head == self.tail {
            self.refresh(lane)?;
            if self.head == self.tail {
                return Ok(None);
            }
        }
        let Header { len, flags } = lane.header(Pos(self.head));
        let len = u64::from(len);
        let end = self.head + HEADER + padded(len);
        let lap_end = (self.head | (self.capacity - 1)) + 1;
        let plain = flags == FIRST | LAST && len > 0 && end <= self.tail.min(lap_end);
        let Some(part) = dst.get_mut(..size(len)).filter(|_| plain) else {
            return Ok(None);
        };
        lane.load(Pos(self.head + HEADER), part);
        self.consumed += len;
        self.head = end;
        self.within_message = false;
        self.message_left = 0;
        Ok(Some(size(len)))
    }

    /// Takes bytes of `record` into `dst`; `None` if the writer has just withdrawn it.
    fn take(
        &mut self,
        lane: &impl Incoming,
        mut record: Record,
        dst: &mut [u8],
    ) -> Result<Option<usize>, Error> {
        let len = count(dst.len()).min(record.left());
        let from = record.payload() + record.taken;
        let whole = len == record.left();
        let to = if whole { record.end() } else { from + len };
        let contested = record.header.has(WITHDRAWABLE) && self.gone.is_none();
        if contested {
            lane.claim(Pos(to));
            lane.fence(); // pairs with the writer's fence between its mark and its look at the claim
            if lane.header(Pos(record.start)).has(WITHDRAWN) {
                self.drop_record(&record);
                self.publish(lane);
                lane.claim(Pos(self.head));
                return Ok(None);
            }
        }
        let Some(part) = dst.get_mut(..size(len)) else {
            return Err(Error::INTERNAL_ERROR);
        };
        lane.load(Pos(from), part);
        self.consumed += len;
        // Before the writer learns that they were taken: it must not count them twice, and the end of
        // a write ends the waiting read, whatever it had room for.
        let is_over = whole && record.is_last();
        let paid = if is_over { self.share } else { len };
        self.lower_asked(lane, paid);
        if record.header.has(FIRST) && record.taken == 0 {
            self.message_left = record.total;
        }
        self.message_left = self.message_left.saturating_sub(len);
        record.taken += len;
        if whole {
            self.finish(&record);
        } else {
            self.head = to;
            self.record = Some(record);
        }
        if contested {
            self.publish(lane);
            lane.claim(self.released()); // what is left of the record can be withdrawn
        }
        Ok(Some(size(len)))
    }

    /// The read that is under way asks for less.
    fn lower_asked(&mut self, lane: &impl Incoming, by: u64) {
        let by = by.min(self.share);
        if by > 0 {
            self.share -= by;
            self.asked -= by;
            lane.ask(self.asked);
        }
    }

    /// The record with the next unread bytes; skips what was withdrawn.
    fn next(&mut self, lane: &impl Incoming) -> Result<Option<Record>, Error> {
        if let Some(record) = self.record {
            if !Self::is_withdrawn(lane, &record) {
                return Ok(Some(record));
            }
            self.drop_record(&record);
        }
        let record = self.record_at(lane, self.head)?;
        // The records between were withdrawn, with them the message that one of them went on with.
        if let Some(record) = record {
            if record.header.has(FIRST) {
                self.within_message = false;
            } else if !self.within_message {
                return Err(CORRUPT);
            }
            self.head = record.start;
            self.record = Some(record);
        } else if self.head != self.tail {
            self.head = self.tail;
            self.within_message = false;
        }
        Ok(record)
    }

    fn peek_record(&mut self, lane: &impl Incoming) -> Result<Option<Record>, Error> {
        match self.record {
            Some(record) if Self::is_withdrawn(lane, &record) => self.record_at(lane, record.end()),
            Some(record) => Ok(Some(record)),
            None => self.record_at(lane, self.head),
        }
    }

    /// The first live record at or behind `at`, checked; `None` at the tail.
    fn record_at(&mut self, lane: &impl Incoming, mut at: u64) -> Result<Option<Record>, Error> {
        loop {
            if at == self.tail {
                self.refresh(lane)?;
                if at == self.tail {
                    return Ok(None);
                }
            }
            let header = lane.header(Pos(at));
            let lap_end = (at | (self.capacity - 1)) + 1;
            if at + HEADER > self.tail || !header.is_known() {
                return Err(CORRUPT);
            }
            if header.has(SKIP) {
                let to = match header.len {
                    0 => lap_end,
                    len => at + HEADER + padded(u64::from(len)),
                };
                if to > self.tail.min(lap_end) {
                    return Err(CORRUPT);
                }
                at = to;
                continue;
            }
            let mut record = Record {
                start: at,
                header,
                total: u64::from(header.len),
                taken: 0,
            };
            if record.end() > self.tail || record.end() > lap_end {
                return Err(CORRUPT);
            }
            if header.has(WITHDRAWN) || self.is_lost(&record) {
                at = record.end();
                continue;
            }
            let whole = header.has(FIRST) && header.has(LAST);
            if header.len == 0 && (self.pipe_type == PipeType::Byte || !whole) {
                return Err(CORRUPT);
            }
            if header.has(LONG) {
                let mut total = [0; 8];
                lane.load(Pos(at + HEADER), &mut total);
                record.total = u64::from_le_bytes(total);
                if whole || record.total <= record.len() {
                    return Err(CORRUPT);
                }
            }
            return Ok(Some(record));
        }
    }

    /// Whether the writer took back a record that was live when it was found.
    fn is_withdrawn(lane: &impl Incoming, record: &Record) -> bool {
        record.header.has(WITHDRAWABLE) && lane.header(Pos(record.start)).has(WITHDRAWN)
    }

    fn refresh(&mut self, lane: &impl Incoming) -> Result<(), Error> {
        let tail = lane.tail().0;
        let most = self.furthest().min(LIMIT);
        if tail < self.tail || tail > most || !tail.is_multiple_of(HEADER) {
            return Err(CORRUPT);
        }
        self.tail = tail;
        Ok(())
    }

    /// No writer's tail is beyond that: one that turned back early goes on through the next lap.
    fn furthest(&self) -> u64 {
        let lap_end = (self.head | (self.capacity - 1)) + 1;
        lap_end.saturating_add(self.capacity)
    }

    /// All bytes of a record were taken.
    fn finish(&mut self, record: &Record) {
        self.head = record.end();
        self.record = None;
        self.within_message = !record.is_last();
    }

    /// The rest of a record was withdrawn.
    fn drop_record(&mut self, record: &Record) {
        self.head = record.end();
        self.record = None;
        self.within_message = false;
    }

    fn publish(&self, lane: &impl Incoming) {
        lane.publish(Taken {
            head: self.released(),
            consumed: self.consumed,
        });
    }

    /// Up to where the ring is free again: a half-read record that can be withdrawn keeps its
    /// header, for both ends still look at the mark in it.
    fn released(&self) -> Pos {
        match self.record {
            Some(record) if record.header.has(WITHDRAWABLE) => Pos(record.start),
            Some(_) | None => Pos(self.head),
        }
    }
}
