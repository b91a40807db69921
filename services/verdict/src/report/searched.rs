//! What searches among values that a run left out add to its regressions. May not: search.

use std::collections::BTreeSet;

use regatta_model::report::{Bisected, BisectedAs, Finding, GapSearch};

use super::Builder;
use super::series::Change;

/// A change by what searches tell of its cases, each part with what is told of it; the earliest first, what nothing is told
/// of last.
pub(super) fn parts(builder: &Builder<'_>, mut change: Change) -> Vec<(Change, Option<Bisected>)> {
    let mut parts = Vec::new();
    let whole = change.cases.is_empty();
    let gap = builder
        .searches
        .iter()
        .find(|gap| is_about(builder, &change, gap));
    for bisected in gap.into_iter().flat_map(|gap| &gap.found) {
        let names: BTreeSet<&str> = bisected.cases.iter().map(String::as_str).collect();
        let own = |case: &_| names.contains(builder.cases.name(*case));
        let cases: Vec<_> = change.cases.iter().copied().filter(own).collect();
        if cases.is_empty() && !(whole && names.is_empty()) {
            continue;
        }
        change.cases.retain(|case| !own(case));
        let mut part = Change {
            cases,
            ..change.clone()
        };
        if bisected.result == BisectedAs::Found
            && let (Some(good), Some(bad)) = (&bisected.last_good, &bisected.first_bad)
        {
            part.last.clone_from(good);
            part.first.clone_from(bad);
        }
        parts.push((part, Some(bisected.clone())));
    }
    let told = !parts.is_empty();
    if !(told && change.cases.is_empty()) {
        parts.push((change, None));
    }
    parts
}

/// Whether a search was made for this change: between the same values, in the line of its first cell.
fn is_about(builder: &Builder<'_>, change: &Change, gap: &GapSearch) -> bool {
    let Some(cell) = change.cells.first() else {
        return false;
    };
    let mut with = builder.values(*cell);
    with.remove(&gap.axis);
    let compared = builder.matrix.compare().map(|compare| &compare.axis);
    compared == Some(&gap.axis)
        && change.last == gap.last_good
        && change.first == gap.first_bad
        && with == gap.with
}

/// Adds to a regression what the search for where it began came to.
pub(super) fn tell(finding: &mut Finding, bisected: Bisected) {
    if bisected.result == BisectedAs::Found {
        finding
            .text
            .push_str(" (traced among values that the run left out)");
        let sure = (bisected.probability * 10_000.0).floor() / 10_000.0;
        finding.confidence = finding.confidence.min(sure);
    } else {
        finding.text.push_str(". Between them: ");
        // The sentence that it becomes a part of has an end of its own.
        finding.text.push_str(bisected.text.trim_end_matches('.'));
    }
    finding.bisected = Some(bisected);
}
