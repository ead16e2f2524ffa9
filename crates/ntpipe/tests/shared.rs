//! Ends that several processes hold (reference 1.19).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use ntpipe::anonymous::{PipeReader, PipeWriter, pipe};
use ntpipe::{PipeParts, PipeStream};

mod support;
use support::{Child, Scenario, Stage, asleep, bytes, code, hear, say, this_test, until};

const PARTS: &str = "NTPIPE_TEST_PARTS";

/// Starts a child that inherits parts.
fn start(stage: &Stage, role: &'static str, parts: PipeParts) -> Child {
    stage.start_with(role, |command: &mut Command| {
        let number = parts.inherit(command).unwrap();
        command.env(PARTS, number.to_string());
    })
}

/// The parts that this child has inherited.
fn inherited() -> PipeParts {
    PipeParts::inherited(std::env::var_os(PARTS).unwrap()).unwrap()
}

fn reader() -> PipeReader {
    PipeReader::from_parts(inherited()).unwrap()
}

fn writer() -> PipeWriter {
    PipeWriter::from_parts(inherited()).unwrap()
}

fn read(pipe: &PipeStream, len: usize) -> Vec<u8> {
    let mut buf = vec![0; len];
    let read = pipe.read_message(&mut buf).unwrap();
    buf.truncate(read.len);
    buf
}

/// Lets this process measure how long waits should spin, which starts a thread for a moment.
fn warm_up() {
    let (reader, _writer) = pipe(0).unwrap();
    let brief = Some(Duration::from_micros(1));
    reader.set_read_timeout(brief).unwrap();
    assert_eq!(code(reader.read_message(&mut [0])), 121);
}

/// Says what it reads, as often as it is asked.
fn read_on_demand(pipe: &PipeStream) {
    loop {
        match hear().as_str() {
            "end" => break,
            len => {
                let mut buf = vec![0; len.parse().unwrap()];
                match pipe.read_message(&mut buf) {
                    Ok(read) => say(String::from_utf8_lossy(&buf[..read.len])),
                    Err(error) => say(code::<()>(Err(error))),
                }
            }
        }
    }
}

/// Writes what it hears.
fn write_on_demand(pipe: &PipeStream) {
    loop {
        match hear().as_str() {
            "end" => break,
            text => {
                let written = pipe.write_message(text.as_bytes());
                say(written.map_or_else(|error| code::<()>(Err(error)), |_| 0));
            }
        }
    }
}

// observed 5.21: the state is the pipe's, not a process'.
#[test]
fn two_processes_read_one_end_in_turn() {
    Scenario::new(this_test!())
        .role("reader", || {
            let reader = reader();
            say("here");
            read_on_demand(&reader);
        })
        .run(|stage| {
            let (reader, writer) = pipe(100).unwrap();
            writer.write_message(b"one-two-three-four").unwrap();
            assert_eq!(read(&reader, 4), b"one-");
            let mut child = start(stage, "reader", reader.share().unwrap());
            child.expect("here");
            child.say("4");
            child.expect("two-");
            assert_eq!(read(&reader, 6), b"three-");
            writer.write_message(b"five").unwrap();
            child.say("100");
            child.expect("fourfive");
            // It also reads what comes while it waits, and goes on alone.
            child.say("10");
            drop(reader);
            writer.write_message(b"late").unwrap();
            child.expect("late");
            child.say("10");
            drop(writer);
            child.expect("109");
            child.say("end");
            child.finish();
        });
}

// Reference 3, row 43.
#[test]
fn the_reader_finds_the_end_when_every_copy_of_the_writer_is_closed() {
    Scenario::new(this_test!())
        .role("writer", || {
            let writer = writer();
            say("here");
            write_on_demand(&writer);
        })
        .run(|stage| {
            let (reader, writer) = pipe(100).unwrap();
            let mut child = start(stage, "writer", writer.share().unwrap());
            child.expect("here");
            writer.write_message(b"from the parent ").unwrap();
            child.say("from the child");
            child.expect("0");
            drop(writer);
            assert_eq!(read(&reader, 100), b"from the parent from the child");
            let brief = Some(Duration::from_millis(20));
            reader.set_read_timeout(brief).unwrap();
            assert_eq!(code(reader.read_message(&mut [0])), 121, "no end yet");
            reader.set_read_timeout(None).unwrap();
            let ended = asleep(|| code(reader.read_message(&mut [0])), || child.say("end"));
            assert_eq!(ended, 109);
            child.finish();
        });
}

