//! A process that has instances of a name which another process owns.
//!
//! All that the two say to each other goes over one socket, in its order: notices to the owner,
//! answers and clients from there. Notices are sent under the lock of the state machine, and
//! nobody waits for an answer under it. What is said of an instance has a number, its turn; a
//! client that the owner sent off before it knew of the last turn is sent away, and asks again.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use ntpipe_proto::control::{Answer, MAX_MESSAGE, Notice, Reply};
use ntpipe_proto::{
    EndState, Error, InstanceId, InstanceOptions, NameInfo, PipeName, Quotas, ReadMode, Ticket,
};
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::heirs::Heir;
use super::namespace::Namespace;
use super::owner::{Entry, Key, Machine, Owner, Role, names, now};
use super::server_end::ServerEnd;
use super::session::Session;
use super::{Interest, Readiness, Service, Source, Token};
use crate::locked::MutexGuard;
use crate::stream::lock;
use crate::sys::fork::PerProcess;
use crate::sys::poll::{self, Woken};
use crate::sys::socket::{self, Datagram};

/// What makes a process a member.
pub(super) struct Membership {
    /// Let go of last.
    heir: Heir,
    /// Of the timer for elections.
    pub(super) timer: Token,
    /// Missing while there is no owner.
    pub(super) registration: Option<(Arc<Registration>, Token)>,
    /// Notices that there was no room for.
    outbox: VecDeque<Vec<u8>>,
    unanswered: usize,
    waits: HashMap<u64, Wait>,
    next_turn: u64,
    /// How long until the next attempt to find an owner.
    pub(super) pause: Duration,
}

/// The socket to the owner.
pub(super) struct Registration {
    owner: Weak<Owner>,
    socket: OwnedFd,
}

/// Somebody waits for an answer.
struct Wait {
    creating: Option<Creating>,
    outcome: Option<Outcome>,
}

/// An instance that the owner has been asked for.
struct Creating {
    id: InstanceId,
    place: Ticket,
    quotas: Quotas,
    read_mode: ReadMode,
}

pub(super) enum Outcome {
    Done,
    Failed(Error),
    Admitted(Arc<ServerEnd>),
    /// There is another owner, or none yet, which has been or will be told how things are.
    Anew,
}

/// How long an owner may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many notices an owner gets before it has to answer one.
const AT_ONCE: usize = 64;
/// How long to wait for the next attempt to find an owner, at first.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(1);

impl Owner {
    /// Creates an instance of a name that another process owns; `None` if nobody owns it now.
    pub(super) fn join(
        name: &PipeName,
        namespace: &Arc<Namespace>,
        key: &Key,
        options: &InstanceOptions,
        read_mode: ReadMode,
    ) -> io::Result<Option<Arc<ServerEnd>>> {
        // One at a time: the next one finds the name among those of this process.
        static JOINING: PerProcess<Mutex<()>> = PerProcess::new();
        let _joining = lock(JOINING.get());
        if names().contains_key(key) {
            return Ok(None);
        }
        let socket = match namespace.connect(name) {
            Ok(socket) => socket,
            Err(error) if error.error() == Error::FILE_NOT_FOUND => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Before the owner knows of us: from then on the name must not die with it.
        let heir = Heir::new(namespace, name)?;
        let (id, place) = (InstanceId::from_number(0), now());
        let notice = Notice::Create {
            turn: 0,
            instance: id.get(),
            place: place.get(),
            options: *options,
            name: name.folded().to_owned(),
        };
        let Some((pipe, spelling)) = ask_to_join(&socket, &notice)? else {
            return Ok(None);
        };
        rustix::io::ioctl_fionbio(&socket, true).map_err(|_| Error::GEN_FAILURE)?;
        let spelled = PipeName::parse(&format!(r"\\?\pipe\{spelling}")).ok();
        let spelled = spelled.filter(|spelled| spelled.folded() == name.folded());
        let name = spelled.unwrap_or_else(|| name.clone());
        let owner = Self::new(&name, namespace, key)?;
        let service = owner.service();
        let timer = service.enlist(super::election::Candidate::new(&owner));
        let mut machine = owner.machine();
        machine.server.advance(place);
        machine.server.reserve();
        let adopted = machine.server.adopt(id, &pipe, options.quotas, Some(place));
        let end = adopted.and_then(|()| owner.enter(&mut machine, id, read_mode))?;
        machine.role = Role::Member(Membership {
            heir,
            timer,
            registration: None,
            outbox: VecDeque::new(),
            unanswered: 0,
            waits: HashMap::new(),
            next_turn: 1,
            pause: FIRST_PAUSE,
        });
        let registered = owner.watch_owner(&mut machine, socket);
        drop(machine);
        match registered {
            Ok(()) => {
                names().insert(key.clone(), Arc::clone(&owner));
                Ok(Some(end))
            }
            Err(error) => {
                owner.service().forget(timer);
                Err(error.into())
            }
        }
    }

    /// From now on the owner is at this socket.
    pub(super) fn watch_owner(
        self: &Arc<Self>,
        machine: &mut Machine,
        socket: OwnedFd,
    ) -> Result<(), Error> {
        let Role::Member(membership) = &mut machine.role else {
            return Err(Error::INVALID_HANDLE);
        };
        let owner = Arc::downgrade(self);
        let registration = Arc::new(Registration { owner, socket });
        let source = Arc::<Registration>::clone(&registration);
        let token = self.service().watch(source, Interest::All)?;
        membership.registration = Some((registration, token));
        membership.pause = FIRST_PAUSE;
        Ok(())
    }

    /// A further instance of a name that another process owns.
    pub(super) fn ask_for_instance<'a>(
        &'a self,
        mut machine: MutexGuard<'a, Machine>,
        options: &InstanceOptions,
        read_mode: ReadMode,
    ) -> (MutexGuard<'a, Machine>, Option<Outcome>) {
        machine.server.advance(now());
        let id = machine.server.reserve();
        let place = now();
        let name = self.name.folded().to_owned();
        let told = machine.tell(id, |turn| Notice::Create {
            turn,
            instance: id.get(),
            place: place.get(),
            options: *options,
            name,
        });
        let Some(turn) = told else {
            return (machine, Some(Outcome::Anew));
        };
        if let Role::Member(membership) = &mut machine.role
            && let Some(wait) = membership.waits.get_mut(&turn)
        {
            wait.creating = Some(Creating {
                id,
                place,
                quotas: options.quotas,
                read_mode,
            });
        }
        self.await_answer(machine, Some(turn))
    }

