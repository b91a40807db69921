//! The report as CSV (RFC 4180): a line for each attempt. May not: let a value be a formula in a spreadsheet.

use regatta_model::report::{CellReport, Report};

use super::Mark;

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    let mut heads: Vec<String> = vec!["cell".into()];
    heads.extend(report.axes.iter().map(|axis| axis.name.clone()));
    heads.extend(
        [
            "verdict",
            "passed",
            "failed",
            "skipped",
            "failing",
            "attempt",
            "host",
            "outcome",
            "exit_code",
            "signal",
            "blame",
            "seconds",
            "cpu_seconds",
            "peak_memory_bytes",
            "metrics",
        ]
        .map(str::to_owned),
    );
    let is_split = |cell: &CellReport| cell.attempts.iter().any(|a| a.shard.is_some());
    let split = report.cells.iter().any(is_split);
    heads.extend(split.then(|| "shard".to_owned()));
    line(&mut out, &heads);
    for cell in &report.cells {
        let mut fixed: Vec<String> = vec![cell.cell.to_string()];
        fixed.extend(
            report
                .axes
                .iter()
                .map(|axis| cell.axes.get(&axis.name).cloned().unwrap_or_default()),
        );
        fixed.push(Mark::of(cell).word().to_owned());
        fixed.extend(
            [cell.cases.passed, cell.cases.failed, cell.cases.skipped].map(|n| n.to_string()),
        );
        fixed.push(cell.failing.join(" "));
        for attempt in &cell.attempts {
            let mut fields = fixed.clone();
            fields.push(attempt.attempt.to_string());
            fields.push(attempt.host.clone());
            fields.push(attempt.outcome.clone());
            fields.push(
                attempt
                    .exit_code
                    .map(|code| code.to_string())
                    .unwrap_or_default(),
            );
            fields.push(
                attempt
                    .signal
                    .map(|signal| signal.to_string())
                    .unwrap_or_default(),
            );
            fields.push(attempt.blame.clone().unwrap_or_default());
            fields.push(format!("{:.3}", attempt.seconds));
            fields.push(format!("{:.3}", attempt.cpu_seconds));
            fields.push(attempt.peak_memory_bytes.to_string());
            let metrics = attempt.metrics.iter();
            let metrics = metrics.map(|(name, metric)| format!("{name}={}", metric.value));
            fields.push(metrics.collect::<Vec<_>>().join(" "));
            let shard = || attempt.shard.map(|n| n.to_string()).unwrap_or_default();
            fields.extend(split.then(shard));
            line(&mut out, &fields);
        }
    }
    out
}

fn line(out: &mut String, fields: &[String]) {
    let fields: Vec<_> = fields.iter().map(|field| quoted(field)).collect();
    out.push_str(&fields.join(","));
    out.push_str("\r\n");
}

/// Quotes where RFC 4180 asks for it; what a spreadsheet would take for a formula gets a `'` before it (OWASP, "CSV injection").
fn quoted(field: &str) -> String {
    let field = if field.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{field}")
    } else {
        field.to_owned()
    };
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_and_no_formulas() {
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("=1+1"), "'=1+1");
        assert_eq!(quoted("3.10"), "3.10");
    }
}
