//! The figures as a chart: latency and throughput over the size of a message, on two CPUs.

use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;

use super::plan::{Placement, Workload};
use super::report::{Cell, Report};
use crate::failure::Failure;

/// The picture's size in pixels.
const SIZE: (u32, u32) = (1280, 560);

/// Draws both charts into one SVG file.
pub(super) fn draw(report: &Report, path: &Path) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::other(format!("cannot draw {}: {error}", path.display()))
    };
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let caption = format!("{}: two processes on two CPUs, medians", report.machine);
    let below = (root.titled(&caption, ("sans-serif", 16))).map_err(|error| failed(&error))?;
    let (left, right) = below.split_horizontally(SIZE.0 / 2);
    let trips = curves(report, |workload| {
        let Workload::RoundTrip { size } = workload else {
            return None;
        };
        Some(size)
    });
    let streams = curves(report, |workload| {
        let Workload::Stream { size } = workload else {
            return None;
        };
        Some(size)
    });
    chart(&left, "round trip, microseconds (less is better)", &trips)
        .and_then(|()| chart(&right, "one way, MB/s (more is better)", &streams))
        .map_err(|error| failed(&error))?;
    root.present().map_err(|error| failed(&error))
}

/// One transport's figures: sizes and medians.
struct Curve {
    transport: String,
    is_ours: bool,
    /// Its place among all.
    at: usize,
    points: Vec<(f64, f64)>,
}

fn curves(report: &Report, size_of: impl Fn(Workload) -> Option<usize>) -> Vec<Curve> {
    let rows = || {
        let pinned = report.rows.iter();
        let pinned = pinned.filter(|row| row.item.placement == Placement::Two);
        pinned.filter_map(|row| Some((size_of(row.item.workload)?, row)))
    };
    let mut all: Vec<&Cell> = Vec::new();
    for cell in report.rows.iter().flat_map(|row| &row.cells) {
        if all.iter().all(|known| known.transport != cell.transport) {
            all.push(cell);
        }
    }
    let curves = all.iter().enumerate().map(|(at, cell)| {
        let points = rows().filter_map(|(size, row)| {
            let size = f64::from(u32::try_from(size).ok()?);
            Some((size, row.cell(&cell.transport)?.median))
        });
        let mut points: Vec<_> = points.collect();
        points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        Curve {
            transport: cell.transport.clone(),
            is_ours: cell.is_ours,
            at,
            points,
        }
    });
    curves.filter(|curve| !curve.points.is_empty()).collect()
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn chart(area: &Area<'_>, title: &str, curves: &[Curve]) -> Result<(), Box<dyn std::error::Error>> {
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let range = |of: fn(&(f64, f64)) -> f64| {
        let least = all().map(of).fold(f64::INFINITY, f64::min);
        let most = all().map(of).fold(0.0, f64::max);
        (least / 1.5, most * 1.5)
    };
    if all().next().is_none() {
        return Ok(());
    }
    let ((left, right), (bottom, top)) = (range(|point| point.0), range(|point| point.1));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d((left..right).log_scale(), (bottom..top).log_scale())?;
    mesh(&mut chart)?;
    for curve in curves {
        let color = Palette99::pick(curve.at).to_rgba();
        let width = if curve.is_ours { 3 } else { 1 };
        let style = color.stroke_width(width);
        let line = LineSeries::new(curve.points.iter().copied(), style).point_size(3);
        chart
            .draw_series(line)?
            .label(curve.transport.as_str())
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 14))
        .draw()?;
    Ok(())
}

fn mesh<'a, X, Y>(
    chart: &mut ChartContext<'_, SVGBackend<'a>, Cartesian2d<X, Y>>,
) -> Result<(), Box<dyn std::error::Error>>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .x_desc("bytes in a message")
        .x_label_formatter(&|size| plain(*size))
        .y_label_formatter(&|figure| plain(*figure))
        .label_style(("sans-serif", 13))
        .draw()
        .map_err(|error| error.to_string())?;
    Ok(())
}

fn plain(figure: f64) -> String {
    match figure {
        figure if figure >= 1e6 => format!("{:.0}M", figure / 1e6),
        figure if figure >= 1e3 => format!("{:.0}k", figure / 1e3),
        figure if figure >= 1.0 => format!("{figure:.0}"),
        figure => format!("{figure}"),
    }
}
