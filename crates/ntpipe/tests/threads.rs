//! Several threads at one end, calls that one thread ends for another, and timeouts.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

// In scope on purpose: its `flush` must not be found before that of pipes.
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ntpipe::{
    ClientOptions, Listener, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions, anonymous,
};

mod support;
use support::{PIPE, Scenario, asleep, bytes, code, hear, is_asleep, say, this_test, until};

const QUOTA: u32 = 100;

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

/// Alone in a process, with a pipe.
fn with_pair(test: &'static str, play: impl FnOnce(NamedPipeServer, NamedPipeClient)) {
    Scenario::alone(test, || {
        let (server, client) = pair();
        play(server, client);
    });
}

#[test]
fn two_writers_and_two_readers_lose_nothing_and_keep_the_order() {
    const EACH: u64 = 5000;
    with_pair(this_test!(), |server, client| {
        let got = Mutex::new(Vec::new());
        thread::scope(|scope| {
            let writers = [0, 1].map(|writer: u64| {
                let client = client.try_clone().unwrap();
                scope.spawn(move || {
                    for n in 0..EACH {
                        let mut message = bytes(n as usize, 16 + (n % 40) as usize);
                        message[..8].copy_from_slice(&writer.to_le_bytes());
                        message[8..16].copy_from_slice(&n.to_le_bytes());
                        client.write_message(&message).unwrap();
                    }
                })
            });
            let read = || {
                let mut mine = Vec::new();
                let mut buf = [0; 100];
                loop {
                    match server.read_message(&mut buf) {
                        Ok(read) => {
                            let word =
                                |at: usize| u64::from_le_bytes(buf[at..at + 8].try_into().unwrap());
                            let (writer, n) = (word(0), word(8));
                            let len = 16 + (n % 40) as usize;
                            assert!(!read.more && read.len == len);
                            assert!(buf[16..len] == bytes(n as usize, len)[16..]);
                            mine.push((writer, n));
                        }
                        Err(error) => break assert_eq!(code::<()>(Err(error)), 109),
                    }
                }
                for writer in [0, 1] {
                    let own = mine.iter().filter(|(w, _)| *w == writer);
                    assert!(own.map(|(_, n)| n).is_sorted(), "out of order");
                }
                got.lock().unwrap().extend(mine);
            };
            drop(client);
            let readers = [scope.spawn(read), scope.spawn(read)];
            for writer in writers {
                writer.join().unwrap();
            }
            for reader in readers {
                reader.join().unwrap();
            }
        });
        let mut got = got.into_inner().unwrap();
        got.sort_unstable();
        let all: Vec<_> = [0, 1]
            .iter()
            .flat_map(|w| (0..EACH).map(|n| (*w, n)))
            .collect();
        assert!(got == all);
    });
}

#[test]
fn reads_that_wait_are_served_in_the_order_in_which_they_came() {
    with_pair(this_test!(), |server, client| {
        for _ in 0..50 {
            thread::scope(|scope| {
                let (threads, receiver) = std::sync::mpsc::channel();
                let readers = [1_u8, 2, 3].map(|n| {
                    let (server, threads) = (&server, threads.clone());
                    let reader = scope.spawn(move || {
                        let mut buf = [0];
                        threads.send(rustix::thread::gettid()).unwrap();
                        server.read_message(&mut buf).unwrap();
                        assert_eq!(buf, [n]);
                    });
                    let thread = receiver.recv().unwrap().as_raw_nonzero().get();
                    until(|| is_asleep(thread));
                    reader
                });
                for n in [1, 2, 3] {
                    client.write_message(&[n]).unwrap();
                }
                for reader in readers {
                    reader.join().unwrap();
                }
            });
        }
    });
}

