//! A child process of the demo: the server, or one of its clients.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;
use std::process;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ntpipe::{ClientOptions, Listener, NamedPipeServer, PipeStream, ServerOptions};
use serde::{Deserialize, Serialize};

use super::transfer::{self, Arrived, Mode, Way};
use crate::failure::Failure;

/// Plays one process of `ntpipe demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoPeer {
    #[arg(value_enum)]
    role: Role,
    #[arg(long)]
    name: String,
    #[arg(long, value_enum)]
    mode: Mode,
    #[arg(long)]
    file: PathBuf,
    #[arg(long)]
    bytes: u64,
    #[arg(long)]
    clients: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Role {
    Server,
    Client,
}

/// What a child tells its parent, a line of JSON each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Report {
    /// The pipe exists.
    Listening,
    /// So many bytes more have arrived.
    Progress(u64),
    /// A file has arrived.
    Arrived(Arrived),
    /// It can't go on.
    Failed(String),
}

/// How long a client waits for its instance.
const PATIENCE: Duration = Duration::from_secs(30);

impl DemoPeer {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        die_with_parent();
        let done = match self.role {
            Role::Server => self.serve(),
            Role::Client => self.use_pipe(),
        };
        done.or_else(|error| {
            let what = match self.role {
                Role::Server => "serve the demo's pipe",
                Role::Client => "use the demo's pipe",
            };
            tell(&Report::Failed(Failure::io(what, &error).to_string()))
                .map_err(|error| Failure::output(&error))
        })
    }

    fn serve(&self) -> io::Result<()> {
        let mut options = ServerOptions::new();
        options
            .first_pipe_instance(true)
            .pipe_mode(self.mode.pipe_mode())
            .max_instances(self.clients);
        let listener = Listener::bind(&self.name, &options)?;
        tell(&Report::Listening)?;
        // No transfer begins before all clients are connected: they run at once.
        let barrier = Barrier::new(self.clients);
        thread::scope(|scope| {
            let mut sessions = Vec::new();
            for _ in 0..self.clients {
                let pipe = listener.accept()?;
                let barrier = &barrier;
                sessions.push(scope.spawn(move || {
                    barrier.wait();
                    self.serve_one(&pipe)
                }));
            }
            sessions.into_iter().try_for_each(|session| {
                let died = || Err(io::Error::other("a thread of the server died"));
                session.join().unwrap_or_else(|_| died())
            })
        })
    }

    fn serve_one(&self, pipe: &NamedPipeServer) -> io::Result<()> {
        let mut file = BufReader::new(File::open(&self.file)?);
        let arrived = transfer::receive(pipe, self.mode, Way::Inbound, self.bytes, progress)?;
        tell(&Report::Arrived(arrived))?;
        transfer::send(pipe, self.mode, &mut file)?;
        // The process ends after this, and the client shall see all of the file before.
        PipeStream::flush(pipe)
    }

    fn use_pipe(&self) -> io::Result<()> {
        let mut file = BufReader::new(File::open(&self.file)?);
        let pipe = ClientOptions::new()
            .pipe_mode(self.mode.pipe_mode())
            .open_timeout(&self.name, PATIENCE)?;
        transfer::send(&pipe, self.mode, &mut file)?;
        let arrived = transfer::receive(&pipe, self.mode, Way::Outbound, self.bytes, progress)?;
        // Leaving before the server has seen us would be as if we had never come.
        if (&pipe).read(&mut [0])? > 0 {
            return Err(io::Error::other("more arrived than was sent"));
        }
        tell(&Report::Arrived(arrived))
    }
}

fn progress(bytes: u64) -> io::Result<()> {
    tell(&Report::Progress(bytes))
}

fn tell(report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

/// Ends this process when the parent is gone, however that went: its end of our standard input is
/// closed then.
fn die_with_parent() {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        process::exit(1);
    });
}
