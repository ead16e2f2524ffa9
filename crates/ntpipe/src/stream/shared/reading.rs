//! Reading a shared end.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use ntpipe_proto::lane::{Incoming, Peek, Read, Reading};
use ntpipe_proto::{Error, ReadMode, Status, WaitMode};

use super::super::{PipeStream, ReadSide, Terms, expired, lock, pace};
use super::wake_up_at;
use crate::canceller::Blocked;
use crate::locked::MutexGuard;
use crate::primitive::full_fence;
use crate::ring::roster::Roster;
use crate::ring::{Link, Pace, Peer, Wait};

/// How often the engine is called in one go: each time it takes a piece of a pending write.
const STEPS: u32 = 4096;

/// How far a read has come with saying that it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// It goes to sleep if it finds nothing.
    is_serious: bool,
    /// It is counted among those that the peer wakes.
    is_counted: bool,
    /// The beginning of a message is there, which waits in the pipe for the rest.
    has_begun: bool,
}

/// A read that has its turn among those of this process.
pub(in crate::stream) struct ReadTurn {
    turn: u64,
    op: Reading,
    wait_mode: WaitMode,
    blocked: Blocked,
}

impl ReadTurn {
    pub(in crate::stream) fn new(
        turn: u64,
        op: Reading,
        wait_mode: WaitMode,
        blocked: Blocked,
    ) -> Self {
        Self {
            turn,
            op,
            wait_mode,
            blocked,
        }
    }
}

/// What one look brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Done(Read),
    /// Nothing more until somebody moves.
    Nothing,
    /// There may be more, after others had their chance.
    Again,
}

impl PipeStream {
    /// Reads once the turn has come, and data with it.
    pub(in crate::stream) fn read_shared<'a>(
        &'a self,
        mut side: MutexGuard<'a, ReadSide>,
        link: &Arc<Link>,
        call: ReadTurn,
        dst: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<Read, Error> {
        let (turn, mut op) = (call.turn, call.op);
        let wait = Wait::Data(pace(dst.len(), self.terms.reads, Pace::BEHIND));
        let mut waiting = Waiting::default();
        let result = loop {
            if !side.link.is(link) {
                return Err(side.link.left());
            }
            let Some(roster) = link.roster() else {
                break Err(Error::INTERNAL_ERROR);
            };
            let (peer, tail) = (link.peer(), Incoming::tail(&**link));
            let seen = roster.begin_wait(link.peer_bell());
            let moved = || {
                Incoming::tail(&**link) != tail
                    || link.peer() != peer
                    || roster.has_rung_since(seen)
            };
            let first = side.turns.is_first(turn);
            let look = match first {
                true => self.look(&mut side, link, &mut waiting, &mut op, dst),
                false => Ok(Look::Nothing),
            };
            let is_cancelled = side.turns.is_cancelled(turn) || call.blocked.is_cancelled();
            // Of a message that is half here the rest is on its way.
            let goes = call.wait_mode == WaitMode::NoWait && op.filled() == 0 && !waiting.has_begun;
            let over = match look {
                Ok(Look::Done(read)) => Some(Ok(read)),
                Ok(Look::Again) => None,
                Ok(Look::Nothing) if goes => Some(Err(Status::PIPE_EMPTY.error())),
                Ok(Look::Nothing) if is_cancelled => Some(Err(Error::OPERATION_ABORTED)),
                Ok(Look::Nothing) if expired(deadline) => Some(Err(Error::SEM_TIMEOUT)),
                Ok(Look::Nothing) => {
                    drop(side);
                    if waiting.is_serious {
                        let until = wake_up_at(deadline);
                        roster.sleep(link.peer_bell(), seen, until);
                        if Instant::now() >= until {
                            self.look_around(link);
                        }
                    } else if first {
                        link.spin(wait, moved);
                    }
                    waiting.is_serious = true;
                    side = lock(&self.read.side);
                    None
                }
                Err(error) => Some(Err(error)),
            };
            roster.end_wait();
            if let Some(result) = over {
                break result;
            }
        };
        let result = match result {
            Err(why) if why == Error::SEM_TIMEOUT || why == Error::OPERATION_ABORTED => {
                let found = self.give_up(&mut side, link, turn, &mut op, dst);
                found.and_then(|read| read.ok_or(why))
            }
            done => done,
        };
        self.leave_turn(&mut side, link, turn, waiting);
        result
    }

