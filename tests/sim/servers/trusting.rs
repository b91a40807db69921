//! Whom a leader trusts: what the actor does with hosts that fail what others pass, with canaries, and with many hosts that
//! are silent at once. May not: decide whom to trust; that is `verdict`'s, and silence the scheduler's.

use std::collections::BTreeSet;

use regatta_model::wire::Observed;
use regatta_model::{AttemptId, CellNumber, HostName, RunId};
use regatta_scheduler::{Config, Event, Next};
use regatta_verdict::book::Reached;
use regatta_verdict::trust::Standing;
use regatta_verdict::watch::{Weight, may_quarantine};

use super::{Leading, Todo, policy_of};
use crate::check::Invariant;
use crate::setup::Plant;
use crate::store::EndRow;
use crate::{LEASE_MS, World};

/// Hosts of the smallest fleet of which a third says anything.
const FLEET_LEAST: usize = 10;
/// How much later than a host's time is over it may be seen to be: ticks of a server that was stopped for a while.
const LATE_MS: u64 = 10_000;

impl World {
    /// The scheduler hears what is recorded of hosts.
    pub(super) fn set_policies(&mut self, leading: &mut Leading) {
        let hosts = leading.hosts.iter();
        let policies: Vec<_> = hosts
            .map(|(host, known)| (host.clone(), policy_of(known.quarantined)))
            .collect();
        for (host, policy) in policies {
            self.apply(leading, Event::PolicySet { host, policy });
        }
    }

    pub(super) fn take_canaries(
        &mut self,
        leading: &mut Leading,
        host: &HostName,
        observed: &Observed,
        anew: bool,
    ) {
        let (Some(known), Some(said)) = (leading.hosts.get_mut(host), &observed.canaries) else {
            return;
        };
        let counts = (said.passed, said.failed);
        let news = known.watch.hear(counts, anew, !observed.lacks.is_empty());
        if news > 0 {
            leading.turn.hosts.insert(host.clone());
        }
        let bad = known.watch.trust.standing() == Standing::Quarantined;
        if known.quarantined && known.watch.comes_back() {
            self.trace.say(self.now, || format!("{host} comes back"));
            known.watch.trust.restore();
            self.set_policy(leading, host, false);
            self.carry_out(leading);
        } else if news > 0 && bad && !known.quarantined {
            self.quarantine(leading, host);
            self.carry_out(leading);
        }
    }

    /// Takes a host's standing into account before its attempt is judged.
    pub(super) fn weigh_host(&mut self, leading: &mut Leading, row: &mut EndRow) {
        let Some(known) = leading.hosts.get_mut(&row.host) else {
            return;
        };
        let weight = known.watch.weigh(known.quarantined, row.is_decisive());
        if weight != Weight::Counts && self.setup.plant != Some(Plant::QuarantineIgnored) {
            row.distrust();
        }
        if weight == Weight::OnProbation {
            leading.turn.hosts.insert(row.host.clone());
        }
    }

    /// Credits the host of an attempt, and charges those of cells that have their verdict. Tells those that fail too much.
    pub(super) fn score_hosts(
        &mut self,
        leading: &mut Leading,
        attempt: &AttemptId,
        row: &EndRow,
        reached: &[Reached],
    ) -> Vec<HostName> {
        if row.passed()
            && row.is_decisive()
            && let Some(known) = leading.hosts.get_mut(&row.host)
        {
            known.watch.trust.pass();
        }
        let Some(run) = leading.runs.get_mut(&attempt.run) else {
            return Vec::new();
        };
        let charges = reached.iter().flat_map(|(cell, _)| run.book.charges(*cell));
        let charges: Vec<(HostName, f64)> = charges.collect();
        let mut bad = Vec::new();
        for (host, chance) in charges {
            let Some(known) = leading.hosts.get_mut(&host) else {
                continue;
            };
            let standing = known.watch.charge(chance);
            leading.turn.hosts.insert(host.clone());
            if standing == Standing::Quarantined && !known.quarantined {
                bad.push(host);
            }
        }
        bad
    }

    /// A rule's decision about a host, unless there were too many.
    pub(super) fn quarantine(&mut self, leading: &mut Leading, host: &HostName) {
        let quarantined = leading.hosts.values().filter(|known| known.quarantined);
        let allowed = may_quarantine(quarantined.count(), leading.hosts.len());
        let unbounded = self.setup.plant == Some(Plant::QuarantineUnbounded);
        if self.setup.plant == Some(Plant::BadHostsTrusted) || !(allowed || unbounded) {
            return;
        }
        self.trace
            .say(self.now, || format!("{host} is quarantined"));
        if let Some(known) = leading.hosts.get_mut(host) {
            known.watch.quarantine();
        }
        self.set_policy(leading, host, true);
    }

