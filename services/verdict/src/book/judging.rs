//! What a cell's attempts come to, beside those of the cell that it is compared with. May not: count evidence itself; that
//! is `verdict`'s.

use std::collections::VecDeque;

use regatta_model::CellNumber;
use regatta_model::matrix::Baseline as Before;
use regatta_model::next::{Again, Next};
use regatta_model::report::Verdict;

use super::{Book, Reached};
use crate::earlier::Earlier;
use crate::judge::{self, AttemptFacts, Baseline, Decision, LINE_MOST, Line};

/// Most cells of a run of which earlier runs are asked; others are judged by this run alone.
const EARLIER_MOST: usize = 1000;

/// Whether a verdict counts as failing in a run's progress.
const fn is_failing(verdict: Option<Verdict>) -> bool {
    matches!(verdict, Some(Verdict::Failed | Verdict::Unresolved))
}

impl Book {
    /// The cell that this one is compared with, if earlier runs are still to be asked of it before an attempt of this one
    /// that failed is taken in.
    pub fn wants_earlier(&self, cell: CellNumber, passed: bool) -> Option<CellNumber> {
        let baseline = self.compared_with(cell)?;
        let asks = !passed && self.earlier.len() < EARLIER_MOST;
        (asks && !self.earlier.contains_key(&baseline)).then_some(baseline)
    }

    /// What earlier runs say of a cell that others are compared with.
    pub fn set_earlier(&mut self, cell: CellNumber, earlier: Earlier) {
        self.earlier.insert(cell, earlier);
    }

    /// What a cell's attempts lead to, for it and for those that are compared with it; and the verdicts that were reached.
    /// `anew`: attempts that were counted before no longer do.
    pub(super) fn judge(&mut self, cell: CellNumber, anew: bool) -> (Next, Vec<Reached>) {
        let mut next = Next::default();
        let mut reached = Vec::new();
        let baseline = self.compared_with(cell);
        self.note(cell, baseline);
        let Some(decision) = self.weigh(cell, baseline) else {
            return (next, reached);
        };
        self.set_verdict(cell, decision.verdict);
        let others = self.compared.get(&cell).into_iter().flatten();
        let others: Vec<CellNumber> = others
            .copied()
            .filter(|other| {
                // Where this one turns out to be untestable, the one before it has never been asked.
                let passed_over = self.compared_with(*other) != Some(cell);
                anew || passed_over || self.is_touched(*other)
            })
            .collect();
        let mut wanted = decision.again.max(self.lacking_pairs(cell));
        let mut others = VecDeque::from(others);
        while let Some(other) = others.pop_front() {
            let before = self.compared_with(other);
            let Some(of_other) = self.weigh(other, before) else {
                continue;
            };
            if before == Some(cell) {
                wanted = wanted.max(of_other.again_baseline);
            } else {
                // This one cannot be tested: the one before it is asked.
                self.note(other, before);
                self.want_baseline(&mut next, before, of_other.again_baseline);
            }
            // It may be a baseline itself, of which others want more.
            let of_itself = of_other.again.max(self.lacking_pairs(other));
            let wanted_of_other = of_itself.max(self.wanted_by_others(other));
            self.want(&mut next, other, wanted_of_other);
            let had = self.begun.get(&other).and_then(|begun| begun.verdict);
            let verdict = of_other.verdict.filter(|_| wanted_of_other == 0);
            self.set_verdict(other, verdict);
            if let Some(verdict) = verdict {
                // Said again where it was said before: what this leads to may replace an answer that nobody heard.
                next.settles.push(other);
                next.failed |= self.counts_as_failed(other, verdict);
                if had.is_none() {
                    reached.push((other, verdict));
                    // No attempt of it is to come, which would tell those that wait for what it says.
                    others.extend(self.waiting_for(other));
                }
            }
        }
        let has_verdict = |cell: &CellNumber| self.verdict(*cell).is_some();
        next.settles.retain(has_verdict);
        reached.retain(|(cell, _)| has_verdict(cell));
        // A cell that others are compared with may be asked for more than it needs itself.
        let verdict = decision.verdict.filter(|_| wanted == 0);
        self.want(&mut next, cell, wanted);
        self.want_baseline(&mut next, baseline, decision.again_baseline);
        self.set_verdict(cell, verdict);
        if let Some(verdict) = verdict {
            next.settled = true;
            next.failed |= self.counts_as_failed(cell, verdict);
            reached.push((cell, verdict));
        }
        for again in self.look(cell) {
            let lacking = self.lacking_pairs(again);
            if lacking > 0 {
                self.want(&mut next, again, lacking);
                self.set_verdict(again, None);
                next.settled &= again != cell;
                next.settles.retain(|other| *other != again);
                reached.retain(|(other, _)| *other != again);
            }
        }
        (next, reached)
    }

    /// Cells that are compared with this one and have no verdict.
    fn waiting_for(&self, cell: CellNumber) -> Vec<CellNumber> {
        let others = self.compared.get(&cell).into_iter().flatten().copied();
        let waits = |other: &CellNumber| {
            self.compared_with(*other) == Some(cell) && self.verdict(*other).is_none()
        };
        others.filter(waits).collect()
    }

    /// How many more attempts of a cell those want that are compared with it.
    fn wanted_by_others(&self, cell: CellNumber) -> u32 {
        let others = self.compared.get(&cell).into_iter().flatten();
        others
            .filter(|other| self.compared_with(**other) == Some(cell))
            .filter_map(|other| self.weigh(*other, Some(cell)))
            .map(|decision| decision.again_baseline)
            .max()
            .unwrap_or(0)
    }