#[test]
fn the_reader_finds_the_end_when_the_last_writer_is_killed() {
    Scenario::new(this_test!())
        .role("writer", || {
            let writer = writer();
            writer.write_message(b"last words").unwrap();
            say("here");
            hear();
        })
        .run(|stage| {
            let (reader, writer) = pipe(100).unwrap();
            let mut child = start(stage, "writer", writer.into_parts().unwrap());
            child.expect("here");
            assert_eq!(read(&reader, 100), b"last words");
            let ended = asleep(|| code(reader.read_message(&mut [0])), || child.kill());
            assert_eq!(ended, 109);
        });
}

#[test]
fn parts_that_nobody_takes_hold_the_end_until_they_are_dropped() {
    let (reader, writer) = pipe(0).unwrap();
    let parts = writer.into_parts().unwrap();
    reader
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    assert_eq!(code(reader.read_message(&mut [0])), 121);
    reader.set_read_timeout(None).unwrap();
    let ended = asleep(|| code(reader.read_message(&mut [0])), move || drop(parts));
    assert_eq!(ended, 109);
}

#[test]
fn an_end_goes_to_a_running_process_over_a_socket() {
    Scenario::new(this_test!())
        .role("writer", || {
            let number = std::env::var(PARTS).unwrap();
            let socket = UnixStream::connect(number).unwrap();
            let writer = PipeWriter::from_parts(PipeParts::receive(&socket).unwrap()).unwrap();
            writer.write_message(b"hello").unwrap();
            assert_eq!(code(PipeParts::receive(&socket)), 13);
            say("nonsense");
            assert_eq!(code(PipeParts::receive(&socket)), 109);
        })
        .run(|stage| {
            let path = stage.dir().join("socket");
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            let mut child = stage.start_with("writer", |command| {
                command.env(PARTS, &path);
            });
            let (socket, _) = listener.accept().unwrap();
            let (reader, writer) = pipe(0).unwrap();
            writer.into_parts().unwrap().send(&socket).unwrap();
            assert_eq!(read(&reader, 10), b"hello");
            std::io::Write::write_all(&mut &socket, b"nonsense").unwrap();
            child.expect("nonsense");
            drop(socket);
            child.finish();
            assert_eq!(code(reader.read_message(&mut [0])), 109);
        });
}

#[test]
fn one_set_of_parts_makes_one_end() {
    let (reader, writer) = pipe(0).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    let parts = writer.share().unwrap();
    // A copy of the descriptor, such as a second child inherits.
    let mut commands = [Command::new("a"), Command::new("b")];
    let number = parts.inherit(&mut commands[0]).unwrap();
    let one = PipeParts::inherited(number.to_string()).unwrap();
    let two = PipeParts::inherited(number.to_string()).unwrap();
    let end = PipeWriter::from_parts(one).unwrap();
    assert_eq!(code(PipeWriter::from_parts(two)), 6);
    assert_eq!(code(PipeParts::inherited(number.to_string())), 6);
    for nothing in ["", "x", "-1", "999999", "0x3"] {
        assert_eq!(code(PipeParts::inherited(nothing)), 6, "{nothing}");
    }
    end.write_message(b"it works").unwrap();
    assert_eq!(read(&reader, 10), b"it works");
    drop((here, there));
}

#[test]
fn parts_of_another_kind_are_refused() {
    let (reader, writer) = pipe(0).unwrap();
    assert_eq!(code(PipeReader::from_parts(writer.share().unwrap())), 87);
    assert_eq!(code(PipeWriter::from_parts(reader.share().unwrap())), 87);
    // They are gone, and the ends go on.
    writer.write_message(b"here").unwrap();
    assert_eq!(read(&reader, 10), b"here");
}

