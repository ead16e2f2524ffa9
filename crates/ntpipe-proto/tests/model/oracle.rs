//! What Windows promises of one lane, as simply as it can be said: no ring, no cursors.

use std::collections::VecDeque;

use ntpipe_proto::lane::{Charge, FRAGMENT, Peek};
use ntpipe_proto::{PipeType, ReadMode};

/// One lane, by the rules of observed 5 and reference 2.5.
pub(crate) struct Oracle {
    pipe_type: PipeType,
    quota: u64,
    entries: VecDeque<Entry>,
    written: usize,
    /// For each write, whether it is complete.
    complete: Vec<bool>,
}

/// What one write put into the lane and is not read yet.
struct Entry {
    write: usize,
    unread: &'static [u8],
    charge: Charge,
    /// It was taken back. Nobody sees it, but a ring has no room for others in its place until a
    /// reader has passed it.
    withdrawn: bool,
}

/// What a read must return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) bytes: Vec<u8>,
    pub(crate) more: bool,
}

impl Oracle {
    pub(crate) fn new(pipe_type: PipeType, quota: u32) -> Self {
        Self {
            pipe_type,
            quota: quota.into(),
            entries: VecDeque::new(),
            written: 0,
            complete: Vec::new(),
        }
    }

    /// A write; returns its number.
    pub(crate) fn write(&mut self, src: &'static [u8], charge: Charge) -> usize {
        let write = self.written;
        self.written += 1;
        let ignored = src.is_empty() && self.pipe_type == PipeType::Byte; // observed 5.4
        self.complete.push(ignored);
        if !ignored {
            self.entries.push_back(Entry {
                write,
                unread: src,
                charge,
                withdrawn: false,
            });
        }
        self.complete_writes(0);
        write
    }

    /// How much a write takes that may not wait (reference 2.5); `asked` is what a waiting read has
    /// room for.
    pub(crate) fn takes_nowait(&self, len: u64, asked: u64) -> u64 {
        let direct = if self.is_empty() { asked.min(len) } else { 0 };
        if len - direct <= self.free_quota() && !self.is_stalled() {
            return len;
        }
        match self.pipe_type {
            PipeType::Byte => direct,
            PipeType::Message => 0,
        }
    }

    /// A write that did not have to wait.
    pub(crate) fn wrote_nowait(&mut self, src: &'static [u8]) {
        let write = self.write(src, Charge::Charged);
        self.complete[write] = true;
    }

    /// What a read into `room` bytes returns now; `None` when it has to wait.
    pub(crate) fn read(&self, mode: ReadMode, room: usize) -> Option<Expected> {
        let mut live = self.live().peekable();
        let first = live.peek()?;
        if mode == ReadMode::Message {
            let len = room.min(first.unread.len());
            return Some(Expected {
                bytes: first.unread[..len].to_vec(),
                more: len < first.unread.len(),
            });
        }
        let mut bytes = Vec::new();
        for entry in live {
            // An empty message is delivered by itself (observed 5.23).
            if entry.unread.is_empty() || bytes.len() == room {
                break;
            }
            let len = entry.unread.len().min(room - bytes.len());
            bytes.extend_from_slice(&entry.unread[..len]);
        }
        Some(Expected { bytes, more: false })
    }

    /// A read returned `len` bytes, or found nothing.
    pub(crate) fn took(&mut self, mut len: usize) {
        let empty = self.live().next().is_some_and(|e| e.unread.is_empty());
        self.pass_withdrawn();
        if empty {
            self.entries.pop_front();
        }
        while len > 0 {
            self.pass_withdrawn();
            let entry = &mut self.entries[0];
            let part = len.min(entry.unread.len());
            entry.unread = &entry.unread[part..];
            len -= part;
            if entry.unread.is_empty() {
                self.complete[entry.write] = true;
                self.entries.pop_front();
            }
        }
        self.complete_writes(0);
    }

