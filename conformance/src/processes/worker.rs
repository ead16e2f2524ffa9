//! The worker: a process that holds ends of pipes, and does what the driver says.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ntpipe::{Canceller, IoErrorExt};

use super::ends::{End, perform};
use super::still::look;
use super::wire::{Answer, Request};
use crate::{Action, Label, Operation, Outcome, Step};

/// Does what the driver says, line by line, until it says nothing more.
///
/// `suffix` makes the pipes' names the case's own.
///
/// # Errors
/// When the driver can't be heard or told any more.
pub fn work(suffix: &str) -> io::Result<()> {
    let mut worker = Worker {
        suffix: suffix.to_owned(),
        ends: Ends::default(),
        operations: BTreeMap::new(),
        cancellers: BTreeMap::new(),
    };
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let answer = worker.answer(&line?);
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
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

struct Worker {
    suffix: String,
    ends: Ends,
    operations: BTreeMap<u64, Progress>,
    /// What ends the calls of the operations' threads.
    cancellers: BTreeMap<u64, Canceller>,
}

enum Progress {
    UnderWay(Receiver<Answer>),
    Finished(Answer),
}

impl Worker {
    fn answer(&mut self, line: &str) -> Answer {
        let result = match Request::parse(line) {
            Some(Request::Begin(number, step)) => self.begin(number, &step),
            Some(Request::Await(number)) => self.progress(number).map(Progress::wait),
            Some(Request::Ask(number)) => self.progress(number).map(Progress::ask),
            Some(Request::Cancel(number)) => self.cancel(number),
            Some(Request::Look) => match look() {
                Ok(Some(threads)) => Ok(Answer::Still(threads)),
                Ok(None) => Ok(Answer::Moving),
                Err(error) => Err(format!("threads cannot be looked at: {error}")),
            },
            Some(Request::Release) => {
                self.release();
                Ok(Answer::Begun)
            }
            Some(Request::Renew(suffix)) => self.renew(suffix),
            None => Err(format!("nobody knows what `{line}` means")),
        };
        result.unwrap_or_else(Answer::Trouble)
    }

    /// Closes all ends; those of servers are disconnected, which ends what pends at either end.
    fn release(&self) {
        for end in core::mem::take(&mut *self.ends.lock()).into_values() {
            if let End::Server(server) = end {
                // One that is disconnected already is as it should be.
                let _ = server.disconnect();
            }
        }
    }

    fn renew(&mut self, suffix: String) -> Result<Answer, String> {
        for progress in self.operations.values_mut() {
            if progress.ask() == Answer::Outcome(Outcome::Pending) {
                return Err("an operation is still under way".to_owned());
            }
        }
        self.operations.clear();
        self.cancellers.clear();
        self.suffix = suffix;
        Ok(Answer::Begun)
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

    fn cancel(&self, number: u64) -> Result<Answer, String> {
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
    fn ask(&mut self) -> Answer {
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
