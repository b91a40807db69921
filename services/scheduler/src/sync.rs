//! What a sync of a host and the passing of time lead to: leases renewed, attempts taken up, said again, revoked or
//! lost. May not: place anything itself.

use std::collections::BTreeSet;

use regatta_model::wire::Held;
use regatta_model::{AttemptId, HostName, Incarnation};

use crate::event::{Effect, Health, HostState, Moment, Policy};
use crate::host::{Hold, Host, HostIndex, Key};
use crate::run::RunIndex;
use crate::{HOSTS_MOST, Scheduler};

/// Highest generation that a host can raise the scheduler's to.
const GENERATION_MOST: u64 = 1 << 62;

impl Scheduler {
    /// The first event starts the clock of the restored hosts.
    pub(crate) fn begin(&mut self, now: Moment) {
        if self.adopt_until.is_some() {
            return;
        }
        self.adopt_until = Some(now.plus(self.config.lost_after_ms()));
        for index in self.unheard.clone() {
            if let Some(host) = self.hosts.get_mut(index) {
                host.last_sync = now;
            }
            self.set_deadline(index, now.plus(self.config.lost_after_ms()));
        }
    }

    /// The host's place in the list; a new one is made while there is room.
    pub(crate) fn host_index(&mut self, name: &HostName) -> Option<HostIndex> {
        if let Some(index) = self.host_names.get(name) {
            return Some(*index);
        }
        if self.hosts.len() >= HOSTS_MOST {
            return None;
        }
        let index = self.hosts.len();
        self.hosts.push(Host::new(name.clone()));
        self.host_names.insert(name.clone(), index);
        Some(index)
    }

    pub(crate) fn synced(
        &mut self,
        now: Moment,
        name: &HostName,
        incarnation: Incarnation,
        state: &HostState,
        effects: &mut Vec<Effect>,
    ) {
        let Some(index) = self.host_index(name) else {
            return;
        };
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        if incarnation < host.incarnation {
            return;
        }
        let reborn = incarnation > host.incarnation;
        let recovered = host.health != Health::Ready;
        host.incarnation = incarnation;
        host.health = Health::Ready;
        host.last_sync = now;
        host.lacks = state.lacks;
        host.slots = state.slots;
        host.capacity = state.capacity;
        if host.labels != state.labels || host.cpu != state.cpu {
            if self.able.remove(&index) {
                self.variety.remove(host);
            }
            host.labels.clone_from(&state.labels);
            host.cpu.clone_from(&state.cpu);
        }
        for hold in host.held.values_mut() {
            (hold.seen, hold.ended) = (false, false);
        }
        if recovered {
            effects.push(Effect::HealthChanged {
                host: name.clone(),
                health: Health::Ready,
            });
        }
        self.set_deadline(index, now.plus(self.config.suspect_after_ms));
        let mut touched = BTreeSet::new();
        for held in &state.holding {
            self.listed(now, index, held, false, &mut touched, effects);
        }
        for held in &state.ended {
            self.listed(now, index, held, true, &mut touched, effects);
        }
        self.unlisted(index, reborn, &mut touched, effects);
        if let Some(host) = self.hosts.get_mut(index) {
            host.set_room(state.free);
            host.tells_ready(&state.ready);
        }
        self.move_up(index);
        self.refresh_host(index);
        for run in touched {
            self.refresh_run(run, effects);
        }
        self.unheard.remove(&index);
        if self.open_if_due(now) {
            self.place_everywhere(now, effects);
        }
        self.place(now, index, u32::MAX, effects);
    }

    /// One attempt that a host says it holds, or that ended there.
    fn listed(
        &mut self,
        now: Moment,
        index: HostIndex,
        listed: &Held,
        ended: bool,
        touched: &mut BTreeSet<RunIndex>,
        effects: &mut Vec<Effect>,
    ) {
        let AttemptId {
            run: run_id,
            cell,
            ordinal,
        } = &listed.attempt;
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        let revoke = |reason| Effect::Revoke {
            host: host.name.clone(),
            attempt: listed.attempt.clone(),
            reason,
        };
        let Some(&run_index) = self.run_ids.get(run_id) else {
            // Of what ended there is nothing to stop; the caller finds no holder and drops it.
            effects.extend((!ended).then(|| revoke("its run is over, or was never known")));
            return;
        };
        let key = Key {
            run: run_index,
            cell: *cell,
            ordinal: *ordinal,
        };
        if let Some(hold) = host.held.get_mut(&key) {
            if ended && hold.generation != listed.generation {
                // It is the end of an assignment of an earlier life of the server, and not of this one.
                return;
            }
            (hold.seen, hold.ended) = (true, ended);
            let (generation, revoked) = (hold.generation, hold.revoked);
            if let (Some(reason), false) = (revoked, ended) {
                effects.push(revoke(reason));
            } else if generation != listed.generation && !ended {
                let (host, attempt) = (host.name.clone(), listed.attempt.clone());
                effects.push(Effect::Assign {
                    host,
                    attempt,
                    generation,
                });
            }
            return;
        }
        touched.insert(run_index);
        let (Some(host), Some(run)) = (self.hosts.get_mut(index), self.runs.get_mut(&run_index))
        else {
            return;
        };
        let in_time = self.adopt_until.is_some_and(|until| now < until);
        if in_time && !run.fresh && run.adopt(*cell, *ordinal, index, now) {
            // Any life of the host may have run it: one that had been declared lost would be recorded so.
            let incarnation = Incarnation(0);
            let generation = listed.generation;
            // Generations go on from the highest that is known, so that a later assignment has a higher one.
            self.generation = self.generation.max(generation.min(GENERATION_MOST));
            let hold = Hold {
                generation,
                incarnation,
                seen: true,
                ended,
                revoked: None,
                placed: false,
                asked: run.asked,
                exclusive: run.exclusive,
            };
            run.placed += u64::from(host.hold(key, hold));
        } else if !ended {
            let reason = run.reason_against(*cell, *ordinal);
            let (host, attempt) = (host.name.clone(), listed.attempt.clone());
            effects.push(Effect::Revoke {
                host,
                attempt,
                reason,
            });
        }
    }

