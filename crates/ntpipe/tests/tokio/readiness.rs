//! What a write that found no room means for those that ask whether there is some.

use std::pin::pin;

use ntpipe::tokio::ClientOptions;
use tokio::io::{AsyncWriteExt, Interest};

use crate::support::{bytes, in_both_runtimes, messages, poll_once, put_to_sleep, would_block};

in_both_runtimes! {
    async fn a_write_given_up_leaves_the_readiness_as_it_was() {
        let (_server, mut client) = messages(64);
        client.write_all(&[0; 40]).await.unwrap();
        put_to_sleep(pin!(client.write_all(&[0; 40])).as_mut());
        put_to_sleep(pin!(client.write_message(&[0; 40])).as_mut());
        // For smaller ones there is room.
        assert!(poll_once(pin!(client.writable()).as_mut()).is_ready());
        assert_eq!(client.try_write(&[0; 20]).unwrap(), 20);
    }

    async fn an_operation_does_not_wait_for_the_room_that_another_wanted() {
        let (_server, client) = messages(64);
        client.try_write(&[0; 40]).unwrap();
        assert!(would_block(client.try_write(&[0; 40])));
        let small = || client.try_write(b"small");
        assert_eq!(client.try_io(Interest::WRITABLE, small).unwrap(), 5);
        assert!(poll_once(pin!(client.async_io(Interest::WRITABLE, small)).as_mut()).is_ready());
    }

    async fn a_write_in_vain_is_worth_it_again_once_the_peer_has_read() {
        for (server, client) in [messages(64), bytes(64)] {
            server.connect().await.unwrap();
            client.try_write(&[0; 30]).unwrap();
            client.try_write(&[0; 30]).unwrap();
            assert!(would_block(client.try_write(&[0; 64])));
            let mut writable = Box::pin(client.writable());
            put_to_sleep(writable.as_mut());
            // That is not enough, but whoever reads on only if more comes must not wait for ever.
            assert_eq!(server.try_read(&mut [0; 30]).unwrap(), 30);
            writable.await.unwrap();
            assert!(would_block(client.try_write(&[0; 64])));
            put_to_sleep(pin!(client.writable()).as_mut());
            // A write that is done says that there was room.
            client.try_write(b"small").unwrap();
            assert!(poll_once(pin!(client.writable()).as_mut()).is_ready());
        }
    }

    async fn the_next_connection_knows_nothing_of_a_write_in_vain() {
        let (server, client) = messages(64);
        // A client may still be on its way; it has come when this returns.
        server.write_message(&[0; 40]).await.unwrap();
        assert!(would_block(server.try_write(&[0; 40])));
        let name = server.name().clone();
        server.disconnect().unwrap();
        drop(client);
        let mut connect = Box::pin(server.connect());
        assert!(poll_once(connect.as_mut()).is_pending());
        let _client = ClientOptions::new().open(name.to_string()).unwrap();
        connect.await.unwrap();
        server.write_message(&[0; 30]).await.unwrap();
        assert!(poll_once(pin!(server.writable()).as_mut()).is_ready());
    }
}
