//! Cancelling calls that wait (observed 10.6 to 10.13, reference 1.18).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use ntpipe::{
    Canceller, ClientOptions, IoErrorExt, Listener, NamedPipeClient, NamedPipeServer, PipeMode,
    PipeStream, ServerOptions, anonymous, call, call_timeout, wait,
};

mod support;
use support::{PIPE, Random, Scenario, asleep, bytes, code, say, this_test, until};

const QUOTA: u32 = 100;
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1);

fn options() -> ServerOptions {
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message);
    options.in_buffer_size(QUOTA).out_buffer_size(QUOTA);
    options
}

fn pair() -> (NamedPipeServer, NamedPipeClient) {
    let server = options().create(PIPE).unwrap();
    let mut options = ClientOptions::new();
    let client = options.pipe_mode(PipeMode::Message).open(PIPE).unwrap();
    server.connect().unwrap();
    (server, client)
}

#[test]
fn each_call_that_waits_at_an_end_is_cancelled() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        assert_eq!(code(client.cancel_io()), 1168);
        let cancel = || until(|| client.cancel_io().is_ok());
        let mut buf = [0; 200];
        assert_eq!(code(asleep(|| client.read_message(&mut buf), cancel)), 995);
        assert_eq!(code(client.cancel_io()), 1168);
        // The request stays (observed 11.11).
        let reply = asleep(|| client.transact(b"request", &mut [0; 9]), cancel);
        assert_eq!(code(reply), 995);
        assert_eq!(server.read_message(&mut buf).unwrap().len, 7);
        // A write that waits is taken back, and a flush ends.
        client.write_message(&[1; 60]).unwrap();
        assert_eq!(code(asleep(|| client.flush(), cancel)), 995);
        let written = asleep(|| client.write_message(&[2; 60]), cancel);
        assert_eq!(code(written), 995);
        assert_eq!(server.peek(&mut []).unwrap().available, 60);
        assert_eq!(server.read_message(&mut buf).unwrap().len, 60);
        client.flush().unwrap();
        // Also when half of it was read (observed 10.9).
        let half = || {
            assert!(server.read_message(&mut [0; 20]).unwrap().more);
            until(|| client.cancel_io().is_ok());
        };
        assert_eq!(code(asleep(|| client.write_message(&[3; 250]), half)), 995);
        assert_eq!(server.peek(&mut []).unwrap().available, 0);
        client.write_message(b"next").unwrap();
        assert_eq!(server.read_message(&mut buf).unwrap().len, 4);
        // Of the other end, nothing is.
        let other = || {
            assert_eq!(code(server.cancel_io()), 1168);
            server.write_message(b"all is well").unwrap();
        };
        assert_eq!(
            asleep(|| client.read_message(&mut buf), other).unwrap().len,
            11
        );
        let (reader, _writer) = anonymous::pipe(0).unwrap();
        let cancel = || until(|| reader.cancel_io().is_ok());
        assert_eq!(code(asleep(|| reader.read_message(&mut buf), cancel)), 995);
    });
}

#[test]
fn a_flush_is_done_when_the_write_before_it_is_cancelled() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                sender.send(Canceller::current()).unwrap();
                server.write_message(&[0; 200])
            });
            let canceller = receiver.recv().unwrap();
            // By a canceller: the flush itself is not cancelled (observed 9.15).
            let cancel = || until(|| canceller.cancel().is_ok());
            until(|| client.peek(&mut []).unwrap().available == 200);
            asleep(|| server.flush(), cancel).unwrap();
            assert_eq!(code(writer.join().unwrap()), 995);
        });
    });
}

#[test]
fn all_calls_at_an_end_are_cancelled_at_once() {
    Scenario::alone(this_test!(), || {
        let server = options().create(PIPE).unwrap();
        let calls: Vec<_> = (0..3)
            .map(|_| {
                let server = server.try_clone().unwrap();
                thread::spawn(move || server.connect())
            })
            .collect();
        until(|| {
            let _ = server.cancel_io();
            calls.iter().all(thread::JoinHandle::is_finished)
        });
        for call in calls {
            assert_eq!(code(call.join().unwrap()), 995);
        }
        assert_eq!(code(server.cancel_io()), 1168);
        // It listens as before.
        let _client = ClientOptions::new().open(PIPE).unwrap();
        server.connect().unwrap();
        let calls: Vec<_> = (0..6)
            .map(|n| {
                let server = server.try_clone().unwrap();
                thread::spawn(move || match n % 2 {
                    0 => server.read_message(&mut [0; 10]).map(drop),
                    _ => server.write_message(&[0; 150]).map(drop),
                })
            })
            .collect();
        until(|| {
            let _ = server.cancel_io();
            calls.iter().all(thread::JoinHandle::is_finished)
        });
        for call in calls {
            assert_eq!(code(call.join().unwrap()), 995);
        }
    });
}

