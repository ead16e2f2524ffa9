//! How many system calls it costs to open a pipe, call once and close it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::BTreeMap;

use ntpipe::{ClientOptions, Listener, ServerOptions};

mod support;
use support::counting::Counter;
use support::{PIPE, Scenario, say, this_test};

/// What a connection costs the client's process, its service thread included, but for waiting. Who
/// changes that writes the new number here, and says in the commit why.
const CLIENT: u32 = 37;
/// The same for the server's.
const SERVER: u32 = 36;

/// Connections before it counts.
const FIRST: u32 = 8;
const COUNTED: u32 = 100;

#[test]
fn a_connection_costs_as_many_system_calls_as_it_is_known_to() {
    Scenario::new(this_test!())
        .role("server", || {
            Counter::over(|counter| {
                let listener = Listener::bind(PIPE, &ServerOptions::new()).unwrap();
                say("up");
                for n in 0..=FIRST + COUNTED {
                    count(counter, n);
                    let pipe = listener.accept().unwrap();
                    let mut request = [0; 64];
                    assert_eq!(pipe.read_message(&mut request).unwrap().len, 64);
                    pipe.write_message(&request).unwrap();
                    // Until the client has gone.
                    pipe.read_message(&mut request).unwrap_err();
                }
            });
        })
        .role("client", || {
            Counter::over(|counter| {
                for n in 0..=FIRST + COUNTED {
                    count(counter, n);
                    let patience = std::time::Duration::from_secs(10);
                    let pipe = ClientOptions::new().open_timeout(PIPE, patience).unwrap();
                    pipe.write_message(&[7; 64]).unwrap();
                    let mut reply = [0; 64];
                    assert_eq!(pipe.read_message(&mut reply).unwrap().len, 64);
                }
            });
        })
        .run(|stage| {
            // They sleep at once: looking first makes no system call, but the clock would decide.
            let spin = |command: &mut std::process::Command| {
                command.env("NTPIPE_SPIN_US", "0");
            };
            let mut server = stage.start_with("server", spin);
            server.expect("up");
            let mut client = stage.start_with("client", spin);
            for (process, known) in [(&mut client, CLIENT), (&mut server, SERVER)] {
                let said = process.hear();
                println!("{said}");
                let (sum, _) = said.split_once(' ').unwrap();
                // A call or two depend on who comes first.
                let sum: u32 = sum.parse().unwrap();
                assert!(sum.abs_diff(known) <= 1, "{sum}, not {known}: {said}");
            }
        });
}

/// Counts from the first connection that counts to the last, and says what came of it.
fn count(counter: &Counter, n: u32) {
    if n == FIRST {
        counter.start();
    }
    if n == FIRST + COUNTED {
        let mut calls = counter.stop();
        calls.retain(|call, _| !WAITS.contains(&i64::from(*call)));
        let sum: u32 = calls.values().sum();
        say(format!(
            "{} {}",
            (sum + COUNTED / 2) / COUNTED,
            named(&calls)
        ));
    }
}

/// How often these are called depends on who comes first.
const WAITS: [i64; 4] = [
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
];

/// What each call has cost a connection, the most frequent first, for who looks what has changed.
fn named(calls: &BTreeMap<i32, u32>) -> String {
    let mut calls: Vec<_> = calls.iter().map(|(call, times)| (*times, *call)).collect();
    calls.sort_unstable_by(|one, other| other.cmp(one));
    let shown = calls.iter().map(|(times, call)| {
        let name = NAMES.iter().find(|(number, _)| *number == i64::from(*call));
        let name = name.map_or_else(|| call.to_string(), |(_, name)| (*name).to_owned());
        format!("{name} {:.2}", f64::from(*times) / f64::from(COUNTED))
    });
    shown.collect::<Vec<_>>().join(", ")
}

const NAMES: [(i64, &str); 26] = [
    (libc::SYS_read, "read"),
    (libc::SYS_write, "write"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_close, "close"),
    (libc::SYS_fstat, "fstat"),
    (libc::SYS_fcntl, "fcntl"),
    (libc::SYS_mmap, "mmap"),
    (libc::SYS_munmap, "munmap"),
    (libc::SYS_brk, "brk"),
    (libc::SYS_ioctl, "ioctl"),
    (libc::SYS_getpid, "getpid"),
    (libc::SYS_geteuid, "geteuid"),
    (libc::SYS_socket, "socket"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_accept4, "accept4"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_shutdown, "shutdown"),
    (libc::SYS_setsockopt, "setsockopt"),
    (libc::SYS_getsockopt, "getsockopt"),
    (libc::SYS_epoll_ctl, "epoll_ctl"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_fchmod, "fchmod"),
    (libc::SYS_memfd_create, "memfd_create"),
    (libc::SYS_statx, "statx"),
];
