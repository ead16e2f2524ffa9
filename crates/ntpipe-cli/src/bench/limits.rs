//! What the machine can do at best: the figures beside which all others stand.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// Medians of some runs.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Limits {
    /// Copying 64 KiB within the caches, in MB/s.
    pub(super) memcpy: f64,
    /// One cache line there and back between two CPUs, in microseconds.
    pub(super) bounce: Option<f64>,
    /// Two lines, as a message there and its answer take, in microseconds.
    pub(super) two_lines: Option<f64>,
    /// A system call that does nothing, in microseconds.
    pub(super) syscall: f64,
    /// From waking a thread on an idle CPU to its running, in microseconds.
    pub(super) wake: Option<f64>,
}

const RUNS: usize = 5;

impl Limits {
    pub(super) fn measure() -> Self {
        Self {
            memcpy: median(memcpy),
            bounce: two_cpus().map(|cpus| median(|| bounce(cpus, 1))),
            two_lines: two_cpus().map(|cpus| median(|| bounce(cpus, 2))),
            syscall: median(syscall),
            wake: two_cpus().map(|cpus| median(|| wake(cpus))),
        }
    }
}

fn median(mut run: impl FnMut() -> f64) -> f64 {
    let mut figures: Vec<f64> = (0..RUNS).map(|_| run()).collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(RUNS / 2).copied().unwrap_or(f64::NAN)
}

fn memcpy() -> f64 {
    const LEN: usize = 64 << 10;
    const COPIES: u32 = 20_000;
    let (from, mut to) = (vec![1_u8; LEN], vec![0_u8; LEN]);
    let start = Instant::now();
    for _ in 0..COPIES {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
    }
    65536.0 * f64::from(COPIES) / 1e6 / start.elapsed().as_secs_f64()
}

fn syscall() -> f64 {
    const CALLS: u32 = 200_000;
    let start = Instant::now();
    for _ in 0..CALLS {
        black_box(rustix::process::getppid());
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}

/// A word alone on its cache lines.
#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicU32);

/// Two threads answer each other: over one line, or over one for each direction.
fn bounce((one, other): (usize, usize), lines: usize) -> f64 {
    const ROUNDS: u32 = 200_000;
    // Beside busy processes each answer may take as long as a turn of the scheduler.
    const LONGEST: Duration = Duration::from_millis(100);
    const LAST: u32 = u32::MAX;
    let (there, back) = (Line::default(), Line::default());
    let answer = if lines == 1 { &there } else { &back };
    // On one line question and answer have to differ.
    let words = move |round: u32| match lines {
        1 => (2 * round + 1, 2 * round + 2),
        _ => (round + 1, round + 1),
    };
    thread::scope(|scope| {
        let (there, answer) = (&there.0, &answer.0);
        scope.spawn(move || {
            pin(other);
            for round in 0.. {
                let (asked, said) = words(round);
                loop {
                    match there.load(Ordering::Acquire) {
                        LAST => return,
                        word if word == asked => break,
                        _ => spin_loop(),
                    }
                }
                answer.store(said, Ordering::Release);
            }
        });
        let driver = scope.spawn(move || {
            pin(one);
            let start = Instant::now();
            let mut rounds = 0;
            while rounds < ROUNDS && (!rounds.is_multiple_of(64) || start.elapsed() < LONGEST) {
                let (say, hear) = words(rounds);
                there.store(say, Ordering::Release);
                while answer.load(Ordering::Acquire) != hear {
                    spin_loop();
                }
                rounds += 1;
            }
            let time = start.elapsed();
            there.store(LAST, Ordering::Release);
            time.as_secs_f64() * 1e6 / f64::from(rounds.max(1))
        });
        driver.join().unwrap_or(f64::NAN)
    })
}

/// A thread that sleeps is woken, again and again.
#[expect(clippy::disallowed_methods, reason = "the CPU has to become idle")]
fn wake((one, other): (usize, usize)) -> f64 {
    const ROUNDS: u32 = 200;
    thread::scope(|scope| {
        let sleeper = scope.spawn(move || {
            pin(other);
            let mut waits = Duration::ZERO;
            for _ in 0..ROUNDS {
                let (sent, asked) = CHANNEL.take();
                waits += sent.elapsed();
                asked.unpark();
            }
            waits.as_secs_f64() * 1e6 / f64::from(ROUNDS)
        });
        let target = sleeper.thread().clone();
        let driver = scope.spawn(move || {
            pin(one);
            for _ in 0..ROUNDS {
                // Long enough for the other CPU to be idle.
                thread::sleep(Duration::from_micros(200));
                CHANNEL.put(&target);
            }
        });
        let _ = driver.join();
        sleeper.join().unwrap_or(f64::NAN)
    })
}

/// Hands a moment over to a thread that is parked.
struct Channel(std::sync::Mutex<Option<(Instant, thread::Thread)>>);

static CHANNEL: Channel = Channel(std::sync::Mutex::new(None));

impl Channel {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, thread::Thread)>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn put(&self, target: &thread::Thread) {
        *self.lock() = Some((Instant::now(), thread::current()));
        target.unpark();
        while self.lock().is_some() {
            thread::park();
        }
    }

    fn take(&self) -> (Instant, thread::Thread) {
        loop {
            if let Some(found) = self.lock().take() {
                return found;
            }
            thread::park();
        }
    }
}

/// The first two CPUs that this process may use.
pub(super) fn two_cpus() -> Option<(usize, usize)> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    Some((cpus.next()?, cpus.next()?))
}

/// Puts this thread on a CPU.
pub(super) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    let _ = sched_setaffinity(None, &set);
}
