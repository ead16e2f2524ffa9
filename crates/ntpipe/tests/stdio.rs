//! Anonymous pipes that turn into kernel pipes, for programs that know nothing of ours.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ntpipe::anonymous::{PipeReader, PipeWriter, pipe};
use ntpipe::{Canceller, IoErrorExt, WaitMode};
use rustix::thread::CapabilitySet;

/// No call of these tests takes as long.
const LONG: Duration = Duration::from_secs(60);

fn code<T: std::fmt::Debug>(result: io::Result<T>) -> u32 {
    result.unwrap_err().win32_code().unwrap()
}

/// Calls until the other thread waits: what it does then is up to the test.
fn until_ok(mut call: impl FnMut() -> io::Result<()>) {
    while call().is_err() {
        thread::yield_now();
    }
}

#[test]
fn a_child_reads_what_was_written_before_and_after() {
    let (reader, mut writer) = pipe(0).unwrap();
    writer.write_all(b"before ").unwrap();
    let child = Command::new("cat")
        .stdin(reader)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writer.write_all(b"after").unwrap();
    drop(writer);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"before after");
}

#[test]
fn a_child_writes_and_this_end_reads_to_the_end() {
    let (mut reader, mut writer) = pipe(0).unwrap();
    writer.write_all(b"ours, ").unwrap();
    let mut child = Command::new("echo")
        .arg("theirs")
        .stdout(writer)
        .spawn()
        .unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "ours, theirs\n");
    assert_eq!(code(reader.read_message(&mut [0; 9])), 109);
    assert!(child.wait().unwrap().success());
}

#[test]
fn two_children_go_on_without_their_parent() {
    let (reader, writer) = pipe(0).unwrap();
    let mut first = Command::new("seq")
        .arg("1000")
        .stdout(writer)
        .spawn()
        .unwrap();
    let last = Command::new("tail")
        .args(["-n", "1"])
        .stdin(reader)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Neither end is this process' any more.
    assert_eq!(last.wait_with_output().unwrap().stdout, b"1000\n");
    assert!(first.wait().unwrap().success());
}

#[test]
fn a_read_that_waits_goes_on() {
    let (reader, writer) = pipe(0).unwrap();
    let waiting = thread::spawn(move || {
        let mut buf = [0; 9];
        let read = reader.read_message(&mut buf).unwrap();
        buf[..read.len].to_vec()
    });
    // Its buffer takes of the quota as soon as it waits.
    while writer.local_info().unwrap().write_quota_available == 4096 {
        thread::yield_now();
    }
    let mut other = File::from(writer.into_fd().unwrap());
    other.write_all(b"late").unwrap();
    assert_eq!(waiting.join().unwrap(), b"late");
}

#[test]
fn writes_that_wait_go_on_in_order_and_whole() {
    for size in [1, 100, 5_000, 300_000] {
        let (reader, writer) = pipe(10).unwrap();
        let message = move |fill: u8| vec![fill; size + 20];
        let writers: Vec<_> = (1..=3)
            .map(|fill| {
                let (end, waits) = (writer.try_clone().unwrap(), writer.local_info().unwrap());
                let thread = thread::spawn(move || end.write_message(&message(fill)).unwrap());
                // One after the other: each has announced all its bytes before the next begins.
                let before = waits.write_quota_available;
                let announced = u64::from(fill) * (size as u64 + 20);
                while reader.peek(&mut []).unwrap().available < announced {
                    thread::yield_now();
                }
                assert!(before <= 10);
                thread
            })
            .collect();
        let mut other = File::from(reader.into_fd().unwrap());
        let mut received = vec![0; 3 * (size + 20)];
        other.read_exact(&mut received).unwrap();
        let expected: Vec<u8> = (1..=3).flat_map(message).collect();
        assert!(received == expected, "size {size}");
        for thread in writers {
            assert_eq!(thread.join().unwrap(), size + 20);
        }
    }
}

#[test]
fn what_the_kernel_cannot_hold_stays_where_it_is() {
    let most: usize = std::fs::read_to_string("/proc/sys/fs/pipe-max-size")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // This thread is to have no more than others.
    let mut held = rustix::thread::capabilities(None).unwrap();
    held.effective -= CapabilitySet::SYS_RESOURCE | CapabilitySet::SYS_ADMIN;
    rustix::thread::set_capabilities(None, held).unwrap();
    let (reader, writer) = pipe(u32::try_from(most).unwrap() * 2).unwrap();
    writer.write_message(&vec![7; most + 1]).unwrap();
    assert_eq!(code(reader.try_clone().unwrap().into_fd()), 1450);
    let mut back = vec![0; most + 1];
    assert_eq!(reader.read_message(&mut back).unwrap().len, most + 1);
}

