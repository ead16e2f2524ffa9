//! Clients and servers that break the protocol: only their own connection suffers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ntpipe::{ClientOptions, NamedPipeServer, PipeMode, PipeStream, ServerOptions};
use ntpipe_proto::control::{Opened, Reply};
use ntpipe_proto::lane::ring_capacity;
use ntpipe_proto::{Direction, MaxInstances, PipeType, Quotas};
use rustix::process::{Resource, Rlimit, setrlimit};

mod support;
use support::raw::{self, Memory, Raw, attach_request, open_request};
use support::{
    Child, PIPE, Random, Scenario, asleep, code, descriptors, hear, resident, say, this_test, until,
};

const QUOTA: u32 = 100;

/// Two instances, whose clients get back what they send.
fn play_server() {
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message).max_instances(2);
    options.in_buffer_size(QUOTA).out_buffer_size(QUOTA);
    let servers = [(); 2].map(|()| options.create(PIPE).unwrap());
    for server in servers {
        thread::spawn(move || {
            loop {
                if server.connect().is_ok() {
                    echo(&server);
                }
                server.disconnect().unwrap();
            }
        });
    }
    let before = (descriptors(), resident());
    say("up");
    loop {
        match hear().as_str() {
            "quiet?" => {
                // Each session lasts at most as long as an owner's patience.
                until(|| descriptors() <= before.0);
                let grown = resident().saturating_sub(before.1);
                assert!(grown < 32 << 10, "{grown} KiB");
                say("quiet");
            }
            _ => return,
        }
    }
}

fn echo(server: &NamedPipeServer) {
    let mut buf = [0; 1000];
    while let Ok(read) = server.read_message(&mut buf) {
        if server.write_message(&buf[..read.len]).is_err() {
            return;
        }
    }
}

/// A client like any other: it gets its echo, whatever others do.
fn play_client() {
    let mut options = ClientOptions::new();
    options.pipe_mode(PipeMode::Message);
    let mut buf = [0; 100];
    for n in 0..20_u32 {
        let client = options.open_timeout(PIPE, Duration::from_secs(60)).unwrap();
        let read = client.transact(&n.to_le_bytes(), &mut buf).unwrap();
        assert_eq!(buf[..read.len], n.to_le_bytes());
    }
}

/// Lets an attacker loose: other clients are served meanwhile and after, and nothing is left.
fn attack(test: &'static str, attacker: impl FnOnce()) {
    Scenario::new(test)
        .role("server", play_server)
        .role("client", play_client)
        .role("attacker", || {
            attacker();
            say("done");
            hear();
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            let mut attacker = stage.start("attacker");
            stage.start("client").finish();
            attacker.expect("done");
            stage.start("client").finish();
            drop(attacker);
            stage.start("client").finish();
            server.say("quiet?");
            server.expect("quiet");
            server.say("done");
            server.finish();
        });
}

#[test]
fn what_is_no_message_ends_the_session() {
    attack(this_test!(), || {
        let mut random = Random(1);
        let garbage: Vec<u8> = (0..900).map(|_| random.next() as u8).collect();
        let (open, attach) = (open_request(), attach_request());
        let mut messages = vec![
            garbage.clone(),
            vec![0],
            vec![0; 1024],
            vec![0; 1025],
            vec![7; 60_000],
            [&open[..], &[0]].concat(),
            [&attach[..], &open[..]].concat(),
            attach,
        ];
        messages.extend((1..open.len()).map(|len| open[..len].to_vec()));
        for at in 0..open.len() {
            // Wherever it hits, it is another magic, version, kind, access or name; only access
            // and qos have no wrong values.
            if !(8..16).contains(&at) {
                let mut message = open.clone();
                message[at] ^= 0x80;
                messages.push(message);
            }
        }
        for message in messages {
            let client = Raw::connect();
            if client.send(&message, &[]).is_ok() {
                client.expect_end();
            }
        }
        let client = Raw::connect();
        client.send(&[], &[]).unwrap();
        client.expect_end();
    });
}

