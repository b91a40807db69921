//! Known failures: what failed and may, what may no longer, and what does not fail at all. May not: count any of it.

use regatta_model::CellNumber;
use regatta_model::matrix::{Day, Known};
use regatta_model::report::{Finding, FindingKind, Verdict};

use super::Builder;
use super::case::CaseId;
use super::others::{plain, which_cells};

/// Most findings of known failures; those that fail first.
const FINDINGS_MOST: usize = 50;

/// Most case names of one finding.
const CASES_MOST: usize = 1000;

/// What is found of one entry.
#[derive(Clone, Default)]
struct Found {
    cells: Vec<CellNumber>,
    cases: Vec<CaseId>,
    /// Cells with a verdict.
    tested: u64,
}

/// One for each entry of the matrix that somebody has to know of.
pub(super) fn findings(builder: &Builder<'_>) -> Vec<Finding> {
    let day = Day::of(builder.run.submitted_ms);
    let all = builder.matrix.known();
    if all.is_empty() {
        return Vec::new();
    }
    let mut found = vec![Found::default(); all.len()];
    for (number, cell) in &builder.cells {
        for (at, known) in builder.matrix.known_in(*number) {
            let Some(found) = found.get_mut(at) else {
                continue;
            };
            found.tested += u64::from(cell.verdict != Verdict::Unresolved);
            let failed = if known.is_over(day) {
                &cell.failing
            } else {
                &cell.known
            };
            let means = |case: &&CaseId| known.means(builder.cases.name(**case));
            let before = found.cases.len();
            found.cases.extend(failed.iter().filter(means));
            if found.cases.len() > before {
                found.cells.push(*number);
            }
        }
    }
    let told = all.iter().zip(found);
    told.filter_map(|(known, found)| told_of(builder, known, found, known.is_over(day)))
        .take(FINDINGS_MOST)
        .collect()
}

fn told_of(builder: &Builder<'_>, known: &Known, found: Found, over: bool) -> Option<Finding> {
    let Found {
        cells,
        mut cases,
        tested,
    } = found;
    cases.sort_unstable();
    cases.dedup();
    let mut names: Vec<String> = cases
        .iter()
        .map(|case| builder.cases.name(*case).to_owned())
        .collect();
    names.sort_unstable();
    names.truncate(CASES_MOST);
    let Known {
        case, owner, until, ..
    } = known;
    let which = which_cells(builder, &cells);
    let what = match names.as_slice() {
        [] => case.clone(),
        [name] => name.clone(),
        names => format!("{} tests like {case}", names.len()),
    };
    let fail = if names.len() > 1 { "fail" } else { "fails" };
    let text = match (over, cells.is_empty()) {
        (false, false) => format!("{what} {fail} in {which}, as {owner} knows (until {until})"),
        (true, false) => format!(
            "{what} {fail} in {which}, and was known to until {until} only: {owner} answers for it"
        ),
        // In a large run cells that simply passed are not kept, so it is not known whether it was tested.
        (false, true) if tested > 0 && !builder.is_large() && builder.is_whole() => format!(
            "{what} failed nowhere, though {owner} knows it to (until {until}): its entry in `known` may go"
        ),
        _ => return None,
    };
    let text = match known.why.as_str() {
        "" => text,
        why => format!("{text}: {why}"),
    };
    Some(Finding {
        case: (names.len() == 1).then(|| names.concat()),
        cases: names,
        ..plain(FindingKind::Known, cells, text)
    })
}
