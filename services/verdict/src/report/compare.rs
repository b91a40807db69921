//! Each cell against its baseline, case by case. May not: look along an axis; that is `series`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use regatta_model::CellNumber;
use regatta_model::matrix::Baseline;
use regatta_model::report::{Comparison, Verdict};

use super::Builder;
use super::case::CaseId;
use super::cell::{NO_SET, Plain};
use super::pair::{Pair, Side, Standing};
use super::series::{Changed, Direction};
use super::shards::{self, Part, Parts};
use crate::judge::LINE_MOST;
use crate::sequential::{Depth, score};
use crate::tally::Tally;

/// Most cells that are asked how sure a change is.
const CELLS_COUNTED_MOST: usize = 1000;

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
    /// Cases that may have regressed, sorted by name: the reruns that were allowed do not tell.
    pub(super) open: Vec<CaseId>,
    /// Cases that fail here at times, and that a version before broke, sorted by name.
    pub(super) broken_before: Vec<CaseId>,
    /// How probable it is that what regressed did, where it is least probable; from 0 to 1.
    pub(super) surely_regressed: f64,
    /// The same of what is fixed.
    pub(super) surely_fixed: f64,
    /// Cases that the baseline fails now and did not fail before, sorted by name.
    pub(super) drifted: Vec<CaseId>,
}

impl CellCompared {
    /// It is not known how the cell stands against its baseline, which is still to be named.
    pub(super) fn unresolved() -> Self {
        Self {
            baseline: BTreeMap::new(),
            baseline_cell: None,
            result: Comparison::Unresolved,
            regressed: Vec::new(),
            fixed: Vec::new(),
            missing: Vec::new(),
            whole: None,
            open: Vec::new(),
            broken_before: Vec::new(),
            surely_regressed: 1.0,
            surely_fixed: 1.0,
            drifted: Vec::new(),
        }
    }
}

/// All comparisons. In a large run, cells that simply passed and are unchanged are not in here.
#[derive(Clone, Debug, Default)]
pub(super) struct Compared {
    pub(super) cells: BTreeMap<CellNumber, CellCompared>,
}

impl Compared {
    /// How probable a change is in that of these cells where it is least probable, from 0 to 1.
    pub(super) fn surely(&self, origins: &[CellNumber], direction: Direction) -> f64 {
        let origins = origins.iter().take(CELLS_COUNTED_MOST);
        let of = |comparison: &CellCompared| match direction {
            Direction::Regressed => comparison.surely_regressed,
            Direction::Fixed => comparison.surely_fixed,
        };
        let sure = origins.filter_map(|cell| self.cells.get(cell)).map(of);
        sure.fold(1.0, f64::min)
    }
}

