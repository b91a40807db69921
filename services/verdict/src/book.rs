//! What is known of one open run's cells, and where they stand. A cell that simply passed is a bit; of others the facts are
//! kept that verdicts are made from. May not: schedule anything, or look for facts itself: it says which it misses.

mod bits;
mod budget;
mod doubt;
mod judging;
mod pairs;
mod take_up;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regatta_model::matrix::Matrix;
use regatta_model::next::Next;
use regatta_model::report::Verdict;
use regatta_model::{CellNumber, HostName};

use crate::earlier::Earlier;
use crate::judge::{AttemptFacts, Policy};

use bits::Bits;
use budget::reruns;
use pairs::Pairs;
pub use take_up::TakenUp;

/// What is known of the cells of a run that is not over.
#[derive(Debug)]
pub struct Book {
    matrix: Arc<Matrix>,
    policy: Policy,
    /// Cells that have a verdict, those of them that failed or are unresolved, and attempts that were taken in.
    settled: u64,
    failing: u64,
    attempts: u64,
    /// Decisive attempts beyond those that the matrix asks for, of all cells.
    reruns: u64,
    /// Cells that passed and whose facts are no longer kept.
    passed: Bits,
    begun: BTreeMap<CellNumber, Begun>,
    /// Cells that something failed in, by the cell that they are compared with.
    compared: BTreeMap<CellNumber, BTreeSet<CellNumber>>,
    /// What earlier runs say of cells that others are compared with.
    earlier: BTreeMap<CellNumber, Earlier>,
    /// Failures that others did not confirm, by their hosts.
    unconfirmed: BTreeMap<HostName, u32>,
    /// What was measured, where more may be asked for because of it. Then no facts are let go.
    pairs: Option<Pairs>,
    /// Cells whose facts may go once they are recorded.
    settled_now: Vec<CellNumber>,
}

/// A cell that was begun and did not simply pass.
#[derive(Debug, Default)]
struct Begun {
    facts: Vec<AttemptFacts>,
    verdict: Option<Verdict>,
    /// Whether hosts were charged for what failed here and was not confirmed.
    charged: bool,
}

/// A verdict that was reached.
pub type Reached = (CellNumber, Verdict);

impl Book {
    /// Of a run of which nothing is known yet.
    pub fn new(matrix: Arc<Matrix>, policy: Policy) -> Self {
        Self {
            pairs: Pairs::of(&matrix),
            matrix,
            policy,
            settled: 0,
            failing: 0,
            attempts: 0,
            reruns: 0,
            passed: Bits::default(),
            begun: BTreeMap::new(),
            compared: BTreeMap::new(),
            earlier: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            settled_now: Vec::new(),
        }
    }

    /// How much evidence is wanted.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Cells that have a verdict.
    pub const fn settled(&self) -> u64 {
        self.settled
    }

    /// Those of them that failed or are unresolved.
    pub const fn failing(&self) -> u64 {
        self.failing
    }

    /// Attempts that were taken in.
    pub const fn attempts(&self) -> u64 {
        self.attempts
    }

    /// The facts of a cell that are at hand: none of one that simply passed.
    pub fn facts(&self, cell: CellNumber) -> &[AttemptFacts] {
        self.begun.get(&cell).map_or(&[], |begun| &begun.facts)
    }

    /// Cells that something is known of and that have no verdict. Takes time in proportion to those that did not simply pass.
    pub fn undecided(&self) -> u64 {
        let undecided = self.begun.values().filter(|begun| begun.verdict.is_none());
        u64::try_from(undecided.count()).unwrap_or(u64::MAX)
    }

    /// The verdict of a cell, where it has one now.
    pub fn verdict(&self, cell: CellNumber) -> Option<Verdict> {
        if self.passed.contains(cell) {
            return Some(Verdict::Passed);
        }
        self.begun.get(&cell)?.verdict
    }

    /// Cells whose facts must be brought before [`Self::record`] of this cell, or before it is judged anew.
    pub fn missing(&self, cell: CellNumber, passed: bool) -> Vec<CellNumber> {
        let mut missing = Vec::new();
        if self.passed.contains(cell) {
            missing.push(cell);
        }
        if let Some(baseline) = self.compared_with(cell)
            && (!passed || self.begun.contains_key(&cell))
            && self.passed.contains(baseline)
        {
            missing.push(baseline);
        }
        missing
    }

    /// Puts back the facts of cells that were only bits, all that are recorded of each.
    pub fn bring(&mut self, facts: impl IntoIterator<Item = (CellNumber, AttemptFacts)>) {
        for (cell, facts) in facts {
            if self.passed.contains(cell) {
                self.passed.remove(cell);
                self.begun.insert(
                    cell,
                    Begun {
                        verdict: Some(Verdict::Passed),
                        ..Begun::default()
                    },
                );
                self.settled_now.push(cell);
            }
            let begun = self.begun.entry(cell).or_default();
            let mut known = begun.facts.iter();
            if !known.any(|known| known.ordinal == facts.ordinal) {
                begun.facts.push(facts);
            }
        }
    }

    /// Takes in an ended attempt: tells what is wanted next and the verdicts that were reached.
    pub fn record(&mut self, cell: CellNumber, facts: AttemptFacts) -> (Next, Vec<Reached>) {
        let had_some = !self.is_used_up();
        let known = &mut self.begun.entry(cell).or_default().facts;
        let before = reruns(known, &self.policy);
        known.push(facts);
        self.reruns += reruns(known, &self.policy) - before;
        self.attempts += 1;
        let (mut next, mut reached) = self.judge(cell, false);
        if had_some && self.is_used_up() {
            self.give_up_reruns(&mut next, &mut reached);
        }
        next.reruns_left = self.reruns_left();
        (next, reached)
    }

    /// Lets go of the facts of cells that passed, once what they say is recorded.
    pub fn forget_passed(&mut self) {
        for cell in std::mem::take(&mut self.settled_now) {
            let begun = self.begun.get(&cell);
            if self.pairs.is_none()
                && begun.is_some_and(|begun| begun.verdict == Some(Verdict::Passed))
            {
                self.begun.remove(&cell);
                self.passed.insert(cell);
            }
        }
    }
}
