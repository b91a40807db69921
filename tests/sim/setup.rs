//! What a world is made of: how many of what, which faults happen, and which rule is broken on purpose. May not: act.

use std::str::FromStr;

/// A rule that is broken on purpose, to see that the world notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// A submission is acknowledged before it is recorded.
    AckBeforeCommit,
    /// The database takes what a deposed leader writes, and the leader does not look at its lease.
    NoFencing,
    /// An agent that is started again has forgotten its outbox.
    OutboxDropped,
    /// The server takes every life of a host for the first one.
    IncarnationIgnored,
    /// The server does not wait for the lease before it gives a silent host up.
    LeaseNotWaited,
    /// A host goes on without a lease.
    LeaseOutlived,
    /// What a host is to blame for counts as the test's failure.
    BlameIgnored,
    /// An agent forgets an attempt that waits, and goes on to say that it holds it.
    WaitingForgotten,
    /// A server that starts does not know which runs were cancelled.
    CancelForgotten,
    /// The server takes all places of a host for free, and the agent takes what it is given.
    PlacesUncounted,
    /// One run goes before others that have the same right.
    ShareIgnored,
    /// The server does not know whose a run is.
    OwnerIgnored,
    /// The server takes every run for one of weight 1.
    WeightIgnored,
    /// The server does not know what attempts ask for.
    AskedIgnored,
    /// Cells that have their verdict are not let go.
    SettledKept,
    /// A failing cell is run again without end.
    BudgetIgnored,
    /// The server does not know that a run as a whole may take only so many reruns.
    WholeBudgetIgnored,
    /// The server quarantines nobody, and runs again where it failed.
    BadHostsTrusted,
    /// What a host decided before it was quarantined stands.
    DistrustForgotten,
    /// That a host is not trusted is not recorded with what it decided.
    DistrustUnrecorded,
    /// What ends on a quarantined host counts like everything else.
    QuarantineIgnored,
    /// The server quarantines as many hosts as fail.
    QuarantineUnbounded,
    /// Of the cells that others are compared with, no further attempt is asked for.
    BaselinesForgotten,
    /// The server does not doubt itself when many hosts are silent.
    DoubtIgnored,
    /// The server doubts itself for as long as many hosts are silent.
    DoubtEndless,
}

impl Plant {
    pub const ALL: [Self; 25] = [
        Self::AckBeforeCommit,
        Self::NoFencing,
        Self::OutboxDropped,
        Self::IncarnationIgnored,
        Self::LeaseNotWaited,
        Self::LeaseOutlived,
        Self::BlameIgnored,
        Self::WaitingForgotten,
        Self::CancelForgotten,
        Self::PlacesUncounted,
        Self::ShareIgnored,
        Self::OwnerIgnored,
        Self::WeightIgnored,
        Self::AskedIgnored,
        Self::SettledKept,
        Self::BudgetIgnored,
        Self::WholeBudgetIgnored,
        Self::BadHostsTrusted,
        Self::DistrustForgotten,
        Self::DistrustUnrecorded,
        Self::QuarantineIgnored,
        Self::QuarantineUnbounded,
        Self::BaselinesForgotten,
        Self::DoubtIgnored,
        Self::DoubtEndless,
    ];

