//! The audit session of a process: what comes nearest to a session of Windows.

use std::sync::OnceLock;

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
    static OWN: OnceLock<u32> = OnceLock::new();
    *OWN.get_or_init(|| read("/proc/self/sessionid"))
}

fn read(path: &str) -> u32 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    match text.trim().parse() {
        Ok(UNSET) | Err(_) => NONE,
        Ok(session) => session,
    }
}

const NONE: u32 = 0;
/// What the kernel says of a process that was not started by a login.
const UNSET: u32 = u32::MAX;
