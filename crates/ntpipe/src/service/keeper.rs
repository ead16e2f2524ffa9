//! A thread that waits for a client looks for one itself for a moment, and lets it in.
//!
//! Else the service thread would have to wake up for it, and then wake the thread that waits.

use std::sync::Arc;

use super::office::Door;
use super::owner::{Machine, Owner, Role};
use super::session::Session;
use super::{Source, Token};
use crate::locked::{MutexGuard, try_lock};
use crate::ring::{self, LookFor};
use crate::sys::socket;

/// While there is one, the service thread is not told of clients.
struct Keeper<'a> {
    owner: &'a Owner,
    door: &'a Door,
    token: Token,
}

impl Owner {
    /// Looks for a client, if this process owns the name and no other thread looks already. The lock
    /// is not held meanwhile: what the caller waits for may have come in another way.
    pub(super) fn keep_door<'a>(
        &'a self,
        machine: MutexGuard<'a, Machine>,
    ) -> MutexGuard<'a, Machine> {
        let Role::Owner(office) = &machine.role else {
            return machine;
        };
        // For want of descriptors clients have to wait.
        if machine.resting.is_some() || !ring::is_looking() {
            return machine;
        }
        let (door, token) = (Arc::clone(&office.door), office.token);
        drop(machine);
        if let Some(_only) = try_lock(&door.keeper) {
            let keeper = Keeper::new(self, &door, token);
            if LookFor::Client.until(|| socket::is_readable(door.fd())) {
                door.let_in(Session::begin_here);
            }
            drop(keeper);
        }
        self.machine()
    }
}

impl<'a> Keeper<'a> {
    fn new(owner: &'a Owner, door: &'a Door, token: Token) -> Self {
        owner.service().rest(token, door.fd());
        Self { owner, door, token }
    }
}

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        // If it has come to rest meanwhile, that has a time of its own.
        if self.owner.machine().resting.is_none() {
            self.owner.service().resume(self.token, self.door.fd());
        }
    }
}
