//! The methods that both ends of a pipe share.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ntpipe_proto::{Error, PipeState, Status, WaitMode};

use crate::options::PipeMode;
use crate::stream::PipeStream;

/// What a read returned: how many bytes, and whether the message has more.
pub use ntpipe_proto::lane::Read as ReadInfo;

/// What a peek found.
pub use ntpipe_proto::lane::Peek as PeekInfo;

impl PipeStream {
    /// Reads into `buf`: in message read mode one message, or as much of it as fits.
    ///
    /// `more` says that the message has a rest, which the next read returns; on Windows that is
    /// `ERROR_MORE_DATA` (234). A message of length zero is `len == 0` and no error. Waits until
    /// there is something, also with an empty `buf`.
    ///
    /// Differs from Windows: of a waiting write that is larger than the pipe's memory (16 times the
    /// quota, at least 64 KiB) a read of bytes returns what has found room there.
    ///
    /// # Errors
    /// - `ERROR_BROKEN_PIPE` (109): the other end is closed and everything has been read, or another
    ///   thread has closed this end.
    /// - `ERROR_NO_DATA` (232): there is nothing, and this end [does not wait](Self::set_wait_mode).
    /// - `ERROR_PIPE_NOT_CONNECTED` (233): the server has disconnected the instance.
    /// - `ERROR_PIPE_LISTENING` (536): no client has come yet.
    /// - `ERROR_ACCESS_DENIED` (5): this end can't read.
    /// - `ERROR_SEM_TIMEOUT` (121): the read timeout has passed; nothing was taken, unless a message
    ///   longer than the ring was on its way: that part is lost.
    /// - `ERROR_OPERATION_ABORTED` (995): another thread [cancelled](Self::cancel_io) the call; of
    ///   data as after a timeout.
    /// - `ERROR_INVALID_DATA` (13): the other end's shared memory contradicts itself.
    /// - `ERROR_INVALID_HANDLE` (6): this process is a fork of the one that opened the end.
    #[doc(alias = "ReadFile")]
    pub fn read_message(&self, buf: &mut [u8]) -> io::Result<ReadInfo> {
        Ok(self.read_until(buf, deadline(&self.read_timeout))?)
    }

    /// Writes `buf`: on a message pipe as one message, which may be empty.
    ///
    /// Returns at once when the peer's unread bytes stay within the buffer size that the pipe was
    /// created with, otherwise when the peer has read enough. The bytes can be read before that.
    /// An end that [does not wait](Self::set_wait_mode) then writes nothing and returns 0. With both
    /// ends in one process, reads that wait have what they waited for when this returns (observed
    /// 10.3).
    ///
    /// # Errors
    /// - `ERROR_NO_DATA` (232): the other end is closed.
    /// - `ERROR_BROKEN_PIPE` (109): it, or this end, was closed while this call waited.
    /// - `ERROR_PIPE_NOT_CONNECTED` (233): the server has disconnected the instance.
    /// - `ERROR_PIPE_LISTENING` (536): no client has come yet.
    /// - `ERROR_ACCESS_DENIED` (5): this end can't write.
    /// - `ERROR_SEM_TIMEOUT` (121): the write timeout has passed; what the peer has not read of
    ///   `buf` is taken back.
    /// - `ERROR_OPERATION_ABORTED` (995): another thread [cancelled](Self::cancel_io) the call; of
    ///   data as after a timeout.
    /// - `ERROR_INVALID_DATA` (13), `ERROR_INVALID_HANDLE` (6): as in
    ///   [`read_message`](Self::read_message).
    #[doc(alias = "WriteFile")]
    pub fn write_message(&self, buf: &[u8]) -> io::Result<usize> {
        Ok(self.write_until(buf, deadline(&self.write_timeout))?)
    }

    /// Looks at what can be read without taking it; never waits for data.
    ///
    /// On a message pipe only the first message is copied, whatever the read mode; on a byte pipe
    /// as much as fits. An empty `buf` asks for the numbers alone.
    ///
    /// Differs from Windows: [`PeekInfo::left`] is 0 on a byte pipe, where Windows returns the
    /// negative number of bytes copied. Of a write that is larger than the pipe's memory all is
    /// counted, and copied what has found room there.
    ///
    /// # Errors
    /// - `ERROR_BROKEN_PIPE` (109): the other end is closed and everything has been read.
    /// - `ERROR_BAD_PIPE` (230): the server end has no client.
    /// - `ERROR_PIPE_NOT_CONNECTED` (233): the server has disconnected this client.
    /// - `ERROR_ACCESS_DENIED` (5): this end can't read.
    #[doc(alias = "PeekNamedPipe")]
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<PeekInfo> {
        Ok(self.peek_into(buf)?)
    }

