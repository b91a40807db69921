//! The report of a run, from its ended attempts. May not: ask for anything; what it lacks is not in the report.
//!
//! Attempts come by cell and ordinal. A cell that simply passed costs eight bytes; only others keep their cases, and
//! case names are kept once. Above [`CELLS_FULL`] cells the report lists only those that did not simply pass.

mod against;
mod case;
mod cell;
mod chance;
mod cluster;
mod compare;
mod conclude;
mod failures;
mod findings;
mod grid;
mod input;
mod known;
mod levels;
mod looks;
mod measures;
mod others;
mod pair;
mod searched;
mod sentence;
mod series;
mod shards;

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::matrix::{Baseline, Matrix};
use regatta_model::report::{
    CaseCounts, CellComparison, CellReport, Counts, GapSearch, Report, ReportAxis, ReportCompare,
    Verdict,
};
use regatta_model::run::{RunState, RunSummary};
use regatta_model::{Blame, CellNumber, HostName};

use crate::earlier::Earlier;
use crate::judge::Policy;
use crate::sequential::Rule;
use case::{CaseId, Cases};
use cell::{Cell, Plain, seconds};
use measures::Measures;
use others::HostFaults;

pub use input::{AttemptRow, CaseNames, ReportInput};
pub use levels::{CHANGES_MOST, SERIES_LEAST, SERIES_MOST};
pub use looks::Looks;

/// Up to so many cells, a report lists all of them.
pub const CELLS_FULL: u64 = 10_000;

/// Most cells that a report lists.
pub const CELLS_LISTED_MOST: usize = 100_000;

/// Most numbers that attempts measured, beside time and memory, that a report takes; attempts after that have none.
pub const METRICS_TAKEN_MOST: usize = 500_000;

/// Most comparisons of metrics that a report lists.
pub const METRICS_LISTED_MOST: usize = 10_000;

/// Most findings of a report.
pub const FINDINGS_MOST: usize = 200;

/// The report of a run whose attempts are all at hand.
pub fn build(input: &ReportInput<'_>) -> Report {
    let mut builder = Builder::new(input.matrix, input.run, input.now_ms);
    builder.knows(input.earlier.clone());
    for attempt in input.attempts {
        builder.add(attempt.clone());
    }
    builder.finish()
}

/// A report that is made while attempts stream by.
pub struct Builder<'a> {
    matrix: &'a Matrix,
    run: &'a RunSummary,
    now_ms: u64,
    cases: Cases,
    /// Rows of the cell whose attempts come now.
    rows: Vec<AttemptRow>,
    /// Cells that did not simply pass; up to [`CELLS_FULL`] cells, all that have attempts.
    cells: BTreeMap<CellNumber, Cell>,
    /// Cells that simply passed, in large runs.
    plain: Vec<Option<Plain>>,
    counts: Counts,
    hosts: BTreeMap<HostName, HostFaults>,
    /// All hosts on which attempts ended.
    places: BTreeSet<HostName>,
    /// What earlier runs say of baselines.
    earlier: BTreeMap<CellNumber, Earlier>,
    rule: Rule,
    /// What the metrics are that are compared.
    measures: Measures,
    /// How many more numbers of attempts the report takes.
    metrics_left: usize,
    /// Whether what attempts measured is kept.
    samples: bool,
    /// Only some cells are wanted.
    few: bool,
    /// What searches for where regressions began came to.
    searches: Vec<GapSearch>,
}

impl<'a> Builder<'a> {
    /// A report without attempts.
    pub fn new(matrix: &'a Matrix, run: &'a RunSummary, now_ms: u64) -> Self {
        let cells = matrix.cells().whole();
        let mut builder = Self {
            matrix,
            run,
            now_ms,
            cases: Cases::default(),
            rows: Vec::new(),
            cells: BTreeMap::new(),
            plain: Vec::new(),
            counts: Counts {
                cells,
                unresolved: cells,
                repeat: u64::from(matrix.repeat().max(1)),
                ..Counts::default()
            },
            hosts: BTreeMap::new(),
            places: BTreeSet::new(),
            earlier: BTreeMap::new(),
            rule: Policy::of_run(matrix, run).rule(),
            measures: Measures::default(),
            metrics_left: METRICS_TAKEN_MOST,
            samples: matrix.compares_metrics(),
            few: false,
            searches: Vec::new(),
        };
        builder.samples |= levels::axis(&builder).is_some();
        builder
    }

