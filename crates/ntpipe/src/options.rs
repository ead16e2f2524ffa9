//! How a pipe is created and opened; tokio's names and meanings.

use std::ffi::OsStr;
use std::io;
use std::time::{Duration, Instant};

use ntpipe_proto::{
    Access, DefaultTimeout, Direction, End, EndState, Error, FirstInstance, InstanceOptions,
    MaxInstances, PipeName, PipeState, PipeType, Quotas, ReadMode, ServerMode, WaitMode,
    WaitTimeout,
};

use crate::canceller::Blocked;
use crate::client::{self, NamedPipeClient};
use crate::server::NamedPipeServer;
use crate::service::owner::Owner;
use crate::stream::QueueInfo;

/// Whether a pipe, or a read, keeps the boundaries between writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PipeMode {
    /// A stream of bytes.
    #[doc(alias = "PIPE_TYPE_BYTE")]
    Byte,
    /// Each write is a message.
    #[doc(alias = "PIPE_TYPE_MESSAGE")]
    Message,
}

/// Which end of a pipe a handle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PipeEnd {
    /// The end that was opened.
    #[doc(alias = "PIPE_CLIENT_END")]
    Client,
    /// The end that was created.
    #[doc(alias = "PIPE_SERVER_END")]
    Server,
}

/// What a pipe is; the same from both ends but for `end` (reference 1.15).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PipeInfo {
    /// The pipe's type.
    pub mode: PipeMode,
    /// The end that was asked.
    pub end: PipeEnd,
    /// How many instances the name can have; 255 for any number.
    pub max_instances: u32,
    /// The buffer size of what the server writes.
    pub out_buffer_size: u32,
    /// The buffer size of what the server reads.
    pub in_buffer_size: u32,
}

/// What `GetNamedPipeHandleState` tells of one end of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandleState {
    /// Whether reads of this end return single messages or bytes.
    pub read_mode: PipeMode,
    /// Whether calls of this end wait.
    pub wait_mode: WaitMode,
    /// How many instances the name has now; 0 for a client whose server has closed its end
    /// (observed 8.20).
    pub instances: u32,
}

impl HandleState {
    pub(crate) fn new(modes: PipeState, instances: u32) -> Self {
        Self {
            read_mode: modes.read_mode.into(),
            wait_mode: modes.wait_mode,
            instances,
        }
    }
}

/// What `FilePipeLocalInformation` tells of one end of a pipe (observed 8.19 to 8.22). Type,
/// direction, instances and buffer sizes are the same from both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalInfo {
    /// The pipe's type.
    pub mode: PipeMode,
    /// Which way data flows.
    #[doc(alias = "NamedPipeConfiguration")]
    pub direction: Direction,
    /// How many instances the name can have; 255 for any number.
    pub max_instances: u32,
    /// How many it has now; 0 for a client whose server has closed its end.
    pub instances: u32,
    /// The buffer size of what the server reads.
    #[doc(alias = "InboundQuota")]
    pub in_buffer_size: u32,
    /// The bytes that this end can read.
    pub read_data_available: u32,
    /// The buffer size of what the server writes.
    #[doc(alias = "OutboundQuota")]
    pub out_buffer_size: u32,
    /// How much of the buffer that this end writes is free. Reads that wait at the other end take of
    /// it as unread bytes do (reference 2.5).
    pub write_quota_available: u32,
    /// The state of the instance, as this end sees it.
    #[doc(alias = "NamedPipeState")]
    pub state: EndState,
    /// The end that was asked.
    pub end: PipeEnd,
}

impl LocalInfo {
    pub(crate) fn new(
        info: PipeInfo,
        direction: Direction,
        instances: u32,
        queues: QueueInfo,
    ) -> Self {
        let low = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let written = match info.end {
            PipeEnd::Server => info.out_buffer_size,
            PipeEnd::Client => info.in_buffer_size,
        };
        Self {
            mode: info.mode,
            direction,
            max_instances: info.max_instances,
            instances,
            in_buffer_size: info.in_buffer_size,
            read_data_available: low(queues.available),
            out_buffer_size: info.out_buffer_size,
            write_quota_available: queues.free.map_or(written, low),
            state: queues.state,
            end: info.end,
        }
    }
}

/// How to create an instance of a named pipe.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use ntpipe::{PipeMode, ServerOptions};
///
/// let server = ServerOptions::new()
///     .first_pipe_instance(true)
///     .pipe_mode(PipeMode::Message)
///     .create(r"\\.\pipe\ntpipe-doc-options")?;
/// assert_eq!(server.info()?.max_instances, 255);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ServerOptions {
    inbound: bool,
    outbound: bool,
    pipe_type: PipeType,
    read_mode: ReadMode,
    wait_mode: WaitMode,
    first: bool,
    max_instances: u32,
    out_buffer_size: u32,
    in_buffer_size: u32,
    default_timeout: DefaultTimeout,
}

