//! Both ends' memory, and who is still there.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ntpipe_proto::Error;
use ntpipe_proto::lane::{Header, Incoming, Outgoing, Pos, Taken};

use super::bell::{self, Sleepers, Trust};
use super::deferred::{ReadSoFar, WrittenSoFar};
#[cfg(feature = "tokio")]
use super::doorbell;
use super::doorbell::Rung;
use super::layout::state;
use super::region::Region;
use super::roster::Roster;
use super::share::Share;
use super::spin::{self, Pace, Spin};
use crate::primitive::full_fence;
use crate::stream::Tasks;
use crate::sys::shm::{self, MemoryId};
use crate::sys::{cpu, socket};

/// This end's memory, before the peer's is known.
#[derive(Debug)]
pub(crate) struct Offer {
    own: Region,
    file: Arc<OwnedFd>,
}

/// One connection, as one of its ends sees it.
#[derive(Debug)]
pub(crate) struct Link {
    own: Region,
    peer: Region,
    files: Files,
    /// Set once several processes hold this end.
    roster: OnceLock<Roster>,
    /// The threads of this process that wait at this end.
    sleepers: Sleepers,
    /// The tasks of this process that wait at this end.
    tasks: OnceLock<Arc<Tasks>>,
    /// The connection's control socket, by which the doorbells of both ends are rung.
    socket: Option<Arc<OwnedFd>>,
    rung: Rung,
    /// The kernel said that the peer's last holder is gone.
    hung_up: AtomicBool,
    /// This side has disconnected the instance.
    disconnected: AtomicBool,
    /// The peer's memory contradicted itself.
    corrupt: AtomicBool,
    reading: Spin,
    writing: Spin,
    /// This end has written since it last had to wait for data.
    wrote: AtomicBool,
    share: Share,
    /// How often in a row it has caught up with a writer that was ahead again by then.
    catches: AtomicU32,
}

/// The files of both memories: the own one for writing too.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) own: Arc<OwnedFd>,
    peer: PeerFile,
}

/// The file of the peer's memory.
#[derive(Debug)]
enum PeerFile {
    /// As a peer gets it.
    ReadOnly(OwnedFd),
    /// The peer is in this process, and has the same descriptor.
    Own(Arc<OwnedFd>),
}

/// The sizes of the rings in both memories.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacities {
    pub(crate) own: u64,
    pub(crate) peer: u64,
}

/// Whether any holder of a shared end waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    Some,
    Nobody,
}

/// So often in a row a reader catches up before it is taken for one that follows a stream.
const CATCHES: u32 = 16;

/// In a waiting word: some holder of a shared end waits. The bits below count threads of the time
/// when one process held the end alone.
const SHARED_WAIT: u32 = 1 << 16;

/// What is known of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// It holds its end.
    Connected,
    /// It has closed its end, or died.
    Gone,
    /// The server has disconnected the instance.
    Disconnected,
    /// It has lied.
    Corrupt,
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The peer writes.
    Data(Pace),
    /// The peer reads.
    Room(Pace),
}

impl Wait {
    /// What a writer wakes its peer for.
    pub(crate) const DATA: Self = Self::Data(Pace::PROMPT);
    /// What a reader wakes its peer for.
    pub(crate) const ROOM: Self = Self::Room(Pace::PROMPT);
}

impl Offer {
    /// New memory with a ring of `capacity` bytes for what this end writes.
    pub(crate) fn new(capacity: u64) -> Result<(Self, OwnedFd), Error> {
        let (own, file) = Region::create(capacity)?;
        let memory = shm::read_only(&file)?;
        let file = Arc::new(file);
        Ok((Self { own, file }, memory))
    }

    /// A connection within this process: one descriptor for each memory will do. `capacities` are
    /// those of the rings of both.
    pub(crate) fn pair(capacities: [u64; 2]) -> Result<[Link; 2], Error> {
        let [first, second] = capacities.map(Region::create);
        let ((first, first_file), (second, second_file)) = (first?, second?);
        let files = [Arc::new(first_file), Arc::new(second_file)];
        let [first_file, second_file] = &files;
        let [capacity, other] = capacities;
        let peers = (
            Region::attach(second_file, other)?,
            Region::attach(first_file, capacity)?,
        );
        let of = |own: &Arc<OwnedFd>, peer: &Arc<OwnedFd>| Files {
            own: Arc::clone(own),
            peer: PeerFile::Own(Arc::clone(peer)),
        };
        Ok([
            Link::new(first, peers.0, of(first_file, second_file), Trust::Same),
            Link::new(second, peers.1, of(second_file, first_file), Trust::Same),
        ])
    }

