//! What people ask of the actor: submit, cancel, rerun, a host's policy. May not: take what was not checked.

use regatta_model::run::{Progress, RunState, RunSummary};
use regatta_model::{HostName, RunId};
use regatta_scheduler::{Event, Policy};
use regatta_store::{BisectionRow, NewRun, RunHead};

use super::book::OpenRun;
use super::handle::{Command, HostInfo, NewSubmission, Reply, Rerun, store_policy};
use super::{Actor, Todo, wall_ms};
use crate::answer::{Answer, Refusal};
use crate::limits::OPEN_RUNS_MOST;

/// Characters of an id: no vowels that make words, none that look alike; in the order of their bytes, so that ids sort
/// by time.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A new id: ten characters for the time, then five by lot.
fn new_run_id() -> Option<RunId> {
    let lot = uuid::Uuid::now_v7().as_u128();
    let time = lot >> 80;
    let random = lot & ((1 << 25) - 1);
    let digit = |value: u128, place: u32| {
        let index = usize::try_from((value >> (5 * place)) & 31).unwrap_or(0);
        char::from(DIGITS.get(index).copied().unwrap_or(b'0'))
    };
    let mut id: String = (0..10).rev().map(|place| digit(time, place)).collect();
    id.extend((0..5).rev().map(|place| digit(random, place)));
    id.parse().ok()
}

impl Actor {
    pub(super) async fn command(&mut self, command: Command) {
        match command {
            Command::Submit(submission, reply) => {
                let answer = self.submit(*submission).await;
                self.say(reply, answer);
            }
            Command::Sync(synced, reply) => self.synced(*synced, reply).await,
            Command::Cancel(run, reply) => {
                let answer = self.cancel(run).await;
                self.say(reply, answer);
            }
            Command::Rerun(run, what, reply) => {
                let answer = self.rerun(run, what).await;
                self.say(reply, answer);
            }
            Command::Policy {
                host,
                policy,
                reason,
                reply,
            } => {
                let answer = self.set_policy(host, policy, reason).await;
                self.say(reply, answer);
            }
            Command::Prune(runs, reply) => {
                let answer = self.prune(runs).await;
                self.say(reply, answer);
            }
            Command::Bisected(row, reply) => {
                let answer = self.bisected(row).await;
                self.say(reply, answer);
            }
            Command::Explain(run, reply) => drop(reply.send(self.scheduler.explain(&run))),
            Command::Hosts(reply) => drop(reply.send(self.host_infos())),
        }
    }

