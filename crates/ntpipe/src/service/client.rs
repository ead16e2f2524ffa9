//! The client's side of the control socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use ntpipe_proto::control::{Info, MAX_MESSAGE, Opened, Reply, Request};
use ntpipe_proto::lane::ring_capacity;
use ntpipe_proto::{Access, DefaultTimeout, End, EndState, Error, PipeName, ReadMode, WaitTimeout};
use rustix::io::Errno;

use super::heirs::PAUSE;
use super::namespace::Namespace;
use super::{Interest, Readiness, Service, Source, Token};
use crate::canceller::{self, Blocked};
use crate::parts::PipeParts;
use crate::ring::{Link, LookFor, Offer, Peer, Trust};
use crate::shared::{self, Holding, Kind, Party, Portrait, Watches};
use crate::stream::shared::Left;
use crate::stream::{PipeStream, Terms, lock};
use crate::sys::session::{own_session, session_of};
use crate::sys::socket;

/// The client end of an instance.
pub(crate) struct ClientEnd {
    pub(crate) stream: PipeStream,
    pub(crate) opened: Opened,
    /// Who opened it.
    pub(crate) own: Party,
    /// Who answered: as the kernel knows it if it was the owner.
    pub(crate) server: Party,
    namespace: Arc<Namespace>,
    name: PipeName,
    link: Arc<Link>,
    control: Arc<Control>,
    token: Token,
    service: Arc<Service>,
    watches: Watches,
    is_closed: AtomicBool,
}

/// Which process has the server end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnsweredBy {
    /// The one that owned the name.
    Owner,
    /// Another one, to which the owner has handed this client over.
    Member,
}

/// The control socket; one exchange at a time.
struct Control {
    socket: Arc<OwnedFd>,
    exchange: Mutex<Exchange>,
}

/// What the owner has been asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    /// Every question has its answer.
    Even,
    /// Nobody waits any more for the answer to the last question; it will come before others.
    Owed,
}

/// The client's memory, made before its size is known for certain.
#[derive(Default)]
struct Own(Option<OwnMemory>);

struct OwnMemory {
    capacity: u64,
    offer: Offer,
    file: OwnedFd,
}

/// Whether the owner has the client's memory already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attached {
    Yes,
    No,
}

/// Notices that the server has died.
struct Watch {
    control: Arc<Control>,
    link: Weak<Link>,
    name: PipeName,
}

/// The size of the ring that this process had to make last; 0 before the first.
static LAST_RING: AtomicU64 = AtomicU64::new(0);
/// The owner that was asked last has not answered.
static UNANSWERED: AtomicBool = AtomicBool::new(false);
/// The quota of most pipes.
const USUAL_QUOTA: u32 = 65536;
/// How long an owner may take for an answer that needs no waiting. A process that is stopped holds
/// its names without answering; Windows has no such state.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often in all a wait may find its owner gone, a little less than a millisecond each.
const MAX_VAIN: u32 = 5000;
/// How long all owners together may take when names are listed.
const LIST_PATIENCE: Duration = Duration::from_secs(1);
/// How many owners are asked at a time; each takes a descriptor until it has answered.
const LIST_AT_ONCE: usize = 256;
/// An owner that goes takes its name along, unless another process goes on with it.
const HUNG_UP: Error = Error::FILE_NOT_FOUND;

