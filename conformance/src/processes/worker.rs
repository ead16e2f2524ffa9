//! The worker: a process that holds ends of pipes, and does what the driver says.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ntpipe::{Canceller, IoErrorExt};

use super::Interface;
use super::ends::{End, perform};
use super::still::look;
use super::wire::{Answer, Request};
use crate::{Action, Label, Operation, Outcome, Step, tasks};

/// Does what the driver says, line by line, until it says nothing more.
///
/// `interface` is the word for an [`Interface`]; `suffix` makes the pipes' names the case's own.
///
/// # Errors
/// When the driver can't be heard or told any more, or the interface can't be had.
pub fn work(interface: &str, suffix: &str) -> io::Result<()> {
    match Interface::parse(interface) {
        Some(Interface::Blocking) => serve(Worker {
            suffix: suffix.to_owned(),
            ends: Ends::default(),
            operations: BTreeMap::new(),
            cancellers: BTreeMap::new(),
        }),
        Some(Interface::Tokio) => serve(tasks::Worker::on_one_thread(suffix)?),
        Some(Interface::TokioThreads) => serve(tasks::Worker::on_threads(suffix)?),
        None => Err(io::Error::other("there is no such interface")),
    }
}

/// One interface of the pipes, in the hands of the driver.
pub(crate) trait Hands {
    /// Begins the operation of a step under a number.
    fn begin(&mut self, number: u64, step: &str) -> Result<Answer, String>;

    /// Ends an operation before it is done.
    fn cancel(&mut self, number: u64) -> Result<Answer, String>;

    /// How far an operation has come.
    fn progress(&mut self, number: u64) -> Result<&mut Progress, String>;

    /// Closes all ends; those of servers are disconnected, which ends what pends at either end.
    fn release(&mut self);

    /// Forgets all operations and has another suffix from now on.
    fn renew(&mut self, suffix: String) -> Result<(), String>;
}

