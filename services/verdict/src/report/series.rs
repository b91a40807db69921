//! Where along the compared axis something changed first: the last good value and the first bad one. May not: word it.
//!
//! Cells that differ in that axis alone are a *line*. Along an ordered axis a line is walked away from the baseline, and what
//! changed at one cell and still holds at the next is one change. Changes of several lines between the same two
//! values are one as well, where they have the same cases.

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::CellNumber;
use regatta_model::matrix::{Axis, Baseline, Compare};

use super::Builder;
use super::case::CaseId;
use super::compare::{CellCompared, Compared};

/// Most changed cells that are looked at; what further ones show is in their own comparison.
const CELLS_MOST: usize = 20_000;

/// What changed: a case, or (none) the cell as a whole.
pub(super) type Changed = Option<CaseId>;

/// A direction in which a cell may differ from its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Regressed,
    Fixed,
}

/// Something that changed between two values of the compared axis.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// The last value before it.
    pub(super) last: String,
    /// The first value with it.
    pub(super) first: String,
    /// The cells with the first value with it.
    pub(super) origins: Vec<CellNumber>,
    /// All cells that show it, the origins included.
    pub(super) cells: BTreeSet<CellNumber>,
    /// The cases, sorted by name; empty where only cells as a whole changed.
    pub(super) cases: Vec<CaseId>,
}

/// A change along one line.
struct Step {
    last: usize,
    first: usize,
    origin: CellNumber,
    cells: BTreeSet<CellNumber>,
    changed: Vec<Changed>,
}

/// All changes in one direction, the earliest value first, then the one with most cases, then the surest.
pub(super) fn changes(
    builder: &Builder<'_>,
    compared: &Compared,
    direction: Direction,
) -> Vec<Change> {
    let matrix = builder.matrix;
    let Some(compare) = matrix.compare() else {
        return Vec::new();
    };
    let Some(axis) = matrix.axes().iter().find(|axis| axis.name == compare.axis) else {
        return Vec::new();
    };
    let view = View {
        builder,
        compared,
        direction,
        axis,
        compare,
    };
    let changed = compared
        .cells
        .iter()
        .filter(|(_, c)| !view.of(c).is_empty());
    let mut lines: BTreeMap<BTreeMap<String, String>, Vec<CellNumber>> = BTreeMap::new();
    for (cell, _) in changed.take(CELLS_MOST) {
        let mut values = builder.values(*cell);
        values.remove(&axis.name);
        lines.entry(values).or_default().push(*cell);
    }
    let mut steps = Vec::new();
    for (others, cells) in lines {
        if axis.ordered {
            view.walk(others, &mut steps);
        } else {
            steps.extend(cells.into_iter().filter_map(|cell| view.alone(cell)));
        }
    }
    merge(steps, &view)
}

struct View<'a> {
    builder: &'a Builder<'a>,
    compared: &'a Compared,
    direction: Direction,
    axis: &'a Axis,
    compare: &'a Compare,
}