impl ClientEnd {
    /// `CreateFile` on a pipe: connects to an instance that listens (reference 1.6).
    pub(crate) fn open(name: &PipeName, access: Access, qos: u32) -> io::Result<Self> {
        let namespace = Namespace::open()?;
        let granted = Access::requested_by_client(access);
        let request = Request::Open {
            name: name.folded().to_owned(),
            access: granted,
            qos,
        };
        let mut own = Own::default();
        let (mut service, mut owner) = (None, None);
        let asked = Control::ask_owner(&namespace, name, &request, Some(&mut own), |control| {
            service = Some(Service::get());
            let known = socket::credentials(control.socket.as_fd());
            owner = Some(known.map(|known| (known, session_of(known.pid))));
        });
        let (control, reply, memory) = asked?;
        let control = Arc::new(control);
        let (opened, answered_by, attached) = match reply {
            Reply::Connected(opened) => (opened, AnsweredBy::Owner, Attached::Yes),
            Reply::Opened(opened) => (opened, AnsweredBy::Owner, Attached::No),
            Reply::HandedOver(opened) => {
                // The owner had a descriptor of that.
                own = Own::default();
                (opened, AnsweredBy::Member, Attached::No)
            }
            Reply::Refused { error } => return Err(error.into()),
            Reply::Ready | Reply::Info(_) => return Err(Error::INVALID_DATA.into()),
        };
        let service = service.ok_or(Error::INVALID_DATA)??;
        let (owner, owner_session) = owner.ok_or(Error::INVALID_DATA)??;
        let link = control.link(&opened, memory, own, attached, owner.trust())?;
        let link = Arc::new(link);
        let name = name.clone();
        let watch = Watch {
            control: Arc::clone(&control),
            link: Arc::downgrade(&link),
            name: name.clone(),
        };
        let server = match answered_by {
            AnsweredBy::Owner => Party {
                pid: owner.pid,
                session: owner_session,
            },
            // The kernel knows who had the name when this connected.
            AnsweredBy::Member => Party {
                pid: opened.server_pid,
                session: session_of(opened.server_pid),
            },
        };
        let reads = opened.direction.client_reads() && granted.contains(Access::READ_DATA);
        let writes = opened.direction.client_writes() && granted.contains(Access::WRITE_DATA);
        let terms = Terms {
            end: End::Client,
            pipe_type: opened.pipe_type,
            direction: opened.direction,
            access: granted,
            reads: reads.then_some(opened.quotas.outbound),
            writes: writes.then_some(opened.quotas.inbound),
        };
        let stream = PipeStream::new(terms, ReadMode::Byte, EndState::Connected);
        stream.attach(&link);
        let own = Party {
            pid: socket::own_pid(),
            session: own_session(),
        };
        // Last: nothing fails after it and leaves the watch behind.
        let token = service.watch(Arc::new(watch), Interest::HangUp)?;
        Ok(Self {
            stream,
            opened,
            own,
            server,
            namespace,
            name,
            link,
            control,
            token,
            service,
            watches: Watches::default(),
            is_closed: AtomicBool::new(false),
        })
    }

    /// What the owner knows of the pipe, for the number of instances; 2 once the server is gone. It
    /// is asked by a connection of its own: this one's socket is a doorbell by now.
    pub(crate) fn query(&self) -> Result<Info, Error> {
        match self.link.peer() {
            Peer::Connected => query(&self.namespace, &self.name),
            Peer::Gone | Peer::Disconnected | Peer::Corrupt => Err(Error::FILE_NOT_FOUND),
        }
    }

    /// Parts for a further holder.
    pub(crate) fn share(self: &Arc<Self>) -> io::Result<PipeParts> {
        let newcomer = self.stream.share()?;
        let portrait = Portrait {
            kind: Kind::Client,
            access: self.stream.terms().access,
            client: self.own,
            server: self.server,
            pipe: self.opened.clone(),
        };
        let socket = self.control.socket.as_fd();
        let (bag, lifeline) = shared::pack(&newcomer, portrait, socket, None)?;
        let end: Arc<dyn Holding> = Arc::<Self>::clone(self);
        self.watches
            .add_lifeline(lifeline, newcomer.id, Arc::downgrade(&end))?;
        PipeParts::new(bag)
    }

