//! Ends that move as parts.

use ntpipe::tokio::{NamedPipeClient, NamedPipeServer, PipeMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{bytes, code, in_both_runtimes, messages, pattern, put_to_sleep};

in_both_runtimes! {
    async fn both_ends_move_with_what_is_unread() {
        let (server, client) = messages(100);
        server.write_message(b"to the client").await.unwrap();
        client.write_message(b"to the server").await.unwrap();
        let mut buf = [0; 20];
        assert_eq!(server.try_read(&mut buf[..3]).unwrap(), 3);
        let mut server = server;
        let mut client = client;
        for _ in 0..3 {
            server = NamedPipeServer::from_parts(server.into_parts().unwrap()).unwrap();
            client = NamedPipeClient::from_parts(client.into_parts().unwrap()).unwrap();
            assert_eq!(client.read_mode(), PipeMode::Message);
        }
        let read = server.read_message(&mut buf).await.unwrap();
        assert_eq!((&buf[..read.len], read.more), (&b"the server"[..], false));
        let read = client.read_message(&mut buf).await.unwrap();
        assert_eq!(&buf[..read.len], b"to the client");
        // Sleepers are woken in both directions, and by room too.
        for _ in 0..3 {
            let mut read = Box::pin(client.read_message(&mut buf));
            put_to_sleep(read.as_mut());
            server.write_message(&[1; 20]).await.unwrap();
            assert_eq!(read.await.unwrap().len, 20);
            server.write_message(&[1; 100]).await.unwrap();
            let mut write = Box::pin(server.write_message(b"x"));
            put_to_sleep(write.as_mut());
            assert_eq!(client.read_message(&mut [0; 100]).await.unwrap().len, 100);
            write.await.unwrap();
            assert_eq!(client.read_message(&mut buf).await.unwrap().len, 1);
        }
        // A peer that goes is noticed.
        let mut read = Box::pin(client.read_message(&mut buf));
        put_to_sleep(read.as_mut());
        drop(server);
        assert_eq!(code(read.await), 109);
    }

    async fn a_stream_goes_on_behind_its_move() {
        let (server, mut client) = bytes(1000);
        let sent = pattern(300_000);
        client.write_all(&sent[..500]).await.unwrap();
        let mut server = NamedPipeServer::from_parts(server.into_parts().unwrap()).unwrap();
        let write = async {
            client.write_all(&sent[500..]).await.unwrap();
            drop(client);
        };
        let mut got = Vec::new();
        let (read, ()) = tokio::join!(server.read_to_end(&mut got), write);
        assert_eq!(read.unwrap(), sent.len());
        assert!(got == sent);
    }

    async fn what_has_other_holders_does_not_move_to_tasks() {
        let (server, client) = messages(100);
        server.write_message(b"x").await.unwrap();
        let other = client.try_clone().unwrap();
        let error = client.into_parts().unwrap_err();
        assert!(error.to_string().contains("other holders"));
        assert_eq!(code::<()>(Err(error)), 50);
        assert_eq!(other.read_message(&mut [0; 4]).await.unwrap().len, 1);
        let blocking = other.into_blocking();
        let shared = blocking.share().unwrap();
        assert_eq!(code(NamedPipeClient::from_parts(shared)), 50);
        // The other holder has it still, and parts of the other kind are none.
        server.write_message(b"y").await.unwrap();
        assert_eq!(blocking.read_message(&mut [0; 4]).unwrap().len, 1);
        let parts = blocking.into_parts().unwrap();
        assert_eq!(code(NamedPipeServer::from_parts(parts)), 87);
    }

    async fn what_was_shared_and_is_not_any_more_moves_to_tasks() {
        let (server, client) = messages(100);
        server.write_message(b"first").await.unwrap();
        let client = client.into_blocking();
        let shared = client.share().unwrap();
        client.write_message(b"from the first").unwrap();
        drop(client);
        let client = NamedPipeClient::from_parts(shared).unwrap();
        let mut buf = [0; 20];
        assert_eq!(client.read_message(&mut buf).await.unwrap().len, 5);
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 14);
        // And may be shared again.
        let client = client.into_blocking();
        let other = ntpipe::NamedPipeClient::from_parts(client.share().unwrap()).unwrap();
        other.write_message(b"from the other").unwrap();
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 14);
    }
}
