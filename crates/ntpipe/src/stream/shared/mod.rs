//! An end that several processes hold: each call takes the engine's state from the end's third
//! memory and puts it back there (`ring/roster.rs`).
//!
//! Waiting reads are served in order within a process, and processes in the order in which theirs
//! began to wait. What a dead holder leaves behind - its place in that order, its pending writes
//! (observed 10.10) - the others clear away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ntpipe_proto::lane::{Flush, OpId, Outgoing, Reader, Withdrawal, Writer, ring_capacity};
use ntpipe_proto::{Error, Operation};

use super::{PipeStream, ReadSide, Slot, Terms, WriteSide, lock};
#[cfg(feature = "tokio")]
use super::{new_reader, new_writer};
use crate::locked::try_lock;
use crate::ring::deferred::{DeferredIn, DeferredOut, ReadSoFar, WrittenSoFar};
use crate::ring::roster::{Held, HolderId, Roster, Side};
use crate::ring::{Link, Wait};
use crate::sys::futex;

mod reading;
mod writing;

pub(super) use reading::ReadTurn;
pub(super) use writing::WriteCall;

/// What this process knows of the reader that it shares.
#[derive(Debug, Default)]
pub(super) struct SharedReads {
    /// The state that `reader` is in; none if that is not to be relied on.
    version: Option<u64>,
    so_far: ReadSoFar,
}

/// What this process knows of the writer that it shares.
#[derive(Debug, Default)]
pub(super) struct SharedWrites {
    version: Option<u64>,
    so_far: WrittenSoFar,
    /// The writes and flushes that wait, and whose they are.
    owners: Vec<(Waiter, u32)>,
    /// The words of the state.
    len: usize,
}

/// A call that waits at the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiter {
    Write(OpId),
    Flush(Flush),
}

/// Whether an end goes on after this process has left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nobody else holds it: it is to be closed.
    Last,
    /// Others hold it.
    Others,
}

/// A further holder, on its way.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) link: Arc<Link>,
    pub(crate) id: HolderId,
    /// Makes whoever has it that holder.
    pub(crate) file: std::os::fd::OwnedFd,
}

/// What an end reads and writes with.
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub(crate) struct Engines {
    reader: Reader,
    writer: Writer,
}

/// How long a look at a contested write is repeated in one go.
const CONTESTED_LOOKS: u32 = 200;
/// How often who waits looks for dead holders, in case nobody else does.
const LOOK: Duration = Duration::from_secs(1);
/// How long the service thread waits for the locks of holders that are at work.
const BRIEF: Duration = Duration::from_millis(20);

impl PipeStream {
    /// Makes the end one that several processes hold, and enters a further holder.
    pub(crate) fn share(&self) -> Result<Newcomer, Error> {
        self.check_process()?;
        drop(self.read_side());
        let (mut write, mut read) = (lock(&self.write), lock(&self.read.side));
        if read.link.kernel().is_some() {
            return Err(Error::NOT_SUPPORTED);
        }
        let link = self.linked(&read.link, Operation::Write)?;
        // Tasks know nothing of locks in shared memory, and what was read of a message is not there.
        let has_begun =
            !read.stash.is_empty() || (link.roster().is_none() && read.turns.has_begun());
        if self.tasks.are_used() || has_begun {
            return Err(Error::NOT_SUPPORTED);
        }
        if link.roster().is_none() {
            let ring = ring_capacity(self.terms.writes.unwrap_or(0));
            let modes = self.modes();
            let roster = Roster::create(ring, modes)?;
            read.hand_over(&roster, &link)?;
            write.hand_over(&roster, &link)?;
            // From here on neither end serves the other's calls itself.
            write.seat = None;
            link.set_roster(roster);
            self.read.share_with(Some(&link), modes);
        }
        let roster = link.roster().ok_or(Error::INTERNAL_ERROR)?;
        let entered = {
            let held = read.enter(&self.terms, &link, None)?;
            roster.enter(&held)
        };
        let (id, file) = match entered {
            Err(error) if error == Error::NO_SYSTEM_RESOURCES => {
                self.bury_dead(&mut read, &mut write, &link, None)?;
                let held = read.enter(&self.terms, &link, None)?;
                roster.enter(&held)?
            }
            entered => entered?,
        };
        Ok(Newcomer { link, id, file })
    }

