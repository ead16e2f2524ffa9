//! One client at a name's socket: what it asks, and the connection that may come of it.
//!
//! Nothing that it says about itself is believed: who it is the kernel says. Whatever is not a
//! message of the protocol, in its order and in time, ends the session.

mod beginning;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use ntpipe_proto::control::{Info, MAX_MESSAGE, Notice, Opened, Reply, Request};
use ntpipe_proto::lane::ring_capacity;
use ntpipe_proto::{Access, Connection, Error, NameInfo, Quotas, WaitTimeout, WaiterId};
use rustix::io::Errno;

use super::owner::{Opening, Owner, TooLate};
use super::{Readiness, Source, Token};
use crate::locked::MutexGuard;
use crate::ring::{Link, Offer};
use crate::stream::{Visitor, lock};
use crate::sys::socket::{self, Credentials, Datagram};

/// A client's control socket, as the owner sees it.
pub(super) struct Session {
    socket: Arc<OwnedFd>,
    owner: Arc<Owner>,
    credentials: Credentials,
    token: OnceLock<Token>,
    phase: Mutex<Phase>,
    /// One message at a time, in their order; taken before all other locks but a listener's.
    receiving: Mutex<()>,
    /// Whether this is one of the owner's strangers.
    is_stranger: AtomicBool,
    /// Whether the service thread watches the socket.
    is_watched: AtomicBool,
    prepared: Mutex<Option<Prepared>>,
    /// How the client came here.
    origin: Origin,
    itself: Weak<Self>,
}

/// How far a client has come.
enum Phase {
    /// It has not opened the pipe; it may ask and wait.
    Asking,
    /// It has an instance, and must attach its memory.
    Opened(Connection, Offer),
    /// It is connected.
    Connected(Connection, Arc<Link>),
    /// It is another server process, with instances of its own.
    Member,
    /// Nothing more is expected of it.
    Over,
}

/// This process' memory for a connection, and what the client gets of it.
struct Prepared {
    capacity: u64,
    offer: Offer,
    memory: OwnedFd,
}

/// How a client came to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// By the name's socket.
    Door,
    /// From the owner of the name, with an instance.
    Owner,
}

/// How long a client may take to say what it wants, and to attach its memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many messages a call that does not wait looks at, of a client that has opened and goes on
/// asking.
const MAX_CAUGHT_UP: u32 = 16;
/// How many clients of a name may at a time be neither connected nor waiting for an instance.
pub(super) const MAX_STRANGERS: usize = 1024;

impl Session {
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Gives a client to the process behind this session.
    pub(super) fn pass(&self, bytes: &[u8], client: BorrowedFd<'_>) -> Result<(), Errno> {
        socket::send(self.socket.as_fd(), bytes, Some(client))
    }

    /// Lets the service thread find the other side gone, which it will be told as well.
    pub(super) fn hang_up(&self) {
        socket::hang_up(self.socket.as_fd());
    }

    pub(super) fn credentials(&self) -> Credentials {
        self.credentials
    }

    /// Answers a wait; after that the client has to say what it wants next.
    pub(super) fn answer(&self, reply: &Reply) {
        self.count_stranger(true);
        self.set_patience(Some(PATIENCE));
        if let Err(errno) = self.send(reply, None) {
            tracing::debug!(%errno, "a client did not take its answer");
        }
    }

    /// The server has disconnected the client.
    pub(super) fn disconnect(&self) {
        self.end(|phase| match phase {
            Phase::Opened(_, offer) => offer.disconnect(),
            // The instance may not have had it yet; the client must not find the socket's end first.
            Phase::Connected(_, link) => link.disconnect(),
            Phase::Asking | Phase::Member | Phase::Over => {}
        });
    }

    /// The server has closed its end.
    pub(super) fn close(&self) {
        self.end(|phase| match phase {
            Phase::Opened(_, offer) => offer.close(),
            Phase::Connected(_, link) => link.close(),
            Phase::Asking | Phase::Member | Phase::Over => {}
        });
    }

    /// Ends the session for both sides, after telling a client that has memory of ours; returns how
    /// far it had come.
    fn end(&self, tell: impl FnOnce(&Phase)) -> Phase {
        if let Some(token) = self.token.get() {
            self.owner.service().forget(*token);
        }
        self.count_stranger(false);
        let mut at = lock(&self.phase);
        // Within the lock: who finds the session over hangs up, which the client must not see first.
        tell(&at);
        let phase = std::mem::replace(&mut *at, Phase::Over);
        drop(at);
        socket::hang_up(self.socket.as_fd());
        phase
    }

