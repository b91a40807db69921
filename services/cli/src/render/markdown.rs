//! The report as Markdown (GitHub's dialect), for comments on changes. May not: exceed what such a comment holds.

use std::fmt::Write as _;

use regatta_model::report::{Finding, FindingKind, Report};

use super::grid::Grid;
use super::{CLUSTERS_SHOWN, Mark, against, axes_text, cases_text, levels, metrics, probability};

/// Most bytes of it all; GitHub cuts comments at 65,536 characters, and summaries of jobs at 1 MiB.
const BYTES_MOST: usize = 60_000;

/// Most bytes of the grid.
const GRID_BYTES_MOST: usize = 30_000;

/// Up to so many columns, the grid has words; else signs.
const COLUMNS_IN_WORDS: usize = 6;

/// Most columns of the grid.
const COLUMNS_SHOWN: usize = 50;

/// Cases listed under a finding.
const CASES_SHOWN: usize = 50;

/// Most characters of an excerpt.
const EXCERPT_SHOWN: usize = 1500;

pub(super) fn render(report: &Report) -> String {
    let mut out = format!("### {}: {}\n\n", text(&report.name), text(&report.sentence));
    grid(report, &mut out);
    let (folded, open): (Vec<&Finding>, Vec<&Finding>) = report
        .findings
        .iter()
        .partition(|finding| matches!(finding.kind, FindingKind::Flaky | FindingKind::Fix));
    let mut left = 0;
    let mut add = |finding: &Finding, out: &mut String| {
        let shown = one(report, finding);
        if out.len() + shown.len() > BYTES_MOST {
            left += 1;
        } else {
            out.push_str(&shown);
        }
    };
    for finding in open {
        add(finding, &mut out);
    }
    if !folded.is_empty() {
        let _ = writeln!(
            out,
            "\n<details><summary>Known flakes, and what was mended: {}</summary>",
            folded.len()
        );
        for finding in folded {
            add(finding, &mut out);
        }
        out.push_str("\n</details>\n");
    }
    if left > 0 {
        let _ = writeln!(
            out,
            "\n... and {left} more findings: `regatta report {} --format html`",
            report.run
        );
    }
    measured(report, &mut out);
    if let Some(against) = &report.against {
        let shown = against::markdown(against);
        if out.len() + shown.len() <= BYTES_MOST {
            out.push_str(&shown);
        }
    }
    let counts = &report.counts;
    let _ = writeln!(
        out,
        "\n{} attempts, {} reruns, {} host faults; run `{}`",
        counts.attempts, counts.reruns, counts.host_faults, report.run
    );
    out
}

/// What a version takes more or less of.
fn measured(report: &Report, out: &mut String) {
    if let Some(levels) = &report.levels {
        let (lines, rest) = levels::lines(levels);
        if !lines.is_empty() {
            let _ = write!(
                out,
                "\n| from {} | metric | change | | cells |\n| --- | --- | --- | --- | --- |\n",
                text(&levels.axis)
            );
        }
        for (cells, one) in lines {
            let line = format!(
                "| {} | {} | {} | {} | {} |\n",
                text(&one.first),
                text(&one.metric),
                one.change.name(),
                text(&one.told()),
                text(&cells)
            );
            if out.len() + line.len() <= BYTES_MOST {
                out.push_str(&line);
            }
        }
        let _ = writeln!(out, "\n{}", text(&rest));
    }
    if report.metrics.is_empty() {
        return;
    }
    let (lines, rest) = metrics::lines(report);
    out.push_str("\n| cell | metric | change | |\n| --- | --- | --- | --- |\n");
    for (cell, one) in lines {
        let (cell, metric) = (text(&cell), text(&one.metric));
        let line = format!(
            "| {cell} | {metric} | {} | {} |\n",
            one.change.name(),
            one.told()
        );
        if out.len() + line.len() <= BYTES_MOST {
            out.push_str(&line);
        }
    }
    let _ = writeln!(out, "\n{rest}");
}

