//! The conclusion as a person would say it. May not: say what the report's fields do not.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use regatta_model::CellNumber;
use regatta_model::report::{Comparison, Conclusion, Finding, FindingKind, Report, Verdict};

use super::compare::Compared;

/// One or two sentences.
pub(super) fn of(
    report: &Report,
    compared: &Compared,
    allowed: &dyn Fn(CellNumber) -> bool,
) -> String {
    let counts = &report.counts;
    let cells = cells(counts.cells);
    let first = match report.conclusion {
        Conclusion::Regressed => regressed(report),
        Conclusion::Failed => format!("{} of {cells} failed", counts.failed),
        Conclusion::Unresolved => unresolved(report, compared),
        Conclusion::Cancelled => {
            let reached = counts.cells.saturating_sub(counts.unresolved);
            format!("Cancelled: {reached} of {cells} have a verdict")
        }
        Conclusion::Passed if report.compare.is_some() && counts.failed > 0 => {
            let count = |wanted: Comparison| {
                compared
                    .cells
                    .values()
                    .filter(|c| c.result == wanted)
                    .count()
            };
            match count(Comparison::Fixed) {
                _ if count(Comparison::Regressed) > 0 => {
                    let broke = count(Comparison::Regressed);
                    format!("Only what may fail broke: {broke} of {cells}")
                }
                0 if counts.cells == 1 => {
                    "Nothing broke: the only cell fails as its baseline does".into()
                }
                0 => format!(
                    "Nothing broke: {cells} do as their baseline, of which {} fail",
                    counts.failed
                ),
                fixed => {
                    format!("Nothing broke, and {fixed} of {cells} are better than their baseline")
                }
            }
        }
        Conclusion::Passed if counts.failed > 0 => {
            format!(
                "{} of {cells} passed; {} failed and are allowed to",
                counts.passed, counts.failed
            )
        }
        Conclusion::Passed if counts.flaky > 0 && counts.cells == 1 => {
            "The only cell does not fail for good".into()
        }
        Conclusion::Passed if counts.flaky > 0 => format!("None of {cells} fails for good"),
        Conclusion::Passed if counts.cells == 1 => "The only cell passed".into(),
        Conclusion::Passed => format!("All {cells} passed"),
    };
    let mut sentence = format!("{}{}", so_far(report), first);
    sentence.push_str(&beside(report, allowed));
    sentence.push('.');
    sentence
}

fn so_far(report: &Report) -> &'static str {
    if matches!(report.state.as_str(), "queued" | "running") {
        "So far: "
    } else {
        ""
    }
}

/// What broke, in the order of the versions that did it.
fn regressed(report: &Report) -> String {
    let regressions: Vec<&Finding> = report
        .findings
        .iter()
        .filter(|finding| finding.kind == FindingKind::Regression)
        .collect();
    let Some(first) = regressions.first() else {
        return format!(
            "{} of {} regressed",
            report.counts.failed,
            cells(report.counts.cells)
        );
    };
    let mut sentence = first.text.clone();
    if let [_, second] = regressions.as_slice() {
        sentence.push_str(". ");
        sentence.push_str(&second.text);
    } else if regressions.len() > 2 {
        let further = regressions.len() - 1;
        let _ = write!(sentence, ". There are {further} further regressions");
    }
    sentence
}

fn unresolved(report: &Report, compared: &Compared) -> String {
    let counts = &report.counts;
    let cells = cells(counts.cells);
    if let Some(finding) = report
        .findings
        .iter()
        .find(|f| f.kind == FindingKind::Platform)
    {
        return finding.text.clone();
    }
    if counts.unresolved > 0 {
        return format!("{} of {cells} have no verdict", counts.unresolved);
    }
    let unknown = |c: &&super::compare::CellCompared| c.result == Comparison::Unresolved;
    let count = compared.cells.values().filter(unknown).count();
    format!("{count} of {cells} could not be compared with their baseline")
}

/// What else a person should know: what is flaky, allowed to fail, or a host's doing.
fn beside(report: &Report, allowed: &dyn Fn(CellNumber) -> bool) -> String {
    let mut parts = Vec::new();
    let counts = &report.counts;
    let flaky = report
        .findings
        .iter()
        .filter(|finding| finding.kind == FindingKind::Flaky)
        .count();
    if flaky > 0 && counts.flaky > 0 {
        parts.push(format!(
            "{} {} flaky",
            counts.flaky,
            if counts.flaky == 1 {
                "cell is"
            } else {
                "cells are"
            }
        ));
    }
    let tolerated = report
        .cells
        .iter()
        .filter(|cell| cell.verdict == Verdict::Failed && allowed(cell.cell))
        .count();
    if tolerated > 0 && report.conclusion != Conclusion::Passed {
        parts.push(format!("{tolerated} failed and may"));
    }
    let short: BTreeSet<CellNumber> = report
        .findings
        .iter()
        .filter(|finding| finding.kind == FindingKind::Missing)
        .flat_map(|finding| finding.cells.iter().copied())
        .collect();
    match short.len() {
        0 => {}
        1 => parts.push("1 cell did not run all tests of its baseline".into()),
        count => parts.push(format!(
            "{count} cells did not run all tests of their baseline"
        )),
    }
    if counts.host_faults > 0 {
        let attempts = if counts.host_faults == 1 {
            "attempt was"
        } else {
            "attempts were"
        };
        parts.push(format!(
            "{} {attempts} a host's or the platform's fault",
            counts.host_faults
        ));
    }
    if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join("; "))
    }
}

fn cells(count: u64) -> String {
    if count == 1 {
        "1 cell".into()
    } else {
        format!("{count} cells")
    }
}