    /// Waits until the owner has heard what it was told; `None` if it takes too long. Who comes
    /// after that finds it done, in whatever process. The service thread, which hears the answers,
    /// does not wait.
    pub(super) fn await_answer<'a>(
        &'a self,
        mut machine: MutexGuard<'a, Machine>,
        turn: Option<u64>,
    ) -> (MutexGuard<'a, Machine>, Option<Outcome>) {
        let Some(turn) = turn else {
            return (machine, Some(Outcome::Done));
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Role::Member(membership) = &mut machine.role else {
                return (machine, Some(Outcome::Anew));
            };
            let outcome = match membership.waits.get_mut(&turn) {
                None => Some(Outcome::Anew),
                Some(wait) => wait.outcome.take(),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if outcome.is_some() || left.is_zero() || self.service().is_this_thread() {
                membership.waits.remove(&turn);
                return (machine, outcome);
            }
            machine = machine.wait_timeout(&self.answered, left);
        }
    }

    /// As [`await_answer`](Self::await_answer), whatever the answer is.
    pub(super) fn await_told(&self, turn: Option<u64>) {
        if turn.is_some() {
            drop(self.await_answer(self.machine(), turn));
        }
    }

    /// Ends the membership if this process has no instance any more, nor asks for one.
    pub(super) fn retire(&self) {
        let mut names = names();
        let mut machine = self.machine();
        let Role::Member(membership) = &machine.role else {
            return;
        };
        let mut waits = membership.waits.values();
        if !machine.entries.is_empty() || waits.any(|wait| wait.creating.is_some()) {
            return;
        }
        names.remove(&self.key);
        if let Role::Member(membership) = std::mem::replace(&mut machine.role, Role::Gone) {
            membership.end(self.service());
        }
        self.answered.notify_all();
    }

    /// The owner says something.
    fn hear(self: &Arc<Self>, answer: Answer, fd: Option<OwnedFd>) -> Result<(), Error> {
        let mut machine = self.machine();
        match answer {
            Answer::HandOver {
                turn,
                instance,
                access,
                ..
            } => {
                let socket = fd.ok_or(Error::INVALID_DATA)?;
                let id = InstanceId::from_number(instance);
                let entry = machine.entries.get(&id);
                let is_meant = entry.is_some_and(|entry| entry.turn == turn)
                    && machine.server.state(id) == Some(EndState::Listening);
                drop(machine);
                // Else the instance has done something else meanwhile: the client asks again.
                if is_meant {
                    Session::begin_handed_over(Arc::clone(self), socket, id, access);
                    self.put_back_in_line(id, turn);
                }
                return Ok(());
            }
            Answer::Done { turn } => machine.note_outcome(turn, Outcome::Done)?,
            Answer::Failed { turn, error } => {
                machine.note_outcome(turn, Outcome::Failed(error))?;
                if let Some(entry) = machine.orphan(turn, error) {
                    drop(machine);
                    entry.end.let_go(entry.client);
                    machine = self.machine();
                }
            }
            Answer::Admitted {
                turn,
                instance,
                pipe,
                ..
            } => {
                let outcome = match machine.take_creating(turn) {
                    Some(creating) if creating.id.get() == instance => {
                        let end = self.admit(&mut machine, &creating, &pipe)?;
                        if let Some(entry) = machine.entries.get_mut(&creating.id) {
                            entry.turn = turn;
                        }
                        Outcome::Admitted(end)
                    }
                    Some(_) => return Err(Error::INVALID_DATA),
                    None => {
                        // Nobody waits for it any more.
                        machine.dismiss(instance);
                        Outcome::Done
                    }
                };
                machine.note_outcome(turn, outcome)?;
            }
        }
        machine.flush();
        drop(machine);
        self.answered.notify_all();
        Ok(())
    }

    /// If nothing has come of a client, its instance listens as before, but the owner thinks not.
    fn put_back_in_line(&self, id: InstanceId, turn: u64) {
        let mut machine = self.machine();
        let is_as_before = machine
            .entries
            .get(&id)
            .is_some_and(|entry| entry.turn == turn);
        if let Some(place) = machine.server.place(id).filter(|_| is_as_before) {
            machine.mention(id, |turn| Notice::Listen {
                turn,
                instance: id.get(),
                place: place.get(),
            });
        }
    }

    fn admit(
        self: &Arc<Self>,
        machine: &mut Machine,
        creating: &Creating,
        pipe: &NameInfo,
    ) -> Result<Arc<ServerEnd>, Error> {
        let (id, quotas) = (creating.id, creating.quotas);
        machine
            .server
            .adopt(id, pipe, quotas, Some(creating.place))?;
        self.enter(machine, id, creating.read_mode)
    }

    /// The owner is gone, or has said something that makes no sense.
    fn lose(self: &Arc<Self>, lost: &Registration) {
        let mut machine = self.machine();
        let Role::Member(membership) = &mut machine.role else {
            return;
        };
        let is_current =
            |(current, _): &(Arc<Registration>, Token)| std::ptr::eq(Arc::as_ptr(current), lost);
        let Some((registration, token)) = membership.registration.take_if(|it| is_current(it))
        else {
            return;
        };
        self.service().forget(token);
        socket::hang_up(registration.socket.as_fd());
        membership.start_anew();
        drop(machine);
        self.answered.notify_all();
        self.elect();
    }
}

