//! The listener, and clients that wait for an instance.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use ntpipe::tokio::{ClientOptions, Listener, PipeMode, ServerOptions, call};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;

use crate::support::{PATIENCE, code, in_both_runtimes, name, poll_once, put_to_sleep};

in_both_runtimes! {
    async fn a_listener_hands_out_client_after_client() {
        let name = name();
        let listener = Listener::bind(&name, &ServerOptions::new()).unwrap();
        let serve = tokio::spawn(async move {
            for _ in 0..10 {
                let mut client = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut byte = [0];
                    client.read_exact(&mut byte).await.unwrap();
                    client.write_all(&byte).await.unwrap();
                });
            }
        });
        let mut clients = Vec::new();
        for i in 0..10_u8 {
            let name = name.clone();
            clients.push(tokio::spawn(async move {
                let mut client = ClientOptions::new().open_wait(&name, PATIENCE).await.unwrap();
                client.write_all(&[i]).await.unwrap();
                let mut byte = [0];
                client.read_exact(&mut byte).await.unwrap();
                assert_eq!(byte, [i]);
            }));
        }
        for client in clients {
            client.await.unwrap();
        }
        serve.await.unwrap();
    }

    async fn one_instance_is_enough_for_all() {
        let name = name();
        let mut options = ServerOptions::new();
        let listener = Listener::bind(&name, options.max_instances(1)).unwrap();
        let mut clients = Vec::new();
        for i in 0..5_u8 {
            let name = name.clone();
            clients.push(tokio::spawn(async move {
                let mut client = ClientOptions::new().open_wait(&name, PATIENCE).await.unwrap();
                client.write_all(&[i]).await.unwrap();
                // Until the server lets the instance go.
                client.read_to_end(&mut Vec::new()).await.unwrap();
            }));
        }
        for _ in 0..5 {
            let mut client = listener.accept().await.unwrap();
            client.read_exact(&mut [0]).await.unwrap();
        }
        for client in clients {
            client.await.unwrap();
        }
    }

    async fn closing_ends_an_accept_that_waits() {
        let listener = Listener::bind(name(), &ServerOptions::new()).unwrap();
        let mut accept = pin!(listener.accept());
        put_to_sleep(accept.as_mut());
        listener.close();
        assert_eq!(code(accept.await), 995);
        assert_eq!(code(listener.accept().await), 995);
    }

    async fn an_accept_given_up_loses_no_client() {
        let name = name();
        let listener = Listener::bind(&name, &ServerOptions::new()).unwrap();
        put_to_sleep(pin!(listener.accept()).as_mut());
        let client = ClientOptions::new().open(&name).unwrap();
        let server = listener.accept().await.unwrap();
        client.write_message(b"x").await.unwrap();
        server.readable().await.unwrap();
        assert_eq!(server.try_read(&mut [0; 4]).unwrap(), 1);
    }

    async fn a_listener_is_a_stream_of_clients_until_it_is_closed() {
        let name = name();
        let mut listener = Listener::bind(&name, &ServerOptions::new()).unwrap();
        let mut next = Box::pin(poll_fn(|cx| Pin::new(&mut listener).poll_next(cx)));
        put_to_sleep(next.as_mut());
        let client = ClientOptions::new().open(&name).unwrap();
        let server = next.await.unwrap().unwrap();
        client.write_message(b"x").await.unwrap();
        assert_eq!(server.read_message(&mut [0; 4]).await.unwrap().len, 1);

        let mut incoming = listener.incoming();
        let mut next = Box::pin(poll_fn(|cx| Pin::new(&mut incoming).poll_next(cx)));
        put_to_sleep(next.as_mut());
        let second = ClientOptions::new().open(&name).unwrap();
        next.await.unwrap().unwrap();
        drop(second);
        let mut next = Box::pin(poll_fn(|cx| Pin::new(&mut incoming).poll_next(cx)));
        put_to_sleep(next.as_mut());
        listener.close();
        assert!(next.await.is_none());
        assert!(poll_fn(|cx| Pin::new(&mut listener).poll_next(cx)).await.is_none());
    }

    async fn a_poll_that_is_not_repeated_keeps_nothing() {
        let name = name();
        let listener = Listener::bind(&name, &ServerOptions::new()).unwrap();
        let mut polled = pin!(poll_fn(|cx| listener.poll_accept(cx)));
        let wakes = put_to_sleep(polled.as_mut());
        // The instance at which it waits goes to another task, which closes it.
        let client = ClientOptions::new().open(&name).unwrap();
        drop(listener.accept().await.unwrap());
        assert_eq!(wakes.count(), 1);
        assert_eq!(code(client.write_message(b"x").await), 232);
        // The next one is its own.
        put_to_sleep(polled.as_mut());
        let client = ClientOptions::new().open(&name).unwrap();
        let server = polled.await.unwrap();
        server.write_message(b"x").await.unwrap();
        assert_eq!(client.read_message(&mut [0; 4]).await.unwrap().len, 1);
    }

    async fn waiting_for_an_instance_ends_in_time_or_with_the_name() {
        let name = name();
        assert_eq!(code(ClientOptions::new().open_wait(&name, PATIENCE).await), 2);
        let server = ServerOptions::new().create(&name).unwrap();
        let _client = ClientOptions::new().open(&name).unwrap();
        assert_eq!(code(ClientOptions::new().open_wait(&name, Duration::from_millis(5)).await), 121);
        let options = ClientOptions::new();
        let mut given_up = Box::pin(options.open_wait(&name, PATIENCE));
        put_to_sleep(given_up.as_mut());
        drop(given_up);
        let mut waits = Box::pin(options.open_wait(&name, PATIENCE));
        put_to_sleep(waits.as_mut());
        server.disconnect().unwrap();
        drop(server);
        assert_eq!(code(waits.await), 2);
    }

    async fn a_call_that_cannot_open_waits_once_for_an_instance() {
        let name = name();
        assert_eq!(code(call(&name, b"", &mut [], Some(PATIENCE)).await), 2);
        let mut options = ServerOptions::new();
        let _server = options.access_outbound(false).create(&name).unwrap();
        let _client = ClientOptions::new().read(false).open(&name).unwrap();
        assert_eq!(code(call(&name, b"", &mut [], Some(Duration::from_millis(5))).await), 121);
        let mut reply = [];
        let mut waits = Box::pin(call(&name, b"", &mut reply, Some(PATIENCE)));
        put_to_sleep(waits.as_mut());
        let _other = options.create(&name).unwrap();
        assert_eq!(code(waits.await), 5);
    }

    async fn a_call_is_a_whole_conversation() {
        let name = name();
        let server = ServerOptions::new().pipe_mode(PipeMode::Message).create(&name).unwrap();
        let serve = async {
            server.connect().await.unwrap();
            let mut buf = [0; 20];
            let read = server.read_message(&mut buf).await.unwrap();
            assert_eq!(&buf[..read.len], b"question");
            server.write_message(b"answer").await.unwrap();
        };
        let mut reply = [0; 20];
        let (read, ()) = tokio::join!(call(&name, b"question", &mut reply, Some(PATIENCE)), serve);
        assert_eq!(&reply[..read.unwrap().len], b"answer");
    }
}

#[test]
fn an_accept_outside_of_a_runtime_hands_its_client_out() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let name = name();
    let inside = runtime.enter();
    let listener = Listener::bind(&name, &ServerOptions::new()).unwrap();
    let client = ClientOptions::new().open(&name).unwrap();
    drop(inside);
    let mut accept = Box::pin(listener.accept());
    let server = loop {
        match poll_once(accept.as_mut()) {
            Poll::Ready(server) => break server.unwrap(),
            Poll::Pending => std::thread::yield_now(),
        }
    };
    runtime.block_on(async {
        client.write_message(b"x").await.unwrap();
        assert_eq!(server.read_message(&mut [0; 4]).await.unwrap().len, 1);
    });
}
