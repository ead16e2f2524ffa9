//! What the command says, and which code it exits with, when something fails.

use std::fmt;
use std::io;
use std::process::ExitCode;

use ntpipe::{Error, IoErrorExt, PipeName};

use crate::name::printable;

/// A failed command: what was attempted, which error came of it, what can be done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something failed.
    Told {
        message: String,
        hint: Option<String>,
        exit: Exit,
    },
    /// Nobody reads our output any more; there is nobody to tell.
    OutputClosed,
}

/// The exit codes; the help of the command documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    NoSuchPipe = 3,
    BusyOrTimedOut = 4,
    AccessDenied = 5,
    Damaged = 6,
}

impl Failure {
    /// A failure that no pipe reported.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self::Told {
            message: message.into(),
            hint: None,
            exit: Exit::Failed,
        }
    }

    /// A failure with an exit code of its own.
    pub(crate) fn with_exit(message: impl Into<String>, exit: Exit) -> Self {
        Self::Told {
            message: message.into(),
            hint: None,
            exit,
        }
    }

    /// `action` is what was attempted, such as `read the pipe`.
    pub(crate) fn io(action: &str, error: &io::Error) -> Self {
        let win32 = error.win32();
        Self::Told {
            message: format!("cannot {action}: {}", describe(error)),
            hint: win32.and_then(hint).map(str::to_owned),
            exit: win32.map_or(Exit::Failed, exit),
        }
    }

    /// An error of a call on a name; asks the name's owner for the numbers that explain it.
    pub(crate) fn pipe(verb: &str, name: &PipeName, error: &io::Error) -> Self {
        let mut failure = Self::io(&format!("{verb} {}", printable(&name.to_string())), error);
        if let Self::Told { message, hint, .. } = &mut failure {
            explain(name, error.win32(), message, hint);
        }
        failure
    }

    /// An error of writing to standard output.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::other(format!("cannot write to standard output: {error}"))
    }

    /// The same failure with another hint.
    pub(crate) fn hint(self, new: impl Into<String>) -> Self {
        match self {
            Self::Told { message, exit, .. } => Self::Told {
                message,
                hint: Some(new.into()),
                exit,
            },
            Self::OutputClosed => self,
        }
    }

    /// Tells the user; the exit code to end with.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::OutputClosed => ExitCode::SUCCESS,
            Self::Told { exit, .. } => {
                eprintln!("ntpipe: {self}");
                ExitCode::from(exit.code())
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutputClosed => f.write_str("standard output is closed"),
            Self::Told { message, hint, .. } => {
                f.write_str(message)?;
                hint.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
            }
        }
    }
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::NoSuchPipe => 3,
            Self::BusyOrTimedOut => 4,
            Self::AccessDenied => 5,
            Self::Damaged => 6,
        }
    }
}

/// The Win32 text, also for errors that `io::Error` would show as an unknown errno.
fn describe(error: &io::Error) -> String {
    match (error.raw_os_error(), error.win32()) {
        (Some(_), Some(win32)) => win32.to_string(),
        // What wraps a code says more than it, such as which directory.
        _ => error.to_string(),
    }
}

fn exit(error: Error) -> Exit {
    let exits = [
        (Error::FILE_NOT_FOUND, Exit::NoSuchPipe),
        (Error::PIPE_BUSY, Exit::BusyOrTimedOut),
        (Error::SEM_TIMEOUT, Exit::BusyOrTimedOut),
        (Error::ACCESS_DENIED, Exit::AccessDenied),
    ];
    let found = exits.iter().find(|(code, _)| *code == error);
    found.map_or(Exit::Failed, |(_, exit)| *exit)
}

fn hint(error: Error) -> Option<&'static str> {
    let found = HINTS.iter().find(|(code, _)| *code == error);
    found.map(|(_, hint)| *hint)
}

