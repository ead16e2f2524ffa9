//! What kind of pipe, which end, which modes, how long: the choices a caller makes, as types.

use core::time::Duration;

use crate::Error;

mod access;
pub use access::Access;

mod flags;
pub use flags::{PipeState, ServerMode};

/// Whether the pipe keeps the boundaries between writes; a property of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PipeType {
    /// A stream of bytes.
    #[doc(alias = "PIPE_TYPE_BYTE")]
    Byte,
    /// A sequence of messages, one for each write.
    #[doc(alias = "PIPE_TYPE_MESSAGE")]
    Message,
}

impl PipeType {
    /// Whether an end of such a pipe can read in this mode (reference 2.6).
    pub const fn allows(self, mode: ReadMode) -> bool {
        match (self, mode) {
            (Self::Byte, ReadMode::Message) => false,
            (Self::Byte, ReadMode::Byte) | (Self::Message, ReadMode::Byte | ReadMode::Message) => {
                true
            }
        }
    }

    /// The bit of `CreateNamedPipe` and `GetNamedPipeInfo`.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Byte => 0,
            Self::Message => flags::TYPE_MESSAGE,
        }
    }
}

/// Whether an end reads across the boundaries of messages; a property of that end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadMode {
    /// A read takes what bytes there are.
    #[doc(alias = "PIPE_READMODE_BYTE")]
    Byte,
    /// A read takes one message at most.
    #[doc(alias = "PIPE_READMODE_MESSAGE")]
    Message,
}

impl ReadMode {
    /// The bit of `CreateNamedPipe` and `SetNamedPipeHandleState`.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Byte => 0,
            Self::Message => flags::READMODE_MESSAGE,
        }
    }
}

/// Whether an end's calls wait for what they need; a property of that end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitMode {
    /// They wait.
    #[doc(alias = "PIPE_WAIT")]
    Wait,
    /// They fail or do less rather than wait.
    #[doc(alias = "PIPE_NOWAIT")]
    NoWait,
}

impl WaitMode {
    /// The bit of `CreateNamedPipe` and `SetNamedPipeHandleState`.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Wait => 0,
            Self::NoWait => flags::NOWAIT,
        }
    }
}

/// Which way data flows, as the server sees it; a property of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From client to server.
    #[doc(alias = "PIPE_ACCESS_INBOUND")]
    Inbound,
    /// From server to client.
    #[doc(alias = "PIPE_ACCESS_OUTBOUND")]
    Outbound,
    /// Both ways.
    #[doc(alias = "PIPE_ACCESS_DUPLEX")]
    Duplex,
}

impl Direction {
    /// Whether the server end can read.
    pub const fn server_reads(self) -> bool {
        match self {
            Self::Inbound | Self::Duplex => true,
            Self::Outbound => false,
        }
    }

    /// Whether the server end can write.
    pub const fn server_writes(self) -> bool {
        match self {
            Self::Outbound | Self::Duplex => true,
            Self::Inbound => false,
        }
    }

    /// Whether a client end can read.
    pub const fn client_reads(self) -> bool {
        self.server_writes()
    }

    /// Whether a client end can write.
    pub const fn client_writes(self) -> bool {
        self.server_reads()
    }

    /// The bits of `CreateNamedPipe`'s open mode.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Inbound => flags::ACCESS_INBOUND,
            Self::Outbound => flags::ACCESS_OUTBOUND,
            Self::Duplex => flags::ACCESS_INBOUND | flags::ACCESS_OUTBOUND,
        }
    }
}

/// One of the two ends of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The end that the creator of the instance holds.
    #[doc(alias = "PIPE_SERVER_END")]
    Server,
    /// The end that opened the pipe.
    #[doc(alias = "PIPE_CLIENT_END")]
    Client,
}

impl End {
    /// The end at the other side.
    pub const fn peer(self) -> Self {
        match self {
            Self::Server => Self::Client,
            Self::Client => Self::Server,
        }
    }

    /// The bit of `GetNamedPipeInfo`.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Server => 1,
            Self::Client => 0,
        }
    }
}

/// How many instances a pipe can have at a time: 1 to 254, or any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MaxInstances(u8);

