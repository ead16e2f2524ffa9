//! How an end reads and waits: both modes, and `PIPE_NOWAIT` (observed 6 and 8).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::io::{ErrorKind, Read};
use std::thread;

use ntpipe::{
    ClientOptions, IoErrorExt, Listener, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions,
    WaitMode, anonymous,
};

mod support;
use support::{PIPE, Scenario, asleep, code, hear, say, this_test, until};

const QUOTA: u32 = 512;

fn options(mode: PipeMode) -> ServerOptions {
    let mut options = ServerOptions::new();
    options.pipe_mode(mode);
    options.in_buffer_size(QUOTA).out_buffer_size(QUOTA);
    options
}

fn pair(mode: PipeMode) -> (NamedPipeServer, NamedPipeClient) {
    let server = options(mode).create(PIPE).unwrap();
    let client = ClientOptions::new().pipe_mode(mode).open(PIPE).unwrap();
    server.connect().unwrap();
    (server, client)
}

const MODES: [PipeMode; 2] = [PipeMode::Byte, PipeMode::Message];

#[test]
fn a_read_of_an_empty_pipe_returns_at_once() {
    Scenario::alone(this_test!(), || {
        for mode in MODES {
            let (server, client) = pair(mode);
            server.set_wait_mode(WaitMode::NoWait).unwrap();
            let mut buf = [0; 10];
            assert_eq!(code(server.read_message(&mut buf)), 232);
            assert_eq!(code(server.read_message(&mut [])), 232);
            let error = (&server).read(&mut buf).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert_eq!(error.win32_code(), Some(232));
            client.write_message(b"here").unwrap();
            assert_eq!(server.read_message(&mut buf).unwrap().len, 4);
            assert_eq!(code(server.read_message(&mut buf)), 232);
            // The other end waits as before (observed 6.9).
            let reply = || assert_eq!(server.write_message(b"there").unwrap(), 5);
            assert_eq!(
                asleep(|| client.read_message(&mut buf), reply).unwrap().len,
                5
            );
            // Of a client that is gone there will be nothing: another 232, and 109.
            drop(client);
            assert_eq!(code(server.read_message(&mut buf)), 109);
            let error = server.write_message(b"x").unwrap_err();
            assert_eq!(error.win32_code(), Some(232));
            assert_ne!(error.kind(), ErrorKind::WouldBlock);
        }
    });
}

#[test]
fn connect_says_that_it_listens() {
    Scenario::alone(this_test!(), || {
        let server = options(PipeMode::Byte)
            .wait_mode(WaitMode::NoWait)
            .create(PIPE)
            .unwrap();
        assert_eq!(server.wait_mode(), WaitMode::NoWait);
        assert_eq!(code(server.connect()), 536);
        assert_eq!(code(server.connect()), 536);
        let client = ClientOptions::new().open(PIPE).unwrap();
        // A Windows program sees 535 here.
        server.connect().unwrap();
        drop(client);
        until(|| code(server.connect()) != 0);
        assert_eq!(code(server.connect()), 232);
        server.disconnect().unwrap();
        assert_eq!(code(ClientOptions::new().open(PIPE)), 231);
        // It listens from this call on.
        assert_eq!(code(server.connect()), 536);
        let client = ClientOptions::new().open(PIPE).unwrap();
        server.connect().unwrap();
        drop((server, client));
        // 0x4 is message type, 1 PIPE_NOWAIT.
        let server = ServerOptions::from_flags(3, 4 | 1).unwrap();
        let server = server.create(PIPE).unwrap();
        assert_eq!(code(server.connect()), 536);
        assert_eq!(server.read_mode(), PipeMode::Byte);
    });
}

#[test]
fn modes_are_set_one_by_one_or_both_at_once() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair(PipeMode::Message);
        let of = |state: ntpipe::HandleState| (state.read_mode, state.wait_mode, state.instances);
        client.set_wait_mode(WaitMode::NoWait).unwrap();
        assert_eq!(
            of(client.handle_state().unwrap()),
            (PipeMode::Message, WaitMode::NoWait, 1)
        );
        client.set_read_mode(PipeMode::Byte).unwrap();
        assert_eq!(client.wait_mode(), WaitMode::NoWait);
        client.set_modes(PipeMode::Message, WaitMode::Wait).unwrap();
        assert_eq!(
            of(client.handle_state().unwrap()),
            (PipeMode::Message, WaitMode::Wait, 1)
        );
        assert_eq!(
            of(server.handle_state().unwrap()),
            (PipeMode::Message, WaitMode::Wait, 1)
        );
        server.disconnect().unwrap();
        server.set_modes(PipeMode::Byte, WaitMode::NoWait).unwrap();
        assert_eq!(code(client.set_wait_mode(WaitMode::NoWait)), 233);
        assert_eq!(code(client.handle_state()), 233);
        drop((server, client));
        // Neither is changed if one can't be.
        let (server, client) = pair(PipeMode::Byte);
        for end in [&*server, &*client] {
            assert_eq!(code(end.set_modes(PipeMode::Message, WaitMode::NoWait)), 87);
            assert_eq!(end.wait_mode(), WaitMode::Wait);
        }
        let (reader, writer) = anonymous::pipe(0).unwrap();
        writer.set_wait_mode(WaitMode::NoWait).unwrap();
        assert_eq!(
            of(reader.handle_state().unwrap()),
            (PipeMode::Byte, WaitMode::Wait, 1)
        );
        drop(reader);
        assert_eq!(
            of(writer.handle_state().unwrap()),
            (PipeMode::Byte, WaitMode::NoWait, 0)
        );
    });
}

