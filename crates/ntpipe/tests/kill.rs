//! `kill -9` of one side: the other drains what was completed, and finds the end.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use ntpipe::{
    ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode, PipeStream, ServerOptions,
};

mod support;
use support::{
    Child, PIPE, Scenario, Stage, asleep, bytes, code, descriptors, hear, report, say, this_test,
    until,
};

/// The quota of all pipes here.
const QUOTA: u32 = 100;
/// Longer than the watchdog waits.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than the ring for that quota holds.
const LONG: usize = 3_000_000;

fn options() -> ServerOptions {
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message);
    options.in_buffer_size(QUOTA).out_buffer_size(QUOTA);
    options
}

/// The ends, whichever side this process is on.
enum Side {
    Server(NamedPipeServer),
    Client(NamedPipeClient),
}

impl Side {
    fn server() -> Self {
        let server = options().create(PIPE).unwrap();
        say("up");
        server.connect().unwrap();
        Self::Server(server)
    }

    fn client() -> Self {
        let mut options = ClientOptions::new();
        options.pipe_mode(PipeMode::Message);
        // The server may just be getting ready for the next one.
        Self::Client(options.open_timeout(PIPE, PATIENCE).unwrap())
    }

    fn pipe(&self) -> &PipeStream {
        match self {
            Self::Server(server) => server,
            Self::Client(client) => client,
        }
    }
}

/// What the process does that is killed.
fn die(what: &str, pipe: &PipeStream) {
    match what {
        "idle" => {
            pipe.write_message(b"completed").unwrap();
            say("ready");
            hear();
        }
        "read" => {
            pipe.write_message(b"completed").unwrap();
            say("ready");
            let _ = pipe.read_message(&mut [0; 10]);
        }
        "write" => {
            pipe.write_message(&[1; 60]).unwrap();
            say("ready");
            let _ = pipe.write_message(&[2; 60]);
        }
        "long" => {
            let message = bytes(0, LONG);
            say("ready");
            let _ = pipe.write_message(&message);
        }
        "stream" => {
            let done = File::create(done_file()).unwrap();
            say("ready");
            for n in 1_u64.. {
                let len = 8 + (n % 90) as usize;
                let mut message = bytes(n as usize, len);
                message[..8].copy_from_slice(&n.to_le_bytes());
                if pipe.write_message(&message).is_err() {
                    return;
                }
                done.write_all_at(&n.to_le_bytes(), 0).unwrap();
            }
        }
        other => panic!("{other}?"),
    }
}

/// Where a stream's writer notes what it has completed.
fn done_file() -> std::path::PathBuf {
    support::notes(&support::raw::dir())
}

/// The read of the other side; says "seen" when the victim is where it is to be killed.
fn survive(what: &str, pipe: &PipeStream) {
    let mut buf = vec![0; LONG + 1];
    let message = |result: std::io::Result<ntpipe::ReadInfo>, buf: &[u8]| {
        let read = result.unwrap();
        assert!(!read.more);
        buf[..read.len].to_vec()
    };
    match what {
        "idle" | "read" => {
            assert_eq!(message(pipe.read_message(&mut buf), &buf), b"completed");
            let read = || pipe.read_message(&mut buf);
            assert_eq!(code(asleep(read, || say("seen"))), 109);
        }
        "blocked" => {
            assert_eq!(pipe.write_message(&[3; 60]).unwrap(), 60);
            let write = || pipe.write_message(&[3; 60]);
            assert_eq!(code(asleep(write, || say("seen"))), 109);
            assert_eq!(message(pipe.read_message(&mut buf), &buf), b"completed");
        }
        "flush" => {
            assert_eq!(pipe.write_message(&[3; 60]).unwrap(), 60);
            assert_eq!(code(asleep(|| pipe.flush(), || say("seen"))), 109);
            assert_eq!(message(pipe.read_message(&mut buf), &buf), b"completed");
        }
        "write" => {
            // Both are visible, but the second has not completed.
            until(|| pipe.peek(&mut []).unwrap().available == 120);
            say("seen");
            assert_eq!(hear(), "dead");
            until(|| pipe.write_message(b"?").is_err());
            assert_eq!(pipe.peek(&mut []).unwrap().available, 60);
            assert_eq!(message(pipe.read_message(&mut buf), &buf), [1; 60]);
            assert_eq!(code(pipe.read_message(&mut buf)), 109);
        }
        "long" => {
            let read = pipe.read_message(&mut buf[..50_000]).unwrap();
            assert!(read.more && buf[..read.len] == bytes(0, 50_000));
            say("seen");
            assert_eq!(hear(), "dead");
            // Its rest is gone with the writer; it never looks like a whole one.
            loop {
                match pipe.read_message(&mut buf) {
                    Ok(read) => assert!(read.more),
                    Err(error) => break assert_eq!(code::<()>(Err(error)), 109),
                }
            }
        }
        "long in one read" => {
            say("seen");
            match pipe.read_message(&mut buf) {
                // Killed too late.
                Ok(read) if !read.more => assert!(buf[..read.len] == bytes(0, LONG)),
                Ok(read) => assert!(read.len < LONG),
                Err(error) => assert_eq!(code::<()>(Err(error)), 109),
            }
        }
        "stream" => drain_stream(pipe, &mut buf),
        other => panic!("{other}?"),
    }
    assert_eq!(code(pipe.read_message(&mut buf)), 109);
    assert_eq!(code(pipe.peek(&mut buf)), 109);
    assert_eq!(code(pipe.write_message(b"x")), 232);
}

