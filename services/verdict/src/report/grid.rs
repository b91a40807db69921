//! Cases that did not pass everywhere, along the axis that tells most. May not: conclude anything that cells and comparisons
//! do not say.

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::CellNumber;
use regatta_model::report::{CaseGrid, CaseMark, CaseRow, Verdict};

use super::Builder;
use super::case::CaseId;
use super::compare::Compared;
use super::pair::Standing;

/// Most cases of a grid.
const CASES_MOST: usize = 100;

/// Most values of its axis.
const VALUES_MOST: usize = 100;

/// Most lines of cells that are looked at for a case.
const LINES_MOST: usize = 60;

/// Most lines that a row names.
const LINES_NAMED_MOST: usize = 12;

/// Where a case did not pass.
#[derive(Default)]
struct Seen {
    regressed: usize,
    failing: usize,
    flaky: usize,
    cells: BTreeSet<CellNumber>,
}

/// The grid; none where every case passed, or there is no axis.
pub(super) fn of(builder: &Builder<'_>, compared: &Compared) -> Option<CaseGrid> {
    let axis = axis(builder)?;
    let mut seen: BTreeMap<CaseId, Seen> = BTreeMap::new();
    for (number, cell) in &builder.cells {
        let regressed = compared.cells.get(number);
        let regressed = regressed.map_or(&[][..], |comparison| &comparison.regressed);
        let mut count = |cases: &[CaseId], counter: fn(&mut Seen) -> &mut usize| {
            for case in cases {
                let seen = seen.entry(*case).or_default();
                *counter(seen) += 1;
                if seen.cells.len() < LINES_MOST * VALUES_MOST {
                    seen.cells.insert(*number);
                }
            }
        };
        count(regressed, |seen| &mut seen.regressed);
        count(&cell.failing, |seen| &mut seen.failing);
        count(&cell.flaky, |seen| &mut seen.flaky);
    }
    let mut order: Vec<(CaseId, Seen)> = seen.into_iter().collect();
    let rank = |seen: &Seen| (seen.regressed, seen.failing, seen.flaky);
    order.sort_by(|a, b| {
        let by_rank = rank(&b.1).cmp(&rank(&a.1));
        by_rank.then_with(|| builder.cases.name(a.0).cmp(builder.cases.name(b.0)))
    });
    let more_cases = order.len().saturating_sub(CASES_MOST);
    order.truncate(CASES_MOST);
    if order.is_empty() {
        return None;
    }
    let (values, more_values) = values(builder, &axis, &order);
    let view = View {
        builder,
        compared,
        axis: &axis,
        values: &values,
    };
    let rows = order.iter().flat_map(|(case, seen)| view.rows(*case, seen));
    let rows = rows.collect();
    Some(CaseGrid {
        axis,
        values,
        more_values,
        rows,
        more_cases: u64::try_from(more_cases).unwrap_or(u64::MAX),
    })
}

/// The compared axis, else the first ordered one, else the last.
fn axis(builder: &Builder<'_>) -> Option<String> {
    let axes = builder.matrix.axes();
    let compared = builder.matrix.compare().map(|compare| compare.axis.clone());
    let ordered = axes.iter().find(|axis| axis.ordered);
    compared.or_else(|| ordered.or(axes.last()).map(|axis| axis.name.clone()))
}

/// The axis's values, and how many are left out: those with which all of the cases pass first.
fn values(builder: &Builder<'_>, name: &str, cases: &[(CaseId, Seen)]) -> (Vec<String>, u64) {
    let axes = builder.matrix.axes();
    let axis = axes.iter().find(|axis| axis.name == name);
    let mut values: Vec<String> = axis
        .iter()
        .flat_map(|axis| axis.all().map(str::to_owned))
        .collect();
    let all = values.len();
    if all > VALUES_MOST {
        let cells: BTreeSet<CellNumber> = cases
            .iter()
            .flat_map(|(_, seen)| seen.cells.iter().copied())
            .collect();
        let shown: BTreeSet<String> = cells
            .iter()
            .filter_map(|cell| builder.values(*cell).remove(name))
            .collect();
        values.retain(|value| shown.contains(value));
        values.truncate(VALUES_MOST);
    }
    let more = all.saturating_sub(values.len());
    (values, u64::try_from(more).unwrap_or(u64::MAX))
}

struct View<'a> {
    builder: &'a Builder<'a>,
    compared: &'a Compared,
    axis: &'a str,
    values: &'a [String],
}

impl View<'_> {
    /// The rows of a case: its lines of cells, those that go the same way as one row, the most lines first.
    fn rows(&self, case: CaseId, seen: &Seen) -> Vec<CaseRow> {
        let mut lines: BTreeSet<BTreeMap<String, String>> = BTreeSet::new();
        for cell in &seen.cells {
            let mut values = self.builder.values(*cell);
            values.remove(self.axis);
            lines.insert(values);
            if lines.len() >= LINES_MOST {
                break;
            }
        }
        let mut ways: BTreeMap<Vec<Option<CaseMark>>, Vec<BTreeMap<String, String>>> =
            BTreeMap::new();
        for line in lines {
            let marks = self.values.iter().map(|value| {
                let mut values = line.clone();
                values.insert(self.axis.to_owned(), value.clone());
                let cell = self.builder.matrix.cells().number(&values)?;
                Some(self.mark(cell, case))
            });
            ways.entry(marks.collect()).or_default().push(line);
        }
        let mut ways: Vec<_> = ways.into_iter().collect();
        ways.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then(a.1.cmp(&b.1)));
        let row = |(marks, mut lines): (Vec<Option<CaseMark>>, Vec<BTreeMap<String, String>>)| {
            let count = u64::try_from(lines.len()).unwrap_or(u64::MAX);
            lines.truncate(LINES_NAMED_MOST);
            CaseRow {
                case: self.builder.cases.name(case).to_owned(),
                lines,
                count,
                marks,
            }
        };
        ways.into_iter().map(row).collect()
    }

    fn mark(&self, cell: CellNumber, case: CaseId) -> CaseMark {
        let cases = &self.builder.cases;
        if let Some(comparison) = self.compared.cells.get(&cell) {
            if cases.has(&comparison.regressed, case) {
                return CaseMark::Regressed;
            }
            if cases.has(&comparison.fixed, case) {
                return CaseMark::Fixed;
            }
        }
        let Some(side) = self.builder.side(cell) else {
            return CaseMark::Unresolved;
        };
        match side.standing(case, cases) {
            Standing::Passes => CaseMark::Passed,
            Standing::Fails => CaseMark::Failed,
            Standing::Flaky => CaseMark::Flaky,
            Standing::Out if side.untested || side.verdict == Verdict::Unresolved => {
                CaseMark::Unresolved
            }
            Standing::Out => CaseMark::Skipped,
        }
    }
}