#[test]
fn a_disconnect_ends_what_other_threads_wait_for() {
    with_pair(this_test!(), |server, client| {
        let other = server.try_clone().unwrap();
        let disconnect = || other.disconnect().unwrap();
        let result = asleep(|| server.read_message(&mut [0; 10]), disconnect);
        assert_eq!(code(result), 233);
        assert_eq!(code(client.read_message(&mut [0; 10])), 233);
        drop(client);
        for what in ["write", "flush", "client's read", "client's write"] {
            let (server, client) = pair_of(&server);
            server.write_message(&[0; 90]).unwrap();
            client.write_message(&[0; 90]).unwrap();
            let disconnect = || server.disconnect().unwrap();
            let mut buf = [0; 100];
            let result = match what {
                "write" => asleep(|| server.write_message(&[0; 90]).map(drop), disconnect),
                "flush" => asleep(|| server.flush(), disconnect),
                "client's read" => {
                    client.read_message(&mut buf).unwrap();
                    asleep(|| client.read_message(&mut buf).map(drop), disconnect)
                }
                _ => asleep(|| client.write_message(&[0; 90]).map(drop), disconnect),
            };
            assert_eq!(code(result), 233, "{what}");
        }
    });
}

/// The server with its next client.
fn pair_of(server: &NamedPipeServer) -> (&NamedPipeServer, NamedPipeClient) {
    let client = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let timeout = Duration::from_secs(60);
            ClientOptions::new().open_timeout(PIPE, timeout).unwrap()
        });
        server.connect().unwrap();
        client.join().unwrap()
    });
    client.set_read_mode(PipeMode::Message).unwrap();
    (server, client)
}

#[test]
fn a_close_of_the_other_end_ends_what_waits() {
    Scenario::alone(this_test!(), || {
        for what in ["read", "write", "flush"] {
            for closed_by_server in [true, false] {
                let (server, client) = pair();
                server.write_message(&[0; 90]).unwrap();
                client.write_message(&[0; 90]).unwrap();
                let (mut server, mut client) = (Some(server), Some(client));
                let pipe: Box<dyn std::ops::Deref<Target = ntpipe::PipeStream> + Send> =
                    if closed_by_server {
                        Box::new(client.take().unwrap())
                    } else {
                        Box::new(server.take().unwrap())
                    };
                let close = move || drop((server, client));
                let mut buf = [0; 100];
                let result = match what {
                    "read" => {
                        pipe.read_message(&mut buf).unwrap();
                        asleep(|| pipe.read_message(&mut buf).map(drop), close)
                    }
                    "write" => asleep(|| pipe.write_message(&[0; 90]).map(drop), close),
                    _ => asleep(|| pipe.deref().flush(), close),
                };
                assert_eq!(code(result), 109, "{what}");
            }
        }
    });
}

#[test]
fn a_connect_that_waits_ends_with_its_instance() {
    Scenario::alone(this_test!(), || {
        let server = options().create(PIPE).unwrap();
        assert_eq!(code(server.connect_timeout(Duration::from_millis(1))), 121);
        // An instance that listens can be disconnected, which ends the wait.
        let ended = asleep(|| server.connect(), || drop(server.disconnect()));
        assert_eq!(code(ended), 233);
        // One of several handles is dropped: that is no end.
        let other = server.try_clone().unwrap();
        let client = asleep(
            || {
                server.connect().unwrap();
                server.client_process_id().unwrap()
            },
            move || {
                drop(other);
                drop(ClientOptions::new().open(PIPE).unwrap());
            },
        );
        assert_eq!(client, std::process::id());
        server.disconnect().unwrap();
        // All of them are closed: it is.
        let ended = asleep(|| server.connect(), || server.close());
        assert_eq!(code(ended), 109);
        assert_eq!(code(ClientOptions::new().open(PIPE)), 2);
    });
}

#[test]
fn accepts_that_wait_end_with_the_listener() {
    Scenario::alone(this_test!(), || {
        let listener = Listener::bind(PIPE, &options()).unwrap();
        let ended = asleep(|| listener.accept(), || listener.close());
        assert_eq!(code(ended), 995);
        assert_eq!(code(listener.accept()), 995);
        assert_eq!(listener.incoming().count(), 0);
        assert_eq!(code(ClientOptions::new().open(PIPE)), 2);
        // One that waits for an instance to come back.
        let listener = Listener::bind(PIPE, options().max_instances(1)).unwrap();
        let client = ClientOptions::new().open(PIPE).unwrap();
        let server = listener.accept().unwrap();
        let ended = asleep(|| listener.accept(), || listener.close());
        assert_eq!(code(ended), 995);
        // What was handed out lives on.
        server.write_message(b"still here").unwrap();
        assert_eq!(client.read_message(&mut [0; 20]).unwrap().len, 10);
    });
}

