//! The client end of a named pipe, and waiting for an instance.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ntpipe_proto::{Access, Error, IoErrorExt, Operation, PipeName, WaitTimeout};

use crate::canceller::Blocked;
use crate::options::{HandleState, LocalInfo, PipeEnd, PipeInfo, PipeMode};
use crate::parts::PipeParts;
use crate::pipe::ReadInfo;
use crate::server::pipe_info;
use crate::service::client::{self, ClientEnd};
use crate::stream::PipeStream;

/// The client end of one instance of a named pipe.
///
/// [`ClientOptions::open`](crate::ClientOptions::open) makes one. It starts in byte read mode,
/// whatever the pipe's type (observed 3.2). Reading, writing, peeking and so on are methods of
/// [`PipeStream`].
///
/// Dropping the last clone closes the end: what was written stays readable for the server. For
/// `fork` without `exec` see [`NamedPipeServer`](crate::NamedPipeServer).
#[derive(Clone)]
pub struct NamedPipeClient {
    end: Arc<Handle>,
}

/// The end, closed with the last clone.
struct Handle(Arc<ClientEnd>);

/// A client end that may be dropped.
pub(crate) struct WeakClient(Weak<Handle>);

impl WeakClient {
    pub(crate) fn upgrade(&self) -> Option<NamedPipeClient> {
        let end = self.0.upgrade()?;
        Some(NamedPipeClient { end })
    }

