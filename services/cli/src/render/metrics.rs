//! Metrics of cells against those of their baselines: a line each of what changed, and how many did not. May not: conclude
//! anything.

use std::fmt::Write as _;

use regatta_model::metric::{MetricChange, MetricComparison};
use regatta_model::report::Report;

use super::{axes_text, escaped};

/// Changes that are listed.
const LISTED_MOST: usize = 50;

/// What changed, each with the cell that it is of; and in a sentence what did not.
pub(super) fn lines(report: &Report) -> (Vec<(String, &MetricComparison)>, String) {
    let of = |one: &MetricComparison| {
        let mut cells = report.cells.iter();
        let cell = cells.find(|cell| cell.cell == one.cell);
        cell.map_or_else(|| format!("cell {}", one.cell), axes_text)
    };
    let changes = report.metrics.iter().filter(|one| one.change.is_change());
    let lines = changes.take(LISTED_MOST).map(|one| (of(one), one));
    let count = |change| {
        let same = report.metrics.iter().filter(|one| one.change == change);
        same.count()
    };
    let rest = format!(
        "{} metrics compared: {} unchanged, {} unclear",
        report.metrics.len(),
        count(MetricChange::Unchanged),
        count(MetricChange::Unclear)
    );
    (lines.collect(), rest)
}

/// A table for HTML; nothing where nothing was compared.
pub(super) fn html(report: &Report, out: &mut String) {
    if report.metrics.is_empty() {
        return;
    }
    let (lines, rest) = lines(report);
    out.push_str("<h2>Metrics</h2>\n<div class=\"scroll\"><table>\n");
    for (cell, one) in lines {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&cell),
            escaped(&one.metric),
            one.change.name(),
            escaped(&one.told())
        );
    }
    let _ = writeln!(out, "</table></div>\n<p>{rest}</p>");
}