/// Cancels what this thread is about to wait in; a second time there is nothing left to cancel.
#[track_caller]
fn cancelled<T>(block: impl FnOnce() -> std::io::Result<T>) {
    let me = Canceller::current();
    assert_eq!(code(me.cancel()), 1168);
    let is_over = AtomicBool::new(false);
    let twice = AtomicU32::new(0);
    let result = asleep(
        || {
            let result = block();
            is_over.store(true, Ordering::SeqCst);
            result
        },
        || {
            // It may not have come to wait yet.
            until(|| me.cancel().is_ok() || is_over.load(Ordering::SeqCst));
            twice.store(code(me.cancel()), Ordering::SeqCst);
        },
    );
    assert_eq!(code(result), 995);
    assert_eq!(twice.into_inner(), 1168);
}

#[test]
fn a_thread_is_cancelled_wherever_it_waits() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        cancelled(|| client.read_message(&mut [0; 10]));
        cancelled(|| client.write_message(&[0; 101]));
        cancelled(|| client.transact(&[1], &mut [0; 10]));
        cancelled(|| client.flush());
        // All instances are taken.
        cancelled(|| wait(PIPE, Some(LONG)));
        cancelled(|| wait(PIPE, Some(Duration::MAX)));
        cancelled(|| ClientOptions::new().open_timeout(PIPE, LONG));
        cancelled(|| call(PIPE, b"request", &mut [0; 10], Some(LONG)));
        drop(server);
        // Another name: an open that was cancelled may still be on its way to the owner, for whom
        // its client will have come and left.
        let other = r"\\.\pipe\other";
        let server = options().create(other).unwrap();
        cancelled(|| server.connect());
        cancelled(|| call(other, b"request", &mut [0; 10], Some(LONG)));
        let listener = Listener::bind(PIPE, options().max_instances(1)).unwrap();
        cancelled(|| listener.accept());
        let _client = ClientOptions::new().open(PIPE).unwrap();
        let _server = listener.accept().unwrap();
        cancelled(|| listener.accept());
        // Calls that come later are not affected.
        assert_eq!(code(wait(PIPE, Some(SHORT))), 121);
        assert_eq!(code(listener.accept_timeout(SHORT)), 121);
    });
}

#[test]
fn calls_that_wait_for_long_have_a_timeout() {
    Scenario::alone(this_test!(), || {
        let listener = Listener::bind(PIPE, options().max_instances(1)).unwrap();
        assert_eq!(code(listener.accept_timeout(SHORT)), 121);
        let client = ClientOptions::new().pipe_mode(PipeMode::Message).open(PIPE);
        let client = client.unwrap();
        let server = listener.accept_timeout(LONG).unwrap();
        assert_eq!(code(listener.accept_timeout(SHORT)), 121);
        client.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(code(client.transact(b"what?", &mut [0; 10])), 121);
        assert_eq!(server.peek(&mut []).unwrap().available, 5);
        let timeout = ClientOptions::new().open_timeout(PIPE, SHORT);
        assert_eq!(code(timeout), 121);
        assert_eq!(code(call(PIPE, b"", &mut [], Some(SHORT))), 121);
        // Nobody replies.
        drop((client, server));
        assert_eq!(code(call_timeout(PIPE, b"", &mut [], SHORT)), 121);
    });
}

const MESSAGES: u32 = 3000;

/// Makes calls at an end until `play` is done, while another thread cancels them all the time, by
/// the end and by the thread.
fn under_fire(end: &PipeStream, play: impl FnOnce() + Send) {
    let is_over = AtomicBool::new(false);
    let (sender, receiver) = channel();
    thread::scope(|scope| {
        let player = scope.spawn(|| {
            sender.send(Canceller::current()).unwrap();
            let over = Over(&is_over);
            play();
            drop(over);
        });
        let canceller = receiver.recv().unwrap();
        let mut random = Random(7);
        while !is_over.load(Ordering::SeqCst) {
            let _ = match random.below(2) {
                0 => canceller.cancel(),
                _ => end.cancel_io(),
            };
            (0..random.below(2000)).for_each(|_| std::hint::spin_loop());
        }
        player.join().unwrap();
    });
}

/// Ends the fire, also when the player panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Some are small, some wait for the reader.
fn message(n: u32) -> Vec<u8> {
    let mut message = bytes(n as usize, 4 + (n as usize * 37) % 300);
    message[..4].copy_from_slice(&n.to_le_bytes());
    message
}

/// Each message is written until it is not cancelled.
fn write_all(end: &PipeStream) {
    for n in 0..MESSAGES {
        loop {
            match code(end.write_message(&message(n))) {
                0 => break,
                other => assert_eq!(other, 995),
            }
        }
    }
    until(|| code(end.flush()) == 0);
}

