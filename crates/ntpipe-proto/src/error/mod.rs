//! Win32 error codes, the NTSTATUS behind them, and the way to and from `io::Error`.
//!
//! Two tables drive everything: the Win32 codes in this file and the statuses in `status`.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::num::NonZeroU32;
use std::io::ErrorKind;

mod io;
pub use io::IoErrorExt;

mod status;
pub use status::Status;

/// Why a pipe operation failed: a Win32 error code.
///
/// Any non-zero code can be held, also one without a name here. Where several statuses share a
/// code (232 says "empty" as well as "closing", observed 0.3), [`Error::status`] keeps them
/// apart; it takes no part in comparisons, since a Windows program sees the code alone.
#[derive(Clone, Copy)]
pub struct Error {
    code: NonZeroU32,
    status: Option<Status>,
}

impl Error {
    /// The error with this code.
    pub const fn from_code(code: NonZeroU32) -> Self {
        Self { code, status: None }
    }

    /// The number that `GetLastError` would return.
    #[doc(alias = "GetLastError")]
    pub const fn code(self) -> u32 {
        self.code.get()
    }

    /// The status that became this error, if it was made from one.
    pub const fn status(self) -> Option<Status> {
        self.status
    }

    /// The Windows symbol, such as `ERROR_PIPE_BUSY`, if the code is one that pipes use.
    pub const fn name(self) -> Option<&'static str> {
        match row(self.code()) {
            Some(row) => Some(row.symbol),
            None => None,
        }
    }

    /// What went wrong, in one short sentence without a full stop.
    pub const fn message(self) -> &'static str {
        match row(self.code()) {
            Some(row) => row.message,
            None => "an error that pipes do not raise themselves",
        }
    }

    /// The kind that the standard library on Windows gives this code.
    ///
    /// Where it has none, the nearest kind there is, or else [`ErrorKind::Other`].
    pub const fn kind(self) -> ErrorKind {
        match row(self.code()) {
            Some(row) => row.kind,
            None => ErrorKind::Other,
        }
    }

    /// The error of a row in one of the tables, whose numbers are never zero.
    const fn known(code: u32) -> Self {
        match NonZeroU32::new(code) {
            Some(code) => Self::from_code(code),
            None => Self::from_code(NonZeroU32::MAX),
        }
    }
}

impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code
    }
}

impl Eq for Error {}

