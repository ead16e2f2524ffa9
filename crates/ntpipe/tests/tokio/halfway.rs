//! Operations of several steps, given up after each number of polls: whatever was not returned is
//! still there, and once.

use std::pin::{Pin, pin};
use std::task::Poll;

use ntpipe::tokio::{ClientOptions, Listener, NamedPipeServer, PipeMode, ServerOptions, call};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    PATIENCE, bytes, code, in_both_runtimes, messages, name, pattern, poll_once, put_to_sleep,
};

/// The most polls after which a future is given up; by then it sleeps.
const POLLS: usize = 6;

/// Polls a future some times, lets others run between, and gives it up unless it is done.
async fn polled<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        if let Poll::Ready(done) = poll_once(future.as_mut()) {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}

async fn sleeps<F: Future>(future: F) {
    put_to_sleep(pin!(future).as_mut());
}

/// A message server whose instances are all taken but for what the test frees.
fn busy_server(name: &str) -> (NamedPipeServer, ntpipe::tokio::NamedPipeClient) {
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message).max_instances(1);
    let server = options.create(name).unwrap();
    let taken = ClientOptions::new().open(name).unwrap();
    (server, taken)
}

async fn answer_one(server: &NamedPipeServer) -> Vec<u8> {
    let mut buf = [0; 32];
    let read = server.read_message(&mut buf).await.unwrap();
    server.write_message(b"answer").await.unwrap();
    buf[..read.len].to_vec()
}

