//! Reads one step: the line of a case that says who does what and what comes of it.

use core::num::NonZeroU32;
use core::str::FromStr;
use core::time::Duration;
use std::vec::IntoIter;

use ntpipe_proto::{DefaultTimeout, Direction, Error, PipeType, ReadMode, WaitMode, WaitTimeout};

use crate::token::{Token, split};
use crate::{
    Action, Create, Expected, Facts, Label, MaxCount, Open, Operation, Outcome, Rights, Role,
    SetMode, Step, Tag, Where, pattern,
};

/// Reads a step.
///
/// # Errors
/// What was expected instead.
pub(crate) fn step(text: &str, line: usize) -> Result<Step, String> {
    let mut words = Words {
        tokens: split(text)?.into_iter(),
        ahead: None,
    };
    let at_once = words.take_word("at-once");
    let action = words.action()?;
    let answers = match &action {
        Action::Begin { operation, .. } => Answers::of(operation),
        Action::Check(_) => Answers::Any,
        Action::Cancel(_) => Answers::Nothing,
    };
    let expected = if words.take(&Token::Arrow) {
        words.outcome(answers)?
    } else if words.ahead().is_none() && matches!(answers, Answers::Nothing) {
        Outcome::Done
    } else {
        return Err(words.wrong("`->` and what comes of the step"));
    };
    if words.ahead().is_some() {
        return Err(words.wrong("the end of the line"));
    }
    if let (Outcome::Pending, Action::Begin { tag: None, .. }) = (&expected, &action) {
        return Err("expected a tag: write `w1 = ...` for a step that stays pending".to_owned());
    }
    Ok(Step {
        line,
        at_once,
        text: text.to_owned(),
        action,
        expected: Expected(expected),
    })
}

/// What a step can answer if it succeeds.
#[derive(Clone, Copy)]
enum Answers {
    Nothing,
    Count,
    Data,
    Told,
    Process,
    Any,
}

impl Answers {
    fn of(operation: &Operation) -> Self {
        match operation {
            Operation::Write { .. } => Self::Count,
            Operation::Read { .. } | Operation::Transact { .. } | Operation::Call { .. } => {
                Self::Data
            }
            Operation::Peek { .. }
            | Operation::Info
            | Operation::LocalInfo
            | Operation::Granted
            | Operation::Name => Self::Told,
            Operation::ClientProcess
            | Operation::ServerProcess
            | Operation::ClientSession
            | Operation::ServerSession => Self::Process,
            Operation::Create(_)
            | Operation::CreatePipe { .. }
            | Operation::Open(_)
            | Operation::Clone { .. }
            | Operation::CancelIo
            | Operation::Connect { .. }
            | Operation::Disconnect
            | Operation::Close
            | Operation::Flush { .. }
            | Operation::Wait { .. }
            | Operation::SetMode(_)
            | Operation::Kill => Self::Nothing,
        }
    }
}

/// The words of the line that have not been read yet.
struct Words {
    tokens: IntoIter<Token>,
    ahead: Option<Token>,
}

impl Words {
    fn action(&mut self) -> Result<Action, String> {
        let first = self.word("an actor or a tag")?;
        if let Some(actor) = Label::new(&first) {
            return self.begin(None, actor);
        }
        if first == "cancel" {
            return Ok(Action::Cancel(Tag(self.word("the tag of what to cancel")?)));
        }
        let tag = Tag(first);
        if !self.take(&Token::Equals) {
            let lone = self.ahead() == Some(&Token::Arrow);
            let expected = "`server`, `fellow`, `client`, `caller`, `pipe`, `reader`, `writer` \
                            (with a number if there are several), `cancel`, or a tag with `=` or `->`";
            return if lone {
                Ok(Action::Check(tag))
            } else {
                Err(self.wrong(expected))
            };
        }
        let actor = self.word("an actor")?;
        match Label::new(&actor) {
            Some(actor) => self.begin(Some(tag), actor),
            None => Err(format!(
                "expected an actor such as `server` or `client2`, got `{actor}`"
            )),
        }
    }

