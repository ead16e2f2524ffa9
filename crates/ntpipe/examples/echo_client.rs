//! Sends a line to `\\.\pipe\echo` and prints the line that comes back.

use std::io::{self, BufRead, BufReader, Write};
use std::time::Duration;

use ntpipe::ClientOptions;

fn main() -> io::Result<()> {
    let mut pipe = ClientOptions::new().open_timeout(r"\\.\pipe\echo", Duration::from_secs(5))?;
    pipe.write_all(b"hello\n")?;
    let mut line = String::new();
    BufReader::new(&pipe).read_line(&mut line)?;
    io::stdout().write_all(line.as_bytes())
}
