//! One open run: what is known of its cells, and where it stands. A cell that simply passed is a bit; of others the
//! facts are kept that verdicts are made from. May not: schedule anything, or do I/O.

mod doubt;
mod judging;
mod pairs;
#[cfg(test)]
mod tests;
mod timed;

pub(super) use judging::Former;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regatta_image::store::Hold;
use regatta_model::case::CaseStatus;
use regatta_model::matrix::{Day, Known, Matrix};
use regatta_model::report::Verdict;
use regatta_model::run::{Pins, Progress, RunState};
use regatta_model::{CellNumber, HostName, Ordinal, RunId};
use regatta_scheduler::{Again, Next, Work};
use regatta_store::{EndedRow, RunHead, StateRow};
use regatta_verdict::earlier::Earlier;
use regatta_verdict::judge::{self, AttemptFacts, Brief, Policy, is_decisive};

use pairs::Pairs;

use super::bits::Bits;
use super::facts::{facts_of, is_failing};
use super::live::LiveRun;
use super::wall_ms;

/// A run that is not over.
pub(super) struct OpenRun {
    pub(super) matrix: Arc<Matrix>,
    pub(super) pins: Pins,
    pub(super) policy: Policy,
    /// Where it stands; `progress.running` is not kept here.
    pub(super) head: RunHead,
    /// Cells that passed and whose facts are no longer kept.
    passed: Bits,
    begun: BTreeMap<CellNumber, Begun>,
    /// Cells that something failed in, by the cell that they are compared with.
    compared: BTreeMap<CellNumber, BTreeSet<CellNumber>>,
    /// What earlier runs say of cells that others are compared with.
    earlier: BTreeMap<CellNumber, Earlier>,
    /// Earlier runs of the same matrix, once somebody asked for them.
    former: Option<Arc<[Former]>>,
    /// Failures that others did not confirm, by their hosts.
    unconfirmed: BTreeMap<HostName, u32>,
    /// What was measured, where more may be asked for because of it. Then no facts are let go.
    pairs: Option<Pairs>,
    /// Cells whose facts may go once they are recorded.
    settled_now: Vec<CellNumber>,
    /// Shards of cells that are split alike of which it is recorded how long their cases took, a bit for each.
    timed: BTreeMap<String, u64>,
    /// Keeps images and files from being pruned.
    _holds: Vec<Hold>,
}

/// A cell that was begun and did not simply pass.
#[derive(Default)]
struct Begun {
    facts: Vec<AttemptFacts>,
    verdict: Option<Verdict>,
    /// Whether hosts were charged for what failed here and was not confirmed.
    charged: bool,
}

impl OpenRun {
    pub(super) fn new(matrix: Arc<Matrix>, pins: Pins, holds: Vec<Hold>, head: RunHead) -> Self {
        let policy = Policy::of_run(&matrix, &head.summary);
        Self {
            pairs: Pairs::of(&matrix),
            matrix,
            pins,
            policy,
            head,
            passed: Bits::default(),
            begun: BTreeMap::new(),
            compared: BTreeMap::new(),
            earlier: BTreeMap::new(),
            former: None,
            unconfirmed: BTreeMap::new(),
            settled_now: Vec::new(),
            timed: BTreeMap::new(),
            _holds: holds,
        }
    }

    /// What the scheduler is told of it.
    pub(super) fn work(&self) -> Work {
        let matrix = &self.matrix;
        Work {
            cells: matrix.cells().count(),
            repeat: matrix.repeat(),
            parallel: matrix.parallel(),
            fail_fast: matrix.fail_fast(),
            priority: matrix.priority(),
            owner: matrix.owner().cloned(),
            weight: matrix.weight(),
            asked: matrix.resources(),
            labels: matrix.labels().clone(),
            kinds: matrix.kinds(&self.pins),
            rounds: matrix.metric_groups(),
            exclusive: matrix.is_exclusive(),
            fresh: true,
            ..Work::default()
        }
    }

    pub(super) fn id(&self) -> &RunId {
        &self.head.summary.run
    }

    fn progress(&mut self) -> &mut Progress {
        &mut self.head.summary.progress
    }

    /// The number of a new event.
    fn next_sequence(&mut self) -> u64 {
        self.head.sequence += 1;
        self.head.sequence
    }

    pub(super) fn live(&self, running: u64) -> LiveRun {
        LiveRun {
            sequence: self.head.sequence,
            running,
        }
    }

    /// Changes the run's state; gives the event to record.
    pub(super) fn set_state(&mut self, state: RunState) -> StateRow {
        self.head.summary.state = state;
        let at_ms = wall_ms();
        self.head.summary.ended_ms = state.is_over().then_some(at_ms);
        let sequence = self.next_sequence();
        let Progress {
            settled, failing, ..
        } = *self.progress();
        StateRow {
            run: self.id().clone(),
            sequence,
            state,
            at_ms,
            settled,
            failing,
        }
    }

