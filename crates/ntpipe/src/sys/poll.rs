//! Waiting at a descriptor that something else may wake.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use ntpipe_proto::Error;
use rustix::event::{self, EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::fs::Timespec;
use rustix::io::Errno;

use super::win32_from_errno;

/// Why [`wait`] has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The descriptor is ready, or its other end is gone.
    Ready,
    /// It is not, but the alarm has rung.
    Alarmed,
    /// Neither before the deadline.
    TimedOut,
}

/// Waits until the descriptor is ready for `flags`, the alarm rings, or the deadline has passed.
pub(crate) fn wait(
    fd: BorrowedFd<'_>,
    flags: PollFlags,
    alarm: Option<&Alarm>,
    deadline: Option<Instant>,
) -> Result<Woken, Errno> {
    let alarm = alarm.map(|alarm| alarm.0.as_fd());
    // Without an alarm the descriptor twice: the same answer.
    let (alarm, alarm_flags) = alarm.map_or((fd, flags), |alarm| (alarm, PollFlags::IN));
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = [
            PollFd::from_borrowed_fd(fd, flags),
            PollFd::from_borrowed_fd(alarm, alarm_flags),
        ];
        match event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Ok(Woken::TimedOut),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        }
        let [fd, alarm] = fds;
        if !fd.revents().is_empty() {
            return Ok(Woken::Ready);
        }
        if !alarm.revents().is_empty() {
            return Ok(Woken::Alarmed);
        }
    }
}

/// Wakes who waits at a descriptor of this process.
#[derive(Debug)]
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    pub(crate) fn new() -> Result<Self, Error> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Self(
            fd.map_err(|errno| win32_from_errno(errno, "eventfd"))?,
        ))
    }

    pub(crate) fn ring(&self) {
        // A full counter wakes as well.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// It may have rung for something that is over.
    pub(crate) fn silence(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}
