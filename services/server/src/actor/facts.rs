//! Facts out of what is recorded. May not: judge them.

use regatta_store::EndedRow;
use regatta_verdict::judge::AttemptFacts;
use regatta_verdict::report::AttemptRow;

/// What verdicts are made from, out of what is recorded.
pub(super) fn facts_of(row: &EndedRow) -> AttemptFacts {
    use regatta_model::case::CaseStatus;
    let name = |index: u32| {
        let index = usize::try_from(index).ok()?;
        row.cases.set.as_ref()?.names.get(index).cloned()
    };
    let failing = row
        .cases
        .exceptions
        .iter()
        .filter(|e| e.status.is_failure());
    let mut failing: Vec<String> = failing.filter_map(|e| name(e.index)).collect();
    failing.sort_unstable();
    AttemptFacts {
        ordinal: row.attempt.ordinal,
        host: row.host.clone(),
        outcome: row.outcome,
        blame: row.blame,
        passed: row.passed,
        failing,
        flaky: row
            .cases
            .exceptions
            .iter()
            .any(|e| e.status == CaseStatus::Flaky),
    }
}

/// What it measured, without its cases.
pub(super) fn measured_of(row: &EndedRow) -> AttemptRow {
    AttemptRow {
        cell: row.attempt.cell,
        ordinal: row.attempt.ordinal,
        sequence: row.sequence,
        host: row.host.clone(),
        outcome: row.outcome,
        blame: row.blame,
        passed: row.passed,
        detail: String::new(),
        wall_ms: row.wall_ms,
        cpu_us: row.cpu_us,
        peak_memory_bytes: row.peak_memory_bytes,
        metrics: row.metrics.clone(),
        identity: None,
        changed: Vec::new(),
        names: None,
        exceptions: Vec::new(),
        problems: Vec::new(),
    }
}
