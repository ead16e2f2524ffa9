//! An anonymous pipe that has turned into one of the kernel's, for programs that know no other.
//!
//! Both ends turn at once, under their locks: what was unread is in the kernel's pipe before anyone
//! can see that. Calls that wait find out when they look next, and go on here.
//!
//! Differs from the pipe before: the buffer is as large as the kernel rounds it, and the kernel counts
//! whole pages; a write that is given up takes nothing back, and returns how much it has written; a
//! flush looks every few milliseconds.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use ntpipe_proto::lane::{OpId, Peek, Read, Withdrawal, ring_capacity};
use ntpipe_proto::{EndState, Error, Status};
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::waiters::Waiters;
use super::{PipeStream, ReadSide, Slot, expired, lock};
use crate::canceller::{Blocked, Wake};
use crate::locked::MutexGuard;
use crate::ring::Peer;
use crate::sys::poll::{self, Alarm, Woken};
use crate::sys::{pipe, win32_from_errno};

/// One end of a kernel pipe that this process uses, or hands out.
#[derive(Debug)]
pub(crate) struct KernelEnd {
    /// Our own description of it, on which nothing blocks.
    fd: OwnedFd,
    /// For others.
    original: OwnedFd,
    writes: bool,
    /// Wakes the call whose turn it is.
    alarm: Alarm,
    /// Reads or writes that wait, in order; the first one waits at the descriptor.
    calls: Mutex<Waiters>,
    /// The others wait for their turn.
    turn: Condvar,
    flushes: Mutex<Waiters>,
    /// Writes that waited when the pipe turned.
    begun: Mutex<HashMap<OpId, Begun>>,
    /// Reads that waited then: their turn before, and their place among the calls.
    waited: Mutex<HashMap<u64, u64>>,
}

/// A write that waited when the pipe turned.
#[derive(Clone, Copy, Debug)]
enum Begun {
    /// It goes on.
    Stored {
        /// Its place among the calls.
        call: u64,
        /// So many of its bytes are in the pipe, or have been read.
        len: usize,
    },
    /// It was just being taken back, and has been.
    Withdrawn,
}

/// What a call returns whose time is up, or that was cancelled.
const GIVEN_UP: [Error; 2] = [Error::SEM_TIMEOUT, Error::OPERATION_ABORTED];
/// How often a flush looks at first, and at last.
const PAUSES: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(5));

/// Turns the pipe between two ends of this process into a kernel pipe, unless it has turned before.
/// An end that is gone is `None`.
///
/// `ERROR_NO_SYSTEM_RESOURCES` (1450) if the kernel's pipe can't hold what is unread; then, as with
/// every other error, nothing has changed.
pub(crate) fn turn(
    reader: Option<&PipeStream>,
    writer: Option<&PipeStream>,
    quota: u32,
) -> Result<(), Error> {
    // In this order everywhere: sides that write before those that read.
    let mut writes: Vec<_> = [writer, reader]
        .into_iter()
        .flatten()
        .map(|end| lock(&end.write))
        .collect();
    let mut reads: Vec<_> = [writer, reader]
        .into_iter()
        .flatten()
        .map(|end| lock(&end.read.side))
        .collect();
    if writes
        .iter()
        .any(|side| matches!(side.link, Slot::Kernel(_)))
    {
        return Ok(());
    }
    // What other processes hold too can't turn for them.
    let is_shared = |slot: &Slot| matches!(slot, Slot::Linked(link) if link.roster().is_some());
    if writes.iter().any(|side| is_shared(&side.link)) {
        return Err(Error::NOT_SUPPORTED);
    }
    let unread = match reads.last_mut() {
        Some(side) if reader.is_some() => side.unread(ring_capacity(quota))?,
        Some(_) | None => Vec::new(),
    };
    let room = usize::try_from(quota).unwrap_or(usize::MAX);
    // The kernel may allow no pipe as large as the buffer was; what is in it has to fit.
    let made = pipe::new(room.max(unread.len())).or_else(|_| pipe::new(unread.len()));
    let (read_end, write_end) = made?;
    let own_read = KernelEnd::new(read_end, false)?;
    let own_write = KernelEnd::new(write_end, true)?;
    if !unread.is_empty() {
        let written = pipe::write(own_write.fd.as_fd(), &unread);
        if written != Ok(Some(unread.len())) {
            return Err(Error::NO_SYSTEM_RESOURCES);
        }
    }
    // Late, for it can't be undone.
    let mut begun = HashMap::new();
    if writer.is_some()
        && let Some(side) = writes.first_mut()
        && let Slot::Linked(link) = side.link.clone()
    {
        // Nobody reads meanwhile: nothing is contested any more.
        let pending: Vec<_> = side.writer.pending_ids().collect();
        for id in pending {
            if side.writer.is_withdrawing(id)
                && side.writer.withdraw(&*link, id)? == Withdrawal::Withdrawn
            {
                begun.insert(id, Begun::Withdrawn);
            }
        }
        let mut calls = lock(&own_write.calls);
        for id in side.writer.pending_ids() {
            let stored = side.writer.stored(id).unwrap_or(0);
            let len = usize::try_from(stored).unwrap_or(usize::MAX);
            let call = calls.enter();
            begun.insert(id, Begun::Stored { call, len });
        }
    }
    *lock(&own_write.begun) = begun;
    if reader.is_some()
        && let Some(side) = reads.last()
    {
        let mut calls = lock(&own_read.calls);
        let waited = side.turns.ids().map(|turn| (turn, calls.enter()));
        *lock(&own_read.waited) = waited.collect();
    }
    let (own_read, own_write) = (Arc::new(own_read), Arc::new(own_write));
    let ends = [writer.map(|_| own_write), reader.map(|_| own_read)];
    for ((write, read), own) in writes
        .iter_mut()
        .zip(&mut reads)
        .zip(ends.into_iter().flatten())
    {
        let left = std::mem::replace(&mut write.link, Slot::Kernel(Arc::clone(&own)));
        read.link = Slot::Kernel(own);
        write.seat = None;
        read.forget_calls();
        write.forget_calls();
        if let Slot::Linked(link) = left {
            link.wake_own();
        }
    }
    Ok(())
}

