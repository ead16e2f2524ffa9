//! Writing at a shared end, and waiting until what was written has been read.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use ntpipe_proto::Error;
use ntpipe_proto::lane::{Begun, Charge, Flush, OpId, Outgoing, Withdrawal};

use super::super::writing::{CONTESTED_LIMIT, CONTESTED_PAUSE};
use super::super::{PipeStream, Terms, WriteSide, expired, lock, pace};
use super::{Waiter, wake_up_at};
use crate::canceller::Blocked;
use crate::locked::MutexGuard;
use crate::primitive::full_fence;
use crate::ring::roster::Roster;
use crate::ring::{Link, Pace, Peer, Wait};

/// How far a call has come with saying that it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Waiting {
    is_serious: bool,
    is_counted: bool,
}

/// A write or a flush that waits, as those that cancel calls find it.
pub(in crate::stream) struct WriteCall {
    id: u64,
    blocked: Blocked,
}

impl WriteCall {
    /// One that has waited since before the end was shared.
    pub(in crate::stream) fn new(id: u64, blocked: Blocked) -> Self {
        Self { id, blocked }
    }

    pub(in crate::stream) fn enter(side: &mut WriteSide, link: &Arc<Link>) -> Self {
        let blocked = Blocked::enter(|| Arc::clone(link));
        Self::new(side.waiters.enter(), blocked)
    }

    /// Why it is to end, if it is. Look at the bells before this.
    fn given_up(&self, side: &WriteSide, deadline: Option<Instant>) -> Option<Error> {
        if side.waiters.is_cancelled(self.id) || self.blocked.is_cancelled() {
            return Some(Error::OPERATION_ABORTED);
        }
        expired(deadline).then_some(Error::SEM_TIMEOUT)
    }
}

