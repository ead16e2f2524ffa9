//! Handles as programs for Windows pass them around, and parts as descriptors.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::mem::{ManuallyDrop, forget};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use ntpipe::os::windows::io::{
    AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, IntoRawHandle, OwnedHandle, RawHandle,
};
use ntpipe::{
    ClientOptions, IoErrorExt, Listener, NamedPipeClient, NamedPipeServer, PipeMode, PipeParts,
    ServerOptions,
};

fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(
        r"\\.\pipe\ntpipe-test-handles-{}-{next}",
        std::process::id()
    )
}

fn pair() -> (NamedPipeServer, NamedPipeClient) {
    let name = name();
    let server = ServerOptions::new()
        .pipe_mode(PipeMode::Message)
        .create(&name)
        .unwrap();
    let client = ClientOptions::new().open(&name).unwrap();
    (server, client)
}

fn code<T>(result: std::io::Result<T>) -> u32 {
    result.err().unwrap().win32_code().unwrap()
}

fn owned(raw: RawHandle) -> OwnedHandle {
    // SAFETY: a number, which the library knows or does not know; whose it is the tests see to.
    unsafe { OwnedHandle::from_raw_handle(raw) }
}

fn number(number: usize) -> RawHandle {
    ptr::without_provenance_mut(number)
}

#[test]
fn an_end_has_one_handle_and_ends_have_different_ones() {
    let (server, client) = pair();
    let raw = server.as_raw_handle();
    assert!(!raw.is_null() && raw.addr().is_multiple_of(4));
    assert_eq!(raw, server.as_raw_handle());
    assert_eq!(raw, server.clone().as_handle().as_raw_handle());
    assert_eq!(raw, (&&server).as_handle().as_raw_handle());
    assert_ne!(raw, client.as_raw_handle());
    // It is shown, not taken: the end closes with its owner.
    drop(server);
    assert_eq!(code(client.write_message(b"x")), 232);
    assert_eq!(code(NamedPipeServer::try_from(owned(raw))), 6);
}

#[test]
fn a_handle_holds_its_end_open_and_becomes_the_end_again() {
    let (server, client) = pair();
    let shown = client.as_raw_handle();
    let raw = client.into_raw_handle();
    assert_eq!(raw, shown);
    server.write_message(b"kept").unwrap();
    let client = NamedPipeClient::try_from(owned(raw)).unwrap();
    assert_eq!(client.as_raw_handle(), raw);
    let mut buf = [0; 10];
    assert_eq!(client.read_message(&mut buf).unwrap().len, 4);
    // Once more, and now it is closed instead.
    drop(OwnedHandle::from(client));
    assert_eq!(code(server.write_message(b"x")), 232);
    assert_eq!(code(NamedPipeClient::try_from(owned(raw))), 6);
}

#[test]
fn a_duplicate_is_another_handle_of_the_same_end() {
    let (server, client) = pair();
    let copy = server.as_handle().try_clone_to_owned().unwrap();
    let third = copy.try_clone().unwrap();
    assert_ne!(copy.as_raw_handle(), server.as_raw_handle());
    assert_ne!(copy, third);
    drop(server);
    client.write_message(b"1").unwrap();
    drop(third);
    let server = NamedPipeServer::try_from(copy).unwrap();
    assert_eq!(server.read_message(&mut [0; 4]).unwrap().len, 1);
    drop(server);
    assert_eq!(code(client.write_message(b"2")), 232);
}

#[test]
fn what_is_no_handle_of_the_right_kind_is_refused() {
    let (server, client) = pair();
    for bad in [0, 3, 4_000_000, usize::MAX] {
        assert_eq!(code(NamedPipeServer::try_from(owned(number(bad)))), 6);
        // SAFETY: it is not used for anything that would need its owner.
        let lent = unsafe { BorrowedHandle::borrow_raw(number(bad)) };
        assert_eq!(code(lent.try_clone_to_owned()), 6);
        drop(owned(number(bad)));
    }
    let other = client.as_handle().try_clone_to_owned().unwrap();
    assert_eq!(code(NamedPipeServer::try_from(other)), 6);
    client.write_message(b"both are still there").unwrap();
    assert_eq!(server.read_message(&mut [0; 40]).unwrap().len, 20);
}