in_both_runtimes! {
    async fn a_wait_for_an_instance_takes_none() {
        for times in 1..POLLS {
            let name = name();
            let (server, taken) = busy_server(&name);
            let options = ClientOptions::new();
            assert!(polled(times, options.open_wait(&name, PATIENCE)).await.is_none());
            sleeps(options.open_wait(&name, PATIENCE)).await;
            // It is freed while one waits who is given up afterwards: the next one finds it.
            let mut lost = Box::pin(options.open_wait(&name, PATIENCE));
            put_to_sleep(lost.as_mut());
            drop(taken);
            server.disconnect().unwrap();
            let mut connect = pin!(server.connect());
            put_to_sleep(connect.as_mut());
            drop(lost);
            let client = options.open_wait(&name, PATIENCE).await.unwrap();
            connect.await.unwrap();
            client.write_message(b"x").await.unwrap();
            assert_eq!(server.read_message(&mut [0; 4]).await.unwrap().len, 1);
        }
    }

    async fn a_call_is_heard_once_or_not_at_all() {
        for times in 1..POLLS {
            let name = name();
            let (server, taken) = busy_server(&name);
            let mut reply = [0; 32];
            // In its wait for an instance.
            assert!(polled(times, call(&name, b"never", &mut reply, Some(PATIENCE))).await.is_none());
            drop(taken);
            server.disconnect().unwrap();
            // In its wait for the answer: the request was written, and its end is closed.
            let mut connect = Box::pin(server.connect());
            put_to_sleep(connect.as_mut());
            assert!(polled(times, call(&name, b"heard", &mut reply, Some(PATIENCE))).await.is_none());
            connect.await.unwrap();
            let mut buf = [0; 32];
            let read = server.read_message(&mut buf).await.unwrap();
            assert_eq!(&buf[..read.len], b"heard");
            assert_eq!(code(server.read_message(&mut buf).await), 109);
            assert_eq!(reply, [0; 32]);
            server.disconnect().unwrap();
            // And one that is not given up.
            let both = async {
                server.connect().await.unwrap();
                answer_one(&server).await
            };
            let (read, heard) = tokio::join!(call(&name, b"again", &mut reply, Some(PATIENCE)), both);
            assert_eq!((&reply[..read.unwrap().len], &heard[..]), (&b"answer"[..], &b"again"[..]));
        }
    }

    async fn an_accept_keeps_no_client() {
        for times in 1..POLLS {
            let name = name();
            let listener = Listener::bind(&name, &ServerOptions::new()).unwrap();
            assert!(polled(times, listener.accept()).await.is_none());
            sleeps(listener.accept()).await;
            let mut lost = Box::pin(listener.accept());
            put_to_sleep(lost.as_mut());
            let client = ClientOptions::new().open(&name).unwrap();
            client.write_message(&[1]).await.unwrap();
            drop(lost);
            let mut byte = [0];
            let server = listener.accept().await.unwrap();
            assert_eq!(server.read_message(&mut byte).await.unwrap().len, 1);
            // It has not come twice.
            assert!(polled(times, listener.accept()).await.is_none());
        }
    }

    async fn a_connect_keeps_no_client() {
        for times in 1..POLLS {
            let name = name();
            let server = ServerOptions::new().create(&name).unwrap();
            for _ in 0..2 {
                assert!(polled(times, server.connect()).await.is_none());
                let mut lost = Box::pin(server.connect());
                put_to_sleep(lost.as_mut());
                let client = ClientOptions::new().open(&name).unwrap();
                drop(lost);
                server.connect().await.unwrap();
                client.write_message(b"x").await.unwrap();
                assert_eq!(server.read_message(&mut [0; 4]).await.unwrap().len, 1);
                server.disconnect().unwrap();
            }
        }
    }

    async fn a_peek_takes_nothing() {
        let name = name();
        let server = ServerOptions::new().create(&name).unwrap();
        assert_eq!(code(server.peek(&mut []).await), 230);
        let client = ClientOptions::new().open(&name).unwrap();
        client.write_message(b"here").await.unwrap();
        let mut buf = [0; 8];
        for times in 1..POLLS {
            if let Some(peek) = polled(times, server.peek(&mut buf)).await {
                assert_eq!(peek.unwrap().len, 4);
            }
        }
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 4);
    }

    async fn a_flush_keeps_nobody_waiting() {
        for times in 1..POLLS {
            let (server, client) = messages(4096);
            server.connect().await.unwrap();
            client.write_message(b"1").await.unwrap();
            assert!(polled(times, client.flush_until_read()).await.is_none());
            client.write_message(b"2").await.unwrap();
            let mut buf = [0; 4];
            for _ in 0..2 {
                assert!(polled(times, client.flush_until_read()).await.is_none());
                assert_eq!(server.read_message(&mut buf).await.unwrap().len, 1);
            }
            client.flush_until_read().await.unwrap();
        }
    }

    async fn halves_lose_nothing_either() {
        for times in 1..POLLS {
            let (server, client) = messages(8);
            server.connect().await.unwrap();
            let (mut from, mut to) = server.into_split();
            let (mut back, mut there) = client.into_split();
            let mut buf = [0; 8];
            assert!(polled(times, from.read_message(&mut buf)).await.is_none());
            assert!(polled(times, from.read(&mut buf)).await.is_none());
            there.write_message(b"12345678").await.unwrap();
            assert!(polled(times, there.write_message(b"never")).await.is_none());
            assert!(polled(times, there.write(b"never")).await.is_none());
            assert_eq!(from.read(&mut buf).await.unwrap(), 8);
            assert!(polled(times, from.read(&mut buf)).await.is_none());
            there.write_all(b"next").await.unwrap();
            assert_eq!(from.read_message(&mut buf).await.unwrap().len, 4);
            to.write_all(b"back").await.unwrap();
            assert_eq!(back.read(&mut buf).await.unwrap(), 4);
            let (server, client) = (from.reunite(to).unwrap(), back.reunite(there).unwrap());
            client.write_message(b"whole").await.unwrap();
            assert_eq!(server.read_message(&mut buf).await.unwrap().len, 5);
        }
    }

    async fn halves_of_different_ends_don_t_fit() {
        let (server, client) = messages(8);
        let (other, _client) = messages(8);
        let ((from, to), (other_from, other_to)) = (server.into_split(), other.into_split());
        let (from, other_to) = from.reunite(other_to).unwrap_err();
        let server = from.reunite(to).unwrap();
        other_from.reunite(other_to).unwrap();
        client.write_message(b"x").await.unwrap();
        assert_eq!(server.read_message(&mut [0; 4]).await.unwrap().len, 1);
    }

    async fn a_stream_cut_at_random_polls_arrives_whole_and_once() {
        let (server, client) = bytes(100);
        server.connect().await.unwrap();
        let sent = pattern(20_000);
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            let mut at = 0;
            for round in 0.. {
                let end = sent.len().min(at + 1 + round * 7 % 90);
                let written = polled(1 + round % 3, client.write_message(&sent[at..end])).await;
                at += written.map_or(0, Result::unwrap);
                if at == sent.len() {
                    return;
                }
            }
        });
        let (mut got, mut buf) = (Vec::new(), [0; 64]);
        let mut round = 0;
        loop {
            round += 1;
            match polled(1 + round % 4, server.read_message(&mut buf)).await {
                Some(Ok(read)) => got.extend_from_slice(&buf[..read.len]),
                Some(Err(error)) => break assert_eq!(code::<()>(Err(error)), 109),
                None => {}
            }
        }
        writing.await.unwrap();
        assert!(got == expected);
    }

    async fn messages_cut_at_random_polls_arrive_whole_and_once() {
        let (server, client) = messages(200);
        server.connect().await.unwrap();
        let writing = tokio::spawn(async move {
            let mut round = 0_usize;
            for number in 0..500_u32 {
                let message = vec![number.to_le_bytes(); 1 + round % 11].concat();
                loop {
                    round += 1;
                    if polled(1 + round % 3, client.write_message(&message)).await.is_some() {
                        break;
                    }
                }
            }
        });
        let mut buf = [0; 64];
        for number in 0..500_u32 {
            let mut round = number as usize;
            let read = loop {
                round += 1;
                if let Some(read) = polled(1 + round % 4, server.read_message(&mut buf)).await {
                    break read.unwrap();
                }
            };
            assert!(!read.more && read.len >= 4);
            assert!(buf[..read.len].chunks(4).all(|part| part == number.to_le_bytes()));
        }
        writing.await.unwrap();
        assert_eq!(code(server.read_message(&mut buf).await), 109);
    }

    async fn a_transaction_of_each_number_of_polls_leaves_request_and_reply() {
        for times in 1..POLLS {
            let (server, client) = messages(4096);
            server.connect().await.unwrap();
            let mut reply = [0; 8];
            assert!(polled(times, client.transact(b"one", &mut reply)).await.is_none());
            assert_eq!(answer_one(&server).await, b"one");
            let mut turn = Box::pin(client.read_message(&mut reply));
            let read = turn.as_mut().await.unwrap();
            drop(turn);
            assert_eq!(&reply[..read.len], b"answer");
            let (read, heard) = tokio::join!(client.transact(b"two", &mut reply), answer_one(&server));
            assert_eq!((read.unwrap().len, &heard[..]), (6, &b"two"[..]));
        }
    }
}

