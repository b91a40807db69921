//! One open run: what is known of its cells, and where it stands. A cell that simply passed is a bit; of others the
//! facts are kept that verdicts are made from. May not: schedule anything, or do I/O.

mod doubt;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regatta_image::store::Hold;
use regatta_model::matrix::Matrix;
use regatta_model::report::Verdict;
use regatta_model::run::{Pins, Progress, RunState};
use regatta_model::{CellNumber, HostName, Ordinal, RunId};
use regatta_scheduler::{Again, Next, Work};
use regatta_store::{EndedRow, RunHead, StateRow};
use regatta_verdict::judge::{self, AttemptFacts, Policy};

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
    /// Cells that failed, by the cell that they are compared with.
    compared: BTreeMap<CellNumber, BTreeSet<CellNumber>>,
    /// Failures that others did not confirm, by their hosts.
    unconfirmed: BTreeMap<HostName, u32>,
    /// Cells whose facts may go once they are recorded.
    settled_now: Vec<CellNumber>,
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
        let policy = Policy {
            repeat: matrix.repeat(),
            at_most: matrix.rerun().at_most,
            error_rate: matrix.rerun().error_rate,
        };
        Self {
            matrix,
            pins,
            policy,
            head,
            passed: Bits::default(),
            begun: BTreeMap::new(),
            compared: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            settled_now: Vec::new(),
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
        if let Some(baseline) = self.matrix.cells().baseline(cell)
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

    /// Takes in an ended attempt: completes its row, and tells what is wanted next and a verdict that was reached.
    pub(super) fn record(&mut self, row: &mut EndedRow) -> (Next, Option<Verdict>) {
        let cell = row.attempt.cell;
        self.begun
            .entry(cell)
            .or_default()
            .facts
            .push(facts_of(row));
        let (next, verdict) = self.judge(cell);
        self.progress().attempts += 1;
        row.sequence = self.next_sequence();
        row.settled = self.progress().settled;
        row.failing = self.progress().failing;
        (next, verdict)
    }

    /// What a cell's attempts come to.
    fn judge(&mut self, cell: CellNumber) -> (Next, Option<Verdict>) {
        let Some(begun) = self.begun.get(&cell) else {
            return (Next::default(), None);
        };
        let baseline = self.matrix.cells().baseline(cell);
        let of_baseline =
            baseline.map(|cell| self.begun.get(&cell).map_or(&[][..], |begun| &begun.facts));
        let decision = judge::next(&begun.facts, of_baseline, &self.policy);
        let avoid = judge::hosts(&begun.facts);
        // A cell that others are compared with may be asked for more than it needs itself.
        let wanted = decision.again.max(self.wanted_of_baseline(cell));
        let verdict = decision.verdict.filter(|_| wanted == 0);
        let mut again = Vec::new();
        if wanted > 0 {
            again.push(Again {
                cell,
                attempts: wanted,
                avoid,
            });
        }
        if let Some(baseline) = baseline.filter(|_| decision.again_baseline > 0) {
            let avoid = self
                .begun
                .get(&baseline)
                .map(|begun| judge::hosts(&begun.facts))
                .unwrap_or_default();
            again.push(Again {
                cell: baseline,
                attempts: decision.again_baseline,
                avoid,
            });
            self.set_verdict(baseline, None);
        }
        self.set_verdict(cell, verdict);
        let failed = verdict == Some(Verdict::Failed) && !self.matrix.allow_failure(cell);
        (
            Next {
                settled: verdict.is_some(),
                failed,
                again,
            },
            verdict,
        )
    }

    /// How many more attempts of this cell the failed cells want that are compared with it.
    fn wanted_of_baseline(&self, cell: CellNumber) -> u32 {
        let Some(compared) = self.compared.get(&cell) else {
            return 0;
        };
        let own = self.begun.get(&cell).map_or(&[][..], |begun| &begun.facts);
        // However often hosts fail it: there is an end.
        let most = self
            .policy
            .repeat
            .saturating_add(self.policy.at_most)
            .saturating_add(judge::HOST_FAULTS_LEAST);
        if own.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
            return 0;
        }
        let others = compared.iter().filter_map(|other| self.begun.get(other));
        others
            .map(|other| judge::next(&other.facts, Some(own), &self.policy).again_baseline)
            .max()
            .unwrap_or(0)
    }

    /// Sets or takes away a cell's verdict, and counts.
    fn set_verdict(&mut self, cell: CellNumber, verdict: Option<Verdict>) {
        let baseline = self.matrix.cells().baseline(cell);
        let begun = self.begun.entry(cell).or_default();
        let old = std::mem::replace(&mut begun.verdict, verdict);
        let progress = &mut self.head.summary.progress;
        progress.settled =
            progress.settled + u64::from(verdict.is_some()) - u64::from(old.is_some());
        progress.failing =
            progress.failing + u64::from(is_failing(verdict)) - u64::from(is_failing(old));
        if let Some(baseline) = baseline {
            if verdict == Some(Verdict::Failed) {
                self.compared.entry(baseline).or_default().insert(cell);
            } else if let Some(cells) = self.compared.get_mut(&baseline) {
                cells.remove(&cell);
            }
        }
        if verdict == Some(Verdict::Passed) {
            self.settled_now.push(cell);
        }
    }

    /// Lets go of the facts of cells that passed; what they say is recorded.
    pub(super) fn forget_passed(&mut self) {
        for cell in std::mem::take(&mut self.settled_now) {
            if self
                .begun
                .get(&cell)
                .is_some_and(|begun| begun.verdict == Some(Verdict::Passed))
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
        if judge::next(&facts, None, &self.policy).verdict == Some(Verdict::Passed) {
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
        let (next, _) = self.judge(cell);
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
