//! Taking up what is recorded: hosts with their policies at the server's start, and runs that are not over. May not:
//! record anything itself; what taking up leads to goes into the first turn.

use std::sync::Arc;

use regatta_model::matrix::Matrix;
use regatta_model::run::RunState;
use regatta_model::{AttemptId, CellNumber, RunId};
use regatta_scheduler::{Event, Next, Work};
use regatta_store::{EarlierRow, EndedRow, Error, HostRecord, PAGE_MOST, RunRecord};
use regatta_verdict::book::TakenUp;
use regatta_verdict::watch::Watch;

use super::book::OpenRun;
use super::handle::scheduler_policy;
use super::{Actor, KnownHost};
use crate::pins;

/// Cells whose facts are brought at once.
const CELLS_AT_ONCE: usize = 500;

impl Actor {
    pub(super) async fn take_up(
        &mut self,
        hosts: Vec<HostRecord>,
        open: Vec<RunRecord>,
    ) -> Result<(), Error> {
        for record in hosts {
            let HostRecord {
                host,
                incarnation,
                policy,
                reason,
                lost,
                facts,
                trust,
                ..
            } = record;
            let known = KnownHost {
                incarnation,
                policy,
                reason,
                lost,
                facts,
                // What an older program wrote is no reason not to start.
                watch: Watch::of(serde_json::from_str(&trust).unwrap_or_default()),
                ..KnownHost::default()
            };
            self.hosts.insert(host.clone(), known);
            self.apply(Event::PolicySet {
                host,
                policy: scheduler_policy(policy),
            })
            .await;
        }
        for (state, count) in self.shared.store.runs_by_state().await? {
            self.states
                .insert(state.name(), i64::try_from(count).unwrap_or(i64::MAX));
        }
        for record in open {
            let id = record.head.summary.run.clone();
            let cancelled = record.head.cancelled;
            match self.take_up_run(record).await {
                Ok((run, work, failed)) => self.open(run, work, failed, cancelled).await,
                // Its matrix was taken by an older program and is not understood by this one.
                Err(error) => tracing::error!("run {id} stays as it is: {error}"),
            }
        }
        Ok(())
    }

    async fn open(&mut self, run: OpenRun, work: Work, failed: Option<AttemptId>, cancelled: bool) {
        let id: RunId = run.id().clone();
        let stops = run.matrix.fail_fast();
        self.turn.touched.insert(id.clone());
        self.runs.insert(id.clone(), run);
        self.apply(Event::Submitted {
            run: id.clone(),
            work: Box::new(work),
        })
        .await;
        if cancelled {
            self.apply(Event::Cancelled { run: id }).await;
        } else if let Some(attempt) = failed.filter(|_| stops) {
            // Said again, so that the run places nothing more.
            let next = Next {
                settled: true,
                failed: true,
                ..Next::default()
            };
            self.apply(Event::Recorded { attempt, next }).await;
        }
    }

    /// An open run from its record and its attempts; what the scheduler is told of it; and an attempt of a cell that
    /// failed, if any did.
    pub(super) async fn take_up_run(
        &self,
        record: RunRecord,
    ) -> Result<(OpenRun, Work, Option<AttemptId>), Error> {
        let RunRecord {
            head,
            file,
            matrix,
            pins,
        } = record;
        let id = head.summary.run.clone();
        let matrix = Matrix::parse(&matrix, &file).map_err(|errors| {
            Error::Corrupt(format!("a matrix that is not understood: {errors}"))
        })?;
        let holds = pins::hold(&self.shared.images, &pins);
        let mut run = OpenRun::new(Arc::new(matrix), pins, holds, head);
        let mut taken_up = TakenUp::default();
        let mut after: Option<(CellNumber, u32)> = None;
        let mut rest: Vec<EndedRow> = Vec::new();
        loop {
            let mut page = self.shared.store.attempts(&id, after, PAGE_MOST).await?;
            let last = page
                .last()
                .map(|row| (row.attempt.cell, row.attempt.ordinal));
            rest.append(&mut page);
            // The last cell of a page may go on in the next.
            let whole = match last {
                Some((cell, _)) => rest.partition_point(|row| row.attempt.cell < cell),
                None => rest.len(),
            };
            let next = rest.split_off(whole);
            for rows in rest.chunk_by(|one, other| one.attempt.cell == other.attempt.cell) {
                if let Some(first) = rows.first() {
                    run.take_up(first.attempt.cell, rows, &mut taken_up);
                }
            }
            rest = next;
            let Some(last) = last else { break };
            after = Some(last);
        }
        let failed = self.judge_taken_up(&mut run, &mut taken_up).await?;
        run.count();
        run.head.summary.progress.cells = run.matrix.cells().count();
        if run.head.summary.state == RunState::Queued && run.head.summary.progress.attempts > 0 {
            run.head.summary.state = RunState::Running;
        }
        let work = Work {
            fresh: false,
            settled: taken_up.settled,
            tried: taken_up.tried,
            again: taken_up.again,
            ..run.work()
        };
        Ok((run, work, failed))
    }

    /// Judges the cells that did not simply pass, beside the cells that they are compared with.
    async fn judge_taken_up(
        &self,
        run: &mut OpenRun,
        taken_up: &mut TakenUp,
    ) -> Result<Option<AttemptId>, Error> {
        let id = run.id().clone();
        for EarlierRow { cell, said, .. } in self.shared.store.earlier(&id).await? {
            // What an older program wrote is no reason not to start.
            run.book
                .set_earlier(cell, serde_json::from_str(&said).unwrap_or_default());
        }
        let cells = run.book.not_passed();
        for cells in cells.chunks(CELLS_AT_ONCE) {
            let mut missing: Vec<CellNumber> = cells
                .iter()
                .flat_map(|cell| run.book.missing(*cell, false))
                .collect();
            missing.sort_unstable();
            missing.dedup();
            let rows = self.shared.store.attempts_of(&id, &missing).await?;
            run.bring(&rows);
            let rows = self.shared.store.attempts_of(&id, cells).await?;
            for rows in rows.chunk_by(|one, other| one.attempt.cell == other.attempt.cell) {
                if let Some(first) = rows.first() {
                    run.judge_taken_up(first.attempt.cell, rows, taken_up);
                }
            }
        }
        let failed = run.book.taken_up(taken_up);
        Ok(failed.map(|cell| AttemptId {
            run: id,
            cell,
            ordinal: 1,
        }))
    }
}
