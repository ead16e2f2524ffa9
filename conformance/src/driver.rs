//! What runs the steps of a case: one implementation of pipes, driven step by step.

use core::fmt;

use crate::{Case, Outcome, Step};

/// One implementation of pipes, driven step by step.
///
/// [`start`](Self::start) begins each case with no pipe left from earlier ones. A driver may keep
/// its ends in other processes: a step can be sent there as the line that it is.
pub trait Driver {
    /// The name by which cases and the command line speak of it.
    fn name(&self) -> &'static str;

    /// Why the driver cannot do such a step at all, if it cannot: a case with one does not apply.
    fn lacks(&self, _step: &Step) -> Option<&'static str> {
        None
    }

    /// Why the driver cannot run such a case although it can do each step, if it cannot.
    fn lacks_together(&self, _case: &Case) -> Option<&'static str> {
        None
    }

    /// Begins a case.
    ///
    /// # Errors
    /// When the driver cannot get what it needs for it.
    fn start(&mut self) -> Result<(), Trouble>;

    /// Does one step and reports what came of it.
    ///
    /// Of what the step expects the driver uses the [patience](Step::patience) alone. An operation
    /// that has not finished when that ends is [`Outcome::Pending`]; it goes on if it has a tag,
    /// and the case ends otherwise.
    ///
    /// # Errors
    /// When the step makes no sense at this place, such as a read at an end that nobody opened,
    /// or when the driver itself fails.
    fn step(&mut self, step: &Step) -> Result<Outcome, Trouble>;

    /// Ends a case: whatever is still open is closed, whatever goes on is given up.
    fn finish(&mut self);
}

/// How long a driver with a real clock looks at an operation before it calls it pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// The case expects it to pend: long enough to notice that it does not.
    Brief,
    /// The case expects it to finish: as long as a sane machine could need.
    Long,
}

/// A step that could not be done at all; says nothing about the pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble(pub String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Trouble {}