    /// What a shared end works with, for one that goes on alone; this one is not to be used again.
    ///
    /// # Errors
    /// `ERROR_NOT_SUPPORTED` (50): others hold it too.
    #[cfg(feature = "tokio")]
    pub(crate) fn take_over(&self) -> Result<Engines, Error> {
        let (mut write, mut read) = (lock(&self.write), lock(&self.read.side));
        let link = self.linked(&read.link, Operation::Write)?;
        self.bury_dead(&mut read, &mut write, &link, None)?;
        let roster = link.roster().ok_or(Error::INTERNAL_ERROR)?;
        let reading = read.enter(&self.terms, &link, None)?;
        let writing = write.enter(&self.terms, &link, None)?;
        // None but a holder can enter another one, and this one does not.
        if roster.others().next().is_some() {
            return Err(Error::NOT_SUPPORTED);
        }
        drop((reading, writing));
        Ok(Engines {
            reader: std::mem::replace(&mut read.reader, new_reader(&self.terms)),
            writer: std::mem::replace(&mut write.writer, new_writer(&self.terms)),
        })
    }

    /// Goes on where a shared end has been [taken over](Self::take_over).
    #[cfg(feature = "tokio")]
    pub(crate) fn go_on_with(&self, engines: Engines) {
        let (mut write, mut read) = (lock(&self.write), lock(&self.read.side));
        let Engines { mut reader, writer } = engines;
        if let Slot::Linked(link) = &read.link {
            reader.stop_asking(&**link);
        }
        read.reader = reader;
        write.writer = writer;
    }

    /// Gives this process' part in a shared end up; [`Left::Last`] also for an end that is not
    /// shared.
    pub(crate) fn leave_end(&self) -> Left {
        let (mut write, mut read) = (lock(&self.write), lock(&self.read.side));
        let Slot::Linked(link) = read.link.clone() else {
            return Left::Last;
        };
        let Some(roster) = link.roster() else {
            return Left::Last;
        };
        match self.bury(&mut read, &mut write, &link, &[roster.me()], None) {
            Ok(()) => {}
            // It has left before.
            Err(error) if error == Error::INVALID_HANDLE => {}
            // The others see to it when its lock has gone, with this process' last descriptor.
            Err(error) => tracing::warn!(%error, "a shared end is left in a hurry"),
        }
        match roster.has_others() {
            true => Left::Others,
            false => Left::Last,
        }
    }

    /// Whether other processes hold this end too, as far as that is known.
    pub(crate) fn has_other_holders(&self) -> bool {
        let link = lock(&self.write).link.clone();
        matches!(link, Slot::Linked(link) if link.roster().is_some_and(Roster::has_others))
    }

    /// Clears away what dead holders have left behind, of whom `other` may be one. Called by the
    /// service thread, which does not wait for long: `false` if it has to come again.
    pub(crate) fn look_for_dead(&self, other: HolderId) -> bool {
        let (Some(mut write), Some(mut read)) = (try_lock(&self.write), try_lock(&self.read.side))
        else {
            return false;
        };
        let Slot::Linked(link) = read.link.clone() else {
            return true;
        };
        match self.bury_dead(&mut read, &mut write, &link, Some(BRIEF)) {
            Ok(()) => !link.roster().is_some_and(|roster| roster.is_entered(other)),
            // Only who cannot get the locks comes again.
            Err(error) => error != Error::SEM_TIMEOUT,
        }
    }

    /// As [`look_for_dead`](Self::look_for_dead), by a thread that has waited for a while.
    fn look_around(&self, link: &Arc<Link>) {
        let (mut write, mut read) = (lock(&self.write), lock(&self.read.side));
        if read.link.is(link)
            && let Err(error) = self.bury_dead(&mut read, &mut write, link, None)
        {
            tracing::debug!(%error, "what dead holders left is not cleared away yet");
        }
    }

    fn bury_dead(
        &self,
        read: &mut ReadSide,
        write: &mut WriteSide,
        link: &Link,
        patience: Option<Duration>,
    ) -> Result<(), Error> {
        let Some(roster) = link.roster() else {
            return Ok(());
        };
        let dead: Vec<_> = roster.others().filter(|(_, alive)| !alive).collect();
        let dead: Vec<_> = dead.into_iter().map(|(holder, _)| holder).collect();
        if dead.is_empty() {
            return Ok(());
        }
        self.bury(read, write, link, &dead, patience)
    }

