//! Clients on their way: what calls that never wait find of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

use std::os::fd::AsFd;

use ntpipe::{ClientOptions, NamedPipeServer, PeekInfo, PipeMode, ServerOptions, WaitMode};

mod support;
use support::raw::{self, Raw};
use support::{PIPE, Scenario, code, this_test};

/// How often the service thread is raced.
const ROUNDS: usize = 300;
/// What an end that is closed says in its memory.
const CLOSED: u32 = 2;

fn server() -> NamedPipeServer {
    ServerOptions::new()
        .pipe_mode(PipeMode::Message)
        .wait_mode(WaitMode::NoWait)
        .create(PIPE)
        .unwrap()
}

/// Makes the instance listen again, for the next round.
fn renew(server: &NamedPipeServer) {
    server.disconnect().unwrap();
    assert_eq!(code(server.connect()), 536);
}

#[test]
fn what_a_client_has_done_is_known_to_a_connect_that_does_not_wait() {
    Scenario::alone(this_test!(), || {
        let server = server();
        let expect_left = || {
            assert_eq!(code(server.connect()), 232);
            renew(&server);
        };
        for _ in 0..ROUNDS {
            // One that closes says so in its memory.
            let session = Raw::connect();
            let (opened, _) = session.open();
            let memory = raw::Memory::new(opened.inbound_ring);
            memory.set32(raw::STATE, CLOSED);
            let fds = [memory.file.as_fd()];
            session.send(&raw::attach_request(), &fds).unwrap();
            expect_left();
            // One that dies does not, be it before or after it has sent its memory.
            let session = Raw::connect();
            let _memory = session.attach();
            drop(session);
            expect_left();
            let session = Raw::connect();
            session.open();
            drop(session);
            expect_left();
        }
    });
}

#[test]
fn what_a_client_has_written_is_there_for_calls_that_do_not_wait() {
    Scenario::alone(this_test!(), || {
        let server = server();
        for round in 0..ROUNDS {
            let client = ClientOptions::new().open(PIPE).unwrap();
            client.write_message(b"one").unwrap();
            match round % 4 {
                0 => assert_eq!(server.peek(&mut []).unwrap().available, 3),
                1 => assert_eq!(server.local_info().unwrap().read_data_available, 3),
                2 => assert_eq!(server.write_message(b"two").unwrap(), 3),
                _ => assert_eq!(code(server.connect()), 0),
            }
            let mut buf = [0; 10];
            assert_eq!(server.read_message(&mut buf).unwrap().len, 3);
            drop(client);
            renew(&server);
        }
    });
}

#[test]
fn a_client_that_never_sends_its_memory_holds_no_call_that_does_not_wait() {
    Scenario::alone(this_test!(), || {
        let server = server();
        for _ in 0..2 {
            let client = Raw::connect();
            client.open();
            // Once its time is up all of these fail.
            assert_eq!(code(server.connect()), 0);
            assert_eq!(code(server.read_message(&mut [0; 9])), 232);
            assert_eq!(server.peek(&mut [0; 9]).unwrap(), PeekInfo::default());
            assert_eq!(server.write_message(b"lost").unwrap(), 0);
            assert_eq!(server.local_info().unwrap().read_data_available, 0);
            assert_eq!(code(server.connect()), 0);
            renew(&server);
        }
        // A peek does not wait at an end that does.
        server.disconnect().unwrap();
        drop(server);
        let server = ServerOptions::new().create(PIPE).unwrap();
        let client = Raw::connect();
        client.open();
        assert_eq!(server.peek(&mut [0; 9]).unwrap(), PeekInfo::default());
        // And has what comes later.
        let memory = raw::Memory::for_quota(server.info().unwrap().in_buffer_size);
        let fds = [memory.file.as_fd()];
        memory.set_record(0, 1, 3);
        memory.set64(raw::OFFERED, 1);
        memory.set64(raw::TAIL, 16);
        client.send(&raw::attach_request(), &fds).unwrap();
        assert_eq!(server.peek(&mut []).unwrap().available, 1);
    });
}
