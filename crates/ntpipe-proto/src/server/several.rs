//! What a name needs whose instances are in several processes.
//!
//! The owner's state machine has all instances, those of the other processes too; each of these has
//! one with its own instances alone, in which nothing is decided, until it becomes the owner and
//! goes on with it.

use super::name::Name;
use super::{Connection, InstanceId, NOT_AVAILABLE, NameInfo, Quotas, Server};
use crate::instance::{Instance, Ticket};
use crate::{Access, Error};

impl Server {
    /// Lets places in line grow with a clock: those that are given from now on are not before
    /// `at`, which is the same moment in all processes.
    pub fn advance(&mut self, at: Ticket) {
        self.next_ticket = self.next_ticket.max(at);
    }

    /// A number for an instance that does not exist yet; see [`adopt`](Self::adopt).
    pub const fn reserve(&mut self) -> InstanceId {
        self.take_instance()
    }

    /// Takes over an instance that its owner admitted once, with its place if it listens.
    ///
    /// The maximum is not looked at: the instance counted when it was admitted. If the name does
    /// not exist yet it gets the properties of `name`, whose numbers of instances don't matter.
    ///
    /// # Errors
    ///
    /// `ERROR_ACCESS_DENIED` (5) if the name has another direction or type, or the instance is
    /// there already.
    pub fn adopt(
        &mut self,
        id: InstanceId,
        name: &NameInfo,
        quotas: Quotas,
        place: Option<Ticket>,
    ) -> Result<(), Error> {
        let own = self.name.get_or_insert_with(|| Name::like(name));
        let fits = own.direction == name.direction && own.pipe_type == name.pipe_type;
        if !fits || own.instances.contains_key(&id) {
            return Err(Error::ACCESS_DENIED);
        }
        let ticket = own.free_place(place.unwrap_or(Ticket::FIRST));
        own.insert(id, ticket, quotas);
        if place.is_none() {
            own.set(id, Instance::Disconnected);
        }
        self.wake();
        Ok(())
    }

    /// The instance listens, whatever it did before, in this place of the line or the next that is
    /// free; wakes those that wait for one.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_HANDLE` (6) if there is no such instance.
    pub fn line_up(&mut self, id: InstanceId, place: Ticket) -> Result<(), Error> {
        let (name, _) = self.find(id)?;
        name.set(id, Instance::Disconnected);
        let ticket = name.free_place(place);
        name.set(id, Instance::Listening { ticket });
        self.wake();
        Ok(())
    }

    /// The instance does not listen, whatever it did before.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_HANDLE` (6) if there is no such instance.
    pub fn stand_aside(&mut self, id: InstanceId) -> Result<(), Error> {
        let (name, _) = self.find(id)?;
        name.set(id, Instance::Disconnected);
        Ok(())
    }

    /// A client to whom the owner has given this very instance opens it.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_HANDLE` (6) if there is no such instance, `ERROR_PIPE_BUSY` (231) if it does
    /// not listen.
    pub fn take(&mut self, id: InstanceId, access: Access) -> Result<Connection, Error> {
        let (name, instance) = self.find(id)?;
        let Instance::Listening { ticket } = instance else {
            return Err(NOT_AVAILABLE);
        };
        name.set(id, instance.open(access)?);
        Ok(Connection {
            instance: id,
            ticket,
        })
    }

