//! What the service thread and a listener promise when things get tight.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ntpipe::{
    ClientOptions, Error, IoErrorExt, Listener, NamedPipeClient, NamedPipeServer, PipeMode,
    ServerOptions,
};
use ntpipe_proto::control::Reply;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

mod support;
use support::raw::{self, Raw};
use support::{
    HEIRS, LOCK, PIPE, SOCKET, Scenario, asleep, code, hear, is_stopped, say, this_test, until,
};

fn open() -> NamedPipeClient {
    ClientOptions::new().open(PIPE).unwrap()
}

/// A client whose memory the server end has: the owner answers in order.
fn attached() -> NamedPipeClient {
    let client = open();
    client.instances().unwrap();
    client
}

/// Does it while this process can get no further descriptor.
fn without_descriptors<T>(work: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, none).unwrap();
    let result = work();
    setrlimit(Resource::Nofile, before).unwrap();
    result
}

#[test]
fn a_server_without_a_descriptor_for_a_client_says_so() {
    Scenario::new(this_test!())
        .role("server", || {
            let server = ServerOptions::new().create(PIPE).unwrap();
            let before = getrlimit(Resource::Nofile);
            // One is left: for the client's socket, and none for its memory.
            let next = rustix::io::dup(std::io::stdin()).unwrap();
            let one = Rlimit {
                current: Some(u64::try_from(next.as_raw_fd()).unwrap() + 1),
                maximum: before.maximum,
            };
            drop(next);
            setrlimit(Resource::Nofile, one).unwrap();
            say("up");
            assert_eq!(hear(), "more");
            setrlimit(Resource::Nofile, before).unwrap();
            say("up");
            server.connect().unwrap();
            assert_eq!(server.read_message(&mut [0; 9]).unwrap().len, 3);
        })
        .role("client", || {
            assert_eq!(code(ClientOptions::new().open(PIPE)), 4);
            say("refused");
            assert_eq!(hear(), "again");
            open().write_message(b"abc").unwrap();
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            let mut client = stage.start("client");
            client.expect("refused");
            server.say("more");
            server.expect("up");
            client.say("again");
            server.finish();
            client.finish();
        });
}

fn expect_connected(client: &NamedPipeClient, server: &NamedPipeServer) {
    client.write_message(b"there?").unwrap();
    let mut buf = [0; 10];
    let read = server.read_message(&mut buf).unwrap();
    assert_eq!(&buf[..read.len], b"there?");
}

#[test]
fn a_listener_without_descriptors_keeps_its_client_and_its_name() {
    Scenario::alone(this_test!(), || {
        let listener = Listener::bind(PIPE, &ServerOptions::new()).unwrap();
        let client = attached();
        let server = without_descriptors(|| listener.accept()).unwrap();
        expect_connected(&client, &server);
        drop((client, server));
        let client = open();
        expect_connected(&client, &listener.accept().unwrap());
    });
}

#[test]
fn a_listener_below_its_maximum_has_an_instance_that_listens() {
    Scenario::alone(this_test!(), || {
        let mut options = ServerOptions::new();
        options.max_instances(2);
        let listener = Listener::bind(PIPE, &options).unwrap();
        let mut client = open();
        let mut server = listener.accept().unwrap();
        for _ in 0..300 {
            let next_client = open();
            let dropper = thread::spawn(move || drop((client, server)));
            server = listener.accept().unwrap();
            client = next_client;
            dropper.join().unwrap();
            let info = ntpipe::info(PIPE).unwrap();
            assert_eq!((info.instances, info.listening), (2, 1));
        }
    });
}

