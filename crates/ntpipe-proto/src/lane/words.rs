//! The state of an engine as words, for ends that several processes share.
//!
//! The words are only as good as whoever wrote them: each is checked as it is read.

use super::{CORRUPT, HEADER, Header, count, size};
use crate::Error;

/// No position, count or name comes here: sums of a few of them don't overflow.
pub(super) const LIMIT: u64 = 1 << 60;

/// The words of a saved engine that are still to be read.
#[derive(Debug)]
pub(super) struct Words<'a>(&'a [u64]);

impl<'a> Words<'a> {
    pub(super) fn new(words: &'a [u64]) -> Self {
        Self(words)
    }

    /// A word of any value.
    pub(super) fn word(&mut self) -> Result<u64, Error> {
        let (word, rest) = self.0.split_first().ok_or(CORRUPT)?;
        self.0 = rest;
        Ok(*word)
    }

    /// A number from `least` to `most`.
    pub(super) fn within(&mut self, least: u64, most: u64) -> Result<u64, Error> {
        let word = self.word()?;
        check((least..=most).contains(&word))?;
        Ok(word)
    }

    /// A place where a record may begin or end.
    pub(super) fn aligned(&mut self, least: u64, most: u64) -> Result<u64, Error> {
        let word = self.within(least, most)?;
        check(word.is_multiple_of(HEADER))?;
        Ok(word)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Error> {
        Ok(self.within(0, 1)? == 1)
    }

    /// The header of a record that carries payload.
    pub(super) fn header(&mut self) -> Result<Header, Error> {
        let [a, b, c, d, e, f, g, h] = self.word()?.to_le_bytes();
        let header = Header {
            len: u32::from_le_bytes([a, b, c, d]),
            flags: u32::from_le_bytes([e, f, g, h]),
        };
        check(header.is_payload())?;
        Ok(header)
    }

    /// How many items follow, each of at least `least` words: no more than there are words for.
    pub(super) fn items(&mut self, least: usize) -> Result<usize, Error> {
        let most = self.0.len() / least;
        Ok(size(self.within(0, count(most))?))
    }

    /// Bytes that [`push_bytes`] has appended; no more than there are words for.
    pub(super) fn bytes(&mut self, len: u64) -> Result<Vec<u8>, Error> {
        let (words, rest) = (self.0.split_at_checked(size(len.div_ceil(8)))).ok_or(CORRUPT)?;
        self.0 = rest;
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(size(len));
        Ok(bytes)
    }

    /// All words must have been read.
    pub(super) fn end(&self) -> Result<(), Error> {
        check(self.0.is_empty())
    }
}

/// The word that [`Words::header`] reads.
pub(super) fn header_word(header: Header) -> u64 {
    u64::from(header.len) | u64::from(header.flags) << 32
}

/// Appends bytes, eight to a word.
pub(super) fn push_bytes(words: &mut Vec<u64>, bytes: &[u8]) {
    words.extend(bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word.iter_mut()
            .zip(chunk)
            .for_each(|(to, from)| *to = *from);
        u64::from_le_bytes(word)
    }));
}

/// Refuses what cannot be.
pub(super) fn check(holds: bool) -> Result<(), Error> {
    holds.then_some(()).ok_or(CORRUPT)
}
