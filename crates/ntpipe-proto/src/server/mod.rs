//! One pipe name in its owner: its instances, its limits, and who waits for an instance.

use core::time::Duration;

use crate::instance::{EndState, Instance, Ticket};
use crate::{Access, Error, Status, WaitTimeout};

mod name;
use name::{Name, Slot, count};

mod several;

mod options;
pub use options::{FirstInstance, InstanceOptions, NameInfo, Quotas};

mod waiters;
pub use waiters::WaiterId;
use waiters::Waiters;

/// The state machine of one pipe name.
///
/// It does no I/O and knows no clock; times are the time since any one moment that the caller
/// chose. Its methods fall into five groups:
///
/// - commands of server ends: [`create`](Self::create), [`listen`](Self::listen),
///   [`disconnect`](Self::disconnect), [`replace`](Self::replace), [`close`](Self::close);
/// - requests and events of clients: [`open`](Self::open), [`wait`](Self::wait),
///   [`cancel_wait`](Self::cancel_wait), [`client_closed`](Self::client_closed),
///   [`give_back`](Self::give_back);
/// - the driving of waits: [`poll_woken`](Self::poll_woken),
///   [`poll_timeout`](Self::poll_timeout), [`handle_timeout`](Self::handle_timeout);
/// - what a name in several processes needs: [`advance`](Self::advance), [`reserve`](Self::reserve),
///   [`adopt`](Self::adopt), [`line_up`](Self::line_up), [`stand_aside`](Self::stand_aside),
///   [`take`](Self::take);
/// - getters: [`is_gone`](Self::is_gone), [`info`](Self::info), [`state`](Self::state) and what
///   follows it.
///
/// After any call that may wake a waiter call `poll_woken` until it returns `None`, then
/// `poll_timeout` for the moment at which to call `handle_timeout`; and drain `poll_woken` after
/// that too. A call that fails changes nothing.
///
/// The name exists while it has an instance (reference 2.2). When its last server end closes all
/// its properties go with it, and the next `create` starts anew (observed 1.25).
#[derive(Debug)]
pub struct Server {
    name: Option<Name>,
    waiters: Waiters,
    next_instance: InstanceId,
    next_ticket: Ticket,
}

impl Server {
    /// A name that nobody has created yet.
    pub const fn new() -> Self {
        Self {
            name: None,
            waiters: Waiters::new(),
            next_instance: InstanceId(0),
            next_ticket: Ticket::FIRST,
        }
    }

    /// Creates an instance, which listens at once and wakes those that wait for one.
    ///
    /// The first instance decides direction, type, maximum and default timeout; of later ones
    /// only the direction has to agree and the quotas are used (observed 1.11, 1.12). Whether the
    /// instance was the first is what [`Server::is_gone`] said before.
    ///
    /// # Errors
    ///
    /// In this order (reference 1.2): `ERROR_PIPE_BUSY` (231) if the name has as many instances
    /// as it may have, `ERROR_ACCESS_DENIED` (5) if this was to be the first instance and is not,
    /// or if its direction is another.
    #[doc(alias = "CreateNamedPipe")]
    pub fn create(&mut self, options: &InstanceOptions) -> Result<InstanceId, Error> {
        if let Some(name) = &self.name {
            name.admit(options)?;
        }
        let (id, ticket) = (self.take_instance(), self.take_ticket());
        self.name
            .get_or_insert_with(|| Name::new(options))
            .insert(id, ticket, options.quotas);
        self.wake();
        Ok(id)
    }

    /// The server end asks for a client.
    ///
    /// A disconnected instance begins to listen, behind those that listen already (observed 3.10,
    /// 4.7), and wakes those that wait for one.
    ///
    /// # Errors
    ///
    /// `ERROR_NO_DATA` (232) if the client is gone and was not disconnected (observed 4.6);
    /// `ERROR_INVALID_HANDLE` (6) if there is no such instance.
    #[doc(alias = "ConnectNamedPipe")]
    pub fn listen(&mut self, id: InstanceId) -> Result<Listen, Error> {
        let ticket = self.take_ticket();
        let (name, instance) = self.find(id)?;
        let after = instance.listen(ticket)?;
        name.set(id, after);
        self.wake();
        match after {
            Instance::Connected { .. } => Ok(Listen::AlreadyConnected),
            Instance::Listening { .. } | Instance::Closing { .. } | Instance::Disconnected => {
                Ok(Listen::Waiting)
            }
        }
    }