#[test]
fn a_living_name_survives_the_removal_of_its_lock_file() {
    Scenario::new(this_test!())
        .role("owner", || {
            let server = ServerOptions::new().create(PIPE).unwrap();
            say("up");
            hear();
            drop(server);
            say("closed");
            hear();
        })
        .role("other", || {
            let first = ServerOptions::new().first_pipe_instance(true).create(PIPE);
            assert_eq!(code(first), 5);
            ServerOptions::new().create(PIPE).unwrap();
            drop(open());
        })
        .role("heir", || {
            assert_eq!(code(ClientOptions::new().open(PIPE)), 2);
            ServerOptions::new().create(PIPE).unwrap();
        })
        .run(|stage| {
            let mut owner = stage.start("owner");
            owner.expect("up");
            for file in [SOCKET, LOCK] {
                let mode = fs::metadata(stage.dir().join(file)).unwrap().mode();
                assert_ne!(mode & 0o1000, 0, "{file} is not sticky: {mode:o}");
            }
            fs::remove_file(stage.dir().join(LOCK)).unwrap();
            stage.start("other").finish();
            assert_eq!(stage.files(), [HEIRS, SOCKET]);
            owner.say("go");
            owner.expect("closed");
            stage.start("heir").finish();
            assert!(stage.files().is_empty());
            owner.say("done");
            owner.finish();
        });
}

#[test]
fn nobody_gets_through_to_a_name_that_has_gone() {
    Scenario::alone(this_test!(), || {
        let server = ServerOptions::new().create(PIPE).unwrap();
        // A session that outlives the name.
        let session = Raw::connect();
        session.send(&raw::query_request(), &[]).unwrap();
        session.receive().unwrap();
        // Another way to its socket, which stays.
        let link = "link.pipe";
        fs::hard_link(raw::dir().join(SOCKET), raw::dir().join(link)).unwrap();
        assert!(Raw::try_connect(link).is_ok());
        drop(server);
        let refused = Raw::try_connect(link).map(drop);
        assert_eq!(refused, Err(Errno::CONNREFUSED));
    });
}

/// Owners that are stopped, and a name whose owner lives.
#[test]
fn a_stopped_owner_keeps_nobody_waiting_for_ever() {
    const OTHERS: [&str; 4] = [r"\\.\pipe\a", r"\\.\pipe\b", r"\\.\pipe\c", r"\\.\pipe\d"];
    Scenario::new(this_test!())
        .role("owner", || {
            let server = ServerOptions::new().create(PIPE).unwrap();
            let others = OTHERS.map(|name| ServerOptions::new().create(name).unwrap());
            say("up");
            server.connect().unwrap();
            say("connected");
            hear();
            let further = ServerOptions::new().create(PIPE).unwrap();
            say("two");
            hear();
            drop((server, others, further));
        })
        .role("client", || {
            let client = attached();
            let _living = ServerOptions::new().create(r"\\.\pipe\living").unwrap();
            say("up");
            hear();
            thread::scope(|scope| {
                for timeout in [Some(Duration::from_millis(1)), Some(Duration::ZERO)] {
                    scope.spawn(move || assert_eq!(code(ntpipe::wait(PIPE, timeout)), 121));
                }
                scope.spawn(|| {
                    let before = Instant::now();
                    let names = ntpipe::list().unwrap();
                    let names: Vec<_> = names.into_iter().map(|entry| entry.name).collect();
                    assert_eq!(names, ["living"]);
                    assert!(before.elapsed() < Duration::from_secs(4));
                });
                assert_eq!(code(client.instances()), 121);
            });
            say("done");
            hear();
            // Not the answer to what was asked before.
            assert_eq!(client.instances().unwrap(), 2);
        })
        .run(|stage| {
            let mut owner = stage.start("owner");
            owner.expect("up");
            let mut client = stage.start("client");
            client.expect("up");
            owner.expect("connected");
            let id = Pid::from_raw(owner.id().try_into().unwrap()).unwrap();
            kill_process(id, Signal::STOP).unwrap();
            until(|| is_stopped(owner.id()));
            client.say("go");
            client.expect("done");
            kill_process(id, Signal::CONT).unwrap();
            owner.say("go");
            owner.expect("two");
            client.say("go");
            client.finish();
            owner.say("done");
            owner.finish();
        });
}

#[test]
fn an_owner_whose_queue_is_full_keeps_nobody_waiting_for_ever() {
    Scenario::alone(this_test!(), || {
        let listener = raw::listen_at_name();
        let queue: Vec<_> = (0..raw::BACKLOG + 1).map(|_| Raw::connect()).collect();
        assert!(ntpipe::list().unwrap().is_empty());
        assert_eq!(code(ClientOptions::new().open(PIPE)), 121);
        drop((queue, listener));
    });
}

