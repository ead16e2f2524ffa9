//! What tasks do with an end: reading, writing, transactions, flushing.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::tokio::io::{Interest, ReadBuf};
use bytes::BufMut;
use ntpipe_proto::lane::Flush;
use ntpipe_proto::{Error, PipeType};

use super::end::{End, Holder, Slot, turned};
use crate::pipe::{PeekInfo, ReadInfo};
use crate::ring::Link;
use crate::stream::{Attempt, Cause, Turn};

impl<H: Holder> End<H> {
    pub(super) async fn read_message(&self, buf: &mut [u8]) -> io::Result<ReadInfo> {
        let mut waiting = None;
        let read = || {
            let read = self.try_read(buf);
            if read.is_pending() {
                waiting.get_or_insert_with(|| self.pipe.calls().enter_read());
            }
            read
        };
        Ok(self.wait(Cause::Data, read).await??)
    }

    pub(super) async fn write_message(self: &Arc<Self>, buf: &[u8]) -> io::Result<usize> {
        let write = || self.try_write(buf, Attempt::Waits);
        Ok(self.wait(Cause::Room, write).await??)
    }

    pub(super) async fn close_write(self: &Arc<Self>) -> io::Result<()> {
        Ok(self.wait(Cause::Room, || self.try_close_write()).await??)
    }

    pub(super) async fn peek(&self, buf: &mut [u8]) -> io::Result<PeekInfo> {
        let peek = || Poll::Ready(self.pipe.peek_into(buf));
        Ok(self.wait(Cause::Client, peek).await??)
    }

    pub(super) async fn transact(
        self: &Arc<Self>,
        request: &[u8],
        reply: &mut [u8],
    ) -> io::Result<ReadInfo> {
        let ask = || {
            let _over = self.check_writes()?;
            turned(self.pipe.poll_request(request))
        };
        let (turn, written) = self.wait(Cause::Client, ask).await??;
        let turn = Transaction { end: self, turn };
        self.accept(written, request)?;
        let read = || turned(self.pipe.poll_reply(&turn.turn, reply));
        Ok(self.wait(Cause::Data, read).await??)
    }

    pub(super) async fn flush_until_read(&self) -> io::Result<()> {
        let begin = || turned(self.pipe.begin_flush());
        let Some((link, flush)) = self.wait(Cause::Client, begin).await?? else {
            return Ok(());
        };
        let mut flushing = Flushing {
            end: self,
            link,
            flush: Some(flush),
        };
        let poll = || self.pipe.poll_flush(&flushing.link, flush);
        let result = self.wait(Cause::Room, poll).await?;
        flushing.flush = None;
        Ok(result?)
    }

    pub(super) fn try_read_now(&self, buf: &mut [u8]) -> io::Result<usize> {
        end_of_stream(now(self.try_read(buf))?)
    }

    pub(super) fn try_read_buf(&self, buf: &mut impl BufMut) -> io::Result<usize> {
        // What is not initialized can't be lent to a read without unsafe code.
        let mut scratch = Vec::new();
        let read = self.try_read_scratch(buf.chunk_mut().len(), &mut scratch)?;
        buf.put_slice(read);
        Ok(read.len())
    }

    /// One read, into as many of the buffers as it fills.
    pub(super) fn try_read_vectored(&self, bufs: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        let mut filled = bufs.iter_mut().filter(|buf| !buf.is_empty());
        let first = filled.next();
        if filled.next().is_none() {
            return self.try_read_now(first.map_or(&mut [], |buf| &mut **buf));
        }
        let room = bufs
            .iter()
            .fold(0_usize, |sum, buf| sum.saturating_add(buf.len()));
        let mut scratch = Vec::new();
        let read = self.try_read_scratch(room, &mut scratch)?;
        let mut rest = read;
        for buf in bufs {
            let (now, later) = rest.split_at(rest.len().min(buf.len()));
            if let Some(place) = buf.get_mut(..now.len()) {
                place.copy_from_slice(now);
            }
            rest = later;
        }
        Ok(read.len())
    }