    /// The server end lets go of its client, or stops listening.
    ///
    /// The instance still counts, and cannot be opened until it listens again (observed 3.5).
    ///
    /// # Errors
    ///
    /// `ERROR_PIPE_NOT_CONNECTED` (233) if it has done so already (observed 9.3);
    /// `ERROR_INVALID_HANDLE` (6) if there is no such instance.
    #[doc(alias = "DisconnectNamedPipe")]
    pub fn disconnect(&mut self, id: InstanceId) -> Result<(), Error> {
        let (name, instance) = self.find(id)?;
        name.set(id, instance.disconnect()?);
        Ok(())
    }

    /// Closes an instance and creates one like it, in one step.
    ///
    /// So the name does not vanish between the two, and a listener whose maximum is 1 can go on.
    /// The successor has the same quotas, listens behind all others, and wakes those that wait.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_HANDLE` (6) if there is no such instance.
    pub fn replace(&mut self, id: InstanceId) -> Result<InstanceId, Error> {
        let (successor, ticket) = (self.take_instance(), self.take_ticket());
        let (name, _) = self.find(id)?;
        if let Some(quotas) = name.remove(id) {
            name.insert(successor, ticket, quotas);
        }
        self.wake();
        Ok(successor)
    }

    /// The last handle of the server end is closed.
    ///
    /// If it was the last instance the name is gone, and those that wait for it are told
    /// `ERROR_FILE_NOT_FOUND` (2) (observed 1.25, 12.7). An unknown instance is ignored.
    pub fn close(&mut self, id: InstanceId) {
        if let Some(name) = &mut self.name {
            name.remove(id);
        }
        self.name.take_if(|name| name.instances.is_empty());
        self.wake();
    }

    /// A client opens the pipe: takes the instance that has been listening for longest.
    ///
    /// An open without any right takes an instance too (reference 1.6).
    ///
    /// # Errors
    ///
    /// In this order (reference 1.6): `ERROR_FILE_NOT_FOUND` (2) if the name has no instance,
    /// `ERROR_ACCESS_DENIED` (5) if the client would read from an inbound pipe or write to an
    /// outbound one, `ERROR_PIPE_BUSY` (231) if no instance listens.
    #[doc(alias = "CreateFile")]
    pub fn open(&mut self, access: Access) -> Result<Connection, Error> {
        let name = self.name.as_mut().ok_or(NOT_FOUND)?;
        // Between the two comes the access check against the name's security descriptor.
        if !access.fits_client(name.direction) {
            return Err(Status::ACCESS_DENIED.error());
        }
        let (&ticket, &instance) = name.line.first_key_value().ok_or(NOT_AVAILABLE)?;
        let slot = name.instances.get(&instance).ok_or(NOT_AVAILABLE)?;
        let connected = slot.instance.open(access)?;
        name.set(instance, connected);
        Ok(Connection { instance, ticket })
    }

    /// A client's end is closed, be it that the client vanished before it had finished opening.
    ///
    /// Its instance is closing until the server end disconnects or closes it (observed 9.21). A
    /// client that was let go of before is ignored.
    pub fn client_closed(&mut self, connection: Connection) {
        if let Ok((name, instance)) = self.find(connection.instance) {
            name.set(
                connection.instance,
                instance.client_closed(connection.ticket),
            );
        }
    }

    /// A client's open goes wrong after all, through no fault of the client: its instance listens
    /// again, in the place that it had, and those that wait are told.
    ///
    /// A client that was let go of before is ignored.
    pub fn give_back(&mut self, connection: Connection) {
        if let Ok((name, instance)) = self.find(connection.instance)
            && instance.give_back(connection.ticket) != instance
        {
            // Another may have lined up at the very place meanwhile.
            let ticket = name.free_place(connection.ticket);
            name.set(connection.instance, Instance::Listening { ticket });
        }
        self.wake();
    }

    /// A client wants to know when an instance listens; [`Server::poll_woken`] has the answer.
    ///
    /// The answer is success once an instance listens, which may be at once, and reserves nothing
    /// (observed 12.2, 12.4, 12.5); `ERROR_FILE_NOT_FOUND` (2) if there is no such name, at once
    /// (observed 12.1) or from the moment on at which it goes; `ERROR_SEM_TIMEOUT` (121) if the
    /// time is up (observed 12.3); `ERROR_NO_SYSTEM_RESOURCES` (1450) if [`Server::MAX_WAITERS`]
    /// wait already. A waiter that waits again before it had its answer gets one answer, by the
    /// new timeout.
    #[doc(alias = "WaitNamedPipe")]
    pub fn wait(&mut self, waiter: WaiterId, timeout: WaitTimeout, now: Duration) {
        self.waiters.cancel(waiter);
        match &self.name {
            None => self.waiters.answer(waiter, Err(NOT_FOUND)),
            Some(name) if !name.line.is_empty() => self.waiters.answer(waiter, Ok(())),
            Some(name) => {
                let time = timeout.duration(name.default_timeout);
                let deadline = time.and_then(|time| now.checked_add(time));
                self.waiters.insert(waiter, deadline);
            }
        }
    }