fn drain_stream(pipe: &PipeStream, buf: &mut [u8]) {
    let mut last = 0;
    let end = loop {
        let read = match pipe.read_message(buf) {
            Ok(read) => read,
            Err(error) => break error,
        };
        assert!(!read.more);
        let n = u64::from_le_bytes(buf[..8].try_into().unwrap());
        assert_eq!(n, last + 1);
        assert_eq!(read.len, 8 + (n % 90) as usize);
        assert!(buf[8..read.len] == bytes(n as usize, read.len)[8..]);
        last = n;
        if n == 500 {
            say("seen");
        }
    };
    assert_eq!(code::<()>(Err(end)), 109);
    let (mut done, mut text) = (File::open(done_file()).unwrap(), [0; 8]);
    done.rewind().unwrap();
    done.read_exact(&mut text).unwrap();
    let done = u64::from_le_bytes(text);
    assert!(last >= done, "completed: {done}, received: {last}");
    assert!(
        last <= done + 1,
        "completed: {done} or one more, received: {last}"
    );
}

/// What the victim does, and what the survivor.
const POINTS: &[(&str, &str)] = &[
    ("idle", "idle"),
    ("idle", "blocked"),
    ("idle", "flush"),
    ("read", "read"),
    ("write", "write"),
    ("long", "long"),
    ("long", "long in one read"),
    ("stream", "stream"),
    ("stream", "stream"),
    ("stream", "stream"),
];

/// Kills the victim where the survivor has seen it to be.
fn kill_at(what: &str, how: &str, mut victim: Child, survivor: &mut Child) {
    victim.say(what);
    survivor.say(how);
    victim.expect("ready");
    survivor.expect("seen");
    let moment = Instant::now();
    victim.kill();
    survivor.say("dead");
    survivor.expect("over");
    report(&format!("{what}/{how} noticed"), moment);
}

/// The lines that the survivor does not wait for.
fn hear_until_dead(how: &str) {
    if !["write", "long"].contains(&how) {
        assert_eq!(hear(), "dead");
    }
}

#[test]
fn a_server_outlives_clients_killed_at_any_point() {
    Scenario::new(this_test!())
        .role("server", || {
            let server = options().create(PIPE).unwrap();
            say("up");
            let before = descriptors();
            loop {
                let how = hear();
                if how == "done" {
                    return;
                }
                server.connect().unwrap();
                survive(&how, &server);
                hear_until_dead(&how);
                server.disconnect().unwrap();
                // Everything of that client is let go of, soon.
                until(|| descriptors() <= before);
                say("over");
            }
        })
        .role("client", || {
            let what = hear();
            die(&what, Side::client().pipe());
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            for (what, how) in POINTS.iter().chain(POINTS).chain(POINTS) {
                kill_at(what, how, stage.start("client"), &mut server);
            }
            server.say("done");
            server.finish();
            assert_eq!(stage.files(), [""; 0]);
        });
}

