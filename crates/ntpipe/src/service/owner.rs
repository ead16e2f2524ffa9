//! The names that this process owns, and the server ends of their instances.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use ntpipe_proto::control::Reply;
use ntpipe_proto::{
    Access, Connection, End, EndState, Error, FirstInstance, InstanceId, InstanceOptions, Listen,
    NameInfo, Operation, PipeName, Quotas, ReadMode, Server, Verdict, WaitTimeout, WaiterId,
};

use super::client;
use super::namespace::{Claim, Claimed, DirId, Namespace};
use super::session::Session;
use super::{Interest, Readiness, Service, Source, Token};
use crate::ring::{Link, Peer};
use crate::stream::{PipeStream, Terms, lock};
use crate::sys::fork::PerProcess;
use crate::sys::socket::{self, Credentials};

/// A name of this process, and the state machine that decides everything about it.
pub(crate) struct Owner {
    name: PipeName,
    key: Key,
    listener: OwnedFd,
    token: OnceLock<Token>,
    service: Arc<Service>,
    machine: Mutex<Machine>,
    /// Clients that may be sent away: neither connected nor waiting for an instance.
    pub(super) strangers: AtomicUsize,
    /// The moment from which the state machine's times are counted.
    epoch: Instant,
}

/// The server end of one instance.
pub(crate) struct ServerEnd {
    id: InstanceId,
    owner: Arc<Owner>,
    pub(crate) stream: PipeStream,
    /// A client has come, or the instance's state has changed otherwise.
    changed: Condvar,
}

/// What is decided under one lock.
pub(super) struct Machine {
    server: Server,
    entries: HashMap<InstanceId, Entry>,
    waiting: HashMap<WaiterId, Weak<Session>>,
    /// Gone once the name is.
    claim: Option<Claim>,
    /// When the listening socket is looked at again, if it rests.
    resting: Option<Instant>,
}

struct Entry {
    end: Arc<ServerEnd>,
    client: Option<Client>,
    /// How often the server end has disconnected.
    disconnects: u64,
}

/// The client that an instance has, or had until it is disconnected.
struct Client {
    connection: Connection,
    credentials: Credentials,
    session: Weak<Session>,
    /// Missing until the client has attached its memory.
    link: Option<Arc<Link>>,
}

/// What the server did before its client had come to attach its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooLate {
    Closed,
    Disconnected,
}

/// Where a name is: the directory and the folded name.
type Key = (DirId, String);

/// How long a listening socket rests when there are no descriptors left for its connections.
const REST: Duration = Duration::from_millis(50);
/// How often creating a name is tried again while its dying owner is on the way out.
const ATTEMPTS: u32 = 100;

impl Owner {
    /// `CreateNamedPipe`: a new instance of `name`, which this process owns from then on.
    pub(crate) fn create(
        name: &PipeName,
        options: &InstanceOptions,
        read_mode: ReadMode,
    ) -> io::Result<Arc<ServerEnd>> {
        if !name.is_local() {
            return Err(Error::INVALID_NAME.into());
        }
        let namespace = Namespace::open()?;
        let key = (namespace.id(), name.folded().to_owned());
        for _ in 0..ATTEMPTS {
            let mut names = names();
            if let Some(owner) = names.get(&key) {
                return Ok(owner.add(options, read_mode)?);
            }
            if let Claimed::Ours(claim) = namespace.claim(name)? {
                let owner = Self::begin(name, key.clone(), claim)?;
                let end = owner.add(options, read_mode)?;
                names.insert(key, owner);
                return Ok(end);
            }
            drop(names);
            if let Some(refused) = refused_by_owner(&namespace, name, options) {
                return Err(refused.into());
            }
            // Its owner is going, or someone is just looking whether it has gone.
            std::thread::park_timeout(Duration::from_millis(1));
        }
        Err(Error::PIPE_BUSY.into())
    }

