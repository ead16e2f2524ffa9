//! The flag words of `CreateNamedPipe` and `SetNamedPipeHandleState`, parsed and written.

use super::{Access, Direction, PipeType, ReadMode, WaitMode};
use crate::Error;

/// What the two flag words of `CreateNamedPipe` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerMode {
    /// Which way data flows.
    pub direction: Direction,
    /// Whether the name must not exist yet.
    #[doc(alias = "FILE_FLAG_FIRST_PIPE_INSTANCE")]
    pub first_instance: bool,
    /// Whether calls can be left to finish in the background.
    #[doc(alias = "FILE_FLAG_OVERLAPPED")]
    pub overlapped: bool,
    /// Whether writes to another computer are not collected.
    #[doc(alias = "FILE_FLAG_WRITE_THROUGH")]
    pub write_through: bool,
    /// Rights that the handle gets on top of those that the direction implies (observed 1.28).
    ///
    /// [`Access::WRITE_OWNER`] is the same bit as `first_instance`, so from flags one comes with
    /// the other (reference 1.2).
    pub extra_access: Access,
    /// Whether the pipe keeps the boundaries between writes.
    pub pipe_type: PipeType,
    /// How the server end reads at first.
    pub read_mode: ReadMode,
    /// Whether the server end's calls wait at first.
    pub wait_mode: WaitMode,
    /// Whether clients on other computers are refused.
    #[doc(alias = "PIPE_REJECT_REMOTE_CLIENTS")]
    pub reject_remote: bool,
}

impl ServerMode {
    /// Reads the flag words `dwOpenMode` and `dwPipeMode` (reference 1.2).
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_PARAMETER` (87) for a bit that has no meaning there, for an open mode
    /// without a direction, and as for [`ServerMode::check`].
    pub fn from_flags(open_mode: u32, pipe_mode: u32) -> Result<Self, Error> {
        let inbound = open_mode & ACCESS_INBOUND != 0;
        let outbound = open_mode & ACCESS_OUTBOUND != 0;
        let direction = match (inbound, outbound) {
            (true, true) => Direction::Duplex,
            (true, false) => Direction::Inbound,
            (false, true) => Direction::Outbound,
            (false, false) => return Err(Error::INVALID_PARAMETER),
        };
        if open_mode & !OPEN_MODE != 0 || pipe_mode & !PIPE_MODE != 0 {
            return Err(Error::INVALID_PARAMETER);
        }
        let state = PipeState::from_bits(pipe_mode & STATE)?;
        let mode = Self {
            direction,
            first_instance: open_mode & FIRST_PIPE_INSTANCE != 0,
            overlapped: open_mode & OVERLAPPED != 0,
            write_through: open_mode & WRITE_THROUGH != 0,
            extra_access: Access::from_bits(open_mode) & EXTRA_ACCESS,
            pipe_type: match pipe_mode & TYPE_MESSAGE {
                0 => PipeType::Byte,
                _ => PipeType::Message,
            },
            read_mode: state.read_mode,
            wait_mode: state.wait_mode,
            reject_remote: pipe_mode & REJECT_REMOTE != 0,
        };
        mode.check()?;
        Ok(mode)
    }

    /// Refuses what no pipe can be; for a mode that was put together by hand.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_PARAMETER` (87) if a pipe of bytes is to be read by messages (observed 1.3),
    /// or if `extra_access` holds a right that cannot be asked for in this way.
    pub fn check(self) -> Result<(), Error> {
        let legal =
            self.pipe_type.allows(self.read_mode) && EXTRA_ACCESS.contains(self.extra_access);
        if legal {
            Ok(())
        } else {
            Err(Error::INVALID_PARAMETER)
        }
    }

    /// The word `dwOpenMode`.
    ///
    /// Either of `first_instance` and [`Access::WRITE_OWNER`] alone is read back as both.
    pub fn open_mode(self) -> u32 {
        self.direction.bits()
            | bit(self.first_instance, FIRST_PIPE_INSTANCE)
            | bit(self.overlapped, OVERLAPPED)
            | bit(self.write_through, WRITE_THROUGH)
            | self.extra_access.bits()
    }

    /// The word `dwPipeMode`.
    pub fn pipe_mode(self) -> u32 {
        self.pipe_type.bits() | self.state().bits() | bit(self.reject_remote, REJECT_REMOTE)
    }

    /// How the server end reads and waits at first.
    pub const fn state(self) -> PipeState {
        PipeState {
            read_mode: self.read_mode,
            wait_mode: self.wait_mode,
        }
    }

    /// What the server's handle is granted: what the direction implies and what was asked for.
    pub fn granted_access(self) -> Access {
        Access::granted_to_server(self.direction) | self.extra_access
    }
}

/// How one end reads and waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PipeState {
    /// Whether reads stop at the end of a message.
    pub read_mode: ReadMode,
    /// Whether calls wait.
    pub wait_mode: WaitMode,
}

impl PipeState {
    /// How a client end starts, whatever the server end does (observed 3.2).
    pub const CLIENT: Self = Self {
        read_mode: ReadMode::Byte,
        wait_mode: WaitMode::Wait,
    };

    /// Reads the word that `SetNamedPipeHandleState` takes; it says both modes (observed 8.7).
    ///
    /// Whether the pipe's type allows the read mode is for [`PipeType::allows`] to say.
    ///
    /// # Errors
    ///
    /// `ERROR_INVALID_PARAMETER` (87) for any bit beyond the two (reference 1.13).
    pub const fn from_bits(bits: u32) -> Result<Self, Error> {
        if bits & !STATE != 0 {
            return Err(Error::INVALID_PARAMETER);
        }
        let read_mode = match bits & READMODE_MESSAGE {
            0 => ReadMode::Byte,
            _ => ReadMode::Message,
        };
        let wait_mode = match bits & NOWAIT {
            0 => WaitMode::Wait,
            _ => WaitMode::NoWait,
        };
        Ok(Self {
            read_mode,
            wait_mode,
        })
    }

    /// The word that `GetNamedPipeHandleState` reports.
    pub const fn bits(self) -> u32 {
        self.read_mode.bits() | self.wait_mode.bits()
    }
}

const fn bit(set: bool, bit: u32) -> u32 {
    if set { bit } else { 0 }
}

pub(super) const ACCESS_INBOUND: u32 = 0x1;
pub(super) const ACCESS_OUTBOUND: u32 = 0x2;
const FIRST_PIPE_INSTANCE: u32 = 0x0008_0000;
const OVERLAPPED: u32 = 0x4000_0000;
const WRITE_THROUGH: u32 = 0x8000_0000;
const EXTRA_ACCESS: Access = Access::WRITE_DAC
    .union(Access::WRITE_OWNER)
    .union(Access::ACCESS_SYSTEM_SECURITY);
const OPEN_MODE: u32 = ACCESS_INBOUND
    | ACCESS_OUTBOUND
    | FIRST_PIPE_INSTANCE
    | OVERLAPPED
    | WRITE_THROUGH
    | EXTRA_ACCESS.bits();

pub(super) const NOWAIT: u32 = 0x1;
pub(super) const READMODE_MESSAGE: u32 = 0x2;
pub(super) const TYPE_MESSAGE: u32 = 0x4;
const REJECT_REMOTE: u32 = 0x8;
const STATE: u32 = NOWAIT | READMODE_MESSAGE;
const PIPE_MODE: u32 = STATE | TYPE_MESSAGE | REJECT_REMOTE;
