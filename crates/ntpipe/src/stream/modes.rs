//! How an end reads and waits: `SetNamedPipeHandleState`, and what the handle says of it.

use std::sync::Arc;

use ntpipe_proto::{Access, Error, Operation, PipeState, ReadMode, WaitMode};

use super::{PipeStream, ReadSide, Slot, Terms, WriteSide, lock};
use crate::ring::Peer;

impl PipeStream {
    /// Both modes of this end.
    pub(crate) fn modes(&self) -> PipeState {
        self.read.modes()
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
        self.read.set_modes(modes);
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
        let mut read = lock(&self.read.side);
        let old = self.modes();
        let new = change(old);
        if !self.terms.pipe_type.allows(new.read_mode) {
            return Err(Error::INVALID_PARAMETER);
        }
        let stops = old.wait_mode == WaitMode::Wait && new.wait_mode == WaitMode::NoWait;
        if stops && (read.has_waiters(&self.terms)? || write.has_unread(&self.terms)?) {
            return Err(Error::PIPE_BUSY);
        }
        self.read.set_modes(new);
        // What a task has of a message may be something to read now.
        self.tasks.wake();
        Ok(())
    }
}

impl ReadSide {
    fn has_waiters(&mut self, terms: &Terms) -> Result<bool, Error> {
        if !self.turns.is_empty() {
            return Ok(true);
        }
        match self.link.clone() {
            Slot::Kernel(kernel) => Ok(kernel.has_waiters()),
            Slot::Linked(link) if link.roster().is_some() => self.has_shared_waiters(terms, &link),
            Slot::Linked(_) | Slot::Arriving | Slot::Absent(_) => Ok(false),
        }
    }
}

impl WriteSide {
    /// Whether the peer has not read everything, an empty message included.
    fn has_unread(&mut self, terms: &Terms) -> Result<bool, Error> {
        if let Some(kernel) = self.link.kernel() {
            return Ok(kernel.has_unread_writes());
        }
        let Slot::Linked(link) = &self.link else {
            return Ok(false);
        };
        if link.peer() != Peer::Connected {
            return Ok(false);
        }
        if link.roster().is_some() {
            let link = Arc::clone(link);
            return self.has_unread_shared(terms, &link);
        }
        let flush = self.writer.flush();
        let all_read = self.writer.poll_flush(&**link, flush);
        self.writer.forget_flush(flush);
        Ok(all_read.map_err(|error| link.poison(error))?.is_pending())
    }
}
