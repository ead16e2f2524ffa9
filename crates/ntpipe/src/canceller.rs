//! Ending the call in which another thread waits: `CancelSynchronousIo`.
//!
//! A call that is about to wait looks whether its thread has a canceller; if so it leaves word how
//! to wake it. A thread that has none pays for one look at a flag, and a call that does not wait
//! for nothing.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use ntpipe_proto::Error;
use rustix::event::PollFlags;

use crate::ring::Link;
use crate::stream::lock;
use crate::sys::fork;
use crate::sys::poll::{self, Alarm, Woken};

/// Ends the call in which a thread waits.
///
/// The thread makes it with [`Canceller::current`] and gives it to others.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use ntpipe::{Canceller, IoErrorExt, anonymous};
///
/// let (reader, _writer) = anonymous::pipe(0)?;
/// let (sender, receiver) = std::sync::mpsc::channel();
/// let waiting = std::thread::spawn(move || {
///     let _ = sender.send(Canceller::current());
///     reader.read_message(&mut [0; 10])
/// });
/// let canceller = receiver.recv().expect("the thread sends it");
/// while canceller.cancel().is_err() {
///     std::thread::yield_now(); // it does not wait yet
/// }
/// let ended = waiting.join().expect("it does not panic");
/// assert_eq!(ended.unwrap_err().win32_code(), Some(995));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Canceller {
    thread: Arc<Thread>,
}

struct Thread {
    generation: u32,
    /// The call that waits, or waited last, has been cancelled.
    cancelled: AtomicBool,
    call: Mutex<Call>,
    /// What wakes a call that waits at a socket; made on first need.
    alarm: OnceLock<Arc<Alarm>>,
}

/// The call of a thread that can be cancelled.
#[derive(Default)]
struct Call {
    /// Calls that wait are made of others that do.
    depth: u32,
    wake: Option<Arc<dyn Wake>>,
}

/// Makes calls look again whether they have been cancelled.
pub(crate) trait Wake: Send + Sync {
    fn wake(&self);
}

/// A call of this thread that waits, or may wait again and again, until this is dropped.
pub(crate) struct Blocked {
    thread: Option<Arc<Thread>>,
    /// How to wake the call that this one is a part of.
    outer: Option<Arc<dyn Wake>>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Thread>>> = const { RefCell::new(None) };
}
/// Whether any thread has a canceller.
static IN_USE: AtomicBool = AtomicBool::new(false);

impl Canceller {
    /// The canceller of the thread that calls this.
    #[must_use]
    pub fn current() -> Self {
        IN_USE.store(true, Ordering::Relaxed);
        let new = || {
            Arc::new(Thread {
                generation: fork::generation(),
                cancelled: AtomicBool::new(false),
                call: Mutex::default(),
                alarm: OnceLock::new(),
            })
        };
        let known = CURRENT.try_with(|current| {
            let mut current = current.borrow_mut();
            // In a forked child the parent's is of no use.
            let ours = current.take().filter(|thread| thread.is_ours());
            Arc::clone(current.insert(ours.unwrap_or_else(new)))
        });
        Self {
            // A thread that is ending makes no more calls.
            thread: known.unwrap_or_else(|_| new()),
        }
    }

    /// Ends the call in which the thread waits: it returns `ERROR_OPERATION_ABORTED` (995), unless
    /// it is done at this very moment (observed 10.13).
    ///
    /// That goes for reads, writes, flushes and transactions, [`NamedPipeServer::connect`],
    /// [`Listener::accept`], [`wait`], [`call`] and opening a pipe. What becomes of data is as for
    /// [`PipeStream::cancel_io`]. An open that is cancelled while the owner of the name is asked may
    /// still reach it: for the server a client has come and left.
    ///
    /// # Errors
    /// - `ERROR_NOT_FOUND` (1168): the thread does not wait in such a call, or that has been
    ///   cancelled already.
    /// - `ERROR_INVALID_HANDLE` (6): this process is a fork of the one with the thread.
    ///
    /// [`NamedPipeServer::connect`]: crate::NamedPipeServer::connect
    /// [`Listener::accept`]: crate::Listener::accept
    /// [`wait`]: crate::wait
    /// [`call`]: crate::call
    /// [`PipeStream::cancel_io`]: crate::PipeStream::cancel_io
    #[doc(alias = "CancelSynchronousIo")]
    pub fn cancel(&self) -> io::Result<()> {
        if !self.thread.is_ours() {
            return Err(Error::INVALID_HANDLE.into());
        }
        let call = lock(&self.thread.call);
        // Before it is woken: who is woken looks at this.
        if call.depth == 0 || self.thread.cancelled.swap(true, Ordering::Release) {
            return Err(Error::NOT_FOUND.into());
        }
        let wake = call.wake.clone();
        drop(call);
        if let Some(wake) = wake {
            wake.wake();
        }
        Ok(())
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").finish_non_exhaustive()
    }
}

