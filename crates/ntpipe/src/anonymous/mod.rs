//! Anonymous pipes.
//!
//! They have the shape of [`std::io::pipe`]. An end that leaves for a program that knows nothing of
//! this library, as its standard input, say, turns the pipe into one of the kernel's: see
//! [`PipeReader::into_fd`].

use std::io::{self, Read, Write};
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use ntpipe_proto::control::Opened;
use ntpipe_proto::lane::ring_capacity;
use ntpipe_proto::{
    Access, Direction, End, EndState, Error, MaxInstances, Operation, PipeType, Quotas, ReadMode,
};

mod fds;

use crate::options::{HandleState, LocalInfo, PipeEnd, PipeInfo, PipeMode};
use crate::parts::PipeParts;
use crate::ring::{Link, Offer};
use crate::shared::{self, Holding, Kind, Party, PeerWatch, Portrait, Watches};
use crate::stream::shared::Left;
use crate::stream::{KernelEnd, PipeStream, Terms, lock};
use crate::sys::{bag, socket};

/// The reading end of an anonymous pipe: the server end, for queries (observed 13.1).
#[derive(Clone)]
pub struct PipeReader {
    end: Arc<AnonymousEnd>,
}

/// The writing end of an anonymous pipe.
#[derive(Clone)]
pub struct PipeWriter {
    end: Arc<AnonymousEnd>,
}

struct AnonymousEnd {
    stream: PipeStream,
    /// Missing if the pipe was the kernel's from the beginning.
    link: Option<Arc<Link>>,
    quota: u32,
    /// Hangs up when the other end is gone; not needed while one process has both.
    wire: OnceLock<Arc<OwnedFd>>,
    /// The other end, where it was made.
    siblings: Option<Arc<Siblings>>,
    watches: Watches,
    /// The kernel's pipe, once this end was asked for it.
    kernel: OnceLock<Arc<KernelEnd>>,
}

/// The reading and the writing end, in the process that made both.
#[derive(Default)]
struct Siblings {
    ends: [OnceLock<Weak<AnonymousEnd>>; 2],
    wiring: Mutex<()>,
}

/// The buffer size that 0 stands for (observed 13.2).
const DEFAULT_SIZE: u32 = 4096;

/// Makes an anonymous pipe: a byte pipe without a name, of this process.
///
/// `size` is the buffer size: up to so many unread bytes a write completes at once; 0 stands for
/// 4096, other sizes are kept exactly (observed 13.2).
///
/// # Errors
/// `ERROR_NO_SYSTEM_RESOURCES` (1450), `ERROR_TOO_MANY_OPEN_FILES` (4).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::io::{Read, Write};
///
/// let (mut reader, mut writer) = ntpipe::anonymous::pipe(0)?;
/// writer.write_all(b"some bytes")?;
/// drop(writer);
/// let mut text = String::new();
/// reader.read_to_string(&mut text)?;
/// assert_eq!(text, "some bytes");
/// # Ok(())
/// # }
/// ```
#[doc(alias = "CreatePipe")]
pub fn pipe(size: u32) -> io::Result<(PipeReader, PipeWriter)> {
    let quota = if size == 0 { DEFAULT_SIZE } else { size };
    // The reader writes nothing: its lane is the smallest.
    let (inbound, outbound) = (ring_capacity(quota), ring_capacity(0));
    let [reader, writer] = Offer::pair([outbound, inbound])?;
    let siblings = Arc::<Siblings>::default();
    let make = |end, link| Arc::new(AnonymousEnd::new(end, quota, link, &siblings));
    let (reader, writer) = (make(End::Server, reader), make(End::Client, writer));
    for (slot, end) in siblings.ends.iter().zip([&reader, &writer]) {
        let _ = slot.set(Arc::downgrade(end));
    }
    Ok((PipeReader { end: reader }, PipeWriter { end: writer }))
}

