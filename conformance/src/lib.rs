//! Cases of Windows' pipe behaviour as data.
//!
//! A case (`cases/*.case`, form described in [`Case`]) says who does what, and what Windows
//! answers, with the rule that it comes from.

mod case;
pub use case::{Case, Mistake, Source, load, parse};

mod content;
pub use content::{pattern, show};

mod line;

mod outcome;
pub use outcome::{Expected, Facts, Outcome};

mod step;
pub use step::{
    Action, Create, Label, MaxCount, Open, Operation, Rights, Role, SetMode, Step, Tag, Where,
};

mod token;
