//! Many connections at once.

use std::io;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::Part;
use crate::net::Net;
use crate::tasks::{End, call, stream};
use crate::usage::{Usage, resident};
use crate::work::{Measured, PIECE, Sample, size_f64, to_f64};

/// How long nothing happens while wake-ups are counted.
const REST: Duration = Duration::from_secs(1);
/// How long after the last message everybody sleeps.
const SETTLING: Duration = Duration::from_millis(50);

/// Connections at rest and one that is used.
pub(crate) async fn idle<N: Net>(
    part: &Part,
    other: u32,
    connections: usize,
) -> io::Result<Sample> {
    let name = &part.name;
    let mut first = N::enter(name).await?;
    call(&mut first, 0).await?;
    let before = resident(other)?;
    let mut idle = vec![first];
    for _ in 1..connections {
        idle.push(N::enter(name).await?);
    }
    let mut active = N::enter(name).await?;
    call(&mut active, 1).await?;
    let memory = to_f64(resident(other)?.saturating_sub(before)) / 1024.0;
    // In a thread of its own: the runtime's timer would wake up more than once.
    let wakeups = tokio::task::spawn_blocking(move || rest(other)).await??;
    let (us, they) = (Usage::of(process::id())?, Usage::of(other)?);
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < part.budget() {
        call(&mut active, count).await?;
        count += 1;
    }
    let time = start.elapsed();
    let used = Usage::of(other)?.cpu_since(&they) + Usage::of(process::id())?.cpu_since(&us);
    Ok(Sample {
        figure: time.as_secs_f64() * 1e6 / to_f64(count.max(1)),
        p99: None,
        cpu: used.as_secs_f64() * 1e6 / to_f64(count.max(1)),
        memory: Some(memory / size_f64(connections.max(1))),
        wakeups: Some(to_f64(wakeups) / REST.as_secs_f64()),
    })
}

/// How often both processes wake up while nothing happens.
#[expect(
    clippy::disallowed_methods,
    reason = "the time itself is what is wanted"
)]
fn rest(other: u32) -> io::Result<u64> {
    // Until who has just answered sleeps: that is not a wake-up at rest.
    thread::sleep(SETTLING);
    let (they, us) = (Usage::of(other)?, Usage::of(process::id())?);
    thread::sleep(REST);
    // One of them is this thread's, which slept.
    let ours = Usage::of(process::id())?.wakeups_since(&us);
    Ok(ours.saturating_sub(1) + Usage::of(other)?.wakeups_since(&they))
}

/// All of them stream at once, each in a task.
pub(crate) async fn active<E: End + 'static>(
    mut ends: Vec<E>,
    budget: Duration,
) -> io::Result<Measured> {
    // Not measured: until each has touched its memory.
    for end in &mut ends {
        end.write_all(&[0; PIECE]).await?;
    }
    let start = Instant::now();
    let tasks = ends.into_iter().map(|mut end| {
        tokio::task::spawn_local(async move { stream(&mut end, PIECE, 1, budget).await })
    });
    let mut count = 0;
    for task in tasks.collect::<Vec<_>>() {
        count += task.await??.count;
    }
    Ok(Measured {
        time: start.elapsed(),
        count,
        size: PIECE,
        singles: Vec::new(),
    })
}
