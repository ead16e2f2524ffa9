//! Makes up sequences of steps that could happen, and some that make no sense.
//!
//! The world is small, so that steps meet: two names, three server ends, four client ends, an
//! anonymous pipe, two callers. What is left out, and why:
//!
//! - Connecting or disconnecting any end but a server end: the blocking interface has no word for it.
//! - Closing an end that has an operation under way: in Rust that operation has a share in the end,
//!   which stays open. What an anonymous pipe says of instances and processes.
//! - What lies in the queues, said by a client that may not read or not write: it knows its own alone.
//! - The mode of a client that reads alone: in Rust it asks for the right to set it as well, so that
//!   it can, as clients of .NET do.
//! - A transaction whose request does not fit into the ring: a real one looks for the reply only when
//!   the request is in there, so that a reply must not come before it was read.
//! - A write that has a time while others wait: a waiting read takes its part as soon as it runs,
//!   which on a busy machine may be when the time is up.
//! - Taking a write back, be it that its time is up or that it is cancelled, by an end that writes
//!   more than is sure to fit into the ring, before or after: the first peek makes room there, and
//!   what a real process has waiting behind it comes only then.
//! - A peek that shows much of what does not fit into the ring: how much of it is in there is open.
//! - A write that does not fit into the ring by an end that must not wait: Windows would hand it to
//!   reads.
//! - Two calls under way for one name: both wake when an instance comes, and it is open which of them
//!   gets it.
//! - An operation under way that has a time: whether it or a later step comes first would be a
//!   matter of the clock. With a time, an operation is waited for; without, it can pend.

use core::time::Duration;

use ntpipe_proto::{DefaultTimeout, Direction, PipeType, ReadMode, WaitMode, WaitTimeout};

use super::account::Account;
use super::numbers::Numbers;
use super::script::Script;
use crate::{
    Action, Create, Label, MaxCount, Open, Operation, Rights, Role, SetMode, Tag, Where, pattern,
};

/// What the drivers that are compared are able to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Able {
    /// Their actors can die, and then have no ends in common with others.
    pub(super) kill: bool,
}

/// Makes up one sequence of about `steps` steps.
pub(super) fn sequence(seed: u64, steps: usize, able: Able) -> Script {
    let mut generator = Generator::new(seed, able);
    let steps = steps / 2 + generator.numbers.below(steps) + 1;
    // Steps that make no sense are tried too, and left out.
    for _ in 0..4 * steps {
        if generator.script.actions().len() >= steps {
            break;
        }
        if let Some(action) = generator.propose() {
            generator.take(&action);
        }
    }
    generator.look_around();
    generator.script
}

struct Generator {
    numbers: Numbers,
    able: Able,
    script: Script,
    account: Account,
    tags: usize,
    /// What the pipes of this sequence have as their default time: none would be a race.
    timeout: DefaultTimeout,
    kind: PipeType,
    quotas: [u32; 2],
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Create,
    CreatePipe,
    Open,
    Clone,
    Connect,
    Disconnect,
    Close,
    Write,
    Read,
    Peek,
    Flush,
    Transact,
    Call,
    Wait,
    SetMode,
    Info,
    LocalInfo,
    Process,
    Kill,
    Cancel,
    CancelIo,
}

impl Generator {
    fn new(seed: u64, able: Able) -> Self {
        let mut numbers = Numbers::new(seed);
        let timeout = match numbers.percent(50) {
            true => DefaultTimeout::Forever,
            false => DefaultTimeout::After(SHORT),
        };
        let kind = match numbers.percent(50) {
            true => PipeType::Byte,
            false => PipeType::Message,
        };
        let quotas = [numbers.weighted(&QUOTAS), numbers.weighted(&QUOTAS)];
        Self {
            numbers,
            able,
            script: Script::default(),
            account: Account::default(),
            tags: 0,
            timeout,
            kind,
            quotas: quotas.map(Option::unwrap_or_default),
        }
    }

    /// Does a step, if it makes sense, and keeps account of who is there.
    fn take(&mut self, action: &Action) {
        let before = self.script.pending().to_vec();
        let Some(outcome) = self.script.add(action) else {
            return;
        };
        self.account.note(action, &outcome, &before);
    }

