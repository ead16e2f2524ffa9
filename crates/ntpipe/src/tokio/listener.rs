//! Client after client, for tasks.

use std::ffi::OsStr;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use ntpipe_proto::PipeName;

use super::server::{NamedPipeServer, ServerOptions};
use crate::service::connecting::Connecting;
use crate::stream::{Cause, Tasks, Ticket};

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
#[derive(Debug)]
pub struct Listener {
    listener: crate::Listener,
}

impl Listener {
    /// Creates the pipe's first instance of this process, and listens.
    ///
    /// # Errors
    /// As [`ServerOptions::create`].
    pub fn bind(addr: impl AsRef<OsStr>, options: &ServerOptions) -> io::Result<Self> {
        Ok(Self {
            listener: crate::Listener::bind(addr, options.checked()?)?,
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
        loop {
            let oldest = || self.listener.poll_oldest();
            let instance = until(self.listener.tasks(), oldest).await?;
            let mut connecting = Connecting::default();
            let connect = || instance.poll_connect(&mut connecting);
            // What came of it, the instance's state tells.
            let _ = until(instance.tasks(), connect).await;
            if let Some(connected) = self.listener.hand_out(instance)? {
                return NamedPipeServer::from_blocking(connected);
            }
        }
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

/// Waits among these tasks until `attempt` is ready.
pub(super) async fn until<T>(tasks: &Tasks, mut attempt: impl FnMut() -> Poll<T>) -> T {
    let mut place = Place {
        tasks,
        ticket: None,
    };
    let mut poll = |cx: &mut Context<'_>| {
        let looked = attempt();
        if looked.is_ready() {
            return looked;
        }
        tasks.wait(&mut place.ticket, Cause::Client, cx.waker());
        attempt()
    };
    poll_fn(&mut poll).await
}

/// A place among tasks, left with the wait.
struct Place<'a> {
    tasks: &'a Tasks,
    ticket: Option<Ticket>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            // A doorbell that nobody waits for is no business of those that wait for clients.
            self.tasks.leave(ticket, |_| {});
        }
    }
}
