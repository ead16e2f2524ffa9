//! Waiting for an instance without a thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use ntpipe_proto::{Error, PipeName, WaitTimeout};

use super::client::Question;
use super::{Interest, Readiness, Service, Source, Token};
use crate::stream::Tasks;
use crate::sys::fork;

/// A task's question to an owner, and the way to its answer.
pub(crate) struct Waiting {
    answer: Arc<Answer>,
    token: Token,
    service: Arc<Service>,
    generation: u32,
}

struct Answer {
    question: Question,
    has_come: AtomicBool,
    is_late: AtomicBool,
    tasks: Arc<Tasks>,
}

impl Waiting {
    /// Asks the owner of the name to tell when an instance listens, as `WaitNamedPipe` does; gives
    /// up by itself.
    pub(crate) fn begin(name: &PipeName, timeout: WaitTimeout) -> io::Result<Self> {
        Self::for_answer(Question::wait(name, timeout)?)
    }

    /// Asks the owner of the name what it knows of it.
    pub(crate) fn begin_query(name: &PipeName) -> io::Result<Self> {
        Self::for_answer(Question::query(name)?)
    }

    fn for_answer((question, deadline): (Question, Option<Instant>)) -> io::Result<Self> {
        let service = Service::get()?;
        let answer = Arc::new(Answer {
            question,
            has_come: AtomicBool::new(false),
            is_late: AtomicBool::new(false),
            tasks: Arc::default(),
        });
        let token = service.watch(Arc::<Answer>::clone(&answer), Interest::Once)?;
        service.set_timer(token, deadline);
        Ok(Self {
            answer,
            token,
            service,
            generation: fork::generation(),
        })
    }

    /// Woken when it is worth another look.
    pub(crate) fn tasks(&self) -> &Arc<Tasks> {
        &self.answer.tasks
    }

    /// Whether an instance listens, or why there will be none.
    pub(crate) fn poll(&self) -> Poll<Result<(), Error>> {
        self.poll_answer(Question::answer)
    }

    /// How long a client waits that does not say it; `None` is for ever.
    pub(crate) fn poll_time(&self) -> Poll<Result<Option<Duration>, Error>> {
        self.poll_answer(Question::default_time)
    }

    fn poll_answer<T>(
        &self,
        answer: impl FnOnce(&Question) -> Result<T, Error>,
    ) -> Poll<Result<T, Error>> {
        if self.generation != fork::current() {
            return Poll::Ready(Err(Error::INVALID_HANDLE));
        }
        if self.answer.has_come.load(Ordering::Acquire) {
            return Poll::Ready(answer(&self.answer.question));
        }
        if self.answer.is_late.load(Ordering::Acquire) {
            return Poll::Ready(Err(Error::SEM_TIMEOUT));
        }
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // In a forked child the service is its parent's, which goes on waiting.
        if self.generation == fork::current() {
            self.service.forget(self.token);
        }
    }
}

impl Source for Answer {
    fn fd(&self) -> BorrowedFd<'_> {
        self.question.socket().as_fd()
    }

    fn ready(&self, _: Readiness) {
        self.has_come.store(true, Ordering::Release);
        self.tasks.wake();
    }

    fn expired(&self) {
        self.is_late.store(true, Ordering::Release);
        self.tasks.wake();
    }
}