#[test]
fn an_open_that_goes_nowhere_gives_the_instance_back() {
    attack(this_test!(), || {
        for _ in 0..100 {
            // Other clients come and go: we may find both instances busy.
            let client = Raw::connect();
            client.send(&open_request(), &[]).unwrap();
            client.receive();
            drop(client);
            let client = Raw::connect();
            client.send(&open_request(), &[]).unwrap();
            drop(client);
            let client = Raw::connect();
            client.send(&open_request(), &[]).unwrap();
            client.send(b"garbage", &[]).unwrap();
            client.expect_end();
            let client = Raw::connect();
            client.send(&open_request(), &[]).unwrap();
            client.receive();
            if client.send(&open_request(), &[]).is_ok() {
                client.receive();
                let _ = client.send(&open_request(), &[]);
            }
        }
    });
}

/// Opens the pipe until that works: others may have the instances at the moment.
fn insist_on_open() -> Raw {
    loop {
        let client = Raw::connect();
        client.send(&open_request(), &[]).unwrap();
        let (bytes, _) = client.receive().unwrap();
        if matches!(Reply::decode(&bytes).unwrap(), Reply::Opened(_)) {
            return client;
        }
    }
}

/// Memory that nobody should take, for a quota of [`QUOTA`].
fn bad_memories() -> Vec<OwnedFd> {
    let ring = ring_capacity(QUOTA);
    let len = ring as usize + raw::RING;
    let mut fds: Vec<OwnedFd> = vec![
        File::open("/dev/null").unwrap().into(),
        File::open("/proc/self/exe").unwrap().into(),
        File::open("/").unwrap().into(),
        raw::lonely_socket(),
    ];
    let unsealed = Memory::unsealed(len);
    unsealed.set64(raw::MAGIC, u64::from_le_bytes(*b"ntpipe\0\0"));
    unsealed.set32(raw::VERSION, 4);
    unsealed.set64(raw::CAPACITY, ring);
    unsealed.set32(raw::STATE, 1);
    let blank = Memory::unsealed(len);
    blank.seal();
    let empty = Memory::unsealed(raw::RING);
    empty.seal();
    let mut bad = vec![unsealed, blank, empty, Memory::new(ring * 2)];
    let lie = |at: usize, value: u32| {
        let memory = Memory::for_quota(QUOTA);
        memory.set32(at, value);
        memory
    };
    bad.push(lie(raw::MAGIC, 1));
    bad.push(lie(raw::VERSION, 3));
    bad.push(lie(raw::CAPACITY, 4096));
    bad.push(lie(raw::CAPACITY + 4, 1));
    fds.extend(bad.iter().map(|memory| memory.file.try_clone().unwrap()));
    fds
}

#[test]
fn what_is_no_memory_of_a_client_ends_the_session() {
    attack(this_test!(), || {
        for memory in bad_memories() {
            let client = insist_on_open();
            client.send(&attach_request(), &[memory.as_fd()]).unwrap();
            client.expect_end();
        }
        let client = insist_on_open();
        client.send(&attach_request(), &[]).unwrap();
        client.expect_end();
        // The server's own: it would hear itself.
        let (client, _, theirs) = open_with(None);
        client
            .send(&attach_request(), &[theirs.unwrap().as_fd()])
            .unwrap();
        client.expect_end();
    });
}

/// Opens the pipe as far as the answer, with this memory.
fn open_with(memory: Option<&OwnedFd>) -> (Raw, Reply, Option<OwnedFd>) {
    loop {
        let client = Raw::connect();
        let fds: Vec<BorrowedFd<'_>> = memory.iter().map(|memory| memory.as_fd()).collect();
        client.send(&open_request(), &fds).unwrap();
        let (bytes, fd) = client.receive().unwrap();
        let reply = Reply::decode(&bytes).unwrap();
        let error = ntpipe::Error::PIPE_BUSY;
        if reply != (Reply::Refused { error }) {
            return (client, reply, fd);
        }
    }
}

