//! Figures, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use super::contestant::Contestant;
use super::limits::Limits;
use super::plan::Item;
use super::work::Sample;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) limits: Limits,
    pub(super) rows: Vec<Row>,
}

/// Where it was measured, and what.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cpus: usize,
    pub(super) kernel: String,
    pub(super) version: String,
}

/// One workload in one place, by each transport.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) item: Item,
    pub(super) unit: &'static str,
    pub(super) cells: Vec<Cell>,
}

/// One transport's figures.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    pub(super) transport: String,
    #[serde(skip)]
    pub(super) is_ours: bool,
    /// Which of ours it stands beside, if not the usual one.
    #[serde(skip)]
    beside: Option<String>,
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// The medians of the rest.
    pub(super) p99: Option<f64>,
    pub(super) cpu_us: f64,
    pub(super) memory_kib: Option<f64>,
    pub(super) wakeups: Option<f64>,
}

impl Cell {
    /// The medians of some runs; `None` without one.
    pub(super) fn new(contestant: &Contestant, samples: &[Sample]) -> Option<Self> {
        let figures = sorted(samples.iter().map(|sample| sample.figure));
        let median_of = |of: &dyn Fn(&Sample) -> Option<f64>| {
            let figures = sorted(samples.iter().filter_map(of));
            figures.get(figures.len() / 2).copied()
        };
        Some(Self {
            transport: contestant.name.clone(),
            is_ours: contestant.is_ours,
            beside: contestant.beside.clone(),
            median: *figures.get(figures.len() / 2)?,
            min: *figures.first()?,
            max: *figures.last()?,
            p99: median_of(&|sample| sample.p99),
            cpu_us: median_of(&|sample| Some(sample.cpu))?,
            memory_kib: median_of(&|sample| sample.memory),
            wakeups: median_of(&|sample| sample.wakeups),
        })
    }
}

impl Row {
    pub(super) fn title(&self) -> String {
        format!("{}, {}", self.item.workload, self.item.placement)
    }

    pub(super) fn cell(&self, transport: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.transport == transport)
    }

    /// How much better ntpipe is than a transport: above 1 it is ahead.
    pub(super) fn ratio(&self, cell: &Cell) -> Option<f64> {
        let beside = cell.beside.as_deref().and_then(|name| self.cell(name));
        let ours = beside
            .or_else(|| self.cells.iter().find(|cell| cell.is_ours))?
            .median;
        Some(match self.item.workload.is_rate() {
            true => ours / cell.median,
            false => cell.median / ours,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title())?;
        for cell in &self.cells {
            write!(
                f,
                "  {:15} {:>10} {:4} {:>23}  cpu {:>8} us",
                cell.transport,
                short(cell.median),
                self.unit,
                format!("({} .. {})", short(cell.min), short(cell.max)),
                short(cell.cpu_us),
            )?;
            if let Some(ratio) = self.ratio(cell).filter(|_| !cell.is_ours) {
                write!(f, "  ntpipe {ratio:.2}x")?;
            }
            if let Some(p99) = cell.p99 {
                write!(f, "  p99 {} us", short(p99))?;
            }
            if let Some(memory) = cell.memory_kib {
                write!(f, "  {memory:.1} KiB each")?;
            }
            if let Some(wakeups) = cell.wakeups {
                write!(f, "  {wakeups:.0} wake-ups/s")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} CPUs, Linux {}, ntpipe {}",
            self.cpu, self.cpus, self.kernel, self.version
        )
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "limits: memcpy {} MB/s, system call {} us",
            short(self.memcpy),
            short(self.syscall)
        )?;
        if let (Some(bounce), Some(two), Some(wake)) = (self.bounce, self.two_lines, self.wake) {
            write!(
                f,
                ", a cache line there and back {} us, two lines {} us, waking an idle CPU {} us",
                short(bounce),
                short(two),
                short(wake)
            )?;
        }
        Ok(())
    }
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures
}

/// Three digits that matter.
pub(super) fn short(figure: f64) -> String {
    match figure {
        figure if figure >= 100.0 => format!("{figure:.0}"),
        figure if figure >= 10.0 => format!("{figure:.1}"),
        figure if figure >= 1.0 => format!("{figure:.2}"),
        figure => format!("{figure:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Placement, Workload};
    use super::*;

    fn sample(figure: f64) -> Sample {
        Sample {
            figure,
            p99: None,
            cpu: 1.0,
            memory: None,
            wakeups: None,
        }
    }

    fn contestant(name: &str) -> Contestant {
        Contestant::here().find(|one| one.name == name).unwrap()
    }

    fn row(workload: Workload, ours: f64, theirs: f64) -> Row {
        let cell = |name, figure| Cell::new(&contestant(name), &[sample(figure)]).unwrap();
        Row {
            item: Item {
                workload,
                placement: Placement::Two,
            },
            unit: workload.unit(),
            cells: vec![cell("ntpipe", ours), cell("pipe", theirs)],
        }
    }

    #[test]
    fn the_median_of_three_is_the_middle_one() {
        let samples = [sample(9.0), sample(1.0), sample(2.0)];
        let cell = Cell::new(&contestant("pipe"), &samples).unwrap();
        assert_eq!((cell.min, cell.median, cell.max), (1.0, 2.0, 9.0));
        assert!(Cell::new(&contestant("pipe"), &[]).is_none());
    }

    #[test]
    fn a_ratio_above_one_means_that_ntpipe_is_ahead() {
        let trip = row(Workload::RoundTrip { size: 64 }, 0.5, 50.0).to_string();
        assert!(trip.contains("ntpipe 100.00x"), "{trip}");
        let stream = row(Workload::Stream { size: 64 }, 50.0, 100.0).to_string();
        assert!(stream.contains("ntpipe 0.50x"), "{stream}");
    }
}