    /// Waits until the peer has read everything that was written before.
    ///
    /// [`io::Write::flush`] does not wait, so that generic code can't hang on a slow reader.
    ///
    /// # Errors
    /// - `ERROR_BROKEN_PIPE` (109): the other end, or this one, was closed while this call waited.
    /// - `ERROR_PIPE_NOT_CONNECTED` (233): the server has disconnected the instance.
    /// - `ERROR_ACCESS_DENIED` (5): this end can't write.
    /// - `ERROR_SEM_TIMEOUT` (121): the write timeout has passed.
    /// - `ERROR_OPERATION_ABORTED` (995): another thread [cancelled](Self::cancel_io) the call.
    #[doc(alias = "FlushFileBuffers")]
    pub fn flush(&self) -> io::Result<()> {
        Ok(self.flush_until(deadline(&self.write_timeout))?)
    }

    /// Writes one message and reads one, which is taken for the reply.
    ///
    /// The request never waits for room in the peer's buffer; one that is larger than the pipe's
    /// memory waits until the rest of it goes in. The read timeout is for both.
    ///
    /// # Errors
    /// - `ERROR_ACCESS_DENIED` (5): this end can't read or can't write, as on a pipe of one direction.
    /// - `ERROR_BAD_PIPE` (230): the pipe is not of message type, this end is not in message read
    ///   mode, or the other end is gone.
    /// - `ERROR_PIPE_BUSY` (231): there is something unread, or another thread reads.
    /// - `ERROR_ACCESS_DENIED` (5): this end of a duplex pipe can't both read and write.
    /// - what [`read_message`](Self::read_message) and [`write_message`](Self::write_message) return.
    #[doc(alias = "TransactNamedPipe")]
    pub fn transact(&self, request: &[u8], reply: &mut [u8]) -> io::Result<ReadInfo> {
        Ok(self.transact_until(request, reply, deadline(&self.read_timeout))?)
    }

    /// Cancels the calls that wait at this end, in all threads of this process: they return
    /// `ERROR_OPERATION_ABORTED` (995). A call that is done at this very moment returns what it did.
    ///
    /// What a read had of a message is the next one's, as with [`set_read_timeout`]. What the other
    /// end has not read of a write that waited is taken back, also when half of it was read (observed
    /// 10.9). The request of a transaction stays (observed 11.11), unless it is
    /// larger than the pipe's memory and waits for room there.
    ///
    /// To cancel the calls of one thread see [`Canceller`](crate::Canceller).
    ///
    /// [`set_read_timeout`]: Self::set_read_timeout
    ///
    /// # Errors
    /// - `ERROR_NOT_FOUND` (1168): no call waits that has not been cancelled already.
    /// - `ERROR_INVALID_HANDLE` (6): this process is a fork of the one that opened the end.
    #[doc(alias = "CancelIoEx")]
    pub fn cancel_io(&self) -> io::Result<()> {
        match self.cancel_calls()? {
            true => Ok(()),
            false => Err(Error::NOT_FOUND.into()),
        }
    }

    /// The rights that this end was granted, as an access mask (observed 1b, reference 0.3).
    ///
    /// Reading and peeking take `FILE_READ_DATA` (1), writing and flushing `FILE_WRITE_DATA` (2),
    /// transactions both, asking for modes and properties `FILE_READ_ATTRIBUTES` (0x80), setting
    /// modes `FILE_WRITE_ATTRIBUTES` (0x100); other calls take none. Without its right a call is
    /// `ERROR_ACCESS_DENIED` (5), whatever the pipe's state.
    #[doc(alias = "FileAccessInformation")]
    #[must_use]
    pub fn granted_access(&self) -> u32 {
        self.terms().access.bits()
    }

    /// Whether reads return single messages or bytes.
    #[doc(alias = "GetNamedPipeHandleState")]
    #[must_use]
    pub fn read_mode(&self) -> PipeMode {
        self.mode().into()
    }

    /// Makes reads of this end return single messages, or bytes across messages; whether calls wait
    /// stays as it is.
    ///
    /// # Errors
    /// - `ERROR_INVALID_PARAMETER` (87): message mode on a byte pipe.
    /// - `ERROR_PIPE_NOT_CONNECTED` (233): the server has disconnected this client.
    /// - `ERROR_ACCESS_DENIED` (5): a server end that only reads (observed 1.41), or a client end
    ///   without the right `FILE_WRITE_ATTRIBUTES`.
    #[doc(alias = "SetNamedPipeHandleState")]
    pub fn set_read_mode(&self, mode: PipeMode) -> io::Result<()> {
        let read_mode = mode.into();
        Ok(self.change_modes(|old| PipeState { read_mode, ..old })?)
    }

