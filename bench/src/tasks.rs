//! The workloads as tasks do them, all in one thread of each process.

use std::io;
use std::process;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::net::Net;
use crate::plan::Workload;
use crate::usage::Usage;
use crate::work::{
    BATCH, CALL, LAST, Measured, PAUSE, Sample, Timing, Trips, blank, check, check_number, is_last,
    stamp,
};
use crate::{Part, READY, many};

pub(crate) trait End: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> End for T {}

/// One measurement from the driver's side.
pub(crate) fn drive<N: Net>(part: &Part, workload: Workload) -> io::Result<Sample> {
    let other = part.other()?;
    let pid = other.id();
    let sample = run(async {
        match workload {
            Workload::RoundTrip { size } | Workload::Paused { size } => {
                let mut end = N::enter(&part.name).await?;
                let trips = part.trips(workload, size);
                measured(workload, pid, round_trips(&mut end, trips)).await
            }
            Workload::Stream { size } => {
                let mut end = N::enter(&part.name).await?;
                measured(workload, pid, stream(&mut end, size, 0, part.budget())).await
            }
            Workload::Connect => {
                let work = connect::<N>(&part.name, part.budget());
                let sample = measured(workload, pid, work).await?;
                call(&mut N::enter(&part.name).await?, LAST).await?;
                Ok(sample)
            }
            Workload::Idle { connections } => many::idle::<N>(part, pid, connections).await,
            Workload::Active { connections } => {
                let mut ends = Vec::new();
                for _ in 0..connections {
                    ends.push(N::enter(&part.name).await?);
                }
                measured(workload, pid, many::active(ends, part.budget())).await
            }
            Workload::Transact { .. } | Workload::First => Err(io::ErrorKind::Unsupported.into()),
        }
    })?;
    other.finish()?;
    Ok(sample)
}

/// The other process' side.
pub(crate) fn serve<N: Net>(name: &str, workload: Workload) -> io::Result<()> {
    run(async {
        let mut door = N::open(name)?;
        println!("{READY}");
        match workload {
            Workload::RoundTrip { size } | Workload::Paused { size } => {
                echo(N::accept(&mut door).await?, size).await
            }
            Workload::Stream { .. } | Workload::Active { .. } => {
                let (count, size) = match workload {
                    Workload::Active { connections } => (connections, crate::work::PIECE),
                    Workload::Stream { size } => (1, size),
                    _ => (0, 0),
                };
                let mut tasks = Vec::new();
                for _ in 0..count {
                    let end = N::accept(&mut door).await?;
                    tasks.push(tokio::task::spawn_local(take(end, size)));
                }
                for task in tasks {
                    task.await??;
                }
                Ok(())
            }
            Workload::Connect => {
                while answer(&mut N::accept(&mut door).await?).await? {}
                Ok(())
            }
            Workload::Idle { connections } => {
                // Each has its task, as in a server.
                for _ in 0..connections {
                    let end = N::accept(&mut door).await?;
                    tokio::task::spawn_local(echo(end, CALL));
                }
                echo(N::accept(&mut door).await?, CALL).await
            }
            Workload::Transact { .. } | Workload::First => Err(io::ErrorKind::Unsupported.into()),
        }
    })
}

fn run<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

/// Does the work, and counts the CPU time of both processes.
async fn measured(
    workload: Workload,
    other: u32,
    work: impl Future<Output = io::Result<Measured>>,
) -> io::Result<Sample> {
    let (us, they) = (Usage::of(process::id())?, Usage::of(other)?);
    let measured = work.await?;
    let used = Usage::of(other)?.cpu_since(&they) + Usage::of(process::id())?.cpu_since(&us);
    Ok(measured.sample(workload, used))
}

/// Receives one message of this length; `false` at the end.
pub(crate) async fn receive(end: &mut impl End, message: &mut [u8]) -> io::Result<bool> {
    match end.read_exact(message).await {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => Ok(false),
            _ => Err(error),
        },
    }
}

async fn round_trips(end: &mut impl End, trips: Trips) -> io::Result<Measured> {
    let Trips { size, budget, .. } = trips;
    let (mut sent, mut received) = (blank(size), blank(size));
    let mut singles = Vec::new();
    let mut number = 0;
    // Not measured: until both sides run as they will.
    let warm_up = Instant::now();
    while warm_up.elapsed() < budget / 10 {
        trip(end, &mut sent, &mut received, number).await?;
        number += 1;
    }
    let start = Instant::now();
    let mut count = 0;
    let together = trips.timing == Timing::Together;
    while start.elapsed() < budget {
        if trips.timing == Timing::Paused {
            tokio::time::sleep(PAUSE).await;
        }
        for _ in 0..if together { BATCH } else { 1 } {
            let begin = (!together).then(Instant::now);
            trip(end, &mut sent, &mut received, number).await?;
            number += 1;
            count += 1;
            singles.extend(begin.map(|begin| begin.elapsed()));
        }
    }
    Ok(Measured {
        time: start.elapsed(),
        count,
        size,
        singles,
    })
}

async fn trip(
    end: &mut impl End,
    sent: &mut [u8],
    received: &mut [u8],
    number: u64,
) -> io::Result<()> {
    stamp(sent, number);
    end.write_all(sent).await?;
    check(receive(end, received).await?)?;
    check_number(received, number)
}

/// A round trip of [`CALL`] bytes.
pub(crate) async fn call(end: &mut impl End, number: u64) -> io::Result<()> {
    trip(end, &mut [0; CALL], &mut [0; CALL], number).await
}

/// Messages one way until the time is over, numbered from `first` on, and the other side's answer
/// that it has them all.
pub(crate) async fn stream(
    end: &mut impl End,
    size: usize,
    first: u64,
    budget: Duration,
) -> io::Result<Measured> {
    let mut message = blank(size);
    let mut count = 0;
    let start = Instant::now();
    while start.elapsed() < budget {
        for _ in 0..BATCH {
            stamp(&mut message, first + count);
            end.write_all(&message).await?;
            count += 1;
        }
    }
    stamp(&mut message, LAST);
    end.write_all(&message).await?;
    check(receive(end, &mut message).await? && is_last(&message))?;
    Ok(Measured {
        time: start.elapsed(),
        count,
        size,
        singles: Vec::new(),
    })
}

async fn connect<N: Net>(name: &str, budget: Duration) -> io::Result<Measured> {
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < budget {
        call(&mut N::enter(name).await?, count).await?;
        count += 1;
    }
    Ok(Measured {
        time: start.elapsed(),
        count,
        size: CALL,
        singles: Vec::new(),
    })
}

/// Sends everything back.
async fn echo(mut end: impl End, size: usize) -> io::Result<()> {
    let mut message = blank(size);
    while receive(&mut end, &mut message).await? {
        end.write_all(&message).await?;
    }
    Ok(())
}

/// The other side of [`stream`].
async fn take(mut end: impl End, size: usize) -> io::Result<()> {
    let mut message = blank(size);
    let mut number = 0;
    while receive(&mut end, &mut message).await? && !is_last(&message) {
        check_number(&message, number)?;
        number += 1;
    }
    end.write_all(&message).await?;
    while receive(&mut end, &mut message).await? {}
    Ok(())
}

/// Answers one call and closes; `false` if it was the last.
async fn answer(end: &mut impl End) -> io::Result<bool> {
    let mut message = [0; CALL];
    if receive(end, &mut message).await? {
        end.write_all(&message).await?;
    }
    // Until the other side has read it.
    let more = receive(end, &mut [0; CALL]).await?;
    Ok(!more && !is_last(&message))
}
