//! Wakers that do at once what executors mostly do later: they drop their task, or run it, and
//! come back to the very end, name or listener that has just woken them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use ntpipe::tokio::{
    ClientOptions, Listener, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions,
};
use tokio::runtime::{Builder, Handle};

use crate::support::{PATIENCE, code, name, put_to_sleep};

/// Plays in a thread of its own, within a runtime: a deadlock fails the test.
fn play(play: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = channel();
    let player = thread::spawn(move || {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let _runtime = runtime.enter();
        play();
        sender.send(()).unwrap();
    });
    match receiver.recv_timeout(PATIENCE) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Ok(()) | Err(_) => player.join().unwrap(),
    }
}

type Act = Box<dyn FnOnce() + Send>;

/// Does something when it is woken for the first time, or when it is dropped.
struct Hook {
    on_wake: Mutex<Option<Act>>,
    on_drop: Mutex<Option<Act>>,
}

impl Wake for Hook {
    fn wake(self: Arc<Self>) {
        let act = self.on_wake.lock().unwrap().take();
        if let Some(act) = act {
            act();
        }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        if let Some(act) = self.on_drop.get_mut().unwrap().take() {
            act();
        }
    }
}

/// Whether a hook has done what it does.
struct Done(Receiver<()>);

impl Done {
    fn wait(&self) {
        self.0.recv_timeout(PATIENCE).unwrap();
    }
}

fn told(act: impl FnOnce() + Send + 'static) -> (Act, Done) {
    let (sender, receiver): (Sender<()>, _) = channel();
    let act = move || {
        act();
        let _ = sender.send(());
    };
    (Box::new(act), Done(receiver))
}

fn on_wake(act: impl FnOnce() + Send + 'static) -> (Waker, Done) {
    let (act, done) = told(act);
    let hook = Hook {
        on_wake: Mutex::new(Some(act)),
        on_drop: Mutex::new(None),
    };
    (Waker::from(Arc::new(hook)), done)
}

