//! Threads that read at an end where a task waits for the reply of its transaction.

use std::io;
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use ntpipe::tokio::{NamedPipeClient, NamedPipeServer};
use ntpipe::{Canceller, ReadInfo};
use tokio::runtime::{Builder, Runtime};

use crate::support::{
    PATIENCE, code, in_both_runtimes, messages, pattern, poll_once, put_to_sleep,
};

/// Their end as threads use it.
type Thread = ntpipe::NamedPipeClient;

const QUOTA: u32 = 64;

/// What a thread has read.
type Told = Receiver<(io::Result<ReadInfo>, Vec<u8>)>;

/// A client that waits for the reply of its transaction, of which the beginning has come: the runtime
/// stands still, and with it the rest.
struct Halfway {
    runtime: Runtime,
    server: NamedPipeServer,
    client: NamedPipeClient,
    sent: Vec<u8>,
}

impl Halfway {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (server, client) = runtime.block_on(async { messages(QUOTA) });
        runtime.block_on(server.connect()).unwrap();
        let sent = pattern(3 << 20);
        Self {
            runtime,
            server,
            client,
            sent,
        }
    }

    /// The same end for a thread.
    fn thread(&self) -> Thread {
        let clone = self.runtime.block_on(async { self.client.try_clone() });
        clone.unwrap().into_blocking()
    }

    /// Begins a transaction, and then its reply. Threads come between.
    fn begin(&self, transact: Pin<&mut impl Future>, between: impl FnOnce()) {
        let mut transact = transact;
        self.runtime
            .block_on(async { put_to_sleep(transact.as_mut()) });
        between();
        self.server.try_write(&self.sent).unwrap();
        assert!(poll_once(transact).is_pending());
    }
}

/// A thread reads, and waits when this returns.
fn reads(client: Thread, room: usize, server: &NamedPipeServer) -> Told {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut buf = vec![0; room];
        let read = client.read_message(&mut buf);
        drop(tell.send((read, buf)));
    });
    // What it has room for takes of the quota.
    while server.local_info().unwrap().write_quota_available == QUOTA {
        thread::yield_now();
    }
    told
}

/// Waits for what a thread has read, while tasks run.
async fn hear(told: Told) -> (io::Result<ReadInfo>, Vec<u8>) {
    let hear = move || told.recv_timeout(PATIENCE).unwrap();
    tokio::task::spawn_blocking(hear).await.unwrap()
}

in_both_runtimes! {
    async fn a_thread_does_not_take_the_reply_of_a_task() {
        let (server, client) = messages(QUOTA);
        server.connect().await.unwrap();
        let threads = client.try_clone().unwrap().into_blocking();
        let mut reply = [0; 8];
        let mut transact = Box::pin(client.transact(b"ask", &mut reply));
        put_to_sleep(transact.as_mut());
        server.write_message(b"reply").await.unwrap();
        threads.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(code(threads.read_message(&mut [0; 8])), 121);
        assert_eq!(transact.await.unwrap().len, 5);
        assert_eq!(&reply[..5], b"reply");
        server.write_message(b"next").await.unwrap();
        assert_eq!(threads.read_message(&mut [0; 8]).unwrap().len, 4);
    }

    async fn a_thread_that_waits_behind_a_transaction_has_the_next_message() {
        for both_at_once in [false, true] {
            let (server, client) = messages(QUOTA);
            server.connect().await.unwrap();
            let threads = client.try_clone().unwrap().into_blocking();
            let mut reply = [0; 8];
            let mut transact = Box::pin(client.transact(b"ask", &mut reply));
            put_to_sleep(transact.as_mut());
            let told = reads(threads, 8, &server);
            server.write_message(b"reply").await.unwrap();
            if both_at_once {
                server.write_message(b"next").await.unwrap();
            }
            assert_eq!(transact.await.unwrap().len, 5);
            if !both_at_once {
                server.write_message(b"next").await.unwrap();
            }
            let (read, buf) = hear(told).await;
            assert_eq!((read.unwrap().len, &buf[..4]), (4, &b"next"[..]));
            assert_eq!(&reply[..5], b"reply");
        }
    }

    async fn a_thread_behind_a_transaction_is_cancelled_with_nothing() {
        let (server, client) = messages(QUOTA);
        server.connect().await.unwrap();
        let threads = client.try_clone().unwrap().into_blocking();
        let mut reply = [0; 8];
        let mut transact = Box::pin(client.transact(b"ask", &mut reply));
        put_to_sleep(transact.as_mut());
        let told = reads(threads, 8, &server);
        server.write_message(b"reply").await.unwrap();
        client.cancel_io().unwrap();
        assert_eq!(code(hear(told).await.0), 995);
        assert_eq!(code(transact.await), 995);
        assert_eq!(client.read_message(&mut reply).await.unwrap().len, 5);
    }

    async fn a_thread_begins_no_transaction_where_a_task_reads() {
        let (server, client) = messages(QUOTA);
        server.connect().await.unwrap();
        let threads = client.try_clone().unwrap().into_blocking();
        threads.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buf = [0; 8];
        let mut transact = Box::pin(client.transact(b"ask", &mut buf));
        put_to_sleep(transact.as_mut());
        assert_eq!(code(threads.transact(b"ask", &mut [0; 8])), 231);
        drop(transact);
        let mut read = Box::pin(client.read_message(&mut buf));
        put_to_sleep(read.as_mut());
        assert_eq!(code(threads.transact(b"ask", &mut [0; 8])), 231);
        drop(read);
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 3);
        // Now it does.
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut buf = vec![0; 8];
            let read = threads.transact(b"again", &mut buf);
            drop(tell.send((read, buf)));
        });
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 5);
        server.write_message(b"reply").await.unwrap();
        assert_eq!(hear(told).await.0.unwrap().len, 5);
    }
}

