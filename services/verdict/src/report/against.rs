//! A run beside another one of the same cells, which ran at another time: what fails here that did not fail there. May not: ask
//! for controls; there are none, so that what changed around both runs counts too.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use regatta_model::CellNumber;
use regatta_model::report::{Against, AgainstChange, AgainstKind, Verdict};

use super::Builder;
use super::others::which_cells;
use super::pair::{Side, Standing};
use super::shards;
use crate::sequential::{Depth, Record, probability, score};

/// Most changes that are listed.
const CHANGES_MOST: usize = 200;

/// Most cells of a change that are listed.
const CELLS_MOST: usize = 1000;

/// Most cells that are counted.
const COUNTED_MOST: usize = 1_000_000;

/// A change of a case (none: of cells as a whole) that several cells may show.
type Changes<'a> = BTreeMap<(AgainstKind, Option<&'a str>), (BTreeSet<CellNumber>, f64)>;

/// What is new in `here` beside `there`. None: they share no cell.
pub(super) fn compare(here: &Builder<'_>, there: &Builder<'_>) -> Option<Against> {
    let pairs = shared(here, there);
    let known = |builder: &Builder<'_>, number| builder.is_known(number);
    let (mut cells, mut only_here) = (0, 0);
    for number in here.matrix.cells().numbers().take(COUNTED_MOST) {
        let other = counterpart(here, number, there);
        let (mine, theirs) = (
            known(here, number),
            other.is_some_and(|other| known(there, other)),
        );
        cells += u64::from(mine && theirs);
        only_here += u64::from(mine && !theirs);
    }
    let there_known = there.matrix.cells().numbers().take(COUNTED_MOST);
    let there_known = there_known.filter(|number| known(there, *number)).count();
    let only_there = u64::try_from(there_known).unwrap_or(u64::MAX);
    let only_there = only_there.saturating_sub(cells);
    if cells == 0 && pairs.is_empty() {
        return None;
    }
    let error_rate = here.rule.error_rate.clamp(1e-9, 0.499);
    let enough = ((1.0 - error_rate) / error_rate).ln();
    let (mut changes, mut alike) = (Changes::new(), 0);
    for (number, other) in pairs {
        let (Some(mine), Some(theirs)) = (here.side(number), there.side(other)) else {
            continue;
        };
        let unknown = |side: &Side<'_>| side.untested || side.verdict == Verdict::Unresolved;
        if unknown(&mine) || unknown(&theirs) {
            continue;
        }
        let names: BTreeSet<Option<&str>> = failing(here, &mine)
            .chain(failing(there, &theirs))
            .collect();
        for name in names {
            let (now, before) = (record(here, &mine, name), record(there, &theirs, name));
            let (kind, sure) = if now.failed > 0 {
                let sure = score(before, now, Depth::Usual, false);
                if before.runs > 0 && sure >= enough {
                    (AgainstKind::Regressed, sure)
                } else if before.failed > 0 {
                    alike += 1;
                    continue;
                } else {
                    (AgainstKind::Unresolved, sure)
                }
            } else {
                let sure = score(now, before, Depth::Usual, false);
                // What failed now and then, and happened to pass, is no news.
                if now.runs == 0 || sure < enough {
                    continue;
                }
                (AgainstKind::Fixed, sure)
            };
            let change = changes
                .entry((kind, name))
                .or_insert((BTreeSet::new(), 1.0));
            change.0.insert(number);
            change.1 = change.1.min(probability(sure));
        }
    }
    Some(told(
        here,
        there,
        (cells, only_here, only_there),
        alike,
        changes,
    ))
}

/// Cells that both have and of which one did not simply pass.
fn shared(here: &Builder<'_>, there: &Builder<'_>) -> BTreeMap<CellNumber, CellNumber> {
    let mine = here.cells.keys();
    let mine = mine.filter_map(|number| Some((*number, counterpart(here, *number, there)?)));
    let theirs = there.cells.keys();
    let theirs = theirs.filter_map(|number| Some((counterpart(there, *number, here)?, *number)));
    mine.chain(theirs).collect()
}

/// The cell of another run with the same values.
fn counterpart(of: &Builder<'_>, number: CellNumber, other: &Builder<'_>) -> Option<CellNumber> {
    other.matrix.cells().number(&of.values(number))
}

/// What failed in a cell: cases by name, and (none) the whole.
fn failing<'a>(
    builder: &'a Builder<'_>,
    side: &Side<'_>,
) -> impl Iterator<Item = Option<&'a str>> + use<'a> {
    let failing: Vec<Option<&str>> = shards::failing(&side.parts)
        .into_iter()
        .map(|(case, _)| case.map(|case| builder.cases.name(case)))
        .collect();
    failing.into_iter()
}

/// How often a case ran in a cell, and how often it failed; nothing where the cell has no such case, or it is known to fail.
fn record(builder: &Builder<'_>, side: &Side<'_>, name: Option<&str>) -> Record {
    let Some(name) = name else {
        return shards::record(&side.parts, None, &builder.cases);
    };
    let Some(case) = builder.cases.find(name) else {
        return Record::default();
    };
    if side.standing(case, &builder.cases) == Standing::Out {
        return Record::default();
    }
    shards::record(&side.parts, Some(case), &builder.cases)
}

fn told(
    here: &Builder<'_>,
    there: &Builder<'_>,
    (cells, only_here, only_there): (u64, u64, u64),
    alike: u64,
    changes: Changes<'_>,
) -> Against {
    let run = there.run.run.to_string();
    let count = |wanted| {
        let of_kind = changes.keys().filter(|(kind, _)| *kind == wanted);
        of_kind.count()
    };
    let (broke, open, fixed) = (
        count(AgainstKind::Regressed),
        count(AgainstKind::Unresolved),
        count(AgainstKind::Fixed),
    );
    let parts = [
        (broke, "broke"),
        (open, "may have broken"),
        (fixed, "no longer fail"),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let what = match parts.as_slice() {
        [] => "nothing is different".to_owned(),
        parts => format!("of the tests, {}", parts.join(", ")),
    };
    let sentence = format!(
        "Against run {run}, in {cells} cells: {what}. The runs were not at the same time: what changed around them counts too."
    );
    let mut all: Vec<_> = changes.into_iter().collect();
    all.sort_by_key(|((kind, name), (cells, _))| (*kind, Reverse(cells.len()), *name));
    let more = all.len().saturating_sub(CHANGES_MOST);
    let changes = all.into_iter().take(CHANGES_MOST).map(|((kind, name), (cells, sure))| {
        let cells: Vec<CellNumber> = cells.into_iter().take(CELLS_MOST).collect();
        let which = which_cells(here, &cells);
        let what = name.unwrap_or("the test as a whole");
        let text = match kind {
            AgainstKind::Regressed => format!("{what} fails in {which}, and did not in run {run}"),
            AgainstKind::Unresolved => format!(
                "{what} failed in {which}, and not in run {run}: that may be chance, or the test is new"
            ),
            AgainstKind::Fixed => format!("{what} no longer fails in {which}"),
        };
        AgainstChange {
            kind,
            case: name.map(str::to_owned),
            cells,
            probability: (sure * 10_000.0).floor() / 10_000.0,
            text,
        }
    });
    Against {
        changes: changes.collect(),
        run,
        submitted_ms: there.run.submitted_ms,
        sentence,
        cells,
        only_here,
        only_there,
        alike,
        more: u64::try_from(more).unwrap_or(u64::MAX),
    }
}
