//! Ends that several processes hold, under load and while holders are killed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use std::collections::HashMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ntpipe::{
    ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode, PipeParts, PipeStream, ServerOptions,
};

mod support;
use support::{Child, PIPE, Random, Scenario, Stage, code, hear, say, this_test};

const PARTS: &str = "NTPIPE_TEST_PARTS";

fn start(stage: &Stage, role: &'static str, parts: PipeParts) -> Child {
    stage.start_with(role, |command: &mut Command| {
        let number = parts.inherit(command).unwrap();
        command.env(PARTS, number.to_string());
    })
}

fn inherited() -> PipeParts {
    PipeParts::inherited(std::env::var_os(PARTS).unwrap()).unwrap()
}

/// A pipe of messages with this quota to the server, of a name that is this test's alone.
fn pair(test: &str, quota: u32) -> (NamedPipeServer, NamedPipeClient) {
    let name = format!("{PIPE}-{test}-{}", std::process::id());
    let mut options = ServerOptions::new();
    let options = options.pipe_mode(PipeMode::Message).in_buffer_size(quota);
    let server = options.create(&name).unwrap();
    let client = ClientOptions::new().open(&name).unwrap();
    server.connect().unwrap();
    server.set_read_mode(PipeMode::Message).unwrap();
    (server, client)
}

/// A message that says who wrote it, and of a length that is a matter of its number.
fn message(writer: u32, number: u32) -> Vec<u8> {
    let len = match number % 7 {
        0 => 8,
        1 => 100,
        2 => 5000,
        3 => 200,
        4 if number.is_multiple_of(5) => 60_000,
        _ => 20,
    };
    let mut bytes = vec![(writer ^ number) as u8; len];
    bytes[..4].copy_from_slice(&writer.to_le_bytes());
    bytes[4..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Who wrote a message.
fn writer_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().unwrap())
}

/// Who wrote a message, and its number; it must be whole.
fn parse(bytes: &[u8]) -> (u32, u32) {
    let (writer, number) = (writer_of(bytes), writer_of(&bytes[4..]));
    assert!(
        bytes == message(writer, number),
        "{writer} {number} is torn"
    );
    (writer, number)
}

const EACH: u32 = 250;

fn write_all(pipe: &PipeStream, writers: [u32; 2]) {
    thread::scope(|scope| {
        for writer in writers {
            scope.spawn(move || {
                for number in 0..EACH {
                    let message = message(writer, number);
                    assert_eq!(pipe.write_message(&message).unwrap(), message.len());
                }
            });
        }
    });
}

/// Reads in two threads until the pipe ends. Returns what each thread has read.
fn read_all(pipe: &PipeStream) -> Vec<Vec<(u32, u32)>> {
    let read = || {
        let mut buf = vec![0; 100_000];
        let mut got = Vec::new();
        loop {
            match pipe.read_message(&mut buf) {
                // The writer was killed when a part of it had been read.
                Ok(read) if read.more => assert_ne!(writer_of(&buf), 0),
                Ok(read) => got.push(parse(&buf[..read.len])),
                Err(error) => {
                    assert_eq!(code::<()>(Err(error)), 109);
                    return got;
                }
            }
        }
    };
    thread::scope(|scope| {
        let threads = [scope.spawn(read), scope.spawn(read)];
        threads.map(|thread| thread.join().unwrap()).into()
    })
}

#[test]
fn nothing_is_lost_doubled_or_torn_between_two_processes_at_each_end() {
    Scenario::new(this_test!())
        .role("writer", || {
            let client = NamedPipeClient::from_parts(inherited()).unwrap();
            say("here");
            hear();
            write_all(&client, [2, 3]);
        })
        .role("reader", || {
            let server = NamedPipeServer::from_parts(inherited()).unwrap();
            say("here");
            for got in read_all(&server) {
                let words = got
                    .iter()
                    .map(|(writer, number)| format!("{writer}:{number}"));
                say(words.collect::<Vec<_>>().join(" "));
            }
        })
        .run(|stage| {
            for quota in [0, 300, 65536] {
                let (server, client) = pair("load", quota);
                let mut reader = start(stage, "reader", server.share().unwrap());
                let mut writer = start(stage, "writer", client.share().unwrap());
                reader.expect("here");
                writer.expect("here");
                writer.say("go");
                let mut all = thread::scope(|scope| {
                    scope.spawn(|| {
                        write_all(&client, [0, 1]);
                        drop(client);
                    });
                    read_all(&server)
                });
                for _ in 0..2 {
                    let line = reader.hear();
                    let words = line.split_whitespace();
                    let pairs = words.map(|word| {
                        let (writer, number) = word.split_once(':').unwrap();
                        (writer.parse().unwrap(), number.parse().unwrap())
                    });
                    all.push(pairs.collect());
                }
                for got in &all {
                    let mut last = HashMap::new();
                    for (writer, number) in got {
                        let before = last.insert(writer, number);
                        assert!(before.is_none_or(|before| before < number), "out of order");
                    }
                }
                let mut all = all.concat();
                all.sort_unstable();
                let wanted = (0..4).flat_map(|writer| (0..EACH).map(move |n| (writer, n)));
                assert!(all == wanted.collect::<Vec<_>>(), "quota {quota}");
                writer.finish();
                reader.finish();
            }
        });
}

const ROUNDS: u32 = 25;

/// Lets a moment pass that is different each time.
fn dawdle(random: &mut Random) {
    thread::park_timeout(Duration::from_micros(random.below(4000)));
}

