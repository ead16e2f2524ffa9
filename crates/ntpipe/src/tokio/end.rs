//! One end of a pipe as tasks use it: how they wait, and what they wait for.

use std::future::poll_fn;
use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker, ready};

use ::tokio::io::{Interest, Ready};
use ::tokio::task::coop;
use ntpipe_proto::lane::OpId;
use ntpipe_proto::{Error, IoErrorExt, PipeType};

use super::doorbell::Doorbell;
use super::patience::{Looking, Patience};
use super::taking_back::TakingBack;
use crate::locked::MutexGuard;
use crate::pipe::ReadInfo;
use crate::ring::{Link, Peer, Wait};
use crate::stream::{Attempt, Call, Cause, PipeStream, Sight, Ticket, Written, lock};

/// What holds an end open.
pub(super) trait Holder: Deref<Target = PipeStream> + Send + Sync + 'static {}

impl<T: Deref<Target = PipeStream> + Send + Sync + 'static> Holder for T {}

/// An end, and how its tasks wait.
#[derive(Debug)]
pub(super) struct End<H: Holder> {
    pub(super) pipe: H,
    doorbell: Doorbell,
    reading: Patience,
    writing: Patience,
    /// The waits of the methods that poll: `AsyncRead`, `AsyncWrite` and the readiness.
    slots: [Mutex<Waiter>; 4],
    /// What was to be seen when an operation of the user's found nothing.
    blocked_reading: Blocked,
    blocked_writing: Blocked,
    writes_are_over: AtomicBool,
    /// The connection in which they are.
    over: Mutex<Weak<Link>>,
}

/// A wait of one task.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    ticket: Option<Ticket>,
    /// What can be cancelled.
    call: Option<Call>,
    /// It is no call any more, so that nobody cancels it.
    has_returned: bool,
    is_waiting: bool,
    looking: Looking,
}

/// Where a wait is.
enum Place<'a> {
    Own(&'a mut Waiter),
    Slot(&'a Mutex<Waiter>),
}

impl Place<'_> {
    fn with<R>(&mut self, act: impl FnOnce(&mut Waiter) -> R) -> R {
        match self {
            Self::Own(waiter) => act(waiter),
            Self::Slot(slot) => act(&mut lock(slot)),
        }
    }
}

/// What came of looking before going to sleep.
enum Look<T> {
    Found(io::Result<T>),
    /// It is worth another look, after others have run.
    Again,
    InVain,
}

/// A wait that ends with its future.
struct Waiting<'a, H: Holder> {
    end: &'a End<H>,
    waiter: Waiter,
}

#[derive(Debug, Default)]
struct Blocked {
    is_set: AtomicBool,
    sight: Mutex<Option<Sight>>,
}

/// Whose wait is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Read,
    ReadReady,
    Write,
    WriteReady,
}

impl<H: Holder> End<H> {
    pub(super) fn new(pipe: H) -> io::Result<Self> {
        pipe.check_process()?;
        let doorbell = Doorbell::new(pipe.tasks())?;
        pipe.enter_loop()?;
        Ok(Self {
            doorbell,
            pipe,
            reading: Patience::default(),
            writing: Patience::default(),
            slots: Default::default(),
            blocked_reading: Blocked::default(),
            blocked_writing: Blocked::default(),
            writes_are_over: AtomicBool::new(false),
            over: Mutex::default(),
        })
    }

    /// If the connection is over, so is the watching: the next one has another socket.
    pub(super) fn forget_old(&self) {
        self.doorbell.forget_old(|| self.pipe.link());
    }

    /// Waits until `attempt` is ready. Giving up the wait changes nothing but what `attempt` did; so
    /// does cancelling it, which is `ERROR_OPERATION_ABORTED` (995).
    pub(super) async fn wait<T>(
        &self,
        cause: Cause,
        attempt: impl FnMut() -> Poll<T>,
    ) -> io::Result<T> {
        self.wait_as(Waiter::default(), cause, attempt).await
    }