const SHORT: Option<Duration> = Some(Duration::from_millis(1));

#[test]
fn a_read_that_times_out_has_taken_nothing() {
    with_pair(this_test!(), |server, client| {
        server.set_read_timeout(SHORT).unwrap();
        for n in 0..50 {
            assert_eq!(code(server.read_message(&mut [0; 100])), 121);
            client.write_message(&bytes(n, 50)).unwrap();
            let mut buf = [0; 100];
            let read = server.read_message(&mut buf).unwrap();
            assert_eq!(buf[..read.len], bytes(n, 50));
        }
        assert_eq!(code(server.set_read_timeout(Some(Duration::ZERO))), 87);
    });
}

#[test]
fn a_write_that_times_out_takes_its_unread_rest_back() {
    const LONG: usize = 300_000;
    with_pair(this_test!(), |server, client| {
        server.set_write_timeout(SHORT).unwrap();
        client.set_read_timeout(SHORT).unwrap();
        let mut buf = vec![0; LONG];
        for n in 0..20 {
            server.write_message(&bytes(n, 60)).unwrap();
            assert_eq!(code(server.write_message(&[9; 60])), 121);
            assert_eq!(code(server.flush()), 121);
            assert_eq!(client.peek(&mut []).unwrap().available, 60);
            let read = client.read_message(&mut buf).unwrap();
            assert_eq!(buf[..read.len], bytes(n, 60));
            assert_eq!(client.peek(&mut []).unwrap().available, 0);
            server.flush().unwrap();
            // Half of it is read when it is taken back.
            let message = bytes(n, LONG);
            let (written, read) = thread::scope(|scope| {
                let writer = scope.spawn(|| server.write_message(&message));
                let read = client.read_message(&mut [0; 1000]);
                (writer.join().unwrap(), read)
            });
            assert_eq!(code(written), 121);
            match read {
                Ok(read) => assert!(read.more),
                // It was taken back before this read.
                Err(error) => assert_eq!(code::<()>(Err(error)), 121),
            }
            assert_eq!(client.peek(&mut []).unwrap().available, 0);
            server.write_message(b"next").unwrap();
            let read = client.read_message(&mut buf).unwrap();
            assert_eq!((&buf[..read.len], read.more), (&b"next"[..], false));
        }
    });
}

#[test]
fn a_write_that_times_out_lets_the_one_behind_it_complete() {
    with_pair(this_test!(), |server, client| {
        for n in 0..3 {
            let time = Some(Duration::from_millis(50));
            server.set_write_timeout(time).unwrap();
            let late = bytes(n, 60);
            let ended = asleep(
                || server.write_message(&[9; 200]),
                || {
                    server.set_write_timeout(None).unwrap();
                    assert_eq!(server.write_message(&late).unwrap(), 60);
                },
            );
            assert_eq!(code(ended), 121);
            let mut buf = [0; 100];
            assert_eq!(client.read_message(&mut buf).unwrap().len, 60);
            assert_eq!(buf[..60], late);
        }
    });
}

#[test]
fn an_end_lives_as_long_as_one_of_its_handles() {
    with_pair(this_test!(), |server, client| {
        let (server2, client2) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        drop((server, client));
        server2.write_message(b"one").unwrap();
        client2.write_message(b"two").unwrap();
        assert_eq!(client2.read_message(&mut [0; 10]).unwrap().len, 3);
        assert_eq!(server2.read_message(&mut [0; 10]).unwrap().len, 3);
        client2.set_read_mode(PipeMode::Byte).unwrap();
        assert_eq!(client2.try_clone().unwrap().read_mode(), PipeMode::Byte);
        drop(client2);
        assert_eq!(code(server2.read_message(&mut [0; 10])), 109);
        let (reader, writer) = anonymous::pipe(0).unwrap();
        let writer2 = writer.try_clone().unwrap();
        drop(writer);
        (&writer2).write_all(b"three").unwrap();
        assert_eq!(reader.read_message(&mut [0; 10]).unwrap().len, 5);
        let ended = asleep(|| reader.read_message(&mut [0; 10]), || drop(writer2));
        assert_eq!(code(ended), 109);
    });
}