impl AnonymousEnd {
    fn new(end: End, quota: u32, link: Link, siblings: &Arc<Siblings>) -> Self {
        let stream = new_stream(end, quota);
        let link = Arc::new(link);
        stream.attach(&link);
        Self {
            stream,
            link: Some(link),
            quota,
            wire: OnceLock::new(),
            siblings: Some(Arc::clone(siblings)),
            watches: Watches::default(),
            kernel: OnceLock::new(),
        }
    }

    fn kind(&self) -> Kind {
        match self.stream.terms().end {
            End::Server => Kind::Reader,
            End::Client => Kind::Writer,
        }
    }

    /// Parts for a further holder.
    fn share(self: &Arc<Self>) -> io::Result<PipeParts> {
        self.stream.check_process()?;
        if self.stream.kernel_end().is_some() {
            return Err(Error::NOT_SUPPORTED.into());
        }
        let wire = self.wire()?;
        let newcomer = self.stream.share()?;
        let quotas = Quotas {
            inbound: self.quota,
            outbound: 0,
        };
        let portrait = Portrait {
            kind: self.kind(),
            access: self.stream.terms().access,
            client: Party::default(),
            server: Party::default(),
            pipe: Opened {
                pipe_type: PipeType::Byte,
                direction: Direction::Inbound,
                instance: 0,
                max_instances: MaxInstances::UNLIMITED,
                quotas,
                inbound_ring: ring_capacity(quotas.inbound),
                outbound_ring: ring_capacity(quotas.outbound),
                server_pid: 0,
                spelling: String::new(),
            },
        };
        let (bag, lifeline) = shared::pack(&newcomer, portrait, wire.as_fd(), None)?;
        let end: Arc<dyn Holding> = Arc::<Self>::clone(self);
        self.watches
            .add_lifeline(lifeline, newcomer.id, Arc::downgrade(&end))?;
        PipeParts::new(bag)
    }

    fn from_parts(parts: &PipeParts, kind: Kind) -> io::Result<Arc<Self>> {
        let received = parts.unpack(kind)?;
        let end = Arc::new(Self {
            stream: received.stream,
            link: Some(received.link),
            quota: received.description.pipe.quotas.inbound,
            wire: OnceLock::new(),
            siblings: None,
            watches: Watches::default(),
            kernel: OnceLock::new(),
        });
        end.connect(received.connection)?;
        let other: Arc<dyn Holding> = Arc::<Self>::clone(&end);
        let from = received.description.from;
        end.watches
            .add_lifeline(received.lifeline, from, Arc::downgrade(&other))?;
        Ok(end)
    }

    /// The other end, if it is in this process and was made here.
    fn peer(&self) -> Option<Arc<Self>> {
        let [reader, writer] = &self.siblings.as_ref()?.ends;
        let other = match self.kind() {
            Kind::Writer => reader,
            Kind::Reader | Kind::Client | Kind::Server => writer,
        };
        other.get().and_then(Weak::upgrade)
    }

    /// The socket by which the other end learns of this one's death.
    fn wire(&self) -> Result<Arc<OwnedFd>, Error> {
        self.stream.check_process()?;
        if let Some(siblings) = &self.siblings {
            let _one_at_a_time = lock(&siblings.wiring);
            if self.wire.get().is_none() {
                let (reading, writing) = bag::pair()?;
                for (end, socket) in siblings.ends.iter().zip([reading, writing]) {
                    // One that is closed has said so.
                    if let Some(end) = end.get().and_then(Weak::upgrade) {
                        end.connect(Arc::new(socket))?;
                    }
                }
            }
        }
        self.wire.get().map(Arc::clone).ok_or(Error::INVALID_HANDLE)
    }

    fn connect(&self, socket: Arc<OwnedFd>) -> Result<(), Error> {
        let link = self.link.as_ref().ok_or(Error::NOT_SUPPORTED)?;
        self.watches.add(Arc::new(PeerWatch {
            socket: Arc::clone(&socket),
            link: Arc::downgrade(link),
        }))?;
        let _ = self.wire.set(socket);
        Ok(())
    }

