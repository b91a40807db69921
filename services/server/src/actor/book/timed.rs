//! How long cases took, told once for each shard of cells that are split alike: what later runs balance their shards by. May
//! not: keep it.

use std::sync::Arc;

use regatta_store::{DurationsRow, EndedRow};

use super::OpenRun;
use crate::limits::PLANS_MOST;

impl OpenRun {
    /// What a passing attempt says that none of its shard said before in this run (since this server took it up). The row
    /// has it no more.
    pub(in crate::actor) fn timed(&mut self, row: &mut EndedRow) -> Option<DurationsRow> {
        let durations = std::mem::take(&mut row.cases.durations);
        let cells = self.matrix.cells();
        if !row.passed || cells.shards() < 2 || durations.is_empty() {
            return None;
        }
        let (group, shard) = (cells.group(row.attempt.cell), cells.shard(row.attempt.cell));
        if self.timed.len() >= PLANS_MOST && !self.timed.contains_key(&group) {
            return None;
        }
        let told = self.timed.entry(group.clone()).or_default();
        let bit = 1_u64.checked_shl(shard)?;
        if *told & bit != 0 {
            return None;
        }
        *told |= bit;
        Some(DurationsRow {
            matrix: self.matrix.name().to_owned(),
            cells: group,
            run: row.attempt.run.clone(),
            shard,
            set: Arc::clone(row.cases.set.as_ref()?),
            durations,
        })
    }
}
