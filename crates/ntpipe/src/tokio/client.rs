//! The client end for tasks.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use bytes::BufMut;

use super::end::{End, Slot};
use super::operations::{cause_of, first, first_mut};
use super::surface::surface;
use crate::options::{PipeInfo, PipeMode};
use crate::pipe::{PeekInfo, ReadInfo};
use crate::stream::Cause;

/// The client end of one instance of a named pipe.
///
/// [`ClientOptions::open`] makes one. Dropping it closes the end: what was written stays readable
/// for the server.
pub struct NamedPipeClient {
    end: Arc<End<crate::NamedPipeClient>>,
}

surface!(NamedPipeClient, crate::NamedPipeClient);

impl fmt::Debug for NamedPipeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.pipe.fmt(f)
    }
}

/// How to open a named pipe: tokio's names, meanings and defaults.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    options: crate::ClientOptions,
    security_qos_flags: u32,
}

/// Quality of service was asked for (`SECURITY_SQOS_PRESENT`).
const SQOS_PRESENT: u32 = 0x0010_0000;
/// The server may learn who the client is, and no more (`SECURITY_IDENTIFICATION`).
const IDENTIFICATION: u32 = 0x0001_0000;

impl ClientOptions {
    /// For reading and writing, in byte read mode.
    #[must_use]
    pub fn new() -> Self {
        Self {
            options: crate::ClientOptions::new(),
            security_qos_flags: IDENTIFICATION | SQOS_PRESENT,
        }
    }

    /// Whether to read.
    pub fn read(&mut self, allowed: bool) -> &mut Self {
        self.options.read(allowed);
        self
    }

    /// Whether to write.
    pub fn write(&mut self, allowed: bool) -> &mut Self {
        self.options.write(allowed);
        self
    }

    /// What the server may do in the client's name. There is no impersonation yet: it changes
    /// nothing.
    pub fn security_qos_flags(&mut self, flags: u32) -> &mut Self {
        self.security_qos_flags = flags | SQOS_PRESENT;
        self
    }

    /// The read mode to set after opening; message mode needs a message pipe.
    pub fn pipe_mode(&mut self, pipe_mode: PipeMode) -> &mut Self {
        self.options.pipe_mode(pipe_mode);
        self
    }

    /// Opens the pipe: connects to the instance that has listened longest; never waits for one.
    ///
    /// It asks the owner of the name and waits for the answer, which mostly takes some microseconds;
    /// as on Windows that is no point at which other tasks can run. If the owner is stopped it takes
    /// up to 5 seconds.
    ///
    /// # Errors
    /// Those of the blocking [`open`](crate::ClientOptions::open); outside of a runtime.
    #[doc(alias = "CreateFile")]
    pub fn open(&self, addr: impl AsRef<OsStr>) -> io::Result<NamedPipeClient> {
        // Without a runtime no server must see a client for a moment.
        ::tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        NamedPipeClient::from_blocking(self.options.open(addr)?)
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self::new()
    }
}