#[test]
fn writers_that_are_killed_leave_whole_messages_and_an_exact_quota() {
    const QUOTA: u32 = 300;
    Scenario::new(this_test!())
        .role("writer", || {
            let client = NamedPipeClient::from_parts(inherited()).unwrap();
            let id: u32 = hear().parse().unwrap();
            for number in 0.. {
                client.write_message(&message(id, number)).unwrap();
                say(number);
            }
        })
        .run(|stage| {
            let (server, client) = pair("writers", QUOTA);
            let got = Mutex::new(Vec::new());
            let is_over = AtomicBool::new(false);
            let mut completed = Vec::new();
            let mut random = Random(11);
            thread::scope(|scope| {
                scope.spawn(|| got.lock().unwrap().extend(read_all(&server).concat()));
                let (own, is_over) = (client.clone(), &is_over);
                let mine = scope.spawn(move || {
                    let numbers = (0..).take_while(|_| !is_over.load(Ordering::Relaxed));
                    let write = |n| own.write_message(&message(0, n)).unwrap();
                    numbers.map(write).fold(0, |count, _| count + 1)
                });
                for round in 1..=ROUNDS {
                    let mut child = start(stage, "writer", client.share().unwrap());
                    child.say(&round.to_string());
                    child.expect("0");
                    dawdle(&mut random);
                    completed.push((round, child.kill_and_hear()));
                }
                is_over.store(true, Ordering::Relaxed);
                completed.push((0, Some(mine.join().unwrap() - 1)));
                drop(client);
            });
            let got = got.into_inner().unwrap();
            let mut by_writer: HashMap<u32, Vec<u32>> = HashMap::new();
            for (writer, number) in got {
                by_writer.entry(writer).or_default().push(number);
            }
            for (writer, last) in completed {
                let numbers = by_writer.get_mut(&writer).unwrap();
                numbers.sort_unstable();
                let count = numbers.len() as u32;
                assert!(
                    numbers.iter().copied().eq(0..count),
                    "{writer}: lost or doubled in {numbers:?}"
                );
                // One more may have completed that it had no time to tell of.
                let told = last.unwrap_or(0) + 1;
                assert!(
                    (told..=told + 1).contains(&count),
                    "{writer}: {told} {count}"
                );
            }
        });
}

#[test]
fn the_quota_is_exact_after_many_deaths() {
    const QUOTA: u32 = 300;
    Scenario::new(this_test!())
        .role("writer", || {
            let client = NamedPipeClient::from_parts(inherited()).unwrap();
            say("here");
            thread::scope(|scope| {
                for len in [1, 100, 301, 50_000, 200_000] {
                    let client = &client;
                    scope.spawn(move || {
                        loop {
                            client.write_message(&vec![7; len]).unwrap();
                        }
                    });
                }
            });
        })
        .run(|stage| {
            let (server, client) = pair("quota", QUOTA);
            let mut random = Random(5);
            let mut buf = vec![0; 300_000];
            for _ in 0..ROUNDS {
                let mut child = start(stage, "writer", client.share().unwrap());
                child.expect("here");
                for _ in 0..random.below(20) {
                    let len = 1 + random.below(250_000) as usize;
                    server.read_message(&mut buf[..len]).unwrap();
                }
                dawdle(&mut random);
                child.kill();
                // Behind all that it had completed; what had not vanishes.
                client.set_write_timeout(None).unwrap();
                thread::scope(|scope| {
                    scope.spawn(|| client.write_message(b"probe").unwrap());
                    let is_probe = |buf: &mut [u8]| {
                        let read = server.read_message(buf).unwrap();
                        &buf[..read.len] == b"probe"
                    };
                    while !is_probe(&mut buf) {}
                });
                assert_eq!(server.peek(&mut []).unwrap().messages, 0);
                client.write_message(&[1; QUOTA as usize]).unwrap();
                let brief = Some(Duration::from_millis(2));
                client.set_write_timeout(brief).unwrap();
                assert_eq!(code(client.write_message(b"x")), 121);
                assert_eq!(server.read_message(&mut buf).unwrap().len, QUOTA as usize);
            }
        });
}

#[test]
fn readers_that_are_killed_take_only_what_they_have_read() {
    Scenario::new(this_test!())
        .role("reader", || {
            let server = NamedPipeServer::from_parts(inherited()).unwrap();
            say("here");
            let mut buf = vec![0; 100_000];
            loop {
                let read = server.read_message(&mut buf).unwrap();
                assert!(!read.more);
                say(parse(&buf[..read.len]).1);
            }
        })
        .run(|stage| {
            let (server, client) = pair("readers", 300);
            let mut random = Random(3);
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                let is_over = &is_over;
                let written = scope.spawn(move || {
                    let numbers = (0..).take_while(|_| !is_over.load(Ordering::Relaxed));
                    let write = |n| client.write_message(&message(0, n)).unwrap();
                    let count = numbers.map(write).fold(0, |count, _| count + 1);
                    drop(client);
                    count
                });
                let mine = scope.spawn(|| read_all(&server));
                let mut theirs = Vec::new();
                for _ in 0..ROUNDS {
                    let mut child = start(stage, "reader", server.share().unwrap());
                    child.expect("here");
                    dawdle(&mut random);
                    theirs.extend(child.kill_and_hear_all());
                }
                is_over.store(true, Ordering::Relaxed);
                let mut all: Vec<u32> = mine.join().unwrap().concat().iter().map(|m| m.1).collect();
                all.extend(&theirs);
                all.sort_unstable();
                let count = all.len();
                all.dedup();
                assert_eq!(all.len(), count, "something was read twice");
                // Each of the dead may have taken one message that it had no time to tell of.
                let written = written.join().unwrap();
                assert!(count as u32 <= written && written - count as u32 <= ROUNDS);
            });
        });
}
