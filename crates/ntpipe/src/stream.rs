//! Reading, writing, peeking and flushing one end of an instance: the one implementation.
//!
//! The lane engine does the work and says *pending*; here a thread waits: it spins for a moment,
//! then sleeps, holding no lock. Reads of several threads are served in order, and so are writes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use ntpipe_proto::lane::{
    Begun, Charge, Incoming, OpId, Outgoing, Peek, Read, Reader, Reading, Withdrawal, Writer,
    ring_capacity,
};
use ntpipe_proto::{Access, End, EndState, Error, Operation, PipeType, ReadMode, Verdict};

use crate::ring::{Link, Pace, Peer, Wait};
use crate::sys::fork;

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
}

#[derive(Debug)]
struct WriteSide {
    link: Slot,
    writer: Writer,
}

/// The connection, or why there is none.
#[derive(Clone, Debug)]
enum Slot {
    Linked(Arc<Link>),
    /// A client has the instance, but its memory is not here yet.
    Arriving,
    Absent(EndState),
}

/// How long a reader may take to decide about a write that is withdrawn; it must have been stopped
/// in the middle of a few instructions to take that long.
const CONTESTED_LIMIT: Duration = Duration::from_secs(5);
/// Up to this size a write costs less than the waiting for its room.
const SMALL: usize = 1024;
/// How long to wait before asking it again.
const CONTESTED_PAUSE: Duration = Duration::from_millis(1);

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
            }),
            write: Mutex::new(WriteSide {
                link: Slot::Absent(state),
                writer: new_writer(&terms),
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
        // Who still waits has waited for another connection, and will find that out.
        read.turns.clear();
        read.link = Slot::Linked(Arc::clone(link));
        write.writer = new_writer(&self.terms);
        write.link = Slot::Linked(Arc::clone(link));
        self.arrived.iter().for_each(Condvar::notify_all);
    }

    /// Ends the connection for this end; calls that wait have been told through the link.
    pub(crate) fn detach(&self, state: EndState) {
        lock(&self.read).link = Slot::Absent(state);
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
        self.message_read_mode
            .store(mode == ReadMode::Message, Ordering::Relaxed);
        Ok(())
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
        {
            let mode = self.mode();
            if let Poll::Ready(read) = self.try_read(link, reader, &mut op, mode, dst)? {
                return Ok(read);
            }
        }
        let link = match &side.link {
            Slot::Linked(link) => Arc::clone(link),
            Slot::Absent(state) => return Err(self.refused(Operation::Read, *state)),
            Slot::Arriving => return Err(Error::INTERNAL_ERROR),
        };
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
        let result = loop {
            if !side.link.is(link) {
                break Err(Error::PIPE_NOT_CONNECTED);
            }
            let (rings, tail) = (link.rings(), Incoming::tail(&**link));
            let moved = || {
                Incoming::tail(&**link) != tail
                    || link.rings() != rings
                    || link.peer() != Peer::Connected
            };
            let first = side.turns.front() == Some(&turn);
            if first {
                let mode = self.mode();
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
            if first && link.spin(Wait::Data, moved) {
                side = lock(&self.read);
                continue;
            }
            if first {
                let mut side = lock(&self.read);
                if side.link.is(link) {
                    side.reader.ask(&**link, dst.len() - op.filled());
                }
            }
            link.sleep(Wait::Data, deadline, moved);
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
        match self.try_read(link, &mut side.reader, op, self.mode(), dst)? {
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
        let link = match side.link.clone() {
            Slot::Linked(link) => link,
            Slot::Absent(state) => return Err(self.refused(Operation::Peek, state)),
            Slot::Arriving => return Err(Error::INTERNAL_ERROR),
        };
        let peer = link.peer();
        match peer {
            Peer::Disconnected => return Err(self.refused(Operation::Peek, EndState::Disconnected)),
            Peer::Corrupt => return Err(link.poison(Error::INVALID_DATA)),
            Peer::Connected | Peer::Gone => {}
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

    /// `WriteFile`.
    pub(crate) fn write_until(
        &self,
        src: &[u8],
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        self.write_charged(src, Charge::Charged, deadline)?;
        Ok(src.len())
    }

    fn write_charged(
        &self,
        src: &[u8],
        charge: Charge,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        self.check_process()?;
        self.terms.writes.ok_or(Error::ACCESS_DENIED)?;
        let mut side = self.write_side();
        let WriteSide { link, writer } = &mut *side;
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
        let begun = writer
            .begin(&**link, src, charge)
            .map_err(|error| link.poison(error))?;
        link.wake_peer(Wait::Data);
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
                return Err(Error::PIPE_NOT_CONNECTED);
            }
            let (rings, peer, taken) = (link.rings(), link.peer(), Outgoing::taken(&**link));
            let resumed = side.writer.resume(&**link, id, src);
            link.wake_peer(Wait::Data);
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
                link.wake_peer(Wait::Data);
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
            wait_for_room(link, rings, taken, until, pace(src));
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
                return Err(Error::PIPE_NOT_CONNECTED);
            }
        }
    }

    /// `TransactNamedPipe`: writes one message and reads one (observed 11).
    pub(crate) fn transact_until(
        &self,
        request: &[u8],
        reply: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<Read, Error> {
        self.check(Operation::Transact)?;
        let duplex = self.terms.reads.is_some() && self.terms.writes.is_some();
        if !duplex || self.mode() != ReadMode::Message {
            return Err(Error::BAD_PIPE);
        }
        let mut side = self.read_side();
        let link = match side.link.clone() {
            Slot::Linked(link) => link,
            Slot::Absent(state) => return Err(self.refused(Operation::Transact, state)),
            Slot::Arriving => return Err(Error::INTERNAL_ERROR),
        };
        let is_empty = side
            .reader
            .is_empty(&*link)
            .map_err(|error| link.poison(error))?;
        if !is_empty || !side.turns.is_empty() {
            return Err(Error::PIPE_BUSY);
        }
        // The reply is ours: a read that another thread starts comes behind.
        let turn = side.take_turn();
        drop(side);
        let written = self.write_charged(request, Charge::Uncharged, deadline);
        let mut side = lock(&self.read);
        if let Err(error) = written {
            side.leave(turn);
            return Err(error);
        }
        self.read_in_turn(side, &link, turn, Reading::default(), reply, deadline)
    }

    /// The answer of the state tables, as an error or not.
    fn refusal(&self, operation: Operation, state: EndState) -> Result<(), Error> {
        match state.verdict(self.terms.end, operation) {
            Verdict::Fail(error) => Err(error),
            Verdict::Proceed | Verdict::Succeed | Verdict::DrainThen(_) => Ok(()),
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

/// Waits until the peer has taken something, or anything else has changed.
fn wait_for_room(
    link: &Link,
    rings: u32,
    taken: ntpipe_proto::lane::Taken,
    deadline: Option<Instant>,
    pace: Pace,
) {
    let moved = || {
        Outgoing::taken(link) != taken || link.rings() != rings || link.peer() != Peer::Connected
    };
    let wait = Wait::Room(pace);
    if !link.spin(wait, moved) {
        link.sleep(wait, deadline, moved);
    }
}

/// How a write of `src` goes on when there is room again.
fn pace(src: &[u8]) -> Pace {
    if src.len() <= SMALL {
        Pace::FarBehind
    } else {
        Pace::Prompt
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

fn expired(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|at| Instant::now() >= at)
}

/// Takes a lock; a thread that panicked under it has left nothing half done that matters here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
