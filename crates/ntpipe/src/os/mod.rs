//! What belongs to one operating system, under the names that the standard library gives it.

#[cfg(not(windows))]
pub mod windows;
#[cfg(windows)]
pub use std::os::windows;

#[cfg(not(windows))]
mod table;
#[cfg(not(windows))]
pub(crate) use table::{Held, close, duplicate, give, show, take_client, take_server};
