//! What an end tells about itself.

use std::sync::Arc;

use ntpipe_proto::lane::Outgoing;
use ntpipe_proto::{Access, EndState, Error, Operation};

use super::{PipeStream, Slot, Terms, WriteSide, lock};

/// The state of an end and of its two queues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueInfo {
    pub(crate) state: EndState,
    /// What can be read here.
    pub(crate) available: u64,
    /// The quota that is free for writes of this end; `None` if it writes nothing.
    pub(crate) free: Option<u64>,
}

impl PipeStream {
    /// What `FilePipeLocalInformation` says of this end (observed 8.19 to 8.23).
    pub(crate) fn queue_info(&self) -> Result<QueueInfo, Error> {
        self.check_access(Access::READ_ATTRIBUTES)?;
        self.check(Operation::Query)?;
        // What a client on its way has sent counts.
        drop(self.write_side_now());
        let mut write = lock(&self.write);
        let state = write.link.state()?;
        let is_linked = matches!(write.link, Slot::Linked(_) | Slot::Kernel(_));
        let free = match self.terms.writes {
            Some(_) => Some(write.free(&self.terms, state)?),
            None => None,
        };
        drop(write);
        let reads = self.terms.reads.is_some() && is_linked;
        let available = match (reads, state) {
            (true, EndState::Connected | EndState::Closing) => self.unread()?,
            (false, _) | (true, EndState::Listening | EndState::Disconnected) => 0,
        };
        Ok(QueueInfo {
            state,
            available,
            free,
        })
    }

    fn unread(&self) -> Result<u64, Error> {
        match self.peek_into(&mut []) {
            Ok(peek) => Ok(peek.available),
            Err(error) if error == Error::INVALID_DATA => Err(error),
            // It has come to its end since.
            Err(_) => Ok(0),
        }
    }
}

impl WriteSide {
    /// The quota that is free. Reads that wait at the other end take of it (reference 2.5).
    fn free(&mut self, terms: &Terms, state: EndState) -> Result<u64, Error> {
        let quota = terms.writes.unwrap_or(0);
        if let Some(kernel) = self.link.kernel() {
            return Ok(kernel.free());
        }
        let Slot::Linked(link) = &self.link else {
            return Ok(u64::from(quota));
        };
        if state != EndState::Connected {
            return Ok(u64::from(quota));
        }
        let link = Arc::clone(link);
        let free = match link.roster() {
            Some(_) => self.free_shared(terms, &link),
            None => self.writer.free_quota(&*link),
        };
        let free = free.map_err(|error| link.poison(error))?;
        let peer = self.seat.as_ref().and_then(|seat| seat.peer());
        let asked = match peer.and_then(|peer| peer.room_for(&link)) {
            Some(room) => u64::try_from(room).unwrap_or(u64::MAX),
            None => Outgoing::asked(&*link),
        };
        Ok(free.saturating_sub(asked))
    }
}
