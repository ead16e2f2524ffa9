//! Moving an end to another process.

use std::fmt;
use std::io;

use ntpipe_proto::{Error, IoErrorExt};

/// Gives an end what moves it: it has a field `end`, an `Arc<End<_>>`.
macro_rules! moving {
    ($name:ident, $blocking:ty) => {
        impl $name {
            /// Moves the end to where its parts go, into another process as a rule: what was written
            /// and not read yet goes along. There is no `AsFd` for that: the bytes are in memory
            /// that both ends map, and no descriptor alone is the end.
            ///
            /// # Errors
            /// Those of the blocking end's `into_parts`; the end is closed also then.
            /// `ERROR_NOT_SUPPORTED` (50): there is another handle for tasks, a message that goes on by
            /// itself, or one that was read in part before its rest came.
            pub fn into_parts(self) -> io::Result<PipeParts> {
                let pipe = self.end.pipe.clone();
                drop(self);
                pipe.into_parts().map_err(explained)
            }

            /// The end in these parts, for the tasks of this runtime. Nobody else may hold it any
            /// more: tasks don't share an end with other processes.
            ///
            /// # Errors
            /// Outside of a runtime. Those of the blocking end's `from_parts`.
            /// `ERROR_NOT_SUPPORTED` (50): others hold the end too, as the process whose blocking
            /// end was shared and not moved; the parts are lost.
            pub fn from_parts(parts: PipeParts) -> io::Result<Self> {
                ::tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
                let pipe = <$blocking>::from_parts(parts.for_one()).map_err(explained)?;
                Self::from_blocking(pipe)
            }
        }
    };
}
pub(super) use moving;

/// `ERROR_NOT_SUPPORTED` (50), and what is not.
#[derive(Debug)]
struct Shared(Error);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: the end has other holders, or something is under way there",
            self.0
        )
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

pub(super) fn explained(error: io::Error) -> io::Error {
    match error.win32() {
        Some(code) if code == Error::NOT_SUPPORTED => io::Error::new(error.kind(), Shared(code)),
        Some(_) | None => error,
    }
}
