//! A worker process, as the driver sees it.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use super::wire::{Answer, Request};
use crate::Trouble;

/// A worker process; dropped, it is killed.
#[derive(Debug)]
pub(super) struct Worker {
    process: Child,
    requests: ChildStdin,
    answers: Receiver<io::Result<String>>,
}

impl Worker {
    /// Starts a worker for an interface, whose pipes live in `directory` and have `suffix` in their
    /// names.
    pub(super) fn start(
        program: &Path,
        directory: &Path,
        interface: &str,
        suffix: &str,
    ) -> io::Result<Self> {
        let mut process = Command::new(program)
            .args(["worker", interface, suffix])
            .env("NTPIPE_DIR", directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("the worker has no standard streams");
        let requests = process.stdin.take().ok_or_else(missing)?;
        let lines = BufReader::new(process.stdout.take().ok_or_else(missing)?).lines();
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            // It ends with the process, or when nobody listens any more.
            for line in lines {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            process,
            requests,
            answers,
        })
    }

    /// The id of the process.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a request; each has one answer.
    pub(super) fn send(&mut self, request: &Request) -> Result<(), Trouble> {
        // One call of the system for the line.
        let line = format!("{request}\n");
        (self.requests.write_all(line.as_bytes()))
            .map_err(|error| Trouble(format!("the worker cannot be asked: {error}")))
    }

    /// The answer to the oldest request that has none yet.
    pub(super) fn receive(&self, deadline: Instant) -> Result<Answer, Trouble> {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = match self.answers.recv_timeout(left) {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => return Err(Trouble(format!("the worker cannot be heard: {error}"))),
            Err(RecvTimeoutError::Timeout) => {
                return Err(Trouble("it did not finish in time".to_owned()));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Trouble("the worker has ended".to_owned()));
            }
        };
        match Answer::parse(&line) {
            Some(Answer::Trouble(message)) => Err(Trouble(message)),
            Some(answer) => Ok(answer),
            None => Err(Trouble(format!("the worker says `{line}`"))),
        }
    }
}

impl Drop for Worker {
    /// Kills the process and waits until the kernel has closed all that it held.
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
