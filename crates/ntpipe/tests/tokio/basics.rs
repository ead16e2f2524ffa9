//! One pipe, two tasks.

use std::time::Duration;

use ntpipe::tokio::{ClientOptions, NamedPipeServer, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{bytes, code, in_both_runtimes, messages, name, pattern, would_block};

/// Answers each message with itself until the client has gone.
async fn echo(server: NamedPipeServer) {
    let mut buf = [0; 100];
    loop {
        match server.read_message(&mut buf).await {
            Ok(read) => {
                server.write_message(&buf[..read.len]).await.unwrap();
            }
            Err(error) => return assert_eq!(code::<()>(Err(error)), 109),
        }
    }
}

in_both_runtimes! {
    async fn messages_go_both_ways() {
        let (server, client) = messages(4096);
        let echo = tokio::spawn(echo(server));
        let mut buf = [0; 100];
        for i in 0..1000_u32 {
            client.write_message(&i.to_le_bytes()).await.unwrap();
            let read = client.read_message(&mut buf).await.unwrap();
            assert_eq!((&buf[..read.len], read.more), (&i.to_le_bytes()[..], false));
        }
        drop(client);
        echo.await.unwrap();
    }

    async fn a_sleeping_reader_wakes() {
        let (mut server, mut client) = bytes(4096);
        for _ in 0..20 {
            let reader = tokio::spawn(async move {
                let mut byte = [0];
                assert_eq!(server.read(&mut byte).await.unwrap(), 1);
                server
            });
            // Long enough for it to sleep; if it does not, the test is only weaker.
            tokio::time::sleep(Duration::from_millis(2)).await;
            client.write_all(b"x").await.unwrap();
            server = reader.await.unwrap();
        }
    }

    async fn a_sleeping_writer_wakes() {
        let (mut server, mut client) = bytes(100);
        let sent = pattern(10_000);
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
        });
        tokio::time::sleep(Duration::from_millis(2)).await;
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        assert_eq!(got, expected);
    }

    async fn a_megabyte_goes_through() {
        let (mut server, mut client) = bytes(65536);
        let sent = pattern(1 << 20);
        let expected = sent.clone();
        let writer = tokio::spawn(async move { client.write_all(&sent).await.unwrap() });
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        assert!(got == expected);
    }

    async fn a_message_larger_than_the_ring_is_delivered_whole() {
        let (server, client) = messages(512);
        let sent = pattern(3 << 20);
        let mut buf = vec![0; 4 << 20];
        // Accepted at once, and finished by itself, also when its end is dropped.
        assert_eq!(client.try_write(&sent).unwrap(), sent.len());
        assert!(would_block(client.try_write(b"next")));
        drop(client);
        let read = server.read_message(&mut buf).await.unwrap();
        assert_eq!((read.len, read.more), (sent.len(), false));
        assert!(buf[..read.len] == sent[..]);
        assert_eq!(code(server.read_message(&mut buf).await), 109);
    }

    async fn without_a_buffer_each_write_is_accepted_one_at_a_time() {
        let (server, client) = bytes(0);
        server.connect().await.unwrap();
        assert_eq!(client.try_write(b"one").unwrap(), 3);
        assert!(would_block(client.try_write(b"two")));
        let mut buf = [0; 10];
        assert_eq!(server.try_read(&mut buf).unwrap(), 3);
        client.writable().await.unwrap();
        assert_eq!(client.try_write(b"two").unwrap(), 3);
    }

    async fn an_end_in_two_halves_is_one_end() {
        let (server, client) = messages(4096);
        let (mut from, mut to) = server.into_split();
        let echo = tokio::spawn(async move {
            tokio::io::copy(&mut from, &mut to).await.unwrap();
            from.reunite(to).unwrap()
        });
        let (from, to) = client.into_split();
        to.write_message(b"there and back").await.unwrap();
        let mut buf = [0; 20];
        let read = from.read_message(&mut buf).await.unwrap();
        assert_eq!(&buf[..read.len], b"there and back");
        // The end is open while one half is.
        drop(from);
        to.write_message(b"more").await.unwrap();
        assert_eq!(to.as_ref().read_message(&mut buf).await.unwrap().len, 4);
        drop(to);
        let server = echo.await.unwrap();
        assert_eq!(server.try_read(&mut buf).unwrap(), 0);
    }

    async fn a_server_waits_for_a_client_in_reads_and_writes_too() {
        let name = name();
        let mut server = ServerOptions::new().create(&name).unwrap();
        assert!(would_block(server.try_write(b"x")));
        assert!(would_block(server.try_read(&mut [0])));
        let reader = tokio::spawn(async move {
            let mut buf = [0; 5];
            server.read_exact(&mut buf).await.unwrap();
            buf
        });
        tokio::time::sleep(Duration::from_millis(2)).await;
        let mut client = ClientOptions::new().open(&name).unwrap();
        client.write_all(b"hello").await.unwrap();
        assert_eq!(&reader.await.unwrap(), b"hello");
    }
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_pipe() {
    let name = name();
    ServerOptions::new().create(&name).unwrap_err();
    ClientOptions::new().open(&name).unwrap_err();
    let error = ntpipe::ClientOptions::new().open(&name).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}
