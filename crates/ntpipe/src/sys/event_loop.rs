//! Sockets that a tokio runtime watches.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;

/// A socket that stays open, and the same, while it is watched; none once it is abandoned.
#[derive(Debug)]
pub(crate) struct Socket(Option<Arc<OwnedFd>>);

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_ref().map_or(-1, |socket| socket.as_raw_fd())
    }
}

/// Has the runtime that this is called in tell when the socket can be received from.
///
/// # Errors
/// `AlreadyExists` if it watches this very descriptor already; `Unsupported` if it watches none.
pub(crate) fn watch(socket: &Arc<OwnedFd>) -> io::Result<AsyncFd<Socket>> {
    let socket = Socket(Some(Arc::clone(socket)));
    let register = || {
        // SAFETY: the `Arc` keeps the descriptor open for as long as the `AsyncFd` owns it; nobody
        // replaces what is in an `Arc`, so that it is always the same one. Only `abandon` takes the
        // `Arc` out, after which nobody has the `AsyncFd` any more, and it is never dropped.
        unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
    };
    // Whether its builder was told to, a runtime does not say before.
    match panic::catch_unwind(AssertUnwindSafe(register)) {
        Ok(watched) => Ok(watched?),
        Err(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Lets go of a socket without telling the runtime. In a forked child that would stop the watching
/// for its parent, for both have the same epoll instance.
pub(crate) fn abandon(mut watched: AsyncFd<Socket>) {
    watched.get_mut().0 = None;
    mem::forget(watched);
}