    fn info(&self) -> PipeInfo {
        PipeInfo {
            mode: PipeMode::Byte,
            end: match self.stream.terms().end {
                End::Server => PipeEnd::Server,
                End::Client => PipeEnd::Client,
            },
            max_instances: 1,
            out_buffer_size: self.quota,
            in_buffer_size: self.quota,
        }
    }
}

impl Holding for AnonymousEnd {
    fn stream(&self) -> &PipeStream {
        &self.stream
    }
}

impl AnonymousEnd {
    /// A client whose server has closed its end finds no instance (observed 8.20).
    fn instances(&self) -> io::Result<u32> {
        self.stream.check(Operation::Query)?;
        let alone = self.stream.terms().end == End::Client && !self.stream.has_peer();
        Ok(u32::from(!alone))
    }

    fn local_info(&self) -> io::Result<LocalInfo> {
        let queues = self.stream.queue_info()?;
        let (info, instances) = (self.info(), self.instances()?);
        Ok(LocalInfo::new(info, Direction::Inbound, instances, queues))
    }

    fn handle_state(&self) -> io::Result<HandleState> {
        Ok(HandleState::new(self.stream.modes(), self.instances()?))
    }
}

impl Drop for AnonymousEnd {
    fn drop(&mut self) {
        if !self.stream.is_ours() {
            return;
        }
        if self.stream.leave_end() == Left::Last {
            if let Some(link) = &self.link {
                link.close();
            }
            if let Some(wire) = self.wire.get() {
                socket::hang_up(wire.as_fd());
            }
        }
        self.watches.end();
    }
}

fn new_stream(end: End, quota: u32) -> PipeStream {
    let (reads, writes) = match end {
        End::Server => (Some(quota), None),
        End::Client => (None, Some(quota)),
    };
    let terms = Terms {
        end,
        pipe_type: PipeType::Byte,
        direction: Direction::Inbound,
        access: match end {
            End::Server => Access::ANONYMOUS_READ_END,
            End::Client => Access::ANONYMOUS_WRITE_END,
        },
        reads,
        writes,
    };
    PipeStream::new(terms, ReadMode::Byte, EndState::Connected)
}

impl PipeReader {
    /// What the pipe is: as on Windows, one instance of a byte pipe.
    #[doc(alias = "GetNamedPipeInfo")]
    #[must_use]
    pub fn info(&self) -> PipeInfo {
        self.end.info()
    }

    /// The modes of this end and the number of instances: 1, or 0 for a writing end whose reader is
    /// gone (observed 8.20).
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE` (6) in a forked child.
    #[doc(alias = "GetNamedPipeHandleState")]
    pub fn handle_state(&self) -> io::Result<HandleState> {
        self.end.handle_state()
    }

    /// What `FilePipeLocalInformation` tells of this end: the pipe is an inbound one.
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE` (6) in a forked child.
    #[doc(alias = "NtQueryInformationFile")]
    pub fn local_info(&self) -> io::Result<LocalInfo> {
        self.end.local_info()
    }

    /// Another handle for the same end.
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE` (6) in a forked child.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.check_process()?;
        Ok(self.clone())
    }

    /// Parts with which another process can hold this end too: see [`PipeParts`].
    ///
    /// # Errors
    /// - `ERROR_INVALID_HANDLE` (6) in a forked child.
    /// - `ERROR_NO_SYSTEM_RESOURCES` (1450): too many processes hold it.
    /// - `ERROR_NOT_SUPPORTED` (50): the pipe is [one of the kernel's](Self::into_fd).
    /// - `ERROR_TOO_MANY_OPEN_FILES` (4).
    /// - `ERROR_SEM_TIMEOUT` (121): a process that holds the end was stopped in the middle of a call.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use ntpipe::anonymous::{self, PipeReader};
    ///
    /// let (reader, writer) = anonymous::pipe(0)?;
    /// // This would rather happen in another process.
    /// let other = PipeReader::from_parts(reader.share()?)?;
    /// writer.write_message(b"some")?;
    /// assert_eq!(other.read_message(&mut [0; 4])?.len, 4);
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
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use ntpipe::anonymous::{self, PipeReader};
    ///
    /// let (reader, writer) = anonymous::pipe(0)?;
    /// let reader = PipeReader::from_parts(reader.into_parts()?)?;
    /// # drop(reader);
    /// # Ok(())
    /// # }
    /// ```
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
        let end = AnonymousEnd::from_parts(&parts, Kind::Reader)?;
        Ok(Self { end })
    }
}

