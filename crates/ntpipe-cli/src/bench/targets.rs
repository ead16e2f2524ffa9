//! What the figures are to be, beside what they are.

use super::plan::{Placement, Transport, Workload};
use super::report::{Cell, Report, Row};

/// One target, as far as the report has the rows for it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) what: String,
    /// Such as `>= 20x pipe`.
    pub(super) wanted: String,
    /// In the same terms.
    pub(super) reached: f64,
    pub(super) is_met: bool,
}

/// Those that the report can answer.
pub(super) fn targets(report: &Report) -> Vec<Target> {
    let trip = Workload::RoundTrip { size: 64 };
    let stream = |size| Workload::Stream { size };
    let (two, one, nospin) = (Placement::Two, Placement::One, Placement::Nospin);
    let beside = |workload, placement, peer: &str, factor| {
        let row = find(report, workload, placement)?;
        let ratio = row.ratio(row.cell(peer)?)?;
        Some(at_least(row.title(), ratio, factor, peer))
    };
    let tokio = || {
        let row = most_idle(report)?;
        let ratio = row.ratio(row.cell("tokio")?)?;
        Some(at_least(row.title(), ratio, 1.0, "tokio"))
    };
    let all = [
        over_the_line(report, trip),
        beside(trip, two, "pipe", 100.0),
        beside(trip, one, "pipe", 1.1),
        beside(trip, nospin, "pipe", 1.0),
        beside(trip, Placement::Loaded, "pipe", 1.0),
        slowest(report, trip),
        beside(stream(64), two, "pipe", 20.0),
        beside(stream(4 << 10), two, "pipe", 3.0),
        beside(stream(4 << 10), nospin, "pipe", 1.0),
        beside(stream(64 << 10), two, "pipe-1m", 12.0),
        beside(stream(1 << 20), two, "iceoryx2-poll", 1.0),
        beside(Workload::First, two, "unix", 0.8),
        beside(Workload::Connect, two, "unix", 5.0),
        idle(report, "KiB of server memory each", 4.0, |cell| {
            cell.memory_kib
        }),
        idle(report, "us, round trip", 3.0, |cell| Some(cell.median)),
        idle(report, "wake-ups/s", 0.0, |cell| cell.wakeups),
        tokio(),
        messages(report),
    ];
    all.into_iter().flatten().collect()
}

fn find(report: &Report, workload: Workload, placement: Placement) -> Option<&Row> {
    let wanted = |row: &&Row| row.item.workload == workload && row.item.placement == placement;
    report.rows.iter().find(wanted)
}

fn at_least(what: String, reached: f64, factor: f64, peer: &str) -> Target {
    Target {
        what,
        wanted: format!(">= {factor}x {peer}"),
        reached,
        is_met: reached >= factor,
    }
}

fn at_most(what: String, reached: f64, most: f64, unit: &str) -> Target {
    Target {
        what,
        wanted: format!("<= {most} {unit}"),
        reached,
        is_met: reached <= most,
    }
}

/// A round trip beside the two cache lines that it has to move.
fn over_the_line(report: &Report, trip: Workload) -> Option<Target> {
    let row = find(report, trip, Placement::Two)?;
    let ours = row.cell(&Transport::Ntpipe.to_string())?.median;
    let ratio = ours / report.limits.two_lines?;
    Some(at_most(row.title(), ratio, 1.3, "x two cache lines"))
}

/// The slowest hundredth beside busy processes.
fn slowest(report: &Report, trip: Workload) -> Option<Target> {
    let row = find(report, trip, Placement::Loaded)?;
    let p99 = |name: &str| row.cell(name)?.p99;
    let ratio = p99("pipe")? / p99("ntpipe")?;
    Some(at_least(
        format!("{}, p99", row.title()),
        ratio,
        1.0,
        "pipe",
    ))
}

/// The row with the most connections that rest: ten thousand, if there are descriptors for them.
fn most_idle(report: &Report) -> Option<&Row> {
    let connections = |row: &&Row| {
        if let Workload::Idle { connections } = row.item.workload {
            return Some(connections);
        }
        None
    };
    let rows = report.rows.iter().filter(|row| connections(row).is_some());
    rows.max_by_key(connections)
}

/// What many connections cost that rest.
fn idle(
    report: &Report,
    unit: &str,
    most: f64,
    of: impl Fn(&Cell) -> Option<f64>,
) -> Option<Target> {
    let row = most_idle(report)?;
    let reached = of(row.cell("ntpipe")?)?;
    Some(at_most(row.title(), reached, most, unit))
}

/// The row in which messages are furthest behind bytes.
fn messages(report: &Report) -> Option<Target> {
    let share = |row: &Row| {
        let (bytes, messages) = (row.cell("ntpipe")?, row.cell("ntpipe-message")?);
        Some(match row.item.workload.is_rate() {
            true => messages.median / bytes.median,
            false => bytes.median / messages.median,
        })
    };
    let shares = report
        .rows
        .iter()
        .filter_map(|row| Some((share(row)?, row)));
    let (least, row) = shares.min_by(|(one, _), (other, _)| one.total_cmp(other))?;
    let what = format!("message mode, at worst: {}", row.title());
    Some(at_least(what, least, 0.9, "byte mode"))
}
