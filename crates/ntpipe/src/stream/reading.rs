//! Reading, peeking, and the transaction that ends in a read.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use ntpipe_proto::lane::{Incoming, Peek, Read, Reader, Reading};
use ntpipe_proto::{Access, EndState, Error, Operation, ReadMode, Status, WaitMode};

use super::local::{AMPLE, ReadCall};
use super::shared::ReadTurn;
use super::stash::Resumed;
use super::waiters::Handed;
use super::{PipeStream, ReadSide, Slot, Waiters, expired, lock, pace};
use crate::canceller::Blocked;
use crate::locked::MutexGuard;
use crate::ring::{Link, Pace, Peer, Wait};

impl PipeStream {
    /// `ReadFile`.
    pub(crate) fn read_until(
        &self,
        dst: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<Read, Error> {
        self.check_process()?;
        self.terms.reads.ok_or(Error::ACCESS_DENIED)?;
        let mut side = match self.read_side_now() {
            Some(side) => side,
            // A client whose memory is not here yet has written nothing.
            None if self.is_nowait() => return Err(Status::PIPE_EMPTY.error()),
            None => self.read_side_by(deadline)?,
        };
        let mut op = Reading::default();
        let is_next = side.turns.is_empty() && !side.is_reserved();
        if !side.stash.is_empty() && is_next {
            match side.resume(dst, self.mode())? {
                Resumed::Done(read) => return Ok(read),
                Resumed::Reading(resumed) => op = resumed,
            }
        }
        let ReadSide { link, reader, .. } = &mut *side;
        if is_next
            && let Slot::Linked(link) = link
            && link.roster().is_none()
        {
            let modes = self.modes();
            if reader.has_caught_up() && modes.wait_mode == WaitMode::Wait {
                link.keep_behind(pace(dst.len(), self.terms.reads, Pace::BEHIND));
            }
            if let Poll::Ready(read) = try_read(link, reader, &mut op, modes.read_mode, dst)? {
                return Ok(read);
            }
        }
        if let Some(kernel) = side.link.kernel() {
            drop(side);
            return kernel.read(dst, deadline, self.is_nowait());
        }
        let link = self.linked(&side.link, Operation::Read)?;
        if link.roster().is_some() {
            let turn = self.take_turn(&mut side, dst.len(), op);
            let blocked = Blocked::enter(|| self.read_call(&link, turn));
            let call = ReadTurn::new(turn, op, self.modes().wait_mode, blocked);
            return self.read_shared(side, &link, call, dst, deadline);
        }
        // Of a message that is half here the rest is on its way.
        if self.is_nowait() && op.filled() == 0 {
            return Err(Status::PIPE_EMPTY.error());
        }
        let turn = self.take_turn(&mut side, dst.len(), op);
        self.read_in_turn(side, &link, turn, dst, deadline)
    }

    /// Reads once the turn has come, and data with it.
    fn read_in_turn<'a>(
        &'a self,
        mut side: MutexGuard<'a, ReadSide>,
        link: &Arc<Link>,
        turn: u64,
        dst: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<Read, Error> {
        let wait = Wait::Data(pace(dst.len(), self.terms.reads, Pace::BEHIND));
        let blocked = Blocked::enter(|| self.read_call(link, turn));
        let half = &*self.read;
        let result = loop {
            let mut op = match side.collect(turn, dst) {
                Collected::Ended(result) => break result,
                Collected::Waits(op) => op,
            };
            if let Some(kernel) = side.link.kernel() {
                drop(side);
                return kernel.resume_read(turn, dst, deadline);
            }
            if !side.link.is(link) {
                break Err(side.link.left());
            }
            if link.roster().is_some() {
                let call = ReadTurn::new(turn, op, WaitMode::Wait, blocked);
                return self.read_shared(side, link, call, dst, deadline);
            }
            let (rings, tail, served) = (link.rings(), Incoming::tail(&**link), half.served());
            let moved = || {
                Incoming::tail(&**link) != tail
                    || half.served() != served
                    || link.rings() != rings
                    || link.peer() != Peer::Connected
            };
            let first = side.is_next(turn);
            if first {
                let mode = self.mode();
                match try_read(link, &mut side.reader, &mut op, mode, dst) {
                    Ok(Poll::Ready(read)) => break Ok(read),
                    Err(error) => break Err(error),
                    Ok(Poll::Pending) => {}
                }
                if let Some(call) = side.turns.find(turn) {
                    call.op = op;
                }
            }
            if blocked.is_cancelled() {
                half.cancel(&mut side, Some(turn));
                if side.turns.find(turn).is_none() {
                    continue;
                }
            }
            let why = match side.turns.is_cancelled(turn) {
                true => Some(Error::OPERATION_ABORTED),
                false => expired(deadline).then_some(Error::SEM_TIMEOUT),
            };
            if let Some(why) = why {
                break self.wait_no_more(&mut side, link, turn, dst, why);
            }
            drop(side);
            if first && link.spin(wait, moved) {
                side = lock(&half.side);
                continue;
            }
            let mut side_then = lock(&half.side);
            if side_then.link.is(link) && link.roster().is_none() && !side_then.is_reserved() {
                side_then.ask(link, turn, true);
            }
            drop(side_then);
            link.sleep(wait, deadline, moved);
            side = lock(&self.read.side);
        };
        self.leave(&mut side, turn);
        half.pass_on(&mut side);
        drop(side);
        // Tasks come behind threads.
        self.tasks.wake();
        result
    }

    /// The read waits no longer. A write may have counted on what it asked for: then it has it. What
    /// it has of a message is the next one's.
    fn wait_no_more(
        &self,
        side: &mut ReadSide,
        link: &Arc<Link>,
        turn: u64,
        dst: &mut [u8],
        why: Error,
    ) -> Result<Read, Error> {
        // Other threads may have read for it meanwhile.
        let mut op = match side.collect(turn, dst) {
            Collected::Ended(result) => return result,
            Collected::Waits(op) => op,
        };
        let first = side.is_next(turn);
        side.ask(link, turn, false);
        if !first {
            return Err(why);
        }
        if let Poll::Ready(read) = try_read(link, &mut side.reader, &mut op, self.mode(), dst)? {
            return Ok(read);
        }
        side.keep(link, &op, dst);
        Err(why)
    }

    /// `PeekNamedPipe`: never waits (observed 7.1).
    pub(crate) fn peek_into(&self, dst: &mut [u8]) -> Result<Peek, Error> {
        self.check_process()?;
        self.terms.reads.ok_or(Error::ACCESS_DENIED)?;
        let Some(mut side) = self.read_side_now() else {
            return Ok(Peek::default());
        };
        if let Some(kernel) = side.link.kernel() {
            return kernel.peek(dst);
        }
        let link = self.linked(&side.link, Operation::Peek)?;
        self.peek_linked(&mut side, &link, dst)
    }

    fn peek_linked(&self, side: &mut ReadSide, link: &Link, dst: &mut [u8]) -> Result<Peek, Error> {
        let peer = link.peer();
        match peer {
            Peer::Disconnected => return Err(self.refused(Operation::Peek, EndState::Disconnected)),
            Peer::Corrupt => return Err(link.poison(Error::INVALID_DATA)),
            Peer::Connected | Peer::Gone => {}
        }
        if link.roster().is_some() {
            return self.peek_shared(side, link, dst);
        }
        let result = match peer {
            Peer::Gone => side.reader.writer_gone(link),
            Peer::Connected | Peer::Disconnected | Peer::Corrupt => Ok(()),
        };
        let ReadSide { reader, stash, .. } = side;
        stash.forget_torn(reader, link)?;
        let peek = |reader: &mut Reader| stash.peek(reader, link, dst);
        let result = result.and_then(|()| look(link, reader, peek));
        result.map_err(|error| link.poison(error))
    }

    /// `TransactNamedPipe`: writes one message and reads one (observed 11).
    pub(crate) fn transact_until(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<Read, Error> {
        self.check_process()?;
        self.check_access(Access::READ_DATA | Access::WRITE_DATA)?;
        let _blocked = Blocked::enter_several();
        // Whether a client that is on its way is still there, only its memory tells.
        drop(self.read_side_by(deadline)?);
        self.check(Operation::Transact)?;
        if self.mode() != ReadMode::Message {
            return Err(Error::BAD_PIPE);
        }
        let mut side = self.read_side_by(deadline)?;
        let link = self.linked(&side.link, Operation::Transact)?;
        if self.is_being_read(&side) {
            return Err(Error::PIPE_BUSY);
        }
        let is_empty = match link.roster() {
            // Other holders count as well.
            Some(_) => self.begin_transaction(&mut side, &link).map(|()| true),
            None => side.reader.is_empty(&*link),
        };
        if !is_empty.map_err(|error| link.poison(error))? {
            return Err(Error::PIPE_BUSY);
        }
        // The reply is ours: a read that another thread starts comes behind.
        let turn = self.take_turn(&mut side, reply.len(), Reading::default());
        drop(side);
        let written = self.write_request(request, &link, deadline);
        let mut side = lock(&self.read.side);
        if let Err(error) = written {
            // With both ends in this process the reply may have come before: nobody else has it. What
            // has come of it is the next read's.
            let result = match side.collect(turn, reply) {
                Collected::Ended(Ok(read)) => Ok(read),
                Collected::Ended(Err(_)) => Err(error),
                Collected::Waits(op) => {
                    side.keep(&link, &op, reply);
                    Err(error)
                }
            };
            match link.roster() {
                Some(_) => self.leave_shared(&mut side, &link, turn),
                None => {
                    self.leave(&mut side, turn);
                    self.read.pass_on(&mut side);
                }
            }
            drop(side);
            self.tasks.wake();
            return result;
        }
        self.read_in_turn(side, &link, turn, reply, deadline)
    }

    /// Whether somebody reads, or has read a part of a message, so that no transaction can begin.
    pub(super) fn is_being_read(&self, side: &ReadSide) -> bool {
        #[cfg(feature = "tokio")]
        let by_tasks = side.transacts || self.calls.reads() > 0;
        #[cfg(not(feature = "tokio"))]
        let by_tasks = false;
        by_tasks || !side.turns.is_empty() || !side.stash.is_empty()
    }

    /// A read waits from here on. Look for data after this.
    fn take_turn(&self, side: &mut ReadSide, room: usize, op: Reading) -> u64 {
        let turn = side.turns.enter_read(room, op);
        self.read.count(side);
        turn
    }

    fn leave(&self, side: &mut ReadSide, turn: u64) {
        side.turns.leave(turn);
        self.read.count_down(side);
        let ReadSide {
            link: Slot::Linked(link),
            reader,
            turns,
            ..
        } = side
        else {
            return;
        };
        ask_anew(reader, turns, link);
        if !turns.is_empty() {
            link.wake_own();
        }
    }

    fn read_call(&self, link: &Arc<Link>, turn: u64) -> Arc<ReadCall> {
        Arc::new(ReadCall {
            half: Arc::clone(&self.read),
            link: Arc::clone(link),
            turn,
        })
    }
}

/// A look that takes nothing, but lets go of what was withdrawn: there may be room for more then.
pub(super) fn look<T>(link: &Link, reader: &mut Reader, look: impl FnOnce(&mut Reader) -> T) -> T {
    let before = reader.position();
    let found = look(reader);
    if reader.position() != before {
        link.wake_peer(Wait::ROOM);
    }
    found
}

/// One look at the lane; it tells the peer what it took.
pub(super) fn try_read(
    link: &Link,
    reader: &mut Reader,
    op: &mut Reading,
    mode: ReadMode,
    dst: &mut [u8],
) -> Result<Poll<Read>, Error> {
    let peer = link.peer();
    match peer {
        Peer::Disconnected => return Err(Error::PIPE_NOT_CONNECTED),
        Peer::Corrupt => return Err(link.poison(Error::INVALID_DATA)),
        Peer::Connected | Peer::Gone => {}
    }
    let before = reader.position();
    let whole = if peer == Peer::Gone {
        reader.writer_gone(link)
    } else {
        Ok(())
    };
    let result = whole.and_then(|()| reader.read(op, link, mode, dst));
    if result.is_err() {
        reader.stop_asking(link);
    }
    if reader.position() != before {
        link.wake_peer(Wait::ROOM);
    }
    result.map_err(|error| link.poison(error))
}

/// One that asked has ended: the others ask as before.
pub(super) fn ask_anew(reader: &mut Reader, turns: &Waiters, link: &Link) {
    match turns.asked() {
        0 => reader.stop_asking(link),
        asked => reader.ask(link, asked),
    }
}

impl ReadSide {
    /// Whether what comes is for this read.
    fn is_next(&self, turn: u64) -> bool {
        self.turns.is_first(turn) && !self.is_reserved()
    }

    /// Tells the writer what all reads that wait ask for, and whether this one asks too.
    fn ask(&mut self, link: &Link, turn: u64, asks: bool) {
        self.turns.ask(turn, asks);
        self.reader.ask(link, self.turns.asked());
    }

    /// A read begins with what others have left, if this end still has its connection.
    fn resume(&mut self, dst: &mut [u8], mode: ReadMode) -> Result<Resumed, Error> {
        let nothing = Resumed::Reading(Reading::default());
        let Slot::Linked(link) = &self.link else {
            return Ok(nothing);
        };
        if matches!(link.peer(), Peer::Disconnected | Peer::Corrupt) {
            return Ok(nothing);
        }
        self.stash.forget_torn(&mut self.reader, link)?;
        Ok(self.stash.resume(dst, mode))
    }

    /// What a read that ends has of a message is the next one's.
    fn keep(&mut self, link: &Arc<Link>, op: &Reading, dst: &[u8]) {
        if self.link.is(link) {
            self.stash.keep(op, dst);
        }
    }

    /// What other threads have done for a read that waits; the bytes go to `dst`.
    fn collect(&mut self, turn: u64, dst: &mut [u8]) -> Collected {
        if let Some(ended) = self.turns.take_ended(turn) {
            let filled = ended.result.map_or(0, |read| read.len);
            self.copy(ended.handed, filled, dst);
            return Collected::Ended(ended.result);
        }
        let Some(call) = self.turns.find(turn) else {
            return Collected::Waits(Reading::default());
        };
        let (op, handed) = (call.op, call.handed.take());
        self.copy(handed, op.filled(), dst);
        Collected::Waits(op)
    }

    fn copy(&mut self, handed: Option<Handed>, filled: usize, dst: &mut [u8]) {
        let Some(Handed { from, bytes }) = handed else {
            return;
        };
        // Of a read that was cancelled nothing counts.
        if let (Some(to), Some(part)) = (dst.get_mut(from..filled), bytes.get(from..filled)) {
            to.copy_from_slice(part);
        }
        if bytes.len() <= AMPLE {
            self.spare = bytes;
        }
    }
}

/// What has become of a read that waits.
enum Collected {
    /// It was ended by another thread.
    Ended(Result<Read, Error>),
    /// It goes on from here.
    Waits(Reading),
}
