//! The header of a record and what its flags mean.

use super::padded;

/// The size of a record's header, and the alignment of records.
pub const HEADER: u64 = 8;
/// The most payload that one record carries: a larger write is published piece by piece, so that
/// the reader copies the first piece while the writer copies the next.
pub const FRAGMENT: u64 = 16 * 1024;
/// The room that the total length of a write takes, in its first record, if it has more than one.
pub(super) const TOTAL: u64 = 8;

/// The first record of a write.
pub(super) const FIRST: u32 = 1;
/// The last record of a write.
pub(super) const LAST: u32 = 2;
/// The first record of several: eight bytes with the write's total length precede the payload.
pub(super) const LONG: u32 = 4;
/// Payload that no quota counts: the request of a transaction (observed 11.6).
pub(super) const UNCHARGED: u32 = 8;
/// The write was pending when this was stored: a reader must claim it before it takes it.
pub(super) const WITHDRAWABLE: u32 = 16;
/// The writer took the record back.
pub(super) const WITHDRAWN: u32 = 32;
/// No payload: the next record follows the bytes that the length says; if that is 0, it is at the
/// beginning of the ring.
pub(super) const SKIP: u32 = 64;

const KNOWN: u32 = FIRST | LAST | LONG | UNCHARGED | WITHDRAWABLE | WITHDRAWN | SKIP;

/// The header of a record as it stands in memory: unchecked when it comes from a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload, without header, total and padding.
    pub len: u32,
    /// A combination of the flags of this module.
    pub flags: u32,
}

impl Header {
    pub(super) fn has(self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn is_known(self) -> bool {
        self.flags & !KNOWN == 0
    }

    /// Whether it can be that of a record with payload, as it was stored.
    pub(super) fn is_payload(self) -> bool {
        self.is_known() && !self.has(SKIP) && !self.has(WITHDRAWN)
    }

    /// This header with the mark of a withdrawn record.
    #[must_use]
    pub fn withdrawn(self) -> Self {
        Self {
            flags: self.flags | WITHDRAWN,
            ..self
        }
    }

    /// The bytes that the record takes, with header and padding.
    pub(super) fn size(self) -> u64 {
        self.prefix() + padded(u64::from(self.len))
    }

    /// The bytes between the record's beginning and its payload.
    pub(super) fn prefix(self) -> u64 {
        if self.has(LONG) {
            HEADER + TOTAL
        } else {
            HEADER
        }
    }
}
