//! Between Win32 codes and the standard library's error, which reads numbers as errno.

use core::num::NonZeroU32;
use std::io;

use super::Error;

/// The Win32 code inside an [`io::Error`], in whichever of its two forms it is there.
///
/// Linux's `io::Error` cannot hold a Win32 number that is also an errno without giving it the
/// errno's meaning. Codes that no errno takes (above 133), and code 2, which means the same to
/// both, are held as [`io::Error::raw_os_error`]; the others as the [`Error`] itself. On Windows all
/// codes are what `raw_os_error` returns.
pub trait IoErrorExt {
    /// The Win32 code, or `None` if the error does not come from a pipe.
    fn win32_code(&self) -> Option<u32>;

    /// The error as [`Error`], or `None` if it does not come from a pipe.
    fn win32(&self) -> Option<Error>;
}

impl IoErrorExt for io::Error {
    fn win32_code(&self) -> Option<u32> {
        self.win32().map(Error::code)
    }

    fn win32(&self) -> Option<Error> {
        if let Some(raw) = self.raw_os_error() {
            let code = u32::try_from(raw).ok().and_then(NonZeroU32::new)?;
            return is_raw(code.get()).then_some(Error::from_code(code));
        }
        let inner: &(dyn core::error::Error + 'static) = self.get_ref()?;
        // An error that says more, such as which directory it was, has the code as its source.
        std::iter::successors(Some(inner), |error| error.source())
            .find_map(|error| error.downcast_ref().copied())
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match i32::try_from(error.code()) {
            Ok(raw) if is_raw(error.code()) => Self::from_raw_os_error(raw),
            Ok(_) | Err(_) => Self::new(error.kind(), error),
        }
    }
}

/// Whether `io::Error` can hold the bare number without mistaking it for another errno.
const fn is_raw(code: u32) -> bool {
    cfg!(windows) || code == 2 || code > LAST_ERRNO
}

/// `EHWPOISON`, the highest errno that Linux shows to programs.
const LAST_ERRNO: u32 = 133;
