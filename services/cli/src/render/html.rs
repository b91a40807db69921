//! The report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere. May not: pass
//! anything through unescaped.

mod attempts;
mod draw;
mod findings;
mod plot;
mod tables;

use std::fmt::Write as _;

use regatta_model::report::{Conclusion, FindingKind, Report};

use super::{Mark, escaped, probability};
use crate::progress::seconds;

const STYLE: &str = include_str!("html/style.css");

/// How something looks: what it says of the tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Good,
    Bad,
    Doubt,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Doubt => "doubt",
        }
    }

    /// What it is where colours are not seen.
    const fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Bad => "✗",
            Self::Doubt => "?",
        }
    }

    const fn of(conclusion: Conclusion) -> Self {
        match conclusion {
            Conclusion::Passed => Self::Good,
            Conclusion::Failed | Conclusion::Regressed => Self::Bad,
            Conclusion::Unresolved | Conclusion::Cancelled => Self::Doubt,
        }
    }
}

pub(super) fn render(report: &Report) -> String {
    let mut out = open(&format!("{}: {}", report.name, report.sentence));
    head(report, &mut out);
    out.push_str("<main>\n");
    if let Some(against) = &report.against {
        super::against::html(against, &mut out);
    }
    findings::all(report, &mut out);
    tables::cells(report, &mut out);
    if let Some(grid) = &report.grid {
        tables::cases(report, grid, &mut out);
    }
    plot::along(report, &mut out);
    super::levels::html(report, &mut out);
    super::metrics::html(report, &mut out);
    attempts::all(report, &mut out);
    out.push_str("</main>\n");
    out.push_str("</body>\n</html>\n");
    out
}

/// Everything before what the page says.
fn open(title: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        escaped(title)
    )
}

/// The conclusion, with how much it is based on.
fn head(report: &Report, out: &mut String) {
    let tone = Tone::of(report.conclusion);
    let first = report.findings.first();
    let sure = first.filter(|finding| finding.kind == FindingKind::Regression);
    let sure = sure.map_or_else(String::new, |finding| {
        format!(
            " <span class=\"faint\">({})</span>",
            probability(finding.confidence)
        )
    });
    let _ = writeln!(
        out,
        "<header>\n<h1>{}</h1>\n<p class=\"conclusion {}\" id=\"conclusion\"><span aria-hidden=\"true\">{}</span> \
         <strong>{}</strong>{sure}</p>",
        escaped(&report.name),
        tone.class(),
        tone.sign(),
        escaped(&report.sentence),
    );
    let counts = &report.counts;
    let mut facts = vec![
        counted(counts.cells, "cell"),
        format!(
            "{} ({}, {})",
            counted(counts.attempts, "attempt"),
            counted(counts.reruns, "rerun"),
            counted(counts.host_faults, "host fault")
        ),
    ];
    if counts.hosts > 0 {
        facts.push(counted(counts.hosts, "host"));
    }
    facts.push(seconds(report.seconds));
    let _ = writeln!(
        out,
        "<p>{} · run <code>{}</code>, {}</p>",
        facts.join(" · "),
        escaped(&report.run),
        escaped(&report.state)
    );
    categories(report, out);
    out.push_str("</header>\n");
}

/// How many cells, and how many findings of each kind.
fn categories(report: &Report, out: &mut String) {
    let counts = &report.counts;
    out.push_str("<ul class=\"categories\" aria-label=\"Cells\">\n");
    let cells = [
        (counts.passed, Mark::Passed),
        (counts.failed, Mark::Failed),
        (counts.flaky, Mark::Flaky),
        (counts.unresolved, Mark::Unresolved),
    ];
    for (number, mark) in cells {
        if number > 0 {
            let _ = writeln!(
                out,
                "<li class=\"{word}\"><span aria-hidden=\"true\">{}</span> <b>{number}</b> {} {word}</li>",
                mark.sign(),
                if number == 1 { "cell" } else { "cells" },
                word = mark.word(),
            );
        }
    }
    out.push_str("</ul>\n");
    if report.findings.is_empty() {
        return;
    }
    out.push_str("<ul class=\"categories\" aria-label=\"Findings\">\n");
    for (kind, number) in findings::kinds(report) {
        let _ = writeln!(
            out,
            "<li><a href=\"#{place}\"><b>{number}</b> {word}</a></li>",
            place = findings::place(kind),
            word = escaped(&findings::words(kind, number)),
        );
    }
    out.push_str("</ul>\n");
}

/// `1 cell`, `2 cells`
fn counted(number: u64, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// A number of things in memory, as a number that can be counted with.
fn many(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