    /// Whether what its baseline says may change what a cell comes to: it waits for that, or it failed as its baseline did
    /// and was not asked again.
    fn is_touched(&self, cell: CellNumber) -> bool {
        let first = usize::try_from(self.policy.repeat.max(1)).unwrap_or(usize::MAX);
        let begun = self.begun.get(&cell);
        begun.is_some_and(|begun| begun.verdict.is_none() || begun.facts.len() <= first)
    }

    /// The cell that this one is compared with. Where that is the previous one, those that could not be set up are passed
    /// over.
    pub(super) fn compared_with(&self, cell: CellNumber) -> Option<CellNumber> {
        let cells = self.matrix.cells();
        let compare = self.matrix.compare()?;
        let mut baseline = cells.baseline(cell)?;
        while compare.baseline == Before::Previous
            && self.is_untested(baseline)
            && let Some(before) = cells.baseline(baseline)
        {
            baseline = before;
        }
        Some(baseline)
    }

    /// Where cells are compared with the previous one: those before this one, so far as something is known of them.
    fn line(&self, cell: CellNumber) -> Line<'_> {
        let mut line = Line::default();
        let compare = self.matrix.compare();
        if compare.is_none_or(|compare| compare.baseline != Before::Previous) {
            return line;
        }
        let before = |cell: &CellNumber| self.matrix.cells().baseline(*cell);
        for cell in std::iter::successors(before(&cell), before).take(LINE_MOST) {
            if self.passed.contains(cell) {
                line.passed = line.passed.saturating_add(self.policy.repeat);
            } else if let Some(begun) = self.begun.get(&cell)
                && !judge::is_untested(&begun.facts)
            {
                line.facts.push(&begun.facts);
            }
        }
        line
    }

    /// Whether nothing of a cell could be tested, for good.
    fn is_untested(&self, cell: CellNumber) -> bool {
        let begun = self.begun.get(&cell);
        begun.is_some_and(|begun| begun.verdict.is_some() && judge::is_untested(&begun.facts))
    }

    /// Remembers that something failed in a cell.
    fn note(&mut self, cell: CellNumber, baseline: Option<CellNumber>) {
        let Some(baseline) = baseline else { return };
        let failed = self.begun.get(&cell).is_some_and(|begun| {
            let mut facts = begun.facts.iter();
            facts.any(|facts| facts.is_decisive() && !facts.passed)
        });
        if failed {
            self.compared.entry(baseline).or_default().insert(cell);
        }
    }

    fn weigh(&self, cell: CellNumber, baseline: Option<CellNumber>) -> Option<Decision> {
        let begun = self.begun.get(&cell)?;
        let nothing = Earlier::default();
        let beside = baseline.map(|baseline| {
            let begun = self.begun.get(&baseline);
            Baseline {
                facts: begun.map_or(&[][..], |begun| &begun.facts),
                settled: begun.is_some_and(|begun| begun.verdict.is_some()),
                spent: begun.is_some_and(|begun| self.is_spent(&begun.facts)),
                earlier: self.earlier.get(&baseline).unwrap_or(&nothing),
                line: self.line(baseline),
            }
        });
        let decision = judge::next(&begun.facts, beside, &self.policy);
        Some(self.afford(cell, baseline, decision))
    }

    /// Whether a cell had so many attempts that others may want no more: however often hosts fail it, there is an end.
    fn is_spent(&self, facts: &[AttemptFacts]) -> bool {
        let most = self
            .policy
            .repeat
            .saturating_add(self.policy.at_most)
            .saturating_add(judge::HOST_FAULTS_LEAST);
        judge::attempts(facts, &self.policy) >= most
    }

    fn want(&self, next: &mut Next, cell: CellNumber, attempts: u32) {
        if attempts > 0 {
            // Pairs are wanted of any host, the same one for both sides.
            let begun = self.begun.get(&cell);
            let begun = begun.filter(|_| attempts > self.lacking_pairs(cell));
            let avoid = begun.map(|begun| judge::hosts(&begun.facts));
            next.again.push(Again {
                cell,
                attempts,
                reruns: attempts.saturating_sub(self.lacking(cell)),
                avoid: avoid.unwrap_or_default(),
            });
        }
    }

    /// The same of a cell that others are compared with: it is open again.
    fn want_baseline(&mut self, next: &mut Next, baseline: Option<CellNumber>, attempts: u32) {
        if let Some(baseline) = baseline.filter(|_| attempts > 0) {
            self.want(next, baseline, attempts);
            self.set_verdict(baseline, None);
        }
    }

    fn counts_as_failed(&self, cell: CellNumber, verdict: Verdict) -> bool {
        verdict == Verdict::Failed && !self.matrix.allow_failure(cell)
    }

    /// Sets or takes away a cell's verdict, and counts.
    pub(super) fn set_verdict(&mut self, cell: CellNumber, verdict: Option<Verdict>) {
        let begun = self.begun.entry(cell).or_default();
        let old = std::mem::replace(&mut begun.verdict, verdict);
        self.settled = self.settled + u64::from(verdict.is_some()) - u64::from(old.is_some());
        self.failing = self.failing + u64::from(is_failing(verdict)) - u64::from(is_failing(old));
        if verdict == Some(Verdict::Passed) {
            self.settled_now.push(cell);
        }
    }
}