    fn begin(&mut self, tag: Option<Tag>, actor: Label) -> Result<Action, String> {
        let verb = self.word("what it does")?;
        let operation = match (actor.role(), verb.as_str()) {
            (Role::Server | Role::Fellow, "create") => Operation::Create(self.create()?),
            (Role::Client, "open") => Operation::Open(self.open()?),
            (Role::Server | Role::Fellow | Role::Client, "clone") => self.clone_of(&actor)?,
            (Role::Caller, "wait") => self.wait()?,
            (Role::Caller, "call") => self.call()?,
            (Role::Pipe, "create") => self.create_pipe()?,
            (Role::Server | Role::Fellow | Role::Client | Role::Reader | Role::Writer, verb) => {
                self.at_end(verb)?
            }
            (Role::Pipe, _) => return Err(format!("expected `create`, got `{verb}`")),
            (Role::Caller, _) => return Err(format!("expected `wait` or `call`, got `{verb}`")),
        };
        Ok(Action::Begin {
            tag,
            actor,
            operation,
        })
    }

    /// What either end can do.
    fn at_end(&mut self, verb: &str) -> Result<Operation, String> {
        Ok(match verb {
            "connect" => Operation::Connect {
                within: self.within()?,
            },
            "disconnect" => Operation::Disconnect,
            "close" => Operation::Close,
            "write" => Operation::Write {
                data: self.content()?,
                within: self.within()?,
            },
            "read" => Operation::Read {
                size: self.number()?,
                within: self.within()?,
            },
            "peek" => Operation::Peek {
                size: self.number()?,
            },
            "flush" => Operation::Flush {
                within: self.within()?,
            },
            "transact" => Operation::Transact {
                data: self.content()?,
                size: self.number()?,
                within: self.within()?,
            },
            "set-mode" => Operation::SetMode(self.set_mode()?),
            "info" => Operation::Info,
            "local-info" => Operation::LocalInfo,
            "access" => Operation::Granted,
            "name" => Operation::Name,
            "cancel-io" => Operation::CancelIo,
            "client-session" => Operation::ClientSession,
            "server-session" => Operation::ServerSession,
            "client-process" => Operation::ClientProcess,
            "server-process" => Operation::ServerProcess,
            "kill" => Operation::Kill,
            _ => return Err(format!("expected {VERBS}, got `{verb}`")),
        })
    }

    fn create(&mut self) -> Result<Create, String> {
        let mut create = Create::default();
        loop {
            if self.take_word("first") {
                create.first = true;
                continue;
            }
            let Some((key, value)) = self.pair() else {
                return Ok(create);
            };
            match key.as_str() {
                "name" => create.place = Where::Name(value),
                "path" => create.place = Where::Path(value),
                "direction" => create.direction = choose(&key, &value, &DIRECTIONS)?,
                "type" => create.pipe_type = choose(&key, &value, &TYPES)?,
                "read" => create.read_mode = choose(&key, &value, &READ_MODES)?,
                "wait" => create.wait_mode = choose(&key, &value, &WAIT_MODES)?,
                "max" => create.max = MaxCount(parse(&key, &value)?),
                "in" => create.in_quota = parse(&key, &value)?,
                "out" => create.out_quota = parse(&key, &value)?,
                "quota" => {
                    create.in_quota = parse(&key, &value)?;
                    create.out_quota = create.in_quota;
                }
                "timeout" => {
                    create.timeout = match value.as_str() {
                        "default" => DefaultTimeout::default(),
                        "forever" => DefaultTimeout::Forever,
                        value => DefaultTimeout::After(duration(value)?),
                    }
                }
                _ => return Err(unknown(&key, CREATE_KEYS)),
            }
        }
    }

    fn create_pipe(&mut self) -> Result<Operation, String> {
        let mut size = 0;
        while let Some((key, value)) = self.pair() {
            match key.as_str() {
                "size" => size = parse(&key, &value)?,
                _ => return Err(unknown(&key, "size")),
            }
        }
        Ok(Operation::CreatePipe { size })
    }

    fn open(&mut self) -> Result<Open, String> {
        let mut open = Open::default();
        while let Some((key, value)) = self.pair() {
            match key.as_str() {
                "name" => open.place = Where::Name(value),
                "path" => open.place = Where::Path(value),
                "access" => {
                    open.access = match value.strip_prefix("0x") {
                        Some(digits) => Rights::Mask(mask(digits)?),
                        None => choose(&key, &value, &RIGHTS)?,
                    }
                }
                _ => return Err(unknown(&key, "name, path, access")),
            }
        }
        Ok(open)
    }

