//! An end as two halves, for two tasks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::NamedPipeClient;
use super::server::NamedPipeServer;
use crate::pipe::ReadInfo;

/// The half of an end that reads. The end is closed when both halves are dropped.
#[derive(Debug)]
pub struct OwnedReadHalf<E> {
    end: E,
}

/// The half of an end that writes. The end is closed when both halves are dropped: the peer reads
/// no end of data before that.
#[derive(Debug)]
pub struct OwnedWriteHalf<E> {
    end: E,
}

macro_rules! halves {
    ($name:ident) => {
        impl $name {
            /// Splits the end for a task that reads and one that writes.
            #[must_use]
            pub fn into_split(self) -> (OwnedReadHalf<Self>, OwnedWriteHalf<Self>) {
                let other = Self {
                    end: Arc::clone(&self.end),
                };
                (OwnedReadHalf { end: other }, OwnedWriteHalf { end: self })
            }
        }

        impl OwnedReadHalf<$name> {
            /// Puts the two halves of an end together again.
            ///
            /// # Errors
            /// Both halves, if they are not of one end.
            pub fn reunite(
                self,
                other: OwnedWriteHalf<$name>,
            ) -> Result<$name, (Self, OwnedWriteHalf<$name>)> {
                match Arc::ptr_eq(&self.end.end, &other.end.end) {
                    true => Ok(self.end),
                    false => Err((self, other)),
                }
            }

            /// As the end's `read_message`, with the same errors.
            ///
            /// # Cancel safety
            /// Nothing is taken unless it is returned.
            ///
            /// # Errors
            /// Those of the end's `read_message`.
            pub async fn read_message(&self, buf: &mut [u8]) -> io::Result<ReadInfo> {
                self.end.read_message(buf).await
            }
        }

        impl OwnedWriteHalf<$name> {
            /// As the end's `write_message`, with the same errors.
            ///
            /// # Cancel safety
            /// All or nothing.
            ///
            /// # Errors
            /// Those of the end's `write_message`.
            pub async fn write_message(&self, buf: &[u8]) -> io::Result<usize> {
                self.end.write_message(buf).await
            }

            /// As the end's `close_write`, with the same errors.
            ///
            /// # Cancel safety
            /// All or nothing.
            ///
            /// # Errors
            /// Those of the end's `close_write`.
            pub async fn close_write(&self) -> io::Result<()> {
                self.end.close_write().await
            }
        }
    };
}
halves!(NamedPipeServer);
halves!(NamedPipeClient);

impl<E> AsRef<E> for OwnedReadHalf<E> {
    /// The whole end.
    fn as_ref(&self) -> &E {
        &self.end
    }
}

impl<E> AsRef<E> for OwnedWriteHalf<E> {
    /// The whole end.
    fn as_ref(&self) -> &E {
        &self.end
    }
}

impl<E: AsyncRead + Unpin> AsyncRead for OwnedReadHalf<E> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.end).poll_read(cx, buf)
    }
}

impl<E: AsyncWrite + Unpin> AsyncWrite for OwnedWriteHalf<E> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.end).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.end).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.end.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.end).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.end).poll_shutdown(cx)
    }
}