fn on_drop(act: impl FnOnce() + Send + 'static) -> (Waker, Done) {
    let (act, done) = told(act);
    let hook = Hook {
        on_wake: Mutex::new(None),
        on_drop: Mutex::new(Some(act)),
    };
    (Waker::from(Arc::new(hook)), done)
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task that sleeps; its waker drops it, and all that it owns, and then does `more`.
fn doomed(
    task: impl Future<Output = ()> + Send + 'static,
    more: impl FnOnce() + Send + 'static,
) -> Done {
    let mut task: Task = Box::pin(task);
    put_to_sleep(task.as_mut());
    let slot = Arc::new(Mutex::new(None));
    let taken = Arc::clone(&slot);
    let (waker, done) = on_wake(move || {
        drop(taken.lock().unwrap().take());
        more();
    });
    assert!(poll(&mut task, &waker).is_pending());
    *slot.lock().unwrap() = Some(task);
    done
}

/// A task that sleeps; its waker polls it, which must be the end of it, and then does `more`.
fn eager(
    task: impl Future<Output = ()> + Send + 'static,
    more: impl FnOnce() + Send + 'static,
) -> Done {
    let mut task: Task = Box::pin(task);
    put_to_sleep(task.as_mut());
    let slot: Arc<Mutex<Option<Task>>> = Arc::default();
    let taken = Arc::clone(&slot);
    let (waker, done) = on_wake(move || {
        let task = taken.lock().unwrap().take();
        assert!(poll(&mut task.unwrap(), Waker::noop()).is_ready());
        more();
    });
    assert!(poll(&mut task, &waker).is_pending());
    *slot.lock().unwrap() = Some(task);
    done
}

fn poll(task: &mut Task, waker: &Waker) -> Poll<()> {
    task.as_mut().poll(&mut Context::from_waker(waker))
}

/// Looks at the name, its instances and the end.
fn look_at(end: &NamedPipeServer) {
    end.info().unwrap();
    assert!(format!("{end:?}").contains("state"));
}

/// Both ends of a byte pipe with buffers of 10 bytes, connected for the server too.
fn connected() -> (NamedPipeServer, NamedPipeClient) {
    let mut options = ServerOptions::new();
    let (server, client) = crate::support::pair(options.in_buffer_size(10).out_buffer_size(10));
    let server = server.into_blocking();
    server.connect().unwrap();
    (NamedPipeServer::from_blocking(server).unwrap(), client)
}

/// A server end, for a task and for others.
fn shared_server(options: &ServerOptions, name: &str) -> Arc<NamedPipeServer> {
    Arc::new(options.create(name).unwrap())
}

#[test]
fn a_client_comes_and_the_task_that_waits_for_it_is_dropped() {
    play(|| {
        let name = name();
        let first = shared_server(&ServerOptions::new(), &name);
        let waits = Arc::clone(&first);
        let done = doomed(async move { waits.connect().await.unwrap() }, move || {
            // The last handle: the instance is closed.
            look_at(&first);
            drop(first);
        });
        let client = ClientOptions::new().open(&name).unwrap();
        done.wait();
        assert_eq!(code(client.try_write(b"x")), 232);
    });
}

#[test]
fn a_client_comes_and_the_task_that_waits_for_it_runs() {
    play(|| {
        let name = name();
        let first = shared_server(&ServerOptions::new(), &name);
        let waits = Arc::clone(&first);
        let connect = async move { waits.connect().await.unwrap() };
        let again = name.clone();
        let done = eager(connect, move || {
            // There is no runtime here.
            assert_eq!(
                ntpipe::ServerOptions::new()
                    .create(&again)
                    .unwrap()
                    .instances()
                    .unwrap(),
                2
            );
            first.disconnect().unwrap();
        });
        let client = ClientOptions::new().open(&name).unwrap();
        done.wait();
        assert_eq!(code(client.try_write(b"x")), 233);
    });
}

#[test]
fn a_disconnect_wakes_a_task_that_drops_the_end() {
    play(|| {
        let (server, _client) = connected();
        let server = server.into_blocking();
        let waits = NamedPipeServer::from_blocking(server.clone()).unwrap();
        let read = async move { drop(waits.read_message(&mut [0]).await) };
        let handle = server.clone();
        let done = doomed(read, move || handle.close());
        server.disconnect().unwrap();
        done.wait();
    });
}

#[test]
fn a_disconnect_wakes_a_task_that_waits_for_the_next_client() {
    play(|| {
        let server = shared_server(&ServerOptions::new(), &name());
        let (waits, other) = (Arc::clone(&server), Arc::clone(&server));
        let connect = async move { assert_eq!(code(waits.connect().await), 233) };
        let done = eager(connect, move || {
            look_at(&other);
            put_to_sleep(Box::pin(other.connect()).as_mut());
        });
        server.disconnect().unwrap();
        done.wait();
    });
}

#[test]
fn cancelling_wakes_tasks_that_wait_for_a_client() {
    play(|| {
        let server = ServerOptions::new().create(name()).unwrap().into_blocking();
        let waits = NamedPipeServer::from_blocking(server.clone()).unwrap();
        let done = doomed(async move { drop(waits.connect().await) }, || {});
        // No call of a thread waits.
        assert_eq!(code(server.cancel_io()), 1168);
        done.wait();
    });
}

#[test]
fn cancelling_wakes_tasks_that_read_and_write() {
    play(|| {
        let (server, client) = connected();
        server.try_write(&[0; 10]).unwrap();
        let server = server.into_blocking();
        for writes in [false, true] {
            let end = NamedPipeServer::from_blocking(server.clone()).unwrap();
            let wait = async move {
                match writes {
                    true => drop(end.write_message(b"x").await),
                    false => drop(end.read_message(&mut [0]).await),
                }
            };
            let other = server.clone();
            let done = doomed(wait, move || {
                other.peek(&mut []).unwrap();
                assert_eq!(code(other.cancel_io()), 1168);
            });
            assert_eq!(code(server.cancel_io()), 1168);
            done.wait();
        }
        drop(client);
    });
}

#[test]
fn a_client_closes_and_the_task_that_reads_is_dropped() {
    play(|| {
        let (server, client) = connected();
        let server = Arc::new(server);
        let waits = Arc::clone(&server);
        let read = async move { drop(waits.read_message(&mut [0]).await) };
        let done = doomed(read, move || {
            look_at(&server);
            drop(server);
        });
        drop(client);
        done.wait();
    });
}

#[test]
fn a_client_that_closes_itself_wakes_a_task_that_looks_at_it() {
    play(|| {
        let (server, client) = connected();
        let client = client.into_blocking();
        let waits = NamedPipeClient::from_blocking(client.clone()).unwrap();
        let read = async move { drop(waits.read_message(&mut [0]).await) };
        let other = client.clone();
        let done = doomed(read, move || {
            other.peek(&mut []).unwrap_err();
            other.close();
        });
        client.close();
        done.wait();
        assert_eq!(server.try_read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn who_waits_for_an_instance_gives_up_when_there_is_one() {
    play(|| {
        let name = name();
        let server = shared_server(&ServerOptions::new(), &name);
        let _client = ClientOptions::new().open(&name).unwrap();
        let (known, other) = (name.clone(), Arc::clone(&server));
        let open = async move {
            drop(ClientOptions::new().open_wait(&known, PATIENCE).await);
        };
        let done = doomed(open, move || look_at(&other));
        let next = ServerOptions::new().create(&name).unwrap();
        done.wait();
        look_at(&next);
    });
}

#[test]
fn an_instance_comes_back_and_the_task_that_accepts_drops_the_listener() {
    play(|| {
        let name = name();
        let mut options = ServerOptions::new();
        let listener = Listener::bind(&name, options.max_instances(1)).unwrap();
        let listener = Arc::new(listener);
        let _client = ClientOptions::new().open(&name).unwrap();
        let (first, waits) = (accepted(&listener).unwrap(), Arc::clone(&listener));
        let accept = async move { drop(waits.accept().await) };
        let done = doomed(accept, move || {
            put_to_sleep(Box::pin(listener.accept()).as_mut());
            drop(listener);
        });
        drop(first);
        done.wait();
        assert_eq!(code(ClientOptions::new().open(&name)), 2);
    });
}

#[test]
fn a_client_comes_and_the_task_that_accepts_it_runs() {
    play(|| {
        let name = name();
        let listener = Arc::new(Listener::bind(&name, &ServerOptions::new()).unwrap());
        let (waits, other) = (Arc::clone(&listener), Arc::clone(&listener));
        let accept = async move { drop(waits.accept().await.unwrap()) };
        let done = eager(accept, move || other.close());
        let client = ClientOptions::new().open(&name).unwrap();
        done.wait();
        assert_eq!(code(client.try_write(b"x")), 232);
        assert_eq!(code(accepted(&listener)), 995);
    });
}

#[test]
fn closing_a_listener_wakes_a_task_that_drops_it() {
    play(|| {
        let listener = Arc::new(Listener::bind(name(), &ServerOptions::new()).unwrap());
        let (waits, other) = (Arc::clone(&listener), Arc::clone(&listener));
        let accept = async move { assert_eq!(code(waits.accept().await), 995) };
        let done = eager(accept, move || other.close());
        listener.close();
        done.wait();
    });
}

#[test]
fn data_and_room_wake_tasks_that_drop_their_ends() {
    play(|| {
        let (server, client) = connected();
        let done = doomed(
            async move { drop(server.read_message(&mut [0]).await) },
            || {},
        );
        client.try_write(b"x").unwrap();
        done.wait();

        let (server, client) = connected();
        client.try_write(&[0; 10]).unwrap();
        let done = doomed(async move { drop(client.write_message(b"x").await) }, || {});
        assert_eq!(server.try_read(&mut [0; 10]).unwrap(), 10);
        done.wait();
        assert_eq!(server.try_read(&mut [0; 10]).unwrap(), 0);
    });
}

#[test]
fn a_waker_polls_the_slot_for_which_it_is_woken() {
    play(|| {
        let (server, client) = connected();
        let server = Arc::new(server);
        let other = Arc::clone(&server);
        // It is woken while it is polled, for another look.
        let (waker, done) = on_wake(move || {
            assert!(is_readable(&other, Waker::noop()).is_pending());
        });
        while done.0.try_recv().is_err() {
            assert!(is_readable(&server, &waker).is_pending());
        }
        drop(client);
    });
}

#[test]
fn a_waker_that_is_replaced_or_not_needed_any_more_polls_again() {
    play(|| {
        let (server, client) = connected();
        let server = Arc::new(server);
        for is_replaced in [true, false] {
            let other = Arc::clone(&server);
            let (waker, done) = on_drop(move || {
                assert_eq!(is_readable(&other, Waker::noop()).is_pending(), is_replaced);
            });
            while !is_asleep(&server) {}
            assert!(is_readable(&server, &waker).is_pending());
            drop(waker);
            match is_replaced {
                true => assert!(is_readable(&server, Waker::noop()).is_pending()),
                false => {
                    // If the doorbell is faster it goes there.
                    client.try_write(b"x").unwrap();
                    assert!(is_readable(&server, Waker::noop()).is_ready());
                }
            }
            done.wait();
        }
    });
}

/// Whether `readable` of the end has gone to sleep.
fn is_asleep(server: &NamedPipeServer) -> bool {
    let wakes = Arc::new(crate::support::Wakes::default());
    assert!(is_readable(server, &Waker::from(Arc::clone(&wakes))).is_pending());
    wakes.count() == 0
}

fn is_readable(server: &NamedPipeServer, waker: &Waker) -> Poll<io::Result<()>> {
    server.poll_read_ready(&mut Context::from_waker(waker))
}

fn accepted(listener: &Listener) -> io::Result<NamedPipeServer> {
    Handle::current().block_on(listener.accept())
}

#[test]
fn a_message_that_goes_on_by_itself_wakes_others_with_its_end() {
    play(|| {
        let mut options = ServerOptions::new();
        options.pipe_mode(PipeMode::Message).in_buffer_size(10);
        let name = name();
        let server = options.create(&name).unwrap();
        let client = Arc::new(ClientOptions::new().open(&name).unwrap());
        client.try_write(&vec![0; 1 << 20]).unwrap();
        let waits = Arc::clone(&client);
        let write = async move { drop(waits.write_message(b"x").await) };
        let done = doomed(write, move || drop(client));
        let mut buf = vec![0; 1 << 20];
        let server = server.into_blocking();
        while server.read_message(&mut buf).is_ok() {}
        done.wait();
    });
}

#[test]
fn nobody_suffers_from_a_waker_that_panics() {
    play(|| {
        let name = name();
        let server = shared_server(&ServerOptions::new(), &name);
        let mut fragile = Box::pin(server.connect());
        let (waker, done) = on_drop(|| {});
        put_to_sleep(fragile.as_mut());
        let waker = Waker::from(Arc::new(Fragile(waker)));
        assert!(
            fragile
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        drop(waker);
        let (waits, other) = (Arc::clone(&server), Arc::clone(&server));
        let second = doomed(async move { waits.connect().await.unwrap() }, move || {
            look_at(&other);
        });
        server.disconnect().unwrap();
        done.wait();
        second.wait();
    });
}

struct Fragile(#[allow(dead_code, reason = "it tells of its end")] Waker);

impl Wake for Fragile {
    fn wake(self: Arc<Self>) {
        panic!("on purpose");
    }
}

/// A task that its waker polls at once, as often as it is woken.
struct Runner {
    task: Mutex<Option<Task>>,
    is_due: AtomicBool,
}

impl Wake for Runner {
    fn wake(self: Arc<Self>) {
        self.is_due.store(true, Ordering::SeqCst);
        // Whoever has the lock polls once more.
        while self.is_due.load(Ordering::SeqCst)
            && let Ok(mut slot) = self.task.try_lock()
        {
            self.is_due.store(false, Ordering::SeqCst);
            let waker = Waker::from(Arc::clone(&self));
            if let Some(task) = &mut *slot
                && poll(task, &waker).is_ready()
            {
                *slot = None;
            }
        }
    }
}

#[test]
fn a_task_that_runs_before_it_is_cancelled_is_woken_once_more() {
    play(|| {
        let (server, _client) = connected();
        let server = Arc::new(server);
        let (sender, receiver) = channel();
        let waits = Arc::clone(&server);
        let task = async move {
            sender
                .send(code(waits.read_message(&mut [0]).await))
                .unwrap();
        };
        let runner = Arc::new(Runner {
            task: Mutex::new(Some(Box::pin(task))),
            is_due: AtomicBool::new(false),
        });
        Arc::clone(&runner).wake();
        // Its threads are told first, and with them the tasks: nothing is cancelled for them yet.
        server.cancel_io().unwrap();
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok(995));
    });
}
