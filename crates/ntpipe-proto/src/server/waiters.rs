//! The clients that wait for an instance, and the answers that they have not fetched yet.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{Error, Status};

/// A client's wait for an instance; the caller chooses the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// Who waits until when, and who waits no more.
#[derive(Debug)]
pub(super) struct Waiters {
    /// Without a deadline a wait goes on for ever.
    waiting: BTreeMap<WaiterId, Option<Duration>>,
    /// The deadlines once more, the next one first.
    deadlines: BTreeSet<(Duration, WaiterId)>,
    answers: VecDeque<(WaiterId, Result<(), Error>)>,
}

impl Waiters {
    pub(super) const fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            answers: VecDeque::new(),
        }
    }

    /// Lets it wait, or refuses it if too many do.
    pub(super) fn insert(&mut self, waiter: WaiterId, deadline: Option<Duration>) {
        if self.waiting.len() >= MAX_WAITERS {
            return self.answer(waiter, Err(Status::INSUFFICIENT_RESOURCES.error()));
        }
        self.waiting.insert(waiter, deadline);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, waiter));
        }
    }

    /// Forgets it, and the answer that it may have already.
    pub(super) fn cancel(&mut self, waiter: WaiterId) {
        match self.waiting.remove(&waiter) {
            Some(Some(deadline)) => {
                self.deadlines.remove(&(deadline, waiter));
            }
            Some(None) => {}
            None => self.answers.retain(|(answered, _)| *answered != waiter),
        }
    }

    /// Answers one that does not wait.
    pub(super) fn answer(&mut self, waiter: WaiterId, answer: Result<(), Error>) {
        self.answers.push_back((waiter, answer));
    }

    pub(super) fn answer_all(&mut self, answer: Result<(), Error>) {
        self.deadlines.clear();
        let waiting = core::mem::take(&mut self.waiting);
        self.answers
            .extend(waiting.into_keys().map(|waiter| (waiter, answer)));
    }

    /// Answers those whose deadline is not after `now`.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some(&(deadline, waiter)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            self.waiting.remove(&waiter);
            self.answer(waiter, Err(Status::IO_TIMEOUT.error()));
        }
    }

    pub(super) fn first_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    pub(super) fn poll(&mut self) -> Option<(WaiterId, Result<(), Error>)> {
        self.answers.pop_front()
    }
}

/// More than any sane program has, and little enough to be kept in memory.
pub(super) const MAX_WAITERS: usize = 4096;
