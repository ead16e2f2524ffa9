//! The lane engine against a peer whose shared memory says anything, and something else each time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::cell::Cell;
use std::task::Poll;

use ntpipe_proto::lane::{
    Begun, Charge, FRAGMENT, HEADER, Header, Incoming, OpId, Outgoing, Pos, Reader, Reading, Taken,
    Writer, ring_capacity,
};
use ntpipe_proto::{Error, PipeType, ReadMode};
use proptest::prelude::*;

#[path = "lying_peer/allocations.rs"]
mod allocations;

/// A lane whose other end lies. It checks every place, and counts how often it is asked.
struct Liar {
    capacity: u64,
    /// The state of the generator of lies.
    state: Cell<u64>,
    /// How many of sixteen lies are garbage; the others could be true.
    garbage: u64,
    /// What this end has published last, to lie near the truth.
    own: Cell<u64>,
    payload: Cell<u64>,
    /// The last tail that could be true.
    told: Cell<u64>,
    calls: Cell<u64>,
}

impl Liar {
    fn new(capacity: u64, seed: u64, garbage: u64) -> Self {
        Self {
            capacity,
            state: Cell::new(seed | 1),
            garbage,
            own: Cell::new(0),
            payload: Cell::new(0),
            told: Cell::new(0),
            calls: Cell::new(0),
        }
    }

    fn random(&self) -> u64 {
        let mut x = self.state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.state.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&self, n: u64) -> u64 {
        (self.random() >> 16) % n.max(1)
    }

    fn called(&self) {
        self.calls.set(self.calls.get() + 1);
    }

    /// A number that may be close to `near`, or anything.
    fn lie(&self, near: u64, around: u64) -> u64 {
        self.called();
        if self.below(16) >= self.garbage {
            return near.wrapping_add(self.below(around + 1));
        }
        match self.below(5) {
            0 => u64::MAX - self.below(32),
            1 => near.wrapping_sub(self.below(64)),
            2 => 1 << self.below(64),
            3 => self.below(32),
            _ => self.random(),
        }
    }

    fn check(&self, at: Pos, len: u64) {
        self.called();
        let offset = at.0 & (self.capacity - 1);
        assert!(
            offset + len <= self.capacity,
            "{len} bytes at {offset} cross the end of the ring"
        );
    }

    /// Runs one call of the engine, which must not take long and must not allocate much.
    fn bounded<T>(&self, most: u64, call: impl FnOnce() -> T) -> T {
        self.calls.set(0);
        let (result, largest) = allocations::largest(call);
        let calls = self.calls.get();
        assert!(calls <= most, "{calls} calls, {most} at most");
        assert!(largest <= 64 * 1024, "{largest} bytes allocated at once");
        result
    }
}

/// A lying writer, as the reader sees it.
impl Incoming for Liar {
    fn tail(&self) -> Pos {
        // Seldom backwards, and seldom between two records.
        let (head, told) = (self.own.get(), self.told.get());
        let furthest = (head | (self.capacity - 1)) + 1 + self.capacity;
        let room = furthest.saturating_sub(told) / HEADER;
        let near = told / HEADER + self.below(2) * self.below(room + 1);
        let tail = match self.below(16) {
            0 => self.lie(near * HEADER, 8),
            _ => self.lie(near, 0).wrapping_mul(HEADER),
        };
        if tail >= told && tail <= furthest {
            self.told.set(tail);
        }
        Pos(tail)
    }

    fn completed(&self) -> Pos {
        Pos(self.lie(self.own.get() / HEADER, 8).wrapping_mul(HEADER))
    }

    fn offered(&self) -> u64 {
        self.lie(self.payload.get(), self.capacity)
    }

    fn header(&self, at: Pos) -> Header {
        self.check(at, HEADER);
        if self.below(16) < self.garbage {
            let [len, flags] = [(); 2].map(|()| u32::try_from(self.random() >> 32).unwrap());
            return Header { len, flags };
        }
        let most = [1, 8, 40, self.capacity, 2 * FRAGMENT][usize::try_from(self.below(5)).unwrap()];
        let flags = match self.below(4) {
            0 => self.below(128),
            1 => 3 | self.below(2) << 4,
            2 => 1 | 4 | self.below(8) << 3,
            _ => self.below(2) << 1 | self.below(2) << 4,
        };
        Header {
            len: u32::try_from(self.below(most)).unwrap(),
            flags: u32::try_from(flags).unwrap(),
        }
    }

