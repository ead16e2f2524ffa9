//! Reading, writing and flushing without waiting: what tasks of an event loop do.
//!
//! Nothing here sleeps, and nothing holds a lock for longer than a copy takes. *Pending* means that
//! the caller is to arm the doorbell and look once more, or to have its waker among the [`Tasks`].
//!
//! [`Tasks`]: super::Tasks

use std::sync::Arc;
use std::task::Poll;

use ntpipe_proto::lane::{
    Begun, Charge, Flush, Incoming, OpId, Outgoing, Read, Reading, Taken, Withdrawal,
};
use ntpipe_proto::{Access, EndState, Error, Operation, PipeType, ReadMode};

use super::reading::{look, try_read};
use super::writing::tell_reader;
use super::{PipeStream, ReadSide, Slot, WriteSide, lock};
use crate::locked::MutexGuard;
use crate::ring::{Link, MemoryId, Peer, Wait};

/// What became of a write that did not have to wait.
#[derive(Debug)]
pub(crate) enum Written {
    /// It is complete, as far as that many bytes.
    Done(usize),
    /// All of it is accepted, but it is more than the peer's buffer holds: somebody has to
    /// [`resume`](PipeStream::poll_resume) it until it is complete.
    Begun(Arc<Link>, OpId),
}

/// How a write goes on that finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Its caller waits, and tries again whenever the peer has moved.
    Waits,
    /// Its caller is told, and may ask when it is worth trying again.
    Tries,
}

/// A write that found no room, and how far the peer had come then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    len: usize,
    taken: Taken,
}

/// What came of a write.
enum Attempted {
    Written(Written),
    /// It has to wait, for room for that many bytes; 0 if something else is before it.
    Needs(usize),
}

/// What a read would find.
enum Ahead {
    Nothing,
    /// Nothing, and the read says why.
    TheEnd,
    Some(usize),
}

/// The place of a transaction among the reads.
#[derive(Debug)]
pub(crate) struct Turn {
    link: Arc<Link>,
}

/// A flush of this connection.
pub(crate) type FlushOf = (Arc<Link>, Flush);

/// What both lanes of a connection looked like; when that changes, it is worth another look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Which connection it was.
    memory: Option<MemoryId>,
    /// How far this end has read, or let go of what was withdrawn.
    head: u64,
    tail: u64,
    taken: (u64, u64),
    peer: Option<Peer>,
    mode: ReadMode,
}

/// A byte pipe takes part of a write only if that is worth it.
const MIN_PART: usize = 4096;

