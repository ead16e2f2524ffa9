//! Raw handles, as programs for tokio on Windows use them.

use std::mem::forget;
use std::ptr;

use ntpipe::os::windows::io::{AsHandle, AsRawHandle, IntoRawHandle, OwnedHandle};
use ntpipe::tokio::{NamedPipeClient, NamedPipeServer};

use crate::support::{code, in_both_runtimes, messages};

// As on Windows a raw handle is not `Send`, so that a future has its number.
fn server_of(raw: usize) -> std::io::Result<NamedPipeServer> {
    // SAFETY: a number; who owns it is what the tests are about.
    unsafe { NamedPipeServer::from_raw_handle(ptr::without_provenance_mut(raw)) }
}

fn client_of(raw: usize) -> std::io::Result<NamedPipeClient> {
    // SAFETY: as above.
    unsafe { NamedPipeClient::from_raw_handle(ptr::without_provenance_mut(raw)) }
}

in_both_runtimes! {
    async fn a_handle_becomes_an_end_for_tasks() {
        let (server, client) = messages(4096);
        server.connect().await.unwrap();
        let raw = server.into_blocking().into_raw_handle().addr();
        assert_eq!(code(client_of(raw)), 6);
        let server = server_of(raw).unwrap();
        assert_eq!((server.as_raw_handle().addr(), server.as_handle().as_raw_handle().addr()), (raw, raw));
        let mut buf = [0; 10];
        let (read, wrote) = tokio::join!(server.read_message(&mut buf), client.write_message(b"x"));
        assert_eq!((read.unwrap().len, wrote.unwrap()), (1, 1));
        drop(server);
        assert_eq!(code(client.write_message(b"x").await), 232);
        assert_eq!(code(server_of(raw)), 6);
        assert_eq!(code(server_of(0)), 6);
    }

    async fn a_duplicate_serves_tasks_beside_its_original() {
        let (server, client) = messages(4096);
        server.connect().await.unwrap();
        let copy: OwnedHandle = client.as_handle().try_clone_to_owned().unwrap();
        let copy = client_of(copy.into_raw_handle().addr()).unwrap();
        client.write_message(b"1").await.unwrap();
        drop(client);
        copy.write_message(b"2").await.unwrap();
        let mut buf = [0; 10];
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 1);
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 1);
        drop(copy);
        assert_eq!(code(server.read_message(&mut buf).await), 109);
    }

    async fn the_handle_of_a_forgotten_end_is_its_new_owner_s() {
        let (server, client) = messages(4096);
        server.connect().await.unwrap();
        let raw = client.as_raw_handle().addr();
        forget(client);
        let client = client_of(raw).unwrap();
        client.write_message(b"x").await.unwrap();
        let mut buf = [0; 10];
        assert_eq!(server.read_message(&mut buf).await.unwrap().len, 1);
        drop(client);
        assert_eq!(code(server.read_message(&mut buf).await), 109);
    }
}

#[test]
fn without_a_runtime_the_handle_is_closed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (server, client) = runtime.block_on(async { messages(4096) });
    let raw = client.into_blocking().into_raw_handle().addr();
    client_of(raw).unwrap_err();
    assert_eq!(code(server.into_blocking().write_message(b"x")), 232);
}
