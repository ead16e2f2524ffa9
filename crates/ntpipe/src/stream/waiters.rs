//! The calls that wait at one side of an end.

use std::collections::VecDeque;

/// Calls that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    next: u64,
    calls: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    is_cancelled: bool,
    /// The bytes that a read asks the writer for.
    asks: usize,
}

impl Waiters {
    /// One more, behind the others.
    pub(crate) fn enter(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        self.calls.push_back(Waiter {
            id,
            is_cancelled: false,
            asks: 0,
        });
        id
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

    pub(crate) fn is_first(&self, id: u64) -> bool {
        self.calls.front().is_some_and(|call| call.id == id)
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

    /// Notes what a read asks for; returns what all of them ask for.
    pub(crate) fn ask(&mut self, id: u64, bytes: usize) -> usize {
        if let Some(call) = self.calls.iter_mut().find(|call| call.id == id) {
            call.asks = bytes;
        }
        self.asked()
    }

    /// What all reads together ask for.
    pub(crate) fn asked(&self) -> usize {
        (self.calls.iter()).fold(0, |sum, call| sum.saturating_add(call.asks))
    }
}
