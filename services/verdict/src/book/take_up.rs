//! A book from what is recorded, after a restart or when a run that is over goes on. May not: read it.

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::next::Again;
use regatta_model::report::Verdict;
use regatta_model::{CellNumber, Ordinal};

use super::budget::reruns;
use super::{Begun, Book};
use crate::judge::{self, AttemptFacts};

/// Where the cells of a run stand that is taken up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TakenUp {
    /// Cells with a verdict.
    pub settled: Vec<CellNumber>,
    /// The highest ordinal of each cell that has any; settled ones with as many as the matrix asks for are left out.
    pub tried: BTreeMap<CellNumber, Ordinal>,
    /// What is wanted of cells in `tried` without a verdict.
    pub again: Vec<Again>,
}

impl Book {
    /// Takes in all recorded attempts of one cell, the first first. Cells that did not simply pass wait for
    /// [`Self::judge_taken_up`], once the facts that they are compared with are there.
    pub fn take_up(&mut self, cell: CellNumber, facts: Vec<AttemptFacts>, to: &mut TakenUp) {
        self.attempts += u64::try_from(facts.len()).unwrap_or(u64::MAX);
        self.reruns += reruns(&facts, &self.policy);
        let last = facts.iter().map(|facts| facts.ordinal).max().unwrap_or(0);
        if last != self.policy.repeat {
            to.tried.insert(cell, last);
        }
        let passed = judge::next(&facts, None, &self.policy).verdict == Some(Verdict::Passed);
        if passed && self.pairs.is_none() {
            self.passed.insert(cell);
            self.settled += 1;
            to.settled.push(cell);
        } else {
            to.tried.insert(cell, last);
            self.begun.insert(
                cell,
                Begun {
                    facts,
                    ..Begun::default()
                },
            );
        }
    }

    /// Cells that did not simply pass, so far as was taken up.
    pub fn not_passed(&self) -> Vec<CellNumber> {
        self.begun.keys().copied().collect()
    }

    /// Judges a cell that was taken up. `asked`: somebody asked for another attempt of what had not passed, and none
    /// told more since.
    pub fn judge_taken_up(&mut self, cell: CellNumber, asked: bool, to: &mut TakenUp) {
        let (next, _) = self.judge(cell, false);
        to.again.extend(next.again);
        if asked && next.settled {
            self.set_verdict(cell, None);
            to.again.push(Again {
                cell,
                attempts: 1,
                reruns: 0,
                avoid: judge::hosts(self.facts(cell)),
            });
        }
    }

    /// Completes `to` once all was taken up and judged. Gives a cell that failed, if any did.
    pub fn taken_up(&mut self, to: &mut TakenUp) -> Option<CellNumber> {
        // A cell that more is wanted of is open, whatever its attempts say.
        let wanted: BTreeSet<CellNumber> = to.again.iter().map(|again| again.cell).collect();
        for cell in &wanted {
            self.set_verdict(*cell, None);
        }
        // One that waits for what another says is wanted no attempt of.
        let waits = self.begun.iter().filter(|(cell, begun)| {
            begun.verdict.is_none() && !begun.facts.is_empty() && !wanted.contains(cell)
        });
        to.again.extend(waits.map(|(cell, _)| Again {
            cell: *cell,
            attempts: 0,
            reruns: 0,
            avoid: Vec::new(),
        }));
        let settled = self
            .begun
            .iter()
            .filter(|(_, begun)| begun.verdict.is_some());
        // One that is open again must not begin anew: it had as many attempts as all.
        let again = to.settled.iter().filter(|cell| wanted.contains(cell));
        for cell in again {
            to.tried.entry(*cell).or_insert(self.policy.repeat);
        }
        to.settled.extend(settled.map(|(cell, _)| *cell));
        to.settled.retain(|cell| !wanted.contains(cell));
        let failed = |(cell, begun): (&CellNumber, &Begun)| {
            (begun.verdict == Some(Verdict::Failed) && !self.matrix.allow_failure(*cell))
                .then_some(*cell)
        };
        let failed = self.begun.iter().find_map(failed);
        self.forget_passed();
        failed
    }
}
