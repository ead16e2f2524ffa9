//! Which CPU runs this thread, and how many there are.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

/// The CPU that runs this thread at the moment; the thread may have moved when this returns.
///
/// The C library reads it from memory that the kernel keeps current (rseq), so that this costs
/// about a nanosecond and no system call.
pub(crate) fn current() -> u32 {
    // SAFETY: sched_getcpu has no preconditions.
    let cpu = unsafe { libc::sched_getcpu() };
    u32::try_from(cpu).unwrap_or(UNKNOWN)
}

/// No CPU's number.
pub(crate) const UNKNOWN: u32 = u32::MAX;

/// The CPUs that were online when this was asked first.
pub(crate) fn online() -> u32 {
    // No lock: a fork while another thread has it would leave the child waiting for ever.
    static ONLINE: AtomicU32 = AtomicU32::new(0);
    match ONLINE.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: sysconf has no preconditions.
            let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
            let online = u32::try_from(cpus).unwrap_or(1);
            ONLINE.store(online, Ordering::Relaxed);
            online
        }
        online => online,
    }
}