    /// A further holder of an end that another process has shared.
    pub(crate) fn from_parts(parts: &PipeParts) -> io::Result<Arc<Self>> {
        let service = Service::get()?;
        let received = parts.unpack(Kind::Client)?;
        let description = received.description;
        let name = PipeName::parse(&format!(r"\\.\pipe\{}", description.pipe.spelling))?;
        let namespace = Namespace::open()?;
        let control = Arc::new(Control {
            socket: received.connection,
            exchange: Mutex::new(Exchange::Even),
        });
        let watch = Watch {
            control: Arc::clone(&control),
            link: Arc::downgrade(&received.link),
            name: name.clone(),
        };
        let token = service.watch(Arc::new(watch), Interest::HangUp)?;
        let end = Arc::new(Self {
            stream: received.stream,
            opened: description.pipe,
            own: description.client,
            server: description.server,
            namespace,
            name,
            link: received.link,
            control,
            token,
            service,
            watches: Watches::default(),
            is_closed: AtomicBool::new(false),
        });
        let holding: Arc<dyn Holding> = Arc::<Self>::clone(&end);
        let holding = Arc::downgrade(&holding);
        end.watches
            .add_lifeline(received.lifeline, description.from, holding)?;
        Ok(end)
    }

    /// Closes the end: the server reads what is there, then finds it gone.
    pub(crate) fn close(&self) {
        // In a forked child this is a copy: the end is its parent's.
        if !self.stream.is_ours() || self.is_closed.swap(true, Ordering::Relaxed) {
            return;
        }
        let left = self.stream.leave_end();
        self.stream.detach(EndState::Closing);
        self.stream.tasks().wake();
        if left == Left::Last {
            self.link.close();
        }
        self.link.wake_own();
        self.service.forget(self.token);
        self.watches.end();
        if left == Left::Last {
            socket::hang_up(self.control.socket.as_fd());
        }
    }
}

