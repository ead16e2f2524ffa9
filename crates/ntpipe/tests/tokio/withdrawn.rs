//! What the tasks of a reader make of messages that their writer took back, or never finished.

use std::cell::Cell;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ntpipe::IoErrorExt;
use ntpipe::tokio::{ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::support::{
    PATIENCE, code, in_both_runtimes, messages, name, pattern, poll_once, put_to_sleep, would_block,
};

/// More than the rings of these pipes hold.
const LARGE: usize = 3 << 20;

/// A message of which the server's task has a part. The client's tasks run only when they are told
/// to.
struct Halfway {
    tasks: Runtime,
    server: NamedPipeServer,
    writing: Runtime,
    client: NamedPipeClient,
    kept: usize,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

impl Halfway {
    /// If it is `refilled` there is more of it in the pipe.
    fn new(refilled: bool) -> Self {
        let (tasks, writing, name) = (runtime(), runtime(), name());
        let mut options = ServerOptions::new();
        options.pipe_mode(PipeMode::Message);
        let server = tasks.block_on(async { options.create(&name).unwrap() });
        let client = writing.block_on(async { ClientOptions::new().open(&name).unwrap() });
        client.set_read_mode(PipeMode::Message).unwrap();
        tasks.block_on(server.connect()).unwrap();
        client.try_write(&pattern(LARGE)).unwrap();
        assert!(would_block(server.try_read(&mut vec![0; LARGE])));
        let kept = poll_once(pin!(server.peek(&mut vec![0; LARGE])).as_mut());
        let Poll::Ready(Ok(kept)) = kept else {
            panic!("{kept:?}");
        };
        if refilled {
            for _ in 0..10 {
                writing.block_on(tokio::task::yield_now());
            }
        }
        let halfway = Self {
            tasks,
            server,
            writing,
            client,
            kept: kept.len,
        };
        assert_eq!(halfway.peeked() > halfway.kept, refilled);
        halfway
    }

    /// How much of the message a peek finds.
    fn peeked(&self) -> usize {
        let mut buf = vec![0; LARGE];
        let Poll::Ready(peek) = poll_once(pin!(self.server.peek(&mut buf)).as_mut()) else {
            panic!("it never waits");
        };
        peek.unwrap().len
    }

    /// The client takes the rest back; it stays connected.
    fn take_back(self) -> (Runtime, NamedPipeServer, NamedPipeClient) {
        // An accepted message goes with its runtime.
        drop(self.writing);
        (self.tasks, self.server, self.client)
    }
}

/// The kinds of reads, in message mode; the end is 0.
const READS: [fn(&mut NamedPipeServer) -> io::Result<usize>; 5] = [
    |server| server.try_read(&mut vec![0; LARGE]),
    |server| server.try_read_buf(&mut Vec::with_capacity(LARGE)),
    |server| {
        let (mut one, mut two) = (vec![0; 10], vec![0; LARGE]);
        server.try_read_vectored(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)])
    },
    |server| {
        let mut memory = vec![MaybeUninit::uninit(); LARGE];
        let mut buf = ReadBuf::uninit(&mut memory);
        let cx = &mut Context::from_waker(Waker::noop());
        match Pin::new(server).poll_read(cx, &mut buf) {
            Poll::Ready(read) => read.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    },
    |server| {
        let mut buf = vec![0; LARGE];
        match poll_once(pin!(server.read_message(&mut buf)).as_mut()) {
            Poll::Ready(Err(error)) if error.win32_code() == Some(109) => Ok(0),
            Poll::Ready(read) => read.map(|read| {
                assert_eq!(read.more, read.len > 0);
                read.len
            }),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    },
];

in_both_runtimes! {
    async fn readiness_lets_go_of_what_was_taken_back() {
        let (server, client) = messages(65_536);
        server.connect().await.unwrap();
        let client = client.into_blocking();
        client.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(code(client.write_message(&pattern(LARGE))), 121);
        client.set_write_timeout(None).unwrap();
        // There is no room for any of this: the ring is full of what was taken back.
        let writing = std::thread::spawn(move || client.write_message(&pattern(LARGE)));
        let mut buf = vec![0; LARGE];
        let read = loop {
            server.readable().await.unwrap();
            match server.try_read(&mut buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => break read.unwrap(),
            }
        };
        assert!(read == LARGE && buf == pattern(LARGE));
        assert_eq!(writing.join().unwrap().unwrap(), LARGE);
    }
}

#[test]
fn the_beginning_of_a_message_that_was_never_written_is_in_no_read() {
    for refilled in [false, true] {
        for read in READS {
            let mut halfway = Halfway::new(refilled);
            let _context = halfway.tasks.enter();
            let closing = halfway.client.try_clone().unwrap().into_blocking();
            closing.close();
            assert!(poll_once(pin!(halfway.server.readable()).as_mut()).is_ready());
            for _ in 0..2 {
                assert_eq!(read(&mut halfway.server).unwrap(), 0);
            }
        }
    }
}

#[test]
fn what_was_read_of_a_message_before_it_was_taken_back_is_told_at_once() {
    for refilled in [false, true] {
        for read in READS {
            let halfway = Halfway::new(refilled);
            let kept = halfway.kept;
            let (tasks, mut server, _client) = halfway.take_back();
            tasks.block_on(async {
                timeout(PATIENCE, server.readable()).await.unwrap().unwrap();
                let peek = server.peek(&mut []).await.unwrap();
                let all = kept as u64;
                assert_eq!((peek.available, peek.left, peek.messages), (all, all, 1));
                assert_eq!(read(&mut server).unwrap(), kept);
                put_to_sleep(pin!(server.readable()).as_mut());
                // Nothing is unread.
                let mut reply = [0; 8];
                put_to_sleep(pin!(server.transact(b"ask", &mut reply)).as_mut());
            });
        }
    }
}

#[test]
fn a_task_that_waits_for_the_rest_of_a_message_learns_that_there_is_none() {
    for refilled in [false, true] {
        let halfway = Halfway::new(refilled);
        let kept = halfway.kept;
        let server = halfway
            .tasks
            .block_on(async { halfway.server.try_clone().unwrap() });
        let mut readable = pin!(server.readable());
        let mut buf = vec![0; LARGE];
        // One that is not content with a part.
        let is_content = Cell::new(false);
        let operation = || match is_content.get() {
            true => server.try_read(&mut buf),
            false => Err(io::ErrorKind::WouldBlock.into()),
        };
        let mut read = pin!(server.async_io(Interest::READABLE, operation));
        halfway.tasks.block_on(async {
            put_to_sleep(read.as_mut());
            put_to_sleep(readable.as_mut());
        });
        is_content.set(true);
        drop(halfway.writing);
        halfway.tasks.block_on(async {
            timeout(PATIENCE, readable).await.unwrap().unwrap();
            assert_eq!(timeout(PATIENCE, read).await.unwrap().unwrap(), kept);
        });
    }
}

#[test]
fn what_was_found_wanting_as_a_message_may_do_as_bytes() {
    let halfway = Halfway::new(true);
    let server = &halfway.server;
    let mut buf = [0; 8];
    let operation = || match server.read_mode() == PipeMode::Byte {
        true => server.try_read(&mut buf),
        false => Err(io::ErrorKind::WouldBlock.into()),
    };
    let mut read = pin!(server.async_io(Interest::READABLE, operation));
    halfway.tasks.block_on(async {
        put_to_sleep(read.as_mut());
        server.set_read_mode(PipeMode::Byte).unwrap();
        assert_eq!(timeout(PATIENCE, read).await.unwrap().unwrap(), 8);
    });
}
