//! The names that this process serves, as their owner or as one of several processes.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

use ntpipe_proto::control::{Notice, Reply};
use ntpipe_proto::{
    Access, Connection, End, EndState, Error, InstanceId, InstanceOptions, NameInfo, PipeName,
    Quotas, ReadMode, Server, Ticket, WaitTimeout, WaiterId,
};
use rustix::time::{ClockId, clock_gettime};

use super::Service;
use super::grace::Grace;
use super::heirs::PAUSE;
use super::lodging::Lodging;
use super::member::{Membership, Outcome};
use super::namespace::{Claim, Claimed, DirId, Namespace};
use super::office::{Handing, Members, Office};
use super::server_end::ServerEnd;
use super::session::Session;
use crate::condition::Condition;
use crate::locked::MutexGuard;
use crate::ring::Link;
use crate::stream::{PipeStream, Terms, Visitor, lock};
use crate::sys::fork::PerProcess;
use crate::sys::session::session_of;
use crate::sys::socket::Credentials;

/// A name of which this process has instances, and the state machine for them.
///
/// In the owner it is the one that decides everything about the name. In another process it has
/// that process' instances alone, and follows what the owner decides; should this process become
/// the owner, it goes on from there.
pub(crate) struct Owner {
    pub(super) name: PipeName,
    pub(super) key: Key,
    pub(super) namespace: Arc<Namespace>,
    service: Arc<Service>,
    machine: Mutex<Machine>,
    /// The owner has answered, or this process' role has changed.
    pub(super) answered: Condvar,
    /// Clients that may be sent away: neither connected nor waiting for an instance.
    pub(super) strangers: AtomicUsize,
    /// The moment from which the state machine's times are counted.
    epoch: Instant,
}

/// What is decided under one lock.
pub(super) struct Machine {
    pub(super) server: Server,
    /// The instances of this process.
    pub(super) entries: HashMap<InstanceId, Entry>,
    pub(super) waiting: HashMap<WaiterId, Weak<Session>>,
    pub(super) role: Role,
    /// Those who have the other instances.
    pub(super) members: Members,
    /// What waits for those who have not said yet what they have.
    pub(super) grace: Grace,
    /// When the listening socket is looked at again, if it rests.
    pub(super) resting: Option<Instant>,
}

/// What this process is for the name.
pub(super) enum Role {
    Owner(Office),
    Member(Membership),
    /// Nothing any more: the name has gone, or another process goes on with it.
    Gone,
}

pub(super) struct Entry {
    pub(super) end: Arc<ServerEnd>,
    pub(super) client: Option<Client>,
    /// How often the server end has disconnected.
    pub(super) disconnects: u64,
    /// The last that another owner was told of it.
    pub(super) turn: u64,
}

/// The client that an instance has, or had until it is disconnected.
pub(super) struct Client {
    pub(super) connection: Connection,
    pub(super) credentials: Credentials,
    /// The client's session when it opened the pipe, as the kernel counts them. Looked up once the
    /// client has its answer, for which it would have to wait otherwise.
    session_id: Option<u32>,
    pub(super) session: Weak<Session>,
    /// Missing until the client has attached its memory.
    pub(super) link: Option<Arc<Link>>,
}

/// What came of a client's open.
pub(super) enum Opening {
    Here(Connection, NameInfo, Quotas),
    /// The client is another process' from here on.
    HandedOver,
    /// It is answered later.
    Held,
    /// Who owned the name does not any more: the client has to look for it again.
    Elsewhere,
}

/// What the server did before its client had come to attach its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooLate {
    Closed,
    Disconnected,
}

/// Where a name is: the directory and the folded name.
pub(super) type Key = (DirId, String);

/// Why a process can't have a further instance.
enum Unable {
    Refused(Error),
    /// It serves the name no more.
    Gone,
}

/// How long it is tried to create an instance while owners go and follow each other.
const PATIENCE: Duration = Duration::from_secs(5);

