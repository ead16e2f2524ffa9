//! The operations, as calls of the interface for tasks.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ntpipe::IoErrorExt;
use ntpipe::tokio::{
    ClientOptions, NamedPipeClient, NamedPipeServer, OwnedReadHalf, OwnedWriteHalf, PeekInfo,
    PipeInfo, PipeMode, ReadInfo, ServerOptions, call, wait,
};
use ntpipe_proto::{DefaultTimeout, Direction, Error, PipeType};
use tokio::time::timeout;

use super::worker::Ends;
use crate::processes::{Answer, address, local, mode, named, outcome, wait_time, waits, which};
use crate::{Create, Facts, Label, Open, Operation, Outcome, Rights, SetMode};

/// An end that this process holds, in halves.
#[derive(Debug, Clone)]
pub(super) enum End {
    Server(Arc<Halves<NamedPipeServer>>),
    Client(Arc<Halves<NamedPipeClient>>),
}

/// The two halves of an end.
#[derive(Debug)]
pub(super) struct Halves<E> {
    read: OwnedReadHalf<E>,
    write: OwnedWriteHalf<E>,
}

/// Does one operation, however long it takes; the end is let go behind it.
pub(super) async fn perform(
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
        (Some(end), Operation::Clone { .. }) => end.try_clone().map(|end| {
            ends.insert(actor.clone(), end);
            Outcome::Done
        }),
        (None, operation) => without_end(operation, suffix).await,
        (Some(end), Operation::ClientProcess) => return process(end.client_process()),
        (Some(end), Operation::ServerProcess) => return process(end.server_process()),
        (Some(end), Operation::ClientSession) => return session(end.client_session()),
        (Some(end), Operation::ServerSession) => return session(end.server_session()),
        (Some(end), operation) => end.perform(operation, suffix).await,
    };
    result.map_or_else(Failure::into_answer, Answer::Outcome)
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
                Answer::Trouble("the interface for tasks has no such thing".to_owned())
            }
            Self::Io(error) => match error.win32() {
                Some(code) => Answer::Outcome(Outcome::Failed(code)),
                None => Answer::Trouble(format!("an error that Windows does not know: {error}")),
            },
        }
    }
}

fn create(create: &Create, suffix: &str) -> Result<End, Failure> {
    let mut options = ServerOptions::new();
    options
        .pipe_mode(create.pipe_type.into())
        .read_mode(create.read_mode.into())
        .access_inbound(create.direction != Direction::Outbound)
        .access_outbound(create.direction != Direction::Inbound)
        .first_pipe_instance(create.first)
        .in_buffer_size(create.in_quota)
        .out_buffer_size(create.out_quota)
        .default_timeout(match create.timeout {
            DefaultTimeout::After(time) => time,
            DefaultTimeout::Forever => Duration::MAX,
        });
    // Any number is the default, and cannot be said.
    if create.max.0 != 255 {
        options.max_instances(usize::try_from(create.max.0).unwrap_or(usize::MAX));
    }
    Ok(End::server_of(
        options.create(address(&create.place, suffix))?,
    ))
}

fn open(open: &Open, suffix: &str) -> Result<End, Failure> {
    let mut options = ClientOptions::new();
    match open.access {
        Rights::Both => &mut options,
        Rights::Read => options.write(false),
        Rights::Write => options.read(false),
        Rights::None => options.read(false).write(false),
        Rights::Mask(bits) => options.access(bits),
    };
    Ok(End::client_of(options.open(address(&open.place, suffix))?))
}

async fn without_end(operation: &Operation, suffix: &str) -> Result<Outcome, Failure> {
    match operation {
        Operation::Wait { place, timeout } => {
            wait(address(place, suffix), wait_time(*timeout)).await?;
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
            let read = call(address, data, &mut reply, wait_time(*timeout)).await?;
            Ok(outcome(reply, read))
        }
        Operation::Create(_)
        | Operation::CreatePipe { .. }
        | Operation::Open(_)
        | Operation::Clone { .. }
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
        | Operation::LocalInfo
        | Operation::Granted
        | Operation::Name
        | Operation::CancelIo
        | Operation::ClientSession
        | Operation::ServerSession
        | Operation::ClientProcess
        | Operation::ServerProcess
        | Operation::Kill => Err(Failure::Inexpressible),
    }
}

/// Does the same at either kind of end.
macro_rules! either {
    ($self:ident, $halves:ident => $done:expr) => {
        match $self {
            Self::Server($halves) => $done,
            Self::Client($halves) => $done,
        }
    };
}

impl End {
    fn server_of(server: NamedPipeServer) -> Self {
        let (read, write) = server.into_split();
        Self::Server(Arc::new(Halves { read, write }))
    }

    fn client_of(client: NamedPipeClient) -> Self {
        let (read, write) = client.into_split();
        Self::Client(Arc::new(Halves { read, write }))
    }

    fn try_clone(&self) -> Result<Self, Failure> {
        Ok(match self {
            Self::Server(halves) => Self::server_of(halves.read.as_ref().try_clone()?),
            Self::Client(halves) => Self::client_of(halves.read.as_ref().try_clone()?),
        })
    }

    /// Lets the client go, if there is one.
    pub(super) fn disconnect(&self) {
        if let Self::Server(halves) = self {
            // One that is disconnected already is as it should be.
            let _ = halves.read.as_ref().disconnect();
        }
    }

