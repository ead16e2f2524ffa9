//! The two processes of one measurement: the driver starts the other one, works for a while, and
//! prints what it measured.

use std::hint::black_box;
use std::io;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit,
};

use super::ends::{self, Door, Ends};
use super::limits;
use super::plan::{Placement, Transport, Workload};
use super::usage::{Usage, resident};
use super::work::{
    self, CALL, Call, Channel, Measured, Sample, Timing, Trips, answer, check_number, is_last,
    size_f64, to_f64,
};
use crate::failure::Failure;

/// Plays one process of `ntpipe bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchPeer {
    #[arg(value_enum)]
    role: Role,
    #[arg(long, value_enum)]
    transport: Transport,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    Drive,
    Serve,
    /// Connects, calls and closes once, and says how long that took.
    Enter,
    /// Computes until it is killed.
    Burn,
}

/// How long nothing happens while wake-ups are counted.
const REST: Duration = Duration::from_secs(1);
/// How long after the last message everybody sleeps.
const SETTLING: Duration = Duration::from_millis(50);

impl BenchPeer {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        // Who is killed leaves nothing behind.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        let done = match self.role {
            Role::Drive => self.drive(),
            Role::Serve => self.serve(),
            Role::Enter => self.enter(),
            Role::Burn => {
                burn();
                Ok(())
            }
        };
        done.map_err(|error| Failure::io(&format!("measure {}", self.transport), &error))
    }

    /// The command for a process of this measurement.
    pub(super) fn command(
        role: &str,
        transport: Transport,
        workload: Workload,
        placement: Placement,
        name: &str,
        millis: u64,
    ) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        let value = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
            value().map_or_else(String::new, |value| value.get_name().to_owned())
        };
        command
            .args(["bench-peer", role, "--name", name])
            .args(["--transport", &value(&|| transport.to_possible_value())])
            .args(["--placement", &value(&|| placement.to_possible_value())])
            .args(["--workload", &serde_json::to_string(&workload)?])
            .args(["--millis", &millis.to_string()]);
        if placement == Placement::Nospin {
            command.env("NTPIPE_SPIN_US", "0");
        }
        Ok(command)
    }

    fn workload(&self) -> io::Result<Workload> {
        Ok(serde_json::from_str(&self.workload)?)
    }

    fn drive(&self) -> io::Result<()> {
        let workload = self.workload()?;
        let mut other = self.another("serve")?;
        self.pin(0);
        let budget = Duration::from_millis(self.millis);
        let timing = match (workload, self.placement) {
            (Workload::Paused { .. }, _) => Timing::Paused,
            (_, Placement::Loaded) => Timing::Singly,
            _ => Timing::Together,
        };
        let sample = match workload {
            Workload::RoundTrip { size }
            | Workload::Transact { size }
            | Workload::Paused { size } => self.against(&mut other, workload, |ends| {
                let transact = matches!(workload, Workload::Transact { .. });
                let trips = Trips {
                    size,
                    budget,
                    timing,
                    transact,
                };
                work::round_trips(ends, trips)
            }),
            Workload::Stream { size } => self.against(&mut other, workload, |ends| {
                work::stream(ends, size, budget)
            }),
            Workload::Connect => at_the_door(&mut other, |_| self.drive_connect(budget)),
            Workload::First => at_the_door(&mut other, |_| self.drive_first(budget)),
            Workload::Idle { connections } => {
                at_the_door(&mut other, |pid| self.drive_idle(connections, pid, budget))
            }
            Workload::Active { connections } => at_the_door(&mut other, |pid| {
                self.drive_active(connections, pid, budget)
            }),
        }?;
        println!("{}", serde_json::to_string(&sample)?);
        Ok(())
    }

    /// The command for another process of this measurement.
    fn another(&self, role: &str) -> io::Result<Command> {
        let mut other = Self::command(
            role,
            self.transport,
            self.workload()?,
            self.placement,
            &self.name,
            self.millis,
        )?;
        other.arg("--cpus").arg(&self.cpus);
        Ok(other)
    }

    /// Puts this process on its CPU, if it has one.
    fn pin(&self, side: usize) {
        let at = match self.placement {
            Placement::Two | Placement::Nospin => side,
            Placement::One => 0,
            Placement::Free | Placement::Loaded => return,
        };
        if let Some(cpu) = self
            .cpus
            .split(',')
            .nth(at)
            .and_then(|cpu| cpu.parse().ok())
        {
            limits::pin(cpu);
        }
    }

    /// Works on one connection with the other process.
    fn against(
        &self,
        other: &mut Command,
        workload: Workload,
        work: impl FnOnce(&mut Ends) -> io::Result<Measured>,
    ) -> io::Result<Sample> {
        let (mut ends, child) = ends::begin(self.transport, &self.name, other)?;
        let mut child = Other(child);
        let (us, they) = (Usage::of(process::id())?, Usage::of(child.0.id())?);
        let measured = work(&mut ends)?;
        let used =
            Usage::of(child.0.id())?.cpu_since(&they) + Usage::of(process::id())?.cpu_since(&us);
        drop(ends);
        child.0.wait()?;
        Ok(measured.sample(workload, used))
    }

    fn drive_connect(&self, budget: Duration) -> io::Result<Sample> {
        let mut call = Call::new();
        let own = Usage::of(process::id())?;
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed() < budget {
            call.run(&mut ends::enter(self.transport, &self.name)?, count)?;
            count += 1;
        }
        let time = start.elapsed();
        let used = Usage::of(process::id())?.cpu_since(&own);
        call.last(&mut ends::enter(self.transport, &self.name)?)?;
        Ok(Sample {
            figure: to_f64(count) / time.as_secs_f64(),
            p99: None,
            cpu: used.as_secs_f64() * 1e6 / to_f64(count.max(1)),
            memory: None,
            wakeups: None,
        })
    }

    /// One process after another comes in once.
    fn drive_first(&self, budget: Duration) -> io::Result<Sample> {
        let mut visitor = self.another("enter")?;
        let (mut time, mut cpu, mut count) = (0.0, 0.0, 0);
        let start = Instant::now();
        while start.elapsed() < budget {
            let output = visitor.stderr(Stdio::inherit()).output()?;
            let (took, used): (f64, f64) = serde_json::from_slice(&output.stdout)?;
            time += took;
            cpu += used;
            count += 1;
        }
        Call::new().last(&mut ends::enter(self.transport, &self.name)?)?;
        Ok(Sample {
            figure: to_f64(count) / time,
            p99: None,
            cpu: cpu * 1e6 / to_f64(count.max(1)),
            memory: None,
            wakeups: None,
        })
    }

    /// What [`drive_first`](Self::drive_first) has a process do: the seconds that it took, and those
    /// that a CPU had to work for it.
    fn enter(&self) -> io::Result<()> {
        self.pin(0);
        let mut call = Call::new();
        let used = Usage::of(process::id())?;
        let start = Instant::now();
        call.run(&mut ends::enter(self.transport, &self.name)?, 0)?;
        let time = start.elapsed().as_secs_f64();
        let used = Usage::of(process::id())?.cpu_since(&used);
        println!("[{time}, {}]", used.as_secs_f64());
        Ok(())
    }

    fn drive_active(&self, connections: usize, other: u32, budget: Duration) -> io::Result<Sample> {
        raise_descriptors();
        let mut all = Vec::new();
        for _ in 0..connections {
            all.push(ends::enter(self.transport, &self.name)?);
        }
        let (us, they) = (Usage::of(process::id())?, Usage::of(other)?);
        let measured = work::in_turn(&mut all, budget)?;
        let used = Usage::of(other)?.cpu_since(&they) + Usage::of(process::id())?.cpu_since(&us);
        Ok(measured.sample(self.workload()?, used))
    }

    fn drive_idle(&self, connections: usize, other: u32, budget: Duration) -> io::Result<Sample> {
        raise_descriptors();
        let mut call = Call::new();
        let mut first = ends::enter(self.transport, &self.name)?;
        call.run(&mut first, 0)?;
        let before = resident(other)?;
        let mut idle = vec![first];
        for _ in 1..connections {
            idle.push(ends::enter(self.transport, &self.name)?);
        }
        let mut active = ends::enter(self.transport, &self.name)?;
        call.run(&mut active, 1)?;
        let memory = to_f64(resident(other)?.saturating_sub(before)) / 1024.0;
        // Until who has just answered sleeps: that is not a wake-up at rest.
        rest(SETTLING);
        let (they, us) = (Usage::of(other)?, Usage::of(process::id())?);
        rest(REST);
        // One of them is this thread's, which slept.
        let wakeups = Usage::of(process::id())?
            .wakeups_since(&us)
            .saturating_sub(1)
            + Usage::of(other)?.wakeups_since(&they);
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed() < budget {
            call.run(&mut active, count)?;
            count += 1;
        }
        let time = start.elapsed();
        let used = Usage::of(other)?.cpu_since(&they) + Usage::of(process::id())?.cpu_since(&us);
        call.last(&mut active)?;
        Ok(Sample {
            figure: time.as_secs_f64() * 1e6 / to_f64(count.max(1)),
            p99: None,
            cpu: used.as_secs_f64() * 1e6 / to_f64(count.max(1)),
            memory: Some(memory / size_f64(connections.max(1))),
            wakeups: Some(to_f64(wakeups) / REST.as_secs_f64()),
        })
    }

    fn serve(&self) -> io::Result<()> {
        self.pin(1);
        match self.workload()? {
            Workload::RoundTrip { size }
            | Workload::Transact { size }
            | Workload::Paused { size } => {
                let mut ends = ends::join(self.transport, &self.name)?;
                let mut message = work::blank(size);
                while ends.receive(&mut message)? {
                    ends.send(&message)?;
                }
                Ok(())
            }
            Workload::Stream { size } => {
                let mut ends = ends::join(self.transport, &self.name)?;
                let mut message = work::blank(size);
                let mut number = 0;
                while ends.receive(&mut message)? && !is_last(&message) {
                    check_number(&message, number)?;
                    number += 1;
                }
                // To a driver that waits for everything to be there.
                ends.send(&message)?;
                while ends.receive(&mut message)? {}
                Ok(())
            }
            Workload::Connect | Workload::First => {
                let door = Door::new(self.transport, &self.name)?;
                while answer(&mut door.accept()?)? {}
                Ok(())
            }
            Workload::Idle { connections } => {
                raise_descriptors();
                let door = Door::new(self.transport, &self.name)?;
                let mut idle = Vec::new();
                for at in 0..connections {
                    let mut ends = door.accept()?;
                    if at == 0 {
                        answer(&mut ends)?;
                    }
                    idle.push(ends);
                }
                let mut active = door.accept()?;
                let mut message = [0; CALL];
                while active.receive(&mut message)? && !is_last(&message) {
                    active.send(&message)?;
                }
                Ok(())
            }
            Workload::Active { connections } => {
                raise_descriptors();
                let door = Door::new(self.transport, &self.name)?;
                let all = (0..connections).map(|_| door.accept());
                work::take_in_turn(&mut all.collect::<io::Result<Vec<_>>>()?)
            }
        }
    }
}

/// The other process; it does not outlive this.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        // It has ended already if all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Works with another process that connections come in at; hands on its number.
fn at_the_door(
    other: &mut Command,
    work: impl FnOnce(u32) -> io::Result<Sample>,
) -> io::Result<Sample> {
    let mut child = Other(other.stdout(Stdio::piped()).spawn()?);
    ends::await_ready(&mut child.0)?;
    let sample = work(child.0.id())?;
    child.0.wait()?;
    Ok(sample)
}

fn burn() {
    let mut n = 0_u64;
    loop {
        n = black_box(n.wrapping_mul(31).wrapping_add(1));
    }
}

fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Lets nothing happen for a while.
#[expect(
    clippy::disallowed_methods,
    reason = "the time itself is what is wanted"
)]
fn rest(time: Duration) {
    thread::sleep(time);
}