    /// The server closes the instance before the client has come to attach its memory.
    pub(crate) fn close(&self) {
        self.own
            .page()
            .state
            .0
            .state
            .store(state::CLOSED, Ordering::Release);
    }

    /// The server disconnects the client before it has come to attach its memory.
    pub(crate) fn disconnect(&self) {
        self.own
            .page()
            .state
            .0
            .state
            .store(state::DISCONNECTED, Ordering::Release);
    }

    /// The connection with the peer whose memory this is, with a ring of `capacity` bytes.
    pub(crate) fn accept(self, peer: OwnedFd, capacity: u64, trust: Trust) -> Result<Link, Error> {
        self.try_accept(peer, capacity, trust)
            .map_err(|(error, _)| error)
    }

    /// As [`accept`](Self::accept); what is not the right memory leaves the offer as it was.
    pub(crate) fn try_accept(
        self,
        peer: OwnedFd,
        capacity: u64,
        trust: Trust,
    ) -> Result<Link, (Error, Self)> {
        match Region::attach(&peer, capacity) {
            // It would hear itself.
            Ok(region) if region.id() == self.own.id() => Err((Error::INVALID_DATA, self)),
            Ok(region) => {
                let files = Files {
                    own: self.file,
                    peer: PeerFile::ReadOnly(peer),
                };
                Ok(Link::new(self.own, region, files, trust))
            }
            Err(error) => Err((error, self)),
        }
    }
}

impl Files {
    /// What a holder gets: the own memory's file, and the peer's for reading.
    pub(crate) fn new(own: OwnedFd, peer: OwnedFd) -> Self {
        Self {
            own: Arc::new(own),
            peer: PeerFile::ReadOnly(peer),
        }
    }

    /// The peer's memory for another holder, who is to read it only.
    pub(crate) fn peer(&self) -> Result<OwnedFd, Error> {
        match &self.peer {
            PeerFile::ReadOnly(file) => shm::duplicate(file),
            PeerFile::Own(file) => shm::read_only(file),
        }
    }
}

impl Link {
    fn new(own: Region, peer: Region, files: Files, trust: Trust) -> Self {
        Self {
            own,
            peer,
            files,
            roster: OnceLock::new(),
            sleepers: Sleepers::new(trust),
            tasks: OnceLock::new(),
            socket: None,
            rung: Rung::new(),
            hung_up: AtomicBool::new(false),
            disconnected: AtomicBool::new(false),
            corrupt: AtomicBool::new(false),
            reading: Spin::default(),
            writing: Spin::default(),
            wrote: AtomicBool::new(false),
            share: Share::default(),
            catches: AtomicU32::new(0),
        }
    }

    /// The connection of an end that other processes hold too.
    pub(crate) fn join(
        files: Files,
        capacities: Capacities,
        trust: Trust,
        roster: Roster,
    ) -> Result<Self, Error> {
        let own = Region::join(&*files.own, capacities.own)?;
        let peer = Region::attach(files.peer()?, capacities.peer)?;
        let link = Self::new(own, peer, files, trust);
        // It has none yet.
        let _ = link.roster.set(roster);
        Ok(link)
    }

    /// The connection of an end that was shared, for the last of its holders.
    #[cfg(feature = "tokio")]
    pub(crate) fn alone(&self, capacities: Capacities, trust: Trust) -> Result<Self, Error> {
        let own = Region::join(&*self.files.own, capacities.own)?;
        let peer = Region::attach(self.files.peer()?, capacities.peer)?;
        let files = Files {
            own: Arc::clone(&self.files.own),
            peer: PeerFile::ReadOnly(self.files.peer()?),
        };
        let alone = Self::new(own, peer, files, trust);
        if self.roster().is_some_and(Roster::is_disconnected) {
            alone.disconnected.store(true, Ordering::Release);
        }
        // None of its holders waits any more.
        for wait in [Wait::DATA, Wait::ROOM] {
            alone.set_shared_wait(wait, Waits::Nobody);
        }
        Ok(alone)
    }

