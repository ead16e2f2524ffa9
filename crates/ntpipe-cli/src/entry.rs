//! A pipe as `list` and `info` show it.

use ntpipe::{Direction, PipeEntry, PipeMode, PipeName};
use serde::Serialize;

use crate::failure::program;

/// One pipe; the fields are those of the JSON output, which stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) path: String,
    #[serde(rename = "type")]
    pub(crate) pipe_type: &'static str,
    pub(crate) direction: &'static str,
    pub(crate) instances: u32,
    /// `None` for any number.
    pub(crate) max_instances: Option<u32>,
    pub(crate) listening: u32,
    pub(crate) in_buffer_size: u32,
    pub(crate) out_buffer_size: u32,
    pub(crate) server_pid: u32,
    pub(crate) program: String,
}

impl Entry {
    /// The maximum as the tables show it.
    pub(crate) fn max(&self) -> String {
        self.max_instances
            .map_or_else(|| "-".to_owned(), |max| max.to_string())
    }
}

impl From<PipeEntry> for Entry {
    fn from(entry: PipeEntry) -> Self {
        let info = entry.info;
        Self {
            path: literal(&entry.name).map_or_else(|| entry.name.clone(), |name| name.to_string()),
            name: entry.name,
            pipe_type: if info.mode == PipeMode::Message {
                "message"
            } else {
                "byte"
            },
            direction: match entry.direction {
                Direction::Duplex => "duplex",
                Direction::Inbound => "inbound",
                Direction::Outbound => "outbound",
            },
            instances: entry.instances,
            max_instances: (info.max_instances != 255).then_some(info.max_instances),
            listening: entry.listening,
            in_buffer_size: info.in_buffer_size,
            out_buffer_size: info.out_buffer_size,
            server_pid: entry.server_process_id,
            program: program(entry.server_process_id),
        }
    }
}

/// The name of a pipe that exists, taken as it is.
pub(crate) fn literal(name: &str) -> Option<PipeName> {
    PipeName::parse(&format!(r"\\?\pipe\{name}")).ok()
}