    /// A last look at what lies in all pipes.
    fn look_around(&mut self) {
        for actor in self.account.handles() {
            self.take(&Action::Begin {
                tag: None,
                actor,
                operation: Operation::Peek {
                    size: self.sight(300_000),
                },
            });
        }
    }

    fn propose(&mut self) -> Option<Action> {
        let servers = self.account.handles_of(Role::Server).len();
        let clients = self.account.handles_of(Role::Client).len();
        let (create, open) = match (servers, clients) {
            (0, _) => (200, 3),
            (_, 0) => (6, 60),
            (_, _) => (4, 6),
        };
        let kind = self.numbers.weighted(&[
            (create, Kind::Create),
            (2, Kind::CreatePipe),
            (open, Kind::Open),
            (2, Kind::Clone),
            (6, Kind::Connect),
            (4, Kind::Disconnect),
            (5, Kind::Close),
            (32, Kind::Write),
            (30, Kind::Read),
            (10, Kind::Peek),
            (6, Kind::Flush),
            (6, Kind::Transact),
            (3, Kind::Call),
            (3, Kind::Wait),
            (6, Kind::SetMode),
            (3, Kind::Info),
            (4, Kind::LocalInfo),
            (2, Kind::Process),
            (usize::from(self.able.kill), Kind::Kill),
            (8, Kind::Cancel),
            (2, Kind::CancelIo),
        ])?;
        if let Kind::Cancel = kind {
            let pending: Vec<Tag> = self
                .script
                .pending()
                .iter()
                .filter(|(tag, end)| !self.account.writes(tag) || self.is_modest(end, 0))
                .map(|(tag, _)| tag.clone())
                .collect();
            return self.numbers.pick(&pending).map(Action::Cancel);
        }
        let actor = self.actor(kind)?;
        let busy = self
            .script
            .pending()
            .iter()
            .filter(|(_, busy)| *busy == actor);
        let most = if actor.role() == Role::Caller { 1 } else { 4 };
        if busy.count() >= most {
            return None;
        }
        let operation = self.operation(kind, &actor)?;
        self.tags += 1;
        Some(Action::Begin {
            tag: Some(Tag(format!("t{}", self.tags))),
            actor,
            operation,
        })
    }

    fn someone_calls(&self, place: &Where) -> bool {
        let mut pending = self.script.pending().iter();
        pending.any(|(tag, _)| self.account.calls(tag, place))
    }

    /// Whether all that an end has written, and so many bytes more, is sure to fit into the ring.
    fn is_modest(&self, end: &Label, more: usize) -> bool {
        self.account.end(end).written + more <= RING / 2
    }

    /// How much a peek asks for: of more than the ring holds, what is in there follows from how a
    /// reader and a writer that ran at once took turns, but for the first of it.
    fn sight(&self, size: usize) -> usize {
        match self.account.most_written() <= RING / 2 {
            true => size,
            false => size.min(RING / 8),
        }
    }

    fn is_writing(&self, end: &Label) -> bool {
        let mut pending = self.script.pending().iter();
        pending.any(|(tag, busy)| self.account.share(busy, end) && self.account.writes(tag))
    }

    /// Someone who could do this.
    fn actor(&mut self, kind: Kind) -> Option<Label> {
        match kind {
            Kind::Create => self.someone(&SERVERS),
            Kind::Open => self.someone(&CLIENTS),
            Kind::Clone => {
                let names = [&SERVERS[..], &CLIENTS[..]].concat();
                self.someone(&names)
            }
            Kind::CreatePipe => {
                let pipe = Label::new("pipe")?;
                let (reader, writer) = pipe.ends();
                let free = !self.account.has(&reader) && !self.account.has(&writer);
                free.then_some(pipe)
            }
            Kind::Call | Kind::Wait => self.someone(&["caller", "caller2"]),
            Kind::Connect | Kind::Disconnect => {
                let servers = self.account.handles_of(Role::Server);
                self.numbers.pick(&servers)
            }
            // Who reads shares the end with who closes it, and keeps it open.
            Kind::Close => {
                let mut idle = self.account.handles();
                for (_, busy) in self.script.pending() {
                    idle.retain(|handle| handle != busy);
                }
                self.numbers.pick(&idle)
            }
            Kind::Write
            | Kind::Read
            | Kind::Peek
            | Kind::Flush
            | Kind::Transact
            | Kind::SetMode
            | Kind::Info
            | Kind::LocalInfo
            | Kind::Process
            | Kind::Kill
            | Kind::Cancel
            | Kind::CancelIo => self.numbers.pick(&self.account.handles()),
        }
    }

