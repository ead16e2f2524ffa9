//! Client after client, without juggling instances.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

use ntpipe_proto::{EndState, Error, PipeName};

use crate::options::ServerOptions;
use crate::server::NamedPipeServer;
use crate::service::owner::ServerEnd;
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
    /// The process that it belongs to.
    generation: u32,
    options: ServerOptions,
    name: PipeName,
    state: Mutex<State>,
    /// An instance has come back, or the listener is closed.
    changed: Condvar,
}

struct State {
    /// Instances that listen, oldest first. Empty when all are handed out.
    listening: VecDeque<NamedPipeServer>,
    /// Threads that wait in `connect` on the oldest one; it is in nobody's hands but theirs.
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
            generation: fork::generation(),
            options,
            name: first.name().clone(),
            state: Mutex::new(State {
                listening: VecDeque::from([first]),
                closed: false,
            }),
            changed: Condvar::new(),
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
    /// `ERROR_OPERATION_ABORTED` (995) once the listener is [closed](Self::close);
    /// `ERROR_INVALID_HANDLE` (6) in a forked child; what [`ServerOptions::create`] returns.
    pub fn accept(&self) -> io::Result<NamedPipeServer> {
        if !self.shared.is_ours() {
            return Err(Error::INVALID_HANDLE.into());
        }
        loop {
            let instance = self.shared.oldest()?;
            let connected = instance.connect();
            if lock(&self.shared.state).closed {
                return Err(Error::OPERATION_ABORTED.into());
            }
            if !self.shared.take(&instance) {
                // Another thread was faster.
                continue;
            }
            let gone = instance.state() != Some(EndState::Connected);
            if gone && instance.peek(&mut []).is_err() {
                self.shared.put_back(instance.replace()?);
                continue;
            }
            if !gone {
                connected?;
            }
            self.shared.listen_again()?;
            instance.set_home(Home(Arc::downgrade(&self.shared)));
            return Ok(instance);
        }
    }

    /// Accepts client after client, until the listener is closed.
    pub fn incoming(&self) -> impl Iterator<Item = io::Result<NamedPipeServer>> + '_ {
        std::iter::from_fn(|| {
            let accepted = self.accept();
            let over = !self.shared.is_ours() || lock(&self.shared.state).closed;
            (!over || accepted.is_ok()).then_some(accepted)
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
    /// Whether this process, not a parent, bound the listener.
    fn is_ours(&self) -> bool {
        fork::current() == self.generation
    }

    /// The instance that has listened longest; waits for one to come back if none listens.
    fn oldest(&self) -> io::Result<NamedPipeServer> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return Err(Error::OPERATION_ABORTED.into());
            }
            if let Some(oldest) = state.listening.front() {
                return Ok(oldest.clone());
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes an instance off the list; `false` if another thread has it.
    fn take(&self, instance: &NamedPipeServer) -> bool {
        let mut state = lock(&self.state);
        let at = state
            .listening
            .iter()
            .position(|other| other.is_same(instance));
        at.and_then(|at| state.listening.remove(at)).is_some()
    }

    /// Has a next instance listening, unless the maximum is reached.
    fn listen_again(&self) -> io::Result<()> {
        if !lock(&self.state).listening.is_empty() {
            return Ok(());
        }
        match self.options.create(self.name.to_string()) {
            Ok(next) => {
                self.put_back(next);
                Ok(())
            }
            Err(error) if error.raw_os_error() == i32::try_from(Error::PIPE_BUSY.code()).ok() => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn put_back(&self, instance: NamedPipeServer) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.listening.push_back(instance);
            self.changed.notify_all();
        }
    }

    fn close(&self) {
        if !self.is_ours() {
            return;
        }
        let listening = {
            let mut state = lock(&self.state);
            state.closed = true;
            std::mem::take(&mut state.listening)
        };
        self.changed.notify_all();
        for instance in listening {
            // Ends a `connect` that waits on it in another thread.
            instance.abandon();
        }
    }
}

impl Home {
    /// The last handle of an instance was dropped: it is closed, and if nothing listens another
    /// takes its place in the same moment, so that the name lives on.
    pub(crate) fn take_back(&self, end: &Arc<ServerEnd>) {
        let Some(shared) = self.0.upgrade() else {
            return end.close();
        };
        let wanted = {
            let state = lock(&shared.state);
            !state.closed && state.listening.is_empty()
        };
        match wanted.then(|| end.replace()) {
            Some(Ok(successor)) => shared.put_back(NamedPipeServer::new(successor)),
            Some(Err(_)) | None => end.close(),
        }
    }
}
