//! What happens in a round, all of it from one number; and what outlives the process that is killed.

use std::fs::OpenOptions;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ntpipe::PipeMode;
use rustix::fs::{Mode, OFlags, ftruncate, open};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::time::{ClockId, clock_gettime};

use super::support::{Random, byte};

/// What both processes do in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// The victim writes, the survivor reads.
    Read,
    /// The victim writes until it has to wait; the survivor reads when it knows of the death.
    ReadLate,
    /// The survivor waits for what never comes.
    ReadNothing,
    /// The survivor writes, the victim reads.
    Write,
    /// The survivor writes what nobody reads.
    WriteInVain,
    /// The survivor waits until everything is read, which it never is.
    Flush,
    /// Both write and read, with two threads each.
    Both,
    /// The survivor asks, the victim answers.
    Transact,
    /// The survivor looks at what the victim writes.
    Peek,
}

const ACTS: [Act; 9] = [
    Act::Read,
    Act::ReadLate,
    Act::ReadNothing,
    Act::Write,
    Act::WriteInVain,
    Act::Flush,
    Act::Both,
    Act::Transact,
    Act::Peek,
];

/// One round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) act: Act,
    pub(crate) mode: PipeMode,
    pub(crate) quota: u32,
    /// The victim is killed when it has begun that many operations, or after a moment.
    pub(crate) ops: u64,
    /// How much later it is killed.
    pub(crate) delay: Duration,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random(seed | 1);
        // The first numbers of a small seed are small.
        (0..8).for_each(|_| _ = random.next());
        let mut pick = |limit| random.below(limit);
        let mode = match pick(2) {
            0 => PipeMode::Byte,
            _ => PipeMode::Message,
        };
        let mut act = ACTS[pick(9) as usize];
        if act == Act::Transact && mode == PipeMode::Byte {
            act = Act::Both;
        }
        let quota = [0, 40, 300, 4096, 65536][pick(5) as usize];
        let ops = match pick(4) {
            // At any point of coming to life, too.
            0 => 0,
            1 => 1 + pick(3),
            _ => pick(300),
        };
        Self {
            seed,
            act,
            mode,
            quota,
            ops,
            delay: Duration::from_micros(pick(if ops == 0 { 2000 } else { 200 })),
        }
    }

    /// The frame with this number: number, length and sum, then bytes like no other's.
    pub(crate) fn frame(&self, number: u64) -> Vec<u8> {
        let mut random = Random((self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1);
        (0..4).for_each(|_| _ = random.next());
        let len = match random.below(64) {
            // More than some rings hold.
            0 => 60_000 + random.below(90_000),
            1..8 => random.below(5000),
            _ => random.below(100),
        };
        let from = random.next() as usize;
        let body: Vec<_> = (0..len as usize)
            .map(|at| byte(from.wrapping_add(at)))
            .collect();
        let mut frame = Vec::with_capacity(HEADER + body.len());
        frame.extend(number.to_le_bytes());
        frame.extend((body.len() as u32).to_le_bytes());
        frame.extend(sum(&body).to_le_bytes());
        frame.extend(body);
        frame
    }
}

/// What precedes the bytes of a frame.
const HEADER: usize = 16;

fn sum(bytes: &[u8]) -> u32 {
    let add = |sum: u32, byte: &u8| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811C_9DC5, add)
}

/// What a survivor has read.
#[derive(Default)]
pub(crate) struct Received {
    /// The number of whole frames.
    pub(crate) frames: u64,
    /// The beginning of the next one.
    pub(crate) rest: Vec<u8>,
}

impl Received {
    /// Takes what a read has returned; `is_end` if it ends a message.
    pub(crate) fn add(&mut self, plan: &Plan, bytes: &[u8], is_end: bool) {
        self.rest.extend(bytes);
        let mut at = 0;
        while let Some(header) = self.rest.get(at..at + HEADER) {
            let number = u64::from_le_bytes(header[..8].try_into().unwrap());
            assert_eq!(number, self.frames + 1, "a frame is missing or twice there");
            let len = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
            let Some(body) = self.rest.get(at + HEADER..at + HEADER + len) else {
                break;
            };
            assert_eq!(
                header[12..],
                sum(body).to_le_bytes(),
                "a frame is torn: {number}"
            );
            self.frames += 1;
            at += HEADER + len;
            let ends_here = at == self.rest.len();
            assert!(
                plan.mode == PipeMode::Byte || ends_here && is_end,
                "{number} is longer than it was"
            );
        }
        self.rest.drain(..at);
        assert!(
            plan.mode == PipeMode::Byte || !is_end || self.rest.is_empty(),
            "message {} ends too early",
            self.frames + 1
        );
    }

    /// What the victim had completed is there, and nothing that it had not begun.
    pub(crate) fn check(&self, board: &Board) {
        let (begun, completed) = (Board::get(&board.begun), Board::get(&board.completed));
        let frames = self.frames;
        assert!(
            frames >= completed,
            "lost: {completed} were completed, {frames} came"
        );
        let seen = frames + u64::from(!self.rest.is_empty());
        assert!(seen <= begun, "{begun} were begun, {seen} came");
        // One thread writes: all but the last it had completed.
        assert!(begun <= completed + 1);
    }
}

/// Memory of all processes of a test.
#[repr(C)]
pub(crate) struct Board {
    /// Whether the victim may begin: 1 when the survivor is ready.
    pub(crate) is_open: AtomicU64,
    /// Operations of any kind that the victim has begun.
    pub(crate) steps: AtomicU64,
    /// Writes that it has begun, and completed.
    pub(crate) begun: AtomicU64,
    pub(crate) completed: AtomicU64,
    /// When it was killed, in nanoseconds of the monotonic clock; else 0.
    pub(crate) killed: AtomicU64,
    /// 1 once nothing is left of it.
    pub(crate) is_dead: AtomicU64,
}

impl Board {
    /// The board in a file; it stays mapped as long as the process lives.
    pub(crate) fn open(path: &Path) -> &'static Self {
        drop(OpenOptions::new().create(true).append(true).open(path));
        let file = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let len = size_of::<Self>();
        ftruncate(&file, len as u64).unwrap();
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe { mmap(ptr::null_mut(), len, prot, MapFlags::SHARED, &file, 0) };
        let base = base.unwrap().cast::<Self>();
        // SAFETY: mapped memory of that size, aligned to a page, of atomics that are valid for all
        // bits; nobody unmaps or truncates it.
        unsafe { &*base }
    }

    pub(crate) fn clear(&self) {
        let all = [
            &self.is_open,
            &self.steps,
            &self.begun,
            &self.completed,
            &self.killed,
            &self.is_dead,
        ];
        all.into_iter().for_each(|word| Self::set(word, 0));
    }

    pub(crate) fn get(word: &AtomicU64) -> u64 {
        word.load(Ordering::SeqCst)
    }

    pub(crate) fn set(word: &AtomicU64, value: u64) {
        word.store(value, Ordering::SeqCst);
    }

    pub(crate) fn step(&self) {
        self.steps.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn is_dead(&self) -> bool {
        Self::get(&self.is_dead) != 0
    }

    /// How long ago the victim was killed.
    pub(crate) fn since_kill(&self) -> Duration {
        match Self::get(&self.killed) {
            0 => Duration::ZERO,
            at => Duration::from_nanos(now().saturating_sub(at)),
        }
    }
}

/// The monotonic clock, which all processes share.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}
