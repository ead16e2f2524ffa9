//! As much of each case as a driver can do.

use std::collections::BTreeSet;

use ntpipe_proto::Error;

use crate::{Action, Case, Driver, Operation, Outcome, Step, Tag, Trouble};

/// Does of a case what its driver can do, and answers what is expected for the rest.
///
/// A step that the driver [lacks](Driver::lacks) is left out if it changes nothing, and ends the
/// case otherwise. This makes random sequences of use to a driver that has no words for most of
/// them as a whole.
#[derive(Debug)]
pub struct Partly<D> {
    driver: D,
    /// The case, as far as it was done.
    case: Case,
    /// The operations that were left out.
    left_out: BTreeSet<Tag>,
    is_over: bool,
}

impl<D: Driver> Partly<D> {
    /// A driver that does what `driver` can do.
    pub fn of(driver: D) -> Self {
        let case = Case {
            file: "partly".into(),
            line: 0,
            title: String::new(),
            sources: Vec::new(),
            applies: Vec::new(),
            steps: Vec::new(),
        };
        Self {
            driver,
            case,
            left_out: BTreeSet::new(),
            is_over: false,
        }
    }

    /// Whether a step is to be done.
    fn does(&mut self, step: &Step) -> bool {
        if self.is_over {
            return false;
        }
        if self.driver.lacks(step).is_some() {
            self.is_over = changes(step);
            if let Action::Begin { tag: Some(tag), .. } = &step.action {
                self.left_out.insert(tag.clone());
            }
            return false;
        }
        if let Action::Check(tag) | Action::Cancel(tag) = &step.action
            && self.left_out.contains(tag)
        {
            return false;
        }
        self.case.steps.push(step.clone());
        self.is_over = self.driver.lacks_together(&self.case).is_some();
        !self.is_over
    }
}

impl<D: Driver> Driver for Partly<D> {
    fn name(&self) -> &'static str {
        self.driver.name()
    }

    fn start(&mut self) -> Result<(), Trouble> {
        self.case.steps.clear();
        self.left_out.clear();
        self.is_over = false;
        self.driver.start()
    }

    fn step(&mut self, step: &Step) -> Result<Outcome, Trouble> {
        match self.does(step) {
            true => self.driver.step(step),
            false => Ok(step.expected.0.clone()),
        }
    }

    fn finish(&mut self) {
        self.driver.finish();
    }
}

/// Whether a step may leave something behind.
fn changes(step: &Step) -> bool {
    let Action::Begin { operation, .. } = &step.action else {
        return true;
    };
    if matches!(
        operation,
        Operation::Wait { .. }
            | Operation::Info
            | Operation::LocalInfo
            | Operation::Granted
            | Operation::Name
            | Operation::ClientSession
            | Operation::ServerSession
            | Operation::ClientProcess
            | Operation::ServerProcess
    ) {
        return false;
    }
    let Outcome::Failed(error) = &step.expected.0 else {
        return true;
    };
    // What ends while it is under way may have been read before, in part or as a whole.
    let is_late = [Error::SEM_TIMEOUT, Error::BROKEN_PIPE].contains(error);
    is_late || matches!(operation, Operation::Call { .. })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{case, runner};

    /// Fails at every step; lacks flushes, waits and what is longer than two steps.
    struct Wrong;

    impl Driver for Wrong {
        fn name(&self) -> &'static str {
            "wrong"
        }

        fn lacks(&self, step: &Step) -> Option<&'static str> {
            let lacks = step.text.contains("flush") || step.text.contains("wait");
            lacks.then_some("no such thing")
        }

        fn lacks_together(&self, case: &Case) -> Option<&'static str> {
            (case.steps.len() > 2).then_some("too long")
        }

        fn start(&mut self) -> Result<(), Trouble> {
            Ok(())
        }

        fn step(&mut self, step: &Step) -> Result<Outcome, Trouble> {
            Err(Trouble(format!("at {}", step.line)))
        }

        fn finish(&mut self) {}
    }

    /// The line of the first step that was done.
    fn first(driver: &mut Partly<Wrong>, steps: &str) -> Option<usize> {
        let text = format!("# A\nsource: observed 5.1\n{steps}");
        let cases = case::parse(Path::new("a.case"), &text).unwrap();
        let difference = runner::run_case(driver, &cases[0]).err();
        difference.map(|difference| difference.line)
    }

    #[test]
    fn a_case_is_done_up_to_what_is_lacking() {
        let mut driver = Partly::of(Wrong);
        assert_eq!(first(&mut driver, "server flush\nserver close"), None);
        assert_eq!(first(&mut driver, "server close\nserver flush"), Some(3));
        // That the case before was over is no matter.
        assert_eq!(first(&mut driver, "server close"), Some(3));
    }

    #[test]
    fn what_changes_nothing_is_left_out() {
        let mut driver = Partly::of(Wrong);
        let failed = "server flush -> 233\nserver close";
        assert_eq!(first(&mut driver, failed), Some(4));
        let waits = "w = caller wait forever -> pending\nw -> pending\ncancel w\nw -> 995\n";
        assert_eq!(first(&mut driver, waits), None);
        let then = format!("{waits}server close");
        assert_eq!(first(&mut driver, &then), Some(7));
        let timed = "server flush within 20ms -> 121\nserver close";
        assert_eq!(first(&mut driver, timed), None);
    }

    #[test]
    fn what_is_lacking_may_be_a_matter_of_several_steps() {
        let mut driver = Partly::of(Wrong);
        driver.start().unwrap();
        let step = Step::parse("server close", 1).unwrap();
        assert!(driver.step(&step).is_err());
        assert!(driver.step(&step).is_err());
        assert_eq!(driver.step(&step), Ok(Outcome::Done));
        assert_eq!(driver.step(&step), Ok(Outcome::Done));
    }
}
