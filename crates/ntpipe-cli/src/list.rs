//! `ntpipe list`: the pipes that exist.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::Args;
use ntpipe::PipeName;

use crate::entry::{self, Entry};
use crate::failure::Failure;
use crate::name::{self, printable};

/// List the pipes that exist.
///
/// Columns: name, type, direction, instances, their maximum (`-` for any number), how many of them
/// wait for a client, and the process that serves the name. Every process is asked; one that does
/// not answer is left out.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct List {
    /// Only names that match: `*` stands for any characters, `?` for one; case does not matter.
    #[arg(value_parser = name::parse)]
    glob: Option<PipeName>,
    /// Print a JSON array of objects, with the buffers' sizes too.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = r"Examples:
  ntpipe list
  ntpipe list 'docker*'
  ntpipe list --json | jq -r '.[] | select(.listening == 0).path'";

impl List {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let found = ntpipe::list().map_err(|error| Failure::io("list the pipes", &error))?;
        let wanted = |name: &str| match &self.glob {
            Some(glob) => {
                entry::literal(name).is_some_and(|name| matches(glob.folded(), name.folded()))
            }
            None => true,
        };
        let entries: Vec<_> = found
            .into_iter()
            .filter(|entry| wanted(&entry.name))
            .map(Entry::from)
            .collect();
        let text = if self.json {
            let json = serde_json::to_string_pretty(&entries);
            json.map_err(|error| Failure::other(error.to_string()))? + "\n"
        } else {
            table(&entries)
        };
        let written = io::stdout().write_all(text.as_bytes());
        written.map_err(|error| Failure::output(&error))
    }
}

fn table(entries: &[Entry]) -> String {
    let heads = [
        "NAME",
        "TYPE",
        "DIRECTION",
        "INSTANCES",
        "MAX",
        "LISTENING",
        "PID",
        "PROGRAM",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(entries.iter().map(|entry| {
        [
            printable(&entry.path).into_owned(),
            entry.pipe_type.to_owned(),
            entry.direction.to_owned(),
            entry.instances.to_string(),
            entry.max(),
            entry.listening.to_string(),
            entry.server_pid.to_string(),
            entry.program.clone(),
        ]
    }));
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a string can't fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Whether a text matches a pattern of `*`, `?` and characters.
fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where to go on when the last star has to take one character more.
    let mut retry = None;
    while let Some(c) = text.get(t) {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t + 1));
                p += 1;
            }
            Some(want) if *want == '?' || want == c => {
                p += 1;
                t += 1;
            }
            Some(_) | None => match retry {
                Some((after_star, next)) => {
                    p = after_star;
                    t = next;
                    retry = Some((after_star, next + 1));
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_question_marks_match_as_in_a_shell() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "ABC"),
            ("A*C", "AC"),
            ("A*C", "ABCC"),
            ("?B?", "ABC"),
            ("*B*D", "ABCBD"),
            ("ABC", "ABC"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "A"),
            ("?", ""),
            ("A*C", "ABD"),
            ("AB", "ABC"),
            ("*B*D", "ABCB"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
