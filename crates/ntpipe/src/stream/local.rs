//! Both ends in one process: a write serves the reads that wait at the other end before it returns
//! (observed 10.3).
//!
//! The writer's thread reads for those that wait, in order, into memory that it hands over. So what
//! a read has waited for is gone from the pipe, and nobody else can take it, once the write returns.
//!
//! Locks: the side of an end that writes, then that of an end that reads, be it the other one; under
//! the latter only such as are let go of before any other is taken.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::Poll;

use ntpipe_proto::lane::{Read, Reading};
use ntpipe_proto::{Error, PipeState, ReadMode};

use super::reading::{ask_anew, look};
use super::waiters::Handed;
use super::{ReadSide, Slot, lock};
use crate::canceller::Wake;
use crate::primitive::full_fence;
use crate::ring::{Link, MemoryId};
use crate::sys::fork::PerProcess;

/// The half of an end that reads, as a peer in this process finds it.
#[derive(Debug)]
pub(super) struct ReadHalf {
    pub(super) side: Mutex<ReadSide>,
    /// A [`PipeState`].
    modes: AtomicU32,
    /// The connection, if other processes hold the end too: their modes count. Its lock is the last.
    shared: Mutex<Option<Arc<Link>>>,
    /// Whether there is one.
    is_shared: AtomicBool,
    /// How many reads wait; changed under the lock.
    waiting: AtomicUsize,
    /// Changes whenever something was read for one that waits, or one was ended.
    served: AtomicU64,
}

/// One end of a connection, where the other can find it if it is in this process.
#[derive(Debug)]
pub(super) struct Seat {
    own: MemoryId,
    reader: Weak<ReadHalf>,
    /// The peer's, if it is in this process.
    peer: OnceLock<Weak<ReadHalf>>,
}

/// A read that waits, for who cancels its thread.
pub(super) struct ReadCall {
    pub(super) half: Arc<ReadHalf>,
    pub(super) link: Arc<Link>,
    pub(super) turn: u64,
}

/// Below this size a buffer is worth no look at how much of it is needed.
pub(super) const AMPLE: usize = 64 * 1024;

type Seats = Mutex<HashMap<MemoryId, Weak<Seat>>>;

fn seats() -> &'static Seats {
    static SEATS: PerProcess<Seats> = PerProcess::new();
    SEATS.get()
}

impl Seat {
    /// Makes an end of a connection known to the other, if that is here or comes to be.
    pub(super) fn take(link: &Link, reader: &Arc<ReadHalf>) -> Arc<Self> {
        let seat = Arc::new(Self {
            own: link.own_id(),
            reader: Arc::downgrade(reader),
            peer: OnceLock::new(),
        });
        let mut seats = lock(seats());
        seats.insert(seat.own, Arc::downgrade(&seat));
        let peer = seats.get(&link.peer_id()).and_then(Weak::upgrade);
        if let Some(peer) = &peer {
            let _ = peer.peer.set(Weak::clone(&seat.reader));
            let _ = seat.peer.set(Weak::clone(&peer.reader));
        }
        // If it is the last of the peer's, that takes the lock.
        drop(seats);
        drop(peer);
        seat
    }

    /// The half of the peer that reads, if it is in this process.
    pub(super) fn peer(&self) -> Option<Arc<ReadHalf>> {
        self.peer.get()?.upgrade()
    }