impl Machine {
    /// Tells the owner something about an instance, if there is one; returns the number of the
    /// notice, to wait for the answer.
    pub(super) fn tell(
        &mut self,
        id: InstanceId,
        notice: impl FnOnce(u64) -> Notice,
    ) -> Option<u64> {
        let Role::Member(membership) = &mut self.role else {
            return None;
        };
        let turn = membership.next_turn;
        membership.next_turn += 1;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.turn = turn;
        }
        membership.registration.as_ref()?;
        let wait = Wait {
            creating: None,
            outcome: None,
        };
        membership.waits.insert(turn, wait);
        // Every name that exists fits a message.
        membership.outbox.extend(notice(turn).encode());
        membership.flush();
        Some(turn)
    }

    /// As [`tell`](Self::tell), if nobody is going to wait for the answer.
    pub(super) fn mention(&mut self, id: InstanceId, notice: impl FnOnce(u64) -> Notice) {
        let told = self.tell(id, notice);
        if let (Role::Member(membership), Some(turn)) = (&mut self.role, told) {
            membership.waits.remove(&turn);
        }
    }

    fn flush(&mut self) {
        if let Role::Member(membership) = &mut self.role {
            membership.flush();
        }
    }

    fn note_outcome(&mut self, turn: u64, outcome: Outcome) -> Result<(), Error> {
        let Role::Member(membership) = &mut self.role else {
            return Ok(());
        };
        let unanswered = membership.unanswered.checked_sub(1);
        membership.unanswered = unanswered.ok_or(Error::INVALID_DATA)?;
        if let Some(wait) = membership.waits.get_mut(&turn) {
            wait.outcome = Some(outcome);
        }
        Ok(())
    }

    fn take_creating(&mut self, turn: u64) -> Option<Creating> {
        let Role::Member(membership) = &mut self.role else {
            return None;
        };
        membership.waits.get_mut(&turn)?.creating.take()
    }

    fn dismiss(&mut self, instance: u64) {
        self.mention(InstanceId::from_number(instance), |turn| Notice::Close {
            turn,
            instance,
        });
    }

    /// The owner does not want an instance of ours: it is closed.
    fn orphan(&mut self, turn: u64, error: Error) -> Option<Entry> {
        let mut entries = self.entries.iter();
        let (&id, _) = entries.find(|(_, entry)| entry.turn == turn)?;
        tracing::warn!(%error, "the owner of a name has no room for an instance any more");
        self.server.close(id);
        self.entries.remove(&id)
    }
}

