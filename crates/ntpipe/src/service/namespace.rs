//! Names on the file system: where they are, who owns one, and how one is reached.
//!
//! Each name that exists has two files in the namespace directory: `NAME.lock`, which its owner
//! holds locked as long as it lives, and `NAME.pipe`, the socket on which it answers. The kernel
//! releases the lock with the owner's last breath, so that a name dies with its owner unless it has
//! heirs; the files of a dead name are removed by the next one who comes across them. Should
//! somebody have removed a living owner's lock file, the socket tells that it lives.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ntpipe_proto::{Error, PipeName};
use rustix::fs::{self, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;
use sha2::{Digest, Sha256};

use super::heirs::{Fate, Heirs, PAUSE};
use crate::stream::lock;
use crate::sys::fork::PerProcess;
use crate::sys::{fork, socket, trust};

/// The directory that holds the names.
#[derive(Debug)]
pub(crate) struct Namespace {
    dir: OwnedFd,
    path: PathBuf,
    id: DirId,
}

/// Which directory it is, whatever the path by which it was reached: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DirId(u64, u64);

/// What went wrong with the directory or a file in it, and which.
#[derive(Debug)]
pub(crate) struct NamespaceError {
    error: Error,
    path: PathBuf,
    what: &'static str,
}

/// The right to answer for a name; the name's files are removed with it.
#[derive(Debug)]
pub(crate) struct Claim {
    namespace: Arc<Namespace>,
    stem: String,
    /// Locked as long as this lives.
    lock: OwnedFd,
    generation: u32,
}

/// What an attempt to claim a name found.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// The name is ours.
    Ours(Claim),
    /// A living process has it.
    Taken,
    /// Its owner is gone, and one of its heirs will follow.
    Inherited,
    /// It is another user's, alive or dead.
    Foreign,
}

/// Who claims a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimant {
    /// One that has no instance of it: heirs come first.
    Stranger,
    Heir,
}

/// What a directory entry of ours ends in.
const PIPE: &str = ".pipe";
pub(super) const LOCK: &str = ".lock";
/// The longest encoded name that `/proc/self/fd/NNNNNNN/` and `.pipe` leave room for in the 108
/// bytes of a socket's address.
const MAX_STEM: usize = 80;
/// How long to wait for room in an owner's queue, or for heirs to find a new owner.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long who has a name's lock may take until it answers, or lets go of it.
const BEGINNING: Duration = Duration::from_secs(1);
/// Attempts to get hold of a lock file that others remove at the same time.
const ATTEMPTS: u32 = 1000;

impl Namespace {
    /// The first that applies of `$NTPIPE_DIR`, `/run/ntpipe` if it exists,
    /// `$XDG_RUNTIME_DIR/ntpipe`, and a private directory among the temporary files. A program with
    /// more rights than who started it believes no variable.
    pub(crate) fn open() -> Result<Arc<Self>, NamespaceError> {
        let is_set_id = trust::is_set_id();
        let var = |name| std::env::var_os(name).filter(|value| !is_set_id && !value.is_empty());
        if let Some(dir) = var("NTPIPE_DIR") {
            return Self::open_at(PathBuf::from(dir), Privacy::AsFound);
        }
        let system = Path::new("/run/ntpipe");
        if system.is_dir() {
            return Self::open_at(system.into(), Privacy::AsFound);
        }
        if let Some(dir) = var("XDG_RUNTIME_DIR") {
            return Self::open_at(Path::new(&dir).join("ntpipe"), Privacy::OwnersOnly);
        }
        let temporary = match is_set_id {
            true => PathBuf::from("/tmp"),
            false => std::env::temp_dir(),
        };
        let private = format!("ntpipe-{}", geteuid().as_raw());
        Self::open_at(temporary.join(private), Privacy::OwnersOnly)
    }