    /// The client is gone, or has not behaved.
    fn drop_client(&self) {
        match self.end(|_| {}) {
            Phase::Asking => {}
            Phase::Member => {
                if let Some(WaiterId(number)) = self.waiter() {
                    self.owner.member_gone(number);
                }
            }
            Phase::Opened(connection, _) => self.owner.client_closed(connection),
            Phase::Connected(connection, link) => {
                link.hang_up();
                self.owner.client_closed(connection);
            }
            Phase::Over => return,
        }
        if let Some(waiter) = self.waiter() {
            self.owner.cancel_wait(waiter);
        }
    }

    fn end_for(&self, refusal: &Refusal) {
        tracing::debug!(
            pid = self.credentials.pid,
            why = refusal.0,
            "a session is over"
        );
        self.drop_client();
    }

    fn handle(&self, bytes: &[u8], fd: Option<OwnedFd>) -> Result<(), Refusal> {
        let Ok(request) = Request::decode(bytes) else {
            let notice = Notice::decode(bytes).map_err(|_| Refusal("not a message"))?;
            return self.heed(notice);
        };
        match request {
            Request::Open { name, access, qos } => {
                self.check_name(&name)?;
                let session = self.itself.upgrade().ok_or(Refusal("a dead session"))?;
                self.open(fd, |owner| owner.open(&session, access, qos))
            }
            Request::Attach => self.attach(fd.ok_or(Refusal("no memory attached"))?),
            Request::Wait { name, timeout } => {
                self.check_name(&name)?;
                self.wait(timeout)
            }
            Request::Query { name } => {
                if !name.is_empty() {
                    self.check_name(&name)?;
                }
                self.query()
            }
        }
    }

    /// The socket's file name may be a hash: the full name decides.
    fn check_name(&self, name: &str) -> Result<(), Refusal> {
        if name == self.owner.name().folded() {
            return Ok(());
        }
        self.send(
            &Reply::Refused {
                error: Error::FILE_NOT_FOUND,
            },
            None,
        )?;
        Err(Refusal("another name"))
    }

    /// Until security descriptors arrive a pipe is for its owner's user, and for root.
    fn is_allowed(&self) -> bool {
        self.credentials.is_same_user()
    }

