//! `fork` without `exec`, with tasks: what the child drops of its parent's changes nothing there.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::{Pin, pin};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use ntpipe::IoErrorExt;
use ntpipe::tokio::{self as pipes, ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::runtime::{Builder, Runtime};

mod support;
use support::forked::fork;
use support::{Child, PIPE, Scenario, descriptors, hear, say, this_test};

const LARGE: usize = 3 << 20;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Both ends of the only instance, with small buffers.
async fn pair() -> (NamedPipeServer, NamedPipeClient) {
    let mut options = pipes::ServerOptions::new();
    options.pipe_mode(PipeMode::Message).max_instances(1);
    let server = options.in_buffer_size(64).out_buffer_size(64);
    let server = server.create(PIPE).unwrap();
    let client = open();
    server.connect().await.unwrap();
    (server, client)
}

fn open() -> NamedPipeClient {
    let mut options = ClientOptions::new();
    options.pipe_mode(PipeMode::Message).open(PIPE).unwrap()
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls until it sleeps; returns what counts its wake-ups from then on.
fn put_to_sleep<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Arc<Wakes> {
    loop {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(poll.is_pending());
        if wakes.0.load(Ordering::SeqCst) == 0 {
            return wakes;
        }
    }
}

async fn until_woken(wakes: &Wakes) {
    while wakes.0.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

/// The only poll that there is must be an answer.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}

fn code<T>(result: io::Result<T>) -> Option<u32> {
    result.err().and_then(|error| error.win32_code())
}

fn refused<T>(poll: Poll<io::Result<T>>) -> Option<u32> {
    match poll {
        Poll::Ready(done) => code(done),
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn a_doorbell_that_a_forked_child_drops_is_heard_as_before() {
    Scenario::alone(this_test!(), || {
        runtime().block_on(async {
            let (server, client) = pair().await;
            // It is watched from now on.
            put_to_sleep(pin!(server.readable()).as_mut());
            let mut server = Some(server);
            drop(fork(|| drop(server.take())));
            let server = server.unwrap();
            let mut buf = [0; 10];
            let mut read = Box::pin(server.read_message(&mut buf));
            let wakes = put_to_sleep(read.as_mut());
            client.write_message(b"hello").await.unwrap();
            until_woken(&wakes).await;
            assert_eq!(read.await.unwrap().len, 5);
        });
    });
}

#[test]
fn a_wait_that_a_forked_child_drops_goes_on_for_its_parent() {
    Scenario::alone(this_test!(), || {
        runtime().block_on(async {
            let (server, client) = pair().await;
            let reader = async move {
                let read = server.read_message(&mut [0; 10]).await;
                (server, read.unwrap().len)
            };
            let mut reader = Some(Box::pin(reader));
            let wakes = put_to_sleep(reader.as_mut().unwrap().as_mut());
            drop(fork(|| drop(reader.take())));
            client.write_message(b"hello").await.unwrap();
            until_woken(&wakes).await;
            assert_eq!(reader.unwrap().await.1, 5);
        });
    });
}

#[test]
fn a_message_that_goes_on_by_itself_is_not_taken_back_by_a_forked_child() {
    Scenario::alone(this_test!(), || {
        let runtime = runtime();
        let (server, client) = runtime.block_on(async {
            let (server, client) = pair().await;
            assert_eq!(client.try_write(&vec![7; LARGE]).unwrap(), LARGE);
            // Its task sleeps.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            (server, client)
        });
        let mut held = Some((runtime, server, client));
        drop(fork(|| {
            let (runtime, server, client) = held.take().unwrap();
            drop(runtime);
            drop((server, client));
        }));
        let (runtime, server, client) = held.unwrap();
        runtime.block_on(async {
            let mut buf = vec![0; LARGE + 1];
            let read = server.read_message(&mut buf).await.unwrap();
            assert_eq!((read.len, read.more), (LARGE, false));
            client.write_message(b"next").await.unwrap();
            assert_eq!(server.read_message(&mut buf).await.unwrap().len, 4);
        });
    });
}

#[test]
fn a_wait_for_an_instance_that_a_forked_child_drops_goes_on() {
    Scenario::alone(this_test!(), || {
        runtime().block_on(async {
            let (server, client) = pair().await;
            let mut waiting = Some(Box::pin(pipes::wait(PIPE, Some(Duration::MAX))));
            let wakes = put_to_sleep(waiting.as_mut().unwrap().as_mut());
            drop(fork(|| drop(waiting.take())));
            drop(client);
            server.disconnect().unwrap();
            put_to_sleep(pin!(server.connect()).as_mut());
            until_woken(&wakes).await;
            waiting.unwrap().await.unwrap();
        });
    });
}

#[test]
fn a_forked_child_does_not_wait_at_its_parent_s_ends() {
    Scenario::alone(this_test!(), || {
        runtime().block_on(async {
            let (server, client) = pair().await;
            drop(fork(|| {
                assert_eq!(code(at_once(server.readable())), Some(6));
                assert_eq!(code(at_once(client.read_message(&mut [0; 4]))), Some(6));
                assert_eq!(code(at_once(client.write_message(b"x"))), Some(6));
                assert_eq!(code(at_once(client.close_write())), Some(6));
            }));
            client.write_message(b"x").await.unwrap();
            assert_eq!(server.read_message(&mut [0; 4]).await.unwrap().len, 1);
        });
    });
}

#[test]
fn what_does_not_wait_is_refused_in_a_forked_child_too() {
    Scenario::alone(this_test!(), || {
        runtime().block_on(async {
            let (mut server, client) = pair().await;
            let mut thread = Some(server.try_clone().unwrap().into_blocking());
            client.write_message(b"x").await.unwrap();
            drop(fork(|| {
                let mut buf = [0; 4];
                let mut cx = Context::from_waker(Waker::noop());
                let mut is_done = false;
                let mut done = || {
                    is_done = true;
                    Ok(())
                };
                let both = Interest::READABLE | Interest::WRITABLE;
                assert_eq!(code(server.try_io(both, &mut done)), Some(6));
                assert_eq!(code(at_once(server.async_io(both, &mut done))), Some(6));
                assert!(!is_done);
                assert_eq!(code(server.try_read(&mut buf)), Some(6));
                let bufs = &mut [IoSliceMut::new(&mut buf)];
                assert_eq!(code(server.try_read_vectored(bufs)), Some(6));
                assert_eq!(code(server.try_read_buf(&mut Vec::new())), Some(6));
                assert_eq!(code(server.try_write(b"y")), Some(6));
                let bufs = [IoSlice::new(b"y"), IoSlice::new(b"z")];
                assert_eq!(code(server.try_write_vectored(&bufs)), Some(6));
                assert_eq!(refused(server.poll_read_ready(&mut cx)), Some(6));
                assert_eq!(refused(server.poll_write_ready(&mut cx)), Some(6));
                let mut end = Pin::new(&mut server);
                let read = end.as_mut().poll_read(&mut cx, &mut ReadBuf::new(&mut buf));
                assert_eq!(refused(read), Some(6));
                assert_eq!(refused(end.as_mut().poll_write(&mut cx, b"y")), Some(6));
                let written = end.poll_write_vectored(&mut cx, &bufs);
                assert_eq!(refused(written), Some(6));
                assert_eq!(code(server.try_clone()), Some(6));
                let adopted = NamedPipeServer::from_blocking(thread.take().unwrap());
                assert_eq!(code(adopted), Some(6));
            }));
            assert_eq!(server.try_read(&mut [0; 4]).unwrap(), 1);
        });
    });
}

/// How many pieces of shared memory this process has mapped.
fn mappings() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("memfd")).count()
}

#[test]
fn a_connection_that_is_over_is_kept_by_no_handle() {
    Scenario::alone(this_test!(), || {
        runtime().block_on(async {
            let (server, client) = pair().await;
            let (idle, asleep) = (server.try_clone().unwrap(), server.try_clone().unwrap());
            drop(client);
            server.disconnect().unwrap();
            let mut connect = Box::pin(server.connect());
            put_to_sleep(connect.as_mut());
            let before = (mappings(), descriptors());
            let client = open();
            connect.await.unwrap();
            put_to_sleep(pin!(idle.readable()).as_mut());
            let mut readable = Box::pin(asleep.readable());
            put_to_sleep(readable.as_mut());
            drop(client);
            server.disconnect().unwrap();
            readable.await.unwrap();
            let mut connect = Box::pin(server.connect());
            put_to_sleep(connect.as_mut());
            // The one that did not wait keeps a descriptor, and no memory.
            support::until(|| descriptors() <= before.1 + 1);
            assert_eq!(mappings(), before.0);
            put_to_sleep(Box::pin(idle.connect()).as_mut());
            drop(idle);
            support::until(|| descriptors() <= before.1);
        });
    });
}

fn signal(child: &Child, signal: Signal) {
    let id = Pid::from_raw(child.id().cast_signed()).unwrap();
    kill_process(id, signal).unwrap();
}

#[test]
fn the_default_time_of_a_wait_is_no_matter_for_which_tasks_are_kept() {
    Scenario::new(this_test!())
        .role("owner", || {
            runtime().block_on(async {
                let _server = pipes::ServerOptions::new().create(PIPE).unwrap();
                say("up");
                hear();
            });
        })
        .role("waiter", || {
            runtime().block_on(async {
                let mut waiting = pin!(pipes::wait(PIPE, None));
                let mut cx = Context::from_waker(Waker::noop());
                assert!(waiting.as_mut().poll(&mut cx).is_pending());
                say(process::id());
                waiting.await.unwrap();
            });
        })
        .run(|stage| {
            let mut owner = stage.start("owner");
            owner.expect("up");
            signal(&owner, Signal::STOP);
            let mut waiter = stage.start("waiter");
            let id = waiter.id().to_string();
            waiter.expect(&id);
            signal(&owner, Signal::CONT);
            waiter.finish();
            owner.say("enough");
            owner.finish();
        });
}

/// How often a process is forked while another thread is at work.
const FORKS: u32 = 200;

#[test]
fn waits_for_clients_that_a_forked_child_drops_take_no_locks() {
    Scenario::alone(this_test!(), || {
        let runtime = runtime();
        let _context = runtime.enter();
        let bind = || pipes::Listener::bind(PIPE, &pipes::ServerOptions::new()).unwrap();
        let listener = bind();
        let work = || {
            let _context = runtime.enter();
            let accept = pin!(listener.accept());
            let poll = accept.poll(&mut Context::from_waker(Waker::noop()));
            assert!(poll.is_pending());
        };
        drop(hammer_at(work, Box::pin(listener.accept())));
        hammer(work, || {
            let mut cx = Context::from_waker(Waker::noop());
            assert_eq!(refused(listener.poll_accept(&mut cx)), Some(6));
        });
    });
}

/// Forks again and again while another thread is at work. A child that waits for a lock is killed
/// with this process.
fn hammer(work: impl Fn() + Sync, mut child: impl FnMut()) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                work();
            }
        });
        (0..FORKS).for_each(|_| drop(fork(&mut child)));
        is_over.store(true, Ordering::Relaxed);
    });
}

