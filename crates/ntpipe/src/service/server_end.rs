//! The server end of an instance: what its owner's state machine decides for it.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ntpipe_proto::control::{Notice, Opened};
use ntpipe_proto::lane::ring_capacity;
use ntpipe_proto::{
    End, EndState, Error, InstanceId, InstanceOptions, Listen, NameInfo, Operation, PipeName,
    Quotas, ReadMode, Verdict, WaitMode,
};

use super::lodging::Lodging;
use super::owner::{Client, Machine, Owner, Role, names, now};
use super::{Source, client};
use crate::canceller::{Blocked, Wake};
use crate::condition::Condition;
use crate::locked::MutexGuard;
use crate::parts::PipeParts;
use crate::ring::Peer;
use crate::ring::roster::Roster;
use crate::shared::{self, Holding, Kind, Party, Portrait};
use crate::stream::shared::Left;
use crate::stream::{PipeStream, Visitor, Waiters, lock};
use crate::sys::session::own_session;
use crate::sys::{bag, socket};

/// The server end of one instance.
pub(crate) struct ServerEnd {
    pub(super) id: InstanceId,
    pub(super) owner: Arc<Owner>,
    pub(crate) stream: PipeStream,
    /// A client has come, or the instance's state has changed otherwise.
    pub(super) changed: Condition,
    pub(super) lodging: Lodging,
    /// The calls that wait for a client; its lock comes after that of the name.
    pub(super) connecting: Mutex<Waiters>,
}

/// A call of [`ServerEnd::connect`].
struct Call<'a> {
    end: &'a ServerEnd,
    id: u64,
    blocked: Blocked,
    deadline: Option<Instant>,
}

impl ServerEnd {
    /// `ConnectNamedPipe`: waits for a client (reference 1.3).
    pub(crate) fn connect(
        self: &Arc<Self>,
        mode: WaitMode,
        deadline: Option<Instant>,
    ) -> Result<Listen, Error> {
        self.stream.check_process()?;
        let call = Call {
            end: self,
            id: lock(&self.connecting).enter(),
            blocked: Blocked::enter(|| Arc::clone(self)),
            deadline,
        };
        let mut machine = self.owner.machine();
        let disconnects = self.disconnects(&machine);
        // Whether a client is still there, only its memory tells.
        machine = match mode {
            WaitMode::Wait => self.await_client(machine, &call)?,
            WaitMode::NoWait => self.catch_up(machine),
        };
        self.check_still(&machine, disconnects)?;
        self.notice_client(&mut machine);
        let before = machine.server.state(self.id);
        machine.server.advance(now());
        let listen = machine.server.listen(self.id)?;
        if listen == Listen::Waiting && machine.server.state(self.id) == Some(EndState::Listening) {
            self.stream.detach(EndState::Listening);
        }
        self.owner.settle(&mut machine);
        if before == Some(EndState::Disconnected) {
            machine = self.line_up(machine);
        }
        match (mode, listen) {
            (WaitMode::Wait, _) => {}
            (WaitMode::NoWait, Listen::AlreadyConnected) => return Ok(listen),
            (WaitMode::NoWait, Listen::Waiting) => return Err(Error::PIPE_LISTENING),
        }
        let mut has_looked = false;
        loop {
            self.check_still(&machine, disconnects)?;
            match machine.server.state(self.id) {
                None => return Err(Error::BROKEN_PIPE),
                Some(EndState::Disconnected) => return Err(Error::PIPE_NOT_CONNECTED),
                // A client that came and went while we waited did connect.
                Some(EndState::Closing) => return Ok(listen),
                Some(EndState::Connected) if !self.is_arriving(&machine) => return Ok(listen),
                Some(EndState::Connected | EndState::Listening) => {}
            }
            machine = if has_looked {
                self.wait_for_change(machine, &call)?
            } else {
                has_looked = true;
                self.owner.keep_door(machine)
            };
        }
    }

