//! Earlier runs of the same matrix, asked when something failed: how often did the baseline fail it before? May not: ask for
//! a cell twice.

use std::sync::Arc;
use std::time::Duration;

use regatta_model::matrix::Matrix;
use regatta_model::{CellNumber, RunId};
use regatta_store::{EarlierRow, EndedRow, Error};
use regatta_verdict::earlier::Earlier;
use regatta_verdict::judge::is_decisive;

use super::Actor;
use super::book::Former;
use super::facts::facts_of;

/// Most earlier runs that are asked; the newest ones.
const RUNS_MOST: u32 = 20;

/// How long the server waits for what earlier runs say; after that the run does without.
const PATIENCE: Duration = Duration::from_millis(500);

impl Actor {
    /// Asks earlier runs of the cell that an attempt's cell is compared with, if the attempt failed and nobody asked yet.
    pub(super) async fn ask_earlier(&mut self, row: &EndedRow) {
        let id = &row.attempt.run;
        let Some(run) = self.runs.get(id) else { return };
        let passed = row.passed || !is_decisive(row.outcome, row.blame);
        let Some(baseline) = run.book.wants_earlier(row.attempt.cell, passed) else {
            return;
        };
        let said = tokio::time::timeout(PATIENCE, self.earlier_of(id, baseline)).await;
        let said = said.map_err(|_| format!("it takes longer than {PATIENCE:?}"));
        let said = said.and_then(|said| said.map_err(|error| error.to_string()));
        let earlier = said.unwrap_or_else(|error| {
            // It takes more reruns without them, and no verdict is wrong for it.
            tracing::error!("run {id} does without earlier ones: {error}");
            if let Some(run) = self.runs.get_mut(id) {
                run.former = Some(Arc::from([]));
            }
            Earlier::default()
        });
        if earlier != Earlier::default() {
            self.turn.batch.earlier.push(EarlierRow {
                run: id.clone(),
                cell: baseline,
                said: serde_json::to_string(&earlier).unwrap_or_default(),
            });
        }
        if let Some(run) = self.runs.get_mut(id) {
            run.book.set_earlier(baseline, earlier);
        }
    }

    async fn earlier_of(&mut self, id: &RunId, cell: CellNumber) -> Result<Earlier, Error> {
        let mut earlier = Earlier::default();
        let former = self.former(id).await?;
        let Some(run) = self.runs.get(id) else {
            return Ok(earlier);
        };
        let cells = run.matrix.cells();
        let (shard, shards) = (cells.shard(cell), cells.shards());
        let plan = run.pins.shards.get(&cells.group(cell)).copied();
        let values = cells.values(cell).unwrap_or_default();
        let values = values
            .into_iter()
            .map(|(axis, value)| (axis.to_owned(), value.to_owned()))
            .collect();
        for former in former.iter() {
            // Where the tests were split otherwise, none of its shards is this one.
            let cells = former.matrix.cells();
            let alike = |first: &u64| {
                let planned = former.pins.shards.get(&cells.group(*first)).copied();
                cells.shards() == shards && (shards == 1 || planned == plan)
            };
            let Some(first) = cells.number(&values).filter(alike) else {
                continue;
            };
            let cell = first + CellNumber::from(shard);
            let rows = self.shared.store.attempts_of(&former.run, &[cell]).await?;
            for row in &rows {
                earlier.add(&facts_of(row));
            }
        }
        Ok(earlier)
    }

    /// Earlier runs of the same matrix, read once.
    async fn former(&mut self, id: &RunId) -> Result<Arc<[Former]>, Error> {
        let Some(run) = self.runs.get(id) else {
            return Ok(Arc::from([]));
        };
        if let Some(former) = run.former.clone() {
            return Ok(former);
        }
        let name = run.matrix.name().to_owned();
        let records = self
            .shared
            .store
            .finished_before(&name, id, RUNS_MOST)
            .await?;
        // A matrix that an older program wrote and this one does not understand says nothing.
        let read = |record: regatta_store::RunRecord| {
            Some(Former {
                matrix: Matrix::parse(&record.matrix, &record.file).ok()?,
                run: record.head.summary.run,
                pins: record.pins,
            })
        };
        let former: Arc<[Former]> = records.into_iter().filter_map(read).collect();
        if let Some(run) = self.runs.get_mut(id) {
            run.former = Some(Arc::clone(&former));
        }
        Ok(former)
    }
}
