//! A cell beside its baseline, case by case: what it broke, what it mended, and what cannot be told. May not: choose the
//! baseline.

use std::borrow::Cow;
use std::collections::BTreeSet;

use regatta_model::report::{Comparison, Verdict};

use super::case::{CaseId, Cases, SetId};
use super::cell::NO_SET;
use super::compare::CellCompared;
use super::series::{Changed, Direction};
use super::shards::{self, Parts};
use crate::earlier::Earlier;
use crate::sequential::{Answer, Depth, Record, Rule, Sides, is_broken, probability, score};
use crate::tally::{Tally, by_chance};

/// How a case stands in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Passes,
    Fails,
    Flaky,
    /// It did not run, there is no such case, or it failed as it is known to.
    Out,
}

/// What a comparison needs of a cell.
pub(super) struct Side<'a> {
    pub(super) verdict: Verdict,
    pub(super) broken: bool,
    pub(super) untested: bool,
    pub(super) set: SetId,
    pub(super) failing: &'a [CaseId],
    pub(super) flaky: &'a [CaseId],
    pub(super) skipped: &'a [CaseId],
    pub(super) known: &'a [CaseId],
    pub(super) parts: Cow<'a, Parts>,
}

impl Side<'_> {
    /// How a case stands in it.
    pub(super) fn standing(&self, case: CaseId, cases: &Cases) -> Standing {
        if cases.has(self.failing, case) {
            Standing::Fails
        } else if cases.has(self.flaky, case) {
            Standing::Flaky
        } else if cases.has(self.skipped, case)
            || cases.has(self.known, case)
            || !cases.contains(self.set, case)
        {
            Standing::Out
        } else {
            Standing::Passes
        }
    }
}

/// Cases that pass in the baseline and that the candidate has not. A candidate without any results that did not pass is not
/// asked: what it lacks is told by how it ended as a whole.
fn missing(candidate: &Side<'_>, baseline: &Side<'_>, cases: &Cases) -> Vec<CaseId> {
    let ended = candidate.set == NO_SET && candidate.verdict != Verdict::Passed;
    if candidate.set == baseline.set || ended || baseline.set == NO_SET {
        return Vec::new();
    }
    let is_missing = |case: &CaseId| {
        !cases.contains(candidate.set, *case) && baseline.standing(*case, cases) == Standing::Passes
    };
    let all = cases.in_order(baseline.set);
    all.iter().copied().filter(is_missing).collect()
}

/// A cell and its baseline.
pub(super) struct Pair<'a> {
    pub(super) candidate: &'a Side<'a>,
    pub(super) baseline: &'a Side<'a>,
    /// What earlier runs say of a shard of the baseline.
    pub(super) earlier: &'a dyn Fn(usize) -> Option<&'a Earlier>,
    /// The cells before the baseline on its line.
    pub(super) line: Vec<Cow<'a, Parts>>,
    /// Cases that the baseline, or one before it, is told to have broken, each list sorted by name.
    pub(super) told: [&'a [CaseId]; 2],
    pub(super) cases: &'a Cases,
    pub(super) rule: Rule,
}

