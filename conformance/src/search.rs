//! The command that looks for sequences of steps on which the model and real processes disagree.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use conformance::{Driver, Found, Interface, Layout, Partly, Processes, Random};

/// How long to look, and where to begin.
#[derive(Debug, Default)]
pub(super) struct Search {
    pub(super) seed: Option<u64>,
    pub(super) rounds: Option<u64>,
    pub(super) minutes: Option<u64>,
    pub(super) steps: Option<usize>,
    /// The driver that is compared with the model.
    pub(super) driver: Option<String>,
}

impl Search {
    /// Runs sequences, tells how it goes, and writes down what was found.
    pub(super) fn run(self, program: &Path) -> Result<ExitCode, String> {
        let seed = self.seed.unwrap_or_else(|| fresh() % 1_000_000_000);
        let mut random = Random {
            seed,
            steps: self.steps.unwrap_or(20),
        };
        let mut driver = driver(self.driver.as_deref(), program)?;
        let start = Instant::now();
        let end = self
            .minutes
            .map(|minutes| start + Duration::from_secs(60 * minutes));
        let rounds = match (self.rounds, end) {
            (Some(rounds), _) => rounds,
            (None, Some(_)) => u64::MAX,
            (None, None) => 1000,
        };
        println!("random: from seed {seed}");
        let (mut done, mut steps, mut found) = (0_u64, 0, 0);
        let mut report = start + REPORT;
        while done < rounds && end.is_none_or(|end| Instant::now() < end) && found < ENOUGH {
            let trial = random.next(driver.as_mut());
            done += 1;
            steps += trial.steps;
            if let Some(difference) = trial.found {
                found += 1;
                tell(difference, driver.as_mut())?;
            }
            if Instant::now() >= report {
                report += REPORT;
                println!("random: {done} sequences so far, {found} differ");
            }
        }
        println!(
            "random: {done} sequences from seed {seed}, {steps} steps in {:.1} s: {found} differ",
            start.elapsed().as_secs_f64()
        );
        Ok(match found {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }
}

/// The driver of a name; tasks do each sequence as far as they can.
fn driver(name: Option<&str>, program: &Path) -> Result<Box<dyn Driver>, String> {
    let tasks = |layout, interface| {
        let driver = Processes::lasting(program, layout).through(interface);
        Box::new(Partly::of(driver)) as Box<dyn Driver>
    };
    Ok(match name {
        None | Some("processes") => Box::new(Processes::lasting(program, Layout::Apart)),
        Some("same-process") => Box::new(Processes::lasting(program, Layout::Together)),
        Some("tokio") => tasks(Layout::Together, Interface::Tokio),
        Some("tokio-threads") => tasks(Layout::Together, Interface::TokioThreads),
        Some("tokio-processes") => tasks(Layout::Apart, Interface::Tokio),
        Some(other) => return Err(format!("{other} is no driver for random sequences")),
    })
}

fn tell(mut found: Found, driver: &mut dyn Driver) -> Result<(), String> {
    println!("random: seed {}: {}", found.seed, found.difference);
    let path = std::env::temp_dir().join(format!("ntpipe-random-{}.case", found.seed));
    let write = |found: &Found| {
        fs::write(&path, found.text()).map_err(|error| format!("{}: {error}", path.display()))
    };
    write(&found)?;
    let again = found.again(driver, AGAIN);
    // One that fails now and then is tried more often before a step counts as needless.
    let runs = if again == AGAIN { 1 } else { 20 };
    found.shrink(driver, runs, Instant::now() + PATIENCE);
    write(&found)?;
    println!(
        "random: {again} of {AGAIN} more runs differ as well; made small, in {}:\n{}",
        path.display(),
        found.text()
    );
    Ok(())
}

/// A seed that is another one each time.
fn fresh() -> u64 {
    RandomState::new().hash_one(0)
}

/// How often to say how it goes.
const REPORT: Duration = Duration::from_secs(10);
/// After so many differences there is enough to think about.
const ENOUGH: usize = 10;
/// How often a sequence that failed is run again, to see whether it always fails.
const AGAIN: usize = 5;
/// How long a sequence is made smaller.
const PATIENCE: Duration = Duration::from_secs(120);