#[test]
fn the_only_thread_behind_a_transaction_hears_of_what_it_has() {
    let pipe = Halfway::new();
    let mut reply = vec![0; pipe.sent.len()];
    let mut transact = Box::pin(pipe.client.transact(b"ask", &mut reply));
    let mut told = None;
    pipe.begin(transact.as_mut(), || {
        told = Some(reads(pipe.thread(), 10, &pipe.server));
    });
    drop(transact);
    let (read, buf) = told.unwrap().recv_timeout(PATIENCE).unwrap();
    let read = read.unwrap();
    assert_eq!((read.len, read.more), (10, true));
    assert!(buf == pipe.sent[..10]);
}

#[test]
fn a_thread_that_gives_up_behind_a_transaction_leaves_its_reply_alone() {
    let pipe = Halfway::new();
    let mut reply = vec![0; pipe.sent.len()];
    let mut transact = Box::pin(pipe.client.transact(b"ask", &mut reply));
    let (first, second) = (pipe.thread(), pipe.thread());
    let (tell, canceller) = mpsc::channel();
    let mut behind = None;
    pipe.begin(transact.as_mut(), || {
        let one = thread::spawn(move || {
            tell.send(Canceller::current()).unwrap();
            first.read_message(&mut [0; 100])
        });
        behind = Some((one, reads(second, 4, &pipe.server)));
    });
    let (one, told) = behind.unwrap();
    let canceller = canceller.recv().unwrap();
    while !one.is_finished() {
        let _ = canceller.cancel();
        thread::yield_now();
    }
    assert_eq!(code(one.join().unwrap()), 995);
    let read = pipe.runtime.block_on(transact).unwrap();
    assert_eq!((read.len, read.more), (pipe.sent.len(), false));
    assert!(reply == pipe.sent);
    pipe.server.try_write(b"next").unwrap();
    let (read, buf) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!((read.unwrap().len, &buf[..]), (4, &b"next"[..]));
}

#[test]
fn a_transaction_whose_request_fails_leaves_what_has_come_to_the_next_read() {
    let pipe = Halfway::new();
    let client = pipe.thread();
    let large = vec![1; 9 << 20];
    let (canceller, transact) = mpsc::channel();
    let other = pipe.thread();
    let request = thread::spawn(move || {
        canceller.send(Canceller::current()).unwrap();
        other.transact(&large, &mut vec![0; 4 << 20])
    });
    let canceller = transact.recv().unwrap();
    // It waits for room for its request, and its turn for the reply.
    while pipe.server.local_info().unwrap().write_quota_available == QUOTA {
        thread::yield_now();
    }
    pipe.server.try_write(&pipe.sent).unwrap();
    while !request.is_finished() {
        let _ = canceller.cancel();
        thread::yield_now();
    }
    assert_eq!(code(request.join().unwrap()), 995);
    let read = thread::spawn(move || {
        let mut buf = vec![0; 4 << 20];
        let read = client.read_message(&mut buf);
        (read, buf)
    });
    // The rest of the message comes by and by.
    pipe.runtime.block_on(async {
        while !read.is_finished() {
            tokio::task::yield_now().await;
        }
    });
    let (read, buf) = read.join().unwrap();
    let read = read.unwrap();
    assert_eq!((read.len, read.more), (pipe.sent.len(), false));
    assert!(buf[..read.len] == pipe.sent);
}

#[test]
fn the_beginning_of_a_reply_goes_to_the_threads_with_the_rest() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let sent = pattern(3 << 20);
    for small in [0, 10] {
        let (server, client) = runtime.block_on(async { messages(QUOTA) });
        runtime.block_on(server.connect()).unwrap();
        let clone = || runtime.block_on(async { client.try_clone().unwrap() });
        let (first, second) = (clone().into_blocking(), clone().into_blocking());
        let mut reply = vec![0; sent.len()];
        let mut transact = Box::pin(client.transact(b"ask", &mut reply));
        runtime.block_on(async { put_to_sleep(transact.as_mut()) });
        let before = (small > 0).then(|| reads(first, small, &server));
        let all = reads(second, sent.len(), &server);
        // The runtime stands still, and with it the rest of the message.
        server.try_write(&sent).unwrap();
        assert!(poll_once(transact.as_mut()).is_pending());
        drop(transact);
        let (got, (read, rest)) = runtime.block_on(async {
            let mut got = Vec::new();
            if let Some(before) = before {
                let (read, buf) = hear(before).await;
                assert!(read.unwrap().more);
                got.extend(buf);
            }
            (got, hear(all).await)
        });
        let read = read.unwrap();
        assert_eq!((got.len() + read.len, read.more), (sent.len(), false));
        assert!(got == sent[..small] && rest[..read.len] == sent[small..]);
    }
}
