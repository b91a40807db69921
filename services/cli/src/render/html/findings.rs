//! Findings: first those that a person has to look at; flakes and fixes folded. May not: repeat the grids.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use regatta_model::report::{CellReport, Finding, FindingKind, Report};

use super::{Tone, counted, draw, many};
use crate::render::{CLUSTERS_SHOWN, axes_text, escaped, probability};

/// Findings listed.
const FINDINGS_SHOWN: usize = 200;

/// Cases listed under one finding.
const CASES_SHOWN: usize = 300;

/// Cells named under one finding.
const CELLS_SHOWN: usize = 4;

/// Hosts named under one finding.
const HOSTS_SHOWN: usize = 8;

/// Most cells of a finding whose attempts are looked at.
const CELLS_LOOKED_MOST: usize = 1000;

/// What a kind is called: as in JSON.
pub(super) fn word(kind: FindingKind) -> String {
    let name = serde_json::to_value(kind).unwrap_or_default();
    name.as_str().unwrap_or_default().replace('_', " ")
}

/// The same of several.
pub(super) fn words(kind: FindingKind, number: usize) -> String {
    let word = word(kind);
    match kind {
        _ if number == 1 => word,
        FindingKind::Regression | FindingKind::Failure => format!("{word}s"),
        FindingKind::Fix => format!("{word}es"),
        _ => word,
    }
}

/// Whether nobody has to do anything.
const fn is_folded(kind: FindingKind) -> bool {
    matches!(kind, FindingKind::Flaky | FindingKind::Fix)
}

const fn tone(kind: FindingKind) -> Tone {
    match kind {
        FindingKind::Fix => Tone::Good,
        FindingKind::Regression | FindingKind::Failure => Tone::Bad,
        _ => Tone::Doubt,
    }
}

/// Where on the page the first of a kind stands.
pub(super) fn place(kind: FindingKind) -> String {
    if is_folded(kind) {
        return "folded".to_owned();
    }
    format!("first-{}", word(kind).replace(' ', "-"))
}

/// The kinds that there are, with their numbers, in the order in which they are told.
pub(super) fn kinds(report: &Report) -> Vec<(FindingKind, usize)> {
    let mut kinds: Vec<(FindingKind, usize)> = Vec::new();
    for finding in &report.findings {
        match kinds.iter_mut().find(|(kind, _)| *kind == finding.kind) {
            Some((_, number)) => *number += 1,
            None => kinds.push((finding.kind, 1)),
        }
    }
    kinds
}

pub(super) fn all(report: &Report, out: &mut String) {
    let cells: BTreeMap<u64, &CellReport> =
        report.cells.iter().map(|cell| (cell.cell, cell)).collect();
    let shown = report.findings.iter().take(FINDINGS_SHOWN);
    let (folded, open): (Vec<&Finding>, Vec<&Finding>) =
        shown.partition(|finding| is_folded(finding.kind));
    if !open.is_empty() {
        out.push_str("<section id=\"findings\">\n<h2>What to look at</h2>\n");
        let mut kinds: BTreeSet<FindingKind> = BTreeSet::new();
        for finding in open {
            let place = if kinds.insert(finding.kind) {
                format!(" id=\"{}\"", place(finding.kind))
            } else {
                String::new()
            };
            one(report, &cells, finding, &place, out);
        }
        out.push_str("</section>\n");
    }
    if !folded.is_empty() {
        let _ = writeln!(
            out,
            "<section id=\"folded\">\n<h2>Known flakes, and what was mended</h2>\n<details><summary>{}</summary>",
            counted(many(folded.len()), "finding")
        );
        for finding in folded {
            one(report, &cells, finding, "", out);
        }
        out.push_str("</details>\n</section>\n");
    }
    let more = report.findings.len().saturating_sub(FINDINGS_SHOWN);
    if more > 0 {
        let _ = writeln!(
            out,
            "<p>... and {}: <code>regatta report {} --format json</code></p>",
            counted(many(more), "more finding"),
            escaped(&report.run)
        );
    }
}

fn one(
    report: &Report,
    cells: &BTreeMap<u64, &CellReport>,
    finding: &Finding,
    place: &str,
    out: &mut String,
) {
    let sure = match finding.kind {
        FindingKind::Regression | FindingKind::Fix => {
            format!(" · {}", probability(finding.confidence))
        }
        _ => String::new(),
    };
    let _ = writeln!(
        out,
        "<article class=\"{}\"{place}>\n<p class=\"kind\">{}{sure}</p>\n<h3>{}</h3>",
        tone(finding.kind).class(),
        escaped(&word(finding.kind)),
        escaped(&finding.text)
    );
    draw::strip(report, cells, finding, out);
    if let Some(rate) = &finding.rate {
        draw::rate(rate, out);
    }
    clusters(finding, out);
    cases(finding, out);
    if !finding.excerpt.is_empty() {
        let _ = writeln!(out, "<pre>{}</pre>", escaped(&finding.excerpt));
    }
    whereabouts(cells, finding, out);
    commands(report, cells, finding, out);
    out.push_str("</article>\n");
}