impl ReadSide {
    /// A copy of what is unread and stored: at most the ring.
    fn unread(&mut self, ring: u64) -> Result<Vec<u8>, Error> {
        let Slot::Linked(link) = self.link.clone() else {
            return Ok(Vec::new());
        };
        if link.peer() == Peer::Gone {
            self.reader.writer_gone(&*link)?;
        }
        // What a write that waits has not stored yet is announced too.
        let announced = match self.reader.peek(&*link, &mut []) {
            Ok(peek) => peek.available.min(ring),
            // It has come to its end.
            Err(error) if error == Error::BROKEN_PIPE => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let stored = usize::try_from(announced).map_err(|_| Error::NO_SYSTEM_RESOURCES)?;
        let mut unread = vec![0; stored];
        let found = self.reader.peek(&*link, &mut unread)?.len;
        unread.truncate(found);
        Ok(unread)
    }
}

impl KernelEnd {
    /// An end of a kernel pipe.
    pub(crate) fn new(original: OwnedFd, writes: bool) -> Result<Self, Error> {
        Ok(Self {
            fd: pipe::reopen(original.as_fd(), writes)?,
            original,
            writes,
            alarm: Alarm::new()?,
            calls: Mutex::default(),
            turn: Condvar::new(),
            flushes: Mutex::default(),
            begun: Mutex::default(),
            waited: Mutex::default(),
        })
    }

    /// The end as other programs get it.
    pub(crate) fn original(&self) -> BorrowedFd<'_> {
        self.original.as_fd()
    }

    /// `Closing` once the other end is gone, for a reader also while there is something to read.
    pub(super) fn state(&self) -> EndState {
        let gone = if self.writes {
            PollFlags::ERR
        } else {
            PollFlags::HUP
        };
        let mut fds = [rustix::event::PollFd::new(&self.fd, PollFlags::empty())];
        let at_once = rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let _ = rustix::event::poll(&mut fds, Some(&at_once));
        let [fd] = fds;
        match fd.revents().contains(gone) {
            true => EndState::Closing,
            false => EndState::Connected,
        }
    }

    /// Bytes that are unread.
    pub(super) fn unread(&self) -> u64 {
        pipe::unread(self.fd.as_fd())
    }

    /// Bytes for which there is room.
    pub(super) fn free(&self) -> u64 {
        pipe::size(self.fd.as_fd()).saturating_sub(self.unread())
    }

    pub(super) fn has_waiters(&self) -> bool {
        !lock(&self.calls).is_empty()
    }

    /// Whether something that was written here has not been read.
    pub(super) fn has_unread_writes(&self) -> bool {
        self.writes && self.unread() > 0
    }

    /// Cancels the calls that wait; whether there was one.
    pub(super) fn cancel(&self) -> bool {
        let mut calls = lock(&self.calls);
        let found = [calls.cancel_all(), lock(&self.flushes).cancel_all()];
        self.alarm.ring();
        self.turn.notify_all();
        drop(calls);
        found.contains(&true)
    }

    pub(super) fn read(
        self: &Arc<Self>,
        dst: &mut [u8],
        deadline: Option<Instant>,
        nowait: bool,
    ) -> Result<Read, Error> {
        let call = lock(&self.calls).enter();
        self.read_by(call, dst, deadline, nowait)
    }

