//! Several handles for one end, each with tasks of its own.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::thread;

use ntpipe::tokio::{ClientOptions, NamedPipeServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{bytes, code, in_both_runtimes, messages, put_to_sleep};

type Reading<'a> = Pin<Box<dyn Future<Output = io::Result<ntpipe::ReadInfo>> + Send + 'a>>;

/// Lets others run until a sleeping task was woken.
macro_rules! until_woken {
    ($wakes:expr) => {
        while $wakes.count() == 0 {
            tokio::task::yield_now().await;
        }
    };
}

in_both_runtimes! {
    async fn a_clone_is_the_same_end() {
        let (server, client) = messages(64);
        let other = server.try_clone().unwrap();
        other.connect().await.unwrap();
        other.set_read_mode(ntpipe::tokio::PipeMode::Byte).unwrap();
        assert_eq!(server.read_mode(), ntpipe::tokio::PipeMode::Byte);
        client.write_message(b"12").await.unwrap();
        let mut byte = [0];
        assert_eq!(server.read_message(&mut byte).await.unwrap().len, 1);
        assert_eq!(other.read_message(&mut byte).await.unwrap().len, 1);
        assert_eq!(byte, *b"2");
        drop(server);
        other.write_message(b"still").await.unwrap();
        assert_eq!(client.read_message(&mut [0; 9]).await.unwrap().len, 5);
        drop(other);
        assert_eq!(code(client.read_message(&mut byte).await), 109);
    }

    async fn the_clones_of_a_client_close_it_together() {
        let (server, client) = messages(64);
        let other = client.try_clone().unwrap();
        drop(client);
        other.write_message(b"x").await.unwrap();
        drop(other);
        let mut buf = [0; 4];
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 1);
        assert_eq!(code(server.read_message(&mut buf).await), 109);
    }

    async fn tasks_that_poll_clones_are_all_woken() {
        let (server, mut client) = bytes(64);
        let mut handles: Vec<NamedPipeServer> =
            (0..4).map(|_| server.try_clone().unwrap()).collect();
        drop(server);
        let mut bufs = [[0_u8]; 4];
        let mut reads: Vec<_> = handles
            .iter_mut()
            .zip(&mut bufs)
            .map(|(handle, buf)| Box::pin(handle.read(buf)))
            .collect();
        for read in &mut reads {
            put_to_sleep(read.as_mut());
        }
        client.write_all(b"1234").await.unwrap();
        for read in reads {
            assert_eq!(read.await.unwrap(), 1);
        }
        let mut got = bufs.concat();
        got.sort_unstable();
        assert_eq!(got, b"1234");
    }

    async fn a_ring_that_one_clone_takes_is_heard_by_the_others() {
        // The doorbell of one is not looked at when it was rung, and is when another ring has come.
        for _ in 0..20 {
            let (server, client) = bytes(1);
            let other = server.try_clone().unwrap();
            let (mut one, mut two) = ([0], [0]);
            let mut first: Reading<'_> = Box::pin(server.read_message(&mut one));
            let mut second: Reading<'_> = Box::pin(other.read_message(&mut two));
            let woken = [put_to_sleep(first.as_mut()), put_to_sleep(second.as_mut())];
            client.write_message(b"1").await.unwrap();
            until_woken!(woken[0]);
            until_woken!(woken[1]);
            assert_eq!(first.await.unwrap().len, 1);
            server.write_message(b"full").await.unwrap();
            let woken = put_to_sleep(second.as_mut());
            client.write_message(b"2").await.unwrap();
            let mut write = pin!(server.write_message(b"more"));
            put_to_sleep(write.as_mut());
            until_woken!(woken);
            assert_eq!(second.await.unwrap().len, 1);
        }
    }

    async fn what_one_clone_does_to_the_connection_the_others_see() {
        let (server, client) = messages(8);
        let other = server.try_clone().unwrap();
        let mut buf = [0; 8];
        let mut read: Reading<'_> = Box::pin(other.read_message(&mut buf));
        put_to_sleep(read.as_mut());
        server.disconnect().unwrap();
        assert_eq!(code(read.await), 233);
        drop(client);
        let mut connect = pin!(other.connect());
        put_to_sleep(connect.as_mut());
        let name = format!(r"\\.\pipe\{}", server.name().as_str());
        let client = ClientOptions::new().open(&name).unwrap();
        connect.await.unwrap();
        // Both listen to the new connection's doorbell.
        let mut read: Reading<'_> = Box::pin(other.read_message(&mut buf));
        put_to_sleep(read.as_mut());
        client.write_message(b"next").await.unwrap();
        assert_eq!(read.await.unwrap().len, 4);
    }

    async fn a_transaction_minds_the_reads_of_other_clones() {
        let (server, client) = messages(64);
        let other = client.try_clone().unwrap();
        let mut buf = [0; 8];
        let mut read: Reading<'_> = Box::pin(other.read_message(&mut buf));
        put_to_sleep(read.as_mut());
        assert_eq!(code(client.transact(b"x", &mut [0; 8]).await), 231);
        server.write_message(b"x").await.unwrap();
        assert_eq!(read.await.unwrap().len, 1);
    }

    async fn each_clone_closes_its_writing_for_itself() {
        let (server, client) = messages(64);
        let other = client.try_clone().unwrap();
        client.close_write().await.unwrap();
        assert_eq!(code(client.write_message(b"x").await), 232);
        other.write_message(b"x").await.unwrap();
        let mut buf = [0; 4];
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 0);
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 1);
    }

    async fn a_clone_can_belong_to_another_runtime() {
        let (server, client) = messages(64);
        let (sender, receiver) = mpsc::channel();
        let (there, here) = (server.into_blocking(), tokio::runtime::Handle::current());
        let elsewhere = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let server = NamedPipeServer::from_blocking(there).unwrap();
                let home = {
                    let _here = here.enter();
                    server.try_clone().unwrap()
                };
                sender.send(home).unwrap();
                let mut buf = [0; 4];
                server.read_message(&mut buf).await.unwrap().len
            })
        });
        let server = tokio::task::spawn_blocking(move || receiver.recv()).await.unwrap().unwrap();
        let mut buf = [0; 4];
        let mut read: Reading<'_> = Box::pin(server.read_message(&mut buf));
        put_to_sleep(read.as_mut());
        client.write_message(b"1").await.unwrap();
        client.write_message(b"2").await.unwrap();
        assert_eq!(read.await.unwrap().len, 1);
        assert_eq!(tokio::task::spawn_blocking(|| elsewhere.join().unwrap()).await.unwrap(), 1);
    }
}

#[test]
fn a_clone_needs_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (server, client) = runtime.block_on(async { messages(64) });
    server.try_clone().unwrap_err();
    client.try_clone().unwrap_err();
    let _runtime = runtime.enter();
    server.try_clone().unwrap();
}
