//! The server end of a named pipe.

use std::io::{self, Read, Write};
use std::ops::Deref;
use std::sync::{Arc, Mutex, Weak};
#[cfg(feature = "tokio")]
use std::task::Poll;
use std::time::{Duration, Instant};

use ntpipe_proto::{Access, EndState, Error, NameInfo, PipeName, Quotas, WaitMode};

use crate::listener::Home;
use crate::options::{HandleState, LocalInfo, PipeEnd, PipeInfo, ServerOptions};
use crate::parts::PipeParts;
#[cfg(feature = "tokio")]
use crate::service::connecting::Connecting;
use crate::service::joined::{JoinedServer, ServerHold};
use crate::service::server_end::ServerEnd;
use crate::stream::{PipeStream, lock};

/// The server end of one instance of a named pipe.
///
/// [`ServerOptions::create`](crate::ServerOptions::create) makes one. It can be reused for client
/// after client: [`connect`](Self::connect), read and write, [`disconnect`](Self::disconnect).
/// Reading, writing, peeking and so on are methods of [`PipeStream`].
///
/// Dropping the last clone closes the end: what was written stays readable for the client, who then
/// finds the pipe broken. With the last server end the name vanishes.
///
/// After `fork` without `exec` the child's copies return `ERROR_INVALID_HANDLE` (6), and dropping
/// them does nothing. They keep the end open for the kernel: a death of the parent is noticed only
/// when the child is gone too.
#[derive(Clone)]
pub struct NamedPipeServer {
    handle: Arc<Handle>,
}

/// The end, closed with the last clone.
struct Handle {
    end: ServerHold,
    /// Where the instance goes back to.
    home: Mutex<Option<Home>>,
}

/// A server end that may be dropped.
#[derive(Debug)]
pub(crate) struct WeakServer(Weak<Handle>);

impl WeakServer {
    pub(crate) fn upgrade(&self) -> Option<NamedPipeServer> {
        let handle = self.0.upgrade()?;
        Some(NamedPipeServer { handle })
    }

    pub(crate) fn is_there(&self) -> bool {
        self.0.strong_count() > 0
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn is(&self, server: &NamedPipeServer) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&server.handle))
    }
}

impl NamedPipeServer {
    pub(crate) fn new(end: Arc<ServerEnd>) -> Self {
        Self {
            handle: Arc::new(Handle {
                end: ServerHold::Created(end),
                home: Mutex::new(None),
            }),
        }
    }

    /// Lets the instance go back to a listener instead of being closed.
    pub(crate) fn set_home(&self, home: Home) {
        *lock(&self.handle.home) = Some(home);
    }

    /// Waits until a client has opened the pipe; returns at once if one has.
    ///
    /// After [`disconnect`](Self::disconnect) the instance listens again from here on.
    ///
    /// # Errors
    /// - `ERROR_PIPE_LISTENING` (536): no client has come yet, and this end
    ///   [does not wait](PipeStream::set_wait_mode); the instance listens (observed 4.8, 4.9).
    /// - `ERROR_NO_DATA` (232): a client has come and left; what it wrote can still be read.
    ///   Disconnect before the next `connect`.
    /// - `ERROR_PIPE_NOT_CONNECTED` (233): another thread disconnected meanwhile.
    /// - `ERROR_BROKEN_PIPE` (109): another thread closed the end meanwhile.
    /// - `ERROR_OPERATION_ABORTED` (995): another thread [cancelled](Self::cancel_io) the call.
    /// - `ERROR_INVALID_HANDLE` (6): the end is closed, or this is a forked child.
    /// - `ERROR_NOT_SUPPORTED` (50): another process created the instance, and it has no client.
    #[doc(alias = "ConnectNamedPipe")]
    pub fn connect(&self) -> io::Result<()> {
        self.handle.end.connect(self.wait_mode(), None)?;
        Ok(())
    }