    async fn wait_as<T>(
        &self,
        waiter: Waiter,
        cause: Cause,
        mut attempt: impl FnMut() -> Poll<T>,
    ) -> io::Result<T> {
        let mut waiting = Waiting { end: self, waiter };
        let mut poll = |cx: &mut Context<'_>| {
            let place = Place::Own(&mut waiting.waiter);
            self.poll(cx, place, cause, &mut attempt)
        };
        poll_fn(|cx| poll(cx)).await
    }

    /// As [`wait`](Self::wait), for a task that has a slot: the last one that polls is woken.
    pub(super) fn poll_slot<T>(
        &self,
        cx: &mut Context<'_>,
        slot: Slot,
        attempt: impl FnMut() -> Poll<T>,
    ) -> Poll<io::Result<T>> {
        let [read, read_ready, write, write_ready] = &self.slots;
        let (waiter, cause) = match slot {
            Slot::Read => (read, Cause::Data),
            Slot::ReadReady => (read_ready, Cause::Data),
            Slot::Write => (write, Cause::Room),
            Slot::WriteReady => (write_ready, Cause::Room),
        };
        self.poll(cx, Place::Slot(waiter), cause, attempt)
    }

    /// What a waker does is not known: none is called or cloned with a slot in hand.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut place: Place<'_>,
        cause: Cause,
        mut attempt: impl FnMut() -> Poll<T>,
    ) -> Poll<io::Result<T>> {
        // First of all: in a forked child a lock may never be let go of.
        self.pipe.check_process()?;
        let budget = ready!(coop::poll_proceed(cx));
        let looked = place.with(|waiter| self.look(waiter, cause, &mut attempt));
        let looked = match looked {
            Look::Found(done) => Poll::Ready(done),
            Look::Again => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Look::InVain => {
                let waker = cx.waker().clone();
                place.with(|waiter| self.go_to_sleep(waiter, waker, cause, attempt))
            }
        };
        if let Poll::Ready(Ok(_)) = looked {
            budget.made_progress();
        }
        looked
    }

    fn look<T>(
        &self,
        waiter: &mut Waiter,
        cause: Cause,
        attempt: &mut impl FnMut() -> Poll<T>,
    ) -> Look<T> {
        if let Err(error) = self.check_call(waiter) {
            return Look::Found(Err(error));
        }
        if let Poll::Ready(done) = attempt() {
            self.patience(cause).found(&mut waiter.looking);
            self.leave(waiter);
            return Look::Found(Ok(done));
        }
        if !waiter.has_returned && waiter.call.is_none() {
            waiter.call = Some(self.pipe.calls().enter());
        }
        if cause != Cause::Client && self.patience(cause).goes_on(&mut waiter.looking) {
            return Look::Again;
        }
        Look::InVain
    }

    fn go_to_sleep<T>(
        &self,
        waiter: &mut Waiter,
        waker: Waker,
        cause: Cause,
        mut attempt: impl FnMut() -> Poll<T>,
    ) -> Poll<io::Result<T>> {
        // First among the tasks, then the doorbell: a ring that it forgets has woken this one.
        self.pipe.tasks().wait(&mut waiter.ticket, cause, waker);
        waiter.is_waiting = true;
        if cause != Cause::Client {
            match self.doorbell.watch(|| self.pipe.link()) {
                Ok(None) => {}
                Ok(Some(link)) => waits_of(cause).iter().for_each(|wait| link.arm(*wait)),
                Err(error) => {
                    self.leave(waiter);
                    return Poll::Ready(Err(error));
                }
            }
        }
        // From here on who cancels it wakes it.
        self.check_call(waiter)?;
        let looked = attempt();
        if looked.is_ready() {
            self.leave(waiter);
            waiter.looking = Looking::default();
        }
        looked.map(Ok)
    }

    fn patience(&self, cause: Cause) -> &Patience {
        match cause {
            Cause::Room => &self.writing,
            Cause::Data | Cause::Either | Cause::Client => &self.reading,
        }
    }

    /// `ERROR_OPERATION_ABORTED` (995) if the call was cancelled: it is over then.
    fn check_call(&self, waiter: &mut Waiter) -> io::Result<()> {
        match waiter.call {
            Some(call) if self.pipe.calls().is_cancelled(call) => {
                self.leave(waiter);
                waiter.looking = Looking::default();
                Err(Error::OPERATION_ABORTED.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The wait is over, or given up. In a forked child it is its parent's.
    fn leave(&self, waiter: &mut Waiter) {
        if !self.pipe.is_ours() {
            return;
        }
        if let Some(call) = waiter.call.take() {
            self.pipe.calls().leave(call);
        }
        if !std::mem::take(&mut waiter.is_waiting) {
            return;
        }
        if let Some(ticket) = waiter.ticket {
            let link = self.pipe.link();
            self.pipe.tasks().leave(ticket, |cause| {
                for wait in waits_of(cause) {
                    if let Some(link) = &link {
                        link.disarm(*wait);
                    }
                }
            });
            if link.is_none() {
                self.forget_old();
            }
        }
    }

    /// Reads without waiting.
    pub(super) fn try_read(&self, dst: &mut [u8]) -> Poll<Result<ReadInfo, Error>> {
        self.note_read(turned(self.pipe.poll_read(dst)))
    }

    /// As [`try_read`](Self::try_read), into what `buffer` makes of as many bytes as there is
    /// something for.
    pub(super) fn try_read_into<'a>(
        &self,
        most: usize,
        buffer: impl FnOnce(usize) -> &'a mut [u8],
    ) -> Poll<Result<ReadInfo, Error>> {
        self.note_read(turned(self.pipe.poll_read_into(most, buffer)))
    }

    fn note_read<T>(&self, read: Poll<T>) -> Poll<T> {
        if read.is_ready() {
            self.blocked_reading.clear();
        }
        read
    }

    /// Writes without waiting. What was accepted and is more than the peer's buffer holds goes on in
    /// a task of the runtime, which keeps the end open until the peer has read enough of it.
    pub(super) fn try_write(
        self: &Arc<Self>,
        src: &[u8],
        how: Attempt,
    ) -> Poll<Result<usize, Error>> {
        let over = self.check_writes()?;
        let written = ready!(turned(self.pipe.poll_write(src, how, |_| {})));
        drop(over);
        self.blocked_writing.clear();
        Poll::Ready(written.and_then(|written| self.accept(written, src)))
    }

    /// As [`try_write`](Self::try_write) of an empty message, after which nothing can be written to
    /// this connection.
    pub(super) fn try_close_write(self: &Arc<Self>) -> Poll<Result<(), Error>> {
        if self.pipe.terms().pipe_type != PipeType::Message {
            return Poll::Ready(Err(Error::NOT_SUPPORTED));
        }
        let mut over = self.check_writes()?;
        let mut closed = Weak::new();
        let closes = |link: &Arc<Link>| closed = Arc::downgrade(link);
        let written = ready!(turned(self.pipe.poll_write(&[], Attempt::Waits, closes)))?;
        self.blocked_writing.clear();
        // With the lock in hand, which it does not take: no write comes between the two.
        self.accept(written, &[])?;
        *over = closed;
        self.writes_are_over.store(true, Ordering::Release);
        drop(over);
        // There is no room to wait for any more.
        self.pipe.tasks().wake();
        Poll::Ready(Ok(()))
    }

    /// `ERROR_NO_DATA` (232) if this end has closed its writing; nobody does while a write has what
    /// this returns.
    pub(super) fn check_writes(&self) -> Result<MutexGuard<'_, Weak<Link>>, Error> {
        self.pipe.check_process()?;
        // Before all locks of the pipe.
        let over = lock(&self.over);
        match self.writes_are_over.load(Ordering::Acquire) && self.is_over(&over) {
            true => Err(Error::NO_DATA),
            false => Ok(over),
        }
    }

    fn are_writes_over(&self) -> bool {
        self.writes_are_over.load(Ordering::Acquire) && self.is_over(&lock(&self.over))
    }

    fn is_over(&self, over: &Weak<Link>) -> bool {
        (self.pipe.link()).is_some_and(|link| over.as_ptr() == Arc::as_ptr(&link))
    }

    /// How many bytes of `src` were written; the rest is seen to.
    ///
    /// # Errors
    /// `ERROR_NOT_SUPPORTED` (50), `ERROR_OPERATION_ABORTED` (995): the runtime can't see to it, and
    /// nothing was written, unless the peer was just taking some of it.
    pub(super) fn accept(self: &Arc<Self>, written: Written, src: &[u8]) -> Result<usize, Error> {
        let (link, id) = match written {
            Written::Done(len) => return Ok(len),
            Written::Begun(link, id) => (link, id),
        };
        let is_lost = Arc::new(AtomicBool::new(false));
        let rest = Rest {
            end: Arc::clone(self),
            link: Arc::clone(&link),
            id,
            src: src.to_vec(),
            is_over: false,
            is_lost: Arc::clone(&is_lost),
        };
        let prepared = self.doorbell.prepare(&link, || self.pipe.link());
        match prepared {
            // A runtime that is gone drops it at once.
            Ok(()) => drop(self.doorbell.runtime().spawn(rest.finish())),
            Err(_) => drop(rest),
        }
        match (is_lost.load(Ordering::Acquire), prepared) {
            (true, Err(error)) => Err(refused(&error)),
            (true, Ok(())) => Err(Error::OPERATION_ABORTED),
            (false, _) => Ok(src.len()),
        }
    }

    /// Whether it is worth reading or writing, as an interest asks.
    pub(super) fn poll_ready(&self, interest: Interest) -> Poll<Ready> {
        self.poll_ready_if(interest, || self.poll_writable())
    }

    fn poll_ready_if(&self, interest: Interest, writable: impl Fn() -> Poll<()>) -> Poll<Ready> {
        let mut found = Ready::EMPTY;
        let is_over = self
            .pipe
            .link()
            .is_some_and(|link| link.peer() != Peer::Connected);
        if interest.is_readable() && self.poll_readable().is_ready() {
            found |= Ready::READABLE;
            if is_over {
                found |= Ready::READ_CLOSED;
            }
        }
        if interest.is_writable() && writable().is_ready() {
            found |= Ready::WRITABLE;
            if is_over {
                found |= Ready::WRITE_CLOSED;
            }
        }
        match found.is_empty() {
            true => Poll::Pending,
            false => Poll::Ready(found),
        }
    }

    pub(super) fn poll_readable(&self) -> Poll<()> {
        // First, for it lets go of what was withdrawn, and that changes what is to be seen.
        let readable = self.pipe.poll_readable();
        match self.blocked_reading.is_still(&self.pipe) {
            true => Poll::Pending,
            false => readable,
        }
    }

    pub(super) fn poll_writable(&self) -> Poll<()> {
        self.poll_writable_if(PipeStream::poll_writable)
    }

    fn poll_writable_if(&self, room: impl Fn(&PipeStream) -> Poll<()>) -> Poll<()> {
        if self.are_writes_over() {
            return Poll::Ready(());
        }
        match self.blocked_writing.is_still(&self.pipe) {
            true => Poll::Pending,
            false => room(&self.pipe),
        }
    }

    /// An operation of the user's, if it is worth trying. One that finds nothing is not worth it
    /// again until the peer has moved.
    pub(super) fn try_io<R>(
        &self,
        interest: Interest,
        operation: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        // How much this one wants to write is not known: less, perhaps, than another did in vain.
        let room = || self.poll_writable_if(PipeStream::poll_room);
        self.try_io_if(interest, || self.poll_ready_if(interest, room), operation)
    }

    fn try_io_if<R>(
        &self,
        interest: Interest,
        ready: impl FnOnce() -> Poll<Ready>,
        operation: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        // As in all calls first of all: in a forked child a lock may never be let go of.
        self.pipe.check_process()?;
        // Before all looks: what comes after this, none of them may have found wanting.
        let sight = self.pipe.sight();
        if ready().is_pending() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let result = operation();
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::WouldBlock
        {
            if interest.is_readable() {
                self.blocked_reading.set(sight);
            }
            if interest.is_writable() {
                self.blocked_writing.set(sight);
            }
        }
        result
    }
}

impl Blocked {
    fn set(&self, sight: Sight) {
        *lock(&self.sight) = Some(sight);
        self.is_set.store(true, Ordering::Release);
    }

    fn clear(&self) {
        if self.is_set.load(Ordering::Relaxed) {
            self.is_set.store(false, Ordering::Release);
        }
    }

    /// Whether nothing has happened since.
    fn is_still(&self, pipe: &PipeStream) -> bool {
        if !self.is_set.load(Ordering::Acquire) {
            return false;
        }
        let is_still = *lock(&self.sight) == Some(pipe.sight());
        if !is_still {
            self.clear();
        }
        is_still
    }
}

impl<H: Holder> Drop for End<H> {
    fn drop(&mut self) {
        if !self.pipe.is_ours() {
            return self.doorbell.abandon();
        }
        // The pipe may live on without a runtime.
        for slot in &self.slots {
            self.leave(&mut lock(slot));
        }
        self.pipe.leave_loop();
    }
}

impl<H: Holder> Drop for Waiting<'_, H> {
    fn drop(&mut self) {
        self.end.leave(&mut self.waiter);
    }
}