    /// What the host should hold and did not list: said again, or gone with an old incarnation.
    fn unlisted(
        &mut self,
        index: HostIndex,
        reborn: bool,
        touched: &mut BTreeSet<RunIndex>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(host) = self.hosts.get(index) else {
            return;
        };
        let name = host.name.clone();
        let unlisted: Vec<(Key, Hold)> = host
            .held
            .iter()
            .filter(|(_, hold)| !hold.seen)
            .map(|(k, h)| (*k, *h))
            .collect();
        for (key, hold) in unlisted {
            let Some(run) = self.runs.get(&key.run) else {
                continue;
            };
            let attempt = AttemptId {
                run: run.id.clone(),
                cell: key.cell,
                ordinal: key.ordinal,
            };
            if reborn {
                effects.push(Effect::Lost {
                    attempt,
                    host: name.clone(),
                });
            } else if hold.revoked.is_none() {
                let (host, generation) = (name.clone(), hold.generation);
                effects.push(Effect::Assign {
                    host,
                    attempt,
                    generation,
                });
                continue;
            }
            self.drop_hold(index, key);
            touched.insert(key.run);
        }
    }

    /// The host holds this attempt no longer. The run is to be refreshed after this.
    pub(crate) fn drop_hold(&mut self, index: HostIndex, key: Key) {
        let had_place = self
            .hosts
            .get_mut(index)
            .is_some_and(|host| host.release(key));
        if let Some(run) = self.runs.get_mut(&key.run) {
            run.let_go(key.cell, key.ordinal);
            run.placed -= u64::from(had_place);
        }
        self.move_up(index);
    }

    /// What waits on a host gets the places that are free there.
    fn move_up(&mut self, index: HostIndex) {
        while let Some(key) = self.hosts.get_mut(index).and_then(Host::move_up) {
            if let Some(run) = self.runs.get_mut(&key.run) {
                run.placed += 1;
            }
        }
    }

    pub(crate) fn ticked(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        while let Some(&(moment, index)) = self.deadlines.first()
            && moment <= now
        {
            self.deadlines.remove(&(moment, index));
            self.overdue(now, index, effects);
        }
        self.open_if_due(now);
        self.place_everywhere(now, effects);
    }

    /// A host's deadline passed: it is suspect, or lost with all that it held.
    fn overdue(&mut self, now: Moment, index: HostIndex, effects: &mut Vec<Effect>) {
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        host.deadline = None;
        let end = host.last_sync.plus(self.config.lost_after_ms());
        if now >= end
            && let Some(again) = self.doubts_itself(now, effects)
        {
            self.set_deadline(index, again);
            return;
        }
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        let health = if now >= end {
            Health::Lost
        } else {
            Health::Suspect
        };
        host.health = health;
        let name = host.name.clone();
        effects.push(Effect::HealthChanged {
            host: name.clone(),
            health,
        });
        if health == Health::Suspect {
            self.set_deadline(index, end);
            self.refresh_host(index);
            return;
        }
        self.unheard.remove(&index);
        let mut touched = BTreeSet::new();
        for (key, hold) in host.take_all() {
            touched.insert(key.run);
            if let Some(run) = self.runs.get_mut(&key.run) {
                run.let_go(key.cell, key.ordinal);
                run.placed -= u64::from(hold.placed);
                let run = run.id.clone();
                let attempt = AttemptId {
                    run,
                    cell: key.cell,
                    ordinal: key.ordinal,
                };
                effects.push(Effect::Lost {
                    attempt,
                    host: name.clone(),
                });
            }
        }
        self.refresh_host(index);
        for run in touched {
            self.refresh_run(run, effects);
        }
    }

    pub(crate) fn policy_set(
        &mut self,
        now: Moment,
        name: &HostName,
        policy: Policy,
        effects: &mut Vec<Effect>,
    ) {
        let Some(index) = self.host_index(name) else {
            return;
        };
        if let Some(host) = self.hosts.get_mut(index) {
            host.policy = policy;
        }
        self.refresh_host(index);
        self.place(now, index, u32::MAX, effects);
    }

    /// Restored runs may be placed once nobody can hold attempts of them that are not known; says whether that
    /// began now.
    fn open_if_due(&mut self, now: Moment) -> bool {
        let due = self.unheard.is_empty() || self.adopt_until.is_some_and(|until| now >= until);
        let begins = due && !self.open;
        self.open |= due;
        begins
    }

    fn set_deadline(&mut self, index: HostIndex, moment: Moment) {
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        if let Some(old) = host.deadline.replace(moment) {
            self.deadlines.remove(&(old, index));
        }
        self.deadlines.insert((moment, index));
    }
}
