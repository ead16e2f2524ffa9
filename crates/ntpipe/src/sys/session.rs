//! The audit session of a process: what comes nearest to a session of Windows.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{self, Mode, OFlags};

use super::socket::own_pid;

/// The number of the session that a process belongs to, or 0 if it has none or can't be seen.
pub(crate) fn session_of(pid: u32) -> u32 {
    if pid == own_pid() {
        return own_session();
    }
    match pid {
        0 => NONE,
        pid => read(&format!("/proc/{pid}/sessionid")),
    }
}

/// The session of this process; a fork has its parent's.
pub(crate) fn own_session() -> u32 {
    // No lock: a fork while another thread has it would leave the child waiting for ever.
    static OWN: AtomicU32 = AtomicU32::new(UNSET);
    match OWN.load(Ordering::Relaxed) {
        UNSET => {
            let own = read("/proc/self/sessionid");
            OWN.store(own, Ordering::Relaxed);
            own
        }
        own => own,
    }
}

fn read(path: &str) -> u32 {
    let mut text = [0; 16];
    let read = fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::read(file, &mut text));
    let text = text.get(..read.unwrap_or(0)).unwrap_or_default();
    match str::from_utf8(text).map(|text| text.trim().parse()) {
        Ok(Ok(session)) if session != UNSET => session,
        Ok(Ok(_) | Err(_)) | Err(_) => NONE,
    }
}

const NONE: u32 = 0;
/// What the kernel says of a process that was not started by a login.
const UNSET: u32 = u32::MAX;