#[test]
fn memory_that_comes_with_an_open_is_taken_only_if_it_is_right() {
    attack(this_test!(), || {
        for memory in bad_memories() {
            let (client, reply, fd) = open_with(Some(&memory));
            assert!(matches!(reply, Reply::Opened(_)) && fd.is_some());
            // Another one may be attached.
            let good = Memory::for_quota(QUOTA);
            client
                .send(&attach_request(), &[good.file.as_fd()])
                .unwrap();
        }
        let good = Memory::for_quota(QUOTA);
        let (client, reply, fd) = open_with(Some(&good.file));
        assert!(matches!(reply, Reply::Connected(_)) && fd.is_some());
        drop(client);
        // That is all: what follows is no message any more.
        let (client, ..) = open_with(Some(&Memory::for_quota(QUOTA).file));
        let memory = good.file.as_fd();
        client.send(&attach_request(), &[memory]).unwrap();
        client.hang_up();
        client.expect_end();
    });
}

#[test]
fn descriptors_that_nobody_asked_for_are_closed() {
    attack(this_test!(), || {
        let file = File::open("/dev/null").unwrap();
        let many: Vec<BorrowedFd<'_>> = vec![file.as_fd(); 60];
        for _ in 0..200 {
            // Refused for the number of descriptors, or for the message.
            let client = Raw::connect();
            client.send(&open_request(), &many).unwrap();
            client.expect_end();
            let client = Raw::connect();
            client.send(b"x", &[file.as_fd()]).unwrap();
            client.expect_end();
            let client = Raw::connect();
            client.send(&[], &[file.as_fd()]).unwrap();
            client.expect_end();
            let client = insist_on_open();
            client.send(&attach_request(), &many).unwrap();
            client.expect_end();
        }
    });
}

#[test]
fn hundreds_of_silent_connections_keep_no_one_waiting() {
    Scenario::new(this_test!())
        .role("server", play_server)
        .role("client", play_client)
        .role("attacker", || {
            let silent: Vec<_> = (0..400).map(|_| Raw::connect()).collect();
            say("done");
            hear();
            drop(silent);
            say("gone");
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            let mut attackers = [(); 2].map(|()| stage.start("attacker"));
            for attacker in &mut attackers {
                attacker.expect("done");
            }
            stage.start("client").finish();
            for attacker in &mut attackers {
                attacker.say("go");
                attacker.expect("gone");
            }
            server.say("quiet?");
            server.expect("quiet");
            attackers.into_iter().for_each(Child::finish);
            server.say("done");
            server.finish();
        });
}

#[test]
fn connections_beyond_the_descriptors_of_a_server_are_let_in_later() {
    Scenario::new(this_test!())
        .role("server", || {
            let limit = Rlimit {
                current: Some(60),
                maximum: Some(60),
            };
            setrlimit(Resource::Nofile, limit).unwrap();
            play_server();
        })
        .role("client", play_client)
        .role("attacker", || {
            let silent: Vec<_> = (0..200).map(|_| Raw::connect()).collect();
            say("done");
            hear();
            drop(silent);
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            let mut attacker = stage.start("attacker");
            attacker.expect("done");
            attacker.say("go");
            stage.start("client").finish();
            attacker.finish();
            server.say("quiet?");
            server.expect("quiet");
            server.say("done");
            server.finish();
        });
}

