//! The report of a run, from what is recorded. May not: conclude anything itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use regatta_model::case::{CaseException, CaseStatus};
use regatta_model::report::Comparison;
use regatta_model::run::{Progress, RunState, RunSummary};
use regatta_model::{CellNumber, RunId};
use regatta_verdict::report::{AttemptRow, CaseNames, ReportInput, build};

use crate::runs::CASES;
use crate::store::{Db, EndRow};

fn row(cell: CellNumber, ordinal: u32, end: &EndRow) -> AttemptRow {
    let failed = (0..)
        .zip(CASES)
        .filter(|(_, case)| end.failing.iter().any(|name| name == case));
    let exceptions = failed.map(|(index, _)| CaseException {
        index,
        status: CaseStatus::Failed,
        message: String::new(),
    });
    let told = end.passed() || !end.failing.is_empty();
    AttemptRow {
        cell,
        ordinal,
        sequence: 0,
        host: end.host.clone(),
        outcome: end.outcome,
        blame: end.blame,
        passed: end.passed(),
        detail: String::new(),
        wall_ms: 0,
        cpu_us: 0,
        peak_memory_bytes: 0,
        metrics: BTreeMap::new(),
        identity: None,
        changed: Vec::new(),
        names: told.then(|| {
            Arc::new(CaseNames {
                digest: None,
                names: CASES.map(str::to_owned).to_vec(),
            })
        }),
        exceptions: exceptions.collect(),
        problems: Vec::new(),
    }
}

/// Whether a run's report says that a cell regressed.
pub fn is_regressed(db: &Db, id: &RunId, cell: CellNumber) -> bool {
    let Some(run) = db.runs.get(id).filter(|run| run.compares()) else {
        return false;
    };
    let ends = db.ends.get(id).into_iter().flatten();
    let attempts: Vec<AttemptRow> = ends
        .map(|((cell, ordinal), end)| row(*cell, *ordinal, end))
        .collect();
    let summary = RunSummary {
        run: id.clone(),
        name: "r".into(),
        state: RunState::Finished,
        submitted_ms: 0,
        ended_ms: Some(0),
        deep: false,
        bisecting: false,
        progress: Progress::default(),
    };
    let report = build(&ReportInput {
        matrix: &run.matrix,
        run: &summary,
        now_ms: 0,
        attempts: &attempts,
        earlier: &BTreeMap::new(),
    });
    let mut cells = report.cells.iter();
    let found = cells.find(|report| report.cell == cell);
    let compared = found.and_then(|report| report.comparison.as_ref());
    compared.is_some_and(|compared| compared.result == Comparison::Regressed)
}
