//! Both ends in one process.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use ntpipe::{ClientOptions, IoErrorExt, Listener, PipeMode, ServerOptions, anonymous};

fn name(test: &str) -> String {
    format!(r"\\.\pipe\ntpipe-test-{}-{test}", std::process::id())
}

#[test]
fn messages_go_both_ways() {
    let name = name("both-ways");
    let server = ServerOptions::new()
        .pipe_mode(PipeMode::Message)
        .create(&name)
        .unwrap();
    let client = ClientOptions::new()
        .pipe_mode(PipeMode::Message)
        .open(&name)
        .unwrap();
    server.connect().unwrap();
    let echo = thread::spawn(move || {
        let mut buf = [0; 100];
        for _ in 0..1000 {
            let read = server.read_message(&mut buf).unwrap();
            server.write_message(&buf[..read.len]).unwrap();
        }
        server
    });
    let mut buf = [0; 100];
    for i in 0..1000_u32 {
        client.write_message(&i.to_le_bytes()).unwrap();
        let read = client.read_message(&mut buf).unwrap();
        assert_eq!(&buf[..read.len], i.to_le_bytes());
    }
    drop(echo.join().unwrap());
    assert_eq!(
        client.read_message(&mut buf).unwrap_err().win32_code(),
        Some(109)
    );
    assert_eq!(
        client.write_message(b"x").unwrap_err().win32_code(),
        Some(232)
    );
}

#[test]
fn a_large_file_streams_through() {
    let name = name("large");
    let server = ServerOptions::new().create(&name).unwrap();
    let data: Vec<u8> = (0..20_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
    let mut client = ClientOptions::new().open(&name).unwrap();
    server.connect().unwrap();
    let copy = data.clone();
    let writer = thread::spawn(move || {
        for chunk in copy.chunks(100_000) {
            (&server).write_all(chunk).unwrap();
        }
    });
    let mut read = Vec::new();
    client.read_to_end(&mut read).unwrap();
    writer.join().unwrap();
    assert!(read == data);
}

#[test]
fn errors_are_those_of_windows() {
    let name = name("errors");
    let code = |result: std::io::Result<_>| result.unwrap_err().win32_code().unwrap();
    assert_eq!(code(ClientOptions::new().open(&name).map(drop)), 2);
    let server = ServerOptions::new().max_instances(1).create(&name).unwrap();
    assert_eq!(code(ServerOptions::new().create(&name).map(drop)), 231);
    assert_eq!(code(server.read_message(&mut []).map(drop)), 536);
    let client = ClientOptions::new().open(&name).unwrap();
    assert_eq!(code(ClientOptions::new().open(&name).map(drop)), 231);
    server.connect().unwrap();
    server.disconnect().unwrap();
    assert_eq!(code(client.read_message(&mut []).map(drop)), 233);
    assert_eq!(code(server.read_message(&mut []).map(drop)), 233);
    drop(server);
    assert_eq!(code(ClientOptions::new().open(&name).map(drop)), 2);
}

#[test]
fn a_listener_with_one_instance_serves_client_after_client() {
    let name = name("listener");
    let listener = Listener::bind(&name, ServerOptions::new().max_instances(1)).unwrap();
    let server = thread::spawn(move || {
        for client in listener.incoming().take(5) {
            let mut client = client.unwrap();
            let mut text = [0; 5];
            client.read_exact(&mut text).unwrap();
            client.write_all(&text).unwrap();
        }
    });
    for _ in 0..5 {
        let timeout = Duration::from_secs(10);
        let mut client = ClientOptions::new().open_timeout(&name, timeout).unwrap();
        client.write_all(b"hello").unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
    server.join().unwrap();
}

#[test]
fn an_anonymous_pipe_carries_bytes() {
    let (mut reader, mut writer) = anonymous::pipe(1).unwrap();
    let write = thread::spawn(move || writer.write_all(&[7; 1_000_000]).unwrap());
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    write.join().unwrap();
    assert_eq!(read.len(), 1_000_000);
}

#[test]
fn closing_a_server_end_ends_a_read_of_another_thread_and_keeps_what_was_written() {
    let name = name("close");
    let listener = Listener::bind(&name, ServerOptions::new().max_instances(1)).unwrap();
    let mut client = ClientOptions::new().open(&name).unwrap();
    let server = listener.accept().unwrap();
    let reader = server.clone();
    let reader = thread::spawn(move || reader.read_message(&mut [0; 8]).unwrap_err());
    server.write_message(b"farewell").unwrap();
    server.close();
    let code = reader.join().unwrap().win32_code();
    // It may have begun before the close or after it.
    assert_eq!(code, Some(109));
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "farewell");
    // The listener has its instance back although `server` still exists.
    let next = ClientOptions::new().open_timeout(&name, Duration::from_secs(10));
    next.unwrap();
    assert_eq!(
        server.write_message(b"x").unwrap_err().win32_code(),
        Some(232)
    );
}
