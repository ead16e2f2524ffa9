//! What ends tell of themselves, and options that tokio lacks.

use std::pin::pin;
use std::time::Duration;

use ntpipe::tokio::{ClientOptions, PipeEnd, PipeMode, ServerOptions, WaitMode, call, wait};
use ntpipe::{Direction, EndState};

use crate::support::{PATIENCE, bytes, code, in_both_runtimes, messages, name, put_to_sleep};

const GENERIC_READ: u32 = 0x8000_0000;
const FILE_WRITE_ATTRIBUTES: u32 = 0x100;

in_both_runtimes! {
    async fn both_ends_know_both_processes() {
        let (server, client) = messages(64);
        let own = std::process::id();
        assert_eq!(server.client_process_id().unwrap(), own);
        assert_eq!(server.server_process_id().unwrap(), own);
        assert_eq!(client.client_process_id().unwrap(), own);
        assert_eq!(client.server_process_id().unwrap(), own);
        let session = server.server_session_id().unwrap();
        assert_eq!(server.client_session_id().unwrap(), session);
        assert_eq!(client.client_session_id().unwrap(), session);
        assert_eq!(client.server_session_id().unwrap(), session);
        server.disconnect().unwrap();
        assert_eq!(code(server.client_process_id()), 1168);
        assert_eq!(code(server.client_session_id()), 1168);
        assert_eq!(server.server_process_id().unwrap(), own);
        for asked in [
            client.client_process_id(),
            client.server_process_id(),
            client.client_session_id(),
            client.server_session_id(),
            client.instances(),
        ] {
            assert_eq!(code(asked), 233);
        }
    }

    async fn instances_are_counted_from_both_ends() {
        let name = name();
        let server = ServerOptions::new().create(&name).unwrap();
        let client = ClientOptions::new().open(&name).unwrap();
        assert_eq!((server.instances().unwrap(), client.instances().unwrap()), (1, 1));
        let other = ServerOptions::new().create(&name).unwrap();
        assert_eq!((server.instances().unwrap(), client.instances().unwrap()), (2, 2));
        drop(other);
        drop(server);
        assert_eq!(client.instances().unwrap(), 0);
    }

    async fn the_handle_s_state_is_modes_and_instances() {
        let (server, client) = messages(64);
        client.set_read_mode(PipeMode::Byte).unwrap();
        let state = server.handle_state().unwrap();
        assert_eq!((state.read_mode, state.wait_mode), (PipeMode::Message, WaitMode::Wait));
        assert_eq!(state.instances, 1);
        assert_eq!(client.handle_state().unwrap().read_mode, PipeMode::Byte);
        assert_eq!(client.wait_mode(), WaitMode::Wait);
        // Threads choose for themselves.
        let thread = server.into_blocking();
        thread.set_wait_mode(WaitMode::NoWait).unwrap();
        let server = ntpipe::tokio::NamedPipeServer::from_blocking(thread).unwrap();
        assert_eq!(server.wait_mode(), WaitMode::NoWait);
        assert_eq!(server.handle_state().unwrap().wait_mode, WaitMode::NoWait);
        let mut buf = [0; 4];
        let mut read = pin!(server.read_message(&mut buf));
        put_to_sleep(read.as_mut());
        client.write_message(b"x").await.unwrap();
        assert_eq!(read.await.unwrap().len, 1);
    }

    async fn the_local_information_counts_what_is_unread() {
        let (server, client) = bytes(64);
        client.write_message(b"12345").await.unwrap();
        let info = server.local_info().unwrap();
        assert_eq!((info.read_data_available, info.write_quota_available), (5, 64));
        assert_eq!((info.direction, info.end), (Direction::Duplex, PipeEnd::Server));
        assert_eq!((info.state, info.instances), (EndState::Connected, 1));
        let info = client.local_info().unwrap();
        assert_eq!((info.read_data_available, info.write_quota_available), (0, 59));
        assert_eq!((info.mode, info.end), (PipeMode::Byte, PipeEnd::Client));
        drop(server);
        assert_eq!(client.local_info().unwrap().state, EndState::Closing);
    }

    async fn names_are_spelled_as_their_creator_spelled_them() {
        let name = name();
        let spelled = format!("{name}-As-Is");
        let server = ServerOptions::new().create(&spelled).unwrap();
        let client = ClientOptions::new().open(spelled.to_uppercase()).unwrap();
        assert!(spelled.ends_with(client.name()) && client.name().ends_with("-As-Is"));
        assert_eq!(server.name().as_str(), client.name());
    }

    async fn rights_can_be_asked_for_one_by_one() {
        let name = name();
        let server = ServerOptions::new().create(&name).unwrap();
        let mut options = ClientOptions::new();
        let client = options.access(GENERIC_READ | FILE_WRITE_ATTRIBUTES).open(&name).unwrap();
        assert_eq!(client.granted_access(), 0x0012_0189);
        // `FILE_READ_DATA` and `FILE_WRITE_DATA`.
        assert_eq!(server.granted_access() & 3, 3);
        assert_eq!(code(client.write_message(b"x").await), 5);
        server.write_message(b"x").await.unwrap();
        assert_eq!(client.read_message(&mut [0; 4]).await.unwrap().len, 1);
    }

    async fn an_end_that_only_reads_can_begin_with_bytes() {
        let name = name();
        let mut options = ServerOptions::new();
        options.access_outbound(false).pipe_mode(PipeMode::Message);
        let server = options.read_mode(PipeMode::Byte).create(&name).unwrap();
        assert_eq!(server.read_mode(), PipeMode::Byte);
        assert_eq!(code(server.set_read_mode(PipeMode::Message)), 5);
        let client = ClientOptions::new().read(false).open(&name).unwrap();
        client.write_message(b"ab").await.unwrap();
        client.write_message(b"cd").await.unwrap();
        assert_eq!(server.read_message(&mut [0; 8]).await.unwrap().len, 4);
        let mut options = ServerOptions::new();
        assert_eq!(code(options.read_mode(PipeMode::Message).create(crate::support::name())), 87);
    }

    async fn a_wait_alone_takes_no_instance() {
        let name = name();
        assert_eq!(code(wait(&name, Some(PATIENCE)).await), 2);
        assert_eq!(code(wait(&name, None).await), 2);
        assert_eq!(code(wait("elsewhere", None).await), 123);
        let server = ServerOptions::new().create(&name).unwrap();
        wait(&name, None).await.unwrap();
        wait(&name, Some(Duration::MAX)).await.unwrap();
        let client = ClientOptions::new().open(&name).unwrap();
        assert_eq!(code(wait(&name, Some(Duration::from_millis(5))).await), 121);
        let mut waits = Box::pin(wait(&name, Some(PATIENCE)));
        put_to_sleep(waits.as_mut());
        drop(client);
        server.disconnect().unwrap();
        let mut connect = pin!(server.connect());
        put_to_sleep(connect.as_mut());
        waits.await.unwrap();
        let _client = ClientOptions::new().open(&name).unwrap();
        connect.await.unwrap();
    }

    async fn who_names_no_time_waits_for_the_pipe_s_default() {
        let name = name();
        let mut options = ServerOptions::new();
        options.pipe_mode(PipeMode::Message).max_instances(1);
        let _server = options.default_timeout(Duration::from_millis(1)).create(&name).unwrap();
        let _client = ClientOptions::new().open(&name).unwrap();
        assert_eq!(code(wait(&name, None).await), 121);
        assert_eq!(code(call(&name, b"", &mut [], None).await), 121);
        // One that is for ever.
        let name = crate::support::name();
        let server = options.default_timeout(Duration::MAX).create(&name).unwrap();
        let client = ClientOptions::new().open(&name).unwrap();
        let mut reply = [0; 4];
        let mut waits = Box::pin(call(&name, b"yes?", &mut reply, None));
        put_to_sleep(waits.as_mut());
        drop(client);
        server.disconnect().unwrap();
        let serve = async {
            server.connect().await.unwrap();
            let mut buf = [0; 4];
            server.read_message(&mut buf).await.unwrap();
            server.write_message(&buf).await.unwrap();
        };
        let (read, ()) = tokio::join!(waits, serve);
        assert_eq!((read.unwrap().len, &reply), (4, b"yes?"));
    }
}
