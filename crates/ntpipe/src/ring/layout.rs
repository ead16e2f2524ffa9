//! The first page of an end's memory. `docs/layout.md` describes it for other implementations.

use std::mem::{offset_of, size_of};
use std::sync::atomic::{AtomicU32, AtomicU64};

/// The bytes before the ring.
pub(super) const HEADER_BYTES: usize = 4096;
/// "ntpipe" and two zeros, little endian.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"ntpipe\0\0");
/// The version of this layout.
pub(super) const VERSION: u32 = 4;

/// What an end tells about itself in [`Page::state`].
pub(super) mod state {
    pub(crate) const OPEN: u32 = 1;
    pub(crate) const CLOSED: u32 = 2;
    pub(crate) const DISCONNECTED: u32 = 3;
}

/// Written by the end that owns the memory, only read by its peer. Values that are written at
/// different times by different code stand on lines of their own: 128 bytes, as CPUs fetch lines
/// in pairs.
#[repr(C)]
pub(super) struct Page {
    pub(super) identity: Line<Identity>,
    pub(super) state: Line<State>,
    pub(super) outgoing: Line<Outgoing>,
    pub(super) incoming: Line<Incoming>,
    pub(super) intent: Line<Intent>,
    pub(super) waiting: Line<Waiting>,
    pub(super) bell: Line<AtomicU32>,
}

/// A value alone on its lines.
#[repr(C, align(128))]
pub(super) struct Line<T>(pub(super) T);

/// What this memory is; written once, before the peer gets it.
#[repr(C)]
pub(super) struct Identity {
    pub(super) magic: AtomicU64,
    pub(super) version: AtomicU32,
    pub(super) reserved: AtomicU32,
    /// The size of the ring behind this page.
    pub(super) capacity: AtomicU64,
}

/// Changes rarely.
#[repr(C)]
pub(super) struct State {
    /// One of [`state`].
    pub(super) state: AtomicU32,
    /// The CPU that last ran a thread of this end that had to wait; at first, that made the memory.
    pub(super) cpu: AtomicU32,
}

/// The writer of the lane in this memory's ring.
#[repr(C)]
pub(super) struct Outgoing {
    pub(super) tail: AtomicU64,
    pub(super) offered: AtomicU64,
    /// Up to where writes that had to wait are complete.
    pub(super) completed: AtomicU64,
}

/// The reader of the lane in the peer's ring.
#[repr(C)]
pub(super) struct Incoming {
    pub(super) head: AtomicU64,
    pub(super) consumed: AtomicU64,
}

/// What the reader is about to do.
#[repr(C)]
pub(super) struct Intent {
    pub(super) claim: AtomicU64,
    /// Of all waiting reads.
    pub(super) asked: AtomicU64,
}

/// Who of this end waits: how many threads sleep, and a mark for tasks of an event loop.
#[repr(C)]
pub(super) struct Waiting {
    /// For the peer to write.
    pub(super) data: AtomicU32,
    /// For the peer to read.
    pub(super) room: AtomicU32,
    /// How often a task of this end has asked for a ring of the doorbell.
    pub(super) arming: AtomicU32,
}

const _: () = {
    assert!(size_of::<Page>() == 7 * 128 && size_of::<Page>() <= HEADER_BYTES);
    assert!(offset_of!(Page, state) == 128 && offset_of!(Page, outgoing) == 256);
    assert!(offset_of!(Page, incoming) == 384 && offset_of!(Page, intent) == 512);
    assert!(offset_of!(Page, waiting) == 640 && offset_of!(Page, bell) == 768);
    assert!(offset_of!(Outgoing, offered) == 8 && offset_of!(Outgoing, completed) == 16);
    assert!(offset_of!(Waiting, room) == 4 && offset_of!(Waiting, arming) == 8);
    assert!(offset_of!(Identity, version) == 8 && offset_of!(Identity, capacity) == 16);
};