/// One lie in shared memory about the lane from this end to the other, and about what it reads.
type Lie = (&'static str, fn(&Memory));

/// Found by who reads.
const LIES_TO_A_READER: &[Lie] = &[
    ("a tail beyond the ring", |m| m.set64(raw::TAIL, 1 << 40)),
    ("a tail of all bits", |m| m.set64(raw::TAIL, u64::MAX)),
    ("a tail within a record", |m| m.set64(raw::TAIL, 12)),
    ("a tail within a header", |m| {
        m.set_record(0, 0, 3);
        m.set64(raw::TAIL, 4);
    }),
    ("an unknown flag", |m| record(m, 8, 3 | 1 << 20)),
    ("a record longer than what is there", |m| record(m, 4096, 3)),
    ("a record of all bits", |m| record(m, u32::MAX, 3)),
    ("a part without bytes", |m| record(m, 0, 1)),
    ("a total that is too small", |m| {
        m.set64(raw::RING + 8, 8);
        m.set_record(0, 8, 1 | 4);
        m.set64(raw::TAIL, 24);
    }),
    ("a whole message with a total", |m| {
        m.set64(raw::RING + 8, 100);
        m.set_record(0, 8, 1 | 2 | 4);
        m.set64(raw::TAIL, 24);
    }),
    ("a jump beyond the tail", |m| record(m, 0, 64)),
];

/// Found by who reads, but not by who peeks.
const LIES_TO_A_READ: &[Lie] = &[
    ("a middle without a beginning", |m| record(m, 8, 0)),
    ("an end without a beginning", |m| record(m, 8, 2)),
];

/// Found by who writes.
const LIES_TO_A_WRITER: &[Lie] = &[
    ("a head beyond the tail", |m| m.set64(raw::HEAD, 1 << 20)),
    ("more consumed than there was", |m| {
        m.set64(raw::CONSUMED, 1 << 20)
    }),
    ("everything consumed", |m| m.set64(raw::CONSUMED, u64::MAX)),
];

/// Found by both.
const LIES_TO_ALL: &[Lie] = &[
    ("no state", |m| m.set32(raw::STATE, 0)),
    ("an unknown state", |m| m.set32(raw::STATE, 77)),
];

fn record(memory: &Memory, len: u32, flags: u32) {
    memory.set_record(0, len, flags);
    memory.set64(raw::TAIL, 16);
}

/// All further calls fail as the first one did.
fn expect_dead(pipe: &PipeStream, why: &str) {
    let mut buf = [0; 100];
    for _ in 0..2 {
        assert_eq!(code(pipe.read_message(&mut buf)), 13, "read: {why}");
        assert_eq!(code(pipe.write_message(b"x")), 13, "write: {why}");
        assert_eq!(code(pipe.peek(&mut buf)), 13, "peek: {why}");
        assert_eq!(code(pipe.flush()), 13, "flush: {why}");
        assert_eq!(code(pipe.transact(b"x", &mut buf)), 13, "transact: {why}");
    }
}

/// What a deceived end does until it has noticed.
fn expect_lie_found(pipe: &PipeStream, how: usize, why: &str) {
    let mut buf = vec![0; 1000];
    let found = match how {
        0 => code(pipe.read_message(&mut buf)),
        1 => code(pipe.peek(&mut buf)),
        // The second write finds what the first one did not need to look at.
        _ => code(
            pipe.write_message(&[1; 90])
                .and_then(|_| pipe.write_message(&[1; 90])),
        ),
    };
    assert_eq!(found, 13, "{why}");
    expect_dead(pipe, why);
}

fn cases() -> impl Iterator<Item = (usize, Lie)> {
    let readers = LIES_TO_A_READER
        .iter()
        .flat_map(|lie| [(0, *lie), (1, *lie)]);
    let readers = readers.chain(LIES_TO_A_READ.iter().map(|lie| (0, *lie)));
    let writers = LIES_TO_A_WRITER.iter().map(|lie| (2, *lie));
    let all = LIES_TO_ALL
        .iter()
        .flat_map(|lie| [(0, *lie), (1, *lie), (2, *lie)]);
    readers.chain(writers).chain(all)
}

fn message_options() -> ServerOptions {
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message);
    options.in_buffer_size(QUOTA).out_buffer_size(QUOTA);
    options
}

