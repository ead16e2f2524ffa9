//! The operations, as calls of the blocking interface.

use std::io;
use std::time::Duration;

use ntpipe::anonymous::{self, PipeReader, PipeWriter};
use ntpipe::{
    ClientOptions, IoErrorExt, LocalInfo, NamedPipeClient, NamedPipeServer, PipeEnd, PipeInfo,
    PipeMode, PipeStream, ReadInfo, ServerOptions,
};
use ntpipe_proto::{
    DefaultTimeout, Direction, EndState, Error, PipeType, ReadMode, WaitMode, WaitTimeout,
};

use super::wire::Answer;
use super::worker::Ends;
use crate::{Create, Facts, Label, Open, Operation, Outcome, Rights, SetMode, Where};

/// An end that this process holds.
#[derive(Debug, Clone)]
pub(super) enum End {
    Server(NamedPipeServer),
    Client(NamedPipeClient),
    Reader(PipeReader),
    Writer(PipeWriter),
}

/// Does one operation, however long it takes; the end is let go behind it.
pub(super) fn perform(
    ends: &Ends,
    suffix: &str,
    actor: &Label,
    end: Option<End>,
    operation: &Operation,
) -> Answer {
    let result = match (end, operation) {
        (None, Operation::Create(options)) => create(options, suffix).map(|end| {
            ends.insert(actor.clone(), end);
            Outcome::Done
        }),
        (None, Operation::Open(options)) => open(options, suffix).map(|end| {
            ends.insert(actor.clone(), end);
            Outcome::Done
        }),
        (None, Operation::CreatePipe { size }) => create_pipe(*size).map(|(reader, writer)| {
            let labels = actor.ends();
            ends.insert(labels.0, reader);
            ends.insert(labels.1, writer);
            Outcome::Done
        }),
        (None, operation) => without_end(operation, suffix),
        (Some(end), Operation::Clone { .. }) => end.try_clone().map(|end| {
            ends.insert(actor.clone(), end);
            Outcome::Done
        }),
        (Some(end), Operation::ClientProcess) => return process(end.client_process()),
        (Some(end), Operation::ServerProcess) => return process(end.server_process()),
        (Some(end), Operation::ClientSession) => return session(end.client_session()),
        (Some(end), Operation::ServerSession) => return session(end.server_session()),
        (Some(end), operation) => end.perform(operation, suffix),
    };
    match result {
        Ok(outcome) => Answer::Outcome(outcome),
        Err(failure) => failure.into_answer(),
    }
}

