//! Why attempts of a run wait, as the scheduler sees it. May not: find out; that is the scheduler's.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{HostName, Resources};

/// Most runs that [`Wait::OthersFirst`] counts.
pub const OTHERS_TOLD_MOST: u64 = 100;

/// One reason why something of a run is not placed now. More than one may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Wait {
    /// No agent has ever spoken to the server.
    NoHost,
    /// No host carries the labels that the matrix asks for.
    NoHostWithLabels {
        /// These.
        labels: BTreeMap<String, String>,
    },
    /// No host is big enough for an attempt, even where nothing else runs there.
    NoHostHolds {
        /// What the matrix asks for (`resources`).
        asked: Resources,
        /// The biggest host.
        host: HostName,
        /// What it has.
        biggest: Resources,
    },
    /// Hosts that could run it may get nothing now.
    HostsNotAble {
        /// They have been silent for a while.
        suspect: u64,
        /// They have been silent beyond their lease.
        lost: u64,
        /// They speak, and are cordoned, draining or quarantined.
        put_aside: u64,
    },
    /// The server began anew, and hosts that may hold attempts of the run have not spoken since.
    Adopting {
        /// How many.
        hosts: u64,
    },
    /// The places of all able hosts are taken.
    PlacesTaken {
        /// By this run.
        own: u64,
        /// By other runs.
        others: u64,
    },
    /// The matrix allows so many attempts at once (`parallel`), and that many are under way.
    Parallel {
        /// How many.
        most: u32,
    },
    /// The matrix limits the reruns of all cells together (`rerun.in-all`), and of those that are left only a part is under way
    /// at once.
    Reruns {
        /// How many are left, those under way included.
        left: u64,
    },
    /// Hosts have free places, and too few processors or too little memory that nothing else asked for.
    ResourcesTaken {
        /// What each attempt asks for.
        asked: Resources,
        /// Whether it wants its host to itself.
        #[serde(default)]
        alone: bool,
        /// How many hosts have free places.
        hosts: u64,
        /// How many hosts become free for runs that go first.
        kept: u64,
        /// The host that becomes free for this run.
        #[serde(default)]
        reserved: Option<HostName>,
    },
    /// The next free places go to runs of higher priority, or that hold less for their weight.
    OthersFirst {
        /// How many runs; [`OTHERS_TOLD_MOST`] stands for that many or more.
        runs: u64,
    },
    /// Further attempts of these cells wait for a host that has not run them, or that differs more from those that have.
    AnotherHost {
        /// How many attempts.
        attempts: u64,
    },
    /// Nothing more of the run is placed.
    Stopped {
        /// Why.
        why: String,
    },
}

/// What a run waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Explanation {
    /// Cells without a verdict that no host works on.
    pub cells: u64,
    /// Why. Empty where nothing waits.
    pub waits: Vec<Wait>,
}

/// A sentence for a person.
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHost => write!(f, "no host has joined: start `regatta agent` on one"),
            Self::NoHostWithLabels { labels } => {
                write!(f, "no host carries")?;
                for (name, value) in labels {
                    write!(f, " {name}={value}")?;
                }
                write!(
                    f,
                    ": start an agent with --label, or change `labels` in the matrix"
                )
            }
            Self::NoHostHolds {
                asked,
                host,
                biggest,
            } => write!(
                f,
                "no host holds an attempt of {asked}: the biggest is {host} with {biggest}; start an agent on a bigger \
                 one, or change `resources` in the matrix"
            ),
            Self::HostsNotAble {
                suspect,
                lost,
                put_aside,
            } => write!(
                f,
                "hosts that could run it get nothing now: {suspect} suspect, {lost} lost, {put_aside} cordoned, draining or \
                 quarantined"
            ),
            Self::Adopting { hosts } => write!(
                f,
                "the server began anew and waits for {hosts} of its hosts to say what they hold"
            ),
            Self::PlacesTaken { own, others } => write!(
                f,
                "all places are taken: {own} by this run, {others} by others"
            ),
            Self::Parallel { most } => write!(f, "the matrix allows {most} at once (`parallel`)"),
            Self::Reruns { left } => write!(
                f,
                "{left} reruns of the run are left (`rerun.in-all`): an eighth of them, two at least, are under way at once"
            ),
            Self::ResourcesTaken {
                asked,
                alone,
                hosts,
                kept,
                reserved,
            } => {
                write!(f, "{hosts} hosts have free places, but ")?;
                if *alone {
                    write!(
                        f,
                        "others run there, and an attempt wants its host to itself"
                    )?;
                } else {
                    write!(f, "not the {asked} that an attempt asks for")?;
                }
                if *kept > 0 {
                    write!(f, "; {kept} become free for runs that go first")?;
                }
                match reserved {
                    Some(host) => write!(f, "; {host} becomes free for it"),
                    None => Ok(()),
                }
            }
            Self::OthersFirst { runs } => {
                let more = if *runs < OTHERS_TOLD_MOST {
                    ""
                } else {
                    " or more"
                };
                write!(
                    f,
                    "{runs}{more} runs go first: of higher priority, or with fewer attempts for their weight"
                )
            }
            Self::AnotherHost { attempts } => write!(
                f,
                "{attempts} more attempts wait for a host that has not run their cells, on another rack, with other processors"
            ),
            Self::Stopped { why } => write!(f, "nothing more is placed: {why}"),
        }
    }
}
