//! Which attempt goes to which host. May not: look at more than the host's own state, the runs that have work, and a
//! bounded part of their wants.

use regatta_model::AttemptId;

use crate::Scheduler;
use crate::event::{Effect, Moment};
use crate::host::{Hold, Host, HostIndex, Key};
use crate::locality::NEAR_SEEN_MOST;
use crate::run::{Pick, Run, RunIndex};

/// Most wants of a run that are looked at for one place.
const WANTS_SEEN_MOST: usize = 256;

/// What a host could get.
struct Choice {
    /// What it gets next.
    chosen: Option<(RunIndex, Pick)>,
    /// Runs whose turn it was before, and that do not fit beside what it holds.
    passed: Vec<RunIndex>,
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
        self.place_if(now, host, most, false, effects)
    }

    /// As [`Self::place`]; with `near`, only what it has the image of.
    fn place_if(
        &mut self,
        now: Moment,
        host: HostIndex,
        most: u32,
        near: bool,
        effects: &mut Vec<Effect>,
    ) -> u32 {
        let mut placed = 0;
        while placed < most && self.idle.contains(&host) {
            let Choice { chosen, passed } = self.choose(now, host);
            let Some((run, pick)) = chosen else {
                break;
            };
            if near && !self.is_near(host, run, pick) {
                break;
            }
            if self.pass_over(now, host, &passed, run) {
                continue;
            }
            if !self.assign(now, host, run, pick, effects) {
                break;
            }
            placed += 1;
        }
        placed
    }

    /// Gives all idle hosts what there is, one attempt each in turn, so that few cells spread over many hosts.
    pub(crate) fn place_everywhere(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.queue.is_empty() {
            return;
        }
        let mut hosts: Vec<HostIndex> = self.idle.iter().copied().collect();
        if hosts.len() > 1 {
            // Hosts that have what is needed are asked first. Whatever they leave goes to any.
            let has = |host: &&HostIndex| self.hosts.get(**host).is_some_and(Host::has_any);
            let mut near: Vec<HostIndex> = hosts.iter().filter(has).copied().collect();
            near.truncate(NEAR_SEEN_MOST);
            while !near.is_empty() && !self.queue.is_empty() {
                near.retain(|host| self.place_if(now, *host, 1, true, effects) > 0);
            }
        }
        while !hosts.is_empty() && !self.queue.is_empty() {
            hosts.retain(|host| !self.queue.is_empty() && self.place(now, *host, 1, effects) > 0);
        }
    }

    /// What this host gets next.
    fn choose(&self, now: Moment, index: HostIndex) -> Choice {
        let mut choice = Choice {
            chosen: None,
            passed: Vec::new(),
        };
        let Some(host) = self.hosts.get(index) else {
            return choice;
        };
        let spare = host.spare();
        // Most hosts that have places and no memory left end here, however many runs there are.
        if host.exclusive > 0 || !spare.holds(&self.queue.least()) {
            return choice;
        }
        let mut reserved = false;
        for run_index in self.queue.runs() {
            let Some(run) = self.runs.get(&run_index) else {
                continue;
            };
            let placeable = run.fresh || self.open;
            if !placeable || !host.could_run(run) || (reserved && !run.asked.is_none()) {
                continue;
            }
            let Some(pick) = self.pick(now, index, run) else {
                continue;
            };
            if host.fits(run) {
                choice.chosen = Some((run_index, pick));
                break;
            }
            let kept = self.reserved_for(run) == Some(index);
            if kept && run.exclusive {
                // Whatever came beside what the host holds, it would be longer until it is free.
                break;
            }
            reserved |= kept;
            choice.passed.push(run_index);
        }
        choice
    }

    /// Further attempts of begun cells go before fresh ones: they settle cells.
    fn pick(&self, now: Moment, host: HostIndex, run: &Run) -> Option<Pick> {
        if !run.rounds.is_empty() {
            return self.pick_in_rounds(now, host, run);
        }
        let reruns = run.reruns.closed().is_none();
        let mut wants = run.wants.iter().take(WANTS_SEEN_MOST);
        wants
            .find(|(_, want)| (reruns || !want.rerun) && self.may_run(now, host, run, want))
            .map(|(number, _)| Pick::Want(*number))
            .or_else(|| {
                let host = self.hosts.get(host)?;
                run.nearest_fresh(host).map(Pick::Fresh)
            })
    }

    /// Whether a host has the image of what it would get.
    fn is_near(&self, host: HostIndex, run: RunIndex, pick: Pick) -> bool {
        let (host, run) = (self.hosts.get(host), self.runs.get(&run));
        host.zip(run)
            .is_some_and(|(host, run)| run.is_near(host, pick))
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
            asked: run.asked,
            exclusive: run.exclusive,
        };
        run.placed += u64::from(host.hold(key, hold));
        run.reserve.placed(now, index);
        if let Some(kind) = run.kind(cell) {
            host.expect(kind);
        }
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
        run.last = generation;
        run.standing = self.queue.update(run_index, run.standing, run.demand());
        true
    }

    /// Brings the sets of able and idle hosts up to what the host is now.
    pub(crate) fn refresh_host(&mut self, index: HostIndex) {
        let Some(host) = self.hosts.get(index) else {
            return;
        };
        if host.is_able() {
            if self.able.insert(index) {
                self.variety.add(host);
            }
        } else if self.able.remove(&index) {
            self.variety.remove(host);
        }
        if host.is_able() && host.room > 0 {
            self.idle.insert(index);
        } else {
            self.idle.remove(&index);
        }
    }

    /// Brings the queue up to what a changed run is now, or ends the run.
    pub(crate) fn refresh_run(&mut self, index: RunIndex, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&index) else {
            return;
        };
        if !run.is_over() {
            run.standing = self.queue.update(index, run.standing, run.demand());
            return;
        }
        let cancelled = run.stopped.is_some_and(|(_, cancelled)| cancelled);
        effects.push(Effect::Finish {
            run: run.id.clone(),
            cancelled,
        });
        self.queue.leave(index, run.standing);
        self.run_ids.remove(&run.id);
        self.runs.remove(&index);
    }
}