impl Holding for ClientEnd {
    fn stream(&self) -> &PipeStream {
        &self.stream
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        self.close();
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

    /// Asks the owner of a name. One that hangs up may have a successor, or was about to hand this
    /// client to a process that died: then it is asked again. Who wants to open sends its memory.
    /// What can be done while the owner answers is done `meanwhile`.
    fn ask_owner(
        namespace: &Arc<Namespace>,
        name: &PipeName,
        request: &Request,
        mut own: Option<&mut Own>,
        mut meanwhile: impl FnMut(&Self),
    ) -> io::Result<(Self, Reply, Option<OwnedFd>)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let control = Self::connect(namespace, name)?;
            // While the owner wakes up. Nobody but who answers is to have it in the end.
            let memory = own.as_mut().and_then(|own| own.make_anew());
            let deadline_of_one = Some(Instant::now() + PATIENCE);
            match control.ask_while(request, memory, deadline_of_one, || meanwhile(&control)) {
                Ok((reply, memory)) => return Ok((control, reply, memory)),
                Err(error) if error == HUNG_UP && Instant::now() < deadline => {}
                Err(error) => return Err(error.into()),
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    fn new(socket: OwnedFd) -> Self {
        Self {
            socket: Arc::new(socket),
            exchange: Mutex::new(Exchange::Even),
        }
    }

    /// One question and its answer. An owner that goes meanwhile takes its name along.
    fn ask(
        &self,
        request: &Request,
        deadline: Option<Instant>,
    ) -> Result<(Reply, Option<OwnedFd>), Error> {
        self.ask_while(request, None, deadline, || ())
    }

    /// As [`ask`](Self::ask), with memory perhaps, and with something to do while the other side
    /// answers.
    fn ask_while(
        &self,
        request: &Request,
        memory: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
        meanwhile: impl FnOnce(),
    ) -> Result<(Reply, Option<OwnedFd>), Error> {
        let mut exchange = lock(&self.exchange);
        if *exchange == Exchange::Owed {
            // Whatever it says, it is not for us.
            self.await_answer(deadline)?;
            let _ = self.receive();
        }
        self.send(request, memory)?;
        *exchange = Exchange::Owed;
        meanwhile();
        let answered = self.await_answer(deadline);
        UNANSWERED.store(answered == Err(Error::SEM_TIMEOUT), Ordering::Relaxed);
        answered?;
        *exchange = Exchange::Even;
        self.receive()
    }

    fn send(&self, request: &Request, memory: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let request = request.encode()?;
        let sent = match socket::send(self.socket.as_fd(), &request, memory) {
            // Too much is on its way to others: it goes without.
            Err(Errno::TOOMANYREFS) => socket::send(self.socket.as_fd(), &request, None),
            sent => sent,
        };
        match sent {
            // An owner that sends its clients away says why before they ask.
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(errno) => Err(no_answer(errno)),
        }
    }

    /// What to ask who waits for an instance without a thread, and how long to wait for the answer.
    #[cfg(feature = "tokio")]
    fn wait_request(
        &self,
        name: &PipeName,
        timeout: WaitTimeout,
    ) -> Result<(Request, Option<Instant>), Error> {
        let default = match timeout {
            WaitTimeout::Default => {
                let query = query_of(name.folded());
                let asked = self.ask(&query, Some(Instant::now() + PATIENCE))?;
                described(asked.0)?.pipe.default_timeout
            }
            WaitTimeout::After(_) | WaitTimeout::Forever => DefaultTimeout::default(),
        };
        // The owner keeps the time, unless it is stopped.
        let deadline = timeout
            .duration(default)
            .and_then(|time| Instant::now().checked_add(time)?.checked_add(PATIENCE));
        let name = name.folded().to_owned();
        Ok((Request::Wait { name, timeout }, deadline))
    }

    fn await_answer(&self, deadline: Option<Instant>) -> Result<(), Error> {
        if LookFor::Answer.until(|| socket::is_readable(self.socket.as_fd())) {
            return Ok(());
        }
        canceller::wait_readable(self.socket.as_fd(), deadline, no_answer)
    }

    /// What the owner has answered.
    fn receive(&self) -> Result<(Reply, Option<OwnedFd>), Error> {
        let mut buffer = [0; MAX_MESSAGE];
        let received = match socket::receive(self.socket.as_fd(), &mut buffer) {
            // Said once if the owner has hung up without reading; its last answer comes after.
            Err(Errno::CONNRESET) => socket::receive(self.socket.as_fd(), &mut buffer),
            received => received,
        };
        let datagram = match received {
            Err(Errno::MSGSIZE) => return Err(Error::INVALID_DATA),
            Err(Errno::MFILE) => return Err(Error::TOO_MANY_OPEN_FILES),
            received => received.ok().flatten().ok_or(HUNG_UP)?,
        };
        let bytes = buffer.get(..datagram.len).unwrap_or_default();
        let reply = Reply::decode(bytes).map_err(|_| Error::INVALID_DATA)?;
        Ok((reply, datagram.fd))
    }

    /// The connection: takes the owner's memory, and gives it ours if it has not got that.
    fn link(
        &self,
        opened: &Opened,
        memory: Option<OwnedFd>,
        own: Own,
        attached: Attached,
        trust: Trust,
    ) -> Result<Link, Error> {
        let (inbound, outbound) = (
            ring_capacity(opened.quotas.inbound),
            ring_capacity(opened.quotas.outbound),
        );
        if opened.inbound_ring != inbound || opened.outbound_ring != outbound {
            return Err(Error::INVALID_DATA);
        }
        let own = own.of(inbound, attached)?;
        let link = own
            .offer
            .accept(memory.ok_or(Error::INVALID_DATA)?, outbound, trust)?;
        if attached == Attached::No {
            let attach = Request::Attach.encode()?;
            // A server that has closed or disconnected meanwhile has said so in its memory.
            let _ = socket::send(self.socket.as_fd(), &attach, Some(own.file.as_fd()));
        }
        Ok(link.with_socket(Arc::clone(&self.socket)))
    }
}

impl Own {
    /// Memory of the size that the owner will probably want; none if that can't be had, for it may
    /// want less, or if the last owner did not answer: descriptors that lie in the queue of one that
    /// is stopped count for the whole user.
    fn make_anew(&mut self) -> Option<BorrowedFd<'_>> {
        self.0 = None;
        if UNANSWERED.load(Ordering::Relaxed) {
            return None;
        }
        let likely = match LAST_RING.load(Ordering::Relaxed) {
            0 => ring_capacity(USUAL_QUOTA),
            last => last,
        };
        let memory = OwnMemory::new(likely).ok()?;
        Some(self.0.insert(memory).file.as_fd())
    }

    /// Memory of this size: what the owner has, or else such as it can have.
    fn of(self, capacity: u64, attached: Attached) -> Result<OwnMemory, Error> {
        LAST_RING.store(capacity, Ordering::Relaxed);
        match (self.0.filter(|own| own.capacity == capacity), attached) {
            (Some(own), _) => Ok(own),
            (None, Attached::No) => OwnMemory::new(capacity),
            (None, Attached::Yes) => Err(Error::INVALID_DATA),
        }
    }
}

impl OwnMemory {
    fn new(capacity: u64) -> Result<Self, Error> {
        let (offer, file) = Offer::new(capacity)?;
        Ok(Self {
            capacity,
            offer,
            file,
        })
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
    let _blocked = Blocked::enter_several();
    let namespace = Namespace::open()?;
    let begun = Instant::now();
    let default = match timeout {
        WaitTimeout::Default => ask_about(&namespace, name)?.0.pipe.default_timeout,
        WaitTimeout::After(_) | WaitTimeout::Forever => DefaultTimeout::default(),
    };
    let time = timeout.duration(default);
    let mut vain: u32 = 0;
    loop {
        let control = Control::connect(&namespace, name)?;
        // Owners may change meanwhile; the time goes on.
        if vain > 0 && time.is_some_and(|time| begun.elapsed() >= time) {
            return Err(Error::SEM_TIMEOUT.into());
        }
        let timeout = match time {
            None => WaitTimeout::Forever,
            Some(time) => WaitTimeout::After(time.saturating_sub(begun.elapsed())),
        };
        // The owner keeps the time, unless it is stopped.
        let deadline = time.and_then(|time| begun.checked_add(time)?.checked_add(PATIENCE));
        let request = Request::Wait {
            name: name.folded().to_owned(),
            timeout,
        };
        match control.ask(&request, deadline) {
            Ok((reply, _)) => return Ok(waited(reply)?),
            Err(error) if error == HUNG_UP && vain < MAX_VAIN => vain += 1,
            Err(error) => return Err(error.into()),
        }
        std::thread::park_timeout(PAUSE);
    }
}

fn waited(reply: Reply) -> Result<(), Error> {
    match reply {
        Reply::Ready => Ok(()),
        Reply::Refused { error } => Err(error),
        Reply::Opened(_) | Reply::Connected(_) | Reply::HandedOver(_) | Reply::Info(_) => {
            Err(Error::INVALID_DATA)
        }
    }
}

/// A question that has been asked, for who waits for its answer without a thread.
#[cfg(feature = "tokio")]
pub(crate) struct Question(Control);

#[cfg(feature = "tokio")]
impl Question {
    /// As [`wait`], up to the waiting, and when to give it up.
    pub(crate) fn wait(
        name: &PipeName,
        timeout: WaitTimeout,
    ) -> io::Result<(Self, Option<Instant>)> {
        let control = Control::connect(&Namespace::open()?, name)?;
        let (request, deadline) = control.wait_request(name, timeout)?;
        control.send(&request, None)?;
        Ok((Self(control), deadline))
    }

