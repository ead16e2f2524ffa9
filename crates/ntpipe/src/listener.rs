//! Client after client, without juggling instances.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, Weak};
#[cfg(feature = "tokio")]
use std::task::Poll;
use std::time::{Duration, Instant};

use ntpipe_proto::{EndState, Error, PipeName};

use crate::canceller::{Blocked, Wake};
use crate::condition::Condition;
use crate::options::ServerOptions;
use crate::server::NamedPipeServer;
use crate::service::server_end::ServerEnd;
#[cfg(feature = "tokio")]
use crate::stream::Tasks;
use crate::stream::lock;
use crate::sys::fork;

/// Accepts the clients of a named pipe.
///
/// It keeps the options for every instance, and has the next instance listening before it hands
/// one out, so that the name never vanishes while the listener lives. When the maximum of instances
/// is reached (it may be 1), [`accept`](Self::accept) waits until one it handed out is dropped.
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// use ntpipe::{Listener, ServerOptions};
///
/// let listener = Listener::bind(r"\\.\pipe\echo", &ServerOptions::new())?;
/// for client in listener.incoming() {
///     let client = client?;
///     std::thread::spawn(move || std::io::copy(&mut &client, &mut &client));
/// }
/// # Ok(())
/// # }
/// ```
pub struct Listener {
    shared: Arc<Shared>,
}

struct Shared {
    options: ServerOptions,
    name: PipeName,
    generation: u32,
    /// Taken before the locks of the name and its instances.
    state: Mutex<State>,
    /// An instance has come back, or the listener is closed.
    changed: Condition,
    /// The tasks that wait for an instance to come back.
    #[cfg(feature = "tokio")]
    tasks: Arc<Tasks>,
}

struct State {
    /// Instances that listen, oldest first. Empty when all are handed out.
    listening: VecDeque<NamedPipeServer>,
    /// How many are handed out, and will come back.
    out: usize,
    closed: bool,
}

/// Where an instance goes back to when the last handle for it is dropped.
pub(crate) struct Home(Weak<Shared>);

