//! The end of data while the end stays open.

use std::pin::pin;
use std::sync::Barrier;
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use ntpipe::tokio::ClientOptions;

use crate::support::{
    PATIENCE, bytes, code, in_both_runtimes, messages, name, poll_once, put_to_sleep, would_block,
};

in_both_runtimes! {
    async fn closing_the_writing_is_an_empty_message_and_the_last() {
        let (server, mut client) = messages(4096);
        server.connect().await.unwrap();
        client.write_message(b"all of it").await.unwrap();
        client.close_write().await.unwrap();
        assert_eq!(code(client.write_message(b"x").await), 232);
        assert_eq!(code(client.try_write(b"x")), 232);
        assert_eq!(code(client.write(b"x").await), 232);
        assert_eq!(code(client.transact(b"x", &mut [0; 4]).await), 232);
        assert_eq!(code(client.close_write().await), 232);
        let mut server = server;
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"all of it");
        // The other direction is as it was.
        server.write_all(b"thanks").await.unwrap();
        let mut buf = [0; 10];
        assert_eq!(client.read_message(&mut buf).await.unwrap().len, 6);
        drop(client);
        assert_eq!(code(server.read_message(&mut buf).await), 109);
    }

    async fn closing_the_writing_needs_no_room() {
        let (server, client) = messages(4);
        server.connect().await.unwrap();
        client.write_message(b"full").await.unwrap();
        assert!(poll_once(pin!(client.close_write()).as_mut()).is_ready());
        let mut buf = [0; 10];
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 4);
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 0);
    }

    async fn a_byte_pipe_has_no_way_to_close_its_writing() {
        let (server, client) = bytes(4096);
        server.connect().await.unwrap();
        assert_eq!(code(client.close_write().await), 50);
        client.write_message(b"x").await.unwrap();
        assert_eq!(server.read_message(&mut [0; 4]).await.unwrap().len, 1);
    }

    async fn the_next_connection_can_be_written_to_again() {
        let name = name();
        let mut options = ntpipe::tokio::ServerOptions::new();
        let server = options.pipe_mode(ntpipe::tokio::PipeMode::Message).create(&name).unwrap();
        for _ in 0..3 {
            let options = ClientOptions::new();
            let (connected, client) =
                tokio::join!(server.connect(), options.open_wait(&name, PATIENCE));
            let client = connected.and(client).unwrap();
            server.write_message(b"x").await.unwrap();
            server.close_write().await.unwrap();
            assert_eq!(code(server.write_message(b"x").await), 232);
            let mut buf = [0; 4];
            assert_eq!(client.read_message(&mut buf).await.unwrap().len, 1);
            assert_eq!(client.read_message(&mut buf).await.unwrap().len, 0);
            server.disconnect().unwrap();
            assert_eq!(code(server.write_message(b"x").await), 233);
        }
    }

    async fn a_close_of_the_writing_given_up_closes_nothing() {
        let (server, client) = messages(4);
        server.connect().await.unwrap();
        // It waits behind a message that is larger than the ring.
        client.try_write(&vec![7; 3 << 20]).unwrap();
        let (_, to) = client.into_split();
        {
            let mut close = pin!(to.close_write());
            assert!(poll_once(close.as_mut()).is_pending());
            put_to_sleep(close.as_mut());
        }
        let mut large = vec![0; 3 << 20];
        assert_eq!(server.read_message(&mut large).await.unwrap().len, 3 << 20);
        to.write_message(b"next").await.unwrap();
        assert_eq!(server.read_message(&mut large).await.unwrap().len, 4);
        let (closed, read) = tokio::join!(to.close_write(), server.read_message(&mut large));
        closed.unwrap();
        assert_eq!((read.unwrap().len, code(to.write_message(b"x").await)), (0, 232));
        // It is open: it is its owner who closes it.
        assert!(poll_once(pin!(server.read_message(&mut large)).as_mut()).is_pending());
        drop(to);
        assert_eq!(code(server.read_message(&mut large).await), 109);
    }

    async fn who_waits_for_room_is_told_that_there_is_none_to_wait_for() {
        let (server, client) = messages(4);
        server.connect().await.unwrap();
        client.write_message(b"full").await.unwrap();
        let mut writable = pin!(client.writable());
        let wakes = put_to_sleep(writable.as_mut());
        client.close_write().await.unwrap();
        assert!(wakes.count() > 0);
        assert!(poll_once(writable.as_mut()).is_ready());
        assert_eq!(code(client.try_write(b"x")), 232);
    }
}

#[test]
fn nothing_comes_behind_the_end_of_another_task_s_writing() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    for _ in 0..500 {
        let (server, client) = messages(1 << 20);
        let has_begun = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                has_begun.wait();
                loop {
                    let written = client.try_write(b"x");
                    if written.is_err() && !would_block(written) {
                        break;
                    }
                }
            });
            has_begun.wait();
            assert!(poll_once(pin!(client.close_write()).as_mut()).is_ready());
        });
        let mut buf = [0; 4];
        // If there was no room for the end, a task sees to it.
        runtime.block_on(async { while server.read_message(&mut buf).await.unwrap().len > 0 {} });
        assert!(would_block(server.try_read(&mut buf)));
    }
}
