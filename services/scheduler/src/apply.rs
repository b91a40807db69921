//! What submissions, recorded attempts and cancellations lead to. May not: look at hosts beyond what they hold.

use regatta_model::{AttemptId, CellNumber, HostName, RunId};

use crate::Scheduler;
use crate::event::{Again, Effect, Moment, Next, Work};
use crate::host::{HostIndex, Key};
use crate::run::{Run, RunIndex};

impl Scheduler {
    pub(crate) fn submitted(
        &mut self,
        now: Moment,
        id: RunId,
        work: &Work,
        effects: &mut Vec<Effect>,
    ) {
        if self.run_ids.contains_key(&id) {
            return;
        }
        let index = self.next_run;
        let standing = self.queue.join(index, work);
        let mut run = Run::new(id.clone(), work, standing, now);
        for Again {
            cell,
            attempts,
            reruns,
            avoid,
        } in &work.again
        {
            if !run.is_settled(*cell) {
                run.want(*cell, *attempts, *reruns, &self.known(avoid), now);
            }
        }
        self.next_run += 1;
        self.run_ids.insert(id, index);
        self.runs.insert(index, run);
        self.refresh_run(index, effects);
        self.place_everywhere(now, effects);
    }

    pub(crate) fn recorded(
        &mut self,
        now: Moment,
        attempt: &AttemptId,
        next: &Next,
        effects: &mut Vec<Effect>,
    ) {
        let AttemptId {
            run: run_id,
            cell,
            ordinal,
        } = attempt;
        let Some(&index) = self.run_ids.get(run_id) else {
            return;
        };
        let key = Key {
            run: index,
            cell: *cell,
            ordinal: *ordinal,
        };
        let holder = self
            .runs
            .get(&index)
            .and_then(|run| run.held.get(&(*cell, *ordinal)).copied());
        if let Some(host) = holder {
            self.drop_hold(host, key);
            self.refresh_host(host);
        }
        if let Some(run) = self.runs.get_mut(&index).filter(|_| next.settled) {
            run.settle(*cell, *ordinal);
        }
        self.heed(now, index, next.settled.then_some(*cell), next, effects);
        if let Some(host) = holder {
            self.place(now, host, u32::MAX, effects);
        }
        if !next.again.is_empty() {
            self.place_everywhere(now, effects);
        }
    }

    pub(crate) fn rejudged(
        &mut self,
        now: Moment,
        id: &RunId,
        next: &Next,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(&index) = self.run_ids.get(id) {
            self.heed(now, index, None, next, effects);
            self.place_everywhere(now, effects);
        }
    }

    /// Does what a judgement wants of a run, which may be over then. `own`: a cell that was settled already.
    fn heed(
        &mut self,
        now: Moment,
        index: RunIndex,
        own: Option<CellNumber>,
        next: &Next,
        effects: &mut Vec<Effect>,
    ) {
        let avoided: Vec<Vec<HostIndex>> = next
            .again
            .iter()
            .map(|again| self.known(&again.avoid))
            .collect();
        let Some(run) = self.runs.get_mut(&index) else {
            return;
        };
        run.reruns.set_left(next.reruns_left);
        for other in &next.settles {
            run.settle(*other, 0);
        }
        if run.stopped.is_none() {
            for (again, avoid) in next.again.iter().zip(&avoided) {
                run.want(again.cell, again.attempts, again.reruns, avoid, now);
            }
        }
        let fail_fast = next.failed && run.fail_fast && run.stopped.is_none();
        if fail_fast {
            self.stop(
                index,
                "a cell failed, and the run is fail-fast",
                false,
                effects,
            );
        } else {
            for cell in own.into_iter().chain(next.settles.iter().copied()) {
                self.revoke_rest(index, cell, effects);
            }
        }
        self.refresh_run(index, effects);
    }

    pub(crate) fn cancelled(&mut self, id: &RunId, effects: &mut Vec<Effect>) {
        let Some(&index) = self.run_ids.get(id) else {
            return;
        };
        self.stop(index, "the run was cancelled", true, effects);
        self.refresh_run(index, effects);
    }

    /// Stops a run, and revokes all that is held of it.
    fn stop(
        &mut self,
        index: RunIndex,
        reason: &'static str,
        cancelled: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(run) = self.runs.get_mut(&index) else {
            return;
        };
        run.stop(reason, cancelled);
        let held: Vec<(Key, HostIndex)> = run
            .held
            .iter()
            .map(|(&(cell, ordinal), &host)| {
                (
                    Key {
                        run: index,
                        cell,
                        ordinal,
                    },
                    host,
                )
            })
            .collect();
        for (key, host) in held {
            self.revoke(host, key, reason, effects);
        }
    }

    /// A settled cell needs none of its attempts that still run.
    fn revoke_rest(&mut self, index: RunIndex, cell: CellNumber, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get(&index) else {
            return;
        };
        if !run.is_settled(cell) {
            return;
        }
        let held: Vec<_> = run.held_of(cell).collect();
        for (ordinal, host) in held {
            self.revoke(
                host,
                Key {
                    run: index,
                    cell,
                    ordinal,
                },
                "its cell has its verdict",
                effects,
            );
        }
    }

    fn revoke(
        &mut self,
        index: HostIndex,
        key: Key,
        reason: &'static str,
        effects: &mut Vec<Effect>,
    ) {
        let (Some(host), Some(run)) = (self.hosts.get_mut(index), self.runs.get(&key.run)) else {
            return;
        };
        let Some(hold) = host.held.get_mut(&key) else {
            return;
        };
        hold.revoked = Some(reason);
        if !hold.ended {
            let attempt = AttemptId {
                run: run.id.clone(),
                cell: key.cell,
                ordinal: key.ordinal,
            };
            effects.push(Effect::Revoke {
                host: host.name.clone(),
                attempt,
                reason,
            });
        }
    }

    /// Those of the hosts that are known.
    fn known(&self, names: &[HostName]) -> Vec<HostIndex> {
        names
            .iter()
            .filter_map(|name| self.host_names.get(name).copied())
            .collect()
    }
}
