//! A child process with redirected input and output: a file goes through it.
//!
//! `cargo run --example redirect_child [FILE]` sends FILE, or a few lines, through `tr a-z A-Z`.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::process::Command;
use std::thread;

use ntpipe::anonymous;

fn main() -> io::Result<()> {
    let (input, mut to_child) = anonymous::pipe(0)?;
    let (mut from_child, output) = anonymous::pipe(0)?;
    let mut child = Command::new("tr")
        .args(["a-z", "A-Z"])
        .stdin(input)
        .stdout(output)
        .spawn()?;

    let mut source: Box<dyn Read + Send> = match env::args_os().nth(1) {
        Some(path) => Box::new(File::open(path)?),
        None => Box::new(&b"a pipe turns into the kernel's\nwhen a child gets an end of it\n"[..]),
    };
    // The child stops reading when its output is full: someone has to write meanwhile.
    let writing = thread::spawn(move || {
        // Dropping the last writing end behind this tells the child that there is no more.
        io::copy(&mut source, &mut to_child)
    });
    io::copy(&mut from_child, &mut io::stdout())?;

    if let Ok(written) = writing.join() {
        written?;
    }
    let status = child.wait()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("the child ended with {status}"))),
    }
}