    /// Answers once this turn is recorded.
    fn say<T: Send + Sync + 'static>(&mut self, reply: Reply<T>, answer: T) {
        // Whoever went away does not want to hear it.
        self.turn
            .replies
            .push(Box::new(move || drop(reply.send(answer))));
    }

    /// A run that the same client submitted before with the same key.
    async fn submitted_before(&self, submission: &NewSubmission) -> Answer<Option<RunSummary>> {
        let Some(key) = &submission.idempotency_key else {
            return Ok(None);
        };
        let in_turn = self
            .turn
            .batch
            .runs
            .iter()
            .find(|run| run.idempotency_key.as_ref() == Some(key));
        let found = match in_turn {
            Some(run) => Some((run.run.clone(), run.body)),
            None => self
                .shared
                .store
                .submitted(key)
                .await?
                .map(|found| (found.run, found.body)),
        };
        let Some((id, body)) = found else {
            return Ok(None);
        };
        if body != submission.body {
            let detail = format!(
                "the idempotency key was used for run {id} with another body; use a new key"
            );
            return Err(Refusal::conflict("idempotency-key", detail));
        }
        let open = self.runs.get(&id).map(|run| run.head.summary.clone());
        let summary = match open {
            Some(summary) => Some(summary),
            None => self.shared.store.head(&id).await?.map(|head| head.summary),
        };
        Ok(summary)
    }

    async fn submit(&mut self, submission: NewSubmission) -> Answer<RunSummary> {
        if let Some(summary) = self.submitted_before(&submission).await? {
            return Ok(summary);
        }
        if self.runs.len() >= OPEN_RUNS_MOST {
            return Err(Refusal::busy(format!(
                "{OPEN_RUNS_MOST} runs are not over yet (limit OPEN_RUNS_MOST); wait for one, or cancel one"
            )));
        }
        let NewSubmission {
            source,
            file,
            matrix,
            pins,
            holds,
            idempotency_key,
            body,
        } = submission;
        let id = (0..100).find_map(|_| new_run_id().filter(|id| !self.runs.contains_key(id)));
        let Some(id) = id else {
            return Err(Refusal::busy("no id is free at the moment; try again"));
        };
        let cells = matrix.cells().count();
        let summary = RunSummary {
            run: id.clone(),
            name: matrix.name().to_owned(),
            state: RunState::Queued,
            submitted_ms: wall_ms(),
            ended_ms: None,
            deep: false,
            bisecting: false,
            progress: Progress {
                cells,
                ..Progress::default()
            },
        };
        self.turn.batch.runs.push(NewRun {
            run: id.clone(),
            name: summary.name.clone(),
            file,
            matrix: source,
            pins: pins.clone(),
            cells,
            submitted_ms: summary.submitted_ms,
            idempotency_key,
            body,
        });
        let head = RunHead {
            summary,
            sequence: 0,
            cancelled: false,
            rerun_after: None,
        };
        let mut run = OpenRun::new(matrix, pins, holds, head);
        self.turn.batch.states.push(run.set_state(RunState::Queued));
        *self.states.entry(RunState::Queued.name()).or_default() += 1;
        let work = run.work();
        let summary = run.head.summary.clone();
        self.runs.insert(id.clone(), run);
        self.turn.touched.insert(id.clone());
        self.apply(Event::Submitted {
            run: id,
            work: Box::new(work),
        })
        .await;
        Ok(summary)
    }

    async fn cancel(&mut self, id: RunId) -> Answer<RunSummary> {
        let Some(run) = self.runs.get_mut(&id) else {
            return match self.shared.store.head(&id).await? {
                // Whoever wanted it to end has what they wanted, once nothing is looked for any more.
                Some(mut head) => {
                    if std::mem::take(&mut head.summary.bisecting) {
                        let said = self.shared.store.bisection(&id).await?;
                        self.turn.batch.bisections.push(BisectionRow {
                            run: id,
                            searching: false,
                            said: said.unwrap_or_else(|| "[]".to_owned()),
                        });
                    }
                    Ok(head.summary)
                }
                None => Err(no_run(&id)),
            };
        };
        run.head.cancelled = true;
        self.turn.touched.insert(id.clone());
        self.apply(Event::Cancelled { run: id.clone() }).await;
        let open = self.runs.get(&id).map(|run| &run.head);
        let head = open.or_else(|| self.turn.over.get(&id));
        head.map(|head| head.summary.clone())
            .ok_or_else(|| no_run(&id))
    }

    async fn rerun(&mut self, id: RunId, what: Rerun) -> Answer<RunSummary> {
        if self.runs.contains_key(&id) || self.turn.over.contains_key(&id) {
            let detail = format!("run {id} is not over yet; wait for its end, or cancel it first");
            return Err(Refusal::conflict("not-over", detail));
        }
        if self.turn.batch.pruned.contains(&id) {
            return Err(no_run(&id));
        }
        let Some(mut record) = self.shared.store.run(&id).await? else {
            return Err(no_run(&id));
        };
        let old = record.head.summary.state;
        match what {
            Rerun::Failed => record.head.rerun_after = Some(record.head.sequence),
            Rerun::Unresolved => {
                record.head.summary.deep = true;
                record.head.rerun_after = None;
            }
        }
        record.head.cancelled = false;
        record.head.summary.bisecting = false;
        let (mut run, mut work, _) = self.take_up_run(record).await.map_err(|error| {
            tracing::error!("run {id} cannot be taken up: {error}");
            Refusal::busy(format!("run {id} cannot be taken up: {error}"))
        })?;
        if run.head.summary.progress.settled == work.cells {
            let (kind, why) = match what {
                Rerun::Failed => ("passed", "every cell of it passed"),
                Rerun::Unresolved => ("resolved", "no further attempt would tell more of it"),
            };
            let detail = format!("there is nothing to run again of run {id}: {why}");
            return Err(Refusal::conflict(kind, detail));
        }
        self.turn
            .batch
            .states
            .push(run.set_state(RunState::Running));
        self.change_state(old, RunState::Running);
        let summary = run.head.summary.clone();
        self.runs.insert(id.clone(), run);
        self.turn.touched.insert(id.clone());
        // All that any host held of it ended before the run was over.
        work.fresh = true;
        self.apply(Event::Submitted {
            run: id,
            work: Box::new(work),
        })
        .await;
        Ok(summary)
    }

    async fn bisected(&mut self, row: BisectionRow) -> Answer<()> {
        let open = self.runs.contains_key(&row.run) || self.turn.over.contains_key(&row.run);
        let head = self.shared.store.head(&row.run).await?;
        let wanted = head.is_some_and(|head| head.summary.bisecting);
        let mut earlier = self.turn.batch.bisections.iter().rev();
        let earlier = earlier.find(|known| known.run == row.run);
        if open || !wanted || earlier.is_some_and(|known| !known.searching) {
            let detail = format!("run {} is not searched any more", row.run);
            return Err(Refusal::conflict("not-searched", detail));
        }
        self.turn.batch.bisections.push(row);
        Ok(())
    }

    /// Nobody sees these runs any more, but for those that are not over.
    async fn prune(&mut self, runs: Vec<RunId>) -> Answer<u64> {
        let mut pruned = 0;
        for id in runs {
            let pruned_now = self.turn.batch.pruned.contains(&id);
            if pruned_now || self.runs.contains_key(&id) || self.turn.over.contains_key(&id) {
                continue;
            }
            let head = self.shared.store.head(&id).await?;
            let over = head.map(|head| head.summary.state);
            let Some(state) = over.filter(|state| state.is_over()) else {
                continue;
            };
            *self.states.entry(state.name()).or_default() -= 1;
            self.turn.batch.pruned.push(id);
            pruned += 1;
        }
        Ok(pruned)
    }

    async fn set_policy(
        &mut self,
        host: HostName,
        policy: Policy,
        reason: String,
    ) -> Answer<HostInfo> {
        let Some(known) = self.hosts.get_mut(&host) else {
            return Err(Refusal::not_found(format!(
                "no host {host} ever spoke to this server; `regatta hosts` lists them"
            )));
        };
        if policy == Policy::Active {
            known.watch.trust.restore();
        }
        // What a person decided, a person takes back.
        known.watch.trust.by_rule = false;
        self.decide(host.clone(), policy, reason).await;
        self.carry_out().await;
        self.host_info(&host)
            .ok_or_else(|| Refusal::not_found(format!("no host {host}")))
    }

    /// Sets a host's policy, whoever decided so. What that leads to stands in `todo` after this.
    pub(super) async fn decide(&mut self, host: HostName, policy: Policy, reason: String) {
        let Some(known) = self.hosts.get_mut(&host) else {
            return;
        };
        let before = std::mem::replace(&mut known.policy, store_policy(policy));
        known.reason = reason;
        self.turn.hosts.insert(host.clone());
        let event = Event::PolicySet {
            host: host.clone(),
            policy,
        };
        let effects = self.scheduler.apply(self.now(), event);
        self.todo.extend(effects.into_iter().map(Todo::Effect));
        if policy == Policy::Quarantined && before != store_policy(policy) {
            self.distrust_host(&host).await;
        }
    }
}

pub(crate) fn no_run(id: &RunId) -> Refusal {
    Refusal::not_found(format!("there is no run {id}; `regatta runs` lists them"))
}
