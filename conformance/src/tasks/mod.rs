//! The steps as tasks of a runtime, through `ntpipe::tokio`.
//!
//! Each operation is a task. An operation is cancelled by dropping its future; that it came to
//! nothing is not its word but that of who dropped it. All that go on at an end are cancelled by
//! `cancel_io`.
//!
//! On a byte pipe a write goes on until all its bytes are accepted, as `write_all` does.

mod course;
pub(crate) use course::lacks_together;

mod ends;

mod lacks;
pub(crate) use lacks::lacks;

mod worker;
pub(crate) use worker::Worker;