    fn load(&self, at: Pos, dst: &mut [u8]) {
        self.check(at, count(dst.len()));
        let value = self.lie(0, self.capacity).to_le_bytes();
        for (byte, value) in dst.iter_mut().zip(value) {
            *byte = value;
        }
    }

    fn publish(&self, taken: Taken) {
        self.called();
        self.own.set(taken.head.0);
        self.payload.set(taken.consumed);
    }

    fn claim(&self, _: Pos) {
        self.called();
    }

    fn ask(&self, _: u64) {
        self.called();
    }

    fn fence(&self) {
        self.called();
    }
}

/// A lying reader, as the writer sees it.
impl Outgoing for Liar {
    fn store_header(&self, at: Pos, _: Header) {
        self.check(at, HEADER);
    }

    fn store(&self, at: Pos, src: &[u8]) {
        self.check(at, count(src.len()));
    }

    fn mark_withdrawn(&self, at: Pos, _: Header) {
        self.check(at, HEADER);
    }

    fn offer(&self, offered: u64) {
        self.called();
        self.payload.set(offered);
    }

    fn publish(&self, tail: Pos) {
        self.called();
        self.own.set(tail.0);
    }

    fn complete(&self, to: Pos) {
        self.called();
        assert!(to.0.is_multiple_of(HEADER));
    }

    fn taken(&self) -> Taken {
        let [head, consumed] = [&self.own, &self.payload].map(|most| {
            let most = most.get();
            match self.below(3) {
                0 => self.lie(0, most),
                1 => self.lie(most, 0),
                _ => self.lie(most - most / 3, most / 3),
            }
        });
        Taken {
            head: Pos(head),
            consumed,
        }
    }

    fn claim(&self) -> Pos {
        Pos(self.lie(self.own.get(), 64))
    }

    fn asked(&self) -> u64 {
        self.lie(0, 1000)
    }

    fn lap(&self, _: u64) -> u64 {
        0
    }

    fn fence(&self) {
        self.called();
    }
}

#[derive(Clone, Debug)]
enum Call {
    Read(ReadMode, usize),
    /// Goes on with the read before it.
    Again,
    Peek(usize),
    IsEmpty,
    Ask(usize),
    WriterGone,
}

fn reader_call() -> impl Strategy<Value = Call> {
    let mode = prop_oneof![Just(ReadMode::Byte), Just(ReadMode::Message)];
    let len = || prop_oneof![3 => 0..50_usize, 1 => 0..40_000_usize];
    prop_oneof![
        6 => (mode, len()).prop_map(|(mode, len)| Call::Read(mode, len)),
        2 => Just(Call::Again),
        2 => len().prop_map(Call::Peek),
        1 => Just(Call::IsEmpty),
        1 => len().prop_map(Call::Ask),
        1 => prop::bool::weighted(0.1)
            .prop_map(|gone| if gone { Call::WriterGone } else { Call::IsEmpty }),
    ]
}

/// Saves an engine, changes a word or two, and returns what can be restored of that.
fn spoil<T>(
    lane: &Liar,
    save: impl FnOnce(&mut Vec<u64>),
    restore: impl FnOnce(&[u64]) -> Result<T, Error>,
) -> Option<T> {
    let mut words = Vec::new();
    save(&mut words);
    for _ in 0..=lane.below(2) {
        let at = usize::try_from(lane.below(count(words.len()))).unwrap();
        words[at] = lane.lie(words[at], 8);
    }
    let (restored, largest) = allocations::largest(|| restore(&words));
    assert!(largest <= 16 * 1024 + 8 * words.len());
    assert!(restored.is_ok() || restored.as_ref().err() == Some(&Error::INVALID_DATA));
    restored.ok()
}

