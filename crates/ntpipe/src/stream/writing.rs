//! Writing, and waiting until what was written has been read.

use std::sync::{Arc, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use ntpipe_proto::lane::{Begun, Charge, OpId, Outgoing, Taken, Withdrawal};
use ntpipe_proto::{EndState, Error, Operation};

use super::{PipeStream, Slot, WriteSide, expired, lock, pace};
use crate::ring::{Link, Pace, Peer, Wait};

impl PipeStream {
    /// `WriteFile`.
    pub(crate) fn write_until(
        &self,
        src: &[u8],
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        self.write_charged(src, Charge::Charged, deadline)?;
        Ok(src.len())
    }

    pub(super) fn write_charged(
        &self,
        src: &[u8],
        charge: Charge,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        self.check_process()?;
        self.terms.writes.ok_or(Error::ACCESS_DENIED)?;
        let mut side = self.write_side();
        let WriteSide { link, writer, .. } = &mut *side;
        let link = match link {
            Slot::Linked(link) => link,
            Slot::Absent(state) => return Err(self.refused(Operation::Write, *state)),
            Slot::Arriving => return Err(Error::INTERNAL_ERROR),
        };
        match link.peer() {
            Peer::Connected => {}
            Peer::Gone => return Err(self.refused(Operation::Write, EndState::Closing)),
            Peer::Disconnected => return Err(Error::PIPE_NOT_CONNECTED),
            Peer::Corrupt => return Err(link.poison(Error::INVALID_DATA)),
        }
        if link.roster().is_some() {
            let link = Arc::clone(link);
            return self.write_shared(side, &link, src, charge, deadline);
        }
        let begun = writer
            .begin(&**link, src, charge)
            .map_err(|error| link.poison(error))?;
        link.wake_peer(Wait::DATA);
        match begun {
            Begun::Done => Ok(()),
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
    ) -> Result<(), Error> {
        let mut contested = None;
        let result = loop {
            if !side.link.is(link) {
                return Err(side.link.left());
            }
            if link.roster().is_some() {
                return self.finish_shared(side, link, id, src, deadline);
            }
            let (rings, peer, taken) = (link.rings(), link.peer(), Outgoing::taken(&**link));
            let resumed = side.writer.resume(&**link, id, src);
            link.wake_peer(Wait::DATA);
            match resumed {
                Ok(Poll::Ready(())) => break Ok(()),
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
            if expired(deadline) {
                let withdrawal = side.writer.withdraw(&**link, id);
                link.wake_peer(Wait::DATA);
                match withdrawal {
                    Ok(Withdrawal::Withdrawn) => break Err(Error::SEM_TIMEOUT),
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
            wait_for_room(link, rings, taken, until, pace(src.len(), Pace::Prompt));
            side = lock(&self.write);
        };
        // Other writes and flushes of this end may depend on this one. They look at the bell under
        // this lock, so that they see the ring or what it is about.
        if side.writer.has_waiters() {
            link.wake_own();
        }
        result
    }

    /// `FlushFileBuffers`: waits until the peer has read everything written so far.
    pub(crate) fn flush_until(&self, deadline: Option<Instant>) -> Result<(), Error> {
        self.check_process()?;
        self.terms.writes.ok_or(Error::ACCESS_DENIED)?;
        let mut side = self.write_side();
        let link = match side.link.clone() {
            Slot::Linked(link) => link,
            Slot::Absent(state) => return self.refusal(Operation::Flush, state),
            Slot::Arriving => return Err(Error::INTERNAL_ERROR),
        };
        match link.peer() {
            Peer::Connected => {}
            Peer::Gone => return Ok(()),
            Peer::Disconnected => return self.refusal(Operation::Flush, EndState::Disconnected),
            Peer::Corrupt => return Err(link.poison(Error::INVALID_DATA)),
        }
        if link.roster().is_some() {
            return self.flush_shared(side, &link, None, deadline);
        }
        let flush = side.writer.flush();
        loop {
            let (rings, peer, taken) = (link.rings(), link.peer(), Outgoing::taken(&*link));
            let poll = side.writer.poll_flush(&*link, flush);
            if poll.map_err(|error| link.poison(error))?.is_ready() {
                return Ok(());
            }
            let failed = match peer {
                Peer::Connected if expired(deadline) => Some(Error::SEM_TIMEOUT),
                Peer::Connected => None,
                Peer::Gone => Some(Error::BROKEN_PIPE),
                Peer::Disconnected => Some(Error::PIPE_NOT_CONNECTED),
                Peer::Corrupt => Some(link.poison(Error::INVALID_DATA)),
            };
            if let Some(error) = failed {
                side.writer.forget_flush(flush);
                return Err(error);
            }
            drop(side);
            wait_for_room(&link, rings, taken, deadline, Pace::Prompt);
            side = lock(&self.write);
            if !side.link.is(&link) {
                return Err(side.link.left());
            }
            if link.roster().is_some() {
                return self.flush_shared(side, &link, Some(flush), deadline);
            }
        }
    }
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
