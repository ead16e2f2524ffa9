//! What each call means in each state, at either end: the two tables of reference 2.3.

use crate::{End, Error, Status};

/// The state of an instance as one of its ends sees it.
///
/// The client that was let go of stays `Disconnected` for ever, whatever becomes of the
/// instance (reference 1.4), and so do its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndState {
    /// No client has come yet. No client end ever sees it.
    Listening,
    /// Both ends are open.
    Connected,
    /// The other end is closed.
    Closing,
    /// The server end let go of its client.
    Disconnected,
}

impl EndState {
    /// What the call amounts to in this state at this end.
    ///
    /// That the handle has the rights for it has been checked before.
    pub const fn verdict(self, end: End, operation: Operation) -> Verdict {
        match end {
            End::Server => self.at_server(operation),
            End::Client => self.at_client(operation),
        }
    }

    /// The state after the other end was closed.
    ///
    /// An end that was let go of keeps saying so (observed 9.10).
    #[must_use]
    pub const fn peer_closed(self) -> Self {
        match self {
            Self::Connected | Self::Closing => Self::Closing,
            Self::Listening => Self::Listening,
            Self::Disconnected => Self::Disconnected,
        }
    }

    /// The number that NT has for the state (reference 0.2).
    #[doc(alias = "NamedPipeState")]
    pub const fn number(self) -> u32 {
        match self {
            Self::Disconnected => 1,
            Self::Listening => 2,
            Self::Connected => 3,
            Self::Closing => 4,
        }
    }

    const fn at_server(self, operation: Operation) -> Verdict {
        use Operation as Op;
        use Verdict::{DrainThen, Fail, Proceed, Succeed};

        match (operation, self) {
            (Op::Read | Op::Write, Self::Listening) => Fail(Error::PIPE_LISTENING),
            (Op::Read | Op::Write, Self::Connected) => Proceed,
            (Op::Read, Self::Closing) => DrainThen(BROKEN),
            (Op::Write, Self::Closing) => Fail(CLOSING),
            (Op::Read | Op::Write, Self::Disconnected) => Fail(DISCONNECTED),

            (Op::Peek | Op::Transact, Self::Listening | Self::Disconnected) => Fail(WRONG_STATE),
            (Op::Peek | Op::Transact, Self::Connected) => Proceed,
            (Op::Peek, Self::Closing) => DrainThen(BROKEN),
            (Op::Transact, Self::Closing) => Fail(WRONG_STATE),

            (Op::Flush, Self::Connected) => Proceed,
            (Op::Flush, Self::Listening | Self::Closing | Self::Disconnected) => Succeed,

            (Op::Connect, Self::Listening | Self::Disconnected) => Proceed,
            (Op::Connect, Self::Connected) => Fail(Error::PIPE_CONNECTED),
            (Op::Connect, Self::Closing) => Fail(CLOSING),

            (Op::Disconnect, Self::Listening | Self::Connected | Self::Closing) => Proceed,
            (Op::Disconnect, Self::Disconnected) => Fail(DISCONNECTED),

            (Op::Impersonate, Self::Connected | Self::Closing) => Proceed,
            (Op::Impersonate, Self::Listening | Self::Disconnected) => {
                Fail(Error::CANNOT_IMPERSONATE)
            }

            (Op::ClientId, Self::Connected | Self::Closing) => Proceed,
            (Op::ClientId, Self::Listening | Self::Disconnected) => Fail(Error::NOT_FOUND),

            (
                Op::Query | Op::SetState | Op::ServerId,
                Self::Listening | Self::Connected | Self::Closing | Self::Disconnected,
            ) => Proceed,
        }
    }

    /// A client end that says it listens has nobody at the other end.
    const fn at_client(self, operation: Operation) -> Verdict {
        use Operation as Op;
        use Verdict::{DrainThen, Fail, Proceed, Succeed};

        match (operation, self) {
            (
                Op::Connect | Op::Impersonate,
                Self::Listening | Self::Connected | Self::Closing | Self::Disconnected,
            )
            | (Op::Disconnect, Self::Connected | Self::Closing) => Fail(SERVER_ONLY),

            (
                Op::Read
                | Op::Write
                | Op::Peek
                | Op::Transact
                | Op::Flush
                | Op::Disconnect
                | Op::Query
                | Op::SetState
                | Op::ClientId
                | Op::ServerId,
                Self::Listening | Self::Disconnected,
            ) => Fail(DISCONNECTED),

            (Op::Read | Op::Write | Op::Peek | Op::Transact | Op::Flush, Self::Connected)
            | (
                Op::Query | Op::SetState | Op::ClientId | Op::ServerId,
                Self::Connected | Self::Closing,
            ) => Proceed,

            (Op::Read | Op::Peek, Self::Closing) => DrainThen(BROKEN),
            (Op::Write, Self::Closing) => Fail(CLOSING),
            (Op::Transact, Self::Closing) => Fail(WRONG_STATE),
            (Op::Flush, Self::Closing) => Succeed,
        }
    }
}

/// A call whose meaning depends on the state of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Take data.
    #[doc(alias = "ReadFile")]
    Read,
    /// Send data.
    #[doc(alias = "WriteFile")]
    Write,
    /// Look at data without taking it.
    #[doc(alias = "PeekNamedPipe")]
    Peek,
    /// Send a message and take the answer.
    #[doc(alias = "TransactNamedPipe")]
    Transact,
    /// Wait until the other end has read everything.
    #[doc(alias = "FlushFileBuffers")]
    Flush,
    /// Wait for a client.
    #[doc(alias = "ConnectNamedPipe")]
    Connect,
    /// Let go of the client.
    #[doc(alias = "DisconnectNamedPipe")]
    Disconnect,
    /// Act as the client.
    #[doc(alias = "ImpersonateNamedPipeClient")]
    Impersonate,
    /// Ask for modes, properties, or the security descriptor; also set the latter.
    #[doc(alias = "GetNamedPipeInfo")]
    #[doc(alias = "GetNamedPipeHandleState")]
    Query,
    /// Set the modes.
    #[doc(alias = "SetNamedPipeHandleState")]
    SetState,
    /// Ask for the client's process or session.
    #[doc(alias = "GetNamedPipeClientProcessId")]
    ClientId,
    /// Ask for the server's process or session.
    #[doc(alias = "GetNamedPipeServerProcessId")]
    ServerId,
}

/// What becomes of a call, so far as the state decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on; what comes of it depends on more than the state.
    ///
    /// A connect that goes on waits for a client. At an end that does not wait it fails with
    /// `ERROR_PIPE_LISTENING` (536), after a disconnected instance has begun to listen
    /// (observed 4.8, 4.9).
    Proceed,
    /// It succeeds at once; there is nothing to do.
    Succeed,
    /// It goes on while data is left, a message without bytes included, and then fails so.
    DrainThen(Error),
    /// It fails so.
    Fail(Error),
}

const BROKEN: Error = Status::PIPE_BROKEN.error();
const CLOSING: Error = Status::PIPE_CLOSING.error();
const DISCONNECTED: Error = Status::PIPE_DISCONNECTED.error();
const SERVER_ONLY: Error = Status::ILLEGAL_FUNCTION.error();
const WRONG_STATE: Error = Status::INVALID_PIPE_STATE.error();