impl ServerOptions {
    /// Duplex, byte mode, any number of instances, buffers of 64 KiB, 50 ms for clients that wait
    /// without a timeout of their own.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inbound: true,
            outbound: true,
            pipe_type: PipeType::Byte,
            read_mode: ReadMode::Byte,
            wait_mode: WaitMode::Wait,
            first: false,
            max_instances: 255,
            out_buffer_size: 65536,
            in_buffer_size: 65536,
            default_timeout: DefaultTimeout::default(),
        }
    }

    /// The options that `CreateNamedPipe`'s `dwOpenMode` and `dwPipeMode` stand for.
    ///
    /// # Errors
    /// `ERROR_INVALID_PARAMETER` (87): unknown bits, no direction, or message read mode on a byte
    /// pipe. `ERROR_NOT_SUPPORTED` (50): rights that need a security descriptor.
    #[doc(alias = "CreateNamedPipe")]
    pub fn from_flags(open_mode: u32, pipe_mode: u32) -> io::Result<Self> {
        let mode = ServerMode::from_flags(open_mode, pipe_mode)?;
        let rights = mode.extra_access.without(Access::WRITE_OWNER);
        if !rights.is_empty() {
            return Err(Error::NOT_SUPPORTED.into());
        }
        Ok(Self {
            inbound: mode.direction.server_reads(),
            outbound: mode.direction.server_writes(),
            pipe_type: mode.pipe_type,
            read_mode: mode.read_mode,
            wait_mode: mode.wait_mode,
            first: mode.first_instance,
            ..Self::new()
        })
    }

    /// The pipe's type and the server end's read mode; the client chooses its own.
    pub fn pipe_mode(&mut self, mode: PipeMode) -> &mut Self {
        self.pipe_type = mode.into();
        self.read_mode = mode.into();
        self
    }

    /// The server end's read mode alone.
    pub fn read_mode(&mut self, mode: PipeMode) -> &mut Self {
        self.read_mode = mode.into();
        self
    }

    /// Whether calls of the server end wait; the client chooses for itself. See
    /// [`PipeStream::set_wait_mode`](crate::PipeStream::set_wait_mode).
    ///
    /// A [`Listener`](crate::Listener) waits for clients all the same.
    #[doc(alias = "PIPE_NOWAIT")]
    pub fn wait_mode(&mut self, mode: WaitMode) -> &mut Self {
        self.wait_mode = mode;
        self
    }

    /// Whether the server reads and clients write.
    #[doc(alias = "PIPE_ACCESS_INBOUND")]
    pub fn access_inbound(&mut self, allowed: bool) -> &mut Self {
        self.inbound = allowed;
        self
    }

    /// Whether the server writes and clients read.
    #[doc(alias = "PIPE_ACCESS_OUTBOUND")]
    pub fn access_outbound(&mut self, allowed: bool) -> &mut Self {
        self.outbound = allowed;
        self
    }

    /// Whether creating fails if the name exists: then no one else answers for it already.
    #[doc(alias = "FILE_FLAG_FIRST_PIPE_INSTANCE")]
    pub fn first_pipe_instance(&mut self, first: bool) -> &mut Self {
        self.first = first;
        self
    }

    /// Whether clients on other machines are refused. There is no remote access yet: all are.
    #[doc(alias = "PIPE_REJECT_REMOTE_CLIENTS")]
    pub fn reject_remote_clients(&mut self, _reject: bool) -> &mut Self {
        self
    }

    /// How many instances the name can have: 1 to 254, or 255 for any number. The name's first
    /// instance decides. Other numbers make [`create`](Self::create) fail.
    pub fn max_instances(&mut self, instances: usize) -> &mut Self {
        self.max_instances = u32::try_from(instances).unwrap_or(u32::MAX);
        self
    }

    /// Up to how many unread bytes the server's writes complete at once; 0 makes each write wait
    /// for its reader.
    pub fn out_buffer_size(&mut self, bytes: u32) -> &mut Self {
        self.out_buffer_size = bytes;
        self
    }

    /// Up to how many unread bytes a client's writes complete at once.
    pub fn in_buffer_size(&mut self, bytes: u32) -> &mut Self {
        self.in_buffer_size = bytes;
        self
    }

    /// How long clients wait for an instance that don't say how long; zero stands for 50 ms.
    #[doc(alias = "nDefaultTimeOut")]
    pub fn default_timeout(&mut self, timeout: Duration) -> &mut Self {
        let millis = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        self.default_timeout = DefaultTimeout::from_millis(millis);
        self
    }

    /// Creates an instance; it listens at once, so that clients can open it.
    ///
    /// # Errors
    /// In this order (reference 1.2):
    /// - `ERROR_INVALID_NAME` (123): `addr` is not of the form `\\.\pipe\name`.
    /// - `ERROR_INVALID_PARAMETER` (87): impossible options.
    /// - `ERROR_PATH_NOT_FOUND` (3), `ERROR_ACCESS_DENIED` (5): the directory of names is missing or
    ///   not ours to write; the error names it.
    /// - `ERROR_PIPE_BUSY` (231): the name has its maximum of instances.
    /// - `ERROR_ACCESS_DENIED` (5): the name exists and this was to be its first instance, or the
    ///   direction is not that of the first instance.
    /// - `ERROR_SEM_TIMEOUT` (121): the name's owner, perhaps a stopped process, does not answer.
    /// - `ERROR_NO_SYSTEM_RESOURCES` (1450), `ERROR_TOO_MANY_OPEN_FILES` (4).
    #[doc(alias = "CreateNamedPipe")]
    pub fn create(&self, addr: impl AsRef<OsStr>) -> io::Result<NamedPipeServer> {
        let name = PipeName::from_os_str(addr.as_ref())?;
        let (options, read_mode) = self.for_instance()?;
        let end = Owner::create(&name, &options, read_mode)?;
        end.stream.begin_with(self.wait_mode);
        Ok(NamedPipeServer::new(end))
    }

    /// Whether calls of the server end wait at first.
    pub(crate) fn initial_wait_mode(&self) -> WaitMode {
        self.wait_mode
    }

    /// What the owner of the name needs to know, and the server end's read mode.
    pub(crate) fn for_instance(&self) -> Result<(InstanceOptions, ReadMode), Error> {
        let direction = match (self.inbound, self.outbound) {
            (true, true) => Direction::Duplex,
            (true, false) => Direction::Inbound,
            (false, true) => Direction::Outbound,
            (false, false) => return Err(Error::INVALID_PARAMETER),
        };
        if !self.pipe_type.allows(self.read_mode) {
            return Err(Error::INVALID_PARAMETER);
        }
        let options = InstanceOptions {
            direction,
            pipe_type: self.pipe_type,
            max_instances: MaxInstances::new(self.max_instances)?,
            quotas: Quotas {
                inbound: self.in_buffer_size,
                outbound: self.out_buffer_size,
            },
            default_timeout: self.default_timeout,
            first: match self.first {
                true => FirstInstance::Required,
                false => FirstInstance::NotRequired,
            },
        };
        Ok((options, self.read_mode))
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// How to open a named pipe.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    read: bool,
    write: bool,
    access: Option<Access>,
    mode: PipeMode,
}

