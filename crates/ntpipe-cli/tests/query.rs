//! `list`, `info` and `call`.
#![allow(clippy::unwrap_used)] // Clippy knows the test functions alone.

mod support;

use std::thread::{self, JoinHandle};

use ntpipe::{NamedPipeServer, PipeMode, ServerOptions};
use serde_json::Value;
use support::{Done, Names};

#[test]
fn a_list_has_what_a_pipe_is() {
    let names = Names::new();
    assert_eq!(names.run(&["list", "--json"]).success(), "[]\n");
    let _one = names.start(&[
        "listen",
        "--message",
        "--fork",
        "--max-instances",
        "7",
        "Alpha",
    ]);
    let _two = names.start(&["listen", "--fork", "beta"]);
    names.wait_until_exists("alpha");
    names.wait_until_exists("beta");

    let table = names.run(&["list"]).success();
    let rows: Vec<Vec<_>> = table
        .lines()
        .map(|row| row.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert_eq!(rows[0][0], "NAME");
    assert_eq!(
        rows[1][..6],
        [r"\\.\pipe\Alpha", "message", "duplex", "1", "7", "1"]
    );
    assert_eq!(
        rows[2][..6],
        [r"\\.\pipe\beta", "byte", "duplex", "1", "-", "1"]
    );
    assert_eq!(rows[1][7], "ntpipe");

    let json: Value = serde_json::from_str(&names.run(&["list", "--json"]).success()).unwrap();
    assert_eq!(json[0]["name"], "Alpha");
    assert_eq!(json[0]["path"], r"\\.\pipe\Alpha");
    assert_eq!(json[0]["max_instances"], 7);
    assert_eq!(json[1]["max_instances"], Value::Null);
    assert_eq!(json[1]["server_pid"].to_string(), rows[2][6]);
}

#[test]
fn a_pattern_chooses_from_the_list_whatever_the_case() {
    let names = Names::new();
    let _servers = ["one", "Other", "third"].map(|name| {
        let server = names.start(&["listen", "--fork", name]);
        names.wait_until_exists(name);
        server
    });
    let chosen = |glob| {
        let json = names.run(&["list", "--json", glob]).success();
        let Value::Array(entries) = serde_json::from_str(&json).unwrap() else {
            panic!("{json}");
        };
        let name = |entry: &Value| entry["name"].as_str().unwrap().to_owned();
        entries.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(chosen("o*"), ["Other", "one"]);
    assert_eq!(chosen("?HIRD"), ["third"]);
    assert_eq!(chosen(r"\\.\pipe\one"), ["one"]);
    assert!(chosen("hird").is_empty());
}

#[test]
fn info_tells_about_one_pipe() {
    let names = Names::new();
    let _server = names.start(&["listen", "--message", "--fork", "told"]);
    names.wait_until_exists("told");
    let text = names.run(&["info", "TOLD"]).success();
    assert!(text.contains(r"\\.\pipe\told"), "{text}");
    assert!(text.contains("1 of -, 1 listening"), "{text}");
    let json: Value =
        serde_json::from_str(&names.run(&["info", "--json", "told"]).success()).unwrap();
    assert_eq!(json["type"], "message");
    assert_eq!(json["program"], "ntpipe");
}

/// A server in this process, in this process' directory of names.
fn serve(
    test: &str,
    work: impl FnOnce(NamedPipeServer) + Send + 'static,
) -> (String, JoinHandle<()>) {
    let name = format!(r"\\.\pipe\ntpipe-cli-{}-{test}", std::process::id());
    let server = ServerOptions::new()
        .pipe_mode(PipeMode::Message)
        .create(&name)
        .unwrap();
    let work = thread::spawn(move || {
        server.connect().unwrap();
        work(server);
    });
    (name, work)
}

/// Reads the request, writes a reply.
fn reply(server: &NamedPipeServer, reply: &[u8]) -> Vec<u8> {
    let mut request = vec![0; 1000];
    let read = server.read_message(&mut request).unwrap();
    server.write_message(reply).unwrap();
    request.truncate(read.len);
    request
}

fn call(args: &[&str]) -> Done {
    support::start(args, None).finish()
}

#[test]
fn a_call_prints_the_reply_as_it_is() {
    let (name, server) = serve("call", |server| {
        assert_eq!(reply(&server, b"4 \xff"), b"2 + 2");
    });
    let done = call(&["call", &name, "2 + 2"]);
    assert_eq!(
        (done.code, &done.raw[..]),
        (Some(0), &b"4 \xff"[..]),
        "{done:?}"
    );
    server.join().unwrap();
}

#[test]
fn a_request_can_come_from_standard_input() {
    let (name, server) = serve("stdin", |server| {
        assert_eq!(reply(&server, b"ok"), b"from afar");
    });
    let mut client = support::start(&["call", &name, "-"], None);
    client.write(b"from afar");
    assert_eq!(client.finish().success(), "ok");
    server.join().unwrap();
}

#[test]
fn a_long_reply_is_taken_whole_or_refused() {
    let long = vec![b'y'; 300_000];
    let copy = long.clone();
    let (name, server) = serve("long", move |server| drop(reply(&server, &copy)));
    assert!(call(&["call", &name, "x"]).raw == long);
    server.join().unwrap();

    let (name, server) = serve("too-long", move |server| drop(reply(&server, b"12345")));
    let done = call(&["call", "--max-reply", "4", &name, "x"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.err.contains("ERROR_MORE_DATA (234)"), "{done:?}");
    assert!(done.err.contains("--max-reply"), "{done:?}");
    server.join().unwrap();
}

#[test]
fn a_call_without_a_reply_ends_with_its_timeout() {
    let (name, server) = serve("silent", |server| {
        let mut buf = [0; 8];
        server.read_message(&mut buf).unwrap();
        // Until the client gives up.
        server.read_message(&mut buf).unwrap_err();
    });
    let done = call(&["call", "--timeout", "0.1", &name, "x"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.err.contains("ERROR_SEM_TIMEOUT (121)"), "{done:?}");
    server.join().unwrap();
}
