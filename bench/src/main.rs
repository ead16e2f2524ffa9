//! Peers of `ntpipe bench` that are too heavy for the command: tokio and iceoryx2.
//!
//! `ntpipe bench --with ntpipe-peers` runs this; `contestant.rs` of the command says how they talk.
//! What is measured, and the loops that measure it, are the command's own files.
//!
//! | transport | what it is |
//! |---|---|
//! | `ntpipe-tokio` | `ntpipe::tokio`, in one thread in each process |
//! | `tokio` | tokio's `UnixStream`, the same way |
//! | `iceoryx2-poll` | iceoryx2, publish and subscribe; who waits looks again and again (feature `iceoryx2`) |
//! | `iceoryx2-event` | the same with an event for each message; who waits sleeps |

use std::io::{self, BufRead};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use clap::{Parser, Subcommand};
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit,
};
use serde::Serialize;

#[cfg(feature = "iceoryx2")]
mod iceoryx;
#[path = "../../crates/ntpipe-cli/src/bench/limits.rs"]
#[allow(dead_code, reason = "only where threads run")]
mod limits;
mod many;
mod net;
#[path = "../../crates/ntpipe-cli/src/bench/plan.rs"]
#[allow(dead_code, reason = "the command's")]
mod plan;
mod tasks;
#[path = "../../crates/ntpipe-cli/src/bench/usage.rs"]
mod usage;
#[path = "../../crates/ntpipe-cli/src/bench/work.rs"]
#[allow(dead_code, reason = "the command has more workloads")]
mod work;

use plan::{Placement, Workload};
use work::{Sample, Timing, Trips};

/// Peers of `ntpipe bench`.
#[derive(Debug, Parser)]
#[command(version)]
enum Peers {
    /// Tells the transports, as JSON.
    List,
    #[command(flatten)]
    Play(Play),
}

#[derive(Debug, Subcommand)]
enum Play {
    /// Measures once and prints what came of it, as JSON.
    Drive(Part),
    /// Plays the other process.
    Serve(Part),
}

/// A process' part in a measurement.
#[derive(Clone, Debug, clap::Args)]
struct Part {
    #[arg(long)]
    transport: String,
    #[arg(long, value_enum)]
    placement: Placement,
    /// As JSON.
    #[arg(long)]
    workload: String,
    #[arg(long)]
    name: String,
    #[arg(long)]
    millis: u64,
    /// The driver's CPU and the other process', separated by a comma.
    #[arg(long)]
    cpus: String,
}

/// A transport, as the command wants to know it.
#[derive(Debug, Serialize)]
struct Transport {
    name: &'static str,
    ours: bool,
    beside: Option<&'static str>,
    can: &'static [&'static str],
}

const TASKS: &[&str] = &[
    "round-trip",
    "paused",
    "stream",
    "connect",
    "idle",
    "active",
];

const TRANSPORTS: &[Transport] = &[
    Transport {
        name: "ntpipe-tokio",
        ours: true,
        beside: None,
        can: TASKS,
    },
    Transport {
        name: "tokio",
        ours: false,
        beside: Some("ntpipe-tokio"),
        can: TASKS,
    },
    #[cfg(feature = "iceoryx2")]
    Transport {
        name: "iceoryx2-poll",
        ours: false,
        beside: None,
        can: iceoryx::CAN,
    },
    #[cfg(feature = "iceoryx2")]
    Transport {
        name: "iceoryx2-event",
        ours: false,
        beside: None,
        can: iceoryx::CAN,
    },
];

fn main() -> ExitCode {
    // Who is killed leaves nothing behind.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let done = match Peers::parse() {
        Peers::List => list(),
        Peers::Play(Play::Drive(part)) => part.drive(),
        Peers::Play(Play::Serve(part)) => part.serve(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ntpipe-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> io::Result<()> {
    println!("{}", serde_json::to_string(TRANSPORTS)?);
    Ok(())
}

impl Part {
    fn drive(&self) -> io::Result<()> {
        self.pin(0);
        raise_descriptors();
        let workload = self.workload()?;
        let sample: Sample = match self.transport.as_str() {
            "ntpipe-tokio" => tasks::drive::<net::Pipes>(self, workload),
            "tokio" => tasks::drive::<net::Sockets>(self, workload),
            #[cfg(feature = "iceoryx2")]
            "iceoryx2-poll" | "iceoryx2-event" => iceoryx::drive(self, workload),
            _ => Err(self.unknown()),
        }?;
        println!("{}", serde_json::to_string(&sample)?);
        Ok(())
    }

    fn serve(&self) -> io::Result<()> {
        self.pin(1);
        raise_descriptors();
        let workload = self.workload()?;
        match self.transport.as_str() {
            "ntpipe-tokio" => tasks::serve::<net::Pipes>(&self.name, workload),
            "tokio" => tasks::serve::<net::Sockets>(&self.name, workload),
            #[cfg(feature = "iceoryx2")]
            "iceoryx2-poll" | "iceoryx2-event" => iceoryx::serve(self, workload),
            _ => Err(self.unknown()),
        }
    }

    fn unknown(&self) -> io::Error {
        io::Error::other(format!("no transport is called {}", self.transport))
    }

    fn workload(&self) -> io::Result<Workload> {
        Ok(serde_json::from_str(&self.workload)?)
    }

    fn budget(&self) -> Duration {
        Duration::from_millis(self.millis)
    }

    fn trips(&self, workload: Workload, size: usize) -> Trips {
        let timing = match (workload, self.placement) {
            (Workload::Paused { .. }, _) => Timing::Paused,
            (_, Placement::Loaded) => Timing::Singly,
            _ => Timing::Together,
        };
        Trips {
            size,
            budget: self.budget(),
            timing,
            transact: false,
        }
    }

    /// Puts this process on its CPU, if it has one.
    fn pin(&self, side: usize) {
        let at = match self.placement {
            Placement::Two | Placement::Nospin => side,
            Placement::One => 0,
            Placement::Free | Placement::Loaded => return,
        };
        let cpu = self.cpus.split(',').nth(at);
        if let Some(cpu) = cpu.and_then(|cpu| cpu.parse().ok()) {
            limits::pin(cpu);
        }
    }

    /// The other process, once it is ready.
    fn other(&self) -> io::Result<Other> {
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--transport", &self.transport])
            .args(["--placement", placement(self.placement)])
            .args(["--workload", &self.workload, "--name", &self.name])
            .args(["--millis", &self.millis.to_string(), "--cpus", &self.cpus])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut other = Other(child);
        let mut line = String::new();
        if let Some(output) = &mut other.0.stdout {
            io::BufReader::new(output).read_line(&mut line)?;
        }
        match line.trim_end() == READY {
            true => Ok(other),
            false => Err(io::Error::other("the other process ended before it began")),
        }
    }
}

fn placement(placement: Placement) -> &'static str {
    match placement {
        Placement::Two => "two",
        Placement::One => "one",
        Placement::Free => "free",
        Placement::Loaded => "loaded",
        Placement::Nospin => "nospin",
    }
}

/// What a process says when others can come in.
const READY: &str = "ready";

/// The other process; it does not outlive this.
struct Other(Child);

impl Other {
    fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it has done its part.
    fn finish(mut self) -> io::Result<()> {
        match self.0.wait()?.success() {
            true => Ok(()),
            false => Err(io::Error::other("the other process failed")),
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It has ended already if all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn raise_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    let _ = setrlimit(Resource::Nofile, limit);
}
