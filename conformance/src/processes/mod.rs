//! Real ends, in processes of their own: all in one, or one process for all that are called server
//! and one for each other actor.
//!
//! The processes are this program again, as [workers](work); the driver sends each the steps of
//! its actors. A worker does every operation in a thread of its own, or in a [task](crate::tasks),
//! so that any can wait.
//!
//! Whether an operation pends is not a matter of time: it does when no thread of any worker runs
//! and none can be woken but by a next step; see [`still`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Action, Case, Driver, Label, Operation, Outcome, Patience, Step, Tag, Trouble, tasks};

mod child;
use child::Worker;

mod ends;
pub(crate) use ends::{address, local, mode, named, outcome, wait_time, waits, which};

mod lacks;

mod still;

mod wire;
use wire::Request;
pub(crate) use wire::{Answer, hex};

mod worker;
pub use worker::work;
pub(crate) use worker::{Hands, Progress};

/// The driver of real processes.
#[derive(Debug)]
pub struct Processes {
    layout: Layout,
    interface: Interface,
    program: PathBuf,
    /// Where the names live; made for the first case.
    directory: Option<PathBuf>,
    case: u64,
    deadline: Instant,
    /// By the process of their actors.
    workers: BTreeMap<Label, Worker>,
    /// Workers of earlier cases, if those are used again.
    idle: BTreeMap<Label, Worker>,
    lasting: bool,
    /// The workers did not all answer what they were asked.
    troubled: bool,
    /// The processes of this case, the dead ones too, and the actors in them.
    ids: BTreeMap<u32, Vec<Label>>,
    operations: BTreeMap<Tag, Id>,
    /// Those that had not finished when they were last looked at.
    unfinished: BTreeSet<Tag>,
    next: u64,
}

/// Who lives in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Everybody.
    Together,
    /// Nobody but those that share it by their [names](Label::process).
    Apart,
}

/// The interface of `ntpipe` that does the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// The blocking one; each operation has a thread.
    Blocking,
    /// That for tokio; each operation is a task of a runtime of one thread.
    Tokio,
    /// That for tokio, on a runtime of several threads.
    TokioThreads,
}

impl Interface {
    /// The word by which a worker is told.
    const fn word(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Tokio => "tokio",
            Self::TokioThreads => "tokio-threads",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        let mut all = [Self::Blocking, Self::Tokio, Self::TokioThreads].into_iter();
        all.find(|interface| interface.word() == word)
    }
}

/// An operation, and the process that does it.
#[derive(Debug, Clone)]
struct Id {
    process: Label,
    number: u64,
    /// It may end because its time is over.
    timed: bool,
}

impl Processes {
    /// A driver of the blocking interface without any process yet; `program` is this crate's.
    pub fn new(program: &Path, layout: Layout) -> Self {
        Self {
            layout,
            interface: Interface::Blocking,
            program: program.to_owned(),
            directory: None,
            case: 0,
            deadline: Instant::now(),
            workers: BTreeMap::new(),
            idle: BTreeMap::new(),
            lasting: false,
            troubled: false,
            ids: BTreeMap::new(),
            operations: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            next: 0,
        }
    }

    /// A driver whose processes live on from one case to the next, for many short ones.
    pub fn lasting(program: &Path, layout: Layout) -> Self {
        let mut driver = Self::new(program, layout);
        driver.lasting = true;
        driver
    }

    /// The same driver for another interface.
    #[must_use]
    pub fn through(mut self, interface: Interface) -> Self {
        self.interface = interface;
        self
    }

    /// The worker for a process of this case, one of an earlier case if there is one.
    fn employ(&mut self, process: &Label) -> Result<Worker, Trouble> {
        let suffix = self.case.to_string();
        if let Some(mut worker) = self.idle.remove(process) {
            worker.send(&Request::Renew(suffix.clone()))?;
            // One that is still at work on an earlier case is no use.
            if worker.receive(self.deadline) == Ok(Answer::Begun) {
                return Ok(worker);
            }
        }
        let directory =
            (self.directory.as_deref()).ok_or_else(|| Trouble("no case has begun".to_owned()))?;
        let word = self.interface.word();
        Worker::start(&self.program, directory, word, &suffix)
            .map_err(|error| Trouble(format!("no worker can be started: {error}")))
    }

    /// Closes all ends of the case, so that its workers can be used again.
    fn release(&mut self) -> Result<(), Trouble> {
        for worker in self.workers.values_mut() {
            worker.send(&Request::Release)?;
        }
        for worker in self.workers.values() {
            worker.receive(self.deadline)?;
        }
        // What was under way ends by that.
        if !self.unfinished.is_empty() {
            self.settle()?;
        }
        self.idle.append(&mut self.workers);
        Ok(())
    }

