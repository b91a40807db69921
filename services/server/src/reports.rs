//! Reports out of what is recorded. May not: conclude anything; that is `verdict`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use regatta_model::matrix::Matrix;
use regatta_model::report::{CellReport, GapSearch, Report};
use regatta_model::run::RunSummary;
use regatta_model::{CellNumber, Digest, RunId};
use regatta_store::{CaseSet, EarlierRow, EndedRow, Error, PAGE_MOST, Store};
use regatta_verdict::earlier::Earlier;
use regatta_verdict::report::{AttemptRow, Builder, CaseNames};

use crate::metrics::{KindLabel, kind_name};

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Rows as verdicts read them; names of cases stay shared.
#[derive(Default)]
pub(crate) struct Rows {
    sets: BTreeMap<Digest, Arc<CaseNames>>,
}

impl Rows {
    pub(crate) fn names(&mut self, set: &CaseSet) -> Arc<CaseNames> {
        let shared = self.sets.entry(set.digest).or_insert_with(|| {
            Arc::new(CaseNames {
                digest: Some(set.digest),
                names: set.names.clone(),
            })
        });
        Arc::clone(shared)
    }

    fn row(&mut self, row: EndedRow) -> AttemptRow {
        AttemptRow {
            cell: row.attempt.cell,
            ordinal: row.attempt.ordinal,
            sequence: row.sequence,
            host: row.host,
            outcome: row.outcome,
            blame: row.blame,
            passed: row.passed,
            detail: row.detail,
            wall_ms: row.wall_ms,
            cpu_us: row.cpu_us,
            peak_memory_bytes: row.peak_memory_bytes,
            metrics: row.metrics,
            identity: row.identity,
            changed: row.changed,
            names: row.cases.set.as_ref().map(|set| self.names(set)),
            exceptions: row.cases.exceptions,
            problems: row.cases.problems,
        }
    }
}

/// What earlier runs say of cells that others are compared with.
async fn earlier(
    store: &dyn Store,
    run: &RunSummary,
) -> Result<BTreeMap<CellNumber, Earlier>, Error> {
    let rows = store.earlier(&run.run).await?;
    let read = |row: EarlierRow| Some((row.cell, serde_json::from_str(&row.said).ok()?));
    Ok(rows.into_iter().filter_map(read).collect())
}

/// A run's report.
pub(crate) async fn report(
    store: &dyn Store,
    matrix: &Matrix,
    run: &RunSummary,
) -> Result<Report, Error> {
    Ok(builder(store, matrix, run).await?.finish())
}

/// The same, without what searches for where its regressions began came to.
pub(crate) async fn unsearched(
    store: &dyn Store,
    matrix: &Matrix,
    run: &RunSummary,
) -> Result<Report, Error> {
    let mut builder = builder(store, matrix, run).await?;
    builder.searched(Vec::new());
    Ok(builder.finish())
}

/// What searches for where a run's regressions began came to.
pub(crate) async fn searched(store: &dyn Store, run: &RunId) -> Result<Vec<GapSearch>, Error> {
    let said = store.bisection(run).await?;
    let corrupt = |error| Error::Corrupt(format!("what a search came to: {error}"));
    said.map_or(Ok(Vec::new()), |said| {
        serde_json::from_str(&said).map_err(corrupt)
    })
}

/// The same, and what is new beside another run. None: they share no cell.
pub(crate) async fn report_against(
    store: &dyn Store,
    (matrix, run): (&Matrix, &RunSummary),
    (other_matrix, other): (&Matrix, &RunSummary),
) -> Result<Option<Report>, Error> {
    let other = builder(store, other_matrix, other).await?;
    let own = builder(store, matrix, run).await?;
    Ok(own.finish_against(other))
}

/// All that is recorded of a run, read.
async fn builder<'a>(
    store: &dyn Store,
    matrix: &'a Matrix,
    run: &'a RunSummary,
) -> Result<Builder<'a>, Error> {
    let mut builder = Builder::new(matrix, run, now_ms());
    builder.knows(earlier(store, run).await?);
    if matrix.bisect().is_some() {
        builder.searched(searched(store, &run.run).await?);
    }
    let mut rows = Rows::default();
    let mut after: Option<(CellNumber, u32)> = None;
    loop {
        let page = store.attempts(&run.run, after, PAGE_MOST).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.attempt.cell, last.attempt.ordinal));
        for row in page {
            builder.add(rows.row(row));
        }
    }
    Ok(builder)
}

/// Cells before a cell that are read to compare it: those that could not be set up are passed over.
const BASELINES_READ: usize = 4;

/// Some cells of a run's report, in the order of their numbers: those of first shards.
pub(crate) async fn cells(
    store: &dyn Store,
    matrix: &Matrix,
    run: &RunSummary,
    wanted: &[CellNumber],
) -> Result<Vec<CellReport>, Error> {
    let before = |cell: &CellNumber| matrix.cells().baseline(*cell);
    let baselines = wanted
        .iter()
        .flat_map(|cell| std::iter::successors(before(cell), before).take(BASELINES_READ));
    let needed: BTreeSet<CellNumber> = wanted.iter().copied().chain(baselines).collect();
    let shards = CellNumber::from(matrix.shards());
    let needed: Vec<CellNumber> = needed
        .into_iter()
        .flat_map(|first| first..first.saturating_add(shards))
        .collect();
    let mut builder = Builder::of_cells(matrix, run, now_ms());
    builder.knows(earlier(store, run).await?);
    let mut rows = Rows::default();
    for row in store.attempts_of(&run.run, &needed).await? {
        builder.add(rows.row(row));
    }
    Ok(builder.finish_cells(wanted))
}

/// The kinds of a finished run's findings, once each time they were found.
pub(crate) async fn findings(store: &dyn Store, run: &RunId) -> Result<Vec<KindLabel>, Error> {
    let Some(record) = store.run(run).await? else {
        return Ok(Vec::new());
    };
    let matrix = Matrix::parse(&record.matrix, &record.file)
        .map_err(|errors| Error::Corrupt(format!("a matrix that is not understood: {errors}")))?;
    let report = report(store, &matrix, &record.head.summary).await?;
    Ok(report
        .findings
        .iter()
        .map(|finding| KindLabel {
            kind: kind_name(finding.kind),
        })
        .collect())
}