    /// Cells whose facts must be brought from the store before [`Self::record`] of this cell.
    pub(super) fn missing(&self, cell: CellNumber, passed: bool) -> Vec<CellNumber> {
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

    /// Puts back the facts of cells that were only bits.
    pub(super) fn bring(&mut self, rows: &[EndedRow]) {
        for row in rows {
            let cell = row.attempt.cell;
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
            if !begun
                .facts
                .iter()
                .any(|facts| facts.ordinal == row.attempt.ordinal)
            {
                begun.facts.push(facts_of(row));
            }
        }
    }

    /// Marks what failed in an attempt and is known to, and judges anew whether it passed.
    pub(super) fn excuse(&self, row: &mut EndedRow) {
        let day = Day::of(self.head.summary.submitted_ms);
        let known = self
            .matrix
            .known_in(row.attempt.cell)
            .map(|(_, known)| known);
        let known: Vec<&Known> = known.filter(|known| !known.is_over(day)).collect();
        let Some(set) = row.cases.set.as_ref().filter(|_| !known.is_empty()) else {
            return;
        };
        let mut excused = false;
        for exception in &mut row.cases.exceptions {
            let name = usize::try_from(exception.index).ok();
            let name = name.and_then(|index| set.names.get(index));
            let is_known = name.is_some_and(|name| known.iter().any(|known| known.means(name)));
            if is_known && exception.status.is_failure() {
                exception.status = CaseStatus::Known;
                excused = true;
            }
        }
        if excused && is_decisive(row.outcome, row.blame) {
            let brief = Brief {
                cases: set.names.len(),
                exceptions: &row.cases.exceptions,
                found: true,
                problems: &row.cases.problems,
            };
            let (passed, _, detail) = judge::passed_attempt(row.outcome, brief);
            if passed {
                (row.passed, row.blame, row.detail) = (true, None, detail);
            }
        }
    }

    /// Takes in an ended attempt: completes its row, and tells what is wanted next and the verdicts that were reached.
    pub(super) fn record(&mut self, row: &mut EndedRow) -> (Next, Vec<(CellNumber, Verdict)>) {
        let cell = row.attempt.cell;
        self.begun
            .entry(cell)
            .or_default()
            .facts
            .push(facts_of(row));
        row.sequence = self.next_sequence();
        if let Some(pairs) = &mut self.pairs {
            pairs.add(row);
        }
        let (next, reached) = self.judge(cell, false);
        self.progress().attempts += 1;
        row.settled = self.progress().settled;
        row.failing = self.progress().failing;
        (next, reached)
    }

    /// Lets go of the facts of cells that passed; what they say is recorded.
    pub(super) fn forget_passed(&mut self) {
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

    /// Takes in all recorded attempts of one cell, the first first, when a run is taken up again. Cells that did not
    /// simply pass wait for [`Self::judge_taken_up`], once the facts that they are compared with are there.
    pub(super) fn take_up(&mut self, cell: CellNumber, rows: &[EndedRow], work: &mut Work) {
        let facts: Vec<AttemptFacts> = rows.iter().map(facts_of).collect();
        let last: Ordinal = rows
            .iter()
            .map(|row| row.attempt.ordinal)
            .max()
            .unwrap_or(0);
        if last != self.policy.repeat {
            work.tried.insert(cell, last);
        }
        if let Some(pairs) = &mut self.pairs {
            for row in rows {
                pairs.add(row);
            }
        }
        let passed = judge::next(&facts, None, &self.policy).verdict == Some(Verdict::Passed);
        if passed && self.pairs.is_none() {
            self.passed.insert(cell);
            self.progress().settled += 1;
            work.settled.push(cell);
        } else {
            work.tried.insert(cell, last);
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
    pub(super) fn not_passed(&self) -> Vec<CellNumber> {
        self.begun.keys().copied().collect()
    }

    /// Judges a cell that was taken up. `asked_after`: the first of its attempts that were recorded after somebody
    /// asked for another one of what had not passed, if that happened.
    pub(super) fn judge_taken_up(&mut self, cell: CellNumber, rows: &[EndedRow], work: &mut Work) {
        let (next, _) = self.judge(cell, false);
        work.again.extend(next.again);
        let asked = self
            .head
            .rerun_after
            .is_some_and(|after| self.is_asked(rows, after));
        if asked && next.settled {
            self.set_verdict(cell, None);
            let avoid = self
                .begun
                .get(&cell)
                .map(|begun| judge::hosts(&begun.facts))
                .unwrap_or_default();
            work.again.push(Again {
                cell,
                attempts: 1,
                avoid,
            });
        }
    }

    /// Whether a cell had failed when a rerun was asked for after event `after`, and no attempt told more since.
    fn is_asked(&self, rows: &[EndedRow], after: u64) -> bool {
        let (before, later): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.sequence <= after);
        let before: Vec<AttemptFacts> = before.into_iter().map(facts_of).collect();
        let verdict = judge::next(&before, None, &self.policy).verdict;
        is_failing(verdict)
            && !later
                .into_iter()
                .any(|row| judge::is_decisive(row.outcome, row.blame))
    }

    /// Completes `work` once all was taken up and judged. Gives a cell that failed, if any did.
    pub(super) fn taken_up(&mut self, work: &mut Work) -> Option<CellNumber> {
        // A cell that more is wanted of is open, whatever its attempts say.
        let wanted: BTreeSet<CellNumber> = work.again.iter().map(|again| again.cell).collect();
        for cell in &wanted {
            self.set_verdict(*cell, None);
        }
        // One that waits for what another says is wanted no attempt of.
        let waits = self.begun.iter().filter(|(cell, begun)| {
            begun.verdict.is_none() && !begun.facts.is_empty() && !wanted.contains(cell)
        });
        work.again.extend(waits.map(|(cell, _)| Again {
            cell: *cell,
            attempts: 0,
            avoid: Vec::new(),
        }));
        let settled = self
            .begun
            .iter()
            .filter(|(_, begun)| begun.verdict.is_some());
        work.settled.extend(settled.map(|(cell, _)| *cell));
        work.settled.retain(|cell| !wanted.contains(cell));
        let failed = |(cell, begun): (&CellNumber, &Begun)| {
            (begun.verdict == Some(Verdict::Failed) && !self.matrix.allow_failure(*cell))
                .then_some(*cell)
        };
        let failed = self.begun.iter().find_map(failed);
        self.forget_passed();
        failed
    }
}
