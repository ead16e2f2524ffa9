//! Passing an end on: what its parts consist of, and how holders learn of each other's death.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use ntpipe_proto::control::Opened;
use ntpipe_proto::{Access, EndState, Error, ReadMode};

use crate::ring::roster::{HolderId, Roster};
use crate::ring::{Files, Link, Trust};
use crate::service::{Interest, Readiness, Service, Source, Token};
use crate::stream::shared::Newcomer;
use crate::stream::{PipeStream, lock};
use crate::sys::{bag, socket};

mod description;

pub(crate) use description::{Description, Kind, Party};

/// An end of any type, as those that watch over it see it.
pub(crate) trait Holding: Send + Sync {
    fn stream(&self) -> &PipeStream;
}

/// What an end says of itself when it is passed on.
pub(crate) struct Portrait {
    pub(crate) kind: Kind,
    pub(crate) access: Access,
    pub(crate) client: Party,
    pub(crate) server: Party,
    pub(crate) pipe: Opened,
}

/// The descriptors of an end, in the order in which a bag has them.
struct Contents {
    /// Hangs up when the other end has no holder any more.
    connection: OwnedFd,
    files: Files,
    roster: OwnedFd,
    /// Hangs up when the holder at its other side is gone.
    lifeline: OwnedFd,
    /// Hangs up when the process that answers for the instance is gone, which in turn learns when
    /// nobody has it any more. Server ends have it.
    lodging: Option<OwnedFd>,
}

/// A new holder's end, taken out of its bag.
pub(crate) struct Received {
    pub(crate) description: Description,
    pub(crate) connection: Arc<OwnedFd>,
    pub(crate) link: Arc<Link>,
    pub(crate) stream: PipeStream,
    pub(crate) lifeline: OwnedFd,
    pub(crate) lodging: Option<OwnedFd>,
}

/// Packs what a newcomer needs; returns the bag, and this side of the newcomer's lifeline.
pub(crate) fn pack(
    newcomer: &Newcomer,
    portrait: Portrait,
    connection: BorrowedFd<'_>,
    lodging: Option<BorrowedFd<'_>>,
) -> Result<(OwnedFd, OwnedFd), Error> {
    let roster = newcomer.link.roster().ok_or(Error::INTERNAL_ERROR)?;
    let description = Description {
        kind: portrait.kind,
        access: portrait.access,
        client: portrait.client,
        server: portrait.server,
        holder: newcomer.id,
        from: roster.me(),
        pipe: portrait.pipe,
    };
    let (ours, theirs) = bag::pair()?;
    let files = newcomer.link.files();
    let peer = files.peer()?;
    let mut fds = vec![
        connection,
        files.own.as_fd(),
        peer.as_fd(),
        newcomer.file.as_fd(),
        theirs.as_fd(),
    ];
    fds.extend(lodging);
    Ok((bag::pack(&description.encode()?, &fds)?, ours))
}

/// What kind of end is in a bag; it stays there.
pub(crate) fn kind_of(parts: BorrowedFd<'_>) -> Result<Kind, Error> {
    Ok(Description::decode(&bag::look_into(parts)?)?.kind)
}

/// Takes an end out of its bag.
pub(crate) fn unpack(parts: BorrowedFd<'_>) -> Result<Received, Error> {
    let (text, fds) = bag::empty(parts)?;
    if text.is_empty() {
        return Err(Error::INVALID_HANDLE);
    }
    let description = Description::decode(&text)?;
    let contents = Contents::from_fds(fds).ok_or(Error::INVALID_DATA)?;
    let terms = description.terms();
    // Another user's memory can be moved about under our sleepers; a socket without credentials
    // tells nothing.
    let trust = match socket::credentials(contents.connection.as_fd()) {
        Ok(credentials) => credentials.trust(),
        Err(_) => Trust::Stranger,
    };
    let capacities = description.capacities();
    let ring = ntpipe_proto::lane::ring_capacity(terms.writes.unwrap_or(0));
    let roster = Roster::join(contents.roster, description.holder, ring)?;
    let modes = roster.modes();
    let connection = Arc::new(contents.connection);
    let link = Link::join(contents.files, capacities, trust, roster)?;
    // The peer's tasks are rung for by whoever holds this end.
    let link = Arc::new(link.with_socket(Arc::clone(&connection)));
    let mode = match terms.pipe_type.allows(modes.read_mode) {
        true => modes.read_mode,
        false => ReadMode::Byte,
    };
    let stream = PipeStream::new(terms, mode, EndState::Connected);
    stream.begin_with(modes.wait_mode);
    stream.attach(&link);
    Ok(Received {
        description,
        connection,
        link,
        stream,
        lifeline: contents.lifeline,
        lodging: contents.lodging,
    })
}