impl ClientOptions {
    /// For reading and writing, in byte read mode.
    #[must_use]
    pub fn new() -> Self {
        Self {
            read: true,
            write: true,
            access: None,
            mode: PipeMode::Byte,
        }
    }

    /// Whether to read.
    #[doc(alias = "GENERIC_READ")]
    pub fn read(&mut self, allowed: bool) -> &mut Self {
        self.read = allowed;
        self
    }

    /// Whether to write.
    #[doc(alias = "GENERIC_WRITE")]
    pub fn write(&mut self, allowed: bool) -> &mut Self {
        self.write = allowed;
        self
    }

    /// The rights to ask for, as `CreateFile`'s `dwDesiredAccess`; [`read`](Self::read) and
    /// [`write`](Self::write) say nothing then. 0 is allowed: such an end can be asked about the pipe.
    ///
    /// `SYNCHRONIZE` and `FILE_READ_ATTRIBUTES` come on top (observed 1.44), and
    /// `MAXIMUM_ALLOWED` is every right there is.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use ntpipe::{ClientOptions, ServerOptions};
    ///
    /// let _server = ServerOptions::new().create(r"\\.\pipe\ntpipe-doc-access")?;
    /// const GENERIC_READ: u32 = 0x8000_0000;
    /// const FILE_WRITE_ATTRIBUTES: u32 = 0x100;
    /// let client = ClientOptions::new()
    ///     .access(GENERIC_READ | FILE_WRITE_ATTRIBUTES)
    ///     .open(r"\\.\pipe\ntpipe-doc-access")?;
    /// assert_eq!(client.granted_access(), 0x0012_0189);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "dwDesiredAccess")]
    pub fn access(&mut self, rights: u32) -> &mut Self {
        self.access = Some(Access::from_bits(rights));
        self
    }

