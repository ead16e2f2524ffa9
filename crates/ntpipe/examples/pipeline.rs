//! Two children, one pipe between them, and a parent that leaves.
//!
//! `cargo run --example pipeline` is `seq 1 20 | tac`: both go on without us.

use std::io;
use std::process::Command;

use ntpipe::anonymous;

fn main() -> io::Result<()> {
    let (reader, writer) = anonymous::pipe(0)?;
    Command::new("seq")
        .args(["1", "20"])
        .stdout(writer)
        .spawn()?;
    Command::new("tac").stdin(reader).spawn()?;
    // Nothing to wait for: neither end is ours any more.
    Ok(())
}