impl Listener {
    /// Creates the pipe's first instance of this process, and listens.
    ///
    /// # Errors
    /// As [`ServerOptions::create`].
    pub fn bind(addr: impl AsRef<OsStr>, options: &ServerOptions) -> io::Result<Self> {
        let first = options.create(addr)?;
        let mut options = options.clone();
        // The name is ours from here on.
        options.first_pipe_instance(false);
        let shared = Shared {
            options,
            name: first.name().clone(),
            generation: fork::generation(),
            state: Mutex::new(State {
                listening: VecDeque::from([first]),
                out: 0,
                closed: false,
            }),
            changed: Condition::default(),
            #[cfg(feature = "tokio")]
            tasks: Arc::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The next client.
    ///
    /// One that has come and left without writing anything is skipped; what another left unread is
    /// handed out like a connection. Several threads may accept at a time.
    ///
    /// # Errors
    /// - `ERROR_OPERATION_ABORTED` (995): the listener is [closed](Self::close), or another thread
    ///   [cancelled](crate::Canceller) the call.
    /// - `ERROR_INVALID_HANDLE` (6): this process is a fork of the one that made the listener.
    /// - What [`ServerOptions::create`] returns, if no instance was left and none can be created;
    ///   a later call tries again.
    pub fn accept(&self) -> io::Result<NamedPipeServer> {
        self.accept_by(None)
    }

    /// As [`accept`](Self::accept), for at most `timeout`.
    ///
    /// # Errors
    /// As `accept`; `ERROR_SEM_TIMEOUT` (121) when the time is up.
    pub fn accept_timeout(&self, timeout: Duration) -> io::Result<NamedPipeServer> {
        self.accept_by(Instant::now().checked_add(timeout))
    }

    fn accept_by(&self, deadline: Option<Instant>) -> io::Result<NamedPipeServer> {
        self.check_process()?;
        let blocked = Blocked::enter(|| Arc::clone(&self.shared));
        loop {
            let instance = self.shared.oldest(&blocked, deadline)?;
            match instance.await_client(deadline) {
                Err(error) if error == Error::SEM_TIMEOUT || error == Error::OPERATION_ABORTED => {
                    return Err(error.into());
                }
                // What came of it, the instance's state tells.
                Ok(()) | Err(_) => {}
            }
            if let Some(connected) = self.shared.hand_out(instance)? {
                return Ok(connected);
            }
        }
    }

    /// The instance that has listened longest, which a task is to wait at; pending while all are out.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_oldest(&self) -> Poll<io::Result<NamedPipeServer>> {
        self.check_process()?;
        match self.shared.oldest_now(&mut lock(&self.shared.state)) {
            Ok(Some(oldest)) => Poll::Ready(Ok(oldest)),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// What came of a client, once one has come; `None` if nothing is left of it.
    #[cfg(feature = "tokio")]
    pub(crate) fn hand_out(
        &self,
        instance: NamedPipeServer,
    ) -> io::Result<Option<NamedPipeServer>> {
        self.shared.hand_out(instance)
    }

    /// `ERROR_INVALID_HANDLE` (6) in a forked child.
    pub(crate) fn check_process(&self) -> io::Result<()> {
        match self.shared.is_ours() {
            true => Ok(()),
            false => Err(Error::INVALID_HANDLE.into()),
        }
    }

    /// Woken when an instance comes back, and when the listener is closed.
    #[cfg(feature = "tokio")]
    pub(crate) fn tasks(&self) -> &Arc<Tasks> {
        &self.shared.tasks
    }

    /// Accepts client after client, until the listener is closed.
    pub fn incoming(&self) -> impl Iterator<Item = io::Result<NamedPipeServer>> + '_ {
        std::iter::from_fn(|| {
            let accepted = self.accept();
            let closed = !self.shared.is_ours() || lock(&self.shared.state).closed;
            (!closed || accepted.is_ok()).then_some(accepted)
        })
    }

    /// Stops listening: every `accept`, also one that waits, ends with
    /// `ERROR_OPERATION_ABORTED` (995). Connections that were handed out live on; the name lives as
    /// long as one of them.
    pub fn close(&self) {
        self.shared.close();
    }

    /// The pipe's name.
    #[must_use]
    pub fn name(&self) -> &PipeName {
        &self.shared.name
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("name", self.name())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The instance that has listened longest; waits for one to come back if all are out.
    fn oldest(&self, blocked: &Blocked, deadline: Option<Instant>) -> io::Result<NamedPipeServer> {
        let mut state = lock(&self.state);
        loop {
            if let Some(oldest) = self.oldest_now(&mut state)? {
                return Ok(oldest);
            }
            blocked.check()?;
            let Some(at) = deadline else {
                state = self.changed.wait(state);
                continue;
            };
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::SEM_TIMEOUT.into());
            }
            state = self.changed.wait_timeout(state, left);
        }
    }

    /// The instance that has listened longest; `None` if all are out.
    fn oldest_now(&self, state: &mut State) -> io::Result<Option<NamedPipeServer>> {
        if state.closed {
            return Err(Error::OPERATION_ABORTED.into());
        }
        if state.listening.is_empty() && state.out == 0 {
            // None is left that could come back.
            let anew = self.options.create(self.name.to_string())?;
            state.listening.push_back(anew);
        }
        Ok(state.listening.front().cloned())
    }

    /// An instance has come back, or the listener is closed.
    fn announce(&self) {
        self.changed.notify_all();
        #[cfg(feature = "tokio")]
        self.tasks.wake();
    }

    /// Takes an instance that has or had a client off the list, and has another one listening.
    /// `None` if another thread was faster, or if nothing is left of the client.
    fn hand_out(
        self: &Arc<Self>,
        instance: NamedPipeServer,
    ) -> io::Result<Option<NamedPipeServer>> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(Error::OPERATION_ABORTED.into());
        }
        let mut listening = state.listening.iter();
        let Some(at) = listening.position(|other| other.is_same(&instance)) else {
            return Ok(None);
        };
        state.listening.remove(at);
        let gone = instance.state() != Some(EndState::Connected);
        if gone && instance.peek(&mut []).is_err() {
            let successor = instance.replace()?;
            self.put_back(&mut state, successor);
            return Ok(None);
        }
        // From here on the connection is its holder's, whatever comes of the next instance.
        state.out += 1;
        instance.set_home(Home(Arc::downgrade(self)));
        if state.listening.is_empty() {
            match instance.sibling(&self.options) {
                Ok(next) => self.put_back(&mut state, next),
                Err(error) => tracing::debug!(%error, "nothing listens until one comes back"),
            }
        }
        Ok(Some(instance))
    }

    fn put_back(&self, state: &mut State, instance: NamedPipeServer) {
        state.listening.push_back(instance);
        self.announce();
    }

    /// Whether this process, not a parent, made the listener.
    fn is_ours(&self) -> bool {
        fork::current() == self.generation
    }

    fn close(&self) {
        // In a forked child this is a copy: another thread of the parent may have had the lock.
        if !self.is_ours() {
            return;
        }
        let listening = {
            let mut state = lock(&self.state);
            state.closed = true;
            std::mem::take(&mut state.listening)
        };
        self.announce();
        for instance in listening {
            // Ends a `connect` that waits on it in another thread.
            instance.abandon();
        }
    }
}

impl Wake for Shared {
    fn wake(&self) {
        // Who does not wait yet has this lock, and looks before it waits.
        let state = lock(&self.state);
        self.changed.notify_all();
        drop(state);
    }
}

impl Home {
    /// The last handle of an instance was dropped: it is closed, and if nothing listens another
    /// takes its place in the same moment, so that the name lives on.
    pub(crate) fn take_back(&self, end: &Arc<ServerEnd>) {
        let Some(shared) = self.0.upgrade() else {
            return end.close();
        };
        // Under one lock: else a thread that accepts might take the last one that listens, and find
        // that this one still counts.
        let mut state = lock(&shared.state);
        state.out = state.out.saturating_sub(1);
        let wanted = !state.closed && state.listening.is_empty();
        match wanted.then(|| end.replace()) {
            Some(Ok(successor)) => {
                successor
                    .stream
                    .begin_with(shared.options.initial_wait_mode());
                shared.put_back(&mut state, NamedPipeServer::new(successor));
            }
            Some(Err(_)) | None => end.close(),
        }
        // Who waits for one to come back may have to create it.
        shared.announce();
    }
}