    /// For [`Self::finish_cells`]: every cell whose attempts come is kept whole, however large the run is.
    pub fn of_cells(matrix: &'a Matrix, run: &'a RunSummary, now_ms: u64) -> Self {
        Self {
            few: true,
            ..Self::new(matrix, run, now_ms)
        }
    }

    /// Takes what earlier runs say of cells that others are compared with.
    pub fn knows(&mut self, earlier: BTreeMap<CellNumber, Earlier>) {
        self.earlier = earlier;
    }

    /// Takes what searches for where its regressions began came to.
    pub fn searched(&mut self, searches: Vec<GapSearch>) {
        self.searches = searches;
    }

    /// Takes an attempt. They come by cell and ordinal; one of a cell that does not exist is passed over.
    pub fn add(&mut self, mut row: AttemptRow) {
        let cells = self.matrix.cells();
        if row.cell >= cells.count() {
            return;
        }
        match self.metrics_left.checked_sub(row.metrics.len()) {
            Some(left) => self.metrics_left = left,
            None => row.metrics.clear(),
        }
        if self
            .rows
            .first()
            .is_some_and(|first| cells.first(first.cell) != cells.first(row.cell))
        {
            self.close_cell();
        }
        self.rows.push(row);
    }

    /// Merges the attempts of one cell: those of each shard, and then the shards.
    fn close_cell(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        let cells = self.matrix.cells();
        let Some(number) = rows.first().map(|row| cells.first(row.cell)) else {
            return;
        };
        let mut by_shard: Vec<Vec<AttemptRow>> = Vec::new();
        by_shard.resize_with(usize::try_from(cells.shards()).unwrap_or(1), Vec::new);
        // A matrix that compares metrics is not split.
        let samples = if self.samples {
            self.measures.samples(&rows)
        } else {
            Vec::new()
        };
        for row in rows {
            if !self.places.contains(&row.host) {
                self.places.insert(row.host.clone());
            }
            if cell::is_fault(&row) {
                self.counts.host_faults += 1;
                // What the platform did is no host's doing, wherever it showed.
                if row.blame != Some(Blame::Platform) {
                    let faults = self.hosts.entry(row.host.clone()).or_default();
                    faults.add(&row, number);
                }
            }
            let shard = usize::try_from(cells.shard(row.cell)).unwrap_or(0);
            if let Some(rows) = by_shard.get_mut(shard) {
                rows.push(row);
            }
        }
        let repeat = self.matrix.repeat().max(1);
        let mut shards = Vec::with_capacity(by_shard.len());
        for rows in by_shard {
            let attempts = u64::try_from(rows.len()).unwrap_or(u64::MAX);
            self.counts.attempts += attempts;
            self.counts.reruns += attempts.saturating_sub(u64::from(repeat));
            let ended = !rows.is_empty();
            shards.push(ended.then(|| Cell::merge(rows, repeat, &mut self.cases)));
        }
        let declared = !self.matrix.results().is_empty();
        let mut cell = shards::join(shards, declared, &mut self.cases);
        cell.samples = samples;
        self.counts.unresolved -= 1;
        *match cell.verdict {
            Verdict::Passed => &mut self.counts.passed,
            Verdict::Failed => &mut self.counts.failed,
            Verdict::Flaky => &mut self.counts.flaky,
            Verdict::Unresolved => &mut self.counts.unresolved,
        } += 1;
        match cell.plain(&mut self.cases) {
            Some(plain) if self.is_large() => {
                let at = number / CellNumber::from(self.matrix.shards());
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                if self.plain.len() <= at {
                    self.plain.resize(at + 1, None);
                }
                if let Some(slot) = self.plain.get_mut(at) {
                    *slot = Some(plain);
                }
            }
            _ => {
                self.cells.insert(number, cell);
            }
        }
    }

    /// Whether the run is over.
    fn is_whole(&self) -> bool {
        self.run.state == RunState::Finished
    }

    fn is_large(&self) -> bool {
        !self.few && self.counts.cells > CELLS_FULL
    }

    /// The report, and what is new beside another run. None: they share no cell.
    pub fn finish_against(mut self, mut other: Builder<'_>) -> Option<Report> {
        self.close_cell();
        other.close_cell();
        let against = against::compare(&self, &other)?;
        drop(other);
        let mut report = self.finish();
        report.against = Some(against);
        Some(report)
    }

