//! Who is measured: the transports of this command, and those that another program brings along.
//!
//! Such a program answers `PROGRAM list` with a JSON array of [`Foreign`], and `PROGRAM drive` with
//! the options of `ntpipe bench-peer drive` by measuring once and printing a [`Sample`] as JSON. Both
//! processes of its measurement are its own.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;
use serde::Deserialize;

use super::peer::BenchPeer;
use super::plan::{Item, Placement, Transport, Workload};
use super::work::Sample;
use crate::failure::Failure;

/// One transport, wherever it comes from.
#[derive(Clone, Debug)]
pub(super) struct Contestant {
    pub(super) name: String,
    /// Whether it is what is measured, not beside what.
    pub(super) is_ours: bool,
    /// Which of ours it stands beside.
    pub(super) beside: Option<String>,
    origin: Origin,
}

#[derive(Clone, Debug)]
enum Origin {
    Here(Transport),
    There { program: PathBuf, can: Vec<String> },
}

/// A transport of another program, as that tells it.
#[derive(Debug, Deserialize)]
struct Foreign {
    name: String,
    #[serde(default)]
    ours: bool,
    beside: Option<String>,
    /// Kinds of workloads.
    can: Vec<String>,
}

impl Contestant {
    /// Those of this command.
    pub(super) fn here() -> impl Iterator<Item = Self> {
        Transport::ALL.into_iter().map(|transport| Self {
            name: transport.to_string(),
            is_ours: transport.is_ours(),
            beside: None,
            origin: Origin::Here(transport),
        })
    }

    /// Those that a program brings along.
    pub(super) fn of(program: &Path) -> Result<Vec<Self>, Failure> {
        let what = format!("ask {} for its transports", program.display());
        let output = (Command::new(program).arg("list"))
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| Failure::io(&what, &error))?;
        let list: Vec<Foreign> = serde_json::from_slice(&output.stdout)
            .map_err(|error| Failure::other(format!("cannot {what}: {error}")))?;
        let all = list.into_iter().map(|foreign| Self {
            name: foreign.name,
            is_ours: foreign.ours,
            beside: foreign.beside,
            origin: Origin::There {
                program: program.to_owned(),
                can: foreign.can,
            },
        });
        Ok(all.collect())
    }

    pub(super) fn can(&self, workload: Workload) -> bool {
        match &self.origin {
            Origin::Here(transport) => transport.can(workload),
            Origin::There { can, .. } => can.iter().any(|kind| kind == workload.kind()),
        }
    }

    /// One run by a process of its own.
    pub(super) fn sample(
        &self,
        item: Item,
        name: &str,
        millis: u64,
        cpus: &str,
    ) -> Result<Sample, Failure> {
        let Item {
            workload,
            placement,
        } = item;
        let what = format!("measure {} ({workload}, {placement})", self.name);
        let output = self
            .driver(item, name, millis)
            .and_then(|mut command| {
                command.args(["--cpus", cpus]);
                command.stderr(Stdio::inherit()).output()
            })
            .map_err(|error| Failure::io(&what, &error))?;
        if !output.status.success() {
            return Err(Failure::other(format!(
                "cannot {what}: its process ended with {}",
                output.status
            )));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| Failure::other(format!("cannot {what}: {error}")))
    }

    fn driver(&self, item: Item, name: &str, millis: u64) -> io::Result<Command> {
        let (workload, placement) = (item.workload, item.placement);
        match &self.origin {
            Origin::Here(transport) => {
                BenchPeer::command("drive", *transport, workload, placement, name, millis)
            }
            Origin::There { program, .. } => {
                let place = placement.to_possible_value();
                let mut command = Command::new(program);
                command
                    .args(["drive", "--name", name, "--transport", &self.name])
                    .args(["--placement", place.as_ref().map_or("", |it| it.get_name())])
                    .args(["--workload", &serde_json::to_string(&workload)?])
                    .args(["--millis", &millis.to_string()]);
                if placement == Placement::Nospin {
                    command.env("NTPIPE_SPIN_US", "0");
                }
                Ok(command)
            }
        }
    }
}