#[test]
fn a_client_whose_memory_lies_is_dead_to_the_server() {
    Scenario::alone(this_test!(), || {
        let server = message_options().create(PIPE).unwrap();
        let honest = message_options().create(PIPE).unwrap();
        let raw = Raw::connect();
        let first = raw.attach();
        server.connect().unwrap();
        let mut options = ClientOptions::new();
        let client = options.pipe_mode(PipeMode::Message).open(PIPE).unwrap();
        honest.connect().unwrap();
        drop((raw, first));
        server.disconnect().unwrap();
        let mut before = None;
        for (how, (why, lie)) in cases() {
            let next = thread::scope(|scope| {
                let next = scope.spawn(|| {
                    loop {
                        if let Ok(raw) = try_attach() {
                            return raw;
                        }
                    }
                });
                server.connect().unwrap();
                next.join().unwrap()
            });
            lie(&next.1);
            expect_lie_found(&server, how, why);
            // The neighbour's connection is as it was.
            client.write_message(why.as_bytes()).unwrap();
            let mut buf = [0; 100];
            let read = honest.read_message(&mut buf).unwrap();
            assert_eq!(&buf[..read.len], why.as_bytes());
            drop(next);
            server.disconnect().unwrap();
            let before = *before.get_or_insert_with(descriptors);
            until(|| descriptors() <= before);
        }
    });
}

/// A client whole, unless there is no instance yet.
fn try_attach() -> Result<(Raw, Memory), ()> {
    let raw = Raw::connect();
    raw.send(&open_request(), &[]).unwrap();
    let (bytes, _) = raw.receive().ok_or(())?;
    let Reply::Opened(opened) = Reply::decode(&bytes).unwrap() else {
        return Err(());
    };
    let memory = Memory::new(opened.inbound_ring);
    raw.send(&attach_request(), &[memory.file.as_fd()]).unwrap();
    Ok((raw, memory))
}

#[test]
fn a_lie_ends_a_call_that_sleeps() {
    Scenario::alone(this_test!(), || {
        for seed in 1..20 {
            let server = message_options().create(PIPE).unwrap();
            let (_raw, memory) = try_attach().unwrap();
            server.connect().unwrap();
            let lie = || {
                memory.set64(raw::TAIL, 4);
                memory.set64(raw::HEAD, 1 << 30);
                memory.ring(seed);
            };
            let result = if seed % 2 == 0 {
                asleep(|| server.read_message(&mut [0; 10]).map(drop), lie)
            } else {
                asleep(|| server.write_message(&[0; 200]).map(drop), lie)
            };
            assert_eq!(code(result), 13);
            expect_dead(&server, "in its sleep");
        }
    });
}

/// Writes anything anywhere, until told to stop.
fn scribble(memory: &Memory, seed: u64, stop: &AtomicBool) {
    const FIELDS: [usize; 10] = [
        raw::TAIL,
        raw::OFFERED,
        raw::HEAD,
        raw::CONSUMED,
        raw::CLAIM,
        raw::ASKED,
        raw::WAITS_FOR_DATA,
        raw::BELL,
        raw::RING,
        raw::STATE,
    ];
    let mut random = Random(seed);
    while !stop.load(Ordering::Relaxed) {
        let field = FIELDS[random.below(if seed.is_multiple_of(2) { 9 } else { 10 }) as usize];
        let value = match random.below(4) {
            // Likely to be believed for a while.
            0 => random.below(20) * 8,
            1 => random.below(1 << 16),
            2 => random.next(),
            _ => random.below(4),
        };
        match field {
            raw::WAITS_FOR_DATA => {
                memory.set32(field, value as u32);
                memory.set32(raw::WAITS_FOR_ROOM, value as u32);
            }
            raw::BELL => memory.ring(value as u32),
            raw::STATE => memory.set32(field, value as u32 % 5),
            raw::RING => {
                let at = (random.below(64) * 8) as usize;
                memory.set_record(at, value as u32 % 200, random.below(128) as u32);
            }
            field => memory.set64(field, value),
        }
    }
}

