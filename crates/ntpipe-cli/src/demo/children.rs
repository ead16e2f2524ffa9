//! The demo's processes; none of them outlives it.

use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Instant;

use super::peer::Report;
use crate::failure::{Exit, Failure};

/// Running children, and what they tell.
pub(super) struct Children {
    running: Vec<Running>,
    sender: Sender<Event>,
    events: Receiver<Event>,
    deadline: Instant,
}

struct Running {
    what: String,
    process: Child,
    /// A child exits when this is closed, so also when we are killed.
    _lifeline: Option<ChildStdin>,
}

/// What a child did.
enum Event {
    Said(usize, String),
    /// It has closed its output: it is about to end.
    Ended(usize),
}

/// What to make of an event.
pub(super) enum News {
    Report(Report),
    /// All children have ended, and ended well.
    AllEnded,
}

impl Children {
    /// No children yet; those that come have time until `deadline`.
    pub(super) fn new(deadline: Instant) -> Self {
        let (sender, events) = mpsc::channel();
        Self {
            running: Vec::new(),
            sender,
            events,
            deadline,
        }
    }

    /// Starts this program again with other arguments.
    pub(super) fn start<S: AsRef<OsStr>>(&mut self, what: &str, args: &[S]) -> io::Result<()> {
        // The file itself, also if it was replaced or removed meanwhile.
        let program = env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let mut process = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let at = self.running.len();
        let (lifeline, output) = (process.stdin.take(), process.stdout.take());
        self.running.push(Running {
            what: what.to_owned(),
            process,
            _lifeline: lifeline,
        });
        let sender = self.sender.clone();
        thread::spawn(move || listen(at, output, &sender));
        Ok(())
    }

    /// The next thing that happens.
    pub(super) fn next(&mut self) -> Result<News, Failure> {
        loop {
            if self.running.iter().all(|child| child.what.is_empty()) {
                return Ok(News::AllEnded);
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(Event::Said(at, line)) => return self.report(at, &line),
                Ok(Event::Ended(at)) => self.reap(at)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(self.hung());
                }
            }
        }
    }

    fn report(&self, at: usize, line: &str) -> Result<News, Failure> {
        let what = self.running.get(at).map_or("?", |child| &child.what);
        match serde_json::from_str(line) {
            Ok(Report::Failed(why)) => Err(Failure::other(format!("the demo's {what}: {why}"))),
            Ok(report) => Ok(News::Report(report)),
            Err(error) => Err(Failure::other(format!(
                "the demo's {what} said `{line}`, which makes no sense: {error}"
            ))),
        }
    }

    fn reap(&mut self, at: usize) -> Result<(), Failure> {
        let Some(child) = self.running.get_mut(at) else {
            return Ok(());
        };
        let status = child.process.wait();
        let what = std::mem::take(&mut child.what);
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::other(format!(
                "the demo's {what} ended with {status}"
            ))),
            Err(error) => Err(Failure::other(format!(
                "the demo lost track of its {what}: {error}"
            ))),
        }
    }

    fn hung(&self) -> Failure {
        let whats = self.running.iter().map(|child| child.what.as_str());
        let left: Vec<_> = whats.filter(|what| !what.is_empty()).collect();
        let message = format!(
            "the demo took too long and was ended; still at work: {}",
            left.join(", ")
        );
        Failure::with_exit(message, Exit::BusyOrTimedOut)
            .hint("give a loaded machine or a large file more time with --timeout SECONDS")
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.running {
            // One that has ended already is only waited for.
            let _ = child.process.kill();
            let _ = child.process.wait();
        }
    }
}

fn listen(at: usize, output: Option<ChildStdout>, sender: &Sender<Event>) {
    let lines = output.into_iter().flat_map(|it| BufReader::new(it).lines());
    for line in lines.map_while(Result::ok) {
        if sender.send(Event::Said(at, line)).is_err() {
            return;
        }
    }
    // Nobody listens any more once the demo has failed.
    let _ = sender.send(Event::Ended(at));
}