#[test]
fn an_open_that_fails_at_the_owner_gives_its_instance_back() {
    Scenario::alone(this_test!(), || {
        let server = ServerOptions::new().create(PIPE).unwrap();
        let session = Raw::connect();
        session.send(&raw::query_request(), &[]).unwrap();
        session.receive().unwrap();
        let (answer, _) = without_descriptors(|| {
            session.send(&raw::open_request(), &[]).unwrap();
            session.receive().unwrap()
        });
        let error = Error::TOO_MANY_OPEN_FILES;
        assert_eq!(Reply::decode(&answer).unwrap(), Reply::Refused { error });
        assert_eq!(ntpipe::info(PIPE).unwrap().listening, 1);
        assert_eq!(code(server.read_message(&mut [0])), 536);
        session.open();
    });
}

#[test]
fn a_server_that_lets_go_of_a_client_that_is_just_opening_has_a_name() {
    Scenario::alone(this_test!(), || {
        let server = ServerOptions::new().create(PIPE).unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    server.disconnect().unwrap();
                    let _ = server.connect_timeout(Duration::ZERO);
                }
            });
            let mut disconnected = 0;
            while disconnected < 100 {
                match ClientOptions::new().open(PIPE) {
                    Ok(client) => {
                        assert_eq!(code(client.read_message(&mut [0])), 233);
                        disconnected += 1;
                    }
                    Err(error) => assert_eq!(error.win32_code(), Some(231)),
                }
            }
            over.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn a_server_end_that_closes_while_its_client_opens_has_closed() {
    Scenario::alone(this_test!(), || {
        for _ in 0..200 {
            let server = ServerOptions::new().create(PIPE).unwrap();
            let client = thread::spawn(|| ClientOptions::new().open(PIPE));
            until(|| ntpipe::info(PIPE).unwrap().listening == 0);
            drop(server);
            let client = client.join().unwrap().unwrap();
            assert_eq!(code(client.read_message(&mut [0])), 109);
        }
    });
}

#[test]
fn a_client_that_left_while_it_was_on_its_way_has_left() {
    Scenario::alone(this_test!(), || {
        let calls: [fn(&NamedPipeServer) -> _; 2] = [
            |server| code(server.connect()),
            |server| code(server.transact(b"request", &mut [0; 9])),
        ];
        for (call, error) in calls.into_iter().zip([232, 230]) {
            let server = ServerOptions::new()
                .pipe_mode(PipeMode::Message)
                .read_mode(PipeMode::Message)
                .create(PIPE)
                .unwrap();
            let session = Raw::connect();
            let (opened, _) = session.open();
            let memory = raw::Memory::new(opened.inbound_ring);
            memory.set32(raw::STATE, CLOSED);
            let attach = || {
                let fds = [memory.file.as_fd()];
                session.send(&raw::attach_request(), &fds).unwrap();
            };
            assert_eq!(asleep(|| call(&server), attach), error);
        }
    });
}

#[test]
fn a_client_that_is_disconnected_while_it_attaches_is_told_so_first() {
    Scenario::alone(this_test!(), || {
        let server = ServerOptions::new().create(PIPE).unwrap();
        for _ in 0..2_000 {
            let session = Raw::connect();
            let (opened, ours) = session.open();
            let memory = raw::Memory::new(opened.inbound_ring);
            let fds = [memory.file.as_fd()];
            session.send(&raw::attach_request(), &fds).unwrap();
            let disconnected = thread::scope(|scope| {
                scope.spawn(|| server.disconnect().unwrap());
                session.expect_end();
                state_of(ours)
            });
            assert_eq!(disconnected, DISCONNECTED);
            assert_eq!(code(server.connect_timeout(Duration::ZERO)), 121);
        }
    });
}

/// What an end says in its memory.
fn state_of(memory: OwnedFd) -> u32 {
    let mut state = [0; 4];
    let read = File::from(memory).read_at(&mut state, raw::STATE as u64);
    assert_eq!(read.unwrap(), state.len());
    u32::from_ne_bytes(state)
}