/// A write that was accepted and has to be seen to.
struct Rest<H: Holder> {
    end: Arc<End<H>>,
    link: Arc<Link>,
    id: OpId,
    src: Vec<u8>,
    is_over: bool,
    /// It was taken back, for whoever began it.
    is_lost: Arc<AtomicBool>,
}

impl<H: Holder> Rest<H> {
    async fn finish(mut self) {
        let attempt = || self.end.pipe.poll_resume(&self.link, self.id, &self.src);
        let waiter = Waiter {
            has_returned: true,
            ..Waiter::default()
        };
        if let Ok(result) = self.end.wait_as(waiter, Cause::Room, attempt).await {
            self.is_over = true;
            if let Err(error) = result {
                // The next write of this end says so too.
                tracing::debug!(%error, "a write that was accepted has failed");
            }
        }
    }
}

impl<H: Holder> Drop for Rest<H> {
    fn drop(&mut self) {
        // In a forked child it is its parent's, which goes on with it.
        if !self.end.pipe.is_ours() {
            return;
        }
        if !self.is_over {
            // The runtime is gone.
            let has_come = TakingBack {
                end: Arc::clone(&self.end),
                link: Arc::clone(&self.link),
                id: self.id,
            }
            .begin();
            self.is_lost.store(!has_come, Ordering::Release);
        }
        // Others may have waited for this.
        self.end.pipe.tasks().wake();
    }
}

