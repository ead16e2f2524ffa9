//! The first moments of a new owner, in which it does not know all instances yet.
//!
//! Opens for which nothing listens are held until an instance has come back, for a moment at most:
//! what is busy may only not have been told yet.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ntpipe_proto::Access;

use super::heirs::Heirs;
use super::namespace::stem;
use super::owner::{Machine, Owner};
use super::session::Session;

/// Opens that wait for the instances of other heirs.
#[derive(Default)]
pub(super) struct Grace {
    /// Nothing is held from then on.
    until: Option<Instant>,
    held: Vec<Held>,
}

/// An open without an answer.
struct Held {
    session: Weak<Session>,
    access: Access,
    qos: u32,
}

/// How long the other heirs may take to say what they have: twice the longest pause between two of
/// their attempts. One that is stopped keeps nobody longer.
const GRACE: Duration = Duration::from_millis(100);

impl Grace {
    /// Holds an open, if it is early enough and not a second one of that client.
    pub(super) fn hold(&mut self, session: &Arc<Session>, access: Access, qos: u32) -> bool {
        if self.until.is_none_or(|until| Instant::now() >= until) {
            return false;
        }
        self.held.retain(|held| held.session.strong_count() > 0);
        let session = Arc::downgrade(session);
        if self.held.iter().any(|held| held.session.ptr_eq(&session)) {
            return false;
        }
        self.held.push(Held {
            session,
            access,
            qos,
        });
        true
    }

    /// When to try again what is held; `listening` instances are there now.
    pub(super) fn next(&self, listening: u32) -> Option<Instant> {
        match self.held.is_empty() {
            true => None,
            false if listening > 0 => Some(Instant::now()),
            false => self.until,
        }
    }

    /// The clients whose opens are held, no longer.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Arc<Session>> + use<> {
        let held = std::mem::take(&mut self.held).into_iter();
        held.filter_map(|held| held.session.upgrade())
    }
}

impl Owner {
    /// This process has just become the owner.
    pub(super) fn begin_grace(&self, machine: &mut Machine) {
        let heirs = self.namespace.heirs(&stem(self.name.folded()));
        machine.grace.until = matches!(heirs, Heirs::Alive).then(|| Instant::now() + GRACE);
    }

    /// Tries again what is held, in its order; what still finds nothing is held on.
    pub(super) fn open_held(&self) {
        let held = std::mem::take(&mut self.machine().grace.held);
        for Held {
            session,
            access,
            qos,
        } in held
        {
            if let Some(session) = session.upgrade() {
                session.open_anew(access, qos);
            }
        }
    }
}
