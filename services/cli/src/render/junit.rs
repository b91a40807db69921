//! The report as JUnit XML, for programs that show test results: a suite, a case for each cell. May not: use
//! elements outside the dialect that Jenkins, GitLab and GitHub's actions read.

use std::fmt::Write as _;

use regatta_model::report::{CellReport, Report, Verdict};

use super::{axes_text, cases_text, escaped, telling_attempt};

pub(super) fn render(report: &Report) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let counts = &report.counts;
    let head = format!(
        "name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{:.3}\"",
        escaped(&report.name),
        report.cells.len(),
        counts.failed,
        counts.unresolved,
        report.seconds
    );
    let _ = write!(out, "<testsuites {head}>\n  <testsuite {head}>\n");
    for cell in &report.cells {
        case(report, cell, &mut out);
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn case(report: &Report, cell: &CellReport, out: &mut String) {
    // A sum of nothing is -0.
    let seconds = 0.0
        + cell
            .attempts
            .iter()
            .map(|attempt| attempt.seconds)
            .sum::<f64>();
    let _ = write!(
        out,
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{seconds:.3}\"",
        escaped(&report.name),
        escaped(&axes_text(cell)),
    );
    let body = match cell.verdict {
        Verdict::Passed => None,
        Verdict::Flaky => Some(format!(
            "<system-out>flaky: {}</system-out>",
            escaped(&cell.flaky.join(", "))
        )),
        Verdict::Failed if cell.allowed_failure => Some(format!(
            "<skipped message=\"allowed to fail: {}\"/>",
            escaped(&cases_text(cell))
        )),
        Verdict::Failed => Some(format!(
            "<failure message=\"{}\">{}</failure>",
            escaped(&cases_text(cell)),
            escaped(&cell.failing.join("\n"))
        )),
        Verdict::Unresolved => {
            let detail =
                telling_attempt(cell).map_or("no attempt ended", |attempt| attempt.detail.as_str());
            Some(format!(
                "<error message=\"unresolved\">{}</error>",
                escaped(detail)
            ))
        }
    };
    match body {
        None => out.push_str("/>\n"),
        Some(body) => {
            let _ = writeln!(out, ">\n      {body}\n    </testcase>");
        }
    }
}