    /// As [`connect`](Self::connect), for at most `timeout`; the instance goes on listening.
    ///
    /// # Errors
    /// As `connect`; `ERROR_SEM_TIMEOUT` (121) when the time is up.
    pub fn connect_timeout(&self, timeout: Duration) -> io::Result<()> {
        let deadline = Instant::now().checked_add(timeout);
        self.handle.end.connect(self.wait_mode(), deadline)?;
        Ok(())
    }

    /// As [`connect`](Self::connect), whether or not this end waits otherwise.
    pub(crate) fn await_client(&self, deadline: Option<Instant>) -> Result<(), Error> {
        self.handle.end.connect(WaitMode::Wait, deadline).map(drop)
    }

    /// As [`connect`](Self::connect), for a task.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_connect(&self, wait: &mut Connecting) -> Poll<Result<(), Error>> {
        self.handle.end.poll_connect(wait)
    }

    /// Lets the client go: unread data is lost in both directions, and all its calls fail with
    /// `ERROR_PIPE_NOT_CONNECTED` (233) from now on. To have it read everything first, `flush`.
    ///
    /// # Errors
    /// `ERROR_PIPE_NOT_CONNECTED` (233): the instance is disconnected already.
    #[doc(alias = "DisconnectNamedPipe")]
    pub fn disconnect(&self) -> io::Result<()> {
        Ok(self.handle.end.disconnect()?)
    }

    /// As [`PipeStream::cancel_io`], for calls of [`connect`](Self::connect) too (observed 4.11);
    /// the instance goes on listening.
    ///
    /// # Errors
    /// As [`PipeStream::cancel_io`].
    #[doc(alias = "CancelIoEx")]
    pub fn cancel_io(&self) -> io::Result<()> {
        let connects = self.handle.end.cancel_connects()?;
        if self.cancel_calls()? || connects {
            Ok(())
        } else {
            Err(Error::NOT_FOUND.into())
        }
    }

    /// Closes the end although there are other handles for it, as when the last one is dropped.
    ///
    /// What was written stays readable for the client. The other handles' calls fail from now on,
    /// also those that wait, with `ERROR_BROKEN_PIPE` (109): in one thread this ends what another does.
    #[doc(alias = "CloseHandle")]
    pub fn close(&self) {
        self.handle.close();
    }

    /// As [`PipeStream::flush`]; it is here too lest [`io::Write::flush`], which does not wait, is
    /// found first where that trait is in scope.
    ///
    /// # Errors
    /// As [`PipeStream::flush`].
    #[doc(alias = "FlushFileBuffers")]
    pub fn flush(&self) -> io::Result<()> {
        PipeStream::flush(self)
    }

    /// What the pipe is.
    ///
    /// # Errors
    /// `ERROR_ACCESS_DENIED` (5): the server only writes (observed 1.42). `ERROR_INVALID_HANDLE` (6)
    /// in a forked child.
    #[doc(alias = "GetNamedPipeInfo")]
    pub fn info(&self) -> io::Result<PipeInfo> {
        self.check_access(Access::READ_ATTRIBUTES)?;
        let (name, quotas) = self.handle.end.info()?;
        Ok(pipe_info(&name, quotas, PipeEnd::Server))
    }

    /// How many instances the name has now.
    ///
    /// # Errors
    /// `ERROR_ACCESS_DENIED` (5): the server only writes (observed 1.42). `ERROR_INVALID_HANDLE` (6)
    /// in a forked child.
    #[doc(alias = "GetNamedPipeHandleState")]
    pub fn instances(&self) -> io::Result<u32> {
        self.check_access(Access::READ_ATTRIBUTES)?;
        Ok(self.handle.end.instances()?)
    }

    /// The modes of this end and the number of instances, at once.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    #[doc(alias = "GetNamedPipeHandleState")]
    pub fn handle_state(&self) -> io::Result<HandleState> {
        Ok(HandleState::new(self.modes(), self.instances()?))
    }

    /// The process that opened the client end; known until the client is disconnected.
    ///
    /// # Errors
    /// `ERROR_NOT_FOUND` (1168): there is no client.
    #[doc(alias = "GetNamedPipeClientProcessId")]
    pub fn client_process_id(&self) -> io::Result<u32> {
        Ok(self.handle.end.client_ids()?.0)
    }

    /// The session of the process that opened the client end, at that time; known until the client
    /// is disconnected.
    ///
    /// Sessions are those of the kernel's audit: 0 for a process that was not started by a login.
    ///
    /// # Errors
    /// `ERROR_NOT_FOUND` (1168): there is no client.
    #[doc(alias = "GetNamedPipeClientSessionId")]
    pub fn client_session_id(&self) -> io::Result<u32> {
        Ok(self.handle.end.client_ids()?.1)
    }

    /// The session of the process that created this instance: see
    /// [`client_session_id`](Self::client_session_id).
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE` (6) in a forked child.
    #[doc(alias = "GetNamedPipeServerSessionId")]
    pub fn server_session_id(&self) -> io::Result<u32> {
        self.check_process()?;
        Ok(self.handle.end.server_session_id())
    }

    /// What `FilePipeLocalInformation` tells of this end.
    ///
    /// # Errors
    /// `ERROR_ACCESS_DENIED` (5): the server only writes (observed 1.42). `ERROR_INVALID_HANDLE` (6)
    /// in a forked child. `ERROR_INVALID_DATA` (13): the client's shared memory contradicts itself.
    #[doc(alias = "NtQueryInformationFile")]
    pub fn local_info(&self) -> io::Result<LocalInfo> {
        let queues = self.queue_info()?;
        let (name, quotas) = self.handle.end.info()?;
        let info = pipe_info(&name, quotas, PipeEnd::Server);
        Ok(LocalInfo::new(info, name.direction, name.instances, queues))
    }

    /// The process that created this instance: this one, unless the end came from another
    /// (observed 14.1).
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE` (6) in a forked child.
    #[doc(alias = "GetNamedPipeServerProcessId")]
    pub fn server_process_id(&self) -> io::Result<u32> {
        self.check_process()?;
        Ok(self.handle.end.server_process_id())
    }

    /// Another handle for the same end: modes, timeouts and data are shared.
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE` (6) in a forked child.
    #[doc(alias = "DuplicateHandle")]
    pub fn try_clone(&self) -> io::Result<Self> {
        self.check_process()?;
        Ok(self.clone())
    }

    /// Parts with which another process can hold this end too: see [`PipeParts`].
    ///
    /// A client must be connected. What the other process can do with the end: read, write, peek,
    /// flush, change modes, disconnect the client. While it has the end the instance counts, also
    /// when this process has closed its handle; if this process dies, the connection goes on without
    /// the name.
    ///
    /// Differs from Windows: when the client has been disconnected only the process that created the
    /// instance can [`connect`](Self::connect) again, and the other holders do not see the next
    /// client.
    ///
    /// # Errors
    /// - `ERROR_PIPE_LISTENING` (536), `ERROR_PIPE_NOT_CONNECTED` (233): there is no client.
    /// - `ERROR_INVALID_HANDLE` (6) in a forked child.
    /// - `ERROR_NO_SYSTEM_RESOURCES` (1450): too many processes hold it.
    /// - `ERROR_NOT_SUPPORTED` (50): tasks use the end (feature `tokio`); or a read has a part of a
    ///   message, or was given up with it, and the rest is not read yet.
    /// - `ERROR_TOO_MANY_OPEN_FILES` (4).
    /// - `ERROR_SEM_TIMEOUT` (121): a process that holds the end was stopped in the middle of a call.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use ntpipe::{ClientOptions, NamedPipeServer, ServerOptions};
    ///
    /// let server = ServerOptions::new().create(r"\\.\pipe\ntpipe-doc-share-server")?;
    /// let client = ClientOptions::new().open(r"\\.\pipe\ntpipe-doc-share-server")?;
    /// // This would rather happen in another process.
    /// let worker = NamedPipeServer::from_parts(server.share()?)?;
    /// worker.write_message(b"some")?;
    /// assert_eq!(client.read_message(&mut [0; 4])?.len, 4);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "DuplicateHandle")]
    pub fn share(&self) -> io::Result<PipeParts> {
        self.handle.end.share()
    }

    /// Moves the end to where its parts go: as [`share`](Self::share), and gives this handle up.
    ///
    /// # Errors
    /// As `share`; the handle is closed also then.
    ///
    /// # Examples
    /// As for `share`.
    pub fn into_parts(self) -> io::Result<PipeParts> {
        self.share()
    }

    /// The end that another process has [shared](Self::share), as a further holder of it.
    ///
    /// # Errors
    /// - `ERROR_INVALID_PARAMETER` (87): parts of another kind of end.
    /// - `ERROR_INVALID_HANDLE` (6): somebody has taken these parts already.
    /// - `ERROR_INVALID_DATA` (13): they don't fit together.
    /// - `ERROR_TOO_MANY_OPEN_FILES` (4), `ERROR_NO_SYSTEM_RESOURCES` (1450).
    ///
    /// # Examples
    /// As for `share`.
    pub fn from_parts(parts: PipeParts) -> io::Result<Self> {
        let end = JoinedServer::from_parts(&parts)?;
        Ok(Self {
            handle: Arc::new(Handle {
                end: ServerHold::Joined(end),
                home: Mutex::new(None),
            }),
        })
    }

    /// The pipe's name, as its creator spelled it.
    #[must_use]
    pub fn name(&self) -> &PipeName {
        self.handle.end.name()
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.handle, &other.handle)
    }

    pub(crate) fn downgrade(&self) -> WeakServer {
        WeakServer(Arc::downgrade(&self.handle))
    }

    /// Where what the clones share lies.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.handle).addr()
    }

    /// A further owner of the end, which is closed when either is dropped.
    pub(crate) fn adopt(&self) -> Self {
        let home = lock(&self.handle.home).take();
        Self {
            handle: Arc::new(Handle {
                end: self.handle.end.clone(),
                home: Mutex::new(home),
            }),
        }
    }

    /// Closes the end although there are other handles for it.
    pub(crate) fn abandon(&self) {
        self.handle.end.close();
    }

    pub(crate) fn state(&self) -> Option<EndState> {
        self.handle.end.state()
    }

    /// A listening instance in the place of this one, which is closed.
    pub(crate) fn replace(&self) -> io::Result<Self> {
        let end = self.handle.end.replace()?;
        end.stream.begin_with(self.wait_mode());
        Ok(Self::new(end))
    }

    /// A further instance of the same name.
    pub(crate) fn sibling(&self, options: &ServerOptions) -> io::Result<Self> {
        let wait_mode = options.initial_wait_mode();
        let (options, read_mode) = options.for_instance()?;
        let end = self.handle.end.sibling(&options, read_mode)?;
        end.stream.begin_with(wait_mode);
        Ok(Self::new(end))
    }
}

pub(crate) fn pipe_info(name: &NameInfo, quotas: Quotas, end: PipeEnd) -> PipeInfo {
    PipeInfo {
        mode: name.pipe_type.into(),
        end,
        max_instances: name.max_instances.get(),
        out_buffer_size: quotas.outbound,
        in_buffer_size: quotas.inbound,
    }
}

impl Handle {
    fn close(&self) {
        // Under no lock: it may take a while.
        let home = lock(&self.home).take();
        match home {
            Some(home) => match &self.end {
                ServerHold::Created(end) if end.stream.is_ours() => home.take_back(end),
                ServerHold::Created(_) | ServerHold::Joined(_) => self.end.close(),
            },
            None => self.end.close(),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl Deref for NamedPipeServer {
    type Target = PipeStream;

    fn deref(&self) -> &PipeStream {
        self.handle.end.stream()
    }
}

impl std::fmt::Debug for NamedPipeServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("NamedPipeServer")
            .field("name", self.name())
            .field("state", &state)
            .finish()
    }
}

impl Read for NamedPipeServer {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &**self, buf)
    }
}

impl Read for &NamedPipeServer {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &***self, buf)
    }
}

impl Write for NamedPipeServer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_message(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &NamedPipeServer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_message(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
