//! A report in the formats that people and programs read. May not: conclude anything that the report does
//! not say.

mod against;
mod csv;
mod grid;
mod html;
mod junit;
mod levels;
mod markdown;
mod metrics;
mod text;

use regatta_model::report::{AttemptReport, CellReport, Comparison, Report, Verdict};

use crate::args::Format;
use crate::color::Paint;

/// How wide and how colourful text may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) paint: Paint,
    /// Columns of the terminal.
    pub(crate) width: usize,
}

impl Look {
    /// For files and pipes.
    pub(crate) const fn plain() -> Self {
        Self {
            paint: Paint::plain(),
            width: 120,
        }
    }
}

/// The report in a format.
pub(crate) fn render(report: &Report, format: Format, look: Look) -> String {
    match format {
        Format::Text => text::render(report, look),
        Format::Json => {
            let mut json = serde_json::to_string_pretty(report).unwrap_or_default();
            json.push('\n');
            json
        }
        Format::Junit => junit::render(report),
        Format::Markdown => markdown::render(report),
        Format::Html => html::render(report),
        Format::Csv => csv::render(report),
    }
}

/// What a cell shows in a grid: one mark and one word, the comparison before the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Passed,
    Failed,
    Flaky,
    Unresolved,
    Regressed,
    Fixed,
}

impl Mark {
    const ALL: [Self; 6] = [
        Self::Passed,
        Self::Regressed,
        Self::Failed,
        Self::Fixed,
        Self::Flaky,
        Self::Unresolved,
    ];

    fn of(cell: &CellReport) -> Self {
        match (cell.comparison.as_ref().map(|c| c.result), cell.verdict) {
            (Some(Comparison::Regressed), _) => Self::Regressed,
            (Some(Comparison::Fixed), _) => Self::Fixed,
            (_, Verdict::Passed) => Self::Passed,
            (_, Verdict::Failed) => Self::Failed,
            (_, Verdict::Flaky) => Self::Flaky,
            (_, Verdict::Unresolved) => Self::Unresolved,
        }
    }

    const fn sign(self) -> &'static str {
        match self {
            Self::Passed => "✓",
            Self::Failed => "✗",
            Self::Flaky => "~",
            Self::Unresolved => "?",
            Self::Regressed => "R",
            Self::Fixed => "+",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Flaky => "flaky",
            Self::Unresolved => "unresolved",
            Self::Regressed => "regressed",
            Self::Fixed => "fixed",
        }
    }

    fn painted(self, paint: Paint, text: &str) -> String {
        match self {
            Self::Passed | Self::Fixed => paint.good(text),
            Self::Failed | Self::Regressed => paint.bad(text),
            Self::Flaky | Self::Unresolved => paint.doubtful(text),
        }
    }
}

/// `werkzeug=3.0.0 python=3.10`
fn axes_text(cell: &CellReport) -> String {
    let pairs: Vec<_> = cell
        .axes
        .iter()
        .map(|(axis, value)| format!("{axis}={value}"))
        .collect();
    if pairs.is_empty() {
        format!("cell {}", cell.cell)
    } else {
        pairs.join(" ")
    }
}

/// `462 passed, 14 skipped`, or how the test ended where it told of no cases.
fn cases_text(cell: &CellReport) -> String {
    let counts = [
        (cell.cases.failed, "failed"),
        (cell.cases.flaky, "flaky"),
        (cell.cases.passed, "passed"),
        (cell.cases.skipped, "skipped"),
    ];
    let said: Vec<_> = counts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    if said.is_empty() {
        telling_attempt(cell).map(attempt_text).unwrap_or_default()
    } else {
        said.join(", ")
    }
}

/// The attempt that says how a cell ended: the last one, or where it is split the last one that did not pass, if any.
pub(crate) fn telling_attempt(cell: &CellReport) -> Option<&AttemptReport> {
    let fails = |attempt: &&AttemptReport| attempt.shard.is_some() && !attempt.passed;
    let failed = cell.attempts.iter().rfind(fails);
    failed.or(cell.attempts.last())
}

/// `exit 1`, `signal 11`, `timed out`, ...
fn attempt_text(attempt: &AttemptReport) -> String {
    match (attempt.exit_code, attempt.signal) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => attempt.outcome.replace('_', " "),
    }
}

/// Escapes for XML and HTML, text and attributes alike; characters that XML 1.0 forbids become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c < ' ' || c == '\u{fffe}' || c == '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Most ways of failing that are shown of one finding.
pub(crate) const CLUSTERS_SHOWN: usize = 8;

/// A probability for people, never 100% where it is not.
pub(crate) fn probability(confidence: f64) -> String {
    format!("probability {:.1}%", (confidence * 1000.0).floor() / 10.0)
}

#[cfg(test)]
pub(crate) mod tests {
    //! A report with one of everything, for the tests of every format.

