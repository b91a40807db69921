//! What is watched of one host: the score of its results, and its canaries; whether what ended there decides anything, and
//! when it is quarantined or comes back. May not: know a cell, or set a policy itself.
//!
//! A canary that failed counts against its host, for its truth is known. One that passed says only that the host runs
//! canaries well; a host can do that and still spoil tests, which need more of it. So the score of results is never
//! lowered by canaries. What they bring back is a host on probation, where little more is needed to quarantine it again.

use regatta_model::wire::CANARIES_MOST;

use crate::trust::{BACK_AFTER, Standing, Trust, quarantined_most};

/// Canaries that are wanted of a host whose results make it suspect.
const SUSPECT_WANTED: u32 = 10;
/// Canaries that a quarantined host is asked for with each answer. With two, and an answer each fifth of a lease of 15
/// seconds, it is back after a minute and a half at the earliest.
const BACK_AT_ONCE: u32 = 2;
/// Canaries of one sync that count at most: what a host says is not believed beyond what it can have run.
const COUNTED_MOST: u64 = 1000;

/// Whether what ended on a host may decide anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// It counts.
    Counts,
    /// Its host is quarantined.
    Quarantined,
    /// Its host came back only now.
    OnProbation,
}

/// What is watched of a host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// The score of its results; it lasts.
    pub trust: Trust,
    /// Its canaries, in this life of the server.
    pub canaries: Canaries,
}

/// What is known of a host's canaries in this life of the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Canaries {
    /// What the host's agent counted so far.
    seen: Option<(u64, u64)>,
    /// Whether the last one failed.
    failing: bool,
    /// How many more are wanted of a suspect.
    wanted: u32,
    /// Those that passed since one failed, while the host is quarantined.
    clean: u32,
    /// Passed and failed, of all that were counted here.
    pub total: (u64, u64),
}

impl Canaries {
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

impl Watch {
    /// A host that lasts in `trust`, of whose canaries nothing is known yet.
    pub fn of(trust: Trust) -> Self {
        Self {
            trust,
            canaries: Canaries::default(),
        }
    }

    /// Whether an attempt that ended there may decide anything; `decisive`: it would.
    pub fn weigh(&mut self, quarantined: bool, decisive: bool) -> Weight {
        if quarantined {
            Weight::Quarantined
        } else if decisive && self.trust.doubles() {
            Weight::OnProbation
        } else {
            Weight::Counts
        }
    }

    /// An attempt failed there that others did not confirm; see [`Trust::charge`]. Gives what it comes to.
    pub fn charge(&mut self, chance: f64) -> Standing {
        self.trust.charge(chance);
        let standing = self.trust.standing();
        if standing != Standing::Trusted {
            self.canaries.wanted = SUSPECT_WANTED.min(CANARIES_MOST);
        }
        standing
    }

    /// Takes in how many canaries its agent counts that passed, and that failed; `anew`: it may be another agent than
    /// before; `lacks`: it says that it cannot work, as it does while the last canary failed. Gives how many failures
    /// are news.
    pub fn hear(&mut self, counts: (u64, u64), anew: bool, lacks: bool) -> u64 {
        let canaries = &mut self.canaries;
        let (passed, failed, news) = canaries.take(counts, anew);
        if passed + failed > 0 {
            canaries.failing = failed > 0 && lacks;
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
            self.trust.canary_failed();
        }
        news
    }

    /// A rule quarantines it: the canaries that bring it back are counted from here.
    pub fn quarantine(&mut self) {
        self.trust.by_rule = true;
        self.canaries.clean = 0;
    }

    /// Whether it comes back, where it is quarantined.
    pub fn comes_back(&self) -> bool {
        self.canaries.clean >= BACK_AFTER && self.trust.may_come_back()
    }

    /// How many more canaries it is asked for now.
    pub fn canaries_wanted(&self, quarantined: bool) -> u32 {
        match quarantined {
            true if self.trust.may_come_back() => BACK_AT_ONCE,
            // A person decides, and canaries have no say in that.
            true => 0,
            false => self.canaries.wanted,
        }
    }

    /// Its places and the free ones: one that is on probation uses half of them. `holding`: attempts that it holds.
    pub fn places(&self, slots: u32, free: u32, holding: usize) -> (u32, u32) {
        if self.trust.probation == 0 || slots == 0 {
            return (slots, free);
        }
        let half = (slots / 2).max(1);
        // Nothing is fetched ahead: the host would start it in a place that it should not use.
        let holding = u32::try_from(holding).unwrap_or(u32::MAX);
        (half, free.min(half.saturating_sub(holding)))
    }
}

/// Whether a rule may quarantine one more of `hosts`, of which so many are already.
pub const fn may_quarantine(quarantined: usize, hosts: usize) -> bool {
    quarantined < quarantined_most(hosts)
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
