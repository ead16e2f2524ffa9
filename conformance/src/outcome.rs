//! What comes of a step, and what a case expects of it.

use core::fmt;

use ntpipe_proto::Error;

use crate::{Label, content};

/// What a driver reports of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded and has nothing to tell.
    Done,
    /// A write succeeded with this many bytes.
    Wrote(usize),
    /// A read, a transaction or a call returned data.
    Read {
        /// The bytes.
        data: Vec<u8>,
        /// The message has more (`ERROR_MORE_DATA`, 234).
        more: bool,
    },
    /// A peek or a query returned these; a peek its bytes as well.
    Told {
        /// The bytes of a peek.
        data: Option<Vec<u8>>,
        /// Names and values.
        facts: Facts,
    },
    /// A query returned the id of this actor's process.
    Process(Label),
    /// It failed.
    Failed(Error),
    /// It has not finished yet.
    Pending,
}

/// What a case expects of a step. Of facts, only those that it names are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected(pub Outcome);

impl Expected {
    /// Whether the step came out as expected.
    pub fn is_met_by(&self, outcome: &Outcome) -> bool {
        match (&self.0, outcome) {
            (
                Outcome::Told { data, facts },
                Outcome::Told {
                    data: got,
                    facts: all,
                },
            ) => data == got && facts.0.iter().all(|fact| all.0.contains(fact)),
            (expected, outcome) => expected == outcome,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("ok"),
            Self::Wrote(len) => write!(f, "ok {len}"),
            Self::Read { data, more: false } => write!(f, "ok {}", content::show(data)),
            Self::Read { data, more: true } => write!(f, "more {}", content::show(data)),
            Self::Told { data, facts } => {
                f.write_str("ok")?;
                if let Some(data) = data {
                    write!(f, " {}", content::show(data))?;
                }
                facts
                    .0
                    .iter()
                    .try_for_each(|(name, value)| write!(f, " {name}={value}"))
            }
            Self::Process(label) => write!(f, "ok {label}"),
            Self::Failed(error) => match error.name() {
                Some(name) => write!(f, "{} {name}", error.code()),
                None => write!(f, "{}", error.code()),
            },
            Self::Pending => f.write_str("pending"),
        }
    }
}

/// Names and values that a peek or a query returned.
///
/// A peek has `avail`, `left` and `messages`. Information has `end`, `type`, `in`, `out`, `max`,
/// `read`, `wait` and `instances`; local information has `direction`, `state`, `readable` (bytes
/// that this end can read) and `room` (what it can write at once) instead of the modes. `access` is
/// a mask of eight hexadecimal digits, `name` is what stands behind `\\.\pipe\`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts(pub Vec<(String, String)>);

impl Facts {
    /// The facts of which cases can speak.
    pub const NAMES: [&str; 17] = [
        "avail",
        "left",
        "messages",
        "end",
        "type",
        "in",
        "out",
        "max",
        "read",
        "wait",
        "instances",
        "direction",
        "state",
        "readable",
        "room",
        "access",
        "name",
    ];

    /// Adds one fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.0.push((name.to_owned(), value.to_string()));
        self
    }
}
