//! The writer's half of a lane: storing writes.

use std::{collections::VecDeque, task::Poll};

use super::record::{FIRST, LAST, LONG, TOTAL, UNCHARGED, WITHDRAWABLE};
use super::{CORRUPT, FRAGMENT, HEADER, Header, Outgoing, Pos, Taken, count, padded, size};
use crate::{Error, PipeType};

mod detached;
mod flush;
mod nowait;
mod room;
mod save;
mod withdraw;

pub use flush::Flush;
use flush::Flushing;
use room::{first_turn, room_for};
pub use withdraw::Withdrawal;

/// Below this size a piece of a larger write waits for more room.
const MIN_PIECE: u64 = 4096;

/// Whether the quota counts a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// An ordinary write: complete once its end is within the quota.
    Charged,
    /// The request of a transaction: never waits for quota (observed 11.6).
    Uncharged,
}

/// A write that is pending: a number that no other write or flush of this lane has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(u64);

impl From<OpId> for u64 {
    fn from(id: OpId) -> Self {
        id.0
    }
}

impl From<u64> for OpId {
    /// The name that became this number; of another number the writer knows no write.
    fn from(id: u64) -> Self {
        Self(id)
    }
}

/// What became of a write that has just begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is complete.
    Done,
    /// It is pending: go on with [`Writer::resume`], or take it back with [`Writer::withdraw`].
    Pending(OpId),
}

/// The writer end of a lane: cursors and pending writes.
///
/// Commands: [`begin`](Self::begin), [`begin_nowait`](Self::begin_nowait),
/// [`resume`](Self::resume), [`withdraw`](Self::withdraw), [`flush`](Self::flush),
/// [`poll_flush`](Self::poll_flush). All of them publish what they did; the caller then wakes the
/// peer if it sleeps, and on *pending* waits until the peer has moved.
#[derive(Debug)]
pub struct Writer {
    pipe_type: PipeType,
    quota: u64,
    capacity: u64,
    /// From this place in the ring on it may turn back early.
    turn: u64,
    /// If the reader is behind, from this place on.
    lap: u64,
    tail: u64,
    /// Where the record ends by which it turned back early, until the reader has followed; else 0.
    turned: u64,
    /// The reader's cursors as last seen, checked.
    taken: Taken,
    offered: u64,
    /// Where the last write ends that had to wait and has completed.
    completed: u64,
    next_id: u64,
    pending: VecDeque<Pending>,
    /// Uncharged writes that may be unread: end offset and length.
    uncharged: VecDeque<(u64, u64)>,
    /// The end of the last write that was not withdrawn.
    live_end: u64,
    flushes: Vec<Flushing>,
}

/// A write that is not complete, or not wholly in the ring.
#[derive(Debug)]
struct Pending {
    id: OpId,
    charge: Charge,
    len: u64,
    /// The payload offset of its end, without what was withdrawn before it.
    due: u64,
    stored: u64,
    whole: bool,
    withdrawing: bool,
    flags: u32,
    /// The end of the live data before it, and its own end once it is wholly stored.
    after: u64,
    end: u64,
    /// Where its records begin that may be unread, with their headers.
    records: VecDeque<(u64, Header)>,
    /// Its bytes, if it is detached: its caller has gone on and nobody else has them.
    kept: Option<Vec<u8>>,
}

impl Writer {
    /// A writer at the beginning of an empty lane.
    #[must_use]
    pub fn new(pipe_type: PipeType, quota: u32, capacity: u64) -> Self {
        Self {
            pipe_type,
            quota: u64::from(quota),
            capacity,
            turn: first_turn(quota),
            lap: 0,
            tail: 0,
            turned: 0,
            taken: Taken::default(),
            offered: 0,
            completed: 0,
            next_id: 0,
            pending: VecDeque::new(),
            uncharged: VecDeque::new(),
            live_end: 0,
            flushes: Vec::new(),
        }
    }