impl Builder<'_> {
    pub(super) fn compare(&self) -> Compared {
        if self.matrix.compare().is_none() {
            Compared::default()
        } else if self.is_large() {
            self.compare_these(self.large_candidates())
        } else {
            self.compare_these(self.matrix.cells().numbers())
        }
    }

    /// Compares these cells with their baselines.
    pub(super) fn compare_these(&self, cells: impl IntoIterator<Item = CellNumber>) -> Compared {
        let mut compared = Compared::default();
        if self.matrix.compare().is_none() {
            return compared;
        }
        for number in cells {
            if let Some(comparison) = self.compare_cell(number, &compared) {
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
            let plain = cells.numbers().zip(&self.plain);
            let plain = plain.filter_map(|(number, plain)| Some((number, (*plain)?.kind)));
            let kind_of = |number: CellNumber| self.plain(number).map(|plain| plain.kind);
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

    /// None: the cell is a baseline itself. `compared` has the cells before it.
    fn compare_cell(&self, number: CellNumber, compared: &Compared) -> Option<CellCompared> {
        let baseline_cell = self.baseline(number);
        let baseline = match baseline_cell {
            Some(cell) => self.values(cell),
            None => self.missing_baseline(number)?,
        };
        let sides = (
            self.side(number),
            baseline_cell.and_then(|cell| self.side(cell)),
        );
        let compared = match sides {
            (Some(candidate), Some(baseline)) => {
                let earlier = |shard: usize| {
                    let shard = CellNumber::try_from(shard).ok()?;
                    self.earlier.get(&(baseline_cell? + shard))
                };
                let before = baseline_cell.and_then(|cell| compared.cells.get(&cell));
                let pair = Pair {
                    candidate: &candidate,
                    baseline: &baseline,
                    earlier: &earlier,
                    line: baseline_cell.map_or_else(Vec::new, |cell| self.line(cell)),
                    told: before.map_or([&[], &[]], |before| {
                        [&before.regressed[..], &before.broken_before]
                    }),
                    cases: &self.cases,
                    rule: self.rule,
                };
                pair.compare()
            }
            _ => CellCompared::unresolved(),
        };
        Some(CellCompared {
            baseline,
            baseline_cell,
            ..compared
        })
    }

    /// The cell that this one is compared with. Where that is the previous one, those that could not be set up are passed
    /// over.
    pub(super) fn baseline(&self, number: CellNumber) -> Option<CellNumber> {
        let cells = self.matrix.cells();
        let mut baseline = cells.baseline(number)?;
        while self.is_chained()
            && self.side(baseline).is_some_and(|side| side.untested)
            && let Some(before) = cells.baseline(baseline)
        {
            baseline = before;
        }
        Some(baseline)
    }

    /// Where cells are compared with the previous one: those before this one.
    fn line(&self, number: CellNumber) -> Vec<Cow<'_, Parts>> {
        if !self.is_chained() {
            return Vec::new();
        }
        let before = |cell: &CellNumber| self.matrix.cells().baseline(*cell);
        std::iter::successors(before(&number), before)
            .take(LINE_MOST)
            .filter_map(|cell| self.side(cell))
            .filter(|side| !side.untested)
            .map(|side| side.parts)
            .collect()
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

    pub(super) fn side(&self, number: CellNumber) -> Option<Side<'_>> {
        if let Some(cell) = self.cells.get(&number) {
            return Some(Side {
                verdict: cell.verdict,
                broken: cell.broken,
                untested: cell.untested.is_some(),
                set: cell.set.unwrap_or(NO_SET),
                failing: &cell.failing,
                flaky: &cell.flaky,
                skipped: &cell.skipped,
                known: &cell.known,
                parts: Cow::Borrowed(&cell.parts),
            });
        }
        let plain = self.plain(number)?;
        let (set, skipped) = self.cases.of_kind(plain.kind)?;
        Some(Side {
            verdict: Verdict::Passed,
            broken: false,
            untested: false,
            set: *set,
            failing: &[],
            flaky: &[],
            skipped,
            known: &[],
            parts: Cow::Owned(vec![Part {
                set: *set,
                tally: Tally::passed(plain.passes, self.matrix.repeat()),
            }]),
        })
    }

    /// A cell that simply passed, in a large run.
    fn plain(&self, number: CellNumber) -> Option<Plain> {
        let at = usize::try_from(number / CellNumber::from(self.matrix.shards())).ok()?;
        self.plain.get(at).copied().flatten()
    }

    /// Whether it is known how a cell stands: something of it was tested.
    pub(super) fn is_known(&self, number: CellNumber) -> bool {
        self.side(number)
            .is_some_and(|side| !side.untested && side.verdict != Verdict::Unresolved)
    }

    /// Whether a cell passes.
    pub(super) fn passes(&self, number: CellNumber) -> bool {
        self.side(number)
            .is_some_and(|side| side.verdict == Verdict::Passed)
    }

    /// Whether a cell shows a change of a case (or, without one, of the cell as a whole).
    pub(super) fn shows(&self, number: CellNumber, case: Changed, direction: Direction) -> bool {
        let Some(side) = self.side(number) else {
            return false;
        };
        match (direction, case) {
            (Direction::Regressed, _) => shards::record(&side.parts, case, &self.cases).failed > 0,
            (Direction::Fixed, None) => side.verdict == Verdict::Passed,
            (Direction::Fixed, Some(case)) => side.standing(case, &self.cases) == Standing::Passes,
        }
    }

    /// Whether what failed in the cell `before` more probably fails no longer in this one, than that it only happens to
    /// pass there.
    pub(super) fn is_mended(&self, number: CellNumber, before: CellNumber, case: Changed) -> bool {
        let (Some(now), Some(before)) = (self.side(number), self.side(before)) else {
            return false;
        };
        let record = |side: &Side<'_>| shards::record(&side.parts, case, &self.cases);
        let (now, before) = (record(&now), record(&before));
        now.runs > 0 && score(now, before, Depth::Usual, false) >= 0.0
    }
}
