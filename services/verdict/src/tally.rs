//! The attempts of one cell that can decide, counted case by case. May not: conclude anything from the counts.
//!
//! An attempt that failed without a failing case says nothing of its cases: it counts for the *whole*, a case of its own
//! that every attempt runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::sequential::{Record, Sides, Told, is_broken};

/// Counts of a cell; `K` names a case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally<K> {
    /// The first attempts, as many as the matrix asks for.
    first: Part<K>,
    reruns: Part<K>,
}

#[derive(Clone, Debug, Default)]
struct Part<K> {
    attempts: u32,
    /// Those that told of cases.
    told: u32,
    /// Those that failed as a whole.
    whole: u32,
    /// How often each case failed that ever did.
    failed: BTreeMap<K, u32>,
}

impl<K: Ord + Copy> Part<K> {
    fn of(&self, case: Option<K>) -> Record {
        match case {
            None => Record {
                failed: self.whole,
                runs: self.attempts,
            },
            Some(case) => Record {
                failed: self.failed.get(&case).copied().unwrap_or(0),
                runs: self.told,
            },
        }
    }
}

/// What cells say of a case, the oldest last, but for those that broke it: those that always fail it, and those that fail it
/// more often than what was `before` them, and those that pass it, explain. `before` is counted as well.
pub(crate) fn by_chance<'a, K: Ord + Copy + 'a>(
    before: Record,
    line: impl DoubleEndedIterator<Item = &'a Tally<K>>,
    case: Option<K>,
    error_rate: f64,
) -> Record {
    let records = line.rev().map(|tally| tally.of(case).all());
    let (failed, passed): (Vec<Record>, Vec<Record>) =
        records.partition(|record| record.failed > 0);
    let before = passed.into_iter().fold(before, Record::and);
    failed.into_iter().fold(before, |before, record| {
        let broken = record.only_failed() || is_broken(record, before, error_rate);
        if broken { before } else { before.and(record) }
    })
}

impl<K: Ord + Copy> Tally<K> {
    /// Counts an attempt; those of a cell come by ordinal, and `repeat` of them are first ones. `failing` are its failing
    /// cases.
    pub(crate) fn add(&mut self, repeat: u32, passed: bool, failing: impl Iterator<Item = K>) {
        let part = if self.first.attempts < repeat.max(1) {
            &mut self.first
        } else {
            &mut self.reruns
        };
        part.attempts += 1;
        let told = part.told;
        let mut failing = failing.peekable();
        if passed || failing.peek().is_some() {
            part.told = told.saturating_add(1);
        } else {
            part.whole += 1;
        }
        for case in failing {
            *part.failed.entry(case).or_insert(0) += 1;
        }
    }

    /// Of so many attempts that all passed.
    pub(crate) fn passed(attempts: u32, repeat: u32) -> Self {
        let first = attempts.min(repeat.max(1));
        let part = |attempts| Part {
            attempts,
            told: attempts,
            whole: 0,
            failed: BTreeMap::new(),
        };
        Self {
            first: part(first),
            reruns: part(attempts - first),
        }
    }

    /// What they say of a case, or (none) of the whole.
    pub(crate) fn of(&self, case: Option<K>) -> Told {
        Told {
            first: self.first.of(case),
            reruns: self.reruns.of(case),
        }
    }

    /// All attempts.
    pub(crate) fn attempts(&self) -> u32 {
        self.first.attempts.saturating_add(self.reruns.attempts)
    }

    /// What failed: cases, and (none) the whole.
    pub(crate) fn failing(&self) -> BTreeSet<Option<K>> {
        let parts = [&self.first, &self.reruns];
        let cases = parts.iter().flat_map(|part| part.failed.keys().copied());
        let mut failing: BTreeSet<Option<K>> = cases.map(Some).collect();
        if parts.iter().any(|part| part.whole > 0) {
            failing.insert(None);
        }
        failing
    }

    /// A case, or (none) the whole, beside the same in a baseline. `earlier`: what earlier runs say of the baseline.
    pub(crate) fn beside(&self, baseline: &Self, earlier: Record, case: Option<K>) -> Sides {
        Sides {
            candidate: self.of(case),
            baseline: baseline.of(case),
            earlier,
            reruns: self.reruns.attempts,
            controls: baseline.reruns.attempts,
            broken_before: false,
        }
    }
}