/// Uses an end whose peer scribbles: every call returns, with data or an error; and once a lie was
/// found the connection stays dead.
fn use_in_spite(pipe: &PipeStream, seed: u64) {
    pipe.set_read_timeout(Some(Duration::from_micros(300)))
        .unwrap();
    pipe.set_write_timeout(Some(Duration::from_micros(300)))
        .unwrap();
    let mut random = Random(seed);
    let mut buf = vec![0; 5000];
    let mut found = false;
    for _ in 0..200 {
        let len = random.below(5000) as usize;
        let result = match random.below(6) {
            0 | 1 => pipe.read_message(&mut buf[..len]).map(drop),
            2 => pipe.peek(&mut buf[..len]).map(drop),
            3 => pipe.write_message(&buf[..len % 70]).map(drop),
            4 => pipe.write_message(&buf[..len]).map(drop),
            _ => pipe.flush(),
        };
        let code = code(result);
        // Fine, a timeout, the end, disconnected, and the lie.
        let known = [0, 121, 109, 232, 230, 233, 13];
        assert!(known.contains(&code), "{code}");
        assert!(!found || code == 13, "{code} after a lie");
        found |= code == 13;
    }
}

fn use_while_scribbled(pipe: &PipeStream, memory: &Memory, seed: u64) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| scribble(memory, seed, &stop));
        let used = catch_unwind(AssertUnwindSafe(|| use_in_spite(pipe, seed)));
        stop.store(true, Ordering::Relaxed);
        assert!(used.is_ok(), "seed {seed}");
    });
}

#[test]
fn a_client_that_scribbles_over_its_memory_does_no_harm() {
    Scenario::alone(this_test!(), || {
        for seed in 1..60 {
            let server = message_options().create(PIPE).unwrap();
            let honest = message_options().create(PIPE).unwrap();
            let (_raw, memory) = try_attach().unwrap();
            server.connect().unwrap();
            let client = ClientOptions::new().open(PIPE).unwrap();
            honest.connect().unwrap();
            use_while_scribbled(&server, &memory, seed);
            client.write_message(b"and we?").unwrap();
            assert_eq!(honest.read_message(&mut [0; 100]).unwrap().len, 7);
        }
    });
}

/// What a server says that a client opens.
fn opened(quotas: Quotas) -> Opened {
    Opened {
        pipe_type: PipeType::Message,
        direction: Direction::Duplex,
        instance: 1,
        max_instances: MaxInstances::new(1).unwrap(),
        quotas,
        inbound_ring: ring_capacity(quotas.inbound),
        outbound_ring: ring_capacity(quotas.outbound),
        server_pid: 1,
        spelling: "test".into(),
    }
}

const QUOTAS: Quotas = Quotas {
    inbound: QUOTA,
    outbound: QUOTA,
};

/// A client opens the pipe of a server that answers by hand; the server's memory is returned.
fn deceive(listener: &OwnedFd, answer: impl FnOnce(&Raw) + Send) -> std::io::Result<()> {
    thread::scope(|scope| {
        scope.spawn(|| {
            let raw = Raw::accept(listener);
            raw.receive().unwrap();
            answer(&raw);
        });
        ClientOptions::new().open(PIPE).map(drop)
    })
}

