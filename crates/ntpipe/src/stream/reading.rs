//! Reading, peeking, and the transaction that ends in a read.

use std::sync::{Arc, MutexGuard};
use std::task::Poll;
use std::time::Instant;

use ntpipe_proto::lane::{Charge, Incoming, Peek, Read, Reader, Reading};
use ntpipe_proto::{EndState, Error, Operation, ReadMode};

use super::{PipeStream, ReadSide, Slot, expired, lock, pace};
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
        let mut side = self.read_side();
        let mut op = Reading::default();
        let ReadSide {
            link,
            reader,
            turns,
            ..
        } = &mut *side;
        if turns.is_empty()
            && let Slot::Linked(link) = link
            && link.roster().is_none()
        {
            let mode = self.own_mode();
            if let Poll::Ready(read) = self.try_read(link, reader, &mut op, mode, dst)? {
                return Ok(read);
            }
        }
        let link = self.linked(&side.link, Operation::Read)?;
        let turn = side.take_turn();
        self.read_in_turn(side, &link, turn, op, dst, deadline)
    }

    /// Reads once the turn has come, and data with it.
    fn read_in_turn<'a>(
        &'a self,
        mut side: MutexGuard<'a, ReadSide>,
        link: &Arc<Link>,
        turn: u64,
        mut op: Reading,
        dst: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<Read, Error> {
        let wait = Wait::Data(pace(dst.len(), Pace::Behind));
        let result = loop {
            if !side.link.is(link) {
                break Err(side.link.left());
            }
            if link.roster().is_some() {
                return self.read_shared(side, link, turn, op, dst, deadline);
            }
            let (rings, tail) = (link.rings(), Incoming::tail(&**link));
            let moved = || {
                Incoming::tail(&**link) != tail
                    || link.rings() != rings
                    || link.peer() != Peer::Connected
            };
            let first = side.turns.front() == Some(&turn);
            if first {
                let mode = self.own_mode();
                match self.try_read(link, &mut side.reader, &mut op, mode, dst) {
                    Ok(Poll::Ready(read)) => break Ok(read),
                    Err(error) => break Err(error),
                    Ok(Poll::Pending) => {}
                }
            }
            if expired(deadline) {
                break Err(Error::SEM_TIMEOUT);
            }
            drop(side);
            if first && link.spin(wait, moved) {
                side = lock(&self.read);
                continue;
            }
            if first {
                let mut side = lock(&self.read);
                if side.link.is(link) && link.roster().is_none() {
                    side.reader.ask(&**link, dst.len() - op.filled());
                }
            }
            link.sleep(wait, deadline, moved);
            side = lock(&self.read);
        };
        let result = match result {
            Err(error) if error == Error::SEM_TIMEOUT => {
                self.give_up_asking(&mut side, link, turn, &mut op, dst)
            }
            done => done,
        };
        side.leave(turn);
        result
    }

    /// The time is up. A write may have counted on what this read asked for: then it has it.
    fn give_up_asking(
        &self,
        side: &mut ReadSide,
        link: &Arc<Link>,
        turn: u64,
        op: &mut Reading,
        dst: &mut [u8],
    ) -> Result<Read, Error> {
        if side.turns.front() != Some(&turn) || !side.link.is(link) {
            return Err(Error::SEM_TIMEOUT);
        }
        side.reader.ask(&**link, 0);
        match self.try_read(link, &mut side.reader, op, self.own_mode(), dst)? {
            Poll::Ready(read) => Ok(read),
            Poll::Pending => {
                side.reader.stop_asking(&**link);
                Err(Error::SEM_TIMEOUT)
            }
        }
    }

    /// One look at the lane; it tells the peer what it took.
    fn try_read(
        &self,
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
        if result != Ok(Poll::Pending) {
            reader.stop_asking(link);
        }
        if reader.position() != before {
            link.wake_peer(Wait::ROOM);
        }
        result.map_err(|error| link.poison(error))
    }

    /// `PeekNamedPipe`: never waits (observed 7.1).
    pub(crate) fn peek_into(&self, dst: &mut [u8]) -> Result<Peek, Error> {
        self.check_process()?;
        self.terms.reads.ok_or(Error::ACCESS_DENIED)?;
        let mut side = self.read_side();
        let link = self.linked(&side.link, Operation::Peek)?;
        let peer = link.peer();
        match peer {
            Peer::Disconnected => return Err(self.refused(Operation::Peek, EndState::Disconnected)),
            Peer::Corrupt => return Err(link.poison(Error::INVALID_DATA)),
            Peer::Connected | Peer::Gone => {}
        }
        if link.roster().is_some() {
            return self.peek_shared(&mut side, &link, dst);
        }
        let result = match peer {
            Peer::Gone => side.reader.writer_gone(&*link),
            Peer::Connected | Peer::Disconnected | Peer::Corrupt => Ok(()),
        };
        let before = side.reader.position();
        let result = result.and_then(|()| side.reader.peek(&*link, dst));
        if side.reader.position() != before {
            // It let go of what was withdrawn, so that there may be room for more.
            link.wake_peer(Wait::ROOM);
        }
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
        // Whether a client that is on its way is still there, only its memory tells.
        drop(self.read_side());
        self.check(Operation::Transact)?;
        let duplex = self.terms.reads.is_some() && self.terms.writes.is_some();
        if !duplex || self.mode() != ReadMode::Message {
            return Err(Error::BAD_PIPE);
        }
        let mut side = self.read_side();
        let link = self.linked(&side.link, Operation::Transact)?;
        let is_shared = link.roster().is_some();
        let is_empty = match is_shared {
            // Other holders count as well.
            true => self.begin_transaction(&mut side, &link).map(|()| true),
            false => side.reader.is_empty(&*link),
        };
        let is_empty = is_empty.map_err(|error| link.poison(error))?;
        if !is_empty || !side.turns.is_empty() {
            return Err(Error::PIPE_BUSY);
        }
        // The reply is ours: a read that another thread starts comes behind.
        let turn = side.take_turn();
        drop(side);
        let written = self.write_charged(request, Charge::Uncharged, deadline);
        let mut side = lock(&self.read);
        if let Err(error) = written {
            match link.roster() {
                Some(_) => self.leave_shared(&mut side, &link, turn),
                None => side.leave(turn),
            }
            return Err(error);
        }
        self.read_in_turn(side, &link, turn, Reading::default(), reply, deadline)
    }
}

impl ReadSide {
    fn take_turn(&mut self) -> u64 {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.turns.push_back(turn);
        turn
    }

    fn leave(&mut self, turn: u64) {
        self.turns.retain(|other| *other != turn);
        if !self.turns.is_empty()
            && let Slot::Linked(link) = &self.link
        {
            link.wake_own();
        }
    }
}
