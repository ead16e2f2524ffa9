//! The beginning of a message that a read took while the rest was not there yet.
//!
//! A read may be given up at any time, and the next one may have another buffer: what was taken waits
//! here, so that nothing is lost.

use ntpipe_proto::lane::{Peek, Read, Reader, Reading};
use ntpipe_proto::{Error, ReadMode};

use crate::ring::{Link, Peer};

/// Bytes that were taken and not yet handed out.
#[derive(Debug, Default)]
pub(super) struct Stash {
    buffer: Vec<u8>,
    /// How much of it was handed out.
    start: usize,
    /// How much there is behind that.
    filled: usize,
}

/// How a read begins that finds something here.
#[derive(Debug)]
pub(super) enum Resumed {
    /// It is over already: there is more than its buffer holds.
    Done(Read),
    /// It goes on behind what it has got.
    Reading(Reading),
}

impl Stash {
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    pub(super) fn len(&self) -> usize {
        self.filled
    }

    /// What a peek finds: this before what is in the lane.
    pub(super) fn peek(
        &self,
        reader: &mut Reader,
        link: &Link,
        dst: &mut [u8],
    ) -> Result<Peek, Error> {
        if self.is_empty() {
            return reader.peek(link, dst);
        }
        let len = self.filled.min(dst.len());
        let (own, rest) = dst.split_at_mut(len);
        own.copy_from_slice(self.front(len));
        let mut peek = match reader.peek(link, rest) {
            // What is here is not lost with the writer.
            Err(error) if error == Error::BROKEN_PIPE => Peek::default(),
            found => found?,
        };
        if !reader.is_within_message() {
            // The message ends here, for its rest was taken back: what follows is another one.
            peek.messages += 1;
            (peek.len, peek.left) = (0, 0);
        } else if peek.messages == 0 {
            // None of the rest is in the lane at the moment.
            peek.messages = 1;
            peek.left = reader.left_of_message();
        }
        let kept = self.filled - len;
        peek.len += len;
        peek.available += u64::try_from(self.filled).unwrap_or(u64::MAX);
        peek.left += u64::try_from(kept).unwrap_or(u64::MAX);
        Ok(peek)
    }

    /// Keeps what a read has taken, if anything, that does not wait for the rest.
    pub(super) fn keep(&mut self, op: &Reading, dst: &[u8]) {
        let taken = dst.get(..op.filled()).unwrap_or_default();
        if taken.is_empty() {
            return;
        }
        self.buffer = taken.to_vec();
        self.start = 0;
        self.filled = taken.len();
    }

    /// Lets go of what was taken of a message whose writer has died before the rest came: it was not
    /// written.
    pub(super) fn forget_torn(&mut self, reader: &mut Reader, link: &Link) -> Result<(), Error> {
        if self.is_empty() || link.peer() != Peer::Gone {
            return Ok(());
        }
        let torn = reader.writer_gone(link).and_then(|()| {
            let has_more = !reader.is_empty(link)?;
            Ok(reader.is_within_message() && !has_more)
        });
        if torn.map_err(|error| link.poison(error))? {
            *self = Self::default();
        }
        Ok(())
    }

    /// Hands everything to a read that can go on with the rest.
    pub(super) fn resume(&mut self, dst: &mut [u8], mode: ReadMode) -> Resumed {
        let len = self.hand_out(dst);
        if len == dst.len() {
            let more = mode == ReadMode::Message;
            return Resumed::Done(Read { len, more });
        }
        Resumed::Reading(Reading::resumed(len))
    }

    /// Copies the beginning out, and forgets it.
    pub(super) fn hand_out(&mut self, dst: &mut [u8]) -> usize {
        let len = self.filled.min(dst.len());
        if let Some(to) = dst.get_mut(..len) {
            to.copy_from_slice(self.front(len));
        }
        self.start += len;
        self.filled -= len;
        if self.filled == 0 {
            *self = Self::default();
        }
        len
    }

    /// The first bytes, no more than there are.
    fn front(&self, len: usize) -> &[u8] {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        rest.get(..len).unwrap_or_default()
    }
}

#[cfg(feature = "tokio")]
impl Stash {
    /// A buffer of `len` bytes for a read that goes on here, and how it goes on. Say afterwards
    /// with [`set_filled`](Self::set_filled) how far it came.
    pub(super) fn go_on(&mut self, len: usize) -> (Reading, &mut [u8]) {
        // Only now: small reads of much would move it all again and again.
        self.buffer.drain(..std::mem::take(&mut self.start));
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        let buffer = self.buffer.get_mut(..len).unwrap_or_default();
        (Reading::resumed(self.filled), buffer)
    }

    pub(super) fn set_filled(&mut self, filled: usize) {
        self.filled = filled;
    }
}

#[cfg(all(test, feature = "tokio"))]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_out_in_part_is_gone_on_with() {
        let mut stash = Stash::default();
        stash.keep(&Reading::resumed(6), b"abcdef");
        let mut one = [0; 1];
        for byte in b"abc" {
            assert_eq!((stash.hand_out(&mut one), one), (1, [*byte]));
        }
        assert_eq!((stash.len(), stash.front(2)), (3, &b"de"[..]));
        let (op, buffer) = stash.go_on(5);
        assert_eq!((op.filled(), &*buffer), (3, &b"def\0\0"[..]));
        buffer[3] = b'g';
        stash.set_filled(4);
        let mut rest = [0; 9];
        assert_eq!(stash.hand_out(&mut rest), 4);
        assert_eq!(rest[..4], *b"defg");
        assert!(stash.is_empty());
    }
}
