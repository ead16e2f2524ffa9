//! The hot paths, again and again, for whoever counts their instructions: `ci/instructions.sh`.
//!
//! `instructions PATH COUNT` takes one path COUNT times; without arguments it names the paths. Both
//! ends are in this process, and but for `transact` and `connect` no call waits for another thread,
//! so that each run counts the same.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

use std::env;
use std::hint::black_box;
use std::thread;

use ntpipe::{ClientOptions, Listener, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions};

/// What a path is called, and what takes it so many times.
type Path = (&'static str, fn(u32));

const PATHS: [Path; 9] = [
    ("byte-64", |count| exchange(PipeMode::Byte, 64, count)),
    ("byte-4096", |count| exchange(PipeMode::Byte, 4096, count)),
    ("message-64", |count| exchange(PipeMode::Message, 64, count)),
    ("message-4096", |count| {
        exchange(PipeMode::Message, 4096, count);
    }),
    ("byte-burst", |count| burst(PipeMode::Byte, count)),
    ("message-burst", |count| burst(PipeMode::Message, count)),
    ("peek", peek),
    ("transact", transact),
    ("connect", connect),
];

fn main() {
    let mut args = env::args().skip(1);
    let path = args.next();
    let Some((_, run)) = PATHS.iter().find(|(name, _)| path.as_deref() == Some(name)) else {
        PATHS.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    run(args.next().map_or(1, |count| count.parse().unwrap()));
}

/// As long in one process as in another.
fn name() -> String {
    format!(r"\\.\pipe\instructions-{:07}", std::process::id())
}

fn ends(mode: PipeMode) -> (NamedPipeServer, NamedPipeClient) {
    let mut options = ServerOptions::new();
    let server = options.pipe_mode(mode).create(name()).unwrap();
    let client = ClientOptions::new().pipe_mode(mode).open(name()).unwrap();
    server.connect().unwrap();
    (server, client)
}

/// One message there and one back.
fn exchange(mode: PipeMode, size: usize, count: u32) {
    let (server, client) = ends(mode);
    let (sent, mut received) = (vec![7; size], vec![0; size]);
    for _ in 0..count {
        assert_eq!(client.write_message(black_box(&sent)).unwrap(), size);
        assert_eq!(server.read_message(&mut received).unwrap().len, size);
        assert_eq!(server.write_message(black_box(&received)).unwrap(), size);
        assert_eq!(client.read_message(&mut received).unwrap().len, size);
    }
    assert_eq!(received, sent);
}

/// Sixteen messages of 64 bytes one way, all written before the first is read.
fn burst(mode: PipeMode, count: u32) {
    let (server, client) = ends(mode);
    let (sent, mut received) = ([7; 64], [0; 64]);
    for _ in 0..count {
        for _ in 0..16 {
            assert_eq!(client.write_message(black_box(&sent)).unwrap(), 64);
        }
        for _ in 0..16 {
            assert_eq!(server.read_message(&mut received).unwrap().len, 64);
        }
    }
    assert_eq!(received, sent);
}

/// Looks at a message that stays where it is.
fn peek(count: u32) {
    let (server, client) = ends(PipeMode::Message);
    let mut seen = [0; 64];
    client.write_message(&[7; 64]).unwrap();
    for _ in 0..count {
        assert_eq!(server.peek(black_box(&mut seen)).unwrap().available, 64);
    }
    assert_eq!(seen, [7; 64]);
}

/// A transaction of 64 bytes, answered by another thread; one of both sleeps at any time.
fn transact(count: u32) {
    let (server, client) = ends(PipeMode::Message);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut request = [0; 64];
            for _ in 0..count {
                assert_eq!(server.read_message(&mut request).unwrap().len, 64);
                server.write_message(&request).unwrap();
            }
        });
        let mut reply = [0; 64];
        for _ in 0..count {
            client.transact(black_box(&[7; 64]), &mut reply).unwrap();
            assert_eq!(reply, [7; 64]);
        }
    });
}

/// Opens a pipe, sends a message of 64 bytes there and back, and closes both ends.
fn connect(count: u32) {
    let listener = Listener::bind(name(), &ServerOptions::new()).unwrap();
    let mut received = [0; 64];
    for _ in 0..count {
        let client = ClientOptions::new().open(name()).unwrap();
        let server = listener.accept().unwrap();
        client.write_message(black_box(&[7; 64])).unwrap();
        assert_eq!(server.read_message(&mut received).unwrap().len, 64);
        server.write_message(&received).unwrap();
        assert_eq!(client.read_message(&mut received).unwrap().len, 64);
    }
}