    async fn perform(self, operation: &Operation, suffix: &str) -> Result<Outcome, Failure> {
        match operation {
            Operation::CancelIo => either!(self, halves => halves.read.as_ref().cancel_io())?,
            Operation::Close => drop(self),
            Operation::Connect { within } => return limited(*within, self.connect()).await,
            Operation::Disconnect => self.server()?.disconnect()?,
            Operation::Write { data, within } => {
                return limited(*within, self.write_all(data))
                    .await
                    .map(Outcome::Wrote);
            }
            Operation::Read { size, within } => {
                let mut data = vec![0; *size];
                let read = limited(*within, self.read(&mut data)).await?;
                return Ok(outcome(data, read));
            }
            Operation::Peek { size } => return self.peek(*size).await,
            Operation::Flush { within } => limited(*within, self.flush()).await?,
            Operation::Transact { data, size, within } => {
                let mut reply = vec![0; *size];
                let read = limited(*within, self.transact(data, &mut reply)).await?;
                return Ok(outcome(reply, read));
            }
            Operation::SetMode(SetMode { read_mode, .. }) => {
                let mode = PipeMode::from(*read_mode);
                either!(self, halves => halves.write.as_ref().set_read_mode(mode))?;
            }
            Operation::Info => return self.tell(),
            Operation::LocalInfo => {
                let info = either!(self, halves => halves.read.as_ref().local_info())?;
                return Ok(local(&info));
            }
            Operation::Granted => {
                let access = either!(self, halves => halves.read.as_ref().granted_access());
                let facts = Facts::default().with("access", format!("0x{access:08X}"));
                return Ok(Outcome::Told { data: None, facts });
            }
            Operation::Name => {
                let name = match &self {
                    Self::Server(halves) => halves.read.as_ref().name().as_str(),
                    Self::Client(halves) => halves.read.as_ref().name(),
                };
                return Ok(named(name, suffix));
            }
            Operation::Create(_)
            | Operation::CreatePipe { .. }
            | Operation::Open(_)
            | Operation::Clone { .. }
            | Operation::Call { .. }
            | Operation::Wait { .. }
            | Operation::ClientSession
            | Operation::ServerSession
            | Operation::ClientProcess
            | Operation::ServerProcess
            | Operation::Kill => return Err(Failure::Inexpressible),
        }
        Ok(Outcome::Done)
    }

    fn server(&self) -> Result<&NamedPipeServer, Failure> {
        match self {
            Self::Server(halves) => Ok(halves.read.as_ref()),
            Self::Client(_) => Err(Failure::Inexpressible),
        }
    }

    /// In Rust it is no error that the client has come already; here it is told apart again.
    async fn connect(&self) -> Result<Outcome, Failure> {
        let server = self.server()?;
        let came = server.client_process_id().is_ok();
        server.connect().await?;
        Ok(match came {
            true => Outcome::Failed(Error::PIPE_CONNECTED),
            false => Outcome::Done,
        })
    }

    async fn read(&self, data: &mut [u8]) -> Result<ReadInfo, Failure> {
        Ok(either!(self, halves => halves.read.read_message(data).await)?)
    }

    async fn write_all(&self, data: &[u8]) -> Result<usize, Failure> {
        let mut rest = data;
        loop {
            let len = either!(self, halves => halves.write.write_message(rest).await)?;
            rest = rest.get(len..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(data.len());
            }
        }
    }

    async fn flush(&self) -> Result<(), Failure> {
        Ok(either!(self, halves => halves.write.as_ref().flush_until_read().await)?)
    }

    async fn transact(&self, request: &[u8], reply: &mut [u8]) -> Result<ReadInfo, Failure> {
        Ok(either!(self, halves => halves.read.as_ref().transact(request, reply).await)?)
    }

    async fn peek(&self, size: usize) -> Result<Outcome, Failure> {
        let mut data = vec![0; size];
        let peek: PeekInfo = either!(self, halves => halves.read.as_ref().peek(&mut data).await)?;
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
        either!(self, halves => halves.read.as_ref().info())
    }

    fn tell(&self) -> Result<Outcome, Failure> {
        let info = self.info()?;
        let state = either!(self, halves => halves.read.as_ref().handle_state())?;
        let facts = Facts::default()
            .with("end", which(info.end))
            .with("type", mode(info.mode))
            .with("in", info.in_buffer_size)
            .with("out", info.out_buffer_size)
            .with("max", info.max_instances)
            .with("read", mode(state.read_mode))
            .with("wait", waits(state.wait_mode))
            .with("instances", state.instances);
        Ok(Outcome::Told { data: None, facts })
    }

    fn client_session(&self) -> Result<u32, Failure> {
        Ok(either!(self, halves => halves.read.as_ref().client_session_id())?)
    }

    fn server_session(&self) -> Result<u32, Failure> {
        Ok(either!(self, halves => halves.read.as_ref().server_session_id())?)
    }

    fn client_process(&self) -> Result<u32, Failure> {
        Ok(either!(self, halves => halves.read.as_ref().client_process_id())?)
    }

    fn server_process(&self) -> Result<u32, Failure> {
        Ok(either!(self, halves => halves.read.as_ref().server_process_id())?)
    }
}

fn session(result: Result<u32, Failure>) -> Answer {
    result.map_or_else(Failure::into_answer, Answer::Session)
}

fn process(result: Result<u32, Failure>) -> Answer {
    result.map_or_else(Failure::into_answer, Answer::Process)
}

/// The time limit of an operation is its caller's.
async fn limited<T>(
    within: Option<Duration>,
    operation: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match within {
        None => operation.await,
        Some(time) => match timeout(time, operation).await {
            Ok(done) => done,
            Err(_) => Err(Failure::Io(Error::SEM_TIMEOUT.into())),
        },
    }
}
