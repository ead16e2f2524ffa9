//! One end's memory: the header page and the ring behind it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use ntpipe_proto::Error;
use ntpipe_proto::lane::Pos;

use super::layout::{HEADER_BYTES, MAGIC, Page, VERSION, state};
use crate::sys::cpu;
use crate::sys::shm::{Mapping, MemoryId};

/// The memory of one end, as its owner or as the peer has it mapped.
#[derive(Debug)]
pub(super) struct Region {
    mapping: Mapping,
    /// The ring's size; a power of two.
    capacity: usize,
}

impl Region {
    /// New memory of this end, and its file.
    pub(super) fn create(capacity: u64) -> Result<(Self, OwnedFd), Error> {
        let (capacity, len) = sizes(capacity)?;
        let (mapping, fd) = Mapping::create(len)?;
        let region = Self { mapping, capacity };
        let page = region.page();
        page.identity.0.magic.store(MAGIC, Ordering::Relaxed);
        page.identity.0.version.store(VERSION, Ordering::Relaxed);
        page.identity
            .0
            .capacity
            .store(size_of_ring(capacity), Ordering::Relaxed);
        page.state.0.cpu.store(cpu::current(), Ordering::Relaxed);
        page.state.0.state.store(state::OPEN, Ordering::Release);
        Ok((region, fd))
    }

    /// The peer's memory; refused if it is not what was agreed.
    pub(super) fn attach(fd: impl AsFd, capacity: u64) -> Result<Self, Error> {
        let (capacity, len) = sizes(capacity)?;
        Self::checked(Mapping::attach(fd, len)?, capacity)
    }

    /// The memory of this end, which other processes hold too.
    pub(super) fn join(fd: impl AsFd, capacity: u64) -> Result<Self, Error> {
        let (capacity, len) = sizes(capacity)?;
        Self::checked(Mapping::join(fd, len)?, capacity)
    }

    fn checked(mapping: Mapping, capacity: usize) -> Result<Self, Error> {
        let region = Self { mapping, capacity };
        let identity = &region.page().identity.0;
        let known = identity.magic.load(Ordering::Acquire) == MAGIC
            && identity.version.load(Ordering::Relaxed) == VERSION
            && identity.capacity.load(Ordering::Relaxed) == size_of_ring(capacity);
        if known {
            Ok(region)
        } else {
            Err(Error::INVALID_DATA)
        }
    }

    /// Which memory it is.
    pub(super) fn id(&self) -> MemoryId {
        self.mapping.id()
    }

    pub(super) fn page(&self) -> &Page {
        // SAFETY: `Page` is `repr(C)` and of atomics throughout, for which every bit pattern is
        // valid; `sizes` has made the mapping larger than it.
        unsafe { self.mapping.head() }
    }

    pub(super) fn copy_in(&self, at: Pos, src: &[u8]) {
        self.mapping.copy_in(self.place(at), src);
    }

    pub(super) fn copy_out(&self, at: Pos, dst: &mut [u8]) {
        self.mapping.copy_out(self.place(at), dst);
    }

    /// The words of a record's header: length, flags.
    pub(super) fn words(&self, at: Pos) -> (&AtomicU32, &AtomicU32) {
        let place = self.place(at);
        (self.mapping.word(place), self.mapping.word(place + 4))
    }

    fn place(&self, at: Pos) -> usize {
        // A ring is never larger than the address space, so that the mask keeps all that matters.
        let low = usize::try_from(at.0 & (size_of_ring(self.capacity) - 1)).unwrap_or(0);
        HEADER_BYTES + low
    }
}

fn size_of_ring(capacity: usize) -> u64 {
    u64::try_from(capacity).unwrap_or(u64::MAX)
}

/// The sizes of the ring and of the whole memory.
fn sizes(capacity: u64) -> Result<(usize, usize), Error> {
    let ring = usize::try_from(capacity).map_err(|_| Error::NO_SYSTEM_RESOURCES)?;
    if !ring.is_power_of_two() || ring < HEADER_BYTES {
        return Err(Error::INVALID_DATA);
    }
    Ok((
        ring,
        ring.checked_add(HEADER_BYTES)
            .ok_or(Error::NO_SYSTEM_RESOURCES)?,
    ))
}
