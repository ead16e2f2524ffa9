//! What wakes the tasks of one end: the peer's rings, through the runtime.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use ::tokio::io::unix::AsyncFd;
use ::tokio::runtime::Handle;

use crate::ring::Link;
use crate::stream::{Tasks, lock};
use crate::sys::event_loop::{self, Socket};
use crate::sys::socket::{Rings, take_rings};

/// The doorbell of one end, whatever connection it has.
#[derive(Debug)]
pub(super) struct Doorbell {
    runtime: Handle,
    watched: Mutex<Option<Watched>>,
    tasks: Arc<Tasks>,
    /// Wakes all tasks.
    waker: Waker,
}

/// The socket of a connection, once a task has had to wait.
#[derive(Debug)]
struct Watched {
    link: Weak<Link>,
    socket: AsyncFd<Socket>,
}

struct WakeAll(Arc<Tasks>);

impl Wake for WakeAll {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

impl Doorbell {
    /// The doorbell of an end that belongs to the runtime that this is called in.
    ///
    /// # Errors
    /// Without a runtime.
    pub(super) fn new(tasks: &Arc<Tasks>) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        Ok(Self {
            runtime,
            watched: Mutex::new(None),
            tasks: Arc::clone(tasks),
            waker: Waker::from(Arc::new(WakeAll(Arc::clone(tasks)))),
        })
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Sees to it that a ring from now on wakes the tasks: those that are among them already. What
    /// has rung before is forgotten: look once more after this. Returns which connection it was that
    /// is the present one.
    ///
    /// The peer's end is not for this to notice: the service thread does, and wakes the tasks.
    pub(super) fn watch(
        &self,
        present: impl FnOnce() -> Option<Arc<Link>>,
    ) -> io::Result<Option<Arc<Link>>> {
        let mut slot = lock(&self.watched);
        // Under the lock: another task may watch the next one by now, and be the only one to do so.
        let Some(link) = present() else {
            return Ok(None);
        };
        let Some(socket) = link.socket() else {
            return Ok(Some(link));
        };
        let watched = self.watched(&mut slot, &link, socket)?;
        let mut cx = Context::from_waker(&self.waker);
        let mut others_look = false;
        while let Poll::Ready(guard) = watched.socket.poll_read_ready(&mut cx) {
            let mut guard = guard?;
            match take_rings(socket.as_fd())? {
                Rings::None => guard.clear_ready(),
                Rings::Taken => {
                    guard.clear_ready();
                    // Another doorbell of the end may not have been told of them yet.
                    others_look |= self.tasks.have_several_users();
                }
                Rings::End => break,
                Rings::Flood => {
                    // Others have their turn before the rest.
                    others_look = true;
                    break;
                }
            }
        }
        drop(slot);
        if others_look {
            self.tasks.wake();
        }
        Ok(Some(link))
    }

    /// Whether the runtime can tell of rings; it watches for them from now on, if this connection is
    /// the present one.
    pub(super) fn prepare(
        &self,
        link: &Arc<Link>,
        present: impl FnOnce() -> Option<Arc<Link>>,
    ) -> io::Result<()> {
        let Some(socket) = link.socket() else {
            return Ok(());
        };
        let mut slot = lock(&self.watched);
        if !present().is_some_and(|present| Arc::ptr_eq(&present, link)) {
            return Ok(());
        }
        let watched = self.watched(&mut slot, link, socket)?;
        let mut cx = Context::from_waker(&self.waker);
        match watched.socket.poll_read_ready(&mut cx) {
            // What has rung has woken the tasks, or will.
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
            Poll::Ready(Err(error)) => Err(error),
        }
    }

    fn watched<'a>(
        &self,
        slot: &'a mut Option<Watched>,
        link: &Arc<Link>,
        socket: &Arc<OwnedFd>,
    ) -> io::Result<&'a mut Watched> {
        let known = slot.take().filter(|known| known.is_of(link));
        Ok(match known {
            Some(watched) => slot.insert(watched),
            None => slot.insert(self.register(link, socket)?),
        })
    }

    /// Lets go of a connection that is not the present one any more; none comes back.
    pub(super) fn forget_old(&self, present: impl FnOnce() -> Option<Arc<Link>>) {
        let mut slot = lock(&self.watched);
        if slot.is_none() {
            return;
        }
        // Under the lock: another task may watch the next one by now.
        let present = present();
        let is_old = |known: &mut Watched| !present.as_ref().is_some_and(|link| known.is_of(link));
        let old = slot.take_if(is_old);
        drop(slot);
        drop(old);
    }

    #[cfg(test)]
    pub(super) fn watches(&self, link: &Arc<Link>) -> bool {
        (lock(&self.watched).as_ref()).is_some_and(|watched| watched.is_of(link))
    }

    /// Forgets what it watches, in a forked child: the runtime goes on watching for the parent.
    pub(super) fn abandon(&mut self) {
        // Nobody else has it, whatever a thread of the parent's was doing.
        let watched = self.watched.get_mut();
        if let Some(watched) = watched.unwrap_or_else(PoisonError::into_inner).take() {
            event_loop::abandon(watched.socket);
        }
    }

    fn register(&self, link: &Arc<Link>, socket: &Arc<OwnedFd>) -> io::Result<Watched> {
        let _runtime = self.runtime.enter();
        let socket = match event_loop::watch(socket) {
            // Another handle for the same end is watched by the same runtime.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                event_loop::watch(&Arc::new(socket.try_clone()?))?
            }
            registered => registered?,
        };
        Ok(Watched {
            link: Arc::downgrade(link),
            socket,
        })
    }
}

impl Watched {
    /// The address stays taken for as long as this is here.
    fn is_of(&self, link: &Arc<Link>) -> bool {
        self.link.as_ptr() == Arc::as_ptr(link)
    }
}
