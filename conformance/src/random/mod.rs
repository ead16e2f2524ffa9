//! Random sequences of steps: the model and a driver must agree on each.
//!
//! The model says what comes of each step while a sequence is made up, so that the sequence is a
//! case like any other. A sequence that a driver answers otherwise is made as small as possible
//! and given as the text of a case file.

use std::time::Instant;

use crate::{Action, Case, Difference, Driver, runner};

mod account;

mod generate;
use generate::{Able, sequence};

mod numbers;

mod script;
use script::Script;

mod shrink;

mod text;

/// Sequences of steps that follow from a seed; the next of them has the next seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Random {
    /// The seed of the next sequence.
    pub seed: u64,
    /// About how many steps a sequence has.
    pub steps: usize,
}

impl Random {
    /// Makes up the next sequence and runs it.
    pub fn next(&mut self, driver: &mut dyn Driver) -> Trial {
        let seed = self.seed;
        self.seed = self.seed.wrapping_add(1);
        let able = Able {
            kill: driver.name() != "same-process",
        };
        let script = sequence(seed, self.steps.max(1), able);
        let actions = script.actions().to_vec();
        let case = script.case(format!("Random sequence {seed}"));
        let steps = case.steps.len();
        let found = runner::run_case(driver, &case)
            .err()
            .map(|difference| Found {
                seed,
                actions,
                case,
                difference,
            });
        Trial { steps, found }
    }
}

/// What came of one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// How many steps it had.
    pub steps: usize,
    /// What was answered otherwise than by the model.
    pub found: Option<Found>,
}

/// A sequence that a driver answers otherwise than the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The seed of the sequence.
    pub seed: u64,
    /// Where the driver answers otherwise.
    pub difference: Difference,
    actions: Vec<Action>,
    case: Case,
}

impl Found {
    /// The text of a case file that says what the model says.
    pub fn text(&self) -> String {
        let Difference {
            line,
            expected,
            got,
            ..
        } = &self.difference;
        let seed = self.seed;
        let comment = format!(
            "Found by --random --seed {seed}: step {line} gave {got}, not {expected}.\n\
             The rule above is a guess; name the one that decides it."
        );
        script::file(&self.case, &comment)
    }

    /// In how many of so many runs the driver answers otherwise.
    pub fn again(&self, driver: &mut dyn Driver, runs: usize) -> usize {
        (0..runs)
            .filter(|_| runner::run_case(driver, &self.case).is_err())
            .count()
    }

    /// Leaves out steps and makes sizes smaller, as long as the driver answers otherwise in one of
    /// so many runs, and until the time is up.
    pub fn shrink(&mut self, driver: &mut dyn Driver, runs: usize, end: Instant) {
        let title = format!("Random sequence {}, made small", self.seed);
        let actions = core::mem::take(&mut self.actions);
        self.actions = shrink::shrink(actions, &mut |candidate| {
            if Instant::now() >= end {
                return false;
            }
            let case = Script::of(candidate).case(title.clone());
            let mut runs = (0..runs).filter_map(|_| runner::run_case(driver, &case).err());
            let Some(difference) = runs.next() else {
                return false;
            };
            self.case = case;
            self.difference = difference;
            true
        });
    }
}

#[cfg(test)]
mod tests;