    /// Goes on with a read that waited when the pipe turned.
    pub(super) fn resume_read(
        self: &Arc<Self>,
        turn: u64,
        dst: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<Read, Error> {
        let call = lock(&self.waited).remove(&turn);
        let call = call.unwrap_or_else(|| lock(&self.calls).enter());
        self.read_by(call, dst, deadline, false)
    }

    fn read_by(
        self: &Arc<Self>,
        call: u64,
        dst: &mut [u8],
        deadline: Option<Instant>,
        nowait: bool,
    ) -> Result<Read, Error> {
        let blocked = Blocked::enter(|| Arc::clone(self));
        self.in_turn(call, &blocked, deadline, || {
            if dst.is_empty() {
                // It waits for data too, and takes none (observed 5.11).
                // The state first: a writer that goes may write before.
                return match (self.state(), self.unread()) {
                    (EndState::Connected, 0) if nowait => Err(Status::PIPE_EMPTY.error()),
                    (EndState::Connected, 0) => Ok(None),
                    (_, 0) => Err(Error::BROKEN_PIPE),
                    _ => Ok(Some(Read::default())),
                };
            }
            match pipe::read(self.fd.as_fd(), dst) {
                Ok(Some(0)) => Err(Error::BROKEN_PIPE),
                Ok(Some(len)) => Ok(Some(Read { len, more: false })),
                Ok(None) if nowait => Err(Status::PIPE_EMPTY.error()),
                Ok(None) => Ok(None),
                Err(errno) => Err(win32_from_errno(errno, "read a pipe")),
            }
        })
    }

    /// Copies what there is; never waits.
    pub(super) fn peek(&self, dst: &mut [u8]) -> Result<Peek, Error> {
        let available = self.unread();
        if available == 0 && self.state() == EndState::Closing && self.unread() == 0 {
            return Err(Error::BROKEN_PIPE);
        }
        let some = usize::try_from(available)
            .unwrap_or(usize::MAX)
            .min(dst.len());
        let len = match dst.get_mut(..some) {
            Some(dst) if some > 0 => pipe::peek(self.fd.as_fd(), dst)?,
            Some(_) | None => 0,
        };
        Ok(Peek {
            len,
            available,
            ..Peek::default()
        })
    }

    pub(super) fn write(
        self: &Arc<Self>,
        src: &[u8],
        deadline: Option<Instant>,
        nowait: bool,
    ) -> Result<usize, Error> {
        if self.state() == EndState::Closing {
            return Err(Status::PIPE_CLOSING.error());
        }
        if src.is_empty() {
            // It waits for nothing, not even for its turn (observed 5.4).
            return Ok(0);
        }
        if nowait {
            // All or nothing, as far as the kernel does it (observed 6.3).
            let fits = u64::try_from(src.len()).unwrap_or(u64::MAX) <= self.free();
            if !fits || self.has_waiters() {
                return Ok(0);
            }
            let written = pipe::write(self.fd.as_fd(), src);
            return match written {
                Ok(written) => Ok(written.unwrap_or(0)),
                Err(errno) => Err(refused(errno, Status::PIPE_CLOSING.error())),
            };
        }
        let mut calls = lock(&self.calls);
        let call = calls.enter();
        let waits = !calls.is_first(call);
        drop(calls);
        self.write_rest(src, 0, call, waits, deadline)
    }

    /// Goes on with a write that had begun when the pipe turned.
    pub(super) fn resume(
        self: &Arc<Self>,
        id: OpId,
        src: &[u8],
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        let begun = lock(&self.begun).remove(&id);
        match begun {
            Some(Begun::Stored { call, len }) => self.write_rest(src, len, call, true, deadline),
            Some(Begun::Withdrawn) if expired(deadline) => Err(Error::SEM_TIMEOUT),
            Some(Begun::Withdrawn) => Err(Error::OPERATION_ABORTED),
            // It was complete.
            None => Ok(src.len()),
        }
    }

    /// Writes from `at` on; `has_waited` if it has had to wait already. What is given up then
    /// returns how much of it is in the pipe, unless that is nothing.
    fn write_rest(
        self: &Arc<Self>,
        src: &[u8],
        mut at: usize,
        call: u64,
        mut has_waited: bool,
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        let blocked = Blocked::enter(|| Arc::clone(self));
        let result = self.in_turn(call, &blocked, deadline, || {
            while let Some(rest) = src.get(at..).filter(|rest| !rest.is_empty()) {
                // Who had begun to wait is told otherwise (observed 5.29, 9.19).
                let gone = match has_waited || at > 0 {
                    true => Error::BROKEN_PIPE,
                    false => Status::PIPE_CLOSING.error(),
                };
                let written = pipe::write(self.fd.as_fd(), rest);
                match written.map_err(|errno| refused(errno, gone))? {
                    Some(len) => at += len,
                    None => {
                        has_waited = true;
                        return Ok(None);
                    }
                }
            }
            Ok(Some(()))
        });
        match result {
            Ok(()) => Ok(src.len()),
            Err(error) if at > 0 && GIVEN_UP.contains(&error) => Ok(at),
            Err(error) => Err(error),
        }
    }

    /// Waits until everything has been read; `has_waited` if it has had to already.
    pub(super) fn flush(
        self: &Arc<Self>,
        mut has_waited: bool,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let blocked = Blocked::enter(|| Arc::clone(self));
        let call = lock(&self.flushes).enter();
        let (mut pause, longest) = PAUSES;
        let last = lock(&self.calls).ids().last();
        let result = loop {
            // What waits to get into the pipe comes first.
            let first = lock(&self.calls).ids().next();
            let all_in = last.is_none_or(|last| first.is_none_or(|first| first > last));
            if all_in && self.unread() == 0 {
                break Ok(());
            }
            if self.state() == EndState::Closing {
                break if has_waited {
                    Err(Error::BROKEN_PIPE)
                } else {
                    Ok(())
                };
            }
            if lock(&self.flushes).is_cancelled(call) || blocked.is_cancelled() {
                break Err(Error::OPERATION_ABORTED);
            }
            if expired(deadline) {
                break Err(Error::SEM_TIMEOUT);
            }
            let next = Instant::now() + pause;
            let until = deadline.map_or(next, |at| at.min(next));
            // Wakes for the reader's end too.
            if let Err(errno) = poll::wait(self.fd.as_fd(), PollFlags::empty(), None, Some(until)) {
                break Err(win32_from_errno(errno, "poll"));
            }
            pause = (pause * 2).min(longest);
            has_waited = true;
        };
        lock(&self.flushes).leave(call);
        result
    }

    /// Tries until there is a result, once the turn of this call has come.
    fn in_turn<T>(
        &self,
        call: u64,
        blocked: &Blocked,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let mut calls = lock(&self.calls);
        let result = loop {
            let is_cancelled = calls.is_cancelled(call) || blocked.is_cancelled();
            let is_first = calls.is_first(call);
            if is_first {
                match attempt() {
                    Ok(Some(done)) => break Ok(done),
                    Ok(None) => {}
                    Err(error) => break Err(error),
                }
            }
            if is_cancelled {
                break Err(Error::OPERATION_ABORTED);
            }
            if expired(deadline) {
                break Err(Error::SEM_TIMEOUT);
            }
            if is_first {
                drop(calls);
                let waited = self.wait(deadline);
                calls = lock(&self.calls);
                if let Err(error) = waited {
                    break Err(error);
                }
            } else {
                calls = self.wait_for_turn(calls, deadline);
            }
        };
        calls.leave(call);
        self.turn.notify_all();
        result
    }

    fn wait(&self, deadline: Option<Instant>) -> Result<(), Error> {
        let flags = match self.writes {
            true => PollFlags::OUT,
            false => PollFlags::IN,
        };
        let woken = poll::wait(self.fd.as_fd(), flags, Some(&self.alarm), deadline);
        if woken.map_err(|errno| win32_from_errno(errno, "poll"))? == Woken::Alarmed {
            self.alarm.silence();
        }
        Ok(())
    }

    fn wait_for_turn<'a>(
        &'a self,
        calls: MutexGuard<'a, Waiters>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, Waiters> {
        let Some(at) = deadline else {
            return calls.wait(&self.turn);
        };
        let left = at.saturating_duration_since(Instant::now());
        calls.wait_timeout(&self.turn, left)
    }
}

impl Wake for KernelEnd {
    fn wake(&self) {
        let calls = lock(&self.calls);
        self.alarm.ring();
        self.turn.notify_all();
        drop(calls);
    }
}

impl PipeStream {
    /// The kernel's pipe that this end has turned into.
    pub(crate) fn kernel_end(&self) -> Option<Arc<KernelEnd>> {
        match &lock(&self.write).link {
            Slot::Kernel(end) => Some(Arc::clone(end)),
            Slot::Linked(_) | Slot::Arriving | Slot::Absent(_) => None,
        }
    }

    /// Makes this end one of a kernel pipe.
    pub(crate) fn attach_kernel(&self, end: &Arc<KernelEnd>) {
        let mut write = lock(&self.write);
        let mut read = lock(&self.read.side);
        write.link = Slot::Kernel(Arc::clone(end));
        read.link = Slot::Kernel(Arc::clone(end));
    }
}

/// What it means that the kernel did not write.
fn refused(errno: Errno, gone: Error) -> Error {
    match errno {
        Errno::PIPE => gone,
        errno => win32_from_errno(errno, "write to a pipe"),
    }
}
