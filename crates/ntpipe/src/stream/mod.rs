//! Reading, writing, peeking and flushing one end of an instance: the one implementation.
//!
//! The lane engine does the work and says *pending*; here a thread waits: it spins for a moment,
//! then sleeps, holding no lock. Reads of several threads are served in order, and so are writes.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use ntpipe_proto::lane::{Reader, Writer, ring_capacity};
use ntpipe_proto::{
    Access, Direction, End, EndState, Error, Operation, PipeState, PipeType, ReadMode, Verdict,
    WaitMode,
};

use self::shared::{SharedReads, SharedWrites};
use crate::condition::Condition;
use crate::locked::MutexGuard;
pub(crate) use crate::locked::lock;
use crate::ring::{Link, Pace, Peer};
use crate::sys::fork;

mod arrival;
#[cfg(feature = "tokio")]
mod calls;
mod cancel;
mod kernel;
mod local;
mod modes;
#[cfg(feature = "tokio")]
mod polling;
mod query;
mod reading;
pub(crate) mod shared;
mod stash;
mod tasks;
mod waiters;
mod writing;

pub(crate) use arrival::Visitor;
#[cfg(feature = "tokio")]
pub(crate) use calls::{Call, Calls};
pub(crate) use kernel::{KernelEnd, turn};
use local::{ReadHalf, Seat};
#[cfg(feature = "tokio")]
pub(crate) use polling::{Attempt, Sight, Turn, Written};
pub(crate) use query::QueueInfo;
use reading::try_read;
use stash::Stash;
pub(crate) use tasks::Tasks;
#[cfg(feature = "tokio")]
pub(crate) use tasks::{Cause, Ticket};
pub(crate) use waiters::Waiters;

/// What the two ends of a pipe have agreed on, as one end needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) end: End,
    pub(crate) pipe_type: PipeType,
    pub(crate) direction: Direction,
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
    /// Microseconds; 0 for none.
    pub(crate) read_timeout: AtomicU64,
    pub(crate) write_timeout: AtomicU64,
    read: Arc<ReadHalf>,
    write: Mutex<WriteSide>,
    /// A client that was on its way has arrived, or has not.
    arrived: [Condition; 2],
    /// The client that was last on its way.
    visitor: Mutex<Option<Weak<dyn Visitor>>>,
    tasks: Arc<Tasks>,
    #[cfg(feature = "tokio")]
    calls: Calls,
}

#[derive(Debug)]
struct ReadSide {
    link: Slot,
    reader: Reader,
    /// The reads that wait, in order.
    turns: Waiters,
    /// The calls that wait for a client that is on its way.
    arriving: Waiters,
    /// Memory to read into for those that wait.
    spare: Vec<u8>,
    shared: SharedReads,
    /// What a read that ended has of a message whose rest was not there yet.
    stash: Stash,
    /// A task waits for the reply of its transaction: all other reads come behind it.
    #[cfg(feature = "tokio")]
    transacts: bool,
}

#[derive(Debug)]
struct WriteSide {
    link: Slot,
    writer: Writer,
    /// The calls that wait: writes, flushes, and those for a client that is on its way.
    waiters: Waiters,
    /// Where the peer is found if it is in this process; an end that is shared has none.
    seat: Option<Arc<Seat>>,
    shared: SharedWrites,
    /// What a task last tried to write in vain: until the peer has moved it is not worth it.
    #[cfg(feature = "tokio")]
    refused: Option<polling::Refused>,
}

/// The connection, or why there is none.
#[derive(Clone, Debug)]
enum Slot {
    Linked(Arc<Link>),
    /// A client has the instance, but its memory is not here yet.
    Arriving,
    Absent(EndState),
    /// The pipe has turned into one of the kernel's.
    Kernel(Arc<KernelEnd>),
}

impl PipeStream {
    /// An end without a connection.
    pub(crate) fn new(terms: Terms, read_mode: ReadMode, state: EndState) -> Self {
        let modes = PipeState {
            read_mode,
            wait_mode: WaitMode::Wait,
        };
        let side = ReadSide {
            link: Slot::Absent(state),
            reader: new_reader(&terms),
            turns: Waiters::default(),
            arriving: Waiters::default(),
            spare: Vec::new(),
            shared: SharedReads::default(),
            stash: Stash::default(),
            #[cfg(feature = "tokio")]
            transacts: false,
        };
        Self {
            terms,
            generation: fork::generation(),
            read_timeout: AtomicU64::new(0),
            write_timeout: AtomicU64::new(0),
            read: Arc::new(ReadHalf::new(side, modes)),
            write: Mutex::new(WriteSide {
                link: Slot::Absent(state),
                writer: new_writer(&terms),
                waiters: Waiters::default(),
                seat: None,
                shared: SharedWrites::default(),
                #[cfg(feature = "tokio")]
                refused: None,
            }),
            arrived: Default::default(),
            visitor: Mutex::default(),
            tasks: Arc::default(),
            #[cfg(feature = "tokio")]
            calls: Calls::default(),
        }
    }

