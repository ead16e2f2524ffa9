//! The client end for tasks.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use bytes::BufMut;
use ntpipe_proto::{Error, IoErrorExt, PipeName, WaitMode, WaitTimeout};

use super::end::{End, Slot};
use super::listener::until;
use super::moving::{explained, moving};
use super::operations::cause_of;
use super::queries::queries;
use super::surface::surface;
use crate::options::{HandleState, LocalInfo, PipeInfo, PipeMode};
use crate::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, RawHandle};
use crate::parts::PipeParts;
use crate::pipe::{PeekInfo, ReadInfo};
use crate::service::waiting::Waiting;
use crate::stream::Cause;

/// The client end of one instance of a named pipe.
///
/// [`ClientOptions::open`] makes one. Dropping it closes the end: what was written stays readable
/// for the server.
pub struct NamedPipeClient {
    pub(super) end: Arc<End<crate::NamedPipeClient>>,
}

surface!(NamedPipeClient, crate::NamedPipeClient);
queries!(NamedPipeClient);
moving!(NamedPipeClient, crate::NamedPipeClient);

impl NamedPipeClient {
    /// The pipe's name, as its creator spelled it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.end.pipe.name()
    }
}

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

    /// The rights to ask for, as `CreateFile`'s `dwDesiredAccess`; [`read`](Self::read) and
    /// [`write`](Self::write) say nothing then. Tokio has no such option; see the blocking
    /// [`access`](crate::ClientOptions::access).
    #[doc(alias = "dwDesiredAccess")]
    pub fn access(&mut self, rights: u32) -> &mut Self {
        self.options.access(rights);
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
    /// Those of the blocking [`open`](crate::ClientOptions::open); outside of a runtime. In one
    /// that was built without I/O it succeeds, and the first call that has to wait fails.
    #[doc(alias = "CreateFile")]
    pub fn open(&self, addr: impl AsRef<OsStr>) -> io::Result<NamedPipeClient> {
        // Without a runtime no server must see a client for a moment.
        ::tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        NamedPipeClient::from_blocking(self.options.open(addr)?)
    }

    /// As [`open`](Self::open), waiting up to `timeout` for an instance while all are taken;
    /// [`Duration::MAX`] is for ever. Other tasks run meanwhile. The owner of the name tells when
    /// there is one: nothing looks again and again.
    ///
    /// # Cancel safety
    /// No instance is taken unless it is returned.
    ///
    /// # Errors
    /// As [`open`](Self::open); `ERROR_SEM_TIMEOUT` (121) when the time is up.
    #[doc(alias = "WaitNamedPipe")]
    pub async fn open_wait(
        &self,
        addr: impl AsRef<OsStr>,
        timeout: Duration,
    ) -> io::Result<NamedPipeClient> {
        let name = PipeName::from_os_str(addr.as_ref())?;
        let deadline = Instant::now().checked_add(timeout);
        let mut vain: u32 = 0;
        loop {
            match self.open(&addr) {
                Err(error) if error.win32_code() == Some(Error::PIPE_BUSY.code()) => {}
                done => return done,
            }
            // What a wait finds is not reserved: another client may be faster (reference 1.5).
            await_instance(&name, deadline, &mut vain).await?;
        }
    }
}

/// Waits until an instance of the pipe listens, for at most `timeout`; `None` stands for the pipe's
/// default timeout, and [`Duration::MAX`] for ever. Other tasks run meanwhile.
///
/// It reserves nothing: the open that follows may still find all instances busy (reference 1.5).
/// [`ClientOptions::open_wait`] does both.
///
/// # Cancel safety
/// It changes nothing.
///
/// # Errors
/// Those of the blocking [`wait`](crate::wait), but 995.
#[doc(alias = "WaitNamedPipe")]
pub async fn wait(addr: impl AsRef<OsStr>, timeout: Option<Duration>) -> io::Result<()> {
    let name = PipeName::from_os_str(addr.as_ref())?;
    let deadline = deadline_of(&name, timeout).await?;
    let mut vain = 0;
    while await_instance(&name, deadline, &mut vain).await? == Ended::InVain {
        // The time goes on while owners change.
        if deadline.is_some_and(|at| Instant::now() >= at) {
            return Err(Error::SEM_TIMEOUT.into());
        }
    }
    Ok(())
}

