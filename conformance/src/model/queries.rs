//! What can be asked of an end.

use ntpipe_proto::lane::Peek;
use ntpipe_proto::{
    Access, Direction, End, EndState, Error, Operation as Op, PipeType, ReadMode, WaitMode,
};

use super::begin::{Begin, Begins};
use super::world::Held;
use crate::{Facts, Outcome};

impl Begin<'_> {
    pub(super) fn peek(&mut self, size: usize) -> Begins {
        let held = self.held_with(Access::READ_DATA)?;
        self.model.world.allows(&held, Op::Peek)?;
        let mut data = vec![0; size];
        let peek = self.look(&held, &mut data)?;
        data.truncate(peek.len);
        let facts = Facts::default()
            .with("avail", peek.available)
            .with("left", peek.left_this_message(held.pipe_type))
            .with("messages", peek.messages);
        Ok(Some(Outcome::Told {
            data: Some(data),
            facts,
        }))
    }

    fn look(&mut self, held: &Held, data: &mut [u8]) -> Result<Peek, Error> {
        loop {
            let lane = self.model.world.link(held)?.read_by(held.end);
            let before = lane.reader.position();
            let peek = lane.reader.peek(&lane.memory, data)?;
            if lane.reader.position() == before {
                return Ok(peek);
            }
            // It let go of what was withdrawn, so that there may be room for more.
            self.model.settle();
        }
    }

    pub(super) fn info(&mut self) -> Begins {
        let held = self.asked()?;
        let read = match held.state.read_mode {
            ReadMode::Byte => "byte",
            ReadMode::Message => "message",
        };
        let wait = match held.state.wait_mode {
            WaitMode::Wait => "yes",
            WaitMode::NoWait => "no",
        };
        let facts = self.properties(&held)?;
        Ok(told(facts.with("read", read).with("wait", wait)))
    }

    pub(super) fn local_info(&mut self) -> Begins {
        let held = self.asked()?;
        let direction = match held.direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
            Direction::Duplex => "duplex",
        };
        let state = match self.model.world.state(&held) {
            EndState::Listening => "listening",
            EndState::Connected => "connected",
            EndState::Closing => "closing",
            EndState::Disconnected => "disconnected",
        };
        let (readable, room) = (self.readable(&held)?, self.room(&held)?);
        let facts = (self.properties(&held)?)
            .with("direction", direction)
            .with("state", state)
            .with("readable", readable)
            .with("room", room);
        Ok(told(facts))
    }

    /// The unread bytes of the lane that this end reads.
    fn readable(&mut self, held: &Held) -> Result<u64, Error> {
        if held.link.is_none() {
            return Ok(0);
        }
        match self.look(held, &mut []) {
            Ok(peek) => Ok(peek.available),
            // Nothing is left by a peer that is gone.
            Err(error) if error == Error::BROKEN_PIPE => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The quota that is free for this end's writes: neither unread bytes nor waiting reads have it
    /// (reference 2.5).
    fn room(&mut self, held: &Held) -> Result<u64, Error> {
        let quota = match held.end {
            End::Server => held.quotas.outbound,
            End::Client => held.quotas.inbound,
        };
        let Some(peer) = held.peer.as_ref().filter(|_| held.link.is_some()) else {
            return Ok(u64::from(quota));
        };
        let waiting = u64::try_from(self.model.waiting_for(Some(peer))).unwrap_or(u64::MAX);
        let lane = self.model.world.link(held)?.written_by(held.end);
        let free = lane.writer.free_quota(&lane.memory)?;
        Ok(free.saturating_sub(waiting))
    }

    /// The actor's end, if it may be asked for what it is.
    fn asked(&mut self) -> Result<Held, Error> {
        let held = self.held_with(Access::READ_ATTRIBUTES)?;
        self.model.world.allows(&held, Op::Query)?;
        Ok(held)
    }

    /// What the pipe is, as `GetNamedPipeInfo` tells it, and the number of its instances.
    fn properties(&mut self, held: &Held) -> Result<Facts, Error> {
        let info = self.model.world.server(held)?.info();
        // A client whose server is gone counts none, whoever has the name by now.
        let orphan = held.end == End::Client && held.peer.is_none();
        let instances = info.filter(|_| !orphan).map_or(0, |info| info.instances);
        let end = match held.end {
            End::Server => "server",
            End::Client => "client",
        };
        let pipe_type = match held.pipe_type {
            PipeType::Byte => "byte",
            PipeType::Message => "message",
        };
        Ok(Facts::default()
            .with("end", end)
            .with("type", pipe_type)
            .with("in", held.quotas.inbound)
            .with("out", held.quotas.outbound)
            .with("max", held.max.get())
            .with("instances", instances))
    }

    pub(super) fn granted(&self) -> Begins {
        let bits = self.held()?.access.bits();
        Ok(told(
            Facts::default().with("access", format!("0x{bits:08X}")),
        ))
    }

    pub(super) fn name(&self) -> Begins {
        let held = self.held()?;
        self.model.world.allows(&held, Op::Query)?;
        Ok(told(Facts::default().with("name", held.spelling)))
    }

    pub(super) fn client_process(&mut self) -> Begins {
        let held = self.held()?;
        self.model.world.allows(&held, Op::ClientId)?;
        held.client_process
            .map(|process| Some(Outcome::Process(process)))
            .ok_or(Error::NOT_FOUND)
    }

    pub(super) fn server_process(&mut self) -> Begins {
        let held = self.held()?;
        self.model.world.allows(&held, Op::ServerId)?;
        Ok(Some(Outcome::Process(held.server_process)))
    }
}

fn told(facts: Facts) -> Option<Outcome> {
    Some(Outcome::Told { data: None, facts })
}
