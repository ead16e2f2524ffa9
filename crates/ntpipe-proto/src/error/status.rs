//! NTSTATUS: what the pipe itself answers, finer than the Win32 code.

use core::fmt;
use core::num::NonZeroU32;

use super::Error;

/// An NTSTATUS other than success.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(NonZeroU32);

impl Status {
    /// The status with this number; `None` for 0, which is success.
    pub const fn from_code(code: u32) -> Option<Self> {
        match NonZeroU32::new(code) {
            Some(code) => Some(Self(code)),
            None => None,
        }
    }

    /// The number, as it stands on the wire.
    pub const fn code(self) -> u32 {
        self.0.get()
    }

    /// The status of a row in the table, whose numbers are never zero.
    const fn known(code: u32) -> Self {
        match NonZeroU32::new(code) {
            Some(code) => Self(code),
            None => Self(NonZeroU32::MAX),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "NTSTATUS {:#010X}", self.0),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes of each row a constant and an arm of `error` and `name`.
macro_rules! statuses {
    ($($name:ident, $code:literal, $error:ident;)*) => {
        impl Status {
            $(
                #[doc = concat!(
                    "`STATUS_", stringify!($name), "` (", stringify!($code), "), which is ",
                    "[`Error::", stringify!($error), "`].",
                )]
                pub const $name: Self = Self::known($code);
            )*

            /// The error that a Windows program sees for this status (observed 0.3, reference 0.1).
            ///
            /// A status outside the table is [`Error::MR_MID_NOT_FOUND`], as on Windows.
            #[doc(alias = "RtlNtStatusToDosError")]
            pub const fn error(self) -> Error {
                let error = match self.code() {
                    $($code => Error::$error,)*
                    _ => Error::MR_MID_NOT_FOUND,
                };
                Error { code: error.code, status: Some(self) }
            }

            /// The Windows symbol, such as `STATUS_PIPE_EMPTY`, if the status is in the table.
            pub const fn name(self) -> Option<&'static str> {
                match self.code() {
                    $($code => Some(concat!("STATUS_", stringify!($name))),)*
                    _ => None,
                }
            }
        }

        #[cfg(test)]
        pub(super) const ROWS: &[(&str, Status, u32, Error)] =
            &[$((stringify!($name), Status::$name, $code, Error::$error)),*];
    };
}

statuses! {
    PENDING, 0x0000_0103, IO_PENDING;
    BUFFER_OVERFLOW, 0x8000_0005, MORE_DATA;
    INFO_LENGTH_MISMATCH, 0xC000_0004, BAD_LENGTH;
    ACCESS_VIOLATION, 0xC000_0005, NOACCESS;
    INVALID_HANDLE, 0xC000_0008, INVALID_HANDLE;
    INVALID_PARAMETER, 0xC000_000D, INVALID_PARAMETER;
    INVALID_DEVICE_REQUEST, 0xC000_0010, INVALID_FUNCTION;
    ACCESS_DENIED, 0xC000_0022, ACCESS_DENIED;
    BUFFER_TOO_SMALL, 0xC000_0023, INSUFFICIENT_BUFFER;
    OBJECT_TYPE_MISMATCH, 0xC000_0024, INVALID_HANDLE;
    OBJECT_NAME_INVALID, 0xC000_0033, INVALID_NAME;
    OBJECT_NAME_NOT_FOUND, 0xC000_0034, FILE_NOT_FOUND;
    OBJECT_PATH_INVALID, 0xC000_0039, BAD_PATHNAME;
    OBJECT_PATH_SYNTAX_BAD, 0xC000_003B, BAD_PATHNAME;
    PRIVILEGE_NOT_HELD, 0xC000_0061, PRIVILEGE_NOT_HELD;
    INSUFFICIENT_RESOURCES, 0xC000_009A, NO_SYSTEM_RESOURCES;
    INSTANCE_NOT_AVAILABLE, 0xC000_00AB, PIPE_BUSY;
    PIPE_NOT_AVAILABLE, 0xC000_00AC, PIPE_BUSY;
    INVALID_PIPE_STATE, 0xC000_00AD, BAD_PIPE;
    PIPE_BUSY, 0xC000_00AE, PIPE_BUSY;
    ILLEGAL_FUNCTION, 0xC000_00AF, INVALID_FUNCTION;
    PIPE_DISCONNECTED, 0xC000_00B0, PIPE_NOT_CONNECTED;
    PIPE_CLOSING, 0xC000_00B1, NO_DATA;
    PIPE_CONNECTED, 0xC000_00B2, PIPE_CONNECTED;
    PIPE_LISTENING, 0xC000_00B3, PIPE_LISTENING;
    INVALID_READ_MODE, 0xC000_00B4, BAD_PIPE;
    IO_TIMEOUT, 0xC000_00B5, SEM_TIMEOUT;
    NOT_SUPPORTED, 0xC000_00BB, NOT_SUPPORTED;
    PIPE_EMPTY, 0xC000_00D9, NO_DATA;
    INVALID_USER_BUFFER, 0xC000_00E8, INVALID_USER_BUFFER;
    CANNOT_IMPERSONATE, 0xC000_010D, CANNOT_IMPERSONATE;
    CANCELLED, 0xC000_0120, OPERATION_ABORTED;
    PIPE_BROKEN, 0xC000_014B, BROKEN_PIPE;
    NOT_FOUND, 0xC000_0225, NOT_FOUND;
}
