//! The reruns that all cells of a run may take together (`rerun.in-all`). Once they are used up no further one is asked for:
//! what waits for reruns gets its verdict by what there is. May not: judge.

use regatta_model::CellNumber;
use regatta_model::next::Next;

use super::{Book, Reached};
use crate::judge::{self, AttemptFacts, Decision, Policy};

/// Decisive attempts beyond those that the matrix asks for.
pub(super) fn reruns(facts: &[AttemptFacts], policy: &Policy) -> u64 {
    decisive(facts).saturating_sub(u64::from(policy.repeat.max(1)))
}

fn decisive(facts: &[AttemptFacts]) -> u64 {
    let decisive = facts.iter().filter(|facts| facts.is_decisive());
    u64::try_from(decisive.count()).unwrap_or(u64::MAX)
}

impl Book {
    /// How many reruns the run may still take; none: no limit.
    pub fn reruns_left(&self) -> Option<u64> {
        let most = self.policy.in_all?;
        Some(u64::from(most).saturating_sub(self.reruns))
    }

    /// Whether the run may have no further reruns.
    pub(super) fn is_used_up(&self) -> bool {
        self.reruns_left() == Some(0)
    }

    /// The same decision, without the reruns that the run may not have any more.
    pub(super) fn afford(
        &self,
        cell: CellNumber,
        baseline: Option<CellNumber>,
        decision: Decision,
    ) -> Decision {
        if decision.verdict.is_some() || !self.is_used_up() {
            return decision;
        }
        let again = decision.again.min(self.lacking(cell));
        let lacking = baseline.map_or(0, |baseline| self.lacking(baseline));
        let again_baseline = decision.again_baseline.min(lacking);
        if again == 0 && again_baseline == 0 {
            return judge::as_it_is(self.facts(cell));
        }
        Decision {
            verdict: None,
            again,
            again_baseline,
        }
    }

    /// How many attempts are still to come that the matrix asks for.
    pub(super) fn lacking(&self, cell: CellNumber) -> u32 {
        if self.passed.contains(cell) {
            return 0;
        }
        let had = u32::try_from(decisive(self.facts(cell))).unwrap_or(u32::MAX);
        self.policy.repeat.max(1).saturating_sub(had)
    }

    /// Asks for no further rerun: what waits for some has its verdict by what there is.
    pub fn stop_reruns(&mut self) {
        self.policy.in_all = Some(0);
        self.give_up_reruns(&mut Next::default(), &mut Vec::new());
    }

    /// Judges all cells anew that wait, now that there are no further reruns.
    pub(super) fn give_up_reruns(&mut self, next: &mut Next, reached: &mut Vec<Reached>) {
        let waiting = self.begun.iter().filter(|(_, begun)| {
            let attempted = !begun.facts.is_empty();
            begun.verdict.is_none() && attempted
        });
        let waiting: Vec<CellNumber> = waiting.map(|(cell, _)| *cell).collect();
        for cell in waiting {
            if self.verdict(cell).is_some() {
                continue;
            }
            let (more, also) = self.judge(cell, false);
            next.settles.extend(more.settled.then_some(cell));
            next.settles.extend(more.settles);
            next.failed |= more.failed;
            next.again.extend(more.again);
            reached.extend(also);
        }
        self.keep_what_holds(next);
        reached.retain(|(cell, _)| self.verdict(*cell).is_some());
    }
}