impl PipeWriter {
    /// As [`PipeStream::flush`]; it is here too lest [`io::Write::flush`], which does not wait, is
    /// found first where that trait is in scope.
    ///
    /// # Errors
    /// As [`PipeStream::flush`].
    #[doc(alias = "FlushFileBuffers")]
    pub fn flush(&self) -> io::Result<()> {
        PipeStream::flush(self)
    }

    /// What the pipe is: as on Windows, one instance of a byte pipe.
    #[doc(alias = "GetNamedPipeInfo")]
    #[must_use]
    pub fn info(&self) -> PipeInfo {
        self.end.info()
    }

    /// The modes of this end and the number of instances: 1, or 0 for a writing end whose reader is
    /// gone (observed 8.20).
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE` (6) in a forked child.
    #[doc(alias = "GetNamedPipeHandleState")]
    pub fn handle_state(&self) -> io::Result<HandleState> {
        self.end.handle_state()
    }

    /// What `FilePipeLocalInformation` tells of this end: the pipe is an inbound one.
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE` (6) in a forked child.
    #[doc(alias = "NtQueryInformationFile")]
    pub fn local_info(&self) -> io::Result<LocalInfo> {
        self.end.local_info()
    }

    /// Another handle for the same end; the reader finds the end when the last is dropped.
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE` (6) in a forked child.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.check_process()?;
        Ok(self.clone())
    }

    /// Parts with which another process can hold this end too: see [`PipeParts`].
    ///
    /// # Errors
    /// - `ERROR_INVALID_HANDLE` (6) in a forked child.
    /// - `ERROR_NO_SYSTEM_RESOURCES` (1450): too many processes hold it.
    /// - `ERROR_NOT_SUPPORTED` (50): the pipe is [one of the kernel's](Self::into_fd).
    /// - `ERROR_TOO_MANY_OPEN_FILES` (4).
    /// - `ERROR_SEM_TIMEOUT` (121): a process that holds the end was stopped in the middle of a call.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use ntpipe::anonymous::{self, PipeWriter};
    ///
    /// let (reader, writer) = anonymous::pipe(0)?;
    /// // This would rather happen in another process.
    /// let other = PipeWriter::from_parts(writer.share()?)?;
    /// other.write_message(b"some")?;
    /// assert_eq!(reader.read_message(&mut [0; 4])?.len, 4);
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
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use ntpipe::anonymous::{self, PipeWriter};
    ///
    /// let (reader, writer) = anonymous::pipe(0)?;
    /// let writer = PipeWriter::from_parts(writer.into_parts()?)?;
    /// # drop(writer);
    /// # Ok(())
    /// # }
    /// ```
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
        let end = AnonymousEnd::from_parts(&parts, Kind::Writer)?;
        Ok(Self { end })
    }
}

impl Deref for PipeReader {
    type Target = PipeStream;

    fn deref(&self) -> &PipeStream {
        &self.end.stream
    }
}

impl Deref for PipeWriter {
    type Target = PipeStream;

    fn deref(&self) -> &PipeStream {
        &self.end.stream
    }
}

impl std::fmt::Debug for PipeReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PipeReader")
            .field("size", &self.end.quota)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PipeWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PipeWriter")
            .field("size", &self.end.quota)
            .finish_non_exhaustive()
    }
}

impl Read for PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &**self, buf)
    }
}

impl Read for &PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &***self, buf)
    }
}

impl Write for PipeWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_message(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &PipeWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_message(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
