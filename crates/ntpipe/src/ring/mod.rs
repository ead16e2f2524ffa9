//! A connection as one of its ends sees it: two lanes in memory that is shared with the peer.
//!
//! # Safety
//! - R1: each end owns one [`region::Region`] and maps the peer's read-only; both stay mapped as
//!   long as the [`Link`].
//! - R2: the receiver has checked the seals, the size and the identity of the peer's memory.
//! - R3: only the owner writes a region; what it has written it does not read back to decide.
//!   An end that several processes hold is written by all of them, one at a time ([`roster`]).
//! - R4: the peer's values are hostile: the lane engine loads each once and checks it.
#![allow(unsafe_code)]

pub(crate) mod bell;
pub(crate) mod deferred;
mod doorbell;
mod layout;
mod link;
mod region;
pub(crate) mod roster;
mod share;
mod spin;

pub(crate) use bell::Trust;
pub(crate) use link::{Capacities, Files, Link, Offer, Peer, Wait, Waits};
pub(crate) use spin::{LookFor, Pace, is_looking};

pub(crate) use crate::sys::shm::MemoryId;
