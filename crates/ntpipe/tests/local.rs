//! Both ends in one process: a write serves the reads that wait before it returns (observed 10.3).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use ntpipe::{
    Canceller, ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode, PipeStream, ReadInfo,
    ServerOptions, WaitMode, anonymous,
};

mod support;
use support::{PIPE, Scenario, bytes, code, is_asleep, measure, this_test, until};

fn pair(mode: PipeMode, quota: u32) -> (NamedPipeServer, NamedPipeClient) {
    let server = ServerOptions::new()
        .pipe_mode(mode)
        .in_buffer_size(quota)
        .out_buffer_size(quota)
        .create(PIPE)
        .unwrap();
    let client = ClientOptions::new().pipe_mode(mode).open(PIPE).unwrap();
    server.connect().unwrap();
    (server, client)
}

type Got = io::Result<(ReadInfo, Vec<u8>)>;

/// A read of `len` bytes in another thread; returns once it waits.
fn reading<'s>(
    scope: &'s Scope<'s, '_>,
    end: &'s PipeStream,
    len: usize,
) -> ScopedJoinHandle<'s, Got> {
    let (sender, receiver) = channel();
    let read = scope.spawn(move || {
        let mut buf = vec![0; len];
        sender.send(rustix::thread::gettid()).unwrap();
        let read = end.read_message(&mut buf)?;
        buf.truncate(read.len);
        Ok((read, buf))
    });
    let thread = receiver.recv().unwrap().as_raw_nonzero().get();
    until(|| is_asleep(thread) && waits_for_pipe(thread));
    read
}

/// Whether a thread sleeps where only pipes do: in a futex that processes share.
fn waits_for_pipe(thread: i32) -> bool {
    const WAIT_BITSET: &str = "0x9";
    match std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")) {
        Ok(call) => call.split(' ').nth(2) == Some(WAIT_BITSET),
        // The kernel does not tell: then any sleep has to do.
        Err(_) => true,
    }
}

/// What a read returned: the bytes, and whether there are more.
fn got(read: ScopedJoinHandle<'_, Got>) -> (Vec<u8>, bool) {
    let (read, bytes) = read.join().unwrap().unwrap();
    (bytes, read.more)
}

/// Measuring how long waits should spin sleeps too: that is over.
fn alone(test: &'static str, play: impl FnOnce()) {
    Scenario::alone(test, || {
        measure();
        play();
    });
}

const MODES: [PipeMode; 2] = [PipeMode::Byte, PipeMode::Message];

#[test]
fn what_a_read_waited_for_is_gone_when_the_write_returns() {
    alone(this_test!(), || {
        for mode in MODES {
            let (server, client) = pair(mode, 512);
            let (reader, writer) = anonymous::pipe(512).unwrap();
            let ends: [(&PipeStream, &PipeStream); 3] =
                [(&server, &client), (&client, &server), (&writer, &reader)];
            for (writes, reads) in ends {
                for n in 0..50 {
                    thread::scope(|scope| {
                        let read = reading(scope, reads, 100);
                        writes.write_message(&bytes(n, 60)).unwrap();
                        assert_eq!(reads.peek(&mut []).unwrap().available, 0);
                        // No read waits any more, and nothing is unread.
                        reads.set_wait_mode(WaitMode::NoWait).unwrap();
                        assert_eq!(code(reads.read_message(&mut [0; 9])), 232);
                        reads.set_wait_mode(WaitMode::Wait).unwrap();
                        assert_eq!(got(read), (bytes(n, 60), false));
                    });
                }
            }
        }
    });
}

#[test]
fn the_rest_of_a_write_stays_for_others() {
    alone(this_test!(), || {
        for mode in MODES {
            let (server, client) = pair(mode, 0);
            // Nothing fits, but what is waited for (observed 5.7).
            thread::scope(|scope| {
                let reads = [40, 60].map(|len| reading(scope, &server, len));
                client.write_message(&bytes(0, 100)).unwrap();
                let [first, second] = reads.map(got);
                // A longer message goes on with the next read (reference 3, 47).
                assert_eq!(first, (bytes(0, 40), mode == PipeMode::Message));
                assert_eq!(second, (bytes(40, 60), false));
            });
            let (server, client) = pair_again(server, client, mode);
            thread::scope(|scope| {
                let read = reading(scope, &server, 40);
                client.write_message(&bytes(0, 552)).unwrap();
                assert_eq!(server.peek(&mut []).unwrap().available, 512);
                assert_eq!(code(client.set_wait_mode(WaitMode::NoWait)), 231);
                assert_eq!(got(read), (bytes(0, 40), mode == PipeMode::Message));
            });
        }
    });
}

fn pair_again(
    server: NamedPipeServer,
    client: NamedPipeClient,
    mode: PipeMode,
) -> (NamedPipeServer, NamedPipeClient) {
    drop((server, client));
    pair(mode, 512)
}

