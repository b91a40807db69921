//! Whether a host can be trusted, from what other hosts say of the same cells. May not: charge a host with what others
//! confirm, or look at anything but results.
//!
//! A score in the manner of Wald's sequential test: for each of two rates at which a bad host might fail what a good one
//! passes, the logarithm of how much more likely its record is if it is bad. An attempt that failed counts against its
//! host once two attempts of the same cell on other hosts are there, and not both of them failed too.

use serde::{Deserialize, Serialize};

use crate::judge::AttemptFacts;

/// Rates at which a bad host may fail what a good one passes.
const RATES: [f64; 2] = [0.05, 0.3];

/// Where a score ends downwards, so that a host that was good for long can still become bad soon.
const FLOOR: f64 = -3.0;

/// How often a good host fails by chance at least, whatever was measured.
const CHANCE_LEAST: f64 = 0.005;

/// How often it does where one of two other attempts failed as well.
const CHANCE_DOUBTED: f64 = 0.3;

/// Attempts that one unconfirmed failure is thought to come with before anything was measured.
const UNKNOWN: f64 = 50.0;

/// Attempts elsewhere that a failure is measured by.
const OTHERS: usize = 2;

/// Odds against a host that make it suspect.
const SUSPECT: f64 = 5.0;

/// Odds against a host that make it be quarantined. With odds of 200 one good host of 300 was quarantined in campaigns of 200
/// attempts each where one attempt in a hundred fails by chance, with these none of 4,000; a host that fails three
/// attempts in ten is found after 15 of them instead of 12 (`ops/bench blame`).
const QUARANTINED: f64 = 2000.0;

/// Attempts of a host that came back, in which the odds of a suspect are enough to quarantine it again.
pub const PROBATION: u32 = 100;

/// Attempts of a host that came back which decide nothing: each is run again elsewhere.
pub const DOUBLED: u32 = 10;

/// Canaries in a row that bring back a host which a rule quarantined for the first time.
pub const BACK_AFTER: u32 = 60;

/// What results say of a host, kept over runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trust {
    /// The score at each of the two rates, in nats.
    scores: [f64; 2],
    /// Failures that others did not confirm, since it was trusted last.
    pub charged: u32,
    /// How often it was quarantined.
    pub offences: u32,
    /// Attempts that are left of its probation.
    pub probation: u32,
    /// Attempts that are left of those which decide nothing.
    pub doubled: u32,
    /// Canaries that failed, since it was trusted last.
    pub canaries_failed: u32,
    /// It is quarantined, and not by a person.
    pub by_rule: bool,
}

/// What a host's score comes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// Nothing speaks against it.
    Trusted,
    /// More failures than chance explains, too few to say so.
    Suspect,
    /// What it says decides nothing any more.
    Quarantined,
}

/// A host of which nothing is known is probably good: most are.
impl Default for Trust {
    fn default() -> Self {
        Self {
            scores: [FLOOR; 2],
            charged: 0,
            offences: 0,
            probation: 0,
            doubled: 0,
            canaries_failed: 0,
            by_rule: false,
        }
    }
}

impl Trust {
    /// An attempt passed there.
    pub fn pass(&mut self) {
        for (score, rate) in self.scores.iter_mut().zip(RATES) {
            *score = (*score + (1.0 - rate).ln()).max(FLOOR);
        }
        self.probation = self.probation.saturating_sub(1);
    }

    /// An attempt failed there, and others did not confirm it. `chance`: how often that happens on a good host.
    pub fn charge(&mut self, chance: f64) {
        self.raise(chance);
        self.charged = self.charged.saturating_add(1);
        self.probation = self.probation.saturating_sub(1);
    }

    /// A canary failed there, which a good host's do not: as a failure that happens by the least chance. One that passes
    /// lowers nothing, since a host may run canaries well and tests badly.
    pub fn canary_failed(&mut self) {
        self.raise(CHANCE_LEAST);
        self.canaries_failed = self.canaries_failed.saturating_add(1);
    }

    fn raise(&mut self, chance: f64) {
        let chance = chance.clamp(CHANCE_LEAST, 1.0);
        for (score, rate) in self.scores.iter_mut().zip(RATES) {
            *score += ((chance + (1.0 - chance) * rate) / chance).ln();
        }
    }

    /// An attempt that would decide something ended there. Whether it decides nothing after all, since the host came back
    /// only now.
    pub fn doubles(&mut self) -> bool {
        let doubles = self.doubled > 0;
        self.doubled = self.doubled.saturating_sub(1);
        doubles
    }

    /// Whether it comes back by itself, once its canaries are right for long enough: a rule quarantined it, and for the
    /// first time.
    pub fn may_come_back(&self) -> bool {
        self.by_rule && self.offences == 1
    }

    /// The logarithm of the odds against it.
    pub fn score(&self) -> f64 {
        self.scores.iter().copied().fold(FLOOR, f64::max)
    }

    /// What that comes to.
    pub fn standing(&self) -> Standing {
        let quarantined = if self.probation > 0 {
            SUSPECT
        } else {
            QUARANTINED
        };
        match self.score().exp() {
            odds if odds >= quarantined => Standing::Quarantined,
            odds if odds >= SUSPECT => Standing::Suspect,
            _ => Standing::Trusted,
        }
    }

    /// It was quarantined.
    pub fn quarantine(&mut self) {
        self.offences = self.offences.saturating_add(1);
    }

    /// A person or its canaries say that it can be trusted again: its record begins anew, and it is watched more closely for a while if
    /// it was quarantined before.
    pub fn restore(&mut self) {
        *self = Self {
            offences: self.offences,
            ..Self::default()
        };
        if self.offences > 0 {
            // Of such a host nothing good is believed beforehand.
            self.scores = [0.0; 2];
            self.probation = PROBATION;
            self.doubled = DOUBLED;
        }
    }
}

/// The attempts of a cell that speak against their hosts, by their places in `cell`, each with how often a good host
/// fails so by chance at least. The cell has its verdict; `chance` is how often attempts of its run fail unconfirmed on
/// other hosts.
pub fn charges(cell: &[AttemptFacts], chance: f64) -> Vec<(usize, f64)> {
    let decisive = || cell.iter().filter(|attempt| attempt.is_decisive());
    let charge = |(place, failed): (usize, &AttemptFacts)| {
        if !failed.is_decisive() || failed.passed {
            return None;
        }
        let others: Vec<bool> = decisive()
            .filter(|other| other.host != failed.host)
            .map(|other| other.passed)
            .take(OTHERS)
            .collect();
        let confirmed = others.iter().filter(|passed| !**passed).count();
        match (others.len(), confirmed) {
            (OTHERS, 0) => Some((place, chance)),
            (OTHERS, 1) => Some((place, chance.max(CHANCE_DOUBTED))),
            _ => None,
        }
    };
    cell.iter().enumerate().filter_map(charge).collect()
}

/// How often attempts of a run fail unconfirmed on good hosts, estimated from how many did, of all its attempts. What is
/// not known yet counts as one in [`UNKNOWN`], so that the first flaky tests of a run don't look like bad hosts.
pub fn chance(unconfirmed: u32, attempts: u64) -> f64 {
    let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
    (f64::from(unconfirmed) + 1.0) / (f64::from(attempts) + UNKNOWN)
}

/// How many of `hosts` a rule may quarantine; beyond that a person decides, for something else is wrong. A tenth, one at
/// least, and none where there are not two others to be measured by.
pub const fn quarantined_most(hosts: usize) -> usize {
    match hosts {
        0..=2 => 0,
        3..=19 => 1,
        _ => hosts / 10,
    }
}
