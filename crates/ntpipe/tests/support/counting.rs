//! Counting the system calls of a process: the kernel asks before each one, and is told to go on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use libc::{seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog};

use super::until;

/// The system calls of some threads, by number.
pub(crate) struct Counter {
    listener: AtomicI32,
    is_on: AtomicBool,
    calls: Mutex<BTreeMap<i32, u32>>,
}

impl Counter {
    /// Counts the system calls of a new thread that does `work`, and of those that it starts.
    pub(crate) fn over<T: Send>(work: impl FnOnce(&'static Self) -> T + Send) -> T {
        let counter: &'static Self = Box::leak(Box::new(Self {
            listener: AtomicI32::new(-1),
            is_on: AtomicBool::new(false),
            calls: Mutex::default(),
        }));
        // Ends with the process.
        thread::spawn(|| counter.serve());
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                // The next system call waits for who counts it: that has to know from memory alone.
                counter.listener.store(ask_first(), Ordering::Release);
                work(counter)
            });
            worker.join().unwrap()
        })
    }

    /// Counts from here on.
    pub(crate) fn start(&self) {
        self.is_on.store(true, Ordering::SeqCst);
    }

    /// Counts no more; the calls until here.
    pub(crate) fn stop(&self) -> BTreeMap<i32, u32> {
        self.is_on.store(false, Ordering::SeqCst);
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.clone()
    }

    fn serve(&self) {
        until(|| self.listener.load(Ordering::Acquire) >= 0);
        let listener = self.listener.load(Ordering::Acquire);
        loop {
            // SAFETY: all of its bytes may be zero, and the kernel wants them so.
            let mut asked: seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: the kernel writes as much as this structure has.
            let done = unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &mut asked) };
            if done != 0 {
                // Who asked has been killed, or interrupted.
                continue;
            }
            if self.is_on.load(Ordering::SeqCst) {
                let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
                *calls.entry(asked.data.nr).or_default() += 1;
            }
            let mut answer = seccomp_notif_resp {
                id: asked.id,
                val: 0,
                error: 0,
                flags: u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap(),
            };
            // SAFETY: the kernel reads as much as this structure has.
            unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &mut answer) };
        }
    }
}

/// From here on each system call of this thread, and of those that it starts, is asked for at the
/// descriptor that this returns.
fn ask_first() -> i32 {
    let mut program = [sock_filter {
        code: u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap(),
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_USER_NOTIF,
    }];
    let program = sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: this call takes numbers only.
    let allowed = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(allowed, 0);
    // SAFETY: `program` describes a filter that lives until the kernel has copied it.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    i32::try_from(listener).unwrap()
}
