//! Ends of named pipes that several processes hold (reference 1.19).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use std::process::Command;
use std::time::Duration;

use ntpipe::{
    ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode, PipeParts, PipeStream, ServerOptions,
};

mod support;
use support::{PIPE, Scenario, asleep, code, hear, say, this_test, until};

const PARTS: &str = "NTPIPE_TEST_PARTS";

fn inherited() -> PipeParts {
    PipeParts::inherited(std::env::var_os(PARTS).unwrap()).unwrap()
}

/// As `start`, from a process that is no test: the child is the same test in another role.
fn start_from_role(test: &'static str, role: &str, parts: PipeParts) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let number = parts.inherit(&mut command).unwrap();
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("NTPIPE_TEST_ROLE", role)
        .env(PARTS, number.to_string());
    command.spawn().unwrap()
}

fn options() -> ServerOptions {
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message);
    options
}

fn pair() -> (NamedPipeServer, NamedPipeClient) {
    let server = options().create(PIPE).unwrap();
    let client = open();
    server.connect().unwrap();
    (server, client)
}

fn open() -> NamedPipeClient {
    let mut options = ClientOptions::new();
    options.pipe_mode(PipeMode::Message).open(PIPE).unwrap()
}

fn read(pipe: &PipeStream, len: usize) -> (Vec<u8>, bool) {
    let mut buf = vec![0; len];
    let read = pipe.read_message(&mut buf).unwrap();
    buf.truncate(read.len);
    (buf, read.more)
}

fn text(text: &str, more: bool) -> (Vec<u8>, bool) {
    (text.as_bytes().to_vec(), more)
}

#[test]
fn a_client_end_is_inherited() {
    let test = this_test!();
    Scenario::new(test)
        .role("client", || {
            let client = open();
            client.write_message(b"from the parent").unwrap();
            let mut child = start_from_role(test, "child", client.share().unwrap());
            assert!(child.wait().unwrap().success());
            // The mode that the child has set is the end's.
            assert_eq!(client.read_mode(), PipeMode::Byte);
            assert_eq!(client.instances().unwrap(), 1);
            client.write_message(b"after the child").unwrap();
            say("wrote");
            hear();
        })
        .role("child", || {
            let client = NamedPipeClient::from_parts(inherited()).unwrap();
            assert_eq!(client.read_mode(), PipeMode::Message);
            assert_eq!(
                client.client_process_id().unwrap(),
                std::os::unix::process::parent_id(),
                "observed 14.1"
            );
            assert_eq!(client.info().unwrap().mode, PipeMode::Message);
            assert_eq!(client.instances().unwrap(), 1);
            client.write_message(b"from the child").unwrap();
            assert_eq!(read(&client, 3), text("ans", true));
            client.set_read_mode(PipeMode::Byte).unwrap();
        })
        .role("server", || {
            let server = options().create(PIPE).unwrap();
            say("up");
            server.connect().unwrap();
            server.set_read_mode(PipeMode::Message).unwrap();
            assert_eq!(read(&server, 100), text("from the parent", false));
            server.write_message(b"answer").unwrap();
            assert_eq!(read(&server, 100), text("from the child", false));
            assert_eq!(read(&server, 100), text("after the child", false));
            say("read");
            assert_eq!(code(server.read_message(&mut [0])), 109);
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            let mut client = stage.start("client");
            client.expect("wrote");
            server.expect("read");
            client.say("go");
            client.finish();
            server.finish();
        });
}

#[test]
fn a_server_end_is_served_by_another_process() {
    let test = this_test!();
    Scenario::new(test)
        .role("server", || {
            let server = options().create(PIPE).unwrap();
            say("up");
            server.connect().unwrap();
            server.set_read_mode(PipeMode::Message).unwrap();
            let id = server.client_process_id().unwrap();
            assert_eq!(read(&server, 3), text("req", true));
            // The worker goes on in the middle of the message.
            let mut worker = start_from_role(test, "worker", server.into_parts().unwrap());
            say(id);
            assert_eq!(hear(), "count");
            say(ntpipe::info(PIPE).unwrap().instances);
            worker.wait().unwrap();
            // With its last holder the instance goes, and the name with that.
            until(|| code(ntpipe::info(PIPE)) == 2);
        })
        .role("worker", || {
            let server = NamedPipeServer::from_parts(inherited()).unwrap();
            let parent = std::os::unix::process::parent_id();
            assert_eq!(server.server_process_id().unwrap(), parent);
            assert_ne!(server.client_process_id().unwrap(), parent);
            assert_eq!(server.name().as_str(), "test");
            assert_eq!(server.instances().unwrap(), 1);
            server.connect().unwrap();
            assert_eq!(read(&server, 10), text("uest", false));
            server.write_message(b"reply").unwrap();
            server.flush().unwrap();
            assert_eq!(code(server.read_message(&mut [0])), 109);
        })
        .role("client", || {
            let client = open();
            client.write_message(b"request").unwrap();
            assert_eq!(read(&client, 10), text("reply", false));
            say("done");
            hear();
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            let mut client = stage.start("client");
            client.expect("done");
            server.say("count");
            assert_eq!(server.hear(), client.id().to_string());
            server.expect("1");
            client.say("go");
            client.finish();
            server.finish();
        });
}