    /// Who else holds this end, if it is shared.
    pub(crate) fn roster(&self) -> Option<&Roster> {
        self.roster.get()
    }

    /// From now on this end is shared, and its threads that sleep find out.
    pub(crate) fn set_roster(&self, roster: Roster) {
        // The caller has the locks under which it is set, and has looked.
        let _ = self.roster.set(roster);
        self.sleepers.ring(&self.peer.page().bell.0);
    }

    /// The memories, for another holder.
    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// What this end's reader has published.
    pub(crate) fn read_so_far(&self) -> ReadSoFar {
        let page = self.own.page();
        let (incoming, intent) = (&page.incoming.0, &page.intent.0);
        ReadSoFar {
            taken: Taken {
                head: Pos(incoming.head.load(Ordering::Acquire)),
                consumed: incoming.consumed.load(Ordering::Acquire),
            },
            claim: Pos(intent.claim.load(Ordering::Acquire)),
            asked: intent.asked.load(Ordering::Acquire),
        }
    }

    /// What this end's writer has published.
    pub(crate) fn written_so_far(&self) -> WrittenSoFar {
        let outgoing = &self.own.page().outgoing.0;
        WrittenSoFar {
            tail: Pos(outgoing.tail.load(Ordering::Acquire)),
            offered: outgoing.offered.load(Ordering::Acquire),
            completed: Pos(outgoing.completed.load(Ordering::Acquire)),
        }
    }

    /// Says, for all holders of a shared end, whether any of them waits for the peer.
    pub(crate) fn set_shared_wait(&self, wait: Wait, waits: Waits) {
        let word = self.own_waiting(wait);
        match waits {
            Waits::Some => word.fetch_or(SHARED_WAIT, Ordering::Relaxed),
            Waits::Nobody => word.fetch_and(!SHARED_WAIT, Ordering::Relaxed),
        };
    }

    /// The peer's bell, for a sleep of a shared end.
    pub(crate) fn peer_bell(&self) -> &AtomicU32 {
        &self.peer.page().bell.0
    }

    /// The connection whose control socket this is.
    pub(crate) fn with_socket(self, socket: Arc<OwnedFd>) -> Self {
        Self {
            socket: Some(socket),
            ..self
        }
    }

    /// By this the peer rings for the tasks of this end, and hangs up; `None` if it can't.
    #[cfg(feature = "tokio")]
    pub(crate) fn socket(&self) -> Option<&Arc<OwnedFd>> {
        self.socket.as_ref()
    }

    /// The tasks that are to be woken together with the threads of this process.
    pub(crate) fn set_tasks(&self, tasks: &Arc<Tasks>) {
        let _ = self.tasks.set(Arc::clone(tasks));
    }

    /// A task is going to wait for a ring: look once more after this.
    #[cfg(feature = "tokio")]
    pub(crate) fn arm(&self, wait: Wait) {
        doorbell::arm(self.own_waiting(wait), &self.own.page().waiting.0.arming);
    }

    /// No task waits for a ring any more.
    #[cfg(feature = "tokio")]
    pub(crate) fn disarm(&self, wait: Wait) {
        doorbell::disarm(self.own_waiting(wait));
    }

    /// What is known of the peer. Look at this *before* the cursors, or the last bytes are lost.
    pub(crate) fn peer(&self) -> Peer {
        if self.corrupt.load(Ordering::Relaxed) {
            return Peer::Corrupt;
        }
        if self.disconnected.load(Ordering::Acquire)
            || self.roster().is_some_and(Roster::is_disconnected)
        {
            return Peer::Disconnected;
        }
        match self.peer.page().state.0.state.load(Ordering::Acquire) {
            state::OPEN if self.hung_up.load(Ordering::Acquire) => Peer::Gone,
            state::OPEN => Peer::Connected,
            state::CLOSED => Peer::Gone,
            state::DISCONNECTED => Peer::Disconnected,
            _ => Peer::Corrupt,
        }
    }

    /// Which memory this end has.
    pub(crate) fn own_id(&self) -> MemoryId {
        self.own.id()
    }

    /// Which memory the peer has.
    pub(crate) fn peer_id(&self) -> MemoryId {
        self.peer.id()
    }

    /// Whether the other is the other end of this connection, in this process too.
    pub(crate) fn is_peer_of(&self, other: &Self) -> bool {
        self.own_id() == other.peer_id() && self.peer_id() == other.own_id()
    }

