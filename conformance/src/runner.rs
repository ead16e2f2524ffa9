//! Runs cases through a driver and tells where it answers otherwise.

use core::fmt;
use std::path::{Path, PathBuf};

use crate::{Case, Driver, Interface, Layout, Model, Processes};

/// The drivers that can run here; `program` is this crate's, for the processes that they start.
pub fn drivers(program: &Path) -> Vec<Box<dyn Driver>> {
    vec![
        Box::new(Model::new()),
        Box::new(Processes::new(program, Layout::Together)),
        Box::new(Processes::new(program, Layout::Apart)),
        Box::new(Processes::new(program, Layout::Together).through(Interface::Tokio)),
        Box::new(Processes::new(program, Layout::Together).through(Interface::TokioThreads)),
        Box::new(Processes::new(program, Layout::Apart).through(Interface::Tokio)),
    ]
}

/// Runs the cases that apply to the driver.
pub fn run(driver: &mut dyn Driver, cases: &[Case]) -> Summary {
    let name = driver.name();
    let mut summary = Summary {
        driver: name,
        cases: 0,
        not_applicable: Vec::new(),
        differences: Vec::new(),
    };
    for case in cases {
        if let Some(reason) = lacks(driver, case) {
            summary.not_applicable.push((case.id(), reason));
            continue;
        }
        summary.cases += 1;
        summary.differences.extend(run_case(driver, case).err());
    }
    summary
}

/// Why the driver cannot run the case, if it cannot.
fn lacks(driver: &dyn Driver, case: &Case) -> Option<&'static str> {
    if !case.applies_to(driver.name()) {
        return Some("the case is for other drivers");
    }
    let lacks = case.steps.iter().find_map(|step| driver.lacks(step));
    lacks.or_else(|| driver.lacks_together(case))
}

/// Runs one case up to the first step that comes out otherwise.
pub(crate) fn run_case(driver: &mut dyn Driver, case: &Case) -> Result<(), Difference> {
    let result = run_steps(driver, case);
    driver.finish();
    result
}

fn run_steps(driver: &mut dyn Driver, case: &Case) -> Result<(), Difference> {
    let difference = |line, expected: String, got: String| Difference {
        file: case.file.clone(),
        line,
        title: case.title.clone(),
        expected,
        got,
    };
    driver
        .start()
        .map_err(|trouble| difference(case.line, "a start".to_owned(), trouble.to_string()))?;
    for step in &case.steps {
        let got = match driver.step(step) {
            Ok(outcome) if step.expected.is_met_by(&outcome) => continue,
            Ok(outcome) => outcome.to_string(),
            Err(trouble) => format!("trouble: {trouble}"),
        };
        return Err(difference(step.line, step.expected.to_string(), got));
    }
    Ok(())
}

/// What came of running cases through one driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The driver.
    pub driver: &'static str,
    /// How many cases applied to it.
    pub cases: usize,
    /// The others, by their ids, and why each cannot be run.
    pub not_applicable: Vec<(String, &'static str)>,
    /// Where it answered otherwise: one for each case that failed.
    pub differences: Vec<Difference>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (driver, cases, failed) = (self.driver, self.cases, self.differences.len());
        write!(
            f,
            "{driver}: {cases} cases, {} passed, {failed} failed, {} not applicable",
            cases - failed,
            self.not_applicable.len()
        )
    }
}

/// A step that came out otherwise than its case says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The case file.
    pub file: PathBuf,
    /// The line of the step.
    pub line: usize,
    /// The title of the case.
    pub title: String,
    /// What the case says.
    pub expected: String,
    /// What the driver answered.
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            title,
            expected,
            got,
        } = self;
        write!(
            f,
            "{}:{line}: expected {expected}, got {got} ({title})",
            file.display()
        )
    }
}

/// Which cases are meant: those whose id matches a glob with `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(pub String);

impl Selection {
    /// Whether a case of this id is meant.
    pub fn contains(&self, id: &str) -> bool {
        let (glob, id): (Vec<char>, Vec<char>) = (self.0.chars().collect(), id.chars().collect());
        matches(&glob, &id)
    }
}

fn matches(glob: &[char], id: &[char]) -> bool {
    match (glob.split_first(), id.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), None) => matches(rest, id),
        (Some(('*', rest)), Some((_, shorter))) => matches(rest, id) || matches(glob, shorter),
        (Some((g, rest)), Some((i, shorter))) => (*g == '?' || g == i) && matches(rest, shorter),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Outcome, Step, Trouble, parse};

    /// Answers every step with this.
    struct Parrot(Outcome);

    impl Driver for Parrot {
        fn name(&self) -> &'static str {
            "parrot"
        }

        fn lacks(&self, step: &Step) -> Option<&'static str> {
            step.text.contains("name").then_some("it has no names")
        }

        fn start(&mut self) -> Result<(), Trouble> {
            Ok(())
        }

        fn step(&mut self, _: &Step) -> Result<Outcome, Trouble> {
            Ok(self.0.clone())
        }

        fn finish(&mut self) {}
    }

    #[test]
    fn a_difference_says_where_and_what() {
        let text = "# A\nsource: observed 5.1\nserver close\nserver flush -> 233\n\
                    # B\nsource: observed 5.1\nserver close\n\
                    # C\nsource: observed 5.1\napplies: other\nserver flush -> 233\n\
                    # D\nsource: observed 5.1\nserver close\nserver name -> ok name=a";
        let cases = parse(Path::new("x.case"), text).unwrap();
        let summary = run(&mut Parrot(Outcome::Done), &cases);
        assert_eq!(
            summary.to_string(),
            "parrot: 2 cases, 1 passed, 1 failed, 2 not applicable"
        );
        let reasons: Vec<&str> = (summary.not_applicable.iter())
            .map(|(_, reason)| *reason)
            .collect();
        assert_eq!(
            reasons,
            ["the case is for other drivers", "it has no names"]
        );

        assert_eq!(
            summary.differences[0].to_string(),
            "x.case:4: expected 233 ERROR_PIPE_NOT_CONNECTED, got ok (A)"
        );
    }

    #[test]
    fn a_selection_is_a_glob() {
        let selects = |glob: &str, id: &str| Selection(glob.to_owned()).contains(id);
        assert!(selects("peek/*", "peek/a-b"));
        assert!(selects("*a?b", "peek/a-b"));
        assert!(!selects("peek/", "peek/a-b"));
        assert!(!selects("*c", "peek/a-b"));
    }
}