impl PipeStream {
    /// `WriteFile`, once it is known that the peer is there.
    pub(in crate::stream) fn write_shared<'a>(
        &'a self,
        mut side: MutexGuard<'a, WriteSide>,
        link: &Arc<Link>,
        src: &[u8],
        charge: Charge,
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        let me = link.roster().ok_or(Error::INTERNAL_ERROR)?.me().to_u32();
        let begun = {
            let held = side.enter(&self.terms, link, None)?;
            // What waits already may take more words as it goes on.
            if side.shared.len > held.room() / 2 {
                return Err(Error::NO_SYSTEM_RESOURCES);
            }
            side.work(link, &held, |writer, lane, owners| {
                let begun = writer.begin(lane, src, charge)?;
                if let Begun::Pending(id) = begun {
                    owners.push((Waiter::Write(id), me));
                }
                Ok(begun)
            })
        };
        match begun.map_err(|error| link.poison(error))? {
            Begun::Done => Ok(src.len()),
            Begun::Pending(id) => {
                let call = WriteCall::enter(&mut side, link);
                self.finish_shared(side, link, (id, call), src, deadline)
            }
        }
    }

    /// `WriteFile` at an end that does not wait.
    pub(in crate::stream) fn write_nowait_shared(
        &self,
        side: &mut WriteSide,
        link: &Link,
        src: &[u8],
    ) -> Result<usize, Error> {
        let held = side.enter(&self.terms, link, None)?;
        let written = side.work(link, &held, |writer, lane, _| {
            writer.begin_nowait(lane, src)
        });
        written.map_err(|error| link.poison(error))
    }

    /// Waits until a pending write is complete.
    pub(in crate::stream) fn finish_shared<'a>(
        &'a self,
        mut side: MutexGuard<'a, WriteSide>,
        link: &Arc<Link>,
        (id, call): (OpId, WriteCall),
        src: &[u8],
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        let mut waiting = Waiting::default();
        let mut contested = None;
        let pace = pace(src.len(), self.terms.writes, Pace::PROMPT);
        let result = loop {
            if !side.link.is(link) {
                return Err(side.link.left());
            }
            let Some(roster) = link.roster() else {
                break Err(Error::INTERNAL_ERROR);
            };
            let sight = Sight::begin(link, roster);
            let why = call.given_up(&side, deadline);
            let step = self.go_on(&mut side, link, (id, why), src, &mut waiting);
            let over = match step {
                Ok(Step::Done) => Some(Ok(src.len())),
                Ok(Step::TakenBack(why)) => Some(Err(why)),
                Ok(Step::Failed(error)) | Err(error) => Some(Err(error)),
                Ok(Step::Contested) => {
                    // The reader decides within a few instructions, if it runs; it need not tell.
                    let since: Instant = *contested.get_or_insert_with(Instant::now);
                    (since.elapsed() > CONTESTED_LIMIT)
                        .then(|| Err(link.poison(Error::INVALID_DATA)))
                }
                Ok(Step::Pending) => None,
            };
            if over.is_none() {
                drop(side);
                let until = match step {
                    Ok(Step::Contested) => Instant::now().checked_add(CONTESTED_PAUSE),
                    _ => deadline,
                };
                self.wait_shared(link, roster, &sight, &mut waiting, until, pace);
                side = lock(&self.write);
            }
            roster.end_wait();
            if let Some(result) = over {
                break result;
            }
        };
        side.waiters.leave(call.id);
        self.end_waiting(&mut side, link, waiting);
        result
    }

    /// One step of a pending write; takes it back if it is given up.
    fn go_on(
        &self,
        side: &mut WriteSide,
        link: &Link,
        (id, given_up): (OpId, Option<Error>),
        src: &[u8],
        waiting: &mut Waiting,
    ) -> Result<Step, Error> {
        let held = side.enter(&self.terms, link, None)?;
        if waiting.is_serious && !waiting.is_counted {
            held.begin_wait();
            link.set_shared_wait(Wait::ROOM, held.waits());
            waiting.is_counted = true;
            full_fence(); // pairs with the fence in `bell::ring_for`
        }
        let peer = link.peer();
        loop {
            let before = side.shared.so_far.tail;
            let resumed = side.work(link, &held, |writer, lane, _| writer.resume(lane, id, src));
            match resumed.map_err(|error| link.poison(error))? {
                Poll::Ready(()) => return Ok(Step::Done),
                // Who asks for it may see it only now.
                Poll::Pending if side.shared.so_far.tail != before => {}
                Poll::Pending => break,
            }
        }
        match peer {
            Peer::Connected => {}
            Peer::Gone => return Ok(Step::Failed(Error::BROKEN_PIPE)),
            Peer::Disconnected => return Ok(Step::Failed(Error::PIPE_NOT_CONNECTED)),
            Peer::Corrupt => return Ok(Step::Failed(link.poison(Error::INVALID_DATA))),
        }
        let Some(why) = given_up else {
            return Ok(Step::Pending);
        };
        let withdrawn = side.work(link, &held, |writer, lane, _| writer.withdraw(lane, id));
        Ok(match withdrawn.map_err(|error| link.poison(error))? {
            Withdrawal::Withdrawn => Step::TakenBack(why),
            Withdrawal::Completed => Step::Done,
            Withdrawal::Contested => Step::Contested,
        })
    }

    /// `FlushFileBuffers`, once it is known that the peer is there; or the rest of one that began
    /// before the end was shared.
    pub(in crate::stream) fn flush_shared<'a>(
        &'a self,
        mut side: MutexGuard<'a, WriteSide>,
        link: &Arc<Link>,
        call: WriteCall,
        begun: Option<Flush>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let me = link.roster().ok_or(Error::INTERNAL_ERROR)?.me().to_u32();
        let flush = {
            let held = side.enter(&self.terms, link, None)?;
            side.work(link, &held, |writer, _, owners| {
                let flush = begun.unwrap_or_else(|| writer.flush());
                owners.push((Waiter::Flush(flush), me));
                Ok(flush)
            })?
        };
        let mut waiting = Waiting::default();
        let result = loop {
            if !side.link.is(link) {
                return Err(side.link.left());
            }
            let Some(roster) = link.roster() else {
                break Err(Error::INTERNAL_ERROR);
            };
            let sight = Sight::begin(link, roster);
            let (peer, given_up) = (link.peer(), call.given_up(&side, deadline));
            let polled = (|| {
                let held = side.enter(&self.terms, link, None)?;
                if waiting.is_serious && !waiting.is_counted {
                    held.begin_wait();
                    link.set_shared_wait(Wait::ROOM, held.waits());
                    waiting.is_counted = true;
                    full_fence(); // pairs with the fence in `bell::ring_for`
                }
                side.work(link, &held, |writer, lane, _| {
                    writer.poll_flush(lane, flush)
                })
            })();
            let over = match polled.map_err(|error| link.poison(error)) {
                Ok(Poll::Ready(())) => Some(Ok(())),
                Err(error) => Some(Err(error)),
                Ok(Poll::Pending) => match peer {
                    Peer::Connected => given_up.map(Err),
                    Peer::Gone => Some(Err(Error::BROKEN_PIPE)),
                    Peer::Disconnected => Some(Err(Error::PIPE_NOT_CONNECTED)),
                    Peer::Corrupt => Some(Err(link.poison(Error::INVALID_DATA))),
                },
            };
            if over.is_none() {
                drop(side);
                self.wait_shared(link, roster, &sight, &mut waiting, deadline, Pace::PROMPT);
                side = lock(&self.write);
            }
            roster.end_wait();
            if let Some(result) = over {
                break result;
            }
        };
        if let Ok(held) = side.enter(&self.terms, link, None) {
            let forgotten = side.work(link, &held, |writer, _, owners| {
                writer.forget_flush(flush);
                owners.retain(|(waiter, _)| *waiter != Waiter::Flush(flush));
                Ok(())
            });
            if let Err(error) = forgotten {
                tracing::debug!(%error, "a flush is not forgotten");
            }
        }
        side.waiters.leave(call.id);
        self.end_waiting(&mut side, link, waiting);
        result
    }

    /// Waits until the peer has taken something, or anything else has changed.
    fn wait_shared(
        &self,
        link: &Arc<Link>,
        roster: &Roster,
        sight: &Sight,
        waiting: &mut Waiting,
        deadline: Option<Instant>,
        pace: Pace,
    ) {
        if waiting.is_serious {
            let until = wake_up_at(deadline);
            roster.sleep(link.peer_bell(), sight.bells, until);
            if deadline.is_none_or(|at| until < at) && Instant::now() >= until {
                self.look_around(link);
            }
        } else {
            link.spin(Wait::Room(pace), || sight.has_changed(link, roster));
        }
        waiting.is_serious = true;
    }

    /// A write or a flush has ended; others of this end may depend on it.
    fn end_waiting(&self, side: &mut WriteSide, link: &Link, waiting: Waiting) {
        if waiting.is_counted {
            match side.enter(&self.terms, link, None) {
                Ok(held) => {
                    held.end_wait();
                    link.set_shared_wait(Wait::ROOM, held.waits());
                }
                Err(error) => tracing::debug!(%error, "a waiting thread stays counted"),
            }
        }
        if let Some(roster) = link.roster() {
            roster.ring();
        }
    }
}

