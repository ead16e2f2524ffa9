//! The `ntpipe` command: pipes from the shell.
//!
//! One file per subcommand; [`failure`] has the exit codes, [`Command`] the list of subcommands.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod call;
mod connect;
mod demo;
mod entry;
mod exec;
mod failure;
mod info;
mod list;
mod listen;
mod name;
mod relay;

use failure::Failure;

/// Windows pipes on Linux: try, talk to and list them.
///
/// NAME is accepted in every spelling: \\.\pipe\x, //./pipe/x, npipe:////./pipe/x, or just x.
/// (Shells eat backslashes: write '\\.\pipe\x' in quotes.)
#[derive(Debug, Parser)]
#[command(name = "ntpipe", version, about, long_about, after_long_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Listen(listen::Listen),
    Connect(connect::Connect),
    Call(call::Call),
    List(list::List),
    Info(info::Info),
    Bench(bench::Bench),
    #[command(hide = true)]
    BenchPeer(bench::peer::BenchPeer),
    #[command(hide = true)]
    DemoPeer(demo::peer::DemoPeer),
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Demo(demo) => demo.run(),
            Self::Listen(listen) => listen.run(),
            Self::Connect(connect) => connect.run(),
            Self::Call(call) => call.run(),
            Self::List(list) => list.run(),
            Self::Info(info) => info.run(),
            Self::Bench(bench) => bench.run(),
            Self::BenchPeer(peer) => peer.run(),
            Self::DemoPeer(peer) => peer.run(),
        }
    }
}

const AFTER_HELP: &str = r"Exit codes:
  0  it worked
  1  the operation failed
  2  wrong usage
  3  there is no such pipe
  4  all instances are busy, or the time was up
  5  access denied
  6  data arrived damaged (demo)

Environment:
  NTPIPE_DIR  the directory that holds the names; otherwise /run/ntpipe if it exists,
              $XDG_RUNTIME_DIR/ntpipe, or ntpipe-UID among the temporary files
  NTPIPE_SPIN_US  how long a call may look for its peer before it sleeps, in microseconds; 0 to
              sleep at once; otherwise measured

Examples:
  ntpipe demo                             does it work here? sends files both ways, checks them
  ntpipe listen --message chat            in one shell ...
  ntpipe connect --message --wait 10 chat ... and in another: type lines
  ntpipe list                             which pipes are there, and whose";

fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
