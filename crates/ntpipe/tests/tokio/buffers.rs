//! Reads into buffers that are large, not initialized, or several.

use std::io::IoSliceMut;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use ntpipe::tokio::NamedPipeClient;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use crate::support::{bytes, in_both_runtimes, messages, pattern, would_block};

const LARGE: usize = 200_000;

/// Polls a read into a buffer that nobody has initialized; returns how much of it is now.
fn poll_read(client: &mut NamedPipeClient, buf: &mut ReadBuf<'_>) -> Poll<usize> {
    let mut cx = Context::from_waker(Waker::noop());
    let read = Pin::new(client).poll_read(&mut cx, buf);
    read.map(|read| read.map(|()| buf.initialized().len()).unwrap())
}

in_both_runtimes! {
    async fn only_what_is_read_is_initialized() {
        for (server, mut client) in [messages(4096), bytes(4096)] {
            let mut memory = Box::new_uninit_slice(LARGE);
            let mut buf = ReadBuf::uninit(&mut memory);
            for _ in 0..10 {
                assert!(poll_read(&mut client, &mut buf).is_pending());
                assert!(buf.initialized().is_empty());
            }
            server.write_message(&pattern(1000)).await.unwrap();
            assert_eq!(poll_read(&mut client, &mut buf), Poll::Ready(1000));
            assert!(*buf.filled() == pattern(1000));
            drop(server);
            assert_eq!(poll_read(&mut client, &mut buf), Poll::Ready(1000));
            assert_eq!(buf.filled().len(), 1000);
        }
    }

    async fn a_message_is_whole_in_every_kind_of_buffer() {
        let (server, mut client) = messages(1 << 20);
        let sent = pattern(LARGE);
        for _ in 0..4 {
            server.write_message(&sent).await.unwrap();
        }
        let mut got = Vec::with_capacity(2 * LARGE);
        assert_eq!(client.try_read_buf(&mut got).unwrap(), LARGE);
        assert_eq!(client.read_buf(&mut got).await.unwrap(), LARGE);
        assert!(got[..LARGE] == sent && got[LARGE..] == sent);
        let (mut one, mut two) = (vec![0; 100], vec![0; LARGE]);
        let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        assert_eq!(client.try_read_vectored(&mut bufs).unwrap(), LARGE);
        assert!(one == sent[..100] && two[..LARGE - 100] == sent[100..]);
        // What has no room comes with the next reads.
        let mut small = Vec::with_capacity(1000);
        assert_eq!(client.try_read_buf(&mut small).unwrap(), 1000);
        let mut rest = Vec::with_capacity(LARGE);
        assert_eq!(client.try_read_buf(&mut rest).unwrap(), LARGE - 1000);
        assert!(small == sent[..1000] && rest == sent[1000..]);
        assert!(would_block(client.try_read_buf(&mut small)));
    }

    async fn a_message_larger_than_the_ring_is_whole_there_too() {
        let (mut server, mut client) = messages(4096);
        let sent = pattern(1 << 20);
        let read = async {
            let mut got = Vec::with_capacity(sent.len());
            assert_eq!(client.read_buf(&mut got).await.unwrap(), sent.len());
            assert!(got == sent);
        };
        let write = async { server.write_all(&sent).await.unwrap() };
        tokio::join!(read, write);
    }

    async fn empty_messages_and_the_end_need_no_buffer() {
        let (server, mut client) = messages(64);
        server.write_message(b"").await.unwrap();
        server.write_message(b"x").await.unwrap();
        let mut got = Vec::with_capacity(LARGE);
        assert_eq!(client.try_read_buf(&mut got).unwrap(), 0);
        assert_eq!(client.read_buf(&mut got).await.unwrap(), 1);
        assert!(would_block(client.try_read_buf(&mut got)));
        drop(server);
        assert_eq!(client.try_read_buf(&mut got).unwrap(), 0);
        assert_eq!(client.read_buf(&mut got).await.unwrap(), 0);
        assert_eq!(got, b"x");
    }

    async fn bytes_of_many_writes_come_at_once() {
        let (server, client) = bytes(4096);
        for byte in pattern(300) {
            server.write_message(&[byte]).await.unwrap();
        }
        let mut got = Vec::with_capacity(LARGE);
        assert_eq!(client.try_read_buf(&mut got).unwrap(), 300);
        assert!(got == pattern(300));
    }
}
