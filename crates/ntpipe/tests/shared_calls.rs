//! What calls do at an end that several processes hold, beside reading and writing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::os::fd::OwnedFd;
use std::sync::mpsc::channel;
use std::thread;

use ntpipe::anonymous::{PipeReader, PipeWriter, pipe};
use ntpipe::{Canceller, ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions};
use ntpipe::{EndState, WaitMode};

mod support;
use support::{PIPE, Scenario, asleep, bytes, code, this_test, until};

const QUOTA: u32 = 100;

fn pair() -> (NamedPipeServer, NamedPipeClient) {
    pair_with(QUOTA)
}

fn pair_with(quota: u32) -> (NamedPipeServer, NamedPipeClient) {
    let mut options = ServerOptions::new();
    options.pipe_mode(PipeMode::Message);
    options.in_buffer_size(quota).out_buffer_size(quota);
    let server = options.create(PIPE).unwrap();
    let mut options = ClientOptions::new();
    let client = options.pipe_mode(PipeMode::Message).open(PIPE).unwrap();
    server.connect().unwrap();
    (server, client)
}

fn further(client: &NamedPipeClient) -> NamedPipeClient {
    NamedPipeClient::from_parts(client.share().unwrap()).unwrap()
}

#[test]
fn each_call_that_waits_at_a_shared_end_is_cancelled() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let other = further(&client);
        assert_eq!(code(client.cancel_io()), 1168);
        let cancel = || until(|| client.cancel_io().is_ok());
        let mut buf = [0; 200];
        assert_eq!(code(asleep(|| client.read_message(&mut buf), cancel)), 995);
        assert_eq!(code(client.cancel_io()), 1168);
        let reply = asleep(|| client.transact(b"request", &mut [0; 9]), cancel);
        assert_eq!(code(reply), 995);
        assert_eq!(server.read_message(&mut buf).unwrap().len, 7);
        client.write_message(&[1; 60]).unwrap();
        assert_eq!(code(asleep(|| client.flush(), cancel)), 995);
        let written = asleep(|| client.write_message(&[2; 60]), cancel);
        assert_eq!(code(written), 995);
        assert_eq!(server.peek(&mut []).unwrap().available, 60);
        // Nothing of that is in the other holder's way.
        other.write_message(&[3; 40]).unwrap();
        assert_eq!(server.read_message(&mut buf).unwrap().len, 60);
        assert_eq!(server.read_message(&mut buf).unwrap().len, 40);
        other.flush().unwrap();
        server.write_message(b"reply").unwrap();
        assert_eq!(other.read_message(&mut buf).unwrap().len, 5);
    });
}

#[test]
fn a_message_larger_than_the_ring_comes_to_a_shared_end_whole() {
    Scenario::alone(this_test!(), || {
        for quota in [0, QUOTA, 5_000, 65_536, 200_000] {
            let (server, client) = pair_with(quota);
            let _other = further(&client);
            let large = bytes(quota as usize, 9 << 20);
            thread::scope(|scope| {
                // What goes before leaves the ring's end at different places.
                scope.spawn(|| {
                    server.write_message(&large[..70_000]).unwrap();
                    server.write_message(&large).unwrap();
                });
                let mut buf = vec![0; large.len()];
                assert_eq!(client.read_message(&mut buf).unwrap().len, 70_000);
                let read = client.read_message(&mut buf).unwrap();
                assert_eq!((read.len, read.more), (large.len(), false));
                assert!(buf == large, "{quota}");
            });
            drop((server, client));
        }
    });
}

#[test]
fn calls_of_another_holder_are_not_cancelled() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let other = further(&client);
        let mut buf = [0; 9];
        let read = asleep(
            || client.read_message(&mut buf),
            || {
                assert_eq!(code(other.cancel_io()), 1168);
                server.write_message(b"all is well").unwrap();
            },
        );
        assert!(read.unwrap().more);
    });
}

#[test]
fn a_call_is_cancelled_whose_end_was_shared_meanwhile() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let cancel = || {
            let other = further(&client);
            until(|| client.cancel_io().is_ok());
            drop(other);
        };
        let read = asleep(|| client.read_message(&mut [0; 9]), cancel);
        assert_eq!(code(read), 995);
        let cancel = || {
            let other = NamedPipeServer::from_parts(server.share().unwrap()).unwrap();
            until(|| server.cancel_io().is_ok());
            drop(other);
        };
        assert_eq!(
            code(asleep(|| server.write_message(&[0; 200]), cancel)),
            995
        );
        assert_eq!(client.peek(&mut []).unwrap().available, 0);
    });
}

#[test]
fn a_canceller_ends_the_call_of_its_thread() {
    Scenario::alone(this_test!(), || {
        let (_server, client) = pair();
        let _other = further(&client);
        for writes in [false, true] {
            let (sender, receiver) = channel();
            thread::scope(|scope| {
                let waiting = scope.spawn(|| {
                    sender.send(Canceller::current()).unwrap();
                    match writes {
                        true => code(client.write_message(&[0; 200])),
                        false => code(client.read_message(&mut [0; 9])),
                    }
                });
                let canceller = receiver.recv().unwrap();
                until(|| canceller.cancel().is_ok());
                assert_eq!(waiting.join().unwrap(), 995);
            });
        }
    });
}