    /// After publishing: serves the reads that wait at the peer's end.
    pub(super) fn serve(&self, link: &Link) {
        if let Some(peer) = self.peer() {
            full_fence(); // pairs with the fence in `ReadHalf::enter`
            if peer.waiting.load(Ordering::Relaxed) > 0 {
                peer.serve_for(link);
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = lock(seats());
        // Other memory may have got the number meanwhile.
        if (seats.get(&self.own)).is_some_and(|seat| seat.strong_count() == 0) {
            seats.remove(&self.own);
        }
    }
}

impl ReadHalf {
    pub(super) fn new(side: ReadSide, modes: PipeState) -> Self {
        Self {
            side: Mutex::new(side),
            modes: AtomicU32::new(modes.bits()),
            shared: Mutex::new(None),
            is_shared: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            served: AtomicU64::new(0),
        }
    }

    pub(super) fn modes(&self) -> PipeState {
        if self.is_shared.load(Ordering::Relaxed)
            && let Some(roster) = lock(&self.shared).as_ref().and_then(|link| link.roster())
        {
            return roster.modes();
        }
        // Only modes are ever stored.
        PipeState::from_bits(self.modes.load(Ordering::Relaxed)).unwrap_or(PipeState::CLIENT)
    }

    /// Sets the modes, for all holders.
    pub(super) fn set_modes(&self, modes: PipeState) {
        self.modes.store(modes.bits(), Ordering::Relaxed);
        if let Some(roster) = lock(&self.shared).as_ref().and_then(|link| link.roster()) {
            roster.set_modes(modes);
        }
    }

    /// Who holds the end besides has the same modes; if nobody does any more, they are `modes`.
    pub(super) fn share_with(&self, link: Option<&Arc<Link>>, modes: PipeState) {
        let mut shared = lock(&self.shared);
        self.modes.store(modes.bits(), Ordering::Relaxed);
        *shared = link.cloned();
        self.is_shared.store(shared.is_some(), Ordering::Relaxed);
    }

    /// The number of reads that wait has changed; the lock is held. Look for data after this: who
    /// has published it before may not know yet that a read waits.
    pub(super) fn count(&self, side: &ReadSide) {
        self.waiting.store(side.turns.len(), Ordering::Relaxed);
        full_fence(); // pairs with the fence in `Seat::serve`
    }

    /// As [`count`](Self::count), when one has ended.
    pub(super) fn count_down(&self, side: &ReadSide) {
        self.waiting.store(side.turns.len(), Ordering::Relaxed);
    }

    /// The number that changes whenever a read that waits may have been ended by another thread.
    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Acquire) // pairs with the Release in `serve`
    }

    /// The buffers of the reads that wait at this end for what `writer` writes; 0 if there is
    /// something unread. `None` if other processes hold that end too: they can't be asked.
    pub(super) fn room_for(&self, writer: &Link) -> Option<usize> {
        let mut side = lock(&self.side);
        let ReadSide {
            link: Slot::Linked(link),
            reader,
            turns,
            ..
        } = &mut *side
        else {
            return Some(0);
        };
        if link.roster().is_some() {
            return None;
        }
        let is_empty = link.is_peer_of(writer) && reader.is_empty(&**link) == Ok(true);
        Some(if is_empty { turns.room() } else { 0 })
    }

    /// The reads that wait for what `writer` writes ask for it, also those that spin.
    pub(super) fn ask_of(&self, writer: &Link) {
        let mut side = lock(&self.side);
        let ReadSide {
            link: Slot::Linked(link),
            reader,
            turns,
            ..
        } = &mut *side
        else {
            return;
        };
        if link.is_peer_of(writer) && link.roster().is_none() && !turns.is_empty() {
            turns.ask_all(true);
            reader.ask(&**link, turns.asked());
        }
    }

    /// Serves the reads that wait for what `writer` writes.
    fn serve_for(&self, writer: &Link) {
        let mut side = lock(&self.side);
        if let Slot::Linked(link) = &side.link
            && link.is_peer_of(writer)
            && link.roster().is_none()
        {
            let link = Arc::clone(link);
            self.serve(&mut side, &link);
        }
    }