#[test]
fn reads_of_nothing_are_woken_by_a_write() {
    alone(this_test!(), || {
        // Observed 5.12 and 5.13.
        for mode in MODES {
            let (server, client) = pair(mode, 512);
            thread::scope(|scope| {
                let nothing = reading(scope, &server, 0);
                let some = reading(scope, &server, 1000);
                client.write_message(b"x").unwrap();
                assert_eq!(server.peek(&mut []).unwrap().available, 0);
                assert_eq!(got(nothing), (vec![], mode == PipeMode::Message));
                assert_eq!(got(some), (b"x".to_vec(), false));
            });
        }
        // Observed 5.14: an empty message is for one of them. Observed 5.15.
        for mode in MODES {
            let (server, client) = pair(mode, 512);
            thread::scope(|scope| {
                let nothing = reading(scope, &server, 0);
                let some = reading(scope, &server, 1);
                client.write_message(b"").unwrap();
                if mode == PipeMode::Message {
                    assert_eq!(got(nothing), (vec![], false));
                    client.write_message(b"x").unwrap();
                } else {
                    client.write_message(b"x").unwrap();
                    assert_eq!(got(nothing), (vec![], false));
                }
                assert_eq!(got(some), (b"x".to_vec(), false));
            });
        }
    });
}

#[test]
fn a_write_that_does_not_wait_counts_on_reads_that_do() {
    alone(this_test!(), || {
        for mode in MODES {
            let (server, client) = pair(mode, 512);
            client.set_wait_mode(WaitMode::NoWait).unwrap();
            let write = |len| client.write_message(&bytes(0, len)).unwrap();
            let rest = || server.peek(&mut []).unwrap().available;
            thread::scope(|scope| {
                // Observed 6.5.
                let read = reading(scope, &server, 32768);
                assert_eq!(write(513), 513);
                assert_eq!(got(read).0.len(), 513);
                // Observed 6.6.
                let read = reading(scope, &server, 1);
                assert_eq!((write(513), rest()), (513, 512));
                assert_eq!(got(read), (bytes(0, 1), mode == PipeMode::Message));
                assert_eq!(server.read_message(&mut [0; 600]).unwrap().len, 512);
                // Observed 6.7 and 6.8.
                let read = reading(scope, &server, 1);
                if mode == PipeMode::Byte {
                    assert_eq!((write(514), rest()), (1, 0));
                    assert_eq!(got(read), (bytes(0, 1), false));
                } else {
                    assert_eq!((write(514), rest()), (0, 0));
                    assert_eq!(write(1), 1);
                    assert_eq!(got(read), (bytes(0, 1), false));
                }
                let reads = [100, 0, 200].map(|len| reading(scope, &server, len));
                assert_eq!((write(812), rest()), (812, 512));
                let got = reads.map(got).map(|(bytes, _)| bytes.len());
                assert_eq!(got, [100, 0, 200]);
            });
        }
    });
}

#[test]
fn a_read_that_was_cancelled_takes_nothing_that_comes_later() {
    alone(this_test!(), || {
        let (server, client) = pair(PipeMode::Message, 512);
        for n in 0..200 {
            thread::scope(|scope| {
                let read = reading(scope, &server, 100);
                server.cancel_io().unwrap();
                client.write_message(&bytes(n, 50)).unwrap();
                assert_eq!(server.peek(&mut []).unwrap().available, 50);
                assert_eq!(code(read.join().unwrap()), 995);
                // What was served can't be cancelled.
                server.read_message(&mut [0; 50]).unwrap();
                let read = reading(scope, &server, 100);
                client.write_message(&bytes(n, 50)).unwrap();
                assert_eq!(code(server.cancel_io()), 1168);
                assert_eq!(got(read), (bytes(n, 50), false));
            });
        }
        // By the thread.
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                sender.send(Canceller::current()).unwrap();
                for _ in 0..200 {
                    assert_eq!(code(server.read_message(&mut [0; 100])), 995);
                    until(|| server.peek(&mut []).unwrap().available == 50);
                    server.read_message(&mut [0; 100]).unwrap();
                }
            });
            let canceller = receiver.recv().unwrap();
            for n in 0..200 {
                until(|| canceller.cancel().is_ok());
                client.write_message(&bytes(n, 50)).unwrap();
                client.flush().unwrap();
            }
            reader.join().unwrap();
        });
    });
}

#[test]
fn a_message_longer_than_the_pipes_memory_is_handed_over_whole() {
    const LONG: usize = 700_000;
    alone(this_test!(), || {
        let (server, client) = pair(PipeMode::Message, 100);
        for n in 0..5 {
            thread::scope(|scope| {
                let read = reading(scope, &server, LONG + 1);
                client.write_message(&bytes(n, LONG)).unwrap();
                assert!(got(read) == (bytes(n, LONG), false));
            });
        }
    });
}

