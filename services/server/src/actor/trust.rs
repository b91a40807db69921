//! Hosts whose failures others do not confirm: charged, quarantined, and what they decided is run again elsewhere. May
//! not: charge by anything but results; silence is the scheduler's.

use regatta_model::{Blame, CellNumber, HostName, RunId};
use regatta_scheduler::{Event, Next, Policy};
use regatta_store::{Distrusted, EndedRow, Error};
use regatta_verdict::judge::is_decisive;
use regatta_verdict::trust::Standing;
use regatta_verdict::watch::{Weight, may_quarantine};

use super::{Actor, Todo};
use crate::crash::{self, REOPENED};

/// What is told of an attempt that decides nothing.
const ON_PROBATION: &str = "its host came back a moment ago and is on probation: this decides nothing and is run again elsewhere";

/// What an attempt of a host that is not trusted comes to.
fn distrust(row: &mut EndedRow) {
    if is_decisive(row.outcome, row.blame) {
        row.blame = Some(Blame::Host);
    }
}

impl Actor {
    /// Whether a host's attempts decide nothing.
    fn is_quarantined(&self, host: &HostName) -> bool {
        let known = self.hosts.get(host);
        known.is_some_and(|known| known.policy == regatta_store::Policy::Quarantined)
    }

    /// Takes a host's standing into account before its attempt is judged.
    pub(super) fn weigh_host(&mut self, row: &mut EndedRow) {
        let quarantined = self.is_quarantined(&row.host);
        let Some(known) = self.hosts.get_mut(&row.host) else {
            return;
        };
        let decisive = is_decisive(row.outcome, row.blame);
        match known.watch.weigh(quarantined, decisive) {
            Weight::Counts => {}
            Weight::Quarantined => distrust(row),
            Weight::OnProbation => {
                distrust(row);
                if row.detail.is_empty() {
                    ON_PROBATION.clone_into(&mut row.detail);
                }
                self.turn.hosts.insert(row.host.clone());
            }
        }
    }

    /// An attempt was judged: its host is credited, or hosts are charged once a cell is `settled`. Tells those that fail
    /// too much.
    pub(super) fn score_hosts(
        &mut self,
        row: &EndedRow,
        settled: impl Iterator<Item = CellNumber>,
    ) -> Vec<HostName> {
        if row.passed
            && is_decisive(row.outcome, row.blame)
            && let Some(known) = self.hosts.get_mut(&row.host)
        {
            known.watch.trust.pass();
        }
        let mut bad = Vec::new();
        let run = self.runs.get_mut(&row.attempt.run);
        let charges = run.map(|run| settled.flat_map(|cell| run.book.charges(cell)).collect());
        let charges: Vec<(HostName, f64)> = charges.unwrap_or_default();
        for (host, chance) in charges {
            let Some(known) = self.hosts.get_mut(&host) else {
                continue;
            };
            let standing = known.watch.charge(chance);
            tracing::warn!(
                "a failure of {} on host {host} was not confirmed elsewhere: {} so far, it is {standing:?}",
                row.attempt,
                known.watch.trust.charged,
            );
            let active = known.policy == regatta_store::Policy::Active;
            self.turn.hosts.insert(host.clone());
            if standing == Standing::Quarantined && active {
                bad.push(host);
            }
        }
        bad
    }

    /// The rule's decision about a host, unless it already decided about too many.
    pub(super) async fn quarantine(&mut self, host: HostName) {
        let quarantined = self.hosts.keys().filter(|host| self.is_quarantined(host));
        if !may_quarantine(quarantined.count(), self.hosts.len()) {
            tracing::error!(
                "host {host} fails what others pass, but a tenth of the hosts are quarantined already: something else may \
                 be wrong; `regatta host quarantine {host}` does it all the same"
            );
            return;
        }
        let Some(known) = self.hosts.get_mut(&host) else {
            return;
        };
        let charged = known.watch.trust.charged;
        let failures = if charged == 1 { "failure" } else { "failures" };
        let canaries = match known.watch.trust.canaries_failed {
            0 => String::new(),
            1 => ", and a canary that failed".to_owned(),
            failed => format!(", and {failed} canaries that failed"),
        };
        let reason = format!("{charged} {failures} that other hosts did not confirm{canaries}");
        known.watch.quarantine();
        tracing::error!("host {host} is quarantined: {reason}");
        self.decide(host, Policy::Quarantined, reason).await;
    }

    /// Nothing that a host decided in runs that are not over counts any more; it is run again elsewhere.
    pub(super) async fn distrust_host(&mut self, host: &HostName) {
        if let Some(known) = self.hosts.get_mut(host) {
            known.watch.trust.quarantine();
        }
        let runs: Vec<RunId> = self.runs.keys().cloned().collect();
        for id in runs {
            let next = match self.distrust_in(&id, host).await {
                Ok(Some(next)) => next,
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!("what host {host} decided in run {id} stands: {error}");
                    continue;
                }
            };
            let now = self.now();
            let effects = self.scheduler.apply(now, Event::Rejudged { run: id, next });
            self.todo.extend(effects.into_iter().map(Todo::Effect));
            crash::point(REOPENED);
        }
    }

    /// What is wanted of a run without a host; none where the host decided nothing of it.
    async fn distrust_in(&mut self, id: &RunId, host: &HostName) -> Result<Option<Next>, Error> {
        let decided = self.shared.store.cells_of(id, host).await?;
        let Some(run) = self.runs.get_mut(id) else {
            return Ok(None);
        };
        let decided = run.book.decided_by(host, decided);
        if decided.is_empty() {
            return Ok(None);
        }
        let missing: Vec<_> = decided
            .iter()
            .flat_map(|cell| run.book.missing(*cell, false))
            .collect();
        let rows = self.shared.store.attempts_of(id, &missing).await?;
        run.bring(&rows);
        let next = run.book.distrust(host, &decided);
        run.count();
        for row in &mut self.turn.batch.attempts {
            if row.host == *host && row.attempt.run == *id {
                distrust(row);
            }
        }
        self.turn.batch.distrusted.push(Distrusted {
            run: id.clone(),
            host: host.clone(),
        });
        self.turn.touched.insert(id.clone());
        Ok(Some(next))
    }
}