    fn begin(name: &PipeName, key: Key, claim: Claim) -> io::Result<Arc<Self>> {
        let service = Service::get()?;
        let owner = Arc::new(Self {
            name: name.clone(),
            key,
            listener: claim.listen()?,
            token: OnceLock::new(),
            service: Arc::clone(&service),
            machine: Mutex::new(Machine {
                server: Server::new(),
                entries: HashMap::new(),
                waiting: HashMap::new(),
                claim: Some(claim),
                resting: None,
            }),
            strangers: AtomicUsize::new(0),
            epoch: Instant::now(),
        });
        let token = service.watch(Arc::<Self>::clone(&owner), Interest::All)?;
        let _ = owner.token.set(token);
        Ok(owner)
    }

    fn add(
        self: &Arc<Self>,
        options: &InstanceOptions,
        read_mode: ReadMode,
    ) -> Result<Arc<ServerEnd>, Error> {
        let mut machine = self.machine();
        if machine.claim.is_none() {
            // The name has gone; someone else may have it by now.
            return Err(Error::INVALID_HANDLE);
        }
        let id = machine.server.create(options)?;
        let end = self.enter(&mut machine, id, read_mode)?;
        self.settle(&mut machine);
        Ok(end)
    }

    /// Makes the server end of an instance that the state machine has just created.
    fn enter(
        self: &Arc<Self>,
        machine: &mut Machine,
        id: InstanceId,
        read_mode: ReadMode,
    ) -> Result<Arc<ServerEnd>, Error> {
        let info = machine.server.info().ok_or(Error::INVALID_HANDLE)?;
        let quotas = machine.server.quotas(id).ok_or(Error::INVALID_HANDLE)?;
        let terms = Terms {
            end: End::Server,
            pipe_type: info.pipe_type,
            access: Access::granted_to_server(info.direction),
            reads: info.direction.server_reads().then_some(quotas.inbound),
            writes: info.direction.server_writes().then_some(quotas.outbound),
        };
        // A message read mode on a byte pipe is what a further instance may ask for: the type of
        // the first one decides (reference 1.2).
        let mode = if info.pipe_type.allows(read_mode) {
            read_mode
        } else {
            ReadMode::Byte
        };
        let end = Arc::new(ServerEnd {
            id,
            owner: Arc::clone(self),
            stream: PipeStream::new(terms, mode, EndState::Listening),
            changed: Condvar::new(),
        });
        machine.entries.insert(
            id,
            Entry {
                end: Arc::clone(&end),
                client: None,
                disconnects: 0,
            },
        );
        Ok(end)
    }

    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        lock(&self.machine)
    }

    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    pub(super) fn name(&self) -> &PipeName {
        &self.name
    }

    /// Answers those whose wait has ended, and sets the timer for the others.
    fn settle(&self, machine: &mut Machine) {
        while let Some((waiter, result)) = machine.server.poll_woken() {
            let session = machine.waiting.remove(&waiter);
            if let Some(session) = session.and_then(|session| session.upgrade()) {
                session.answer(&match result {
                    Ok(()) => Reply::Ready,
                    Err(error) => Reply::Refused { error },
                });
            }
        }
        if let Some(token) = self.token.get() {
            let timeout = machine.server.poll_timeout();
            let timeout = timeout.and_then(|at| self.epoch.checked_add(at));
            let next = timeout.into_iter().chain(machine.resting).min();
            self.service.set_timer(*token, next);
        }
    }

    /// A client opens the pipe (reference 1.6).
    pub(super) fn open(
        &self,
        session: &Arc<Session>,
        access: Access,
    ) -> Result<(Connection, NameInfo, Quotas), Error> {
        let mut machine = self.machine();
        let connection = machine.server.open(access)?;
        let id = connection.instance();
        let info = machine.server.info().ok_or(Error::FILE_NOT_FOUND)?;
        let quotas = machine.server.quotas(id).ok_or(Error::FILE_NOT_FOUND)?;
        if let Some(entry) = machine.entries.get_mut(&id) {
            let session_of = Arc::downgrade(session);
            let credentials = session.credentials();
            entry.end.stream.expect_client();
            entry.client = Some(Client {
                connection,
                credentials,
                session: session_of,
                link: None,
            });
        }
        Ok((connection, info, quotas))
    }

    /// The client's memory is there: from now on the server end can use the connection.
    pub(super) fn attach(&self, connection: Connection, link: &Arc<Link>) -> Result<(), TooLate> {
        let mut machine = self.machine();
        let entry = machine.entries.get_mut(&connection.instance());
        let entry = entry.ok_or(TooLate::Closed)?;
        let client = entry.client.as_mut();
        let client = client
            .filter(|client| client.connection == connection)
            .ok_or(TooLate::Disconnected)?;
        client.link = Some(Arc::clone(link));
        entry.end.stream.attach(link);
        entry.end.changed.notify_all();
        Ok(())
    }

    /// The client's end is closed, be it that it never came to attach its memory.
    pub(super) fn client_closed(&self, connection: Connection) {
        let mut machine = self.machine();
        machine.server.client_closed(connection);
        if let Some(entry) = machine.entries.get(&connection.instance())
            && entry.has(connection)
        {
            if entry
                .client
                .as_ref()
                .is_some_and(|client| client.link.is_none())
            {
                entry.end.stream.detach(EndState::Closing);
            }
            entry.end.changed.notify_all();
        }
        self.settle(&mut machine);
    }

    /// A client's open has failed at the owner: the instance listens as before.
    pub(super) fn give_back(&self, connection: Connection) {
        let mut machine = self.machine();
        machine.server.give_back(connection);
        let entry = machine.entries.get_mut(&connection.instance());
        if let Some(entry) = entry.filter(|entry| entry.has(connection)) {
            entry.client = None;
        }
        self.settle(&mut machine);
    }

    /// A client waits for an instance (reference 1.5).
    pub(super) fn wait(&self, waiter: WaiterId, session: &Arc<Session>, timeout: WaitTimeout) {
        let mut machine = self.machine();
        machine.waiting.insert(waiter, Arc::downgrade(session));
        machine.server.wait(waiter, timeout, self.epoch.elapsed());
        self.settle(&mut machine);
    }

    pub(super) fn cancel_wait(&self, waiter: WaiterId) {
        let mut machine = self.machine();
        machine.waiting.remove(&waiter);
        machine.server.cancel_wait(waiter);
        self.settle(&mut machine);
    }

    /// The quotas of a connection's instance.
    pub(super) fn quotas(&self, connection: Connection) -> Option<Quotas> {
        self.machine().server.quotas(connection.instance())
    }

    /// What the owner tells about the name: properties, and the quotas of the oldest instance.
    pub(super) fn describe(&self) -> Option<(NameInfo, Quotas)> {
        let machine = self.machine();
        let oldest = machine.entries.keys().min()?;
        Some((machine.server.info()?, machine.server.quotas(*oldest)?))
    }
}

