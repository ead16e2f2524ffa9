//! Ends of anonymous pipes as descriptors, for programs that know nothing of this library.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ntpipe_proto::{End, Error};

use super::{AnonymousEnd, PipeReader, PipeWriter, new_stream};
use crate::shared::Watches;
use crate::stream::{self, KernelEnd};
use crate::sys::{futex, pipe, win32_from_errno};

/// How long an end that is just being dropped may take: its thread may have to wait for a CPU.
const PATIENCE: Duration = Duration::from_secs(1);

impl AnonymousEnd {
    /// This end of the kernel's pipe; the pipe turns into one if it has not before.
    fn kernel(&self) -> Result<&Arc<KernelEnd>, Error> {
        self.stream.check_process()?;
        if let Some(kernel) = self.kernel.get() {
            return Ok(kernel);
        }
        let peer = self.peer();
        if peer.is_none() {
            self.await_absence()?;
        }
        let (own, peer) = (Some(&self.stream), peer.as_ref().map(|peer| &peer.stream));
        match self.stream.terms().end {
            End::Server => stream::turn(own, peer, self.quota)?,
            End::Client => stream::turn(peer, own, self.quota)?,
        }
        let kernel = self.stream.kernel_end().ok_or(Error::INTERNAL_ERROR)?;
        Ok(self.kernel.get_or_init(|| kernel))
    }

    /// The other end is not in this process: it has been closed, or is in another one, which
    /// could not follow.
    fn await_absence(&self) -> Result<(), Error> {
        if self.stream.kernel_end().is_some() {
            return Ok(());
        }
        let give_up = Instant::now() + PATIENCE;
        for attempt in 0.. {
            if !self.stream.has_peer() {
                return Ok(());
            }
            if Instant::now() >= give_up {
                break;
            }
            futex::back_off(attempt);
        }
        Err(Error::NOT_SUPPORTED)
    }

    fn duplicate(&self) -> io::Result<OwnedFd> {
        let fd = self.kernel()?.original().try_clone_to_owned();
        Ok(fd.map_err(|error| from_io(&error))?)
    }

    fn from_fd(end: End, fd: OwnedFd) -> io::Result<Self> {
        let writes = end == End::Client;
        if !pipe::is_end(fd.as_fd(), writes) {
            return Err(Error::INVALID_HANDLE.into());
        }
        let quota = u32::try_from(pipe::size(fd.as_fd())).unwrap_or(u32::MAX);
        let kernel = Arc::new(KernelEnd::new(fd, writes)?);
        let stream = new_stream(end, quota);
        stream.attach_kernel(&kernel);
        Ok(Self {
            stream,
            link: None,
            quota,
            wire: OnceLock::new(),
            siblings: None,
            watches: Watches::default(),
            kernel: kernel.into(),
        })
    }
}

fn from_io(error: &io::Error) -> Error {
    match rustix::io::Errno::from_io_error(error) {
        Some(errno) => win32_from_errno(errno, "duplicate a pipe's end"),
        None => Error::GEN_FAILURE,
    }
}

/// The descriptor of an end, for conversions that can't fail.
#[expect(clippy::panic, reason = "std's traits leave no other way")]
#[track_caller]
fn or_panic<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(fd) => fd,
        Err(error) => panic!("the pipe can't become one of the kernel's: {error}"),
    }
}

macro_rules! descriptors {
    ($type:ident, $end:expr, $other:literal) => {
        impl $type {
            /// This end as a descriptor that any program can use: the pipe turns into a kernel
            /// pipe, if it is none yet.
            ///
            /// What is unread moves over, and calls that wait go on. The other end, if it stays,
            /// works as before but for this: the buffer is as large as the kernel rounds it; a
            /// write that is cancelled or takes too long does not take back what the pipe has
            /// taken of it; and a flush looks every few milliseconds. Other handles of this end
            /// stay usable.
            ///
            /// # Errors
            /// - `ERROR_NO_SYSTEM_RESOURCES` (1450): more is unread than the kernel lets a pipe
            ///   hold. Nothing has changed then.
            /// - `ERROR_TOO_MANY_OPEN_FILES` (4).
            #[doc = concat!("- `ERROR_NOT_SUPPORTED` (50): the ", $other, " is in another process,")]
            /// or either end was [shared](Self::share).
            /// - `ERROR_INVALID_HANDLE` (6) in a forked child.
            pub fn into_fd(self) -> io::Result<OwnedFd> {
                self.end.duplicate()
            }

            /// The end of a kernel pipe that this process has got, on standard input or output,
            /// say.
            ///
            /// # Errors
            /// - `ERROR_INVALID_HANDLE` (6): `fd` is not that end of a pipe.
            /// - `ERROR_ACCESS_DENIED` (5): another user made it; `ERROR_TOO_MANY_OPEN_FILES` (4).
            /// - `ERROR_NO_DATA` (232): it is for writing, and nobody reads.
            pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
                Ok(Self {
                    end: Arc::new(AnonymousEnd::from_fd($end, fd)?),
                })
            }
        }

        #[doc = concat!("As [`", stringify!($type), "::into_fd`].")]
        ///
        /// # Panics
        /// Where that returns an error.
        impl From<$type> for OwnedFd {
            fn from(end: $type) -> Self {
                or_panic(end.into_fd())
            }
        }

        #[doc = concat!("As [`", stringify!($type), "::into_fd`].")]
        ///
        /// # Panics
        /// Where that returns an error.
        impl From<$type> for Stdio {
            fn from(end: $type) -> Self {
                OwnedFd::from(end).into()
            }
        }

        #[doc = concat!("As [`", stringify!($type), "::into_fd`]; both are usable then.")]
        ///
        /// # Panics
        /// Where that returns an error.
        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                or_panic(self.end.kernel()).original()
            }
        }

        /// As [`AsFd`].
        impl AsRawFd for $type {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }

        #[doc = concat!("As [`", stringify!($type), "::into_fd`].")]
        ///
        /// # Panics
        /// Where that returns an error.
        impl IntoRawFd for $type {
            fn into_raw_fd(self) -> RawFd {
                OwnedFd::from(self).into_raw_fd()
            }
        }
    };
}

descriptors!(PipeReader, End::Server, "writing end");
descriptors!(PipeWriter, End::Client, "reading end");
