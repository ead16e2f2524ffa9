//! Sockets that a tokio runtime watches.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;

/// A socket that stays open, and the same, while it is watched.
#[derive(Debug)]
pub(crate) struct Socket(Arc<OwnedFd>);

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Has the runtime that this is called in tell when the socket can be received from.
///
/// # Errors
/// `AlreadyExists` if it watches this very descriptor already; `Unsupported` if it watches none.
pub(crate) fn watch(socket: &Arc<OwnedFd>) -> io::Result<AsyncFd<Socket>> {
    let socket = Socket(Arc::clone(socket));
    let register = || {
        // SAFETY: the `Arc` keeps the descriptor open for as long as the `AsyncFd` owns it; nobody
        // replaces what is in an `Arc`, so that it is always the same one.
        unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
    };
    // Whether its builder was told to, a runtime does not say before.
    match panic::catch_unwind(AssertUnwindSafe(register)) {
        Ok(watched) => Ok(watched?),
        Err(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}
