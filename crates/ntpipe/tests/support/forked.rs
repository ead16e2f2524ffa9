//! Children that go on with the memory of the test.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// A forked child; dropped, it must have succeeded.
pub(crate) struct Forked(pub(crate) libc::pid_t);

/// Forks; the child does its part, and ends.
pub(crate) fn fork(child: impl FnOnce()) -> Forked {
    // SAFETY: the child goes on in this thread alone. Other threads of this process hold no lock
    // that it takes: they sleep, or are in the library, which is what is tested.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let done = catch_unwind(AssertUnwindSafe(child));
        // SAFETY: this takes a number only; nothing of the parent's is to be cleaned up.
        unsafe { libc::_exit(i32::from(done.is_err())) };
    }
    Forked(pid)
}

impl Drop for Forked {
    fn drop(&mut self) {
        let mut status = 0;
        // SAFETY: a child of this process, and room for its status.
        let waited = unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        assert!(
            thread::panicking() || (waited, status) == (self.0, 0),
            "{status:#x}"
        );
    }
}
