//! `cancel_io`: every call that waits ends with 995, and nothing is lost.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::thread;

use ntpipe::tokio::{ClientOptions, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};

use crate::support::{bytes, code, in_both_runtimes, messages, name, pattern, put_to_sleep};

type Call<'a> = Pin<Box<dyn Future<Output = io::Result<usize>> + Send + 'a>>;

/// A call, whatever it returns.
fn call<'a, T>(future: impl Future<Output = io::Result<T>> + Send + 'a) -> Call<'a> {
    Box::pin(async move { future.await.map(|_| 0) })
}

in_both_runtimes! {
    async fn calls_of_every_kind_are_ended_and_take_nothing() {
        let (server, client) = messages(8);
        assert_eq!(code(server.cancel_io()), 1168);
        server.write_message(b"12345678").await.unwrap();
        let mut buf = [0; 8];
        let mut reply = [0; 8];
        let mut calls = vec![
            call(server.read_message(&mut buf)),
            call(server.write_message(b"more")),
            call(server.flush_until_read()),
            call(server.readable()),
            call(server.writable()),
            call(server.ready(Interest::READABLE)),
            call(server.async_io(Interest::READABLE, || server.try_read(&mut reply))),
        ];
        let wakes: Vec<_> = calls.iter_mut().map(|call| put_to_sleep(call.as_mut())).collect();
        server.cancel_io().unwrap();
        assert!(wakes.iter().all(|wakes| wakes.count() > 0));
        // They are over for those that come next, whether or not their tasks have run.
        assert_eq!(code(server.cancel_io()), 1168);
        for call in calls {
            assert_eq!(code(call.await), 995);
        }
        assert_eq!(code(server.cancel_io()), 1168);
        let mut other = [0; 8];
        assert_eq!(client.read_message(&mut other).await.unwrap().len, 8);
        server.write_message(b"next").await.unwrap();
        assert_eq!(client.read_message(&mut other).await.unwrap().len, 4);
        client.write_message(b"answer").await.unwrap();
        assert_eq!(server.read_message(&mut other).await.unwrap().len, 6);
    }

    async fn a_cancelled_call_leaves_what_has_come_to_the_next() {
        let (server, client) = messages(64);
        let mut buf = [0; 8];
        let mut read = pin!(server.read_message(&mut buf));
        put_to_sleep(read.as_mut());
        server.cancel_io().unwrap();
        client.write_message(b"late").await.unwrap();
        assert_eq!(code(read.await), 995);
        assert_eq!(server.read_message(&mut [0; 8]).await.unwrap().len, 4);
    }

    async fn a_read_that_has_begun_leaves_its_part_to_the_next() {
        let (server, client) = messages(4096);
        let sent = pattern(400_000);
        let mut buf = vec![0; sent.len()];
        // Larger than the ring: the rest is on its way when the read is cancelled.
        let mut write = pin!(client.write_message(&sent));
        {
            let mut read = pin!(server.read_message(&mut buf[..]));
            assert!(crate::support::poll_once(write.as_mut()).is_ready());
            if crate::support::poll_once(read.as_mut()).is_pending() {
                let _ = server.cancel_io();
                assert_eq!(code(read.await), 995);
            }
        }
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, sent.len());
        assert!(buf == sent);
    }

    async fn a_message_that_was_accepted_goes_on() {
        let (server, client) = messages(8);
        let sent = pattern(400_000);
        client.write_message(&sent).await.unwrap();
        // What is left of it is nobody's call.
        tokio::task::yield_now().await;
        assert_eq!(code(client.cancel_io()), 1168);
        let mut calls = [call(client.write_message(b"behind")), call(client.close_write())];
        calls.iter_mut().for_each(|call| drop(put_to_sleep(call.as_mut())));
        client.cancel_io().unwrap();
        for call in calls {
            assert_eq!(code(call.await), 995);
        }
        let mut buf = vec![0; sent.len()];
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, sent.len());
        assert!(buf == sent);
        client.write_message(b"next").await.unwrap();
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 4);
    }

    async fn the_request_of_a_cancelled_transaction_stays() {
        let (server, client) = messages(64);
        let mut reply = [0; 8];
        let mut transact = Box::pin(client.transact(b"ask", &mut reply));
        put_to_sleep(transact.as_mut());
        client.cancel_io().unwrap();
        assert_eq!(code(transact.await), 995);
        let mut buf = [0; 8];
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 3);
        server.write_message(b"answer").await.unwrap();
        assert_eq!(client.read_message(&mut reply).await.unwrap().len, 6);
        // And its turn is over.
        let serve = async {
            server.read_message(&mut buf).await.unwrap();
            server.write_message(b"yes").await.unwrap();
        };
        let (read, ()) = tokio::join!(client.transact(b"ask", &mut reply), serve);
        assert_eq!(read.unwrap().len, 3);
    }

    async fn an_instance_whose_connect_was_cancelled_listens_still() {
        let name = name();
        let server = ServerOptions::new().create(&name).unwrap();
        let mut connect = Box::pin(server.connect());
        put_to_sleep(connect.as_mut());
        let mut buf = [0; 4];
        let mut read = Box::pin(server.read_message(&mut buf));
        let wakes = put_to_sleep(read.as_mut());
        server.cancel_io().unwrap();
        assert!(wakes.count() > 0);
        assert_eq!((code(connect.await), code(read.await)), (995, 995));
        let _client = ClientOptions::new().open(&name).unwrap();
        server.connect().await.unwrap();
    }

    async fn a_task_that_polls_gets_the_error_from_its_next_poll() {
        let (mut server, mut client) = bytes(8);
        let mut buf = [0; 4];
        {
            let mut read = pin!(server.read(&mut buf));
            let wakes = put_to_sleep(read.as_mut());
            drop(wakes);
        }
        // Nobody can see that this was given up.
        server.cancel_io().unwrap();
        assert_eq!(code(server.read(&mut buf).await), 995);
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read(&mut buf).await.unwrap(), 1);
        client.write_all(b"12345678").await.unwrap();
        let other = client.try_clone().unwrap();
        {
            let mut write = pin!(client.write(b"x"));
            let wakes = put_to_sleep(write.as_mut());
            other.cancel_io().unwrap();
            assert!(wakes.count() > 0);
            assert_eq!(code(write.await), 995);
        }
        assert_eq!(code(client.cancel_io()), 1168);
    }

    async fn whoever_waits_is_cancelled_whatever_handle_it_has() {
        let (server, client) = messages(64);
        let other = client.try_clone().unwrap();
        let (mut one, mut two) = ([0; 4], [0; 4]);
        let mut reads = [call(client.read_message(&mut one)), call(other.read_message(&mut two))];
        reads.iter_mut().for_each(|read| drop(put_to_sleep(read.as_mut())));
        let halves = server.into_split();
        halves.0.as_ref().cancel_io().unwrap_err();
        other.cancel_io().unwrap();
        for read in reads {
            assert_eq!(code(read.await), 995);
        }
    }

    async fn threads_and_tasks_cancel_each_other() {
        let (_server, client) = messages(64);
        let thread_s = ntpipe::NamedPipeClient::try_from({
            use ntpipe::os::windows::io::AsHandle;
            client.as_handle().try_clone_to_owned().unwrap()
        }).unwrap();
        let mut buf = [0; 4];
        let mut read = Box::pin(client.read_message(&mut buf));
        put_to_sleep(read.as_mut());
        thread_s.cancel_io().unwrap();
        assert_eq!(code(read.await), 995);
        let waiting = thread::spawn(move || code(thread_s.read_message(&mut [0; 4])));
        while client.cancel_io().is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(waiting.join().unwrap(), 995);
    }
}