    use std::collections::BTreeMap;

    use regatta_model::report::{
        AttemptReport, CaseCounts, CellComparison, CellReport, Comparison, Conclusion, Counts,
        Finding, FindingKind, Report, ReportAxis, ReportCompare, Verdict,
    };

    use super::*;

    pub(crate) fn attempt(exit: i32) -> AttemptReport {
        AttemptReport {
            shard: None,
            whole: exit != 0,
            attempt: 1,
            host: "local".into(),
            outcome: "exited".into(),
            exit_code: Some(exit),
            signal: None,
            blame: (exit != 0).then(|| "test".into()),
            passed: exit == 0,
            detail: String::new(),
            seconds: 2.5,
            cpu_seconds: 2.0,
            peak_memory_bytes: 50 << 20,
            metrics: std::collections::BTreeMap::new(),
            identity: String::new(),
            changed: vec![],
        }
    }

    pub(crate) fn sample() -> Report {
        let cell =
            |number, python: &str, version: &str, verdict, comparison: Option<Comparison>| {
                CellReport {
                    cell: number,
                    axes: BTreeMap::from([
                        ("python".into(), python.into()),
                        ("lib".into(), version.into()),
                    ]),
                    verdict,
                    allowed_failure: false,
                    comparison: comparison.map(|result| CellComparison {
                        baseline: BTreeMap::from([
                            ("python".into(), python.into()),
                            ("lib".into(), "1.0".into()),
                        ]),
                        result,
                        regressed: vec![],
                        fixed: vec![],
                    }),
                    cases: CaseCounts {
                        passed: 3,
                        failed: u64::from(verdict == Verdict::Failed),
                        skipped: 1,
                        ..CaseCounts::default()
                    },
                    failing: if verdict == Verdict::Failed {
                        vec!["test_a[<x>]".into()]
                    } else {
                        vec![]
                    },
                    flaky: vec![],
                    known: vec![],
                    attempts: vec![attempt(i32::from(verdict == Verdict::Failed))],
                }
            };
        Report {
            version: 1,
            run: "r1".into(),
            name: "sample".into(),
            state: "finished".into(),
            conclusion: Conclusion::Regressed,
            sentence: "lib 2.0 broke test_a[<x>].".into(),
            counts: Counts {
                cells: 4,
                passed: 3,
                failed: 1,
                attempts: 5,
                reruns: 1,
                ..Counts::default()
            },
            seconds: 12.0,
            axes: vec![
                ReportAxis {
                    name: "python".into(),
                    values: vec!["3.9".into(), "3.10".into()],
                    ordered: false,
                },
                ReportAxis {
                    name: "lib".into(),
                    values: vec!["1.0".into(), "2.0".into()],
                    ordered: true,
                },
            ],
            compare: Some(ReportCompare {
                axis: "lib".into(),
                baseline: "1.0".into(),
            }),
            cells: vec![
                cell(0, "3.9", "1.0", Verdict::Passed, None),
                cell(
                    1,
                    "3.9",
                    "2.0",
                    Verdict::Failed,
                    Some(Comparison::Regressed),
                ),
                cell(2, "3.10", "1.0", Verdict::Passed, None),
                cell(
                    3,
                    "3.10",
                    "2.0",
                    Verdict::Passed,
                    Some(Comparison::Unchanged),
                ),
            ],
            findings: vec![regression()],
            grid: None,
            against: None,
            metrics: vec![],
            levels: None,
        }
    }

    fn regression() -> Finding {
        Finding {
            kind: FindingKind::Regression,
            case: Some("test_a[<x>]".into()),
            cases: vec!["test_a[<x>]".into()],
            axis: Some("lib".into()),
            last_good: Some("1.0".into()),
            first_bad: Some("2.0".into()),
            cells: vec![1],
            host: None,
            confidence: 0.99,
            text: "lib 2.0 broke test_a[<x>]; 1.0 was good.".into(),
            excerpt: "AssertionError: 1 != 2".into(),
            clusters: Vec::new(),
            rate: None,
            bisected: None,
        }
    }

    #[test]
    fn markup_in_names_is_escaped() {
        assert_eq!(
            escaped("<a b=\"c\">&'\u{1}"),
            "&lt;a b=&quot;c&quot;&gt;&amp;&#39;\u{fffd}"
        );
    }

    #[test]
    fn every_format_tells_the_conclusion_or_the_failing_case() {
        let report = sample();
        for format in [
            Format::Text,
            Format::Json,
            Format::Junit,
            Format::Markdown,
            Format::Html,
            Format::Csv,
        ] {
            let text = render(&report, format, Look::plain());
            assert!(
                text.replace('\\', "").contains("test_a["),
                "{format:?}: {text}"
            );
            assert!(text.ends_with('\n'), "{format:?}");
        }
    }
}
