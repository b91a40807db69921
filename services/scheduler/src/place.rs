//! Which attempt goes to which host. May not: look at more than the host's own state, the runs that have work, and a
//! bounded part of their wants.

use std::cmp::Reverse;

use regatta_model::AttemptId;

use crate::Scheduler;
use crate::event::{Effect, Moment};
use crate::host::{Hold, HostIndex, Key};
use crate::run::{Pick, Run, RunIndex, Want};

/// Most wants of a run that are looked at for one place.
const WANTS_SEEN_MOST: usize = 256;

/// Most hosts that are looked at for whether another one could run a want.
const OTHERS_SEEN_MOST: usize = 1000;

/// How urgent a run is; the least goes first. (Images and layers that a host has already will stand before `run`.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Score {
    priority: Reverse<i32>,
    /// Attempts held: who has least gets the next place. All runs weigh the same so far.
    share: u64,
    run: RunIndex,
}

impl Scheduler {
    /// Gives a host up to `most` attempts; says how many it got.
    pub(crate) fn place(
        &mut self,
        now: Moment,
        host: HostIndex,
        most: u32,
        effects: &mut Vec<Effect>,
    ) -> u32 {
        let mut placed = 0;
        while placed < most && self.idle.contains(&host) {
            let Some((run, pick)) = self.choose(now, host) else {
                break;
            };
            if !self.assign(now, host, run, pick, effects) {
                break;
            }
            placed += 1;
        }
        placed
    }

    /// Gives all idle hosts what there is, one attempt each in turn, so that few cells spread over many hosts.
    pub(crate) fn place_everywhere(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let mut hosts: Vec<HostIndex> = self.idle.iter().copied().collect();
        while !hosts.is_empty() && !self.ready.is_empty() {
            hosts.retain(|host| !self.ready.is_empty() && self.place(now, *host, 1, effects) > 0);
        }
    }

    /// What this host gets next.
    fn choose(&self, now: Moment, host: HostIndex) -> Option<(RunIndex, Pick)> {
        self.ready.iter().find_map(|score| {
            let run = self.runs.get(&score.run)?;
            let placeable = run.fresh || self.open;
            let fits = placeable && self.hosts.get(host)?.carries(&run.labels);
            fits.then(|| self.pick(now, host, run))
                .flatten()
                .map(|pick| (score.run, pick))
        })
    }

    /// Further attempts of begun cells go before fresh ones: they settle cells.
    fn pick(&self, now: Moment, host: HostIndex, run: &Run) -> Option<Pick> {
        let mut wants = run.wants.iter().take(WANTS_SEEN_MOST);
        wants
            .find(|(_, want)| self.may_run(now, host, run, want))
            .map(|(number, _)| Pick::Want(*number))
            .or_else(|| run.next_fresh().map(Pick::Fresh))
    }

    /// A want goes to a host that it avoids only where no other can run it, or after some waiting.
    fn may_run(&self, now: Moment, host: HostIndex, run: &Run, want: &Want) -> bool {
        let elsewhere = |other: &HostIndex| {
            !want.avoid.contains(other)
                && self
                    .hosts
                    .get(*other)
                    .is_some_and(|host| host.carries(&run.labels))
        };
        !want.avoid.contains(&host)
            || now >= want.since.plus(self.config.avoid_ms)
            || !self.able.iter().take(OTHERS_SEEN_MOST).any(elsewhere)
    }

    fn assign(
        &mut self,
        now: Moment,
        index: HostIndex,
        run_index: RunIndex,
        pick: Pick,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let (Some(host), Some(run)) = (self.hosts.get_mut(index), self.runs.get_mut(&run_index))
        else {
            return false;
        };
        let before = score(run_index, run);
        let Some((cell, ordinal)) = run.begin(pick, index, now) else {
            return false;
        };
        self.generation = self.generation.saturating_add(1);
        let generation = self.generation;
        let incarnation = host.incarnation;
        let key = Key {
            run: run_index,
            cell,
            ordinal,
        };
        let hold = Hold {
            generation,
            incarnation,
            seen: false,
            ended: false,
            revoked: None,
            placed: false,
        };
        run.placed += u64::from(host.hold(key, hold));
        host.room = host.room.saturating_sub(1);
        let attempt = AttemptId {
            run: run.id.clone(),
            cell,
            ordinal,
        };
        effects.push(Effect::Assign {
            host: host.name.clone(),
            attempt,
            generation,
        });
        if host.room == 0 {
            self.idle.remove(&index);
        }
        self.ready.remove(&before);
        if run.has_work() {
            self.ready.insert(score(run_index, run));
        }
        true
    }

    /// Brings the sets of able and idle hosts up to what the host is now.
    pub(crate) fn refresh_host(&mut self, index: HostIndex) {
        let Some(host) = self.hosts.get(index) else {
            return;
        };
        if host.is_able() {
            self.able.insert(index);
        } else {
            self.able.remove(&index);
        }
        if host.is_able() && host.room > 0 {
            self.idle.insert(index);
        } else {
            self.idle.remove(&index);
        }
    }

    /// Takes a run out of the set of those with work, before it is changed.
    pub(crate) fn unready(&mut self, index: RunIndex) {
        if let Some(run) = self.runs.get(&index) {
            self.ready.remove(&score(index, run));
        }
    }

    /// Puts a changed run back among those with work, or ends it.
    pub(crate) fn refresh_run(&mut self, index: RunIndex, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get(&index) else {
            return;
        };
        if run.is_over() {
            let cancelled = run.stopped.is_some_and(|(_, cancelled)| cancelled);
            effects.push(Effect::Finish {
                run: run.id.clone(),
                cancelled,
            });
            self.run_ids.remove(&run.id);
            self.runs.remove(&index);
        } else if run.has_work() {
            self.ready.insert(score(index, run));
        }
    }
}

fn score(index: RunIndex, run: &Run) -> Score {
    Score {
        priority: Reverse(run.priority),
        share: run.held_count(),
        run: index,
    }
}
