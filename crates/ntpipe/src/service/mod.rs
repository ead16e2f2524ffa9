//! The service thread: one in a process that uses pipes, asleep while nothing happens.
//!
//! It answers for the names that this process owns, and notices when the peer of a connection
//! dies. Everything that blocks happens in the threads of the program.

pub(crate) mod client;
#[cfg(feature = "tokio")]
pub(crate) mod connecting;
mod election;
mod grace;
mod heirs;
pub(crate) mod joined;
mod keeper;
mod lodging;
mod member;
pub(crate) mod namespace;
mod office;
pub(crate) mod owner;
pub(crate) mod server_end;
mod session;
#[cfg(feature = "tokio")]
pub(crate) mod waiting;

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use ntpipe_proto::Error;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::Timespec;
use rustix::io::Errno;

use crate::ring::LookFor;
use crate::stream::lock;
use crate::sys::fork::PerProcess;
use crate::sys::{signal, win32_from_errno};

/// Something with a descriptor that the service thread watches.
pub(crate) trait Source: Send + Sync {
    /// What to watch: the same descriptor as long as it is watched.
    fn fd(&self) -> BorrowedFd<'_>;
    /// The descriptor is readable, or its other end has hung up.
    fn ready(&self, readiness: Readiness);
    /// The moment given to [`Service::set_timer`] has come.
    fn expired(&self) {}
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Something can be received, perhaps the end.
    Readable,
    /// The other end is gone; nothing will come any more.
    HungUp,
}

/// What to be told of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Both.
    All,
    /// Only that the other end is gone: someone else receives.
    HangUp,
    /// Both, but only the first time.
    #[cfg(feature = "tokio")]
    Once,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Self::All => EventFlags::IN | EventFlags::RDHUP,
            // Told once: it stays that way.
            Self::HangUp => EventFlags::RDHUP | EventFlags::ONESHOT,
            #[cfg(feature = "tokio")]
            Self::Once => EventFlags::IN | EventFlags::RDHUP | EventFlags::ONESHOT,
        }
    }
}

/// A source that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token(u64);

/// The service thread, as the other threads see it.
pub(crate) struct Service {
    epoll: OwnedFd,
    /// Makes the thread look at its timers again.
    kick: OwnedFd,
    /// It looks at its timers anyway.
    thread: OnceLock<ThreadId>,
    sources: Mutex<Sources>,
    /// Something is about to come.
    is_expecting: AtomicBool,
}

#[derive(Default)]
struct Sources {
    next: u64,
    watched: HashMap<Token, Arc<dyn Source>>,
    timers: BTreeSet<(Instant, Token)>,
    deadlines: HashMap<Token, Instant>,
}

const KICK: u64 = u64::MAX;
const EVENTS: usize = 64;

impl Service {
    /// This process' service, started on first need.
    pub(crate) fn get() -> Result<Arc<Self>, Error> {
        static SERVICE: PerProcess<Mutex<Option<Arc<Service>>>> = PerProcess::new();
        let mut slot = lock(SERVICE.get());
        if let Some(service) = slot.as_ref() {
            return Ok(Arc::clone(service));
        }
        let service = Arc::new(Self::new()?);
        let run = Arc::clone(&service);
        thread::Builder::new()
            .name("ntpipe-service".into())
            .spawn(move || run.run())
            .map_err(|_| Error::NO_SYSTEM_RESOURCES)?;
        *slot = Some(Arc::clone(&service));
        Ok(service)
    }

    fn new() -> Result<Self, Error> {
        let refused = |attempt| move |errno| win32_from_errno(errno, attempt);
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(refused("epoll_create"))?;
        let kick = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(refused("eventfd"))?;
        epoll::add(
            &epoll,
            &kick,
            EventData::new_u64(KICK),
            EventFlags::IN | EventFlags::ET,
        )
        .map_err(refused("epoll_ctl"))?;
        Ok(Self {
            epoll,
            kick,
            thread: OnceLock::new(),
            sources: Mutex::default(),
            is_expecting: AtomicBool::new(false),
        })
    }

