//! The messages between the owner of a pipe name and its clients, and its other server processes.
//!
//! They travel over a `SOCK_SEQPACKET` socket, one message in a datagram; file descriptors go
//! beside it. Everything is little endian:
//!
//! ```text
//! 0  magic    u32   "NTP1"
//! 4  version  u16   1
//! 6  kind     u16   1 to 15 from the client, 16 to 31 from the owner, 32 to 47 from another
//!                   server process to the owner, 48 and up from the owner to that
//! 8  body           the fields in the order of the type's definition
//! ```
//!
//! A text is its length in bytes as u16 and then UTF-8. Pipe types are 0 for bytes and 1 for
//! messages, directions are NT's 0 inbound, 1 outbound, 2 duplex. A message with a byte too few
//! or too many, an unknown number or an unknown version is refused as a whole.

use core::fmt;

use crate::server::{NameInfo, Quotas};
use crate::{Access, Direction, Error, MaxInstances, PipeType, WaitTimeout};

mod codec;
use codec::{Codec, Reader};

mod member;
pub use member::{Answer, Notice};

/// The version of the messages that this code speaks.
pub const VERSION: u16 = 1;

/// The most bytes that a message has.
pub const MAX_MESSAGE: usize = 1024;

/// The most bytes that a name has: 256 UTF-16 units of which each takes three bytes in UTF-8.
pub const MAX_NAME: usize = 768;

/// What a client asks of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Take an instance. The client's memory may come beside it already. Answered by
    /// [`Reply::Connected`] if that is of the right size, else by [`Reply::Opened`], or by
    /// [`Reply::Refused`].
    Open {
        /// What the client's handle is to be granted, generic rights mapped.
        access: Access,
        /// The security quality of service flags of `CreateFile`.
        qos: u32,
        /// The name, folded.
        name: String,
    },
    /// Finish an open: the client's memory comes beside it. Not answered.
    Attach,
    /// Tell me when an instance listens. Answered by [`Reply::Ready`] or [`Reply::Refused`].
    Wait {
        /// For how long at most.
        timeout: WaitTimeout,
        /// The name, folded.
        name: String,
    },
    /// What kind of pipe is it? Answered by [`Reply::Info`] or [`Reply::Refused`].
    Query {
        /// The name, folded.
        name: String,
    },
}

impl Request {
    /// The message.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_NAME` (123) if the name has more than [`MAX_NAME`] bytes.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        match self {
            Self::Open { access, qos, name } => {
                header(KIND_OPEN, &mut out)?;
                access.encode(&mut out)?;
                qos.encode(&mut out)?;
                name.encode(&mut out)?;
            }
            Self::Attach => header(KIND_ATTACH, &mut out)?,
            Self::Wait { timeout, name } => {
                header(KIND_WAIT, &mut out)?;
                timeout.encode(&mut out)?;
                name.encode(&mut out)?;
            }
            Self::Query { name } => {
                header(KIND_QUERY, &mut out)?;
                name.encode(&mut out)?;
            }
        }
        Ok(out)
    }

    /// The request in a datagram.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if it is not exactly one request of this version.
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        let (mut reader, kind) = open_header(datagram)?;
        let request = match kind {
            KIND_OPEN => Self::Open {
                access: reader.read("access")?,
                qos: reader.read("qos")?,
                name: reader.read("name")?,
            },
            KIND_ATTACH => Self::Attach,
            KIND_WAIT => Self::Wait {
                timeout: reader.read("timeout")?,
                name: reader.read("name")?,
            },
            KIND_QUERY => Self::Query {
                name: reader.read("name")?,
            },
            _ => return Err(UNKNOWN_KIND),
        };
        reader.finish()?;
        Ok(request)
    }
}

/// What an owner answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The client has an instance; the owner's memory comes beside it, the client's is still to be
    /// attached.
    Opened(Opened),
    /// The same, and the memory that came with the open is attached.
    Connected(Opened),
    /// The same, from a process to which the owner has handed the client over.
    HandedOver(Opened),
    /// The request failed.
    Refused {
        /// Why.
        error: Error,
    },
    /// An instance listens.
    Ready,
    /// What kind of pipe it is.
    Info(Info),
}