    /// Takes the rest of a write back; `false` if it was complete.
    pub(crate) fn withdraw(&mut self, write: usize) -> bool {
        if self.complete[write] {
            return false;
        }
        self.remove(write);
        true
    }

    /// Removes what is unread of a write, complete or not.
    pub(crate) fn remove(&mut self, write: usize) {
        for entry in self.entries.iter_mut().filter(|e| e.write == write) {
            entry.withdrawn = true;
        }
        self.complete_writes(0);
    }

    /// The writer is gone (observed 10.10).
    pub(crate) fn writer_gone(&mut self) {
        let complete = &self.complete;
        self.entries.retain(|e| !e.withdrawn && complete[e.write]);
    }

    pub(crate) fn peek(&self, room: usize) -> (Vec<u8>, Peek) {
        let mut bytes = Vec::new();
        let mut peek = Peek::default();
        for (at, entry) in self.live().enumerate() {
            peek.available += count(entry.unread.len());
            if at == 0 || self.pipe_type == PipeType::Byte {
                let len = entry.unread.len().min(room - bytes.len());
                bytes.extend_from_slice(&entry.unread[..len]);
            }
            if self.pipe_type == PipeType::Message {
                peek.messages += 1;
                if at == 0 {
                    peek.left = count(entry.unread.len() - bytes.len());
                }
            }
        }
        peek.len = bytes.len();
        (bytes, peek)
    }

    pub(crate) fn is_pending(&self, write: usize) -> bool {
        !self.complete[write] && self.live().any(|e| e.write == write)
    }

    pub(crate) fn free_quota(&self) -> u64 {
        self.quota.saturating_sub(self.unread_charged())
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.live().any(|e| !self.complete[e.write])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live().next().is_none()
    }

    /// How many writes there were.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// Whether everything of the first `writes` writes was read or taken back.
    pub(crate) fn has_passed(&self, writes: usize) -> bool {
        self.live().all(|e| e.write >= writes)
    }

    /// Whether a ring surely holds all that is unread, and `more` bytes: only then must an engine be as prompt.
    pub(crate) fn fits_into(&self, ring: u64, more: u64) -> bool {
        // A write is cut into records of at least 4 KiB, each with up to 24 bytes around it; one
        // piece's room may be lost where the ring ends, and a smaller one where it is full.
        let used: u64 = (self.entries.iter())
            .map(|e| count(e.unread.len()))
            .chain([more])
            .map(|len| len + (len / 4096 + 2) * 24)
            .sum();
        let fits = used + 3 * FRAGMENT <= ring;
        // A large ring is not used whole, but it has room for a quota full of any writes.
        let unread: u64 = self.entries.iter().map(|e| count(e.unread.len())).sum();
        let unread = unread + more;
        fits && (ring <= 128 * 1024 || unread <= self.quota)
    }

    fn live(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|e| !e.withdrawn)
    }

    fn pass_withdrawn(&mut self) {
        while self.entries.front().is_some_and(|e| e.withdrawn) {
            self.entries.pop_front();
        }
    }

    /// A write is complete once everything unread up to its end is within the quota, without what
    /// a waiting read takes of the first one (observed 5.5, 5.7).
    pub(crate) fn complete_writes(&mut self, asked: u64) {
        let mut unread = 0;
        let mut direct = asked;
        for entry in self.entries.iter().filter(|e| !e.withdrawn) {
            let len = count(entry.unread.len());
            let left = len - len.min(direct);
            direct = 0;
            if entry.charge == Charge::Charged {
                unread += left;
            }
            let waits = entry.charge == Charge::Charged && len > 0;
            if !waits || unread <= self.quota {
                self.complete[entry.write] = true;
            }
        }
    }

    fn unread_charged(&self) -> u64 {
        self.live()
            .filter(|e| e.charge == Charge::Charged)
            .map(|e| count(e.unread.len()))
            .sum()
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap()
}
