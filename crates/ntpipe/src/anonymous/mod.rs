//! Anonymous pipes.
//!
//! They have the shape of [`std::io::pipe`]. An end that leaves for a program that knows nothing of
//! this library, as its standard input, say, turns the pipe into one of the kernel's: see
//! [`PipeReader::into_fd`].

use std::io::{self, Read, Write};
use std::ops::Deref;
use std::sync::{Arc, OnceLock, Weak};

use ntpipe_proto::lane::ring_capacity;
use ntpipe_proto::{Access, Direction, End, EndState, Operation, PipeType, ReadMode};

mod fds;

use crate::options::{HandleState, LocalInfo, PipeEnd, PipeInfo, PipeMode};
use crate::ring::{Link, Offer, Trust};
use crate::stream::{KernelEnd, PipeStream, Terms};

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
    peer: OnceLock<Weak<Self>>,
    /// The kernel's pipe, once this end was asked for it.
    kernel: OnceLock<Arc<KernelEnd>>,
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
    let (reader, reader_memory) = Offer::new(outbound)?;
    let (writer, writer_memory) = Offer::new(inbound)?;
    let reader = AnonymousEnd::new(
        End::Server,
        quota,
        reader.accept(writer_memory, inbound, Trust::Same)?,
    );
    let writer = AnonymousEnd::new(
        End::Client,
        quota,
        writer.accept(reader_memory, outbound, Trust::Same)?,
    );
    let (reader, writer) = (Arc::new(reader), Arc::new(writer));
    let _ = reader.peer.set(Arc::downgrade(&writer));
    let _ = writer.peer.set(Arc::downgrade(&reader));
    Ok((PipeReader { end: reader }, PipeWriter { end: writer }))
}

impl AnonymousEnd {
    fn new(end: End, quota: u32, link: Link) -> Self {
        let stream = new_stream(end, quota);
        let link = Arc::new(link);
        stream.attach(&link);
        Self {
            stream,
            link: Some(link),
            quota,
            peer: OnceLock::new(),
            kernel: OnceLock::new(),
        }
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
        if let Some(link) = &self.link
            && self.stream.is_ours()
        {
            link.close();
        }
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
