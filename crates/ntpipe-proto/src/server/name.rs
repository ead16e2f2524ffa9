//! The properties and instances of a name that exists.

use std::collections::BTreeMap;

use super::{FirstInstance, InstanceId, InstanceOptions, NameInfo, Quotas};
use crate::instance::{Instance, Ticket};
use crate::{DefaultTimeout, Direction, Error, MaxInstances, PipeType, Status};

/// A name that exists.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) direction: Direction,
    pub(super) pipe_type: PipeType,
    pub(super) max_instances: MaxInstances,
    pub(super) default_timeout: DefaultTimeout,
    pub(super) instances: BTreeMap<InstanceId, Slot>,
    /// The instances that listen, in the order in which they began to.
    pub(super) line: BTreeMap<Ticket, InstanceId>,
}

impl Name {
    pub(super) const fn new(first: &InstanceOptions) -> Self {
        Self {
            direction: first.direction,
            pipe_type: first.pipe_type,
            max_instances: first.max_instances,
            default_timeout: first.default_timeout,
            instances: BTreeMap::new(),
            line: BTreeMap::new(),
        }
    }

    /// A name with these properties, without instances.
    pub(super) const fn like(name: &NameInfo) -> Self {
        Self {
            direction: name.direction,
            pipe_type: name.pipe_type,
            max_instances: name.max_instances,
            default_timeout: name.default_timeout,
            instances: BTreeMap::new(),
            line: BTreeMap::new(),
        }
    }

    /// The first place in line from this one on that nobody has.
    pub(super) fn free_place(&self, mut place: Ticket) -> Ticket {
        while self.line.contains_key(&place) {
            place = place.next();
        }
        place
    }

    /// Whether a further instance may join (observed 1.10 to 1.15).
    pub(super) fn admit(&self, options: &InstanceOptions) -> Result<(), Error> {
        // First of all comes the access check for FILE_CREATE_PIPE_INSTANCE.
        if !self.max_instances.allows(count(self.instances.len())) {
            return Err(Status::INSTANCE_NOT_AVAILABLE.error());
        }
        match options.first {
            FirstInstance::NotRequired if options.direction == self.direction => Ok(()),
            FirstInstance::Required | FirstInstance::NotRequired => {
                Err(Status::ACCESS_DENIED.error())
            }
        }
    }

    pub(super) fn insert(&mut self, id: InstanceId, ticket: Ticket, quotas: Quotas) {
        let instance = Instance::create(ticket);
        self.instances.insert(id, Slot { instance, quotas });
        self.line.insert(ticket, id);
    }

    pub(super) fn remove(&mut self, id: InstanceId) -> Option<Quotas> {
        let slot = self.instances.remove(&id)?;
        self.leave_line(slot.instance);
        Some(slot.quotas)
    }

    /// Moves an instance to its next state, and into or out of the line as that says.
    pub(super) fn set(&mut self, id: InstanceId, next: Instance) {
        let Some(slot) = self.instances.get_mut(&id) else {
            return;
        };
        let before = core::mem::replace(&mut slot.instance, next);
        self.leave_line(before);
        match next {
            Instance::Listening { ticket } => {
                self.line.insert(ticket, id);
            }
            Instance::Connected { .. } | Instance::Closing { .. } | Instance::Disconnected => {}
        }
    }

    fn leave_line(&mut self, instance: Instance) {
        match instance {
            Instance::Listening { ticket } => {
                self.line.remove(&ticket);
            }
            Instance::Connected { .. } | Instance::Closing { .. } | Instance::Disconnected => {}
        }
    }
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) instance: Instance,
    pub(super) quotas: Quotas,
}

pub(super) fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