    /// As [`query`], up to the waiting, and when to give it up.
    pub(crate) fn query(name: &PipeName) -> io::Result<(Self, Option<Instant>)> {
        let control = Control::connect(&Namespace::open()?, name)?;
        control.send(&query_of(name.folded()), None)?;
        Ok((Self(control), Some(Instant::now() + PATIENCE)))
    }

    /// The answer to a query, once there is something to receive: how long a client waits that does
    /// not say it; `None` is for ever.
    pub(crate) fn default_time(&self) -> Result<Option<Duration>, Error> {
        let info = described(self.0.receive()?.0)?;
        Ok(WaitTimeout::Default.duration(info.pipe.default_timeout))
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.0.socket
    }

    /// The answer, once there is something to receive.
    pub(crate) fn answer(&self) -> Result<(), Error> {
        waited(self.0.receive()?.0)
    }
}

/// What the owner of a name tells about it.
pub(crate) fn query(namespace: &Arc<Namespace>, name: &PipeName) -> Result<Info, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let socket = namespace.connect(name).map_err(|error| error.error())?;
        let request = query_of(name.folded());
        let patience = Some(Instant::now() + PATIENCE);
        let answer = Control::new(socket).ask(&request, patience);
        match answer {
            Ok((reply, _)) => return described(reply),
            Err(error) if error == HUNG_UP && Instant::now() < deadline => {
                std::thread::park_timeout(PAUSE)
            }
            Err(error) => return Err(error),
        }
    }
}

