//! Server ends: those of instances that this process has created, and those from other processes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
#[cfg(feature = "tokio")]
use std::task::Poll;
use std::time::Instant;

use ntpipe_proto::{
    End, EndState, Error, InstanceOptions, Listen, NameInfo, Operation, PipeName, Quotas, ReadMode,
    Verdict, WaitMode,
};

use super::client;
#[cfg(feature = "tokio")]
use super::connecting::Connecting;
use super::namespace::Namespace;
use super::server_end::ServerEnd;
use crate::parts::PipeParts;
use crate::ring::{Link, Peer};
use crate::shared::{self, Description, Holding, Kind, Party, PeerWatch, Portrait, Watches};
use crate::stream::shared::Left;
use crate::stream::{PipeStream, lock};
use crate::sys::session::own_session;
use crate::sys::socket;

/// A server end, as its handles hold it.
#[derive(Clone)]
pub(crate) enum ServerHold {
    /// Of an instance that this process has created.
    Created(Arc<ServerEnd>),
    /// Of one that another process has created and shared.
    Joined(Arc<JoinedServer>),
}

/// The server end of an instance that another process has created.
pub(crate) struct JoinedServer {
    stream: PipeStream,
    link: Arc<Link>,
    name: PipeName,
    description: Description,
    /// The connection's control socket.
    connection: Arc<OwnedFd>,
    /// As long as anybody has it the instance counts.
    lodging: Mutex<Option<OwnedFd>>,
    watches: Watches,
    is_closed: AtomicBool,
}

impl JoinedServer {
    pub(crate) fn from_parts(parts: &PipeParts) -> io::Result<Arc<Self>> {
        let received = parts.unpack(Kind::Server)?;
        let description = received.description;
        let end = Arc::new(Self {
            stream: received.stream,
            link: received.link,
            name: PipeName::parse(&format!(r"\\.\pipe\{}", description.pipe.spelling))?,
            connection: received.connection,
            lodging: Mutex::new(received.lodging),
            watches: Watches::default(),
            is_closed: AtomicBool::new(false),
            description,
        });
        end.watches.add(Arc::new(PeerWatch {
            socket: Arc::clone(&end.connection),
            link: Arc::downgrade(&end.link),
        }))?;
        let holding: Arc<dyn Holding> = Arc::<Self>::clone(&end);
        let (from, holding) = (end.description.from, Arc::downgrade(&holding));
        end.watches.add_lifeline(received.lifeline, from, holding)?;
        Ok(end)
    }

    fn share(self: &Arc<Self>) -> io::Result<PipeParts> {
        let newcomer = self.stream.share()?;
        let Description {
            kind,
            access,
            client,
            server,
            ..
        } = self.description;
        let portrait = Portrait {
            kind,
            access,
            client,
            server,
            pipe: self.description.pipe.clone(),
        };
        let lodging = lock(&self.lodging);
        let theirs = lodging.as_ref().map(AsFd::as_fd);
        let (bag, lifeline) = shared::pack(&newcomer, portrait, self.connection.as_fd(), theirs)?;
        drop(lodging);
        let end: Arc<dyn Holding> = Arc::<Self>::clone(self);
        self.watches
            .add_lifeline(lifeline, newcomer.id, Arc::downgrade(&end))?;
        PipeParts::new(bag)
    }

    fn state(&self) -> EndState {
        match self.link.peer() {
            Peer::Connected | Peer::Corrupt => EndState::Connected,
            Peer::Gone => EndState::Closing,
            Peer::Disconnected => EndState::Disconnected,
        }
    }

    /// The creator's business but for saying that the client is there.
    fn connect(&self) -> Result<Listen, Error> {
        self.stream.check_process()?;
        match self.state() {
            EndState::Connected => Ok(Listen::AlreadyConnected),
            EndState::Closing => Err(Error::NO_DATA),
            EndState::Disconnected | EndState::Listening => Err(Error::NOT_SUPPORTED),
        }
    }

    fn disconnect(&self) -> Result<(), Error> {
        self.stream.check_process()?;
        if self.state() == EndState::Disconnected {
            return Err(Error::PIPE_NOT_CONNECTED);
        }
        self.link.disconnect();
        // By this the process that created the instance learns of it too.
        socket::hang_up(self.connection.as_fd());
        Ok(())
    }

    fn close(&self) {
        if !self.stream.is_ours() || self.is_closed.swap(true, Ordering::Relaxed) {
            return;
        }
        let left = self.stream.leave_end();
        self.stream.detach(EndState::Closing);
        self.link.wake_own();
        self.watches.end();
        if left == Left::Last {
            self.link.close();
            socket::hang_up(self.connection.as_fd());
        }
        drop(lock(&self.lodging).take());
    }

