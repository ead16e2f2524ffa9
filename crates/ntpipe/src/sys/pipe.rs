//! The kernel's own pipes.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use ntpipe_proto::Error;
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fstat, open};
use rustix::io::Errno;
use rustix::pipe::{self, PipeFlags, SpliceFlags};

use super::win32_from_errno;

/// A new pipe with room for so many bytes at least: its reading and its writing end.
///
/// `ERROR_NO_SYSTEM_RESOURCES` (1450) if the kernel allows no pipe of that size.
pub(crate) fn new(room: usize) -> Result<(OwnedFd, OwnedFd), Error> {
    let made = pipe::pipe_with(PipeFlags::CLOEXEC);
    let (reader, writer) = made.map_err(|errno| win32_from_errno(errno, "pipe2"))?;
    // The size counts whole pages; a smaller one than asked for is no use.
    match pipe::fcntl_setpipe_size(&writer, room.max(1)) {
        Ok(size) if size >= room => Ok((reader, writer)),
        Ok(_) | Err(_) => Err(Error::NO_SYSTEM_RESOURCES),
    }
}

/// How many bytes the pipe takes in all.
pub(crate) fn size(end: BorrowedFd<'_>) -> u64 {
    pipe::fcntl_getpipe_size(end).map_or(0, |size| u64::try_from(size).unwrap_or(u64::MAX))
}

/// How many bytes are unread.
pub(crate) fn unread(end: BorrowedFd<'_>) -> u64 {
    rustix::io::ioctl_fionread(end).unwrap_or(0)
}

/// The same end once more, with a description of its own on which nothing blocks.
pub(crate) fn reopen(end: BorrowedFd<'_>, writes: bool) -> Result<OwnedFd, Error> {
    let path = format!("/proc/self/fd/{}", end.as_raw_fd());
    let access = if writes {
        OFlags::WRONLY
    } else {
        OFlags::RDONLY
    };
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open(path, flags, Mode::empty()) {
        // Nobody reads any more.
        Err(Errno::NXIO) => Err(Error::NO_DATA),
        opened => opened.map_err(|errno| win32_from_errno(errno, "open a pipe again")),
    }
}

/// Whether a descriptor is that end of a pipe.
pub(crate) fn is_end(fd: BorrowedFd<'_>, writes: bool) -> bool {
    let is_pipe = fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_fifo());
    let access = fcntl_getfl(fd).map(|flags| flags & OFlags::RWMODE);
    is_pipe
        && access
            == Ok(if writes {
                OFlags::WRONLY
            } else {
                OFlags::RDONLY
            })
}

/// Reads what there is; `None` if there is nothing, 0 at the end.
pub(crate) fn read(end: BorrowedFd<'_>, dst: &mut [u8]) -> Result<Option<usize>, Errno> {
    loop {
        match rustix::io::read(end, &mut *dst) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            done => return done.map(Some),
        }
    }
}

/// Copies what there is without taking it.
///
/// By way of a second pipe, because the kernel has no peek for pipes.
pub(crate) fn peek(end: BorrowedFd<'_>, dst: &mut [u8]) -> Result<usize, Error> {
    // As large as the other: what is copied counts by pages, full or not.
    let (from, to) = new(usize::try_from(size(end)).unwrap_or(usize::MAX))?;
    match pipe::tee(end, to.as_fd(), dst.len(), SpliceFlags::NONBLOCK) {
        Ok(0) | Err(Errno::AGAIN) => return Ok(0),
        Ok(_) => {}
        Err(errno) => return Err(win32_from_errno(errno, "tee")),
    }
    drop(to);
    let mut filled = 0;
    while let Some(rest) = dst.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let read = read(from.as_fd(), rest);
        match read.map_err(|errno| win32_from_errno(errno, "read what was copied"))? {
            None | Some(0) => break,
            Some(len) => filled += len,
        }
    }
    Ok(filled)
}

/// Writes what there is room for; `None` if there is none. Nobody gets a signal for it: a pipe that
/// nobody reads is `EPIPE`.
pub(crate) fn write(end: BorrowedFd<'_>, src: &[u8]) -> Result<Option<usize>, Errno> {
    let guard = NoSignal::begin();
    let written = loop {
        match rustix::io::write(end, src) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break Ok(None),
            done => break done.map(Some),
        }
    };
    if written == Err(Errno::PIPE) {
        guard.discard();
    }
    written
}

/// SIGPIPE is kept away from this thread until this is dropped.
struct NoSignal {
    only: libc::sigset_t,
    /// What to go back to.
    before: libc::sigset_t,
    /// One was there already: that is the program's.
    was_pending: bool,
}

impl NoSignal {
    fn begin() -> Self {
        let mut only = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: `only` is a signal set to be emptied.
        unsafe { libc::sigemptyset(only.as_mut_ptr()) };
        // SAFETY: `only` was emptied just before; SIGPIPE is a signal.
        unsafe { libc::sigaddset(only.as_mut_ptr(), libc::SIGPIPE) };
        // SAFETY: sigemptyset has initialised it.
        let only = unsafe { only.assume_init() };
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: both are signal sets; the second is to be filled.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const only, before.as_mut_ptr()) };
        // SAFETY: zeros are a valid signal set too, should the call have been refused.
        let before = unsafe { before.assume_init() };
        let mut pending = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: `pending` is a signal set to be filled.
        unsafe { libc::sigpending(pending.as_mut_ptr()) };
        // SAFETY: as for `before`.
        let pending = unsafe { pending.assume_init() };
        // SAFETY: `pending` is a signal set.
        let was_pending = unsafe { libc::sigismember(&raw const pending, libc::SIGPIPE) } == 1;
        Self {
            only,
            before,
            was_pending,
        }
    }

    /// Forgets the signal that came meanwhile.
    fn discard(&self) {
        if self.was_pending {
            return;
        }
        let at_once = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        loop {
            // SAFETY: `only` is a signal set; what the signal was is not asked for.
            let taken = unsafe {
                libc::sigtimedwait(&raw const self.only, ptr::null_mut(), &raw const at_once)
            };
            if taken >= 0 || Errno::from_io_error(&io::Error::last_os_error()) != Some(Errno::INTR)
            {
                return;
            }
        }
    }
}

impl Drop for NoSignal {
    fn drop(&mut self) {
        let before = &raw const self.before;
        // SAFETY: `before` is the set that the thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
    }
}
