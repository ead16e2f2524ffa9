//! Client after client, for tasks.

use std::ffi::OsStr;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use ::tokio::runtime::Handle;
use ::tokio::task::coop;
use futures_core::Stream;
use ntpipe_proto::{Error, IoErrorExt, PipeName};

use super::server::{NamedPipeServer, ServerOptions};
use crate::server::WeakServer;
use crate::service::connecting::Connecting;
use crate::stream::{Cause, Tasks, Ticket, lock};
use crate::sys::fork;

/// Accepts the clients of a named pipe.
///
/// It keeps the options for every instance, and has the next instance listening before it hands
/// one out, so that the name never vanishes while the listener lives. When the maximum of instances
/// is reached (it may be 1), [`accept`](Self::accept) waits until one it handed out is dropped.
///
/// ```no_run
/// # async fn serve() -> std::io::Result<()> {
/// use ntpipe::tokio::{Listener, ServerOptions};
///
/// let listener = Listener::bind(r"\\.\pipe\echo", &ServerOptions::new())?;
/// loop {
///     let client = listener.accept().await?;
///     tokio::spawn(async move {
///         let (mut from, mut to) = tokio::io::split(client);
///         tokio::io::copy(&mut from, &mut to).await
///     });
/// }
/// # }
/// ```
///
/// It is a [`Stream`] of clients too, which ends when the listener is [closed](Self::close).
#[derive(Debug)]
pub struct Listener {
    listener: crate::Listener,
    /// For ends that are accepted outside of any runtime.
    runtime: Handle,
    /// The wait of the method that polls.
    slot: Mutex<Accepting>,
}

impl Listener {
    /// Creates the pipe's first instance of this process, and listens.
    ///
    /// # Errors
    /// As [`ServerOptions::create`].
    pub fn bind(addr: impl AsRef<OsStr>, options: &ServerOptions) -> io::Result<Self> {
        Ok(Self {
            runtime: Handle::try_current().map_err(io::Error::other)?,
            listener: crate::Listener::bind(addr, options.checked()?)?,
            slot: Mutex::default(),
        })
    }

    /// The next client.
    ///
    /// One that has come and left without writing anything is skipped; what another left unread is
    /// handed out like a connection. Several tasks may accept at a time.
    ///
    /// # Cancel safety
    /// A client that comes meanwhile is not lost: the next `accept` finds it.
    ///
    /// # Errors
    /// - `ERROR_OPERATION_ABORTED` (995): the listener is [closed](Self::close).
    /// - What [`ServerOptions::create`] returns, if no instance was left and none can be created;
    ///   a later call tries again.
    pub async fn accept(&self) -> io::Result<NamedPipeServer> {
        let mut accepting = Accepting::default();
        poll_fn(|cx| accepting.poll(self, cx)).await
    }

    /// As [`accept`](Self::accept), for a task that polls: the last one to call this is woken.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<NamedPipeServer>> {
        // In a forked child a lock may never be let go of.
        self.listener.check_process()?;
        // Not under its lock: what wakers do is not known.
        let mut accepting = std::mem::take(&mut *lock(&self.slot));
        let accepted = accepting.poll(self, cx);
        if accepted.is_pending() {
            // Another task may have polled meanwhile, and then waits no longer.
            std::mem::swap(&mut *lock(&self.slot), &mut accepting);
        }
        accepted
    }

    /// Client after client, as a [`Stream`] of its own: several tasks may have one.
    ///
    /// # Cancel safety
    /// As [`accept`](Self::accept), whenever it is dropped.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming {
            listener: self,
            accepting: Accepting::default(),
        }
    }

    /// A client that has been accepted, for the tasks of the runtime that this is called in; a waker
    /// may poll outside of any.
    fn adopt(&self, connected: crate::NamedPipeServer) -> io::Result<NamedPipeServer> {
        let is_outside = Handle::try_current().is_err();
        let _runtime = is_outside.then(|| self.runtime.enter());
        NamedPipeServer::from_blocking(connected)
    }

    /// Stops listening: every `accept`, also one that waits, ends with
    /// `ERROR_OPERATION_ABORTED` (995). Connections that were handed out live on; the name lives as
    /// long as one of them.
    pub fn close(&self) {
        self.listener.close();
    }

    /// The pipe's name.
    #[must_use]
    pub fn name(&self) -> &PipeName {
        self.listener.name()
    }
}

