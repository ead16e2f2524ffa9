//! `ntpipe connect`: be a client.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use ntpipe::{ClientOptions, Direction, Error, IoErrorExt, NamedPipeClient, PipeName};

use crate::failure::Failure;
use crate::name;
use crate::relay::{self, AtEof, Framing, Lanes, Pipe, Terms};

/// Open a pipe: standard input goes in, what comes out goes to standard output.
///
/// Ends with 0 when the server closes its end. When standard input ends, reading goes on: a pipe of
/// message type then carries an empty message, which tells the server that no more will come (as
/// with npiperelay -s and go-winio); once the server has sent one too, both are done. A pipe of byte
/// type can't say that; use --close-on-eof where the server waits for the end.
///
/// With --message each line is a message. The newline is not part of it; output puts it back.
/// An empty line is left out, because an empty message means that no more will come.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Connect {
    /// The pipe.
    #[arg(value_parser = name::parse)]
    name: PipeName,
    /// Read and write messages, a line each; the pipe has to be of message type.
    #[arg(long)]
    message: bool,
    /// With --message: what one read of standard input returns is a message (64 KiB at most), and
    /// output is left as it is.
    #[arg(long, requires = "message")]
    binary: bool,
    /// Wait so long for the pipe to exist and for an instance to become free.
    #[arg(long, value_name = "SECONDS", value_parser = name::seconds)]
    wait: Option<Duration>,
    /// Close the pipe when standard input ends, without waiting for the server. What was written
    /// stays readable.
    #[arg(long, short = 'N')]
    close_on_eof: bool,
}

const EXAMPLES: &str = r"Examples:
  ntpipe connect '\\.\pipe\chat'
  ntpipe connect --message --wait 10 chat < lines.txt
  tar c src | ntpipe connect --close-on-eof backup
  echo '{}' | ntpipe connect --message npipe:////./pipe/docker_engine";

/// How often a pipe that does not exist is looked for.
const LOOK: Duration = Duration::from_millis(20);

impl Connect {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let framing = Framing::new(self.message, self.binary);
        let (client, lanes) = self
            .open()
            .map_err(|error| Failure::pipe("open", &self.name, &error))?;
        let fail = |error: io::Error| Failure::pipe("use", &self.name, &error);
        let pipe_type = client.info().map_err(fail)?.mode;
        if lanes != Lanes::SendOnly {
            client.set_read_mode(framing.mode()).map_err(fail)?;
        } else if self.message && pipe_type != framing.mode() {
            return Err(fail(Error::INVALID_PARAMETER.into()));
        }
        let at_eof = match self.close_on_eof {
            true => AtEof::Close,
            false => AtEof::KeepReading,
        };
        let pipe: Pipe = Arc::new(client);
        relay::standard(&pipe, lanes, Terms { framing, pipe_type }, at_eof)
    }

    /// Opens the pipe in the directions that it has.
    fn open(&self) -> io::Result<(NamedPipeClient, Lanes)> {
        let deadline = self.wait.and_then(|wait| Instant::now().checked_add(wait));
        let mut options = ClientOptions::new();
        let mut lanes = Lanes::Both;
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let opened = match (self.wait, left) {
                (None, _) => options.open(self.name.to_string()),
                (Some(wait), left) => {
                    options.open_timeout(self.name.to_string(), left.unwrap_or(wait))
                }
            };
            let error = match opened {
                Ok(client) => return Ok((client, lanes)),
                Err(error) => error,
            };
            let may_wait = self.wait.is_some() && left.is_none_or(|left| !left.is_zero());
            let code = error.win32();
            if code == Some(Error::FILE_NOT_FOUND) && may_wait {
                // Nobody can tell us when somebody creates the name.
                thread::park_timeout(left.unwrap_or(LOOK).min(LOOK));
            } else if code == Some(Error::ACCESS_DENIED) && lanes == Lanes::Both {
                lanes = match ntpipe::info(self.name.to_string()).map(|info| info.direction) {
                    Ok(Direction::Inbound) => Lanes::SendOnly,
                    Ok(Direction::Outbound) => Lanes::ReceiveOnly,
                    Ok(Direction::Duplex) | Err(_) => return Err(error),
                };
                options.read(lanes == Lanes::ReceiveOnly);
                options.write(lanes == Lanes::SendOnly);
            } else {
                return Err(error);
            }
        }
    }
}