    /// As it was opened last, if it is still that directory, and as private as it has to be.
    fn open_at(path: PathBuf, privacy: Privacy) -> Result<Arc<Self>, NamespaceError> {
        static LAST: PerProcess<Mutex<Option<Arc<Namespace>>>> = PerProcess::new();
        let mut last = lock(LAST.get());
        if let Some(known) = last.as_ref().filter(|known| known.path == path)
            && known.still_is(privacy)
        {
            return Ok(Arc::clone(known));
        }
        let opened = Self::open_anew(path, privacy)?;
        *last = Some(Arc::clone(&opened));
        Ok(opened)
    }

    fn still_is(&self, privacy: Privacy) -> bool {
        let found = match privacy {
            Privacy::AsFound => fs::stat(&self.path),
            Privacy::OwnersOnly => fs::lstat(&self.path),
        };
        found.is_ok_and(|stat| DirId(stat.st_dev, stat.st_ino) == self.id && privacy.is_kept(&stat))
    }

    fn open_anew(path: PathBuf, privacy: Privacy) -> Result<Arc<Self>, NamespaceError> {
        let fail = |error, what| NamespaceError {
            error,
            path: path.clone(),
            what,
        };
        if privacy == Privacy::OwnersOnly {
            match fs::mkdir(&path, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => {
                    return Err(fail(Error::PATH_NOT_FOUND, "its parent does not exist"));
                }
                Err(_) => return Err(fail(Error::ACCESS_DENIED, "it can't be created")),
            }
        }
        let follow = match privacy {
            Privacy::AsFound => OFlags::empty(),
            Privacy::OwnersOnly => OFlags::NOFOLLOW,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | follow;
        let dir = fs::open(&path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => fail(Error::PATH_NOT_FOUND, "it does not exist"),
            Errno::NOTDIR | Errno::LOOP => fail(Error::PATH_NOT_FOUND, "it is not a directory"),
            errno => fail(or_scarce(errno, Error::ACCESS_DENIED), "it can't be opened"),
        })?;
        let stat = fs::fstat(&dir).map_err(|_| fail(Error::ACCESS_DENIED, "it is gone"))?;
        if !privacy.is_kept(&stat) {
            let what = "it must belong to this user, with access for no one else";
            return Err(fail(Error::ACCESS_DENIED, what));
        }
        let id = DirId(stat.st_dev, stat.st_ino);
        Ok(Arc::new(Self { dir, path, id }))
    }

    pub(crate) fn id(&self) -> DirId {
        self.id
    }

    /// Claims the name, unless a living process has it; what a dead one left behind is removed.
    pub(crate) fn claim(self: &Arc<Self>, name: &PipeName) -> Result<Claimed, NamespaceError> {
        self.claim_stem(stem(name.folded()), Claimant::Stranger)
    }

    /// Claims the name of which this process has instances.
    pub(super) fn inherit(self: &Arc<Self>, name: &PipeName) -> Result<Claimed, NamespaceError> {
        self.claim_stem(stem(name.folded()), Claimant::Heir)
    }