impl Membership {
    fn flush(&mut self) {
        let Some((registration, _)) = &self.registration else {
            return;
        };
        while self.unanswered < AT_ONCE
            && let Some(message) = self.outbox.front()
        {
            // A full queue is one that the owner has answers to; one that is gone is noticed.
            if socket::send(registration.socket.as_fd(), message, None).is_err() {
                return;
            }
            self.outbox.pop_front();
            self.unanswered += 1;
        }
    }

    /// Whatever was asked of the last owner, it will not answer.
    fn start_anew(&mut self) {
        self.outbox.clear();
        self.unanswered = 0;
        for wait in self.waits.values_mut() {
            wait.creating = None;
            wait.outcome.get_or_insert(Outcome::Anew);
        }
    }

    /// Lets go of everything.
    pub(super) fn end(self, service: &Service) {
        service.forget(self.timer);
        if let Some((registration, token)) = &self.registration {
            service.forget(*token);
            socket::hang_up(registration.socket.as_fd());
        }
        drop(self.heir);
    }
}

impl Source for Registration {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn ready(&self, readiness: Readiness) {
        let Some(owner) = self.owner.upgrade() else {
            return;
        };
        let mut buffer = [0; MAX_MESSAGE];
        let received = match readiness {
            Readiness::Readable => socket::receive(self.fd(), &mut buffer),
            Readiness::HungUp => Ok(None),
        };
        let heard = match received {
            Ok(Some(Datagram { len, fd })) => {
                let bytes = buffer.get(..len).unwrap_or_default();
                let answer = Answer::decode(bytes).map_err(Error::from);
                answer.and_then(|answer| owner.hear(answer, fd))
            }
            Ok(None) => Err(Error::BROKEN_PIPE),
            Err(Errno::AGAIN) => return,
            Err(_) => Err(Error::INVALID_DATA),
        };
        if let Err(error) = heard {
            tracing::debug!(%error, name = %owner.name, "the owner of a name is gone");
            owner.lose(self);
        }
    }
}

/// Asks for the first instance; `None` if the owner goes meanwhile.
fn ask_to_join(socket: &OwnedFd, notice: &Notice) -> Result<Option<(NameInfo, String)>, Error> {
    match socket::send(socket.as_fd(), &notice.encode()?, None) {
        // An owner that sends others away says why before they ask.
        Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {}
        Err(Errno::AGAIN) => return Err(Error::SEM_TIMEOUT),
        Err(_) => return Ok(None),
    }
    let deadline = Some(Instant::now() + PATIENCE);
    match poll::wait(socket.as_fd(), PollFlags::IN, None, deadline) {
        Ok(Woken::Ready | Woken::Alarmed) => {}
        Ok(Woken::TimedOut) => return Err(Error::SEM_TIMEOUT),
        Err(_) => return Ok(None),
    }
    let mut buffer = [0; MAX_MESSAGE];
    let Ok(Some(datagram)) = socket::receive(socket.as_fd(), &mut buffer) else {
        return Ok(None);
    };
    let bytes = buffer.get(..datagram.len).unwrap_or_default();
    if let Ok(Reply::Refused { error }) = Reply::decode(bytes) {
        return Err(error);
    }
    match Answer::decode(bytes)? {
        Answer::Admitted {
            turn: 0,
            instance: 0,
            pipe,
            spelling,
        } => Ok(Some((pipe, spelling))),
        Answer::Failed { turn: 0, error } => Err(error),
        Answer::Admitted { .. }
        | Answer::Failed { .. }
        | Answer::Done { .. }
        | Answer::HandOver { .. } => Err(Error::INVALID_DATA),
    }
}
