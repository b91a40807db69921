//! Small pictures of one finding: the strip along an ordered axis, and the interval of a rate. May not: say anything that
//! is not also in words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use regatta_model::report::{CellReport, Finding, FindingKind, Rate, Report, Verdict};

use super::many;
use crate::render::escaped;

/// How a stretch of values stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stretch {
    Good,
    /// Nothing of it could be tested.
    Untold,
    Bad,
    /// Behind the first bad one, and not bad.
    Other,
}

impl Stretch {
    const fn class(self) -> &'static str {
        match self {
            Self::Good | Self::Other => "passed",
            Self::Untold => "unresolved",
            Self::Bad => "failed",
        }
    }

    const fn sign(self) -> &'static str {
        match self {
            Self::Good | Self::Other => "✓",
            Self::Untold => "?",
            Self::Bad => "✗",
        }
    }
}

/// The values of an ordered axis, in stretches, with the interval in which the change lies.
pub(super) fn strip(
    report: &Report,
    cells: &BTreeMap<u64, &CellReport>,
    finding: &Finding,
    out: &mut String,
) {
    let (Some(axis), Some(good), Some(bad)) =
        (&finding.axis, &finding.last_good, &finding.first_bad)
    else {
        return;
    };
    let Some(axis) = report
        .axes
        .iter()
        .find(|other| other.name == *axis && other.ordered)
    else {
        return;
    };
    let place = |value: &str| axis.values.iter().position(|other| other == value);
    let (Some(good_at), Some(bad_at)) = (place(good), place(bad)) else {
        return;
    };
    if finding.kind != FindingKind::Regression || good_at == bad_at {
        return;
    }
    let shows: BTreeSet<&str> = finding
        .cells
        .iter()
        .filter_map(|cell| cells.get(cell)?.axes.get(&axis.name))
        .map(String::as_str)
        .collect();
    let told: BTreeSet<&str> = cells
        .values()
        .filter(|cell| is_told(cell))
        .filter_map(|cell| cell.axes.get(&axis.name))
        .map(String::as_str)
        .collect();
    // Where the baseline is a later value, what is bad lies before what is good.
    let stretch = |at: usize, value: &str| {
        let up = good_at < bad_at;
        if shows.contains(value) || at == bad_at {
            Stretch::Bad
        } else if at == good_at || (up && at < good_at) || (!up && at > good_at) {
            Stretch::Good
        } else if (up && at < bad_at) || (!up && at > bad_at) {
            Stretch::Untold
        } else if told.contains(value) || many(cells.len()) < report.counts.cells {
            Stretch::Other
        } else {
            Stretch::Untold
        }
    };
    let mut runs: Vec<(Stretch, usize, usize)> = Vec::new();
    for (at, value) in axis.values.iter().enumerate() {
        let now = stretch(at, value);
        match runs.last_mut() {
            Some((last, _, end)) if *last == now => *end = at,
            _ => runs.push((now, at, at)),
        }
    }
    let between = format!("changed between {good} and {bad}");
    let _ = write!(
        out,
        "<div class=\"strip\" role=\"img\" aria-label=\"{}\">",
        escaped(&format!("{}: {between}", axis.name))
    );
    let edge = good_at.min(bad_at);
    for (stretch, from, to) in runs {
        let name = |at: usize| axis.values.get(at).map_or("", String::as_str);
        let values = if from == to {
            name(from).to_owned()
        } else {
            format!("{} … {}", name(from), name(to))
        };
        let _ = write!(
            out,
            "<span class=\"{}\" style=\"flex:{} 1 0\" title=\"{values}\">{} {values}</span>",
            stretch.class(),
            to - from + 1,
            stretch.sign(),
            values = escaped(&values),
        );
        if to == edge {
            let _ = write!(
                out,
                "<span class=\"change\" title=\"{}\">⇥</span>",
                escaped(&between)
            );
        }
    }
    out.push_str("</div>\n");
    let _ = writeln!(
        out,
        "<p class=\"faint\">{} {}</p>",
        escaped(&axis.name),
        escaped(&between)
    );
}

/// Whether anything of a cell was tested.
fn is_told(cell: &CellReport) -> bool {
    let before = |outcome: &str| matches!(outcome, "setup_failed" | "image_failed");
    let mut attempts = cell.attempts.iter();
    cell.verdict != Verdict::Unresolved && attempts.any(|attempt| !before(&attempt.outcome))
}

/// Pixels from 0 to 100%.
const RATE_WIDTH: f64 = 160.0;

/// A rate with its interval, from 0 to 100%.
pub(super) fn rate(rate: &Rate, out: &mut String) {
    let percent = |share: f64| format!("{:.0}%", 100.0 * share.clamp(0.0, 1.0));
    let share = f64::from(rate.failed) / f64::from(rate.runs.max(1));
    let at = |share: f64| 2.0 + RATE_WIDTH * share.clamp(0.0, 1.0);
    let words = format!(
        "{} of {} attempts failed: {}, 95% interval {} to {}",
        rate.failed,
        rate.runs,
        percent(share),
        percent(rate.low),
        percent(rate.high)
    );
    let _ = writeln!(
        out,
        "<p class=\"rate\"><span class=\"faint\">0%</span><svg role=\"img\" aria-label=\"{words}\" width=\"{width}\" height=\"14\" viewBox=\"0 0 {width} 14\">\
         <line class=\"axis\" x1=\"2\" y1=\"7\" x2=\"{end:.1}\" y2=\"7\"/>\
         <rect class=\"range\" x=\"{low:.1}\" y=\"3\" width=\"{long:.1}\" height=\"8\"/>\
         <circle class=\"point\" cx=\"{middle:.1}\" cy=\"7\" r=\"3\"/></svg>\
         <span class=\"faint\">100%</span></p>",
        width = RATE_WIDTH + 4.0,
        end = at(1.0),
        low = at(rate.low),
        long = (at(rate.high) - at(rate.low)).max(1.0),
        middle = at(share),
    );
}