impl Owner {
    /// `CreateNamedPipe`: a new instance of `name`, which this process owns from then on, or another
    /// one does already.
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
        let begun = Instant::now();
        loop {
            let mut names = names();
            if let Some(owner) = names.get(&key).map(Arc::clone) {
                // What an owner elsewhere answers, nobody waits for under this lock.
                drop(names);
                match owner.add(options, read_mode) {
                    Ok(end) => return Ok(end),
                    Err(Unable::Refused(error)) => return Err(error.into()),
                    Err(Unable::Gone) => {}
                }
            } else {
                match namespace.claim(name)? {
                    Claimed::Ours(claim) => {
                        let owner = Self::begin(name, &namespace, &key, claim)?;
                        let end = owner.create_first(options, read_mode)?;
                        names.insert(key, owner);
                        return Ok(end);
                    }
                    Claimed::Taken | Claimed::Inherited | Claimed::Foreign => drop(names),
                }
                if let Some(end) = Self::join(name, &namespace, &key, options, read_mode)? {
                    return Ok(end);
                }
            }
            if begun.elapsed() >= PATIENCE {
                return Err(Error::PIPE_BUSY.into());
            }
            // Its owner is going, or someone is just looking whether it has gone.
            std::thread::park_timeout(PAUSE);
        }
    }

    pub(super) fn new(
        name: &PipeName,
        namespace: &Arc<Namespace>,
        key: &Key,
    ) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self {
            name: name.clone(),
            key: key.clone(),
            namespace: Arc::clone(namespace),
            service: Service::get()?,
            machine: Mutex::new(Machine {
                server: Server::new(),
                entries: HashMap::new(),
                waiting: HashMap::new(),
                role: Role::Gone,
                members: Members::default(),
                grace: Grace::default(),
                resting: None,
            }),
            answered: Condvar::new(),
            strangers: AtomicUsize::new(0),
            epoch: Instant::now(),
        }))
    }

    fn begin(
        name: &PipeName,
        namespace: &Arc<Namespace>,
        key: &Key,
        claim: Claim,
    ) -> io::Result<Arc<Self>> {
        let owner = Self::new(name, namespace, key)?;
        let office = Office::open(&owner, claim)?;
        owner.machine().role = Role::Owner(office);
        Ok(owner)
    }

    fn create_first(
        self: &Arc<Self>,
        options: &InstanceOptions,
        read_mode: ReadMode,
    ) -> Result<Arc<ServerEnd>, Error> {
        let mut machine = self.machine();
        self.create_here(&mut machine, options, read_mode)
    }

    fn create_here(
        self: &Arc<Self>,
        machine: &mut Machine,
        options: &InstanceOptions,
        read_mode: ReadMode,
    ) -> Result<Arc<ServerEnd>, Error> {
        machine.server.advance(now());
        let id = machine.server.create(options)?;
        let end = self.enter(machine, id, read_mode)?;
        self.settle(machine);
        Ok(end)
    }

    fn add(
        self: &Arc<Self>,
        options: &InstanceOptions,
        read_mode: ReadMode,
    ) -> Result<Arc<ServerEnd>, Unable> {
        let deadline = Instant::now() + PATIENCE;
        let mut machine = self.machine();
        loop {
            match &machine.role {
                Role::Gone => return Err(Unable::Gone),
                Role::Owner(_) => {
                    let created = self.create_here(&mut machine, options, read_mode);
                    return created.map_err(Unable::Refused);
                }
                // A waker that creates instances: the answer would never be heard.
                Role::Member(_) if self.service().is_this_thread() => {
                    return Err(Unable::Refused(Error::SEM_TIMEOUT));
                }
                Role::Member(_) => {}
            }
            let (after, outcome) = self.ask_for_instance(machine, options, read_mode);
            machine = after;
            let refused = match outcome {
                Some(Outcome::Admitted(end)) => return Ok(end),
                Some(Outcome::Failed(error)) => Some(Unable::Refused(error)),
                // There is nobody to become the owner, if not somebody elsewhere.
                Some(Outcome::Anew) if machine.entries.is_empty() => Some(Unable::Gone),
                Some(Outcome::Anew | Outcome::Done) if Instant::now() < deadline => None,
                Some(Outcome::Anew | Outcome::Done) | None => {
                    Some(Unable::Refused(Error::SEM_TIMEOUT))
                }
            };
            if let Some(refused) = refused {
                drop(machine);
                self.retire();
                return Err(refused);
            }
            machine = machine.wait_timeout(&self.answered, PAUSE);
        }
    }

    /// A further instance; takes no descriptor, so that it can't fail for want of one.
    pub(super) fn add_sibling(
        self: &Arc<Self>,
        options: &InstanceOptions,
        read_mode: ReadMode,
    ) -> Result<Arc<ServerEnd>, Error> {
        self.add(options, read_mode).map_err(|unable| match unable {
            Unable::Refused(error) => error,
            // Someone else may have the name by now.
            Unable::Gone => Error::INVALID_HANDLE,
        })
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
            changed: Condition::default(),
            lodging: Lodging::default(),
            connecting: Mutex::default(),
        });
        machine.entries.insert(
            id,
            Entry {
                end: Arc::clone(&end),
                client: None,
                disconnects: 0,
                turn: 0,
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
        if let Role::Owner(office) = &machine.role {
            let timeout = machine.server.poll_timeout();
            let timeout = timeout.and_then(|at| self.epoch.checked_add(at));
            let listening = machine.server.info().map_or(0, |info| info.listening);
            let held = machine.grace.next(listening);
            let next = timeout.into_iter().chain(machine.resting).chain(held).min();
            self.service.set_timer(office.token, next);
        }
    }

    /// A client opens the pipe (reference 1.6).
    pub(super) fn open(
        &self,
        session: &Arc<Session>,
        access: Access,
        qos: u32,
    ) -> Result<Opening, Error> {
        let mut machine = self.machine();
        if !matches!(machine.role, Role::Owner(_)) {
            return Ok(Opening::Elsewhere);
        }
        let mut passed_over = Vec::new();
        let opening = loop {
            let connection = match machine.server.open(access) {
                Ok(connection) => connection,
                Err(error) => break Err(error),
            };
            match machine.hand_over(connection.instance(), session.socket(), access, qos) {
                Handing::Own => break arrive(&mut machine, connection, session),
                Handing::Done => break Ok(Opening::HandedOver),
                Handing::Stuck => passed_over.push(connection),
                Handing::Gone => {}
            }
        };
        // Who has not been told of everything may be wrong about what is busy.
        let opening = match opening {
            Err(error) if error == Error::PIPE_BUSY && passed_over.is_empty() => {
                let is_held = machine.grace.hold(session, access, qos);
                if is_held {
                    Ok(Opening::Held)
                } else {
                    Err(error)
                }
            }
            other => other,
        };
        for connection in passed_over {
            machine.server.give_back(connection);
        }
        self.settle(&mut machine);
        opening
    }

    /// A client opens the instance of this process that the owner of the name has given it.
    pub(super) fn open_handed_over(
        &self,
        session: &Arc<Session>,
        id: InstanceId,
        access: Access,
    ) -> Result<Opening, Error> {
        let mut machine = self.machine();
        let connection = machine.server.take(id, access)?;
        arrive(&mut machine, connection, session)
    }

    /// The client's memory is there: from now on the server end can use the connection.
    pub(super) fn attach(
        &self,
        connection: Connection,
        credentials: Credentials,
        link: &Arc<Link>,
    ) -> Result<(), TooLate> {
        let session_id = session_of(credentials.pid);
        let mut machine = self.machine();
        let entry = machine.entries.get_mut(&connection.instance());
        let entry = entry.ok_or(TooLate::Closed)?;
        let client = entry.client.as_mut();
        let client = client
            .filter(|client| client.connection == connection)
            .ok_or(TooLate::Disconnected)?;
        client.session_id = Some(session_id);
        client.link = Some(Arc::clone(link));
        entry.end.stream.attach(link);
        entry.end.announce();
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
            entry.end.announce();
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
            entry.end.announce();
        }
        let (instance, place) = (connection.instance(), connection.place());
        machine.mention(instance, |turn| Notice::Listen {
            turn,
            instance: instance.get(),
            place: place.get(),
        });
        self.settle(&mut machine);
    }

    /// A client waits for an instance (reference 1.5); `false` if it has to look for the name again.
    pub(super) fn wait(
        &self,
        waiter: WaiterId,
        session: &Arc<Session>,
        timeout: WaitTimeout,
    ) -> bool {
        let mut machine = self.machine();
        if !matches!(machine.role, Role::Owner(_)) {
            return false;
        }
        machine.waiting.insert(waiter, Arc::downgrade(session));
        machine.server.wait(waiter, timeout, self.epoch.elapsed());
        self.settle(&mut machine);
        true
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

    /// The timer that [`settle`](Self::settle) has set.
    pub(super) fn expired(&self) {
        let mut machine = self.machine();
        if let (Some(_), Role::Owner(office)) = (machine.resting.take(), &machine.role) {
            office.resume(&self.service);
        }
        machine.server.handle_timeout(self.epoch.elapsed());
        drop(machine);
        self.open_held();
        let mut machine = self.machine();
        self.settle(&mut machine);
    }
}

