//! A server in one process, its clients in others.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use std::io::{Read, Write};
use std::thread;

use ntpipe::{
    ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode, PipeStream, ServerOptions,
};

mod support;
use support::{PIPE, Random, Scenario, bytes, code, hear, say, this_test};

/// The server's end: the pipe exists, then a client is there.
fn serve(options: &ServerOptions) -> NamedPipeServer {
    let server = options.create(PIPE).unwrap();
    say("up");
    server.connect().unwrap();
    server
}

fn open(mode: PipeMode) -> NamedPipeClient {
    ClientOptions::new().pipe_mode(mode).open(PIPE).unwrap()
}

/// Runs a server and a client to their end.
fn run_both(scenario: Scenario) {
    scenario.run(|stage| {
        let mut server = stage.start("server");
        server.expect("up");
        let client = stage.start("client");
        client.finish();
        server.finish();
    });
}

const STREAM: usize = 3_000_000;

fn send_stream(pipe: &PipeStream) {
    let (data, mut random, mut at) = (bytes(0, STREAM), Random(7), 0);
    while at < STREAM {
        let end = STREAM.min(at + 1 + random.below(30_000) as usize);
        assert_eq!(pipe.write_message(&data[at..end]).unwrap(), end - at);
        at = end;
    }
}

fn receive_stream(pipe: &PipeStream) {
    let (data, mut random, mut at) = (bytes(0, STREAM), Random(9), 0);
    let mut buf = vec![0; 40_000];
    while at < STREAM {
        let want = 1 + random.below(40_000) as usize;
        let read = pipe.read_message(&mut buf[..want]).unwrap();
        assert!(!read.more && buf[..read.len] == data[at..at + read.len]);
        at += read.len;
    }
}

#[test]
fn bytes_flow_both_ways_at_once() {
    let both = |pipe: &PipeStream| {
        thread::scope(|scope| {
            scope.spawn(|| send_stream(pipe));
            receive_stream(pipe);
        });
    };
    run_both(
        Scenario::new(this_test!())
            .role("server", || both(&serve(&ServerOptions::new())))
            .role("client", || both(&open(PipeMode::Byte))),
    );
}

const MESSAGES: usize = 3000;

fn send_messages(pipe: &PipeStream, seed: u64) {
    let mut random = Random(seed);
    for n in 0..MESSAGES {
        let len = random.below(if n % 50 == 0 { 100_000 } else { 300 }) as usize;
        pipe.write_message(&bytes(n, len)).unwrap();
    }
}

fn receive_messages(pipe: &PipeStream, seed: u64) {
    let mut random = Random(seed);
    let mut buf = vec![0; 100_000];
    for n in 0..MESSAGES {
        let len = random.below(if n % 50 == 0 { 100_000 } else { 300 }) as usize;
        let read = pipe.read_message(&mut buf).unwrap();
        assert!(
            !read.more && buf[..read.len] == bytes(n, len),
            "message {n}"
        );
    }
}

#[test]
fn messages_keep_their_boundaries_both_ways_at_once() {
    let both = |pipe: &PipeStream, sent: u64, received: u64| {
        thread::scope(|scope| {
            scope.spawn(|| send_messages(pipe, sent));
            receive_messages(pipe, received);
        });
    };
    run_both(
        Scenario::new(this_test!())
            .role("server", || {
                let mut options = ServerOptions::new();
                let options = options.pipe_mode(PipeMode::Message).out_buffer_size(1000);
                both(&serve(options), 3, 5);
            })
            .role("client", || both(&open(PipeMode::Message), 5, 3)),
    );
}

const FILE: usize = 20 << 20;

#[test]
fn a_large_file_arrives_whole_and_ends() {
    run_both(
        Scenario::new(this_test!())
            .role("server", || {
                let mut server = serve(&ServerOptions::new());
                server.write_all(&bytes(0, FILE)).unwrap();
            })
            .role("client", || {
                let mut read = Vec::new();
                open(PipeMode::Byte).read_to_end(&mut read).unwrap();
                assert!(read == bytes(0, FILE));
            }),
    );
}

const LONG: usize = 1_500_000;

#[test]
fn a_message_larger_than_the_ring_is_one_message() {
    run_both(
        Scenario::new(this_test!())
            .role("server", || {
                let mut options = ServerOptions::new();
                let options = options.pipe_mode(PipeMode::Message);
                let server = serve(options.in_buffer_size(100).out_buffer_size(100));
                let mut buf = vec![0; LONG + 1];
                let read = server.read_message(&mut buf).unwrap();
                assert!(!read.more && buf[..read.len] == bytes(0, LONG));
                server.write_message(&bytes(1, LONG)).unwrap();
                server.write_message(b"next").unwrap();
                assert_eq!(code(server.read_message(&mut buf)), 109);
            })
            .role("client", || {
                let client = open(PipeMode::Message);
                client.write_message(&bytes(0, LONG)).unwrap();
                let (mut got, mut buf) = (Vec::new(), [0; 7777]);
                loop {
                    let read = client.read_message(&mut buf).unwrap();
                    got.extend_from_slice(&buf[..read.len]);
                    if !read.more {
                        break;
                    }
                    assert_eq!(read.len, buf.len());
                }
                assert!(got == bytes(1, LONG));
                let read = client.read_message(&mut buf).unwrap();
                assert_eq!((&buf[..read.len], read.more), (&b"next"[..], false));
            }),
    );
}

#[test]
fn instances_serve_several_processes_at_once_and_know_them() {
    const CLIENTS: usize = 4;
    Scenario::new(this_test!())
        .role("server", || {
            let create = |_| ServerOptions::new().create(PIPE).unwrap();
            let servers: Vec<_> = (0..CLIENTS).map(create).collect();
            say("up");
            thread::scope(|scope| {
                for mut server in servers {
                    scope.spawn(move || {
                        server.connect().unwrap();
                        assert_eq!(server.server_process_id().unwrap(), std::process::id());
                        let mut pid = [0; 4];
                        server.read_exact(&mut pid).unwrap();
                        let pid = u32::from_le_bytes(pid);
                        assert_eq!(server.client_process_id().unwrap(), pid);
                        let mut buf = vec![0; 10_000];
                        while let Ok(read @ 1..) = server.read(&mut buf) {
                            server.write_all(&buf[..read]).unwrap();
                        }
                    });
                }
            });
        })
        .role("client", || {
            let client = open(PipeMode::Byte);
            let pid = std::process::id();
            assert_eq!(client.client_process_id().unwrap(), pid);
            assert_eq!(client.server_process_id().unwrap().to_string(), hear());
            client.write_message(&pid.to_le_bytes()).unwrap();
            // All clients are there before one goes on.
            say("in");
            assert_eq!(hear(), "go");
            let mut buf = vec![0; 5000];
            for n in 0..200 {
                let data = bytes(n * pid as usize, 5000);
                client.write_message(&data).unwrap();
                (&client).read_exact(&mut buf).unwrap();
                assert!(buf == data);
            }
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            let mut clients: Vec<_> = (0..CLIENTS).map(|_| stage.start("client")).collect();
            for client in &mut clients {
                client.say(&server.id().to_string());
                client.expect("in");
            }
            for client in &mut clients {
                client.say("go");
            }
            clients.into_iter().for_each(support::Child::finish);
            server.finish();
        });
}