/// Why there is no outcome, or only an error.
enum Failure {
    Io(io::Error),
    /// The interface has no such thing.
    Inexpressible,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Failure {
    fn into_answer(self) -> Answer {
        match self {
            Self::Inexpressible => {
                Answer::Trouble("the blocking interface has no such thing".to_owned())
            }
            Self::Io(error) => match error.win32() {
                Some(code) => Answer::Outcome(Outcome::Failed(code)),
                None => Answer::Trouble(format!("an error that Windows does not know: {error}")),
            },
        }
    }
}

fn create(create: &Create, suffix: &str) -> Result<End, Failure> {
    let timeout = match create.timeout {
        DefaultTimeout::After(time) => time,
        DefaultTimeout::Forever => Duration::MAX,
    };
    let server = ServerOptions::new()
        .pipe_mode(create.pipe_type.into())
        .read_mode(create.read_mode.into())
        .wait_mode(create.wait_mode)
        .access_inbound(create.direction != Direction::Outbound)
        .access_outbound(create.direction != Direction::Inbound)
        .first_pipe_instance(create.first)
        .max_instances(usize::try_from(create.max.0).unwrap_or(usize::MAX))
        .in_buffer_size(create.in_quota)
        .out_buffer_size(create.out_quota)
        .default_timeout(timeout)
        .create(address(&create.place, suffix))?;
    Ok(End::Server(server))
}

fn create_pipe(size: u32) -> Result<(End, End), Failure> {
    let (reader, writer) = anonymous::pipe(size)?;
    Ok((End::Reader(reader), End::Writer(writer)))
}

fn open(open: &Open, suffix: &str) -> Result<End, Failure> {
    let mut options = ClientOptions::new();
    match open.access {
        Rights::Both => options.read(true).write(true),
        Rights::Read => options.read(true).write(false),
        Rights::Write => options.read(false).write(true),
        Rights::None => options.read(false).write(false),
        Rights::Mask(bits) => options.access(bits),
    };
    let client = options.open(address(&open.place, suffix))?;
    Ok(End::Client(client))
}

fn without_end(operation: &Operation, suffix: &str) -> Result<Outcome, Failure> {
    match operation {
        Operation::Wait { place, timeout } => {
            ntpipe::wait(address(place, suffix), wait_time(*timeout))?;
            Ok(Outcome::Done)
        }
        Operation::Call {
            place,
            data,
            size,
            timeout,
        } => {
            let mut reply = vec![0; *size];
            let address = address(place, suffix);
            let read = ntpipe::call(address, data, &mut reply, wait_time(*timeout))?;
            Ok(outcome(reply, read))
        }
        Operation::Create(_)
        | Operation::CreatePipe { .. }
        | Operation::Open(_)
        | Operation::Clone { .. }
        | Operation::LocalInfo
        | Operation::Granted
        | Operation::Name
        | Operation::CancelIo
        | Operation::ClientSession
        | Operation::ServerSession
        | Operation::Connect { .. }
        | Operation::Disconnect
        | Operation::Close
        | Operation::Write { .. }
        | Operation::Read { .. }
        | Operation::Peek { .. }
        | Operation::Flush { .. }
        | Operation::Transact { .. }
        | Operation::SetMode(_)
        | Operation::Info
        | Operation::ClientProcess
        | Operation::ServerProcess
        | Operation::Kill => Err(Failure::Inexpressible),
    }
}

impl End {
    fn perform(self, operation: &Operation, suffix: &str) -> Result<Outcome, Failure> {
        match operation {
            Operation::Close => drop(self),
            Operation::Connect { within } => return self.connect(*within),
            Operation::Disconnect => self.server()?.disconnect()?,
            Operation::Write { data, within } => {
                self.stream().set_write_timeout(*within)?;
                return Ok(Outcome::Wrote(self.stream().write_message(data)?));
            }
            Operation::Read { size, within } => {
                self.stream().set_read_timeout(*within)?;
                let mut data = vec![0; *size];
                let read = self.stream().read_message(&mut data)?;
                return Ok(outcome(data, read));
            }
            Operation::Peek { size } => return self.peek(*size),
            Operation::Flush { within } => {
                self.stream().set_write_timeout(*within)?;
                self.stream().flush()?;
            }
            Operation::Transact { data, size, within } => {
                self.stream().set_read_timeout(*within)?;
                let mut reply = vec![0; *size];
                let read = self.stream().transact(data, &mut reply)?;
                return Ok(outcome(reply, read));
            }
            Operation::SetMode(SetMode {
                read_mode,
                wait_mode,
            }) => self.stream().set_modes((*read_mode).into(), *wait_mode)?,
            Operation::CancelIo => match self {
                Self::Server(server) => server.cancel_io()?,
                Self::Client(_) | Self::Reader(_) | Self::Writer(_) => {
                    self.stream().cancel_io()?;
                }
            },
            Operation::Info => return self.tell(),
            Operation::LocalInfo => return self.tell_local(),
            Operation::Granted => {
                let access = format!("0x{:08X}", self.stream().granted_access());
                let facts = Facts::default().with("access", access);
                return Ok(Outcome::Told { data: None, facts });
            }
            Operation::Name => return self.name(suffix),
            Operation::Create(_)
            | Operation::CreatePipe { .. }
            | Operation::Open(_)
            | Operation::Clone { .. }
            | Operation::ClientSession
            | Operation::ServerSession
            | Operation::Call { .. }
            | Operation::Wait { .. }
            | Operation::ClientProcess
            | Operation::ServerProcess
            | Operation::Kill => return Err(Failure::Inexpressible),
        }
        Ok(Outcome::Done)
    }

