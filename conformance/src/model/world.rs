//! What exists at one moment: names, ends, and the connections between them.

use std::collections::BTreeMap;

use ntpipe_proto::{
    Access, Connection, DefaultTimeout, Direction, End, EndState, Error, FirstInstance, InstanceId,
    InstanceOptions, MaxInstances, Operation, PipeName, PipeState, PipeType, Quotas, ReadMode,
    Server, ServerMode, Verdict,
};

use super::memory::Link;
use crate::{Create, Label, Open, Rights, Where};

/// Names, ends and connections.
#[derive(Debug, Default)]
pub(super) struct World {
    /// By folded name.
    pub(super) names: BTreeMap<String, Server>,
    pub(super) ends: BTreeMap<Label, Held>,
    /// Who holds which end; several may hold one.
    pub(super) handles: BTreeMap<Label, Label>,
    /// The names as the creators of their first instances spelled them, by folded name.
    spellings: BTreeMap<String, String>,
    links: BTreeMap<LinkId, Link>,
    next_link: u64,
    /// How often bytes have gone into or out of a lane without an operation ending.
    pub(super) moves: u64,
}

/// One end, held by someone.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) end: End,
    pub(super) key: String,
    /// What stands behind `\\.\pipe\`, as the creator of the name spelled it.
    pub(super) spelling: String,
    pub(super) instance: InstanceId,
    pub(super) state: PipeState,
    pub(super) access: Access,
    pub(super) pipe_type: PipeType,
    pub(super) direction: Direction,
    pub(super) max: MaxInstances,
    pub(super) quotas: Quotas,
    pub(super) link: Option<LinkId>,
    /// Who holds the other end of the link, if anyone does.
    pub(super) peer: Option<Label>,
    pub(super) client_process: Option<Label>,
    pub(super) server_process: Label,
    /// Of a client end: its stay on the instance, and the state as it sees it.
    stay: Option<(Connection, EndState)>,
}

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId(u64);

impl World {
    /// `CreateNamedPipe`.
    pub(super) fn create(&mut self, label: &Label, create: &Create) -> Result<(), Error> {
        let name = parse(&create.place)?;
        let mode = ServerMode {
            direction: create.direction,
            first_instance: create.first,
            overlapped: true,
            write_through: false,
            extra_access: Access::NONE,
            pipe_type: create.pipe_type,
            read_mode: create.read_mode,
            wait_mode: create.wait_mode,
            reject_remote: true,
        };
        mode.check()?;
        if !name.is_local() {
            return Err(Error::INVALID_NAME);
        }
        let options = InstanceOptions {
            direction: create.direction,
            pipe_type: create.pipe_type,
            max_instances: MaxInstances::new(create.max.0)?,
            quotas: Quotas {
                inbound: create.in_quota,
                outbound: create.out_quota,
            },
            default_timeout: create.timeout,
            first: match create.first {
                true => FirstInstance::Required,
                false => FirstInstance::NotRequired,
            },
        };
        let exists = (self.names.get(name.folded())).is_some_and(|server| server.info().is_some());
        if !exists {
            let spelling = name.as_str().to_owned();
            self.spellings.insert(name.folded().to_owned(), spelling);
        }
        self.enter(
            label,
            name.folded(),
            &options,
            mode.state(),
            mode.granted_access(),
        )
    }

    /// `CreatePipe`: an instance whose name nobody can say, and its client (observed 13.1, 13.6).
    pub(super) fn create_pipe(&mut self, label: &Label, size: u32) -> Result<(), Error> {
        let quota = if size == 0 { 4096 } else { size };
        let options = InstanceOptions {
            direction: Direction::Inbound,
            pipe_type: PipeType::Byte,
            max_instances: MaxInstances::new(1)?,
            quotas: Quotas {
                inbound: quota,
                outbound: quota,
            },
            default_timeout: DefaultTimeout::default(),
            first: FirstInstance::Required,
        };
        let key = format!("\0{label}");
        let (reader, writer) = label.ends();
        let access = Access::FILE_GENERIC_READ | Access::WRITE_ATTRIBUTES;
        self.enter(&reader, &key, &options, PipeState::CLIENT, access)?;
        let access = Access::FILE_GENERIC_WRITE | Access::READ_ATTRIBUTES;
        self.join(&writer, &key, access)
    }

    /// Creates an instance.
    fn enter(
        &mut self,
        label: &Label,
        key: &str,
        options: &InstanceOptions,
        mut state: PipeState,
        access: Access,
    ) -> Result<(), Error> {
        let server = self.names.entry(key.to_owned()).or_default();
        let instance = server.create(options)?;
        let info = server.info().ok_or(Error::INTERNAL_ERROR)?;
        if !info.pipe_type.allows(state.read_mode) {
            state.read_mode = ReadMode::Byte;
        }
        let held = Held {
            end: End::Server,
            key: key.to_owned(),
            spelling: self.spellings.get(key).cloned().unwrap_or_default(),
            instance,
            state,
            access,
            pipe_type: info.pipe_type,
            direction: info.direction,
            max: info.max_instances,
            quotas: options.quotas,
            link: None,
            peer: None,
            client_process: None,
            server_process: label.process(),
            stay: None,
        };
        self.handles.insert(label.clone(), label.clone());
        self.ends.insert(label.clone(), held);
        Ok(())
    }