    /// Begins a new connection.
    pub(crate) fn attach(&self, link: &Arc<Link>) {
        let modes = self.modes();
        link.set_tasks(&self.tasks);
        // In this order everywhere: who writes may read for a peer in this process.
        let mut write = lock(&self.write);
        let mut read = lock(&self.read.side);
        read.reader = new_reader(&self.terms);
        read.shared = SharedReads::default();
        read.link = Slot::Linked(Arc::clone(link));
        write.writer = new_writer(&self.terms);
        write.shared = SharedWrites::default();
        write.link = Slot::Linked(Arc::clone(link));
        // What other processes hold too, nobody may serve for them.
        let is_shared = link.roster().is_some();
        write.seat = (!is_shared).then(|| Seat::take(link, &self.read));
        self.read.share_with(is_shared.then_some(link), modes);
        read.forget_calls();
        write.forget_calls();
        self.arrived.iter().for_each(Condition::notify_all);
    }

    /// The tasks that wait at this end, also for a client.
    pub(crate) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }

    /// Ends the connection for this end; calls that wait have been told through the link. Tasks are
    /// woken by [`Tasks::wake`].
    pub(crate) fn detach(&self, state: EndState) {
        let modes = self.modes();
        let mut write = lock(&self.write);
        let mut read = lock(&self.read.side);
        // What the other holders have set stays in force here.
        self.read.share_with(None, modes);
        read.link = Slot::Absent(state);
        write.link = Slot::Absent(state);
        write.seat = None;
        read.forget_calls();
        write.forget_calls();
        drop((read, write));
        self.arrived.iter().for_each(Condition::notify_all);
    }

    /// The side of this end that reads, once a client that is on its way has arrived. The service
    /// thread bounds how long that takes.
    fn read_side(&self) -> MutexGuard<'_, ReadSide> {
        let [arrived, _] = &self.arrived;
        let mut side = lock(&self.read.side);
        while matches!(side.link, Slot::Arriving) {
            side = arrived.wait(side);
        }
        side
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

    /// Whether the other end is there, as far as it can be seen from here.
    pub(crate) fn has_peer(&self) -> bool {
        lock(&self.write).link.state() == Ok(EndState::Connected)
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
            // Who gets a side to work with has waited until the one is over, and asked for the other.
            Slot::Arriving | Slot::Kernel(_) => Err(Error::INTERNAL_ERROR),
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

impl ReadSide {
    /// Whether what comes is the reply of a task's transaction.
    fn is_reserved(&self) -> bool {
        #[cfg(feature = "tokio")]
        return self.transacts;
        #[cfg(not(feature = "tokio"))]
        return false;
    }

    /// Who still waits has waited for another connection, and will find that out.
    fn forget_calls(&mut self) {
        self.turns.clear();
        self.arriving.clear();
        self.stash = Stash::default();
        #[cfg(feature = "tokio")]
        {
            self.transacts = false;
        }
    }
}

impl WriteSide {
    /// As [`ReadSide::forget_calls`].
    fn forget_calls(&mut self) {
        self.waiters.clear();
        #[cfg(feature = "tokio")]
        {
            self.refused = None;
        }
    }
}

impl Slot {
    /// Why a call that waited finds its connection gone: this end was closed (observed 10.7), or
    /// the instance was disconnected, perhaps for another client.
    fn left(&self) -> Error {
        match self {
            Self::Absent(EndState::Closing) => Error::BROKEN_PIPE,
            Self::Absent(_) | Self::Arriving | Self::Linked(_) | Self::Kernel(_) => {
                Error::PIPE_NOT_CONNECTED
            }
        }
    }

    /// The kernel's pipe, if it is one.
    fn kernel(&self) -> Option<Arc<KernelEnd>> {
        match self {
            Self::Kernel(end) => Some(Arc::clone(end)),
            Self::Linked(_) | Self::Arriving | Self::Absent(_) => None,
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
            Self::Kernel(end) => Ok(end.state()),
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
fn pace(len: usize, quota: Option<u32>, large: Pace) -> Pace {
    match u32::try_from(len) {
        Ok(len) if len <= SMALL => Pace::far_behind(len, quota.unwrap_or(0)),
        Ok(_) | Err(_) => large,
    }
}

fn expired(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|at| Instant::now() >= at)
}

/// Up to this size a read or a write costs less than the waiting for it.
const SMALL: u32 = 1024;
