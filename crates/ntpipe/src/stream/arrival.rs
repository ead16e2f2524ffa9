//! A client that has the instance, and whose memory is on its way.
//!
//! Calls that wait, wait for that too. The others look whether it has come by now, and else find a
//! client that has written nothing.

use std::sync::{Arc, Weak};

use super::{PipeStream, ReadSide, Slot, WriteSide, lock};
use crate::locked::MutexGuard;

/// A client as the service knows it.
pub(crate) trait Visitor: Send + Sync {
    /// Hears what it has said or done already, without waiting for the service thread.
    fn catch_up(&self);
}

impl PipeStream {
    /// A client has taken the instance; its memory is on the way. Calls wait for it: for Windows
    /// the instance is connected from here on.
    pub(crate) fn expect_client(&self, visitor: Weak<dyn Visitor>) {
        *lock(&self.visitor) = Some(visitor);
        lock(&self.read.side).link = Slot::Arriving;
        lock(&self.write).link = Slot::Arriving;
    }

    /// The side of this end that reads; `None` if its client has not sent its memory.
    pub(super) fn read_side_now(&self) -> Option<MutexGuard<'_, ReadSide>> {
        let side = lock(&self.read.side);
        if !matches!(side.link, Slot::Arriving) {
            return Some(side);
        }
        drop(side);
        self.catch_up();
        Some(lock(&self.read.side)).filter(|side| !matches!(side.link, Slot::Arriving))
    }

    /// As [`read_side_now`](Self::read_side_now), the side that writes.
    pub(super) fn write_side_now(&self) -> Option<MutexGuard<'_, WriteSide>> {
        let side = lock(&self.write);
        if !matches!(side.link, Slot::Arriving) {
            return Some(side);
        }
        drop(side);
        self.catch_up();
        Some(lock(&self.write)).filter(|side| !matches!(side.link, Slot::Arriving))
    }

    /// Under no lock of this end: the client's arrival takes them.
    fn catch_up(&self) {
        let visitor: Option<Arc<dyn Visitor>> =
            lock(&self.visitor).as_ref().and_then(Weak::upgrade);
        if let Some(visitor) = visitor {
            visitor.catch_up();
        }
    }
}
