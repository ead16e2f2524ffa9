//! A kernel before Linux 5.16, without `futex_waitv`: nothing may need it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use ntpipe::{ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions};

mod support;
use support::seccomp::{Action, filter};
use support::{PIPE, Scenario, asleep, bytes, code, hear, say, this_test};

/// From here on the kernel does not know `futex_waitv`.
fn grow_old() {
    filter(Action::Allow, &[(libc::SYS_futex_waitv, Action::Unknown)]);
    // SAFETY: nothing to wait for, at no place; and the call is not there.
    let refused = unsafe { libc::syscall(libc::SYS_futex_waitv, 0, 0, 0, 0, 0) };
    let why = io::Error::last_os_error().raw_os_error();
    assert_eq!((refused, why), (-1, Some(libc::ENOSYS)));
}

fn serve() -> NamedPipeServer {
    grow_old();
    let mut options = ServerOptions::new();
    options.in_buffer_size(100).out_buffer_size(100);
    let server = options.pipe_mode(PipeMode::Message).create(PIPE).unwrap();
    say("up");
    server.connect().unwrap();
    server
}

fn open() -> NamedPipeClient {
    grow_old();
    let mut options = ClientOptions::new();
    options.pipe_mode(PipeMode::Message).open(PIPE).unwrap()
}

#[test]
fn an_old_kernel_carries_messages() {
    const LONG: usize = 300_000;
    Scenario::new(this_test!())
        .role("server", || {
            let mut server = serve();
            let mut buf = vec![0; LONG];
            for _ in 0..301 {
                let read = server.read_message(&mut buf).unwrap();
                server.write_message(&buf[..read.len]).unwrap();
            }
            server.flush().unwrap();
            assert_eq!(server.read(&mut buf).unwrap(), 0);
        })
        .role("client", || {
            let mut client = open();
            let mut buf = vec![0; LONG];
            for n in 0..300 {
                client.write_all(&bytes(n, 50)).unwrap();
                let read = client.read_message(&mut buf).unwrap();
                assert_eq!(buf[..read.len], bytes(n, 50));
            }
            client.write_all(&bytes(0, LONG)).unwrap();
            assert_eq!(client.read_message(&mut buf).unwrap().len, LONG);
            assert!(buf == bytes(0, LONG));
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            stage.start("client").finish();
            server.finish();
        });
}

#[test]
fn an_old_kernel_notices_ends_from_both_sides() {
    Scenario::alone(this_test!(), || {
        grow_old();
        let mut options = ServerOptions::new();
        options.in_buffer_size(10).out_buffer_size(10);
        let server = options.create(PIPE).unwrap();
        let connect = || {
            let client = ClientOptions::new().open_timeout(PIPE, Duration::from_secs(60));
            client.unwrap()
        };
        // The own side ends it: a bell of this process.
        let clients = thread::spawn(move || [(); 4].map(|()| connect()).len());
        for n in 0..4 {
            let _ = server.connect();
            let disconnect = || server.disconnect().unwrap();
            let result = match n % 2 {
                0 => asleep(|| server.read_message(&mut [0; 10]).map(drop), disconnect),
                _ => asleep(|| server.write_message(&[0; 50]).map(drop), disconnect),
            };
            // The client may have left before.
            assert!([233, 109, 232].contains(&code(result)));
            let _ = server.disconnect();
        }
        clients.join().unwrap();
    });
}

#[test]
fn an_old_kernel_notices_a_killed_peer() {
    Scenario::new(this_test!())
        .role("server", || {
            let server = serve();
            let mut buf = [0; 50];
            let result = match hear().as_str() {
                "read" => asleep(|| server.read_message(&mut buf).map(drop), || say("asleep")),
                "write" => asleep(
                    || server.write_message(&[0; 500]).map(drop),
                    || say("asleep"),
                ),
                _ => {
                    server.write_message(b"x").unwrap();
                    asleep(|| server.flush(), || say("asleep"))
                }
            };
            assert_eq!(code(result), 109);
        })
        .role("client", || {
            let _client = open();
            say("in");
            hear();
        })
        .run(|stage| {
            for what in ["read", "write", "flush"] {
                let mut server = stage.start("server");
                server.expect("up");
                let mut client = stage.start("client");
                client.expect("in");
                server.say(what);
                server.expect("asleep");
                client.kill();
                server.finish();
            }
        });
}

#[test]
fn an_old_kernel_keeps_time() {
    Scenario::alone(this_test!(), || {
        grow_old();
        let server = ServerOptions::new()
            .out_buffer_size(0)
            .create(PIPE)
            .unwrap();
        let client = ClientOptions::new().open(PIPE).unwrap();
        server.connect().unwrap();
        let short = Some(Duration::from_millis(1));
        client.set_read_timeout(short).unwrap();
        server.set_write_timeout(short).unwrap();
        for _ in 0..20 {
            assert_eq!(code(client.read_message(&mut [0; 10])), 121);
            assert_eq!(code(server.write_message(b"late")), 121);
        }
        assert_eq!(client.peek(&mut []).unwrap().available, 0);
    });
}