impl Pair<'_> {
    /// What failed in `shard` of one of the two cells, in both.
    fn sides(&self, case: Changed, shard: usize) -> Sides {
        let name = case.map(|case| self.cases.name(case));
        let place = |parts: &Parts| shards::place(parts, case, shard, self.cases);
        let (candidate, baseline) = (&self.candidate.parts, &self.baseline.parts);
        let earlier = (self.earlier)(place(baseline)).map(|earlier| earlier.of(name));
        let line = self.line.iter();
        let line: Vec<&Tally<CaseId>> = line
            .filter_map(|parts| shards::tally(parts, place(parts)))
            .collect();
        let error_rate = self.rule.error_rate;
        let line = by_chance(Record::default(), line.into_iter(), case, error_rate);
        let none = Tally::default();
        let tally = |parts| shards::tally(parts, place(parts)).unwrap_or(&none);
        let earlier = earlier.unwrap_or_default().and(line);
        let mut sides = tally(candidate).beside(tally(baseline), earlier, case);
        sides.broken_before = is_broken(sides.baseline.all(), line, error_rate);
        sides
    }

    /// Whether the candidate broke what failed in one of its shards; none: nobody asks.
    fn answer(&self, case: Changed, shard: usize) -> Option<(Answer, f64)> {
        let standing = case.map(|case| self.baseline.standing(case, self.cases));
        let sides = self.sides(case, shard);
        match standing {
            // A case that the baseline has not: where the baseline passes as a whole, the cell as a whole is worse.
            Some(Standing::Out) if self.baseline.verdict != Verdict::Passed => {
                return Some((Answer::Unresolved, 0.0));
            }
            Some(Standing::Fails) => return None,
            // Nobody asks whether a version broke what was known to be broken before it.
            _ if case.is_some_and(|case| self.cases.has(self.baseline.known, case)) => return None,
            _ => {}
        }
        let before = sides.broken_before || sides.baseline.all().only_failed();
        if sides.candidate.all().failed == 0 || before {
            return None;
        }
        if !sides.is_open() {
            return Some((Answer::Unresolved, 0.0));
        }
        let sure = probability(sides.score(self.rule.depth));
        Some((sides.answer(&self.rule), sure))
    }

    /// One cell against another; the baseline is still to be named.
    pub(super) fn compare(&self) -> CellCompared {
        let (candidate, baseline, cases) = (self.candidate, self.baseline, self.cases);
        let unknown = |side: &Side<'_>| side.untested || side.verdict == Verdict::Unresolved;
        if unknown(candidate) || unknown(baseline) {
            return CellCompared::unresolved();
        }
        let missing = missing(candidate, baseline, cases);
        let mut found = CellCompared::unresolved();
        // A test that failed and did not come to all of its cases may have failed before them.
        let mut unresolved = !missing.is_empty() && candidate.verdict == Verdict::Failed;
        for (case, shard) in shards::failing(&candidate.parts) {
            // What the baseline is told to have broken it has not broken again, unless that is sure.
            let told = case.is_some_and(|case| self.told.iter().any(|told| cases.has(told, case)));
            let answer = self.answer(case, shard);
            let answer = answer.filter(|(answer, _)| !told || *answer == Answer::Regressed);
            let Some((answer, sure)) = answer else {
                let before = told || self.sides(case, shard).broken_before;
                found.broken_before.extend(case.filter(|_| before));
                continue;
            };
            match (answer, case) {
                (Answer::Regressed, case) => {
                    found.surely_regressed = found.surely_regressed.min(sure);
                    match case {
                        Some(case) => found.regressed.push(case),
                        None => found.whole = Some(Direction::Regressed),
                    }
                }
                (Answer::Unbroken, _) => {}
                (Answer::Ask { .. } | Answer::Unresolved, case) => {
                    unresolved = true;
                    // Where the baseline never ran it, reruns would not tell.
                    found
                        .open
                        .extend(case.filter(|_| self.sides(case, shard).is_open()));
                }
            }
            let drifted = self.sides(case, shard).has_drifted(&self.rule);
            found.drifted.extend(case.filter(|_| drifted));
        }
        let passes = |case: &&CaseId| candidate.standing(**case, cases) == Standing::Passes;
        found.fixed = baseline.failing.iter().filter(passes).copied().collect();
        if baseline.broken && candidate.verdict == Verdict::Passed {
            found.whole = Some(Direction::Fixed);
        }
        // Broken as a whole before, and in another way now.
        unresolved |= baseline.broken && !candidate.broken && found.whole.is_none();
        let by_name = |one: &CaseId, other: &CaseId| cases.name(*one).cmp(cases.name(*other));
        let CellCompared {
            regressed,
            open,
            drifted,
            broken_before,
            ..
        } = &mut found;
        for list in [regressed, open, drifted, broken_before] {
            list.sort_by(by_name);
            list.dedup();
        }
        found.result = if !found.regressed.is_empty() || found.whole == Some(Direction::Regressed) {
            Comparison::Regressed
        } else if unresolved {
            Comparison::Unresolved
        } else if !found.fixed.is_empty() || found.whole == Some(Direction::Fixed) {
            Comparison::Fixed
        } else {
            Comparison::Unchanged
        };
        found.surely_fixed = self.surely_fixed(&found);
        found.missing = missing;
        found
    }

    /// How probable it is that the candidate mended what the baseline fails: the same question the other way round.
    fn surely_fixed(&self, found: &CellCompared) -> f64 {
        let failed = shards::failing(&self.baseline.parts).into_iter();
        let fixed = failed.filter(|(case, _)| match case {
            Some(case) => self.cases.has(&found.fixed, *case),
            None => found.whole == Some(Direction::Fixed),
        });
        let records: BTreeSet<(Record, Record)> = fixed
            .map(|(case, shard)| {
                let sides = self.sides(case, shard);
                (sides.candidate.all(), sides.baseline.all())
            })
            .collect();
        records
            .into_iter()
            .map(|(now, before)| probability(score(now, before, Depth::Usual, false)))
            .fold(1.0, f64::min)
    }
}
