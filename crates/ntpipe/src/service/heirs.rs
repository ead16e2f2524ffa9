//! Who may carry a name on when its owner goes.
//!
//! Each process that has instances of a name that another one owns holds a shared lock on the
//! name's `NAME.heirs`. While anybody does, nobody else can take the name, and who finds no owner
//! waits for the next.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ntpipe_proto::{Error, PipeName};
use rustix::fs::{self, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::namespace::{Claimant, Claimed, LOCK, Namespace, NamespaceError, or_scarce, same, stem};

/// A share in a name that another process owns.
#[derive(Debug)]
pub(super) struct Heir {
    /// Locked as long as this lives.
    _lock: OwnedFd,
}

/// What has become of a name that nobody answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// There is no such name; what a dead owner left has been removed.
    Dead,
    /// Somebody has its lock, and will answer or let go of it at once.
    Taken,
    /// Its heirs will find a new owner among them.
    Inherited,
}

/// Whether a name has heirs.
pub(super) enum Heirs {
    Alive,
    /// And none can come as long as this is held; nothing if there is no such file.
    Gone(Option<OwnedFd>),
}

const HEIRS: &str = ".heirs";
/// How often a lock is tried that somebody only looks at.
const ATTEMPTS: u32 = 1000;
/// How long to wait between two attempts.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

impl Heir {
    /// Becomes an heir of the name.
    ///
    /// # Errors
    /// `ERROR_ACCESS_DENIED` (5) if the file is not ours, `ERROR_PIPE_BUSY` (231) if somebody does
    /// not let go of it.
    pub(super) fn new(namespace: &Arc<Namespace>, name: &PipeName) -> Result<Self, NamespaceError> {
        let file = format!("{}{HEIRS}", stem(name.folded()));
        let fail = |error, what| namespace.fail(&file, error, what);
        for _ in 0..ATTEMPTS {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            let lock = fs::openat(namespace.dir(), &file, flags, mode).map_err(|errno| {
                fail(or_scarce(errno, Error::ACCESS_DENIED), "it can't be opened")
            })?;
            match fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    std::thread::park_timeout(PAUSE);
                    continue;
                }
                Err(_) => return Err(fail(Error::ACCESS_DENIED, "it can't be locked")),
            }
            let held = fs::fstat(&lock).map_err(|_| fail(Error::ACCESS_DENIED, "it is gone"))?;
            if FileType::from_raw_mode(held.st_mode) != FileType::RegularFile || held.st_size != 0 {
                return Err(fail(Error::ACCESS_DENIED, "it is not a lock file of ours"));
            }
            // Whoever had the name before may have removed it.
            if namespace
                .stat(&file)
                .is_some_and(|found| same(&found, &held))
            {
                // Whoever cleans up old files leaves sticky ones alone.
                let mode = Mode::RUSR | Mode::WUSR | Mode::SVTX;
                if let Err(errno) = fs::fchmod(&lock, mode) {
                    tracing::debug!(%errno, "a lock file can't be made sticky");
                }
                return Ok(Self { _lock: lock });
            }
        }
        Err(fail(Error::PIPE_BUSY, "others keep looking at it"))
    }
}

impl Namespace {
    /// Whether the name has heirs.
    pub(super) fn heirs(&self, stem: &str) -> Heirs {
        let file = format!("{stem}{HEIRS}");
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.stat(&file).is_none() {
            return Heirs::Gone(None);
        }
        let lock = match fs::openat(self.dir(), &file, flags, Mode::empty()) {
            Ok(lock) => lock,
            // It can't be told: nothing is taken from heirs by mistake.
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => return Heirs::Alive,
            Err(_) => return Heirs::Gone(None),
        };
        match fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Heirs::Gone(Some(lock)),
            Err(_) => Heirs::Alive,
        }
    }

    /// Removes the file of the heirs, if there is none; the caller holds the name's lock.
    pub(super) fn remove_heirs(&self, stem: &str, gone: Option<OwnedFd>) {
        let Some(lock) = gone else { return };
        let file = format!("{stem}{HEIRS}");
        let found = self.stat(&file);
        let held = fs::fstat(&lock).ok();
        if let (Some(found), Some(held)) = (found, held)
            && same(&found, &held)
            && FileType::from_raw_mode(held.st_mode) == FileType::RegularFile
            && held.st_size == 0
        {
            self.remove(&file);
        }
    }

    /// What has become of a name whose socket is not there, or refuses.
    pub(super) fn fate(self: &Arc<Self>, stem: &str, errno: Errno) -> Fate {
        // An owner has its lock before its socket, and heirs keep the lock's file.
        if errno == Errno::NOENT && self.stat(&format!("{stem}{LOCK}")).is_none() {
            return Fate::Dead;
        }
        match self.claim_stem(stem.to_owned(), Claimant::Stranger) {
            Ok(Claimed::Ours(_) | Claimed::Foreign) => Fate::Dead,
            Ok(Claimed::Taken) => Fate::Taken,
            Ok(Claimed::Inherited) => Fate::Inherited,
            Err(error) => {
                tracing::debug!(%error, "a dead name stays");
                Fate::Dead
            }
        }
    }
}
