//! Windows pipes, whole, for Linux.
//!
//! Named pipes with instances, messages, peek, transactions and waiting, and anonymous pipes, as
//! programs written for Windows know them; without a daemon, and without a system call per message
//! while both sides run: bytes move through shared memory.
//!
//! The names are those of tokio's Windows pipes, the methods block:
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! use ntpipe::{ClientOptions, PipeMode, ServerOptions};
//!
//! let server = ServerOptions::new()
//!     .pipe_mode(PipeMode::Message)
//!     .create(r"\\.\pipe\ntpipe-doc-hello")?;
//! let client = ClientOptions::new().open(r"\\.\pipe\ntpipe-doc-hello")?;
//! server.connect()?;
//!
//! client.write_message(b"hello")?;
//! let mut buf = [0; 64];
//! let read = server.read_message(&mut buf)?;
//! assert_eq!((&buf[..read.len], read.more), (&b"hello"[..], false));
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! Errors are [`std::io::Error`]s that carry the Win32 code: [`IoErrorExt::win32_code`] returns it.
//! Codes that Linux has no use for, such as 231, are also what `raw_os_error` returns.
//!
//! # Where names live
//!
//! In the first that applies of `$NTPIPE_DIR`, `/run/ntpipe` (if it exists),
//! `$XDG_RUNTIME_DIR/ntpipe`, and `ntpipe-UID` among the temporary files. A name dies
//! with the last process that has an instance of it.
//!
//! # Waiting
//!
//! A call that has to wait looks for its peer for a moment before it sleeps: at most 100
//! microseconds, usually about twice what waking a sleeping thread costs on the machine.
//! `NTPIPE_SPIN_US` in the environment sets another limit, in microseconds; 0 means to sleep at once.
// Loom's test takes in the few files that it can model by itself.
#![cfg(not(loom))]
#![deny(unsafe_code)]

pub mod anonymous;
mod canceller;
mod client;
mod condition;
mod listener;
mod options;
mod parts;
mod pipe;
mod primitive;
mod ring;
mod server;
mod service;
mod shared;
mod stream;
mod sys;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use canceller::Canceller;
pub use client::{NamedPipeClient, PipeEntry, call, call_timeout, info, list, wait};
pub use listener::Listener;
pub use ntpipe_proto::{Direction, EndState, Error, IoErrorExt, PipeName, WaitMode};
pub use options::{
    ClientOptions, HandleState, LocalInfo, PipeEnd, PipeInfo, PipeMode, ServerOptions,
};
pub use parts::PipeParts;
pub use pipe::{PeekInfo, ReadInfo};
pub use server::NamedPipeServer;
pub use stream::PipeStream;
