//! Standard input and output through a pipe.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use ntpipe::{Error, IoErrorExt, PipeMode, PipeStream};

use crate::failure::Failure;

/// Either end of a pipe.
pub(crate) type Pipe = Arc<dyn Deref<Target = PipeStream> + Send + Sync>;

/// How bytes outside become writes and messages inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A stream of bytes.
    Bytes,
    /// A line is a message, without its newline.
    Lines,
    /// What a read returns is a message.
    Blocks,
}

/// Which lanes the pipe has, seen from this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lanes {
    Both,
    SendOnly,
    ReceiveOnly,
}

/// How a pipe is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) framing: Framing,
    /// The pipe's type: on a message pipe an empty message says that no more will come.
    pub(crate) pipe_type: PipeMode,
}

/// What to do when standard input ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtEof {
    KeepReading,
    Close,
}

/// Why one direction is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The side that sends has no more.
    Finished,
    /// The other end of the pipe is closed.
    PeerGone,
}

/// What is read or written at once.
const BLOCK: usize = 65536;

impl Framing {
    pub(crate) fn new(message: bool, binary: bool) -> Self {
        match (message, binary) {
            (false, _) => Self::Bytes,
            (true, false) => Self::Lines,
            (true, true) => Self::Blocks,
        }
    }

    /// The read mode, and the type of a pipe that we create.
    pub(crate) fn mode(self) -> PipeMode {
        match self {
            Self::Bytes => PipeMode::Byte,
            Self::Lines | Self::Blocks => PipeMode::Message,
        }
    }
}

/// Standard input to the pipe and the pipe to standard output, until the other end closes, or both
/// have said that no more will come.
pub(crate) fn standard(
    pipe: &Pipe,
    lanes: Lanes,
    terms: Terms,
    at_eof: AtEof,
) -> Result<(), Failure> {
    /// News from one of the two directions.
    enum News {
        Sent(Result<Over, Failure>),
        Received(Result<Over, Failure>),
    }
    let (tell, news) = mpsc::channel();
    let (mut sending, mut receiving) = (lanes != Lanes::ReceiveOnly, lanes != Lanes::SendOnly);
    // The threads are not joined: one may wait on standard input, or for the other end, for ever.
    if sending {
        let (pipe, tell) = (Arc::clone(pipe), tell.clone());
        thread::spawn(move || tell.send(News::Sent(send(&pipe, terms, io::stdin()))));
    }
    if receiving {
        let (pipe, mut out) = (Arc::clone(pipe), stdout()?);
        thread::spawn(move || {
            loop {
                let over = receive(&pipe, terms, &mut out);
                // After the last message there is still to be seen when the other end closes.
                let last = !matches!(over, Ok(Over::Finished));
                if tell.send(News::Received(over)).is_err() || last {
                    break;
                }
            }
        });
    }
    while sending || receiving {
        // The threads hold the other ends of the channel until they have told.
        let Ok(next) = news.recv() else { break };
        match next {
            News::Sent(over) => {
                if over? == Over::Finished && at_eof == AtEof::Close {
                    return Ok(());
                }
                sending = false;
            }
            News::Received(over) => {
                if over? == Over::PeerGone {
                    return Ok(());
                }
                receiving = false;
            }
        }
    }
    Ok(())
}

/// Standard output without a buffer of ours: what has arrived is to be seen.
pub(crate) fn stdout() -> Result<File, Failure> {
    let own = io::stdout().as_fd().try_clone_to_owned();
    Ok(File::from(own.map_err(|error| Failure::output(&error))?))
}

/// Sends all of `input`, and on a message pipe that it has ended.
pub(crate) fn send(pipe: &Pipe, terms: Terms, input: impl Read) -> Result<Over, Failure> {
    let mut input = BufReader::with_capacity(BLOCK, input);
    let mut line = Vec::new();
    loop {
        let written = match terms.framing {
            Framing::Lines => {
                line.clear();
                let len = input.read_until(b'\n', &mut line).map_err(input_error)?;
                if len == 0 {
                    break;
                }
                let message = line.strip_suffix(b"\n").unwrap_or(&line);
                // An empty message would say that no more will come.
                if message.is_empty() {
                    continue;
                }
                pipe.write_message(message)
            }
            Framing::Bytes | Framing::Blocks => {
                let block = input.fill_buf().map_err(input_error)?;
                if block.is_empty() {
                    break;
                }
                let written = pipe.write_message(block);
                let len = block.len();
                input.consume(len);
                written
            }
        };
        if let Some(over) = over(written.map(drop))? {
            return Ok(over);
        }
    }
    if terms.pipe_type == PipeMode::Message
        && let Some(over) = over(pipe.write_message(&[]).map(drop))?
    {
        return Ok(over);
    }
    Ok(Over::Finished)
}

/// Tells the other end of a message pipe that nothing will be sent.
pub(crate) fn send_nothing(pipe: &Pipe, terms: Terms) -> Result<(), Failure> {
    send(pipe, terms, io::empty()).map(drop)
}

/// Writes all that arrives to `output`.
pub(crate) fn receive(pipe: &Pipe, terms: Terms, output: &mut impl Write) -> Result<Over, Failure> {
    let mut block = vec![0; BLOCK + 1];
    // Whether the message that is being read has shown bytes already.
    let mut inside = false;
    loop {
        let room = block.get_mut(..BLOCK).unwrap_or_default();
        let read = match pipe.read_message(room) {
            Ok(read) => read,
            Err(error) => match over(Err(error))? {
                Some(over) => return Ok(over),
                None => continue,
            },
        };
        if read.len == 0 && !read.more && !inside {
            if terms.pipe_type == PipeMode::Message {
                return Ok(Over::Finished);
            }
            // On a byte pipe an empty write means nothing.
            continue;
        }
        inside = read.more;
        let mut len = read.len;
        if terms.framing == Framing::Lines
            && !read.more
            && let Some(after) = block.get_mut(len)
        {
            *after = b'\n';
            len += 1;
        }
        let written = output.write_all(block.get(..len).unwrap_or_default());
        written.map_err(|error| Failure::output(&error))?;
    }
}

/// What the errors of a parting peer stand for.
fn over(result: io::Result<()>) -> Result<Option<Over>, Failure> {
    let Err(error) = result else {
        return Ok(None);
    };
    let parting = [
        Error::BROKEN_PIPE,
        Error::NO_DATA,
        Error::PIPE_NOT_CONNECTED,
    ];
    match error.win32() {
        Some(win32) if parting.contains(&win32) => Ok(Some(Over::PeerGone)),
        Some(_) | None => Err(Failure::io("use the pipe", &error)),
    }
}

fn input_error(error: io::Error) -> Failure {
    Failure::other(format!("cannot read standard input: {error}"))
}
