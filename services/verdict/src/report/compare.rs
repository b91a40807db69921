//! Each cell against its baseline, case by case. May not: look along an axis; that is `series`.

use std::collections::BTreeMap;

use regatta_model::CellNumber;
use regatta_model::matrix::Baseline;
use regatta_model::report::{Comparison, Verdict};

use super::Builder;
use super::case::{CaseId, Cases, SetId};
use super::cell::{Cell, NO_SET};
use super::series::{Changed, Direction};

/// How a case stands in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Passes,
    Fails,
    Flaky,
    /// It did not run, or there is no such case.
    Out,
}

/// A cell's comparison.
#[derive(Clone, Debug)]
pub(super) struct CellCompared {
    /// The baseline's axis values.
    pub(super) baseline: BTreeMap<String, String>,
    pub(super) baseline_cell: Option<CellNumber>,
    pub(super) result: Comparison,
    /// Cases that regressed, sorted by name.
    pub(super) regressed: Vec<CaseId>,
    /// Cases that are fixed, sorted by name.
    pub(super) fixed: Vec<CaseId>,
    /// Cases that pass in the baseline and that this cell has not, sorted by name.
    pub(super) missing: Vec<CaseId>,
    /// How the cell as a whole changed, beyond its cases.
    pub(super) whole: Option<Direction>,
}

impl CellCompared {
    /// It is not known how the cell stands against its baseline, which is still to be named.
    fn unresolved() -> Self {
        Self {
            baseline: BTreeMap::new(),
            baseline_cell: None,
            result: Comparison::Unresolved,
            regressed: Vec::new(),
            fixed: Vec::new(),
            missing: Vec::new(),
            whole: None,
        }
    }
}

/// All comparisons. In a large run, cells that simply passed and are unchanged are not in here.
#[derive(Clone, Debug, Default)]
pub(super) struct Compared {
    pub(super) cells: BTreeMap<CellNumber, CellCompared>,
}

/// What a comparison needs of a cell.
struct Side<'a> {
    verdict: Verdict,
    broken: bool,
    untested: bool,
    set: SetId,
    failing: &'a [CaseId],
    flaky: &'a [CaseId],
    skipped: &'a [CaseId],
}

impl Side<'_> {
    fn standing(&self, case: CaseId, cases: &Cases) -> Standing {
        if cases.has(self.failing, case) {
            Standing::Fails
        } else if cases.has(self.flaky, case) {
            Standing::Flaky
        } else if cases.has(self.skipped, case) || !cases.contains(self.set, case) {
            Standing::Out
        } else {
            Standing::Passes
        }
    }
}

impl Builder<'_> {
    pub(super) fn compare(&self) -> Compared {
        if self.matrix.compare().is_none() {
            Compared::default()
        } else if self.is_large() {
            self.compare_these(self.large_candidates())
        } else {
            self.compare_these(0..self.matrix.cells().count())
        }
    }

    /// Compares these cells with their baselines.
    pub(super) fn compare_these(&self, cells: impl IntoIterator<Item = CellNumber>) -> Compared {
        let mut compared = Compared::default();
        if self.matrix.compare().is_none() {
            return compared;
        }
        for number in cells {
            if let Some(comparison) = self.compare_cell(number) {
                compared.cells.insert(number, comparison);
            }
        }
        compared
    }

    /// Cells of a large run whose comparison may say anything: those that did not simply pass, and those whose
    /// baseline did not.
    fn large_candidates(&self) -> Vec<CellNumber> {
        let mut numbers: Vec<CellNumber> = self.cells.keys().copied().collect();
        let cells = self.matrix.cells();
        // Most runs have no baseline that fails, and the same cases everywhere: then nobody is asked for their baseline.
        if self
            .cells
            .keys()
            .any(|cell| cells.baseline(*cell).is_none())
            || self.is_chained()
            || self.cases.has_several_sets()
        {
            let plain = (0..).zip(&self.plain);
            let plain = plain.filter_map(|(number, plain)| Some((number, (*plain)?.kind)));
            let kind_of = |number: CellNumber| {
                let plain = self.plain.get(usize::try_from(number).ok()?)?;
                plain.map(|plain| plain.kind)
            };
            let changed = plain.filter(|(number, kind)| {
                cells.baseline(*number).is_some_and(|baseline| {
                    self.cells.contains_key(&baseline)
                        || kind_of(baseline).is_some_and(|other| other != *kind)
                })
            });
            numbers.extend(changed.map(|(number, _)| number));
            numbers.sort_unstable();
        }
        numbers
    }

    fn is_chained(&self) -> bool {
        self.matrix
            .compare()
            .is_some_and(|compare| compare.baseline == Baseline::Previous)
    }

    /// None: the cell is a baseline itself.
    fn compare_cell(&self, number: CellNumber) -> Option<CellCompared> {
        let baseline_cell = self.matrix.cells().baseline(number);
        let baseline = match baseline_cell {
            Some(cell) => self.values(cell),
            None => self.missing_baseline(number)?,
        };
        let sides = (
            self.side(number),
            baseline_cell.and_then(|cell| self.side(cell)),
        );
        let compared = match sides {
            (Some(candidate), Some(baseline)) => compare(&candidate, &baseline, &self.cases),
            _ => CellCompared::unresolved(),
        };
        Some(CellCompared {
            baseline,
            baseline_cell,
            ..compared
        })
    }

    /// The values that a cell's baseline would have, where there is no such cell. None: the cell is a baseline itself.
    fn missing_baseline(&self, number: CellNumber) -> Option<BTreeMap<String, String>> {
        let compare = self.matrix.compare()?;
        let Baseline::Value(value) = &compare.baseline else {
            return None;
        };
        let mut values = self.values(number);
        let own = values.insert(compare.axis.clone(), value.clone());
        (own.as_ref() != Some(value)).then_some(values)
    }

    fn side(&self, number: CellNumber) -> Option<Side<'_>> {
        if let Some(cell) = self.cells.get(&number) {
            return Some(Side {
                verdict: cell.verdict,
                broken: cell.broken,
                untested: cell.untested.is_some(),
                set: cell.set.unwrap_or(NO_SET),
                failing: &cell.failing,
                flaky: &cell.flaky,
                skipped: &cell.skipped,
            });
        }
        let plain = self
            .plain
            .get(usize::try_from(number).ok()?)
            .copied()
            .flatten()?;
        let (set, skipped) = self.cases.of_kind(plain.kind)?;
        Some(Side {
            verdict: Verdict::Passed,
            broken: false,
            untested: false,
            set: *set,
            failing: &[],
            flaky: &[],
            skipped,
        })
    }

    /// Whether it is known how a cell stands: something of it was tested.
    pub(super) fn is_known(&self, number: CellNumber) -> bool {
        self.side(number)
            .is_some_and(|side| !side.untested && side.verdict != Verdict::Unresolved)
    }

    /// Whether a case (or, without one, the cell as a whole) fails there, or passes there.
    pub(super) fn holds(&self, number: CellNumber, case: Changed, direction: Direction) -> bool {
        let Some(side) = self.side(number) else {
            return false;
        };
        match (direction, case) {
            (Direction::Regressed, None) => side.broken,
            (Direction::Regressed, Some(case)) => self.cases.has(side.failing, case),
            (Direction::Fixed, None) => side.verdict == Verdict::Passed,
            (Direction::Fixed, Some(case)) => side.standing(case, &self.cases) == Standing::Passes,
        }
    }

    /// Decisive attempts of a cell that passed, and that failed.
    pub(super) fn tally(&self, number: CellNumber) -> (u32, u32) {
        let plain = || {
            self.plain
                .get(usize::try_from(number).ok()?)
                .copied()
                .flatten()
        };
        match self.cells.get(&number) {
            Some(Cell {
                passes, failures, ..
            }) => (*passes, *failures),
            None => (plain().map_or(0, |plain| plain.passes), 0),
        }
    }
}

