//! The end of a turn: everything decided is committed in one transaction, then published. May not: publish before.

use std::sync::Arc;

use regatta_model::run::RunState;
use regatta_model::wire::LogPlace;
use regatta_model::{HostName, RunId};
use regatta_scheduler::{Health, HostView};
use regatta_store::{Committed, EndedRow, Error, HostRecord, RunHead};
use tokio::time::{Duration, Instant};

use super::handle::{HostInfo, scheduler_policy};
use super::{Actor, Turn, wall_ms};
use crate::crash::{self, COMMITTED, DECIDED, PUBLISHED};
use crate::limits::{COMMIT_AGAIN_AFTER, COMMIT_SLOW_AFTER};
use crate::metrics::{
    AttemptLabels, HostLabels, Metrics, NO_BLAME, OperationLabel, StateLabel, health_name, level,
    policy_name,
};
use crate::reports;

/// How often gauges are brought up to date at most.
const GAUGES_EVERY: Duration = Duration::from_millis(200);

/// How often a server that is told to end tries a commit that fails.
const LAST_TRIES: u32 = 6;

impl Actor {
    pub(super) async fn end_turn(&mut self) {
        self.complete_batch();
        let records = !self.turn.batch.is_empty();
        if records {
            crash::point(DECIDED);
            if !self.commit().await {
                // The server ends without its database, or another one leads: whoever waits hears nothing, and asks
                // again elsewhere or later.
                self.turn = Turn::default();
                return;
            }
            crash::point(COMMITTED);
        }
        if self.term.lease.is_over() {
            // What is recorded is right, but what hosts would hear may contradict the next leader.
            self.turn = Turn::default();
            self.term.end.cancel();
            return;
        }
        self.publish();
        if records {
            crash::point(PUBLISHED);
        }
    }

    /// Adds where the touched runs and hosts stand now.
    fn complete_batch(&mut self) {
        let turn = &mut self.turn;
        turn.batch.epoch = self.term.epoch;
        turn.batch.heads = turn.over.values().cloned().collect();
        let touched = turn.touched.iter().filter_map(|id| self.runs.get(id));
        turn.batch.heads.extend(touched.map(|run| run.head.clone()));
        for host in std::mem::take(&mut turn.hosts) {
            let Some(known) = self.hosts.get(&host) else {
                continue;
            };
            turn.batch.hosts.push(HostRecord {
                host,
                incarnation: known.incarnation,
                policy: known.policy,
                reason: known.reason.clone(),
                lost: known.lost,
                facts: known.facts.clone(),
                trust: serde_json::to_string(&known.watch.trust).unwrap_or_default(),
                seen_ms: wall_ms(),
            });
        }
    }

    /// Commits, again and again where the database cannot; false where the server is told to end meanwhile, or leads no
    /// more.
    async fn commit(&mut self) -> bool {
        let mut tries = 0;
        loop {
            let begun = Instant::now();
            let result = self.try_commit().await;
            let label = OperationLabel {
                operation: "commit",
            };
            let seconds = begun.elapsed().as_secs_f64();
            self.shared
                .metrics
                .store_operation_seconds
                .get_or_create(&label)
                .observe(seconds);
            match result {
                Ok(committed) => {
                    // An earlier try may have been recorded although it was not said to be.
                    if committed.doubled > 0 && tries == 0 {
                        tracing::error!(
                            "{} attempts had been recorded before and stay as they were",
                            committed.doubled
                        );
                    }
                    if begun.elapsed() > COMMIT_SLOW_AFTER {
                        self.stalled += begun.elapsed();
                    }
                    return true;
                }
                Err(error) if error.is_passing() => {
                    tracing::error!("nothing can be recorded, trying again: {error}");
                }
                Err(error @ Error::Deposed(_)) => {
                    tracing::warn!("this server leads no more: {error}");
                    self.term.end.cancel();
                    return false;
                }
                Err(error) => {
                    // To go on would mean to answer for what is not recorded.
                    tracing::error!(
                        "the server ends, for what it decided contradicts what is recorded: {error}"
                    );
                    self.shared.shutdown.cancel();
                    return false;
                }
            }
            tries += 1;
            let ends = self.shared.shutdown.is_cancelled() && tries >= LAST_TRIES;
            if ends || self.term.lease.is_over() {
                self.term.end.cancel();
                return false;
            }
            self.refuse_for(COMMIT_AGAIN_AFTER).await;
            self.stalled += begun.elapsed();
        }
    }

    /// One try. A database that takes its time is as good as away for whoever waits meanwhile: hosts are heard.
    async fn try_commit(&mut self) -> Result<Committed, Error> {
        let store = Arc::clone(&self.shared.store);
        let batch = std::mem::take(&mut self.turn.batch);
        let result = {
            let mut commit = store.commit(&batch);
            tokio::select! {
                result = &mut commit => result,
                () = tokio::time::sleep(COMMIT_SLOW_AFTER) => loop {
                    tokio::select! {
                        result = &mut commit => break result,
                        () = self.refuse_for(COMMIT_AGAIN_AFTER) => {}
                    }
                },
            }
        };
        self.turn.batch = batch;
        result
    }

