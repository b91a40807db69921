//! The report for a person at a terminal: first the conclusion, then the grid, then what was found. May not: be
//! parsed by programs; they have JSON.

use std::fmt::Write as _;

use regatta_model::report::{Conclusion, Finding, FindingKind, Report};
use unicode_width::UnicodeWidthStr as _;

use super::grid::Grid;
use super::{
    CLUSTERS_SHOWN, Look, Mark, against, axes_text, cases_text, levels, metrics, probability,
    telling_attempt,
};
use crate::progress::seconds;

/// Cases that a finding lists before it counts the rest.
const CASES_SHOWN: usize = 8;

/// Lines of an excerpt.
const EXCERPT_LINES: usize = 12;
/// Findings shown in full.
const FINDINGS_SHOWN: usize = 20;

pub(super) fn render(report: &Report, look: Look) -> String {
    let mut out = String::new();
    let sentence = match report.conclusion {
        Conclusion::Passed => look.paint.good(&report.sentence),
        Conclusion::Failed | Conclusion::Regressed => look.paint.bad(&report.sentence),
        Conclusion::Unresolved | Conclusion::Cancelled => look.paint.doubtful(&report.sentence),
    };
    push(&mut out, &sentence);
    push(&mut out, "");
    grid(report, look, &mut out);
    push(&mut out, &look.paint.faint(&counts(report)));
    findings(report, look, &mut out);
    if !report.metrics.is_empty() {
        push(&mut out, "");
        push(&mut out, &look.paint.faint(&metrics::lines(report).1));
    }
    if let Some(levels) = &report.levels {
        push(&mut out, "");
        push(&mut out, &look.paint.faint(&levels::lines(levels).1));
    }
    if let Some(against) = &report.against {
        out.push_str(&against::text(against, look));
    }
    out
}

fn push(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}

/// `12 cells: 7 passed, 5 failed · 18 attempts (6 reruns, 0 host faults) · 42 s · run 0190...`
fn counts(report: &Report) -> String {
    let counts = &report.counts;
    let said: Vec<_> = [
        (counts.passed, "passed"),
        (counts.failed, "failed"),
        (counts.flaky, "flaky"),
        (counts.unresolved, "unresolved"),
    ]
    .iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, word)| format!("{n} {word}"))
    .collect();
    format!(
        "{}: {} · {} ({}, {}) · {} · run {}",
        count(counts.cells, "cell"),
        if said.is_empty() {
            "none settled".to_owned()
        } else {
            said.join(", ")
        },
        count(counts.attempts, "attempt"),
        count(counts.reruns, "rerun"),
        count(counts.host_faults, "host fault"),
        seconds(report.seconds),
        report.run,
    )
}