/// What to do about an error.
const HINTS: &[(Error, &str)] = &[
    (
        Error::FILE_NOT_FOUND,
        "`ntpipe list` shows the pipes that exist; a name dies with the process that serves it",
    ),
    (
        Error::PATH_NOT_FOUND,
        "names live in the first that applies of $NTPIPE_DIR, /run/ntpipe, $XDG_RUNTIME_DIR/ntpipe \
         and the temporary directory: create that directory, or set NTPIPE_DIR",
    ),
    (
        Error::ACCESS_DENIED,
        "a pipe can be opened by the user who created it, in the direction that it has: \
         `ntpipe list` tells both",
    ),
    (
        Error::NOT_SUPPORTED,
        "pipes of other computers can't be opened yet",
    ),
    (
        Error::INVALID_PARAMETER,
        "messages and transactions need a pipe of message type: `ntpipe info NAME` tells the type",
    ),
    (
        Error::SEM_TIMEOUT,
        "wait longer, or find out why the server does not get to it",
    ),
    (
        Error::INVALID_NAME,
        r"a name is \\.\pipe\x: put it in quotes, shells eat backslashes",
    ),
    (
        Error::PIPE_BUSY,
        "wait for an instance to become free (connect --wait SECONDS), or let the server have more \
         instances (listen --max-instances N)",
    ),
];

/// Adds what the owner of the name can tell.
fn explain(name: &PipeName, error: Option<Error>, message: &mut String, hint: &mut Option<String>) {
    let explained = [Error::PIPE_BUSY, Error::SEM_TIMEOUT, Error::ACCESS_DENIED];
    if !explained.map(Some).contains(&error) {
        return;
    }
    let Ok(info) = ntpipe::info(name.to_string()) else {
        return;
    };
    if error == Some(Error::ACCESS_DENIED) {
        let pid = info.server_process_id;
        *message += &format!("; process {pid} ({}) serves this name", program(pid));
        return;
    }
    let used = info.instances.saturating_sub(info.listening);
    // With the maximum at 255 there can be any number, but only so many exist.
    let all = match info.info.max_instances {
        255 => info.instances,
        max => max,
    };
    // Who creates an instance is refused when all exist, whether they have clients or not.
    let (count, how) = match error == Some(Error::PIPE_BUSY) && used < all {
        true => (info.instances, "exist"),
        false => (used, "in use"),
    };
    *message += &format!(": {count} of {all} instances {how}");
    if error == Some(Error::SEM_TIMEOUT) && used < all {
        *hint = Some("an instance is free now: try again".to_owned());
    }
}

/// The name of a process' program.
pub(crate) fn program(pid: u32) -> String {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match comm.trim_end_matches('\n') {
        "" => "?".to_owned(),
        comm => printable(comm).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: Error) -> String {
        Failure::io(r"open \\.\pipe\x", &error.into()).to_string()
    }

    #[test]
    fn every_hinted_code_is_told_with_symbol_number_and_hint() {
        for (error, symbol) in [
            (Error::FILE_NOT_FOUND, "ERROR_FILE_NOT_FOUND (2)"),
            (Error::PATH_NOT_FOUND, "ERROR_PATH_NOT_FOUND (3)"),
            (Error::ACCESS_DENIED, "ERROR_ACCESS_DENIED (5)"),
            (Error::NOT_SUPPORTED, "ERROR_NOT_SUPPORTED (50)"),
            (Error::INVALID_PARAMETER, "ERROR_INVALID_PARAMETER (87)"),
            (Error::SEM_TIMEOUT, "ERROR_SEM_TIMEOUT (121)"),
            (Error::INVALID_NAME, "ERROR_INVALID_NAME (123)"),
            (Error::PIPE_BUSY, "ERROR_PIPE_BUSY (231)"),
        ] {
            let text = told(error);
            let start = format!(r"cannot open \\.\pipe\x: {symbol}: ");
            assert!(text.starts_with(&start), "{text}");
            assert!(text.contains("\nhint: "), "{text}");
        }
        assert!(!told(Error::INTERNAL_ERROR).contains("hint"));
    }

    #[test]
    fn a_closed_output_is_no_failure_to_tell() {
        let error = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(matches!(Failure::output(&error), Failure::OutputClosed));
    }
}