/// Each comes once, and in order.
fn read_all(end: &PipeStream) {
    let mut buf = [0; 400];
    for n in 0..MESSAGES {
        let read = loop {
            match end.read_message(&mut buf) {
                Ok(read) => break read,
                Err(error) => assert_eq!(code::<()>(Err(error)), 995),
            }
        };
        assert!(!read.more && buf[..read.len] == message(n), "message {n}");
    }
}

/// Reads a message of which the writer can only store a part at a time, again and again until a read
/// is not given up; returns how many were.
fn insist(server: &NamedPipeServer, client: &NamedPipeClient, why: u32) -> u32 {
    let large = bytes(7, 3 << 20);
    let mut buf = vec![0; large.len() + 1];
    let mut given_up = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            client.write_message(&large).unwrap();
            client.write_message(b"next").unwrap();
        });
        let read = loop {
            match server.read_message(&mut buf) {
                Err(error) => assert_eq!(error.win32_code(), Some(why)),
                Ok(read) => break read,
            }
            given_up += 1;
        };
        assert_eq!((read.len, read.more), (large.len(), false));
        assert!(buf[..read.len] == large);
        while server.read_message(&mut buf).is_err() {}
        assert_eq!(&buf[..4], b"next");
    });
    given_up
}

#[test]
fn a_read_that_is_given_up_in_the_middle_loses_nothing() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        server.set_read_timeout(Some(SHORT / 1000)).unwrap();
        assert!(insist(&server, &client, 121) > 0);
        server.set_read_timeout(None).unwrap();
        let reader = Canceller::current();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let fire = |cancel: &(dyn Fn() + Sync)| {
                while !is_over.load(Ordering::Relaxed) {
                    cancel();
                    thread::yield_now();
                }
            };
            for way in 0..2 {
                is_over.store(false, Ordering::Relaxed);
                let shots = scope.spawn({
                    let (server, reader) = (&server, &reader);
                    move || match way {
                        0 => fire(&|| drop(server.cancel_io())),
                        _ => fire(&|| drop(reader.cancel())),
                    }
                });
                insist(&server, &client, 995);
                is_over.store(true, Ordering::Relaxed);
                shots.join().unwrap();
            }
        });
    });
}

#[test]
fn what_a_read_has_when_it_is_given_up_goes_to_the_next() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let large = bytes(7, 300_000);
        thread::scope(|scope| {
            scope.spawn(|| client.write_message(&large).unwrap());
            server.set_read_timeout(Some(SHORT / 1000)).unwrap();
            let mut buf = vec![0; large.len()];
            // Until some of it is taken.
            until(|| server.peek(&mut []).unwrap().available > 0);
            let first = server.read_message(&mut buf);
            server.set_read_timeout(None).unwrap();
            if first.is_err() {
                let peek = server.peek(&mut buf[..1000]).unwrap();
                assert_eq!((peek.len, peek.messages), (1000, 1));
                assert!(buf[..1000] == large[..1000]);
                let part = server.read_message(&mut buf[..10]).unwrap();
                assert_eq!((part.len, part.more), (10, true));
                let rest = server.read_message(&mut buf[10..]).unwrap();
                assert_eq!((rest.len, rest.more), (large.len() - 10, false));
            }
            assert!(buf == large);
        });
    });
}

#[test]
fn a_call_that_completes_while_it_is_cancelled_is_one_or_the_other() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        thread::scope(|scope| {
            scope.spawn(|| under_fire(&server, || write_all(&server)));
            scope.spawn(|| under_fire(&client, || read_all(&client)));
        });
        assert_eq!(client.peek(&mut []).unwrap().available, 0);
    });
}

#[test]
fn so_it_is_with_the_ends_in_two_processes() {
    Scenario::new(this_test!())
        .role("server", || {
            let server = options().create(PIPE).unwrap();
            say("listens");
            server.connect().unwrap();
            under_fire(&server, || write_all(&server));
        })
        .role("client", || {
            let mut options = ClientOptions::new();
            let client = options.pipe_mode(PipeMode::Message).open(PIPE).unwrap();
            under_fire(&client, || read_all(&client));
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("listens");
            stage.start("client").finish();
            server.finish();
        });
}

#[test]
fn a_cancel_that_finds_a_call_is_never_lost() {
    Scenario::alone(this_test!(), || {
        let (server, _client) = pair();
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            // It would wait for ever each time.
            let reader = scope.spawn(|| {
                sender.send(Canceller::current()).unwrap();
                for _ in 0..2000 {
                    assert_eq!(code(server.read_message(&mut [0; 10])), 995);
                }
            });
            let canceller = receiver.recv().unwrap();
            let mut found = 0;
            until(|| {
                while canceller.cancel().is_ok() {
                    found += 1;
                }
                reader.is_finished()
            });
            assert_eq!(found, 2000);
        });
    });
}