#[test]
fn a_server_end_outlives_the_process_that_created_it() {
    let test = this_test!();
    Scenario::new(test)
        .role("server", || {
            let server = options().create(PIPE).unwrap();
            say("up");
            server.connect().unwrap();
            let mut worker = start_from_role(test, "worker", server.share().unwrap());
            // It does not come to that: this process is killed first.
            worker.wait().unwrap();
        })
        .role("worker", || {
            let server = NamedPipeServer::from_parts(inherited()).unwrap();
            server.set_read_mode(PipeMode::Message).unwrap();
            server.write_message(b"here").unwrap();
            assert_eq!(read(&server, 10), text("still", false));
            server.write_message(b"there").unwrap();
            server.flush().unwrap();
        })
        .role("client", || {
            let client = open();
            assert_eq!(read(&client, 10), text("here", false));
            say("here");
            hear();
            client.write_message(b"still").unwrap();
            assert_eq!(read(&client, 10), text("there", false));
            assert_eq!(code(client.read_message(&mut [0])), 109);
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            let mut client = stage.start("client");
            client.expect("here");
            server.kill();
            client.say("go");
            client.finish();
        });
}

#[test]
fn any_holder_of_a_server_end_disconnects() {
    let test = this_test!();
    Scenario::new(test)
        .role("server", || {
            let server = options().create(PIPE).unwrap();
            say("up");
            server.connect().unwrap();
            let mut worker = start_from_role(test, "worker", server.share().unwrap());
            // A call that waits in the other holder ends too.
            assert_eq!(code(server.read_message(&mut [0])), 233);
            assert!(worker.wait().unwrap().success());
            assert_eq!(code(server.disconnect()), 233);
            say("gone");
            // The process that created the instance goes on with it.
            server.connect().unwrap();
            server.write_message(b"again").unwrap();
            server.flush().unwrap();
        })
        .role("worker", || {
            let server = NamedPipeServer::from_parts(inherited()).unwrap();
            server.disconnect().unwrap();
            assert_eq!(code(server.disconnect()), 233);
            assert_eq!(code(server.write_message(b"x")), 233);
            assert_eq!(code(server.connect()), 50);
        })
        .role("client", || {
            // Setting the mode would be another call that the disconnect may end.
            let client = ClientOptions::new().open(PIPE).unwrap();
            say(code(client.read_message(&mut [0])));
            hear();
            drop(client);
            ntpipe::wait(PIPE, Some(Duration::MAX)).unwrap();
            assert_eq!(read(&open(), 10), text("again", false));
            say("again");
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            let mut client = stage.start("client");
            client.expect("233");
            server.expect("gone");
            client.say("go");
            client.expect("again");
            server.finish();
            client.finish();
        });
}

#[test]
fn ends_of_named_pipes_are_told_apart() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        assert_eq!(
            code(NamedPipeServer::from_parts(client.share().unwrap())),
            87
        );
        assert_eq!(
            code(NamedPipeClient::from_parts(server.share().unwrap())),
            87
        );
        server.write_message(b"fine").unwrap();
        assert_eq!(read(&client, 10), text("fine", false));
    });
}

#[test]
fn without_a_client_a_server_end_is_not_shared() {
    Scenario::alone(this_test!(), || {
        let server = options().create(PIPE).unwrap();
        assert_eq!(code(server.share()), 536);
        let client = open();
        server.connect().unwrap();
        server.disconnect().unwrap();
        assert_eq!(code(server.share()), 233);
        // A client end is there as long as its handle.
        let other = NamedPipeClient::from_parts(client.share().unwrap()).unwrap();
        assert_eq!(code(other.read_message(&mut [0])), 233);
    });
}

#[test]
fn a_closed_server_end_counts_until_its_parts_are_dropped() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let parts = server.into_parts().unwrap();
        assert_eq!(ntpipe::info(PIPE).unwrap().instances, 1);
        assert_eq!(client.instances().unwrap(), 1);
        drop(parts);
        until(|| code(ntpipe::info(PIPE)) == 2);
        assert_eq!(code(client.read_message(&mut [0])), 109);
    });
}

#[test]
fn a_transaction_of_one_holder_keeps_the_others_from_its_reply() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let other = NamedPipeClient::from_parts(client.share().unwrap()).unwrap();
        server.set_read_mode(PipeMode::Message).unwrap();
        let mut reply = [0; 10];
        let got = asleep(
            || client.transact(b"request", &mut reply).unwrap(),
            || {
                assert_eq!(code(other.transact(b"x", &mut [0; 10])), 231);
                assert_eq!(read(&server, 10), text("request", false));
                server.write_message(b"reply").unwrap();
            },
        );
        assert_eq!(&reply[..got.len], b"reply");
        server.write_message(b"next").unwrap();
        assert_eq!(read(&other, 10), text("next", false));
    });
}
