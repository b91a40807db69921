//! The report as Markdown (GitHub's dialect), for comments on changes. May not: exceed what such a comment holds.

use std::fmt::Write as _;

use regatta_model::report::{Finding, FindingKind, Report};

use super::grid::Grid;
use super::{CLUSTERS_SHOWN, Mark, axes_text, cases_text, metrics, probability};

/// Cases listed under a finding; GitHub cuts comments at 65,536 characters.
const CASES_SHOWN: usize = 50;
/// Findings listed.
const FINDINGS_SHOWN: usize = 50;

pub(super) fn render(report: &Report) -> String {
    let mut out = format!("### {}: {}\n\n", text(&report.name), text(&report.sentence));
    let grid = Grid::of(report);
    if grid.across.is_some() {
        let heads = grid
            .down
            .iter()
            .chain(&grid.columns)
            .map(|head| format!(" {} |", text(head)));
        let _ = writeln!(out, "|{}", heads.collect::<String>());
        let _ = writeln!(
            out,
            "|{}",
            " --- |".repeat(grid.down.len() + grid.columns.len())
        );
        for (values, cells) in &grid.rows {
            let mut line = String::new();
            for value in values {
                let _ = write!(line, " **{}** |", text(value));
            }
            for cell in cells {
                let _ = write!(line, " {} |", cell.map_or("", |cell| Mark::of(cell).word()));
            }
            let _ = writeln!(out, "|{line}");
        }
    } else {
        out.push_str("| cell | verdict | cases |\n| --- | --- | --- |\n");
        for cell in grid.rows.iter().flat_map(|row| row.1.iter().flatten()) {
            let _ = writeln!(
                out,
                "| {} | {} | {} |",
                text(&axes_text(cell)),
                Mark::of(cell).word(),
                cases_text(cell)
            );
        }
    }
    if grid.more > 0 {
        let _ = writeln!(out, "\n... and {} more rows", grid.more);
    }
    for finding in report.findings.iter().take(FINDINGS_SHOWN) {
        let _ = writeln!(out, "\n- {}{}", text(&finding.text), sure(finding));
        for cluster in finding.clusters.iter().take(CLUSTERS_SHOWN) {
            let _ = writeln!(out, "  - {} × {}", cluster.count, text(&cluster.signature));
        }
        if finding.cases.len() > 1 {
            let _ = writeln!(
                out,
                "  <details><summary>{} cases</summary>\n",
                finding.cases.len()
            );
            for case in finding.cases.iter().take(CASES_SHOWN) {
                let _ = writeln!(out, "  - {}", text(case));
            }
            out.push_str("  </details>\n");
        }
    }
    if !report.metrics.is_empty() {
        let (lines, rest) = metrics::lines(report);
        out.push_str("\n| cell | metric | change | |\n| --- | --- | --- | --- |\n");
        for (cell, one) in lines {
            let (cell, metric) = (text(&cell), text(&one.metric));
            let _ = writeln!(
                out,
                "| {cell} | {metric} | {} | {} |",
                one.change.name(),
                one.told()
            );
        }
        let _ = writeln!(out, "\n{rest}");
    }
    let _ = writeln!(
        out,
        "\n{} attempts, {} reruns, {} host faults; run `{}`",
        report.counts.attempts, report.counts.reruns, report.counts.host_faults, report.run
    );
    out
}

/// How probable it is, where that was concluded.
fn sure(finding: &Finding) -> String {
    match finding.kind {
        FindingKind::Regression | FindingKind::Fix => {
            format!(" ({})", probability(finding.confidence))
        }
        _ => String::new(),
    }
}

/// Text that Markdown leaves as it is: a name with `_`, `[` or `|` in it makes no emphasis, link or column.
fn text(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for c in raw.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '@' => {
                // Backslashes are for ASCII punctuation (CommonMark 2.4); @ would call people.
                if c == '@' {
                    out.push_str("@\u{200b}");
                } else {
                    out.push('\\');
                    out.push(c);
                }
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::tests::sample;

    #[test]
    fn names_make_no_markup() {
        assert_eq!(text("a_b[<x>]|@c"), "a\\_b\\[&lt;x&gt;\\]\\|@\u{200b}c");
        let report = render(&sample());
        assert!(
            report.contains(
                "| python | 1.0 | 2.0 |\n| --- | --- | --- |\n| **3.9** | passed | regressed |"
            ),
            "{report}"
        );
    }
}
