//! The third memory of an end that several processes hold: who they are, and what they share.
//!
//! Holders write it, the peer never sees it. Each direction of the end has a lock and two places
//! for the engine's state: a holder takes the lock, restores the engine from the place that counts,
//! works, saves it into the other place, and makes that count by one store. Then it tells the peer.
//! Whoever dies in the middle leaves a state from which the next one goes on.
//!
//! Whether a holder lives the kernel says: each has a record lock on its byte of this memory's file
//! (`sys/record_lock.rs`), which goes with its last descriptor. The locks in memory name their
//! owner, so that a dead one's can be taken over.

use std::mem::{offset_of, size_of};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ntpipe_proto::{Error, PipeState};

use super::Waits;
use super::bell;
use super::layout::Line;
use crate::primitive::full_fence;
use crate::sys::shm::Mapping;
use crate::sys::{futex, record_lock};

/// "ntpholds", little endian.
const MAGIC: u64 = u64::from_le_bytes(*b"ntpholds");
/// The version of this layout, and of the states that the engines save.
const VERSION: u32 = 2;
/// How many holders an end can have at a time; a holder's place and one fits eight bits.
const PLACES: u16 = 255;
/// Words for the state of a reader.
const READ_WORDS: usize = 64;
/// Words for the state of a writer, beside what the ring's records take.
const WRITE_WORDS: usize = 16 * 1024;
/// How long a holder may take in the middle of a call; one that is stopped there takes longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often who waits for a lock looks whether its owner lives.
const LOOK: Duration = Duration::from_millis(10);

/// A direction of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

/// A holder: its place and one in the low eight bits, and above them which user of that place it is.
/// Never 0, and never of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HolderId(u32);

/// An end's third memory, as one of its holders.
#[derive(Debug)]
pub(crate) struct Roster {
    mapping: Mapping,
    /// With the lock on this holder's byte.
    file: OwnedFd,
    me: HolderId,
    has_left: AtomicBool,
    write_words: usize,
}

#[repr(C)]
struct Page {
    identity: Line<Identity>,
    modes: Line<Modes>,
    bell: Line<Bell>,
    sides: [Line<Shared>; 2],
    places: [Place; PLACES as usize + 1],
}

#[repr(C)]
struct Identity {
    magic: AtomicU64,
    version: AtomicU32,
    reserved: AtomicU32,
    /// Words for each state of the writer.
    write_words: AtomicU64,
}

#[repr(C)]
struct Modes {
    /// A [`PipeState`].
    modes: AtomicU32,
    disconnected: AtomicU32,
}

#[repr(C)]
struct Bell {
    rings: AtomicU32,
    /// Threads that may sleep on it; those of the dead stay counted, which costs system calls only.
    sleepers: AtomicU32,
}

#[repr(C)]
struct Shared {
    /// 0, or the holder that has the lock, and [`CONTENDED`].
    lock: AtomicU32,
    reserved: AtomicU32,
    /// How many states have been saved; the last one is in the place of the lowest bit.
    version: AtomicU64,
    next_ticket: AtomicU64,
}

#[repr(C)]
struct Place {
    /// 0, or the holder.
    holder: AtomicU32,
    /// The last user's number.
    users: AtomicU32,
    /// Its turn among the holders whose reads wait; 0 if none does.
    ticket: AtomicU64,
    /// Its threads that wait for data, and for room.
    waits: [AtomicU32; 2],
}

/// In a lock: somebody waits for it.
const CONTENDED: u32 = 1 << 31;
/// The bits of [`HolderId`] that tell its place.
const PLACE: u32 = 0xFF;
/// The users of a place are told apart by so many bits.
const USERS: u32 = (1 << 23) - 1;

const STATES: usize = size_of::<Page>();
const _: () = {
    assert!(offset_of!(Page, modes) == 128 && offset_of!(Page, bell) == 256);
    assert!(offset_of!(Page, sides) == 384 && offset_of!(Page, places) == 640);
    assert!(offset_of!(Shared, version) == 8 && offset_of!(Shared, next_ticket) == 16);
    assert!(size_of::<Place>() == 24 && offset_of!(Place, ticket) == 8);
    assert!(STATES == 6784);
};

