//! Everything public that `tokio::net::windows::named_pipe` has, as tokio 1.54 declares it.
//! Behind that, what is there on Linux alone.
//!
//! On a Windows target the same list is compared with tokio's own types (`ci/windows.sh`): a program
//! for the one compiles with the other.
#![allow(clippy::unwrap_used)]

use std::ffi::{OsStr, c_void};
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::io::{self, IoSlice, IoSliceMut};
use std::task::{Context, Poll};

use ntpipe::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, RawHandle};
use ntpipe::tokio::{
    ClientOptions, NamedPipeClient, NamedPipeServer, PipeEnd, PipeInfo, PipeMode, ServerOptions,
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, Ready};

type Polled = Poll<io::Result<()>>;

/// A future with this output that may move to another thread.
fn sends<T>(future: impl Future<Output = io::Result<T>> + Send) {
    drop(future);
}

macro_rules! ends {
    ($($end:ident)*) => {$(
        const _: unsafe fn(RawHandle) -> io::Result<$end> = $end::from_raw_handle;
        const _: fn(&$end) -> io::Result<PipeInfo> = $end::info;
        const _: fn(&$end, &mut Context<'_>) -> Polled = $end::poll_read_ready;
        const _: fn(&$end, &mut [u8]) -> io::Result<usize> = $end::try_read;
        const _: fn(&$end, &mut [IoSliceMut<'_>]) -> io::Result<usize> = $end::try_read_vectored;
        const _: fn(&$end, &mut Vec<u8>) -> io::Result<usize> = $end::try_read_buf::<Vec<u8>>;
        const _: fn(&$end, &mut bytes::BytesMut) -> io::Result<usize> = $end::try_read_buf;
        const _: fn(&$end, &mut Context<'_>) -> Polled = $end::poll_write_ready;
        const _: fn(&$end, &[u8]) -> io::Result<usize> = $end::try_write;
        const _: fn(&$end, &[IoSlice<'_>]) -> io::Result<usize> = $end::try_write_vectored;
        const _: fn(&$end) -> RawHandle = <$end as AsRawHandle>::as_raw_handle;
        const _: fn(&$end) -> BorrowedHandle<'_> = <$end as AsHandle>::as_handle;
        const _: () = {
            fn is_end<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + Debug>() {}
            let _ = is_end::<$end>;
        };
        const _: fn(&$end) = |end| {
            sends::<Ready>(end.ready(Interest::READABLE));
            sends::<()>(end.readable());
            sends::<()>(end.writable());
            let _: io::Result<u8> = end.try_io(Interest::WRITABLE, || Ok(1));
            // One call is enough for the one, the other may need several.
            let mut calls = 0_u8;
            let mut count = move || {
                calls += 1;
                Ok(calls)
            };
            sends::<u8>(end.async_io(Interest::READABLE, &mut count));
            let once = vec![1_u8];
            let _: io::Result<Vec<u8>> = end.try_io(Interest::READABLE, move || Ok(once));
        };
    )*};
}
ends! { NamedPipeServer NamedPipeClient }

const _: fn(&NamedPipeServer) = |server| sends::<()>(server.connect());
const _: fn(&NamedPipeServer) -> io::Result<()> = NamedPipeServer::disconnect;

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
type Created = io::Result<NamedPipeServer>;
const _: fn(&ServerOptions, &'static str) -> Created = ServerOptions::create;
const _: fn(&ServerOptions, &'static OsStr) -> Created = ServerOptions::create;
const _: unsafe fn(&ServerOptions, &'static str, *mut c_void) -> Created =
    ServerOptions::create_with_security_attributes_raw;

const _: fn() -> ClientOptions = ClientOptions::new;
const _: fn() -> ClientOptions = <ClientOptions as Default>::default;
const _: [fn(&mut ClientOptions, bool) -> &mut ClientOptions; 2] =
    [ClientOptions::read, ClientOptions::write];
const _: fn(&mut ClientOptions, u32) -> &mut ClientOptions = ClientOptions::security_qos_flags;
const _: fn(&mut ClientOptions, PipeMode) -> &mut ClientOptions = ClientOptions::pipe_mode;
type Opened = io::Result<NamedPipeClient>;
const _: fn(&ClientOptions, &'static str) -> Opened = ClientOptions::open;
const _: fn(&ClientOptions, &'static OsStr) -> Opened = ClientOptions::open;
const _: unsafe fn(&ClientOptions, &'static str, *mut c_void) -> Opened =
    ClientOptions::open_with_security_attributes_raw;

const _: fn() = || {
    fn is_options<T: Debug + Clone>() {}
    is_options::<ServerOptions>();
    is_options::<ClientOptions>();
    fn is_choice<T: Debug + Clone + Copy + PartialEq + Eq + Hash>() {}
    is_choice::<PipeMode>();
    is_choice::<PipeEnd>();
    fn is_info<T: Debug + Clone>() {}
    is_info::<PipeInfo>();
};
const _: [PipeMode; 2] = [PipeMode::Byte, PipeMode::Message];
const _: [PipeEnd; 2] = [PipeEnd::Client, PipeEnd::Server];
const _: fn(PipeInfo) = |info| {
    let PipeInfo { mode, end, .. } = info;
    let _: (PipeMode, PipeEnd) = (mode, end);
    let PipeInfo {
        max_instances,
        out_buffer_size,
        in_buffer_size,
        ..
    } = info;
    let _: [u32; 3] = [max_instances, out_buffer_size, in_buffer_size];
};

#[test]
fn the_defaults_are_tokio_s() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    let _runtime = runtime.as_ref().unwrap().enter();
    let name = format!(r"\\.\pipe\ntpipe-test-surface-{}", std::process::id());
    let server = ServerOptions::new().create(&name).unwrap();
    let info = server.info().unwrap();
    assert_eq!((info.mode, info.end), (PipeMode::Byte, PipeEnd::Server));
    assert_eq!(info.max_instances, 255);
    assert_eq!((info.in_buffer_size, info.out_buffer_size), (65536, 65536));
    assert_eq!(server.as_handle().as_raw_handle(), server.as_raw_handle());
}

/// What the ends for tasks have beyond tokio's, on Linux alone.
#[cfg(not(windows))]
mod beyond {
    use std::time::Duration;

    use futures_core::Stream;
    use ntpipe::tokio::{
        HandleState, Incoming, Listener, LocalInfo, OwnedReadHalf, OwnedWriteHalf, PeekInfo,
        ReadInfo, WaitMode, call, wait,
    };
    use ntpipe::{PipeName, PipeParts};

    use super::*;

    macro_rules! ends {
        ($($end:ident $blocking:ty;)*) => {$(
            const _: fn(&$end) -> io::Result<u32> = $end::instances;
            const _: fn(&$end) -> io::Result<HandleState> = $end::handle_state;
            const _: fn(&$end) -> io::Result<LocalInfo> = $end::local_info;
            const _: [fn(&$end) -> io::Result<u32>; 4] = [
                $end::client_process_id,
                $end::server_process_id,
                $end::client_session_id,
                $end::server_session_id,
            ];
            const _: fn(&$end) -> u32 = $end::granted_access;
            const _: fn(&$end) -> PipeMode = $end::read_mode;
            const _: fn(&$end, PipeMode) -> io::Result<()> = $end::set_read_mode;
            const _: fn(&$end) -> WaitMode = $end::wait_mode;
            const _: fn(&$end) -> io::Result<$end> = $end::try_clone;
            const _: fn(&$end) -> io::Result<()> = $end::cancel_io;
            const _: fn($end) -> $blocking = $end::into_blocking;
            const _: fn($blocking) -> io::Result<$end> = $end::from_blocking;
            const _: fn($end) -> io::Result<PipeParts> = $end::into_parts;
            const _: fn(PipeParts) -> io::Result<$end> = $end::from_parts;
            const _: fn($end) -> (OwnedReadHalf<$end>, OwnedWriteHalf<$end>) = $end::into_split;
            type Reunited = Result<$end, (OwnedReadHalf<$end>, OwnedWriteHalf<$end>)>;
            const _: fn(OwnedReadHalf<$end>, OwnedWriteHalf<$end>) -> Reunited =
                OwnedReadHalf::<$end>::reunite;
            const _: fn(&$end, &mut [u8]) = |end, buf| {
                sends::<ReadInfo>(end.read_message(buf));
                sends::<usize>(end.write_message(buf));
                sends::<PeekInfo>(end.peek(buf));
                sends::<ReadInfo>(end.transact(&[], buf));
                sends::<()>(end.flush_until_read());
                sends::<()>(end.close_write());
            };
            const _: fn(&OwnedReadHalf<$end>, &OwnedWriteHalf<$end>) = |from, to| {
                sends::<ReadInfo>(from.read_message(&mut []));
                sends::<usize>(to.write_message(&[]));
                sends::<()>(to.close_write());
                let _: (&$end, &$end) = (from.as_ref(), to.as_ref());
            };
        )*};
    }
    const _: () = {
        ends! { NamedPipeServer ntpipe::NamedPipeServer; }
    };
    const _: () = {
        ends! { NamedPipeClient ntpipe::NamedPipeClient; }
    };
    const _: fn(&NamedPipeServer) -> &PipeName = NamedPipeServer::name;
    const _: fn(&NamedPipeClient) -> &str = NamedPipeClient::name;

    const _: fn(&mut ServerOptions, PipeMode) -> &mut ServerOptions = ServerOptions::read_mode;
    const _: fn(&mut ServerOptions, Duration) -> &mut ServerOptions =
        ServerOptions::default_timeout;
    const _: fn(&mut ClientOptions, u32) -> &mut ClientOptions = ClientOptions::access;
    const _: fn(&ClientOptions, &'static str, Option<Duration>) = |options, name, time| {
        sends::<NamedPipeClient>(options.open_wait(name, Duration::MAX));
        sends::<()>(wait(name, time));
        sends::<ReadInfo>(call(name, &[], &mut [], time));
    };

    const _: fn(&'static str, &ServerOptions) -> io::Result<Listener> = Listener::bind;
    const _: fn(&Listener) -> &PipeName = Listener::name;
    const _: fn(&Listener) = Listener::close;
    const _: fn(&Listener, &mut Context<'_>) -> Poll<Created> = Listener::poll_accept;
    const _: fn(&Listener) -> Incoming<'_> = Listener::incoming;
    const _: fn(&Listener) = |listener| sends::<NamedPipeServer>(listener.accept());
    const _: fn() = || {
        fn is_stream<T: Stream<Item = Created> + Send + Sync + Unpin + Debug>() {}
        is_stream::<Listener>();
        is_stream::<Incoming<'static>>();
    };
}