#[test]
fn a_connect_ends_with_a_disconnect_although_the_instance_listens_again() {
    Scenario::alone(this_test!(), || {
        for _ in 0..50 {
            let server = ServerOptions::new().create(PIPE).unwrap();
            let connected = asleep(
                || server.connect(),
                || {
                    server.disconnect().unwrap();
                    assert_eq!(code(server.connect_timeout(Duration::ZERO)), 121);
                },
            );
            assert_eq!(code(connected), 233);
        }
    });
}

#[test]
fn clients_that_say_nothing_are_limited_and_make_room_when_they_go() {
    const LIMIT: usize = 1024;
    let raise_limit = || {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let current = maximum;
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    };
    Scenario::new(this_test!())
        .role("owner", || {
            raise_limit();
            let server = ServerOptions::new().create(PIPE).unwrap();
            say("up");
            hear();
            drop(server);
        })
        .role("client", || {
            raise_limit();
            let mut silent: Vec<_> = (0..LIMIT).map(|_| Raw::connect()).collect();
            let (answer, _) = Raw::connect().receive().unwrap();
            let error = Error::NO_SYSTEM_RESOURCES;
            assert_eq!(Reply::decode(&answer).unwrap(), Reply::Refused { error });
            assert_eq!(code(ntpipe::info(PIPE)), 1450);
            assert_eq!(code(ClientOptions::new().open(PIPE)), 1450);
            // Those that got in are as good as any.
            let first = silent.remove(0);
            let _memory = first.attach();
            drop(silent);
            until(|| ntpipe::info(PIPE).is_ok());
            assert_eq!(ntpipe::info(PIPE).unwrap().listening, 0);
        })
        .run(|stage| {
            let mut owner = stage.start("owner");
            owner.expect("up");
            stage.start("client").finish();
            owner.say("done");
            owner.finish();
        });
}

#[test]
fn a_client_on_its_way_costs_a_call_none_of_its_time() {
    Scenario::alone(this_test!(), || {
        let server = ServerOptions::new().create(PIPE).unwrap();
        let short = Some(Duration::from_micros(1));
        server.set_write_timeout(short).unwrap();
        let raw = Raw::connect();
        let (opened, _server_memory) = raw.open();
        let memory = raw::Memory::new(opened.inbound_ring);
        let attach = || {
            raw.send(&raw::attach_request(), &[memory.file.as_fd()])
                .unwrap();
        };
        // There is room, so that the write is done as soon as it can be.
        let written = asleep(|| server.write_message(b"abc"), attach);
        assert_eq!(written.unwrap(), 3);
        server.set_read_timeout(short).unwrap();
        assert_eq!(code(server.read_message(&mut [0; 9])), 121);
    });
}

#[test]
fn what_a_client_on_its_way_has_written_is_counted() {
    Scenario::alone(this_test!(), || {
        let server = ServerOptions::new().create(PIPE).unwrap();
        let raw = Raw::connect();
        let (opened, _server_memory) = raw.open();
        let memory = raw::Memory::new(opened.inbound_ring);
        memory.set64(raw::OFFERED, 3);
        assert_eq!(server.local_info().unwrap().read_data_available, 0);
        raw.send(&raw::attach_request(), &[memory.file.as_fd()])
            .unwrap();
        // Be the service thread as slow as it may.
        let info = server.local_info().unwrap();
        assert_eq!(info.read_data_available, 3);
    });
}

#[test]
fn a_directory_of_names_is_the_same_by_another_path() {
    Scenario::alone(this_test!(), || {
        let mut options = ServerOptions::new();
        options.max_instances(2);
        let _first = options.create(PIPE).unwrap();
        let link = raw::dir().join("again");
        symlink(raw::dir(), &link).unwrap();
        // SAFETY: no other thread of this process looks at a variable meanwhile.
        unsafe { std::env::set_var("NTPIPE_DIR", &link) };
        let _second = options.create(PIPE).unwrap();
        assert_eq!(ntpipe::info(PIPE).unwrap().instances, 2);
    });
}

/// What a closed end says in its memory.
const CLOSED: u32 = 2;
/// What a server that has disconnected says in its memory.
const DISCONNECTED: u32 = 3;
