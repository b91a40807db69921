//! A cell in parts: what the shards of one cell say together, and which of them tells of a case. A cell that is not split
//! is one part. May not: compare cells.

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::Outcome;
use regatta_model::report::Verdict;

use super::case::{CaseId, Cases, SetId};
use super::cell::{Cell, NO_SET, union};
use super::series::Changed;
use crate::sequential::Record;
use crate::tally::Tally;

/// The counted attempts of one shard.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Its cases.
    pub(super) set: SetId,
    pub(super) tally: Tally<CaseId>,
}

/// All shards of a cell in their order. A single part may stand for all of them: then they count the same.
pub(super) type Parts = [Part];

/// What failed in which shard: cases, and (none) the whole.
pub(super) fn failing(parts: &Parts) -> BTreeSet<(Changed, usize)> {
    let all = parts.iter().enumerate();
    all.flat_map(|(shard, part)| part.tally.failing().into_iter().map(move |c| (c, shard)))
        .collect()
}

/// Which shard tells of a case that another cell has in shard `shard`: a case may have moved, where tests were added before it.
pub(super) fn place(parts: &Parts, case: Changed, shard: usize, cases: &Cases) -> usize {
    let has = |part: &Part, case| cases.contains(part.set, case);
    match case {
        Some(case) if parts.len() > 1 && !parts.get(shard).is_some_and(|part| has(part, case)) => {
            let other = parts.iter().position(|part| has(part, case));
            other.unwrap_or(shard)
        }
        _ => shard,
    }
}

/// A shard's counts; none where the cell has no part.
pub(super) fn tally(parts: &Parts, shard: usize) -> Option<&Tally<CaseId>> {
    let part = parts.get(shard).or(parts.first());
    part.map(|part| &part.tally)
}

/// How often a case, or (none) the cell as a whole, ran and failed: in the shards that ran it or, as a whole, in those that
/// failed so. Where there are none, what the shard with fewest attempts says.
pub(super) fn record(parts: &Parts, case: Changed, cases: &Cases) -> Record {
    let tells = |part: &&Part| match case {
        Some(case) => cases.contains(part.set, case),
        None => part.tally.of(None).all().failed > 0,
    };
    let telling = parts.iter().filter(tells);
    let told = telling.map(|part| part.tally.of(case).all());
    let told = told.reduce(Record::and).filter(|_| parts.len() > 1);
    let fewest = || {
        let all = parts.iter().map(|part| part.tally.of(case).all());
        all.min_by_key(|record| record.runs)
    };
    told.or_else(fewest).unwrap_or_default()
}

/// Shards, in their order, as one cell; none: no attempt of it ended. `declared`: the matrix names its results, so that a shard
/// may be without a case, but not all of them.
pub(super) fn join(mut shards: Vec<Option<Cell>>, declared: bool, cases: &mut Cases) -> Cell {
    let total = shards.len();
    if total == 1
        && let Some(Some(only)) = shards.pop()
    {
        return only;
    }
    for (shard, cell) in (1..).zip(&mut shards) {
        let Some(cell) = cell else { continue };
        let said = std::mem::take(&mut cell.detail);
        if !said.is_empty() {
            cell.detail = format!("shard {shard} of {total}: {said}");
        }
        for attempt in &mut cell.attempts {
            attempt.shard = Some(shard);
        }
    }
    let told: Vec<&Cell> = shards.iter().flatten().collect();
    let sets = told.iter().filter_map(|cell| cell.set);
    let sets: Vec<_> = sets.map(|set| (set, cases.in_order(set))).collect();
    let set = union(&sets, cases);
    let mut verdict = verdict(&told, total);
    let parts = shards.iter().map(|cell| Part {
        set: cell.as_ref().and_then(|cell| cell.set).unwrap_or(NO_SET),
        tally: tally_of(cell.as_ref()),
    });
    let mut parts: Vec<Part> = parts.collect();
    let gather = |of: fn(&Cell) -> &Vec<CaseId>| -> Vec<CaseId> {
        let mut ids: Vec<CaseId> = told.iter().flat_map(|cell| of(cell)).copied().collect();
        ids.sort_by(|a, b| cases.name(*a).cmp(cases.name(*b)));
        ids.dedup();
        ids
    };
    let failing = gather(|cell| &cell.failing);
    let mut flaky = gather(|cell| &cell.flaky);
    flaky.retain(|case| !cases.has(&failing, *case));
    let mut skipped = gather(|cell| &cell.skipped);
    skipped.retain(|case| {
        let skips = |cell: &&Cell| match cell.set {
            Some(set) if cases.contains(set, *case) => cases.has(&cell.skipped, *case),
            _ => true,
        };
        told.iter().all(skips)
    });
    let known = gather(|cell| &cell.known);
    let mut messages = BTreeMap::new();
    for cell in &told {
        for (case, message) in &cell.messages {
            messages.entry(*case).or_insert_with(|| message.clone());
        }
    }
    let first = told.iter().find(|cell| cell.failures > 0).or(told.first());
    let mut end = first.and_then(|cell| cell.end);
    let mut detail = first.map_or_else(String::new, |cell| cell.detail.clone());
    let mut broken = told.iter().any(|cell| cell.broken);
    let untested = told.iter().find_map(|cell| cell.untested.clone());
    let sum = |of: fn(&Cell) -> u32| {
        told.iter()
            .map(|cell| of(cell))
            .fold(0, u32::saturating_add)
    };
    let (passes, failures) = (sum(|cell| cell.passes), sum(|cell| cell.failures));
    let empty = set.is_none_or(|set| cases.in_order(set).is_empty());
    if declared && empty && verdict == Verdict::Passed {
        (verdict, broken) = (Verdict::Failed, true);
        end = Some(Outcome::Exited { exit_code: 0 });
        detail = format!("exit status 0, but the results of its {total} shards hold no case");
        let whole = |part: &mut Part| {
            let attempts = part.tally.attempts();
            part.tally = Tally::default();
            (0..attempts).for_each(|_| part.tally.add(attempts, false, std::iter::empty()));
        };
        parts.iter_mut().for_each(whole);
    }
    Cell {
        verdict,
        broken,
        untested,
        set,
        failing,
        flaky,
        skipped,
        known,
        messages,
        end,
        detail,
        passes,
        failures,
        parts,
        // A matrix that compares metrics is not split.
        samples: Vec::new(),
        attempts: shards
            .into_iter()
            .flatten()
            .flat_map(|cell| cell.attempts)
            .collect(),
    }
}

/// The worst of the shards' verdicts; nothing is known before all of them are, but that one failed.
fn verdict(told: &[&Cell], total: usize) -> Verdict {
    let any = |wanted| told.iter().any(|cell| cell.verdict == wanted);
    if any(Verdict::Failed) {
        Verdict::Failed
    } else if told.len() < total || any(Verdict::Unresolved) {
        Verdict::Unresolved
    } else if any(Verdict::Flaky) {
        Verdict::Flaky
    } else {
        Verdict::Passed
    }
}

fn tally_of(cell: Option<&Cell>) -> Tally<CaseId> {
    let part = cell.and_then(|cell| cell.parts.first());
    part.map(|part| part.tally.clone()).unwrap_or_default()
}
