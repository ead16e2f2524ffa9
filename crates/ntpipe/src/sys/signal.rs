//! Keeping the program's signals away from a thread of ours.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr;

/// Blocks all signals in this thread: they are for the program's own threads.
pub(crate) fn block_all() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `all` is a signal set to be filled; sigfillset initialises it.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` was initialised just before; the old mask is not asked for.
    let refused =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut()) };
    if refused != 0 {
        tracing::debug!(refused, "signals stay unblocked in the service thread");
    }
}