fn ask_about(namespace: &Arc<Namespace>, name: &PipeName) -> io::Result<(Info, Control)> {
    let request = query_of(name.folded());
    let (control, reply, _) = Control::ask_owner(namespace, name, &request, None, |_| ())?;
    Ok((described(reply)?, control))
}

/// As [`query`], with the number of the process that answered.
pub(crate) fn describe(name: &PipeName) -> io::Result<(Info, u32)> {
    let (info, control) = ask_about(&Namespace::open()?, name)?;
    Ok((info, socket::credentials(control.socket.as_fd())?.pid))
}

/// What the owners of all names tell about them. One that goes meanwhile, or does not answer, is
/// left out.
pub(crate) fn list() -> io::Result<Vec<(Info, u32)>> {
    let namespace = Namespace::open()?;
    // One for all: how many owners are stopped makes no difference.
    let deadline = Instant::now() + LIST_PATIENCE;
    let mut stems = namespace.stems()?.into_iter();
    let mut postponed = None;
    let mut asked = Vec::new();
    let mut found = Vec::new();
    loop {
        while asked.len() < LIST_AT_ONCE
            && let Some(stem) = postponed.take().or_else(|| stems.next())
        {
            match begin_query(&namespace, &stem, deadline) {
                Ok(socket) => asked.push(socket),
                Err(error) if error == Error::TOO_MANY_OPEN_FILES => {
                    if asked.is_empty() {
                        return Err(error.into());
                    }
                    // Those that have been asked give theirs back.
                    postponed = Some(stem);
                    break;
                }
                Err(_) => {}
            }
        }
        if asked.is_empty() {
            return Ok(found);
        }
        let sockets = asked.iter().map(OwnedFd::as_fd);
        let Ok(Some(readable)) = socket::wait_any_readable(sockets, deadline) else {
            return Ok(found);
        };
        let (answered, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut asked)
            .into_iter()
            .zip(readable)
            .partition(|(_, is_readable)| *is_readable);
        asked.extend(rest.into_iter().map(|(socket, _)| socket));
        found.extend(answered.into_iter().filter_map(|(socket, _)| {
            let control = Control::new(socket);
            let info = described(control.receive().ok()?.0).ok()?;
            Some((info, socket::credentials(control.socket.as_fd()).ok()?.pid))
        }));
    }
}

/// Asks an owner for whatever name is there: the file's name may be shortened.
fn begin_query(
    namespace: &Arc<Namespace>,
    stem: &str,
    deadline: Instant,
) -> Result<OwnedFd, Error> {
    let socket = namespace
        .try_connect(stem, deadline)
        .map_err(|error| error.error())?;
    let query = query_of("").encode()?;
    socket::send(socket.as_fd(), &query, None).map_err(no_answer)?;
    Ok(socket)
}

fn query_of(folded: &str) -> Request {
    Request::Query {
        name: folded.to_owned(),
    }
}

fn described(reply: Reply) -> Result<Info, Error> {
    match reply {
        Reply::Info(description) => Ok(description),
        Reply::Refused { error } => Err(error),
        Reply::Ready | Reply::Opened(_) | Reply::Connected(_) | Reply::HandedOver(_) => {
            Err(Error::INVALID_DATA)
        }
    }
}

/// Why an owner can't be asked. One that goes meanwhile takes its name along.
fn no_answer(errno: Errno) -> Error {
    match errno {
        Errno::AGAIN => Error::SEM_TIMEOUT,
        Errno::TOOMANYREFS => Error::NO_SYSTEM_RESOURCES,
        _ => HUNG_UP,
    }
}
