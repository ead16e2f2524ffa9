//! Locks on single bytes of a file, by which the kernel tells whether a holder still lives.
//!
//! Such a lock belongs to an open file description: it travels with the descriptor, and goes when
//! the last descriptor of it is closed, by whatever death.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use ntpipe_proto::Error;
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::win32_from_errno;

/// The same file with an open file description of its own, for reading and writing.
pub(crate) fn reopen(file: impl AsFd) -> Result<OwnedFd, Error> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| win32_from_errno(errno, "opening a memory file anew, through /proc"))
}

/// Takes the lock of a byte; `false` if somebody else has it.
pub(crate) fn try_take(file: impl AsFd, byte: u16) -> Result<bool, Error> {
    match request(file, libc::F_OFD_SETLK, libc::F_WRLCK, byte) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(win32_from_errno(errno, "F_OFD_SETLK")),
    }
}

/// Lets go of the lock of a byte.
pub(crate) fn let_go(file: impl AsFd, byte: u16) {
    if let Err(errno) = request(file, libc::F_OFD_SETLK, libc::F_UNLCK, byte) {
        tracing::debug!(%errno, "a lock could not be let go of");
    }
}

/// Whether somebody else has the lock of a byte; yes if that can't be found out.
pub(crate) fn is_taken(file: impl AsFd, byte: u16) -> bool {
    match request(file, libc::F_OFD_GETLK, libc::F_WRLCK, byte) {
        Ok(found) => i32::from(found) != libc::F_UNLCK,
        Err(errno) => {
            tracing::warn!(%errno, "whether a holder lives can't be found out");
            true
        }
    }
}

/// One request; returns the kind of lock that the kernel has filled in.
fn request(file: impl AsFd, command: i32, kind: i32, byte: u16) -> Result<i16, Errno> {
    let narrow = |n: i32| i16::try_from(n).map_err(|_| Errno::INVAL);
    // SAFETY: a C structure of integers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = narrow(kind)?;
    lock.l_whence = narrow(libc::SEEK_SET)?;
    lock.l_start = byte.into();
    lock.l_len = 1;
    // SAFETY: the descriptor is open, and these commands read and write one such structure.
    let refused = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &raw mut lock) };
    if refused == 0 {
        Ok(lock.l_type)
    } else {
        Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    #[test]
    fn a_lock_goes_with_the_last_descriptor_of_its_description() {
        let one = memfd_create(c"test", MemfdFlags::CLOEXEC).unwrap();
        let other = reopen(&one).unwrap();
        assert!(try_take(&other, 7).unwrap());
        assert!(is_taken(&one, 7) && !is_taken(&one, 8));
        assert!(!is_taken(&other, 7), "its own lock is not in its way");
        assert!(!try_take(&one, 7).unwrap());
        let copy = other.try_clone().unwrap();
        drop(other);
        assert!(is_taken(&one, 7));
        drop(copy);
        assert!(!is_taken(&one, 7));
        assert!(try_take(&one, 7).unwrap());
        let_go(&one, 7);
        let again = reopen(&one).unwrap();
        assert!(try_take(&again, 7).unwrap());
    }
}