    /// A client does not wait any more, or is gone: it gets no answer from now on.
    pub fn cancel_wait(&mut self, waiter: WaiterId) {
        self.waiters.cancel(waiter);
    }

    /// The next waiter that has its answer; each gets exactly one.
    pub fn poll_woken(&mut self) -> Option<(WaiterId, Result<(), Error>)> {
        self.waiters.poll()
    }

    /// When to call [`Server::handle_timeout`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.waiters.first_deadline()
    }

    /// It is `now`: the waits whose time is up end with `ERROR_SEM_TIMEOUT` (121).
    pub fn handle_timeout(&mut self, now: Duration) {
        self.waiters.expire(now);
    }

    /// Whether the name has no instance, and so does not exist.
    pub const fn is_gone(&self) -> bool {
        self.name.is_none()
    }

    /// The properties of the name, if it exists.
    #[doc(alias = "GetNamedPipeInfo")]
    pub fn info(&self) -> Option<NameInfo> {
        self.name.as_ref().map(|name| NameInfo {
            pipe_type: name.pipe_type,
            direction: name.direction,
            max_instances: name.max_instances,
            instances: count(name.instances.len()),
            listening: count(name.line.len()),
            default_timeout: name.default_timeout,
        })
    }

    /// The state of an instance, if there is such an instance.
    pub fn state(&self, id: InstanceId) -> Option<EndState> {
        self.slot(id).map(|slot| slot.instance.state())
    }

    /// What the client of an instance is granted, until the server end lets go of it.
    pub fn client_access(&self, id: InstanceId) -> Option<Access> {
        self.slot(id)?.instance.client_access()
    }

    /// The quotas of an instance, if there is such an instance.
    pub fn quotas(&self, id: InstanceId) -> Option<Quotas> {
        self.slot(id).map(|slot| slot.quotas)
    }

    /// How many can wait at a time.
    pub const MAX_WAITERS: usize = waiters::MAX_WAITERS;

    /// Tells the waiters what has become of the name.
    ///
    /// All of them: who comes first to open it is up to them (observed 12.9). While one waits no
    /// instance listens.
    fn wake(&mut self) {
        match &self.name {
            None => self.waiters.answer_all(Err(NOT_FOUND)),
            Some(name) if !name.line.is_empty() => self.waiters.answer_all(Ok(())),
            Some(_) => {}
        }
    }

    fn find(&mut self, id: InstanceId) -> Result<(&mut Name, Instance), Error> {
        let name = self.name.as_mut().ok_or(Error::INVALID_HANDLE)?;
        let slot = name.instances.get(&id).ok_or(Error::INVALID_HANDLE)?;
        let instance = slot.instance;
        Ok((name, instance))
    }

    fn slot(&self, id: InstanceId) -> Option<&Slot> {
        self.name.as_ref()?.instances.get(&id)
    }

    const fn take_instance(&mut self) -> InstanceId {
        let id = self.next_instance;
        self.next_instance = InstanceId(id.0.wrapping_add(1));
        id
    }

    const fn take_ticket(&mut self) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.next();
        ticket
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

/// An instance of one [`Server`]; no two ever have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(u64);

impl InstanceId {
    /// The number, which grows from one instance to the next.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The instance that has this number, if any has.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// One client's stay on an instance; tells it from those before and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Connection {
    instance: InstanceId,
    ticket: Ticket,
}

impl Connection {
    /// The instance that the client took.
    pub const fn instance(self) -> InstanceId {
        self.instance
    }

    /// The instance's place in line at which the client found it.
    pub const fn place(self) -> Ticket {
        self.ticket
    }
}

/// What came of asking for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listen {
    /// The instance listens; a client will come with [`Server::open`].
    Waiting,
    /// It has a client, `ERROR_PIPE_CONNECTED` (535) to a Windows program (observed 4.5).
    AlreadyConnected,
}

const NOT_FOUND: Error = Status::OBJECT_NAME_NOT_FOUND.error();
const NOT_AVAILABLE: Error = Status::PIPE_NOT_AVAILABLE.error();

#[cfg(test)]
mod tests;

#[cfg(test)]
mod random;