    fn try_clone(&self) -> Result<Self, Failure> {
        Ok(match self {
            Self::Server(server) => Self::Server(server.try_clone()?),
            Self::Client(client) => Self::Client(client.try_clone()?),
            Self::Reader(reader) => Self::Reader(reader.try_clone()?),
            Self::Writer(writer) => Self::Writer(writer.try_clone()?),
        })
    }

    fn name(&self, suffix: &str) -> Result<Outcome, Failure> {
        let name = match self {
            Self::Server(server) => server.name().as_str(),
            Self::Client(client) => client.name(),
            Self::Reader(_) | Self::Writer(_) => return Err(Failure::Inexpressible),
        };
        Ok(named(name, suffix))
    }

    fn stream(&self) -> &PipeStream {
        match self {
            Self::Server(server) => server,
            Self::Client(client) => client,
            Self::Reader(reader) => reader,
            Self::Writer(writer) => writer,
        }
    }

    fn server(&self) -> Result<&NamedPipeServer, Failure> {
        match self {
            Self::Server(server) => Ok(server),
            Self::Client(_) | Self::Reader(_) | Self::Writer(_) => Err(Failure::Inexpressible),
        }
    }

    /// In Rust it is no error that the client has come already; here it is told apart again.
    fn connect(&self, within: Option<Duration>) -> Result<Outcome, Failure> {
        let server = self.server()?;
        let came = server.client_process_id().is_ok();
        match within {
            Some(time) => server.connect_timeout(time)?,
            None => server.connect()?,
        }
        Ok(match came {
            true => Outcome::Failed(Error::PIPE_CONNECTED),
            false => Outcome::Done,
        })
    }

    fn peek(&self, size: usize) -> Result<Outcome, Failure> {
        let mut data = vec![0; size];
        let peek = self.stream().peek(&mut data)?;
        data.truncate(peek.len);
        let pipe_type = PipeType::from(self.info()?.mode);
        let facts = Facts::default()
            .with("avail", peek.available)
            .with("left", peek.left_this_message(pipe_type))
            .with("messages", peek.messages);
        Ok(Outcome::Told {
            data: Some(data),
            facts,
        })
    }

    fn info(&self) -> io::Result<PipeInfo> {
        match self {
            Self::Server(server) => server.info(),
            Self::Client(client) => client.info(),
            Self::Reader(reader) => Ok(reader.info()),
            Self::Writer(writer) => Ok(writer.info()),
        }
    }

    fn tell(&self) -> Result<Outcome, Failure> {
        let info = self.info()?;
        let instances = match self {
            Self::Server(server) => Some(server.instances()?),
            Self::Client(client) => Some(client.instances()?),
            Self::Reader(_) | Self::Writer(_) => None,
        };
        let mut facts = Facts::default()
            .with("end", which(info.end))
            .with("type", mode(info.mode))
            .with("in", info.in_buffer_size)
            .with("out", info.out_buffer_size)
            .with("max", info.max_instances)
            .with("read", mode(self.stream().read_mode()))
            .with("wait", waits(self.stream().wait_mode()));
        if let Some(instances) = instances {
            facts = facts.with("instances", instances);
        }
        Ok(Outcome::Told { data: None, facts })
    }

    fn tell_local(&self) -> Result<Outcome, Failure> {
        let info = match self {
            Self::Server(server) => server.local_info()?,
            Self::Client(client) => client.local_info()?,
            Self::Reader(reader) => reader.local_info()?,
            Self::Writer(writer) => writer.local_info()?,
        };
        Ok(local(&info))
    }

