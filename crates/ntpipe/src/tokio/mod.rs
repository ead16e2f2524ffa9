//! The same pipes for tasks: `tokio::net::windows::named_pipe`, on Linux.
//!
//! Names, signatures, defaults and errors are tokio's, so that a program moves by its `use` line:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use ntpipe::tokio::{ClientOptions, ServerOptions};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let mut server = ServerOptions::new().create(r"\\.\pipe\ntpipe-doc-tokio")?;
//! let mut client = ClientOptions::new().open(r"\\.\pipe\ntpipe-doc-tokio")?;
//! server.connect().await?;
//!
//! client.write_all(b"ping").await?;
//! let mut buf = [0; 4];
//! server.read_exact(&mut buf).await?;
//! assert_eq!(&buf, b"ping");
//! # Ok(())
//! # }
//! ```
//!
//! Beyond tokio there are a [`Listener`] that juggles the instances, an
//! [`open_wait`](ClientOptions::open_wait) that waits for one, messages with
//! [`read_message`](NamedPipeServer::read_message), [`transact`](NamedPipeClient::transact),
//! [`call`], [`wait`] and so on, what the blocking ends tell of themselves, further
//! [handles](NamedPipeServer::try_clone), [`cancel_io`](NamedPipeServer::cancel_io), and halves that
//! can be [put together](OwnedReadHalf::reunite) again.
//!
//! While both sides are at work no call needs the kernel. A task that has to wait arms the doorbell
//! of its end, a socket that the runtime watches, and the peer rings it once.
//!
//! # Where this differs from tokio on Windows
//!
//! - A message of any size is delivered whole, if the buffer is large enough. There, tokio splits one
//!   that is longer than what it reads ahead, which is 4 to 64 KiB.
//! - A byte pipe takes as much of a write as has room. There, tokio takes all of it and goes on by
//!   itself, so that a write of any size succeeds at once and the next one has to wait. Here that is so
//!   for a message that is larger than the whole buffer. `write_all` does the same on both.
//! - What a write has returned can be read by the peer, unless it is such a large message. That one
//!   goes on by itself while the runtime runs, also when its end is dropped, as any write there: wait
//!   with [`flush_until_read`](NamedPipeServer::flush_until_read) before the runtime ends.
//! - Readiness is a look at the pipe. There is something to read when `readable` says so, unless
//!   somebody else takes it; and `ready` also tells that the other end is closed.
//! - [`RawHandle`](crate::os::windows::io::RawHandle)s are numbers of this process; no system call
//!   takes one, and no other process knows it. `from_raw_handle` refuses one that is not known, or that
//!   stands for the other kind of end, with `ERROR_INVALID_HANDLE` (6). There is no `AsFd`: the bytes
//!   are not in any descriptor. To pass an end to another process make it
//!   [parts](NamedPipeServer::into_parts), which are one.
//! - Errors have the same codes. Of those up to 133 but 2 `raw_os_error` returns `None`, because
//!   Linux gives these numbers another meaning: use [`win32_code`](crate::IoErrorExt::win32_code) or
//!   `kind`. The kind of the codes above, such as 231 and 232, has no name.
//! - Creating and opening outside of a runtime is an error, not a panic; so is waiting in one whose
//!   builder was not told to `enable_io`. That one is a panic of tokio's which is caught here: the
//!   panic hook is called, and a program that is built with `panic = "abort"` ends.
//! - There are no remote clients and no security descriptors yet:
//!   [`reject_remote_clients`](ServerOptions::reject_remote_clients) and
//!   [`security_qos_flags`](ClientOptions::security_qos_flags) change nothing, attributes other than
//!   null are refused with `ERROR_NOT_SUPPORTED` (50).
//! - After a `fork` without `exec` the child's copies of an end are closed for it, and dropping them,
//!   or futures that wait at them, does nothing. A runtime is tokio's: what else the child drops of
//!   its parent's, such as sockets, may still end the parent's watching, and a runtime of several
//!   threads waits for threads that the child does not have.

mod client;
mod doorbell;
mod end;
mod halves;
mod listener;
mod moving;
mod operations;
mod patience;
mod queries;
mod server;
mod surface;
mod taking_back;

pub use client::{ClientOptions, NamedPipeClient, call, wait};
pub use halves::{OwnedReadHalf, OwnedWriteHalf};
pub use listener::{Incoming, Listener};
pub use server::{NamedPipeServer, ServerOptions};

pub use ntpipe_proto::WaitMode;

pub use crate::options::{HandleState, LocalInfo, PipeEnd, PipeInfo, PipeMode};
pub use crate::pipe::{PeekInfo, ReadInfo};
