//! Canaries of hosts: whom the server asks for how many, what one that failed comes to, and how a quarantined host comes
//! back by them. May not: take a canary that passed for a sign that tests can be trusted there.
//!
//! A canary that failed counts against its host, for its truth is known. One that passed says only that the host runs
//! canaries well; a host can do that and still spoil tests, which need more of it. So the score of results is never
//! lowered by canaries. What they bring back is a host on probation, where little more is needed to quarantine it again.

use regatta_model::HostName;
use regatta_model::wire::CANARIES_MOST;
use regatta_scheduler::Policy;
use regatta_verdict::trust::{BACK_AFTER, Standing};

use super::Actor;

/// Canaries that are wanted of a host whose results make it suspect.
const SUSPECT_WANTED: u32 = 10;
/// Canaries that a quarantined host is asked for with each answer. With two, and an answer each fifth of a lease of 15
/// seconds, it is back after a minute and a half at the earliest.
const BACK_AT_ONCE: u32 = 2;
/// Canaries of one sync that count at most: what a host says is not believed beyond what it can have run.
const COUNTED_MOST: u64 = 1000;

/// What is known of a host's canaries in this life of the server.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Canaries {
    /// What the host's agent counted so far.
    seen: Option<(u64, u64)>,
    /// Whether the last one failed.
    failing: bool,
    /// How many more are wanted of a suspect.
    wanted: u32,
    /// Those that passed since one failed, while the host is quarantined.
    clean: u32,
    /// Passed and failed, of all that were counted here.
    pub(super) total: (u64, u64),
}

impl Canaries {
    /// The host is quarantined: those that bring it back are counted from here.
    pub(super) fn begin_count(&mut self) {
        self.clean = 0;
    }

    /// Takes in what an agent counts; `anew`: it may be another agent than before. Gives how many passed and failed
    /// since, and how many failures are news: those that an agent repeats until one passes are one.
    fn take(&mut self, counts: (u64, u64), anew: bool) -> (u64, u64, u64) {
        let before = match self.seen {
            Some(seen) if !anew && seen.0 <= counts.0 && seen.1 <= counts.1 => seen,
            Some(_) => (0, 0),
            // What happened before this server led was counted by another one, if any.
            None => counts,
        };
        self.seen = Some(counts);
        let passed = (counts.0 - before.0).min(COUNTED_MOST);
        let failed = (counts.1 - before.1).min(COUNTED_MOST);
        self.total.0 = self.total.0.saturating_add(passed);
        self.total.1 = self.total.1.saturating_add(failed);
        let news = failed.min(passed + u64::from(!self.failing));
        (passed, failed, news)
    }
}

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
        let (passed, failed, news) = known.canaries.take((said.passed, said.failed), anew);
        // The sentence is there as long as the last one failed.
        let canaries = &mut known.canaries;
        if passed + failed > 0 {
            canaries.failing = failed > 0 && !observed.lacks.is_empty();
            let ran = u32::try_from(passed + failed).unwrap_or(u32::MAX);
            canaries.wanted = canaries.wanted.saturating_sub(ran);
            let passed = u32::try_from(passed).unwrap_or(u32::MAX);
            canaries.clean = if failed > 0 {
                0
            } else {
                canaries.clean.saturating_add(passed)
            };
        }
        for _ in 0..news {
            known.trust.canary_failed();
        }
        let standing = known.trust.standing();
        if news > 0 {
            tracing::warn!(
                "a canary failed on host {host}, it is {standing:?}: {}",
                said.failure
            );
            self.turn.hosts.insert(host.clone());
        }
        let policy = known.policy;
        let back = known.canaries.clean >= BACK_AFTER && known.trust.may_come_back();
        if policy == regatta_store::Policy::Quarantined && back {
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
        known.trust.restore();
        let reason = format!(
            "on probation: {BACK_AFTER} canaries in a row were right, after {}",
            known.reason
        );
        tracing::warn!("host {host} comes back {reason}");
        self.decide(host, Policy::Active, reason).await;
        self.carry_out().await;
    }

    /// A failure of it was not confirmed, and it is suspect now.
    pub(super) fn want_canaries(&mut self, host: &HostName) {
        if let Some(known) = self.hosts.get_mut(host) {
            known.canaries.wanted = SUSPECT_WANTED.min(CANARIES_MOST);
        }
    }

    /// How many more canaries a host is asked for now.
    pub(super) fn canaries_wanted(&self, host: &HostName) -> u32 {
        let Some(known) = self.hosts.get(host) else {
            return 0;
        };
        match known.policy {
            regatta_store::Policy::Quarantined if known.trust.may_come_back() => BACK_AT_ONCE,
            // A person decides, and canaries have no say in that.
            regatta_store::Policy::Quarantined => 0,
            _ => known.canaries.wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Canaries;

    #[test]
    fn failures_that_an_agent_repeats_are_one() {
        let mut canaries = Canaries::default();
        assert_eq!(canaries.take((7, 2), true), (0, 0, 0), "counted elsewhere");
        assert_eq!(canaries.take((7, 3), false), (0, 1, 1));
        canaries.failing = true;
        assert_eq!(canaries.take((7, 5), false), (0, 2, 0), "still the same");
        assert_eq!(canaries.take((9, 7), false), (2, 2, 2));
        assert_eq!(canaries.take((1, 0), true), (1, 0, 0), "a new agent");
        canaries.failing = false;
        assert_eq!(canaries.take((1, u64::MAX), false), (0, 1000, 1));
        assert_eq!(canaries.total, (3, 1005));
    }
}