    pub(super) fn claim_stem(
        self: &Arc<Self>,
        stem: String,
        claimant: Claimant,
    ) -> Result<Claimed, NamespaceError> {
        let lock_name = format!("{stem}{LOCK}");
        let fail = |error, what| self.fail(&lock_name, error, what);
        for _ in 0..ATTEMPTS {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let lock = match fs::openat(&self.dir, &lock_name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(lock) => lock,
                // The lock of another user, alive or dead.
                Err(Errno::ACCESS | Errno::PERM) if self.stat(&lock_name).is_some() => {
                    return Ok(Claimed::Foreign);
                }
                Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
                    return Err(self.fail("", Error::ACCESS_DENIED, "it is not writable"));
                }
                Err(Errno::NOENT) => {
                    return Err(self.fail("", Error::PATH_NOT_FOUND, "it was removed"));
                }
                Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                    return Err(fail(Error::ACCESS_DENIED, "it is not a lock file of ours"));
                }
                Err(errno) => {
                    let error = or_scarce(errno, Error::ACCESS_DENIED);
                    return Err(fail(error, "it can't be opened"));
                }
            };
            match fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(Claimed::Taken),
                Err(_) => return Err(fail(Error::ACCESS_DENIED, "it can't be locked")),
            }
            let held = fs::fstat(&lock).map_err(|_| fail(Error::ACCESS_DENIED, "it is gone"))?;
            if FileType::from_raw_mode(held.st_mode) != FileType::RegularFile || held.st_size != 0 {
                return Err(fail(Error::ACCESS_DENIED, "it is not a lock file of ours"));
            }
            // Whoever had it before may have removed it: then this lock is worth nothing.
            if self
                .stat(&lock_name)
                .is_some_and(|found| same(&found, &held))
            {
                let has_heirs = || matches!(self.heirs(&stem), Heirs::Alive);
                if claimant == Claimant::Stranger && has_heirs() {
                    return Ok(Claimed::Inherited);
                }
                match self.remove_stale_socket(&stem) {
                    Ok(Socket::Answers) => {
                        // Its lock file was removed, and this one is nobody's.
                        self.remove(&lock_name);
                        return Ok(Claimed::Taken);
                    }
                    Err(error) => {
                        self.remove(&lock_name);
                        return Err(error);
                    }
                    Ok(Socket::Gone) => {}
                }
                // Whoever cleans up old files leaves sticky ones alone.
                if let Err(errno) = fs::fchmod(&lock, Mode::RUSR | Mode::WUSR | Mode::SVTX) {
                    tracing::debug!(%errno, "a lock file can't be made sticky");
                }
                let generation = fork::generation();
                return Ok(Claimed::Ours(Claim {
                    namespace: Arc::clone(self),
                    stem,
                    lock,
                    generation,
                }));
            }
        }
        Err(fail(
            Error::PIPE_BUSY,
            "others keep creating and removing it",
        ))
    }

    /// A socket connected to the name's owner. A name without a living owner does not exist.
    pub(crate) fn connect(self: &Arc<Self>, name: &PipeName) -> Result<OwnedFd, NamespaceError> {
        let file = format!("{}{PIPE}", stem(name.folded()));
        let connect = || socket::connect(&self.reach(&file), PATIENCE);
        self.connect_by(&stem(name.folded()), &file, PATIENCE, connect)
    }

    /// As [`connect`](Self::connect) for a file's stem; fails at once if its owner's queue is full,
    /// and waits for heirs until the deadline at most.
    pub(crate) fn try_connect(
        self: &Arc<Self>,
        stem: &str,
        deadline: Instant,
    ) -> Result<OwnedFd, NamespaceError> {
        let file = format!("{stem}{PIPE}");
        let patience = deadline.saturating_duration_since(Instant::now());
        let connect = || socket::try_connect(&self.reach(&file));
        self.connect_by(stem, &file, patience.min(PATIENCE), connect)
    }

    /// As [`try_connect`](Self::try_connect), at once: a socket that doesn't block, to the owner of
    /// a name of which this process has instances.
    pub(super) fn connect_now(&self, name: &PipeName) -> Result<OwnedFd, Errno> {
        let file = format!("{}{PIPE}", stem(name.folded()));
        socket::try_connect(&self.reach(&file))
    }

    /// Connects, and bridges the time between an owner and the next.
    fn connect_by(
        self: &Arc<Self>,
        stem: &str,
        file: &str,
        patience: Duration,
        connect: impl Fn() -> Result<OwnedFd, Errno>,
    ) -> Result<OwnedFd, NamespaceError> {
        let begun = Instant::now();
        loop {
            let errno = match connect() {
                Ok(socket) => return Ok(socket),
                Err(errno @ (Errno::NOENT | Errno::CONNREFUSED)) => errno,
                Err(errno) => return Err(self.unreachable(file, errno)),
            };
            let patience = match self.fate(stem, errno) {
                Fate::Dead => return Err(self.unreachable(file, errno)),
                Fate::Taken => BEGINNING.min(patience),
                Fate::Inherited => patience,
            };
            if begun.elapsed() >= patience {
                return Err(self.unreachable(file, errno));
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    fn unreachable(&self, file: &str, errno: Errno) -> NamespaceError {
        match errno {
            Errno::NOENT => self.fail(file, Error::FILE_NOT_FOUND, "there is no such pipe"),
            Errno::CONNREFUSED => self.fail(file, Error::FILE_NOT_FOUND, "its owner is gone"),
            Errno::ACCESS | Errno::PERM => {
                self.fail(file, Error::ACCESS_DENIED, "it belongs to another user")
            }
            Errno::NOTSOCK | Errno::PROTOTYPE => {
                self.fail(file, Error::FILE_NOT_FOUND, "it is not a pipe's socket")
            }
            Errno::AGAIN => self.fail(file, Error::SEM_TIMEOUT, "its owner lets no one in"),
            errno => {
                let error = or_scarce(errno, Error::NO_SYSTEM_RESOURCES);
                self.fail(file, error, "it can't be reached")
            }
        }
    }

    /// Removes the name's files if its owner is dead and there is no heir.
    pub(crate) fn sweep_name(self: &Arc<Self>, name: &PipeName) {
        let stem = stem(name.folded());
        if self.stat(&format!("{stem}{PIPE}")).is_some() {
            self.fate(&stem, Errno::CONNREFUSED);
        }
    }

    pub(super) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// The stems of all names, be their owners alive or dead.
    pub(crate) fn stems(&self) -> Result<Vec<String>, NamespaceError> {
        let fail = |errno| {
            let error = or_scarce(errno, Error::ACCESS_DENIED);
            self.fail("", error, "it can't be listed")
        };
        let mut found = Vec::new();
        for entry in Dir::read_from(&self.dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_str().ok();
            let stem = name.and_then(|name| name.strip_suffix(PIPE));
            found.extend(stem.map(str::to_owned));
        }
        Ok(found)
    }

    /// Removes a name's socket, unless somebody answers there; the caller holds the lock.
    fn remove_stale_socket(&self, stem: &str) -> Result<Socket, NamespaceError> {
        let file = format!("{stem}{PIPE}");
        let Some(stat) = self.stat(&file) else {
            return Ok(Socket::Gone);
        };
        let fail = |what| self.fail(&file, Error::ACCESS_DENIED, what);
        let is_socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
        if !is_socket || stat.st_uid != geteuid().as_raw() {
            let what = "something that is not ours has the name of a pipe; move it away";
            return Err(fail(what));
        }
        match socket::try_connect(&self.reach(&file)) {
            // It is alive, be it that it is stopped and its queue full.
            Ok(_) | Err(Errno::AGAIN) => return Ok(Socket::Answers),
            Err(Errno::CONNREFUSED) => {}
            Err(Errno::NOENT) => return Ok(Socket::Gone),
            Err(errno) => {
                let error = or_scarce(errno, Error::ACCESS_DENIED);
                let what = "it can't be told whether its owner lives";
                return Err(self.fail(&file, error, what));
            }
        }
        fs::unlinkat(&self.dir, &file, AtFlags::empty())
            .map_err(|_| fail("it can't be removed"))?;
        Ok(Socket::Gone)
    }

    pub(super) fn remove(&self, file: &str) {
        if let Err(errno) = fs::unlinkat(&self.dir, file, AtFlags::empty()) {
            tracing::debug!(%errno, file, "a name's file stays");
        }
    }

    /// A path to a file of the directory that is short enough for a socket's address.
    fn reach(&self, file: &str) -> String {
        format!("/proc/self/fd/{}/{file}", self.dir.as_raw_fd())
    }

    pub(super) fn stat(&self, file: &str) -> Option<Stat> {
        fs::statat(&self.dir, file, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    pub(super) fn fail(&self, file: &str, error: Error, what: &'static str) -> NamespaceError {
        let path = match file {
            "" => self.path.clone(),
            file => self.path.join(file),
        };
        NamespaceError { error, path, what }
    }
}

/// What the kernel's refusal comes to: `error`, unless something has run out.
pub(super) fn or_scarce(errno: Errno, error: Error) -> Error {
    match errno {
        Errno::MFILE | Errno::NFILE => Error::TOO_MANY_OPEN_FILES,
        Errno::NOMEM => Error::NO_SYSTEM_RESOURCES,
        _ => error,
    }
}

/// What has become of the socket of a name whose lock was free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Socket {
    Gone,
    Answers,
}

/// Who may use a directory of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Privacy {
    /// Whoever its mode lets in; it must exist.
    AsFound,
    /// Its owner alone; created on need.
    OwnersOnly,
}

impl Privacy {
    fn is_kept(self, dir: &Stat) -> bool {
        let others = Mode::RWXG | Mode::RWXO;
        self == Self::AsFound
            || (FileType::from_raw_mode(dir.st_mode) == FileType::Directory
                && dir.st_uid == geteuid().as_raw()
                && !Mode::from_raw_mode(dir.st_mode).intersects(others))
    }
}

impl Claim {
    /// The socket on which the owner answers.
    pub(crate) fn listen(&self) -> Result<OwnedFd, NamespaceError> {
        let file = format!("{}{PIPE}", self.stem);
        let namespace = &self.namespace;
        socket::listen(&namespace.reach(&file)).map_err(|errno| {
            let what = match errno {
                Errno::ADDRINUSE => "something else has that name",
                _ => "the socket can't be created",
            };
            namespace.fail(&file, or_scarce(errno, Error::ACCESS_DENIED), what)
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A forked child has a copy of this, but the name is its parent's.
        if self.generation != fork::current() {
            return;
        }
        let lock_name = format!("{}{LOCK}", self.stem);
        let found = self.namespace.stat(&lock_name);
        let is_ours = |found| fs::fstat(&self.lock).is_ok_and(|own| same(&own, found));
        if !found.as_ref().is_some_and(is_ours) {
            // Somebody has removed it: the files of that name may be another's by now. A socket
            // that is left is found stale.
            tracing::debug!(lock_name, "a name's files stay");
            return;
        }
        self.namespace.remove(&format!("{}{PIPE}", self.stem));
        // The heirs need the lock to find out which of them is next.
        if let Heirs::Gone(heirs) = self.namespace.heirs(&self.stem) {
            self.namespace.remove_heirs(&self.stem, heirs);
            // Last, and while it is still locked.
            self.namespace.remove(&lock_name);
        }
    }
}

impl NamespaceError {
    pub(crate) fn error(&self) -> Error {
        self.error
    }
}

impl fmt::Display for NamespaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.error, self.path.display(), self.what)
    }
}

impl std::error::Error for NamespaceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<NamespaceError> for io::Error {
    fn from(error: NamespaceError) -> Self {
        // A pipe that isn't there is what callers match on; all else is the directory's trouble.
        if [Error::FILE_NOT_FOUND, Error::PIPE_BUSY, Error::SEM_TIMEOUT].contains(&error.error) {
            error.error.into()
        } else {
            Self::new(error.error.kind(), error)
        }
    }
}

pub(super) fn same(one: &Stat, other: &Stat) -> bool {
    one.st_ino == other.st_ino && one.st_dev == other.st_dev
}

/// A file name for a folded pipe name: readable, and no two names share one. Letters, digits and
/// `._-` stand for themselves, in lower case; other bytes are `%XX`. What would be too long ends in
/// `%~` and a hash; the owner is asked for the full name, so that a collision can only fail.
pub(super) fn stem(folded: &str) -> String {
    let mut stem = String::new();
    for byte in folded.bytes() {
        match byte {
            b'A'..=b'Z' => stem.push(char::from(byte.to_ascii_lowercase())),
            b'0'..=b'9' | b'_' | b'-' => stem.push(char::from(byte)),
            b'.' if !stem.is_empty() => stem.push('.'),
            _ => stem.push_str(&format!("%{byte:02x}")),
        }
    }
    if stem.len() > MAX_STEM {
        let hash = Sha256::digest(folded.as_bytes());
        stem.truncate(MAX_STEM - 2 - 32);
        stem.push_str("%~");
        stem.extend(hash.iter().take(16).map(|byte| format!("{byte:02x}")));
    }
    stem
}
