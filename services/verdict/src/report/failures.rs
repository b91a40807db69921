//! What fails and is no version's doing as far as one can tell: without a comparison everything that fails, with one what
//! could not be compared; and cases that were not there. May not: repeat what a regression says.

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::report::{Comparison, Finding, FindingKind, Verdict};
use regatta_model::{CellNumber, Outcome};

use super::Builder;
use super::case::CaseId;
use super::cell::Cell;
use super::cluster::clusters;
use super::compare::Compared;
use super::findings::{capital, excerpt};
use super::others::{plain, which_cells};

/// Most findings of what fails.
const FAILURES_MOST: usize = 50;

/// Most findings of cases that were not there.
const MISSING_MOST: usize = 20;

/// Most case names of one finding.
const CASES_MOST: usize = 10_000;

/// Why a failing cell is not told of by a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// Nothing is compared.
    NoComparison,
    /// It is what others are compared with.
    Baseline,
    /// Its baseline has no verdict, or is not in the run.
    BaselineUnknown,
    /// Its baseline does not pass either, in another way.
    BaselineDiffers,
    /// It failed before it came to all cases of its baseline.
    Cut,
}

impl Why {
    const fn text(self) -> &'static str {
        match self {
            Self::NoComparison => "",
            Self::Baseline => ", which others are compared with",
            Self::BaselineUnknown => ", and there is no verdict of the baseline to compare it with",
            Self::BaselineDiffers => ", and the baseline does not pass either",
            Self::Cut => ", before it came to all tests of its baseline",
        }
    }
}

/// Cells that fail in one way: the same cases, or, where no case tells, the same end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way<'a> {
    cases: &'a [CaseId],
    end: Option<(Outcome, &'a str)>,
    why: Why,
}

impl Builder<'_> {
    fn why(&self, number: CellNumber, compared: &Compared) -> Option<Why> {
        if self.matrix.compare().is_none() {
            return Some(Why::NoComparison);
        }
        let Some(comparison) = compared.cells.get(&number) else {
            return Some(Why::Baseline);
        };
        // What may be broken, since the baseline passes it, is told as that.
        let failing = self.cells.get(&number).map_or(&[][..], |c| &c.failing);
        let is_open = |case: &CaseId| self.cases.has(&comparison.open, *case);
        let open = !failing.is_empty() && failing.iter().all(is_open);
        let passes = |cell| self.verdict(cell) == Some(Verdict::Passed);
        if open && comparison.baseline_cell.is_some_and(passes) {
            return None;
        }
        (comparison.result == Comparison::Unresolved).then(|| {
            let known = comparison
                .baseline_cell
                .is_some_and(|baseline| self.is_known(baseline));
            match known {
                false => Why::BaselineUnknown,
                true if !comparison.missing.is_empty() => Why::Cut,
                true => Why::BaselineDiffers,
            }
        })
    }
}

/// How a cell ended where no case tells why it failed.
fn end(cell: &Cell) -> Option<(Outcome, &str)> {
    let outcome = cell.end.filter(|_| cell.failing.is_empty())?;
    // Where results were read, the first line says what is wrong with them; else it is a line of the log.
    let first = cell.detail.lines().next().unwrap_or_default();
    Some((outcome, if cell.set.is_some() { first } else { "" }))
}

fn ended(outcome: Outcome) -> String {
    match outcome {
        Outcome::Exited { exit_code } => format!(" with exit status {exit_code}"),
        Outcome::Signaled { signal } => format!(" by signal {signal}"),
        Outcome::TimedOut => " by its time limit".to_owned(),
        Outcome::OutOfMemory => " by its memory limit".to_owned(),
        _ => String::new(),
    }
}

/// All of them: what fails, the most cells first, then what was not there.
pub(super) fn findings(builder: &Builder<'_>, compared: &Compared) -> Vec<Finding> {
    let mut findings = failing(builder, compared);
    findings.extend(missing(builder, compared));
    findings
}