/// Cells by their axes; where there is one axis only, a row each.
fn grid(report: &Report, out: &mut String) {
    let grid = Grid::of(report);
    let mut more = grid.more;
    if grid.across.is_some() {
        let words = grid.columns.len() <= COLUMNS_IN_WORDS;
        let columns = grid.columns.iter().take(COLUMNS_SHOWN);
        let heads: Vec<&&str> = grid.down.iter().chain(columns).collect();
        let mut line = String::new();
        for head in &heads {
            let _ = write!(line, " {} |", text(head));
        }
        let _ = writeln!(out, "|{line}\n|{}", " --- |".repeat(heads.len()));
        let mut seen: Vec<Mark> = Vec::new();
        for (values, cells) in &grid.rows {
            let mut line = String::new();
            for value in values {
                let _ = write!(line, " **{}** |", text(value));
            }
            for cell in cells.iter().take(COLUMNS_SHOWN) {
                let mark = cell.map(Mark::of);
                seen.extend(mark.filter(|mark| !seen.contains(mark)));
                let shown = mark.map_or("", |mark| if words { mark.word() } else { mark.sign() });
                let _ = write!(line, " {shown} |");
            }
            if out.len() + line.len() > GRID_BYTES_MOST {
                more += 1;
            } else {
                let _ = writeln!(out, "|{line}");
            }
        }
        if !words {
            let legend = Mark::ALL.iter().filter(|mark| seen.contains(mark));
            let legend: Vec<String> = legend
                .map(|mark| format!("{} {}", mark.sign(), mark.word()))
                .collect();
            let _ = writeln!(out, "\n{}", legend.join(" · "));
        }
        let columns = grid.columns.len().saturating_sub(COLUMNS_SHOWN);
        if columns > 0 {
            let _ = writeln!(out, "\n... and {columns} more columns");
        }
    } else {
        out.push_str("| cell | verdict | cases |\n| --- | --- | --- |\n");
        for cell in grid.rows.iter().flat_map(|row| row.1.iter().flatten()) {
            let line = format!(
                "| {} | {} | {} |",
                text(&axes_text(cell)),
                Mark::of(cell).word(),
                cases_text(cell)
            );
            if out.len() + line.len() > GRID_BYTES_MOST {
                more += 1;
            } else {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    if more > 0 {
        let _ = writeln!(out, "\n... and {more} more rows");
    }
}

fn one(report: &Report, finding: &Finding) -> String {
    let mut out = format!("\n- {}{}\n", text(&finding.text), sure(finding));
    for cluster in finding.clusters.iter().take(CLUSTERS_SHOWN) {
        let _ = writeln!(out, "  - {} × {}", cluster.count, text(&cluster.signature));
    }
    if finding.cases.len() > 1 {
        let _ = writeln!(
            out,
            "\n  <details><summary>{} cases</summary>\n",
            finding.cases.len()
        );
        for case in finding.cases.iter().take(CASES_SHOWN) {
            let _ = writeln!(out, "  - {}", text(case));
        }
        let more = finding.cases.len().saturating_sub(CASES_SHOWN);
        if more > 0 {
            let _ = writeln!(out, "  - ... and {more} more");
        }
        out.push_str("\n  </details>\n");
    }
    let broke = matches!(
        finding.kind,
        FindingKind::Regression | FindingKind::Failure | FindingKind::Platform
    );
    if broke && !finding.excerpt.is_empty() {
        out.push_str("\n  <details><summary>what it says</summary>\n\n");
        let shown: String = finding.excerpt.chars().take(EXCERPT_SHOWN).collect();
        // Indented as code: no text can end that, as a fence of backquotes could be.
        for line in shown.lines() {
            let line: String = line.chars().filter(|c| !c.is_control()).collect();
            let _ = writeln!(out, "      {line}");
        }
        out.push_str("\n  </details>\n");
    }
    if let Some(first) = finding.cells.first().filter(|_| broke) {
        let run = &report.run;
        let _ = writeln!(
            out,
            "\n  `regatta logs {run} {first}` · `regatta repro {run} {first}`"
        );
    }
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
pub(super) fn text(raw: &str) -> String {
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
    fn it_fits_a_comment_however_much_was_found() {
        let mut report = sample();
        report.findings = vec![report.findings[0].clone(); 200];
        for finding in &mut report.findings {
            finding.excerpt = "x".repeat(1000);
        }
        let text = render(&report);
        assert!(text.len() < 65_536, "{}", text.len());
        assert!(text.contains("more findings: `regatta report r1"), "{text}");
    }

    #[test]
    fn what_a_log_says_ends_no_block() {
        let mut report = sample();
        report.findings[0].excerpt = "```\n</details> @team".into();
        let text = render(&report);
        assert!(
            text.contains("\n      ```\n      </details> @team\n"),
            "{text}"
        );
    }

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