impl Reply {
    /// The message.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_NAME` (123) if the name has more than [`MAX_NAME`] bytes.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        match self {
            Self::Opened(opened) => {
                header(KIND_OPENED, &mut out)?;
                opened.encode(&mut out)?;
            }
            Self::Connected(opened) => {
                header(KIND_CONNECTED, &mut out)?;
                opened.encode(&mut out)?;
            }
            Self::HandedOver(opened) => {
                header(KIND_HANDED_OVER, &mut out)?;
                opened.encode(&mut out)?;
            }
            Self::Refused { error } => {
                header(KIND_REFUSED, &mut out)?;
                error.encode(&mut out)?;
            }
            Self::Ready => header(KIND_READY, &mut out)?,
            Self::Info(info) => {
                header(KIND_INFO, &mut out)?;
                info.encode(&mut out)?;
            }
        }
        Ok(out)
    }

    /// The reply in a datagram.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if it is not exactly one reply of this version.
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        let (mut reader, kind) = open_header(datagram)?;
        let reply = match kind {
            KIND_OPENED => Self::Opened(reader.read("opened")?),
            KIND_CONNECTED => Self::Connected(reader.read("opened")?),
            KIND_HANDED_OVER => Self::HandedOver(reader.read("opened")?),
            KIND_REFUSED => Self::Refused {
                error: reader.read("error")?,
            },
            KIND_READY => Self::Ready,
            KIND_INFO => Self::Info(reader.read("info")?),
            _ => return Err(UNKNOWN_KIND),
        };
        reader.finish()?;
        Ok(reply)
    }
}

/// What a client learns of the instance that it has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Whether the boundaries between writes are kept.
    pub pipe_type: PipeType,
    /// Which way data flows.
    pub direction: Direction,
    /// The number of the instance in its owner.
    pub instance: u64,
    /// How many instances there can be.
    pub max_instances: MaxInstances,
    /// The quotas of the instance.
    pub quotas: Quotas,
    /// How many bytes the ring from client to server holds.
    pub inbound_ring: u64,
    /// How many bytes the ring from server to client holds.
    pub outbound_ring: u64,
    /// The process that created the instance.
    pub server_pid: u32,
    /// The name in its creator's spelling.
    pub spelling: String,
}

/// What anybody can learn of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The properties of the name.
    pub pipe: NameInfo,
    /// The quotas of one of its instances.
    pub quotas: Quotas,
    /// The process that owns the name.
    pub server_pid: u32,
    /// The name in its creator's spelling.
    pub spelling: String,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    /// The field that could not be read.
    pub what: &'static str,
    /// Where it begins in the datagram.
    pub offset: usize,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, offset } = self;
        write!(f, "bad {what} at byte {offset} of a control message")
    }
}

impl core::error::Error for DecodeError {}

impl From<DecodeError> for Error {
    /// `ERROR_INVALID_DATA` (13): the peer broke the rules.
    fn from(_: DecodeError) -> Self {
        Self::INVALID_DATA
    }
}

fn header(kind: u16, out: &mut Vec<u8>) -> Result<(), Error> {
    MAGIC.encode(out)?;
    VERSION.encode(out)?;
    kind.encode(out)
}

fn open_header(datagram: &[u8]) -> Result<(Reader<'_>, u16), DecodeError> {
    let mut reader = Reader::new(datagram)?;
    reader.read_if("magic", |magic: &u32| *magic == MAGIC)?;
    reader.read_if("version", |version: &u16| *version == VERSION)?;
    let kind = reader.read(UNKNOWN_KIND.what)?;
    Ok((reader, kind))
}

const MAGIC: u32 = u32::from_le_bytes(*b"NTP1");

const KIND_OPEN: u16 = 1;
const KIND_ATTACH: u16 = 2;
const KIND_WAIT: u16 = 3;
const KIND_QUERY: u16 = 4;

const KIND_OPENED: u16 = 16;
const KIND_REFUSED: u16 = 17;
const KIND_READY: u16 = 18;
const KIND_INFO: u16 = 19;
const KIND_HANDED_OVER: u16 = 20;
const KIND_CONNECTED: u16 = 21;

const UNKNOWN_KIND: DecodeError = DecodeError {
    what: "kind",
    offset: 6,
};

#[cfg(test)]
mod tests;