impl HolderId {
    fn new(place: u16, user: u32) -> Self {
        Self((u32::from(place) + 1) | ((user & USERS) << 8))
    }

    /// The number of a holder, as another process passed it on.
    pub(crate) fn from_u32(number: u32) -> Option<Self> {
        let is_one = number & PLACE != 0 && number & CONTENDED == 0;
        is_one.then_some(Self(number))
    }

    pub(crate) fn to_u32(self) -> u32 {
        self.0
    }

    /// Its place, and the byte of its lock.
    fn place(self) -> u16 {
        u16::try_from((self.0 & PLACE).saturating_sub(1)).unwrap_or(0)
    }
}

impl Roster {
    /// The memory of an end that was this process' alone, with this process as its first holder.
    /// `ring` is the size of the ring that the end writes.
    pub(crate) fn create(ring: u64, modes: PipeState) -> Result<Self, Error> {
        let ring = usize::try_from(ring).map_err(|_| Error::NO_SYSTEM_RESOURCES)?;
        let write_words = WRITE_WORDS + ring / 1024;
        let (mapping, file) = Mapping::create(len(write_words))?;
        let me = HolderId::new(0, 0);
        if !record_lock::try_take(&file, me.place())? {
            return Err(Error::INTERNAL_ERROR);
        }
        let roster = Self {
            mapping,
            file,
            me,
            has_left: AtomicBool::new(false),
            write_words,
        };
        let identity = &roster.page().identity.0;
        identity.magic.store(MAGIC, Ordering::Relaxed);
        identity.version.store(VERSION, Ordering::Relaxed);
        let words = u64::try_from(write_words).unwrap_or(0);
        identity.write_words.store(words, Ordering::Relaxed);
        roster.set_modes(modes);
        roster.place(me).holder.store(me.0, Ordering::Release);
        Ok(roster)
    }

    /// The memory of an end that other processes hold, as the holder that one of them has entered;
    /// `file` has its lock.
    pub(crate) fn join(file: OwnedFd, me: HolderId, ring: u64) -> Result<Self, Error> {
        let ring = usize::try_from(ring).map_err(|_| Error::NO_SYSTEM_RESOURCES)?;
        let write_words = WRITE_WORDS + ring / 1024;
        let mapping = Mapping::join(&file, len(write_words))?;
        let roster = Self {
            mapping,
            file,
            me,
            has_left: AtomicBool::new(false),
            write_words,
        };
        let identity = &roster.page().identity.0;
        let known = identity.magic.load(Ordering::Acquire) == MAGIC
            && identity.version.load(Ordering::Relaxed) == VERSION
            && usize::try_from(identity.write_words.load(Ordering::Relaxed)) == Ok(write_words);
        let entered = roster.place(me).holder.load(Ordering::Acquire) == me.0
            && record_lock::try_take(&roster.file, me.place())?;
        if known && entered {
            Ok(roster)
        } else {
            Err(Error::INVALID_DATA)
        }
    }

    /// Enters a further holder; the descriptor makes it, in whatever process it ends up. The caller
    /// holds the lock of the reading side.
    pub(crate) fn enter(&self, _read: &Held<'_>) -> Result<(HolderId, OwnedFd), Error> {
        let file = record_lock::reopen(&self.file)?;
        for at in 0..PLACES {
            let place = self.place_at(at);
            if place.holder.load(Ordering::Acquire) == 0 && record_lock::try_take(&file, at)? {
                let user = place.users.load(Ordering::Relaxed).wrapping_add(1);
                place.users.store(user, Ordering::Relaxed);
                let id = HolderId::new(at, user);
                place.holder.store(id.0, Ordering::Release);
                return Ok((id, file));
            }
        }
        Err(Error::NO_SYSTEM_RESOURCES)
    }

    /// This process, as a holder.
    pub(crate) fn me(&self) -> HolderId {
        self.me
    }