    /// Takes back the pending writes of holders, and strikes them out.
    fn bury(
        &self,
        read: &mut ReadSide,
        write: &mut WriteSide,
        link: &Link,
        holders: &[HolderId],
        patience: Option<Duration>,
    ) -> Result<(), Error> {
        let roster = link.roster().ok_or(Error::INTERNAL_ERROR)?;
        let reading = read.enter(&self.terms, link, patience)?;
        let writing = write.enter(&self.terms, link, patience)?;
        // Somebody may have been faster.
        let holders: Vec<_> = (holders.iter().copied())
            .filter(|holder| roster.is_entered(*holder))
            .collect();
        // Whose read still waits asks anew.
        read.work(link, &reading, |reader, lane| {
            reader.stop_asking(lane);
            Ok(())
        })?;
        let is_theirs = |owner: u32| holders.iter().any(|holder| holder.to_u32() == owner);
        let left = write.work(link, &writing, |writer, lane, owners| {
            let mut contested = false;
            let mut failed = Ok(());
            owners.retain(|(waiter, owner)| {
                if !is_theirs(*owner) || failed.is_err() {
                    return true;
                }
                match waiter {
                    Waiter::Flush(flush) => {
                        writer.forget_flush(*flush);
                        false
                    }
                    Waiter::Write(id) => match take_back(writer, lane, *id) {
                        Ok(taken_back) => {
                            contested |= !taken_back;
                            !taken_back
                        }
                        Err(error) => {
                            failed = Err(error);
                            true
                        }
                    },
                }
            });
            failed.map(|()| contested)
        });
        if left.map_err(|error| link.poison(error))? {
            return Err(Error::SEM_TIMEOUT);
        }
        for holder in holders {
            roster.strike(holder, (&reading, &writing));
        }
        link.set_shared_wait(Wait::DATA, reading.waits());
        link.set_shared_wait(Wait::ROOM, writing.waits());
        // Turns may have come, and what waited behind a pending write may go on.
        roster.ring();
        Ok(())
    }
}

/// Takes a pending write back; `false` if its reader has not decided yet.
fn take_back(writer: &mut Writer, lane: &impl Outgoing, id: OpId) -> Result<bool, Error> {
    for attempt in 0..CONTESTED_LOOKS {
        match writer.withdraw(lane, id)? {
            Withdrawal::Completed | Withdrawal::Withdrawn => return Ok(true),
            Withdrawal::Contested => futex::back_off(attempt),
        }
    }
    Ok(false)
}

/// When a sleep ends, be it to look for dead holders.
fn wake_up_at(deadline: Option<Instant>) -> Instant {
    let look = Instant::now() + LOOK;
    deadline.map_or(look, |at| at.min(look))
}

impl ReadSide {
    /// The first state of a shared reader: that of this process.
    fn hand_over(&mut self, roster: &Roster, link: &Link) -> Result<(), Error> {
        let held = roster.lock(Side::Read, None)?;
        self.shared.so_far = link.read_so_far();
        self.save(&held)
    }

    /// Takes the lock of the shared reader, whose state this process then has.
    fn enter<'a>(
        &mut self,
        terms: &Terms,
        link: &'a Link,
        patience: Option<Duration>,
    ) -> Result<Held<'a>, Error> {
        let roster = link.roster().ok_or(Error::INTERNAL_ERROR)?;
        let held = roster.lock(Side::Read, patience)?;
        if self.shared.version != Some(held.version()) {
            self.restore(terms, &held)
                .map_err(|error| link.poison(error))?;
        }
        if held.was_recovered() {
            // Its last owner may not have come to that.
            self.shared.so_far.tell(link);
            link.wake_peer(Wait::ROOM);
            roster.ring();
        }
        Ok(held)
    }

    fn restore(&mut self, terms: &Terms, held: &Held<'_>) -> Result<(), Error> {
        let words = held.load()?;
        let Some(([head, consumed, claim, asked], rest)) = words.split_first_chunk() else {
            return Err(Error::INVALID_DATA);
        };
        let quota = terms.reads.unwrap_or(0);
        self.reader = Reader::restore(terms.pipe_type, quota, ring_capacity(quota), rest)?;
        self.shared = SharedReads {
            version: Some(held.version()),
            so_far: ReadSoFar::from_words([*head, *consumed, *claim, *asked]),
        };
        Ok(())
    }

    fn save(&mut self, held: &Held<'_>) -> Result<(), Error> {
        let mut words = self.shared.so_far.to_words().to_vec();
        self.reader.save(&mut words);
        held.save(&words)?;
        self.shared.version = Some(held.version());
        Ok(())
    }

    /// Lets the engine work, saves what came of it, and tells the peer.
    fn work<T>(
        &mut self,
        link: &Link,
        held: &Held<'_>,
        work: impl FnOnce(&mut Reader, &DeferredIn<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let before = (self.shared.so_far, self.reader.position());
        let lane = DeferredIn::new(link, self.shared.so_far);
        // After an error the saved state counts, which is also the way out of a panic.
        let version = self.shared.version.take();
        let done = work(&mut self.reader, &lane);
        // The end of the lane is an error too, and changes nothing.
        if let Err(error) = done
            && error != Error::BROKEN_PIPE
        {
            return Err(error);
        }
        if (lane.so_far(), self.reader.position()) == before {
            self.shared.version = version;
            return done;
        }
        self.shared.so_far = lane.so_far();
        self.save(held)?;
        lane.tell();
        if self.reader.position() != before.1 {
            link.wake_peer(Wait::ROOM);
        }
        done
    }
}