fn serve(mut hands: impl Hands) -> io::Result<()> {
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let answer = answer(&mut hands, &line?);
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn answer(hands: &mut impl Hands, line: &str) -> Answer {
    let result = match Request::parse(line) {
        Some(Request::Begin(number, step)) => hands.begin(number, &step),
        Some(Request::Await(number)) => hands.progress(number).map(Progress::wait),
        Some(Request::Ask(number)) => hands.progress(number).map(Progress::ask),
        Some(Request::Cancel(number)) => hands.cancel(number),
        Some(Request::Look) => match look() {
            Ok(Some(threads)) => Ok(Answer::Still(threads)),
            Ok(None) => Ok(Answer::Moving),
            Err(error) => Err(format!("threads cannot be looked at: {error}")),
        },
        Some(Request::Release) => {
            hands.release();
            Ok(Answer::Begun)
        }
        Some(Request::Renew(suffix)) => hands.renew(suffix).map(|()| Answer::Begun),
        None => Err(format!("nobody knows what `{line}` means")),
    };
    result.unwrap_or_else(Answer::Trouble)
}

/// The ends that this process holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends(Arc<Mutex<BTreeMap<Label, End>>>);

impl Ends {
    pub(super) fn insert(&self, label: Label, end: End) {
        self.lock().insert(label, end);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Label, End>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does each operation in a thread of its own, by the blocking interface.
struct Worker {
    suffix: String,
    ends: Ends,
    operations: BTreeMap<u64, Progress>,
    /// What ends the calls of the operations' threads.
    cancellers: BTreeMap<u64, Canceller>,
}

/// How far an operation has come.
#[derive(Debug)]
pub(crate) enum Progress {
    UnderWay(Receiver<Answer>),
    Finished(Answer),
}

impl Hands for Worker {
    fn release(&mut self) {
        for end in core::mem::take(&mut *self.ends.lock()).into_values() {
            if let End::Server(server) = end {
                // One that is disconnected already is as it should be.
                let _ = server.disconnect();
            }
        }
    }

    fn renew(&mut self, suffix: String) -> Result<(), String> {
        for progress in self.operations.values_mut() {
            if progress.ask() == Answer::Outcome(Outcome::Pending) {
                return Err("an operation is still under way".to_owned());
            }
        }
        self.operations.clear();
        self.cancellers.clear();
        self.suffix = suffix;
        Ok(())
    }

    fn begin(&mut self, number: u64, step: &str) -> Result<Answer, String> {
        let Action::Begin {
            actor, operation, ..
        } = Step::parse(step, 0)?.action
        else {
            return Err(format!("`{step}` begins nothing"));
        };
        let end = self.end(&actor, &operation)?;
        let (sender, receiver) = mpsc::channel();
        let (ends, suffix) = (self.ends.clone(), self.suffix.clone());
        let (tell, told) = mpsc::channel();
        let operate = move || {
            // It is waited for.
            let _ = tell.send(Canceller::current());
            // The end is let go before the answer: then a close by a next step closes it.
            let answer = perform(&ends, &suffix, &actor, end, &operation);
            // The driver may have lost interest.
            let _ = sender.send(answer);
        };
        thread::Builder::new()
            .spawn(operate)
            .map_err(|error| format!("no thread: {error}"))?;
        let canceller = told.recv().map_err(|_| "the thread did not begin")?;
        self.cancellers.insert(number, canceller);
        self.operations.insert(number, Progress::UnderWay(receiver));
        Ok(Answer::Begun)
    }

    fn cancel(&mut self, number: u64) -> Result<Answer, String> {
        let canceller = self.cancellers.get(&number);
        let canceller = canceller.ok_or_else(|| format!("there is no operation {number}"))?;
        match canceller.cancel() {
            Ok(()) => Ok(Answer::Outcome(Outcome::Done)),
            Err(error) => match error.win32() {
                Some(code) => Ok(Answer::Outcome(Outcome::Failed(code))),
                None => Err(error.to_string()),
            },
        }
    }

    fn progress(&mut self, number: u64) -> Result<&mut Progress, String> {
        let progress = self.operations.get_mut(&number);
        progress.ok_or_else(|| format!("there is no operation {number}"))
    }
}

impl Worker {
    /// The end for an operation; a close takes it away.
    fn end(&self, actor: &Label, operation: &Operation) -> Result<Option<End>, String> {
        let mut ends = self.ends.lock();
        if let Operation::Clone { of } = operation {
            return match (ends.get(of), ends.contains_key(actor)) {
                (Some(end), false) => Ok(Some(end.clone())),
                (None, _) => Err(format!("{of} is not open")),
                (Some(_), true) => Err(format!("{actor} is already open")),
            };
        }
        let end = if *operation == Operation::Close {
            ends.remove(actor)
        } else {
            ends.get(actor).cloned()
        };
        match (operation.needs_end(), end) {
            (true, None) => Err(format!("{actor} is not open")),
            (false, Some(_)) => Err(format!("{actor} is already open")),
            (_, end) => Ok(end),
        }
    }
}

impl Progress {
    /// What came of the operation, once it has finished or after a while.
    fn wait(&mut self) -> Answer {
        if let Self::UnderWay(receiver) = self {
            *self = match receiver.recv_timeout(WHILE) {
                Ok(answer) => Self::Finished(answer),
                Err(RecvTimeoutError::Timeout) => return Answer::Outcome(Outcome::Pending),
                Err(RecvTimeoutError::Disconnected) => Self::Finished(panicked()),
            };
        }
        self.ask()
    }

    /// What came of the operation, if it has finished.
    pub(crate) fn ask(&mut self) -> Answer {
        if let Self::UnderWay(receiver) = self {
            let answer = match receiver.try_recv() {
                Err(TryRecvError::Empty) => return Answer::Outcome(Outcome::Pending),
                Ok(answer) => answer,
                Err(TryRecvError::Disconnected) => panicked(),
            };
            *self = Self::Finished(answer);
        }
        match self {
            Self::Finished(answer) => answer.clone(),
            Self::UnderWay(_) => Answer::Outcome(Outcome::Pending),
        }
    }
}

fn panicked() -> Answer {
    Answer::Trouble("the operation panicked".to_owned())
}

/// How long a worker is deaf while it waits for an operation.
const WHILE: Duration = Duration::from_millis(100);
