//! The figures as tables for a document.

use std::fmt::{self, Write};

use super::report::{Cell, Report, Row, short};
use super::targets::targets;

/// The whole report.
pub(super) fn tables(report: &Report) -> Result<String, fmt::Error> {
    let mut out = String::new();
    writeln!(out, "{}; {}.\n", report.machine, report.limits)?;
    let targets = targets(report);
    if !targets.is_empty() {
        writeln!(out, "| what | target | reached | |\n|---|---|---|---|")?;
        for target in targets {
            let verdict = if target.is_met { "met" } else { "**missed**" };
            let reached = short(target.reached);
            let (what, wanted) = (target.what, target.wanted);
            writeln!(out, "| {what} | {wanted} | {reached} | {verdict} |")?;
        }
        writeln!(out)?;
    }
    // Workloads of one kind share a table.
    let mut kinds: Vec<&str> = Vec::new();
    for row in &report.rows {
        let kind = row.item.workload.kind();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    for kind in kinds {
        let rows = report.rows.iter();
        let rows: Vec<&Row> = rows
            .filter(|row| row.item.workload.kind() == kind)
            .collect();
        table(&mut out, &rows)?;
    }
    Ok(out)
}

fn table(out: &mut String, rows: &[&Row]) -> fmt::Result {
    let mut names: Vec<&str> = Vec::new();
    for cell in rows.iter().flat_map(|row| &row.cells) {
        if !names.contains(&cell.transport.as_str()) {
            names.push(&cell.transport);
        }
    }
    let unit = rows.first().map_or("", |row| row.unit);
    writeln!(out, "| {unit} | {} |", names.join(" | "))?;
    writeln!(out, "|---|{}", "---|".repeat(names.len()))?;
    for row in rows {
        write!(out, "| {}", row.title())?;
        for name in &names {
            match row.cell(name) {
                Some(cell) => write!(out, " | {}", figures(row, cell))?,
                None => write!(out, " | -")?,
            }
        }
        writeln!(out, " |")?;
    }
    writeln!(out)
}

/// One cell: the median with its range, and what else was seen.
fn figures(row: &Row, cell: &Cell) -> String {
    let range = format!("{}-{}", short(cell.min), short(cell.max));
    let mut text = format!("**{}** ({range})", short(cell.median));
    let mut add = |more: String| {
        text.push_str("; ");
        text.push_str(&more);
    };
    if let Some(ratio) = row.ratio(cell).filter(|_| !cell.is_ours) {
        add(format!("{ratio:.2}x"));
    }
    if let Some(p99) = cell.p99 {
        add(format!("p99 {}", short(p99)));
    }
    add(format!("CPU {} us", short(cell.cpu_us)));
    if let Some(memory) = cell.memory_kib {
        add(format!("{memory:.1} KiB each"));
    }
    if let Some(wakeups) = cell.wakeups {
        add(format!("{wakeups:.0} wake-ups/s"));
    }
    text
}
