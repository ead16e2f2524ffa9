//! `listen` and `connect`.

mod support;

use std::process::Command;
use std::time::Instant;

use support::Names;

#[test]
fn bytes_go_both_ways_until_one_side_closes() {
    let names = Names::new();
    let mut server = names.start(&["listen", "talk"]);
    names.wait_until_exists("talk");
    let mut client = names.start(&["connect", "--close-on-eof", "talk"]);
    server.write(b"from the server\n");
    client.write(b"from the client\n");
    client.wait_for_output(|out| out == "from the server\n");
    client.finish().success();
    // Its standard input is still open.
    assert_eq!(server.wait().success(), "from the client\n");
}

#[test]
fn what_a_client_wrote_survives_its_exit() {
    let names = Names::new();
    let data = vec![b'x'; 60_000];
    let server = names.start(&["listen", "late"]);
    let mut client = names.start(&["connect", "--wait", "20", "-N", "late"]);
    client.write(&data);
    client.finish().success();
    assert!(server.wait().raw == data);
}

#[test]
fn what_a_server_wrote_survives_its_exit() {
    let names = Names::new();
    let data = vec![b'x'; 60_000];
    let mut server = names.start(&["listen", "-N", "late"]);
    server.write(&data);
    server.end_input();
    let client = names.start(&["connect", "--wait", "20", "late"]);
    assert!(client.wait().raw == data);
    server.wait().success();
}

#[test]
fn a_line_is_a_message_and_an_end_of_input_ends_both() {
    let names = Names::new();
    let mut server = names.start(&["listen", "--message", "lines"]);
    names.wait_until_exists("lines");
    let mut client = names.start(&["connect", "--message", "lines"]);
    client.write(b"one\n\ntwo words\nno newline");
    server.write(b"a reply\n");
    client.end_input();
    server.end_input();
    assert_eq!(client.wait().success(), "a reply\n");
    assert_eq!(server.wait().success(), "one\ntwo words\nno newline\n");
}

#[test]
fn a_line_longer_than_any_buffer_is_one_message() {
    let names = Names::new();
    let line = "long ".repeat(60_000);
    let mut server = names.start(&["listen", "--message", "long"]);
    server.end_input();
    let mut client = names.start(&["connect", "--message", "--wait", "20", "long"]);
    client.write(line.as_bytes());
    client.write(b"\nshort\n");
    client.finish().success();
    assert!(server.finish().success() == format!("{line}\nshort\n"));
}

#[test]
fn binary_messages_come_out_as_they_went_in() {
    let names = Names::new();
    let data: Vec<u8> = (0..200_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let mut server = names.start(&["listen", "--message", "--binary", "binary"]);
    server.end_input();
    let args = ["connect", "--message", "--binary", "--wait", "20", "binary"];
    let mut client = names.start(&args);
    client.write(&data);
    client.finish().success();
    assert!(server.finish().raw == data);
}

#[test]
fn a_command_serves_client_after_client_and_several_at_once() {
    let names = Names::new();
    let _server = names.start(&[
        "listen",
        "--message",
        "--fork",
        "--exec",
        "tr a-z A-Z",
        "up",
    ]);
    names.wait_until_exists("up");
    let mut clients: Vec<_> = (0..3)
        .map(|_| names.start(&["connect", "--message", "--wait", "20", "up"]))
        .collect();
    names.wait_for("up", |info| info["instances"].as_u64() >= Some(4));
    for (i, client) in clients.iter_mut().enumerate() {
        client.write(format!("client {i}\nagain\n").as_bytes());
    }
    for (i, client) in clients.into_iter().enumerate() {
        assert_eq!(client.finish().success(), format!("CLIENT {i}\nAGAIN\n"));
    }
}

#[test]
fn a_command_that_exits_lets_its_client_go_with_all_it_wrote() {
    let names = Names::new();
    let args = [
        "listen",
        "--fork",
        "--max-instances",
        "1",
        "--exec",
        "echo bye",
        "bye",
    ];
    let _server = names.start(&args);
    names.wait_until_exists("bye");
    for _ in 0..3 {
        // Its standard input stays open: the server closes, not the client.
        let client = names.start(&["connect", "--wait", "20", "bye"]);
        assert_eq!(client.wait().success(), "bye\n");
    }
}

#[test]
fn a_forking_listener_prints_what_all_clients_send() {
    let names = Names::new();
    let listener = names.start(&["listen", "--message", "--fork", "log"]);
    let mut expected = String::new();
    for line in ["one\n", "two\n", "three\n"] {
        let mut client = names.start(&["connect", "--message", "--wait", "20", "log"]);
        client.write(line.as_bytes());
        expected += line;
        listener.wait_for_output(|out| out == expected);
        // The listener sends nothing, and has said so.
        client.finish().success();
    }
}

#[test]
fn a_listener_whose_output_is_closed_ends_quietly() {
    let names = Names::new();
    let script = r#"{ "$0" listen --message --fork log; echo "code $?" >&2; } | head -n 1"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_ntpipe")]);
    let mut shell = support::spawn(command, Some(names.path()));
    names.wait_until_exists("log");
    let deadline = Instant::now() + support::PATIENCE;
    while shell.is_running() {
        assert!(Instant::now() < deadline, "the listener does not notice");
        // The last one may find the listener gone.
        let mut client = names.start(&["connect", "--message", "log"]);
        client.write(b"line\n");
        client.finish();
    }
    let done = shell.wait();
    assert_eq!((&*done.out, &*done.err), ("line\n", "code 0\n"));
}

#[test]
fn every_spelling_of_a_name_reaches_the_same_pipe() {
    let names = Names::new();
    let _server = names.start(&["listen", "--message", "--fork", "--exec", "cat", "Spelled"]);
    names.wait_until_exists("Spelled");
    for spelling in [
        "Spelled",
        "sPELLED",
        r"\\.\pipe\spelled",
        r"\\?\pipe\spelled",
        "//./pipe/spelled",
        "npipe:////./pipe/spelled",
    ] {
        let mut client = names.start(&["connect", "--message", "--wait", "20", spelling]);
        client.write(spelling.as_bytes());
        assert_eq!(client.finish().success(), format!("{spelling}\n"));
    }
}