#[test]
fn a_flush_waits_until_everything_is_read() {
    with_pair(this_test!(), |mut server, mut client| {
        client.write_all(b"aye").unwrap();
        server.write_all(b"aye").unwrap();
        let has_read = AtomicBool::new(false);
        let read = |pipe: &ntpipe::PipeStream| {
            has_read.store(true, Ordering::SeqCst);
            assert_eq!(pipe.read_message(&mut [0; 10]).unwrap().len, 3);
        };
        asleep(|| server.flush(), || read(&client)).unwrap();
        assert!(has_read.swap(false, Ordering::SeqCst));
        asleep(|| client.flush(), || read(&server)).unwrap();
        assert!(has_read.swap(false, Ordering::SeqCst));
        // The standard library's does not wait.
        server.write_all(b"aye").unwrap();
        Write::flush(&mut server).unwrap();
        let (reader, writer) = anonymous::pipe(0).unwrap();
        (&writer).write_all(b"aye").unwrap();
        asleep(|| writer.flush(), || read(&reader)).unwrap();
        assert!(has_read.load(Ordering::SeqCst));
    });
}

#[test]
fn transactions_go_both_ways() {
    with_pair(this_test!(), |server, client| {
        thread::scope(|scope| {
            for (asks, answers) in [(&*client, &*server), (&*server, &*client)] {
                let answer = scope.spawn(move || {
                    let mut buf = [0; 1000];
                    for _ in 0..300 {
                        let read = answers.read_message(&mut buf).unwrap();
                        buf[..read.len].reverse();
                        answers.write_message(&buf[..read.len]).unwrap();
                    }
                });
                let mut reply = [0; 1000];
                for n in 0..300 {
                    // Longer than the quota, which counts no requests.
                    let mut request = bytes(n, 1 + n % 900);
                    let read = asks.transact(&request, &mut reply).unwrap();
                    request.reverse();
                    assert!(reply[..read.len] == request && !read.more);
                }
                answer.join().unwrap();
            }
        });
        server.write_message(b"unread").unwrap();
        assert_eq!(code(client.transact(b"?", &mut [0; 10])), 231);
        client.set_read_mode(PipeMode::Byte).unwrap();
        assert_eq!(code(client.transact(b"?", &mut [0; 10])), 230);
    });
}

/// What a process has used of the CPUs, by the clock that only runs while it does.
fn cpu_time(process: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_pipe_on_which_nothing_happens_costs_no_cpu_time() {
    Scenario::new(this_test!())
        .role("sleeper", || {
            let (server, client) = pair();
            let read = || server.read_message(&mut [0; 10]).map(drop);
            let tell = || {
                client.write_message(&[0; 90]).unwrap();
                say("asleep");
                hear();
            };
            asleep(read, tell).unwrap();
        })
        .role("waiter", || {
            let (server, client) = pair();
            client.write_message(&[0; 90]).unwrap();
            let tell = || {
                let blocked = thread::scope(|scope| {
                    let writer = scope.spawn(|| code(client.write_message(&[0; 90])));
                    say("asleep");
                    hear();
                    drop(server.read_message(&mut [0; 90]));
                    writer.join().unwrap()
                });
                assert_eq!(blocked, 0);
                server.write_message(b"over").unwrap();
            };
            asleep(|| client.read_message(&mut [0; 10]), tell).unwrap();
        })
        .run(|stage| {
            for role in ["sleeper", "waiter"] {
                let mut child = stage.start(role);
                child.expect("asleep");
                let of = |child: &support::Child| {
                    let tasks = format!("/proc/{}/task", child.id());
                    let tasks = std::fs::read_dir(tasks).unwrap();
                    let used = tasks.map(|task| {
                        let thread = task.unwrap().file_name().into_string().unwrap();
                        cpu_time(&format!("{}/task/{thread}", child.id()))
                    });
                    used.sum::<u64>()
                };
                let own = || cpu_time("thread-self");
                // Let it fall asleep for as long as we are busy.
                let busy = |nanos: u64| {
                    let start = own();
                    while own() - start < nanos {}
                };
                busy(50_000_000);
                let (before, moment) = (of(&child), Instant::now());
                busy(300_000_000);
                let used = of(&child) - before;
                support::report(&format!("{role} used {used} ns in"), moment);
                assert!(used < 30_000_000, "{role} used {used} ns");
                child.say("done");
                child.finish();
            }
        });
}