    /// Gives the client an instance; if its own memory has come with the request and is what the
    /// instance needs, it is connected at once.
    fn open(
        &self,
        memory: Option<OwnedFd>,
        take: impl FnOnce(&Owner) -> Result<Opening, Error>,
    ) -> Result<(), Refusal> {
        let mut phase = lock(&self.phase);
        if !matches!(*phase, Phase::Asking) {
            return Err(Refusal("a second open"));
        }
        let opened = match self.is_allowed() {
            true => take(&self.owner),
            false => Err(Error::ACCESS_DENIED),
        };
        let (connection, info, quotas) = match opened {
            Ok(Opening::Here(connection, info, quotas)) => (connection, info, quotas),
            Ok(Opening::HandedOver) => {
                *phase = Phase::Over;
                drop(phase);
                self.part();
                return Ok(());
            }
            Ok(Opening::Held) => return Ok(()),
            Ok(Opening::Elsewhere) => return Err(Refusal("another process owns the name")),
            // It was promised an instance: it has to ask again.
            Err(_) if self.origin == Origin::Owner => return Err(Refusal("no instance for it")),
            Err(error) => return Ok(self.send(&Reply::Refused { error }, None)?),
        };
        let Prepared {
            offer, memory: own, ..
        } = match self.take_memory(ring_capacity(quotas.outbound)) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.owner.give_back(connection);
                return Ok(self.send(&Reply::Refused { error }, None)?);
            }
        };
        let opened = self.describe_opened(connection, &info, quotas);
        let linked = self.link(offer, memory, quotas);
        let reply = match (&linked, self.origin) {
            (Ok(_), _) => Reply::Connected(opened),
            // What is lacking now will be then.
            (Err((error, _)), _) if *error != Error::INVALID_DATA => {
                self.owner.give_back(connection);
                let error = *error;
                return Ok(self.send(&Reply::Refused { error }, None)?);
            }
            (Err(_), Origin::Door) => Reply::Opened(opened),
            (Err(_), Origin::Owner) => Reply::HandedOver(opened),
        };
        let sent = self.send(&reply, Some(own.as_fd()));
        // Only now: a server that disconnects or closes meanwhile hangs up behind the answer, in
        // which its client has the memory that tells of it.
        match linked {
            Ok(link) => self.settle_in(phase, connection, link)?,
            Err((_, offer)) => {
                *phase = Phase::Opened(connection, offer);
                drop(phase);
                self.set_patience(Some(PATIENCE));
            }
        }
        Ok(sent?)
    }

    /// Memory of this size, if it has not been made already.
    fn take_memory(&self, capacity: u64) -> Result<Prepared, Error> {
        let prepared = lock(&self.prepared).take();
        match prepared.filter(|prepared| prepared.capacity == capacity) {
            Some(prepared) => Ok(prepared),
            None => Prepared::new(capacity),
        }
    }

    /// The connection, if the client's memory is there and what was agreed on.
    fn link(
        &self,
        offer: Offer,
        memory: Option<OwnedFd>,
        quotas: Quotas,
    ) -> Result<Arc<Link>, (Error, Offer)> {
        let Some(memory) = memory else {
            return Err((Error::INVALID_DATA, offer));
        };
        let trust = self.credentials.trust();
        let link = offer.try_accept(memory, ring_capacity(quotas.inbound), trust)?;
        Ok(Arc::new(link.with_socket(Arc::clone(&self.socket))))
    }

    /// The client is connected.
    fn settle_in(
        &self,
        mut phase: MutexGuard<'_, Phase>,
        connection: Connection,
        link: Arc<Link>,
    ) -> Result<(), Refusal> {
        *phase = Phase::Connected(connection, Arc::clone(&link));
        drop(phase);
        self.count_stranger(false);
        self.set_patience(None);
        if let Some(token) = self.token.get()
            && self.is_watched.load(Ordering::Relaxed)
        {
            // What comes from now on are rings of the doorbell, for who waits at the end.
            self.owner.service().watch_end(*token, self.fd());
        }
        match self.owner.attach(connection, self.credentials, &link) {
            Ok(()) => return Ok(()),
            Err(TooLate::Closed) => link.close(),
            Err(TooLate::Disconnected) => link.disconnect(),
        }
        Err(Refusal("the instance is gone"))
    }

    /// An open that was held is tried again.
    pub(super) fn open_anew(&self, access: Access, qos: u32) {
        let Some(session) = self.itself.upgrade() else {
            return;
        };
        let _receiving = lock(&self.receiving);
        if let Err(refusal) = self.open(None, |owner| owner.open(&session, access, qos)) {
            self.end_for(&refusal);
        }
    }

    /// The client is another process' from here on: nothing is said to it any more.
    fn part(&self) {
        if let Some(token) = self.token.get() {
            self.owner.service().forget(*token);
        }
        self.count_stranger(false);
        if let Some(waiter) = self.waiter() {
            self.owner.cancel_wait(waiter);
        }
    }

    /// Another process says something of its instances.
    fn heed(&self, notice: Notice) -> Result<(), Refusal> {
        if let Notice::Create { name, .. } | Notice::Resume { name, .. } = &notice {
            self.check_name(name)?;
            let mut phase = lock(&self.phase);
            match *phase {
                Phase::Asking if !self.is_allowed() => {
                    drop(phase);
                    let error = Error::ACCESS_DENIED;
                    self.send(&Reply::Refused { error }, None)?;
                    return Err(Refusal("not allowed to have instances"));
                }
                Phase::Asking => *phase = Phase::Member,
                Phase::Member => {}
                Phase::Opened(..) | Phase::Connected(..) | Phase::Over => {
                    return Err(Refusal("a client with instances"));
                }
            }
            drop(phase);
            self.count_stranger(false);
            self.set_patience(None);
        } else if !matches!(*lock(&self.phase), Phase::Member) {
            return Err(Refusal("a client that says it has instances"));
        }
        let WaiterId(number) = self.waiter().ok_or(Refusal("a session that is over"))?;
        let answer = self.owner.heed(number, &self.itself, notice);
        let answer = answer.ok_or(Refusal("another process owns the name"))?;
        let bytes = answer.encode().map_err(|_| Refusal("a name too long"))?;
        Ok(socket::send(self.socket.as_fd(), &bytes, None)?)
    }

    fn describe_opened(&self, connection: Connection, info: &NameInfo, quotas: Quotas) -> Opened {
        Opened {
            pipe_type: info.pipe_type,
            direction: info.direction,
            instance: connection.instance().get(),
            max_instances: info.max_instances,
            quotas,
            inbound_ring: ring_capacity(quotas.inbound),
            outbound_ring: ring_capacity(quotas.outbound),
            server_pid: socket::own_pid(),
            spelling: self.owner.name().as_str().to_owned(),
        }
    }

    fn attach(&self, memory: OwnedFd) -> Result<(), Refusal> {
        let mut phase = lock(&self.phase);
        let (connection, offer) = match std::mem::replace(&mut *phase, Phase::Over) {
            Phase::Opened(connection, offer) => (connection, offer),
            other @ (Phase::Asking | Phase::Connected(..) | Phase::Member | Phase::Over) => {
                *phase = other;
                return Err(Refusal("memory for nothing"));
            }
        };
        let quotas = self.owner.quotas(connection);
        let link = quotas.and_then(|quotas| self.link(offer, Some(memory), quotas).ok());
        let Some(link) = link else {
            drop(phase);
            self.owner.client_closed(connection);
            return Err(Refusal("memory that is not what was agreed on"));
        };
        self.settle_in(phase, connection, link)
    }

    fn wait(&self, timeout: WaitTimeout) -> Result<(), Refusal> {
        let (Some(session), Some(waiter)) = (self.itself.upgrade(), self.waiter()) else {
            return Err(Refusal("a session that is over"));
        };
        if !matches!(*lock(&self.phase), Phase::Asking) {
            return Err(Refusal("a wait with an instance in hand"));
        }
        self.set_patience(None);
        // Those that wait have a limit of their own.
        self.count_stranger(false);
        match self.owner.wait(waiter, &session, timeout) {
            true => Ok(()),
            false => Err(Refusal("another process owns the name")),
        }
    }

    fn query(&self) -> Result<(), Refusal> {
        let Some((pipe, quotas)) = self.owner.describe() else {
            return Ok(self.send(
                &Reply::Refused {
                    error: Error::FILE_NOT_FOUND,
                },
                None,
            )?);
        };
        let spelling = self.owner.name().as_str().to_owned();
        let info = Info {
            pipe,
            quotas,
            server_pid: socket::own_pid(),
            spelling,
        };
        Ok(self.send(&Reply::Info(info), None)?)
    }

    fn send(&self, reply: &Reply, fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        // Every name that exists fits a message.
        let bytes = reply.encode().map_err(|_| Errno::MSGSIZE)?;
        socket::send(self.socket.as_fd(), &bytes, fd)
    }

    fn waiter(&self) -> Option<WaiterId> {
        Some(WaiterId(self.token.get()?.0))
    }

    fn count_stranger(&self, is_stranger: bool) {
        if self.is_stranger.swap(is_stranger, Ordering::Relaxed) == is_stranger {
            return;
        }
        let strangers = &self.owner.strangers;
        if is_stranger {
            strangers.fetch_add(1, Ordering::Relaxed);
        } else {
            strangers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn set_patience(&self, patience: Option<Duration>) {
        if let Some(token) = self.token.get() {
            let at = patience.map(|patience| Instant::now() + patience);
            self.owner.service().set_timer(*token, at);
        }
    }
}

impl Prepared {
    fn new(capacity: u64) -> Result<Self, Error> {
        let (offer, memory) = Offer::new(capacity)?;
        Ok(Self {
            capacity,
            offer,
            memory,
        })
    }
}

impl Source for Session {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn ready(&self, readiness: Readiness) {
        let _receiving = lock(&self.receiving);
        if readiness == Readiness::Readable && matches!(*lock(&self.phase), Phase::Connected(..)) {
            // Rings of the doorbell are not for this thread.
            return;
        }
        self.hear(readiness);
    }

    fn expired(&self) {
        let _receiving = lock(&self.receiving);
        // What it was late with, another thread may just have heard.
        if matches!(*lock(&self.phase), Phase::Connected(..) | Phase::Member) {
            return;
        }
        tracing::debug!(pid = self.credentials.pid, "a client takes too long");
        self.drop_client();
    }
}

impl Session {
    /// Receives one message and does what it says.
    fn hear(&self, readiness: Readiness) {
        let mut buffer = [0; MAX_MESSAGE];
        let received = match readiness {
            Readiness::Readable => socket::receive(self.fd(), &mut buffer),
            Readiness::HungUp => Ok(None),
        };
        let refusal = match received {
            Ok(Some(Datagram { len, fd })) => {
                let bytes = buffer.get(..len).unwrap_or_default();
                match self.handle(bytes, fd) {
                    Ok(()) => return,
                    Err(refusal) => refusal,
                }
            }
            Ok(None) => Refusal("the end"),
            Err(Errno::AGAIN) => return,
            Err(Errno::MFILE) => {
                let error = Error::TOO_MANY_OPEN_FILES;
                let _ = self.send(&Reply::Refused { error }, None);
                Refusal("no descriptor is left for its memory")
            }
            Err(_) => Refusal("not a message"),
        };
        self.end_for(&refusal);
    }
}

impl Visitor for Session {
    fn catch_up(&self) {
        for _ in 0..MAX_CAUGHT_UP {
            self.ready(Readiness::Readable);
            if !matches!(*lock(&self.phase), Phase::Opened(..)) || !socket::is_readable(self.fd()) {
                break;
            }
        }
        let is_connected = matches!(*lock(&self.phase), Phase::Connected(..));
        // One that was killed has not said so.
        if is_connected && socket::has_hung_up(self.fd()) {
            self.ready(Readiness::HungUp);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.count_stranger(false);
    }
}

/// Why a session ends.
struct Refusal(&'static str);

impl From<Errno> for Refusal {
    fn from(_: Errno) -> Self {
        Self("it does not take its answers")
    }
}
