//! Writing, and waiting until what was written has been read.

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ntpipe_proto::lane::{Begun, Charge, OpId, Outgoing, Taken, Withdrawal};
use ntpipe_proto::{EndState, Error, Operation};

use super::local::Seat;
use super::shared::WriteCall;
use super::{PipeStream, Slot, WriteSide, expired, lock, pace};
use crate::canceller::Blocked;
use crate::locked::MutexGuard;
use crate::ring::{Link, Pace, Peer, Wait};

impl PipeStream {
    /// `WriteFile`.
    pub(crate) fn write_until(
        &self,
        src: &[u8],
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        self.check_process()?;
        self.terms.writes.ok_or(Error::ACCESS_DENIED)?;
        let side = match self.write_side_now() {
            Some(side) => side,
            // Without the reader's memory nothing fits.
            None if self.is_nowait() => return Ok(0),
            None => self.write_side_by(deadline)?,
        };
        match self.is_nowait() {
            true => self.write_nowait(side, src, deadline),
            false => self.write_charged(side, src, Charge::Charged, deadline),
        }
    }

    /// The request of a transaction: for this connection only, not for a client that came later.
    pub(super) fn write_request(
        &self,
        src: &[u8],
        link: &Arc<Link>,
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        let side = self.side_to_write(deadline)?;
        if !side.link.is(link) {
            return Err(side.link.left());
        }
        self.write_charged(side, src, Charge::Uncharged, deadline)
    }

