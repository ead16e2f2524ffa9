//! The owner's part: the socket of the name, and the instances that other processes have of it.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use ntpipe_proto::control::{Answer, Notice};
use ntpipe_proto::{Access, Error, InstanceId, Ticket};
use rustix::io::Errno;

use super::namespace::Claim;
use super::owner::{Machine, Owner, Role, now};
use super::session::Session;
use super::{Interest, Readiness, Service, Source, Token};
use crate::sys::socket;

/// What makes a process the owner of a name.
pub(super) struct Office {
    /// Gone once the name is.
    pub(super) claim: Claim,
    pub(super) door: Arc<Door>,
    /// The door's, and that of all timers.
    pub(super) token: Token,
}

/// The socket on which the owner answers.
pub(super) struct Door {
    owner: Weak<Owner>,
    listener: OwnedFd,
    /// Had by the thread that looks for the next client, instead of the service thread.
    pub(super) keeper: Mutex<()>,
}

/// The other processes that have instances of the name.
#[derive(Default)]
pub(super) struct Members {
    members: HashMap<u64, Member>,
    /// Whose instance it is, and its number there.
    homes: HashMap<InstanceId, (u64, u64)>,
}

struct Member {
    session: Weak<Session>,
    /// Its instances by their number there, each with the last notice about it.
    instances: HashMap<u64, (InstanceId, u64)>,
    /// Since when it has not taken its clients.
    stuck: Option<Instant>,
}

/// What came of handing a client over.
pub(super) enum Handing {
    /// The instance is in this process.
    Own,
    /// The client is on its way to the process that has the instance.
    Done,
    /// That process has not taken the last ones yet.
    Stuck,
    /// That process is gone, and its instances with it.
    Gone,
}

/// How long a listening socket rests when there are no descriptors left for its connections.
const REST: Duration = Duration::from_millis(50);
/// How many other processes can have instances of a name.
const MAX_MEMBERS: usize = 1024;
/// How many instances of a name other processes can have.
const MAX_GUESTS: usize = 65536;
/// How long a member may take no client before it is given up.
const PATIENCE: Duration = Duration::from_secs(5);

impl Office {
    /// Opens the door of a name that has been claimed.
    pub(super) fn open(owner: &Arc<Owner>, claim: Claim) -> std::io::Result<Self> {
        let listener = claim.listen()?;
        let door = Arc::new(Door {
            owner: Arc::downgrade(owner),
            listener,
            keeper: Mutex::default(),
        });
        let watched = owner
            .service()
            .watch(Arc::<Door>::clone(&door), Interest::All);
        Ok(Self {
            claim,
            door,
            token: watched?,
        })
    }

    /// Lets go of the name, whether it dies or another process goes on with it.
    pub(super) fn leave(self, service: &Service) {
        // First the name, then the socket: who comes in between is refused by the kernel.
        drop(self.claim);
        service.forget(self.token);
        // Sessions may keep the socket for a while, in which nobody would answer.
        socket::stop_listening(self.door.listener.as_fd());
    }

    /// Looks at the listening socket again, after it has rested.
    pub(super) fn resume(&self, service: &Service) {
        service.resume(self.token, self.door.fd());
    }
}

impl Source for Door {
    fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    fn ready(&self, _: Readiness) {
        self.let_in(Session::begin);
    }

    fn expired(&self) {
        if let Some(owner) = self.owner.upgrade() {
            owner.expired();
        }
    }
}

impl Door {
    /// Lets one client in that has knocked.
    pub(super) fn let_in(&self, begin: impl FnOnce(Arc<Owner>, OwnedFd)) {
        let Some(owner) = self.owner.upgrade() else {
            return;
        };
        match socket::accept(self.listener.as_fd()) {
            Ok(Some(connection)) => begin(owner, connection),
            // Or the name has gone meanwhile.
            Ok(None) | Err(Errno::INVAL) => {}
            Err(errno) => {
                // No descriptors left: clients wait in the socket's queue for a moment.
                tracing::warn!(%errno, name = %owner.name, "a client can't be let in yet");
                let mut machine = owner.machine();
                machine.resting = Some(Instant::now() + REST);
                if let Role::Owner(office) = &machine.role {
                    owner.service().rest(office.token, self.fd());
                }
                owner.settle(&mut machine);
            }
        }
    }
}

impl Owner {
    /// Does what another process says of its instances; `None` if this one is not the owner.
    pub(super) fn heed(
        &self,
        member: u64,
        session: &Weak<Session>,
        notice: Notice,
    ) -> Option<Answer> {
        let mut machine = self.machine();
        if !matches!(machine.role, Role::Owner(_)) {
            return None;
        }
        machine.server.advance(now());
        let (Notice::Create { turn, .. }
        | Notice::Resume { turn, .. }
        | Notice::Listen { turn, .. }
        | Notice::Rest { turn, .. }
        | Notice::Close { turn, .. }
        | Notice::Replace { turn, .. }) = notice;
        let answer = machine.let_in(member, session).and_then(|()| {
            let answer = machine.heed(member, notice, self.name.as_str())?;
            Ok(answer.unwrap_or(Answer::Done { turn }))
        });
        self.settle(&mut machine);
        Some(answer.unwrap_or_else(|error| Answer::Failed { turn, error }))
    }

    /// A process with instances of the name is gone.
    pub(super) fn member_gone(&self, member: u64) {
        let mut machine = self.machine();
        machine.forget_member(member);
        self.settle(&mut machine);
    }
}

impl Machine {
    fn let_in(&mut self, member: u64, session: &Weak<Session>) -> Result<(), Error> {
        let members = &mut self.members.members;
        if !members.contains_key(&member) {
            if members.len() >= MAX_MEMBERS {
                return Err(Error::NO_SYSTEM_RESOURCES);
            }
            let session = Weak::clone(session);
            members.insert(
                member,
                Member {
                    session,
                    instances: HashMap::new(),
                    stuck: None,
                },
            );
        }
        Ok(())
    }

