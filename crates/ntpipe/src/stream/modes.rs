//! How an end reads and waits: `SetNamedPipeHandleState`, and what the handle says of it.

use std::sync::atomic::Ordering;

use ntpipe_proto::{Access, Error, Operation, PipeState, ReadMode, WaitMode};

use super::{PipeStream, ReadSide, Slot, WriteSide, lock};
use crate::ring::Peer;

impl PipeStream {
    /// Both modes of this end.
    pub(crate) fn modes(&self) -> PipeState {
        // Only modes are ever stored.
        PipeState::from_bits(self.read.modes.load(Ordering::Relaxed)).unwrap_or(PipeState::CLIENT)
    }

    pub(crate) fn mode(&self) -> ReadMode {
        self.modes().read_mode
    }

    /// Whether calls of this end return rather than wait.
    pub(super) fn is_nowait(&self) -> bool {
        self.modes().wait_mode == WaitMode::NoWait
    }

    /// The wait mode with which the end is created.
    pub(crate) fn begin_with(&self, wait_mode: WaitMode) {
        let modes = PipeState {
            wait_mode,
            ..self.modes()
        };
        self.read.modes.store(modes.bits(), Ordering::Relaxed);
    }

    /// Sets one mode or both: `change` makes the new ones of the old ones.
    ///
    /// Message read mode needs a message pipe (observed 8.5); an end with calls or data under way
    /// can't stop waiting (reference 1.13).
    pub(crate) fn change_modes(
        &self,
        change: impl FnOnce(PipeState) -> PipeState,
    ) -> Result<(), Error> {
        self.check_access(Access::WRITE_ATTRIBUTES)?;
        self.check(Operation::SetState)?;
        // Calls choose how to wait under these locks.
        let mut write = lock(&self.write);
        let read = lock(&self.read.side);
        let old = self.modes();
        let new = change(old);
        if !self.terms.pipe_type.allows(new.read_mode) {
            return Err(Error::INVALID_PARAMETER);
        }
        let stops = old.wait_mode == WaitMode::Wait && new.wait_mode == WaitMode::NoWait;
        if stops && (read.has_waiters() || write.has_unread()?) {
            return Err(Error::PIPE_BUSY);
        }
        self.read.modes.store(new.bits(), Ordering::Relaxed);
        Ok(())
    }
}

impl ReadSide {
    fn has_waiters(&self) -> bool {
        !self.turns.is_empty()
            || self
                .link
                .kernel()
                .is_some_and(|kernel| kernel.has_waiters())
    }
}

impl WriteSide {
    /// Whether the peer has not read everything, an empty message included.
    fn has_unread(&mut self) -> Result<bool, Error> {
        if let Some(kernel) = self.link.kernel() {
            return Ok(kernel.has_unread_writes());
        }
        let Slot::Linked(link) = &self.link else {
            return Ok(false);
        };
        if link.peer() != Peer::Connected {
            return Ok(false);
        }
        let flush = self.writer.flush();
        let all_read = self.writer.poll_flush(&**link, flush);
        self.writer.forget_flush(flush);
        Ok(all_read.map_err(|error| link.poison(error))?.is_pending())
    }
}