#[test]
fn waits_are_given_up_outside_of_their_runtime_too() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let name = name();
    let (server, client, listener) = runtime.block_on(async {
        let (server, client) = messages(8);
        server.connect().await.unwrap();
        client.write_message(b"12345678").await.unwrap();
        (
            server,
            client,
            Listener::bind(&name, &ServerOptions::new()).unwrap(),
        )
    });
    let mut buf = [0; 8];
    let options = ClientOptions::new();
    let (busy, taken) = runtime.block_on(async { busy_server(&self::name()) });
    {
        let mut waits: Vec<Pin<Box<dyn Future<Output = ()>>>> = vec![
            Box::pin(async { drop(client.read_message(&mut buf).await) }),
            Box::pin(async { drop(client.write_message(b"x").await) }),
            Box::pin(async { drop(client.flush_until_read().await) }),
            Box::pin(async { drop(client.readable().await) }),
            Box::pin(async { drop(listener.accept().await) }),
            Box::pin(async { drop(busy.close_write().await) }),
        ];
        runtime.block_on(async {
            for wait in &mut waits[..5] {
                put_to_sleep(wait.as_mut());
            }
        });
        drop(runtime);
        // Some after it is gone.
        drop(waits);
    }
    drop((busy, taken, options));
    assert_eq!(server.try_read(&mut buf).unwrap(), 8);
    client.try_write(b"x").unwrap();
    assert_eq!(server.try_read(&mut buf).unwrap(), 1);
    drop(listener);
    drop(server);
    assert_eq!(client.try_read(&mut buf).unwrap(), 0);
}