#[test]
fn a_server_that_answers_nonsense_is_an_error_of_the_open() {
    Scenario::alone(this_test!(), || {
        let listener = raw::listen_at_name();
        let good = Reply::Opened(opened(QUOTAS)).encode().unwrap();
        // One that only hangs up may have a successor: it is asked again.
        let error = ntpipe::Error::PIPE_BUSY;
        let busy = Reply::Refused { error }.encode().unwrap();
        let hang_up = deceive(&listener, |raw| {
            raw.hang_up();
            let raw = Raw::accept(&listener);
            raw.receive().unwrap();
            raw.send(&busy, &[]).unwrap();
        });
        assert_eq!(code(hang_up), 231);
        let before = descriptors();
        for bytes in [&b"x"[..], &[0; 1025], &[9; 4000], &good[..20], &good[..8]] {
            let nonsense = deceive(&listener, |raw| raw.send(bytes, &[]).unwrap());
            assert_eq!(code(nonsense), 13);
        }
        // The right words without memory, or with the wrong one.
        let no_memory = deceive(&listener, |raw| raw.send(&good, &[]).unwrap());
        assert_eq!(code(no_memory), 13);
        for memory in bad_memories() {
            let bad = deceive(&listener, |raw| raw.send(&good, &[memory.as_fd()]).unwrap());
            assert_eq!(code(bad), 13);
        }
        let memory = Memory::for_quota(QUOTA);
        let file = memory.file.as_fd();
        let many = deceive(&listener, |raw| {
            raw.send(&good, &[file, file, file]).unwrap()
        });
        assert_eq!(code(many), 13);
        // It has memory of ours, but not of the size that it speaks of.
        let mut quotas = QUOTAS;
        quotas.inbound = QUOTA * 64;
        let other = Reply::Connected(opened(quotas)).encode().unwrap();
        let bad = deceive(&listener, |raw| raw.send(&other, &[file]).unwrap());
        assert_eq!(code(bad), 13);
        for ring in [0, 4096, 1 << 40, u64::MAX] {
            let mut opened = opened(QUOTAS);
            opened.outbound_ring = ring;
            let reply = Reply::Opened(opened).encode().unwrap();
            let bad = deceive(&listener, |raw| raw.send(&reply, &[file]).unwrap());
            assert_eq!(code(bad), 13);
        }
        // Gigabytes that are promised are not there, and cost nothing.
        let mut quotas = QUOTAS;
        quotas.inbound = u32::MAX;
        let reply = Reply::Opened(opened(quotas)).encode().unwrap();
        let huge = deceive(&listener, |raw| raw.send(&reply, &[file]).unwrap());
        assert_eq!(code(huge), 0);
        assert!(resident() < 100 << 10);
        drop(memory);
        until(|| descriptors() <= before);
    });
}

/// A client that a lying server has accepted, with the memory that lies.
fn be_deceived() -> (Raw, Memory, ntpipe::NamedPipeClient) {
    let listener = raw::listen_at_name();
    let memory = Memory::for_quota(QUOTA);
    let good = Reply::Opened(opened(QUOTAS)).encode().unwrap();
    let (raw, client) = thread::scope(|scope| {
        let raw = scope.spawn(|| {
            let raw = Raw::accept(&listener);
            raw.receive().unwrap();
            raw.send(&good, &[memory.file.as_fd()]).unwrap();
            raw
        });
        let mut options = ClientOptions::new();
        let client = options.pipe_mode(PipeMode::Message).open(PIPE).unwrap();
        (raw.join().unwrap(), client)
    });
    std::fs::remove_file(raw::dir().join(support::SOCKET)).unwrap();
    (raw, memory, client)
}

#[test]
fn a_server_whose_memory_lies_is_dead_to_the_client() {
    Scenario::alone(this_test!(), || {
        for (how, (why, lie)) in cases() {
            let (_raw, memory, client) = be_deceived();
            lie(&memory);
            expect_lie_found(&client, how, why);
        }
    });
}

#[test]
fn a_server_that_scribbles_over_its_memory_does_no_harm() {
    Scenario::alone(this_test!(), || {
        for seed in 1..60 {
            let (_raw, memory, client) = be_deceived();
            use_while_scribbled(&client, &memory, seed);
        }
    });
}