    fn set_policy(&mut self, leading: &mut Leading, host: &HostName, quarantined: bool) {
        let Some(known) = leading.hosts.get_mut(host) else {
            return;
        };
        let before = std::mem::replace(&mut known.quarantined, quarantined);
        leading.turn.hosts.insert(host.clone());
        let event = Event::PolicySet {
            host: host.clone(),
            policy: policy_of(quarantined),
        };
        let effects = self.decide(leading, event);
        leading.todo.extend(effects.into_iter().map(Todo::Effect));
        if quarantined && !before {
            self.distrust_host(leading, host);
        }
    }

    /// Nothing that a host decided in runs that are not over counts any more.
    fn distrust_host(&mut self, leading: &mut Leading, host: &HostName) {
        if let Some(known) = leading.hosts.get_mut(host) {
            known.watch.trust.quarantine();
        }
        if self.setup.plant == Some(Plant::DistrustForgotten) {
            return;
        }
        let runs: Vec<RunId> = leading.runs.keys().cloned().collect();
        for id in runs {
            if let Some(next) = self.distrust_in(leading, &id, host) {
                self.trace
                    .say(self.now, || format!("{id} is judged anew: {next:?}"));
                let effects = self.decide(leading, Event::Rejudged { run: id, next });
                leading.todo.extend(effects.into_iter().map(Todo::Effect));
            }
        }
    }

    fn distrust_in(&mut self, leading: &mut Leading, id: &RunId, host: &HostName) -> Option<Next> {
        let decided = self.db.cells_of(id, host);
        let run = leading.runs.get_mut(id)?;
        let decided = run.book.decided_by(host, decided);
        if decided.is_empty() {
            return None;
        }
        let missing = decided
            .iter()
            .flat_map(|cell| run.book.missing(*cell, false));
        let missing: Vec<CellNumber> = missing.collect();
        run.book.bring(self.db.attempts_of(id, &missing));
        let next = run.book.distrust(host, &decided);
        if self.setup.plant != Some(Plant::DistrustUnrecorded) {
            let theirs =
                |(attempt, row): &&mut (AttemptId, EndRow)| attempt.run == *id && row.host == *host;
            let rows = leading.turn.batch.attempts.iter_mut().filter(theirs);
            rows.for_each(|(_, row)| row.distrust());
            let told = (id.clone(), host.clone());
            leading.turn.batch.distrusted.push(told);
        }
        leading.turn.touched.insert(id.clone());
        Some(next)
    }

    /// Time passes for the scheduler: whom it gives up, and whom it does not.
    pub(super) fn tick_scheduler(&mut self, leading: &mut Leading) {
        let config = Config::with_lease(LEASE_MS);
        let now = leading.now(self.now).0;
        let many = self.many_are_silent(leading, now, config.suspect_after_ms);
        let lost = |leading: &Leading| {
            let lost = leading.hosts.values().filter(|known| known.lost);
            lost.count()
        };
        let before = lost(leading);
        self.apply(leading, Event::Ticked);
        let long_ago = leading
            .doubted
            .is_some_and(|at| now >= at + config.doubt_ms);
        if many && lost(leading) > before && !long_ago {
            let detail = format!(
                "hosts were lost while many were silent, and the server doubted itself at {:?} ms, which is {now} now",
                leading.doubted
            );
            self.checker.broke(Invariant::DoubtIsBounded, detail);
        }
        let most = config.lease_ms + config.drift_ms + config.doubt_ms + LATE_MS;
        let mut hosts = leading.hosts.iter().filter(|(_, known)| !known.lost);
        let kept = hosts.find(|(_, known)| known.is_silent_for(now, most));
        if let Some((host, known)) = kept {
            let since = known.spoke;
            let detail = format!("{host} is not lost, though silent since {since:?} ms, at {now}");
            self.checker.broke(Invariant::DoubtIsBounded, detail);
        }
    }

    /// Whether more than a third of a fleet is silent, and not for being one rack.
    fn many_are_silent(&self, leading: &Leading, now: u64, since: u64) -> bool {
        let (mut known, mut count, mut racks) = (0, 0, BTreeSet::new());
        let hosts = leading.hosts.iter();
        for (host, of) in hosts.filter(|(_, of)| !of.lost && of.spoke.is_some()) {
            known += 1;
            if of.is_silent_for(now, since) {
                count += 1;
                racks.insert(self.hosts[super::host_index(host)].rack);
            }
        }
        let one_rack = racks.len() == 1 && count < known;
        known >= FLEET_LEAST && count * 3 > known && !one_rack
    }
}