    /// Begins the operation of a step in the actor's process, which is started if need be.
    fn begin(&mut self, actor: &Label, step: &Step, timed: bool) -> Result<Id, Trouble> {
        let process = self.process(actor);
        if !self.workers.contains_key(&process) {
            let worker = self.employ(&process)?;
            self.workers.insert(process.clone(), worker);
        }
        if let Some(worker) = self.workers.get(&process) {
            let actors = self.ids.entry(worker.id()).or_default();
            actors.push(actor.process());
        }
        let id = Id {
            process,
            number: self.next,
            timed,
        };
        self.next += 1;
        let answer = self.exchange(&id, &Request::Begin(id.number, step.text.clone()))?;
        match answer == Answer::Begun {
            true => Ok(id),
            false => Err(unexpected(&answer)),
        }
    }

    /// What has become of an operation, when it has finished or nothing moves any more.
    fn outcome(&mut self, id: &Id, step: &Step) -> Result<Outcome, Trouble> {
        let pending = Answer::Outcome(Outcome::Pending);
        let mut answer = pending.clone();
        if step.patience() == Patience::Long {
            answer = self.exchange(id, &Request::Await(id.number))?;
            while id.timed && answer == pending && Instant::now() < self.deadline {
                answer = self.exchange(id, &Request::Await(id.number))?;
            }
        }
        if answer == pending {
            self.settle()?;
            answer = self.exchange(id, &Request::Ask(id.number))?;
        }
        match &answer {
            Answer::Outcome(outcome) => Ok(outcome.clone()),
            Answer::Process(number) => self.whose(*number, step),
            Answer::Session(number) => session(*number, step),
            Answer::Begun | Answer::Moving | Answer::Still(_) | Answer::Trouble(_) => {
                Err(unexpected(&answer))
            }
        }
    }

    /// The actor whose process has this number; of several the one that the step is about.
    fn whose(&self, number: u32, step: &Step) -> Result<Outcome, Trouble> {
        let actors = self.ids.get(&number).map_or(&[][..], Vec::as_slice);
        let meant = |label: &&Label| step.expected.0 == Outcome::Process((*label).clone());
        let actor = actors.iter().find(meant).or_else(|| actors.first());
        match actor {
            Some(actor) => Ok(Outcome::Process(actor.clone())),
            None => Err(Trouble(format!("process {number} is none of this case"))),
        }
    }

    /// The process in which an actor lives, under the name of one that lives there.
    fn process(&self, actor: &Label) -> Label {
        let process = actor.process();
        match self.layout {
            Layout::Apart => process,
            Layout::Together => self.workers.keys().next().cloned().unwrap_or(process),
        }
    }

    /// Waits until no thread of any worker runs; then nothing happens before the next step.
    fn settle(&mut self) -> Result<(), Trouble> {
        let mut before = None;
        loop {
            let now = self.look()?;
            if now.is_some() && now == before {
                return Ok(());
            }
            if Instant::now() >= self.deadline {
                return Err(Trouble("the workers did not come to rest".to_owned()));
            }
            before = now;
            std::thread::yield_now();
        }
    }

    /// What all workers say of their threads; `None` if one of those runs.
    fn look(&mut self) -> Result<Option<Vec<String>>, Trouble> {
        for worker in self.workers.values_mut() {
            worker.send(&Request::Look)?;
        }
        let mut all = Some(Vec::new());
        for worker in self.workers.values() {
            match (worker.receive(self.deadline)?, &mut all) {
                (Answer::Still(threads), Some(all)) => all.push(threads),
                (Answer::Still(_), None) => {}
                (Answer::Moving, all) => *all = None,
                (other, _) => return Err(unexpected(&other)),
            }
        }
        Ok(all)
    }

    fn exchange(&mut self, id: &Id, request: &Request) -> Result<Answer, Trouble> {
        let worker = self.workers.get_mut(&id.process);
        let worker = worker.ok_or_else(|| Trouble(format!("{} is dead", id.process)))?;
        worker.send(request)?;
        worker.receive(self.deadline)
    }

    fn id(&self, tag: &Tag) -> Result<Id, Trouble> {
        let id = self.operations.get(tag).cloned();
        id.ok_or_else(|| Trouble(format!("nothing is called {tag}")))
    }