    fn publish(&mut self) {
        let turn = std::mem::take(&mut self.turn);
        let mut changes: Vec<_> = turn.over.keys().map(|id| (id.clone(), None)).collect();
        // Placements are not recorded, and change what runs.
        let mut moved = turn.touched;
        for attempt in turn.outgoing.values().flat_map(|said| said.start.keys()) {
            if !moved.contains(&attempt.run) {
                moved.insert(attempt.run.clone());
            }
        }
        for id in moved {
            let running = self.scheduler.run(&id).map_or(0, |view| view.running);
            if let Some(run) = self.runs.get_mut(&id) {
                run.book.forget_passed();
                changes.push((id, Some(run.live(running))));
            }
        }
        if !changes.is_empty() {
            self.shared.live.set(changes);
        }
        for row in &turn.batch.attempts {
            count(&self.shared.metrics, row);
        }
        for head in turn.over.into_values() {
            if head.summary.bisecting {
                self.shared.bisect_wanted.notify_one();
            }
            self.count_findings(head);
        }
        for reply in turn.replies {
            reply();
        }
        self.turn.outgoing = turn.outgoing;
        self.answer_syncs();
        self.update_gauges();
    }

    /// Counts what a finished run's report finds, beside the actor.
    fn count_findings(&self, head: RunHead) {
        if head.summary.state != RunState::Finished {
            return;
        }
        let (store, metrics) = (self.shared.store.clone(), self.shared.metrics.clone());
        let run: RunId = head.summary.run;
        let shutdown = self.term.end.clone();
        tokio::spawn(async move {
            let found = tokio::select! {
                found = reports::findings(store.as_ref(), &run) => found,
                () = shutdown.cancelled() => return,
            };
            match found {
                Ok(kinds) => {
                    for kind in kinds {
                        metrics.findings.get_or_create(&kind).inc();
                    }
                }
                Err(error) => tracing::warn!("the findings of run {run} are not counted: {error}"),
            }
        });
    }

    fn update_gauges(&mut self) {
        if self.gauged.is_some_and(|at| at.elapsed() < GAUGES_EVERY) {
            return;
        }
        self.gauged = Some(Instant::now());
        let metrics = &self.shared.metrics;
        for (state, count) in &self.states {
            metrics
                .runs
                .get_or_create(&StateLabel { state })
                .set(*count);
        }
        let (mut pending, mut running, mut settled) = (0, 0, 0);
        let mut changes = Vec::new();
        for (id, run) in &self.runs {
            let Some(view) = self.scheduler.run(id) else {
                continue;
            };
            // What hosts took up or gave up again without anything being placed or recorded.
            let shown = self.shared.live.get(id);
            if shown.is_some_and(|shown| shown.running != view.running) {
                changes.push((id.clone(), Some(run.live(view.running))));
            }
            let unsettled = view.cells.saturating_sub(view.settled);
            settled += view.settled;
            running += view.running.min(unsettled);
            pending += unsettled.saturating_sub(view.running);
        }
        if !changes.is_empty() {
            self.shared.live.set(changes);
        }
        for (state, count) in [
            ("pending", pending),
            ("running", running),
            ("settled", settled),
        ] {
            metrics
                .cells
                .get_or_create(&StateLabel { state })
                .set(level(count));
        }
        metrics.clear_hosts();
        let (mut free, mut held) = (0, 0);
        for host in self.scheduler.hosts() {
            let labels = HostLabels {
                health: health_name(host.health),
                policy: policy_name(host.policy),
            };
            metrics.hosts.get_or_create(&labels).inc();
            if host.health != Health::Lost {
                held += i64::from(host.running);
                free += i64::from(host.slots.saturating_sub(host.running));
            }
        }
        for (state, count) in [("free", free), ("held", held)] {
            metrics
                .host_slots
                .get_or_create(&StateLabel { state })
                .set(count);
        }
    }

    /// All hosts that are known, by name.
    pub(super) fn host_infos(&self) -> Vec<HostInfo> {
        self.hosts
            .keys()
            .filter_map(|name| self.host_info(name))
            .collect()
    }

    pub(super) fn host_info(&self, name: &HostName) -> Option<HostInfo> {
        let known = self.hosts.get(name)?;
        let view: Option<HostView> = self.scheduler.host(name);
        Some(HostInfo {
            name: name.clone(),
            incarnation: known.incarnation,
            health: view.as_ref().map_or(Health::Lost, |view| view.health),
            policy: scheduler_policy(known.policy),
            reason: known.reason.clone(),
            slots: view.as_ref().map_or(0, |view| view.slots),
            free: view
                .as_ref()
                .map_or(0, |view| view.slots.saturating_sub(view.running)),
            held: view.as_ref().map_or(0, |view| view.running),
            silent_seconds: known.heard.map(|heard| heard.elapsed().as_secs_f64()),
            facts: known.facts.clone(),
            trust: known.watch.trust,
            canaries: known.watch.canaries.total,
            clock_offset_ms: known.clock_offset_ms,
        })
    }
}

/// Counts a recorded attempt.
fn count(metrics: &Metrics, row: &EndedRow) {
    let blame = row.blame.map_or(NO_BLAME, regatta_model::Blame::name);
    metrics
        .attempts
        .get_or_create(&AttemptLabels {
            outcome: row.outcome.name(),
            blame,
        })
        .inc();
    let ran = row.wall_ms > 0 || row.start_us > 0 || !matches!(row.log, LogPlace::Empty);
    if ran {
        metrics
            .attempt_seconds
            .observe(Duration::from_millis(row.wall_ms).as_secs_f64());
        metrics
            .queue_seconds
            .observe(Duration::from_millis(row.queue_ms).as_secs_f64());
        metrics
            .container_start_seconds
            .observe(Duration::from_micros(row.start_us).as_secs_f64());
    }
}
