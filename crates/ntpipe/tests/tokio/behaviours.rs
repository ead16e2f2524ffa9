//! What programs that were written for tokio on Windows rely on.

use std::time::Duration;

use ntpipe::tokio::{ClientOptions, NamedPipeClient, PipeEnd, PipeMode, ServerOptions};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Interest};

use crate::support::{bytes, code, in_both_runtimes, messages, name, pattern, would_block};

const CLIENTS: usize = 10;

/// Opens the pipe as soon as it is there and has an instance to spare.
async fn open_patiently(name: &str) -> NamedPipeClient {
    loop {
        match ClientOptions::new().open(name) {
            Ok(client) => return client,
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(231) => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

in_both_runtimes! {
    async fn a_write_after_the_client_has_gone_is_no_data() {
        let (mut server, client) = bytes(4096);
        server.connect().await.unwrap();
        drop(client);
        let error = server.write_all(b"ping").await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(232));
    }

    async fn lines_go_both_ways() {
        let name = name();
        let server = ServerOptions::new().create(&name).unwrap();
        let serve = async move {
            server.connect().await.unwrap();
            let mut server = BufReader::new(server);
            let mut line = String::new();
            server.read_line(&mut line).await.unwrap();
            assert_eq!(line, "ping\n");
            server.write_all(b"pong\n").await.unwrap();
        };
        let ask = async move {
            // Before or while `connect` waits.
            let mut client = BufReader::new(ClientOptions::new().open(&name).unwrap());
            client.write_all(b"ping\n").await.unwrap();
            let mut line = String::new();
            client.read_line(&mut line).await.unwrap();
            assert_eq!(line, "pong\n");
        };
        tokio::join!(serve, ask);
    }

    async fn ten_clients_at_once_get_what_was_written_just_before_the_drop() {
        let name = name();
        let server_name = name.clone();
        let serve = tokio::spawn(async move {
            let mut server = ServerOptions::new()
                .first_pipe_instance(true)
                .create(&server_name)
                .unwrap();
            for left in (0..CLIENTS).rev() {
                server.connect().await.unwrap();
                // The last one's successor waits for nobody.
                let next = if left > 0 { server_name.clone() } else { self::name() };
                let next = ServerOptions::new().create(&next).unwrap();
                let mut connected = std::mem::replace(&mut server, next);
                tokio::spawn(async move {
                    let mut buf = [0; 4];
                    connected.read_exact(&mut buf).await.unwrap();
                    assert_eq!(&buf, b"ping");
                    connected.write_all(b"pong").await.unwrap();
                });
            }
        });
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let name = name.clone();
            clients.push(tokio::spawn(async move {
                let mut client = open_patiently(&name).await;
                client.write_all(b"ping").await.unwrap();
                let mut buf = Vec::new();
                client.read_to_end(&mut buf).await.unwrap();
                assert_eq!(buf, b"pong");
            }));
        }
        for client in clients {
            client.await.unwrap();
        }
        serve.await.unwrap();
    }

    async fn readiness_and_attempts_do_the_same() {
        let (server, client) = bytes(4096);
        let serve = tokio::spawn(async move {
            server.connect().await.unwrap();
            let mut got = Vec::new();
            while got.len() < 4 {
                server.readable().await.unwrap();
                let mut buf = [0; 16];
                match server.try_read(&mut buf) {
                    Ok(len) => got.extend_from_slice(&buf[..len]),
                    error => assert!(would_block(error)),
                }
            }
            assert_eq!(got, b"ping");
            loop {
                server.writable().await.unwrap();
                match server.try_write(b"pong") {
                    Ok(len) => return assert_eq!(len, 4),
                    error => assert!(would_block(error)),
                }
            }
        });
        client.writable().await.unwrap();
        client.try_write(b"ping").unwrap();
        let ready = client.ready(Interest::READABLE).await.unwrap();
        assert!(ready.is_readable());
        let mut buf = bytes::BytesMut::with_capacity(16);
        assert_eq!(client.try_read_buf(&mut buf).unwrap(), 4);
        assert_eq!(&buf[..], b"pong");
        serve.await.unwrap();
        client.readable().await.unwrap();
        assert_eq!(client.try_read(&mut [0; 4]).unwrap(), 0);
    }

    async fn queued_messages_keep_their_boundaries() {
        let (server, client) = messages(4096);
        for i in 0..10_u8 {
            client.write_message(&vec![i; usize::from(i) + 1]).await.unwrap();
        }
        let mut buf = [0; 100];
        for i in 0..10_u8 {
            let read = server.read_message(&mut buf).await.unwrap();
            assert_eq!(&buf[..read.len], vec![i; usize::from(i) + 1]);
        }
    }

    async fn bytes_come_together() {
        let (mut server, mut client) = bytes(4096);
        server.connect().await.unwrap();
        for _ in 0..10 {
            client.write_all(b"0123456789").await.unwrap();
        }
        let mut buf = [0; 100];
        assert_eq!(server.read(&mut buf).await.unwrap(), 100);
    }

    async fn a_client_that_comes_and_goes_at_once_has_connected() {
        for (inbound, outbound) in [(true, true), (true, false), (false, true)] {
            let name = name();
            let server = ServerOptions::new()
                .access_inbound(inbound)
                .access_outbound(outbound)
                .create(&name)
                .unwrap();
            let wait = tokio::spawn(async move { server.connect().await });
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut options = ClientOptions::new();
            drop(options.write(inbound).read(outbound).open(&name).unwrap());
            wait.await.unwrap().unwrap();
        }
    }

    async fn a_client_that_has_gone_before_connect_has_connected_too() {
        let name = name();
        let mut server = ServerOptions::new().create(&name).unwrap();
        let mut client = ClientOptions::new().open(&name).unwrap();
        client.write_all(b"last words").await.unwrap();
        drop(client);
        server.connect().await.unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"last words");
        // It listens again only after a disconnect.
        server.connect().await.unwrap();
        server.disconnect().unwrap();
        let (connected, _client) = tokio::join!(server.connect(), open_patiently(&name));
        connected.unwrap();
    }

    async fn several_buffers_are_one_message_and_one_read() {
        let (server, mut client) = messages(4096);
        server.connect().await.unwrap();
        let (head, body) = (pattern(3), pattern(300));
        let bufs = [&head[..], &[], &body[..]].map(std::io::IoSlice::new);
        assert_eq!(client.try_write_vectored(&bufs).unwrap(), 303);
        assert_eq!(client.write_vectored(&bufs).await.unwrap(), 303);
        assert_eq!(client.try_write_vectored(&[]).unwrap(), 0);
        let (mut one, mut two, mut three) = ([0; 2], [0; 100], [0; 300]);
        for _ in 0..2 {
            let mut bufs = [&mut one[..], &mut two[..], &mut three[..]].map(std::io::IoSliceMut::new);
            assert_eq!(server.try_read_vectored(&mut bufs).unwrap(), 303);
            let got = [&one[..], &two[..], &three[..201]].concat();
            assert!(got == [&head[..], &body[..]].concat());
        }
        // The one of no buffers was an empty one.
        assert_eq!(server.read_message(&mut one).await.unwrap().len, 0);
    }

    async fn several_buffers_are_one_message_of_a_half_too() {
        let (server, client) = messages(4096);
        server.connect().await.unwrap();
        let is_vectored = client.is_write_vectored();
        let (_from, mut to) = client.into_split();
        assert_eq!(to.is_write_vectored(), is_vectored);
        let bufs = [&b"head"[..], &[], b"body"].map(std::io::IoSlice::new);
        assert_eq!(to.write_vectored(&bufs).await.unwrap(), 8);
        let mut buf = [0; 20];
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 8);
        assert_eq!(&buf[..8], b"headbody");
    }

    async fn several_buffers_go_as_far_as_there_is_room() {
        let (mut server, client) = bytes(10);
        server.connect().await.unwrap();
        let bufs = [&b"01234"[..], b"56789", b"tail"].map(std::io::IoSlice::new);
        assert_eq!(client.try_write_vectored(&bufs).unwrap(), 10);
        assert!(would_block(client.try_write_vectored(&bufs)));
        let mut got = [0; 10];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"0123456789");
    }

    async fn a_client_that_comes_and_goes_while_connect_sleeps_has_connected() {
        let name = name();
        let server = ServerOptions::new().create(&name).unwrap();
        let mut connect = Box::pin(server.connect());
        crate::support::put_to_sleep(connect.as_mut());
        drop(ClientOptions::new().open(&name).unwrap());
        connect.await.unwrap();
    }

    async fn after_a_disconnect_everything_is_not_connected() {
        let (mut server, mut client) = bytes(4096);
        server.connect().await.unwrap();
        client.write_all(b"lost").await.unwrap();
        server.disconnect().unwrap();
        assert_eq!(code(server.disconnect()), 233);
        let mut buf = [0; 4];
        assert_eq!(code(client.read(&mut buf).await), 233);
        assert_eq!(code(client.write(b"x").await), 233);
        assert_eq!(code(server.read(&mut buf).await), 233);
        assert_eq!(code(server.write(b"x").await), 233);
    }

    async fn an_instance_is_used_again_and_again() {
        let name = name();
        let mut server = ServerOptions::new().create(&name).unwrap();
        for round in 0..5_u8 {
            let (connected, client) = tokio::join!(server.connect(), open_patiently(&name));
            connected.unwrap();
            client.write_message(&[round]).await.unwrap();
            let mut byte = [0];
            server.read_exact(&mut byte).await.unwrap();
            assert_eq!(byte, [round]);
            // Sleeps on this connection's socket, not on the one before.
            let wait = tokio::spawn(async move { client.readable().await.map(|()| client) });
            tokio::time::sleep(Duration::from_millis(1)).await;
            server.write_all(&[round]).await.unwrap();
            wait.await.unwrap().unwrap();
            server.disconnect().unwrap();
        }
    }

    async fn a_direction_that_was_not_opened_is_denied() {
        let name = name();
        let server = ServerOptions::new().access_outbound(false).create(&name).unwrap();
        let denied = ClientOptions::new().open(&name).unwrap_err();
        assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
        let client = ClientOptions::new().read(false).open(&name).unwrap();
        server.connect().await.unwrap();
        let kind = |result: std::io::Result<usize>| result.unwrap_err().kind();
        assert_eq!(kind(server.try_write(b"x")), std::io::ErrorKind::PermissionDenied);
        assert_eq!(kind(client.try_read(&mut [0])), std::io::ErrorKind::PermissionDenied);
        assert_eq!(client.try_write(b"x").unwrap(), 1);
    }

    async fn a_transaction_on_a_pipe_of_one_direction_is_denied() {
        let name = name();
        let mut options = ServerOptions::new();
        options.pipe_mode(PipeMode::Message).access_outbound(false);
        let server = options.create(&name).unwrap();
        let client = ClientOptions::new().read(false).open(&name).unwrap();
        server.connect().await.unwrap();
        assert_eq!(code(server.transact(b"a", &mut [0; 9]).await), 5);
        assert_eq!(code(client.transact(b"a", &mut [0; 9]).await), 5);
    }

    async fn the_first_instance_is_the_first_once() {
        let name = name();
        let mut options = ServerOptions::new();
        options.first_pipe_instance(true);
        let _server = options.create(&name).unwrap();
        let denied = options.create(&name).unwrap_err();
        assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
        let missing = ClientOptions::new().open(r"\\.\pipe\ntpipe-test-missing").unwrap_err();
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    }

    async fn no_more_instances_than_the_maximum() {
        let name = name();
        let mut options = ServerOptions::new();
        options.max_instances(2);
        let _one = options.create(&name).unwrap();
        let _two = options.create(&name).unwrap();
        let busy = |result: std::io::Result<_>| assert_eq!(code(result), 231);
        busy(options.create(&name));
        busy(options.max_instances(100).create(&name));
        let _a = ClientOptions::new().open(&name).unwrap();
        let _b = ClientOptions::new().open(&name).unwrap();
        assert_eq!(code(ClientOptions::new().open(&name)), 231);
    }

    async fn both_ends_say_what_the_pipe_is() {
        let (server, client) = messages(512);
        let (s, c) = (server.info().unwrap(), client.info().unwrap());
        assert_eq!((s.end, c.end), (PipeEnd::Server, PipeEnd::Client));
        for info in [s, c] {
            assert_eq!(info.mode, PipeMode::Message);
            assert_eq!((info.max_instances, info.in_buffer_size), (255, 512));
        }
        let (byte, _client) = bytes(512);
        assert_eq!(code(byte.set_read_mode(PipeMode::Message)), 87);
    }

    async fn a_small_buffer_gets_a_message_in_parts() {
        let (mut server, client) = messages(4096);
        server.connect().await.unwrap();
        let sent = pattern(1000);
        client.write_message(&sent).await.unwrap();
        client.write_message(b"next").await.unwrap();
        let (mut got, mut buf) = (Vec::new(), [0; 300]);
        while got.len() < sent.len() {
            let len = server.read(&mut buf).await.unwrap();
            got.extend_from_slice(&buf[..len]);
        }
        assert_eq!(got, sent);
        assert_eq!(server.read(&mut buf).await.unwrap(), 4);
    }

    async fn dead_on_arrival_is_not_dead_for_all() {
        let name = name();
        let mut server = ServerOptions::new().create(&name).unwrap();
        drop(ClientOptions::new().open(&name).unwrap());
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let name = name.clone();
            clients.push(tokio::spawn(async move {
                let mut client = open_patiently(&name).await;
                client.write_all(b"x").await.unwrap();
                let mut buf = Vec::new();
                client.read_to_end(&mut buf).await.unwrap();
            }));
        }
        let mut served = 0;
        while served < CLIENTS {
            let connected = server.connect().await;
            let next = ServerOptions::new().create(&name).unwrap();
            let mut now = std::mem::replace(&mut server, next);
            if connected.is_ok() && matches!(now.read(&mut [0]).await, Ok(1)) {
                served += 1;
            }
        }
        for client in clients {
            client.await.unwrap();
        }
    }
}

#[test]
#[should_panic(expected = "254")]
fn more_than_254_instances_panic() {
    ServerOptions::new().max_instances(255);
}
