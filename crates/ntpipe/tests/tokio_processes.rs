//! Tasks of one process and threads or tasks of another.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::pin::pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ntpipe::tokio::{ClientOptions, NamedPipeServer, PeekInfo, PipeMode, ServerOptions};
use ntpipe::{IoErrorExt, PipeParts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

mod support;
use support::raw::{self, Memory, Raw};
use support::{PIPE, Scenario, bytes, hear, say, this_test, until};

const ROUND_TRIPS: u32 = 500;
const STREAM: usize = 1 << 20;

fn run<T>(play: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(play)
}

async fn server() -> NamedPipeServer {
    let server = ServerOptions::new().create(PIPE).unwrap();
    say("up");
    server.connect().await.unwrap();
    server
}

/// Now and then long enough for the other side to fall asleep.
async fn dawdle(round: u32) {
    if round.is_multiple_of(10) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn echo() {
    echo_at(server().await).await;
}

async fn echo_at(mut server: NamedPipeServer) {
    let mut buf = [0; 4];
    for round in 0..ROUND_TRIPS {
        server.read_exact(&mut buf).await.unwrap();
        assert_eq!(u32::from_le_bytes(buf), round);
        dawdle(round + 3).await;
        server.write_all(&buf).await.unwrap();
    }
}

#[test]
fn tasks_talk_to_threads() {
    Scenario::new(this_test!())
        .role("server", || run(echo()))
        .role("client", || {
            let mut client = ntpipe::ClientOptions::new().open(PIPE).unwrap();
            let mut buf = [0; 4];
            for round in 0..ROUND_TRIPS {
                run(dawdle(round));
                client.write_all(&round.to_le_bytes()).unwrap();
                client.read_exact(&mut buf).unwrap();
                assert_eq!(u32::from_le_bytes(buf), round);
            }
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            stage.start("client").finish();
            server.finish();
        });
}

#[test]
fn tasks_talk_to_tasks() {
    Scenario::new(this_test!())
        .role("server", || run(echo()))
        .role("client", || {
            run(async {
                let mut client = ClientOptions::new().open(PIPE).unwrap();
                let mut buf = [0; 4];
                for round in 0..ROUND_TRIPS {
                    dawdle(round).await;
                    client.write_all(&round.to_le_bytes()).await.unwrap();
                    client.read_exact(&mut buf).await.unwrap();
                    assert_eq!(u32::from_le_bytes(buf), round);
                }
            });
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            stage.start("client").finish();
            server.finish();
        });
}

#[test]
fn a_stream_of_a_thread_arrives_whole() {
    Scenario::new(this_test!())
        .role("server", || {
            run(async {
                let mut got = Vec::new();
                server().await.read_to_end(&mut got).await.unwrap();
                assert!(got == bytes(0, STREAM));
            });
        })
        .role("client", || {
            let mut client = ntpipe::ClientOptions::new().open(PIPE).unwrap();
            client.write_all(&bytes(0, STREAM)).unwrap();
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            stage.start("client").finish();
            server.finish();
        });
}

#[test]
fn tasks_that_sleep_learn_of_a_death() {
    Scenario::new(this_test!())
        .role("server", || {
            run(async {
                let server = server().await;
                let full = vec![0; 65536];
                assert_eq!(server.try_write(&full).unwrap(), full.len());
                let mut buf = [0; 4];
                say("sleeping");
                let reading = server.read_message(&mut buf);
                let writing = server.write_message(b"x");
                let (read, written) = tokio::join!(reading, writing);
                let code = |error: std::io::Error| error.win32_code();
                assert_eq!(read.err().and_then(code), Some(109));
                assert_eq!(written.err().and_then(code), Some(232));
            });
        })
        .role("client", || {
            let _client = ntpipe::ClientOptions::new().open(PIPE).unwrap();
            say("in");
            hear();
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            let mut client = stage.start("client");
            client.expect("in");
            server.expect("sleeping");
            client.kill();
            server.finish();
        });
}

#[test]
fn a_peer_that_rings_all_the_time_keeps_nobody_from_running() {
    Scenario::new(this_test!())
        .role("server", || {
            run(async {
                let server = server().await;
                let mut buf = [0; 4];
                let others = async {
                    say("sleeping");
                    for _ in 0..50 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    say("others run");
                };
                let (read, ()) = tokio::join!(server.read_message(&mut buf), others);
                let code = |error: std::io::Error| error.win32_code();
                assert_eq!(read.err().and_then(code), Some(109));
            });
        })
        .role("client", || {
            let client = Raw::connect();
            let _memory = client.attach();
            say("in");
            // Whatever it is, it is no message any more, and closes nothing.
            let (garbage, memory) = ([7; 300], raw::lonely_socket());
            let enough = std::thread::spawn(hear);
            while !enough.is_finished() {
                client.send(b"R", &[]).unwrap();
                client.send(&garbage, &[memory.as_fd()]).unwrap();
            }
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            let mut client = stage.start("client");
            client.expect("in");
            server.expect("sleeping");
            server.expect("others run");
            client.say("enough");
            client.finish();
            server.finish();
        });
}

#[test]
fn a_peek_does_not_wait_for_a_client_s_memory() {
    Scenario::alone(this_test!(), || {
        run(async {
            let server = ServerOptions::new().create(PIPE).unwrap();
            let client = Raw::connect();
            let (opened, _peer) = client.open();
            let mut buf = [0; 4];
            for _ in 0..2 {
                let peek = pin!(server.peek(&mut buf));
                match peek.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(peek) => assert_eq!(peek.unwrap(), PeekInfo::default()),
                    Poll::Pending => panic!("it waits"),
                }
            }
            // Nor do the other calls that only look.
            assert_eq!(server.local_info().unwrap().read_data_available, 0);
            assert_eq!(server.instances().unwrap(), 1);
            assert_eq!(
                server.client_process_id().unwrap(),
                std::process::id(),
                "the kernel knows it"
            );
            // Those that wait for it are cancelled like others.
            let mut byte = [0];
            let mut read = pin!(server.read_message(&mut byte));
            let pending = read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(pending.is_pending());
            server.cancel_io().unwrap();
            assert_eq!(read.await.unwrap_err().win32_code(), Some(995));
            let memory = Memory::new(opened.inbound_ring);
            client
                .send(&raw::attach_request(), &[memory.file.as_fd()])
                .unwrap();
            server.connect().await.unwrap();
            assert_eq!(server.peek(&mut buf).await.unwrap(), PeekInfo::default());
        });
    });
}

#[test]
fn ends_know_each_other_s_process() {
    Scenario::new(this_test!())
        .role("server", || {
            run(async {
                let server = server().await;
                say(server.client_process_id().unwrap());
                say(server.server_process_id().unwrap());
                hear();
            });
        })
        .role("client", || {
            run(async {
                let client = ClientOptions::new().open(PIPE).unwrap();
                say(client.client_process_id().unwrap());
                say(client.server_process_id().unwrap());
                hear();
            });
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            let mut client = stage.start("client");
            let (client_id, server_id) = (client.id().to_string(), server.id().to_string());
            for end in [&mut server, &mut client] {
                end.expect(&client_id);
                end.expect(&server_id);
                end.say("enough");
            }
            client.finish();
            server.finish();
        });
}

#[test]
fn an_end_moves_from_tasks_to_tasks_of_another_process() {
    const PARTS: &str = "NTPIPE_TEST_PARTS";
    let test = this_test!();
    Scenario::new(test)
        .role("server", || {
            let parts = run(async { server().await.into_parts().unwrap() });
            let mut command = Command::new(std::env::current_exe().unwrap());
            let number = parts.inherit(&mut command).unwrap();
            let worker = command
                .args(["--exact", test, "--nocapture", "--test-threads=1"])
                .env("NTPIPE_TEST_ROLE", "worker")
                .env(PARTS, number.to_string())
                .spawn();
            drop(command);
            assert!(worker.unwrap().wait().unwrap().success());
        })
        .role("worker", || {
            run(async {
                let parts = PipeParts::inherited(std::env::var_os(PARTS).unwrap()).unwrap();
                echo_at(NamedPipeServer::from_parts(parts).unwrap()).await;
            });
        })
        .role("client", || {
            run(async {
                let mut client = ClientOptions::new().open(PIPE).unwrap();
                let mut buf = [0; 4];
                for round in 0..ROUND_TRIPS {
                    dawdle(round).await;
                    client.write_all(&round.to_le_bytes()).await.unwrap();
                    client.read_exact(&mut buf).await.unwrap();
                    assert_eq!(u32::from_le_bytes(buf), round);
                }
                assert_eq!(client.read(&mut buf).await.unwrap(), 0);
            });
        })
        .run(|stage| {
            let mut server = stage.start("server");
            server.expect("up");
            stage.start("client").finish();
            server.finish();
        });
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn small_buffers() -> ServerOptions {
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message).out_buffer_size(64);
    options
}

/// A server whose large message is in the hands of a client that does not say whether it takes it.
async fn half_taken(options: &ServerOptions) -> (Memory, Raw, NamedPipeServer) {
    let server = options.create(PIPE).unwrap();
    let raw = Raw::connect();
    let memory = raw.attach();
    server.connect().await.unwrap();
    let large = bytes(0, 2 << 20);
    assert_eq!(server.try_write(&large).unwrap(), large.len());
    memory.set64(raw::CLAIM, 100);
    (memory, raw, server)
}

#[test]
fn a_message_that_its_reader_is_taking_is_taken_back_once_it_has_decided() {
    Scenario::alone(this_test!(), || {
        let (options, runtime) = (small_buffers(), current_thread());
        let (memory, _raw, server) = runtime.block_on(half_taken(&options));
        let server = runtime.block_on(async { server.try_clone().unwrap() });
        let server = server.into_blocking();
        drop(runtime);
        server
            .set_write_timeout(Some(Duration::from_micros(1)))
            .unwrap();
        let behind = server.write_message(b"behind").unwrap_err();
        assert_eq!(behind.win32_code(), Some(121));
        // It gives way.
        memory.set64(raw::CLAIM, 0);
        server
            .set_write_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        assert_eq!(server.write_message(b"next").unwrap(), 4);
    });
}

#[test]
fn a_message_that_its_reader_never_decides_on_does_not_outlive_it() {
    Scenario::alone(this_test!(), || {
        let (mut options, runtime) = (small_buffers(), current_thread());
        options.max_instances(1);
        let (_memory, raw, server) = runtime.block_on(half_taken(&options));
        drop((runtime, server));
        drop(raw);
        let since = Instant::now();
        let runtime = current_thread();
        let _context = runtime.enter();
        until(|| options.create(PIPE).is_ok());
        // One that lives and is stopped has five seconds.
        assert!(since.elapsed() < Duration::from_secs(5));
    });
}
