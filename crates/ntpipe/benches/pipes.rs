//! ntpipe beside `pipe(2)`, in one run: two processes, interleaved rounds, medians.
//!
//! `cargo bench -p ntpipe` prints a table. Nothing here decides a test: the figures are the
//! machine's, the ratios are what to look at. Content is verified in every workload.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ntpipe::{ClientOptions, NamedPipeClient, PipeMode, ServerOptions};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Rounds of each workload and transport; the transports take turns.
const ROUNDS: usize = 5;

#[derive(Clone, Copy, PartialEq)]
enum Transport {
    Kernel,
    Bytes,
    Messages,
}

#[derive(Clone, Copy, PartialEq)]
enum Cpus {
    Two,
    One,
}

#[derive(Clone, Copy)]
enum Workload {
    RoundTrip { size: usize, count: usize },
    Stream { size: usize, total: usize },
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) == Some("--peer") {
        return peer(&args);
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let only = args
        .iter()
        .position(|arg| arg == "--only")
        .map(|at| args[at + 1].clone());
    let scale = if quick { 10 } else { 1 };
    let workloads = [
        (
            "round trip 64 B, two CPUs",
            Cpus::Two,
            Workload::RoundTrip {
                size: 64,
                count: 100_000 / scale,
            },
        ),
        (
            "round trip 4 KiB, two CPUs",
            Cpus::Two,
            Workload::RoundTrip {
                size: 4096,
                count: 50_000 / scale,
            },
        ),
        (
            "round trip 64 B, one CPU",
            Cpus::One,
            Workload::RoundTrip {
                size: 64,
                count: 100_000 / scale,
            },
        ),
        (
            "streaming 64 B, two CPUs",
            Cpus::Two,
            Workload::Stream {
                size: 64,
                total: 256 << 20,
            },
        ),
        (
            "streaming 4 KiB, two CPUs",
            Cpus::Two,
            Workload::Stream {
                size: 4096,
                total: 4 << 30,
            },
        ),
        (
            "streaming 64 KiB, two CPUs",
            Cpus::Two,
            Workload::Stream {
                size: 65536,
                total: 8 << 30,
            },
        ),
        (
            "streaming 64 B, one CPU",
            Cpus::One,
            Workload::Stream {
                size: 64,
                total: 64 << 20,
            },
        ),
    ];
    println!(
        "{:<28} {:>16} {:>16} {:>16} {:>8}",
        "", "pipe(2)", "ntpipe bytes", "ntpipe messages", "ratio"
    );
    for (title, cpus, workload) in workloads {
        if only
            .as_ref()
            .is_some_and(|only| !title.contains(only.as_str()))
        {
            continue;
        }
        let workload = workload.scaled(scale);
        let transports = [Transport::Kernel, Transport::Bytes, Transport::Messages];
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for (transport, times) in transports.iter().zip(&mut times) {
                times.push(run(*transport, cpus, workload));
            }
        }
        let medians = times.map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2]
        });
        let ratio = medians[0].as_secs_f64() / medians[1].as_secs_f64();
        let [kernel, bytes, messages] = medians.map(|time| workload.figure(time));
        println!("{title:<28} {kernel:>16} {bytes:>16} {messages:>16} {ratio:>7.1}x");
    }
}

impl Workload {
    fn scaled(self, scale: usize) -> Self {
        match self {
            Self::Stream { size, total } => Self::Stream {
                size,
                total: total / scale,
            },
            Self::RoundTrip { .. } => self,
        }
    }

    fn figure(self, time: Duration) -> String {
        match self {
            Self::RoundTrip { count, .. } => {
                format!("{:.3} us", time.as_secs_f64() * 1e6 / count as f64)
            }
            Self::Stream { total, .. } => {
                format!("{:.0} MB/s", total as f64 / 1e6 / time.as_secs_f64())
            }
        }
    }
}

