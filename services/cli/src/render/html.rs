//! The report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere. May not: pass
//! anything through unescaped.

use std::fmt::Write as _;

use regatta_model::report::{Conclusion, FindingKind, Report};

use super::grid::Grid;
use super::{CLUSTERS_SHOWN, Mark, axes_text, cases_text, escaped, probability};
use crate::progress::seconds;

const STYLE: &str = "
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --doubt: #9a6700; --line: #8884; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; --doubt: #d29922; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } .passed, .fixed { color: var(--good); } .failed, .regressed { color: var(--bad); }
.flaky, .unresolved, .cancelled { color: var(--doubt); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; }
th, td { border: 1px solid var(--line); padding: .25rem .6rem; text-align: left; }
pre { overflow-x: auto; padding: .6rem; border: 1px solid var(--line); }
";

pub(super) fn render(report: &Report) -> String {
    let class = match report.conclusion {
        Conclusion::Passed => "passed",
        Conclusion::Failed | Conclusion::Regressed => "failed",
        Conclusion::Unresolved => "unresolved",
        Conclusion::Cancelled => "cancelled",
    };
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{name}</title>\n<style>{STYLE}</style>\n<h1>{name}</h1>\n<p class=\"{class}\"><strong>{sentence}</strong></p>\n",
        name = escaped(&report.name),
        sentence = escaped(&report.sentence),
    );
    table(report, &mut out);
    let _ = writeln!(
        out,
        "<p>{} cells, {} attempts, {} reruns, {} host faults, {}; run {}</p>",
        report.counts.cells,
        report.counts.attempts,
        report.counts.reruns,
        report.counts.host_faults,
        seconds(report.seconds),
        escaped(&report.run)
    );
    if !report.findings.is_empty() {
        out.push_str("<h2>Findings</h2>\n");
    }
    for finding in &report.findings {
        let sure = match finding.kind {
            FindingKind::Regression | FindingKind::Fix => {
                format!(" <small>({})</small>", probability(finding.confidence))
            }
            _ => String::new(),
        };
        let _ = writeln!(out, "<h3>{}{sure}</h3>", escaped(&finding.text));
        if !finding.clusters.is_empty() {
            out.push_str("<table>\n");
        }
        for cluster in finding.clusters.iter().take(CLUSTERS_SHOWN) {
            let _ = writeln!(
                out,
                "<tr><th scope=\"row\">{} ×</th><td>{}</td><td>such as {}</td></tr>",
                cluster.count,
                escaped(&cluster.signature),
                escaped(cluster.cases.first().map_or("", String::as_str))
            );
        }
        if !finding.clusters.is_empty() {
            out.push_str("</table>\n");
        }
        if finding.cases.len() > 1 {
            let _ = write!(
                out,
                "<details><summary>{} cases</summary><ul>",
                finding.cases.len()
            );
            for case in &finding.cases {
                let _ = write!(out, "<li>{}</li>", escaped(case));
            }
            out.push_str("</ul></details>\n");
        }
        if !finding.excerpt.is_empty() {
            let _ = writeln!(out, "<pre>{}</pre>", escaped(&finding.excerpt));
        }
    }
    super::metrics::html(report, &mut out);
    out.push_str("</html>\n");
    out
}

fn table(report: &Report, out: &mut String) {
    let grid = Grid::of(report);
    out.push_str("<div class=\"scroll\"><table>\n<tr>");
    let last = if grid.across.is_some() {
        grid.columns.clone()
    } else {
        vec!["verdict"]
    };
    for head in grid.down.iter().chain(&last) {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escaped(head));
    }
    out.push_str("</tr>\n");
    for (values, cells) in &grid.rows {
        out.push_str("<tr>");
        for value in values {
            let _ = write!(out, "<th scope=\"row\">{}</th>", escaped(value));
        }
        for cell in cells {
            match cell {
                None => out.push_str("<td></td>"),
                Some(cell) => {
                    let mark = Mark::of(cell);
                    let _ = write!(
                        out,
                        "<td class=\"{word}\" title=\"{title}\">{word}</td>",
                        word = mark.word(),
                        title = escaped(&format!("{}: {}", axes_text(cell), cases_text(cell)))
                    );
                }
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
    if grid.more > 0 {
        let _ = writeln!(out, "<p>... and {} more rows</p>", grid.more);
    }
}
