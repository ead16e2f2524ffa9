//! Operations that have begun and not finished, and the attempts to finish them.

use core::task::Poll;
use core::time::Duration;

use ntpipe_proto::lane::{Flush, Incoming, OpId, Reading, Withdrawal};
use ntpipe_proto::{Error, WaiterId};

use super::world::World;
use crate::{Label, Outcome, Where};

/// An operation under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: u64,
    pub(super) actor: Label,
    pub(super) kind: Kind,
    pub(super) deadline: Option<Duration>,
    /// Nobody will ask for it or cancel it.
    pub(super) detached: bool,
}

/// What an operation under way waits for.
#[derive(Debug)]
pub(super) enum Kind {
    /// For a client, who finishes it by coming.
    Connect,
    /// For data.
    Read {
        reading: Reading,
        buffer: Vec<u8>,
        then: Then,
    },
    /// For room.
    Write { op: OpId, data: Vec<u8> },
    /// For the peer to read everything.
    Flush(Flush),
    /// For an instance; with a request, to open it then and transact.
    Wait {
        waiter: WaiterId,
        call: Option<Call>,
    },
}

/// What comes behind a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Stay,
    /// The end is closed; it was there for one call only.
    Close,
}

/// What `CallNamedPipe` is to do once there is an instance.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) place: Where,
    pub(super) data: Vec<u8>,
    pub(super) size: usize,
}

impl Pending {
    /// Whether reads of the same end that came later have to wait for it.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.kind, Kind::Read { .. })
    }

    /// How many bytes it waits for.
    pub(super) fn wanted(&self) -> usize {
        match &self.kind {
            Kind::Read {
                reading, buffer, ..
            } => buffer.len() - reading.filled(),
            Kind::Connect | Kind::Write { .. } | Kind::Flush(_) | Kind::Wait { .. } => 0,
        }
    }

    /// Tries to go on; `turn` says whether it is the first read of its end.
    pub(super) fn poll(&mut self, world: &mut World, turn: bool) -> Poll<Outcome> {
        match self.try_poll(world, turn) {
            Ok(poll) => poll,
            Err(error) => Poll::Ready(Outcome::Failed(error)),
        }
    }

    fn try_poll(&mut self, world: &mut World, turn: bool) -> Result<Poll<Outcome>, Error> {
        let Some(held) = world.ends.get(&self.actor).cloned() else {
            return Ok(Poll::Pending);
        };
        match &mut self.kind {
            Kind::Connect | Kind::Wait { .. } => Ok(Poll::Pending),
            Kind::Read {
                reading, buffer, ..
            } => {
                if !turn {
                    return Ok(Poll::Pending);
                }
                let lane = world.link(&held)?.read_by(held.end);
                let mode = held.state.read_mode;
                let before = lane.reader.position();
                let poll = lane.reader.read(reading, &lane.memory, mode, buffer)?;
                let asked = match poll {
                    Poll::Ready(_) => 0,
                    Poll::Pending => buffer.len() - reading.filled(),
                };
                lane.reader.ask(&lane.memory, asked);
                let moved = lane.reader.position() != before;
                world.moves += u64::from(moved);
                Ok(poll.map(|read| {
                    buffer.truncate(read.len);
                    Outcome::Read {
                        data: core::mem::take(buffer),
                        more: read.more,
                    }
                }))
            }
            Kind::Write { op, data } => {
                let lane = world.link(&held)?.written_by(held.end);
                let before = lane.memory.tail();
                let poll = lane.writer.resume(&lane.memory, *op, data)?;
                let moved = lane.memory.tail() != before;
                world.moves += u64::from(moved);
                Ok(poll.map(|()| Outcome::Wrote(data.len())))
            }
            Kind::Flush(flush) => {
                let lane = world.link(&held)?.written_by(held.end);
                let poll = lane.writer.poll_flush(&lane.memory, *flush)?;
                Ok(poll.map(|()| Outcome::Done))
            }
        }
    }

    /// Gives it up: what it would have done is taken back, as far as that is still possible.
    ///
    /// # Errors
    /// If the lane says that its memory contradicts itself.
    pub(super) fn withdraw(&mut self, world: &mut World) -> Result<Given, Error> {
        let Some(held) = world.ends.get(&self.actor).cloned() else {
            return Ok(Given::Up);
        };
        match &mut self.kind {
            Kind::Connect | Kind::Wait { .. } => Ok(Given::Up),
            Kind::Read { .. } => {
                let lane = world.link(&held)?.read_by(held.end);
                lane.reader.ask(&lane.memory, 0);
                Ok(Given::Up)
            }
            Kind::Write { op, data } => {
                let lane = world.link(&held)?.written_by(held.end);
                match lane.writer.withdraw(&lane.memory, *op)? {
                    Withdrawal::Completed => Ok(Given::Finished(Outcome::Wrote(data.len()))),
                    Withdrawal::Withdrawn | Withdrawal::Contested => Ok(Given::Up),
                }
            }
            Kind::Flush(flush) => {
                world
                    .link(&held)?
                    .written_by(held.end)
                    .writer
                    .forget_flush(*flush);
                Ok(Given::Up)
            }
        }
    }
}

/// What became of giving an operation up.
#[derive(Debug)]
pub(super) enum Given {
    /// It is as if it had not begun, but for what the peer has read of it.
    Up,
    /// It had finished.
    Finished(Outcome),
}
