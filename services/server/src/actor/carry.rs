//! Carrying out what the scheduler decides: assignments become plans, losses and ended attempts become rows, and
//! what they come to goes back to the scheduler. May not: answer anybody.

use regatta_model::metric::Metrics;
use regatta_model::run::RunState;
use regatta_model::wire::{Assignment, LogPlace, Stop};
use regatta_model::{AttemptId, Blame, HostName, Outcome, RunId};
use regatta_scheduler::{Effect, Event, Health};
use regatta_store::{Cases, EndedRow};

use super::{Actor, Todo};
use crate::metrics::VerdictLabel;

/// A row of an attempt that never came to run.
fn never_ran(
    attempt: AttemptId,
    host: HostName,
    outcome: Outcome,
    blame: Blame,
    detail: String,
) -> EndedRow {
    EndedRow {
        attempt,
        sequence: 0,
        host,
        outcome,
        blame: Some(blame),
        passed: false,
        settled: 0,
        failing: 0,
        wall_ms: 0,
        queue_ms: 0,
        start_us: 0,
        cpu_us: 0,
        peak_memory_bytes: 0,
        identity: None,
        cases: Cases::default(),
        metrics: Metrics::new(),
        detail,
        changed: Vec::new(),
        artifacts: Vec::new(),
        files: None,
        log: LogPlace::Empty,
        short_log: Vec::new(),
    }
}

impl Actor {
    /// Does what is to be done, and what that leads to, until nothing is left.
    pub(super) async fn carry_out(&mut self) {
        while let Some(todo) = self.todo.pop_front() {
            match todo {
                Todo::Ended(row) => self.ended(*row).await,
                Todo::Effect(effect) => self.effect(effect),
            }
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Assign {
                host,
                attempt,
                generation,
            } => self.assign(host, attempt, generation),
            Effect::Revoke {
                host,
                attempt,
                reason,
            } => {
                let outgoing = self.turn.outgoing.entry(host).or_default();
                outgoing.start.remove(&attempt);
                let stop = Stop {
                    attempt: attempt.clone(),
                    reason: reason.to_owned(),
                };
                outgoing.stop.insert(attempt, stop);
            }
            Effect::Lost { attempt, host } => {
                tracing::warn!("attempt {attempt} is lost with host {host}");
                let detail = format!(
                    "nothing was heard of {host} for longer than its lease, or it began a new life"
                );
                let row = never_ran(attempt, host, Outcome::HostLost, Blame::Host, detail);
                self.todo.push_back(Todo::Ended(Box::new(row)));
            }
            Effect::Doubted { silent } => tracing::error!(
                "{silent} hosts are silent at once: before they are taken for lost, this server doubts its own network for \
                 two leases"
            ),
            Effect::Finish { run, cancelled } => self.finish(&run, cancelled),
            Effect::HealthChanged { host, health } => {
                if let Some(known) = self.hosts.get_mut(&host) {
                    known.lost = health == Health::Lost;
                    // A suspicion passes in seconds; only what must be known after a restart is recorded.
                    if health != Health::Suspect {
                        self.turn.hosts.insert(host);
                    }
                }
            }
        }
    }

    fn assign(&mut self, host: HostName, attempt: AttemptId, generation: u64) {
        let Some(run) = self.runs.get_mut(&attempt.run) else {
            return;
        };
        let said = self.turn.outgoing.get(&host);
        let said = said.and_then(|outgoing| outgoing.start.get(&attempt));
        if said.is_some_and(|said| said.generation == generation) {
            return;
        }
        match run.matrix.plan(attempt.cell, &run.pins) {
            Ok(plan) => {
                if run.head.summary.state == RunState::Queued {
                    let row = run.set_state(RunState::Running);
                    self.turn.batch.states.push(row);
                    self.turn.touched.insert(attempt.run.clone());
                    self.change_state(RunState::Queued, RunState::Running);
                }
                let assignment = Assignment {
                    attempt: attempt.clone(),
                    generation,
                    plan,
                };
                self.turn
                    .outgoing
                    .entry(host)
                    .or_default()
                    .start
                    .insert(attempt, Box::new(assignment));
            }
            Err(error) => {
                let detail = format!("the matrix gives no plan for this cell: {error}");
                let row = never_ran(attempt, host, Outcome::ImageFailed, Blame::Platform, detail);
                self.todo.push_back(Todo::Ended(Box::new(row)));
            }
        }
    }

    /// An attempt ended and its outcome counts: it is judged, and will be recorded with what this leads to.
    async fn ended(&mut self, mut row: EndedRow) {
        let id = row.attempt.clone();
        if let Some(run) = self.runs.get(&id.run) {
            run.excuse(&mut row);
        }
        self.weigh_host(&mut row);
        if let Some(outgoing) = self.turn.outgoing.get_mut(&row.host) {
            // It was said again in this turn, before its end was known.
            outgoing.start.remove(&id);
        }
        self.ask_earlier(&row).await;
        let Some(run) = self.runs.get_mut(&id.run) else {
            return;
        };
        let missing = run.book.missing(id.cell, row.passed);
        if !missing.is_empty() {
            match self.shared.store.attempts_of(&id.run, &missing).await {
                Ok(rows) => run.bring(&rows),
                // Without its earlier attempts a cell is judged by this one alone: more attempts than needed, at worst.
                Err(error) => tracing::error!(
                    "earlier attempts of cell {} cannot be read: {error}",
                    id.cell
                ),
            }
        }
        let (mut next, reached) = run.record(&mut row);
        for (_, verdict) in &reached {
            let label = VerdictLabel {
                verdict: verdict.name(),
            };
            self.shared.metrics.verdicts.get_or_create(&label).inc();
        }
        self.turn.touched.insert(id.run.clone());
        let bad = self.score_hosts(&row, reached.iter().map(|(cell, _)| *cell));
        if let Some(durations) = self
            .runs
            .get_mut(&id.run)
            .and_then(|run| run.timed(&mut row))
        {
            self.turn.batch.durations.push(durations);
        }
        self.turn.batch.attempts.push(row);
        for host in &bad {
            // Before the scheduler hears of this end, which may be the run's.
            self.quarantine(host.clone()).await;
        }
        if let Some(run) = self.runs.get_mut(&id.run).filter(|_| !bad.is_empty()) {
            next = run.book.wanted(id.cell, next);
            run.count();
        }
        let now = self.now();
        let effects = self
            .scheduler
            .apply(now, Event::Recorded { attempt: id, next });
        self.todo.extend(effects.into_iter().map(Todo::Effect));
    }

    fn finish(&mut self, id: &RunId, cancelled: bool) {
        let Some(mut run) = self.runs.remove(id) else {
            return;
        };
        let old = run.head.summary.state;
        let cancelled = cancelled || run.head.cancelled;
        let state = if cancelled && !run.head.summary.deep {
            RunState::Cancelled
        } else {
            RunState::Finished
        };
        if cancelled && state == RunState::Finished {
            // It only went on for what it had left unresolved: it is over with what it has.
            run.book.stop_reruns();
        }
        self.turn.batch.states.push(run.set_state(state));
        run.head.summary.bisecting = !cancelled && run.is_looked_into();
        self.change_state(old, state);
        self.turn.touched.remove(id);
        self.turn.over.insert(id.clone(), run.head);
    }

    pub(super) fn change_state(&mut self, from: RunState, to: RunState) {
        *self.states.entry(from.name()).or_default() -= 1;
        *self.states.entry(to.name()).or_default() += 1;
    }
}