#[test]
fn an_end_with_calls_or_data_under_way_goes_on_waiting() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair(PipeMode::Message);
        let mut buf = [0; 10];
        // A read waits.
        let refused = || {
            let quota = || client.local_info().unwrap().write_quota_available;
            until(|| quota() == QUOTA - 10);
            assert_eq!(code(server.set_wait_mode(WaitMode::NoWait)), 231);
            assert_eq!(server.wait_mode(), WaitMode::Wait);
            server.set_wait_mode(WaitMode::Wait).unwrap();
            client.write_message(b"x").unwrap();
        };
        asleep(|| server.read_message(&mut buf), refused).unwrap();
        server.set_wait_mode(WaitMode::NoWait).unwrap();
        server.set_wait_mode(WaitMode::Wait).unwrap();
        // What was written is unread, be it empty.
        for message in [&b"unread"[..], b""] {
            server.write_message(message).unwrap();
            assert_eq!(code(server.set_wait_mode(WaitMode::NoWait)), 231);
            client.set_wait_mode(WaitMode::NoWait).unwrap();
            client.read_message(&mut buf).unwrap();
            server.set_wait_mode(WaitMode::NoWait).unwrap();
            server.set_modes(PipeMode::Message, WaitMode::Wait).unwrap();
            client.set_wait_mode(WaitMode::Wait).unwrap();
        }
        // Nobody will read it any more.
        server.write_message(b"unread").unwrap();
        drop(client);
        server.set_wait_mode(WaitMode::NoWait).unwrap();
    });
}

#[test]
fn the_reply_of_a_transaction_is_waited_for() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair(PipeMode::Message);
        client.set_wait_mode(WaitMode::NoWait).unwrap();
        let answer = || {
            let mut buf = [0; 10];
            let read = server.read_message(&mut buf).unwrap();
            server.write_message(&buf[..read.len]).unwrap();
        };
        let mut reply = [0; 10];
        let read = asleep(|| client.transact(b"what?", &mut reply), answer).unwrap();
        assert_eq!(&reply[..read.len], b"what?");
    });
}

#[test]
fn a_listener_waits_and_its_instances_do_not() {
    Scenario::alone(this_test!(), || {
        let mut options = options(PipeMode::Byte);
        options.wait_mode(WaitMode::NoWait);
        let listener = Listener::bind(PIPE, &options).unwrap();
        for _ in 0..2 {
            let open = || thread::spawn(|| ClientOptions::new().open(PIPE).unwrap());
            let client = std::sync::Mutex::new(None);
            let accepted = asleep(
                || listener.accept(),
                || *client.lock().unwrap() = Some(open().join().unwrap()),
            );
            assert_eq!(code(accepted.unwrap().read_message(&mut [0])), 232);
        }
    });
}

#[test]
fn a_write_that_does_not_fit_writes_nothing() {
    Scenario::alone(this_test!(), || {
        for mode in MODES {
            let (server, client) = pair(mode);
            client.set_wait_mode(WaitMode::NoWait).unwrap();
            assert_eq!(client.write_message(&[1; 513]).unwrap(), 0);
            assert_eq!(server.peek(&mut []).unwrap().available, 0);
            assert_eq!(client.write_message(&[2; 512]).unwrap(), 512);
            assert_eq!(client.write_message(&[3]).unwrap(), 0);
            assert_eq!(client.write_message(&[]).unwrap(), 0);
            assert_eq!(server.read_message(&mut [0; 100]).unwrap().len, 100);
            assert_eq!(client.write_message(&[4; 101]).unwrap(), 0);
            assert_eq!(client.write_message(&[4; 100]).unwrap(), 100);
            assert_eq!(server.peek(&mut []).unwrap().available, 512);
        }
    });
}

#[test]
fn a_write_that_does_not_wait_counts_on_reads_of_another_process() {
    Scenario::new(this_test!())
        .role("server", || {
            let server = options(PipeMode::Byte).create(PIPE).unwrap();
            say("listens");
            server.connect().unwrap();
            for len in [1, 512, 1] {
                let read = server.read_message(&mut [0; 600][..len]).unwrap();
                assert_eq!(read.len, len);
            }
            hear();
        })
        .role("client", || {
            let client = ClientOptions::new().open(PIPE).unwrap();
            client.set_wait_mode(WaitMode::NoWait).unwrap();
            let waits = || client.local_info().unwrap().write_quota_available == QUOTA - 1;
            until(waits);
            // Observed 6.6, 6.7.
            assert_eq!(client.write_message(&[0; 513]).unwrap(), 513);
            until(waits);
            assert_eq!(client.write_message(&[0; 514]).unwrap(), 1);
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("listens");
            stage.start("client").finish();
            server.say("done");
            server.finish();
        });
}
