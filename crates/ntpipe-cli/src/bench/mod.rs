//! `ntpipe bench`: pipes beside what else the machine has, in one run.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

mod ends;
mod limits;
pub(crate) mod peer;
mod plan;
mod plot;
mod report;
mod usage;
mod work;

use crate::failure::Failure;
use limits::Limits;
use peer::BenchPeer;
use plan::{Item, Placement, Transport, Workload};
use report::{Cell, Machine, Report, Row};
use work::Sample;

/// Measure pipes beside the kernel's, in one run on this machine.
///
/// Two processes work against each other: round trips, streams, connecting, many idle connections;
/// on two CPUs, on one, beside busy processes. The transports take turns and each figure is the
/// median of several runs, with the smallest and the largest behind it, the CPU time of both
/// processes for one message, and how far ntpipe is ahead (below 1.00x it is behind). Content is
/// checked in every run.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Bench {
    /// Only the rows that tell the most, with short runs: about half a minute.
    #[arg(long)]
    quick: bool,
    /// Beside which transports.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES")]
    peers: Vec<Transport>,
    /// Only workloads whose title has this in it, such as `round trip` or `two CPUs`.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// How often each is measured.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Write all figures to FILE as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw latency and throughput to FILE as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

const EXAMPLES: &str = r"Examples:
  ntpipe bench --quick
  ntpipe bench --only 'round trip' --peers pipe,unix
  ntpipe bench --json figures.json --plot figures.svg";

/// How long the processes wait for each other at the beginning.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Processes that only compute, where the workload wants them.
const BUSY: usize = 4;

impl Bench {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let items: Vec<Item> = (plan::plan(self.quick).into_iter())
            .filter(|item| self.wants(item))
            .collect();
        if items.is_empty() {
            return Err(Failure::other("no workload has that in its title"));
        }
        let machine = Machine::here();
        let limits = Limits::measure();
        let mut out = io::stdout().lock();
        writeln!(out, "{machine}\n{limits}\n").map_err(|error| Failure::output(&error))?;
        let bar = progress_bar(items.len() * usize::from(self.runs));
        let mut rows = Vec::new();
        for item in items {
            let row = self.measure(item, &bar)?;
            bar.suspend(|| writeln!(out, "{row}"))
                .map_err(|error| Failure::output(&error))?;
            rows.push(row);
        }
        bar.finish_and_clear();
        let report = Report {
            machine,
            limits,
            rows,
        };
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&report)
                .map_err(|error| Failure::other(format!("cannot write JSON: {error}")))?;
            let action = format!("write {}", path.display());
            fs::write(path, text + "\n").map_err(|error| Failure::io(&action, &error))?;
        }
        match &self.plot {
            Some(path) => plot::draw(&report, path),
            None => Ok(()),
        }
    }

    fn wants(&self, item: &Item) -> bool {
        let title = format!("{}, {}", item.workload, item.placement);
        self.only.as_ref().is_none_or(|only| title.contains(only))
    }

    fn transports(&self, workload: Workload) -> impl Iterator<Item = Transport> + '_ {
        let wanted = move |transport: &Transport| {
            transport.can(workload)
                && (self.peers.is_empty() || transport.is_ours() || self.peers.contains(transport))
        };
        Transport::ALL.into_iter().filter(wanted)
    }

    fn measure(&self, item: Item, bar: &ProgressBar) -> Result<Row, Failure> {
        bar.set_message(format!("{}, {}", item.workload, item.placement));
        let transports: Vec<_> = self.transports(item.workload).collect();
        let mut samples = vec![Vec::new(); transports.len()];
        for run in 0..self.runs {
            let _busy = Busy::start(item)?;
            for (transport, samples) in transports.iter().zip(&mut samples) {
                samples.push(self.sample(item, *transport, run)?);
            }
            bar.inc(1);
        }
        let cells = (transports.iter().zip(&samples))
            .filter_map(|(transport, samples)| Cell::new(*transport, samples));
        Ok(Row {
            item,
            unit: item.workload.unit(),
            cells: cells.collect(),
        })
    }

    /// One run by a process of its own.
    fn sample(&self, item: Item, transport: Transport, run: u16) -> Result<Sample, Failure> {
        let what = format!(
            "measure {transport} ({}, {})",
            item.workload, item.placement
        );
        let name = format!("ntpipe-bench-{}-{run}", process::id());
        let millis = if self.quick { 100 } else { 400 };
        let output = command("drive", item, transport, &name, millis)
            .and_then(|mut command| command.stderr(Stdio::inherit()).output())
            .map_err(|error| Failure::io(&what, &error))?;
        if !output.status.success() {
            return Err(Failure::other(format!(
                "cannot {what}: its process ended with {}",
                output.status
            )));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| Failure::other(format!("cannot {what}: {error}")))
    }
}

fn command(
    role: &str,
    item: Item,
    transport: Transport,
    name: &str,
    millis: u64,
) -> io::Result<Command> {
    let (workload, placement) = (item.workload, item.placement);
    let mut command = BenchPeer::command(role, transport, workload, placement, name, millis)?;
    let (first, second) = limits::two_cpus().unwrap_or_default();
    command.arg("--cpus").arg(format!("{first},{second}"));
    Ok(command)
}

/// Processes that only compute; they end with this.
struct Busy(Vec<Child>);

impl Busy {
    fn start(item: Item) -> Result<Self, Failure> {
        let mut busy = Self(Vec::new());
        if item.placement == Placement::Loaded {
            for _ in 0..BUSY {
                let child = command("burn", item, Transport::Pipe, "", 0)
                    .and_then(|mut command| command.spawn())
                    .map_err(|error| Failure::io("start a busy process", &error))?;
                busy.0.push(child);
            }
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Machine {
    fn here() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = (info.lines())
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown CPU", |(_, model)| model);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: model.trim().to_owned(),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

fn progress_bar(steps: usize) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(steps).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