    /// Lets an owner in another process know that the instance listens again.
    fn line_up<'a>(&'a self, mut machine: MutexGuard<'a, Machine>) -> MutexGuard<'a, Machine> {
        let Some(place) = machine.server.place(self.id) else {
            return machine;
        };
        let told = machine.tell(self.id, |turn| Notice::Listen {
            turn,
            instance: self.id.get(),
            place: place.get(),
        });
        self.owner.await_answer(machine, told).0
    }

    /// Waits until a client that has taken the instance has attached its memory, or has failed to.
    /// The service thread bounds how long that takes.
    fn await_client<'a>(
        &self,
        mut machine: MutexGuard<'a, Machine>,
        call: &Call<'_>,
    ) -> Result<MutexGuard<'a, Machine>, Error> {
        while self.is_arriving(&machine) {
            machine = self.wait_for_change(machine, call)?;
        }
        Ok(machine)
    }

    /// Hears what the client has said or done already, be it that the service thread has not.
    fn catch_up<'a>(&'a self, machine: MutexGuard<'a, Machine>) -> MutexGuard<'a, Machine> {
        let entry = machine.entries.get(&self.id);
        let client = entry.and_then(|entry| entry.client.as_ref());
        let Some(session) = client.and_then(|client| client.session.upgrade()) else {
            return machine;
        };
        // Which takes this lock after its own.
        drop(machine);
        session.catch_up();
        self.owner.machine()
    }

    pub(super) fn is_arriving(&self, machine: &Machine) -> bool {
        let entry = machine.entries.get(&self.id);
        let client = entry.and_then(|entry| entry.client.as_ref());
        client.is_some_and(|client| client.link.is_none())
            && machine.server.state(self.id) == Some(EndState::Connected)
    }

    /// Something has changed: calls and tasks that wait look again.
    pub(super) fn announce(&self) {
        self.changed.notify_all();
        self.stream.tasks().wake();
    }

    /// `ERROR_SEM_TIMEOUT` (121) once the deadline has passed, `ERROR_OPERATION_ABORTED` (995) when
    /// the call is cancelled.
    fn wait_for_change<'a>(
        &self,
        machine: MutexGuard<'a, Machine>,
        call: &Call<'_>,
    ) -> Result<MutexGuard<'a, Machine>, Error> {
        if lock(&self.connecting).is_cancelled(call.id) || call.blocked.is_cancelled() {
            return Err(Error::OPERATION_ABORTED);
        }
        let Some(at) = call.deadline else {
            return Ok(self.changed.wait(machine));
        };
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::SEM_TIMEOUT);
        }
        Ok(self.changed.wait_timeout(machine, left))
    }

    /// Cancels the calls that wait for a client; whether there was one.
    pub(crate) fn cancel_connects(&self) -> Result<bool, Error> {
        self.stream.check_process()?;
        // Who does not wait yet has this lock, and looks before it waits.
        let machine = self.owner.machine();
        let found = lock(&self.connecting).cancel_all();
        self.announce();
        drop(machine);
        Ok(found)
    }

    /// How often this end has disconnected; `None` once it is closed.
    pub(super) fn disconnects(&self, machine: &Machine) -> Option<u64> {
        Some(machine.entries.get(&self.id)?.disconnects)
    }

    /// An error if this end has been disconnected since, although it may listen again already for
    /// a call that came later, or has been closed.
    pub(super) fn check_still(&self, machine: &Machine, before: Option<u64>) -> Result<(), Error> {
        match self.disconnects(machine) {
            now if now == before => Ok(()),
            Some(_) => Err(Error::PIPE_NOT_CONNECTED),
            None => Err(Error::BROKEN_PIPE),
        }
    }

    /// `DisconnectNamedPipe`: unread data is gone in both directions (observed 9.1).
    pub(crate) fn disconnect(&self) -> Result<(), Error> {
        self.stream.check_process()?;
        let mut machine = self.owner.machine();
        self.notice_client(&mut machine);
        let before = machine.server.state(self.id);
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
        self.announce();
        let told = match before {
            // One that does not listen does not matter to an owner elsewhere.
            Some(EndState::Listening) => machine.tell(self.id, |turn| Notice::Rest {
                turn,
                instance: self.id.get(),
            }),
            _ => None,
        };
        drop(machine);
        if let Some(session) = client.and_then(|client| client.session.upgrade()) {
            session.disconnect();
        }
        self.owner.await_told(told);
        Ok(())
    }

    /// Closes the end: the client reads what is there, then finds it gone.
    ///
    /// While other processes hold it the instance stays taken.
    pub(crate) fn close(&self) {
        if !self.stream.is_ours() || self.lodging.has_begun() {
            return;
        }
        if self.stream.leave_end() == Left::Others && self.lodging.begin() {
            self.stream.detach(EndState::Closing);
            self.announce();
            return;
        }
        self.close_for_good();
    }

    pub(super) fn close_for_good(&self) {
        self.lodging.watches.end();
        let mut names = names();
        let mut machine = self.owner.machine();
        let entry = machine.entries.remove(&self.id);
        machine.server.close(self.id);
        self.owner.settle(&mut machine);
        let mut visitors = Vec::new();
        if machine.entries.is_empty() && matches!(machine.role, Role::Owner(_)) {
            visitors = machine.take_visitors();
            if let Role::Owner(office) = std::mem::replace(&mut machine.role, Role::Gone) {
                names.remove(&self.owner.key);
                office.leave(self.owner.service());
            }
        }
        let told = entry.as_ref().and_then(|_| {
            machine.tell(self.id, |turn| Notice::Close {
                turn,
                instance: self.id.get(),
            })
        });
        drop(machine);
        drop(names);
        // They look for the name again, and find the one who goes on with it.
        visitors.into_iter().for_each(|session| session.hang_up());
        self.let_go(entry.and_then(|entry| entry.client));
        self.owner.await_told(told);
        self.owner.retire();
    }

    /// Closes the end and creates a listening one in its place, in one step.
    ///
    /// # Errors
    /// `ERROR_PIPE_BUSY` (231): other processes hold the end.
    pub(crate) fn replace(&self) -> Result<Arc<Self>, Error> {
        self.stream.check_process()?;
        if self.stream.has_other_holders() {
            return Err(Error::PIPE_BUSY);
        }
        let mut machine = self.owner.machine();
        machine.server.advance(now());
        let id = machine.server.replace(self.id)?;
        let entry = machine.entries.remove(&self.id);
        let successor = self.owner.enter(&mut machine, id, self.stream.mode())?;
        self.owner.settle(&mut machine);
        let place = machine.server.place(id).unwrap_or_else(now);
        let told = machine.tell(id, |turn| Notice::Replace {
            turn,
            instance: self.id.get(),
            successor: id.get(),
            place: place.get(),
        });
        drop(machine);
        self.let_go(entry.and_then(|entry| entry.client));
        self.owner.await_told(told);
        Ok(successor)
    }

    /// A further instance of the name; takes no descriptor, so that it can't fail for want of one.
    pub(crate) fn sibling(
        &self,
        options: &InstanceOptions,
        read_mode: ReadMode,
    ) -> Result<Arc<Self>, Error> {
        self.stream.check_process()?;
        self.owner.add_sibling(options, read_mode)
    }

    /// Ends the connection of an instance that the name has no more.
    pub(super) fn let_go(&self, client: Option<Client>) {
        // After the entry has gone, so that no client can be attached any more; before the calls
        // that wait are woken, so that they find it.
        self.stream.detach(EndState::Closing);
        self.announce();
        let Some(client) = client else { return };
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
        let mut machine = self.catch_up(self.owner.machine());
        self.notice_client(&mut machine);
        machine.server.state(self.id)
    }

    /// The client may have told in shared memory what its socket has not told yet.
    pub(super) fn notice_client(&self, machine: &mut Machine) {
        let client = machine
            .entries
            .get(&self.id)
            .and_then(|entry| entry.client.as_ref());
        let Some(client) = client else { return };
        if let Some(link) = &client.link
            && link.roster().is_some_and(Roster::is_disconnected)
        {
            return self.notice_disconnect(machine);
        }
        if client
            .link
            .as_ref()
            .is_some_and(|link| link.peer() == Peer::Gone)
        {
            machine.server.client_closed(client.connection);
        }
    }

    /// Another holder has disconnected the instance.
    fn notice_disconnect(&self, machine: &mut Machine) {
        // It is in no other state than connected, or its client has left.
        let _ = machine.server.disconnect(self.id);
        if let Some(entry) = machine.entries.get_mut(&self.id) {
            entry.disconnects += 1;
            entry.client = None;
        }
        self.stream.detach(EndState::Disconnected);
        self.announce();
    }

    /// Parts for a further holder.
    pub(crate) fn share(self: &Arc<Self>) -> io::Result<PipeParts> {
        let (name, quotas) = self.info()?;
        let newcomer = self.stream.share()?;
        let machine = self.owner.machine();
        let entry = machine.entries.get(&self.id);
        let client = entry.and_then(|entry| entry.client.as_ref());
        let client = client.ok_or(Error::PIPE_NOT_CONNECTED)?;
        let session = client.session.upgrade();
        let session = session.ok_or(Error::PIPE_NOT_CONNECTED)?;
        let client = Party {
            pid: client.credentials.pid,
            session: client.session_id(),
        };
        let server = Party {
            pid: socket::own_pid(),
            session: own_session(),
        };
        drop(machine);
        let portrait = Portrait {
            kind: Kind::Server,
            access: self.stream.terms().access,
            client,
            server,
            pipe: Opened {
                pipe_type: name.pipe_type,
                direction: name.direction,
                instance: self.id.get(),
                max_instances: name.max_instances,
                quotas,
                inbound_ring: ring_capacity(quotas.inbound),
                outbound_ring: ring_capacity(quotas.outbound),
                server_pid: socket::own_pid(),
                spelling: self.owner.name.as_str().to_owned(),
            },
        };
        let (ours, theirs) = bag::pair()?;
        let socket = session.fd();
        let packed = shared::pack(&newcomer, portrait, socket, Some(theirs.as_fd()));
        drop(theirs);
        let (bag, lifeline) = packed?;
        self.lodging.add(ours, Arc::downgrade(self))?;
        let end: Arc<dyn Holding> = Arc::<Self>::clone(self);
        let end = Arc::downgrade(&end);
        self.lodging
            .watches
            .add_lifeline(lifeline, newcomer.id, end)?;
        PipeParts::new(bag)
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

    /// How many instances the name has, in all processes.
    pub(crate) fn instances(&self) -> Result<u32, Error> {
        let own = self.info()?.0.instances;
        if matches!(self.owner.machine().role, Role::Owner(_)) {
            return Ok(own);
        }
        match client::query(&self.owner.namespace, &self.owner.name) {
            Ok(info) => Ok(info.pipe.instances),
            // The directory has been removed, say.
            Err(error) if error == Error::FILE_NOT_FOUND => Ok(own),
            Err(error) => Err(error),
        }
    }

    /// The process that opened the client end, and its session then (observed 14).
    pub(crate) fn client_ids(&self) -> Result<(u32, u32), Error> {
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
            .map(|client| (client.credentials.pid, client.session_id()))
            .ok_or(Error::NOT_FOUND)
    }

    pub(crate) fn name(&self) -> &PipeName {
        &self.owner.name
    }
}

impl Holding for ServerEnd {
    fn stream(&self) -> &PipeStream {
        &self.stream
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        lock(&self.end.connecting).leave(self.id);
    }
}

impl Wake for ServerEnd {
    fn wake(&self) {
        // Who does not wait yet has this lock, and looks before it waits.
        let machine = self.owner.machine();
        self.announce();
        drop(machine);
    }
}