impl PipeStream {
    /// The connection, if there is one.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        match &lock(&self.read.side).link {
            Slot::Linked(link) => Some(Arc::clone(link)),
            Slot::Arriving | Slot::Absent(_) | Slot::Kernel(_) => None,
        }
    }

    /// Reads what is there, in message read mode a whole message or as much of it as fits.
    pub(crate) fn poll_read(&self, dst: &mut [u8]) -> Result<Poll<Read>, Error> {
        match self.side_to_read()? {
            Some(mut side) => self.read_now(&mut side, dst),
            None => Ok(Poll::Pending),
        }
    }

    /// As [`poll_read`](Self::poll_read), into what `buffer` makes of as many bytes as there is
    /// something for, `most` at most. While there is nothing it makes none.
    pub(crate) fn poll_read_into<'a>(
        &self,
        most: usize,
        buffer: impl FnOnce(usize) -> &'a mut [u8],
    ) -> Result<Poll<Read>, Error> {
        let Some(mut side) = self.side_to_read()? else {
            return Ok(Poll::Pending);
        };
        match self.ahead(&mut side, most)? {
            Ahead::Nothing => Ok(Poll::Pending),
            Ahead::TheEnd => self.read_now(&mut side, &mut []),
            Ahead::Some(len) => self.read_now(&mut side, buffer(len)),
        }
    }

    /// The side that reads, unless others come first.
    fn side_to_read(&self) -> Result<Option<MutexGuard<'_, ReadSide>>, Error> {
        self.check_process()?;
        self.terms.reads.ok_or(Error::ACCESS_DENIED)?;
        let side = lock(&self.read.side);
        let others = !side.turns.is_empty() || side.transacts;
        Ok((!others).then_some(side))
    }

    fn ahead(&self, side: &mut ReadSide, most: usize) -> Result<Ahead, Error> {
        let ReadSide {
            link: Slot::Linked(link),
            reader,
            stash,
            ..
        } = side
        else {
            // There may be nothing yet: the read says what it is.
            return Ok(Ahead::TheEnd);
        };
        let mode = self.mode();
        // The peer first: what it had written before it went is seen then.
        let is_there = link.peer() == Peer::Connected;
        stash.forget_torn(reader, link)?;
        let found = look(link, reader, |reader| reader.ahead(&**link, mode));
        let found = found.map_err(|error| link.poison(error))?;
        let kept = stash.len();
        let is_enough = kept >= most || mode == ReadMode::Byte;
        let more = match found {
            Some(found) => size(found),
            None if kept == 0 && !is_there => return Ok(Ahead::TheEnd),
            None if kept == 0 => return Ok(Ahead::Nothing),
            None if is_enough => 0,
            None if is_there && reader.is_within_message() => return Ok(Ahead::Nothing),
            // The message ends here: a read that has room for more says how.
            None => 1,
        };
        Ok(Ahead::Some(most.min(kept.saturating_add(more))))
    }

    fn read_now(&self, side: &mut ReadSide, dst: &mut [u8]) -> Result<Poll<Read>, Error> {
        let ReadSide {
            link,
            reader,
            stash,
            ..
        } = side;
        let link = match link {
            Slot::Linked(link) => link,
            Slot::Arriving | Slot::Absent(EndState::Listening) => return Ok(Poll::Pending),
            Slot::Absent(state) => return Err(self.refused(Operation::Read, *state)),
            // Only anonymous pipes turn into the kernel's, and tasks have none.
            Slot::Kernel(_) => return Err(Error::INTERNAL_ERROR),
        };
        let mode = self.mode();
        stash.forget_torn(reader, link)?;
        if stash.is_empty() {
            let mut op = Reading::default();
            let read = try_read(link, reader, &mut op, mode, dst)?;
            if read.is_pending() {
                stash.keep(&op, dst);
            }
            return Ok(read);
        }
        let is_over = stash.len() >= dst.len();
        if is_over && matches!(link.peer(), Peer::Connected | Peer::Gone) {
            let len = stash.hand_out(dst);
            let more = mode == ReadMode::Message;
            return Ok(Poll::Ready(Read { len, more }));
        }
        let (mut op, buffer) = stash.go_on(dst.len());
        let read = try_read(link, reader, &mut op, mode, buffer);
        stash.set_filled(op.filled());
        match read {
            Ok(Poll::Pending) => Ok(Poll::Pending),
            Ok(Poll::Ready(Read { more, .. })) => Ok(Poll::Ready(Read {
                len: stash.hand_out(dst),
                more,
            })),
            Err(error) => {
                // The rest will never come: the message was not written.
                *stash = super::Stash::default();
                Err(error)
            }
        }
    }

    /// Whether a read is worth trying: there is something, or an error to tell.
    pub(crate) fn poll_readable(&self) -> Poll<()> {
        let mut side = lock(&self.read.side);
        let ReadSide {
            link,
            reader,
            turns,
            stash,
            transacts,
            ..
        } = &mut *side;
        let link = match link {
            Slot::Linked(link) => link,
            Slot::Arriving | Slot::Absent(EndState::Listening) => return Poll::Pending,
            Slot::Absent(_) | Slot::Kernel(_) => return Poll::Ready(()),
        };
        if self.terms.reads.is_none() || link.peer() != Peer::Connected {
            return Poll::Ready(());
        }
        let mode = self.mode();
        let found = look(link, reader, |reader| reader.ahead(&**link, mode));
        // What was kept of a message goes to reads of bytes at once, to others with its rest, or when
        // there is none.
        let waits = mode == ReadMode::Message && reader.is_within_message();
        let is_kept = !stash.is_empty() && !waits;
        // An error is found again by the read.
        let is_empty = !is_kept && found.is_ok_and(|found| found.is_none());
        if is_empty || !turns.is_empty() || *transacts {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Writes `src` if the peer's buffer has room. A byte pipe takes the part that has room; what is
    /// more than the buffer could ever hold is accepted if nothing else waits. `written_to` is told
    /// of the connection that got it.
    pub(crate) fn poll_write(
        &self,
        src: &[u8],
        how: Attempt,
        written_to: impl FnOnce(&Arc<Link>),
    ) -> Result<Poll<Written>, Error> {
        self.check_process()?;
        self.terms.writes.ok_or(Error::ACCESS_DENIED)?;
        let mut side = lock(&self.write);
        let Some(link) = self.writable_link(&side.link)? else {
            return Ok(Poll::Pending);
        };
        let attempted = self.write_now(&mut side, &link, src);
        match attempted.map_err(|error| link.poison(error))? {
            Attempted::Written(written) => {
                side.refused = None;
                tell_reader(side.seat.as_ref(), &link);
                written_to(&link);
                Ok(Poll::Ready(written))
            }
            Attempted::Needs(len) => {
                if how == Attempt::Tries {
                    let taken = Outgoing::taken(&*link);
                    side.refused = (len > 0).then_some(Refused { len, taken });
                }
                Ok(Poll::Pending)
            }
        }
    }

    fn write_now(
        &self,
        side: &mut WriteSide,
        link: &Arc<Link>,
        src: &[u8],
    ) -> Result<Attempted, Error> {
        let writer = &mut side.writer;
        if writer.begin_at_once(&**link, src)? {
            return Ok(Attempted::Written(Written::Done(src.len())));
        }
        if writer.is_pending() {
            return Ok(Attempted::Needs(0));
        }
        let quota = size(self.terms.writes.unwrap_or(0).into());
        let is_oversize = src.is_empty() || quota == 0 || src.len() > quota;
        if self.terms.pipe_type == PipeType::Byte && quota > 0 {
            let part = src.len().min(size(writer.free_quota(&**link)?));
            let worth = src.len().min(quota).min(MIN_PART);
            // The quota may have more room than the ring, which has gaps.
            for len in [part, worth]
                .into_iter()
                .filter(|len| (worth..=part).contains(len))
            {
                let some = src.get(..len).unwrap_or_default();
                if writer.begin_at_once(&**link, some)? {
                    return Ok(Attempted::Written(Written::Done(len)));
                }
            }
            return Ok(Attempted::Needs(worth));
        }
        if !is_oversize {
            return Ok(Attempted::Needs(src.len()));
        }
        Ok(Attempted::Written(
            match writer.begin(&**link, src, Charge::Charged)? {
                Begun::Done => Written::Done(src.len()),
                Begun::Pending(id) => Written::Begun(Arc::clone(link), id),
            },
        ))
    }

    /// The connection for a write; `None` before there is one.
    fn writable_link(&self, slot: &Slot) -> Result<Option<Arc<Link>>, Error> {
        let link = match slot {
            Slot::Linked(link) => link,
            Slot::Arriving | Slot::Absent(EndState::Listening) => return Ok(None),
            Slot::Absent(state) => return Err(self.refused(Operation::Write, *state)),
            Slot::Kernel(_) => return Err(Error::INTERNAL_ERROR),
        };
        match link.peer() {
            Peer::Connected => Ok(Some(Arc::clone(link))),
            Peer::Gone => Err(self.refused(Operation::Write, EndState::Closing)),
            Peer::Disconnected => Err(Error::PIPE_NOT_CONNECTED),
            Peer::Corrupt => Err(link.poison(Error::INVALID_DATA)),
        }
    }

    /// Goes on with a write that was accepted; `src` is what it began with.
    pub(crate) fn poll_resume(
        &self,
        link: &Arc<Link>,
        id: OpId,
        src: &[u8],
    ) -> Poll<Result<(), Error>> {
        let mut side = lock(&self.write);
        if !side.link.is(link) {
            return Poll::Ready(Err(side.link.left()));
        }
        let peer = link.peer();
        let first = side.writer.first_unstored();
        let resumed = side.writer.resume(&**link, id, src);
        tell_reader(side.seat.as_ref(), link);
        let is_stored = first == Some(id) && side.writer.first_unstored() != first;
        let is_over = resumed != Ok(Poll::Pending) || peer != Peer::Connected;
        if (is_stored || is_over) && side.writer.has_waiters() {
            // Threads at this end may wait for just that.
            link.wake_own();
        }
        match (resumed, peer) {
            (Err(error), _) => Poll::Ready(Err(link.poison(error))),
            (Ok(Poll::Ready(())), _) => Poll::Ready(Ok(())),
            (Ok(Poll::Pending), Peer::Connected) => Poll::Pending,
            (Ok(Poll::Pending), Peer::Gone) => Poll::Ready(Err(Error::BROKEN_PIPE)),
            (Ok(Poll::Pending), Peer::Disconnected) => Poll::Ready(Err(Error::PIPE_NOT_CONNECTED)),
            (Ok(Poll::Pending), Peer::Corrupt) => {
                Poll::Ready(Err(link.poison(Error::INVALID_DATA)))
            }
        }
    }

    /// Takes back what the peer has not read of a write that was accepted. If it is
    /// [`Contested`](Withdrawal::Contested), the peer is just taking it: ask again.
    pub(crate) fn withdraw(&self, link: &Arc<Link>, id: OpId) -> Withdrawal {
        let mut side = lock(&self.write);
        if !side.link.is(link) {
            return Withdrawal::Withdrawn;
        }
        let withdrawal = side.writer.withdraw(&**link, id);
        // There may be room without the peer.
        side.refused = None;
        link.wake_peer(Wait::DATA);
        // Threads at this end may wait for just that.
        link.wake_own();
        withdrawal.unwrap_or_else(|error| {
            link.poison(error);
            Withdrawal::Withdrawn
        })
    }

    /// Whether a write is worth trying: there is room, or an error to tell. After one that was
    /// refused that is so when it has room, or when the peer has made some.
    pub(crate) fn poll_writable(&self) -> Poll<()> {
        let mut side = lock(&self.write);
        let WriteSide {
            link: Slot::Linked(link),
            writer,
            refused,
            ..
        } = &mut *side
        else {
            return self.poll_room_of(&mut side);
        };
        if let Some(Refused { len, taken }) = *refused {
            let is_still = Outgoing::taken(&**link) == taken && link.peer() == Peer::Connected;
            // An error is found again by the write.
            if is_still && !writer.fits(&**link, len).unwrap_or(true) {
                return Poll::Pending;
            }
            *refused = None;
        }
        self.poll_room_of(&mut side)
    }

    /// Whether there is room for a byte, or an error to tell.
    pub(crate) fn poll_room(&self) -> Poll<()> {
        self.poll_room_of(&mut lock(&self.write))
    }

    fn poll_room_of(&self, side: &mut WriteSide) -> Poll<()> {
        let link = match &side.link {
            Slot::Linked(link) => link,
            Slot::Arriving | Slot::Absent(EndState::Listening) => return Poll::Pending,
            Slot::Absent(_) | Slot::Kernel(_) => return Poll::Ready(()),
        };
        if self.terms.writes.is_none() || link.peer() != Peer::Connected {
            return Poll::Ready(());
        }
        // An error is found again by the write. With a quota of 0 all is accepted, one at a time.
        match side.writer.fits(&**link, 1) {
            Ok(false) if self.terms.writes != Some(0) || side.writer.is_pending() => Poll::Pending,
            Ok(_) | Err(_) => Poll::Ready(()),
        }
    }

    /// Begins to wait until the peer has read everything written so far; `None` if it need not.
    pub(crate) fn begin_flush(&self) -> Result<Poll<Option<FlushOf>>, Error> {
        self.check_process()?;
        self.terms.writes.ok_or(Error::ACCESS_DENIED)?;
        let mut side = lock(&self.write);
        let link = match &side.link {
            Slot::Linked(link) => Arc::clone(link),
            Slot::Arriving => return Ok(Poll::Pending),
            Slot::Kernel(_) => return Err(Error::INTERNAL_ERROR),
            Slot::Absent(state) => {
                self.refusal(Operation::Flush, *state)?;
                return Ok(Poll::Ready(None));
            }
        };
        match link.peer() {
            Peer::Connected => {}
            Peer::Gone => return Ok(Poll::Ready(None)),
            Peer::Disconnected => {
                self.refusal(Operation::Flush, EndState::Disconnected)?;
                return Ok(Poll::Ready(None));
            }
            Peer::Corrupt => return Err(link.poison(Error::INVALID_DATA)),
        }
        let flush = side.writer.flush();
        Ok(Poll::Ready(Some((link, flush))))
    }

    /// Whether a flush is done; when it fails, it is over too.
    pub(crate) fn poll_flush(&self, link: &Arc<Link>, flush: Flush) -> Poll<Result<(), Error>> {
        let mut side = lock(&self.write);
        if !side.link.is(link) {
            return Poll::Ready(Err(side.link.left()));
        }
        let peer = link.peer();
        let failed = match side.writer.poll_flush(&**link, flush) {
            Ok(Poll::Ready(())) => return Poll::Ready(Ok(())),
            Err(error) => link.poison(error),
            Ok(Poll::Pending) => match peer {
                Peer::Connected => return Poll::Pending,
                Peer::Gone => Error::BROKEN_PIPE,
                Peer::Disconnected => Error::PIPE_NOT_CONNECTED,
                Peer::Corrupt => link.poison(Error::INVALID_DATA),
            },
        };
        side.writer.forget_flush(flush);
        Poll::Ready(Err(failed))
    }

    /// Gives a flush up.
    pub(crate) fn forget_flush(&self, link: &Arc<Link>, flush: Flush) {
        let mut side = lock(&self.write);
        if side.link.is(link) {
            side.writer.forget_flush(flush);
        }
    }

    /// Begins a transaction: writes the request and takes a turn for the reply (observed 11).
    pub(crate) fn poll_request(&self, request: &[u8]) -> Result<Poll<(Turn, Written)>, Error> {
        self.check_process()?;
        self.check_access(Access::READ_DATA | Access::WRITE_DATA)?;
        if matches!(lock(&self.read.side).link, Slot::Arriving) {
            return Ok(Poll::Pending);
        }
        self.check(Operation::Transact)?;
        if self.mode() != ReadMode::Message {
            return Err(Error::BAD_PIPE);
        }
        let mut write = lock(&self.write);
        let mut read = lock(&self.read.side);
        let link = self.linked(&read.link, Operation::Transact)?;
        let is_empty = read.reader.is_empty(&*link);
        let is_empty = is_empty.map_err(|error| link.poison(error))?;
        if !is_empty || self.is_being_read(&read) {
            return Err(Error::PIPE_BUSY);
        }
        if self.writable_link(&write.link)?.is_none() {
            return Ok(Poll::Pending);
        }
        let begun = write.writer.begin(&*link, request, Charge::Uncharged);
        let begun = begun.map_err(|error| link.poison(error))?;
        read.transacts = true;
        // Whom this serves reads at the other end.
        drop(read);
        tell_reader(write.seat.as_ref(), &link);
        let written = match begun {
            Begun::Done => Written::Done(request.len()),
            Begun::Pending(id) => Written::Begun(Arc::clone(&link), id),
        };
        Ok(Poll::Ready((Turn { link }, written)))
    }

    /// The reply of a transaction.
    pub(crate) fn poll_reply(&self, turn: &Turn, reply: &mut [u8]) -> Result<Poll<Read>, Error> {
        let mut side = lock(&self.read.side);
        if !side.link.is(&turn.link) {
            return Err(side.link.left());
        }
        self.read_now(&mut side, reply)
    }

    /// A transaction is over.
    pub(crate) fn end_transaction(&self, turn: &Turn) {
        let mut side = lock(&self.read.side);
        if side.link.is(&turn.link) {
            side.transacts = false;
            // Also those that this ends.
            let others_wait = !side.turns.is_empty();
            self.read.pass_on(&mut side);
            if others_wait {
                turn.link.wake_own();
            }
        }
        drop(side);
        // Tasks come behind threads.
        self.tasks.wake();
    }

    /// What there is to be seen now.
    pub(crate) fn sight(&self) -> Sight {
        let side = lock(&self.read.side);
        let mut sight = Sight {
            memory: None,
            head: side.reader.position().0,
            tail: 0,
            taken: (0, 0),
            peer: None,
            mode: self.mode(),
        };
        if let Slot::Linked(link) = &side.link {
            sight.memory = Some(link.own_id());
            // The peer first: what it had written before it went is seen then.
            sight.peer = Some(link.peer());
            sight.tail = Incoming::tail(&**link).0;
            let taken = Outgoing::taken(&**link);
            sight.taken = (taken.head.0, taken.consumed);
        }
        sight
    }
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
