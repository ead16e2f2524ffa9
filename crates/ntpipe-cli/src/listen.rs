//! `ntpipe listen`: be a server.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use clap::Args;
use ntpipe::{Error, IoErrorExt, Listener, NamedPipeServer, PipeName, ServerOptions};

use crate::exec;
use crate::failure::Failure;
use crate::name;
use crate::relay::{self, AtEof, Framing, Lanes, Pipe, Terms};

/// Create a pipe and serve a client: standard input goes in, what comes out goes to standard output.
///
/// Serves one client and ends with 0 when that closes its end. With --fork it serves client after
/// client, many at a time; standard input is not sent then, and what the clients send is printed as
/// it comes. With --exec a command serves each client instead.
///
/// When standard input (or the command's output) ends, a pipe of message type carries an empty
/// message, which tells the client that no more will come (as with npiperelay -s and go-winio); an
/// empty message from the client ends the output (or the command's input). Once both have sent one,
/// both are done. A pipe of byte type can't say that.
///
/// With --message each line is a message. The newline is not part of it; output puts it back.
/// An empty line is left out, because an empty message means that no more will come.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Listen {
    /// The pipe; it must not exist yet.
    #[arg(value_parser = name::parse)]
    name: PipeName,
    /// Create a pipe of message type; each line is a message.
    #[arg(long)]
    message: bool,
    /// With --message: what one read of standard input returns is a message (64 KiB at most), and
    /// output is left as it is.
    #[arg(long, requires = "message")]
    binary: bool,
    /// Serve client after client, each in a thread of its own.
    #[arg(long)]
    fork: bool,
    /// With --fork: serve so many clients at a time, 1 to 254; 255 stands for any number.
    #[arg(long, value_name = "N", requires = "fork", default_value_t = 255,
        value_parser = clap::value_parser!(u16).range(1..=255))]
    max_instances: u16,
    /// Run `sh -c COMMAND` for each client, with the pipe as its standard input and output.
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// Close the pipe when standard input ends, without waiting for the client. What was written
    /// stays readable.
    #[arg(long, short = 'N', conflicts_with_all = ["fork", "exec"])]
    close_on_eof: bool,
}

const EXAMPLES: &str = r"Examples:
  ntpipe listen '\\.\pipe\chat'
  ntpipe listen backup > src.tar
  ntpipe listen --message --fork log >> log.txt
  ntpipe listen --message --fork --max-instances 4 --exec 'tr a-z A-Z' shout";

impl Listen {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let framing = Framing::new(self.message, self.binary);
        let terms = Terms {
            framing,
            pipe_type: framing.mode(),
        };
        let mut options = ServerOptions::new();
        // Whoever has the name already would get our clients, or we theirs.
        options
            .first_pipe_instance(true)
            .pipe_mode(framing.mode())
            .max_instances(match self.fork {
                true => usize::from(self.max_instances),
                false => 1,
            });
        if self.fork {
            self.serve_all(&options, terms)
        } else {
            self.serve_one(&options, terms)
        }
    }

    fn serve_one(&self, options: &ServerOptions, terms: Terms) -> Result<(), Failure> {
        let server = options
            .create(self.name.to_string())
            .map_err(|error| self.create_failure(&error))?;
        connect(&server).map_err(|error| Failure::pipe("serve", &self.name, &error))?;
        if let Some(command) = &self.exec {
            return exec::serve(&server, terms, command);
        }
        let at_eof = match self.close_on_eof {
            true => AtEof::Close,
            false => AtEof::KeepReading,
        };
        let pipe: Pipe = Arc::new(server.clone());
        let done = relay::standard(&pipe, Lanes::Both, terms, at_eof);
        // A thread may still hold the pipe, and the name would be left for others to clear away.
        server.close();
        done
    }

    fn serve_all(&self, options: &ServerOptions, terms: Terms) -> Result<(), Failure> {
        let listener = Listener::bind(self.name.to_string(), options)
            .map_err(|error| self.create_failure(&error))?;
        let listener = Arc::new(listener);
        let shared = Arc::new(Shared {
            output: Mutex::new(relay::stdout()?),
            failure: Mutex::new(None),
        });
        loop {
            let server = match listener.accept() {
                Ok(server) => server,
                Err(error) => {
                    let failure = take(&shared.failure);
                    let accept = || Failure::pipe("serve", &self.name, &error);
                    return Err(failure.unwrap_or_else(accept));
                }
            };
            let (listener, shared) = (Arc::clone(&listener), Arc::clone(&shared));
            let command = self.exec.clone();
            thread::spawn(move || {
                let served = match command {
                    Some(command) => exec::serve(&server, terms, &command),
                    None => print(&server, terms, &shared),
                };
                match served {
                    Ok(()) => {}
                    // Nobody reads what clients send: there is no use in serving more of them.
                    Err(failure @ Failure::OutputClosed) => {
                        *lock(&shared.failure) = Some(failure);
                        listener.close();
                    }
                    // One client's trouble is not that of the others.
                    Err(failure @ Failure::Told { .. }) => eprintln!("ntpipe: {failure}"),
                }
            });
        }
    }

    fn create_failure(&self, error: &io::Error) -> Failure {
        let failure = Failure::pipe("create", &self.name, error);
        let taken = [Error::ACCESS_DENIED, Error::PIPE_BUSY].map(Some);
        match ntpipe::info(self.name.to_string()) {
            Ok(_) if taken.contains(&error.win32()) => {
                failure.hint("the name exists already: choose another, or end that process")
            }
            Ok(_) | Err(_) => failure,
        }
    }
}

/// What the threads of all clients share.
struct Shared {
    output: Mutex<File>,
    /// Why the listener was closed.
    failure: Mutex<Option<Failure>>,
}

/// Waits for a client that has something to say, or stays.
fn connect(server: &NamedPipeServer) -> io::Result<()> {
    loop {
        match server.connect() {
            // A client has come and left; what it wrote can still be read.
            Err(error) if error.win32() == Some(Error::NO_DATA) => {
                if server.peek(&mut []).is_ok() {
                    return Ok(());
                }
                server.disconnect()?;
            }
            done => return done,
        }
    }
}

/// Prints what the client sends.
fn print(server: &NamedPipeServer, terms: Terms, shared: &Shared) -> Result<(), Failure> {
    let pipe: Pipe = Arc::new(server.clone());
    relay::send_nothing(&pipe, terms)?;
    relay::receive(&pipe, terms, &mut Output(&shared.output)).map(drop)
}

/// Standard output, for a write at a time.
struct Output<'a>(&'a Mutex<File>);

impl Write for Output<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        lock(self.0).write_all(buf)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(failure: &Mutex<Option<Failure>>) -> Option<Failure> {
    lock(failure).take()
}