#[test]
fn a_client_outlives_servers_killed_at_any_point() {
    Scenario::new(this_test!())
        .role("server", || {
            let server = options().first_pipe_instance(true).create(PIPE).unwrap();
            say("up");
            let what = hear();
            server.connect().unwrap();
            die(&what, &server);
        })
        .role("client", || {
            let mut before = None;
            loop {
                let how = hear();
                if how == "done" {
                    return;
                }
                let client = Side::client();
                survive(&how, client.pipe());
                hear_until_dead(&how);
                let open = || ClientOptions::new().open(PIPE);
                assert_eq!(code(open()), 2);
                if let Side::Client(client) = client {
                    assert_eq!(client.instances().unwrap(), 0);
                }
                let before = *before.get_or_insert_with(descriptors);
                until(|| descriptors() <= before);
                say("over");
            }
        })
        .run(|stage| {
            let mut client = stage.start("client");
            for (what, how) in POINTS.iter().chain(POINTS).chain(POINTS) {
                let mut server = stage.start("server");
                server.expect("up");
                kill_at(what, how, server, &mut client);
                // The survivor has removed what the dead one left.
                until(|| stage.files().is_empty());
            }
            client.say("done");
            client.finish();
        });
}

/// A server that is killed before anyone has come.
fn kill_a_server(stage: &Stage) {
    let mut server = stage.start("server");
    server.expect("up");
    server.kill();
    assert_eq!(stage.files(), [support::LOCK, support::SOCKET]);
}

fn name_roles(test: &'static str) -> Scenario {
    Scenario::new(test)
        .role("server", || drop(Side::server()))
        .role("client", || {
            assert_eq!(code(ClientOptions::new().open(PIPE)), 2);
        })
        .role("waiter", || {
            assert_eq!(code(ntpipe::wait(PIPE, None)), 2);
        })
        .role("lister", || assert!(ntpipe::list().unwrap().is_empty()))
        .role("successor", || {
            let server = options().first_pipe_instance(true).create(PIPE).unwrap();
            let client = ClientOptions::new().open(PIPE).unwrap();
            server.connect().unwrap();
            assert_eq!(client.server_process_id().unwrap(), std::process::id());
        })
}

#[test]
fn the_name_of_a_killed_server_is_gone_for_whoever_comes_next() {
    name_roles(this_test!()).run(|stage| {
        for visitor in ["client", "waiter", "lister"] {
            kill_a_server(stage);
            stage.start(visitor).finish();
            assert_eq!(stage.files(), [""; 0], "after the {visitor}");
        }
    });
}

#[test]
fn the_name_of_a_killed_server_can_be_created_again_at_once() {
    name_roles(this_test!()).run(|stage| {
        for _ in 0..10 {
            kill_a_server(stage);
            stage.start("successor").finish();
            assert_eq!(stage.files(), [""; 0]);
        }
    });
}

#[test]
fn a_client_killed_while_it_connects_disturbs_no_one() {
    Scenario::new(this_test!())
        .role("server", || {
            let server = options().create(PIPE).unwrap();
            say("up");
            let before = descriptors();
            let mut served = 0;
            loop {
                // 232: a client has come and left before we looked.
                if server.connect().is_ok() {
                    served += 1;
                    if let Ok(read) = server.read_message(&mut [0; 10])
                        && read.len == 4
                    {
                        break;
                    }
                }
                server.disconnect().unwrap();
                if served == 20 {
                    say("busy");
                }
            }
            server.write_message(b"thanks").unwrap();
            assert_eq!(code(server.read_message(&mut [0; 10])), 109);
            server.disconnect().unwrap();
            until(|| descriptors() <= before);
        })
        .role("victim", || {
            loop {
                drop(ClientOptions::new().open(PIPE));
            }
        })
        .role("last", || {
            let client = ClientOptions::new().open_timeout(PIPE, PATIENCE).unwrap();
            client.write_message(b"last").unwrap();
            assert_eq!(client.read_message(&mut [0; 10]).unwrap().len, 6);
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            let victims = [(); 3].map(|()| stage.start("victim"));
            server.expect("busy");
            victims.into_iter().for_each(Child::kill);
            for _ in 0..15 {
                stage.start("victim").kill();
            }
            stage.start("last").finish();
            server.finish();
        });
}