impl View<'_> {
    /// What changed in a cell against its baseline.
    fn of(&self, comparison: &CellCompared) -> BTreeSet<Changed> {
        let cases = match self.direction {
            Direction::Regressed => &comparison.regressed,
            Direction::Fixed => &comparison.fixed,
        };
        let whole = comparison.whole == Some(self.direction);
        cases
            .iter()
            .copied()
            .map(Some)
            .chain(whole.then_some(None))
            .collect()
    }

    fn index(&self, cell: CellNumber) -> Option<usize> {
        let values = self.builder.matrix.cells().values(cell)?;
        let (_, own) = values
            .into_iter()
            .find(|(axis, _)| *axis == self.axis.name)?;
        self.axis.all().position(|value| value == own)
    }

    /// A cell of an axis without order: its baseline is the value before it.
    fn alone(&self, cell: CellNumber) -> Option<Step> {
        let comparison = self.compared.cells.get(&cell)?;
        let before = comparison.baseline_cell?;
        Some(Step {
            last: self.index(before)?,
            first: self.index(cell)?,
            origin: cell,
            cells: BTreeSet::from([cell]),
            changed: self.of(comparison).into_iter().collect(),
        })
    }

    /// Walks one line of an ordered axis, away from the baseline on both of its sides.
    fn walk(&self, mut others: BTreeMap<String, String>, steps: &mut Vec<Step>) {
        let line: Vec<(usize, CellNumber)> = (0..)
            .zip(self.axis.all())
            .filter_map(|(index, value)| {
                others.insert(self.axis.name.clone(), value.to_owned());
                Some((index, self.builder.matrix.cells().number(&others)?))
            })
            .collect();
        match &self.compare.baseline {
            Baseline::Previous => self.walk_up(&line, true, steps),
            Baseline::Value(value) => {
                let Some(base) = self.axis.all().position(|other| other == value) else {
                    return;
                };
                let up: Vec<_> = line.iter().copied().filter(|(at, _)| *at >= base).collect();
                let down: Vec<_> = line
                    .iter()
                    .rev()
                    .copied()
                    .filter(|(at, _)| *at <= base)
                    .collect();
                self.walk_up(&up, false, steps);
                self.walk_up(&down, false, steps);
            }
        }
    }

    /// Walks cells in order; the first is the baseline. `chained`: each is compared with the one before it.
    fn walk_up(&self, line: &[(usize, CellNumber)], chained: bool, steps: &mut Vec<Step>) {
        // What changed and did not change back, with its step and the last cell that shows it.
        let mut active: BTreeMap<Changed, (usize, CellNumber)> = BTreeMap::new();
        let mut before: Option<usize> = None;
        for &(index, cell) in line {
            if !self.builder.is_known(cell) {
                continue;
            }
            let comparison = self.compared.cells.get(&cell);
            let changed = comparison
                .map(|comparison| self.of(comparison))
                .unwrap_or_default();
            active.retain(|case, (step, last)| {
                let shows = if chained {
                    self.builder.shows(cell, *case, self.direction)
                } else {
                    changed.contains(case)
                };
                if shows {
                    *last = cell;
                    if let Some(step) = steps.get_mut(*step) {
                        step.cells.insert(cell);
                    }
                }
                let regressed = self.direction == Direction::Regressed;
                shows || (chained && regressed && !self.builder.is_mended(cell, *last, *case))
            });
            let new: Vec<Changed> = changed
                .iter()
                .copied()
                .filter(|case| !active.contains_key(case))
                .collect();
            if let (Some(last), false) = (before, new.is_empty()) {
                active.extend(new.iter().map(|case| (*case, (steps.len(), cell))));
                let cells = BTreeSet::from([cell]);
                steps.push(Step {
                    last,
                    first: index,
                    origin: cell,
                    cells,
                    changed: new,
                });
            }
            before = Some(index);
        }
    }
}

/// Puts together what changed between the same two values in the same lines.
fn merge(steps: Vec<Step>, view: &View<'_>) -> Vec<Change> {
    let mut between: BTreeMap<(usize, usize), Vec<Step>> = BTreeMap::new();
    for step in steps {
        between
            .entry((step.first, step.last))
            .or_default()
            .push(step);
    }
    let value = |index: usize| view.axis.all().nth(index).unwrap_or_default().to_owned();
    let mut changes = Vec::new();
    for ((first, last), steps) in between {
        let mut lines_of: BTreeMap<Changed, Vec<usize>> = BTreeMap::new();
        for (at, step) in steps.iter().enumerate() {
            for changed in &step.changed {
                lines_of.entry(*changed).or_default().push(at);
            }
        }
        let mut groups: BTreeMap<Vec<usize>, Vec<Changed>> = BTreeMap::new();
        for (changed, lines) in lines_of {
            groups.entry(lines).or_default().push(changed);
        }
        let mut found: Vec<Change> = groups
            .into_iter()
            .map(|(lines, changed)| {
                let steps: Vec<&Step> = lines.iter().filter_map(|at| steps.get(*at)).collect();
                let mut cases: Vec<CaseId> = changed.into_iter().flatten().collect();
                let names = &view.builder.cases;
                cases.sort_by(|a, b| names.name(*a).cmp(names.name(*b)));
                Change {
                    last: value(last),
                    first: value(first),
                    origins: steps.iter().map(|step| step.origin).collect(),
                    cells: steps
                        .iter()
                        .flat_map(|step| step.cells.iter().copied())
                        .collect(),
                    cases,
                }
            })
            .collect();
        let sure = |change: &Change| view.compared.surely(&change.origins, view.direction);
        found.sort_by(|a, b| {
            let by_count = b.cases.len().cmp(&a.cases.len());
            by_count
                .then_with(|| sure(b).total_cmp(&sure(a)))
                .then_with(|| a.cells.cmp(&b.cells))
        });
        changes.extend(found);
    }
    changes
}
