//! What all these tests need.

use std::fs;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use ntpipe::IoErrorExt;
use ntpipe::tokio::{ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions};
use rustix::thread::Pid;

/// A test that takes longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Each of these functions is a test in a runtime of one thread and in one of several.
macro_rules! in_both_runtimes {
    ($($(#[$note:meta])* async fn $name:ident() $body:block)*) => {$(
        mod $name {
            use super::*;

            $(#[$note])*
            async fn play() $body

            #[tokio::test(flavor = "current_thread")]
            async fn on_one_thread() {
                tokio::time::timeout(crate::support::PATIENCE, play()).await.unwrap();
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_two_threads() {
                let play = tokio::spawn(tokio::time::timeout(crate::support::PATIENCE, play()));
                play.await.unwrap().unwrap();
            }
        }
    )*};
}
pub(crate) use in_both_runtimes;

/// A name that no other test has.
pub(crate) fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(r"\\.\pipe\ntpipe-test-tokio-{}-{next}", std::process::id())
}

/// Both ends of a pipe.
pub(crate) fn pair(options: &ServerOptions) -> (NamedPipeServer, NamedPipeClient) {
    let name = name();
    let server = options.create(&name).unwrap();
    let client = ClientOptions::new().open(&name).unwrap();
    (server, client)
}

/// Both ends of a message pipe, in message read mode, with buffers of this size.
pub(crate) fn messages(quota: u32) -> (NamedPipeServer, NamedPipeClient) {
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message);
    let (server, client) = pair(options.in_buffer_size(quota).out_buffer_size(quota));
    client.set_read_mode(PipeMode::Message).unwrap();
    (server, client)
}

/// Both ends of a byte pipe with buffers of this size.
pub(crate) fn bytes(quota: u32) -> (NamedPipeServer, NamedPipeClient) {
    pair(
        ServerOptions::new()
            .in_buffer_size(quota)
            .out_buffer_size(quota),
    )
}

/// The Win32 code of a failure.
pub(crate) fn code<T>(result: std::io::Result<T>) -> u32 {
    result.err().unwrap().win32_code().unwrap()
}

/// Whether it is a failure that says to wait.
pub(crate) fn would_block<T>(result: std::io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Counts how often a task was woken.
#[derive(Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wakes {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Polls a future once.
pub(crate) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls a future until it goes to sleep; returns what counts its wake-ups from then on.
pub(crate) fn put_to_sleep<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Arc<Wakes> {
    loop {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(poll.is_pending());
        if wakes.count() == 0 {
            return wakes;
        }
    }
}

/// Waits until another thread of this process sleeps in a call.
pub(crate) fn until_asleep(thread: Pid) {
    let stat = format!("/proc/self/task/{}/stat", thread.as_raw_nonzero());
    let is_asleep = || {
        let stat = fs::read_to_string(&stat).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('S')
    };
    while !is_asleep() {
        thread::yield_now();
    }
}

/// Bytes that tell their place.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect()
}
