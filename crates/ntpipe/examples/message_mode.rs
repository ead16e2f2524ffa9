//! Keeps messages whole: a partial read with `more`, a peek for the rest, and a transaction.

use std::io::{self, Write};
use std::thread;

use ntpipe::{ClientOptions, Error, IoErrorExt, NamedPipeServer, PipeMode, ServerOptions};

const NAME: &str = r"\\.\pipe\ntpipe-message-mode";

fn main() -> io::Result<()> {
    let server = ServerOptions::new()
        .first_pipe_instance(true)
        .pipe_mode(PipeMode::Message)
        .create(NAME)?;
    let serving = thread::spawn(move || serve(&server));
    let pipe = ClientOptions::new()
        .pipe_mode(PipeMode::Message)
        .open(NAME)?;
    let mut out = io::stdout();

    // The buffer is too small for the message: `more` says so, and nothing is lost.
    let mut part = [0; 7];
    let read = pipe.read_message(&mut part)?;
    writeln!(out, "{} (more: {})", text(&part, read.len), read.more)?;

    // A peek takes nothing; it tells how long the rest of the message is.
    let left = usize::try_from(pipe.peek(&mut [])?.left).map_err(io::Error::other)?;
    let mut rest = vec![0; left];
    let read = pipe.read_message(&mut rest)?;
    writeln!(out, "{} (more: {})", text(&rest, read.len), read.more)?;

    // One message out and one back, in one call.
    let mut reply = [0; 64];
    let read = pipe.transact(b"how loud?", &mut reply)?;
    writeln!(out, "{}", text(&reply, read.len))?;

    drop(pipe);
    serving.join().map_err(|_| io::Error::other("no server"))?
}

/// Greets the client, then answers each of its messages in capitals until it is gone.
fn serve(pipe: &NamedPipeServer) -> io::Result<()> {
    pipe.connect()?;
    pipe.write_message(b"welcome to message mode")?;
    let mut buf = [0; 64];
    loop {
        match pipe.read_message(&mut buf) {
            Ok(read) => pipe.write_message(text(&buf, read.len).to_uppercase().as_bytes())?,
            Err(error) if error.win32() == Some(Error::BROKEN_PIPE) => return Ok(()),
            Err(error) => return Err(error),
        };
    }
}

fn text(buf: &[u8], len: usize) -> String {
    String::from_utf8_lossy(buf.get(..len).unwrap_or_default()).into_owned()
}
