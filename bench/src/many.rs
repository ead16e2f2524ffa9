//! Many connections at once.

use std::io;
use std::process;
use std::time::{Duration, Instant};

use crate::Part;
use crate::net::Net;
use crate::tasks::{End, call, stream};
use crate::usage::{Usage, resident};
use crate::work::{Measured, PIECE, Sample, size_f64, to_f64};

/// How long nothing happens while wake-ups are counted.
const REST: Duration = Duration::from_secs(1);

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
    let (us, they) = (Usage::of(process::id())?, Usage::of(other)?);
    tokio::time::sleep(REST).await;
    // One of them is this thread's, which slept.
    let ours = Usage::of(process::id())?.wakeups_since(&us);
    let wakeups = ours.saturating_sub(1) + Usage::of(other)?.wakeups_since(&they);
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < part.budget() {
        call(&mut active, count).await?;
        count += 1;
    }
    let time = start.elapsed();
    let used = Usage::of(other)?.cpu_since(&they) + Usage::of(process::id())?.cpu_since(&us);
    Ok(Sample {
        figure: time.as_secs_f64() * 1e6 / to_f64(count),
        p99: None,
        cpu: used.as_secs_f64() * 1e6 / to_f64(count),
        memory: Some(memory / size_f64(connections)),
        wakeups: Some(to_f64(wakeups) / REST.as_secs_f64()),
    })
}

/// All of them stream at once, each in a task.
pub(crate) async fn active<E: End + 'static>(
    ends: Vec<E>,
    budget: Duration,
) -> io::Result<Measured> {
    let start = Instant::now();
    let tasks = ends.into_iter().map(|mut end| {
        tokio::task::spawn_local(async move { stream(&mut end, PIECE, budget).await })
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
