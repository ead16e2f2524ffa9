//! What ends tell about themselves, the rights that calls need, and each call in each state
//! (observed 1b, 8, 14, reference 0.3, 2.3).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::fs;
use std::thread;

use ntpipe::{
    ClientOptions, Direction, EndState, LocalInfo, NamedPipeClient, NamedPipeServer, PipeEnd,
    PipeMode, PipeStream, ServerOptions, WaitMode, anonymous,
};

mod support;
use support::{PIPE, Scenario, asleep, code, hear, say, this_test, until};

const IN: u32 = 5000;
const OUT: u32 = 6000;
const GENERIC_READ: u32 = 0x8000_0000;
const GENERIC_WRITE: u32 = 0x4000_0000;

fn options() -> ServerOptions {
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message);
    options.in_buffer_size(IN).out_buffer_size(OUT);
    options
}

fn open() -> NamedPipeClient {
    let mut options = ClientOptions::new();
    options.pipe_mode(PipeMode::Message).open(PIPE).unwrap()
}

fn pair() -> (NamedPipeServer, NamedPipeClient) {
    let server = options().create(PIPE).unwrap();
    let client = open();
    server.connect().unwrap();
    (server, client)
}

#[test]
fn granted_rights_are_those_of_windows() {
    Scenario::alone(this_test!(), || {
        for (inbound, outbound, rights) in [
            (true, true, 0x0012_019F),
            (true, false, 0x0012_0089),
            (false, true, 0x0012_0116),
        ] {
            let mut options = options();
            options.access_inbound(inbound).access_outbound(outbound);
            let server = options.create(PIPE).unwrap();
            assert_eq!(server.granted_access(), rights);
            let asked = code(server.info().map(drop));
            assert_eq!(asked, if inbound { 0 } else { 5 });
            assert_eq!(code(server.local_info()), asked);
            assert_eq!(code(server.handle_state()), asked);
            let set = code(server.set_wait_mode(WaitMode::Wait));
            assert_eq!(set, if outbound { 0 } else { 5 });
        }
        for (asked, granted) in [
            (0, 0x0010_0080),
            (0x001F_01FF, 0x001F_01FF),
            (0x1000_0000, 0x001F_01FF),
            (0x0200_0000, 0x001F_01FF),
            (GENERIC_READ, 0x0012_0089),
            (GENERIC_WRITE, 0x0012_0196),
            (GENERIC_READ | GENERIC_WRITE, 0x0012_019F),
            (0x1, 0x0010_0081),
        ] {
            let _server = options().create(PIPE).unwrap();
            let client = ClientOptions::new().access(asked).open(PIPE).unwrap();
            assert_eq!(client.granted_access(), granted, "{asked:#x}");
            client.info().unwrap();
            let (reads, writes) = (granted & 1 == 0, granted & 2 == 0);
            let denied = |is: bool| if is { 5 } else { 0 };
            assert_eq!(code(client.peek(&mut [])), denied(reads));
            assert_eq!(code(client.flush()), denied(writes));
            if reads {
                assert_eq!(code(client.read_message(&mut [])), 5);
            }
            if writes {
                assert_eq!(code(client.write_message(&[])), 5);
            }
            if reads || writes {
                assert_eq!(code(client.transact(&[], &mut [])), 5);
            }
            let set = code(client.set_wait_mode(WaitMode::Wait));
            assert_eq!(set, denied(granted & 0x100 == 0));
        }
        let (reader, writer) = anonymous::pipe(0).unwrap();
        assert_eq!(reader.granted_access(), 0x0012_0189);
        assert_eq!(writer.granted_access(), 0x0012_0196);
    });
}

#[test]
fn directions_refuse_what_clients_may_not() {
    Scenario::alone(this_test!(), || {
        for (inbound, wrong) in [(true, GENERIC_READ), (false, GENERIC_WRITE)] {
            let mut options = options();
            options.access_inbound(inbound).access_outbound(!inbound);
            let server = options.create(PIPE).unwrap();
            let open = |access| ClientOptions::new().access(access).open(PIPE);
            assert_eq!(code(open(wrong)), 5);
            assert_eq!(code(open(0x1000_0000)), 5);
            let client = open(0).unwrap();
            server.connect().unwrap();
            assert_eq!(client.local_info().unwrap().state, EndState::Connected);
        }
    });
}

/// What does not depend on the end, but for `end` itself.
fn fixed(info: LocalInfo) -> (PipeMode, Direction, u32, u32, u32) {
    (
        info.mode,
        info.direction,
        info.max_instances,
        info.in_buffer_size,
        info.out_buffer_size,
    )
}

