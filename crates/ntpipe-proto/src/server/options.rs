//! What the creator of an instance asks for, and what can be asked of a name.

use crate::{DefaultTimeout, Direction, MaxInstances, PipeType};

/// What `CreateNamedPipe` says of an instance and, if it is the first, of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceOptions {
    /// Which way data flows; has to agree with the first instance.
    pub direction: Direction,
    /// Whether the boundaries between writes are kept; of the first instance.
    pub pipe_type: PipeType,
    /// How many instances there can be; of the first instance.
    pub max_instances: MaxInstances,
    /// The quotas of this instance.
    pub quotas: Quotas,
    /// How long a client waits if it does not say; of the first instance.
    pub default_timeout: DefaultTimeout,
    /// Whether this has to be the first instance.
    pub first: FirstInstance,
}

/// Whether the instance may join others of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FirstInstance {
    /// It has to be the first.
    #[doc(alias = "FILE_FLAG_FIRST_PIPE_INSTANCE")]
    Required,
    /// It can be a further one.
    NotRequired,
}

/// Up to how many unread bytes the writes of an instance complete at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quotas {
    /// From client to server.
    #[doc(alias = "nInBufferSize")]
    pub inbound: u32,
    /// From server to client.
    #[doc(alias = "nOutBufferSize")]
    pub outbound: u32,
}

/// What the owner of a name knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NameInfo {
    /// Whether the boundaries between writes are kept.
    pub pipe_type: PipeType,
    /// Which way data flows.
    pub direction: Direction,
    /// How many instances there can be.
    pub max_instances: MaxInstances,
    /// How many instances there are, in whatever state.
    pub instances: u32,
    /// How many of them listen.
    pub listening: u32,
    /// How long a client waits if it does not say.
    pub default_timeout: DefaultTimeout,
}
