//! Why attempts of a run wait, as the scheduler sees it. May not: find out; that is the scheduler's.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

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
    /// Further attempts of these cells wait for a host that has not run them.
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
            Self::AnotherHost { attempts } => write!(
                f,
                "{attempts} more attempts wait for a host that has not run their cells"
            ),
            Self::Stopped { why } => write!(f, "nothing more is placed: {why}"),
        }
    }
}