    pub(crate) fn is_there(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// No flags of quality of service: what Windows takes for a client that says nothing.
const NO_QOS: u32 = 0;

impl NamedPipeClient {
    pub(crate) fn open(name: &PipeName, access: Access) -> io::Result<Self> {
        Ok(Self::new(Arc::new(ClientEnd::open(name, access, NO_QOS)?)))
    }

    fn new(end: Arc<ClientEnd>) -> Self {
        Self {
            end: Arc::new(Handle(end)),
        }
    }

    pub(crate) fn downgrade(&self) -> WeakClient {
        WeakClient(Arc::downgrade(&self.end))
    }

    /// Where what the clones share lies.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.end).addr()
    }

    /// A further owner of the end, which is closed when either is dropped.
    pub(crate) fn adopt(&self) -> Self {
        Self::new(Arc::clone(&self.end.0))
    }

    /// Closes the end although there are other handles for it, as when the last one is dropped.
    ///
    /// What was written stays readable for the server. The other handles' calls fail from now on,
    /// also those that wait, with `ERROR_BROKEN_PIPE` (109): in one thread this ends what another does.
    #[doc(alias = "CloseHandle")]
    pub fn close(&self) {
        self.end.0.close();
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
    /// `ERROR_PIPE_NOT_CONNECTED` (233): the server has disconnected this client.
    #[doc(alias = "GetNamedPipeInfo")]
    pub fn info(&self) -> io::Result<PipeInfo> {
        self.check(Operation::Query)?;
        let opened = &self.end.opened;
        Ok(PipeInfo {
            mode: opened.pipe_type.into(),
            end: PipeEnd::Client,
            max_instances: opened.max_instances.get(),
            out_buffer_size: opened.quotas.outbound,
            in_buffer_size: opened.quotas.inbound,
        })
    }

    /// How many instances the name has now; 0 once the server end is closed (observed 8.20).
    ///
    /// # Errors
    /// - `ERROR_PIPE_NOT_CONNECTED` (233): the server has disconnected this client.
    /// - `ERROR_SEM_TIMEOUT` (121): the owner, perhaps a stopped process, does not answer.
    #[doc(alias = "GetNamedPipeHandleState")]
    pub fn instances(&self) -> io::Result<u32> {
        self.check(Operation::Query)?;
        match self.end.query() {
            Ok(info) => Ok(info.pipe.instances),
            Err(error) if error == Error::FILE_NOT_FOUND => {
                // It may have disconnected us between the two.
                self.check(Operation::Query)?;
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The modes of this end and the number of instances, at once.
    ///
    /// # Errors
    /// As [`instances`](Self::instances).
    #[doc(alias = "GetNamedPipeHandleState")]
    pub fn handle_state(&self) -> io::Result<HandleState> {
        Ok(HandleState::new(self.modes(), self.instances()?))
    }

    /// The process that opened this end.
    ///
    /// # Errors
    /// `ERROR_PIPE_NOT_CONNECTED` (233): the server has disconnected this client.
    #[doc(alias = "GetNamedPipeClientProcessId")]
    pub fn client_process_id(&self) -> io::Result<u32> {
        self.check(Operation::ClientId)?;
        Ok(self.end.own.pid)
    }

    /// The process that created the instance; it is remembered after that has closed its end.
    ///
    /// # Errors
    /// `ERROR_PIPE_NOT_CONNECTED` (233): the server has disconnected this client.
    #[doc(alias = "GetNamedPipeServerProcessId")]
    pub fn server_process_id(&self) -> io::Result<u32> {
        self.check(Operation::ServerId)?;
        Ok(self.end.server.pid)
    }

    /// The session of the process that opened this end, at that time.
    ///
    /// Sessions are those of the kernel's audit: 0 for a process that was not started by a login.
    ///
    /// # Errors
    /// `ERROR_PIPE_NOT_CONNECTED` (233): the server has disconnected this client.
    #[doc(alias = "GetNamedPipeClientSessionId")]
    pub fn client_session_id(&self) -> io::Result<u32> {
        self.check(Operation::ClientId)?;
        Ok(self.end.own.session)
    }

    /// The session of the process that created the instance, at the time of the open. See
    /// [`client_session_id`](Self::client_session_id).
    ///
    /// # Errors
    /// `ERROR_PIPE_NOT_CONNECTED` (233): the server has disconnected this client.
    #[doc(alias = "GetNamedPipeServerSessionId")]
    pub fn server_session_id(&self) -> io::Result<u32> {
        self.check(Operation::ServerId)?;
        Ok(self.end.server.session)
    }

    /// What `FilePipeLocalInformation` tells of this end.
    ///
    /// # Errors
    /// As [`instances`](Self::instances); `ERROR_INVALID_DATA` (13): the server's shared memory
    /// contradicts itself.
    #[doc(alias = "NtQueryInformationFile")]
    pub fn local_info(&self) -> io::Result<LocalInfo> {
        let queues = self.queue_info()?;
        let (info, direction) = (self.info()?, self.end.opened.direction);
        Ok(LocalInfo::new(info, direction, self.instances()?, queues))
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
    /// # Errors
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
    /// use ntpipe::{ClientOptions, NamedPipeClient, ServerOptions};
    ///
    /// let server = ServerOptions::new().create(r"\\.\pipe\ntpipe-doc-share")?;
    /// let client = ClientOptions::new().open(r"\\.\pipe\ntpipe-doc-share")?;
    /// // This would rather happen in another process.
    /// let other = NamedPipeClient::from_parts(client.share()?)?;
    /// other.write_message(b"some")?;
    /// assert_eq!(server.read_message(&mut [0; 4])?.len, 4);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "DuplicateHandle")]
    pub fn share(&self) -> io::Result<PipeParts> {
        self.end.share()
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
    /// [`client_process_id`](Self::client_process_id) goes on naming the process that opened it
    /// (observed 14.1).
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
        Ok(Self::new(ClientEnd::from_parts(&parts)?))
    }

    /// The pipe's name, as its creator spelled it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.end.opened.spelling
    }
}

impl Deref for Handle {
    type Target = Arc<ClientEnd>;

    fn deref(&self) -> &Arc<ClientEnd> {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Deref for NamedPipeClient {
    type Target = PipeStream;

    fn deref(&self) -> &PipeStream {
        &self.end.stream
    }
}

impl std::fmt::Debug for NamedPipeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NamedPipeClient")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl Read for NamedPipeClient {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &**self, buf)
    }
}

impl Read for &NamedPipeClient {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &***self, buf)
    }
}

impl Write for NamedPipeClient {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_message(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &NamedPipeClient {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_message(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until an instance of the pipe listens, for at most `timeout`; `None` stands for the
/// pipe's default timeout, and [`Duration::MAX`] for ever.
///
/// It reserves nothing: the open that follows may still find all instances busy (reference 1.5).
/// [`ClientOptions::open_timeout`](crate::ClientOptions::open_timeout) does both.
///
/// # Errors
/// - `ERROR_INVALID_NAME` (123): `addr` is not a pipe's name.
/// - `ERROR_FILE_NOT_FOUND` (2): there is no such pipe, or it went while this waited.
/// - `ERROR_ACCESS_DENIED` (5): it belongs to another user.
/// - `ERROR_SEM_TIMEOUT` (121): the time is up, or the owner, perhaps a stopped process, does not
///   answer for 5 seconds more.
/// - `ERROR_OPERATION_ABORTED` (995): another thread [cancelled](crate::Canceller) the call.
/// - `ERROR_NO_SYSTEM_RESOURCES` (1450): too many clients wait already, or say nothing.
/// - `ERROR_NOT_SUPPORTED` (50): the pipe is on another machine.
#[doc(alias = "WaitNamedPipe")]
pub fn wait(addr: impl AsRef<OsStr>, timeout: Option<Duration>) -> io::Result<()> {
    let name = PipeName::from_os_str(addr.as_ref())?;
    wait_for(
        &name,
        match timeout {
            None => WaitTimeout::Default,
            Some(Duration::MAX) => WaitTimeout::Forever,
            Some(timeout) => WaitTimeout::After(timeout),
        },
    )
}

pub(crate) fn wait_for(name: &PipeName, timeout: WaitTimeout) -> io::Result<()> {
    client::wait(name, timeout)
}

/// Opens a message pipe, waiting for an instance if need be, has one transaction and closes it.
///
/// `timeout` is for the instance, not for the reply, as in [`wait`]. The rest of a reply that is
/// longer than `reply` is lost.
///
/// # Errors
/// Those of [`ClientOptions::open`](crate::ClientOptions::open), [`wait`] and
/// [`PipeStream::transact`]; `ERROR_INVALID_PARAMETER` (87): the pipe is not of message type.
#[doc(alias = "CallNamedPipe")]
pub fn call(
    addr: impl AsRef<OsStr>,
    request: &[u8],
    reply: &mut [u8],
    timeout: Option<Duration>,
) -> io::Result<ReadInfo> {
    call_by(addr.as_ref(), request, reply, timeout, None)
}

/// As [`call`], for at most `timeout` in all: it is for the reply too. Only an owner that does not
/// answer, perhaps a stopped process, takes longer: as with [`wait`] and
/// [`ClientOptions::open`](crate::ClientOptions::open).
///
/// # Errors
/// As [`call`]; `ERROR_SEM_TIMEOUT` (121) when the time is up.
pub fn call_timeout(
    addr: impl AsRef<OsStr>,
    request: &[u8],
    reply: &mut [u8],
    timeout: Duration,
) -> io::Result<ReadInfo> {
    let deadline = Instant::now().checked_add(timeout);
    call_by(addr.as_ref(), request, reply, Some(timeout), deadline)
}

fn call_by(
    addr: &OsStr,
    request: &[u8],
    reply: &mut [u8],
    timeout: Option<Duration>,
    deadline: Option<Instant>,
) -> io::Result<ReadInfo> {
    let name = PipeName::from_os_str(addr)?;
    let access = Access::GENERIC_READ | Access::GENERIC_WRITE;
    let _blocked = Blocked::enter_several();
    let client = match NamedPipeClient::open(&name, access) {
        Ok(client) => client,
        Err(error) if error.win32() == Some(Error::OPERATION_ABORTED) => return Err(error),
        // Any failure is worth one wait and one more attempt (reference 1.12).
        Err(_) => {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            wait(addr, left.or(timeout))?;
            NamedPipeClient::open(&name, access)?
        }
    };
    client.set_read_mode(PipeMode::Message)?;
    Ok(client.transact_until(request, reply, deadline)?)
}

/// What [`list`] and [`info`] tell about a name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PipeEntry {
    /// The name, as its creator spelled it, without `\\.\pipe\`.
    pub name: String,
    /// What the pipe is; `end` is the server's.
    pub info: PipeInfo,
    /// Which way data flows.
    pub direction: ntpipe_proto::Direction,
    /// How many instances there are, in whatever state.
    pub instances: u32,
    /// How many of them wait for a client.
    pub listening: u32,
    /// The process that answers for the name.
    pub server_process_id: u32,
}

/// The pipes that exist, ordered by name.
///
/// # Errors
/// `ERROR_PATH_NOT_FOUND` (3), `ERROR_ACCESS_DENIED` (5): the directory of names is missing or can't
/// be read; the error names it. `ERROR_TOO_MANY_OPEN_FILES` (4).
#[doc(alias = "FindFirstFile")]
pub fn list() -> io::Result<Vec<PipeEntry>> {
    let mut entries: Vec<_> = client::list()?.into_iter().map(entry).collect();
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// What the owner of a name tells about it; takes no instance.
///
/// # Errors
/// `ERROR_INVALID_NAME` (123), `ERROR_FILE_NOT_FOUND` (2), `ERROR_ACCESS_DENIED` (5),
/// `ERROR_NO_SYSTEM_RESOURCES` (1450), `ERROR_NOT_SUPPORTED` (50) as in [`wait`];
/// `ERROR_SEM_TIMEOUT` (121): the owner, perhaps a stopped process, does not answer.
pub fn info(addr: impl AsRef<OsStr>) -> io::Result<PipeEntry> {
    let name = PipeName::from_os_str(addr.as_ref())?;
    Ok(entry(client::describe(&name)?))
}

fn entry((info, server_process_id): (ntpipe_proto::control::Info, u32)) -> PipeEntry {
    PipeEntry {
        name: info.spelling,
        info: pipe_info(&info.pipe, info.quotas, PipeEnd::Server),
        direction: info.pipe.direction,
        instances: info.pipe.instances,
        listening: info.pipe.listening,
        server_process_id,
    }
}
