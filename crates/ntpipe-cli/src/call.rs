//! `ntpipe call`: one transaction.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use clap::Args;
use ntpipe::{ClientOptions, Error, IoErrorExt, NamedPipeClient, PipeMode, PipeName};

use crate::failure::{Exit, Failure};
use crate::name::{self, printable};

/// Send one message and print the reply.
///
/// One transaction, as CallNamedPipe has it: opens the pipe, waiting for an instance if all are
/// busy, writes DATA as one message, reads one message and closes. The pipe has to be of message
/// type. The reply is printed as it is, without a newline of ours.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Call {
    /// The pipe.
    #[arg(value_parser = name::parse)]
    name: PipeName,
    /// The request; `-` takes it from standard input.
    data: OsString,
    /// How long to wait for an instance and for the reply, in all. Without it, as long as the pipe
    /// says for an instance, and for ever for the reply.
    #[arg(long, value_name = "SECONDS", value_parser = name::seconds)]
    timeout: Option<Duration>,
    /// The longest reply to take; a longer one is an error.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    max_reply: usize,
}

const EXAMPLES: &str = r"Examples:
  ntpipe call calc '2 + 3'
  ntpipe call --timeout 2 '\\.\pipe\status' json | jq .
  gzip -c report.txt | ntpipe call spooler -";

/// What is read at once.
const BLOCK: usize = 65536;

impl Call {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let request = self.request()?;
        let deadline = self
            .timeout
            .and_then(|time| Instant::now().checked_add(time));
        let pipe = self
            .open()
            .map_err(|error| Failure::pipe("open", &self.name, &error))?;
        pipe.set_read_mode(PipeMode::Message)
            .map_err(|error| Failure::pipe("call", &self.name, &error))?;
        if let Some(deadline) = deadline {
            // Zero would stand for no timeout.
            let left = deadline.saturating_duration_since(Instant::now());
            pipe.set_read_timeout(Some(left.max(Duration::from_micros(1))))
                .map_err(|error| Failure::pipe("call", &self.name, &error))?;
        }
        let reply = self.transact(&pipe, &request)?;
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(&reply).and_then(|()| stdout.flush());
        written.map_err(|error| Failure::output(&error))
    }

    fn request(&self) -> Result<Vec<u8>, Failure> {
        if self.data != "-" {
            return Ok(self.data.as_bytes().to_vec());
        }
        let mut request = Vec::new();
        match io::stdin().read_to_end(&mut request) {
            Ok(_) => Ok(request),
            Err(error) => {
                let message = format!("cannot read standard input: {error}");
                Err(Failure::other(message))
            }
        }
    }

    fn open(&self) -> io::Result<NamedPipeClient> {
        let (options, path) = (ClientOptions::new(), self.name.to_string());
        if let Some(timeout) = self.timeout {
            return options.open_timeout(&path, timeout);
        }
        match options.open(&path) {
            Err(error) if error.win32() == Some(Error::PIPE_BUSY) => {
                ntpipe::wait(&path, None)?;
                options.open(&path)
            }
            done => done,
        }
    }

    fn transact(&self, pipe: &NamedPipeClient, request: &[u8]) -> Result<Vec<u8>, Failure> {
        let fail = |error: io::Error| self.explain(&error);
        let mut block = vec![0; BLOCK.min(self.max_reply)];
        let mut reply = Vec::new();
        let mut read = pipe.transact(request, &mut block).map_err(fail)?;
        reply.extend_from_slice(block.get(..read.len).unwrap_or_default());
        while read.more {
            if reply.len() >= self.max_reply {
                return Err(self.too_long());
            }
            let room = BLOCK.min(self.max_reply - reply.len());
            let block = block.get_mut(..room).unwrap_or_default();
            read = pipe.read_message(block).map_err(fail)?;
            reply.extend_from_slice(block.get(..read.len).unwrap_or_default());
        }
        Ok(reply)
    }

    fn explain(&self, error: &io::Error) -> Failure {
        let timed_out = error.win32() == Some(Error::SEM_TIMEOUT);
        let Some(timeout) = self.timeout.filter(|_| timed_out) else {
            return Failure::pipe("call", &self.name, error);
        };
        let name = self.name.to_string();
        let message = format!(
            "no reply from {} within {} s: ERROR_SEM_TIMEOUT (121)",
            printable(&name),
            timeout.as_secs_f64()
        );
        Failure::with_exit(message, Exit::BusyOrTimedOut)
            .hint("the request was sent: give the server more time with --timeout SECONDS")
    }

    fn too_long(&self) -> Failure {
        let name = self.name.to_string();
        Failure::other(format!(
            "the reply from {} is longer than {} bytes: ERROR_MORE_DATA (234)",
            printable(&name),
            self.max_reply
        ))
        .hint("take longer replies with --max-reply BYTES")
    }
}
