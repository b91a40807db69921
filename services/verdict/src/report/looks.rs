//! The first look at what a run measured, while it goes on: does it take as many pairs again to tell? May not: say what
//! changed; that is `measures`, once all pairs ran.

use std::collections::BTreeMap;

use regatta_model::CellNumber;
use regatta_model::matrix::Matrix;

use super::measures::{self, Measures, Sample};
use super::{AttemptRow, METRICS_TAKEN_MOST};
use crate::metrics::pairs::PAIRS_MOST;
use crate::metrics::{Change, Policy};

/// What the attempts of a run measured so far, where more of them may be asked for.
#[derive(Clone, Debug)]
pub struct Looks {
    measures: Measures,
    /// Those of each cell in the order in which they ended.
    samples: BTreeMap<CellNumber, Vec<Sample>>,
    /// How many more numbers are taken.
    left: usize,
    /// Pairs of the first look.
    pairs: usize,
}

impl Looks {
    /// None: no metrics are compared, nothing may be run again (`rerun: {at-most: 0}`), or twice as many pairs would be more
    /// than [`PAIRS_MOST`].
    pub fn of(matrix: &Matrix) -> Option<Self> {
        let pairs = usize::try_from(matrix.repeat()).ok()?;
        let extends =
            matrix.compares_metrics() && matrix.rerun().at_most > 0 && 2 * pairs <= PAIRS_MOST;
        extends.then(|| Self {
            measures: Measures::default(),
            samples: BTreeMap::new(),
            left: METRICS_TAKEN_MOST,
            pairs,
        })
    }

    /// Takes an attempt; one that can tell nothing is passed over.
    pub fn add(&mut self, mut row: AttemptRow) {
        match self.left.checked_sub(row.metrics.len()) {
            Some(left) => self.left = left,
            None => row.metrics.clear(),
        }
        let cell = row.cell;
        let measured = self.measures.samples(&[row]);
        if !measured.is_empty() {
            let samples = self.samples.entry(cell).or_default();
            samples.extend(measured);
            samples.sort_by_key(Sample::sequence);
        }
    }

    /// Whether anything of a cell was measured.
    pub fn has(&self, cell: CellNumber) -> bool {
        self.samples.contains_key(&cell)
    }

    /// Whether the first pairs of a cell and its baseline leave open whether something changed: as many again would tell.
    pub fn is_open(&self, cell: CellNumber, baseline: CellNumber) -> bool {
        let first = |cell: CellNumber| {
            let samples = self.samples.get(&cell).map_or(&[][..], Vec::as_slice);
            samples.get(..self.pairs).unwrap_or(samples)
        };
        let matched = measures::paired(first(cell), first(baseline));
        let policy = Policy::default();
        self.measures.each(&matched).any(|(measure, values)| {
            let (_, finding) = measures::judge_one((cell, baseline), measure, &values, &policy);
            finding.change == Change::Open
        })
    }
}
