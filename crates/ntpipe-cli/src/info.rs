//! `ntpipe info`: what one pipe is.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::Args;
use ntpipe::PipeName;

use crate::entry::Entry;
use crate::failure::Failure;
use crate::name::{self, printable};

/// Tell what a pipe is: type, direction, instances, buffers, and who serves it.
///
/// Asks the process that serves the name, and takes no instance. `inbound` is what flows from
/// client to server. A maximum of `-` (null in JSON) stands for any number of instances.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Info {
    /// The pipe.
    #[arg(value_parser = name::parse)]
    name: PipeName,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = r"Examples:
  ntpipe info chat
  ntpipe info --json '\\.\pipe\chat' | jq .server_pid";

impl Info {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let entry = ntpipe::info(self.name.to_string())
            .map_err(|error| Failure::pipe("query", &self.name, &error))?;
        let entry = Entry::from(entry);
        let text = if self.json {
            let json = serde_json::to_string_pretty(&entry);
            json.map_err(|error| Failure::other(error.to_string()))? + "\n"
        } else {
            text(&entry)
        };
        let written = io::stdout().write_all(text.as_bytes());
        written.map_err(|error| Failure::output(&error))
    }
}

fn text(entry: &Entry) -> String {
    let rows = [
        ("name", printable(&entry.path).into_owned()),
        ("type", entry.pipe_type.to_owned()),
        ("direction", entry.direction.to_owned()),
        (
            "instances",
            format!(
                "{} of {}, {} listening",
                entry.instances,
                entry.max(),
                entry.listening
            ),
        ),
        ("inbound buffer", format!("{} bytes", entry.in_buffer_size)),
        (
            "outbound buffer",
            format!("{} bytes", entry.out_buffer_size),
        ),
        (
            "server",
            format!("{} ({})", entry.server_pid, entry.program),
        ),
    ];
    rows.iter().fold(String::new(), |mut text, (key, value)| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{key:16} {value}");
        text
    })
}