/// Cases that pass in the baseline and that the candidate has not. A candidate without any results is not asked: what it
/// lacks is told by how it ended as a whole.
fn missing(candidate: &Side<'_>, baseline: &Side<'_>, cases: &Cases) -> Vec<CaseId> {
    if candidate.set == baseline.set || candidate.set == NO_SET || baseline.set == NO_SET {
        return Vec::new();
    }
    let is_missing = |case: &CaseId| {
        !cases.contains(candidate.set, *case) && baseline.standing(*case, cases) == Standing::Passes
    };
    let all = cases.in_order(baseline.set);
    all.iter().copied().filter(is_missing).collect()
}

/// One cell against another; the baseline is still to be named.
fn compare(candidate: &Side<'_>, baseline: &Side<'_>, cases: &Cases) -> CellCompared {
    let unknown = |side: &Side<'_>| side.untested || side.verdict == Verdict::Unresolved;
    if unknown(candidate) || unknown(baseline) {
        return CellCompared::unresolved();
    }
    let missing = missing(candidate, baseline, cases);
    let mut regressed = Vec::new();
    // A test that failed and did not come to all of its cases may have failed before them.
    let mut unresolved = !missing.is_empty() && candidate.verdict == Verdict::Failed;
    for case in candidate.failing {
        match baseline.standing(*case, cases) {
            Standing::Passes => regressed.push(*case),
            Standing::Fails => {}
            // A case that the baseline has not: where the baseline passes as a whole, the cell as a whole is worse.
            Standing::Out if baseline.verdict == Verdict::Passed => regressed.push(*case),
            Standing::Flaky | Standing::Out => unresolved = true,
        }
    }
    let passes = |case: &&CaseId| candidate.standing(**case, cases) == Standing::Passes;
    let fixed: Vec<CaseId> = baseline.failing.iter().filter(passes).copied().collect();
    // What no case tells: attempts that failed without one.
    let (whole, of_whole) = match (baseline.broken, candidate.broken) {
        (false, true) if baseline.verdict == Verdict::Passed => {
            (Some(Direction::Regressed), Comparison::Regressed)
        }
        (true, false) if candidate.verdict == Verdict::Passed => {
            (Some(Direction::Fixed), Comparison::Fixed)
        }
        (true, true) | (false, false) => (None, Comparison::Unchanged),
        (true, false) | (false, true) => (None, Comparison::Unresolved),
    };
    let result = if !regressed.is_empty() || of_whole == Comparison::Regressed {
        Comparison::Regressed
    } else if unresolved || of_whole == Comparison::Unresolved {
        Comparison::Unresolved
    } else if !fixed.is_empty() || of_whole == Comparison::Fixed {
        Comparison::Fixed
    } else {
        Comparison::Unchanged
    };
    CellCompared {
        result,
        regressed,
        fixed,
        missing,
        whole,
        ..CellCompared::unresolved()
    }
}