    fn client_session(&self) -> Result<u32, Failure> {
        Ok(match self {
            Self::Server(server) => server.client_session_id()?,
            Self::Client(client) => client.client_session_id()?,
            Self::Reader(_) | Self::Writer(_) => return Err(Failure::Inexpressible),
        })
    }

    fn server_session(&self) -> Result<u32, Failure> {
        Ok(match self {
            Self::Server(server) => server.server_session_id()?,
            Self::Client(client) => client.server_session_id()?,
            Self::Reader(_) | Self::Writer(_) => return Err(Failure::Inexpressible),
        })
    }

    fn client_process(&self) -> Result<u32, Failure> {
        Ok(match self {
            Self::Server(server) => server.client_process_id()?,
            Self::Client(client) => client.client_process_id()?,
            Self::Reader(_) | Self::Writer(_) => return Err(Failure::Inexpressible),
        })
    }

    fn server_process(&self) -> Result<u32, Failure> {
        Ok(match self {
            Self::Server(server) => server.server_process_id()?,
            Self::Client(client) => client.server_process_id()?,
            Self::Reader(_) | Self::Writer(_) => return Err(Failure::Inexpressible),
        })
    }
}

fn session(result: Result<u32, Failure>) -> Answer {
    result.map_or_else(Failure::into_answer, Answer::Session)
}

fn process(result: Result<u32, Failure>) -> Answer {
    result.map_or_else(Failure::into_answer, Answer::Process)
}

pub(crate) fn outcome(mut data: Vec<u8>, read: ReadInfo) -> Outcome {
    data.truncate(read.len);
    Outcome::Read {
        data,
        more: read.more,
    }
}

/// The name without what makes it the case's own.
pub(crate) fn named(name: &str, suffix: &str) -> Outcome {
    let name = name.strip_suffix(&format!("-{suffix}")).unwrap_or(name);
    let facts = Facts::default().with("name", name);
    Outcome::Told { data: None, facts }
}

pub(crate) fn local(info: &LocalInfo) -> Outcome {
    let facts = Facts::default()
        .with("end", which(info.end))
        .with("type", mode(info.mode))
        .with(
            "direction",
            match info.direction {
                Direction::Inbound => "inbound",
                Direction::Outbound => "outbound",
                Direction::Duplex => "duplex",
            },
        )
        .with("max", info.max_instances)
        .with("instances", info.instances)
        .with("in", info.in_buffer_size)
        .with("out", info.out_buffer_size)
        .with("readable", info.read_data_available)
        .with("room", info.write_quota_available)
        .with(
            "state",
            match info.state {
                EndState::Listening => "listening",
                EndState::Connected => "connected",
                EndState::Closing => "closing",
                EndState::Disconnected => "disconnected",
            },
        );
    Outcome::Told { data: None, facts }
}

pub(crate) fn waits(mode: WaitMode) -> &'static str {
    match mode {
        WaitMode::Wait => "yes",
        WaitMode::NoWait => "no",
    }
}

pub(crate) fn mode(mode: PipeMode) -> &'static str {
    match ReadMode::from(mode) {
        ReadMode::Byte => "byte",
        ReadMode::Message => "message",
    }
}

pub(crate) fn which(end: PipeEnd) -> &'static str {
    if end == PipeEnd::Server {
        "server"
    } else {
        "client"
    }
}

pub(crate) fn address(place: &Where, suffix: &str) -> String {
    match place {
        Where::Name(name) => format!(r"\\.\pipe\{name}-{suffix}"),
        Where::Path(path) => path.clone(),
    }
}

pub(crate) fn wait_time(timeout: WaitTimeout) -> Option<Duration> {
    match timeout {
        WaitTimeout::Default => None,
        WaitTimeout::Forever => Some(Duration::MAX),
        WaitTimeout::After(time) => Some(time),
    }
}
