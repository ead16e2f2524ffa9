//! Reading, writing, peeking and flushing one end of an instance: the one implementation.
//!
//! The lane engine does the work and says *pending*; here a thread waits: it spins for a moment,
//! then sleeps, holding no lock. Reads of several threads are served in order, and so are writes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ntpipe_proto::lane::{Reader, Writer, ring_capacity};
use ntpipe_proto::{Access, End, EndState, Error, Operation, PipeType, ReadMode, Verdict};

use self::shared::{SharedReads, SharedWrites};
use crate::ring::roster::Roster;
use crate::ring::{Link, Pace, Peer};
use crate::sys::fork;

mod reading;
pub(crate) mod shared;
mod writing;

/// What the two ends of a pipe have agreed on, as one end needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) end: End,
    pub(crate) pipe_type: PipeType,
    /// What this end may do beside reading and writing, which the quotas tell.
    pub(crate) access: Access,
    /// The quota of the lane that this end reads; `None` if the pipe has no such lane.
    pub(crate) reads: Option<u32>,
    /// The quota of the lane that this end writes.
    pub(crate) writes: Option<u32>,
}

/// What both ends of a pipe can do: reading, writing, peeking, flushing, transactions.
///
/// Servers, clients and the ends of anonymous pipes dereference to it. All methods take `&self`:
/// threads may share an end, and one may read while another writes (a synchronous handle on Windows
/// would make the second wait for the first).
#[derive(Debug)]
pub struct PipeStream {
    terms: Terms,
    generation: u32,
    message_read_mode: AtomicBool,
    /// Microseconds; 0 for none.
    pub(crate) read_timeout: AtomicU64,
    pub(crate) write_timeout: AtomicU64,
    read: Mutex<ReadSide>,
    write: Mutex<WriteSide>,
    /// A client that was on its way has arrived, or has not.
    arrived: [Condvar; 2],
}

#[derive(Debug)]
struct ReadSide {
    link: Slot,
    reader: Reader,
    /// The reads that wait, in order.
    turns: VecDeque<u64>,
    next_turn: u64,
    shared: SharedReads,
}

#[derive(Debug)]
struct WriteSide {
    link: Slot,
    writer: Writer,
    shared: SharedWrites,
}

/// The connection, or why there is none.
#[derive(Clone, Debug)]
enum Slot {
    Linked(Arc<Link>),
    /// A client has the instance, but its memory is not here yet.
    Arriving,
    Absent(EndState),
}

impl PipeStream {
    /// An end without a connection.
    pub(crate) fn new(terms: Terms, read_mode: ReadMode, state: EndState) -> Self {
        Self {
            terms,
            generation: fork::generation(),
            message_read_mode: AtomicBool::new(read_mode == ReadMode::Message),
            read_timeout: AtomicU64::new(0),
            write_timeout: AtomicU64::new(0),
            read: Mutex::new(ReadSide {
                link: Slot::Absent(state),
                reader: new_reader(&terms),
                turns: VecDeque::new(),
                next_turn: 0,
                shared: SharedReads::default(),
            }),
            write: Mutex::new(WriteSide {
                link: Slot::Absent(state),
                writer: new_writer(&terms),
                shared: SharedWrites::default(),
            }),
            arrived: Default::default(),
        }
    }

    /// A client has taken the instance; its memory is on the way. Calls wait for it: for Windows
    /// the instance is connected from here on.
    pub(crate) fn expect_client(&self) {
        lock(&self.read).link = Slot::Arriving;
        lock(&self.write).link = Slot::Arriving;
    }

    /// Begins a new connection.
    pub(crate) fn attach(&self, link: &Arc<Link>) {
        let mut read = lock(&self.read);
        let mut write = lock(&self.write);
        read.reader = new_reader(&self.terms);
        read.shared = SharedReads::default();
        // Who still waits has waited for another connection, and will find that out.
        read.turns.clear();
        read.link = Slot::Linked(Arc::clone(link));
        write.writer = new_writer(&self.terms);
        write.shared = SharedWrites::default();
        write.link = Slot::Linked(Arc::clone(link));
        self.arrived.iter().for_each(Condvar::notify_all);
    }

    /// Ends the connection for this end; calls that wait have been told through the link.
    pub(crate) fn detach(&self, state: EndState) {
        let mut read = lock(&self.read);
        if let Slot::Linked(link) = &read.link
            && let Some(roster) = link.roster()
        {
            // What the other holders have set stays in force here.
            self.set_own_mode(roster.mode());
        }
        read.link = Slot::Absent(state);
        drop(read);
        lock(&self.write).link = Slot::Absent(state);
        self.arrived.iter().for_each(Condvar::notify_all);
    }

