//! One open run: the book of its cells, and what else is known of it. May not: schedule anything, or do I/O.

mod timed;

use std::collections::BTreeMap;
use std::sync::Arc;

use regatta_image::store::Hold;
use regatta_model::case::CaseStatus;
use regatta_model::matrix::{Day, Known, Matrix};
use regatta_model::report::Verdict;
use regatta_model::run::{Pins, RunState};
use regatta_model::{CellNumber, RunId};
use regatta_scheduler::{Next, Work};
use regatta_store::{EndedRow, RunHead, StateRow};
use regatta_verdict::book::{Book, Reached, TakenUp};
use regatta_verdict::judge::{self, AttemptFacts, Brief, Policy, is_decisive};

use super::facts::{facts_of, measured_of};
use super::live::LiveRun;
use super::wall_ms;

/// The priority of what runs on by itself although it is over: below all that a matrix can have (-1000), so that it only gets
/// places that nothing else wants.
const PRIORITY_IDLE: i32 = -1001;

/// An earlier run of the same matrix.
pub(super) struct Former {
    pub(super) run: RunId,
    pub(super) matrix: Matrix,
    pub(super) pins: Pins,
}

/// A run that is not over.
pub(super) struct OpenRun {
    pub(super) matrix: Arc<Matrix>,
    pub(super) pins: Pins,
    pub(super) book: Book,
    /// Where it stands; `progress.running` is not kept here.
    pub(super) head: RunHead,
    /// Earlier runs of the same matrix, once somebody asked for them.
    pub(super) former: Option<Arc<[Former]>>,
    /// Shards of cells that are split alike of which it is recorded how long their cases took, a bit for each.
    timed: BTreeMap<String, u64>,
    /// Keeps images and files from being pruned.
    _holds: Vec<Hold>,
}

impl OpenRun {
    pub(super) fn new(matrix: Arc<Matrix>, pins: Pins, holds: Vec<Hold>, head: RunHead) -> Self {
        let policy = Policy::of_run(&matrix, &head.summary);
        Self {
            book: Book::new(Arc::clone(&matrix), policy),
            matrix,
            pins,
            head,
            former: None,
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
            priority: if self.runs_on_by_itself() {
                PRIORITY_IDLE
            } else {
                matrix.priority()
            },
            owner: matrix.owner().cloned(),
            weight: matrix.weight(),
            asked: matrix.resources(),
            labels: matrix.labels().clone(),
            kinds: matrix.kinds(&self.pins),
            rounds: matrix.metric_groups(),
            exclusive: matrix.is_exclusive(),
            fresh: true,
            reruns_left: self.book.reruns_left(),
            ..Work::default()
        }
    }

    /// Whether it was over, and goes on because its matrix says so: nobody asked for more of what failed since.
    fn runs_on_by_itself(&self) -> bool {
        let deep = self.head.summary.deep && self.matrix.rerun().deep;
        deep && self.head.rerun_after.is_none()
    }

    /// Whether there is more to be looked for once it is over.
    pub(super) fn is_looked_into(&self) -> bool {
        let goes_on = self.matrix.rerun().deep && !self.head.summary.deep;
        goes_on || self.matrix.bisect().is_some()
    }

    pub(super) fn id(&self) -> &RunId {
        &self.head.summary.run
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

    /// Where it stands by its book.
    pub(super) fn count(&mut self) {
        let progress = &mut self.head.summary.progress;
        progress.settled = self.book.settled();
        progress.failing = self.book.failing();
        progress.attempts = self.book.attempts();
    }

    /// Changes the run's state; gives the event to record.
    pub(super) fn set_state(&mut self, state: RunState) -> StateRow {
        self.head.summary.state = state;
        let at_ms = wall_ms();
        self.head.summary.ended_ms = state.is_over().then_some(at_ms);
        let sequence = self.next_sequence();
        self.count();
        StateRow {
            run: self.id().clone(),
            sequence,
            state,
            at_ms,
            settled: self.book.settled(),
            failing: self.book.failing(),
        }
    }

    /// Puts back the facts of cells that the book no longer has.
    pub(super) fn bring(&mut self, rows: &[EndedRow]) {
        let facts = rows.iter().map(|row| (row.attempt.cell, facts_of(row)));
        self.book.bring(facts);
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
    pub(super) fn record(&mut self, row: &mut EndedRow) -> (Next, Vec<Reached>) {
        row.sequence = self.next_sequence();
        if self.book.measures() {
            self.book.measured(measured_of(row));
        }
        let (next, reached) = self.book.record(row.attempt.cell, facts_of(row));
        self.count();
        row.settled = self.book.settled();
        row.failing = self.book.failing();
        (next, reached)
    }

    /// Takes in all recorded attempts of one cell, the first first, when a run is taken up again.
    pub(super) fn take_up(&mut self, cell: CellNumber, rows: &[EndedRow], to: &mut TakenUp) {
        if self.book.measures() {
            for row in rows {
                self.book.measured(measured_of(row));
            }
        }
        let facts = rows.iter().map(facts_of).collect();
        self.book.take_up(cell, facts, to);
    }

    /// Judges a cell that was taken up, of which these are all attempts.
    pub(super) fn judge_taken_up(&mut self, cell: CellNumber, rows: &[EndedRow], to: &mut TakenUp) {
        let asked = self
            .head
            .rerun_after
            .is_some_and(|after| self.is_asked(rows, after));
        self.book.judge_taken_up(cell, asked, to);
    }

    /// Whether a cell had failed when a rerun was asked for after event `after`, and no attempt told more since.
    fn is_asked(&self, rows: &[EndedRow], after: u64) -> bool {
        let (before, later): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.sequence <= after);
        let before: Vec<AttemptFacts> = before.into_iter().map(facts_of).collect();
        let verdict = judge::next(&before, None, self.book.policy()).verdict;
        matches!(verdict, Some(Verdict::Failed | Verdict::Unresolved))
            && !later
                .into_iter()
                .any(|row| is_decisive(row.outcome, row.blame))
    }
}
