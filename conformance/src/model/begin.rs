//! The beginning of each operation: what the state tables and the modes say to it.

use core::time::Duration;

use ntpipe_proto::lane::{Begun, Charge, Reading};
use ntpipe_proto::{
    Access, Error, Listen, Operation as Op, PipeState, PipeType, ReadMode, WaitMode, WaitTimeout,
    WaiterId,
};

use super::Model;
use super::pending::{Call, Kind, Pending, Then};
use super::world::{Allowed, Held, parse};
use crate::{Label, Open, Operation, Outcome, SetMode, Where};

/// An operation that begins.
pub(super) struct Begin<'a> {
    pub(super) model: &'a mut Model,
    pub(super) id: u64,
    /// The actor's end, or the actor if it needs none.
    pub(super) actor: Label,
    /// The handle by which the actor holds the end.
    pub(super) handle: Label,
}

/// An outcome, or `None` for an operation that is in the list of what pends.
pub(super) type Begins = Result<Option<Outcome>, Error>;

impl Begin<'_> {
    pub(super) fn operation(&mut self, operation: &Operation) -> Begins {
        match operation {
            Operation::Create(create) => {
                self.model.world.create(&self.actor, create).map(|()| DONE)
            }
            Operation::CreatePipe { size } => (self.model.world)
                .create_pipe(&self.actor, *size)
                .map(|()| DONE),
            Operation::Open(open) => self.open(open).map(|()| DONE),
            Operation::Connect { within } => self.connect(*within),
            Operation::Disconnect => self.disconnect(),
            Operation::Clone { of } => {
                let end = self.model.world.handles.get(of).cloned();
                let end = end.ok_or(Error::INVALID_HANDLE)?;
                self.model.world.handles.insert(self.actor.clone(), end);
                Ok(DONE)
            }
            Operation::Close => {
                self.model.release(&self.handle);
                Ok(DONE)
            }
            Operation::Write { data, within } => self.write(data, *within),
            Operation::Read { size, within } => self.read(*size, *within),
            Operation::Peek { size } => self.peek(*size),
            Operation::Flush { within } => self.flush(*within),
            Operation::Transact { data, size, within } => {
                self.transact(data, *size, *within, Then::Stay)
            }
            Operation::Call {
                place,
                data,
                size,
                timeout,
            } => {
                let call = Call {
                    place: place.clone(),
                    data: data.clone(),
                    size: *size,
                };
                match self.open(&Open {
                    place: place.clone(),
                    ..Open::default()
                }) {
                    Ok(()) => self.converse(&call),
                    Err(_) => self.wait(place, *timeout, Some(call)),
                }
            }
            Operation::Wait { place, timeout } => self.wait(place, *timeout, None),
            Operation::SetMode(mode) => self.set_mode(*mode),
            Operation::Info => self.info(),
            Operation::LocalInfo => self.local_info(),
            Operation::Granted => self.granted(),
            Operation::Name => self.name(),
            Operation::CancelIo => self.cancel_io(),
            // All the processes of a case belong to one session, so that only the rules of the
            // processes show.
            Operation::ClientProcess | Operation::ClientSession => self.client_process(),
            Operation::ServerProcess | Operation::ServerSession => self.server_process(),
            Operation::Kill => {
                self.model.kill(&self.actor);
                Ok(DONE)
            }
        }
    }

    /// Goes on with a call that has waited for an instance.
    pub(super) fn call(&mut self, call: &Call) -> Begins {
        self.open(&Open {
            place: call.place.clone(),
            ..Open::default()
        })?;
        self.converse(call)
    }

    fn open(&mut self, open: &Open) -> Result<(), Error> {
        self.model.world.open(&self.actor, open)?;
        let server = self.held()?.peer;
        let came = |op: &Pending| Some(&op.actor) == server.as_ref() && is_connect(op);
        self.model.succeed(came);
        Ok(())
    }

    fn connect(&mut self, within: Option<Duration>) -> Begins {
        let held = self.held()?;
        self.model.world.allows(&held, Op::Connect)?;
        match (
            self.model.world.server(&held)?.listen(held.instance)?,
            held.state.wait_mode,
        ) {
            (Listen::AlreadyConnected, _) => Err(Error::PIPE_CONNECTED),
            (Listen::Waiting, WaitMode::NoWait) => Err(Error::PIPE_LISTENING),
            (Listen::Waiting, WaitMode::Wait) => self.pend(Kind::Connect, within),
        }
    }

    fn disconnect(&mut self) -> Begins {
        let held = self.held()?;
        self.model.world.allows(&held, Op::Disconnect)?;
        self.model.world.server(&held)?.disconnect(held.instance)?;
        let own = self.actor.clone();
        self.model.fail(Error::PIPE_NOT_CONNECTED, |op| {
            op.actor == own || Some(&op.actor) == held.peer.as_ref()
        });
        self.model.world.sever(&own);
        Ok(DONE)
    }

    /// `CancelIoEx` without an operation: whatever goes on at the end.
    fn cancel_io(&mut self) -> Begins {
        let ours = |op: &&Pending| op.actor == self.actor && !op.detached;
        // The last first: no write is to find room because another was taken back.
        let ids: Vec<u64> = self
            .model
            .pending
            .iter()
            .rev()
            .filter(ours)
            .map(|op| op.id)
            .collect();
        for id in &ids {
            self.model.give_up(*id, Error::OPERATION_ABORTED);
        }
        match ids.is_empty() {
            true => Err(Error::NOT_FOUND),
            false => Ok(DONE),
        }
    }

    fn write(&mut self, data: &[u8], within: Option<Duration>) -> Begins {
        let held = self.held_with(Access::WRITE_DATA)?;
        self.model.world.allows(&held, Op::Write)?;
        if held.state.wait_mode == WaitMode::NoWait {
            return self
                .write_now(&held, data)
                .map(|len| Some(Outcome::Wrote(len)));
        }
        let lane = self.model.world.link(&held)?.written_by(held.end);
        match lane.writer.begin(&lane.memory, data, Charge::Charged)? {
            Begun::Done => Ok(Some(Outcome::Wrote(data.len()))),
            Begun::Pending(op) => self.pend(
                Kind::Write {
                    op,
                    data: data.to_vec(),
                },
                within,
            ),
        }
    }

    /// A write that must not wait: what neither fits nor goes straight to a waiting read is not
    /// written (observed 6.3 to 6.8).
    fn write_now(&mut self, held: &Held, data: &[u8]) -> Result<usize, Error> {
        let waiting = self.model.waiting_for(held.peer.as_ref()).min(data.len());
        let lane = self.model.world.link(held)?.written_by(held.end);
        let fits = lane.writer.fits(&lane.memory, data.len() - waiting)?;
        let len = match (fits, held.pipe_type) {
            (true, _) => data.len(),
            (false, PipeType::Byte) => waiting,
            (false, PipeType::Message) => 0,
        };
        let now = data.get(..len).unwrap_or_default();
        if len > 0 || data.is_empty() {
            let begun = lane.writer.begin(&lane.memory, now, Charge::Charged)?;
            // What pends until the waiting read takes it is the reader's before this step ends.
            if let Begun::Pending(op) = begun {
                let kind = Kind::Write {
                    op,
                    data: now.to_vec(),
                };
                self.model.detached(self.actor.clone(), kind);
            }
        }
        Ok(len)
    }

    fn read(&mut self, size: usize, within: Option<Duration>) -> Begins {
        let held = self.held_with(Access::READ_DATA)?;
        self.model.world.allows(&held, Op::Read)?;
        if held.state.wait_mode == WaitMode::NoWait {
            let lane = self.model.world.link(&held)?.read_by(held.end);
            let closing = held.peer.is_none();
            if !closing && lane.reader.is_empty(&lane.memory)? {
                return Err(Error::NO_DATA);
            }
        }
        self.pend_read(size, within, Then::Stay)
    }

    fn flush(&mut self, within: Option<Duration>) -> Begins {
        let held = self.held_with(Access::WRITE_DATA)?;
        if self.model.world.allows(&held, Op::Flush)? == Allowed::Done {
            return Ok(DONE);
        }
        let flush = self
            .model
            .world
            .link(&held)?
            .written_by(held.end)
            .writer
            .flush();
        self.pend(Kind::Flush(flush), within)
    }

    fn transact(
        &mut self,
        data: &[u8],
        size: usize,
        within: Option<Duration>,
        then: Then,
    ) -> Begins {
        let held = self.held_with(Access::READ_DATA | Access::WRITE_DATA)?;
        self.model.world.allows(&held, Op::Transact)?;
        let duplex = held.direction.client_reads() && held.direction.client_writes();
        if !duplex || held.state.read_mode != ReadMode::Message {
            return Err(Error::BAD_PIPE);
        }
        let lane = self.model.world.link(&held)?.read_by(held.end);
        let empty = lane.reader.is_empty(&lane.memory)?;
        if !empty || self.model.is_reading(&self.actor) {
            return Err(Error::PIPE_BUSY);
        }
        let lane = self.model.world.link(&held)?.written_by(held.end);
        if let Begun::Pending(op) = lane.writer.begin(&lane.memory, data, Charge::Uncharged)? {
            let kind = Kind::Write {
                op,
                data: data.to_vec(),
            };
            self.model.detached(self.actor.clone(), kind);
        }
        self.pend_read(size, within, then)
    }

    /// `CallNamedPipe`, once the pipe is open.
    fn converse(&mut self, call: &Call) -> Begins {
        let mode = SetMode {
            read_mode: ReadMode::Message,
            wait_mode: WaitMode::Wait,
        };
        let result = self
            .set_mode(mode)
            .and_then(|_| self.transact(&call.data, call.size, None, Then::Close));
        if result.is_err() {
            self.model.close(&self.actor);
        }
        result
    }

    fn wait(&mut self, place: &Where, timeout: WaitTimeout, call: Option<Call>) -> Begins {
        let name = parse(place)?;
        let (waiter, now) = (WaiterId(self.id), self.model.now);
        let server = self
            .model
            .world
            .names
            .entry(name.folded().to_owned())
            .or_default();
        server.wait(waiter, timeout, now);
        self.pend(Kind::Wait { waiter, call }, None)
    }

    fn set_mode(&mut self, mode: SetMode) -> Begins {
        let held = self.held_with(Access::WRITE_ATTRIBUTES)?;
        self.model.world.allows(&held, Op::SetState)?;
        if !held.pipe_type.allows(mode.read_mode) {
            return Err(Error::INVALID_PARAMETER);
        }
        if mode.wait_mode == WaitMode::NoWait && held.state.wait_mode == WaitMode::Wait {
            self.refuse_while_busy(&held)?;
        }
        let state = PipeState {
            read_mode: mode.read_mode,
            wait_mode: mode.wait_mode,
        };
        if let Some(held) = self.model.world.ends.get_mut(&self.actor) {
            held.state = state;
        }
        Ok(DONE)
    }

    /// An end with reads that wait or data that nobody has read keeps waiting (reference 1.13).
    fn refuse_while_busy(&mut self, held: &Held) -> Result<(), Error> {
        // What a peer that is gone has not read is gone too (reference 2.4).
        if held.peer.is_none() {
            return Ok(());
        }
        let Ok(link) = self.model.world.link(held) else {
            return Ok(());
        };
        let lane = link.written_by(held.end);
        let unread = !lane.reader.is_empty(&lane.memory)?;
        match unread || self.model.is_reading(&self.actor) {
            true => Err(Error::PIPE_BUSY),
            false => Ok(()),
        }
    }

    /// The actor's end.
    pub(super) fn held(&self) -> Result<Held, Error> {
        self.model
            .world
            .ends
            .get(&self.actor)
            .cloned()
            .ok_or(Error::INVALID_HANDLE)
    }

    /// The actor's end, if it has these rights.
    pub(super) fn held_with(&self, access: Access) -> Result<Held, Error> {
        let held = self.held()?;
        match held.access.contains(access) {
            true => Ok(held),
            false => Err(Error::ACCESS_DENIED),
        }
    }

    fn pend_read(&mut self, size: usize, within: Option<Duration>, then: Then) -> Begins {
        let kind = Kind::Read {
            reading: Reading::default(),
            buffer: vec![0; size],
            then,
        };
        self.pend(kind, within)
    }

    fn pend(&mut self, kind: Kind, within: Option<Duration>) -> Begins {
        let deadline = within.map(|time| self.model.now.saturating_add(time));
        let actor = self.actor.clone();
        self.model.pending.push(Pending {
            id: self.id,
            actor,
            kind,
            deadline,
            detached: false,
        });
        Ok(None)
    }
}

/// Whether an operation is a `ConnectNamedPipe` under way.
fn is_connect(op: &Pending) -> bool {
    match op.kind {
        Kind::Connect => true,
        Kind::Read { .. } | Kind::Write { .. } | Kind::Flush(_) | Kind::Wait { .. } => false,
    }
}

const DONE: Option<Outcome> = Some(Outcome::Done);
