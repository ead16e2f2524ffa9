//! `ntpipe bench`: pipes beside what else the machine has, in one run.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Child};
use std::thread;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

mod contestant;
mod ends;
mod limits;
mod markdown;
pub(crate) mod peer;
mod plan;
mod plot;
mod report;
mod targets;
mod usage;
mod work;

use crate::failure::Failure;
use contestant::Contestant;
use limits::Limits;
use peer::BenchPeer;
use plan::{Item, Placement, Transport};
use report::{Cell, Machine, Report, Row};

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
    /// Beside which transports: pipe, pipe-1m, unix, seqpacket, or what comes `--with` a program.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    peers: Vec<String>,
    /// Also what this program measures, such as `ntpipe-peers` from the directory `bench`.
    #[arg(long, value_name = "PROGRAM")]
    with: Vec<PathBuf>,
    /// Only workloads whose title has this in it, such as `round trip` or `two CPUs`.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// How often each is measured.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Write all figures to FILE as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write all figures to FILE as tables in Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
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
        let contestants = self.contestants()?;
        let machine = Machine::here();
        let limits = Limits::measure();
        let mut out = io::stdout().lock();
        writeln!(out, "{machine}\n{limits}\n").map_err(|error| Failure::output(&error))?;
        let bar = progress_bar(items.len() * usize::from(self.runs));
        let mut rows = Vec::new();
        for item in items {
            let row = self.measure(item, &contestants, &bar)?;
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
            write(path, &(text + "\n"))?;
        }
        if let Some(path) = &self.markdown {
            let text = markdown::tables(&report)
                .map_err(|error| Failure::other(format!("cannot write tables: {error}")))?;
            write(path, &text)?;
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

    /// Ours, and those that stand beside them.
    fn contestants(&self) -> Result<Vec<Contestant>, Failure> {
        let mut all: Vec<_> = Contestant::here().collect();
        for program in &self.with {
            all.extend(Contestant::of(program)?);
        }
        for peer in &self.peers {
            if all.iter().all(|one| one.name != *peer) {
                return Err(Failure::other(format!("no transport is called {peer}")));
            }
        }
        all.retain(|one| self.peers.is_empty() || one.is_ours || self.peers.contains(&one.name));
        Ok(all)
    }

    fn measure(&self, item: Item, all: &[Contestant], bar: &ProgressBar) -> Result<Row, Failure> {
        bar.set_message(format!("{}, {}", item.workload, item.placement));
        let contestants: Vec<_> = all.iter().filter(|one| one.can(item.workload)).collect();
        let mut samples = vec![Vec::new(); contestants.len()];
        let millis = if self.quick { 100 } else { 400 };
        for run in 0..self.runs {
            let _busy = Busy::start(item)?;
            let name = format!("ntpipe-bench-{}-{run}", process::id());
            for (contestant, samples) in contestants.iter().zip(&mut samples) {
                samples.push(contestant.sample(item, &name, millis, &cpus())?);
            }
            bar.inc(1);
        }
        let cells = (contestants.iter().zip(&samples))
            .filter_map(|(contestant, samples)| Cell::new(contestant, samples));
        Ok(Row {
            item,
            unit: item.workload.unit(),
            cells: cells.collect(),
        })
    }
}

/// The driver's CPU and the other process'.
fn cpus() -> String {
    let (first, second) = limits::two_cpus().unwrap_or_default();
    format!("{first},{second}")
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let action = format!("write {}", path.display());
    fs::write(path, text).map_err(|error| Failure::io(&action, &error))
}

fn burner(item: Item) -> io::Result<Child> {
    let (workload, placement) = (item.workload, item.placement);
    let mut command = BenchPeer::command("burn", Transport::Pipe, workload, placement, "", 0)?;
    command.args(["--cpus", &cpus()]).spawn()
}

/// Processes that only compute; they end with this.
struct Busy(Vec<Child>);

impl Busy {
    fn start(item: Item) -> Result<Self, Failure> {
        let mut busy = Self(Vec::new());
        if item.placement == Placement::Loaded {
            for _ in 0..BUSY {
                let child =
                    burner(item).map_err(|error| Failure::io("start a busy process", &error))?;
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
