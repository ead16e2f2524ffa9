//! `ntpipe demo`: files through pipes between real processes, checked.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

mod children;
pub(crate) mod peer;
mod table;
mod transfer;

use crate::failure::{Exit, Failure};
use children::{Children, News};
use peer::Report;
use table::{Sent, Table};
use transfer::Mode;

/// Send a file through pipes between processes, and check what arrives.
///
/// Starts a server process and three client processes on a private name. Each client sends FILE to
/// the server and the server sends it back, all at once over an instance each; first on a pipe of
/// byte type, then on one of message type. Each receiver computes the SHA-256 of what arrives, and
/// whether each message arrived as it was sent. MB/s includes reading the file and hashing.
///
/// Exits with 0 if everything arrived intact, with 6 if not.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Demo {
    /// The file to send; without one, 8 MiB of noise that leave no trace.
    file: Option<PathBuf>,
    /// Give up after so long.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
}

const EXAMPLES: &str = r"Examples:
  ntpipe demo
  ntpipe demo /usr/share/dict/words
  ntpipe demo --timeout 600 large.iso";

const CLIENTS: u64 = 3;
const MODES: [Mode; 2] = [Mode::Byte, Mode::Message];
/// The noise of a demo without a file.
const NOISE: u64 = 8 << 20;

impl Demo {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let start = Instant::now();
        // What is longer than a clock can tell is as good as for ever.
        let timeout = Duration::from_secs(self.timeout.min(u64::from(u32::MAX)));
        let source = Source::open(self.file.as_deref())?;
        let steps = u64::try_from(MODES.len()).unwrap_or(1) * 2 * CLIENTS;
        let bar = progress_bar(source.sent.bytes * steps);
        let mut table = Table::default();
        for mode in MODES {
            exchange(&source, mode, start + timeout, &bar, &mut table)?;
        }
        bar.finish_and_clear();
        let (all, intact) = table.totals();
        let mut out = io::stdout().lock();
        write!(out, "{table}").map_err(|error| Failure::output(&error))?;
        if u64::from(all) != steps {
            return Err(Failure::other(format!(
                "only {all} of {steps} transfers were reported"
            )));
        }
        if intact != all {
            let message = format!("{} of {all} transfers arrived damaged", all - intact);
            return Err(Failure::with_exit(message, Exit::Damaged));
        }
        writeln!(
            out,
            "{intact} of {all} transfers intact, {:.1} MB in {:.2} s, SHA-256 {}",
            (source.sent.bytes * steps) as f64 / 1e6,
            start.elapsed().as_secs_f64(),
            source.sent.sha256
        )
        .map_err(|error| Failure::output(&error))
    }
}

/// The file to send.
struct Source {
    /// How the children reach it.
    path: PathBuf,
    sent: Sent,
    /// A file of ours has no name any more; it is there as long as this is open.
    _file: File,
}

impl Source {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            let fail = |error| Failure::other(format!("cannot make a temporary file: {error}"));
            let (file, path) = noise().map_err(fail)?;
            return Self::measure(path, file).map_err(fail);
        };
        let fail = |error| Failure::other(format!("cannot read {}: {error}", path.display()));
        let file = File::open(path).map_err(fail)?;
        if !file.metadata().map_err(fail)?.is_file() {
            return Err(fail(io::Error::other("it is not a regular file")));
        }
        let path = path.canonicalize().map_err(fail)?;
        Self::measure(path, file).map_err(fail)
    }

    fn measure(path: PathBuf, mut file: File) -> io::Result<Self> {
        let (bytes, sha256) = transfer::measure(&mut file)?;
        Ok(Self {
            path,
            sent: Sent { bytes, sha256 },
            _file: file,
        })
    }
}

/// A temporary file full of noise. Its name is gone already, so that nothing can be left behind;
/// the children reach it through this process.
fn noise() -> io::Result<(File, PathBuf)> {
    let path = env::temp_dir().join(format!("ntpipe-demo-{}.noise", process::id()));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(&path)?;
    let mut state = u64::from(process::id()) << 32 | 1;
    let mut next = || {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let block: Vec<u8> = (0..NOISE / 8).flat_map(|_| next()).collect();
    file.write_all(&block)?;
    file.rewind()?;
    let path = format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd());
    Ok((file, path.into()))
}

/// Both ways with all clients at once, over one pipe.
fn exchange(
    source: &Source,
    mode: Mode,
    deadline: Instant,
    bar: &ProgressBar,
    table: &mut Table,
) -> Result<(), Failure> {
    let fail = |error| Failure::other(format!("cannot start a process: {error}"));
    let mut children = Children::new(deadline);
    children
        .start("server", &arguments("server", mode, source))
        .map_err(fail)?;
    loop {
        match children.next()? {
            News::Report(Report::Listening) => {
                for number in 1..=CLIENTS {
                    let args = arguments("client", mode, source);
                    children
                        .start(&format!("client {number}"), &args)
                        .map_err(fail)?;
                }
            }
            News::Report(Report::Progress(bytes)) => bar.inc(bytes),
            News::Report(Report::Arrived(arrived)) => table.add(mode, &arrived, &source.sent),
            // `next` has made an error of it.
            News::Report(Report::Failed(_)) => {}
            News::AllEnded => return Ok(()),
        }
    }
}

fn arguments(role: &str, mode: Mode, source: &Source) -> Vec<std::ffi::OsString> {
    let mode_name = match mode {
        Mode::Byte => "byte",
        Mode::Message => "message",
    };
    let name = format!(r"\\.\pipe\ntpipe-demo-{}-{mode_name}", process::id());
    vec![
        "demo-peer".into(),
        role.into(),
        "--name".into(),
        name.into(),
        "--mode".into(),
        mode_name.into(),
        "--file".into(),
        source.path.clone().into(),
        "--bytes".into(),
        source.sent.bytes.to_string().into(),
        "--clients".into(),
        CLIENTS.to_string().into(),
    ]
}

fn progress_bar(bytes: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes);
    let template = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec}";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