/// `1 cell`, `2 cells`
fn count(number: u64, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

fn grid(report: &Report, look: Look, out: &mut String) {
    let grid = Grid::of(report);
    if grid.rows.is_empty() {
        return;
    }
    if grid.across.is_some() && fits(&grid, look.width) {
        wide(&grid, look, out);
    } else {
        long(report, &grid, look, out);
    }
    if grid.more > 0 {
        push(
            out,
            &look
                .paint
                .faint(&format!("... and {} more rows", grid.more)),
        );
    }
    push(out, "");
}

fn column_width(grid: &Grid<'_>) -> usize {
    grid.columns
        .iter()
        .map(|value| value.width())
        .max()
        .unwrap_or(0)
        .max(1)
        + 2
}

fn head_widths(grid: &Grid<'_>) -> Vec<usize> {
    let width = |(index, name): (usize, &&str)| {
        let values = grid
            .rows
            .iter()
            .filter_map(|row| row.0.get(index))
            .map(|value| value.width());
        values.max().unwrap_or(0).max(name.width()) + 2
    };
    grid.down.iter().enumerate().map(width).collect()
}

fn fits(grid: &Grid<'_>, width: usize) -> bool {
    head_widths(grid).iter().sum::<usize>() + column_width(grid) * grid.columns.len() <= width
}

fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// Rows and columns of marks, with a legend of those that appear.
fn wide(grid: &Grid<'_>, look: Look, out: &mut String) {
    let heads = head_widths(grid);
    let column = column_width(grid);
    let mut line = String::new();
    for (name, width) in grid.down.iter().zip(&heads) {
        line.push_str(&look.paint.faint(&padded(name, *width)));
    }
    line.push_str(&look.paint.faint(grid.across.unwrap_or_default()));
    push(out, &line);
    line = " ".repeat(heads.iter().sum());
    for value in &grid.columns {
        line.push_str(&look.paint.strong(&padded(value, column)));
    }
    push(out, &line);
    let mut seen: Vec<Mark> = Vec::new();
    for (values, cells) in &grid.rows {
        let mut line = String::new();
        for (value, width) in values.iter().zip(&heads) {
            line.push_str(&look.paint.strong(&padded(value, *width)));
        }
        for cell in cells {
            let Some(cell) = cell else {
                line.push_str(&padded("·", column));
                continue;
            };
            let mark = Mark::of(cell);
            if !seen.contains(&mark) {
                seen.push(mark);
            }
            line.push_str(&mark.painted(look.paint, mark.sign()));
            line.push_str(&" ".repeat(column - 1));
        }
        push(out, &line);
    }
    let legend = Mark::ALL.iter().filter(|mark| seen.contains(mark));
    let legend: Vec<_> = legend
        .map(|mark| format!("{} {}", mark.sign(), mark.word()))
        .collect();
    push(out, &look.paint.faint(&legend.join("   ")));
}

/// One line a cell: its values, the mark, its cases.
fn long(report: &Report, grid: &Grid<'_>, look: Look, out: &mut String) {
    let names: Vec<&str> = report.axes.iter().map(|axis| axis.name.as_str()).collect();
    let cells: Vec<_> = grid
        .rows
        .iter()
        .flat_map(|row| row.1.iter().flatten())
        .collect();
    let width_of = |name: &&str| {
        let values = cells
            .iter()
            .filter_map(|cell| cell.axes.get(*name))
            .map(|value| value.width());
        values.max().unwrap_or(0).max(name.width()) + 2
    };
    let widths: Vec<usize> = names.iter().map(width_of).collect();
    if !names.is_empty() {
        let head: String = names
            .iter()
            .zip(&widths)
            .map(|(name, width)| padded(name, *width))
            .collect();
        push(out, &look.paint.faint(&head));
    }
    for cell in cells {
        let mark = Mark::of(cell);
        let mut line = String::new();
        for (name, width) in names.iter().zip(&widths) {
            let value = cell.axes.get(*name).map_or("", String::as_str);
            line.push_str(&look.paint.strong(&padded(value, *width)));
        }
        let word = format!("{} {}", mark.sign(), mark.word());
        line.push_str(&mark.painted(look.paint, &padded(&word, 14)));
        line.push_str(&cases_text(cell));
        if cell.allowed_failure {
            line.push_str(&look.paint.faint("  (allowed to fail)"));
        }
        push(out, &line);
    }
}

fn findings(report: &Report, look: Look, out: &mut String) {
    for finding in report.findings.iter().take(FINDINGS_SHOWN) {
        push(out, "");
        let word = match finding.kind {
            FindingKind::Regression => look.paint.bad("regression"),
            FindingKind::Fix => look.paint.good("fix"),
            FindingKind::Flaky => look.paint.doubtful("flaky"),
            FindingKind::Host => look.paint.doubtful("host"),
            FindingKind::Failure => look.paint.bad("failure"),
            FindingKind::Missing => look.paint.doubtful("missing"),
            FindingKind::Unresolved => look.paint.doubtful("unresolved"),
            FindingKind::Environment => look.paint.doubtful("environment"),
            FindingKind::Platform => look.paint.bad("platform"),
            FindingKind::Known => look.paint.faint("known"),
            FindingKind::Metric => look.paint.doubtful("metric"),
        };
        let sure = match finding.kind {
            FindingKind::Regression | FindingKind::Fix => {
                format!(" ({})", probability(finding.confidence))
            }
            _ => String::new(),
        };
        push(out, &format!("{word}: {}{sure}", finding.text));
        cases(finding, look, out);
        excerpt(finding, look, out);
        if let Some(first) = finding.cells.first() {
            let cell = report.cells.iter().find(|cell| cell.cell == *first);
            let of = cell.map(axes_text).unwrap_or_default();
            let shard = cell.and_then(telling_attempt).and_then(|a| a.shard);
            let shard = shard.map(|n| format!(" --shard {n}")).unwrap_or_default();
            push(
                out,
                &look.paint.faint(&format!(
                    "  log: regatta logs {} {first}{shard}    ({of})",
                    report.run
                )),
            );
        }
    }
    let more = report.findings.len().saturating_sub(FINDINGS_SHOWN);
    if more > 0 {
        push(out, "");
        push(
            out,
            &format!(
                "... and {more} more findings: regatta report {} --format json",
                report.run
            ),
        );
    }
}

fn cases(finding: &Finding, look: Look, out: &mut String) {
    if finding.cases.len() < 2 {
        return;
    }
    if finding.clusters.len() < finding.cases.len() && !finding.clusters.is_empty() {
        for cluster in finding.clusters.iter().take(CLUSTERS_SHOWN) {
            let signature: String = cluster
                .signature
                .chars()
                .filter(|c| !c.is_control())
                .collect();
            push(out, &format!("  {:>5} × {signature}", cluster.count));
            let example = cluster.cases.first().map_or("", String::as_str);
            push(
                out,
                &look.paint.faint(&format!("          such as {example}")),
            );
        }
        let more = finding.clusters.len().saturating_sub(CLUSTERS_SHOWN);
        if more > 0 {
            push(
                out,
                &look.paint.faint(&format!("  ... and {more} more ways")),
            );
        }
        return;
    }
    for case in finding.cases.iter().take(CASES_SHOWN) {
        push(out, &format!("  - {case}"));
    }
    let more = finding.cases.len().saturating_sub(CASES_SHOWN);
    if more > 0 {
        push(out, &look.paint.faint(&format!("  ... and {more} more")));
    }
}

fn excerpt(finding: &Finding, look: Look, out: &mut String) {
    let lines: Vec<&str> = finding.excerpt.lines().collect();
    for line in lines.iter().take(EXCERPT_LINES) {
        // A test's output may hold escape sequences; they would paint the terminal of whoever reads this.
        let line: String = line
            .chars()
            .filter(|c| !c.is_control() || *c == '\t')
            .collect();
        let mut shown = String::new();
        let _ = write!(shown, "  | {line}");
        push(out, &look.paint.faint(&shown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::tests::sample;

    #[test]
    fn the_conclusion_comes_first_then_the_grid_then_the_findings() {
        let text = render(&sample(), Look::plain());
        let expected = "\
lib 2.0 broke test_a[<x>].

python  lib
        1.0  2.0
3.9     ✓    R
3.10    ✓    ✓
✓ passed   R regressed

4 cells: 3 passed, 1 failed · 5 attempts (1 rerun, 0 host faults) · 12 s · run r1

regression: lib 2.0 broke test_a[<x>]; 1.0 was good. (probability 99.0%)
  | AssertionError: 1 != 2
  log: regatta logs r1 1    (lib=2.0 python=3.9)
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_narrow_terminal_gets_one_line_a_cell() {
        let text = render(
            &sample(),
            Look {
                width: 10,
                ..Look::plain()
            },
        );
        assert!(
            text.contains("3.9     2.0  R regressed   1 failed, 3 passed, 1 skipped\n"),
            "{text}"
        );
    }

    #[test]
    fn escape_sequences_of_a_test_do_not_reach_the_terminal() {
        let mut report = sample();
        report.findings[0].excerpt = "a\u{1b}[31mred".into();
        assert!(!render(&report, Look::plain()).contains('\u{1b}'));
    }
}