#[test]
fn a_shared_end_that_does_not_wait_says_so() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let other = further(&client);
        client.set_wait_mode(WaitMode::NoWait).unwrap();
        // The mode is the end's, whoever holds it.
        assert_eq!(other.wait_mode(), WaitMode::NoWait);
        let mut buf = [0; 200];
        for holder in [&client, &other] {
            assert_eq!(code(holder.read_message(&mut buf)), 232);
            assert_eq!(holder.write_message(&[1; 101]).unwrap(), 0);
        }
        assert_eq!(client.write_message(&[1; 60]).unwrap(), 60);
        assert_eq!(other.write_message(&[2; 60]).unwrap(), 0);
        assert_eq!(other.write_message(&[2; 40]).unwrap(), 40);
        assert_eq!(client.write_message(&[3]).unwrap(), 0);
        assert_eq!(server.read_message(&mut buf).unwrap().len, 60);
        assert_eq!(server.read_message(&mut buf).unwrap().len, 40);
        server.write_message(b"data").unwrap();
        assert_eq!(other.read_message(&mut buf).unwrap().len, 4);
        assert_eq!(code(client.read_message(&mut buf)), 232);
        // What the others have chosen stays when they are gone.
        drop(client);
        assert_eq!(code(other.read_message(&mut buf)), 232);
    });
}

#[test]
fn an_end_with_data_under_way_goes_on_waiting() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let other = further(&client);
        let no_wait = || code(client.set_wait_mode(WaitMode::NoWait));
        other.write_message(b"unread").unwrap();
        assert_eq!(no_wait(), 231);
        assert_eq!(server.read_message(&mut [0; 9]).unwrap().len, 6);
        let mut buf = [0; 9];
        let read = asleep(
            || other.read_message(&mut buf),
            || {
                // What the read asks for takes of the quota (reference 2.5).
                until(|| server.local_info().unwrap().write_quota_available == QUOTA - 9);
                assert_eq!(no_wait(), 231);
                server.write_message(b"late").unwrap();
            },
        );
        assert_eq!(read.unwrap().len, 4);
        client.set_wait_mode(WaitMode::NoWait).unwrap();
    });
}

#[test]
fn the_queues_are_those_of_all_holders() {
    Scenario::alone(this_test!(), || {
        let (server, client) = pair();
        let other = further(&client);
        other.write_message(&[0; 30]).unwrap();
        server.write_message(&[0; 20]).unwrap();
        let info = client.local_info().unwrap();
        assert_eq!(info.state, EndState::Connected);
        assert_eq!(
            (info.write_quota_available, info.read_data_available),
            (70, 20)
        );
    });
}

#[test]
fn an_anonymous_pipe_takes_one_descriptor_for_each_end() {
    Scenario::alone(this_test!(), || {
        let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = count();
        let (reader, writer) = pipe(QUOTA).unwrap();
        assert_eq!(count(), before + 2);
        drop((reader, writer));
        assert_eq!(count(), before);
    });
}

// The other end of this process would read for them into its own state.
#[test]
fn an_end_of_this_process_does_not_serve_reads_of_a_shared_one() {
    Scenario::alone(this_test!(), || {
        let (reader, writer) = pipe(QUOTA).unwrap();
        let mut buf = [0; 4];
        let read = asleep(
            || reader.read_message(&mut buf),
            || {
                let other = PipeReader::from_parts(reader.share().unwrap()).unwrap();
                writer.write_message(b"onetwo").unwrap();
                until(|| other.peek(&mut []).unwrap().available == 2);
                assert_eq!(other.read_message(&mut [0; 2]).unwrap().len, 2);
            },
        );
        assert_eq!(read.unwrap().len, 4);
        assert_eq!(&buf, b"onet");
    });
}

#[test]
fn a_shared_pipe_does_not_turn_into_the_kernels() {
    Scenario::alone(this_test!(), || {
        let (reader, writer) = pipe(QUOTA).unwrap();
        let other = PipeReader::from_parts(reader.share().unwrap()).unwrap();
        assert_eq!(code(writer.try_clone().unwrap().into_fd()), 50);
        assert_eq!(code(reader.try_clone().unwrap().into_fd()), 50);
        assert_eq!(code(other.try_clone().unwrap().into_fd()), 50);
        writer.write_message(b"data").unwrap();
        assert_eq!(other.read_message(&mut [0; 9]).unwrap().len, 4);
        // Nor with its other end elsewhere.
        let (reader, writer) = pipe(QUOTA).unwrap();
        let moved = PipeWriter::from_parts(writer.into_parts().unwrap()).unwrap();
        assert_eq!(code(reader.into_fd()), 50);
        assert_eq!(code(moved.into_fd()), 50);
    });
}

#[test]
fn a_pipe_of_the_kernels_is_not_shared() {
    Scenario::alone(this_test!(), || {
        let (reader, writer) = pipe(QUOTA).unwrap();
        let fd: OwnedFd = reader.try_clone().unwrap().into_fd().unwrap();
        assert_eq!(code(reader.share()), 50);
        assert_eq!(code(writer.share()), 50);
        assert_eq!(code(PipeReader::from_fd(fd).unwrap().share()), 50);
    });
}