fn failing(builder: &Builder<'_>, compared: &Compared) -> Vec<Finding> {
    // What a baseline fails is told already where another cell mends it.
    let mended = compared.cells.values();
    let mended = mended.filter(|comparison| comparison.result == Comparison::Fixed);
    let mended: BTreeSet<CellNumber> = mended.filter_map(|c| c.baseline_cell).collect();
    let mut ways: BTreeMap<Way<'_>, Vec<CellNumber>> = BTreeMap::new();
    for (number, cell) in &builder.cells {
        if cell.verdict == Verdict::Failed
            && cell.untested.is_none()
            && let Some(why) = builder.why(*number, compared)
            && !(why == Why::Baseline && mended.contains(number))
        {
            let way = Way {
                cases: &cell.failing,
                end: end(cell),
                why,
            };
            ways.entry(way).or_default().push(*number);
        }
    }
    let mut ways: Vec<(Way<'_>, Vec<CellNumber>)> = ways.into_iter().collect();
    ways.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then(a.1.cmp(&b.1)));
    let ways = ways.into_iter().take(FAILURES_MOST);
    ways.map(|(way, cells)| failure(builder, &way, cells))
        .collect()
}

fn failure(builder: &Builder<'_>, way: &Way<'_>, cells: Vec<CellNumber>) -> Finding {
    let names = names(builder, way.cases);
    let which = which_cells(builder, &cells);
    let matrix = builder.matrix.name();
    let how = way.end.map(|(outcome, _)| ended(outcome));
    let how = how.unwrap_or_default();
    let text = match names.as_slice() {
        [] => format!("The test of {matrix} failed{how} in {which}"),
        [name] => format!("{name} fails in {which}"),
        names => format!("{} tests of {matrix} fail in {which}", names.len()),
    };
    let allowed = cells.iter().all(|cell| builder.matrix.allow_failure(*cell));
    let may = if allowed { " (which may fail)" } else { "" };
    Finding {
        case: one(&names),
        excerpt: excerpt(builder, &cells, way.cases),
        clusters: clusters(builder, &cells, way.cases),
        cases: names,
        ..plain(
            FindingKind::Failure,
            cells,
            format!("{text}{may}{}", way.why.text()),
        )
    }
}

/// Cases that pass in the baseline and that cells have not: once for all cells that lack the same.
fn missing(builder: &Builder<'_>, compared: &Compared) -> Vec<Finding> {
    let mut groups: BTreeMap<&[CaseId], Vec<CellNumber>> = BTreeMap::new();
    for (number, comparison) in &compared.cells {
        // A cell that failed before them, or broke, is told of as that.
        let told = matches!(
            comparison.result,
            Comparison::Unresolved | Comparison::Regressed
        );
        if !comparison.missing.is_empty() && !told {
            groups.entry(&comparison.missing).or_default().push(*number);
        }
    }
    let mut groups: Vec<(&[CaseId], Vec<CellNumber>)> = groups.into_iter().collect();
    groups.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then(a.1.cmp(&b.1)));
    let finding = |(cases, cells): (&[CaseId], Vec<CellNumber>)| {
        let names = names(builder, cases);
        let which = capital(&which_cells(builder, &cells));
        let text = match names.as_slice() {
            [name] => format!("{which} did not run {name}, which passes in the baseline"),
            names => format!(
                "{which} did not run {} tests that pass in the baseline",
                names.len()
            ),
        };
        Finding {
            case: one(&names),
            cases: names,
            ..plain(FindingKind::Missing, cells, text)
        }
    };
    groups.into_iter().take(MISSING_MOST).map(finding).collect()
}

fn names(builder: &Builder<'_>, cases: &[CaseId]) -> Vec<String> {
    let cases = cases.iter().take(CASES_MOST);
    cases
        .map(|case| builder.cases.name(*case).to_owned())
        .collect()
}

/// The name, where it is the only one.
fn one(names: &[String]) -> Option<String> {
    match names {
        [name] => Some(name.clone()),
        _ => None,
    }
}