impl MaxInstances {
    /// Any number of instances.
    #[doc(alias = "PIPE_UNLIMITED_INSTANCES")]
    pub const UNLIMITED: Self = Self(u8::MAX);

    /// The limit that `CreateNamedPipe` takes: 1 to 254, or 255 for any number.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_PARAMETER` (87) for 0 and for more than 255 (reference 1.2).
    pub fn new(count: u32) -> Result<Self, Error> {
        match u8::try_from(count) {
            Ok(count @ 1..) => Ok(Self(count)),
            Ok(0) | Err(_) => Err(Error::INVALID_PARAMETER),
        }
    }

    /// Whether there may be one more instance when there are `current`.
    pub fn allows(self, current: u32) -> bool {
        self == Self::UNLIMITED || current < self.get()
    }

    /// The limit as `GetNamedPipeInfo` reports it, 255 being any number.
    pub fn get(self) -> u32 {
        u32::from(self.0)
    }
}

/// How long a client waits for an instance if it does not say; a property of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DefaultTimeout {
    /// This long.
    After(Duration),
    /// Until an instance is free.
    Forever,
}

impl DefaultTimeout {
    /// `CreateNamedPipe`'s `nDefaultTimeOut`: 0 is 50 ms, `u32::MAX` is for ever (reference 1.2).
    #[doc(alias = "nDefaultTimeOut")]
    pub const fn from_millis(millis: u32) -> Self {
        match millis {
            0 => Self::After(Duration::from_millis(50)),
            FOREVER => Self::Forever,
            _ => Self::After(from_millis(millis)),
        }
    }

    /// The number that [`DefaultTimeout::from_millis`] takes, rounded up to what it can express.
    pub fn millis(self) -> u32 {
        match self {
            Self::After(time) => to_millis(time),
            Self::Forever => FOREVER,
        }
    }

    /// The time to wait; `None` is for ever.
    pub const fn duration(self) -> Option<Duration> {
        match self {
            Self::After(time) => Some(time),
            Self::Forever => None,
        }
    }
}

impl Default for DefaultTimeout {
    fn default() -> Self {
        Self::from_millis(0)
    }
}

/// How long a client waits for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitTimeout {
    /// As long as the pipe says.
    #[doc(alias = "NMPWAIT_USE_DEFAULT_WAIT")]
    Default,
    /// This long. Windows cannot say "not at all": its `NMPWAIT_NOWAIT` is one millisecond.
    After(Duration),
    /// Until an instance is free.
    #[doc(alias = "NMPWAIT_WAIT_FOREVER")]
    Forever,
}

impl WaitTimeout {
    /// `WaitNamedPipe`'s `nTimeOut`: 0 is the pipe's default, `u32::MAX` is for ever (reference
    /// 1.5).
    pub const fn from_millis(millis: u32) -> Self {
        match millis {
            0 => Self::Default,
            FOREVER => Self::Forever,
            _ => Self::After(from_millis(millis)),
        }
    }

    /// The number that [`WaitTimeout::from_millis`] takes, rounded up to what it can express.
    pub fn millis(self) -> u32 {
        match self {
            Self::Default => 0,
            Self::After(time) => to_millis(time),
            Self::Forever => FOREVER,
        }
    }

    /// The time to wait for a pipe with this default; `None` is for ever.
    pub const fn duration(self, default: DefaultTimeout) -> Option<Duration> {
        match self {
            Self::Default => default.duration(),
            Self::After(time) => Some(time),
            Self::Forever => None,
        }
    }
}

/// `Duration::from_millis` in a `const fn`, where `u64::from` cannot be called.
const fn from_millis(millis: u32) -> Duration {
    Duration::from_millis(millis as u64)
}

/// Rounds up, and away from the two numbers that mean something else.
fn to_millis(time: Duration) -> u32 {
    let millis = time.as_nanos().div_ceil(1_000_000);
    u32::try_from(millis)
        .unwrap_or(FOREVER)
        .clamp(1, FOREVER - 1)
}

const FOREVER: u32 = u32::MAX;

#[cfg(test)]
mod tests;