    /// The other holders that are entered, with whether they live.
    pub(crate) fn others(&self) -> impl Iterator<Item = (HolderId, bool)> + '_ {
        (0..PLACES).filter_map(|at| {
            let holder = HolderId::from_u32(self.place_at(at).holder.load(Ordering::Acquire))?;
            (holder != self.me && holder.place() == at).then(|| (holder, self.is_alive(holder)))
        })
    }

    /// Whether this holder is entered, alive or dead.
    pub(crate) fn is_entered(&self, holder: HolderId) -> bool {
        self.place(holder).holder.load(Ordering::Acquire) == holder.0
    }

    /// Whether another holder is entered and lives.
    pub(crate) fn has_others(&self) -> bool {
        self.others().any(|(_, alive)| alive)
    }

    /// Strikes a holder out, which left nothing behind: both sides are locked.
    pub(crate) fn strike(&self, holder: HolderId, _both: (&Held<'_>, &Held<'_>)) {
        let place = self.place(holder);
        place.ticket.store(0, Ordering::Relaxed);
        for waits in &place.waits {
            waits.store(0, Ordering::Relaxed);
        }
        place.holder.store(0, Ordering::Release);
        if holder == self.me {
            self.has_left.store(true, Ordering::Release);
            record_lock::let_go(&self.file, holder.place());
        }
    }

    fn is_alive(&self, holder: HolderId) -> bool {
        holder == self.me || record_lock::is_taken(&self.file, holder.place())
    }

    /// Both modes of the end; the tamest if another holder has written nonsense there.
    pub(crate) fn modes(&self) -> PipeState {
        let bits = self.page().modes.0.modes.load(Ordering::Acquire);
        PipeState::from_bits(bits).unwrap_or(PipeState::CLIENT)
    }

    pub(crate) fn set_modes(&self, modes: PipeState) {
        let word = &self.page().modes.0.modes;
        word.store(modes.bits(), Ordering::Release);
    }

    /// Whether a holder has disconnected the instance.
    pub(crate) fn is_disconnected(&self) -> bool {
        self.page().modes.0.disconnected.load(Ordering::Acquire) != 0
    }

    pub(crate) fn set_disconnected(&self) {
        self.page().modes.0.disconnected.store(1, Ordering::Release);
    }

    /// Wakes the threads of all holders that wait at this end.
    pub(crate) fn ring(&self) {
        bell::ring_for(self.sleepers(), self.bell());
    }

    /// What all holders' threads sleep on, beside the peer's bell.
    pub(crate) fn bell(&self) -> &AtomicU32 {
        &self.page().bell.0.rings
    }

    /// Sleeps until the peer or another holder rings; `seen` is what both bells showed before the
    /// caller looked at what it waits for.
    pub(crate) fn sleep(&self, peer: &AtomicU32, seen: Seen, deadline: Instant) {
        let words = [(peer, seen.peer), (self.bell(), seen.own)];
        futex::wait_two(words, Some(deadline));
    }

    /// Counts this thread among those that may sleep, and looks at both bells.
    pub(crate) fn begin_wait(&self, peer: &AtomicU32) -> Seen {
        self.sleepers().fetch_add(1, Ordering::Relaxed);
        full_fence(); // pairs with the fences in `bell::ring_for`
        Seen {
            peer: peer.load(Ordering::Acquire),
            own: self.bell().load(Ordering::Acquire),
        }
    }

    /// Whether holders have rung since.
    pub(crate) fn has_rung_since(&self, seen: Seen) -> bool {
        self.bell().load(Ordering::Acquire) != seen.own
    }

    /// This thread does not sleep any more.
    pub(crate) fn end_wait(&self) {
        self.sleepers().fetch_sub(1, Ordering::Relaxed);
    }

    fn sleepers(&self) -> &AtomicU32 {
        &self.page().bell.0.sleepers
    }

    /// Whether one of this holder's reads waits for its turn.
    pub(crate) fn has_ticket(&self) -> bool {
        self.place(self.me).ticket.load(Ordering::Relaxed) != 0
    }

    /// Takes a side's lock. The caller has the lock of that side in its process.
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE` (6): this holder has left. `ERROR_SEM_TIMEOUT` (121): another holder
    /// does not come out, because its process is stopped.
    pub(crate) fn lock(&self, side: Side, patience: Option<Duration>) -> Result<Held<'_>, Error> {
        let give_up = Instant::now() + patience.unwrap_or(PATIENCE);
        let word = &self.side(side).lock;
        let held = |recovered| Held {
            roster: self,
            side,
            recovered,
        };
        let free = word.compare_exchange(0, self.me.0, Ordering::Acquire, Ordering::Relaxed);
        let mut seen = match free {
            Ok(_) => return self.check_entered(held(false)),
            Err(seen) => seen,
        };
        loop {
            let mine = self.me.0 | CONTENDED;
            let owner = HolderId::from_u32(seen & !CONTENDED);
            let take =
                |from| word.compare_exchange(from, mine, Ordering::Acquire, Ordering::Relaxed);
            seen = match owner {
                // Nobody has it; a number that is no holder's is nobody's either.
                None => match take(seen) {
                    Ok(_) => return self.check_entered(held(seen != 0)),
                    Err(seen) => seen,
                },
                Some(_) if seen & CONTENDED == 0 => {
                    let with = seen | CONTENDED;
                    let marked =
                        word.compare_exchange(seen, with, Ordering::Relaxed, Ordering::Relaxed);
                    marked.map_or_else(|seen| seen, |_| with)
                }
                Some(owner) => {
                    let now = Instant::now();
                    if now >= give_up {
                        return Err(Error::SEM_TIMEOUT);
                    }
                    futex::wait(word, seen, futex::EVERYONE, Some(give_up.min(now + LOOK)));
                    let still = word.load(Ordering::Acquire);
                    let is_stuck = still == seen && (owner == self.me || !self.is_alive(owner));
                    if is_stuck && take(seen).is_ok() {
                        return self.check_entered(held(true));
                    }
                    word.load(Ordering::Relaxed)
                }
            };
        }
    }

    fn check_entered<'a>(&self, held: Held<'a>) -> Result<Held<'a>, Error> {
        match self.has_left.load(Ordering::Acquire) {
            true => Err(Error::INVALID_HANDLE),
            false => Ok(held),
        }
    }

    fn page(&self) -> &Page {
        // SAFETY: `Page` is `repr(C)` and of atomics throughout, for which every bit pattern is
        // valid; `len` has made the mapping larger than it.
        unsafe { self.mapping.head() }
    }

    fn side(&self, side: Side) -> &Shared {
        let [read, write] = &self.page().sides;
        match side {
            Side::Read => &read.0,
            Side::Write => &write.0,
        }
    }

    fn place(&self, holder: HolderId) -> &Place {
        self.place_at(holder.place())
    }

    fn place_at(&self, at: u16) -> &Place {
        let places = &self.page().places;
        let [.., last] = places;
        places.get(usize::from(at)).unwrap_or(last)
    }

    /// Where a state is saved, and how many words there are.
    fn state(&self, side: Side, version: u64) -> (usize, usize) {
        let odd = usize::from(!version.is_multiple_of(2));
        match side {
            Side::Read => (STATES + odd * READ_WORDS * 8, READ_WORDS),
            Side::Write => {
                let first = STATES + 2 * READ_WORDS * 8;
                (first + odd * self.write_words * 8, self.write_words)
            }
        }
    }
}

/// What two bells showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    peer: u32,
    own: u32,
}

/// A side's lock.
#[must_use]
#[derive(Debug)]
pub(crate) struct Held<'a> {
    roster: &'a Roster,
    side: Side,
    recovered: bool,
}

impl Held<'_> {
    /// Whether its last owner died with it, perhaps before it told the peer.
    pub(crate) fn was_recovered(&self) -> bool {
        self.recovered
    }

    /// How many states were saved; a state does not change without this.
    pub(crate) fn version(&self) -> u64 {
        self.roster.side(self.side).version.load(Ordering::Acquire)
    }

    /// The state that counts.
    pub(crate) fn load(&self) -> Result<Vec<u64>, Error> {
        let (at, words) = self.roster.state(self.side, self.version());
        let word = |n: usize| {
            let word = self.roster.mapping.long_word(at + n * 8);
            word.load(Ordering::Relaxed)
        };
        let len = usize::try_from(word(0)).map_err(|_| Error::INVALID_DATA)?;
        if len >= words {
            return Err(Error::INVALID_DATA);
        }
        Ok((1..=len).map(word).collect())
    }

    /// Saves a state, and makes it the one that counts.
    ///
    /// # Errors
    /// `ERROR_NO_SYSTEM_RESOURCES` (1450): it is too large. Then the old one still counts.
    pub(crate) fn save(&self, state: &[u64]) -> Result<(), Error> {
        let version = self.version().wrapping_add(1);
        let (at, words) = self.roster.state(self.side, version);
        if state.len() >= words {
            return Err(Error::NO_SYSTEM_RESOURCES);
        }
        let len = u64::try_from(state.len()).unwrap_or(0);
        for (n, value) in std::iter::once(&len).chain(state).enumerate() {
            let word = self.roster.mapping.long_word(at + n * 8);
            word.store(*value, Ordering::Relaxed);
        }
        let side = self.roster.side(self.side);
        side.version.store(version, Ordering::Release); // pairs with the Acquire in `version`
        Ok(())
    }

    /// How many words a state has at most.
    pub(crate) fn room(&self) -> usize {
        self.roster.state(self.side, 0).1
    }

    /// Whether no other holder's read waits before this one's.
    pub(crate) fn is_first(&self) -> bool {
        let own = self
            .roster
            .place(self.roster.me)
            .ticket
            .load(Ordering::Relaxed);
        (0..PLACES).all(|at| {
            let place = self.roster.place_at(at);
            let ticket = place.ticket.load(Ordering::Relaxed);
            let holder = place.holder.load(Ordering::Relaxed);
            ticket == 0 || holder == 0 || holder == self.roster.me.0 || (own != 0 && own <= ticket)
        })
    }

    /// Whether any holder's read waits.
    pub(crate) fn has_readers(&self) -> bool {
        (0..PLACES).any(|at| {
            let place = self.roster.place_at(at);
            place.holder.load(Ordering::Relaxed) != 0 && place.ticket.load(Ordering::Relaxed) != 0
        })
    }

    /// This holder's read waits for its turn.
    pub(crate) fn take_ticket(&self) {
        let own = &self.roster.place(self.roster.me).ticket;
        if own.load(Ordering::Relaxed) == 0 {
            let next = &self.roster.side(self.side).next_ticket;
            let ticket = next.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            own.store(ticket, Ordering::Relaxed);
        }
    }

    /// This holder's read waits no longer.
    pub(crate) fn give_ticket_back(&self) {
        let own = &self.roster.place(self.roster.me).ticket;
        own.store(0, Ordering::Relaxed);
    }

    /// Counts one of this holder's threads that waits for the peer.
    pub(crate) fn begin_wait(&self) {
        self.own_waits().fetch_add(1, Ordering::Relaxed);
    }

    /// It waits no longer.
    pub(crate) fn end_wait(&self) {
        let waits = self.own_waits();
        let left = waits.load(Ordering::Relaxed).saturating_sub(1);
        waits.store(left, Ordering::Relaxed);
    }

    /// Whether any holder waits for the peer.
    pub(crate) fn waits(&self) -> Waits {
        let some = (0..PLACES).any(|at| {
            let place = self.roster.place_at(at);
            place.holder.load(Ordering::Relaxed) != 0
                && self.waits_of(place).load(Ordering::Relaxed) != 0
        });
        if some { Waits::Some } else { Waits::Nobody }
    }

    fn own_waits(&self) -> &AtomicU32 {
        self.waits_of(self.roster.place(self.roster.me))
    }

    fn waits_of<'a>(&self, place: &'a Place) -> &'a AtomicU32 {
        let [data, room] = &place.waits;
        match self.side {
            Side::Read => data,
            Side::Write => room,
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let word = &self.roster.side(self.side).lock;
        if word.swap(0, Ordering::Release) & CONTENDED != 0 {
            futex::wake(word, futex::EVERYONE);
        }
    }
}

/// The size of the whole memory.
fn len(write_words: usize) -> usize {
    STATES + 2 * (READ_WORDS + write_words) * 8
}

#[cfg(test)]
mod tests;
