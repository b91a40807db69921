//! Canaries of hosts: what the actor does where one failed, and how a quarantined host comes back by them. May not: count
//! them; that is `verdict`'s.

use regatta_model::HostName;
use regatta_scheduler::Policy;
use regatta_verdict::trust::{BACK_AFTER, Standing};

use super::Actor;

impl Actor {
    /// Takes in what a host says of its canaries.
    pub(super) async fn take_canaries(&mut self, host: &HostName, anew: bool) {
        let Some(known) = self.hosts.get_mut(host) else {
            return;
        };
        let observed = &known.facts.observed;
        let Some(said) = observed.canaries.clone() else {
            return;
        };
        // The sentence is there as long as the last one failed.
        let lacks = !observed.lacks.is_empty();
        let news = known.watch.hear((said.passed, said.failed), anew, lacks);
        let standing = known.watch.trust.standing();
        if news > 0 {
            tracing::warn!(
                "a canary failed on host {host}, it is {standing:?}: {}",
                said.failure
            );
            self.turn.hosts.insert(host.clone());
        }
        let policy = known.policy;
        if policy == regatta_store::Policy::Quarantined && known.watch.comes_back() {
            self.come_back(host.clone()).await;
        } else if news > 0
            && standing == Standing::Quarantined
            && policy == regatta_store::Policy::Active
        {
            self.quarantine(host.clone()).await;
            self.carry_out().await;
        }
    }

    /// A quarantined host ran enough of them.
    async fn come_back(&mut self, host: HostName) {
        let Some(known) = self.hosts.get_mut(&host) else {
            return;
        };
        known.watch.trust.restore();
        let reason = format!(
            "on probation: {BACK_AFTER} canaries in a row were right, after {}",
            known.reason
        );
        tracing::warn!("host {host} comes back {reason}");
        self.decide(host, Policy::Active, reason).await;
        self.carry_out().await;
    }

    /// How many more canaries a host is asked for now.
    pub(super) fn canaries_wanted(&self, host: &HostName) -> u32 {
        let known = self.hosts.get(host);
        known.map_or(0, |known| {
            let quarantined = known.policy == regatta_store::Policy::Quarantined;
            known.watch.canaries_wanted(quarantined)
        })
    }
}