fn clusters(finding: &Finding, out: &mut String) {
    if finding.clusters.is_empty() {
        return;
    }
    out.push_str(
        "<div class=\"scroll\"><table>\n<caption>Ways of failing, probably one cause each</caption>\n\
         <thead><tr><th scope=\"col\">cases</th><th scope=\"col\">what their messages share</th>\
         <th scope=\"col\">such as</th></tr></thead>\n<tbody>\n",
    );
    for cluster in finding.clusters.iter().take(CLUSTERS_SHOWN) {
        let _ = writeln!(
            out,
            "<tr><td class=\"number\">{}</td><td class=\"detail\">{}</td><td class=\"case\">{}</td></tr>",
            cluster.count,
            escaped(&cluster.signature),
            escaped(cluster.cases.first().map_or("", String::as_str))
        );
    }
    out.push_str("</tbody>\n</table></div>\n");
    let more = finding.clusters.len().saturating_sub(CLUSTERS_SHOWN);
    if more > 0 {
        let _ = writeln!(out, "<p class=\"faint\">... and {more} more ways</p>");
    }
}

fn cases(finding: &Finding, out: &mut String) {
    if finding.cases.len() < 2 {
        return;
    }
    let _ = writeln!(
        out,
        "<details><summary>{} cases</summary>\n<ul>",
        finding.cases.len()
    );
    for case in finding.cases.iter().take(CASES_SHOWN) {
        let _ = writeln!(out, "<li class=\"case\">{}</li>", escaped(case));
    }
    let more = finding.cases.len().saturating_sub(CASES_SHOWN);
    if more > 0 {
        let _ = writeln!(out, "<li>... and {more} more</li>");
    }
    out.push_str("</ul></details>\n");
}

/// Its cells, and the hosts where they did not pass.
fn whereabouts(cells: &BTreeMap<u64, &CellReport>, finding: &Finding, out: &mut String) {
    if finding.cells.is_empty() {
        return;
    }
    let named: Vec<String> = finding
        .cells
        .iter()
        .take(CELLS_SHOWN)
        .map(|number| match cells.get(number) {
            Some(cell) if !cell.axes.is_empty() => format!("{number} ({})", axes_text(cell)),
            _ => number.to_string(),
        })
        .collect();
    let more = finding.cells.len().saturating_sub(CELLS_SHOWN);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let looked = finding.cells.iter().take(CELLS_LOOKED_MOST);
    let hosts: BTreeSet<&str> = looked
        .filter_map(|number| cells.get(number))
        .flat_map(|cell| &cell.attempts)
        .filter(|attempt| !attempt.passed)
        .map(|attempt| attempt.host.as_str())
        .collect();
    let _ = write!(
        out,
        "<p class=\"faint\">{}: {}{more}",
        if finding.cells.len() == 1 {
            "Cell"
        } else {
            "Cells"
        },
        escaped(&named.join(", "))
    );
    let failing = finding.kind != FindingKind::Fix && finding.host.is_none();
    if !hosts.is_empty() && failing {
        let named: Vec<&str> = hosts.iter().copied().take(HOSTS_SHOWN).collect();
        let more = hosts.len().saturating_sub(HOSTS_SHOWN);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let _ = write!(
            out,
            "; did not pass on {} {}{more}",
            if hosts.len() == 1 { "host" } else { "hosts" },
            escaped(&named.join(", "))
        );
    }
    out.push_str("</p>\n");
}

/// What to type to see the log, and to run exactly this again.
fn commands(
    report: &Report,
    cells: &BTreeMap<u64, &CellReport>,
    finding: &Finding,
    out: &mut String,
) {
    let Some(first) = finding.cells.first() else {
        return;
    };
    let failing = cells
        .get(first)
        .filter(|_| finding.kind != FindingKind::Fix)
        .and_then(|cell| cell.attempts.iter().find(|attempt| !attempt.passed));
    let attempt = failing.map_or_else(String::new, |attempt| {
        let shard = attempt
            .shard
            .map_or_else(String::new, |n| format!(" --shard {n}"));
        format!("{shard} --attempt {}", attempt.attempt)
    });
    let run = escaped(&report.run);
    let _ = writeln!(
        out,
        "<div class=\"commands\"><span class=\"faint\">its log</span><pre class=\"command\">regatta logs {run} {first}{attempt}</pre>\
         <span class=\"faint\">again</span><pre class=\"command\">regatta repro {run} {first}</pre></div>"
    );
}
