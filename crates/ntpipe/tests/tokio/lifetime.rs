//! Ends that outlive their runtime, or change it.

use std::pin::pin;
use std::task::Poll;
use std::thread;

use ntpipe::tokio::{NamedPipeClient, NamedPipeServer, PipeMode};
use tokio::runtime::{Builder, Runtime};

use crate::support::{
    PATIENCE, Wakes, code, messages, pattern, poll_once, put_to_sleep, would_block,
};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A connected pair with small buffers.
fn connected(runtime: &Runtime) -> (NamedPipeServer, NamedPipeClient) {
    runtime.block_on(async {
        let (server, client) = messages(10);
        server.connect().await.unwrap();
        (server, client)
    })
}

#[test]
fn ends_outlive_their_runtime() {
    let first = runtime();
    let (server, client) = connected(&first);
    // Both have been watched.
    first.block_on(async {
        put_to_sleep(pin!(server.readable()).as_mut());
        put_to_sleep(pin!(client.readable()).as_mut());
    });
    drop(first);
    client.try_write(b"still").unwrap();
    let mut buf = [0; 20];
    assert_eq!(server.try_read(&mut buf).unwrap(), 5);
    drop(server);
    assert_eq!(client.try_read(&mut buf).unwrap(), 0);
    assert_eq!(code(client.try_write(b"x")), 232);
}

#[test]
fn an_accepted_message_goes_with_its_runtime_and_not_half() {
    let first = runtime();
    let (server, client) = connected(&first);
    let sent = pattern(3 << 20);
    let server = server.into_blocking();
    first.block_on(async { client.try_write(&sent).unwrap() });
    drop(first);
    // What had not been taken is taken back; what comes next is whole.
    client.try_write(b"next").unwrap();
    let mut buf = [0; 20];
    let read = server.read_message(&mut buf).unwrap();
    assert_eq!((&buf[..read.len], read.more), (&b"next"[..], false));
}

#[test]
fn tasks_and_threads_take_turns_at_an_end() {
    let first = runtime();
    let (server, client) = connected(&first);
    let server = server.into_blocking();
    let thread = thread::spawn(move || {
        let mut buf = [0; 20];
        let read = server.read_message(&mut buf).unwrap();
        server.write_message(&buf[..read.len]).unwrap();
        server
    });
    first.block_on(async {
        let mut reply = [0; 20];
        let read = client.transact(b"once", &mut reply).await.unwrap();
        assert_eq!(&reply[..read.len], b"once");
    });
    let server = thread.join().unwrap();
    // Another runtime.
    let client = client.into_blocking();
    drop(first);
    NamedPipeClient::from_blocking(client.clone()).unwrap_err();
    let second = runtime();
    second.block_on(async {
        let server = NamedPipeServer::from_blocking(server).unwrap();
        let client = NamedPipeClient::from_blocking(client).unwrap();
        let mut buf = [0; 20];
        let (read, wrote) = tokio::join!(
            server.read_message(&mut buf),
            client.write_message(b"twice")
        );
        wrote.unwrap();
        assert_eq!(&buf[..read.unwrap().len], b"twice");
    });
}

#[test]
fn two_handles_of_one_end_are_watched_by_one_runtime() {
    let runtime = runtime();
    let (server, client) = connected(&runtime);
    runtime.block_on(async {
        let other = NamedPipeServer::from_blocking(server.into_blocking()).unwrap();
        let blocking = other.into_blocking();
        let one = NamedPipeServer::from_blocking(blocking.clone()).unwrap();
        let two = NamedPipeServer::from_blocking(blocking).unwrap();
        let (mut a, mut b) = ([0; 4], [0; 4]);
        let mut first = pin!(one.read_message(&mut a));
        put_to_sleep(first.as_mut());
        let mut second = pin!(two.read_message(&mut b));
        put_to_sleep(second.as_mut());
        client.write_message(b"a").await.unwrap();
        client.write_message(b"b").await.unwrap();
        assert_eq!(first.await.unwrap().len + second.await.unwrap().len, 2);
    });
}

#[test]
fn an_end_dropped_in_a_task_that_never_ran_is_no_trouble() {
    let runtime = runtime();
    let (server, client) = connected(&runtime);
    runtime.spawn(async move { server.readable().await });
    drop(runtime);
    assert_eq!(client.try_read(&mut [0; 4]).unwrap(), 0);
}

