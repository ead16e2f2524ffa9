//! The lane engine against a simple model of the same rules, over random operations.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::LazyLock;

use ntpipe_proto::lane::{Charge, FRAGMENT, ring_capacity};
use ntpipe_proto::{PipeType, ReadMode};
use proptest::prelude::*;

#[path = "support/memory.rs"]
mod memory;
#[path = "model/oracle.rs"]
mod oracle;
#[path = "model/pair.rs"]
mod pair;

use pair::Pair;

const QUOTAS: [u32; 6] = [0, 1, 7, 100, 4096, 65536];

#[derive(Clone, Debug)]
struct Case {
    pipe_type: PipeType,
    quota: u32,
    /// Whether the writer resumes its writes after each operation, or only when told to.
    prompt: bool,
    /// Whether both ends are saved and restored between any two operations.
    moved: bool,
    ops: Vec<Op>,
    end: End,
}

#[derive(Clone, Debug)]
enum Op {
    Write(Len, Charge),
    WriteNowait(Len),
    /// Several writes of the same size, on top of each other.
    Burst(u8, u8),
    Resume(usize),
    Withdraw(usize),
    Flush,
    ForgetFlush,
    Read(ReadMode, Len),
    Wait(ReadMode, Len),
    GiveUp,
    Peek(Len),
}

/// How it ends.
#[derive(Clone, Debug)]
enum End {
    Drain,
    KillWriter(Option<Len>),
}

/// A size, relative to what matters.
#[derive(Clone, Copy, Debug)]
enum Len {
    Small(usize),
    Quota(isize),
    Fragment(isize),
    /// In thousandths of three rings.
    Rings(usize),
}

impl Len {
    fn bytes(self, quota: u32) -> usize {
        let size = |n: u64| usize::try_from(n).unwrap();
        match self {
            Self::Small(n) => n,
            Self::Quota(off) => size(quota.into()).saturating_add_signed(off),
            Self::Fragment(off) => size(FRAGMENT).saturating_add_signed(off),
            Self::Rings(n) => size(ring_capacity(quota)) * 3 * n / 1000,
        }
    }

    fn data(self, case: &Case, write: usize) -> &'static [u8] {
        let from = write * 101 % 4096;
        &BYTES[from..from + self.bytes(case.quota)]
    }
}

/// What is written, at other places by each write.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..7_000_000_u32)
        .map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect()
});

fn len() -> impl Strategy<Value = Len> {
    prop_oneof![
        12 => (0..20_usize).prop_map(Len::Small),
        6 => (-2..3_isize).prop_map(Len::Quota),
        2 => (-12..12_isize).prop_map(Len::Fragment),
        2 => (0..300_usize).prop_map(Len::Rings),
        1 => (300..=1000_usize).prop_map(Len::Rings),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let mode = || prop_oneof![3 => Just(ReadMode::Message), 1 => Just(ReadMode::Byte)];
    let charge = prop_oneof![6 => Just(Charge::Charged), 1 => Just(Charge::Uncharged)];
    prop_oneof![
        12 => (len(), charge).prop_map(|(len, charge)| Op::Write(len, charge)),
        4 => len().prop_map(Op::WriteNowait),
        1 => (1..60_u8, 0..20_u8).prop_map(|(n, len)| Op::Burst(n, len)),
        2 => (0..8_usize).prop_map(Op::Resume),
        5 => (0..8_usize).prop_map(Op::Withdraw),
        3 => Just(Op::Flush),
        1 => Just(Op::ForgetFlush),
        14 => (mode(), len()).prop_map(|(mode, len)| Op::Read(mode, len)),
        5 => (mode(), len()).prop_map(|(mode, len)| Op::Wait(mode, len)),
        1 => Just(Op::GiveUp),
        5 => len().prop_map(Op::Peek),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let pipe_type = prop_oneof![2 => Just(PipeType::Message), 1 => Just(PipeType::Byte)];
    let quota = prop::sample::select(&QUOTAS[..]);
    let end = prop_oneof![
        Just(End::Drain),
        prop::option::of(len()).prop_map(End::KillWriter),
    ];
    let ops = prop::collection::vec(op(), 1..60);
    (pipe_type, quota, any::<(bool, bool)>(), ops, end).prop_map(
        |(pipe_type, quota, (prompt, moved), ops, end)| Case {
            pipe_type,
            quota,
            prompt,
            moved,
            ops,
            end,
        },
    )
}

fn run(case: &Case) {
    let mut pair = Pair::new(case.pipe_type, case.quota, case.moved);
    let natural = pair.natural_mode();
    // A byte pipe has no message mode.
    let allowed = |mode| match case.pipe_type {
        PipeType::Byte => natural,
        PipeType::Message => mode,
    };
    for (at, op) in case.ops.iter().enumerate() {
        match *op {
            Op::Write(len, charge) => pair.write(len.data(case, at), charge),
            Op::WriteNowait(len) => pair.write_nowait(len.data(case, at)),
            Op::Burst(n, len) => {
                for i in 0..usize::from(n) {
                    let len = Len::Small(len.into());
                    pair.write(len.data(case, at + i), Charge::Charged);
                }
            }
            Op::Resume(which) => pair.resume(which),
            Op::Withdraw(which) => pair.withdraw(which),
            Op::Flush => pair.flush(),
            Op::ForgetFlush => pair.forget_flush(),
            Op::Read(mode, len) => pair.read(allowed(mode), len.bytes(case.quota)),
            Op::Wait(mode, len) => pair.wait(allowed(mode), len.bytes(case.quota)),
            Op::GiveUp => pair.give_up(),
            Op::Peek(len) => pair.peek(len.bytes(case.quota)),
        }
        if case.prompt {
            pair.settle();
        }
    }
    match case.end {
        End::Drain => pair.drain(),
        End::KillWriter(last) => {
            pair.kill_writer(last.map(|len| len.data(case, case.ops.len())));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_keeps_what_the_model_promises(case in case()) {
        run(&case);
    }
}
