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
//! Differences: a message of any size is delivered whole, where tokio on Windows splits it at 4096
//! bytes; a byte pipe takes as much of a write as has room, where tokio on Windows takes all of it
//! and goes on by itself; there are no raw handles.
//!
//! While both sides are at work no call needs the kernel. A task that has to wait arms the doorbell
//! of its end, a socket that the runtime watches, and the peer rings it once.

mod client;
mod doorbell;
mod end;
mod halves;
mod listener;
mod operations;
mod patience;
mod server;
mod surface;

pub use client::{ClientOptions, NamedPipeClient, call};
pub use halves::{OwnedReadHalf, OwnedWriteHalf};
pub use listener::{Incoming, Listener};
pub use server::{NamedPipeServer, ServerOptions};

pub use crate::options::{PipeEnd, PipeInfo, PipeMode};
pub use crate::pipe::{PeekInfo, ReadInfo};