/// Why a runtime watches nothing: it can't, or it is gone.
fn refused(error: &io::Error) -> Error {
    match error.kind() == io::ErrorKind::Unsupported {
        true => Error::NOT_SUPPORTED,
        false => error.win32().unwrap_or(Error::OPERATION_ABORTED),
    }
}

fn waits_of(cause: Cause) -> &'static [Wait] {
    match cause {
        Cause::Data => &[Wait::DATA],
        Cause::Room => &[Wait::ROOM],
        Cause::Either => &[Wait::DATA, Wait::ROOM],
        Cause::Client => &[],
    }
}

/// An answer that may be pending as a poll.
pub(super) fn turned<T>(result: Result<Poll<T>, Error>) -> Poll<Result<T, Error>> {
    match result {
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientOptions, PipeMode, ServerOptions};

    #[test]
    fn what_comes_while_an_operation_looks_is_not_taken_for_what_it_found_wanting() {
        let runtime = ::tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _context = runtime.enter();
        let name = format!(r"\\.\pipe\ntpipe-test-looks-{}", std::process::id());
        let server = (ServerOptions::new().pipe_mode(PipeMode::Message))
            .create(&name)
            .unwrap();
        let client = ClientOptions::new().open(&name).unwrap();
        server.connect().unwrap();
        let end = End::new(server).unwrap();
        let write = |message: &[u8]| client.write_message(message).unwrap();
        let mut buf = [0; 8];
        let mut transaction = None;
        write(b"found");
        let look = || {
            let ready = end.poll_ready(Interest::READABLE);
            // Before it tries to read, another task has that and begins a transaction.
            assert!(end.try_read(&mut buf).is_ready());
            transaction = Some(end.pipe.poll_request(b"ask"));
            write(b"reply");
            ready
        };
        let read = || match end.try_read(&mut [0; 8]) {
            Poll::Ready(read) => Ok(read),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        };
        assert!(end.try_io_if(Interest::READABLE, look, read).is_err());
        let Some(Ok(Poll::Ready((turn, _)))) = transaction else {
            panic!("{transaction:?}");
        };
        // It is given up.
        end.pipe.end_transaction(&turn);
        assert!(end.poll_readable().is_ready());
    }

    #[test]
    fn who_comes_late_with_an_old_connection_leaves_the_present_one_watched() {
        let runtime = ::tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _context = runtime.enter();
        let name = format!(r"\\.\pipe\ntpipe-test-late-{}", std::process::id());
        let server = ServerOptions::new().create(&name).unwrap();
        let first = ClientOptions::new().open(&name).unwrap();
        server.connect().unwrap();
        let end = End::new(server).unwrap();
        let old = end.pipe.link().unwrap();
        drop(first);
        end.pipe.disconnect().unwrap();
        let mut connecting = crate::service::connecting::Connecting::default();
        assert!(end.pipe.poll_connect(&mut connecting).is_pending());
        let client = ClientOptions::new().open(&name).unwrap();
        end.pipe.connect().unwrap();
        let present = end.pipe.link().unwrap();
        assert!(end.doorbell.watch(|| end.pipe.link()).is_ok());
        end.doorbell.prepare(&old, || end.pipe.link()).unwrap();
        assert!(end.doorbell.watches(&present));
        drop(client);
    }
}
