//! The names that this process owns.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant};

use ntpipe_proto::control::Reply;
use ntpipe_proto::{
    Access, Connection, End, EndState, Error, FirstInstance, InstanceId, InstanceOptions, NameInfo,
    PipeName, Quotas, ReadMode, Server, WaitTimeout, WaiterId,
};

use super::client;
use super::lodging::Lodging;
use super::namespace::{Claim, Claimed, DirId, Namespace};
use super::server_end::ServerEnd;
use super::session::Session;
use super::{Interest, Readiness, Service, Source, Token};
use crate::ring::Link;
use crate::stream::{PipeStream, Terms, lock};
use crate::sys::fork::PerProcess;
use crate::sys::session::session_of;
use crate::sys::socket::{self, Credentials};

/// A name of this process, and the state machine that decides everything about it.
pub(crate) struct Owner {
    pub(super) name: PipeName,
    pub(super) key: Key,
    pub(super) listener: OwnedFd,
    pub(super) token: OnceLock<Token>,
    pub(super) service: Arc<Service>,
    pub(super) machine: Mutex<Machine>,
    /// Clients that may be sent away: neither connected nor waiting for an instance.
    pub(super) strangers: AtomicUsize,
    /// The moment from which the state machine's times are counted.
    pub(super) epoch: Instant,
}

/// What is decided under one lock.
pub(super) struct Machine {
    pub(super) server: Server,
    pub(super) entries: HashMap<InstanceId, Entry>,
    pub(super) waiting: HashMap<WaiterId, Weak<Session>>,
    /// Gone once the name is.
    pub(super) claim: Option<Claim>,
    /// When the listening socket is looked at again, if it rests.
    pub(super) resting: Option<Instant>,
}

pub(super) struct Entry {
    pub(super) end: Arc<ServerEnd>,
    pub(super) client: Option<Client>,
    /// How often the server end has disconnected.
    pub(super) disconnects: u64,
}

/// The client that an instance has, or had until it is disconnected.
pub(super) struct Client {
    pub(super) connection: Connection,
    pub(super) credentials: Credentials,
    /// The client's session when it opened the pipe, as the kernel counts them.
    pub(super) session_id: u32,
    pub(super) session: Weak<Session>,
    /// Missing until the client has attached its memory.
    pub(super) link: Option<Arc<Link>>,
}

/// What the server did before its client had come to attach its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooLate {
    Closed,
    Disconnected,
}

/// Where a name is: the directory and the folded name.
pub(super) type Key = (DirId, String);

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

    pub(super) fn add(
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
    pub(super) fn enter(
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
            direction: info.direction,
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
            lodging: Lodging::default(),
            connecting: Mutex::default(),
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
    pub(super) fn settle(&self, machine: &mut Machine) {
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
        let session_id = session_of(session.credentials().pid);
        let mut machine = self.machine();
        let connection = machine.server.open(access)?;
        let id = connection.instance();
        let info = machine.server.info().ok_or(Error::FILE_NOT_FOUND)?;
        let quotas = machine.server.quotas(id).ok_or(Error::FILE_NOT_FOUND)?;
        if let Some(entry) = machine.entries.get_mut(&id) {
            let weak = Arc::downgrade(session);
            let credentials = session.credentials();
            entry.end.stream.expect_client();
            entry.client = Some(Client {
                connection,
                credentials,
                session_id,
                session: weak,
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
            entry.end.stream.detach(EndState::Listening);
            entry.end.changed.notify_all();
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
    pub(super) fn has(&self, connection: Connection) -> bool {
        self.client
            .as_ref()
            .is_some_and(|client| client.connection == connection)
    }
}

/// The names of this process.
pub(super) fn names() -> MutexGuard<'static, HashMap<Key, Arc<Owner>>> {
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
