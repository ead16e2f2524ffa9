//! The server end for tasks.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use bytes::BufMut;
use ntpipe_proto::{Error, PipeName, WaitMode};

use super::end::{End, Slot};
use super::moving::{explained, moving};
use super::operations::cause_of;
use super::queries::queries;
use super::surface::surface;
use crate::options::{HandleState, LocalInfo, PipeInfo, PipeMode};
use crate::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, RawHandle};
use crate::parts::PipeParts;
use crate::pipe::{PeekInfo, ReadInfo};
use crate::service::connecting::Connecting;
use crate::stream::Cause;

/// The server end of one instance of a named pipe.
///
/// [`ServerOptions::create`] makes one. Reading and writing wait for a client; so does
/// [`connect`](Self::connect). Dropping it closes the end: what was written stays readable for the
/// client. If another process owns the name, dropping the last handle waits until the owner knows,
/// up to 5 seconds if that is stopped; other tasks don't run meanwhile.
pub struct NamedPipeServer {
    pub(super) end: Arc<End<crate::NamedPipeServer>>,
}

surface!(NamedPipeServer, crate::NamedPipeServer);
queries!(NamedPipeServer);
moving!(NamedPipeServer, crate::NamedPipeServer);

impl NamedPipeServer {
    /// Waits until a client has opened the pipe; returns at once if one has, also if it has left
    /// already: as with tokio the reads and writes tell. After [`disconnect`](Self::disconnect) the
    /// instance listens again from here on.
    ///
    /// # Cancel safety
    /// The instance goes on listening, and a client that comes meanwhile is not lost: the next
    /// `connect` finds it.
    ///
    /// # Errors
    /// Those of the blocking [`connect`](crate::NamedPipeServer::connect) but 232.
    #[doc(alias = "ConnectNamedPipe")]
    pub async fn connect(&self) -> io::Result<()> {
        let mut connecting = Connecting::default();
        let connect = || self.end.pipe.poll_connect(&mut connecting);
        match self.end.wait(Cause::Client, connect).await? {
            Err(error) if error != Error::NO_DATA => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Lets the client go: unread data is lost in both directions, and all its calls fail with
    /// `ERROR_PIPE_NOT_CONNECTED` (233) from now on.
    ///
    /// Another [handle](Self::try_clone) that has waited in this connection, and does not wait now,
    /// keeps a descriptor of it until it waits again or is dropped.
    ///
    /// If another process owns the name and this instance still listens, it waits until the owner
    /// knows, which mostly takes some microseconds and is no point at which other tasks can run: up
    /// to 5 seconds if the owner is stopped.
    ///
    /// # Errors
    /// `ERROR_PIPE_NOT_CONNECTED` (233): the instance is disconnected already.
    #[doc(alias = "DisconnectNamedPipe")]
    pub fn disconnect(&self) -> io::Result<()> {
        self.end.pipe.disconnect()?;
        self.end.forget_old();
        Ok(())
    }

    /// The pipe's name, as its creator spelled it.
    #[must_use]
    pub fn name(&self) -> &PipeName {
        self.end.pipe.name()
    }
}

impl fmt::Debug for NamedPipeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.pipe.fmt(f)
    }
}

/// How to create an instance of a named pipe: tokio's names, meanings and defaults.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    options: crate::ServerOptions,
    access_system_security: bool,
}

/// One more than the most instances that can be asked for.
const TOO_MANY: usize = 255;

impl ServerOptions {
    /// Duplex, byte mode, any number of instances, buffers of 64 KiB, no remote clients.
    #[must_use]
    pub fn new() -> Self {
        Self {
            options: crate::ServerOptions::new(),
            access_system_security: false,
        }
    }

    /// The pipe's type and the server end's read mode; the client chooses its own.
    pub fn pipe_mode(&mut self, pipe_mode: PipeMode) -> &mut Self {
        self.options.pipe_mode(pipe_mode);
        self
    }

    /// The server end's read mode alone. Tokio has no such option.
    ///
    /// [`set_read_mode`](NamedPipeServer::set_read_mode) can't do this for an end that only reads
    /// (observed 1.41).
    pub fn read_mode(&mut self, mode: PipeMode) -> &mut Self {
        self.options.read_mode(mode);
        self
    }

    /// Whether the server reads and clients write.
    pub fn access_inbound(&mut self, allowed: bool) -> &mut Self {
        self.options.access_inbound(allowed);
        self
    }

    /// Whether the server writes and clients read.
    pub fn access_outbound(&mut self, allowed: bool) -> &mut Self {
        self.options.access_outbound(allowed);
        self
    }

    /// Whether creating fails if the name exists.
    pub fn first_pipe_instance(&mut self, first: bool) -> &mut Self {
        self.options.first_pipe_instance(first);
        self
    }

    /// Whether to ask for the right to change the pipe's access list. There are none yet, and it
    /// changes nothing.
    pub fn write_dac(&mut self, _requested: bool) -> &mut Self {
        self
    }

    /// Whether to ask for the right to change the pipe's owner. It changes nothing yet.
    pub fn write_owner(&mut self, _requested: bool) -> &mut Self {
        self
    }

    /// Whether to ask for access to the audit list, which needs a privilege that no process has
    /// here: `create` then fails with `ERROR_PRIVILEGE_NOT_HELD` (1314).
    pub fn access_system_security(&mut self, requested: bool) -> &mut Self {
        self.access_system_security = requested;
        self
    }

    /// Whether clients on other machines are refused. There is no remote access yet: all are.
    pub fn reject_remote_clients(&mut self, reject: bool) -> &mut Self {
        self.options.reject_remote_clients(reject);
        self
    }

    /// How many instances the name can have.
    ///
    /// # Panics
    /// If that is more than 254, as tokio does.
    #[track_caller]
    pub fn max_instances(&mut self, instances: usize) -> &mut Self {
        assert!(
            instances < TOO_MANY,
            "a pipe can be limited to 254 instances at most"
        );
        self.options.max_instances(instances);
        self
    }

    /// Up to how many unread bytes the server's writes complete at once.
    pub fn out_buffer_size(&mut self, buffer: u32) -> &mut Self {
        self.options.out_buffer_size(buffer);
        self
    }

    /// Up to how many unread bytes a client's writes complete at once.
    pub fn in_buffer_size(&mut self, buffer: u32) -> &mut Self {
        self.options.in_buffer_size(buffer);
        self
    }

    /// How long clients wait for an instance that don't say how long; zero stands for 50 ms. Tokio
    /// has no such option.
    pub fn default_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.options.default_timeout(timeout);
        self
    }

    /// Creates an instance; it listens at once. The tasks that wait at it are woken by the runtime
    /// that this is called in.
    ///
    /// # Errors
    /// Those of the blocking [`create`](crate::ServerOptions::create); outside of a runtime. In one
    /// that was built without I/O it succeeds, and the first call that has to wait fails.
    #[doc(alias = "CreateNamedPipe")]
    pub fn create(&self, addr: impl AsRef<OsStr>) -> io::Result<NamedPipeServer> {
        NamedPipeServer::from_blocking(self.checked()?.create(addr)?)
    }

    /// The options, if a pipe can be created here. Without a runtime there must not be one even for
    /// a moment.
    pub(super) fn checked(&self) -> io::Result<&crate::ServerOptions> {
        if self.access_system_security {
            return Err(Error::PRIVILEGE_NOT_HELD.into());
        }
        ::tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        Ok(&self.options)
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self::new()
    }
}