impl ReadSide {
    /// Undoes what the engine has done since its state was saved last; the peer knows nothing of it
    /// but the claim.
    fn undo(&mut self, terms: &Terms, link: &Link, held: &Held<'_>) -> Result<(), Error> {
        self.shared.version = None;
        self.restore(terms, held)?;
        self.shared.so_far.tell(link);
        Ok(())
    }
}

impl WriteSide {
    /// The first state of a shared writer: that of this process, with what waits there.
    fn hand_over(&mut self, roster: &Roster, link: &Link) -> Result<(), Error> {
        let held = roster.lock(Side::Write, None)?;
        let me = roster.me().to_u32();
        self.shared.so_far = link.written_so_far();
        let pending = self.writer.pending_ids();
        self.shared.owners = pending.map(|id| (Waiter::Write(id), me)).collect();
        self.save(&held)
    }

    /// Takes the lock of the shared writer, whose state this process then has.
    fn enter<'a>(
        &mut self,
        terms: &Terms,
        link: &'a Link,
        patience: Option<Duration>,
    ) -> Result<Held<'a>, Error> {
        let roster = link.roster().ok_or(Error::INTERNAL_ERROR)?;
        let held = roster.lock(Side::Write, patience)?;
        if self.shared.version != Some(held.version()) {
            self.restore(terms, &held)
                .map_err(|error| link.poison(error))?;
        }
        if held.was_recovered() {
            self.shared.so_far.tell(link);
            link.wake_peer(Wait::DATA);
            roster.ring();
        }
        Ok(held)
    }

    fn restore(&mut self, terms: &Terms, held: &Held<'_>) -> Result<(), Error> {
        let words = held.load()?;
        let Some(([tail, offered, completed, owners], rest)) = words.split_first_chunk() else {
            return Err(Error::INVALID_DATA);
        };
        let count = usize::try_from(*owners).ok().and_then(|n| n.checked_mul(2));
        let split = count.and_then(|count| rest.split_at_checked(count));
        let (owners, rest) = split.ok_or(Error::INVALID_DATA)?;
        let quota = terms.writes.unwrap_or(0);
        self.writer = Writer::restore(terms.pipe_type, quota, ring_capacity(quota), rest)?;
        let (pairs, _) = owners.as_chunks();
        let owners = pairs.iter().map(|[waiter, owner]| {
            let owner = u32::try_from(*owner).map_err(|_| Error::INVALID_DATA)?;
            Ok((Waiter::from_word(*waiter), owner))
        });
        self.shared = SharedWrites {
            version: Some(held.version()),
            so_far: WrittenSoFar::from_words([*tail, *offered, *completed]),
            owners: owners.collect::<Result<_, Error>>()?,
            len: words.len(),
        };
        Ok(())
    }

    fn save(&mut self, held: &Held<'_>) -> Result<(), Error> {
        let writer = &self.writer;
        self.shared.owners.retain(|(waiter, _)| match waiter {
            Waiter::Write(id) => writer.pending_ids().any(|pending| pending == *id),
            Waiter::Flush(_) => true,
        });
        let mut words = self.shared.so_far.to_words().to_vec();
        words.push(u64::try_from(self.shared.owners.len()).unwrap_or(u64::MAX));
        for (waiter, owner) in &self.shared.owners {
            words.extend([waiter.to_word(), u64::from(*owner)]);
        }
        self.writer.save(&mut words);
        held.save(&words)?;
        self.shared.len = words.len();
        self.shared.version = Some(held.version());
        Ok(())
    }

    /// Lets the engine work, saves what came of it, and tells the peer.
    fn work<T>(
        &mut self,
        link: &Link,
        held: &Held<'_>,
        work: impl FnOnce(&mut Writer, &DeferredOut<'_>, &mut Vec<(Waiter, u32)>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let lane = DeferredOut::new(link, self.shared.so_far);
        // After an error the saved state counts, which is also the way out of a panic.
        self.shared.version = None;
        let done = work(&mut self.writer, &lane, &mut self.shared.owners)?;
        let before = std::mem::replace(&mut self.shared.so_far, lane.so_far());
        self.save(held)?;
        lane.tell();
        if lane.so_far() != before {
            link.wake_peer(Wait::DATA);
        }
        Ok(done)
    }
}

impl Waiter {
    /// The highest bit tells them apart: no number of an operation has it.
    const FLUSH: u64 = 1 << 63;

    fn to_word(self) -> u64 {
        match self {
            Self::Write(id) => u64::from(id) & !Self::FLUSH,
            Self::Flush(flush) => u64::from(flush) | Self::FLUSH,
        }
    }

    fn from_word(word: u64) -> Self {
        match word & Self::FLUSH {
            0 => Self::Write(OpId::from(word)),
            _ => Self::Flush(Flush::from(word & !Self::FLUSH)),
        }
    }
}

#[cfg(test)]
mod tests;