    /// Starts a write of `src`, after all earlier ones.
    ///
    /// What fits the quota is complete at once (observed 5.1); of a larger write all bytes are
    /// visible to the reader as far as the ring has room (5.2). A write of nothing never waits: on
    /// a byte pipe it has no effect, on a message pipe it is an empty message (5.4).
    ///
    /// An empty message and an uncharged write that come behind a write for which the ring lacks
    /// room are complete too. The writer keeps their bytes, and stores them within the call that
    /// stores or withdraws what is before them. Only if the ring will not have room for them then
    /// are they pending; large writes leave a quarter of it, at most 64 KiB, for that.
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) when the reader's cursors are impossible.
    pub fn begin(
        &mut self,
        lane: &impl Outgoing,
        src: &[u8],
        charge: Charge,
    ) -> Result<Begun, Error> {
        if src.is_empty() && self.pipe_type == PipeType::Byte {
            return Ok(Begun::Done);
        }
        let len = count(src.len());
        if self.store_at_once(lane, src, charge)? {
            return Ok(Begun::Done);
        }
        self.refresh(lane)?;
        self.store_unstored(lane, None)?;
        let mut op = self.start(lane, len, charge);
        let id = op.id;
        if !self.is_within(&op, 0) || !self.has_room_for(len) || !self.pending.is_empty() {
            op.flags |= WITHDRAWABLE;
        }
        self.pending.push_back(op);
        let is_done = self.resume(lane, id, src)?.is_ready() || self.detach(id, src);
        Ok(match is_done {
            true => Begun::Done,
            false => Begun::Pending(id),
        })
    }

    /// As [`begin`](Self::begin), but only if the write completes at once; else nothing happens.
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) when the reader's cursors are impossible.
    pub fn begin_at_once(&mut self, lane: &impl Outgoing, src: &[u8]) -> Result<bool, Error> {
        let at_once = (src.is_empty() && self.pipe_type == PipeType::Byte)
            || self.store_at_once(lane, src, Charge::Charged)?;
        if at_once || !self.fits(lane, src.len())? {
            return Ok(at_once);
        }
        // It fits, so that this completes it.
        self.begin(lane, src, Charge::Charged)?;
        Ok(true)
    }

    /// Goes on with a pending write: stores what has room, and says whether it is complete.
    ///
    /// `src` must be the bytes that the write began with.
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) when the reader's cursors are impossible.
    pub fn resume(
        &mut self,
        lane: &impl Outgoing,
        id: OpId,
        src: &[u8],
    ) -> Result<Poll<()>, Error> {
        self.refresh(lane)?;
        self.settle(lane, 0);
        self.store_unstored(lane, Some((id, src)))?;
        if self.pending.iter().any(|op| op.id == id) {
            // A waiting read takes from the first write directly (observed 5.7). The fence orders
            // our tail before its question: a read that is given up looks at the tail once more.
            lane.fence();
            self.refresh(lane)?;
            self.settle(lane, lane.asked());
        }
        Ok(match self.pending.iter().any(|op| op.id == id) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
    }

    /// Whether a write of `len` bytes would complete at once without a waiting read.
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) when the reader's cursors are impossible.
    pub fn fits(&mut self, lane: &impl Outgoing, len: usize) -> Result<bool, Error> {
        self.refresh(lane)?;
        self.settle(lane, 0);
        let unread = self.unread_charged(self.offered + count(len));
        Ok(self.pending.is_empty() && unread <= self.quota && self.has_room_for(count(len)))
    }

    /// Whether an attempt to take a pending write back has begun, and was contested.
    #[must_use]
    pub fn is_withdrawing(&self, id: OpId) -> bool {
        self.pending.iter().any(|op| op.id == id && op.withdrawing)
    }

    /// How many bytes of a pending write are in the ring or have been read; `None` if it is not
    /// pending any more.
    #[must_use]
    pub fn stored(&self, id: OpId) -> Option<u64> {
        let op = self.pending.iter().find(|op| op.id == id)?;
        Some(op.stored)
    }

    /// The pending writes, in order. Whoever holds this end can go on with one of them if it has
    /// the bytes, and can take any of them back.
    pub fn pending_ids(&self) -> impl Iterator<Item = OpId> + '_ {
        let waiting = self.pending.iter().filter(|op| op.kept.is_none());
        waiting.map(|op| op.id)
    }

    /// The first pending write of which bytes still wait for room: those behind it wait for it.
    #[must_use]
    pub fn first_unstored(&self) -> Option<OpId> {
        let op = self.pending.iter().find(|op| !op.whole)?;
        Some(op.id)
    }

    /// Whether a write is pending: others have to come behind it.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether writes or flushes wait, to whom the end of another may matter.
    #[must_use]
    pub fn has_waiters(&self) -> bool {
        self.pending_ids().next().is_some() || !self.flushes.is_empty()
    }

    /// The bytes of quota that are free: what the peer has not read is in use.
    ///
    /// # Errors
    /// `ERROR_INVALID_DATA` (13) when the reader's cursors are impossible.
    pub fn free_quota(&mut self, lane: &impl Outgoing) -> Result<u64, Error> {
        self.refresh(lane)?;
        Ok(self.quota.saturating_sub(self.unread_charged(self.offered)))
    }

    /// A write of `len` bytes, offered and not stored yet.
    fn start(&mut self, lane: &impl Outgoing, len: u64, charge: Charge) -> Pending {
        self.offered += len;
        lane.offer(self.offered);
        let id = OpId(self.next_id);
        self.next_id += 1;
        let mut op = Pending {
            id,
            charge,
            len,
            due: self.offered,
            stored: 0,
            whole: false,
            withdrawing: false,
            flags: 0,
            after: self.live_end,
            end: 0,
            records: VecDeque::new(),
            kept: None,
        };
        if op.is_uncharged() {
            self.uncharged.push_back((op.due, len));
            op.flags = UNCHARGED;
        }
        op
    }

    /// The path of most writes: one record, within the quota, and room for it.
    fn store_at_once(
        &mut self,
        lane: &impl Outgoing,
        src: &[u8],
        charge: Charge,
    ) -> Result<bool, Error> {
        let len = count(src.len());
        if len > FRAGMENT || charge == Charge::Uncharged || !self.pending.is_empty() {
            return Ok(false);
        }
        let end = self.offered + len;
        if len > 0 && self.unread_charged(end) > self.quota {
            self.refresh(lane)?;
            if self.unread_charged(end) > self.quota {
                return Ok(false);
            }
        }
        self.store_record(lane, src)
    }

    /// Stores a whole write of at most [`FRAGMENT`] bytes as one record, if it has room.
    fn store_record(&mut self, lane: &impl Outgoing, src: &[u8]) -> Result<bool, Error> {
        let len = count(src.len());
        if !self.make_room(lane, HEADER + len, len, 0)? {
            return Ok(false);
        }
        let Ok(short) = u32::try_from(len) else {
            return Ok(false);
        };
        lane.store_header(
            Pos(self.tail),
            Header {
                len: short,
                flags: FIRST | LAST,
            },
        );
        lane.store(Pos(self.tail + HEADER), src);
        self.tail += HEADER + padded(len);
        self.live_end = self.tail;
        self.offered += len;
        lane.offer(self.offered);
        lane.publish(Pos(self.tail));
        Ok(true)
    }

    /// Stores as much of the first write that is not wholly stored as has room, if its bytes are
    /// at hand; then goes on with the next.
    fn store_unstored(
        &mut self,
        lane: &impl Outgoing,
        given: Option<(OpId, &[u8])>,
    ) -> Result<(), Error> {
        while let Some(at) = self.pending.iter().position(|op| !op.whole)
            && let Some(op) = self.pending.get_mut(at)
        {
            let kept = op.kept.take();
            let src = match given {
                _ if kept.is_some() => kept.as_deref().unwrap_or_default(),
                Some((id, src)) if id == op.id => src,
                Some(_) | None => return Ok(()),
            };
            let Some(mut op) = self.pending.remove(at) else {
                return Ok(());
            };
            let keep = self.room_to_keep(&op);
            let stored = self.store_pieces(lane, &mut op, src, keep);
            let whole = op.whole;
            op.kept = kept.filter(|_| !whole);
            self.pending.insert(at, op);
            stored?;
            self.refresh(lane)?;
            self.settle(lane, 0);
            if !whole {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Stores as much of `op` as has room, piece by piece, if `keep` bytes are to remain free.
    fn store_pieces(
        &mut self,
        lane: &impl Outgoing,
        op: &mut Pending,
        src: &[u8],
        keep: u64,
    ) -> Result<(), Error> {
        while !op.whole && !op.withdrawing {
            let rest = op.len - op.stored;
            let first = op.stored == 0;
            let long = first && rest > FRAGMENT;
            let mut prefix = if long { HEADER + TOTAL } else { HEADER };
            let mut piece = rest.min(FRAGMENT);
            if !self.make_room(lane, prefix + piece, rest, keep)? {
                // Not the whole piece: a smaller one, if it is worth it.
                prefix = if first { HEADER + TOTAL } else { HEADER };
                piece = self.room(keep).saturating_sub(prefix) & !7;
                if piece < MIN_PIECE || piece >= rest {
                    return Ok(());
                }
            }
            let mut flags = op.flags;
            if first {
                flags |= if piece < rest { FIRST | LONG } else { FIRST };
            }
            if piece == rest {
                flags |= LAST;
                if op.never_waits() && op.flags & WITHDRAWABLE != 0 {
                    flags &= !WITHDRAWABLE;
                    op.keep_for_good(lane);
                }
            }
            let Ok(len) = u32::try_from(piece) else {
                return Err(Error::INTERNAL_ERROR);
            };
            let header = Header { len, flags };
            let at = self.tail;
            if first {
                op.after = self.live_end;
            }
            lane.store_header(Pos(at), header);
            if flags & LONG != 0 {
                lane.store(Pos(at + HEADER), &op.len.to_le_bytes());
            }
            let from = size(op.stored);
            let Some(bytes) = src.get(from..from + size(piece)) else {
                return Err(Error::INTERNAL_ERROR);
            };
            lane.store(Pos(at + header.prefix()), bytes);
            self.tail = at + header.prefix() + padded(piece);
            op.stored += piece;
            op.prune(self.taken.head.0);
            op.records.push_back((at, header));
            if op.stored == op.len {
                op.whole = true;
                op.end = self.tail;
                self.live_end = self.tail;
                for flush in self.flushes.iter_mut().filter(|f| op.id < f.last) {
                    flush.at = flush.at.max(op.end);
                }
            }
            lane.publish(Pos(self.tail));
        }
        Ok(())
    }

    /// Loads the reader's cursors and checks them: they only go forward, and not past the tail.
    fn refresh(&mut self, lane: &impl Outgoing) -> Result<(), Error> {
        let taken = lane.taken();
        let forward = taken.head >= self.taken.head && taken.consumed >= self.taken.consumed;
        if !forward || taken.head.0 > self.tail || taken.consumed > self.offered {
            return Err(CORRUPT);
        }
        if self.turned > 0 {
            self.look_for_turn(taken.head.0)?;
        }
        self.taken = taken;
        while self
            .uncharged
            .front()
            .is_some_and(|(end, _)| *end <= taken.consumed)
        {
            self.uncharged.pop_front();
        }
        Ok(())
    }

    /// Lets go of the pending writes that are complete, and tells so.
    fn settle(&mut self, lane: &impl Outgoing, asked: u64) {
        let mut pending = std::mem::take(&mut self.pending);
        let mut completed = self.completed;
        pending.retain(|op| {
            let done = op.whole && !op.withdrawing && self.is_within(op, asked);
            // All charged writes before this one are complete too, or withdrawn. What never waits
            // completes out of turn, but its records say so themselves.
            if done && !op.never_waits() && op.flags & WITHDRAWABLE != 0 {
                completed = completed.max(op.end);
            }
            !done
        });
        self.pending = pending;
        if completed != self.completed {
            self.completed = completed;
            lane.complete(Pos(completed));
        }
    }

    /// The inequality: whether what is unread up to the end of `op` is within the quota.
    fn is_within(&self, op: &Pending, asked: u64) -> bool {
        if op.never_waits() {
            return true;
        }
        // A waiting read takes from one write only, and nothing is before that one.
        let first = op.due - op.len <= self.taken.consumed && op.after <= self.taken.head.0;
        let direct = if first { asked.min(op.len) } else { 0 };
        self.unread_charged(op.due) <= self.quota.saturating_add(direct)
    }

    /// The unread bytes before the offset `end` that the quota counts.
    fn unread_charged(&self, end: u64) -> u64 {
        let consumed = self.taken.consumed;
        let uncharged: u64 = (self.uncharged.iter())
            .filter(|(last, _)| *last <= end)
            .map(|(last, len)| last.saturating_sub(consumed).min(*len))
            .sum();
        end.saturating_sub(consumed).saturating_sub(uncharged)
    }
}

impl Pending {
    /// Whether it has bytes that no quota counts. Without bytes, its end is not its own.
    fn is_uncharged(&self) -> bool {
        self.charge == Charge::Uncharged && self.len > 0
    }

    /// Whether it is complete as soon as it is wholly stored.
    fn never_waits(&self) -> bool {
        self.charge == Charge::Uncharged || self.len == 0
    }

    /// Its last record is about to make it complete: the ones before can't be withdrawn any more.
    /// A reader that has not seen that yet claims in vain.
    fn keep_for_good(&self, lane: &impl Outgoing) {
        for (start, header) in &self.records {
            let flags = header.flags & !WITHDRAWABLE;
            lane.store_header(Pos(*start), Header { flags, ..*header });
        }
    }

    /// Forgets the records that are wholly read.
    fn prune(&mut self, head: u64) {
        let is_read = |(start, header): &(u64, Header)| start + header.size() <= head;
        while self.records.front().is_some_and(is_read) {
            self.records.pop_front();
        }
    }
}