    /// The report.
    pub fn finish(mut self) -> Report {
        self.close_cell();
        let compared = self.compare();
        self.count_regressed(&compared);
        let allowed = |cell: CellNumber| self.matrix.allow_failure(cell);
        let conclusion = self.conclude(&compared, &allowed);
        let mut findings = findings::changes(&self, &compared);
        findings.extend(others::findings(&self, &compared));
        let metrics = measures::compare(&self);
        findings.extend(measures::findings(&self, &metrics));
        let levels = levels::of(&self);
        let told = levels
            .iter()
            .flat_map(|levels| levels::findings(&self, levels, &metrics));
        findings.extend(told);
        findings.truncate(FINDINGS_MOST);
        let grid = grid::of(&self, &compared);
        let cells = self.cell_reports(&compared);
        self.counts.hosts = u64::try_from(self.places.len()).unwrap_or(u64::MAX);
        let ended = self.run.ended_ms.unwrap_or(self.now_ms);
        let seconds = seconds(ended.saturating_sub(self.run.submitted_ms), 1000);
        let mut report = Report {
            version: 1,
            run: self.run.run.to_string(),
            name: self.matrix.name().to_owned(),
            state: self.run.state.name().to_owned(),
            conclusion,
            sentence: String::new(),
            counts: self.counts,
            seconds,
            axes: self.axes(),
            compare: self.matrix.compare().map(|compare| ReportCompare {
                axis: compare.axis.clone(),
                baseline: match &compare.baseline {
                    Baseline::Value(value) => value.clone(),
                    Baseline::Previous => "previous".into(),
                },
            }),
            cells,
            findings,
            against: None,
            grid,
            metrics: measures::listed(metrics),
            levels,
        };
        report.sentence = sentence::of(&report, &compared, &allowed);
        report
    }

    /// These cells, of which all attempts and all of their baselines' came.
    pub fn finish_cells(mut self, cells: &[CellNumber]) -> Vec<CellReport> {
        self.close_cell();
        let cells: Vec<CellNumber> = cells
            .iter()
            .copied()
            .filter(|cell| *cell < self.matrix.cells().count())
            .map(|cell| self.matrix.cells().first(cell))
            .collect();
        let compared = self.compare_these(cells.iter().copied());
        self.count_regressed(&compared);
        cells
            .into_iter()
            .map(|cell| self.cell_report(cell, &compared))
            .collect()
    }

    fn axes(&self) -> Vec<ReportAxis> {
        let axes = self.matrix.axes().iter();
        axes.map(|axis| ReportAxis {
            name: axis.name.clone(),
            values: axis.all().map(str::to_owned).collect(),
            ordered: axis.ordered,
        })
        .collect()
    }

    fn cell_reports(&mut self, compared: &compare::Compared) -> Vec<CellReport> {
        let numbers: Vec<CellNumber> = if self.is_large() {
            let listed = self.cells.iter().filter(|(_, cell)| !cell.simply_passed());
            let listed = listed.map(|(number, _)| *number);
            listed.take(CELLS_LISTED_MOST).collect()
        } else {
            self.matrix.cells().numbers().collect()
        };
        numbers
            .into_iter()
            .map(|number| self.cell_report(number, compared))
            .collect()
    }

    fn cell_report(&mut self, number: CellNumber, compared: &compare::Compared) -> CellReport {
        let attempts = self
            .cells
            .get_mut(&number)
            .map(|cell| std::mem::take(&mut cell.attempts));
        let cell = self.cells.get(&number);
        let names = |ids: &[CaseId]| {
            ids.iter()
                .map(|id| self.cases.name(*id).to_owned())
                .collect()
        };
        let comparison = compared
            .cells
            .get(&number)
            .map(|comparison| CellComparison {
                baseline: comparison.baseline.clone(),
                result: comparison.result,
                regressed: names(&comparison.regressed),
                fixed: names(&comparison.fixed),
            });
        CellReport {
            cell: number,
            axes: self.values(number),
            verdict: cell.map_or(Verdict::Unresolved, |cell| cell.verdict),
            allowed_failure: self.matrix.allow_failure(number),
            comparison,
            cases: cell.map_or_else(CaseCounts::default, |cell| cell.counts(&self.cases)),
            failing: cell.map_or_else(Vec::new, |cell| names(&cell.failing)),
            flaky: cell.map_or_else(Vec::new, |cell| names(&cell.flaky)),
            known: cell.map_or_else(Vec::new, |cell| names(&cell.known)),
            attempts: attempts.unwrap_or_default(),
        }
    }

    /// A cell's axis values.
    fn values(&self, cell: CellNumber) -> BTreeMap<String, String> {
        let values = self.matrix.cells().values(cell).unwrap_or_default();
        values
            .into_iter()
            .map(|(axis, value)| (axis.to_owned(), value.to_owned()))
            .collect()
    }
}