    /// The invariant that must notice it.
    pub fn caught_by(self) -> crate::check::Invariant {
        use crate::check::Invariant;
        match self {
            Self::AckBeforeCommit => Invariant::AcknowledgedRunsLast,
            Self::NoFencing => Invariant::OneOutcome,
            Self::OutboxDropped | Self::IncarnationIgnored => Invariant::AttemptsRunOnce,
            Self::LeaseNotWaited | Self::LeaseOutlived => Invariant::LeaseRule,
            Self::BlameIgnored => Invariant::HostFaultsDecideNothing,
            Self::WaitingForgotten | Self::BaselinesForgotten => Invariant::EveryCellSettles,
            Self::CancelForgotten => Invariant::CancelledStartsNothing,
            Self::PlacesUncounted => Invariant::CapacityHolds,
            Self::ShareIgnored | Self::OwnerIgnored | Self::WeightIgnored => {
                Invariant::SharesAreFair
            }
            Self::AskedIgnored => Invariant::ResourcesHold,
            Self::SettledKept => Invariant::MemoryWithinFormula,
            Self::BudgetIgnored | Self::WholeBudgetIgnored => Invariant::RetriesWithinBudget,
            Self::BadHostsTrusted => Invariant::RegressionsAreSound,
            Self::DistrustForgotten | Self::DistrustUnrecorded | Self::QuarantineIgnored => {
                Invariant::DistrustedDecidesNothing
            }
            Self::QuarantineUnbounded => Invariant::QuarantineIsBounded,
            Self::DoubtIgnored | Self::DoubtEndless => Invariant::DoubtIsBounded,
        }
    }
}

impl FromStr for Plant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL
            .into_iter()
            .find(|plant| format!("{plant:?}") == text);
        found.ok_or_else(|| format!("no fault is called {text}; there are {:?}", Self::ALL))
    }
}

/// A world to be made.
#[derive(Clone, Debug)]
pub struct Setup {
    pub seed: u64,
    pub hosts: usize,
    /// Hosts `0..racks` in turn share a rack, and fail with it.
    pub racks: usize,
    pub slots: u32,
    pub servers: usize,
    pub runs: usize,
    /// Cells of each run, at most.
    pub cells: u64,
    /// Whether attempts ask for processors and memory.
    pub asks: bool,
    /// Hosts that fail most attempts, of a thousand, and as many that spoil some of them.
    pub bad_permille: u64,
    /// How long faults happen, in milliseconds; then all is well.
    pub unkind_ms: u64,
    /// How long everything may take after that to come to its end.
    pub calm_ms: u64,
    /// Time between two faults, in milliseconds.
    pub fault_every_ms: u64,
    /// How long an attempt takes, at most.
    pub attempt_ms: u64,
    /// Messages that get lost, and that come twice, of a thousand.
    pub lost_permille: u64,
    pub doubled_permille: u64,
    /// Whether shares are compared at each placement, which takes time in proportion to hosts.
    pub check_shares: bool,
    pub plant: Option<Plant>,
    pub trace: bool,
}

impl Setup {
    /// A few hosts and runs, and much that goes wrong. What exactly, the seed says.
    pub fn small(seed: u64) -> Self {
        let mut chance = crate::chance::Chance::new(seed ^ 0x5eed);
        Self {
            seed,
            hosts: match chance.within(0, 3) {
                // A third of them says something of the server.
                0 => 10 + chance.index(5),
                _ => 2 + chance.index(7),
            },
            racks: 3,
            slots: 1 + u32::try_from(chance.index(3)).unwrap_or(0),
            servers: 1 + chance.index(2),
            runs: 1 + chance.index(4),
            cells: chance.within(4, 60),
            asks: true,
            bad_permille: 60,
            unkind_ms: 240_000,
            // Attempts of 90 s each, one at once, those of two hosts in turn taken back, and a host that takes ten times as long.
            calm_ms: 8 * 3_600_000,
            fault_every_ms: chance.within(2_000, 20_000),
            attempt_ms: match chance.within(0, 2) {
                0 => chance.within(20_000, 90_000),
                _ => chance.within(500, 20_000),
            },
            lost_permille: chance.within(0, 60),
            doubled_permille: chance.within(0, 40),
            check_shares: true,
            plant: None,
            trace: false,
        }
    }

    /// A fleet of ten thousand hosts and a run of a million cells.
    pub fn large(seed: u64) -> Self {
        Self {
            hosts: 10_000,
            racks: 250,
            slots: 4,
            servers: 2,
            runs: 3,
            cells: 1_000_000,
            asks: false,
            bad_permille: 5,
            unkind_ms: 120_000,
            fault_every_ms: 1_500,
            attempt_ms: 20_000,
            lost_permille: 5,
            doubled_permille: 5,
            check_shares: false,
            ..Self::small(seed)
        }
    }
}
