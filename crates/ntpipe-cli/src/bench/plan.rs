//! What is measured: transports, workloads, and where the two processes run.

use std::fmt;

use clap::ValueEnum;
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Transport {
    /// A named pipe of byte type.
    Ntpipe,
    /// A named pipe of message type.
    NtpipeMessage,
    /// Two of the kernel's pipes, with the usual buffer of 64 KiB.
    Pipe,
    /// Two of the kernel's pipes with buffers of 1 MiB.
    #[value(name = "pipe-1m")]
    #[serde(rename = "pipe-1m")]
    Pipe1m,
    /// A Unix stream socket.
    Unix,
    /// A Unix socket that keeps messages apart.
    Seqpacket,
}

/// What the two processes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum Workload {
    /// A message there, the same back.
    RoundTrip { size: usize },
    /// The same by `transact`, where the transport has it.
    Transact { size: usize },
    /// Messages one way, as fast as they go.
    Stream { size: usize },
    /// A round trip after both sides have had nothing to do for a while.
    Paused { size: usize },
    /// Connect, one round trip of 64 bytes, close.
    Connect,
    /// The same by a process that has never met the other one.
    First,
    /// Many connections at rest and one that is used: round trips of 64 bytes.
    Idle { connections: usize },
    /// Messages of 4 KiB one way over many connections at once, or in turn.
    Active { connections: usize },
}

/// Where the two processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Placement {
    /// Each on a CPU of its own.
    Two,
    /// Both on the same CPU.
    One,
    /// Where the kernel puts them.
    Free,
    /// Where the kernel puts them, beside four processes that only compute.
    Loaded,
    /// Each on a CPU of its own; ntpipe sleeps at once instead of looking for a moment.
    Nospin,
}

/// One row of the report.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Item {
    pub(super) workload: Workload,
    pub(super) placement: Placement,
}

impl Transport {
    /// Whether it is what is measured, not beside what.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::Ntpipe | Self::NtpipeMessage)
    }

    pub(super) const ALL: [Self; 6] = [
        Self::Ntpipe,
        Self::NtpipeMessage,
        Self::Pipe,
        Self::Pipe1m,
        Self::Unix,
        Self::Seqpacket,
    ];

    /// Whether the transport can do this.
    pub(super) fn can(self, workload: Workload) -> bool {
        match workload {
            Workload::RoundTrip { .. } | Workload::Paused { .. } => self != Self::Pipe1m,
            Workload::Transact { .. } => {
                matches!(self, Self::NtpipeMessage | Self::Seqpacket)
            }
            // A datagram of 1 MiB needs a buffer that only root may set.
            Workload::Stream { size } => self != Self::Seqpacket || size <= 64 << 10,
            Workload::Connect
            | Workload::First
            | Workload::Idle { .. }
            | Workload::Active { .. } => {
                matches!(self, Self::Ntpipe | Self::Unix)
            }
        }
    }
}

impl Workload {
    /// Whether a figure is better when it is larger.
    pub(super) fn is_rate(self) -> bool {
        match self {
            Self::Stream { .. } | Self::Connect | Self::First | Self::Active { .. } => true,
            Self::RoundTrip { .. }
            | Self::Transact { .. }
            | Self::Paused { .. }
            | Self::Idle { .. } => false,
        }
    }

    /// The name of its kind, as in JSON.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::RoundTrip { .. } => "round-trip",
            Self::Transact { .. } => "transact",
            Self::Stream { .. } => "stream",
            Self::Paused { .. } => "paused",
            Self::Connect => "connect",
            Self::First => "first",
            Self::Idle { .. } => "idle",
            Self::Active { .. } => "active",
        }
    }

    /// The unit of its figure.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::RoundTrip { .. }
            | Self::Transact { .. }
            | Self::Paused { .. }
            | Self::Idle { .. } => "us",
            Self::Stream { .. } | Self::Active { .. } => "MB/s",
            Self::Connect | Self::First => "/s",
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundTrip { size } => write!(f, "round trip {}", Size(*size)),
            Self::Transact { size } => write!(f, "transact {}", Size(*size)),
            Self::Stream { size } => write!(f, "stream {}", Size(*size)),
            Self::Paused { size } => write!(f, "round trip {} after a pause", Size(*size)),
            Self::Connect => f.write_str("connect, call, close"),
            Self::First => f.write_str("connect, call, close in a new process"),
            Self::Idle { connections } => write!(f, "1 active, {connections} idle"),
            Self::Active { connections } => write!(f, "{connections} active"),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Two => "two CPUs",
            Self::One => "one CPU",
            Self::Free => "unpinned",
            Self::Loaded => "4 busy others",
            Self::Nospin => "no spinning",
        })
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ntpipe => "ntpipe",
            Self::NtpipeMessage => "ntpipe-message",
            Self::Pipe => "pipe",
            Self::Pipe1m => "pipe-1m",
            Self::Unix => "unix",
            Self::Seqpacket => "seqpacket",
        })
    }
}

/// A length as people write it.
struct Size(usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            size if size >= 1 << 20 && size.is_multiple_of(1 << 20) => {
                write!(f, "{} MiB", size >> 20)
            }
            size if size >= 1 << 10 && size.is_multiple_of(1 << 10) => {
                write!(f, "{} KiB", size >> 10)
            }
            size => write!(f, "{size} B"),
        }
    }
}

/// Everything that is measured, or the few rows that tell the most.
pub(super) fn plan(quick: bool) -> Vec<Item> {
    let item = |workload, placement| Item {
        workload,
        placement,
    };
    let trip = |size| Workload::RoundTrip { size };
    let stream = |size| Workload::Stream { size };
    let mut items = vec![item(trip(64), Placement::Two)];
    if !quick {
        items.extend([1, 1 << 10].map(|size| item(trip(size), Placement::Two)));
    }
    items.extend([4 << 10, 64 << 10].map(|size| item(trip(size), Placement::Two)));
    let others = [
        Placement::One,
        Placement::Nospin,
        Placement::Free,
        Placement::Loaded,
    ];
    items.extend(others.map(|placement| item(trip(64), placement)));
    items.push(item(Workload::Transact { size: 64 }, Placement::Two));
    let sizes: &[usize] = match quick {
        true => &[64, 4 << 10, 64 << 10],
        false => &[64, 1 << 10, 4 << 10, 64 << 10, 1 << 20],
    };
    items.extend(sizes.iter().map(|&size| item(stream(size), Placement::Two)));
    items.push(item(stream(64), Placement::One));
    items.push(item(stream(4 << 10), Placement::Nospin));
    items.push(item(Workload::Paused { size: 64 }, Placement::Two));
    items.push(item(Workload::Connect, Placement::Two));
    items.push(item(Workload::First, Placement::Two));
    let idle = |connections| item(Workload::Idle { connections }, Placement::Two);
    items.push(idle(1_000));
    if !quick {
        items.push(idle(most_connections().clamp(2_000, 10_000)));
    }
    let active = Workload::Active { connections: 1_000 };
    items.push(item(active, Placement::Two));
    items
}

/// How many connections a process can have at once, in thousands, by the descriptors that the system
/// lets it have: three each.
fn most_connections() -> usize {
    let most = getrlimit(Resource::Nofile).maximum;
    let most = most.map_or(usize::MAX, |most| {
        usize::try_from(most).unwrap_or(usize::MAX)
    });
    most / 3 / 1_000 * 1_000
}
