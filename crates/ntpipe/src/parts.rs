//! Passing an end to another process.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

use ntpipe_proto::Error;
use rustix::io::Errno;
use rustix::net::RecvFlags;

#[cfg(feature = "tokio")]
use crate::shared::Holders;
use crate::shared::{self, Kind};
use crate::sys::{bag, win32_from_errno};

/// What is needed to hold an end in another process, in one descriptor.
///
/// `share` of an end makes parts and leaves the end as it is; `into_parts` moves the end. The other
/// process turns them into an end with `from_parts`. From `share` on the end is one of several
/// holders, as a handle that `DuplicateHandle` has copied to another process (reference 1.19): all of
/// them read and write at once, see the same data and the same modes, and the end closes when the
/// last one has gone. Parts that nobody has taken count as a holder too, until they are dropped.
///
/// One set of parts makes one end: a second attempt is `ERROR_INVALID_HANDLE` (6). To pass an end to
/// several processes, share it several times; up to 255 processes hold an end at a time.
///
/// Processes that hold an end trust each other: each could confuse the others by what it writes to
/// their common memory. The other end's process is not trusted any more than before.
///
/// # Examples
/// To a process that runs, over a socket:
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::os::unix::net::UnixStream;
/// use ntpipe::{PipeParts, anonymous};
///
/// let (reader, writer) = anonymous::pipe(0)?;
/// let (here, there) = UnixStream::pair()?;
/// writer.share()?.send(&here)?;
///
/// // In the other process:
/// let other = anonymous::PipeWriter::from_parts(PipeParts::receive(&there)?)?;
/// other.write_message(b"from there")?;
/// # let mut buf = [0; 20];
/// # assert_eq!(reader.read_message(&mut buf)?.len, 10);
/// # Ok(())
/// # }
/// ```
pub struct PipeParts {
    bag: OwnedFd,
    kind: Kind,
    #[cfg(feature = "tokio")]
    holders: Holders,
}

/// What precedes the descriptor in a stream.
const GREETING: [u8; 8] = *b"ntparts\n";

impl PipeParts {
    pub(crate) fn new(bag: OwnedFd) -> io::Result<Self> {
        let kind = shared::kind_of(bag.as_fd())?;
        Ok(Self {
            bag,
            kind,
            #[cfg(feature = "tokio")]
            holders: Holders::Several,
        })
    }

    /// The parts for an end that is shared no longer; it must be a former holder's only one.
    #[cfg(feature = "tokio")]
    pub(crate) fn for_one(self) -> Self {
        Self {
            holders: Holders::One,
            ..self
        }
    }

    /// The end in these parts, if it is of the right kind.
    pub(crate) fn unpack(&self, kind: Kind) -> Result<shared::Received, Error> {
        if self.kind != kind {
            return Err(Error::INVALID_PARAMETER);
        }
        #[cfg(feature = "tokio")]
        if self.holders == Holders::One {
            return shared::unpack(self.bag.as_fd())?.alone();
        }
        shared::unpack(self.bag.as_fd())
    }

    /// Sends the parts to a running process, which [`receive`](Self::receive)s them.
    ///
    /// They take eight bytes of the stream. What is sent before and after them stays in order.
    ///
    /// # Errors
    /// `ERROR_BROKEN_PIPE` (109): nobody is at the other side of the socket.
    /// `ERROR_NO_SYSTEM_RESOURCES` (1450): the socket does not block, and is full.
    #[doc(alias = "DuplicateHandle")]
    pub fn send(self, socket: &UnixStream) -> io::Result<()> {
        bag::send(socket.as_fd(), &GREETING, &[self.bag.as_fd()]).map_err(refused)?;
        Ok(())
    }

    /// Receives the parts that a process has [sent](Self::send).
    ///
    /// # Errors
    /// - `ERROR_BROKEN_PIPE` (109): the other side of the socket is closed.
    /// - `ERROR_INVALID_DATA` (13): something else was sent; eight bytes of it are lost.
    /// - `ERROR_TOO_MANY_OPEN_FILES` (4).
    pub fn receive(socket: &UnixStream) -> io::Result<Self> {
        let mut greeting = [0; GREETING.len()];
        let received = bag::receive_into(socket.as_fd(), &mut greeting, RecvFlags::WAITALL);
        let (len, fds) = received.map_err(refused)?;
        if len == 0 {
            return Err(Error::BROKEN_PIPE.into());
        }
        let mut fds = fds.into_iter();
        match (fds.next(), fds.next()) {
            (Some(bag), None) if greeting == GREETING => Self::new(bag),
            _ => Err(Error::INVALID_DATA.into()),
        }
    }

    /// Has a child inherit the parts, as an inheritable handle; returns the number by which the
    /// child finds them with [`inherited`](Self::inherited). Tell it by an argument or the
    /// environment.
    ///
    /// Only children that this `command` starts inherit them, and the first one that asks gets them.
    /// As long as none has, the command keeps them: drop it, lest it holds the end open.
    ///
    /// # Errors
    /// None in this version.
    ///
    /// # Examples
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// use std::process::Command;
    /// use ntpipe::anonymous;
    ///
    /// let (reader, writer) = anonymous::pipe(0)?;
    /// let mut command = Command::new("program");
    /// let number = writer.into_parts()?.inherit(&mut command)?;
    /// command.env("PIPE", number.to_string()).spawn()?;
    /// drop(command);
    ///
    /// // In the child:
    /// # use ntpipe::PipeParts;
    /// let parts = PipeParts::inherited(std::env::var_os("PIPE").unwrap_or_default())?;
    /// let writer = anonymous::PipeWriter::from_parts(parts)?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "bInheritHandle")]
    pub fn inherit(self, command: &mut Command) -> io::Result<i32> {
        let number = self.bag.as_raw_fd();
        bag::pass_on(command, self.bag);
        Ok(number)
    }

    /// The parts that this process has [inherited](Self::inherit) under a number.
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE` (6): there are none, or somebody has taken them.
    /// `ERROR_INVALID_DATA` (13): a socket in which something else lies.
    pub fn inherited(number: impl AsRef<OsStr>) -> io::Result<Self> {
        let number = number.as_ref().to_str().and_then(|text| text.parse().ok());
        Self::new(bag::inherited(number.ok_or(Error::INVALID_HANDLE)?)?)
    }
}

/// The parts as the one descriptor that they are, for whatever way it is to take to another process.
///
/// It is close-on-exec, and nothing for `read` or `write`.
impl From<PipeParts> for OwnedFd {
    fn from(parts: PipeParts) -> Self {
        parts.bag
    }
}

/// Fails with `ERROR_INVALID_HANDLE` (6) if there are no parts in the descriptor, or somebody has
/// taken them; `ERROR_INVALID_DATA` (13) if something else is.
impl TryFrom<OwnedFd> for PipeParts {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        Self::new(fd)
    }
}

/// To look at, or to pass it on: who takes the parts out of a copy has them.
impl AsFd for PipeParts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bag.as_fd()
    }
}

/// As [`AsFd`].
impl AsRawFd for PipeParts {
    fn as_raw_fd(&self) -> RawFd {
        self.bag.as_raw_fd()
    }
}

fn refused(errno: Errno) -> Error {
    match errno {
        Errno::PIPE | Errno::CONNRESET => Error::BROKEN_PIPE,
        errno => win32_from_errno(errno, "passing parts of an end"),
    }
}

impl fmt::Debug for PipeParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeParts")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
