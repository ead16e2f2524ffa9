//! Threads that read at an end where a task waits for the reply of its transaction.

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use ntpipe::ReadInfo;
use ntpipe::tokio::NamedPipeServer;
use tokio::runtime::Builder;

use crate::support::{
    PATIENCE, code, in_both_runtimes, messages, pattern, poll_once, put_to_sleep,
};

/// Their end as threads use it.
type Thread = ntpipe::NamedPipeClient;

const QUOTA: u32 = 64;

/// What a thread has read.
type Told = Receiver<(io::Result<ReadInfo>, Vec<u8>)>;

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
