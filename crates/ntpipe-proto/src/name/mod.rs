//! Pipe names: every spelling that Windows takes, parsed once and folded for comparison.

use core::fmt;
use core::str::FromStr;
use std::ffi::OsStr;

use crate::Error;

mod fold;
use fold::Folded;

/// The name of a pipe; the only way to say which pipe is meant.
///
/// The spelling is kept as given. Comparison, order and hash ignore case as NT does (observed
/// 2.1): character by character by its upper case where that is a single UTF-16 unit, whatever
/// the language. So `ß` and `SS` differ, `ı` is not `I`, and an ASCII letter equals nothing but
/// its other case.
///
/// Apart from case, a name is an opaque string. `\` makes no directories, `.` and `..` mean
/// nothing, a `\` at the end makes another name (observed 2.2, 2.4, 2.5). Every character but
/// NUL is allowed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PipeName {
    host: Option<Folded>,
    name: Folded,
}

impl PipeName {
    /// Parses a path of a pipe in any of these spellings:
    ///
    /// - `\\.\pipe\name`, with `/` for `\` anywhere; it becomes `\` also inside the name, as in
    ///   the Win32 layer (reference 2.1);
    /// - `\\server\pipe\name` likewise, a pipe of another computer, which can only be opened;
    /// - `\\?\pipe\name`, which is taken literally: `/` stays `/` in the name, as in the NT layer
    ///   (observed 2.3, 2.5);
    /// - `npipe:` followed by one of these, also with the `//` of a URL between them, as in
    ///   `npipe:////./pipe/name`.
    ///
    /// `npipe`, `pipe` and the server are case-insensitive.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_NAME` (123) for everything else: another prefix, no prefix (observed 1.1),
    /// no name after it (reference 1.2), a NUL, or more than 256 UTF-16 units in all. (Microsoft
    /// documents that limit; observed 1.7 leaves open what Windows does beyond it.)
    pub fn parse(path: &str) -> Result<Self, Error> {
        let path = without_scheme(path);
        let parsed = match path.strip_prefix(LITERAL_ROOT) {
            Some(rest) => Self {
                host: None,
                name: Folded::new(without_pipe(rest).ok_or(Error::INVALID_NAME)?.to_owned()),
            },
            None => Self::parse_win32(&path.replace('/', r"\")).ok_or(Error::INVALID_NAME)?,
        };
        parsed.check()
    }

    /// Parses what [`PipeName::parse`] does, and a bare `name` for `\\.\pipe\name`.
    ///
    /// Meant for command lines. `/` in a bare name becomes `\`. It cannot begin with either: that
    /// is what a shell leaves of an unquoted `\\.\pipe\name`, not a name that somebody chose.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_NAME` (123) as for [`PipeName::parse`].
    pub fn parse_lenient(text: &str) -> Result<Self, Error> {
        if text.starts_with(['\\', '/']) || without_scheme(text).len() != text.len() {
            return Self::parse(text);
        }
        Self {
            host: None,
            name: Folded::new(text.replace('/', r"\")),
        }
        .check()
    }

    /// Parses as [`PipeName::parse`] does.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_NAME` (123) also for a path that is not UTF-8.
    pub fn from_os_str(path: &OsStr) -> Result<Self, Error> {
        Self::parse(path.to_str().ok_or(Error::INVALID_NAME)?)
    }

    /// The name without its prefix, in its creator's spelling.
    pub fn as_str(&self) -> &str {
        self.name.spelling()
    }

    /// The name without its prefix, folded: equal for equal names.
    pub fn folded(&self) -> &str {
        self.name.key()
    }

    /// The computer that has the pipe, if the path named one.
    pub fn host(&self) -> Option<&str> {
        self.host.as_ref().map(Folded::spelling)
    }

    /// Whether the path named this computer (`.`); only such a pipe can be created.
    pub const fn is_local(&self) -> bool {
        self.host.is_none()
    }

    /// The path in the spelling of Windows, such as `\\.\pipe\name`.
    ///
    /// A name that holds a `/` has to be written `\\?\pipe\a/b`, or it would change.
    pub fn win32_path(&self) -> String {
        self.to_string()
    }

    /// Parses `\\server\pipe\name`, all separators being backslashes.
    fn parse_win32(path: &str) -> Option<Self> {
        let (server, rest) = path.strip_prefix(r"\\")?.split_once('\\')?;
        let host = match server {
            // `\\?\` was not literal if one of its separators was a slash; then it is `\\.\`.
            "." | "?" => None,
            "" => return None,
            _ => Some(Folded::new(server.to_owned())),
        };
        Some(Self {
            host,
            name: Folded::new(without_pipe(rest)?.to_owned()),
        })
    }

    /// Refuses what only the whole can tell.
    fn check(self) -> Result<Self, Error> {
        let parts = [r"\\", self.host().unwrap_or("."), r"\pipe\", self.as_str()];
        let units: usize = parts.map(|part| part.encode_utf16().count()).iter().sum();
        let nul = parts.iter().any(|part| part.contains('\0'));
        if self.as_str().is_empty() || nul || units > MAX_PATH_UNITS {
            return Err(Error::INVALID_NAME);
        }
        Ok(self)
    }
}

impl FromStr for PipeName {
    type Err = Error;

    fn from_str(path: &str) -> Result<Self, Error> {
        Self::parse(path)
    }
}

impl fmt::Display for PipeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match self.host() {
            Some(host) => host,
            None if self.as_str().contains('/') => "?",
            None => ".",
        };
        write!(f, r"\\{host}\pipe\{}", self.as_str())
    }
}

impl fmt::Debug for PipeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PipeName({self})")
    }
}

/// Takes off `npipe:`, and the `//` of a URL if a whole path follows it.
fn without_scheme(path: &str) -> &str {
    let Some((scheme, rest)) = path.split_once(':') else {
        return path;
    };
    if !scheme.eq_ignore_ascii_case("npipe") {
        return path;
    }
    match rest.strip_prefix("//") {
        Some(inner) if inner.starts_with("//") || inner.starts_with(r"\\") => inner,
        Some(_) | None => rest,
    }
}

/// Takes off `pipe\`.
fn without_pipe(path: &str) -> Option<&str> {
    let (device, name) = path.split_once('\\')?;
    device.eq_ignore_ascii_case("pipe").then_some(name)
}

const LITERAL_ROOT: &str = r"\\?\";
const MAX_PATH_UNITS: usize = 256;

#[cfg(test)]
mod tests;