/// Readable bytes and free quota.
fn queues(info: LocalInfo) -> (u32, u32) {
    (info.read_data_available, info.write_quota_available)
}

#[test]
fn the_state_of_both_queues_is_told() {
    Scenario::alone(this_test!(), || {
        let server = options().max_instances(7).create(PIPE).unwrap();
        let of = |end: &NamedPipeServer| end.local_info().unwrap();
        let info = of(&server);
        assert_eq!(
            fixed(info),
            (PipeMode::Message, Direction::Duplex, 7, IN, OUT)
        );
        assert_eq!(
            (info.end, info.state),
            (PipeEnd::Server, EndState::Listening)
        );
        assert_eq!((info.instances, queues(info)), (1, (0, OUT)));
        let client = open();
        server.connect().unwrap();
        let of_client = || client.local_info().unwrap();
        let info = of_client();
        assert_eq!(fixed(info), fixed(of(&server)));
        assert_eq!(
            (info.end, info.state),
            (PipeEnd::Client, EndState::Connected)
        );
        assert_eq!((info.instances, queues(info)), (1, (0, IN)));
        server.write_message(&[0; 100]).unwrap();
        server.write_message(&[0; 11]).unwrap();
        client.write_message(&[0; 1000]).unwrap();
        assert_eq!(queues(of(&server)), (1000, OUT - 111));
        assert_eq!(queues(of_client()), (111, IN - 1000));
        // Data of a write that waits, and no quota.
        thread::scope(|scope| {
            let write = scope.spawn(|| client.write_message(&[0; 5000]));
            until(|| of(&server).read_data_available == 6000);
            assert_eq!(of_client().write_quota_available, 0);
            server.read_message(&mut [0; 1000]).unwrap();
            server.read_message(&mut [0; 5000]).unwrap();
            write.join().unwrap().unwrap();
        });
        assert_eq!(queues(of(&server)), (0, OUT - 111));
        // A read that waits takes of the quota.
        let look = || {
            until(|| of_client().write_quota_available == IN - 300);
            client.write_message(b"x").unwrap();
        };
        asleep(|| server.read_message(&mut [0; 300]), look).unwrap();
        assert_eq!(of_client().write_quota_available, IN);
        drop(client);
        let info = of(&server);
        assert_eq!((info.state, queues(info)), (EndState::Closing, (0, OUT)));
        server.disconnect().unwrap();
        let info = of(&server);
        assert_eq!(
            (info.state, queues(info)),
            (EndState::Disconnected, (0, OUT))
        );
        drop(server);
        // What a server that is gone has left (observed 8.20, 8.21).
        let (server, client) = pair();
        server.write_message(&[0; 10]).unwrap();
        drop(server);
        let info = client.local_info().unwrap();
        assert_eq!((info.state, info.instances), (EndState::Closing, 0));
        assert_eq!(queues(info), (10, IN));
        let (reader, writer) = anonymous::pipe(100).unwrap();
        writer.write_message(&[0; 30]).unwrap();
        let (of_reader, of_writer) = (reader.local_info(), writer.local_info());
        let (of_reader, of_writer) = (of_reader.unwrap(), of_writer.unwrap());
        assert_eq!(queues(of_reader), (30, 100));
        assert_eq!(queues(of_writer), (0, 70));
        assert_eq!(
            fixed(of_reader),
            (PipeMode::Byte, Direction::Inbound, 1, 100, 100)
        );
        assert_eq!(fixed(of_writer), fixed(of_reader));
    });
}

#[test]
fn a_read_that_waits_in_another_process_takes_of_the_quota() {
    Scenario::new(this_test!())
        .role("server", || {
            let server = options().create(PIPE).unwrap();
            say("listens");
            server.connect().unwrap();
            // Two threads: what they ask for is added up.
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| server.read_message(&mut [0; 300]).unwrap());
                }
            });
            hear();
        })
        .role("client", || {
            let client = open();
            let quota = || client.local_info().unwrap().write_quota_available;
            until(|| quota() == IN - 600);
            client.write_message(&[1]).unwrap();
            until(|| quota() == IN - 300);
            client.write_message(&[1]).unwrap();
            until(|| quota() == IN);
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("listens");
            stage.start("client").finish();
            server.say("done");
            server.finish();
        });
}

/// The session of a process, as the kernel tells it.
fn session(process: &str) -> u32 {
    let session = fs::read_to_string(format!("/proc/{process}/sessionid")).unwrap();
    let session = session.trim().parse().unwrap();
    if session == u32::MAX { 0 } else { session }
}

