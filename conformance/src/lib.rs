//! Cases of Windows' pipe behaviour as data, and the drivers that run them.
//!
//! A case (`cases/*.case`, form described in [`Case`]) says who does what, and what Windows
//! answers, with the rule that it comes from. A [`Driver`] does the steps with one implementation
//! of pipes; the [runner](run) compares what it answers with what the case says.

mod case;
pub use case::{Case, Mistake, Source, load, parse};

mod content;
pub use content::{pattern, show};

mod driver;
pub use driver::{Driver, Patience, Trouble};

mod line;

mod model;
pub use model::Model;

mod outcome;
pub use outcome::{Expected, Facts, Outcome};

mod partly;
pub use partly::Partly;

mod processes;
pub use processes::{Interface, Layout, Processes, work};

mod rules;
pub use rules::{Rule, Shown, check, rules, with_files};

mod random;
pub use random::{Found, Random, Trial};

mod runner;
pub use runner::{Difference, Selection, Summary, drivers, run};

mod step;
pub use step::{
    Action, Create, Label, MaxCount, Open, Operation, Rights, Role, SetMode, Step, Tag, Where,
};

mod tasks;

mod token;

mod wine;
pub use wine::Wine;
