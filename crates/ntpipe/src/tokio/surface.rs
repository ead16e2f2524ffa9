//! The methods and traits that both ends have.

/// Gives an end what it shares with the other: it has a field `end`, an `Arc<End<_>>`.
macro_rules! surface {
    ($name:ident, $blocking:ty) => {
        impl $name {
            /// What the pipe is.
            ///
            /// # Errors
            /// As the blocking end's.
            pub fn info(&self) -> io::Result<PipeInfo> {
                self.end.pipe.info()
            }

            /// Waits until it is worth reading or writing, as `interest` says.
            ///
            /// The answer may be wrong by the time it is used. An end whose peer is gone is ready for
            /// everything: the call says what is wrong.
            ///
            /// # Cancel safety
            /// Nothing is lost by giving up: readiness is a look at the pipe, not an event.
            ///
            /// # Errors
            /// When the runtime is gone, or was built without I/O (`enable_io`; the kind is
            /// `Unsupported`), if it has to wait: so does every call here that waits for the peer.
            /// `ERROR_OPERATION_ABORTED` (995): it was [cancelled](Self::cancel_io).
            pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
                let ready = || self.end.poll_ready(interest);
                self.end.wait(cause_of(interest), ready).await
            }

            /// Waits until there is something to read, or an end or error to be told.
            ///
            /// # Cancel safety
            /// As [`ready`](Self::ready).
            ///
            /// # Errors
            /// As [`ready`](Self::ready).
            pub async fn readable(&self) -> io::Result<()> {
                let readable = || self.end.poll_readable();
                self.end.wait(Cause::Data, readable).await
            }

            /// As [`readable`](Self::readable), for a task that polls: the last one to call this is
            /// woken.
            ///
            /// # Errors
            /// As [`ready`](Self::ready).
            pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                let readable = || self.end.poll_readable();
                self.end.poll_slot(cx, Slot::ReadReady, readable)
            }

            /// Reads what is there: in message read mode one message, or as much of it as fits; the
            /// rest comes with the next reads. `Ok(0)` is the end, an empty message, or an empty
            /// `buf`.
            ///
            /// Differs from Windows, where tokio splits a message that is longer than what it reads at a
            /// time (4 KiB, or what the read before asked for, but at most 64 KiB): it is delivered
            /// whole, once it is there.
            ///
            /// # Errors
            /// `WouldBlock` if there is nothing, or no client yet. `ERROR_PIPE_NOT_CONNECTED` (233)
            /// once the server has disconnected; `ERROR_ACCESS_DENIED` (5) if this end can't read;
            /// `ERROR_INVALID_DATA` (13) if the peer's shared memory contradicts itself.
            pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.end.try_read_now(buf)
            }

            /// As [`try_read`](Self::try_read), into one of `bufs` after the other.
            ///
            /// # Errors
            /// As [`try_read`](Self::try_read).
            pub fn try_read_vectored(&self, bufs: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
                self.end.try_read_vectored(bufs)
            }

            /// As [`try_read`](Self::try_read), behind what `buf` holds already. A `Vec` is filled up to
            /// its capacity; one that is full gets some.
            ///
            /// # Errors
            /// As [`try_read`](Self::try_read).
            pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
                self.end.try_read_buf(buf)
            }

            /// Waits until there is room to write, or an error to be told.
            ///
            /// After a [`try_write`](Self::try_write) that would have blocked, it waits until that has
            /// room, or until the peer has read something since.
            ///
            /// # Cancel safety
            /// As [`ready`](Self::ready).
            ///
            /// # Errors
            /// As [`ready`](Self::ready).
            pub async fn writable(&self) -> io::Result<()> {
                let writable = || self.end.poll_writable();
                self.end.wait(Cause::Room, writable).await
            }

            /// As [`writable`](Self::writable), for a task that polls: the last one to call this is
            /// woken.
            ///
            /// # Errors
            /// As [`ready`](Self::ready).
            pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                let writable = || self.end.poll_writable();
                self.end.poll_slot(cx, Slot::WriteReady, writable)
            }

            /// Writes what has room in the peer's buffer: of a byte pipe as much of `buf` as that is,
            /// of a message pipe all of it or nothing.
            ///
            /// A message that is larger than the whole buffer is accepted at once if no other such
            /// write is under way, and goes on by itself, also when this end is dropped meanwhile;
            /// nothing else can be written until the peer has read enough of it. It goes on in the
            /// runtime: what the peer has not read of it when that ends is lost, unless
            /// [`flush_until_read`](Self::flush_until_read) has waited for it.
            ///
            /// # Errors
            /// `WouldBlock` if there is no room, or no client yet. `ERROR_NO_DATA` (232) once the
            /// other end is closed; `ERROR_PIPE_NOT_CONNECTED` (233) once the server has
            /// disconnected; `ERROR_ACCESS_DENIED` (5) if this end can't write;
            /// `ERROR_INVALID_DATA` (13) if the peer's shared memory contradicts itself. For such a
            /// large message also `ERROR_OPERATION_ABORTED` (995): the end's runtime is gone, and
            /// `ERROR_NOT_SUPPORTED` (50): it was built without I/O; the message is taken back,
            /// unless the peer is just taking some of it: then that may get a part of it, or all.
            pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
                self.end.try_write_now(buf)
            }

            /// As [`try_write`](Self::try_write): all of `buf` together are one message.
            ///
            /// # Errors
            /// As [`try_write`](Self::try_write).
            pub fn try_write_vectored(&self, buf: &[io::IoSlice<'_>]) -> io::Result<usize> {
                self.end.try_write_now(&self.end.gather(buf))
            }

            /// Does `f` if the pipe is ready for `interest`. If `f` would block, the pipe counts as
            /// not ready until the peer has written or read something.
            ///
            /// # Errors
            /// `WouldBlock` if the pipe is not ready, and what `f` returns. `ERROR_INVALID_HANDLE` (6)
            /// in a forked child: `f` is not done.
            pub fn try_io<R>(
                &self,
                interest: Interest,
                f: impl FnOnce() -> io::Result<R>,
            ) -> io::Result<R> {
                self.end.try_io(interest, f)
            }

            /// Does `f` whenever the pipe is ready for `interest`, until it does not block.
            ///
            /// # Cancel safety
            /// As safe as `f`: it is called, or not called.
            ///
            /// # Errors
            /// What `f` returns; those of [`ready`](Self::ready).
            pub async fn async_io<R>(
                &self,
                interest: Interest,
                f: impl FnMut() -> io::Result<R>,
            ) -> io::Result<R> {
                self.end.async_io(interest, f).await
            }

            /// Reads into `buf`: in message read mode one message, or as much of it as fits. `more`
            /// says that it has a rest.
            ///
            /// # Cancel safety
            /// Nothing is taken unless it is returned: what has come of a message whose rest is still
            /// on its way is kept for the next read.
            ///
            /// # Errors
            /// Those of the blocking [`read_message`](crate::PipeStream::read_message), but 536:
            /// before a client has come, it waits for one.
            pub async fn read_message(&self, buf: &mut [u8]) -> io::Result<ReadInfo> {
                self.end.read_message(buf).await
            }

            /// Writes `buf` as one message, which may be empty. On a byte pipe it writes as much as
            /// has room, at least a byte.
            ///
            /// A message that is larger than the peer's buffer goes on by itself when this has
            /// returned, as with [`try_write`](Self::try_write) and `write_all`: wait for it with
            /// [`flush_until_read`](Self::flush_until_read) before the runtime ends.
            ///
            /// # Cancel safety
            /// All or nothing: if it is given up before it is ready, nothing was written.
            ///
            /// # Errors
            /// Those of [`try_write`](Self::try_write) but `WouldBlock`; `ERROR_OPERATION_ABORTED`
            /// (995): it was [cancelled](Self::cancel_io), and nothing was written.
            pub async fn write_message(&self, buf: &[u8]) -> io::Result<usize> {
                self.end.write_message(buf).await
            }

            /// Writes an empty message, which is the end of data for a peer that reads until it finds
            /// one, as programs for Windows do; nothing more can be written to this connection by
            /// this end's tasks, but it can still be read from.
            ///
            /// `AsyncWriteExt::shutdown` does nothing: drop the end to close it.
            ///
            /// # Cancel safety
            /// If it is given up before it is ready, nothing was written or closed.
            ///
            /// # Errors
            /// `ERROR_NOT_SUPPORTED` (50): a byte pipe has no empty messages. `ERROR_NO_DATA` (232),
            /// as every write from now on: it was done before, or the other end is closed. Those of
            /// [`write_message`](Self::write_message).
            pub async fn close_write(&self) -> io::Result<()> {
                self.end.close_write().await
            }

            /// Looks at what can be read without taking it; waits for nothing, also not for the memory
            /// of a client that is just connecting.
            ///
            /// # Cancel safety
            /// It changes nothing.
            ///
            /// # Errors
            /// Those of the blocking [`peek`](crate::PipeStream::peek).
            pub async fn peek(&self, buf: &mut [u8]) -> io::Result<PeekInfo> {
                self.end.peek(buf).await
            }

            /// Writes one message and reads one, which is taken for the reply.
            ///
            /// # Cancel safety
            /// If it is given up, the request stays written (observed 11.11), and the reply is what
            /// the next read finds.
            ///
            /// # Errors
            /// Those of the blocking [`transact`](crate::PipeStream::transact).
            pub async fn transact(&self, request: &[u8], reply: &mut [u8]) -> io::Result<ReadInfo> {
                self.end.transact(request, reply).await
            }

            /// Waits until the peer has read everything that was written before.
            ///
            /// `AsyncWriteExt::flush` does not wait.
            ///
            /// # Cancel safety
            /// It changes nothing.
            ///
            /// # Errors
            /// Those of the blocking [`flush`](crate::PipeStream::flush).
            #[doc(alias = "FlushFileBuffers")]
            pub async fn flush_until_read(&self) -> io::Result<()> {
                self.end.flush_until_read().await
            }

            /// Whether reads return single messages or bytes.
            #[must_use]
            pub fn read_mode(&self) -> PipeMode {
                self.end.pipe.read_mode()
            }

            /// Makes reads of this end return single messages, or bytes across messages.
            ///
            /// # Errors
            /// Those of the blocking [`set_read_mode`](crate::PipeStream::set_read_mode).
            pub fn set_read_mode(&self, mode: PipeMode) -> io::Result<()> {
                self.end.pipe.set_read_mode(mode)
            }

            /// The same end for threads.
            #[must_use]
            pub fn into_blocking(self) -> $blocking {
                self.end.pipe.clone()
            }

            /// An end that threads have used, for the tasks of this runtime.
            ///
            /// # Errors
            /// Outside of a runtime. `ERROR_NOT_SUPPORTED` (50): other processes hold the end too
            /// (`share`). `ERROR_INVALID_HANDLE` (6) in a forked child.
            pub fn from_blocking(pipe: $blocking) -> io::Result<Self> {
                Ok(Self {
                    end: Arc::new(End::new(pipe)?),
                })
            }
        }

        impl AsRawHandle for $name {
            fn as_raw_handle(&self) -> RawHandle {
                self.end.pipe.as_raw_handle()
            }
        }

        impl AsHandle for $name {
            fn as_handle(&self) -> BorrowedHandle<'_> {
                self.end.pipe.as_handle()
            }
        }

        impl AsyncRead for $name {
            /// As `try_read`, waiting for something. Nothing is taken while it is pending.
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                self.end.poll_read_buf(cx, buf)
            }
        }

        impl AsyncWrite for $name {
            /// As `try_write`, waiting for room. Nothing is written while it is pending. Also after
            /// `write_all` a message that is larger than the peer's buffer goes on by itself: only
            /// `flush_until_read` waits for it.
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.end.poll_write(cx, buf)
            }

            /// As `poll_write`: all of `bufs` together are one message.
            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.end.poll_write(cx, &self.end.gather(bufs))
            }

            /// Does nothing: what was written can be read already.
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            /// Does nothing, as on Windows: drop the end to close it.
            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
    };
}
pub(super) use surface;