    fn do_step(&mut self, step: &Step) -> Result<Outcome, Trouble> {
        // What the steps before set free happens before this one. A task that finds something on
        // its way takes another turn, where a thread waits a moment for it.
        let goes_on = !self.unfinished.is_empty() || self.interface != Interface::Blocking;
        if goes_on && !step.at_once {
            self.settle()?;
        }
        let (id, tag) = match &step.action {
            Action::Begin {
                actor,
                operation: Operation::Kill,
                ..
            } => return self.kill(&actor.process()),
            Action::Begin {
                tag,
                actor,
                operation,
            } => {
                let id = self.begin(actor, step, operation.has_time())?;
                if let Some(tag) = tag {
                    self.operations.insert(tag.clone(), id.clone());
                    self.unfinished.insert(tag.clone());
                }
                (id, tag.as_ref())
            }
            Action::Check(tag) => (self.id(tag)?, Some(tag)),
            Action::Cancel(tag) => return self.cancel(tag),
        };
        let outcome = self.outcome(&id, step)?;
        if outcome != Outcome::Pending
            && let Some(tag) = tag
        {
            self.unfinished.remove(tag);
        }
        Ok(outcome)
    }

    /// Ends the call of the operation's thread.
    fn cancel(&mut self, tag: &Tag) -> Result<Outcome, Trouble> {
        let id = self.id(tag)?;
        let answer = self.exchange(&id, &Request::Cancel(id.number))?;
        let Answer::Outcome(outcome) = answer else {
            return Err(unexpected(&answer));
        };
        Ok(outcome)
    }

    fn kill(&mut self, process: &Label) -> Result<Outcome, Trouble> {
        match self.workers.remove(process) {
            Some(worker) => drop(worker),
            None => return Err(Trouble(format!("{process} has no process"))),
        }
        // The survivors hear of it from the kernel.
        self.settle()?;
        Ok(Outcome::Done)
    }
}

impl Driver for Processes {
    fn name(&self) -> &'static str {
        match (self.interface, self.layout) {
            (Interface::Blocking, Layout::Together) => "same-process",
            (Interface::Blocking, Layout::Apart) => "processes",
            (Interface::Tokio, Layout::Together) => "tokio",
            (Interface::TokioThreads, Layout::Together) => "tokio-threads",
            (Interface::Tokio, Layout::Apart) => "tokio-processes",
            (Interface::TokioThreads, Layout::Apart) => "tokio-threads-processes",
        }
    }

    fn lacks(&self, step: &Step) -> Option<&'static str> {
        match self.interface {
            Interface::Blocking => lacks::lacks(self.layout, step),
            Interface::Tokio | Interface::TokioThreads => tasks::lacks(self.layout, step),
        }
    }

    fn lacks_together(&self, case: &Case) -> Option<&'static str> {
        match self.interface {
            Interface::Blocking => None,
            Interface::Tokio | Interface::TokioThreads => {
                tasks::lacks_together(self.interface, case)
            }
        }
    }

    fn start(&mut self) -> Result<(), Trouble> {
        if self.directory.is_none() {
            let made = make_directory();
            self.directory = Some(made.map_err(|error| Trouble(error.to_string()))?);
        }
        self.case += 1;
        self.deadline = Instant::now() + WATCHDOG;
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<Outcome, Trouble> {
        let result = self.do_step(step);
        self.troubled |= result.is_err();
        result
    }

    fn finish(&mut self) {
        if !self.lasting || self.troubled || self.release().is_err() {
            self.idle.clear();
        }
        self.workers.clear();
        self.troubled = false;
        self.ids.clear();
        self.operations.clear();
        self.unfinished.clear();
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.workers.clear();
        self.idle.clear();
        if let Some(directory) = &self.directory {
            // It lies among the temporary files; there is nobody to tell.
            let _ = fs::remove_dir_all(directory);
        }
    }
}

fn make_directory() -> io::Result<PathBuf> {
    let mut number = 0_u32;
    loop {
        let name = format!("ntpipe-conformance-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Whose session this is: the workers all have this process's, whoever the step is about.
fn session(number: u32, step: &Step) -> Result<Outcome, Trouble> {
    let text = fs::read_to_string("/proc/self/sessionid").unwrap_or_default();
    // A process that no login has started has the largest number there, and 0 as on Windows.
    let own = text.trim().parse().ok().filter(|id| *id != u32::MAX);
    match (&step.expected.0, own.unwrap_or(0) == number) {
        (Outcome::Process(label), true) => Ok(Outcome::Process(label.clone())),
        _ => Err(Trouble(format!("the session is {number}"))),
    }
}

fn unexpected(answer: &Answer) -> Trouble {
    Trouble(format!("the worker says `{answer}`"))
}

/// How long a case may take, also where many other programs run.
const WATCHDOG: Duration = Duration::from_secs(60);