impl Hash for Error {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.code.hash(state);
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        status.error()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match row(self.code()) {
            Some(row) => write!(f, "{} ({}): {}", row.symbol, self.code, row.message),
            None => write!(f, "Win32 error {}", self.code),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("Error"))?;
        write!(f, "({})", self.code)?;
        match self.status {
            Some(status) => write!(f, " from {status:?}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Error {}

/// What the table knows of one code.
struct Row {
    symbol: &'static str,
    kind: ErrorKind,
    message: &'static str,
}

/// Makes of each row a constant and an arm of `row`; a number given twice is an unreachable arm.
macro_rules! win32_errors {
    ($($name:ident, $symbol:literal, $code:literal, $kind:ident, $message:literal;)*) => {
        impl Error {
            $(
                #[doc = concat!("`", $symbol, "` (", $code, "): ", $message, ".")]
                pub const $name: Self = Self::known($code);
            )*
        }

        const fn row(code: u32) -> Option<Row> {
            let (symbol, kind, message) = match code {
                $($code => ($symbol, ErrorKind::$kind, $message),)*
                _ => return None,
            };
            Some(Row { symbol, kind, message })
        }

        #[cfg(test)]
        const ROWS: &[(&str, Error, u32)] = &[$((stringify!($name), Error::$name, $code)),*];
    };
}

// The codes of reference 0.1, and what the system around a pipe can refuse.
win32_errors! {
    INVALID_FUNCTION, "ERROR_INVALID_FUNCTION", 1, Other, "this end cannot do that";
    FILE_NOT_FOUND, "ERROR_FILE_NOT_FOUND", 2, NotFound, "there is no pipe of this name";
    PATH_NOT_FOUND, "ERROR_PATH_NOT_FOUND", 3, NotFound, "there is no such path";
    TOO_MANY_OPEN_FILES, "ERROR_TOO_MANY_OPEN_FILES", 4, Other, "no descriptor is left";
    ACCESS_DENIED, "ERROR_ACCESS_DENIED", 5, PermissionDenied, "access is denied";
    INVALID_HANDLE, "ERROR_INVALID_HANDLE", 6, Other, "this is not a handle of a pipe";
    NOT_ENOUGH_MEMORY, "ERROR_NOT_ENOUGH_MEMORY", 8, OutOfMemory, "there is not enough memory";
    INVALID_DATA, "ERROR_INVALID_DATA", 13, InvalidData,
        "the peer broke the rules of the connection";
    BAD_LENGTH, "ERROR_BAD_LENGTH", 24, Other, "the length does not fit the request";
    GEN_FAILURE, "ERROR_GEN_FAILURE", 31, Other, "the system failed in an unforeseen way";
    NOT_SUPPORTED, "ERROR_NOT_SUPPORTED", 50, Unsupported, "this request is not supported";
    BAD_NETPATH, "ERROR_BAD_NETPATH", 53, NotFound,
        "the computer named in the path was not found";
    INVALID_PARAMETER, "ERROR_INVALID_PARAMETER", 87, InvalidInput, "an argument is not valid";
    BROKEN_PIPE, "ERROR_BROKEN_PIPE", 109, BrokenPipe, "the other end has been closed";
    SEM_TIMEOUT, "ERROR_SEM_TIMEOUT", 121, TimedOut, "no instance became free in time";
    INSUFFICIENT_BUFFER, "ERROR_INSUFFICIENT_BUFFER", 122, Other, "the buffer is too small";
    INVALID_NAME, "ERROR_INVALID_NAME", 123, InvalidFilename, "this does not name a pipe";
    BAD_PATHNAME, "ERROR_BAD_PATHNAME", 161, InvalidFilename, "this is not the path of a pipe";
    ALREADY_EXISTS, "ERROR_ALREADY_EXISTS", 183, AlreadyExists, "the pipe exists already";
    WAIT_IO_COMPLETION, "WAIT_IO_COMPLETION", 192, Other, "a completion routine ended the wait";
    PIPE_LOCAL, "ERROR_PIPE_LOCAL", 229, Other, "the pipe is local";
    BAD_PIPE, "ERROR_BAD_PIPE", 230, Other, "the state or mode of the pipe forbids this";
    PIPE_BUSY, "ERROR_PIPE_BUSY", 231, Other, "all instances are in use";
    NO_DATA, "ERROR_NO_DATA", 232, BrokenPipe, "the pipe is empty or being closed";
    PIPE_NOT_CONNECTED, "ERROR_PIPE_NOT_CONNECTED", 233, Other, "no process is at the other end";
    MORE_DATA, "ERROR_MORE_DATA", 234, Other, "the message is longer than the buffer";
    WAIT_TIMEOUT, "WAIT_TIMEOUT", 258, TimedOut, "the wait took too long";
    MR_MID_NOT_FOUND, "ERROR_MR_MID_NOT_FOUND", 317, Other, "the status has no error code";
    PIPE_CONNECTED, "ERROR_PIPE_CONNECTED", 535, Other, "a client is connected already";
    PIPE_LISTENING, "ERROR_PIPE_LISTENING", 536, Other, "no client has connected yet";
    OPERATION_ABORTED, "ERROR_OPERATION_ABORTED", 995, TimedOut, "the operation was cancelled";
    IO_INCOMPLETE, "ERROR_IO_INCOMPLETE", 996, Other, "the operation has not finished yet";
    IO_PENDING, "ERROR_IO_PENDING", 997, Other, "the operation goes on in the background";
    NOACCESS, "ERROR_NOACCESS", 998, Other, "the memory cannot be accessed";
    NO_TOKEN, "ERROR_NO_TOKEN", 1008, Other, "the thread impersonates nobody";
    NOT_FOUND, "ERROR_NOT_FOUND", 1168, Other, "there was nothing to cancel";
    UNKNOWN_REVISION, "ERROR_UNKNOWN_REVISION", 1305, Other, "the revision is not known";
    INVALID_OWNER, "ERROR_INVALID_OWNER", 1307, Other, "this identity cannot be the owner";
    PRIVILEGE_NOT_HELD, "ERROR_PRIVILEGE_NOT_HELD", 1314, Other, "a privilege is missing";
    INVALID_ACL, "ERROR_INVALID_ACL", 1336, Other, "the access control list is malformed";
    INVALID_SID, "ERROR_INVALID_SID", 1337, Other, "the security identifier is malformed";
    INVALID_SECURITY_DESCR, "ERROR_INVALID_SECURITY_DESCR", 1338, Other,
        "the security descriptor is malformed";
    BAD_IMPERSONATION_LEVEL, "ERROR_BAD_IMPERSONATION_LEVEL", 1346, Other,
        "the client did not allow this level of impersonation";
    CANT_OPEN_ANONYMOUS, "ERROR_CANT_OPEN_ANONYMOUS", 1347, Other,
        "the token of an anonymous client cannot be opened";
    INTERNAL_ERROR, "ERROR_INTERNAL_ERROR", 1359, Other, "an internal error occurred";
    CANNOT_IMPERSONATE, "ERROR_CANNOT_IMPERSONATE", 1368, Other,
        "nothing has been read from the client yet";
    NO_SYSTEM_RESOURCES, "ERROR_NO_SYSTEM_RESOURCES", 1450, Other, "the system has no room left";
    INVALID_USER_BUFFER, "ERROR_INVALID_USER_BUFFER", 1784, Other, "the buffer is not valid";
}

#[cfg(test)]
mod tests;