    /// The place in line of an instance that listens.
    pub fn place(&self, id: InstanceId) -> Option<Ticket> {
        match self.slot(id)?.instance {
            Instance::Listening { ticket } => Some(ticket),
            Instance::Connected { .. } | Instance::Closing { .. } | Instance::Disconnected => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FirstInstance, InstanceOptions, Listen};
    use super::*;
    use crate::{DefaultTimeout, Direction, EndState, MaxInstances, PipeType};

    const QUOTAS: Quotas = Quotas {
        inbound: 1,
        outbound: 2,
    };

    fn options(max: u32) -> InstanceOptions {
        InstanceOptions {
            direction: Direction::Duplex,
            pipe_type: PipeType::Message,
            max_instances: MaxInstances::new(max).unwrap(),
            quotas: QUOTAS,
            default_timeout: DefaultTimeout::from_millis(77),
            first: FirstInstance::NotRequired,
        }
    }

    fn at(place: u64) -> Ticket {
        Ticket::from_number(place)
    }

    /// As a member does it that becomes the owner, and others that register with it.
    #[test]
    fn a_name_is_put_together_again_in_its_order() {
        let mut old = Server::new();
        old.create(&options(3)).unwrap();
        let info = old.info().unwrap();
        let mut new = Server::new();
        let [late, early, busy] = [(); 3].map(|()| new.reserve());
        new.adopt(late, &info, QUOTAS, Some(at(9))).unwrap();
        new.adopt(early, &info, QUOTAS, Some(at(5))).unwrap();
        new.adopt(busy, &info, QUOTAS, None).unwrap();
        let now = new.info().unwrap();
        assert_eq!((now.instances, now.listening), (3, 2));
        assert_eq!(
            (now.max_instances, now.default_timeout),
            (info.max_instances, info.default_timeout)
        );
        assert_eq!(new.create(&options(3)), Err(Error::PIPE_BUSY));
        assert_eq!(new.open(Access::READ_DATA).unwrap().instance(), early);
        assert_eq!(new.open(Access::READ_DATA).unwrap().instance(), late);
        assert_eq!(new.listen(busy), Ok(Listen::Waiting));
        assert_eq!(new.open(Access::READ_DATA).unwrap().instance(), busy);
    }

    #[test]
    fn what_does_not_fit_the_name_is_not_taken_over() {
        let mut server = Server::new();
        let first = server.create(&options(1)).unwrap();
        let info = server.info().unwrap();
        let mut other = info;
        other.direction = Direction::Inbound;
        let id = server.reserve();
        let denied = Err(Error::ACCESS_DENIED);
        assert_eq!(server.adopt(id, &other, QUOTAS, None), denied);
        other = info;
        other.pipe_type = PipeType::Byte;
        assert_eq!(server.adopt(id, &other, QUOTAS, None), denied);
        assert_eq!(server.adopt(first, &info, QUOTAS, None), denied);
        assert_eq!(server.info(), Some(info));
    }

    #[test]
    fn two_never_share_a_place() {
        let mut server = Server::new();
        let one = server.create(&options(255)).unwrap();
        let info = server.info().unwrap();
        let two = server.reserve();
        let place = server.place(one);
        server.adopt(two, &info, QUOTAS, place).unwrap();
        server.line_up(one, server.place(two).unwrap()).unwrap();
        assert_eq!(server.info().unwrap().listening, 2);
        assert_eq!(server.open(Access::READ_DATA).unwrap().instance(), two);
        assert_eq!(server.open(Access::READ_DATA).unwrap().instance(), one);
    }

    #[test]
    fn a_place_that_is_given_back_may_be_taken() {
        let mut server = Server::new();
        let one = server.create(&options(255)).unwrap();
        let (info, place) = (server.info().unwrap(), server.place(one));
        let connection = server.open(Access::READ_DATA).unwrap();
        let two = server.reserve();
        server.adopt(two, &info, QUOTAS, place).unwrap();
        server.give_back(connection);
        assert_eq!(server.info().unwrap().listening, 2);
        assert_eq!(server.open(Access::READ_DATA).unwrap().instance(), two);
        assert_eq!(server.open(Access::READ_DATA).unwrap().instance(), one);
    }

    #[test]
    fn only_an_instance_that_listens_is_taken() {
        let mut server = Server::new();
        let id = server.create(&options(255)).unwrap();
        let connection = server.take(id, Access::READ_DATA).unwrap();
        assert_eq!(connection.instance(), id);
        assert_eq!(server.state(id), Some(EndState::Connected));
        assert_eq!(server.take(id, Access::READ_DATA), Err(Error::PIPE_BUSY));
        server.stand_aside(id).unwrap();
        assert_eq!(server.take(id, Access::READ_DATA), Err(Error::PIPE_BUSY));
        server.close(id);
        assert_eq!(
            server.take(id, Access::READ_DATA),
            Err(Error::INVALID_HANDLE)
        );
    }

    #[test]
    fn places_follow_the_clock() {
        let mut server = Server::new();
        server.advance(at(1000));
        let first = server.create(&options(255)).unwrap();
        server.advance(at(10));
        let second = server.create(&options(255)).unwrap();
        assert_eq!(server.place(first), Some(at(1000)));
        assert_eq!(server.place(second), Some(at(1001)));
    }
}
