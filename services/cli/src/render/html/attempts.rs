//! Every attempt: where it ran, how it ended, why there was one. May not: list more than a page holds.

use std::fmt::Write as _;

use regatta_model::report::{AttemptReport, CellReport, Report, Verdict};

use super::{counted, many};
use crate::progress::seconds;
use crate::render::{attempt_text, axes_text, escaped};

/// Attempts listed; those of cells that did not simply pass first.
const ATTEMPTS_SHOWN: usize = 500;

/// Most characters of what is told of one.
const DETAIL_MOST: usize = 300;

pub(super) fn all(report: &Report, out: &mut String) {
    let listed: usize = report.cells.iter().map(|cell| cell.attempts.len()).sum();
    if listed == 0 {
        return;
    }
    let (odd, plain): (Vec<&CellReport>, Vec<&CellReport>) =
        report.cells.iter().partition(|cell| is_odd(cell));
    let attempts = odd.into_iter().chain(plain);
    let attempts = attempts.flat_map(|cell| {
        let of = cell.attempts.iter().enumerate();
        of.map(move |(at, attempt)| (cell, at, attempt))
    });
    let _ = writeln!(
        out,
        "<section id=\"attempts\">\n<h2>Attempts</h2>\n<details><summary>{}, with host, end and reason</summary>\n\
         <div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">cell</th><th scope=\"col\">attempt</th>\
         <th scope=\"col\">host</th><th scope=\"col\">outcome</th><th scope=\"col\">time</th><th scope=\"col\">memory</th>\
         <th scope=\"col\">why it ran</th><th scope=\"col\">what is told of it</th></tr></thead>\n<tbody>",
        counted(many(listed.min(ATTEMPTS_SHOWN)), "attempt")
    );
    for (cell, at, attempt) in attempts.take(ATTEMPTS_SHOWN) {
        let (class, sign) = match (attempt.passed, is_fault(attempt)) {
            (true, _) => ("passed", "✓"),
            (false, true) => ("unresolved", "?"),
            (false, false) => ("failed", "✗"),
        };
        let blame = attempt.blame.as_deref().map_or_else(String::new, |blame| {
            format!(" (blamed: {})", blame.replace('_', " "))
        });
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{} {}</th><td class=\"number\">{}</td><td>{}</td><td class=\"{class}\">{sign} {}{}</td>\
             <td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}</td><td class=\"detail\">{}</td></tr>",
            cell.cell,
            escaped(&if cell.axes.is_empty() {
                String::new()
            } else {
                axes_text(cell)
            }),
            attempt.attempt,
            escaped(&attempt.host),
            escaped(&attempt_text(attempt)),
            escaped(&blame),
            seconds(attempt.seconds),
            memory(attempt.peak_memory_bytes),
            reason(report, cell, at),
            escaped(&cut(&attempt.detail)),
        );
    }
    out.push_str("</tbody>\n</table></div>\n");
    let more = listed.saturating_sub(ATTEMPTS_SHOWN);
    if more > 0 {
        let _ = writeln!(
            out,
            "<p class=\"faint\">... and {}: <code>regatta report {} --format csv</code></p>",
            counted(many(more), "more attempt"),
            escaped(&report.run)
        );
    }
    out.push_str("</details>\n</section>\n");
}

fn is_odd(cell: &CellReport) -> bool {
    cell.verdict != Verdict::Passed || cell.attempts.iter().any(|attempt| !attempt.passed)
}

/// Whether it says nothing of what was tested.
pub(super) fn is_fault(attempt: &AttemptReport) -> bool {
    matches!(attempt.blame.as_deref(), Some("host" | "platform"))
}

/// Why a cell had this attempt.
fn reason(report: &Report, cell: &CellReport, at: usize) -> &'static str {
    let asked = report.counts.repeat.max(1);
    let before = cell.attempts.get(..at).unwrap_or_default();
    let counting = before.iter().filter(|attempt| !is_fault(attempt)).count();
    if before.last().is_some_and(is_fault) {
        "the one before says nothing"
    } else if many(counting) < asked {
        "asked for"
    } else if before
        .iter()
        .any(|attempt| !attempt.passed && !is_fault(attempt))
    {
        "checks a failure"
    } else {
        "control for another cell"
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(DETAIL_MOST) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// `50 MiB`; a dash where nothing was measured.
fn memory(bytes: u64) -> String {
    match bytes {
        0 => "–".to_owned(),
        bytes => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}