    fn side_to_write(&self, deadline: Option<Instant>) -> Result<MutexGuard<'_, WriteSide>, Error> {
        self.check_process()?;
        self.terms.writes.ok_or(Error::ACCESS_DENIED)?;
        self.write_side_by(deadline)
    }

    /// `WriteFile` at an end that does not wait: what can't complete now is not written (observed
    /// 6.3). What reads of the other end wait for goes to them (6.5 to 6.8).
    fn write_nowait<'a>(
        &'a self,
        mut side: MutexGuard<'a, WriteSide>,
        src: &[u8],
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        if let Some(kernel) = side.link.kernel() {
            drop(side);
            return kernel.write(src, deadline, true);
        }
        let WriteSide {
            link, writer, seat, ..
        } = &mut *side;
        let link = Arc::clone(self.writable(link)?);
        if link.roster().is_some() {
            return self.write_nowait_shared(&mut side, &link, src);
        }
        if let Some(peer) = seat.as_ref().and_then(|seat| seat.peer()) {
            peer.ask_of(&link);
        }
        let written = writer.begin_nowait(&*link, src);
        tell_reader(seat.as_ref(), &link);
        written.map_err(|error| link.poison(error))
    }

    /// The connection to write to, or why there is none.
    fn writable<'a>(&self, slot: &'a Slot) -> Result<&'a Arc<Link>, Error> {
        let link = match slot {
            Slot::Linked(link) => link,
            Slot::Absent(state) => return Err(self.refused(Operation::Write, *state)),
            // Who gets a side to work with has waited until the one is over, and asked for the other.
            Slot::Arriving | Slot::Kernel(_) => return Err(Error::INTERNAL_ERROR),
        };
        match link.peer() {
            Peer::Connected => Ok(link),
            Peer::Gone => Err(self.refused(Operation::Write, EndState::Closing)),
            Peer::Disconnected => Err(Error::PIPE_NOT_CONNECTED),
            Peer::Corrupt => Err(link.poison(Error::INVALID_DATA)),
        }
    }

    fn write_charged<'a>(
        &'a self,
        mut side: MutexGuard<'a, WriteSide>,
        src: &[u8],
        charge: Charge,
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        let WriteSide {
            link, writer, seat, ..
        } = &mut *side;
        if let Some(kernel) = link.kernel() {
            drop(side);
            return kernel.write(src, deadline, false);
        }
        let link = self.writable(link)?;
        if link.roster().is_some() {
            let link = Arc::clone(link);
            return self.write_shared(side, &link, src, charge, deadline);
        }
        let begun = writer
            .begin(&**link, src, charge)
            .map_err(|error| link.poison(error))?;
        tell_reader(seat.as_ref(), link);
        match begun {
            Begun::Done => Ok(src.len()),
            Begun::Pending(id) => {
                let link = Arc::clone(link);
                self.finish_write(side, &link, id, src, deadline)
            }
        }
    }

    /// Waits until a pending write is complete.
    fn finish_write<'a>(
        &'a self,
        mut side: MutexGuard<'a, WriteSide>,
        link: &Arc<Link>,
        id: OpId,
        src: &[u8],
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        let blocked = Blocked::enter(|| Arc::clone(link));
        let call = side.waiters.enter_write(id);
        let mut contested = None;
        let result = loop {
            if let Some(ended) = side.waiters.take_ended(call) {
                break ended.result.map(|_| src.len());
            }
            if let Some(kernel) = side.link.kernel() {
                drop(side);
                return kernel.resume(id, src, deadline);
            }
            if !side.link.is(link) {
                return Err(side.link.left());
            }
            if link.roster().is_some() {
                let call = WriteCall::new(call, blocked);
                return self.finish_shared(side, link, (id, call), src, deadline);
            }
            let (rings, peer, taken) = (link.rings(), link.peer(), Outgoing::taken(&**link));
            let first = side.writer.first_unstored();
            let resumed = side.writer.resume(&**link, id, src);
            tell_reader(side.seat.as_ref(), link);
            // It is wholly in the ring, so that the next write may go on although this one waits.
            if first == Some(id) && side.writer.first_unstored().is_some_and(|next| next != id) {
                link.wake_own();
            }
            match resumed {
                Ok(Poll::Ready(())) => break Ok(src.len()),
                Ok(Poll::Pending) => {}
                Err(error) => break Err(link.poison(error)),
            }
            match peer {
                Peer::Connected => {}
                Peer::Gone => break Err(Error::BROKEN_PIPE),
                Peer::Disconnected => break Err(Error::PIPE_NOT_CONNECTED),
                Peer::Corrupt => break Err(link.poison(Error::INVALID_DATA)),
            }
            let mut until = deadline;
            let given_up = if side.waiters.is_cancelled(call) || blocked.is_cancelled() {
                Some(Error::OPERATION_ABORTED)
            } else {
                expired(deadline).then_some(Error::SEM_TIMEOUT)
            };
            if let Some(why) = given_up {
                let withdrawal = side.writer.withdraw(&**link, id);
                link.wake_peer(Wait::DATA);
                match withdrawal {
                    Ok(Withdrawal::Withdrawn) => break Err(why),
                    Ok(Withdrawal::Completed) => continue,
                    Err(error) => break Err(link.poison(error)),
                    Ok(Withdrawal::Contested) => {}
                }
                // The reader decides within a few instructions, if it runs; it need not tell.
                let since = *contested.get_or_insert_with(Instant::now);
                if since.elapsed() > CONTESTED_LIMIT {
                    break Err(link.poison(Error::INVALID_DATA));
                }
                until = Instant::now().checked_add(CONTESTED_PAUSE);
            }
            drop(side);
            wait_for_room(
                link,
                rings,
                taken,
                until,
                pace(src.len(), self.terms.writes, Pace::PROMPT),
            );
            side = lock(&self.write);
        };
        side.waiters.leave(call);
        // Other writes and flushes of this end may depend on this one. They look at the bell under
        // this lock, so that they see the ring or what it is about. A write that was taken back may
        // have completed those behind it, which the writer then does not count any more.
        if result.is_err() || side.writer.has_waiters() {
            link.wake_own();
        }
        drop(side);
        self.tasks.wake();
        result
    }

    /// `FlushFileBuffers`: waits until the peer has read everything written so far.
    pub(crate) fn flush_until(&self, deadline: Option<Instant>) -> Result<(), Error> {
        let mut side = self.side_to_write(deadline)?;
        let link = match side.link.clone() {
            Slot::Linked(link) => link,
            Slot::Absent(state) => return self.refusal(Operation::Flush, state),
            Slot::Arriving => return Err(Error::INTERNAL_ERROR),
            Slot::Kernel(kernel) => {
                drop(side);
                return kernel.flush(false, deadline);
            }
        };
        match link.peer() {
            Peer::Connected => {}
            Peer::Gone => return Ok(()),
            Peer::Disconnected => return self.refusal(Operation::Flush, EndState::Disconnected),
            Peer::Corrupt => return Err(link.poison(Error::INVALID_DATA)),
        }
        if link.roster().is_some() {
            let call = WriteCall::enter(&mut side, &link);
            return self.flush_shared(side, &link, call, None, deadline);
        }
        let flush = side.writer.flush();
        let blocked = Blocked::enter(|| Arc::clone(&link));
        let call = side.waiters.enter();
        let result = loop {
            let (rings, peer, taken) = (link.rings(), link.peer(), Outgoing::taken(&*link));
            let ended = side.waiters.take_ended(call);
            let poll = side.writer.poll_flush(&*link, flush);
            let failed = match peer {
                _ if ended.is_some() => Some(Error::OPERATION_ABORTED),
                _ if poll == Ok(Poll::Ready(())) => break Ok(()),
                _ if poll.is_err() => Some(link.poison(Error::INVALID_DATA)),
                Peer::Connected if blocked.is_cancelled() => Some(Error::OPERATION_ABORTED),
                Peer::Connected if expired(deadline) => Some(Error::SEM_TIMEOUT),
                Peer::Connected => None,
                Peer::Gone => Some(Error::BROKEN_PIPE),
                Peer::Disconnected => Some(Error::PIPE_NOT_CONNECTED),
                Peer::Corrupt => Some(link.poison(Error::INVALID_DATA)),
            };
            if let Some(error) = failed {
                side.writer.forget_flush(flush);
                break Err(error);
            }
            drop(side);
            wait_for_room(&link, rings, taken, deadline, Pace::PROMPT);
            side = lock(&self.write);
            if let Some(kernel) = side.link.kernel() {
                let ended = side.waiters.take_ended(call);
                drop(side);
                return match ended {
                    Some(ended) => ended.result.map(drop),
                    None => kernel.flush(true, deadline),
                };
            }
            if !side.link.is(&link) {
                side.waiters.take_ended(call);
                return Err(side.link.left());
            }
            if link.roster().is_some() {
                let call = WriteCall::new(call, blocked);
                return self.flush_shared(side, &link, call, Some(flush), deadline);
            }
        };
        side.waiters.leave(call);
        result
    }
}

/// After publishing: serves the reads that wait in this process, and wakes who waits.
pub(super) fn tell_reader(seat: Option<&Arc<Seat>>, link: &Link) {
    if let Some(seat) = seat {
        seat.serve(link);
    }
    link.wake_peer(Wait::DATA);
}

/// Waits until the peer has taken something, or anything else has changed.
fn wait_for_room(link: &Link, rings: u32, taken: Taken, deadline: Option<Instant>, pace: Pace) {
    let moved = || {
        Outgoing::taken(link) != taken || link.rings() != rings || link.peer() != Peer::Connected
    };
    let wait = Wait::Room(pace);
    if !link.spin(wait, moved) {
        link.sleep(wait, deadline, moved);
    }
}

/// How long a reader may take to decide about a write that is withdrawn; it must have been stopped
/// in the middle of a few instructions to take that long.
pub(super) const CONTESTED_LIMIT: Duration = Duration::from_secs(5);
/// How long to wait before asking it again.
pub(super) const CONTESTED_PAUSE: Duration = Duration::from_millis(1);