    /// The peer has lied: the connection is dead for good. Returns the error to report.
    pub(crate) fn poison(&self, error: Error) -> Error {
        if error == Error::INVALID_DATA && !self.corrupt.swap(true, Ordering::Relaxed) {
            tracing::warn!("a peer's shared memory contradicts itself; its connection is dead");
            self.wake_own();
        }
        error
    }

    /// The kernel says that no process holds the peer's end any more.
    pub(crate) fn hang_up(&self) {
        self.hung_up.store(true, Ordering::Release);
        self.wake_own();
    }

    /// This end is closed: the peer reads what is there, then finds it gone.
    pub(crate) fn close(&self) {
        // Another holder's disconnect stays the last word.
        if !self.roster().is_some_and(Roster::is_disconnected) {
            self.tell(state::CLOSED);
        }
    }

    /// The server disconnects: what is unread is gone, for both.
    pub(crate) fn disconnect(&self) {
        self.disconnected.store(true, Ordering::Release);
        if let Some(roster) = self.roster() {
            roster.set_disconnected();
        }
        self.tell(state::DISCONNECTED);
        self.wake_own();
    }

    fn tell(&self, state: u32) {
        self.own
            .page()
            .state
            .0
            .state
            .store(state, Ordering::Release);
        self.wake_peer(Wait::DATA);
        self.wake_peer(Wait::ROOM);
    }

    /// Wakes the threads and tasks of this process that wait at this end; of a shared end, all.
    pub(crate) fn wake_own(&self) {
        if let Some(roster) = self.roster() {
            roster.ring();
        }
        self.sleepers.ring(&self.peer.page().bell.0);
        if let Some(tasks) = self.tasks.get() {
            tasks.wake();
        }
    }

    /// The number that changes whenever this process wakes its threads at this end.
    pub(crate) fn rings(&self) -> u32 {
        self.sleepers.rings()
    }

    /// After publishing what the peer may wait for: wakes it if it sleeps.
    pub(crate) fn wake_peer(&self, peer_waits_for: Wait) {
        if peer_waits_for == Wait::DATA && !self.wrote.load(Ordering::Relaxed) {
            self.wrote.store(true, Ordering::Relaxed);
        }
        let waiting = &self.peer.page().waiting.0;
        let word = match peer_waits_for {
            Wait::Data(_) => &waiting.data,
            Wait::Room(_) => &waiting.room,
        };
        if bell::ring_for(word, &self.own.page().bell.0) {
            self.ring_doorbell(&waiting.arming);
        }
    }

    #[cold]
    fn ring_doorbell(&self, arming: &AtomicU32) {
        if let Some(socket) = &self.socket
            && self.rung.is_due(arming)
        {
            socket::ring(socket.as_fd());
        }
    }

    /// The reader has caught up. One that is on the heels of its writer again and again, without ever
    /// having to wait, lets it get ahead: else each piece costs both a cache line's way.
    pub(crate) fn keep_behind(&self, pace: Pace) {
        let catches = self.catches.load(Ordering::Relaxed);
        if self.wrote.load(Ordering::Relaxed) {
            self.catches.store(0, Ordering::Relaxed);
        } else if catches < CATCHES {
            self.catches.store(catches + 1, Ordering::Relaxed);
        } else {
            spin::pause(pace);
        }
    }

    /// Looks for a moment whether `ready` becomes true; the caller holds no lock.
    pub(crate) fn spin(&self, wait: Wait, ready: impl FnMut() -> bool) -> bool {
        let cpu = cpu::current();
        let own = &self.own.page().state.0.cpu;
        if own.load(Ordering::Relaxed) != cpu {
            own.store(cpu, Ordering::Relaxed);
        }
        let peer_cpu = self.peer.page().state.0.cpu.load(Ordering::Relaxed);
        match wait {
            Wait::Data(pace) => {
                self.catches.store(0, Ordering::Relaxed);
                // Who has written since waits for an answer, not for more of a stream.
                let pace = match self.wrote.swap(false, Ordering::Relaxed) {
                    true => Pace::PROMPT,
                    false => pace,
                };
                self.reading.until(peer_cpu, pace, ready)
            }
            Wait::Room(pace) => self.writing.until(peer_cpu, pace, ready),
        }
    }