#[test]
fn the_end_that_stays_works_as_before() {
    let (reader, writer) = pipe(0).unwrap();
    let other = File::from(writer.into_fd().unwrap());
    (&other).write_all(b"abcdef").unwrap();
    let mut buf = [0; 4];
    let peek = reader.peek(&mut buf).unwrap();
    assert_eq!((peek.len, peek.available, &buf), (4, 6, b"abcd"));
    assert_eq!(reader.read_message(&mut buf).unwrap().len, 4);
    assert_eq!(reader.read_message(&mut buf).unwrap().len, 2);
    assert_eq!(reader.peek(&mut buf).unwrap().available, 0);
    reader
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    assert_eq!(code(reader.read_message(&mut buf)), 121);
    reader.set_wait_mode(WaitMode::NoWait).unwrap();
    assert_eq!(code(reader.read_message(&mut buf)), 232);
    assert_eq!(reader.info().in_buffer_size, 4096);
    drop(other);
    assert_eq!(code(reader.peek(&mut buf)), 109);
    assert_eq!(code(reader.read_message(&mut buf)), 109);
}

#[test]
fn a_peek_sees_bytes_that_lie_apart() {
    let (reader, writer) = pipe(0).unwrap();
    let mut other = File::from(writer.into_fd().unwrap());
    for _ in 0..3 {
        // Three of them take more pages than their bytes would.
        other.write_all(&[1; 1200]).unwrap();
    }
    assert_eq!(reader.peek(&mut [0; 9999]).unwrap().len, 3600);
    reader.read_message(&mut [0; 100]).unwrap();
    assert_eq!(reader.peek(&mut [0; 9999]).unwrap().len, 3500);
}

#[test]
fn a_write_that_takes_too_long_says_how_far_it_came() {
    let (reader, writer) = pipe(0).unwrap();
    let mut other = File::from(reader.into_fd().unwrap());
    writer
        .set_write_timeout(Some(Duration::from_millis(5)))
        .unwrap();
    let written = writer.write_message(&vec![1; 1 << 20]).unwrap();
    assert!(written > 0 && written < 1 << 20);
    assert_eq!(code(writer.write_message(b"no room")), 121);
    drop(writer);
    let mut rest = Vec::new();
    other.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), written);
}

#[test]
fn a_child_that_is_killed_is_noticed_at_both_ends() {
    let (input, to_child) = pipe(0).unwrap();
    let (from_child, output) = pipe(0).unwrap();
    let mut child = Command::new("cat")
        .stdin(input)
        .stdout(output)
        .spawn()
        .unwrap();
    to_child.write_message(b"hello").unwrap();
    assert_eq!(from_child.read_message(&mut [0; 9]).unwrap().len, 5);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(code(from_child.read_message(&mut [0; 9])), 109);
    assert_eq!(code(to_child.write_message(b"x")), 232);
}

#[test]
fn a_writer_learns_that_nobody_reads() {
    let (reader, writer) = pipe(0).unwrap();
    let other = File::from(reader.into_fd().unwrap());
    writer.write_message(b"x").unwrap();
    let waiting = {
        let writer = writer.try_clone().unwrap();
        thread::spawn(move || code(writer.write_message(&vec![0; 1 << 20])))
    };
    (&other).read_exact(&mut [0; 2]).unwrap();
    drop(other);
    assert_eq!(waiting.join().unwrap(), 109);
    assert_eq!(code(writer.write_message(b"y")), 232);
    assert_eq!(writer.handle_state().unwrap().instances, 0);
}

#[test]
fn writes_that_wait_in_order_all_learn_that_nobody_reads() {
    // The second has nothing in the pipe yet, for the first fills it.
    let (reader, writer) = pipe(10).unwrap();
    let waiting: Vec<_> = [300_000, 100]
        .into_iter()
        .map(|len| {
            let before = reader.peek(&mut []).unwrap().available;
            let writer = writer.try_clone().unwrap();
            let waiting = thread::spawn(move || code(writer.write_message(&vec![0; len])));
            while reader.peek(&mut []).unwrap().available == before {
                thread::yield_now();
            }
            waiting
        })
        .collect();
    drop(reader.into_fd().unwrap());
    for write in waiting {
        assert_eq!(write.join().unwrap(), 109);
    }
}

#[test]
fn a_write_of_nothing_never_waits() {
    let (reader, writer) = pipe(0).unwrap();
    let other = File::from(reader.into_fd().unwrap());
    let waiting = {
        let writer = writer.try_clone().unwrap();
        thread::spawn(move || writer.write_message(&vec![0; 1 << 20]))
    };
    (&other).read_exact(&mut [0]).unwrap();
    writer.set_write_timeout(Some(LONG)).unwrap();
    assert_eq!(writer.write_message(&[]).unwrap(), 0);
    drop(other);
    assert_eq!(code(waiting.join().unwrap()), 109);
}

/// Flushes in another thread what nobody has read.
fn flushing(writer: &PipeWriter) -> thread::JoinHandle<io::Result<()>> {
    writer.write_message(b"unread").unwrap();
    writer.set_write_timeout(Some(LONG)).unwrap();
    let writer = writer.try_clone().unwrap();
    thread::spawn(move || writer.flush())
}

