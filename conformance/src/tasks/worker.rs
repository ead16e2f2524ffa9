//! The operations as tasks, and the runtime that runs them.

use std::collections::BTreeMap;
use std::future;
use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use ntpipe_proto::Error;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::AbortHandle;

use super::ends::{End, perform};
use crate::processes::{Answer, Hands, Progress};
use crate::{Action, Label, Operation, Outcome, Step};

/// Does each operation in a task of its own.
#[derive(Debug)]
pub(crate) struct Worker {
    suffix: String,
    runtime: Handle,
    /// A runtime that has threads of its own.
    _threads: Option<Runtime>,
    ends: Ends,
    operations: BTreeMap<u64, Task>,
}

/// An operation.
#[derive(Debug)]
struct Task {
    progress: Progress,
    /// What drops its future.
    handle: AbortHandle,
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

impl Worker {
    /// A worker whose tasks share one thread.
    ///
    /// # Errors
    /// When there is no thread or no runtime to be had.
    pub(crate) fn on_one_thread(suffix: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        // It ends with the process.
        thread::Builder::new().spawn(move || runtime.block_on(future::pending::<()>()))?;
        Ok(Self::new(suffix, handle, None))
    }

    /// A worker whose tasks run at the same time.
    ///
    /// # Errors
    /// When there is no runtime to be had.
    pub(crate) fn on_threads(suffix: &str) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(THREADS).enable_all().build()?;
        Ok(Self::new(suffix, runtime.handle().clone(), Some(runtime)))
    }

    fn new(suffix: &str, runtime: Handle, threads: Option<Runtime>) -> Self {
        Self {
            suffix: suffix.to_owned(),
            runtime,
            _threads: threads,
            ends: Ends::default(),
            operations: BTreeMap::new(),
        }
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
        let end = match *operation == Operation::Close {
            true => ends.remove(actor),
            false => ends.get(actor).cloned(),
        };
        match (operation.needs_end(), end) {
            (true, None) => Err(format!("{actor} is not open")),
            (false, Some(_)) => Err(format!("{actor} is already open")),
            (_, end) => Ok(end),
        }
    }
}

impl Hands for Worker {
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
        let task = self.runtime.spawn(async move {
            // The end is let go before the answer: then a close by a next step closes it.
            let answer = perform(&ends, &suffix, &actor, end, &operation).await;
            // The driver may have lost interest.
            let _ = sender.send(answer);
        });
        let task = Task {
            progress: Progress::UnderWay(receiver),
            handle: task.abort_handle(),
        };
        self.operations.insert(number, task);
        Ok(Answer::Begun)
    }

    fn cancel(&mut self, number: u64) -> Result<Answer, String> {
        let task = self.operations.get_mut(&number);
        let task = task.ok_or_else(|| format!("there is no operation {number}"))?;
        Ok(Answer::Outcome(task.cancel()))
    }

    fn progress(&mut self, number: u64) -> Result<&mut Progress, String> {
        let task = self.operations.get_mut(&number);
        let task = task.ok_or_else(|| format!("there is no operation {number}"))?;
        Ok(&mut task.progress)
    }

    fn release(&mut self) {
        for end in core::mem::take(&mut *self.ends.lock()).into_values() {
            end.disconnect();
        }
    }

    fn renew(&mut self, suffix: String) -> Result<(), String> {
        for task in self.operations.values_mut() {
            if task.progress.ask() == Answer::Outcome(Outcome::Pending) {
                return Err("an operation is still under way".to_owned());
            }
        }
        self.operations.clear();
        self.suffix = suffix;
        Ok(())
    }
}

impl Task {
    /// Drops the future, and waits until it is dropped.
    fn cancel(&mut self) -> Outcome {
        let Progress::UnderWay(receiver) = &self.progress else {
            return Outcome::Failed(Error::NOT_FOUND);
        };
        self.handle.abort();
        let (answer, outcome) = match receiver.recv() {
            // It was done before.
            Ok(answer) => (answer, Outcome::Failed(Error::NOT_FOUND)),
            Err(_) => {
                let aborted = Outcome::Failed(Error::OPERATION_ABORTED);
                (Answer::Outcome(aborted), Outcome::Done)
            }
        };
        self.progress = Progress::Finished(answer);
        outcome
    }
}

/// How many threads a runtime of several has.
const THREADS: usize = 2;