/// As [`hammer`], with a child that drops a future which sleeps in its parent.
fn hammer_at<F: Future>(work: impl Fn() + Sync, mut future: Pin<Box<F>>) -> Pin<Box<F>> {
    put_to_sleep(future.as_mut());
    let mut future = Some(future);
    hammer(work, || drop(future.take()));
    future.unwrap()
}

#[test]
fn operations_that_a_forked_child_drops_go_on_for_its_parent() {
    Scenario::alone(this_test!(), || {
        let runtime = runtime();
        let (server, client) = runtime.block_on(pair());
        let threads = runtime.block_on(async { client.try_clone() });
        let threads = threads.unwrap().into_blocking();
        let mut reply = [0; 8];
        let _context = runtime.enter();
        let look = || drop(threads.peek(&mut [0; 8]));
        let transact = hammer_at(look, Box::pin(client.transact(b"ask", &mut reply)));
        runtime.block_on(async {
            assert_eq!(server.read_message(&mut [0; 8]).await.unwrap().len, 3);
            server.write_message(b"reply").await.unwrap();
            assert_eq!(transact.await.unwrap().len, 5);
        });
        runtime.block_on(client.write_message(b"unread")).unwrap();
        let look = || drop(threads.local_info());
        let flush = hammer_at(look, Box::pin(client.flush_until_read()));
        runtime.block_on(async {
            assert_eq!(server.read_message(&mut [0; 8]).await.unwrap().len, 6);
            flush.await.unwrap();
        });
    });
}