    /// A read of `most` bytes at most, by way of memory that is no larger than it needs.
    fn try_read_scratch<'a>(&self, most: usize, scratch: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        let read = self.try_read_into(most, |len| {
            scratch.resize(len, 0);
            scratch
        });
        let len = end_of_stream(now(read)?)?;
        Ok(scratch.get(..len).unwrap_or_default())
    }

    /// One write, which is one message, of all the buffers; of a byte pipe, of what could have room.
    pub(super) fn gather<'a>(&self, bufs: &'a [io::IoSlice<'_>]) -> Cow<'a, [u8]> {
        let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
        let first = filled.next().map_or(&[][..], |buf| &**buf);
        if filled.next().is_none() {
            return Cow::Borrowed(first);
        }
        let terms = self.pipe.terms();
        let most = match (terms.pipe_type, terms.writes) {
            (PipeType::Byte, Some(quota @ 1..)) => usize::try_from(quota).unwrap_or(usize::MAX),
            (PipeType::Byte | PipeType::Message, _) => usize::MAX,
        };
        let mut gathered = Vec::new();
        for buf in bufs {
            let room = buf.len().min(most.saturating_sub(gathered.len()));
            gathered.extend_from_slice(buf.get(..room).unwrap_or_default());
        }
        Cow::Owned(gathered)
    }

    pub(super) fn try_write_now(self: &Arc<Self>, buf: &[u8]) -> io::Result<usize> {
        Ok(now(self.try_write(buf, Attempt::Tries))??)
    }

    pub(super) async fn async_io<R>(
        &self,
        interest: Interest,
        mut operation: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        let attempt = || match self.try_io(interest, &mut operation) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            done => Poll::Ready(done),
        };
        self.wait(cause_of(interest), attempt).await?
    }

    pub(super) fn poll_read_buf(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = buf.remaining();
        let is_initialized = buf.initialized().len() == buf.capacity();
        let read = || match is_initialized {
            true => self.try_read(buf.initialize_unfilled()),
            // Perhaps it is large, and this is tried again and again.
            false => self.try_read_into(most, |len| buf.initialize_unfilled_to(len)),
        };
        let read = ready!(self.poll_slot(cx, Slot::Read, read))?;
        buf.advance(end_of_stream(read)?);
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = || self.try_write(buf, Attempt::Waits);
        let written = ready!(self.poll_slot(cx, Slot::Write, write))?;
        Poll::Ready(Ok(written?))
    }
}

/// A transaction under way; its turn ends with it.
struct Transaction<'a, H: Holder> {
    end: &'a End<H>,
    turn: Turn,
}

impl<H: Holder> Drop for Transaction<'_, H> {
    fn drop(&mut self) {
        // In a forked child it is its parent's.
        if self.end.pipe.is_ours() {
            self.end.pipe.end_transaction(&self.turn);
        }
    }
}

/// A flush under way.
struct Flushing<'a, H: Holder> {
    end: &'a End<H>,
    link: Arc<Link>,
    flush: Option<Flush>,
}

impl<H: Holder> Drop for Flushing<'_, H> {
    fn drop(&mut self) {
        // In a forked child it is its parent's.
        if let Some(flush) = self.flush
            && self.end.pipe.is_ours()
        {
            self.end.pipe.forget_flush(&self.link, flush);
        }
    }
}

pub(super) fn cause_of(interest: Interest) -> Cause {
    match (interest.is_readable(), interest.is_writable()) {
        (true, false) => Cause::Data,
        (false, true) => Cause::Room,
        (true, true) | (false, false) => Cause::Either,
    }
}

fn now<T>(poll: Poll<T>) -> io::Result<T> {
    match poll {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// A pipe whose other end is closed has come to its end.
fn end_of_stream(read: Result<ReadInfo, Error>) -> io::Result<usize> {
    match read {
        Ok(read) => Ok(read.len),
        Err(error) if error == Error::BROKEN_PIPE => Ok(0),
        Err(error) => Err(error.into()),
    }
}