/// A client has an instance of this process.
fn arrive(
    machine: &mut Machine,
    connection: Connection,
    session: &Arc<Session>,
) -> Result<Opening, Error> {
    let id = connection.instance();
    let info = machine.server.info().ok_or(Error::FILE_NOT_FOUND)?;
    let quotas = machine.server.quotas(id).ok_or(Error::FILE_NOT_FOUND)?;
    if let Some(entry) = machine.entries.get_mut(&id) {
        let visitor: Arc<dyn Visitor> = Arc::<Session>::clone(session);
        entry.end.stream.expect_client(Arc::downgrade(&visitor));
        entry.client = Some(Client {
            connection,
            credentials: session.credentials(),
            session_id: None,
            session: Arc::downgrade(session),
            link: None,
        });
    }
    Ok(Opening::Here(connection, info, quotas))
}

impl Client {
    /// The session that the client was in when it opened the pipe.
    pub(super) fn session_id(&self) -> u32 {
        let known = self.session_id;
        known.unwrap_or_else(|| session_of(self.credentials.pid))
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

/// Now, as all processes see it: what places in line are made of.
pub(super) fn now() -> Ticket {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    let nanos = seconds.unwrap_or(0).saturating_mul(1_000_000_000) + nanos.unwrap_or(0);
    Ticket::from_number(nanos)
}
