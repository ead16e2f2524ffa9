//! The steps of a case, typed: who does what.

use core::fmt;
use core::time::Duration;

use ntpipe_proto::{DefaultTimeout, Direction, PipeType, ReadMode, WaitMode, WaitTimeout};

use crate::{Expected, Outcome, Patience, line};

/// One line of a case: an action and what must come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The line in its file, from 1.
    pub line: usize,
    /// The line as it stands there; a process that is sent it can read the step again.
    pub text: String,
    /// Whether it follows at once, without anything that the step before set free in between.
    pub at_once: bool,
    /// What is done.
    pub action: Action,
    /// What must come of it.
    pub expected: Expected,
}

impl Step {
    /// Reads one line of a case.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(text: &str, line: usize) -> Result<Self, String> {
        line::step(text, line)
    }

    /// How long the step may take before it counts as pending.
    pub const fn patience(&self) -> Patience {
        match self.expected.0 {
            Outcome::Pending => Patience::Brief,
            Outcome::Done
            | Outcome::Wrote(_)
            | Outcome::Read { .. }
            | Outcome::Told { .. }
            | Outcome::Process(_)
            | Outcome::Failed(_) => Patience::Long,
        }
    }
}

/// What one step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Someone begins an operation. With a tag it may go on while later steps are done.
    Begin {
        /// Under which name later steps speak of it.
        tag: Option<Tag>,
        /// Who does it.
        actor: Label,
        /// What.
        operation: Operation,
    },
    /// What has become of an operation that began earlier.
    Check(Tag),
    /// Someone cancels an operation that began earlier.
    Cancel(Tag),
}

/// What an actor can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// `CreateNamedPipe`.
    Create(Create),
    /// `CreatePipe`: the reader and the writer of the same number hold its ends.
    CreatePipe {
        /// `nSize`.
        size: u32,
    },
    /// `CreateFile` on a pipe.
    Open(Open),
    /// `DuplicateHandle`: the actor holds the other's end too.
    Clone {
        /// Who holds it already.
        of: Label,
    },
    /// `ConnectNamedPipe`.
    Connect {
        /// Give up after this time.
        within: Option<Duration>,
    },
    /// `DisconnectNamedPipe`.
    Disconnect,
    /// `CloseHandle`.
    Close,
    /// `WriteFile`.
    Write {
        /// What is written.
        data: Vec<u8>,
        /// Give up after this time.
        within: Option<Duration>,
    },
    /// `ReadFile`.
    Read {
        /// The size of the buffer.
        size: usize,
        /// Give up after this time.
        within: Option<Duration>,
    },
    /// `PeekNamedPipe`.
    Peek {
        /// The size of the buffer.
        size: usize,
    },
    /// `FlushFileBuffers`.
    Flush {
        /// Give up after this time.
        within: Option<Duration>,
    },
    /// `TransactNamedPipe`.
    Transact {
        /// The request.
        data: Vec<u8>,
        /// The size of the buffer for the reply.
        size: usize,
        /// Give up after this time.
        within: Option<Duration>,
    },
    /// `CallNamedPipe`; the caller needs no end.
    Call {
        /// Which pipe.
        place: Where,
        /// The request.
        data: Vec<u8>,
        /// The size of the buffer for the reply.
        size: usize,
        /// How long to wait for an instance.
        timeout: WaitTimeout,
    },
    /// `WaitNamedPipe`; the caller needs no end.
    Wait {
        /// Which pipe.
        place: Where,
        /// How long.
        timeout: WaitTimeout,
    },
    /// `SetNamedPipeHandleState`, which sets both modes.
    SetMode(SetMode),
    /// `GetNamedPipeInfo` and `GetNamedPipeHandleState` together.
    Info,
    /// The pipe's local information: what `GetNamedPipeInfo` tells, and how it is at the moment.
    LocalInfo,
    /// The rights that the end was granted.
    Granted,
    /// The name of the pipe.
    Name,
    /// `CancelIoEx` for whatever goes on at the end.
    CancelIo,
    /// `GetNamedPipeClientSessionId`.
    ClientSession,
    /// `GetNamedPipeServerSessionId`.
    ServerSession,
    /// `GetNamedPipeClientProcessId`.
    ClientProcess,
    /// `GetNamedPipeServerProcessId`.
    ServerProcess,
    /// The process that holds the end dies at once.
    Kill,
}

impl Operation {
    /// Whether it may end because its time is over.
    pub(crate) fn has_time(&self) -> bool {
        if let Self::Call { timeout, .. } | Self::Wait { timeout, .. } = self {
            return *timeout != WaitTimeout::Forever;
        }
        matches!(
            self,
            Self::Connect { within: Some(_) }
                | Self::Write {
                    within: Some(_),
                    ..
                }
                | Self::Read {
                    within: Some(_),
                    ..
                }
                | Self::Flush { within: Some(_) }
                | Self::Transact {
                    within: Some(_),
                    ..
                }
        )
    }

