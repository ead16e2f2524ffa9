//! Wine: the Win32 functions of another implementation, called by a small program of ours.
//!
//! The program (`wine/driver.c`) holds all ends in one process and does what it is told line by
//! line. Whether an operation pends is a matter of a short time there, and not certain.

use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ntpipe_proto::{DefaultTimeout, Direction, Error, PipeType, ReadMode, WaitMode, WaitTimeout};

use crate::processes::{Answer, hex};
use crate::{
    Action, Create, Driver, Label, Operation, Outcome, Patience, Rights, SetMode, Step, Tag,
    Trouble, Where,
};

/// The driver of Wine; `wine` is looked for in the path.
#[derive(Debug)]
pub struct Wine {
    program: PathBuf,
    running: Option<Running>,
    case: u64,
    /// The numbers of ends.
    ends: BTreeMap<Label, usize>,
    numbered: usize,
    operations: BTreeMap<Tag, usize>,
    begun: usize,
    /// A call that may go on by itself when an instance comes.
    call: Option<usize>,
}

#[derive(Debug)]
struct Running {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Wine {
    /// A driver that has not started yet; `program` is `wine/driver.c`, compiled for Windows.
    pub fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            running: None,
            case: 0,
            ends: BTreeMap::new(),
            numbered: 0,
            operations: BTreeMap::new(),
            begun: 0,
            call: None,
        }
    }

    fn ask(&mut self, request: &str) -> Result<Answer, Trouble> {
        let result = match &mut self.running {
            Some(running) => running.ask(request),
            None => Err(Trouble("Wine does not run".to_owned())),
        };
        if result.is_err() {
            self.running = None;
        }
        let answer = result?;
        if let Answer::Trouble(message) = answer {
            return Err(Trouble(message));
        }
        Ok(answer)
    }

    fn end(&mut self, label: &Label) -> usize {
        // A number is not used again: its operations may still go on.
        *self.ends.entry(label.clone()).or_insert_with(|| {
            self.numbered += 1;
            self.numbered
        })
    }

    /// What the program calls this pipe.
    fn path(&self, place: &Where) -> String {
        let path = match place {
            Where::Name(name) => format!(r"\\.\pipe\{name}-{}", self.case),
            Where::Path(path) => path.clone(),
        };
        format!("x{}", hex(path.as_bytes()))
    }

    /// Does an operation that can wait.
    fn begin(
        &mut self,
        step: &Step,
        tag: Option<&Tag>,
        request: &str,
        within: Option<Duration>,
    ) -> Result<Outcome, Trouble> {
        self.begun += 1;
        let number = self.begun;
        if let Some(tag) = tag {
            self.operations.insert(tag.clone(), number);
        }
        self.ask(&format!("begin {number} {request}"))?;
        let Some(time) = within else {
            return self.outcome(step, number);
        };
        let asked = self.ask(&format!("ask {number} {}", time.as_millis()))?;
        if asked != Answer::Outcome(Outcome::Pending) {
            return outcome(step, asked);
        }
        self.ask(&format!("cancel {number}"))?;
        // That is what a limited time means here; Windows has none.
        let outcome = self.outcome(step, number)?;
        Ok(match outcome == Outcome::Failed(Error::OPERATION_ABORTED) {
            true => Outcome::Failed(Error::SEM_TIMEOUT),
            false => outcome,
        })
    }

    fn outcome(&mut self, step: &Step, number: usize) -> Result<Outcome, Trouble> {
        let time = match step.patience() {
            Patience::Brief => BRIEF,
            Patience::Long => LONG,
        };
        let answer = self.ask(&format!("ask {number} {}", time.as_millis()))?;
        outcome(step, answer)
    }

    fn number(&self, tag: &Tag) -> Result<usize, Trouble> {
        let number = self.operations.get(tag).copied();
        number.ok_or_else(|| Trouble(format!("nothing is called {tag}")))
    }

    fn operate(
        &mut self,
        step: &Step,
        tag: Option<&Tag>,
        actor: &Label,
        operation: &Operation,
    ) -> Result<Outcome, Trouble> {
        let known = self.ends.contains_key(actor);
        if operation.needs_end() && !known {
            return Err(Trouble(format!("{actor} is not open")));
        }
        let at = match operation.needs_end() {
            true => self.end(actor),
            false => 0,
        };
        let request = match operation {
            Operation::Connect { within } => {
                return self.begin(step, tag, &format!("connect {at}"), *within);
            }
            Operation::Write { data, within } => {
                return self.begin(step, tag, &format!("write {at} x{}", hex(data)), *within);
            }
            Operation::Read { size, within } => {
                return self.begin(step, tag, &format!("read {at} {size}"), *within);
            }
            Operation::Flush { within } => {
                return self.begin(step, tag, &format!("flush {at}"), *within);
            }
            Operation::Transact { data, size, within } => {
                let request = format!("transact {at} x{} {size}", hex(data));
                return self.begin(step, tag, &request, *within);
            }
            Operation::Call {
                place,
                data,
                size,
                timeout,
            } => {
                let (path, timeout) = (self.path(place), milliseconds(*timeout));
                let request = format!("call {path} x{} {size} {timeout}", hex(data));
                let outcome = self.begin(step, tag, &request, None);
                self.call = Some(self.begun);
                return outcome;
            }
            Operation::Wait { place, timeout } => {
                let request = format!("wait {} {}", self.path(place), milliseconds(*timeout));
                return self.begin(step, tag, &request, None);
            }
            Operation::Create(options) => self.create(actor, options),
            Operation::CreatePipe { size } => {
                let (reader, writer) = actor.ends();
                format!(
                    "create-pipe {} {} {size}",
                    self.end(&reader),
                    self.end(&writer)
                )
            }
            Operation::Open(open) => {
                let access = match open.access {
                    Rights::Both => GENERIC_READ | GENERIC_WRITE,
                    Rights::Read => GENERIC_READ,
                    Rights::Write => GENERIC_WRITE,
                    Rights::None => 0,
                    Rights::Mask(mask) => mask,
                };
                format!(
                    "open {} {} {access}",
                    self.end(actor),
                    self.path(&open.place)
                )
            }
            Operation::Clone { of } => format!("clone {} {}", self.end(actor), self.end(of)),
            Operation::Disconnect => format!("disconnect {at}"),
            Operation::Close => {
                self.ends.retain(|label, _| label != actor);
                format!("close {at}")
            }
            Operation::Peek { size } => format!("peek {at} {size}"),
            Operation::SetMode(mode) => format!("set-mode {at} {}", bits(*mode)),
            Operation::Info => format!("info {at}"),
            Operation::CancelIo => format!("cancel-io {at}"),
            Operation::ClientProcess => format!("client-process {at}"),
            Operation::ServerProcess => format!("server-process {at}"),
            Operation::LocalInfo
            | Operation::Granted
            | Operation::Name
            | Operation::ClientSession
            | Operation::ServerSession
            | Operation::Kill => return Err(Trouble("there is no such request".to_owned())),
        };
        let answer = self.ask(&request)?;
        outcome(step, answer)
    }

    fn create(&mut self, actor: &Label, create: &Create) -> String {
        let direction = match create.direction {
            Direction::Inbound => 1,
            Direction::Outbound => 2,
            Direction::Duplex => 3,
        };
        let first = if create.first { FIRST } else { 0 };
        let message = if create.pipe_type == PipeType::Message {
            4
        } else {
            0
        };
        let mode = message
            | bits(SetMode {
                read_mode: create.read_mode,
                wait_mode: create.wait_mode,
            });
        let timeout = match create.timeout {
            timeout if timeout == DefaultTimeout::default() => 0,
            DefaultTimeout::Forever => u128::from(u32::MAX),
            DefaultTimeout::After(time) => time.as_millis(),
        };
        format!(
            "create {} {} {} {mode} {} {} {} {timeout}",
            self.end(actor),
            self.path(&create.place),
            direction | first | OVERLAPPED,
            create.max.0,
            create.out_quota,
            create.in_quota,
        )
    }
}