    /// The side of this end that reads, once a client that is on its way has arrived. The service
    /// thread bounds how long that takes.
    fn read_side(&self) -> MutexGuard<'_, ReadSide> {
        let [arrived, _] = &self.arrived;
        let is_on_its_way = |side: &mut ReadSide| matches!(side.link, Slot::Arriving);
        let side = arrived.wait_while(lock(&self.read), is_on_its_way);
        side.unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`read_side`](Self::read_side), the side that writes.
    fn write_side(&self) -> MutexGuard<'_, WriteSide> {
        let [_, arrived] = &self.arrived;
        let is_on_its_way = |side: &mut WriteSide| matches!(side.link, Slot::Arriving);
        let side = arrived.wait_while(lock(&self.write), is_on_its_way);
        side.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// An error if this process is a fork of the one that opened the end.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        if fork::current() == self.generation {
            Ok(())
        } else {
            Err(Error::INVALID_HANDLE)
        }
    }

    /// Whether this process, not a parent, opened the end.
    pub(crate) fn is_ours(&self) -> bool {
        self.check_process().is_ok()
    }

    pub(crate) fn mode(&self) -> ReadMode {
        match &lock(&self.write).link {
            Slot::Linked(link) => link.roster().map(Roster::mode),
            Slot::Arriving | Slot::Absent(_) => None,
        }
        .unwrap_or_else(|| self.own_mode())
    }

    /// The mode of an end that only this process holds.
    fn own_mode(&self) -> ReadMode {
        match self.message_read_mode.load(Ordering::Relaxed) {
            true => ReadMode::Message,
            false => ReadMode::Byte,
        }
    }

    /// `SetNamedPipeHandleState`: message read mode needs a message pipe (observed 8.5).
    pub(crate) fn set_mode(&self, mode: ReadMode) -> Result<(), Error> {
        self.check_access(Access::WRITE_ATTRIBUTES)?;
        self.check(Operation::SetState)?;
        if mode == ReadMode::Message && self.terms.pipe_type == PipeType::Byte {
            return Err(Error::INVALID_PARAMETER);
        }
        self.set_own_mode(mode);
        if let Slot::Linked(link) = &lock(&self.write).link
            && let Some(roster) = link.roster()
        {
            roster.set_mode(mode);
        }
        Ok(())
    }

    fn set_own_mode(&self, mode: ReadMode) {
        self.message_read_mode
            .store(mode == ReadMode::Message, Ordering::Relaxed);
    }

    /// `ERROR_ACCESS_DENIED` (5) unless this end was granted these rights.
    pub(crate) fn check_access(&self, access: Access) -> Result<(), Error> {
        self.check_process()?;
        match self.terms.access.contains(access) {
            true => Ok(()),
            false => Err(Error::ACCESS_DENIED),
        }
    }

    /// An error if this end's state does not allow the operation.
    pub(crate) fn check(&self, operation: Operation) -> Result<(), Error> {
        self.check_process()?;
        let slot = lock(&self.write).link.clone();
        match slot.state() {
            Ok(state) => self.refusal(operation, state),
            Err(error) => Err(error),
        }
    }

    /// The answer of the state tables, as an error or not.
    fn refusal(&self, operation: Operation, state: EndState) -> Result<(), Error> {
        match state.verdict(self.terms.end, operation) {
            Verdict::Fail(error) => Err(error),
            Verdict::Proceed | Verdict::Succeed | Verdict::DrainThen(_) => Ok(()),
        }
    }

    /// The connection, or why the operation can't be without one.
    fn linked(&self, slot: &Slot, operation: Operation) -> Result<Arc<Link>, Error> {
        match slot {
            Slot::Linked(link) => Ok(Arc::clone(link)),
            Slot::Absent(state) => Err(self.refused(operation, *state)),
            // Who gets a side to work with has waited until this is over.
            Slot::Arriving => Err(Error::INTERNAL_ERROR),
        }
    }

    /// The error for an operation that this state does not allow.
    fn refused(&self, operation: Operation, state: EndState) -> Error {
        match state.verdict(self.terms.end, operation) {
            // Without a connection there is nothing to drain.
            Verdict::Fail(error) | Verdict::DrainThen(error) => error,
            Verdict::Proceed | Verdict::Succeed => Error::PIPE_NOT_CONNECTED,
        }
    }
}

impl Slot {
    /// Why a call that waited finds its connection gone: this end was closed (observed 10.7), or
    /// the instance was disconnected, perhaps for another client.
    fn left(&self) -> Error {
        match self {
            Self::Absent(EndState::Closing) => Error::BROKEN_PIPE,
            Self::Absent(_) | Self::Arriving | Self::Linked(_) => Error::PIPE_NOT_CONNECTED,
        }
    }

    fn is(&self, link: &Arc<Link>) -> bool {
        matches!(self, Self::Linked(own) if Arc::ptr_eq(own, link))
    }

    /// This end's state, as far as it can be seen from here.
    fn state(&self) -> Result<EndState, Error> {
        match self {
            Self::Absent(state) => Ok(*state),
            Self::Arriving => Ok(EndState::Connected),
            Self::Linked(link) => match link.peer() {
                Peer::Connected => Ok(EndState::Connected),
                Peer::Gone => Ok(EndState::Closing),
                Peer::Disconnected => Ok(EndState::Disconnected),
                Peer::Corrupt => Err(link.poison(Error::INVALID_DATA)),
            },
        }
    }
}

fn new_reader(terms: &Terms) -> Reader {
    let quota = terms.reads.unwrap_or(0);
    Reader::new(terms.pipe_type, quota, ring_capacity(quota))
}

fn new_writer(terms: &Terms) -> Writer {
    let quota = terms.writes.unwrap_or(0);
    Writer::new(terms.pipe_type, quota, ring_capacity(quota))
}

/// How a read or a write of `len` bytes goes on after a wait, if it is not a small one: as `large`.
fn pace(len: usize, large: Pace) -> Pace {
    if len <= SMALL { Pace::FarBehind } else { large }
}

fn expired(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|at| Instant::now() >= at)
}

/// Takes a lock; a thread that panicked under it has left nothing half done that matters here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Up to this size a read or a write costs less than the waiting for it.
const SMALL: usize = 1024;