/// Who holds an end that comes out of parts.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holders {
    /// Whoever held it before, too.
    Several,
    /// Nobody else: it is as if it had never been shared.
    One,
}

#[cfg(feature = "tokio")]
impl Received {
    /// The same end, shared no longer.
    ///
    /// # Errors
    /// `ERROR_NOT_SUPPORTED` (50): others hold it too.
    pub(crate) fn alone(self) -> Result<Self, Error> {
        let engines = self.stream.take_over()?;
        let trust = match socket::credentials(self.connection.as_fd()) {
            Ok(credentials) => credentials.trust(),
            Err(_) => Trust::Stranger,
        };
        let link = self.link.alone(self.description.capacities(), trust)?;
        let link = Arc::new(link.with_socket(Arc::clone(&self.connection)));
        let modes = self.stream.modes();
        let terms = self.description.terms();
        let stream = PipeStream::new(terms, modes.read_mode, EndState::Connected);
        stream.begin_with(modes.wait_mode);
        stream.attach(&link);
        stream.go_on_with(engines);
        Ok(Self {
            link,
            stream,
            ..self
        })
    }
}

impl Contents {
    fn from_fds(fds: Vec<OwnedFd>) -> Option<Self> {
        let mut fds = fds.into_iter();
        let contents = Self {
            connection: fds.next()?,
            files: Files::new(fds.next()?, fds.next()?),
            roster: fds.next()?,
            lifeline: fds.next()?,
            lodging: fds.next(),
        };
        fds.next().is_none().then_some(contents)
    }
}

/// Watches for the death of one other holder.
struct Lifeline {
    fd: OwnedFd,
    other: HolderId,
    end: Weak<dyn Holding>,
    watch: Mutex<Watch>,
}

struct Watch {
    token: Option<Token>,
    /// How long to wait before the next look.
    pause: Duration,
}

/// The first pause: the kernel lets go of a dead process' descriptors one after the other.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Lifeline {
    fn look(&self) {
        let Some(end) = self.end.upgrade() else {
            return;
        };
        let is_over = end.stream().look_for_dead(self.other);
        let mut watch = lock(&self.watch);
        let (Some(token), Ok(service)) = (watch.token, Service::get()) else {
            return;
        };
        if is_over {
            service.forget(token);
        } else {
            service.set_timer(token, Some(Instant::now() + watch.pause));
            watch.pause = LONGEST_PAUSE.min(watch.pause * 2);
        }
    }
}

impl Source for Lifeline {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn ready(&self, _: Readiness) {
        self.look();
    }

    fn expired(&self) {
        self.look();
    }
}

/// What the service thread watches for an end, until the end is closed.
#[derive(Default)]
pub(crate) struct Watches(Mutex<Vec<Token>>);

impl Watches {
    /// Watches for the death of another holder.
    pub(crate) fn add_lifeline(
        &self,
        fd: OwnedFd,
        other: HolderId,
        end: Weak<dyn Holding>,
    ) -> Result<(), Error> {
        let watch = Mutex::new(Watch {
            token: None,
            pause: FIRST_PAUSE,
        });
        let lifeline = Arc::new(Lifeline {
            fd,
            other,
            end,
            watch,
        });
        let source = Arc::<Lifeline>::clone(&lifeline);
        // Under this lock, so that it is not told before it knows its token.
        let mut watch = lock(&lifeline.watch);
        let token = Service::get()?.watch(source, Interest::HangUp)?;
        watch.token = Some(token);
        lock(&self.0).push(token);
        Ok(())
    }

    /// Watches a source.
    pub(crate) fn add(&self, source: Arc<dyn Source>) -> Result<(), Error> {
        let token = Service::get()?.watch(source, Interest::HangUp)?;
        lock(&self.0).push(token);
        Ok(())
    }

    /// Watches nothing any more.
    pub(crate) fn end(&self) {
        let tokens = std::mem::take(&mut *lock(&self.0));
        if tokens.is_empty() {
            return;
        }
        if let Ok(service) = Service::get() {
            for token in tokens {
                service.forget(token);
            }
        }
    }
}

/// Notices that the peer's last holder is gone.
pub(crate) struct PeerWatch {
    pub(crate) socket: Arc<OwnedFd>,
    pub(crate) link: Weak<Link>,
}

impl Source for PeerWatch {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn ready(&self, _: Readiness) {
        if let Some(link) = self.link.upgrade() {
            link.hang_up();
        }
    }
}
