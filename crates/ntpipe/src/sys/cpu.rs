//! Which CPU runs this thread, and how many there are.
#![allow(unsafe_code)]

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

/// The CPUs that are online.
pub(crate) fn online() -> u32 {
    // SAFETY: sysconf has no preconditions.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u32::try_from(cpus).unwrap_or(1)
}
