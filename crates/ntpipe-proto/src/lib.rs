//! What Windows promises of its pipes: no operating system, no clock, no unsafe code.

#![forbid(unsafe_code)]

// What the unit tests share with the tests outside calls this crate by its name.
#[cfg(test)]
extern crate self as ntpipe_proto;

pub mod control;

mod error;
pub use error::{Error, IoErrorExt, Status};

pub mod lane;

mod mode;
pub use mode::{
    Access, DefaultTimeout, Direction, End, MaxInstances, PipeState, PipeType, ReadMode,
    ServerMode, WaitMode, WaitTimeout,
};

mod name;
pub use name::PipeName;

mod instance;
pub use instance::{EndState, Instance, Operation, Ticket, Verdict};

mod server;
pub use server::{
    Connection, FirstInstance, InstanceId, InstanceOptions, Listen, NameInfo, Quotas, Server,
    WaiterId,
};
