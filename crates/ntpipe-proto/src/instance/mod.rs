//! One instance in its owner: its states by value, and what moves it between them.

use crate::{Access, Error, Status};

mod verdict;
pub use verdict::{EndState, Operation, Verdict};

/// The state of one instance, as its server end has it (reference 2.3).
///
/// ```text
/// create ──> Listening ──open──> Connected ──client_closed──> Closing
///                ^   │               │                           │
///             listen └──────────disconnect───────────────────────┘
///                │                   v
///                └───────────── Disconnected
/// ```
///
/// A transition takes the state and returns the next one; where it fails, the caller still has
/// the state it started from. There is no way from `Closing` to `Listening` but by
/// `Disconnected`. Closing the server end is to drop the value, in whatever state it is: the
/// client then learns of it by its connection, not from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instance {
    /// Waits for a client.
    Listening {
        /// Its place among the instances that listen.
        ticket: Ticket,
    },
    /// A client has it.
    Connected {
        /// The place at which the client found it: tells this client from all others.
        ticket: Ticket,
        /// What the client's handle is granted.
        access: Access,
    },
    /// The client is gone, and the server end has not been disconnected yet.
    Closing {
        /// What the client's handle was granted.
        access: Access,
    },
    /// The server end let go of its client and does not listen.
    Disconnected,
}

impl Instance {
    /// A new instance; it listens at once (observed 1.26).
    pub const fn create(ticket: Ticket) -> Self {
        Self::Listening { ticket }
    }

    /// A client opens the instance.
    ///
    /// # Errors
    ///
    /// `ERROR_PIPE_BUSY` (231) unless it listens (observed 3.3 to 3.5).
    pub const fn open(self, access: Access) -> Result<Self, Error> {
        match self {
            Self::Listening { ticket } => Ok(Self::Connected { ticket, access }),
            Self::Connected { .. } | Self::Closing { .. } | Self::Disconnected => {
                Err(Status::PIPE_NOT_AVAILABLE.error())
            }
        }
    }

    /// The server end asks for a client; `ticket` is its place if it has to line up again.
    ///
    /// A connected instance stays what it is: its caller has a client already.
    ///
    /// # Errors
    ///
    /// `ERROR_NO_DATA` (232) if the client is gone: disconnect first (observed 4.6).
    #[doc(alias = "ConnectNamedPipe")]
    pub const fn listen(self, ticket: Ticket) -> Result<Self, Error> {
        match self {
            Self::Listening { .. } | Self::Connected { .. } => Ok(self),
            Self::Closing { .. } => Err(Status::PIPE_CLOSING.error()),
            Self::Disconnected => Ok(Self::Listening { ticket }),
        }
    }

    /// The server end lets go of its client, if it has one, and stops listening.
    ///
    /// Also while it listens (reference 1.4).
    ///
    /// # Errors
    ///
    /// `ERROR_PIPE_NOT_CONNECTED` (233) if it is disconnected already (observed 9.3).
    #[doc(alias = "DisconnectNamedPipe")]
    pub const fn disconnect(self) -> Result<Self, Error> {
        match self {
            Self::Listening { .. } | Self::Connected { .. } | Self::Closing { .. } => {
                Ok(Self::Disconnected)
            }
            Self::Disconnected => Err(Status::PIPE_DISCONNECTED.error()),
        }
    }

    /// The client that came in with `ticket` has closed its end (observed 9.21).
    ///
    /// That changes nothing if it was let go of before, whoever has the instance by now.
    #[must_use]
    pub fn client_closed(self, ticket: Ticket) -> Self {
        match self {
            Self::Connected {
                ticket: current,
                access,
            } if current == ticket => Self::Closing { access },
            Self::Listening { .. }
            | Self::Connected { .. }
            | Self::Closing { .. }
            | Self::Disconnected => self,
        }
    }

    /// The open by which the client came in with `ticket` goes wrong after all: the instance is in
    /// line where it was.
    ///
    /// That changes nothing if the client was let go of before, or has closed its end.
    #[must_use]
    pub fn give_back(self, ticket: Ticket) -> Self {
        match self {
            Self::Connected {
                ticket: current, ..
            } if current == ticket => Self::Listening { ticket },
            Self::Listening { .. }
            | Self::Connected { .. }
            | Self::Closing { .. }
            | Self::Disconnected => self,
        }
    }

    /// The state without its data.
    pub const fn state(self) -> EndState {
        match self {
            Self::Listening { .. } => EndState::Listening,
            Self::Connected { .. } => EndState::Connected,
            Self::Closing { .. } => EndState::Closing,
            Self::Disconnected => EndState::Disconnected,
        }
    }

    /// What the client's handle is granted, also if the client is gone but not let go of.
    pub const fn client_access(self) -> Option<Access> {
        match self {
            Self::Connected { access, .. } | Self::Closing { access } => Some(access),
            Self::Listening { .. } | Self::Disconnected => None,
        }
    }
}

/// When an instance began to listen: the lower ticket is served first (observed 3.10).
///
/// An instance takes a new one each time that it enters `Listening`, so that a ticket also tells
/// apart the clients that an instance has one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// The first ticket of a pipe.
    pub const FIRST: Self = Self(0);

    /// The ticket with this number.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The number: the lower one is served first.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The ticket after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

#[cfg(test)]
mod tests;