#[test]
fn an_end_returns_to_its_process_and_works_there() {
    let (reader, writer) = pipe(50).unwrap();
    writer.write_message(b"before").unwrap();
    let reader = PipeReader::from_parts(reader.into_parts().unwrap()).unwrap();
    let writer = PipeWriter::from_parts(writer.into_parts().unwrap()).unwrap();
    assert_eq!(read(&reader, 10), b"before");
    let data = bytes(0, 100_000);
    thread::scope(|scope| {
        scope.spawn(|| writer.write_message(&data).unwrap());
        let mut got = Vec::new();
        while got.len() < data.len() {
            got.extend(read(&reader, 3000));
        }
        assert!(got == data);
    });
    drop(writer);
    assert_eq!(code(reader.read_message(&mut [0])), 109);
}

/// A descriptor that is no parts.
#[test]
fn a_socket_with_something_else_is_refused() {
    let (here, there) = UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut &here, b"anything but parts of a pipe").unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&there).to_string();
    assert_eq!(code(PipeParts::inherited(&number)), 13);
    let _: OwnedFd = there.into();
}

#[test]
fn a_thread_that_waits_goes_on_when_its_end_is_shared() {
    let (reader, writer) = pipe(10).unwrap();
    // A read.
    let mut other = None;
    let got = asleep(
        || read(&reader, 10),
        || {
            other = Some(PipeReader::from_parts(reader.share().unwrap()).unwrap());
            writer.write_message(b"abc").unwrap();
        },
    );
    assert_eq!(got, b"abc");
    // A write, and a flush.
    let data = bytes(0, 1000);
    let mut copy = None;
    asleep(
        || writer.write_message(&data).unwrap(),
        || {
            copy = Some(PipeWriter::from_parts(writer.share().unwrap()).unwrap());
            assert_eq!(read(other.as_ref().unwrap(), 1000), data);
        },
    );
    writer.write_message(b"rest").unwrap();
    asleep(
        || copy.as_ref().unwrap().flush().unwrap(),
        || assert_eq!(read(&reader, 10), b"rest"),
    );
}

#[test]
fn pending_writes_of_a_dead_holder_are_taken_back_and_the_others_stay() {
    // observed 10.10
    Scenario::new(this_test!())
        .role("writer", || {
            warm_up();
            let writer = writer();
            thread::scope(|scope| {
                scope.spawn(|| writer.write_message(&[b'x'; 30]));
                support::others_sleep();
                say("waits");
                hear();
            });
        })
        .run(|stage| {
            let (reader, writer) = pipe(10).unwrap();
            writer.write_message(b"123456").unwrap();
            let mut child = start(stage, "writer", writer.share().unwrap());
            child.expect("waits");
            // A look that takes nothing: all can be read already.
            assert_eq!(reader.peek(&mut []).unwrap().available, 36);
            thread::scope(|scope| {
                let mine = scope.spawn(|| writer.write_message(b"mine stays").unwrap());
                until(|| reader.peek(&mut []).unwrap().available == 46);
                assert_eq!(read(&reader, 10), b"123456xxxx");
                child.kill();
                until(|| reader.peek(&mut []).unwrap().available == 10);
                assert_eq!(mine.join().unwrap(), 10);
                assert_eq!(read(&reader, 100), b"mine stays");
            });
            // The quota is what it was.
            writer.write_message(&[0; 10]).unwrap();
            writer
                .set_write_timeout(Some(Duration::from_millis(10)))
                .unwrap();
            assert_eq!(code(writer.write_message(b"1")), 121);
            assert_eq!(read(&reader, 100), [0; 10]);
        });
}

#[test]
fn a_dead_reader_leaves_the_data_to_the_others() {
    Scenario::new(this_test!())
        .role("reader", || {
            warm_up();
            let reader = reader();
            thread::scope(|scope| {
                scope.spawn(|| reader.read_message(&mut [0; 10]));
                support::others_sleep();
                say("waits");
                hear();
            });
        })
        .run(|stage| {
            let (reader, writer) = pipe(10).unwrap();
            let mut child = start(stage, "reader", reader.share().unwrap());
            child.expect("waits");
            let got = asleep(
                || read(&reader, 10),
                || {
                    child.kill();
                    writer.write_message(b"for you").unwrap();
                },
            );
            assert_eq!(got, b"for you");
        });
}
