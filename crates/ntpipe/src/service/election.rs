//! How a name finds a new owner: the first of its heirs that gets its lock.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ntpipe_proto::Error;
use ntpipe_proto::control::Notice;

use super::namespace::{Claim, Claimed, Namespace};
use super::office::Office;
use super::owner::{Owner, Role};
use super::{Readiness, Source};

/// The timer of a process that has instances of another's name.
pub(super) struct Candidate {
    owner: Weak<Owner>,
    namespace: Arc<Namespace>,
}

/// The longest time between two attempts to find an owner.
const LAST_PAUSE: Duration = Duration::from_millis(50);

impl Candidate {
    pub(super) fn new(owner: &Arc<Owner>) -> Arc<Self> {
        Arc::new(Self {
            owner: Arc::downgrade(owner),
            namespace: Arc::clone(&owner.namespace),
        })
    }
}

/// Only its timer is used.
impl Source for Candidate {
    fn fd(&self) -> BorrowedFd<'_> {
        self.namespace.dir().as_fd()
    }

    fn ready(&self, _: Readiness) {}

    fn expired(&self) {
        if let Some(owner) = self.owner.upgrade() {
            owner.elect();
        }
    }
}

impl Owner {
    /// Becomes the owner of a name that has none, or finds the one that it has by now.
    pub(super) fn elect(self: &Arc<Self>) {
        if !self.is_orphaned() {
            return;
        }
        let found = match self.namespace.inherit(&self.name) {
            Ok(Claimed::Ours(claim)) => self.rise(claim),
            Ok(Claimed::Taken) => match self.namespace.connect_now(&self.name) {
                Ok(socket) => self.register(socket),
                Err(_) => Err(Error::FILE_NOT_FOUND),
            },
            Ok(Claimed::Inherited | Claimed::Foreign) => Err(Error::ACCESS_DENIED),
            Err(error) => Err(error.error()),
        };
        let Err(error) = found else { return };
        tracing::debug!(%error, name = %self.name, "no owner yet");
        let mut machine = self.machine();
        if let Role::Member(membership) = &mut machine.role {
            let next = Instant::now() + membership.pause;
            membership.pause = (membership.pause * 2).min(LAST_PAUSE);
            self.service().set_timer(membership.timer, Some(next));
        }
    }

    fn is_orphaned(&self) -> bool {
        let machine = self.machine();
        match &machine.role {
            // Without an instance there is nothing to own.
            Role::Member(membership) => {
                membership.registration.is_none() && !machine.entries.is_empty()
            }
            Role::Owner(_) | Role::Gone => false,
        }
    }

    /// Becomes the owner, with the instances that it has; the others' come back by themselves.
    fn rise(self: &Arc<Self>, claim: Claim) -> Result<(), Error> {
        // Before anybody can ask, and given up with the machine's lock released.
        let office = Office::open(self, claim).map_err(|error| {
            tracing::warn!(%error, "a name can't be carried on yet");
            Error::NO_SYSTEM_RESOURCES
        })?;
        let mut machine = self.machine();
        let is_wanted = matches!(machine.role, Role::Member(_)) && !machine.entries.is_empty();
        if !is_wanted {
            drop(machine);
            office.leave(self.service());
            return Ok(());
        }
        let before = std::mem::replace(&mut machine.role, Role::Owner(office));
        if let Role::Member(membership) = before {
            // From here on the name dies with this process, unless it has other heirs.
            membership.end(self.service());
        }
        self.begin_grace(&mut machine);
        self.settle(&mut machine);
        drop(machine);
        self.answered.notify_all();
        Ok(())
    }

    /// Tells a new owner what instances this process has.
    fn register(self: &Arc<Self>, socket: OwnedFd) -> Result<(), Error> {
        let mut machine = self.machine();
        let Some(pipe) = machine.server.info() else {
            return Ok(());
        };
        self.watch_owner(&mut machine, socket)?;
        let mut ids: Vec<_> = machine.entries.keys().copied().collect();
        ids.sort();
        for id in ids {
            let Some(quotas) = machine.server.quotas(id) else {
                continue;
            };
            let place = machine.server.place(id).map(|place| place.get());
            let name = self.name.folded().to_owned();
            machine.mention(id, |turn| Notice::Resume {
                turn,
                instance: id.get(),
                place,
                pipe,
                quotas,
                name,
            });
        }
        drop(machine);
        self.answered.notify_all();
        Ok(())
    }
}