    /// `CreateFile`.
    pub(super) fn open(&mut self, label: &Label, open: &Open) -> Result<(), Error> {
        let name = parse(&open.place)?;
        let desired = match open.access {
            Rights::Both => Access::GENERIC_READ | Access::GENERIC_WRITE,
            Rights::Read => Access::GENERIC_READ,
            Rights::Write => Access::GENERIC_WRITE,
            Rights::None => Access::NONE,
            Rights::Mask(bits) => Access::from_bits(bits),
        };
        let access = Access::requested_by_client(desired);
        self.join(label, name.folded(), access)
    }

    /// Connects a client to an instance.
    fn join(&mut self, label: &Label, key: &str, access: Access) -> Result<(), Error> {
        let server = self.names.entry(key.to_owned()).or_default();
        let connection = server.open(access)?;
        let found = self.ends.iter_mut().find(|(_, held)| {
            held.end == End::Server && held.instance == connection.instance() && held.key == key
        });
        let (server_label, server_end) = found.ok_or(Error::INTERNAL_ERROR)?;
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links
            .insert(link, Link::new(server_end.pipe_type, server_end.quotas));
        server_end.link = Some(link);
        server_end.peer = Some(label.clone());
        server_end.client_process = Some(label.process());
        let held = Held {
            end: End::Client,
            state: PipeState::CLIENT,
            access,
            peer: Some(server_label.clone()),
            stay: Some((connection, EndState::Connected)),
            ..server_end.clone()
        };
        self.handles.insert(label.clone(), label.clone());
        self.ends.insert(label.clone(), held);
        Ok(())
    }

    /// The state of the instance as this end sees it.
    pub(super) fn state(&self, held: &Held) -> EndState {
        match held.stay {
            Some((_, state)) => state,
            None => {
                let server = self.names.get(&held.key);
                server
                    .and_then(|s| s.state(held.instance))
                    .unwrap_or(EndState::Disconnected)
            }
        }
    }

    /// What the state tables say of an operation.
    ///
    /// # Errors
    /// The error if they refuse it.
    pub(super) fn allows(&self, held: &Held, operation: Operation) -> Result<Allowed, Error> {
        match self.state(held).verdict(held.end, operation) {
            Verdict::Proceed | Verdict::DrainThen(_) => Ok(Allowed::Proceed),
            Verdict::Succeed => Ok(Allowed::Done),
            Verdict::Fail(error) => Err(error),
        }
    }

    pub(super) fn server(&mut self, held: &Held) -> Result<&mut Server, Error> {
        self.names.get_mut(&held.key).ok_or(Error::INVALID_HANDLE)
    }

    /// The connection of an end.
    pub(super) fn link(&mut self, held: &Held) -> Result<&mut Link, Error> {
        let link = held.link.and_then(|id| self.links.get_mut(&id));
        link.ok_or(Error::PIPE_NOT_CONNECTED)
    }

    /// Ends the connection of a server end, for both ends.
    pub(super) fn sever(&mut self, server: &Label) {
        let Some(held) = self.ends.get_mut(server) else {
            return;
        };
        let (link, peer) = (held.link.take(), held.peer.take());
        held.client_process = None;
        if let Some(link) = link {
            self.links.remove(&link);
        }
        if let Some(client) = peer.and_then(|label| self.ends.get_mut(&label)) {
            client.link = None;
            client.peer = None;
            client.stay = client.stay.map(|(stay, _)| (stay, EndState::Disconnected));
        }
    }

    /// Closes an end: what it wrote stays for the peer, who is returned.
    pub(super) fn close(&mut self, label: &Label) -> Result<Option<Label>, Error> {
        let held = self.ends.remove(label).ok_or(Error::INVALID_HANDLE)?;
        self.handles.retain(|_, end| end != label);
        let server = self.server(&held)?;
        match held.stay {
            Some((connection, _)) => server.client_closed(connection),
            None => server.close(held.instance),
        }
        let Some(peer) = held.peer.clone() else {
            if let Some(link) = held.link {
                self.links.remove(&link);
            }
            return Ok(None);
        };
        if let Ok(link) = self.link(&held) {
            let lane = link.written_by(held.end);
            lane.reader.writer_gone(&lane.memory)?;
        }
        if let Some(other) = self.ends.get_mut(&peer) {
            other.peer = None;
            other.stay = other.stay.map(|(stay, state)| (stay, state.peer_closed()));
        }
        Ok(Some(peer))
    }
}

/// Whether an operation goes on after its state was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// It does.
    Proceed,
    /// There is nothing to do.
    Done,
}

/// The name that a step means.
///
/// # Errors
/// `ERROR_INVALID_NAME` (123), as for [`PipeName::parse`].
pub(super) fn parse(place: &Where) -> Result<PipeName, Error> {
    match place {
        Where::Name(name) => PipeName::parse(&format!(r"\\.\pipe\{name}")),
        Where::Path(path) => PipeName::parse(path),
    }
}
