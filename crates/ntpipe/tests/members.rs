//! A process with instances of a name that another one owns, and what it answers to its owner.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use ntpipe::{Direction, ServerOptions};
use ntpipe_proto::control::{Answer, Notice, Reply};
use ntpipe_proto::{Access, DefaultTimeout, MaxInstances, NameInfo, PipeType};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

mod support;
use support::raw::{self, Raw};
use support::{PIPE, Scenario, code, this_test};

/// The owner of a name by hand, with one member that has one instance.
struct Owner {
    member: Raw,
}

impl Owner {
    /// Admits the first that asks for an instance.
    fn admit(listener: &OwnedFd) -> Self {
        let (member, notice) = loop {
            let visitor = Raw::accept(listener);
            // Others only look whether somebody answers.
            if let Some((bytes, _)) = visitor.receive() {
                break (visitor, Notice::decode(&bytes).unwrap());
            }
        };
        let Notice::Create { turn, instance, .. } = notice else {
            panic!("no member: {notice:?}");
        };
        let owner = Self { member };
        let pipe = NameInfo {
            pipe_type: PipeType::Byte,
            direction: Direction::Duplex,
            max_instances: MaxInstances::UNLIMITED,
            instances: 1,
            listening: 1,
            default_timeout: DefaultTimeout::default(),
        };
        owner.say(&Answer::Admitted {
            turn,
            instance,
            pipe,
            spelling: "test".into(),
        });
        owner
    }

    fn hear(&self) -> Option<Notice> {
        Some(Notice::decode(&self.member.receive()?.0).unwrap())
    }

    fn say(&self, answer: &Answer) {
        self.member.send(&answer.encode().unwrap(), &[]).unwrap();
    }

    /// Gives the member a client for its instance as it was at this turn; whether it was let in.
    fn hand_over(&self, turn: u64) -> bool {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (client, ours) = socketpair(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        let answer = Answer::HandOver {
            turn,
            instance: 0,
            access: Access::requested_by_client(Access::GENERIC_READ | Access::GENERIC_WRITE),
            qos: 0,
        };
        let bytes = answer.encode().unwrap();
        self.member.send(&bytes, &[ours.as_fd()]).unwrap();
        drop(ours);
        match Raw(client).receive() {
            None => false,
            Some((bytes, memory)) => {
                assert!(matches!(Reply::decode(&bytes), Ok(Reply::HandedOver(_))));
                memory.is_some()
            }
        }
    }
}

#[test]
fn a_client_for_an_earlier_place_in_line_is_sent_back() {
    Scenario::alone(this_test!(), || {
        let listener = raw::listen_at_name();
        thread::scope(|scope| {
            scope.spawn(|| {
                let owner = Owner::admit(&listener);
                let Some(Notice::Rest { turn: rest, .. }) = owner.hear() else {
                    panic!("it rests");
                };
                // Sent off while the instance was the next one. Now it is out of line.
                assert!(!owner.hand_over(0));
                assert!(!owner.hand_over(rest));
                owner.say(&Answer::Done { turn: rest });
                let Some(Notice::Listen { turn, .. }) = owner.hear() else {
                    panic!("it listens");
                };
                // It listens again, behind others.
                assert!(!owner.hand_over(0));
                assert!(!owner.hand_over(rest));
                assert!(owner.hand_over(turn));
                owner.say(&Answer::Done { turn });
                // It closes.
                while let Some(Notice::Close { turn, .. }) = owner.hear() {
                    owner.say(&Answer::Done { turn });
                }
            });
            let server = ServerOptions::new().create(PIPE).unwrap();
            server.disconnect().unwrap();
            let listened = code(server.connect_timeout(Duration::ZERO));
            // Of the client that was let in, nothing was left at once.
            assert!([0, 121, 232].contains(&listened), "{listened}");
            drop(server);
        });
    });
}
