//! System calls that are not there, or forbidden.

use libc::{sock_filter, sock_fprog};

/// What happens at a system call.
#[derive(Clone, Copy)]
pub(crate) enum Action {
    Allow,
    /// It works on one descriptor, and kills on others.
    AllowOn(u32),
    /// It fails as if the kernel had never heard of it.
    Unknown,
    /// The process dies of SIGSYS.
    Kill,
}

/// From here on each system call of this process is treated by `default`, but for `exceptions`.
pub(crate) fn filter(default: Action, exceptions: &[(libc::c_long, Action)]) {
    let statement = |code: u32, k: u32| sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: 0,
        jf: 0,
        k,
    };
    let give = |action| {
        let value = match action {
            Action::Allow | Action::AllowOn(_) => libc::SECCOMP_RET_ALLOW,
            Action::Unknown => libc::SECCOMP_RET_ERRNO | u32::try_from(libc::ENOSYS).unwrap(),
            Action::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        };
        statement(libc::BPF_RET | libc::BPF_K, value)
    };
    // The number of the call is the first word of what the filter sees.
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    let unless = |value, skip| sock_filter {
        jf: skip,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value)
    };
    for (number, action) in exceptions {
        let number = u32::try_from(*number).unwrap();
        match action {
            Action::AllowOn(descriptor) => program.extend([
                unless(number, 4),
                // The first argument.
                statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 16),
                unless(*descriptor, 1),
                give(Action::Allow),
                give(Action::Kill),
            ]),
            Action::Allow | Action::Unknown | Action::Kill => {
                program.extend([unless(number, 1), give(*action)]);
            }
        }
    }
    program.push(give(default));
    let program = sock_fprog {
        len: u16::try_from(program.len()).unwrap(),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: this call takes numbers only.
    let allowed = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(allowed, 0);
    const { assert!(size_of::<sock_fprog>() == 16) };
    // SAFETY: `program` describes a filter that lives until the kernel has copied it.
    let installed = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    assert_eq!(installed, 0, "{}", std::io::Error::last_os_error());
}

/// What a process needs under a filter for [`say_and_wait`].
pub(crate) const SPEECH: [(libc::c_long, Action); 2] = [
    (libc::SYS_write, Action::AllowOn(1)),
    (libc::SYS_read, Action::AllowOn(0)),
];

/// Says a line to the test and waits to be killed, by the system calls of [`SPEECH`] alone.
pub(crate) fn say_and_wait(line: &str) -> ! {
    let mut text = [0_u8; 64];
    text[0] = 1;
    text[1..=line.len()].copy_from_slice(line.as_bytes());
    text[line.len() + 1] = b'\n';
    // SAFETY: `text` has more bytes than are written.
    unsafe { libc::write(1, text.as_ptr().cast(), line.len() + 2) };
    loop {
        // SAFETY: there is room for the byte.
        unsafe { libc::read(0, text.as_mut_ptr().cast(), 1) };
    }
}