    /// Sleeps until `ready` is true or the deadline has passed; returns what `ready` said last.
    pub(crate) fn sleep(
        &self,
        wait: Wait,
        deadline: Option<Instant>,
        ready: impl FnMut() -> bool,
    ) -> bool {
        let bell = &self.peer.page().bell.0;
        let waiting = self.own_waiting(wait);
        self.sleepers.sleep(waiting, bell, deadline, ready)
    }

    fn own_waiting(&self, wait: Wait) -> &AtomicU32 {
        let waiting = &self.own.page().waiting.0;
        match wait {
            Wait::Data(_) => &waiting.data,
            Wait::Room(_) => &waiting.room,
        }
    }
}

/// The lane that this end writes.
impl Outgoing for Link {
    fn store_header(&self, at: Pos, header: Header) {
        let (len, flags) = self.own.words(at);
        len.store(header.len, Ordering::Relaxed);
        flags.store(header.flags, Ordering::Relaxed);
    }

    fn store(&self, at: Pos, src: &[u8]) {
        self.own.copy_in(at, src);
    }

    fn mark_withdrawn(&self, at: Pos, header: Header) {
        let (_, flags) = self.own.words(at);
        // Pairs with the Acquire in the peer's `Incoming::header`.
        flags.store(header.withdrawn().flags, Ordering::Release);
    }

    fn offer(&self, offered: u64) {
        self.own
            .page()
            .outgoing
            .0
            .offered
            .store(offered, Ordering::Relaxed);
    }

    fn publish(&self, tail: Pos) {
        // Pairs with the Acquire in the peer's `Incoming::tail`.
        self.own
            .page()
            .outgoing
            .0
            .tail
            .store(tail.0, Ordering::Release);
    }

    fn complete(&self, to: Pos) {
        // Pairs with the Acquire in the peer's `Incoming::completed`.
        self.own
            .page()
            .outgoing
            .0
            .completed
            .store(to.0, Ordering::Release);
    }

    fn taken(&self) -> Taken {
        let incoming = &self.peer.page().incoming.0;
        // Pairs with the Release in the peer's `Incoming::publish`: a head brings its `consumed`.
        let head = Pos(incoming.head.load(Ordering::Acquire));
        Taken {
            head,
            consumed: incoming.consumed.load(Ordering::Acquire),
        }
    }

    fn claim(&self) -> Pos {
        Pos(self.peer.page().intent.0.claim.load(Ordering::Acquire))
    }

    fn asked(&self) -> u64 {
        self.peer.page().intent.0.asked.load(Ordering::Acquire)
    }

    fn lap(&self, step: u64) -> u64 {
        self.share.lap(step)
    }

    fn fence(&self) {
        full_fence();
    }
}

/// The lane that this end reads.
impl Incoming for Link {
    fn tail(&self) -> Pos {
        // Pairs with the Release in the peer's `Outgoing::publish`.
        Pos(self.peer.page().outgoing.0.tail.load(Ordering::Acquire))
    }

    fn completed(&self) -> Pos {
        // Pairs with the Release in the peer's `Outgoing::complete`.
        let completed = &self.peer.page().outgoing.0.completed;
        Pos(completed.load(Ordering::Acquire))
    }

    fn offered(&self) -> u64 {
        self.peer.page().outgoing.0.offered.load(Ordering::Relaxed)
    }

    fn header(&self, at: Pos) -> Header {
        let (len, flags) = self.peer.words(at);
        Header {
            len: len.load(Ordering::Relaxed),
            flags: flags.load(Ordering::Acquire),
        }
    }

    fn load(&self, at: Pos, dst: &mut [u8]) {
        self.peer.copy_out(at, dst);
    }

    fn publish(&self, taken: Taken) {
        let incoming = &self.own.page().incoming.0;
        // Both pair with the Acquires in the peer's `Outgoing::taken`; the bytes before them have
        // been copied out.
        incoming.consumed.store(taken.consumed, Ordering::Release);
        incoming.head.store(taken.head.0, Ordering::Release);
    }

    fn claim(&self, to: Pos) {
        self.own
            .page()
            .intent
            .0
            .claim
            .store(to.0, Ordering::Release);
    }

    fn ask(&self, bytes: u64) {
        self.own
            .page()
            .intent
            .0
            .asked
            .store(bytes, Ordering::Release);
    }

    fn fence(&self) {
        full_fence();
    }
}