    fn info(&self) -> Result<(NameInfo, Quotas), Error> {
        self.stream.check_process()?;
        let namespace = Namespace::open().map_err(|error| error.error())?;
        let info = client::query(&namespace, &self.name)?;
        Ok((info.pipe, self.description.pipe.quotas))
    }

    fn client_ids(&self) -> Result<(u32, u32), Error> {
        self.stream.check_process()?;
        match self.state().verdict(End::Server, Operation::ClientId) {
            Verdict::Fail(error) => Err(error),
            Verdict::Proceed | Verdict::Succeed | Verdict::DrainThen(_) => {
                let Party { pid, session } = self.description.client;
                Ok((pid, session))
            }
        }
    }
}

impl Holding for JoinedServer {
    fn stream(&self) -> &PipeStream {
        &self.stream
    }
}

impl Drop for JoinedServer {
    fn drop(&mut self) {
        self.close();
    }
}

impl ServerHold {
    pub(crate) fn stream(&self) -> &PipeStream {
        match self {
            Self::Created(end) => &end.stream,
            Self::Joined(end) => &end.stream,
        }
    }

    pub(crate) fn connect(
        &self,
        mode: WaitMode,
        deadline: Option<Instant>,
    ) -> Result<Listen, Error> {
        match self {
            Self::Created(end) => end.connect(mode, deadline),
            Self::Joined(end) => end.connect(),
        }
    }

    pub(crate) fn disconnect(&self) -> Result<(), Error> {
        match self {
            Self::Created(end) => end.disconnect(),
            Self::Joined(end) => end.disconnect(),
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Self::Created(end) => end.close(),
            Self::Joined(end) => end.close(),
        }
    }

    pub(crate) fn share(&self) -> io::Result<PipeParts> {
        match self {
            Self::Created(end) => end.share(),
            Self::Joined(end) => end.share(),
        }
    }

    pub(crate) fn state(&self) -> Option<EndState> {
        match self {
            Self::Created(end) => end.state(),
            Self::Joined(end) => Some(end.state()),
        }
    }

    pub(crate) fn info(&self) -> Result<(NameInfo, Quotas), Error> {
        match self {
            Self::Created(end) => end.info(),
            Self::Joined(end) => end.info(),
        }
    }

    /// Whether calls of `connect` waited; those of joined ends never do.
    pub(crate) fn cancel_connects(&self) -> Result<bool, Error> {
        match self {
            Self::Created(end) => end.cancel_connects(),
            Self::Joined(end) => end.stream.check_process().map(|()| false),
        }
    }

    /// As [`connect`](Self::connect), for a task.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_connect(&self, wait: &mut Connecting) -> Poll<Result<(), Error>> {
        match self {
            Self::Created(end) => end.poll_connect(wait),
            Self::Joined(end) => Poll::Ready(end.connect().map(drop)),
        }
    }

    /// How many instances the name has, in all processes.
    pub(crate) fn instances(&self) -> Result<u32, Error> {
        match self {
            Self::Created(end) => end.instances(),
            Self::Joined(end) => Ok(end.info()?.0.instances),
        }
    }

    /// The process that opened the client end, and its session then.
    pub(crate) fn client_ids(&self) -> Result<(u32, u32), Error> {
        match self {
            Self::Created(end) => end.client_ids(),
            Self::Joined(end) => end.client_ids(),
        }
    }

    /// The session of the process that created the instance.
    pub(crate) fn server_session_id(&self) -> u32 {
        match self {
            Self::Created(_) => own_session(),
            Self::Joined(end) => end.description.server.session,
        }
    }

    /// The process that created the instance (observed 14.1).
    pub(crate) fn server_process_id(&self) -> u32 {
        match self {
            Self::Created(_) => socket::own_pid(),
            Self::Joined(end) => end.description.server.pid,
        }
    }

    pub(crate) fn name(&self) -> &PipeName {
        match self {
            Self::Created(end) => end.name(),
            Self::Joined(end) => &end.name,
        }
    }

    pub(crate) fn replace(&self) -> Result<Arc<ServerEnd>, Error> {
        match self {
            Self::Created(end) => end.replace(),
            Self::Joined(_) => Err(Error::NOT_SUPPORTED),
        }
    }

    pub(crate) fn sibling(
        &self,
        options: &InstanceOptions,
        read_mode: ReadMode,
    ) -> Result<Arc<ServerEnd>, Error> {
        match self {
            Self::Created(end) => end.sibling(options, read_mode),
            Self::Joined(_) => Err(Error::NOT_SUPPORTED),
        }
    }
}