#[test]
fn a_flush_that_was_cancelled_stays_so() {
    for _ in 0..30 {
        let (reader, writer) = pipe(0).unwrap();
        let flushing = flushing(&writer);
        until_ok(|| writer.cancel_io());
        let _other = reader.into_fd().unwrap();
        assert_eq!(code(flushing.join().unwrap()), 995);
    }
}

#[test]
fn calls_on_a_kernel_pipe_can_be_cancelled() {
    let (reader, writer) = pipe(0).unwrap();
    let other = writer.into_fd().unwrap();
    let (send, receive) = mpsc::channel();
    let waiting = {
        let reader = reader.try_clone().unwrap();
        thread::spawn(move || {
            let first = code(reader.read_message(&mut [0; 9]));
            send.send(Canceller::current()).unwrap();
            [first, code(reader.read_message(&mut [0; 9]))]
        })
    };
    until_ok(|| reader.cancel_io());
    let canceller = receive.recv().unwrap();
    until_ok(|| canceller.cancel());
    assert_eq!(waiting.join().unwrap(), [995, 995]);
    assert_eq!(code(reader.cancel_io()), 1168);
    File::from(other).write_all(b"still there").unwrap();
    assert_eq!(reader.read_message(&mut [0; 99]).unwrap().len, 11);
}

#[test]
fn a_flush_waits_until_a_program_has_read() {
    let (reader, writer) = pipe(0).unwrap();
    let mut other = File::from(reader.into_fd().unwrap());
    writer.flush().unwrap();
    writer.write_message(b"abc").unwrap();
    writer
        .set_write_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    assert_eq!(code(writer.flush()), 121);
    writer.set_write_timeout(None).unwrap();
    let flushing = thread::spawn(move || writer.flush());
    other.read_exact(&mut [0; 3]).unwrap();
    flushing.join().unwrap().unwrap();
}

#[test]
fn both_stay_usable_when_an_end_is_only_shown() {
    let (mut reader, mut writer) = pipe(0).unwrap();
    writer.write_all(b"one").unwrap();
    assert_eq!(rustix::io::ioctl_fionread(reader.as_fd()).unwrap(), 3);
    writer.write_all(b"two").unwrap();
    rustix::io::write(writer.as_fd(), b"three").unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "onetwothree");
}

#[test]
fn ends_are_made_of_the_kernels_own() {
    let (from, to) = io::pipe().unwrap();
    let (from, to) = (OwnedFd::from(from), OwnedFd::from(to));
    assert_eq!(code(PipeReader::from_fd(to.try_clone().unwrap())), 6);
    assert_eq!(code(PipeWriter::from_fd(from.try_clone().unwrap())), 6);
    let file = File::open("/dev/null").unwrap();
    assert_eq!(code(PipeReader::from_fd(file.into())), 6);
    let reader = PipeReader::from_fd(from).unwrap();
    let writer = PipeWriter::from_fd(to).unwrap();
    writer.write_message(b"hello").unwrap();
    drop(writer);
    assert_eq!(reader.read_message(&mut [0; 9]).unwrap().len, 5);
    assert_eq!(code(reader.read_message(&mut [0; 9])), 109);
}

#[test]
fn an_end_whose_other_one_is_gone_still_turns() {
    let (reader, mut writer) = pipe(0).unwrap();
    writer.write_all(b"last words").unwrap();
    drop(writer);
    let mut text = String::new();
    File::from(reader.into_fd().unwrap())
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "last words");

    // Nothing was written, or everything has been read.
    for words in [&b""[..], b"read"] {
        let (reader, mut writer) = pipe(0).unwrap();
        writer.write_all(words).unwrap();
        drop(writer);
        assert_eq!((&reader).read(&mut [0; 9]).unwrap(), words.len());
        let child = Command::new("cat").stdin(reader).output().unwrap();
        assert!(child.status.success() && child.stdout.is_empty());
    }

    let (reader, writer) = pipe(0).unwrap();
    drop(reader);
    let written = File::from(writer.into_fd().unwrap()).write(b"nobody");
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn no_descriptor_is_left() {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let turn = || {
        let (reader, writer) = pipe(0).unwrap();
        drop(reader.into_fd().unwrap());
        drop(writer.into_fd().unwrap());
    };
    turn();
    let before = count();
    (0..200).for_each(|_| turn());
    // Other tests of this process open and close theirs: at some moment the counts are the same.
    let counts = (0..1000).map(|_| {
        thread::yield_now();
        count()
    });
    let after = counts.min().unwrap();
    assert!(after <= before + 20, "{before} before, {after} after");
}

/// An example, run as a user would.
fn example(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["run", "--quiet", "--example", name])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

#[test]
fn the_examples_do_what_they_say() {
    let output = example("redirect_child").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(
        text.starts_with("A PIPE TURNS INTO THE KERNEL'S\n"),
        "{text}"
    );
    let output = example("pipeline").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("20\n19\n") && text.ends_with("\n1\n"),
        "{text}"
    );
}
