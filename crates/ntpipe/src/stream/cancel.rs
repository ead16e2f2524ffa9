//! Ending calls that wait at an end, and waiting for a client that is on its way.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ntpipe_proto::Error;
use ntpipe_proto::lane::{Read, Withdrawal};

use super::waiters::Waiters;
use super::{PipeStream, ReadSide, Slot, WriteSide, expired, lock};
use crate::canceller::Blocked;
use crate::condition::Condition;
use crate::locked::MutexGuard;
use crate::ring::Wait;

/// How much longer than its time a call waits for a client that is on its way. For Windows the client
/// is there already, so that a write with room is done and not late: it is tried once more.
const GRACE: Duration = Duration::from_secs(1);
/// How often a thread that can be cancelled looks up while a client is on its way: that takes a
/// moment, or 5 seconds if the client has been stopped.
const GLANCE: Duration = Duration::from_millis(5);

impl PipeStream {
    /// `CancelIoEx` for all calls of this process that wait at this end, those of tasks too; whether
    /// there was one.
    pub(crate) fn cancel_calls(&self) -> Result<bool, Error> {
        self.check_process()?;
        let mut write = lock(&self.write);
        let mut read = lock(&self.read.side);
        let found = [
            write.cancel(),
            self.read.cancel(&mut read, None),
            read.arriving.cancel_all(),
        ];
        let link = match &read.link {
            Slot::Linked(link) => Some(Arc::clone(link)),
            Slot::Arriving | Slot::Absent(_) | Slot::Kernel(_) => None,
        };
        drop((read, write));
        if let Some(link) = link {
            link.wake_own();
        }
        self.arrived.iter().for_each(Condition::notify_all);
        #[cfg(feature = "tokio")]
        let tasks = self.cancel_tasks();
        #[cfg(not(feature = "tokio"))]
        let tasks = false;
        Ok(found.contains(&true) || tasks)
    }

    /// The side of this end that reads, once a client that is on its way has arrived.
    pub(super) fn read_side_by(
        &self,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'_, ReadSide>, Error> {
        let [arrived, _] = &self.arrived;
        await_client(&self.read.side, arrived, deadline)
    }

    /// As [`read_side_by`](Self::read_side_by), the side that writes.
    pub(super) fn write_side_by(
        &self,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'_, WriteSide>, Error> {
        let [_, arrived] = &self.arrived;
        await_client(&self.write, arrived, deadline)
    }
}

impl WriteSide {
    /// Cancels the calls that wait; whether there was one that was not done yet.
    ///
    /// The last first: no write is to find room because another was taken back.
    fn cancel(&mut self) -> bool {
        if let Some(kernel) = self.link.kernel() {
            return kernel.cancel();
        }
        let Slot::Linked(link) = &self.link else {
            return self.waiters.cancel_all();
        };
        if link.roster().is_some() {
            // Their threads take them back.
            return self.waiters.cancel_all();
        }
        let aborted = Err(Error::OPERATION_ABORTED);
        let mut found = false;
        for (call, write) in self.waiters.uncancelled().into_iter().rev() {
            let withdrawal = write.map(|write| self.writer.withdraw(&**link, write));
            found |= match withdrawal {
                None | Some(Ok(Withdrawal::Withdrawn)) => self.waiters.end(call, aborted),
                Some(Ok(Withdrawal::Contested)) => {
                    self.waiters.cancel(call);
                    true
                }
                Some(Ok(Withdrawal::Completed)) => {
                    self.waiters.end(call, Ok(Read::default()));
                    false
                }
                Some(Err(error)) => {
                    self.waiters.end(call, Err(link.poison(error)));
                    false
                }
            };
        }
        link.wake_peer(Wait::DATA);
        found
    }
}

/// A side of an end, and who waits there for its client.
trait Side {
    fn is_arriving(&self) -> bool;
    fn waiters(&mut self) -> &mut Waiters;
}

impl Side for ReadSide {
    fn is_arriving(&self) -> bool {
        matches!(self.link, Slot::Arriving)
    }

    fn waiters(&mut self) -> &mut Waiters {
        &mut self.arriving
    }
}

impl Side for WriteSide {
    fn is_arriving(&self) -> bool {
        matches!(self.link, Slot::Arriving)
    }

    fn waiters(&mut self) -> &mut Waiters {
        &mut self.waiters
    }
}

#[inline]
fn await_client<'a, S: Side>(
    mutex: &'a Mutex<S>,
    arrived: &Condition,
    deadline: Option<Instant>,
) -> Result<MutexGuard<'a, S>, Error> {
    let side = lock(mutex);
    match side.is_arriving() {
        false => Ok(side),
        true => await_arrival(side, arrived, deadline),
    }
}

#[cold]
fn await_arrival<'a, S: Side>(
    mut side: MutexGuard<'a, S>,
    arrived: &Condition,
    deadline: Option<Instant>,
) -> Result<MutexGuard<'a, S>, Error> {
    let deadline = deadline.and_then(|at| at.checked_add(GRACE));
    let blocked = Blocked::enter_several();
    let call = side.waiters().enter();
    let result = loop {
        if !side.is_arriving() {
            break Ok(());
        }
        if side.waiters().is_cancelled(call) || blocked.is_cancelled() {
            break Err(Error::OPERATION_ABORTED);
        }
        if expired(deadline) {
            break Err(Error::SEM_TIMEOUT);
        }
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let glance = blocked.can_be_cancelled().then_some(GLANCE);
        side = match left.into_iter().chain(glance).min() {
            Some(time) => arrived.wait_timeout(side, time),
            None => arrived.wait(side),
        };
    };
    side.waiters().leave(call);
    result.map(|()| side)
}
