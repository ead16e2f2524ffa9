//! The client's side of the control socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use ntpipe_proto::control::{Info, MAX_MESSAGE, Opened, Reply, Request};
use ntpipe_proto::lane::ring_capacity;
use ntpipe_proto::{Access, End, EndState, Error, PipeName, ReadMode, WaitTimeout};

use super::namespace::Namespace;
use super::{Interest, Readiness, Service, Source, Token};
use crate::ring::{Link, Offer, Peer};
use crate::stream::{PipeStream, Terms, lock};
use crate::sys::socket;

/// The client end of an instance.
pub(crate) struct ClientEnd {
    pub(crate) stream: PipeStream,
    pub(crate) opened: Opened,
    pub(crate) own_pid: u32,
    /// Who answered, as the kernel knows it.
    pub(crate) server_pid: u32,
    name: PipeName,
    link: Arc<Link>,
    control: Arc<Control>,
    token: Token,
    service: Arc<Service>,
}

/// The control socket; one exchange at a time.
struct Control {
    socket: OwnedFd,
    exchange: Mutex<()>,
}

/// Notices that the server has died.
struct Watch {
    control: Arc<Control>,
    link: Weak<Link>,
    name: PipeName,
}

/// How long an owner may take for an answer that needs no waiting. A process that is stopped holds
/// its names without answering; Windows has no such state.
const PATIENCE: Duration = Duration::from_secs(5);

impl ClientEnd {
    /// `CreateFile` on a pipe: connects to an instance that listens (reference 1.6).
    pub(crate) fn open(name: &PipeName, access: Access, qos: u32) -> io::Result<Self> {
        let service = Service::get()?;
        let control = Arc::new(Control::connect(&Namespace::open()?, name)?);
        let granted = Access::requested_by_client(access);
        let request = Request::Open {
            name: name.folded().to_owned(),
            access: granted,
            qos,
        };
        let (reply, memory) = control.ask(&request, Some(Instant::now() + PATIENCE))?;
        let opened = match reply {
            Reply::Opened(opened) => opened,
            Reply::Refused { error } => return Err(error.into()),
            Reply::Ready | Reply::Info(_) => return Err(Error::INVALID_DATA.into()),
        };
        let link = Arc::new(control.attach(&opened, memory)?);
        let name = name.clone();
        let watch = Watch {
            control: Arc::clone(&control),
            link: Arc::downgrade(&link),
            name: name.clone(),
        };
        let token = service.watch(Arc::new(watch), Interest::HangUp)?;
        let reads = opened.direction.client_reads() && granted.contains(Access::READ_DATA);
        let writes = opened.direction.client_writes() && granted.contains(Access::WRITE_DATA);
        let terms = Terms {
            end: End::Client,
            pipe_type: opened.pipe_type,
            access: granted,
            reads: reads.then_some(opened.quotas.outbound),
            writes: writes.then_some(opened.quotas.inbound),
        };
        let stream = PipeStream::new(terms, ReadMode::Byte, EndState::Connected);
        stream.attach(&link);
        let own_pid = socket::own_pid();
        let server_pid = socket::credentials(control.socket.as_fd())?.pid;
        Ok(Self {
            stream,
            opened,
            own_pid,
            server_pid,
            name,
            link,
            control,
            token,
            service,
        })
    }

    /// What the owner knows of the pipe; for the number of instances.
    pub(crate) fn query(&self) -> Result<Info, Error> {
        self.control.describe(self.name.folded())
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        // In a forked child this is a copy: the end is its parent's.
        if self.stream.is_ours() {
            self.link.close();
            self.service.forget(self.token);
            socket::hang_up(self.control.socket.as_fd());
        }
    }
}

impl Control {
    fn connect(namespace: &Arc<Namespace>, name: &PipeName) -> io::Result<Self> {
        if !name.is_local() {
            // Over the network comes with a later stage.
            return Err(Error::NOT_SUPPORTED.into());
        }
        Ok(Self::new(namespace.connect(name)?))
    }

    fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            exchange: Mutex::new(()),
        }
    }

    /// One question and its answer. An owner that goes meanwhile takes its name along.
    fn ask(
        &self,
        request: &Request,
        deadline: Option<Instant>,
    ) -> Result<(Reply, Option<OwnedFd>), Error> {
        let _exchange = lock(&self.exchange);
        socket::send(self.socket.as_fd(), &request.encode()?, None)
            .map_err(|_| Error::FILE_NOT_FOUND)?;
        let readable = socket::wait_readable(self.socket.as_fd(), deadline);
        if !readable.map_err(|_| Error::FILE_NOT_FOUND)? {
            return Err(Error::SEM_TIMEOUT);
        }
        let mut buffer = [0; MAX_MESSAGE];
        let datagram = socket::receive(self.socket.as_fd(), &mut buffer)
            .ok()
            .flatten()
            .ok_or(Error::FILE_NOT_FOUND)?;
        let bytes = buffer.get(..datagram.len).unwrap_or_default();
        let reply = Reply::decode(bytes).map_err(|_| Error::INVALID_DATA)?;
        Ok((reply, datagram.fd))
    }

    /// Exchanges the memories of both ends.
    fn attach(&self, opened: &Opened, memory: Option<OwnedFd>) -> Result<Link, Error> {
        let (inbound, outbound) = (
            ring_capacity(opened.quotas.inbound),
            ring_capacity(opened.quotas.outbound),
        );
        if opened.inbound_ring != inbound || opened.outbound_ring != outbound {
            return Err(Error::INVALID_DATA);
        }
        let (offer, own) = Offer::new(inbound)?;
        let trust = socket::credentials(self.socket.as_fd())?.trust();
        let link = offer.accept(memory.ok_or(Error::INVALID_DATA)?, outbound, trust)?;
        let attach = Request::Attach.encode()?;
        // A server that has closed or disconnected meanwhile has said so in its memory.
        let _ = socket::send(self.socket.as_fd(), &attach, Some(own.as_fd()));
        Ok(link)
    }

    fn describe(&self, folded: &str) -> Result<Info, Error> {
        let request = Request::Query {
            name: folded.to_owned(),
        };
        match self.ask(&request, Some(Instant::now() + PATIENCE))?.0 {
            Reply::Info(description) => Ok(description),
            Reply::Refused { error } => Err(error),
            Reply::Ready | Reply::Opened(_) => Err(Error::INVALID_DATA),
        }
    }
}

impl Source for Watch {
    fn fd(&self) -> BorrowedFd<'_> {
        self.control.socket.as_fd()
    }

    fn ready(&self, _: Readiness) {
        let Some(link) = self.link.upgrade() else {
            return;
        };
        // A server that closes its end says so before it hangs up.
        let died = link.peer() == Peer::Connected;
        link.hang_up();
        if died && let Ok(namespace) = Namespace::open() {
            namespace.sweep_name(&self.name);
        }
    }
}

/// `WaitNamedPipe`: waits until an instance listens; reserves nothing (reference 1.5).
pub(crate) fn wait(name: &PipeName, timeout: WaitTimeout) -> io::Result<()> {
    let control = Control::connect(&Namespace::open()?, name)?;
    let request = Request::Wait {
        name: name.folded().to_owned(),
        timeout,
    };
    // The owner keeps the time, by the pipe's default if need be.
    match control.ask(&request, None)?.0 {
        Reply::Ready => Ok(()),
        Reply::Refused { error } => Err(error.into()),
        Reply::Opened(_) | Reply::Info(_) => Err(Error::INVALID_DATA.into()),
    }
}

/// What the owner of a name tells about it.
pub(crate) fn query(namespace: &Arc<Namespace>, name: &PipeName) -> Result<Info, Error> {
    let socket = namespace.connect(name).map_err(|error| error.error())?;
    Control::new(socket).describe(name.folded())
}

/// As [`query`], with the number of the process that answered.
pub(crate) fn describe(name: &PipeName) -> io::Result<(Info, u32)> {
    let control = Control::connect(&Namespace::open()?, name)?;
    let info = control.describe(name.folded())?;
    Ok((info, socket::credentials(control.socket.as_fd())?.pid))
}

/// What the owners of all names tell about them. One that goes meanwhile, or does not answer, is
/// left out.
pub(crate) fn list() -> io::Result<Vec<(Info, u32)>> {
    let sockets = Namespace::open()?.connect_all()?;
    let ask = |socket| {
        let control = Control::new(socket);
        // The empty name asks for whatever is there: the file's name may be shortened.
        let info = control.describe("").ok()?;
        Some((info, socket::credentials(control.socket.as_fd()).ok()?.pid))
    };
    Ok(sockets.into_iter().filter_map(ask).collect())
}