fn run_reader(pipe_type: PipeType, calls: &[Call], lane: &Liar, shared: bool) {
    let mut reader = Reader::new(pipe_type, 100, lane.capacity);
    let mut op = Reading::default();
    let mut dst = Vec::new();
    let mut mode = ReadMode::Byte;
    for call in calls {
        let restore = |words: &[u64]| Reader::restore(pipe_type, 100, lane.capacity, words);
        if shared && let Some(spoilt) = spoil(lane, |words| reader.save(words), restore) {
            reader = spoilt;
        }
        // Each record is looked at a few times, and has at least a header; what was read made room
        // for as much again.
        let most = |dst: &[u8]| 16 * (lane.capacity / HEADER * 2 + count(dst.len()) + 4);
        let mut result = Ok(());
        match *call {
            Call::Read(..) | Call::Again => {
                if let Call::Read(new_mode, len) = *call {
                    (op, mode, dst) = (Reading::default(), new_mode, vec![0; len]);
                }
                let before = op.filled();
                let read = lane.bounded(most(&dst), || reader.read(&mut op, lane, mode, &mut dst));
                assert!(before <= op.filled() && op.filled() <= dst.len());
                if let Ok(Poll::Ready(read)) = read {
                    assert!(read.len <= dst.len());
                    op = Reading::default();
                }
                result = read.map(|_| ());
            }
            Call::Peek(len) => {
                dst = vec![0; len];
                op = Reading::default();
                let peek = lane.bounded(most(&dst), || reader.peek(lane, &mut dst));
                assert!(peek.is_err() || peek.unwrap().len <= len);
                result = peek.map(|_| ());
            }
            Call::IsEmpty => {
                result = lane
                    .bounded(most(&[]), || reader.is_empty(lane))
                    .map(|_| ());
            }
            Call::Ask(len) => lane.bounded(most(&[]), || reader.ask(lane, len)),
            Call::WriterGone => result = lane.bounded(most(&[]), || reader.writer_gone(lane)),
        }
        expect_known(result);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Begin(usize, Charge),
    BeginNowait(usize),
    Resume(usize),
    Withdraw(usize),
    Flush,
    PollFlush,
    Ask(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![4 => 0..200_usize, 2 => 0..40_000_usize, 1 => 0..400_000_usize];
    let charge = prop_oneof![3 => Just(Charge::Charged), 1 => Just(Charge::Uncharged)];
    prop_oneof![
        2 => (0..400_000_usize).prop_map(Step::BeginNowait),
        6 => (len, charge).prop_map(|(len, charge)| Step::Begin(len, charge)),
        4 => (0..8_usize).prop_map(Step::Resume),
        4 => (0..8_usize).prop_map(Step::Withdraw),
        1 => Just(Step::Flush),
        1 => Just(Step::PollFlush),
        2 => (0..100_usize).prop_map(Step::Ask),
    ]
}

fn run_writer(pipe_type: PipeType, quota: u32, steps: &[Step], lane: &Liar, shared: bool) {
    static BYTES: [u8; 400_000] = [7; 400_000];
    let mut writer = Writer::new(pipe_type, quota, lane.capacity);
    let mut pending: Vec<(OpId, usize)> = Vec::new();
    let mut flush = None;
    for step in steps {
        let restore = |words: &[u64]| Writer::restore(pipe_type, quota, lane.capacity, words);
        if shared && let Some(spoilt) = spoil(lane, |words| writer.save(words), restore) {
            writer = spoilt;
        }
        // At most a few calls for each piece of a write, or each record that it marks.
        let most = |len: usize| 16 * (count(len) / 4096 + lane.capacity / 4096 + 8);
        let chosen = |which: usize| pending.get(which % pending.len().max(1)).copied();
        let mut result = Ok(());
        match *step {
            Step::Begin(len, charge) => {
                let begun = lane.bounded(most(len), || writer.begin(lane, &BYTES[..len], charge));
                if let Ok(Begun::Pending(id)) = begun {
                    pending.push((id, len));
                }
                result = begun.map(|_| ());
            }
            Step::BeginNowait(len) => {
                let pended = writer.pending_ids().count();
                let src = &BYTES[..len];
                let written = lane.bounded(most(len), || writer.begin_nowait(lane, src));
                assert!(written.is_err() || written.unwrap() <= len);
                assert!(written.is_err() || writer.pending_ids().count() <= pended);
                result = written.map(|_| ());
            }
            Step::Resume(which) => {
                if let Some((id, len)) = chosen(which) {
                    let src = &BYTES[..len];
                    let done = lane.bounded(most(len), || writer.resume(lane, id, src));
                    if done == Ok(Poll::Ready(())) {
                        pending.retain(|(other, _)| *other != id);
                    }
                    result = done.map(|_| ());
                }
            }
            Step::Withdraw(which) => {
                if let Some((id, len)) = chosen(which) {
                    let done = lane.bounded(most(len), || writer.withdraw(lane, id));
                    result = done.map(|_| ());
                }
            }
            Step::Flush => flush = Some(writer.flush()),
            Step::PollFlush => {
                if let Some(flush) = flush {
                    let done = lane.bounded(most(0), || writer.poll_flush(lane, flush));
                    result = done.map(|_| ());
                }
            }
            Step::Ask(len) => {
                let fits = lane.bounded(most(0), || writer.fits(lane, len));
                let free = lane.bounded(most(0), || writer.free_quota(lane));
                assert!(free.is_err() || free.unwrap() <= quota.into());
                result = fits.map(|_| ());
            }
        }
        // A write whose length was spoilt is not the one that its caller goes on with.
        let other = shared && result == Err(Error::INTERNAL_ERROR);
        expect_known(if other { Ok(()) } else { result });
    }
}

/// A lie is either taken for data, or it is this error; a reader may also find the end.
fn expect_known(result: Result<(), Error>) {
    let known = [Error::INVALID_DATA, Error::BROKEN_PIPE];
    assert!(
        result.map_or_else(|e| known.contains(&e), |()| true),
        "{result:?}"
    );
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap()
}

fn pipe_type() -> impl Strategy<Value = PipeType> {
    prop_oneof![Just(PipeType::Byte), Just(PipeType::Message)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_survives_any_writer(
        pipe_type in pipe_type(),
        ring in prop::sample::select(&[256_u64, 4096, 65536][..]),
        garbage in 0..4_u64,
        seed in any::<u64>(),
        shared in any::<bool>(),
        calls in prop::collection::vec(reader_call(), 1..40),
    ) {
        run_reader(pipe_type, &calls, &Liar::new(ring, seed, garbage), shared);
    }

    #[test]
    fn a_writer_survives_any_reader(
        pipe_type in pipe_type(),
        quota in prop::sample::select(&[0_u32, 1, 100, 65536][..]),
        garbage in 0..3_u64,
        seed in any::<u64>(),
        shared in any::<bool>(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let lane = Liar::new(ring_capacity(quota), seed, garbage);
        run_writer(pipe_type, quota, &steps, &lane, shared);
    }
}

/// A writer that always has one more record, and takes it back when it is claimed.
#[derive(Default)]
struct Tempter {
    head: Cell<u64>,
    claimed: Cell<bool>,
    calls: Cell<u64>,
}

impl Incoming for Tempter {
    fn tail(&self) -> Pos {
        self.calls.set(self.calls.get() + 1);
        assert!(self.calls.get() < 1000, "the reader runs after it for ever");
        Pos(self.head.get() + 16)
    }

    fn completed(&self) -> Pos {
        Pos(0)
    }

    fn offered(&self) -> u64 {
        0
    }

    fn header(&self, _: Pos) -> Header {
        let header = Header {
            len: 8,
            flags: 1 | 2 | 16,
        };
        if self.claimed.replace(false) {
            header.withdrawn()
        } else {
            header
        }
    }

    fn load(&self, _: Pos, _: &mut [u8]) {}

    fn publish(&self, taken: Taken) {
        self.head.set(taken.head.0);
        self.claimed.set(false);
    }

    fn claim(&self, to: Pos) {
        self.claimed.set(to.0 > self.head.get());
    }

    fn ask(&self, _: u64) {}

    fn fence(&self) {}
}

#[test]
fn a_read_ends_though_the_writer_tempts_it_for_ever() {
    for mode in [ReadMode::Byte, ReadMode::Message] {
        let mut reader = Reader::new(PipeType::Message, 0, 1024);
        let read = reader.read(
            &mut Reading::default(),
            &Tempter::default(),
            mode,
            &mut [0; 8],
        );
        assert_eq!(read, Ok(Poll::Pending));
    }
}