    /// `client` or another actor of the same kind.
    fn clone_of(&mut self, actor: &Label) -> Result<Operation, String> {
        let of = self.word("whose end")?;
        match Label::new(&of) {
            Some(of) if of.role() == actor.role() && of != *actor => Ok(Operation::Clone { of }),
            Some(_) | None => Err(format!("expected another actor of its kind, got `{of}`")),
        }
    }

    fn place(&mut self) -> Result<Where, String> {
        match self.pair() {
            None => Ok(Where::default()),
            Some((key, value)) => match key.as_str() {
                "name" => Ok(Where::Name(value)),
                "path" => Ok(Where::Path(value)),
                _ => Err(unknown(&key, "name, path")),
            },
        }
    }

    fn wait(&mut self) -> Result<Operation, String> {
        Ok(Operation::Wait {
            place: self.place()?,
            timeout: self.timeout()?,
        })
    }

    fn call(&mut self) -> Result<Operation, String> {
        Ok(Operation::Call {
            place: self.place()?,
            data: self.content()?,
            size: self.number()?,
            timeout: self.timeout()?,
        })
    }

    fn timeout(&mut self) -> Result<WaitTimeout, String> {
        Ok(
            match self.word("a time, `default` or `forever`")?.as_str() {
                "default" => WaitTimeout::Default,
                "forever" => WaitTimeout::Forever,
                time => WaitTimeout::After(duration(time)?),
            },
        )
    }

    fn within(&mut self) -> Result<Option<Duration>, String> {
        if !self.take_word("within") {
            return Ok(None);
        }
        duration(&self.word("a time")?).map(Some)
    }

    fn set_mode(&mut self) -> Result<SetMode, String> {
        let read_mode = choose("set-mode", &self.word("`byte` or `message`")?, &READ_MODES)?;
        let wait_mode = match self.take_word("nowait") {
            true => WaitMode::NoWait,
            false => WaitMode::Wait,
        };
        Ok(SetMode {
            read_mode,
            wait_mode,
        })
    }

    /// `"text"`, `bytes 100` or `bytes 100 from 50`, several joined by `+`.
    fn content(&mut self) -> Result<Vec<u8>, String> {
        let mut content = Vec::new();
        loop {
            match self.next() {
                Some(Token::Text(text)) => content.extend(text),
                Some(Token::Word(word)) if word == "bytes" => {
                    let len = self.number()?;
                    let from = if self.take_word("from") {
                        self.number()?
                    } else {
                        0
                    };
                    content.extend(pattern(from, len));
                }
                other => return Err(wrong("text or `bytes`", other.as_ref())),
            }
            if !self.take(&Token::Plus) {
                return Ok(content);
            }
        }
    }

    fn outcome(&mut self, answers: Answers) -> Result<Outcome, String> {
        let word = self.word("`ok`, `more`, `pending` or an error number")?;
        match (word.as_str(), answers) {
            ("pending", _) => Ok(Outcome::Pending),
            ("more", Answers::Data | Answers::Any) => Ok(Outcome::Read {
                data: self.content()?,
                more: true,
            }),
            ("ok", Answers::Nothing) => Ok(Outcome::Done),
            ("ok", Answers::Count) => Ok(Outcome::Wrote(self.number()?)),
            ("ok", Answers::Data) => Ok(Outcome::Read {
                data: self.content()?,
                more: false,
            }),
            ("ok", Answers::Told) => self.told(),
            ("ok", Answers::Process) => {
                let label = self.word("whose process")?;
                let label = Label::new(&label).ok_or("expected whose process")?;
                Ok(Outcome::Process(label.process()))
            }
            ("ok", Answers::Any) => self.any(),
            (word, _) => self.error(word),
        }
    }

    fn any(&mut self) -> Result<Outcome, String> {
        match self.ahead() {
            None => Ok(Outcome::Done),
            Some(Token::Word(word)) if word.parse::<usize>().is_ok() => {
                Ok(Outcome::Wrote(self.number()?))
            }
            Some(_) => Ok(Outcome::Read {
                data: self.content()?,
                more: false,
            }),
        }
    }

    fn told(&mut self) -> Result<Outcome, String> {
        let data = match self.ahead() {
            Some(Token::Pair(..)) | None => None,
            Some(_) => Some(self.content()?),
        };
        let mut facts = Facts::default();
        while let Some((name, value)) = self.pair() {
            if !Facts::NAMES.contains(&name.as_str()) {
                return Err(unknown(&name, &Facts::NAMES.join(", ")));
            }
            facts = facts.with(&name, value);
        }
        Ok(Outcome::Told { data, facts })
    }

