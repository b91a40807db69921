//! How long cells took and how much memory they held, along an axis. May not: count attempts that a host or the platform
//! ended.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use regatta_model::report::{AttemptReport, CellReport, Report};

use super::attempts::is_fault;
use crate::render::escaped;

/// Most values along the axis; with more, nothing is drawn.
const VALUES_MOST: usize = 200;

/// Most attempts drawn.
const POINTS_MOST: usize = 1000;

/// Most values whose names stand under the plot.
const NAMES_MOST: usize = 12;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 26.0;

/// An attempt as it is drawn.
struct Point<'a> {
    /// The number of its value.
    at: usize,
    cell: &'a CellReport,
    attempt: &'a AttemptReport,
}

/// Both plots, along the compared axis, else the first ordered one.
pub(super) fn along(report: &Report, out: &mut String) {
    let compared = report.compare.as_ref().map(|compare| compare.axis.as_str());
    let axis = report.axes.iter().find(|axis| match compared {
        Some(compared) => axis.name == compared,
        None => axis.ordered,
    });
    let Some(axis) = axis.filter(|axis| (2..=VALUES_MOST).contains(&axis.values.len())) else {
        return;
    };
    let place: BTreeMap<&str, usize> = axis
        .values
        .iter()
        .enumerate()
        .map(|(at, value)| (value.as_str(), at))
        .collect();
    let all = report.cells.iter().flat_map(|cell| {
        let at = cell.axes.get(&axis.name);
        let at = at.and_then(|value| place.get(value.as_str())).copied();
        let attempts = cell.attempts.iter().filter(|attempt| is_measured(attempt));
        attempts.filter_map(move |attempt| {
            Some(Point {
                at: at?,
                cell,
                attempt,
            })
        })
    });
    let mut points: Vec<Point<'_>> = all.collect();
    if points.is_empty() {
        return;
    }
    let all = points.len();
    // Evenly thinned, so that no value loses all of its attempts.
    let step = all.div_ceil(POINTS_MOST).max(1);
    let mut number = 0;
    points.retain(|_| {
        number += 1;
        (number - 1) % step == 0
    });
    let _ = writeln!(
        out,
        "<section id=\"time\">\n<h2>Time and memory along {}</h2>",
        escaped(&axis.name)
    );
    let time = |attempt: &AttemptReport| attempt.seconds;
    let text = |seconds: f64| match seconds {
        short if short < 10.0 => format!("{short:.2} s"),
        long => crate::progress::seconds(long),
    };
    plot("Time of the test", &axis.values, &points, &time, &text, out);
    let held = |attempt: &AttemptReport| {
        // Exact up to 2^32 MiB.
        f64::from(u32::try_from(attempt.peak_memory_bytes >> 10).unwrap_or(u32::MAX))
    };
    let text = |kib: f64| format!("{:.0} MiB", kib / 1024.0);
    if points.iter().any(|p| p.attempt.peak_memory_bytes > 0) {
        plot("Most memory held", &axis.values, &points, &held, &text, out);
    }
    out.push_str(
        "<ul class=\"legend\" aria-label=\"Legend\"><li>● passed</li><li>✕ did not pass</li><li>— median</li></ul>\n",
    );
    if points.len() < all {
        let _ = writeln!(
            out,
            "<p class=\"faint\">{} of {all} attempts are drawn</p>",
            points.len()
        );
    }
    out.push_str("</section>\n");
}

/// Whether its test ran, and told something of the cell.
fn is_measured(attempt: &AttemptReport) -> bool {
    let before = matches!(
        attempt.outcome.as_str(),
        "setup_failed" | "image_failed" | "cancelled"
    );
    !before && !is_fault(attempt)
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn plot(
    title: &str,
    values: &[String],
    points: &[Point<'_>],
    measure: &dyn Fn(&AttemptReport) -> f64,
    text: &dyn Fn(f64) -> String,
    out: &mut String,
) {
    let most = points.iter().map(|point| measure(point.attempt));
    let most = most.fold(0.0_f64, f64::max).max(1e-3) * 1.05;
    let wide = (WIDTH - LEFT - RIGHT) / number(values.len());
    let x = |at: usize| LEFT + wide * (number(at) + 0.5);
    let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / most).clamp(0.0, 1.0);
    let _ = writeln!(
        out,
        "<div class=\"scroll\"><svg class=\"plot\" role=\"img\" aria-label=\"{title} along the axis, up to {}\" \
         viewBox=\"0 0 {WIDTH} {HEIGHT}\"><text x=\"{LEFT}\" y=\"10\">{title}</text>",
        escaped(&text(most / 1.05))
    );
    for part in [0.0, 0.5, 1.0] {
        let value = most / 1.05 * part;
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y(value) + 4.0,
            escaped(&text(value)),
            at = y(value),
        );
    }
    let every = values.len().div_ceil(NAMES_MOST).max(1);
    for (at, value) in values.iter().enumerate().step_by(every) {
        let short: String = value.chars().take(14).collect();
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            x(at),
            HEIGHT - 8.0,
            escaped(&short)
        );
    }
    out.push('\n');
    median(points, measure, &x, &y, out);
    for point in points {
        let value = measure(point.attempt);
        // Cells of one value beside each other.
        let aside = number(usize::try_from(point.cell.cell % 9).unwrap_or(0)) - 4.0;
        let (cx, cy) = (x(point.at) + aside * (wide / 14.0).min(6.0), y(value));
        let words = format!(
            "cell {}, attempt {} on {}: {}",
            point.cell.cell,
            point.attempt.attempt,
            point.attempt.host,
            text(value)
        );
        let _ = if point.attempt.passed {
            writeln!(
                out,
                "<circle class=\"dot\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\"><title>{}</title></circle>",
                escaped(&words)
            )
        } else {
            writeln!(
                out,
                "<path class=\"cross\" d=\"M{:.1} {:.1}l6 6m0 -6l-6 6\"><title>{}</title></path>",
                cx - 3.0,
                cy - 3.0,
                escaped(&words)
            )
        };
    }
    out.push_str("</svg></div>\n");
}

/// A line through the middle of each value's attempts.
fn median(
    points: &[Point<'_>],
    measure: &dyn Fn(&AttemptReport) -> f64,
    x: &dyn Fn(usize) -> f64,
    y: &dyn Fn(f64) -> f64,
    out: &mut String,
) {
    let mut by_value: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for point in points {
        by_value
            .entry(point.at)
            .or_default()
            .push(measure(point.attempt));
    }
    let line: Vec<String> = by_value
        .into_iter()
        .filter_map(|(at, mut all)| {
            all.sort_by(f64::total_cmp);
            let middle = all.get(all.len() / 2)?;
            Some(format!("{:.1},{:.1}", x(at), y(*middle)))
        })
        .collect();
    let _ = writeln!(
        out,
        "<polyline class=\"median\" points=\"{}\"/>",
        line.join(" ")
    );
}
