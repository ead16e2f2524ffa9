//! `fork` without `exec`: the child's copies of handles are dead, and its own pipes work.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use std::fs::File;
use std::io::{Read, Write};
use std::ptr::without_provenance_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ntpipe::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use ntpipe::{
    ClientOptions, Listener, NamedPipeClient, NamedPipeServer, PipeMode, PipeStream, ServerOptions,
    anonymous,
};

mod support;
use support::forked::fork;
use support::{PIPE, Scenario, asleep, code, descriptors, this_test, until};

fn options() -> ServerOptions {
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message);
    options
}

fn pair() -> (NamedPipeServer, NamedPipeClient) {
    let server = options().create(PIPE).unwrap();
    let mut options = ClientOptions::new();
    let client = options.pipe_mode(PipeMode::Message).open(PIPE).unwrap();
    server.connect().unwrap();
    (server, client)
}

fn expect_works(server: &PipeStream, client: &PipeStream) {
    for (from, to) in [(server, client), (client, server)] {
        from.write_message(b"hello").unwrap();
        assert_eq!(to.read_message(&mut [0; 10]).unwrap().len, 5);
    }
}

fn expect_inherited(pipe: &PipeStream) {
    let mut buf = [0; 10];
    assert_eq!(code(pipe.read_message(&mut buf)), 6);
    assert_eq!(code(pipe.write_message(b"x")), 6);
    assert_eq!(code(pipe.peek(&mut buf)), 6);
    assert_eq!(code(pipe.flush()), 6);
    assert_eq!(code(pipe.transact(b"x", &mut buf)), 6);
    assert_eq!(code(pipe.set_read_mode(PipeMode::Byte)), 6);
    assert_eq!(code((&*pipe).read(&mut buf)), 6);
    assert_eq!(code((&*pipe).write(b"x")), 6);
}

fn expect_inherited_server(server: &NamedPipeServer) {
    expect_inherited(server);
    assert_eq!(code(server.connect()), 6);
    assert_eq!(code(server.disconnect()), 6);
    assert_eq!(code(server.info()), 6);
    assert_eq!(code(server.instances()), 6);
    assert_eq!(code(server.client_process_id()), 6);
    assert_eq!(code(server.server_process_id()), 6);
    assert_eq!(code(server.try_clone()), 6);
}

fn expect_inherited_client(client: &NamedPipeClient) {
    expect_inherited(client);
    assert_eq!(code(client.info()), 6);
    assert_eq!(code(client.instances()), 6);
    assert_eq!(code(client.client_process_id()), 6);
    assert_eq!(code(client.server_process_id()), 6);
    assert_eq!(code(client.try_clone()), 6);
}

#[test]
fn raw_handles_are_not_inherited() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let shown = client.as_raw_handle().addr();
        let held = OwnedHandle::from(client);
        // Somebody is always at the table when the process forks.
        let (other, running) = (server.clone(), Arc::new(AtomicBool::new(true)));
        let until = Arc::clone(&running);
        let busy = thread::spawn(move || {
            while until.load(Ordering::Relaxed) {
                drop(other.as_handle().try_clone_to_owned().unwrap());
            }
        });
        for _ in 0..20 {
            drop(fork(|| {
                assert_eq!(code(held.try_clone()), 6);
                let copy = OwnedHandle::from(server.clone());
                assert_eq!(copy.as_raw_handle().addr() % 4, 0);
                // SAFETY: a number that stands for nothing here; if it did, its end would close.
                drop(unsafe { OwnedHandle::from_raw_handle(without_provenance_mut(shown)) });
            }));
        }
        running.store(false, Ordering::Relaxed);
        busy.join().unwrap();
        let client = NamedPipeClient::try_from(held).unwrap();
        expect_works(&server, &client);
    });
}

#[test]
fn inherited_handles_are_dead_and_dropping_them_disturbs_no_one() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let listening = options().create(PIPE).unwrap();
        let (reader, writer) = anonymous::pipe(0).unwrap();
        for _ in 0..20 {
            // Handles of the child's own memory, which it drops.
            let copies = (
                server.clone(),
                client.clone(),
                reader.clone(),
                writer.clone(),
            );
            drop(fork(move || {
                expect_inherited_server(&copies.0);
                expect_inherited_client(&copies.1);
                expect_inherited(&copies.2);
                expect_inherited(&copies.3);
                assert_eq!(code(copies.2.try_clone()), 6);
                assert_eq!(code(copies.3.try_clone()), 6);
                copies.0.close();
                drop(copies);
            }));
            expect_works(&server, &client);
            writer.write_message(b"hello").unwrap();
            assert_eq!(reader.read_message(&mut [0; 10]).unwrap().len, 5);
        }
        drop(fork(move || {
            expect_inherited_server(&listening);
            drop(listening);
        }));
    });
}