    fn someone(&mut self, names: &[&str]) -> Option<Label> {
        let free: Vec<Label> = (names.iter().filter_map(|name| Label::new(name)))
            .filter(|label| !self.account.has(label))
            .collect();
        self.numbers.pick(&free)
    }

    fn operation(&mut self, kind: Kind, actor: &Label) -> Option<Operation> {
        let anonymous = matches!(actor.role(), Role::Reader | Role::Writer);
        let access = self.account.end(actor).access;
        Some(match kind {
            Kind::Create => Operation::Create(self.create()?),
            Kind::CreatePipe => Operation::CreatePipe {
                size: self.numbers.weighted(&QUOTAS)?,
            },
            Kind::Open => Operation::Open(Open {
                place: self.place()?,
                access: self.numbers.weighted(&RIGHTS)?,
            }),
            Kind::Clone => {
                let mut others = self.account.handles_of(actor.role());
                others.retain(|of| !self.able.kill || of.process() == actor.process());
                Operation::Clone {
                    of: self.numbers.pick(&others)?,
                }
            }
            Kind::Connect => Operation::Connect {
                within: self.limit(),
            },
            Kind::Disconnect => Operation::Disconnect,
            Kind::Close => Operation::Close,
            Kind::Write => {
                let data = self.data(actor)?;
                if data.len() >= RING / 2 && self.account.end(actor).is_hasty {
                    return None;
                }
                let is_modest = self.is_modest(actor, data.len());
                if !is_modest && self.account.end(actor).is_regretful {
                    return None;
                }
                let brief = is_modest && self.alone(actor);
                Operation::Write {
                    data,
                    within: brief.then(|| self.limit()).flatten(),
                }
            }
            Kind::Read => Operation::Read {
                size: self.numbers.weighted(&SIZES)?,
                within: self.limit(),
            },
            Kind::Peek => {
                let size = self.numbers.weighted(&SIZES)?;
                Operation::Peek {
                    size: self.sight(size),
                }
            }
            Kind::Flush => Operation::Flush {
                within: self.limit(),
            },
            Kind::Transact => Operation::Transact {
                data: self.request(actor)?,
                size: self.numbers.weighted(&SIZES)?,
                within: self.alone(actor).then(|| self.limit()).flatten(),
            },
            Kind::Call => {
                let place = self.place()?;
                if self.someone_calls(&place) {
                    return None;
                }
                Operation::Call {
                    place,
                    data: self.request(actor)?,
                    size: self.numbers.weighted(&SIZES)?,
                    timeout: self.wait_timeout()?,
                }
            }
            Kind::Wait => Operation::Wait {
                place: self.place()?,
                timeout: self.wait_timeout()?,
            },
            Kind::SetMode if access == Some(Rights::Read) => return None,
            Kind::SetMode => Operation::SetMode(SetMode {
                read_mode: self.numbers.pick(&[ReadMode::Byte, ReadMode::Message])?,
                wait_mode: self.wait_mode()?,
            }),
            Kind::Info | Kind::LocalInfo | Kind::Process if anonymous => return None,
            Kind::Info => Operation::Info,
            Kind::LocalInfo if access.is_some_and(|access| access != Rights::Both) => return None,
            Kind::LocalInfo => Operation::LocalInfo,
            Kind::Process => {
                (self.numbers).pick(&[Operation::ClientProcess, Operation::ServerProcess])?
            }
            Kind::Kill => Operation::Kill,
            Kind::Cancel => return None,
            Kind::CancelIo if self.is_writing(actor) && !self.is_modest(actor, 0) => return None,
            Kind::CancelIo => Operation::CancelIo,
        })
    }