    fn heed(
        &mut self,
        member: u64,
        notice: Notice,
        spelling: &str,
    ) -> Result<Option<Answer>, Error> {
        match notice {
            // Here the creator's right to FILE_CREATE_PIPE_INSTANCE will be checked; until security
            // descriptors arrive its session has been.
            Notice::Create {
                turn,
                instance,
                place,
                options,
                ..
            } => {
                self.check_new(member, instance)?;
                let id = self.server.create(&options)?;
                self.server.line_up(id, Ticket::from_number(place))?;
                self.note(member, instance, id, turn);
                Ok(Some(Answer::Admitted {
                    turn,
                    instance,
                    pipe: self.server.info().ok_or(Error::INVALID_HANDLE)?,
                    spelling: spelling.to_owned(),
                }))
            }
            Notice::Resume {
                turn,
                instance,
                place,
                pipe,
                quotas,
                ..
            } => {
                self.check_new(member, instance)?;
                let id = self.server.reserve();
                let place = place.map(Ticket::from_number);
                self.server.adopt(id, &pipe, quotas, place)?;
                self.note(member, instance, id, turn);
                Ok(None)
            }
            Notice::Listen {
                turn,
                instance,
                place,
            } => {
                let id = self.find(member, instance)?;
                self.server.line_up(id, Ticket::from_number(place))?;
                self.note(member, instance, id, turn);
                Ok(None)
            }
            Notice::Rest { turn, instance } => {
                let id = self.find(member, instance)?;
                self.server.stand_aside(id)?;
                self.note(member, instance, id, turn);
                Ok(None)
            }
            Notice::Close { instance, .. } => {
                let id = self.find(member, instance)?;
                self.strike(member, instance, id);
                self.server.close(id);
                Ok(None)
            }
            Notice::Replace {
                turn,
                instance,
                successor,
                place,
            } => {
                let id = self.find(member, instance)?;
                self.check_new(member, successor)?;
                let next = self.server.replace(id)?;
                self.server.line_up(next, Ticket::from_number(place))?;
                self.strike(member, instance, id);
                self.note(member, successor, next, turn);
                Ok(None)
            }
        }
    }

    fn find(&self, member: u64, instance: u64) -> Result<InstanceId, Error> {
        let member = self.members.members.get(&member);
        let found = member.and_then(|member| member.instances.get(&instance));
        found.map(|(id, _)| *id).ok_or(Error::INVALID_HANDLE)
    }

    fn check_new(&self, member: u64, instance: u64) -> Result<(), Error> {
        if self.find(member, instance).is_ok() {
            return Err(Error::INVALID_PARAMETER);
        }
        if self.members.homes.len() >= MAX_GUESTS {
            return Err(Error::NO_SYSTEM_RESOURCES);
        }
        Ok(())
    }

    fn note(&mut self, member: u64, instance: u64, id: InstanceId, turn: u64) {
        self.members.homes.insert(id, (member, instance));
        if let Some(member) = self.members.members.get_mut(&member) {
            member.instances.insert(instance, (id, turn));
        }
    }

    fn strike(&mut self, member: u64, instance: u64, id: InstanceId) {
        self.members.homes.remove(&id);
        if let Some(member) = self.members.members.get_mut(&member) {
            member.instances.remove(&instance);
        }
    }

    /// Closes the instances of a process that is gone.
    fn forget_member(&mut self, member: u64) -> Option<Arc<Session>> {
        let member = self.members.members.remove(&member)?;
        for (id, _) in member.instances.into_values() {
            self.members.homes.remove(&id);
            self.server.close(id);
        }
        member.session.upgrade()
    }

    /// Gives the client that has just taken an instance to the process that has it.
    pub(super) fn hand_over(
        &mut self,
        id: InstanceId,
        client: BorrowedFd<'_>,
        access: Access,
        qos: u32,
    ) -> Handing {
        let Some(&(key, instance)) = self.members.homes.get(&id) else {
            return Handing::Own;
        };
        let Some(member) = self.members.members.get_mut(&key) else {
            return Handing::Own;
        };
        let turn = member.instances.get(&instance).map(|(_, turn)| *turn);
        let message = Answer::HandOver {
            turn: turn.unwrap_or(0),
            instance,
            access,
            qos,
        };
        let passed = match (member.session.upgrade(), message.encode()) {
            (Some(session), Ok(bytes)) => session.pass(&bytes, client),
            _ => Err(Errno::PIPE),
        };
        match passed {
            Ok(()) => {
                member.stuck = None;
                return Handing::Done;
            }
            Err(Errno::AGAIN | Errno::TOOMANYREFS) => {
                let since = *member.stuck.get_or_insert_with(Instant::now);
                if since.elapsed() < PATIENCE {
                    return Handing::Stuck;
                }
                tracing::warn!(name = %instance, "a process that takes no clients is given up");
            }
            Err(errno) => tracing::debug!(%errno, "a process with instances is gone"),
        }
        if let Some(session) = self.forget_member(key) {
            // The service thread will find it gone.
            session.hang_up();
        }
        Handing::Gone
    }

    /// Those who are to find the name elsewhere: other processes with instances, and who waits.
    pub(super) fn take_visitors(&mut self) -> Vec<Arc<Session>> {
        let members = std::mem::take(&mut self.members).members;
        let members = members.into_values().map(|member| member.session);
        let waiting = std::mem::take(&mut self.waiting).into_values();
        let all = members.chain(waiting);
        let all = all.filter_map(|session| session.upgrade());
        all.chain(self.grace.take()).collect()
    }
}