    /// Watches a source until [`forget`](Self::forget).
    pub(crate) fn watch(
        &self,
        source: Arc<dyn Source>,
        interest: Interest,
    ) -> Result<Token, Error> {
        let mut sources = lock(&self.sources);
        let token = Token(sources.next);
        self.add(token, source.fd(), interest)?;
        sources.next += 1;
        sources.watched.insert(token, source);
        Ok(token)
    }

    /// Watches a source that has been enlisted, unless it has been forgotten since.
    pub(crate) fn watch_enlisted(
        &self,
        token: Token,
        fd: BorrowedFd<'_>,
        interest: Interest,
    ) -> Result<(), Error> {
        let sources = lock(&self.sources);
        if sources.watched.contains_key(&token) {
            self.add(token, fd, interest)?;
        }
        Ok(())
    }

    fn add(&self, token: Token, fd: BorrowedFd<'_>, interest: Interest) -> Result<(), Error> {
        let data = EventData::new_u64(token.0);
        epoll::add(&self.epoll, fd, data, interest.flags())
            .map_err(|errno| win32_from_errno(errno, "epoll_ctl"))
    }

    /// Only a source's timer is of interest, until [`forget`](Self::forget).
    pub(crate) fn enlist(&self, source: Arc<dyn Source>) -> Token {
        let mut sources = lock(&self.sources);
        let token = Token(sources.next);
        sources.next += 1;
        sources.watched.insert(token, source);
        token
    }

    /// Watches a source no longer.
    pub(crate) fn forget(&self, token: Token) {
        let mut sources = lock(&self.sources);
        if let Some(at) = sources.deadlines.remove(&token) {
            sources.timers.remove(&(at, token));
        }
        let Some(source) = sources.watched.remove(&token) else {
            return;
        };
        if let Err(errno) = epoll::delete(&self.epoll, source.fd()) {
            tracing::debug!(%errno, "a descriptor was not watched");
        }
        // A source may have more to drop than fits under this lock.
        drop(sources);
    }

    /// Is not told of a source until [`resume`](Self::resume).
    pub(crate) fn rest(&self, token: Token, fd: BorrowedFd<'_>) {
        self.set_interest(token, fd, EventFlags::empty());
    }

    /// Is told of a source again.
    pub(crate) fn resume(&self, token: Token, fd: BorrowedFd<'_>) {
        self.set_interest(token, fd, Interest::All.flags());
    }

    /// Is told from now on only that the other end of a source is gone.
    pub(crate) fn watch_end(&self, token: Token, fd: BorrowedFd<'_>) {
        self.set_interest(token, fd, Interest::HangUp.flags());
    }

    fn set_interest(&self, token: Token, fd: BorrowedFd<'_>, flags: EventFlags) {
        if let Err(errno) = epoll::modify(&self.epoll, fd, EventData::new_u64(token.0), flags) {
            tracing::debug!(%errno, "a descriptor is not watched");
        }
    }

    /// Sets or clears the moment at which a source wants to be told.
    pub(crate) fn set_timer(&self, token: Token, at: Option<Instant>) {
        let mut sources = lock(&self.sources);
        if let Some(old) = sources.deadlines.remove(&token) {
            sources.timers.remove(&(old, token));
        }
        let Some(at) = at.filter(|_| sources.watched.contains_key(&token)) else {
            return;
        };
        sources.deadlines.insert(token, at);
        sources.timers.insert((at, token));
        let is_next = sources.timers.first() == Some(&(at, token));
        drop(sources);
        if is_next && !self.is_this_thread() {
            // A full counter kicks as well.
            let _ = rustix::io::write(&self.kick, &1_u64.to_ne_bytes());
        }
    }

    /// Who has just come says something at once: the service thread had better not sleep.
    pub(crate) fn expect(&self) {
        self.is_expecting.store(true, Ordering::Relaxed);
    }

