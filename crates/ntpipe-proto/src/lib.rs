//! What Windows promises of its pipes: no operating system, no clock, no unsafe code.

#![forbid(unsafe_code)]

mod error;
pub use error::{Error, IoErrorExt, Status};

mod name;
pub use name::PipeName;