impl WriteSide {
    /// Whether the peer of a shared end has not read everything, an empty message included.
    pub(in crate::stream) fn has_unread_shared(
        &mut self,
        terms: &Terms,
        link: &Link,
    ) -> Result<bool, Error> {
        let held = self.enter(terms, link, None)?;
        let all_read = self.work(link, &held, |writer, lane, _| {
            let flush = writer.flush();
            let all_read = writer.poll_flush(lane, flush);
            writer.forget_flush(flush);
            all_read
        });
        Ok(all_read.map_err(|error| link.poison(error))?.is_pending())
    }

    /// The quota of a shared end that is free.
    pub(in crate::stream) fn free_shared(
        &mut self,
        terms: &Terms,
        link: &Link,
    ) -> Result<u64, Error> {
        let held = self.enter(terms, link, None)?;
        self.work(link, &held, |writer, lane, _| writer.free_quota(lane))
    }
}

/// What became of a pending write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Done,
    Pending,
    TakenBack(Error),
    Contested,
    Failed(Error),
}

/// What there was to see before a call looked.
struct Sight {
    peer: Peer,
    taken: ntpipe_proto::lane::Taken,
    bells: crate::ring::roster::Seen,
}

impl Sight {
    fn begin(link: &Link, roster: &Roster) -> Self {
        let bells = roster.begin_wait(link.peer_bell());
        Self {
            peer: link.peer(),
            taken: Outgoing::taken(link),
            bells,
        }
    }

    fn has_changed(&self, link: &Link, roster: &Roster) -> bool {
        Outgoing::taken(link) != self.taken
            || link.peer() != self.peer
            || roster.has_rung_since(self.bells)
    }
}
