//! What the driver and its workers say to each other: one line each way.

use core::fmt::{self, Write};
use core::num::NonZeroU32;

use ntpipe_proto::Error;

use crate::{Facts, Outcome};

/// What the driver asks of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// Begin the operation of this step, under this number.
    Begin(u64, String),
    /// Answer once the operation has finished, or after a while what has become of it.
    Await(u64),
    /// Answer at once what has become of the operation.
    Ask(u64),
    /// End the call of the operation's thread.
    Cancel(u64),
    /// Tell whether anything moves.
    Look,
    /// Disconnect and close all ends.
    Release,
    /// Forget all operations and have this suffix in names from now on.
    Renew(String),
}

/// What a worker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The operation has begun, or what was asked is done.
    Begun,
    /// What came of an operation.
    Outcome(Outcome),
    /// An operation returned the id of a process.
    Process(u32),
    /// An operation returned the id of a session.
    Session(u32),
    /// Some thread runs.
    Moving,
    /// Every thread is blocked; two equal answers mean that none has run in between.
    Still(String),
    /// It could not be done.
    Trouble(String),
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(number, step) => write!(f, "begin {number} {step}"),
            Self::Await(number) => write!(f, "await {number}"),
            Self::Ask(number) => write!(f, "ask {number}"),
            Self::Cancel(number) => write!(f, "cancel {number}"),
            Self::Look => f.write_str("look"),
            Self::Release => f.write_str("release"),
            Self::Renew(suffix) => write!(f, "renew {suffix}"),
        }
    }
}

impl Request {
    /// Reads a line; `None` if nobody says such a thing.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        Some(match verb {
            "begin" => {
                let (number, step) = rest.split_once(' ')?;
                Self::Begin(number.parse().ok()?, step.to_owned())
            }
            "await" => Self::Await(rest.parse().ok()?),
            "ask" => Self::Ask(rest.parse().ok()?),
            "cancel" => Self::Cancel(rest.parse().ok()?),
            "look" => Self::Look,
            "release" => Self::Release,
            "renew" => Self::Renew(rest.to_owned()),
            _ => return None,
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun => f.write_str("begun"),
            Self::Process(id) => write!(f, "process {id}"),
            Self::Session(id) => write!(f, "session {id}"),
            Self::Moving => f.write_str("moving"),
            Self::Still(threads) => write!(f, "still {threads}"),
            Self::Trouble(message) => write!(f, "trouble {}", message.replace('\n', " ")),
            Self::Outcome(outcome) => match outcome {
                Outcome::Done => f.write_str("done"),
                Outcome::Wrote(len) => write!(f, "wrote {len}"),
                Outcome::Read { data, more: false } => write!(f, "whole {}", hex(data)),
                Outcome::Read { data, more: true } => write!(f, "part {}", hex(data)),
                Outcome::Told { data, facts } => {
                    let data = data.as_deref().map_or_else(|| "none".to_owned(), hex);
                    write!(f, "told {data}")?;
                    let mut facts = facts.0.iter();
                    facts.try_for_each(|(name, value)| write!(f, " {name}={value}"))
                }
                // Only the driver knows whose process it is.
                Outcome::Process(label) => write!(f, "trouble process of {label}"),
                Outcome::Failed(error) => write!(f, "failed {}", error.code()),
                Outcome::Pending => f.write_str("pending"),
            },
        }
    }
}

impl Answer {
    /// Reads a line; `None` if nobody says such a thing.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let read = |more| {
            Some(Outcome::Read {
                data: unhex(rest)?,
                more,
            })
        };
        let outcome = match verb {
            "begun" => return Some(Self::Begun),
            "process" => return rest.parse().ok().map(Self::Process),
            "session" => return rest.parse().ok().map(Self::Session),
            "moving" => return Some(Self::Moving),
            "still" => return Some(Self::Still(rest.to_owned())),
            "trouble" => return Some(Self::Trouble(rest.to_owned())),
            "done" => Outcome::Done,
            "wrote" => Outcome::Wrote(rest.parse().ok()?),
            "whole" => read(false)?,
            "part" => read(true)?,
            "told" => {
                let mut words = rest.split(' ');
                let data = match words.next()? {
                    "none" => None,
                    data => Some(unhex(data)?),
                };
                let mut facts = Facts::default();
                for word in words {
                    let (name, value) = word.split_once('=')?;
                    facts = facts.with(name, value);
                }
                Outcome::Told { data, facts }
            }
            "failed" => Outcome::Failed(Error::from_code(NonZeroU32::new(rest.parse().ok()?)?)),
            "pending" => Outcome::Pending,
            _ => return None,
        };
        Some(Self::Outcome(outcome))
    }
}

pub(crate) fn hex(data: &[u8]) -> String {
    let mut text = String::with_capacity(2 * data.len());
    for byte in data {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_arrives() {
        let step = r#"w1 = client write "a b" -> pending"#.to_owned();
        for request in [
            Request::Begin(7, step),
            Request::Await(8),
            Request::Ask(9),
            Request::Cancel(10),
            Request::Look,
            Request::Release,
            Request::Renew("12".to_owned()),
        ] {
            assert_eq!(Request::parse(&request.to_string()), Some(request));
        }
        assert_eq!(Request::parse("begin x"), None);
    }

    #[test]
    fn what_is_answered_arrives() {
        let read = |data: &[u8], more| Outcome::Read {
            data: data.to_vec(),
            more,
        };
        let told = |data| Outcome::Told {
            data,
            facts: Facts::default().with("avail", 3).with("left", 0),
        };
        for outcome in [
            Outcome::Done,
            Outcome::Wrote(7000),
            read(b"", false),
            read(b"\x00 \n\xff", true),
            told(None),
            told(Some(Vec::new())),
            told(Some(b"abc".to_vec())),
            Outcome::Failed(Error::BROKEN_PIPE),
            Outcome::Pending,
        ] {
            let answer = Answer::Outcome(outcome);
            assert_eq!(Answer::parse(&answer.to_string()), Some(answer));
        }
        for answer in [
            Answer::Begun,
            Answer::Process(1),
            Answer::Session(u32::MAX),
            Answer::Moving,
            Answer::Still("1:2:3 4:5:6".to_owned()),
            Answer::Trouble("no such end".to_owned()),
        ] {
            assert_eq!(Answer::parse(&answer.to_string()), Some(answer));
        }
        assert_eq!(Answer::parse("whole 0"), None);
    }
}