    /// Takes what there is, if no other holder is before this one.
    pub(super) fn look(
        &self,
        side: &mut ReadSide,
        link: &Link,
        waiting: &mut Waiting,
        op: &mut Reading,
        dst: &mut [u8],
    ) -> Result<Look, Error> {
        let held = side.enter(&self.terms, link, None)?;
        let mode = link
            .roster()
            .map_or(ReadMode::Byte, |roster| roster.modes().read_mode);
        if !held.is_first() {
            held.take_ticket();
            return Ok(Look::Nothing);
        }
        if waiting.is_serious && !waiting.is_counted {
            held.take_ticket();
            held.begin_wait();
            link.set_shared_wait(Wait::DATA, held.waits());
            waiting.is_counted = true;
            full_fence(); // pairs with the fence in `bell::ring_for`
        }
        let mut has_asked = false;
        for _ in 0..STEPS {
            // Before the look at the lane: what a peer wrote before it left counts.
            let peer = link.peer();
            match peer {
                Peer::Disconnected => return Err(Error::PIPE_NOT_CONNECTED),
                Peer::Corrupt => return Err(link.poison(Error::INVALID_DATA)),
                Peer::Connected | Peer::Gone => {}
            }
            let (before, begun) = (side.reader.position(), *op);
            // While the rest of a message is on its way it all stays, lest a death tears it.
            let from = side.reader.record_start();
            let mut is_torn = false;
            let read = side.work(link, &held, |reader, lane| {
                if peer == Peer::Gone {
                    reader.writer_gone(lane)?;
                }
                let read = reader.read(op, lane, mode, dst);
                if read != Ok(Poll::Pending) {
                    reader.stop_asking(lane);
                } else if mode == ReadMode::Message
                    && op.filled() > begun.filled()
                    && reader.leaves_room(lane, from)
                {
                    is_torn = true;
                    return Err(Error::IO_PENDING);
                }
                read
            });
            let read = match is_torn {
                true => {
                    waiting.has_begun = true;
                    side.undo(&self.terms, link, &held)?;
                    *op = begun;
                    Ok(Poll::Pending)
                }
                false => read,
            };
            let has_moved = side.reader.position() != before;
            match read.map_err(|error| link.poison(error))? {
                // It pauses after each piece of a pending write.
                Poll::Ready(read)
                    if has_moved
                        && mode == ReadMode::Byte
                        && read.len > 0
                        && read.len < dst.len() => {}
                Poll::Ready(read) => return Ok(Look::Done(read)),
                Poll::Pending if has_moved => {}
                Poll::Pending if waiting.is_serious && !has_asked => {
                    let wanted = dst.len() - op.filled();
                    side.work(link, &held, |reader, lane| {
                        reader.ask(lane, wanted);
                        Ok(())
                    })?;
                    has_asked = true;
                }
                Poll::Pending => {
                    if op.filled() > 0 {
                        // The rest of the message is for nobody else.
                        held.take_ticket();
                    }
                    return Ok(Look::Nothing);
                }
            }
        }
        held.take_ticket();
        Ok(Look::Again)
    }

    /// It waits no more. A write may have counted on what this read asked for: then it has it.
    fn give_up(
        &self,
        side: &mut ReadSide,
        link: &Link,
        turn: u64,
        op: &mut Reading,
        dst: &mut [u8],
    ) -> Result<Option<Read>, Error> {
        if !side.turns.is_first(turn) {
            return Ok(None);
        }
        let held = side.enter(&self.terms, link, None)?;
        if !held.is_first() {
            return Ok(None);
        }
        side.work(link, &held, |reader, lane| {
            reader.ask(lane, 0);
            Ok(())
        })?;
        drop(held);
        match self.look(side, link, &mut Waiting::default(), op, dst)? {
            Look::Done(read) => return Ok(Some(read)),
            Look::Nothing | Look::Again => {}
        }
        let held = side.enter(&self.terms, link, None)?;
        side.work(link, &held, |reader, lane| {
            reader.stop_asking(lane);
            Ok(())
        })?;
        Ok(None)
    }

    /// A read has ended: the next one's turn comes, in this process or another.
    pub(in crate::stream) fn leave_shared(&self, side: &mut ReadSide, link: &Link, turn: u64) {
        self.leave_turn(side, link, turn, Waiting::default());
    }

    fn leave_turn(&self, side: &mut ReadSide, link: &Link, turn: u64, waiting: Waiting) {
        side.turns.leave(turn);
        self.read.count_down(side);
        if waiting.is_counted || link.roster().is_some_and(Roster::has_ticket) {
            match side.enter(&self.terms, link, None) {
                Ok(held) => {
                    if waiting.is_counted {
                        held.end_wait();
                    }
                    held.give_ticket_back();
                    link.set_shared_wait(Wait::DATA, held.waits());
                }
                Err(error) => tracing::debug!(%error, "a turn is not given back"),
            }
        }
        if let Some(roster) = link.roster() {
            roster.ring();
        }
    }

    /// `PeekNamedPipe`.
    pub(in crate::stream) fn peek_shared(
        &self,
        side: &mut ReadSide,
        link: &Link,
        dst: &mut [u8],
    ) -> Result<Peek, Error> {
        let held = side.enter(&self.terms, link, None)?;
        let peer = link.peer();
        let peek = side.work(link, &held, |reader, lane| {
            if peer == Peer::Gone {
                reader.writer_gone(lane)?;
            }
            reader.peek(lane, dst)
        });
        peek.map_err(|error| link.poison(error))
    }

    /// A transaction begins: the next message is for it.
    pub(in crate::stream) fn begin_transaction(
        &self,
        side: &mut ReadSide,
        link: &Link,
    ) -> Result<(), Error> {
        let held = side.enter(&self.terms, link, None)?;
        let is_empty = side.work(link, &held, |reader, lane| reader.is_empty(lane));
        let is_empty = is_empty.map_err(|error| link.poison(error))?;
        if !is_empty || held.has_readers() {
            return Err(Error::PIPE_BUSY);
        }
        held.take_ticket();
        Ok(())
    }
}

impl ReadSide {
    /// Whether reads wait at an end that is shared, whosever they are.
    pub(in crate::stream) fn has_shared_waiters(
        &mut self,
        terms: &Terms,
        link: &Link,
    ) -> Result<bool, Error> {
        Ok(self.enter(terms, link, None)?.has_readers())
    }
}
