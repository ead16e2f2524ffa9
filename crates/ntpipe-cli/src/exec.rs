//! A command whose standard input and output are a pipe.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use ntpipe::NamedPipeServer;

use crate::failure::Failure;
use crate::relay::{self, Pipe, Terms};

/// Runs the command for one client, until its output ends and it exits; then closes the instance.
pub(crate) fn serve(server: &NamedPipeServer, terms: Terms, command: &str) -> Result<(), Failure> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::other(format!("cannot run sh: {error}")))?;
    let pipe: Pipe = Arc::new(server.clone());
    let input = child.stdin.take().map(|mut input| {
        let pipe = Arc::clone(&pipe);
        // Ends with the client, with its last message, with the command, or when the instance is
        // closed below; whichever it is, the command's input ends with it.
        thread::spawn(move || relay::receive(&pipe, terms, &mut input).map(drop))
    });
    let sent = match child.stdout.take() {
        Some(output) => relay::send(&pipe, terms, output).map(drop),
        None => Ok(()),
    };
    let waited = child.wait();
    server.close();
    let received = input.map_or(Ok(()), |input| input.join().unwrap_or(Ok(())));
    sent?;
    match received {
        // A command need not read all of its input.
        Ok(()) | Err(Failure::OutputClosed) => {}
        Err(failure @ Failure::Told { .. }) => return Err(failure),
    }
    match waited {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::other(format!(
            "lost track of the command: {error}"
        ))),
    }
}
