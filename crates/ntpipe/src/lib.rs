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
//!
//! # On Windows
//!
//! There the crate is what is there already: `ntpipe::tokio` is `tokio::net::windows::named_pipe`,
//! `ntpipe::os::windows` is `std::os::windows`, and only what the two share with Linux is in either.
//! So a program that uses that part has the same `use` lines on both. The blocking types, which are
//! at the root, and what `ntpipe::tokio` has beyond tokio's exist on Linux alone.
// Loom's test takes in the few files that it can model by itself.
#![cfg(not(loom))]
#![deny(unsafe_code)]

#[cfg(not(windows))]
pub mod anonymous;
#[cfg(not(windows))]
mod canceller;
#[cfg(not(windows))]
mod client;
#[cfg(not(windows))]
mod condition;
#[cfg(not(windows))]
mod listener;
#[cfg(not(windows))]
mod locked;
#[cfg(not(windows))]
mod options;
pub mod os;
#[cfg(not(windows))]
mod parts;
#[cfg(not(windows))]
mod pipe;
#[cfg(not(windows))]
mod primitive;
#[cfg(not(windows))]
mod ring;
#[cfg(not(windows))]
mod server;
#[cfg(not(windows))]
mod service;
#[cfg(not(windows))]
mod shared;
#[cfg(not(windows))]
mod stream;
#[cfg(not(windows))]
mod sys;
#[cfg(all(feature = "tokio", not(windows)))]
pub mod tokio;

#[cfg(not(windows))]
pub use canceller::Canceller;
#[cfg(not(windows))]
pub use client::{NamedPipeClient, PipeEntry, call, call_timeout, info, list, wait};
#[cfg(not(windows))]
pub use listener::Listener;
pub use ntpipe_proto::{Direction, EndState, Error, IoErrorExt, PipeName, WaitMode};
#[cfg(not(windows))]
pub use options::{
    ClientOptions, HandleState, LocalInfo, PipeEnd, PipeInfo, PipeMode, ServerOptions,
};
#[cfg(not(windows))]
pub use parts::PipeParts;
#[cfg(not(windows))]
pub use pipe::{PeekInfo, ReadInfo};
#[cfg(not(windows))]
pub use server::NamedPipeServer;
#[cfg(not(windows))]
pub use stream::PipeStream;

/// Tokio's own pipes.
#[cfg(all(feature = "tokio", windows))]
pub mod tokio {
    pub use ::tokio::net::windows::named_pipe::*;
}