#[test]
fn what_one_handle_hears_of_an_end_the_other_hears_too() {
    let runtime = runtime();
    let (server, client) = connected(&runtime);
    let server = server.into_blocking();
    let inside = runtime.enter();
    let reader = NamedPipeServer::from_blocking(server.clone()).unwrap();
    let writer = NamedPipeServer::from_blocking(server).unwrap();
    drop(inside);
    let mut buf = [0; 20];
    writer.try_write(&[0; 10]).unwrap();
    // Both are watched, and both are told of a ring that neither has taken yet.
    put_to_sleep(pin!(reader.readable()).as_mut());
    put_to_sleep(pin!(writer.writable()).as_mut());
    let told = |wakes: &Wakes| {
        runtime.block_on(async {
            let told = async {
                while wakes.count() == 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, told).await.unwrap();
        });
    };
    let mut readable = Box::pin(reader.readable());
    let wakes = put_to_sleep(readable.as_mut());
    client.try_write(b"first").unwrap();
    told(&wakes);
    assert_eq!(reader.try_read(&mut buf).unwrap(), 5);
    // One sleeps, the next ring comes, and the other takes it before it goes to sleep.
    let mut readable = Box::pin(reader.readable());
    let wakes = put_to_sleep(readable.as_mut());
    client.try_write(b"second").unwrap();
    let mut writable = Box::pin(writer.writable());
    put_to_sleep(writable.as_mut());
    told(&wakes);
    assert_eq!(reader.try_read(&mut buf).unwrap(), 6);
}

#[test]
fn a_runtime_that_watches_no_descriptors_is_an_error_and_no_panic() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let (server, client) = connected(&runtime);
    runtime.block_on(async {
        server.readable().await.unwrap_err();
        client.write_message(b"x").await.unwrap();
        assert_eq!(server.try_read(&mut [0; 4]).unwrap(), 1);
        server.read_message(&mut [0; 4]).await.unwrap_err();
    });
}

#[test]
fn a_message_that_no_runtime_can_go_on_with_is_refused() {
    let gone = runtime();
    let (server, client) = connected(&gone);
    gone.block_on(async { put_to_sleep(pin!(client.readable()).as_mut()) });
    let (other_server, other) = connected(&gone);
    drop(gone);
    let threads = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (last_server, last) = connected(&threads);
    drop(threads);
    let without_io = Builder::new_current_thread().build().unwrap();
    let (blind_server, blind) = connected(&without_io);
    let _inside = without_io.enter();
    let large = pattern(200_000);
    let mut reply = [0; 20];
    for (server, client, why) in [
        (server, client, 995),
        (other_server, other, 995),
        (last_server, last, 995),
        (blind_server, blind, 50),
    ] {
        assert_eq!(code(client.try_write(&large)), why);
        let mut write = pin!(client.write_message(&large));
        match poll_once(write.as_mut()) {
            Poll::Ready(written) => assert_eq!(code(written), why),
            Poll::Pending => panic!("it waits"),
        }
        let mut ask = pin!(client.transact(&large, &mut reply));
        assert!(poll_once(ask.as_mut()).is_ready());
        // Nothing of it is there, and what comes next is whole.
        client.try_write(b"next").unwrap();
        let mut buf = [0; 20];
        assert_eq!(server.try_read(&mut buf).unwrap(), 4);
        assert_eq!(&buf[..4], b"next");
        server.set_read_mode(PipeMode::Byte).unwrap();
        assert!(would_block(server.try_read(&mut buf)));
    }
}

#[test]
fn what_is_kept_of_a_message_can_be_read_as_bytes() {
    let runtime = runtime();
    let (server, client) = connected(&runtime);
    let sent = pattern(3 << 20);
    // The runtime stands still, and with it the rest of the message.
    client.try_write(&sent).unwrap();
    let mut all = vec![0; sent.len()];
    assert!(would_block(server.try_read(&mut all)));
    let mut readable = pin!(server.readable());
    let wakes = put_to_sleep(readable.as_mut());
    server.set_read_mode(PipeMode::Byte).unwrap();
    assert!(wakes.count() > 0);
    assert!(poll_once(readable.as_mut()).is_ready());
    let len = server.try_read(&mut all).unwrap();
    assert!(len > 0 && all[..len] == sent[..len]);
}
