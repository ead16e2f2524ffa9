//! The calls that wait at one side of an end.

use std::collections::VecDeque;

use ntpipe_proto::Error;
use ntpipe_proto::lane::{OpId, Read, Reading};

/// Calls that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    next: u64,
    calls: VecDeque<Waiter>,
    /// Calls that were ended for their threads, which have not learned it yet.
    ended: Vec<(u64, Ended)>,
}

#[derive(Debug)]
pub(super) struct Waiter {
    id: u64,
    is_cancelled: bool,
    /// What a write is to the lane.
    write: Option<OpId>,
    /// Whether a read has told the writer what it asks for.
    asks: bool,
    /// The size of a read's buffer.
    pub(super) room: usize,
    /// How far a read has come.
    pub(super) op: Reading,
    /// What was read for it.
    pub(super) handed: Option<Handed>,
}

/// What another thread has read for a read that waits.
#[derive(Debug)]
pub(super) struct Handed {
    /// The place of the first byte of `bytes` that counts.
    pub(super) from: usize,
    pub(super) bytes: Vec<u8>,
}

/// How a call was ended for its thread.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) result: Result<Read, Error>,
    pub(super) handed: Option<Handed>,
}

impl Waiters {
    /// One more, behind the others.
    pub(crate) fn enter(&mut self) -> u64 {
        self.enter_read(0, Reading::default())
    }

    /// A read into a buffer of `room` bytes.
    pub(super) fn enter_read(&mut self, room: usize, op: Reading) -> u64 {
        let id = self.next;
        self.next += 1;
        self.calls.push_back(Waiter {
            id,
            is_cancelled: false,
            write: None,
            asks: false,
            room,
            op,
            handed: None,
        });
        id
    }

    /// A write that is pending.
    pub(super) fn enter_write(&mut self, write: OpId) -> u64 {
        let id = self.enter();
        if let Some(call) = self.find(id) {
            call.write = Some(write);
        }
        id
    }

    /// The calls that have not been cancelled, and what writes among them are to the lane.
    pub(super) fn uncancelled(&self) -> Vec<(u64, Option<OpId>)> {
        let calls = self.calls.iter().filter(|call| !call.is_cancelled);
        calls.map(|call| (call.id, call.write)).collect()
    }

    /// Leaves it to the thread of a call to end it; whether that is news.
    pub(super) fn cancel(&mut self, id: u64) -> bool {
        let call = self.find(id);
        call.is_some_and(|call| !std::mem::replace(&mut call.is_cancelled, true))
    }

    /// One less; it may have been forgotten before.
    pub(crate) fn leave(&mut self, id: u64) {
        self.calls.retain(|call| call.id != id);
    }

    /// Forgets all: what they wait for will not come.
    pub(crate) fn clear(&mut self) {
        self.calls.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The calls, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.calls.iter().map(|call| call.id)
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn is_first(&self, id: u64) -> bool {
        self.calls.front().is_some_and(|call| call.id == id)
    }

    pub(super) fn first_mut(&mut self) -> Option<&mut Waiter> {
        self.calls.front_mut()
    }

    pub(super) fn find(&mut self, id: u64) -> Option<&mut Waiter> {
        self.calls.iter_mut().find(|call| call.id == id)
    }

    /// Cancels all; whether there was one that had not been cancelled yet.
    pub(crate) fn cancel_all(&mut self) -> bool {
        let mut found = false;
        for call in &mut self.calls {
            found |= !std::mem::replace(&mut call.is_cancelled, true);
        }
        found
    }

    pub(crate) fn is_cancelled(&self, id: u64) -> bool {
        (self.calls.iter()).any(|call| call.id == id && call.is_cancelled)
    }

    /// Whether a read that waits has a part of its message already.
    pub(super) fn has_begun(&self) -> bool {
        self.calls.iter().any(|call| call.op.filled() > 0)
    }

    /// The buffers of all reads that wait, together.
    pub(super) fn room(&self) -> usize {
        let room = |call: &Waiter| call.room.saturating_sub(call.op.filled());
        (self.calls.iter()).fold(0, |sum, call| sum.saturating_add(room(call)))
    }

    /// A read tells the writer what it asks for, or asks for nothing any more.
    pub(super) fn ask(&mut self, id: u64, asks: bool) {
        if let Some(call) = self.find(id) {
            call.asks = asks;
        }
    }

    /// As [`ask`](Self::ask), for all of them.
    pub(super) fn ask_all(&mut self, ask: bool) {
        self.calls.iter_mut().for_each(|call| call.asks = ask);
    }

    /// What all reads together ask for.
    pub(super) fn asked(&self) -> usize {
        let asking = self.calls.iter().filter(|call| call.asks);
        asking.fold(0, |sum, call| {
            sum.saturating_add(call.room.saturating_sub(call.op.filled()))
        })
    }

    /// Ends the first read for its thread.
    pub(super) fn end_first(&mut self, result: Result<Read, Error>) {
        if let Some(call) = self.calls.pop_front() {
            self.push_ended(call, result);
        }
    }

    /// Ends a call for its thread; whether it waited.
    pub(super) fn end(&mut self, id: u64, result: Result<Read, Error>) -> bool {
        let at = self.calls.iter().position(|call| call.id == id);
        let call = at.and_then(|at| self.calls.remove(at));
        let found = call.is_some();
        call.into_iter()
            .for_each(|call| self.push_ended(call, result));
        found
    }

    fn push_ended(&mut self, call: Waiter, result: Result<Read, Error>) {
        let ended = Ended {
            result,
            handed: call.handed,
        };
        self.ended.push((call.id, ended));
    }

    /// How a call was ended, if it was; its thread learns it here.
    pub(super) fn take_ended(&mut self, id: u64) -> Option<Ended> {
        let at = self.ended.iter().position(|(of, _)| *of == id)?;
        Some(self.ended.swap_remove(at).1)
    }
}