#[test]
fn the_handle_of_an_end_that_was_forgotten_closes_it() {
    let (server, client) = pair();
    let (for_server, for_client) = (server.as_raw_handle(), client.as_raw_handle());
    forget(server);
    let server = NamedPipeServer::try_from(owned(for_server)).unwrap();
    assert_eq!(server.as_raw_handle(), for_server);
    client.write_message(b"x").unwrap();
    drop(server);
    assert_eq!(code(client.write_message(b"x")), 232);

    let (server, client) = pair();
    assert_ne!(client.as_raw_handle(), for_client);
    let raw = client.as_raw_handle();
    forget(client);
    drop(owned(raw));
    assert_eq!(code(server.write_message(b"x")), 232);
    assert_eq!(code(server.read_message(&mut [0; 4])), 109);
}

#[test]
fn a_handle_borrowed_for_a_moment_stays_its_owner_s() {
    let (server, client) = pair();
    for end in [b"1", b"2"] {
        let raw = client.as_raw_handle();
        let view = ManuallyDrop::new(NamedPipeClient::try_from(owned(raw)).unwrap());
        view.write_message(end).unwrap();
        assert_eq!(client.as_raw_handle(), raw);
    }
    let mut buf = [0; 4];
    assert_eq!(server.read_message(&mut buf).unwrap().len, 1);
    assert_eq!(server.read_message(&mut buf).unwrap().len, 1);
    drop(client);
    assert_eq!(code(server.read_message(&mut buf)), 109);
}

#[test]
fn closing_a_client_ends_its_calls_that_wait() {
    let (server, client) = pair();
    server.connect().unwrap();
    let other = client.clone();
    let waits = thread::spawn(move || {
        other.write_message(b"about to wait").unwrap();
        (code(other.read_message(&mut [0; 4])), other)
    });
    let mut buf = [0; 40];
    assert_eq!(server.read_message(&mut buf).unwrap().len, 13);
    client.close();
    client.close();
    let (told, other) = waits.join().unwrap();
    // It may have come after the close.
    assert_eq!(told, 109);
    assert_eq!(code(server.read_message(&mut buf)), 109);
    drop((client, other));
    assert_eq!(code(server.write_message(b"x")), 232);
}

#[test]
fn a_listener_gets_an_instance_back_from_its_handle() {
    let name = name();
    let listener = Listener::bind(&name, ServerOptions::new().max_instances(1)).unwrap();
    for round in 0..3 {
        let client = ClientOptions::new().open(&name).unwrap();
        let server = listener.accept().unwrap();
        client.write_message(b"x").unwrap();
        match round {
            0 => drop(OwnedHandle::from(server)),
            1 => {
                let raw = server.as_raw_handle();
                forget(server);
                drop(owned(raw));
            }
            _ => drop(server),
        }
        assert_eq!(code(client.read_message(&mut [0; 4])), 109);
    }
}

#[test]
fn many_handles_come_and_go() {
    let (server, _client) = pair();
    let mut kept = Vec::new();
    for round in 0..1000 {
        let copy = server.as_handle().try_clone_to_owned().unwrap();
        let end = NamedPipeServer::try_from(copy).unwrap();
        assert_eq!(end.as_raw_handle(), server.as_raw_handle());
        if round % 100 == 0 {
            kept.push(pair());
        }
        let (other, _) = pair();
        assert!(
            kept.iter()
                .all(|(s, _)| s.as_raw_handle() != other.as_raw_handle())
        );
    }
}

#[test]
fn parts_are_a_descriptor() {
    let (server, client) = pair();
    server.connect().unwrap();
    let fd = OwnedFd::from(client.into_parts().unwrap());
    let client = NamedPipeClient::from_parts(PipeParts::try_from(fd).unwrap()).unwrap();
    client.write_message(b"x").unwrap();
    assert_eq!(server.read_message(&mut [0; 4]).unwrap().len, 1);
    // Another descriptor is none.
    let (one, _other) = UnixStream::pair().unwrap();
    assert_eq!(code(PipeParts::try_from(OwnedFd::from(one))), 6);
}