impl Thread {
    fn is_ours(&self) -> bool {
        self.generation == fork::current()
    }
}

impl Blocked {
    /// A call of this thread waits from here on: `wake` makes it look at
    /// [`is_cancelled`](Self::is_cancelled) again.
    pub(crate) fn enter<W: Wake + 'static>(wake: impl FnOnce() -> Arc<W>) -> Self {
        Self::begin(|_| Ok(Some(wake()))).unwrap_or(Self::NEVER)
    }

    /// A call of this thread that may wait several times: what is cancelled between two waits
    /// ends the next one.
    pub(crate) fn enter_several() -> Self {
        Self::begin(|_| Ok(None::<Arc<Alarm>>)).unwrap_or(Self::NEVER)
    }

    const NEVER: Self = Self {
        thread: None,
        outer: None,
    };

    fn begin<W: Wake + 'static>(
        wake: impl FnOnce(&Thread) -> Result<Option<Arc<W>>, Error>,
    ) -> Result<Self, Error> {
        if !IN_USE.load(Ordering::Relaxed) {
            return Ok(Self::NEVER);
        }
        let thread = CURRENT.try_with(|current| current.borrow().clone());
        let Some(thread) = thread.ok().flatten().filter(|thread| thread.is_ours()) else {
            return Ok(Self::NEVER);
        };
        let wake = wake(&thread)?.map(|wake| -> Arc<dyn Wake> { wake });
        let mut call = lock(&thread.call);
        if call.depth == 0 {
            thread.cancelled.store(false, Ordering::Relaxed);
        }
        call.depth += 1;
        let outer = std::mem::replace(&mut call.wake, wake);
        drop(call);
        Ok(Self {
            thread: Some(thread),
            outer,
        })
    }

    /// Whether the thread has a canceller, so that it may be.
    pub(crate) fn can_be_cancelled(&self) -> bool {
        self.thread.is_some()
    }

    /// Whether the call is to end. Look at what the waking changes first, and at this then.
    pub(crate) fn is_cancelled(&self) -> bool {
        // Pairs with the Release in `cancel`.
        (self.thread.as_ref()).is_some_and(|thread| thread.cancelled.load(Ordering::Acquire))
    }

    /// `ERROR_OPERATION_ABORTED` (995) if the call is to end.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.is_cancelled() {
            true => Err(Error::OPERATION_ABORTED),
            false => Ok(()),
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if let Some(thread) = &self.thread {
            let mut call = lock(&thread.call);
            call.depth -= 1;
            call.wake = self.outer.take();
        }
    }
}

impl Wake for Link {
    fn wake(&self) {
        self.wake_own();
    }
}

impl Wake for Alarm {
    fn wake(&self) {
        self.ring();
    }
}

/// Waits until the socket has something to receive.
///
/// # Errors
/// `ERROR_SEM_TIMEOUT` (121) once the deadline has passed, `ERROR_OPERATION_ABORTED` (995) when the
/// call is cancelled, and what `failed` makes of an error of the system.
pub(crate) fn wait_readable(
    socket: BorrowedFd<'_>,
    deadline: Option<Instant>,
    failed: impl Fn(rustix::io::Errno) -> Error,
) -> Result<(), Error> {
    let mut alarm = None;
    let blocked = Blocked::begin(|thread| {
        let known = match thread.alarm.get() {
            Some(known) => Arc::clone(known),
            None => {
                let new = Arc::new(Alarm::new()?);
                Arc::clone(thread.alarm.get_or_init(|| new))
            }
        };
        alarm = Some(Arc::clone(&known));
        Ok(Some(known))
    })?;
    loop {
        blocked.check()?;
        let woken = poll::wait(socket, PollFlags::IN, alarm.as_deref(), deadline);
        match woken.map_err(&failed)? {
            Woken::Ready => return Ok(()),
            Woken::TimedOut => return Err(Error::SEM_TIMEOUT),
            Woken::Alarmed => alarm.iter().for_each(|alarm| alarm.silence()),
        }
    }
}
