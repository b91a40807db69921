//! What a matrix says of numbers that tests measure. May not: compare them.

use super::Matrix;
use super::check::Checked;
use super::finding::Finding;
use super::written::Written;
use crate::CellNumber;

/// Attempts that every cell gets at least where metrics are compared.
pub const METRIC_PAIRS: u32 = 10;

/// Metrics of each cell for which there are pairs enough: three are measured of every attempt.
const METRICS_EXPECTED: u64 = 6;

/// One by the share of false ones among the changes that a report tells.
const LEVEL_INVERSE: u64 = 20;

/// Most cells of a matrix whose metrics are compared.
pub const METRIC_CELLS_MOST: u64 = 10_000;

impl Matrix {
    /// Whether metrics are compared.
    pub fn compares_metrics(&self) -> bool {
        compares(&self.0.written)
    }

    /// Whether an attempt has its host to itself.
    pub fn is_exclusive(&self) -> bool {
        let metrics = self.0.written.metrics.as_ref();
        let exclusive = metrics.and_then(|metrics| metrics.value.exclusive.as_ref());
        exclusive.is_some_and(|exclusive| exclusive.value)
    }

    /// Cells that are compared with one another, each list in the order of the comparison; empty where no metrics are compared.
    /// Every cell is in one of them.
    pub fn metric_groups(&self) -> Vec<Vec<CellNumber>> {
        if !self.compares_metrics() {
            return Vec::new();
        }
        let cells = self.cells();
        let mut group_of = std::collections::BTreeMap::new();
        let root = |cell| {
            let before = |cell: &CellNumber| cells.baseline(*cell);
            std::iter::successors(Some(cell), before).last()
        };
        for cell in 0..cells.count() {
            let root = root(cell).unwrap_or(cell);
            let group: &mut Vec<CellNumber> = group_of.entry(root).or_default();
            if cell == root {
                group.insert(0, cell);
            } else {
                group.push(cell);
            }
        }
        group_of.into_values().collect()
    }
}

/// How many pairs show a single change among the metrics of so many cells: all in the same direction, `n` pairs have a p-value
/// of 2 to the power of 2 - n over both looks at them, which the number of comparisons multiplies; and one of them may go the other
/// way.
pub(super) fn pairs(cells: u64) -> u32 {
    let comparisons = cells.saturating_mul(METRICS_EXPECTED * LEVEL_INVERSE);
    let doublings = u64::BITS - comparisons.saturating_sub(1).leading_zeros();
    METRIC_PAIRS.max(doublings + 3)
}

pub(super) fn compares(written: &Written) -> bool {
    let metrics = written.metrics.as_ref();
    let compare = metrics.and_then(|metrics| metrics.value.compare.as_ref());
    compare.is_some_and(|compare| compare.value)
}

/// Checks what is said of metrics against the rest.
pub(super) fn check(written: &Written, checked: &Checked) -> Result<(), Vec<Finding>> {
    let Some(metrics) = written.metrics.as_ref().filter(|_| compares(written)) else {
        return Ok(());
    };
    let at = metrics
        .value
        .compare
        .as_ref()
        .map_or(metrics.at, |compare| compare.at);
    if checked.compare.is_none() {
        let finding = Finding::new(
            at,
            "metrics are compared as `compare` says, which is missing",
        );
        return Err(vec![
            finding.help("add `compare: {axis: ..., baseline: ...}`"),
        ]);
    }
    if checked.cells.shards() > 1 {
        let message = "metrics are not compared where cells are split: a shard is no smaller whole";
        let finding = Finding::new(at, message);
        return Err(vec![finding.help("remove `shards`, or `metrics`")]);
    }
    if checked.cells.count() > METRIC_CELLS_MOST {
        let message = format!("metrics are compared of {METRIC_CELLS_MOST} cells at most");
        return Err(vec![
            Finding::new(at, message).help("use fewer axes or values, or `run --only`"),
        ]);
    }
    Ok(())
}