    /// An error by its number; its symbol may follow, and must then be the right one.
    fn error(&mut self, word: &str) -> Result<Outcome, String> {
        let code = word.parse().ok().and_then(NonZeroU32::new);
        let error = Error::from_code(code.ok_or_else(|| {
            format!("expected `ok`, `more`, `pending` or an error number, got `{word}`")
        })?);
        if let Some(Token::Word(symbol)) = self.ahead() {
            if error.name() != Some(symbol.as_str()) {
                return Err(format!(
                    "expected the symbol of error {word}, got `{symbol}`"
                ));
            }
            self.next();
        }
        Ok(Outcome::Failed(error))
    }

    fn next(&mut self) -> Option<Token> {
        self.ahead.take().or_else(|| self.tokens.next())
    }

    fn ahead(&mut self) -> Option<&Token> {
        if self.ahead.is_none() {
            self.ahead = self.tokens.next();
        }
        self.ahead.as_ref()
    }

    fn take(&mut self, token: &Token) -> bool {
        let found = self.ahead() == Some(token);
        if found {
            self.ahead = None;
        }
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        self.take(&Token::Word(word.to_owned()))
    }

    fn word(&mut self, expected: &str) -> Result<String, String> {
        match self.next() {
            Some(Token::Word(word)) => Ok(word),
            other => Err(wrong(expected, other.as_ref())),
        }
    }

    fn pair(&mut self) -> Option<(String, String)> {
        match self.ahead.take().or_else(|| self.tokens.next()) {
            Some(Token::Pair(key, value)) => Some((key, value)),
            other => {
                self.ahead = other;
                None
            }
        }
    }

    fn number(&mut self) -> Result<usize, String> {
        let word = self.word("a number")?;
        word.parse()
            .map_err(|_| format!("expected a number, got `{word}`"))
    }

    fn wrong(&mut self, expected: &str) -> String {
        wrong(expected, self.ahead())
    }
}

fn wrong(expected: &str, got: Option<&Token>) -> String {
    match got {
        Some(token) => format!("expected {expected}, got {}", token.describe()),
        None => format!("expected {expected}, got the end of the line"),
    }
}

fn unknown(key: &str, known: &str) -> String {
    format!("expected one of {known}, got `{key}=`")
}

fn parse<T: FromStr>(key: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("expected a number for {key}, got `{value}`"))
}

fn mask(digits: &str) -> Result<u32, String> {
    u32::from_str_radix(digits, 16)
        .map_err(|_| format!("expected a mask such as 0x00120089, got `0x{digits}`"))
}

fn choose<T: Copy>(key: &str, value: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == value);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        format!("expected {} for {key}, got `{value}`", names.join(" or "))
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a time such as 50ms or 2s, got `{text}`");
    let (digits, unit) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s').ok_or_else(wrong)?, 1000),
    };
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    Ok(Duration::from_millis(count.saturating_mul(unit)))
}

const VERBS: &str = "connect, disconnect, close, write, read, peek, flush, transact, set-mode, \
                     info, local-info, access, name, cancel-io, client-session, server-session, \
                     client-process, server-process or kill (a server or a pipe can create, a \
                     client can open, both can clone)";
const CREATE_KEYS: &str = "name, path, direction, type, read, wait, max, in, out, quota, timeout";
const DIRECTIONS: [(&str, Direction); 3] = [
    ("inbound", Direction::Inbound),
    ("outbound", Direction::Outbound),
    ("duplex", Direction::Duplex),
];
const TYPES: [(&str, PipeType); 2] = [("byte", PipeType::Byte), ("message", PipeType::Message)];
const READ_MODES: [(&str, ReadMode); 2] =
    [("byte", ReadMode::Byte), ("message", ReadMode::Message)];
const WAIT_MODES: [(&str, WaitMode); 2] = [("yes", WaitMode::Wait), ("no", WaitMode::NoWait)];
const RIGHTS: [(&str, Rights); 4] = [
    ("both", Rights::Both),
    ("read", Rights::Read),
    ("write", Rights::Write),
    ("none", Rights::None),
];

#[cfg(test)]
mod tests;