impl Source for Owner {
    fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    fn ready(&self, _: Readiness) {
        match socket::accept(self.listener.as_fd()) {
            Ok(Some(connection)) => {
                let owner = names().get(&self.key).map(Arc::clone);
                if let Some(owner) = owner {
                    Session::begin(owner, connection);
                }
            }
            Ok(None) => {}
            Err(errno) => {
                // No descriptors left: clients wait in the socket's queue for a moment.
                tracing::warn!(%errno, name = %self.name, "a client can't be let in yet");
                let mut machine = self.machine();
                machine.resting = Some(Instant::now() + REST);
                if let Some(token) = self.token.get() {
                    self.service.rest(*token, self.fd());
                }
                self.settle(&mut machine);
            }
        }
    }

    fn expired(&self) {
        let mut machine = self.machine();
        if let (Some(_), Some(token)) = (machine.resting.take(), self.token.get()) {
            self.service.resume(*token, self.fd());
        }
        machine.server.handle_timeout(self.epoch.elapsed());
        self.settle(&mut machine);
    }
}

impl Entry {
    fn has(&self, connection: Connection) -> bool {
        self.client
            .as_ref()
            .is_some_and(|client| client.connection == connection)
    }
}

impl ServerEnd {
    /// `ConnectNamedPipe`: waits for a client (reference 1.3).
    pub(crate) fn connect(&self, deadline: Option<Instant>) -> Result<Listen, Error> {
        self.stream.check_process()?;
        let mut machine = self.owner.machine();
        self.notice_client(&mut machine);
        let listen = machine.server.listen(self.id)?;
        if listen == Listen::Waiting && machine.server.state(self.id) == Some(EndState::Listening) {
            self.stream.detach(EndState::Listening);
        }
        self.owner.settle(&mut machine);
        let disconnects = machine.entries.get(&self.id).map(|entry| entry.disconnects);
        loop {
            let entry = machine.entries.get(&self.id);
            if entry.is_some_and(|entry| Some(entry.disconnects) != disconnects) {
                // It may listen again already, for a call that came later.
                return Err(Error::PIPE_NOT_CONNECTED);
            }
            let client = entry.and_then(|entry| entry.client.as_ref());
            let attached = client.is_some_and(|client| client.link.is_some());
            match machine.server.state(self.id) {
                None => return Err(Error::BROKEN_PIPE),
                Some(EndState::Disconnected) => return Err(Error::PIPE_NOT_CONNECTED),
                // A client that came and went while we waited did connect.
                Some(EndState::Closing) => return Ok(listen),
                Some(EndState::Connected) if attached => return Ok(listen),
                Some(EndState::Connected | EndState::Listening) => {}
            }
            machine = match deadline {
                None => self
                    .changed
                    .wait(machine)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Error::SEM_TIMEOUT);
                    }
                    let woken = self.changed.wait_timeout(machine, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// `DisconnectNamedPipe`: unread data is gone in both directions (observed 9.1).
    pub(crate) fn disconnect(&self) -> Result<(), Error> {
        self.stream.check_process()?;
        let mut machine = self.owner.machine();
        machine.server.disconnect(self.id)?;
        let entry = machine.entries.get_mut(&self.id);
        let client = entry.and_then(|entry| {
            entry.disconnects += 1;
            entry.client.take()
        });
        if let Some(link) = client.as_ref().and_then(|client| client.link.as_ref()) {
            link.disconnect();
        }
        self.stream.detach(EndState::Disconnected);
        self.changed.notify_all();
        drop(machine);
        if let Some(session) = client.and_then(|client| client.session.upgrade()) {
            session.disconnect();
        }
        Ok(())
    }

    /// Closes the end: the client reads what is there, then finds it gone.
    pub(crate) fn close(&self) {
        if !self.stream.is_ours() {
            return;
        }
        let mut names = names();
        let mut machine = self.owner.machine();
        let entry = machine.entries.remove(&self.id);
        machine.server.close(self.id);
        self.owner.settle(&mut machine);
        let claim = if machine.server.is_gone() {
            machine.claim.take()
        } else {
            None
        };
        drop(machine);
        if let Some(claim) = claim {
            names.remove(&self.owner.key);
            // First the name, then the socket: who comes in between is refused by the kernel.
            drop(claim);
            if let Some(token) = self.owner.token.get() {
                self.owner.service.forget(*token);
            }
            // Sessions may keep the socket for a while, in which nobody would answer.
            socket::stop_listening(self.owner.listener.as_fd());
        }
        drop(names);
        self.let_go(entry);
    }

    /// Closes the end and creates a listening one in its place, in one step.
    pub(crate) fn replace(&self) -> Result<Arc<Self>, Error> {
        self.stream.check_process()?;
        let mut machine = self.owner.machine();
        let id = machine.server.replace(self.id)?;
        let entry = machine.entries.remove(&self.id);
        let successor = self.owner.enter(&mut machine, id, self.stream.mode())?;
        self.owner.settle(&mut machine);
        drop(machine);
        self.let_go(entry);
        Ok(successor)
    }

    /// A further instance of the name; takes no descriptor, so that it can't fail for want of one.
    pub(crate) fn sibling(
        &self,
        options: &InstanceOptions,
        read_mode: ReadMode,
    ) -> Result<Arc<Self>, Error> {
        self.stream.check_process()?;
        self.owner.add(options, read_mode)
    }

    /// Ends the connection of an instance that the name has no more.
    fn let_go(&self, entry: Option<Entry>) {
        // After the entry has gone, so that no client can be attached any more; before the calls
        // that wait are woken, so that they find it.
        self.stream.detach(EndState::Closing);
        self.changed.notify_all();
        let Some(client) = entry.and_then(|entry| entry.client) else {
            return;
        };
        if let Some(link) = &client.link {
            link.close();
            link.wake_own();
        }
        if let Some(session) = client.session.upgrade() {
            session.close();
        }
    }

    /// The state of the instance, if it has one in this process; a client that has just closed is
    /// noticed.
    pub(crate) fn state(&self) -> Option<EndState> {
        self.stream.check_process().ok()?;
        let mut machine = self.owner.machine();
        self.notice_client(&mut machine);
        machine.server.state(self.id)
    }

    /// The client may have told in shared memory what its socket has not told yet.
    fn notice_client(&self, machine: &mut Machine) {
        let client = machine
            .entries
            .get(&self.id)
            .and_then(|entry| entry.client.as_ref());
        let Some(client) = client else { return };
        if client
            .link
            .as_ref()
            .is_some_and(|link| link.peer() == Peer::Gone)
        {
            machine.server.client_closed(client.connection);
        }
    }

    /// The name's properties and this instance's quotas.
    pub(crate) fn info(&self) -> Result<(NameInfo, Quotas), Error> {
        self.stream.check_process()?;
        let machine = self.owner.machine();
        let quotas = machine
            .server
            .quotas(self.id)
            .ok_or(Error::INVALID_HANDLE)?;
        Ok((machine.server.info().ok_or(Error::INVALID_HANDLE)?, quotas))
    }

    /// The process that opened the client end (observed 14).
    pub(crate) fn client_process_id(&self) -> Result<u32, Error> {
        self.stream.check_process()?;
        let state = self.state().ok_or(Error::INVALID_HANDLE)?;
        if let Verdict::Fail(error) = state.verdict(End::Server, Operation::ClientId) {
            return Err(error);
        }
        let machine = self.owner.machine();
        let client = machine
            .entries
            .get(&self.id)
            .and_then(|entry| entry.client.as_ref());
        client
            .map(|client| client.credentials.pid)
            .ok_or(Error::NOT_FOUND)
    }

    pub(crate) fn name(&self) -> &PipeName {
        &self.owner.name
    }
}

/// The names of this process.
fn names() -> MutexGuard<'static, HashMap<Key, Arc<Owner>>> {
    static NAMES: PerProcess<Mutex<HashMap<Key, Arc<Owner>>>> = PerProcess::new();
    lock(NAMES.get())
}

/// Why an instance of a name that another process owns can't be created; `None` if it has gone.
fn refused_by_owner(
    namespace: &Arc<Namespace>,
    name: &PipeName,
    options: &InstanceOptions,
) -> Option<Error> {
    let description = match client::query(namespace, name) {
        Ok(description) => description,
        Err(error) if error == Error::FILE_NOT_FOUND => return None,
        Err(error) => return Some(error),
    };
    if !description
        .pipe
        .max_instances
        .allows(description.pipe.instances)
    {
        return Some(Error::PIPE_BUSY);
    }
    let first = options.first == FirstInstance::Required;
    let fits = options.direction == description.pipe.direction;
    // An instance in a second process is what this version can't do yet.
    Some(if first || !fits {
        Error::ACCESS_DENIED
    } else {
        Error::NOT_SUPPORTED
    })
}