#[test]
fn a_message_that_comes_while_a_read_is_cancelled_is_handed_over_whole() {
    const LENGTH: usize = 100_000;
    alone(this_test!(), || {
        let (server, client) = pair(PipeMode::Message, 100);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = server.cancel_io();
                    thread::yield_now();
                }
            });
            scope.spawn(|| {
                for n in 0..100 {
                    client.write_message(&bytes(n, LENGTH)).unwrap();
                }
            });
            let mut buf = vec![0; 2 * LENGTH];
            let mut more = 0;
            let mut n = 0;
            while n < 100 {
                match server.read_message(&mut buf) {
                    Ok(read) => {
                        more += usize::from(read.more);
                        n += usize::from(!read.more);
                    }
                    Err(error) => assert_eq!(code::<()>(Err(error)), 995),
                }
            }
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(more, 0);
        });
    });
}

#[test]
fn a_reply_that_came_before_the_request_was_written_is_not_lost() {
    const LONG: usize = 300_000;
    alone(this_test!(), || {
        let (server, client) = pair(PipeMode::Message, 100);
        thread::scope(|scope| {
            // More than the pipe's memory: it waits for a reader.
            let transaction = scope.spawn(|| {
                let mut reply = [0; 9];
                let read = client.transact(&[0; LONG], &mut reply)?;
                Ok::<_, io::Error>(reply[..read.len].to_vec())
            });
            until(|| server.peek(&mut []).unwrap().available == LONG as u64);
            server.write_message(b"news").unwrap();
            assert_eq!(client.peek(&mut []).unwrap().available, 0);
            client.cancel_io().unwrap();
            assert_eq!(transaction.join().unwrap().unwrap(), b"news");
        });
        assert_eq!(server.peek(&mut []).unwrap().available, 0);
        server.write_message(b"next").unwrap();
        assert_eq!(client.read_message(&mut [0; 9]).unwrap().len, 4);
    });
}

#[test]
fn both_ways_at_once_nothing_hangs_and_nothing_is_lost() {
    const EACH: u64 = 3000;
    alone(this_test!(), || {
        let (server, client) = pair(PipeMode::Message, 100);
        let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let ends: [&PipeStream; 2] = [&server, &client];
            let mut players = Vec::new();
            for end in ends {
                for thread in 0..2_u64 {
                    let (sent, received) = (&sent, &received);
                    players.push(scope.spawn(move || {
                        for n in 0..EACH {
                            let value = thread * EACH + n + 1;
                            let mut message = vec![0; 8 + (n % 120) as usize];
                            message[..8].copy_from_slice(&value.to_le_bytes());
                            end.write_message(&message).unwrap();
                            sent.fetch_add(value, Ordering::Relaxed);
                        }
                    }));
                    players.push(scope.spawn(move || {
                        let mut buf = [0; 200];
                        for _ in 0..EACH {
                            let read = loop {
                                match end.read_message(&mut buf) {
                                    Ok(read) => break read,
                                    Err(error) => {
                                        let code = code::<()>(Err(error));
                                        assert!(code == 121 || code == 995, "{code}");
                                    }
                                }
                            };
                            assert!(read.len >= 8 && !read.more);
                            let value = u64::from_le_bytes(buf[..8].try_into().unwrap());
                            received.fetch_add(value, Ordering::Relaxed);
                        }
                    }));
                }
            }
            // Locks of all sides, in every order there is.
            for end in ends {
                let is_over = &is_over;
                end.set_read_timeout(Some(Duration::from_micros(50)))
                    .unwrap();
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        assert_eq!(end.set_wait_mode(WaitMode::Wait).ok(), Some(()));
                        end.peek(&mut [0; 10]).unwrap();
                        thread::yield_now();
                    }
                });
            }
            for player in players {
                player.join().unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(sent.into_inner(), received.into_inner());
    });
}

#[test]
fn a_write_that_was_cancelled_can_not_be_read_any_more() {
    alone(this_test!(), || {
        let (server, client) = pair(PipeMode::Message, 100);
        client.write_message(&bytes(0, 60)).unwrap();
        for n in 0..100 {
            thread::scope(|scope| {
                let writes = [60, 30, 101].map(|len| {
                    let client = &client;
                    let before = server.peek(&mut []).unwrap().available;
                    let write = scope.spawn(move || client.write_message(&bytes(n, len)));
                    until(|| server.peek(&mut []).unwrap().available == before + len as u64);
                    write
                });
                client.cancel_io().unwrap();
                assert_eq!(server.peek(&mut []).unwrap().available, 60);
                assert_eq!(code(client.cancel_io()), 1168);
                for write in writes {
                    assert_eq!(code(write.join().unwrap()), 995);
                }
            });
        }
        assert_eq!(server.read_message(&mut [0; 100]).unwrap().len, 60);
        assert_eq!(client.write_message(&bytes(0, 100)).unwrap(), 100);
    });
}