/// Runs one workload against a new peer process; returns how long the work took.
fn run(transport: Transport, cpus: Cpus, workload: Workload) -> Duration {
    pin(cpus, 0);
    let name = format!(r"\\.\pipe\ntpipe-bench-{}", std::process::id());
    let mode = match transport {
        Transport::Messages => PipeMode::Message,
        Transport::Kernel | Transport::Bytes => PipeMode::Byte,
    };
    let kind = match transport {
        Transport::Kernel => "kernel",
        Transport::Bytes => "bytes",
        Transport::Messages => "messages",
    };
    let (work, size, count) = match workload {
        Workload::RoundTrip { size, count } => ("echo", size, count),
        Workload::Stream { size, total } => ("sink", size, total / size),
    };
    let cpu = if cpus == Cpus::One { "0" } else { "1" };
    let spawn = |stdin: Stdio, stdout: Stdio| -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--peer",
                kind,
                work,
                &size.to_string(),
                &count.to_string(),
                cpu,
                &name,
            ])
            .stdin(stdin)
            .stdout(stdout)
            .spawn()
            .unwrap()
    };
    if transport == Transport::Kernel {
        let (read_in, write_in) = io::pipe().unwrap();
        let (read_out, write_out) = io::pipe().unwrap();
        let mut peer = spawn(read_in.into(), write_out.into());
        let mut writer = File::from(OwnedFd::from(write_in));
        let mut reader = File::from(OwnedFd::from(read_out));
        let time = drive(workload, &mut reader, &mut writer);
        drop(writer);
        assert!(peer.wait().unwrap().success());
        return time;
    }
    let server = ServerOptions::new().pipe_mode(mode).create(&name).unwrap();
    let mut peer = spawn(Stdio::null(), Stdio::inherit());
    server.connect().unwrap();
    let time = drive(workload, &mut &*server, &mut &*server);
    drop(server);
    assert!(peer.wait().unwrap().success());
    time
}

/// This side of a workload.
fn drive(workload: Workload, reader: &mut impl Read, writer: &mut impl Write) -> Duration {
    match workload {
        Workload::RoundTrip { size, count } => {
            let (mut sent, mut received) = (vec![0; size], vec![0; size]);
            let mut start = Instant::now();
            let warm_up = count / 10;
            for i in 0..warm_up + count {
                if i == warm_up {
                    start = Instant::now();
                }
                sent[..8].copy_from_slice(&i.to_le_bytes());
                writer.write_all(&sent).unwrap();
                reader.read_exact(&mut received).unwrap();
                assert!(received[..8] == sent[..8], "the echo is not what was sent");
            }
            start.elapsed()
        }
        Workload::Stream { size, total } => {
            let mut sent = vec![0; size];
            let start = Instant::now();
            for i in 0..total / size {
                sent[..8].copy_from_slice(&i.to_le_bytes());
                writer.write_all(&sent).unwrap();
            }
            // The sink answers when it has everything.
            let mut done = [0];
            reader.read_exact(&mut done).unwrap();
            start.elapsed()
        }
    }
}

/// The other process.
fn peer(args: &[String]) {
    let [kind, work, size, count, cpu, name] = &args[2..8] else {
        panic!("wrong arguments")
    };
    let (size, count): (usize, usize) = (size.parse().unwrap(), count.parse().unwrap());
    pin(
        if cpu == "0" { Cpus::One } else { Cpus::Two },
        cpu.parse().unwrap(),
    );
    if kind == "kernel" {
        return serve(
            work,
            size,
            count,
            &mut io::stdin().lock(),
            &mut File::from(stdout()),
        );
    }
    let mode = if kind == "messages" {
        PipeMode::Message
    } else {
        PipeMode::Byte
    };
    let client: NamedPipeClient = ClientOptions::new().pipe_mode(mode).open(name).unwrap();
    serve(work, size, count, &mut &*client, &mut &*client);
}

fn stdout() -> OwnedFd {
    rustix::io::dup(io::stdout()).unwrap()
}

fn serve(work: &str, size: usize, count: usize, reader: &mut impl Read, writer: &mut impl Write) {
    let mut buf = vec![0; size];
    if work == "echo" {
        for _ in 0..count / 10 + count {
            reader.read_exact(&mut buf).unwrap();
            writer.write_all(&buf).unwrap();
        }
        return;
    }
    for i in 0..count {
        reader.read_exact(&mut buf).unwrap();
        assert!(
            buf[..8] == i.to_le_bytes(),
            "message {i} is not what was sent"
        );
    }
    writer.write_all(&[1]).unwrap();
}

/// Puts this process on a CPU of its own, or both processes on one.
fn pin(cpus: Cpus, cpu: usize) {
    let mut set = CpuSet::new();
    set.set(if cpus == Cpus::One { 0 } else { cpu });
    let _ = sched_setaffinity(None, &set);
}