    /// Whether the service thread itself asks: it can't wait for what only it hears.
    pub(crate) fn is_this_thread(&self) -> bool {
        self.thread.get() == Some(&thread::current().id())
    }

    fn run(&self) {
        signal::block_all();
        // This is the only one.
        let _ = self.thread.set(thread::current().id());
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            let waited = if self.is_expecting.swap(false, Ordering::Relaxed) {
                self.look(&mut events)
            } else {
                self.wait(&mut events, self.next_timeout())
            };
            match waited {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    tracing::error!(%errno, "the service thread ends");
                    return;
                }
            }
            for event in &events {
                let flags = event.flags;
                let gone = flags.intersects(EventFlags::HUP | EventFlags::RDHUP | EventFlags::ERR);
                // What was sent before the end is received first.
                let is_end = gone && !flags.contains(EventFlags::IN);
                let token = Token(event.data.u64());
                let source = lock(&self.sources).watched.get(&token).map(Arc::clone);
                if let Some(source) = source {
                    let readiness = if is_end {
                        Readiness::HungUp
                    } else {
                        Readiness::Readable
                    };
                    self.outlive(token, || source.ready(readiness));
                }
            }
            self.expire(Instant::now());
        }
    }

    fn wait(&self, events: &mut Vec<Event>, timeout: Option<Timespec>) -> Result<(), Errno> {
        epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref()).map(drop)
    }

    /// Looks for a moment before it waits.
    fn look(&self, events: &mut Vec<Event>) -> Result<(), Errno> {
        let mut looked = Ok(());
        let has_come = LookFor::Request.until(|| {
            looked = self.wait(events, Some(Timespec::default()));
            looked.is_err() || !events.is_empty()
        });
        if has_come {
            return looked;
        }
        self.wait(events, self.next_timeout())
    }

    fn expire(&self, now: Instant) {
        loop {
            let mut sources = lock(&self.sources);
            let Some((at, token)) = sources.timers.first().copied().filter(|(at, _)| *at <= now)
            else {
                return;
            };
            sources.timers.remove(&(at, token));
            sources.deadlines.remove(&token);
            let source = sources.watched.get(&token).map(Arc::clone);
            drop(sources);
            if let Some(source) = source {
                self.outlive(token, || source.expired());
            }
        }
    }

    /// Tells a source something. One that panics is not watched any more, and the thread goes on.
    fn outlive(&self, token: Token, tell: impl FnOnce()) {
        // What it may have left half done, it left behind locks that are taken all the same.
        if panic::catch_unwind(AssertUnwindSafe(tell)).is_err() {
            tracing::error!(?token, "a source panicked and is dropped: this is a bug");
            self.forget(token);
        }
    }

    fn next_timeout(&self) -> Option<Timespec> {
        let (at, _) = lock(&self.sources).timers.first().copied()?;
        // Rounded up, so that a timer is not found a moment too early.
        let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        Timespec::try_from(left).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Readable from the beginning.
    struct Fragile(OwnedFd, Sender<&'static str>);

    impl Source for Fragile {
        fn fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }

        fn ready(&self, _: Readiness) {
            let _ = self.1.send("ready");
            panic!("on purpose");
        }
    }

    impl Drop for Fragile {
        fn drop(&mut self) {
            let _ = self.1.send("dropped");
        }
    }

    #[test]
    fn a_source_that_panics_is_dropped_and_the_thread_goes_on() {
        let service = Service::get().unwrap();
        // Twice: the second one is told by a thread that has seen the first.
        for _ in 0..2 {
            let (sender, receiver) = channel();
            let fd = eventfd(1, EventfdFlags::CLOEXEC).unwrap();
            let source = Arc::new(Fragile(fd, sender));
            service.watch(source, Interest::All).unwrap();
            let heard = || receiver.recv_timeout(Duration::from_secs(10));
            assert_eq!(heard(), Ok("ready"));
            assert_eq!(heard(), Ok("dropped"));
        }
    }
}