impl Driver for Wine {
    fn name(&self) -> &'static str {
        "wine"
    }

    fn lacks(&self, step: &Step) -> Option<&'static str> {
        let Action::Begin { operation, .. } = &step.action else {
            return None;
        };
        let lacks = matches!(
            operation,
            Operation::LocalInfo
                | Operation::Granted
                | Operation::Name
                | Operation::ClientSession
                | Operation::ServerSession
                | Operation::Kill
        );
        lacks.then_some("the program for Wine has no such request")
    }

    fn start(&mut self) -> Result<(), Trouble> {
        self.case += 1;
        if self.running.is_none() {
            let running = Running::start(&self.program);
            self.running = Some(running.map_err(|error| Trouble(format!("wine: {error}")))?);
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<Outcome, Trouble> {
        if let Some(number) = self.call
            && !step.at_once
        {
            self.ask(&format!("ask {number} {}", BRIEF.as_millis()))?;
        }
        match &step.action {
            Action::Begin {
                tag,
                actor,
                operation,
            } => self.operate(step, tag.as_ref(), actor, operation),
            Action::Check(tag) if step.at_once => {
                let number = self.number(tag)?;
                let answer = self.ask(&format!("ask {number} 0"))?;
                outcome(step, answer)
            }
            Action::Check(tag) => {
                let number = self.number(tag)?;
                self.outcome(step, number)
            }
            Action::Cancel(tag) => {
                let number = self.number(tag)?;
                let answer = self.ask(&format!("cancel {number}"))?;
                outcome(step, answer)
            }
        }
    }

    fn finish(&mut self) {
        self.ends.clear();
        self.operations.clear();
        (self.numbered, self.begun, self.call) = (0, 0, None);
        // One that fails here is started again for the next case.
        let _ = self.ask("reset");
    }
}

impl Running {
    fn start(program: &Path) -> std::io::Result<Self> {
        let mut process = Command::new("wine")
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || std::io::Error::other("no standard streams");
        let requests = process.stdin.take().ok_or_else(missing)?;
        let answers = BufReader::new(process.stdout.take().ok_or_else(missing)?);
        Ok(Self {
            process,
            requests,
            answers,
        })
    }

    fn ask(&mut self, request: &str) -> Result<Answer, Trouble> {
        let failed = |error: std::io::Error| Trouble(format!("wine: {error}"));
        let line = format!("{request}\n");
        self.requests.write_all(line.as_bytes()).map_err(failed)?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(failed)?;
        let line = line.trim_end();
        Answer::parse(line).ok_or_else(|| Trouble(format!("wine says `{line}`")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What an answer means for this step.
fn outcome(step: &Step, answer: Answer) -> Result<Outcome, Trouble> {
    match answer {
        Answer::Outcome(Outcome::Told { data, mut facts }) => {
            // Win32 does not tell how many messages there are; that is left open.
            if let Outcome::Told { facts: wanted, .. } = &step.expected.0 {
                let open = wanted.0.iter().filter(|(name, _)| name == "messages");
                facts.0.extend(open.cloned());
            }
            // Nor is there another word for all instances than this number.
            for (_, value) in facts.0.iter_mut().filter(|(name, _)| name == "max") {
                if *value == u32::MAX.to_string() {
                    "255".clone_into(value);
                }
            }
            Ok(Outcome::Told { data, facts })
        }
        Answer::Outcome(outcome) => Ok(outcome),
        // All live in one process, so that whose it is cannot be told.
        Answer::Process(_) => match (&step.expected.0, &step.action) {
            (Outcome::Process(label), _) => Ok(Outcome::Process(label.clone())),
            (_, Action::Begin { actor, .. }) => Ok(Outcome::Process(actor.process())),
            (_, _) => Err(Trouble("wine tells a process".to_owned())),
        },
        Answer::Begun
        | Answer::Session(_)
        | Answer::Moving
        | Answer::Still(_)
        | Answer::Trouble(_) => Err(Trouble(format!("wine says `{answer}`"))),
    }
}

fn bits(mode: SetMode) -> u32 {
    let message = if mode.read_mode == ReadMode::Message {
        2
    } else {
        0
    };
    let no_wait = if mode.wait_mode == WaitMode::NoWait {
        1
    } else {
        0
    };
    message | no_wait
}

fn milliseconds(timeout: WaitTimeout) -> u128 {
    match timeout {
        WaitTimeout::Default => 0,
        WaitTimeout::Forever => u128::from(u32::MAX),
        WaitTimeout::After(time) => time.as_millis().max(1),
    }
}

const GENERIC_READ: u32 = 0x8000_0000;
const GENERIC_WRITE: u32 = 0x4000_0000;
const FIRST: u32 = 0x0008_0000;
const OVERLAPPED: u32 = 0x4000_0000;

/// What takes longer is taken to pend.
const BRIEF: Duration = Duration::from_millis(50);
/// What is to finish has this long.
const LONG: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn told(step: &str, answer: &str) -> bool {
        let step = Step::parse(step, 1).unwrap();
        let answer = Answer::parse(answer).unwrap();
        step.expected.is_met_by(&outcome(&step, answer).unwrap())
    }

    #[test]
    fn what_win32_does_not_tell_is_left_open() {
        let peek = "server peek 9 -> ok \"ab\" avail=2 messages=1";
        assert!(told(peek, "told 6162 avail=2 left=0"));
        assert!(!told(peek, "told 6162 avail=3 left=0"));
        assert!(told(
            "server info -> ok max=255",
            "told none max=4294967295"
        ));
        assert!(told("client server-process -> ok server", "process 1"));
        assert!(!told("client server-process -> 233", "process 1"));
    }

    #[test]
    fn a_program_that_is_missing_is_told() {
        let mut wine = Wine::new(Path::new("/nowhere/driver.exe"));
        assert!(wine.ask("reset").is_err());
    }

    #[test]
    fn a_create_says_all_that_the_function_takes() {
        let step = Step::parse(
            "server create type=message read=message direction=inbound in=1 out=2 max=3 \
             timeout=forever first",
            1,
        );
        let mut wine = Wine::new(Path::new("driver.exe"));
        let Action::Begin {
            actor,
            operation: Operation::Create(create),
            ..
        } = step.unwrap().action
        else {
            panic!("it is a create");
        };
        let path = hex(br"\\.\pipe\pipe-0");
        let expected = format!("create 1 x{path} 1074266113 6 3 2 1 4294967295");
        assert_eq!(wine.create(&actor, &create), expected);
    }
}
