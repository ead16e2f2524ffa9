//! What a read leaves that is given up in the middle of a message.

use ntpipe::PipeMode;
use ntpipe::tokio::NamedPipeServer;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

use crate::support::{PATIENCE, code, messages, pattern};

/// A read has taken the beginning of a message, and has run out of time: the runtime with the rest
/// stands still.
struct GivenUp {
    runtime: Runtime,
    server: NamedPipeServer,
    client: ntpipe::NamedPipeClient,
    sent: Vec<u8>,
    /// How much it has taken.
    taken: usize,
}

impl GivenUp {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (server, client) = runtime.block_on(async { messages(64) });
        runtime.block_on(server.connect()).unwrap();
        let client = client.into_blocking();
        let sent = pattern(3 << 20);
        server.try_write(&sent).unwrap();
        let mut buf = vec![0; sent.len()];
        let brief = Duration::from_millis(1);
        client.set_read_timeout(Some(brief)).unwrap();
        assert_eq!(code(client.read_message(&mut buf)), 121);
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let taken = client.peek(&mut buf).unwrap().len;
        assert!(taken > 0 && buf[..taken] == sent[..taken]);
        Self {
            runtime,
            server,
            client,
            sent,
            taken,
        }
    }
}

#[test]
fn a_peek_keeps_the_message_behind_it_apart() {
    let pipe = GivenUp::new();
    let writer = pipe.runtime.block_on(async { pipe.server.try_clone() });
    let writer = writer.unwrap().into_blocking();
    // Nobody goes on with the rest: it is taken back.
    drop(pipe.runtime);
    writer.write_message(b"xyz!").unwrap();
    let mut buf = vec![0; pipe.sent.len()];
    let peek = pipe.client.peek(&mut buf).unwrap();
    assert_eq!((peek.len, peek.left, peek.messages), (pipe.taken, 0, 2));
    assert_eq!(peek.available, pipe.taken as u64 + 4);
    let read = pipe.client.read_message(&mut buf).unwrap();
    assert_eq!((read.len, read.more), (pipe.taken, true));
    let read = pipe.client.read_message(&mut buf).unwrap();
    assert_eq!((&buf[..read.len], read.more), (&b"xyz!"[..], false));
}

#[test]
fn a_message_that_was_never_written_whole_is_in_no_read_and_no_peek() {
    for room in [30_000, 1 << 22] {
        let pipe = GivenUp::new();
        let writer = pipe.runtime.block_on(async { pipe.server.try_clone() });
        // As if its process had died: the rest is never taken back.
        std::mem::forget(pipe.runtime);
        writer.unwrap().into_blocking().close();
        drop(pipe.server);
        assert_eq!(code(pipe.client.peek(&mut [])), 109);
        assert_eq!(code(pipe.client.read_message(&mut vec![0; room])), 109);
    }
}

#[test]
fn a_read_of_bytes_goes_on_with_what_has_come_since() {
    let pipe = GivenUp::new();
    pipe.client.set_read_mode(PipeMode::Byte).unwrap();
    let mut buf = vec![0; pipe.sent.len()];
    while pipe.client.peek(&mut buf).unwrap().len == pipe.taken {
        pipe.runtime.block_on(tokio::task::yield_now());
    }
    let read = pipe.client.read_message(&mut buf).unwrap();
    assert!(read.len > pipe.taken && !read.more);
    assert!(buf[..read.len] == pipe.sent[..read.len]);
}

#[test]
fn an_end_with_the_beginning_of_a_message_is_not_shared() {
    let pipe = GivenUp::new();
    assert_eq!(code(pipe.client.share()), 50);
}
