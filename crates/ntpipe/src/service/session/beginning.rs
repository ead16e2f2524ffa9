//! How a client comes in: by the name's socket, or from the owner of the name.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use ntpipe_proto::control::Reply;
use ntpipe_proto::lane::ring_capacity;
use ntpipe_proto::{Access, Error, InstanceId};

use super::{MAX_STRANGERS, Origin, PATIENCE, Phase, Prepared, Session};
use crate::ring::LookFor;
use crate::service::owner::Owner;
use crate::service::{Interest, Readiness};
use crate::stream::lock;
use crate::sys::socket::{self, Credentials};

impl Session {
    /// Begins to listen to a client that has just come.
    pub(in crate::service) fn begin(owner: Arc<Owner>, socket: OwnedFd) {
        let Some(session) = Self::admit(owner, socket) else {
            return;
        };
        if session.begin_watching() {
            session.owner.service().expect();
        }
    }

    /// As [`begin`](Self::begin), by a thread that waits for nothing else: most clients say at once
    /// what they want, and have their answer before the service thread comes to hear of them.
    pub(in crate::service) fn begin_here(owner: Arc<Owner>, socket: OwnedFd) {
        let Some(session) = Self::admit(owner, socket) else {
            return;
        };
        // Who catches up must not overtake what is still done here.
        let _receiving = lock(&session.receiving);
        if !socket::is_readable(session.socket()) {
            // While the client does the same.
            *lock(&session.prepared) = session.prepare();
        }
        if LookFor::Request.until(|| socket::is_readable(session.socket())) {
            session.hear(Readiness::Readable);
        }
        drop(lock(&session.prepared).take());
        session.begin_watching();
    }

    /// Begins to serve a client to whom the owner of the name has given an instance of ours.
    pub(in crate::service) fn begin_handed_over(
        owner: Arc<Owner>,
        socket: OwnedFd,
        id: InstanceId,
        access: Access,
    ) {
        let Some(credentials) = known(&socket) else {
            return;
        };
        // As it should be already: this thread must not wait for one client.
        if rustix::io::ioctl_fionbio(&socket, true).is_err() {
            return;
        }
        let session = Self::new(owner, socket, credentials, Origin::Owner);
        // Who catches up must not overtake what is still done here.
        let _receiving = lock(&session.receiving);
        if !session.begin_watching() {
            return;
        }
        let opened = session.open(None, |owner| owner.open_handed_over(&session, id, access));
        if let Err(refusal) = opened {
            tracing::debug!(why = refusal.0, "a client was handed over in vain");
            session.drop_client();
        }
    }

    /// The session of a client that has come to the door, unless there are too many.
    fn admit(owner: Arc<Owner>, socket: OwnedFd) -> Option<Arc<Self>> {
        let credentials = known(&socket)?;
        if owner.strangers.load(Ordering::Relaxed) >= MAX_STRANGERS {
            tracing::warn!(
                pid = credentials.pid,
                "too many strangers: a client is sent away"
            );
            let error = Error::NO_SYSTEM_RESOURCES;
            if let Ok(bytes) = (Reply::Refused { error }).encode() {
                let _ = socket::send(socket.as_fd(), &bytes, None);
            }
            return None;
        }
        Some(Self::new(owner, socket, credentials, Origin::Door))
    }

    fn new(
        owner: Arc<Owner>,
        socket: OwnedFd,
        credentials: Credentials,
        origin: Origin,
    ) -> Arc<Self> {
        let session = Arc::new_cyclic(|itself| Self {
            socket: Arc::new(socket),
            owner,
            credentials,
            token: OnceLock::new(),
            phase: Mutex::new(Phase::Asking),
            receiving: Mutex::default(),
            is_stranger: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            prepared: Mutex::default(),
            origin,
            itself: Weak::clone(itself),
        });
        session.count_stranger(true);
        let service = session.owner.service();
        let token = service.enlist(Arc::<Self>::clone(&session));
        let _ = session.token.set(token);
        session
    }

    /// Memory of the size that the client will probably need.
    fn prepare(&self) -> Option<Prepared> {
        let (_, quotas) = self.owner.describe()?;
        Prepared::new(ring_capacity(quotas.outbound)).ok()
    }

    /// Lets the service thread watch the client, who may have come some way already; `false` if it
    /// is gone.
    fn begin_watching(&self) -> bool {
        let Some(token) = self.token.get() else {
            return false;
        };
        let interest = match *lock(&self.phase) {
            Phase::Over => return false,
            Phase::Connected(..) => Interest::HangUp,
            Phase::Asking => {
                // Who waits for an instance may do so for ever.
                if self.is_stranger.load(Ordering::Relaxed) {
                    self.set_patience(Some(PATIENCE));
                }
                Interest::All
            }
            Phase::Opened(..) | Phase::Member => Interest::All,
        };
        self.is_watched.store(true, Ordering::Relaxed);
        let service = self.owner.service();
        match service.watch_enlisted(*token, self.socket(), interest) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "a client can't be watched and is sent away");
                self.drop_client();
                false
            }
        }
    }
}

/// Who the kernel says is at the other end.
fn known(socket: &OwnedFd) -> Option<Credentials> {
    match socket::credentials(socket.as_fd()) {
        Ok(credentials) => Some(credentials),
        Err(error) => {
            tracing::warn!(%error, "a client without credentials is sent away");
            None
        }
    }
}
