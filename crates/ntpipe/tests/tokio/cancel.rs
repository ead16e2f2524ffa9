//! Each future given up at each of its points: nothing is lost, nothing is there twice.

use std::pin::{Pin, pin};

use ntpipe::tokio::{ClientOptions, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};

use crate::support::{
    PATIENCE, bytes, code, in_both_runtimes, messages, name, pattern, poll_once, put_to_sleep,
    would_block,
};

/// Polls a future until it sleeps, and gives it up.
fn give_up<F: Future>(future: F) {
    let mut future = pin!(future);
    put_to_sleep(future.as_mut());
}

/// Polls a future once, and gives it up, while it still looks around.
fn give_up_early<F: Future>(future: F) {
    let mut future = pin!(future);
    assert!(poll_once(future.as_mut()).is_pending());
}

/// Polls a future once, whatever comes of it.
fn give_up_or_not<F: Future>(future: Pin<&mut F>) {
    let _ = poll_once(future);
}

in_both_runtimes! {
    async fn a_read_given_up_takes_nothing() {
        let (mut server, mut client) = bytes(4096);
        let mut lost = [0; 10];
        give_up_early(server.read(&mut lost));
        give_up(server.read(&mut lost));
        give_up(server.read_message(&mut lost));
        client.write_all(b"all of it").await.unwrap();
        let mut got = [0; 9];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!((&got, lost), (b"all of it", [0; 10]));
    }

    async fn a_read_given_up_in_the_middle_of_a_message_loses_none_of_it() {
        let (server, client) = messages(512);
        server.connect().await.unwrap();
        let sent = pattern(3 << 20);
        client.try_write(&sent).unwrap();
        // The ring holds a part of it; each read finds some more before it is given up.
        let mut buf = vec![0; sent.len()];
        let mut rounds = 0;
        let read = loop {
            let mut read = Box::pin(server.read_message(&mut buf));
            let poll = poll_once(read.as_mut());
            drop(read);
            rounds += 1;
            match poll {
                std::task::Poll::Ready(read) => break read.unwrap(),
                std::task::Poll::Pending => tokio::task::yield_now().await,
            }
        };
        assert!(rounds > 1);
        assert_eq!((read.len, read.more), (sent.len(), false));
        assert!(buf == sent);
    }

    async fn what_a_read_has_of_a_message_goes_to_smaller_reads_and_peeks_too() {
        let (server, client) = messages(512);
        server.connect().await.unwrap();
        let sent = pattern(1 << 20);
        client.try_write(&sent).unwrap();
        let mut all = vec![0; sent.len()];
        give_up_early(server.read_message(&mut all));
        let peek = server.peek(&mut all[..100]).await.unwrap();
        assert_eq!(peek.len, 100);
        assert_eq!(peek.available, sent.len() as u64);
        assert_eq!((peek.left, peek.messages), (sent.len() as u64 - 100, 1));
        assert_eq!(all[..100], sent[..100]);
        let mut got = Vec::new();
        loop {
            let read = server.read_message(&mut all[..1000]).await.unwrap();
            got.extend_from_slice(&all[..read.len]);
            if !read.more {
                break;
            }
        }
        assert!(got == sent);
    }

    async fn what_a_task_has_of_a_message_goes_to_a_thread_too() {
        let (server, client) = messages(512);
        server.connect().await.unwrap();
        let sent = pattern(1 << 20);
        client.try_write(&sent).unwrap();
        let mut all = vec![0; sent.len()];
        give_up_early(server.read_message(&mut all));
        let thread = server.into_blocking();
        let read = tokio::task::spawn_blocking(move || {
            let read = thread.read_message(&mut all).unwrap();
            assert_eq!((read.len, read.more), (all.len(), false));
            all
        });
        assert!(read.await.unwrap() == sent);
    }

    async fn a_write_given_up_writes_nothing() {
        let (mut server, mut client) = messages(10);
        server.connect().await.unwrap();
        client.write_all(b"12345678").await.unwrap();
        give_up_early(client.write_message(b"lost"));
        give_up(client.write_message(b"lost"));
        give_up(client.write(b"lost"));
        let mut buf = [0; 20];
        let read = server.read(&mut buf).await.unwrap();
        assert_eq!(&buf[..read], b"12345678");
        assert!(would_block(server.try_read(&mut buf)));
        client.write_message(b"next").await.unwrap();
        let read = server.read(&mut buf).await.unwrap();
        assert_eq!(&buf[..read], b"next");
    }

    async fn readiness_given_up_is_not_lost() {
        let (server, client) = bytes(4);
        server.connect().await.unwrap();
        give_up(server.readable());
        give_up_early(server.ready(Interest::READABLE));
        client.try_write(b"full").unwrap();
        give_up(client.writable());
        give_up(client.ready(Interest::WRITABLE));
        server.readable().await.unwrap();
        assert!(
            server
                .ready(Interest::READABLE)
                .await
                .unwrap()
                .is_readable()
        );
        let mut buf = [0; 4];
        server.try_read(&mut buf).unwrap();
        client.writable().await.unwrap();
        let both = Interest::READABLE | Interest::WRITABLE;
        let ready = client.ready(both).await.unwrap();
        assert!(ready.is_writable() && !ready.is_readable());
    }

    async fn a_connect_given_up_loses_no_client() {
        let name = name();
        let server = ServerOptions::new().create(&name).unwrap();
        give_up(server.connect());
        let client = ClientOptions::new().open(&name).unwrap();
        give_up_or_not(pin!(server.connect()));
        server.connect().await.unwrap();
        client.try_write(b"x").unwrap();
        server.readable().await.unwrap();
        // Also one that comes and goes between two attempts.
        server.disconnect().unwrap();
        give_up(server.connect());
        drop(ClientOptions::new().open(&name).unwrap());
    }

    async fn a_transaction_given_up_leaves_its_request_and_its_reply() {
        let (server, client) = messages(4096);
        server.connect().await.unwrap();
        let mut reply = [0; 20];
        give_up(client.transact(b"request", &mut reply));
        let mut buf = [0; 20];
        let read = server.read_message(&mut buf).await.unwrap();
        assert_eq!(&buf[..read.len], b"request");
        server.write_message(b"reply").await.unwrap();
        let read = client.read_message(&mut buf).await.unwrap();
        assert_eq!(&buf[..read.len], b"reply");
        // Its turn is over too: a second one is answered.
        let second = async {
            let read = server.read_message(&mut buf).await.unwrap();
            assert_eq!(&buf[..read.len], b"again");
            server.write_message(b"answer").await.unwrap();
        };
        let (read, ()) = tokio::join!(client.transact(b"again", &mut reply), second);
        assert_eq!(&reply[..read.unwrap().len], b"answer");
    }

    async fn a_transaction_does_not_begin_while_a_read_waits() {
        let (server, client) = messages(4096);
        server.connect().await.unwrap();
        let (mut buf, mut reply) = ([0; 9], [0; 9]);
        {
            let mut read = pin!(client.read_message(&mut buf));
            put_to_sleep(read.as_mut());
            assert_eq!(code(client.transact(b"request", &mut reply).await), 231);
            server.write_message(b"x").await.unwrap();
            assert_eq!(read.await.unwrap().len, 1);
        }
        // The refused request was not written, and a read that is over or given up is no hindrance.
        give_up(client.read_message(&mut buf));
        let answer = async {
            let read = server.read_message(&mut buf).await.unwrap();
            assert_eq!(&buf[..read.len], b"again");
            server.write_message(b"answer").await.unwrap();
        };
        let (read, ()) = tokio::join!(client.transact(b"again", &mut reply), answer);
        assert_eq!(&reply[..read.unwrap().len], b"answer");
    }

    async fn a_flush_given_up_changes_nothing() {
        let (server, client) = messages(4096);
        server.connect().await.unwrap();
        client.write_message(b"unread").await.unwrap();
        give_up_early(client.flush_until_read());
        give_up(client.flush_until_read());
        let mut buf = [0; 20];
        let (flushed, read) = tokio::join!(client.flush_until_read(), server.read_message(&mut buf));
        flushed.unwrap();
        assert_eq!(read.unwrap().len, 6);
    }

    async fn an_operation_of_ones_own_given_up_was_called_or_not() {
        let (server, client) = bytes(4096);
        server.connect().await.unwrap();
        let mut calls = 0;
        let mut buf = [0; 20];
        give_up(server.async_io(Interest::READABLE, || {
            calls += 1;
            server.try_read(&mut buf)
        }));
        assert_eq!(calls, 0);
        client.try_write(b"x").unwrap();
        let read = server.async_io(Interest::READABLE, || server.try_read(&mut buf));
        assert_eq!(read.await.unwrap(), 1);
    }

    async fn one_that_finds_too_little_sleeps_until_there_is_more() {
        let (server, client) = bytes(4096);
        server.connect().await.unwrap();
        let four = || {
            let mut buf = [0; 4];
            let found = poll_once(pin!(server.peek(&mut buf)).as_mut());
            match found {
                std::task::Poll::Ready(Ok(peek)) if peek.available >= 4 => server.try_read(&mut buf),
                std::task::Poll::Ready(_) | std::task::Poll::Pending => {
                    Err(std::io::ErrorKind::WouldBlock.into())
                }
            }
        };
        client.try_write(b"12").unwrap();
        let mut read = pin!(server.async_io(Interest::READABLE, four));
        put_to_sleep(read.as_mut());
        client.try_write(b"34").unwrap();
        assert_eq!(read.await.unwrap(), 4);
    }

    async fn what_was_found_wanting_of_one_client_says_nothing_of_the_next() {
        let name = name();
        let server = ServerOptions::new().create(&name).unwrap();
        for _ in 0..3 {
            let options = ClientOptions::new();
            let (connected, client) =
                tokio::join!(server.connect(), options.open_wait(&name, PATIENCE));
            let client = connected.and(client).unwrap();
            client.try_write(b"x").unwrap();
            server.readable().await.unwrap();
            let wanting = || Err::<(), _>(std::io::ErrorKind::WouldBlock.into());
            assert!(would_block(server.try_io(Interest::READABLE, wanting)));
            assert!(poll_once(pin!(server.readable()).as_mut()).is_pending());
            server.disconnect().unwrap();
        }
    }

    async fn an_idle_task_is_woken_once_and_not_before() {
        let (server, client) = bytes(4096);
        server.connect().await.unwrap();
        let mut buf = [0; 4];
        let mut read = Box::pin(server.read_message(&mut buf));
        let wakes = put_to_sleep(read.as_mut());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(wakes.count(), 0);
        for _ in 0..3 {
            client.try_write(b"x").unwrap();
        }
        while wakes.count() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(poll_once(read.as_mut()).is_ready());
        assert_eq!(wakes.count(), 1);
    }

    async fn a_task_that_waits_learns_of_the_end() {
        let (server, client) = bytes(4096);
        server.connect().await.unwrap();
        let mut buf = [0; 4];
        let mut read = Box::pin(server.read_message(&mut buf));
        put_to_sleep(read.as_mut());
        drop(client);
        assert_eq!(code(read.await), 109);

        let (server, client) = bytes(4096);
        server.connect().await.unwrap();
        let mut read = Box::pin(client.read_message(&mut buf));
        put_to_sleep(read.as_mut());
        server.disconnect().unwrap();
        assert_eq!(code(read.await), 233);
    }
}
