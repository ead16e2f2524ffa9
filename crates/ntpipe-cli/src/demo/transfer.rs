//! One file through a pipe in one direction, and what arrives on the other side.

use std::io::{self, Read};
use std::time::Instant;

use clap::ValueEnum;
use ntpipe::{PipeMode, PipeStream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A pipe's type, on the command line and in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Byte,
    Message,
}

/// Which way a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Way {
    Inbound,
    Outbound,
}

/// What a receiver found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Arrived {
    pub(super) way: Way,
    pub(super) bytes: u64,
    /// The messages, without the empty one that ends them; 0 in byte mode.
    pub(super) messages: u64,
    /// Whether each message was as long as it was sent.
    pub(super) whole: bool,
    pub(super) seconds: f64,
    pub(super) sha256: String,
}

/// What the messages' lengths are, in turn: tiny, odd, a page, longer than the buffer.
const LENGTHS: [usize; 6] = [1, 77, 512, 4096, 16384, 70_000];
/// The most that a sender writes, or a receiver reads, at once; less than the longest message.
const BLOCK: usize = 65536;
/// How often a receiver tells how far it is.
const STEP: u64 = 1 << 20;

impl Mode {
    pub(crate) fn pipe_mode(self) -> PipeMode {
        match self {
            Self::Byte => PipeMode::Byte,
            Self::Message => PipeMode::Message,
        }
    }
}

/// Sends the file; in message mode an empty message says that it ends.
pub(super) fn send(pipe: &PipeStream, mode: Mode, file: &mut impl Read) -> io::Result<()> {
    let mut lengths = LENGTHS.iter().copied().cycle();
    let mut block = Vec::new();
    loop {
        let len = match mode {
            Mode::Byte => BLOCK,
            Mode::Message => lengths.next().unwrap_or(BLOCK),
        };
        block.clear();
        file.by_ref()
            .take(u64::try_from(len).unwrap_or(u64::MAX))
            .read_to_end(&mut block)?;
        // An empty write means nothing in a stream of bytes.
        if mode == Mode::Message || !block.is_empty() {
            pipe.write_message(&block)?;
        }
        if block.is_empty() {
            return Ok(());
        }
    }
}

/// Receives the file: `expected` bytes in byte mode, up to the empty message in message mode.
pub(super) fn receive(
    pipe: &PipeStream,
    mode: Mode,
    way: Way,
    expected: u64,
    mut progress: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<Arrived> {
    let start = Instant::now();
    let mut digest = Sha256::new();
    let mut block = vec![0; BLOCK];
    let (mut bytes, mut told) = (0, 0);
    let mut messages = Messages::default();
    while mode == Mode::Message || bytes < expected {
        let read = pipe.read_message(&mut block)?;
        digest.update(block.get(..read.len).unwrap_or_default());
        bytes += u64::try_from(read.len).unwrap_or(u64::MAX);
        if mode == Mode::Message && messages.end(read.len, read.more) {
            break;
        }
        if bytes - told >= STEP {
            progress(bytes - told)?;
            told = bytes;
        }
    }
    progress(bytes - told)?;
    Ok(Arrived {
        way,
        bytes,
        messages: messages.count,
        whole: messages.whole(bytes),
        seconds: start.elapsed().as_secs_f64(),
        sha256: hex(digest),
    })
}

/// The file's length and digest.
pub(super) fn measure(file: &mut impl Read) -> io::Result<(u64, String)> {
    let mut digest = Sha256::new();
    let bytes = io::copy(file, &mut digest)?;
    Ok((bytes, hex(digest)))
}

fn hex(digest: Sha256) -> String {
    let bytes = digest.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The boundaries that a receiver sees.
#[derive(Debug, Default)]
struct Messages {
    count: u64,
    /// How much of the current message has come.
    length: usize,
    /// The messages that were not as long as they were sent, but for the last, which is a rest.
    odd: u64,
    last_is_odd: bool,
}

impl Messages {
    /// Counts what a read returned; whether it was the message that ends the file.
    fn end(&mut self, len: usize, more: bool) -> bool {
        self.length += len;
        if more {
            return false;
        }
        if self.length == 0 {
            return true;
        }
        let turn = usize::try_from(self.count).unwrap_or(0) % LENGTHS.len();
        self.odd += u64::from(self.last_is_odd);
        self.last_is_odd = LENGTHS.get(turn) != Some(&self.length);
        self.count += 1;
        self.length = 0;
        false
    }

    /// Whether every message but the last, which is a rest, was as long as it was sent.
    fn whole(&self, bytes: u64) -> bool {
        self.odd == 0 && (self.count > 0 || bytes == 0 || self.length == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(reads: &[(usize, bool)]) -> Messages {
        let mut messages = Messages::default();
        for &(len, more) in reads {
            assert!(!messages.end(len, more));
        }
        messages
    }

    #[test]
    fn messages_as_sent_are_whole_and_the_last_may_be_a_rest() {
        let messages = seen(&[
            (1, false),
            (50, true),
            (27, false),
            (512, false),
            (9, false),
        ]);
        assert_eq!(messages.count, 4);
        assert!(messages.whole(599));
    }

    #[test]
    fn merged_messages_are_noticed() {
        assert!(!seen(&[(1, false), (77 + 512, false), (4096, false)]).whole(4686));
    }

    #[test]
    fn an_empty_message_ends_the_file() {
        let mut messages = seen(&[(1, false)]);
        assert!(messages.end(0, false));
    }
}
