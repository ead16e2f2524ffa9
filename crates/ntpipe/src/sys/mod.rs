//! The operating system, one file for each of its services.
//!
//! Everything that the kernel refuses becomes a Win32 error here, in [`win32_from_errno`].

#[cfg(feature = "tokio")]
mod attributes;
pub(crate) mod bag;
pub(crate) mod cpu;
#[cfg(feature = "tokio")]
pub(crate) mod event_loop;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod pipe;
pub(crate) mod poll;
pub(crate) mod raw_handle;
pub(crate) mod record_lock;
pub(crate) mod session;
pub(crate) mod shm;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod trust;

use ntpipe_proto::Error;
use rustix::io::Errno;

/// The Win32 error that says what the kernel said.
pub(crate) fn win32_from_errno(errno: Errno, attempt: &str) -> Error {
    tracing::debug!(%errno, attempt, "the kernel refused");
    match errno {
        Errno::NOENT => Error::FILE_NOT_FOUND,
        Errno::ACCESS | Errno::PERM => Error::ACCESS_DENIED,
        Errno::MFILE | Errno::NFILE => Error::TOO_MANY_OPEN_FILES,
        Errno::NOMEM | Errno::NOSPC | Errno::AGAIN => Error::NO_SYSTEM_RESOURCES,
        Errno::INVAL => Error::INVALID_PARAMETER,
        Errno::NOSYS => Error::NOT_SUPPORTED,
        _ => Error::GEN_FAILURE,
    }
}