impl Stream for Listener {
    type Item = io::Result<NamedPipeServer>;

    /// As [`poll_accept`](Self::poll_accept); `None` once the listener is closed.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(unless_closed(ready!(self.poll_accept(cx))))
    }
}

/// The clients of a [`Listener`], one after the other.
#[derive(Debug)]
#[must_use = "nothing is accepted unless it is polled"]
pub struct Incoming<'a> {
    listener: &'a Listener,
    accepting: Accepting,
}

impl Stream for Incoming<'_> {
    type Item = io::Result<NamedPipeServer>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let listener = self.listener;
        let accepted = ready!(self.accepting.poll(listener, cx));
        Poll::Ready(unless_closed(accepted))
    }
}

fn unless_closed<T>(accepted: io::Result<T>) -> Option<io::Result<T>> {
    match accepted {
        Err(error) if error.win32() == Some(Error::OPERATION_ABORTED) => None,
        accepted => Some(accepted),
    }
}

/// A wait for the next client. It keeps no instance open, so that it may be polled late or never.
#[derive(Debug, Default)]
struct Accepting {
    /// The instance that has listened longest, and the wait at it.
    at: Option<(WeakServer, Connecting)>,
    place: Place,
}

impl Accepting {
    fn poll(
        &mut self,
        bound: &Listener,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<NamedPipeServer>> {
        let budget = ready!(coop::poll_proceed(cx));
        let listener = &bound.listener;
        let accepted = loop {
            let instance = match self
                .place
                .look(listener.tasks(), cx, || listener.poll_oldest())
            {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => break Err(error),
                Poll::Ready(Ok(instance)) => instance,
            };
            let known = self.at.take().filter(|(at, _)| at.is(&instance));
            let (at, mut connecting) =
                known.unwrap_or_else(|| (instance.downgrade(), Connecting::default()));
            let connect = || instance.poll_connect(&mut connecting);
            // What came of it, the instance's state tells.
            if self.place.look(instance.tasks(), cx, connect).is_pending() {
                self.at = Some((at, connecting));
                return Poll::Pending;
            }
            match listener.hand_out(instance) {
                Ok(Some(connected)) => break bound.adopt(connected),
                Ok(None) => {}
                Err(error) => break Err(error),
            }
        };
        budget.made_progress();
        self.place.leave();
        Poll::Ready(accepted)
    }
}

/// Waits among these tasks until `attempt` is ready.
pub(super) async fn until<T>(tasks: &Arc<Tasks>, mut attempt: impl FnMut() -> Poll<T>) -> T {
    let mut place = Place::default();
    poll_fn(|cx| place.look(tasks, cx, &mut attempt)).await
}

/// A place among tasks, left with the wait. In a forked child it is its parent's.
#[derive(Debug, Default)]
struct Place(Option<Waiting>);

#[derive(Debug)]
struct Waiting {
    tasks: Arc<Tasks>,
    ticket: Option<Ticket>,
    generation: u32,
}

impl Place {
    /// Makes an attempt; if that is pending, waits among these tasks alone.
    fn look<T>(
        &mut self,
        tasks: &Arc<Tasks>,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut() -> Poll<T>,
    ) -> Poll<T> {
        let looked = attempt();
        if looked.is_ready() {
            return looked;
        }
        if !matches!(&self.0, Some(known) if Arc::ptr_eq(&known.tasks, tasks)) {
            self.leave();
        }
        let place = self.0.get_or_insert_with(|| Waiting {
            tasks: Arc::clone(tasks),
            ticket: None,
            generation: fork::current(),
        });
        tasks.wait(&mut place.ticket, Cause::Client, cx.waker().clone());
        attempt()
    }

    fn leave(&mut self) {
        let Some(place) = self.0.take() else { return };
        if let Some(ticket) = place.ticket
            && place.generation == fork::current()
        {
            // A doorbell that nobody waits for is no business of those that wait for clients.
            place.tasks.leave(ticket, |_| {});
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}