#[test]
fn processes_and_sessions_are_known_while_the_state_allows() {
    Scenario::alone(this_test!(), || {
        let (pid, own) = (std::process::id(), session("self"));
        let server = options().create(PIPE).unwrap();
        let of_client = || {
            (
                code(server.client_process_id()),
                code(server.client_session_id()),
            )
        };
        let of_server = || (server.server_process_id(), server.server_session_id());
        let known = || {
            let (id, session) = of_server();
            assert_eq!((id.unwrap(), session.unwrap()), (pid, own));
        };
        assert_eq!(of_client(), (1168, 1168));
        known();
        let client = open();
        let by_client = || {
            [
                client.client_process_id(),
                client.server_process_id(),
                client.client_session_id(),
                client.server_session_id(),
            ]
        };
        assert_eq!(by_client().map(Result::unwrap), [pid, pid, own, own]);
        assert_eq!(server.client_process_id().unwrap(), pid);
        assert_eq!(server.client_session_id().unwrap(), own);
        server.disconnect().unwrap();
        assert_eq!(by_client().map(code), [233; 4]);
        assert_eq!(of_client(), (1168, 1168));
        known();
        drop((server, client));
        // An end that is closed is remembered.
        let (server, client) = pair();
        drop(client);
        assert_eq!(server.client_process_id().unwrap(), pid);
        assert_eq!(server.client_session_id().unwrap(), own);
        drop(server);
        let (server, client) = pair();
        drop(server);
        assert_eq!(client.server_process_id().unwrap(), pid);
        assert_eq!(client.server_session_id().unwrap(), own);
    });
}

/// The calls that both ends have, in an order in which none spoils the next: read, write, peek,
/// transact, flush, set modes. What would wait or take something is left out.
fn calls(end: &PipeStream, takes: bool) -> [u32; 6] {
    [
        if takes {
            code(end.read_message(&mut [0; 10]))
        } else {
            0
        },
        if takes {
            code(end.write_message(b"x"))
        } else {
            0
        },
        code(end.peek(&mut [])),
        if takes {
            code(end.transact(b"x", &mut [0; 10]))
        } else {
            0
        },
        if takes { code(end.flush()) } else { 0 },
        code(end.set_modes(PipeMode::Message, WaitMode::Wait)),
    ]
}

#[test]
fn each_call_in_each_state_is_what_the_tables_say() {
    Scenario::alone(this_test!(), || {
        let queries = |server: &NamedPipeServer| {
            [
                code(server.info().map(drop)),
                code(server.instances()),
                code(server.handle_state()),
                code(server.local_info()),
            ]
        };
        let server = options().create(PIPE).unwrap();
        assert_eq!(calls(&server, true), [536, 536, 230, 230, 0, 0]);
        assert_eq!(queries(&server), [0; 4]);
        server.disconnect().unwrap();
        assert_eq!(calls(&server, true), [233, 233, 230, 230, 0, 0]);
        assert_eq!(queries(&server), [0; 4]);
        assert_eq!(code(server.disconnect()), 233);
        drop(server);
        let (server, client) = pair();
        assert_eq!(calls(&server, false), [0; 6]);
        assert_eq!(calls(&client, false), [0; 6]);
        server.connect().unwrap();
        drop(client);
        assert_eq!(calls(&server, true), [109, 232, 109, 230, 0, 0]);
        assert_eq!(queries(&server), [0; 4]);
        assert_eq!(code(server.connect()), 232);
        server.disconnect().unwrap();
        assert_eq!(calls(&server, true), [233, 233, 230, 230, 0, 0]);
        drop(server);
        // With data left behind.
        let (server, client) = pair();
        client.write_message(b"left").unwrap();
        drop(client);
        assert_eq!(code(server.peek(&mut [])), 0);
        assert_eq!(code(server.transact(b"x", &mut [0; 10])), 230);
        assert_eq!(calls(&server, true), [0, 232, 109, 230, 0, 0]);
        drop(server);
        let (server, client) = pair();
        drop(server);
        assert_eq!(calls(&client, true), [109, 232, 109, 230, 0, 0]);
        drop(client);
        let (server, client) = pair();
        server.write_message(b"lost").unwrap();
        server.disconnect().unwrap();
        for _ in 0..2 {
            assert_eq!(calls(&client, true), [233; 6]);
            let queries = [
                code(client.info().map(drop)),
                code(client.instances()),
                code(client.handle_state()),
                code(client.local_info()),
            ];
            assert_eq!(queries, [233; 4]);
            // Observed 9.10.
            server.close();
        }
    });
}