    /// Reads what there is for those that wait, in order.
    fn serve(&self, side: &mut ReadSide, link: &Link) {
        if side.is_reserved() {
            return;
        }
        let ReadSide {
            reader,
            turns,
            spare,
            ..
        } = side;
        let mut has_moved = false;
        while let Some(call) = turns.first_mut() {
            let (filled, whole) = (call.op.filled(), call.room);
            let mut handed = call.handed.take().unwrap_or_else(|| Handed {
                from: filled,
                bytes: std::mem::take(spare),
            });
            let room = if call.room <= AMPLE {
                call.room
            } else {
                // Of a message that has begun to come, all is announced.
                let found = look(link, reader, |reader| reader.peek(link, &mut []));
                let found = found.map_or(0, |peek| peek.available);
                let found = usize::try_from(found).unwrap_or(usize::MAX);
                call.room.min(filled.saturating_add(found).max(AMPLE))
            };
            if handed.bytes.len() < room {
                handed.bytes.resize(room, 0);
            }
            let Some(dst) = handed.bytes.get_mut(..room) else {
                break;
            };
            let result = super::try_read(link, reader, &mut call.op, self.modes().read_mode, dst);
            // A read that is done at once does not count how far it has come.
            let now = match &result {
                Ok(Poll::Ready(read)) => read.len,
                Ok(Poll::Pending) | Err(_) => call.op.filled(),
            };
            has_moved |= now > filled;
            if now > handed.from {
                call.handed = Some(handed);
            } else {
                *spare = handed.bytes;
            }
            match result {
                // More of the message has come since: there is room for it.
                Ok(Poll::Ready(read)) if read.more && room < whole && now > filled => {}
                Ok(Poll::Ready(read)) => {
                    has_moved = true;
                    turns.end_first(Ok(read));
                }
                // What is wrong, its own thread finds too.
                Ok(Poll::Pending) | Err(_) => break,
            }
        }
        if has_moved {
            ask_anew(reader, turns, link);
            self.tell(side);
        }
    }

    /// What a read or a transaction that was given up has left of a message goes to the reads that
    /// came behind it.
    pub(super) fn pass_on(&self, side: &mut ReadSide) {
        let is_anothers = side.is_reserved();
        let ReadSide {
            link,
            reader,
            turns,
            stash,
            ..
        } = &mut *side;
        if turns.is_empty() || stash.is_empty() || is_anothers {
            return;
        }
        let mode = self.modes().read_mode;
        while !stash.is_empty()
            && let Some(call) = turns.first_mut()
        {
            let mut bytes = vec![0; call.room.min(stash.len())];
            let len = stash.hand_out(&mut bytes);
            call.op = Reading::resumed(len);
            call.handed = Some(Handed { from: 0, bytes });
            if len == call.room || mode == ReadMode::Byte {
                let more = mode == ReadMode::Message;
                turns.end_first(Ok(Read { len, more }));
            }
        }
        if let Slot::Linked(link) = link {
            ask_anew(reader, turns, link);
        }
        self.tell(side);
    }

    /// Reads were ended or have come further: their threads are to look.
    fn tell(&self, side: &ReadSide) {
        self.count_down(side);
        self.served.fetch_add(1, Ordering::Release); // pairs with the Acquire in `served`
    }

    /// Cancels the reads that wait and for which nothing is there, or one of them; whether there
    /// was one. Those for which there is something have it.
    pub(super) fn cancel(&self, side: &mut ReadSide, turn: Option<u64>) -> bool {
        let aborted = Err(Error::OPERATION_ABORTED);
        if let Slot::Linked(link) = &side.link {
            let link = Arc::clone(link);
            if link.roster().is_some() {
                // Their threads look what is there for them, and end them.
                let found = match turn {
                    Some(turn) => side.turns.cancel(turn),
                    None => side.turns.cancel_all(),
                };
                link.wake_own();
                return found;
            }
            self.serve(side, &link);
            // A write may have counted on what was asked for: then they have it.
            match turn {
                Some(turn) => side.turns.ask(turn, false),
                None => side.turns.ask_all(false),
            }
            if !side.turns.is_empty() {
                let asked = side.turns.asked();
                side.reader.ask(&*link, asked);
                self.serve(side, &link);
            }
        }
        let ids: Vec<u64> = (side.turns.ids())
            .filter(|id| turn.is_none_or(|turn| turn == *id))
            .collect();
        let mut found = false;
        for id in ids {
            // What it has of a message only its own thread can keep.
            found |= match side.turns.find(id) {
                Some(call) if call.op.filled() > 0 => side.turns.cancel(id),
                _ => side.turns.end(id, aborted),
            };
        }
        if found {
            self.tell(side);
        }
        if let Slot::Linked(link) = side.link.clone() {
            ask_anew(&mut side.reader, &side.turns, &link);
            link.wake_own();
        }
        found
    }
}

impl Wake for ReadCall {
    fn wake(&self) {
        let mut side = lock(&self.half.side);
        if side.link.is(&self.link) {
            self.half.cancel(&mut side, Some(self.turn));
        }
        drop(side);
        self.link.wake_own();
    }
}