    /// Whether the actor must hold an end; otherwise it must hold none.
    pub const fn needs_end(&self) -> bool {
        match self {
            Self::Create(_)
            | Self::CreatePipe { .. }
            | Self::Open(_)
            | Self::Clone { .. }
            | Self::Call { .. }
            | Self::Wait { .. } => false,
            Self::Connect { .. }
            | Self::Disconnect
            | Self::Close
            | Self::Write { .. }
            | Self::Read { .. }
            | Self::Peek { .. }
            | Self::Flush { .. }
            | Self::Transact { .. }
            | Self::SetMode(_)
            | Self::Info
            | Self::LocalInfo
            | Self::Granted
            | Self::Name
            | Self::CancelIo
            | Self::ClientSession
            | Self::ServerSession
            | Self::ClientProcess
            | Self::ServerProcess
            | Self::Kill => true,
        }
    }
}

/// The choices of `CreateNamedPipe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// Which name.
    pub place: Where,
    /// `PIPE_ACCESS_*`.
    pub direction: Direction,
    /// `PIPE_TYPE_*`.
    pub pipe_type: PipeType,
    /// `PIPE_READMODE_*`.
    pub read_mode: ReadMode,
    /// `PIPE_WAIT` or `PIPE_NOWAIT`.
    pub wait_mode: WaitMode,
    /// `nMaxInstances`, unchecked.
    pub max: MaxCount,
    /// `nInBufferSize`.
    pub in_quota: u32,
    /// `nOutBufferSize`.
    pub out_quota: u32,
    /// `nDefaultTimeOut`.
    pub timeout: DefaultTimeout,
    /// `FILE_FLAG_FIRST_PIPE_INSTANCE`.
    pub first: bool,
}

impl Default for Create {
    fn default() -> Self {
        Self {
            place: Where::default(),
            direction: Direction::Duplex,
            pipe_type: PipeType::Byte,
            read_mode: ReadMode::Byte,
            wait_mode: WaitMode::Wait,
            max: MaxCount(255),
            in_quota: 4096,
            out_quota: 4096,
            timeout: DefaultTimeout::default(),
            first: false,
        }
    }
}

/// A number of instances as a program passes it; 0 and 256 can be said too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxCount(pub u32);

/// The choices of `CreateFile`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Open {
    /// Which name.
    pub place: Where,
    /// The rights that are asked for.
    pub access: Rights,
}

/// The rights that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rights {
    /// Reading and writing.
    #[default]
    Both,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Neither.
    None,
    /// An access mask.
    Mask(u32),
}

/// The modes that `SetNamedPipeHandleState` sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetMode {
    /// `PIPE_READMODE_*`.
    pub read_mode: ReadMode,
    /// `PIPE_WAIT` or `PIPE_NOWAIT`.
    pub wait_mode: WaitMode,
}

/// How a step says which pipe it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// A short name; each run of a case makes a name of its own of it.
    Name(String),
    /// A whole path, passed as it is.
    Path(String),
}

impl Default for Where {
    fn default() -> Self {
        Self::Name("pipe".to_owned())
    }
}

/// Who acts: an end, or a caller without one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    name: String,
    role: Role,
}

impl Label {
    /// The label with this name; `None` unless it is a role and digits, such as `client2`.
    pub fn new(name: &str) -> Option<Self> {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let role = match stem {
            "server" => Role::Server,
            "fellow" => Role::Fellow,
            "client" => Role::Client,
            "caller" => Role::Caller,
            "pipe" => Role::Pipe,
            "reader" => Role::Reader,
            "writer" => Role::Writer,
            _ => return None,
        };
        Some(Self {
            name: name.to_owned(),
            role,
        })
    }

    /// What kind of actor it is.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The process that the actor lives in: one for all that are called server, one for each
    /// anonymous pipe with both its ends, one for each other actor.
    #[must_use]
    pub fn process(&self) -> Self {
        match self.role {
            Role::Server => Self {
                name: "server".to_owned(),
                role: Role::Server,
            },
            Role::Fellow | Role::Client | Role::Caller => self.clone(),
            Role::Pipe | Role::Reader | Role::Writer => self.with_role("pipe", Role::Pipe),
        }
    }

    /// Who reads from an anonymous pipe and who writes to it.
    #[must_use]
    pub fn ends(&self) -> (Self, Self) {
        let reader = self.with_role("reader", Role::Reader);
        (reader, self.with_role("writer", Role::Writer))
    }

    /// The actor of another role with the same number.
    fn with_role(&self, stem: &str, role: Role) -> Self {
        let digits = self.name.trim_start_matches(|c: char| !c.is_ascii_digit());
        Self {
            name: format!("{stem}{digits}"),
            role,
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What kind of actor a label names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A server end.
    Server,
    /// A server end in a process of its own.
    Fellow,
    /// A client end.
    Client,
    /// Someone without an end.
    Caller,
    /// Who creates an anonymous pipe.
    Pipe,
    /// The reading end of an anonymous pipe.
    Reader,
    /// The writing end of an anonymous pipe.
    Writer,
}

/// The name of an operation under way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub String);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
