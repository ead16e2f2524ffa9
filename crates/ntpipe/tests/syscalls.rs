//! While both sides run, a message costs no system call: the kernel kills who makes one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use std::hint::spin_loop;
use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;

use ntpipe::{ClientOptions, PipeMode, PipeStream, ServerOptions};

mod support;
use support::seccomp::{Action, SPEECH, filter, say_and_wait};
use support::{PIPE, Scenario, hear, others_sleep, say, this_test};

const MESSAGES: u64 = 20_000;
/// These tests never give way to each other: one at a time.
static TURN: Mutex<()> = Mutex::new(());
/// Room for all of them.
const QUOTA: u32 = 1 << 20;

fn options(mode: PipeMode) -> ServerOptions {
    let mut options = ServerOptions::new();
    options.pipe_mode(mode);
    options.in_buffer_size(QUOTA).out_buffer_size(QUOTA);
    options
}

fn open(mode: PipeMode) -> ntpipe::NamedPipeClient {
    ClientOptions::new().pipe_mode(mode).open(PIPE).unwrap()
}

/// From here on a system call is the last one. The service thread is to be asleep in its own.
fn forbid_all() {
    others_sleep();
    filter(Action::Kill, &SPEECH);
}

fn number(n: u64) -> [u8; 32] {
    let mut message = [0; 32];
    message[..8].copy_from_slice(&n.to_le_bytes());
    message
}

/// Reads `count` messages from this number on, once they are there: looks again and again.
fn read_numbers(pipe: &PipeStream, from: u64, count: u64) {
    let mut buf = [0; 32];
    let mut next = from;
    while next < from + count {
        let there = pipe.peek(&mut []).unwrap().available / 32;
        if there == 0 {
            spin_loop();
        }
        for n in next..next + there {
            let read = pipe.read_message(&mut buf).unwrap();
            assert!(read.len == 32 && !read.more && buf == number(n));
        }
        next += there;
    }
}

fn write_all(pipe: &PipeStream) {
    for n in 0..MESSAGES {
        assert_eq!(pipe.write_message(&number(n)).unwrap(), 32);
    }
}

#[test]
fn a_process_that_writes_and_one_that_reads_make_no_system_call() {
    let _turn = TURN.lock();
    Scenario::new(this_test!())
        .role("reader", || {
            let server = options(PipeMode::Message).create(PIPE).unwrap();
            say("up");
            server.connect().unwrap();
            say("in");
            assert_eq!(hear(), "go");
            forbid_all();
            read_numbers(&server, 0, MESSAGES);
            say_and_wait("read");
        })
        .role("writer", || {
            let client = open(PipeMode::Message);
            say("in");
            assert_eq!(hear(), "go");
            forbid_all();
            write_all(&client);
            say_and_wait("written");
        })
        .run(|stage| {
            let mut reader = stage.start("reader");
            reader.expect("up");
            let mut writer = stage.start("writer");
            writer.expect("in");
            reader.expect("in");
            reader.say("go");
            writer.say("go");
            writer.expect("written");
            reader.expect("read");
        });
}

#[test]
fn two_processes_that_play_ping_pong_make_no_system_call() {
    // Where more runs than there are CPUs each takes as long as a turn of the scheduler.
    const ROUNDS: u64 = 100;
    let _turn = TURN.lock();
    Scenario::new(this_test!())
        .role("server", || {
            let server = options(PipeMode::Byte).create(PIPE).unwrap();
            say("up");
            server.connect().unwrap();
            say("in");
            assert_eq!(hear(), "go");
            forbid_all();
            for n in 0..ROUNDS {
                read_numbers(&server, n, 1);
                server.write_message(&number(n)).unwrap();
            }
            say_and_wait("done");
        })
        .role("client", || {
            let client = open(PipeMode::Byte);
            say("in");
            assert_eq!(hear(), "go");
            forbid_all();
            for n in 0..ROUNDS {
                client.write_message(&number(n)).unwrap();
                read_numbers(&client, n, 1);
            }
            say_and_wait("done");
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            let mut client = stage.start("client");
            client.expect("in");
            server.expect("in");
            server.say("go");
            client.say("go");
            client.expect("done");
            server.expect("done");
        });
}

#[test]
fn both_ends_in_one_process_make_no_system_call() {
    let _turn = TURN.lock();
    Scenario::new(this_test!())
        .role("alone", || {
            let mode = match hear().as_str() {
                "byte" => PipeMode::Byte,
                _ => PipeMode::Message,
            };
            let server = options(mode).create(PIPE).unwrap();
            let client = open(mode);
            server.connect().unwrap();
            forbid_all();
            for n in 0..MESSAGES {
                client.write_message(&number(n)).unwrap();
                read_numbers(&server, n, 1);
                server.write_message(&number(n)).unwrap();
                read_numbers(&client, n, 1);
            }
            write_all(&server);
            read_numbers(&client, 0, MESSAGES);
            say_and_wait("done");
        })
        .run(|stage| {
            for mode in ["byte", "message"] {
                let mut alone = stage.start("alone");
                alone.say(mode);
                alone.expect("done");
            }
        });
}

#[test]
fn a_process_that_has_to_sleep_is_caught_by_the_same_filter() {
    let _turn = TURN.lock();
    Scenario::new(this_test!())
        .role("sleeper", || {
            let server = options(PipeMode::Byte).create(PIPE).unwrap();
            let _client = open(PipeMode::Byte);
            server.connect().unwrap();
            say("in");
            forbid_all();
            let _ = server.read_message(&mut [0; 32]);
            say_and_wait("not caught");
        })
        .run(|stage| {
            let mut sleeper = stage.start("sleeper");
            sleeper.expect("in");
            assert_eq!(sleeper.status().signal(), Some(libc::SIGSYS));
        });
}