    /// The read mode to set after opening; message mode needs a message pipe.
    pub fn pipe_mode(&mut self, mode: PipeMode) -> &mut Self {
        self.mode = mode;
        self
    }

    /// Opens the pipe: connects to the instance that has listened longest; never waits for one.
    ///
    /// # Errors
    /// In this order (reference 1.6):
    /// - `ERROR_INVALID_NAME` (123): `addr` is not a pipe's name.
    /// - `ERROR_FILE_NOT_FOUND` (2): there is no such pipe.
    /// - `ERROR_ACCESS_DENIED` (5): it belongs to another user, or its direction does not allow
    ///   what was asked for.
    /// - `ERROR_PIPE_BUSY` (231): no instance listens.
    /// - `ERROR_INVALID_PARAMETER` (87): message read mode on a byte pipe.
    ///
    /// And at any point:
    /// - `ERROR_SEM_TIMEOUT` (121): the owner, perhaps a stopped process, does not answer.
    /// - `ERROR_NO_SYSTEM_RESOURCES` (1450): too many clients that say nothing are ahead, or there is
    ///   no memory.
    /// - `ERROR_TOO_MANY_OPEN_FILES` (4).
    /// - `ERROR_PATH_NOT_FOUND` (3): the directory of names is missing; the error names it.
    /// - `ERROR_NOT_SUPPORTED` (50): the pipe is on another machine.
    #[doc(alias = "CreateFile")]
    pub fn open(&self, addr: impl AsRef<OsStr>) -> io::Result<NamedPipeClient> {
        self.open_name(&PipeName::from_os_str(addr.as_ref())?)
    }

    /// Opens the pipe, waiting up to `timeout` for an instance while all are taken.
    ///
    /// # Errors
    /// As [`open`](Self::open); `ERROR_SEM_TIMEOUT` (121) when the time is up,
    /// `ERROR_OPERATION_ABORTED` (995) when another thread [cancels](crate::Canceller) the call.
    pub fn open_timeout(
        &self,
        addr: impl AsRef<OsStr>,
        timeout: Duration,
    ) -> io::Result<NamedPipeClient> {
        let name = PipeName::from_os_str(addr.as_ref())?;
        let deadline = Instant::now().checked_add(timeout);
        let _blocked = Blocked::enter_several();
        loop {
            match self.open_name(&name) {
                Err(error) if error.raw_os_error() == raw(Error::PIPE_BUSY) => {}
                done => return done,
            }
            // What a wait finds is not reserved: another client may be faster (reference 1.5).
            let timeout = deadline.map_or(WaitTimeout::Forever, |at| {
                WaitTimeout::After(at.saturating_duration_since(Instant::now()))
            });
            client::wait_for(&name, timeout)?;
        }
    }

    fn open_name(&self, name: &PipeName) -> io::Result<NamedPipeClient> {
        let mut access = Access::from_bits(0);
        if self.read {
            // Windows' own clients ask for this too, to set their read mode.
            access = access | Access::GENERIC_READ | Access::WRITE_ATTRIBUTES;
        }
        if self.write {
            access = access | Access::GENERIC_WRITE;
        }
        if let Some(asked) = self.access {
            access = match asked.contains(Access::MAXIMUM_ALLOWED) {
                true => asked.without(Access::MAXIMUM_ALLOWED) | Access::ALL_ACCESS,
                false => asked,
            };
        }
        let client = NamedPipeClient::open(name, access)?;
        if self.mode == PipeMode::Message {
            client.set_read_mode(PipeMode::Message)?;
        }
        Ok(client)
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self::new()
    }
}

fn raw(error: Error) -> Option<i32> {
    i32::try_from(error.code()).ok()
}

impl From<PipeType> for PipeMode {
    fn from(pipe_type: PipeType) -> Self {
        match pipe_type {
            PipeType::Byte => Self::Byte,
            PipeType::Message => Self::Message,
        }
    }
}

impl From<PipeMode> for PipeType {
    fn from(mode: PipeMode) -> Self {
        match mode {
            PipeMode::Byte => Self::Byte,
            PipeMode::Message => Self::Message,
        }
    }
}

impl From<ReadMode> for PipeMode {
    fn from(mode: ReadMode) -> Self {
        match mode {
            ReadMode::Byte => Self::Byte,
            ReadMode::Message => Self::Message,
        }
    }
}

impl From<PipeMode> for ReadMode {
    fn from(mode: PipeMode) -> Self {
        match mode {
            PipeMode::Byte => Self::Byte,
            PipeMode::Message => Self::Message,
        }
    }
}

impl From<End> for PipeEnd {
    fn from(end: End) -> Self {
        match end {
            End::Server => Self::Server,
            End::Client => Self::Client,
        }
    }
}
