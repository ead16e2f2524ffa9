//! The operations, as calls of the interface for tasks.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ntpipe::IoErrorExt;
use ntpipe::tokio::{
    ClientOptions, NamedPipeClient, NamedPipeServer, OwnedReadHalf, OwnedWriteHalf, PeekInfo,
    PipeInfo, PipeMode, ReadInfo, ServerOptions, call,
};
use ntpipe_proto::{DefaultTimeout, Direction, Error, PipeType, WaitTimeout};
use tokio::time::timeout;

use super::worker::Ends;
use crate::processes::{Answer, address, mode, outcome, which};
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
        (Some(end), Operation::Clone { .. }) => {
            ends.insert(actor.clone(), end);
            Ok(Outcome::Done)
        }
        (None, operation) => without_end(operation, suffix).await,
        (Some(end), operation) => end.perform(operation).await,
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
    let server = options.create(address(&create.place, suffix))?;
    // It begins in the mode that is the type.
    if create.pipe_type != PipeType::from(PipeMode::from(create.read_mode)) {
        server.set_read_mode(create.read_mode.into())?;
    }
    let (read, write) = server.into_split();
    Ok(End::Server(Arc::new(Halves { read, write })))
}

fn open(open: &Open, suffix: &str) -> Result<End, Failure> {
    let mut options = ClientOptions::new();
    match open.access {
        Rights::Both => &mut options,
        Rights::Read => options.write(false),
        Rights::Write => options.read(false),
        Rights::None => options.read(false).write(false),
        Rights::Mask(_) => return Err(Failure::Inexpressible),
    };
    let client = options.open(address(&open.place, suffix))?;
    let (read, write) = client.into_split();
    Ok(End::Client(Arc::new(Halves { read, write })))
}

async fn without_end(operation: &Operation, suffix: &str) -> Result<Outcome, Failure> {
    let Operation::Call {
        place,
        data,
        size,
        timeout,
    } = operation
    else {
        return Err(Failure::Inexpressible);
    };
    let timeout = match timeout {
        WaitTimeout::Default => return Err(Failure::Inexpressible),
        WaitTimeout::Forever => Duration::MAX,
        WaitTimeout::After(time) => *time,
    };
    let mut reply = vec![0; *size];
    let read = call(address(place, suffix), data, &mut reply, timeout).await?;
    Ok(outcome(reply, read))
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
    /// What tells the end from others as long as it is there.
    pub(super) fn address(&self) -> usize {
        either!(self, halves => Arc::as_ptr(halves).addr())
    }

    /// Lets the client go, if there is one.
    pub(super) fn disconnect(&self) {
        if let Self::Server(halves) = self {
            // One that is disconnected already is as it should be.
            let _ = halves.read.as_ref().disconnect();
        }
    }

    async fn perform(self, operation: &Operation) -> Result<Outcome, Failure> {
        match operation {
            // Its task has dropped the futures.
            Operation::CancelIo => {}
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
            Operation::Create(_)
            | Operation::CreatePipe { .. }
            | Operation::Open(_)
            | Operation::Clone { .. }
            | Operation::Call { .. }
            | Operation::Wait { .. }
            | Operation::LocalInfo
            | Operation::Granted
            | Operation::Name
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
        // A peek needs a client, whatever there is to see.
        let peeked = server.peek(&mut []).await;
        let mut connect = pin!(server.connect());
        let mut waits = false;
        let connected = poll_fn(|cx| {
            let connected = connect.as_mut().poll(cx);
            waits |= connected.is_pending();
            connected
        });
        connected.await?;
        let came = match peeked {
            Ok(_) => true,
            // An end that cannot read: if there is a client, nothing has to be waited for.
            Err(error) if error.win32() == Some(Error::ACCESS_DENIED) => !waits,
            Err(_) => false,
        };
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
        let read_mode = either!(self, halves => halves.read.as_ref().read_mode());
        let facts = Facts::default()
            .with("end", which(info.end))
            .with("type", mode(info.mode))
            .with("in", info.in_buffer_size)
            .with("out", info.out_buffer_size)
            .with("max", info.max_instances)
            .with("read", mode(read_mode));
        Ok(Outcome::Told { data: None, facts })
    }
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