    /// Whether calls of this end wait for what they need.
    #[doc(alias = "GetNamedPipeHandleState")]
    #[must_use]
    pub fn wait_mode(&self) -> WaitMode {
        self.modes().wait_mode
    }

    /// Makes calls of this end wait, or return rather than wait: `PIPE_NOWAIT` (observed 6). The
    /// other end is not affected, and the read mode stays as it is.
    ///
    /// At an end that does not wait:
    /// - a read of an empty pipe is `ERROR_NO_DATA` (232). Only of a message that is longer than
    ///   the pipe's memory, and has begun to come, it waits for the rest.
    /// - a write that would have to wait writes nothing, and returns 0 (observed 6.3). What reads of
    ///   the other end wait for has not to fit; if the rest does not, a byte pipe takes that part
    ///   alone and returns its length (6.5 to 6.8). Differs from Windows: of a write that is larger
    ///   than the pipe's memory that part counts only as far as it has room there.
    /// - [`connect`](crate::NamedPipeServer::connect) without a client is `ERROR_PIPE_LISTENING`
    ///   (536).
    /// - [`flush`](Self::flush) and the reply of [`transact`](Self::transact) are waited for as
    ///   ever.
    ///
    /// # Errors
    /// - `ERROR_PIPE_BUSY` (231): a call that reads waits, or the other end has not read everything
    ///   (reference 1.13).
    /// - `ERROR_PIPE_NOT_CONNECTED` (233), `ERROR_ACCESS_DENIED` (5): as for
    ///   [`set_read_mode`](Self::set_read_mode).
    #[doc(alias = "SetNamedPipeHandleState")]
    pub fn set_wait_mode(&self, mode: WaitMode) -> io::Result<()> {
        Ok(self.change_modes(|old| PipeState {
            wait_mode: mode,
            ..old
        })?)
    }

    /// Sets both modes in one step, as `SetNamedPipeHandleState` does (observed 8.7).
    ///
    /// # Errors
    /// As [`set_read_mode`](Self::set_read_mode) and [`set_wait_mode`](Self::set_wait_mode); then
    /// neither is changed.
    #[doc(alias = "SetNamedPipeHandleState")]
    pub fn set_modes(&self, read_mode: PipeMode, wait_mode: WaitMode) -> io::Result<()> {
        let modes = PipeState {
            read_mode: read_mode.into(),
            wait_mode,
        };
        Ok(self.change_modes(|_| modes)?)
    }

    /// How long reads and transactions wait at most; `None`, the default, for ever. They fail with
    /// `ERROR_SEM_TIMEOUT` (121).
    ///
    /// A read that ends in the middle of a message loses nothing: the next one has the message from
    /// its beginning. Only an end that several processes hold may lose what it had taken of a message
    /// that is larger than the pipe's memory.
    ///
    /// # Errors
    /// `ERROR_INVALID_PARAMETER` (87) for a timeout of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.read_timeout, timeout)
    }

    /// How long writes and flushes wait at most; `None`, the default, for ever.
    ///
    /// # Errors
    /// `ERROR_INVALID_PARAMETER` (87) for a timeout of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.write_timeout, timeout)
    }
}

impl Read for &PipeStream {
    /// As [`PipeStream::read_message`]; a rest of the message comes with the next read. When the
    /// other end is closed and everything has been read, that is the end: `Ok(0)`.
    ///
    /// At an end that does not wait, an empty pipe is an error of the kind
    /// [`WouldBlock`](io::ErrorKind::WouldBlock); its Win32 code is 232.
    ///
    /// Differs from Windows: a message of length zero is `Ok(0)` too, as everywhere in Rust.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.read_until(buf, deadline(&self.read_timeout)) {
            Ok(read) => Ok(read.len),
            Err(error) if error == Error::BROKEN_PIPE => Ok(0),
            Err(error) if error.status() == Some(Status::PIPE_EMPTY) => {
                Err(io::Error::new(io::ErrorKind::WouldBlock, error))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Write for &PipeStream {
    /// As [`PipeStream::write_message`]: all of `buf`, or an error. At an end that does not wait it
    /// may be less, mostly 0, which `write_all` takes for an error.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_message(buf)
    }

    /// Does nothing: what was written can be read already. [`PipeStream::flush`] waits.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn deadline(timeout: &AtomicU64) -> Option<Instant> {
    match timeout.load(Ordering::Relaxed) {
        0 => None,
        micros => Instant::now().checked_add(Duration::from_micros(micros)),
    }
}

fn set_timeout(slot: &AtomicU64, timeout: Option<Duration>) -> io::Result<()> {
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err(Error::INVALID_PARAMETER.into());
    }
    let micros = timeout.map_or(0, |t| {
        u64::try_from(t.as_micros()).unwrap_or(u64::MAX).max(1)
    });
    slot.store(micros, Ordering::Relaxed);
    Ok(())
}