#[test]
fn the_last_handles_of_a_forked_child_take_nothing_along() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let listener = Listener::bind(r"\\.\pipe\other", &options()).unwrap();
        let (mut server, mut client, mut listener) = (Some(server), Some(client), Some(listener));
        drop(fork(|| {
            assert_eq!(code(listener.as_ref().unwrap().accept()), 6);
            drop((server.take(), client.take(), listener.take()));
        }));
        let (server, client) = (server.unwrap(), client.unwrap());
        expect_works(&server, &client);
        let other = ClientOptions::new().open(r"\\.\pipe\other").unwrap();
        expect_works(&listener.unwrap().accept().unwrap(), &other);
        // What the child inherited keeps nothing open that is closed here.
        let (mut until_closed, closed) = kernel_pipe();
        let child = fork(|| {
            let mut byte = [0];
            until_closed.read_exact(&mut byte).unwrap();
        });
        drop(client);
        assert_eq!(code(server.read_message(&mut [0; 10])), 109);
        drop(server);
        assert_eq!(code(ClientOptions::new().open(PIPE)), 2);
        let (server, client) = pair();
        expect_works(&server, &client);
        (&closed).write_all(b"x").unwrap();
        drop(child);
    });
}

fn kernel_pipe() -> (File, File) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    (reader.into(), writer.into())
}

#[test]
fn an_inherited_listener_accepts_no_one_and_keeps_no_one_waiting() {
    Scenario::alone(this_test!(), || {
        let listener = Listener::bind(PIPE, options().max_instances(1)).unwrap();
        let client = ClientOptions::new().open(PIPE).unwrap();
        let server = listener.accept().unwrap();
        // None of its instances listens: the parent would wait until one comes back.
        let waits = || listener.accept().map(drop);
        let ended = asleep(waits, || {
            drop(fork(|| {
                assert_eq!(code(listener.accept()), 6);
                assert_eq!(listener.incoming().count(), 0);
                listener.close();
            }));
            expect_works(&server, &client);
            listener.close();
        });
        assert_eq!(code(ended), 995);
    });
}

#[test]
fn a_forked_child_has_pipes_of_its_own() {
    const OWN: &str = r"\\.\pipe\own";
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let second = options().create(PIPE).unwrap();
        let (mut created, tell) = kernel_pipe();
        let child = fork(|| {
            // A pipe to itself, and one that it serves for its parent.
            let server = options().create(OWN).unwrap();
            assert_eq!(server.server_process_id().unwrap(), std::process::id());
            let client = ClientOptions::new().open(OWN).unwrap();
            server.connect().unwrap();
            expect_works(&server, &client);
            drop(client);
            assert_eq!(code(server.read_message(&mut [0; 10])), 109);
            server.disconnect().unwrap();
            // The parent's name is the parent's.
            assert_eq!(code(options().first_pipe_instance(true).create(PIPE)), 5);
            assert_eq!(ntpipe::list().unwrap().len(), 2);
            // A client of the parent.
            let client = ClientOptions::new().open(PIPE).unwrap();
            assert_eq!(client.client_process_id().unwrap(), std::process::id());
            client.write_message(b"from the child").unwrap();
            (&tell).write_all(b"x").unwrap();
            server.connect().unwrap();
            let mut buf = [0; 20];
            let read = server.read_message(&mut buf).unwrap();
            assert_eq!(&buf[..read.len], b"from the parent");
            assert_eq!(code(server.read_message(&mut buf)), 109);
        });
        created.read_exact(&mut [0]).unwrap();
        second.connect().unwrap();
        assert_eq!(second.client_process_id().unwrap(), child.0.cast_unsigned());
        assert_eq!(second.read_message(&mut [0; 20]).unwrap().len, 14);
        let timeout = std::time::Duration::from_secs(60);
        let own = ClientOptions::new().open_timeout(OWN, timeout).unwrap();
        assert_eq!(own.server_process_id().unwrap(), child.0.cast_unsigned());
        own.write_message(b"from the parent").unwrap();
        drop(own);
        assert_eq!(code(second.read_message(&mut [0; 20])), 109);
        drop(child);
        assert_eq!(code(ClientOptions::new().open(OWN)), 2);
        expect_works(&server, &client);
    });
}

#[test]
fn a_fork_while_threads_wait_disturbs_neither_side() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let before = descriptors();
        for _ in 0..20 {
            let forks = || {
                // The read lock, the service thread: whatever the parent's threads are at.
                let busy = thread::scope(|scope| {
                    let opener = scope.spawn(|| {
                        for _ in 0..20 {
                            let _ = options().max_instances(2).create(r"\\.\pipe\busy");
                            let _ = ClientOptions::new().open(r"\\.\pipe\none");
                        }
                    });
                    let child = fork(|| {
                        expect_inherited_server(&server);
                        expect_inherited_client(&client);
                        let own = options().create(r"\\.\pipe\own").unwrap();
                        let client = ClientOptions::new().open(r"\\.\pipe\own").unwrap();
                        own.connect().unwrap();
                        expect_works(&own, &client);
                    });
                    drop(child);
                    opener.join().is_ok()
                });
                assert!(busy);
                client.write_message(b"awake").unwrap();
            };
            let read = asleep(|| server.read_message(&mut [0; 10]), forks).unwrap();
            assert_eq!(read.len, 5);
        }
        until(|| descriptors() <= before);
    });
}
