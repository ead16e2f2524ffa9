//! What `tokio::net::windows::named_pipe` has, as types: a program for it compiles with these.
#![allow(clippy::type_complexity)]

use std::ffi::OsStr;
use std::io;
use std::task::{Context, Poll};

use ntpipe::tokio::{
    ClientOptions, NamedPipeClient, NamedPipeServer, PipeEnd, PipeInfo, PipeMode, ServerOptions,
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, Ready};

macro_rules! ends {
    ($($name:ident)*) => {$(
        const _: fn(&$name) -> io::Result<PipeInfo> = $name::info;
        const _: fn(&$name, &mut Context<'_>) -> Poll<io::Result<()>> = $name::poll_read_ready;
        const _: fn(&$name, &mut Context<'_>) -> Poll<io::Result<()>> = $name::poll_write_ready;
        const _: fn(&$name, &mut [u8]) -> io::Result<usize> = $name::try_read;
        const _: fn(&$name, &mut [io::IoSliceMut<'_>]) -> io::Result<usize> =
            $name::try_read_vectored;
        const _: fn(&$name, &mut Vec<u8>) -> io::Result<usize> = $name::try_read_buf::<Vec<u8>>;
        const _: fn(&$name, &[u8]) -> io::Result<usize> = $name::try_write;
        const _: fn(&$name, &[io::IoSlice<'_>]) -> io::Result<usize> = $name::try_write_vectored;
        const _: () = {
            fn is_end<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug>() {}
            let _ = is_end::<$name>;
        };
    )*};
}
ends! { NamedPipeServer NamedPipeClient }

const _: fn() -> ServerOptions = ServerOptions::new;
const _: fn() -> ServerOptions = <ServerOptions as Default>::default;
const _: fn(&mut ServerOptions, PipeMode) -> &mut ServerOptions = ServerOptions::pipe_mode;
const _: [fn(&mut ServerOptions, bool) -> &mut ServerOptions; 7] = [
    ServerOptions::access_inbound,
    ServerOptions::access_outbound,
    ServerOptions::first_pipe_instance,
    ServerOptions::write_dac,
    ServerOptions::write_owner,
    ServerOptions::access_system_security,
    ServerOptions::reject_remote_clients,
];
const _: fn(&mut ServerOptions, usize) -> &mut ServerOptions = ServerOptions::max_instances;
const _: [fn(&mut ServerOptions, u32) -> &mut ServerOptions; 2] = [
    ServerOptions::out_buffer_size,
    ServerOptions::in_buffer_size,
];
const _: fn() -> ClientOptions = ClientOptions::new;
const _: fn() -> ClientOptions = <ClientOptions as Default>::default;
const _: [fn(&mut ClientOptions, bool) -> &mut ClientOptions; 2] =
    [ClientOptions::read, ClientOptions::write];
const _: fn(&mut ClientOptions, u32) -> &mut ClientOptions = ClientOptions::security_qos_flags;
const _: fn(&mut ClientOptions, PipeMode) -> &mut ClientOptions = ClientOptions::pipe_mode;
const _: fn(&NamedPipeServer) -> io::Result<()> = NamedPipeServer::disconnect;

/// What has `impl` in its signature, and futures: they can be sent to another thread.
#[allow(dead_code)]
fn others(server: &NamedPipeServer, client: &NamedPipeClient) {
    fn sendable<T>(future: impl Future<Output = T> + Send) {
        drop(future);
    }
    let name: &OsStr = "x".as_ref();
    let _: io::Result<NamedPipeServer> = ServerOptions::new().create(name);
    let _: io::Result<NamedPipeClient> = ClientOptions::new().open(name);
    type Attributes = *mut std::ffi::c_void;
    type Creates =
        unsafe fn(&ServerOptions, &'static str, Attributes) -> io::Result<NamedPipeServer>;
    type Opens = unsafe fn(&ClientOptions, &'static str, Attributes) -> io::Result<NamedPipeClient>;
    let _: Creates = ServerOptions::create_with_security_attributes_raw;
    let _: Opens = ClientOptions::open_with_security_attributes_raw;
    sendable::<io::Result<()>>(server.connect());
    sendable::<io::Result<Ready>>(server.ready(Interest::READABLE));
    sendable::<io::Result<()>>(server.readable());
    sendable::<io::Result<()>>(server.writable());
    sendable::<io::Result<u8>>(server.async_io(Interest::READABLE, || Ok(1_u8)));
    let _: io::Result<u8> = server.try_io(Interest::WRITABLE, || Ok(1_u8));
    sendable::<io::Result<Ready>>(client.ready(Interest::READABLE));
    sendable::<io::Result<()>>(client.readable());
    sendable::<io::Result<()>>(client.writable());
    sendable::<io::Result<u8>>(client.async_io(Interest::READABLE, || Ok(1_u8)));
    let _: io::Result<u8> = client.try_io(Interest::WRITABLE, || Ok(1_u8));
}

#[test]
fn the_defaults_and_the_types_are_tokio_s() {
    fn is_plain<T: Copy + Eq + std::hash::Hash + std::fmt::Debug>() {}
    fn is_cloned<T: Clone + std::fmt::Debug>() {}
    is_plain::<PipeMode>();
    is_plain::<PipeEnd>();
    is_cloned::<PipeInfo>();
    is_cloned::<ServerOptions>();
    is_cloned::<ClientOptions>();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    let _runtime = runtime.as_ref().unwrap().enter();
    let server = ServerOptions::new().create(crate::support::name()).unwrap();
    let info = server.info().unwrap();
    assert_eq!((info.mode, info.end), (PipeMode::Byte, PipeEnd::Server));
    assert_eq!(info.max_instances, 255);
    assert_eq!((info.in_buffer_size, info.out_buffer_size), (65536, 65536));
}