    fn create(&mut self) -> Option<Create> {
        let message = match self.kind {
            PipeType::Byte => 5,
            PipeType::Message => 95,
        };
        let pipe_type = match self.numbers.percent(message) {
            true => PipeType::Message,
            false => PipeType::Byte,
        };
        // Message mode on a byte pipe is an error, and then there is no pipe to play with.
        let chance = if pipe_type == PipeType::Message {
            60
        } else {
            2
        };
        let read_mode = match self.numbers.percent(chance) {
            true => ReadMode::Message,
            false => ReadMode::Byte,
        };
        let mut quotas = self.quotas;
        if self.numbers.percent(20) {
            quotas = [
                self.numbers.weighted(&QUOTAS)?,
                self.numbers.weighted(&QUOTAS)?,
            ];
        }
        let [in_quota, out_quota] = quotas;
        Some(Create {
            place: self.place()?,
            direction: self.numbers.weighted(&[
                (14, Direction::Duplex),
                (1, Direction::Inbound),
                (1, Direction::Outbound),
            ])?,
            pipe_type,
            read_mode,
            wait_mode: self.wait_mode()?,
            max: MaxCount(self.numbers.weighted(&[
                (20, 255),
                (4, 1),
                (4, 2),
                (2, 3),
                (1, 0),
                (1, 256),
            ])?),
            in_quota,
            out_quota,
            timeout: self.timeout,
            first: self.numbers.percent(6),
        })
    }

    fn place(&mut self) -> Option<Where> {
        let name = self.numbers.weighted(&[(10, "pipe"), (1, "other")])?;
        Some(Where::Name(name.to_owned()))
    }

    /// What an end writes goes on where it stopped, so that bytes that are lost or come twice show.
    fn data(&mut self, actor: &Label) -> Option<Vec<u8>> {
        let len = self.numbers.weighted(&SIZES)?;
        let from = self.account.end(actor).written % FAR;
        let own = if actor.role() == Role::Server { FAR } else { 0 };
        Some(pattern(own + from, len))
    }

    /// The request of a transaction: one that fits into the ring with all that came before it.
    fn request(&mut self, actor: &Label) -> Option<Vec<u8>> {
        let data = self.data(actor)?;
        self.is_modest(actor, data.len()).then_some(data)
    }

    /// Whether nobody else has an operation under way.
    fn alone(&self, actor: &Label) -> bool {
        let mut pending = self.script.pending().iter();
        pending.all(|(_, busy)| self.account.share(busy, actor))
    }

    fn wait_mode(&mut self) -> Option<WaitMode> {
        self.numbers
            .weighted(&[(6, WaitMode::Wait), (1, WaitMode::NoWait)])
    }

    fn limit(&mut self) -> Option<Duration> {
        self.numbers.percent(2).then_some(SHORT)
    }

    fn wait_timeout(&mut self) -> Option<WaitTimeout> {
        self.numbers.weighted(&[
            (2, WaitTimeout::After(SHORT)),
            (2, WaitTimeout::Default),
            (4, WaitTimeout::Forever),
        ])
    }
}

const SERVERS: [&str; 3] = ["server", "server2", "server3"];
const CLIENTS: [&str; 4] = ["client", "client2", "client3", "client4"];

/// A time that nobody waits for long.
const SHORT: Duration = Duration::from_millis(2);
/// Where in the pattern the bytes of server ends begin, so that they are told from clients'.
const FAR: usize = 100_000;

/// What the smallest ring holds.
const RING: usize = 65_536;

/// What is read and written: much that is around the small quotas, and now and then more than a
/// ring holds.
const SIZES: [(usize, usize); 17] = [
    (6, 0),
    (10, 1),
    (6, 2),
    (6, 3),
    (6, 5),
    (8, 7),
    (8, 10),
    (8, 11),
    (6, 20),
    (6, 64),
    (6, 100),
    (4, 1000),
    (3, 4096),
    (2, 4097),
    (2, 10_000),
    (1, 70_000),
    (1, 200_000),
];
const QUOTAS: [(usize, u32); 9] = [
    (3, 0),
    (3, 1),
    (2, 2),
    (6, 10),
    (4, 16),
    (3, 100),
    (3, 4096),
    (1, 10_000),
    (1, 70_000),
];
const RIGHTS: [(usize, Rights); 4] = [
    (20, Rights::Both),
    (3, Rights::Read),
    (3, Rights::Write),
    (1, Rights::None),
];