/// When a wait is over, if ever; only the owner of the name knows its default.
async fn deadline_of(name: &PipeName, timeout: Option<Duration>) -> io::Result<Option<Instant>> {
    let time = match timeout {
        None => default_time(name).await?,
        Some(time) => Some(time),
    };
    Ok(time.and_then(|time| Instant::now().checked_add(time)))
}

/// How long a client waits that does not say it; `None` is for ever.
async fn default_time(name: &PipeName) -> io::Result<Option<Duration>> {
    let mut vain = 0;
    loop {
        let waiting = Waiting::begin_query(name)?;
        match until(waiting.tasks(), || waiting.poll_time()).await {
            // Another process may go on with the name.
            Err(error) if error == Error::FILE_NOT_FOUND && vain < MAX_VAIN => vain += 1,
            told => return Ok(told?),
        }
    }
}

/// Waits until it is worth trying to open the pipe: an instance listens, or another process goes on
/// with the name.
async fn await_instance(
    name: &PipeName,
    deadline: Option<Instant>,
    vain: &mut u32,
) -> io::Result<Ended> {
    let timeout = deadline.map_or(WaitTimeout::Forever, |at| {
        WaitTimeout::After(at.saturating_duration_since(Instant::now()))
    });
    let waiting = Waiting::begin(name, timeout)?;
    match until(waiting.tasks(), || waiting.poll()).await {
        Err(error) if error == Error::FILE_NOT_FOUND && *vain < MAX_VAIN => {
            *vain += 1;
            Ok(Ended::InVain)
        }
        waited => Ok(waited.map(|()| Ended::Listening)?),
    }
}

/// How a wait for an instance has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// There is one.
    Listening,
    /// The owner of the name is gone.
    InVain,
}

/// How often in all a wait may find its owner gone.
const MAX_VAIN: u32 = 1000;

/// Opens a message pipe, has one transaction and closes it. If it can't be opened, it waits once for
/// an instance and tries again, whatever the reason was (reference 1.12).
///
/// `timeout` is for the instance, not for the reply, as in [`wait`]. The rest of a reply that is
/// longer than `reply` is lost. Opening is as [`ClientOptions::open`] does it: while an owner that is
/// stopped does not answer, other tasks wait too.
///
/// # Cancel safety
/// If it is given up the server may have got the request.
///
/// # Errors
/// Those of [`ClientOptions::open`] and [`NamedPipeClient::transact`]; `ERROR_SEM_TIMEOUT` (121) when
/// the time is up;
/// `ERROR_INVALID_PARAMETER` (87): the pipe is not of message type.
#[doc(alias = "CallNamedPipe")]
pub async fn call(
    addr: impl AsRef<OsStr>,
    request: &[u8],
    reply: &mut [u8],
    timeout: Option<Duration>,
) -> io::Result<ReadInfo> {
    ::tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
    let name = PipeName::from_os_str(addr.as_ref())?;
    let mut deadline = None;
    let (mut ended, mut vain) = (Ended::InVain, 0);
    let client = loop {
        match ClientOptions::new().open(&addr) {
            Err(_) if ended == Ended::InVain => {
                let at = match deadline {
                    Some(at) => at,
                    None => *deadline.insert(deadline_of(&name, timeout).await?),
                };
                ended = await_instance(&name, at, &mut vain).await?;
            }
            opened => break opened?,
        }
    };
    client.set_read_mode(PipeMode::Message)?;
    client.transact(request, reply).await
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self::new()
    }
}
