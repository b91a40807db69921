//! What the scheduler is told and what it answers. May not: decide anything.

use std::collections::BTreeMap;

use regatta_model::matrix::Kinds;
pub use regatta_model::next::{Again, Next};
use regatta_model::wire::Held;
use regatta_model::{
    AttemptId, CellNumber, Digest, HostName, Incarnation, Ordinal, Owner, Resources, RunId,
};
use serde::{Deserialize, Serialize};

/// A moment of the caller's monotonic clock, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Moment(pub u64);

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A run was accepted, or is taken up again after a restart of the server.
    Submitted {
        /// Which.
        run: RunId,
        /// What it asks for.
        work: Box<Work>,
    },
    /// An agent spoke.
    Synced {
        /// Which host.
        host: HostName,
        /// Which life of its executor.
        incarnation: Incarnation,
        /// What it said.
        state: Box<HostState>,
    },
    /// An ended attempt was judged (and will be recorded with what this leads to).
    Recorded {
        /// Which.
        attempt: AttemptId,
        /// What is still wanted.
        next: Next,
    },
    /// Cells of a run were judged anew, and no attempt ended: what is wanted of them now.
    Rejudged {
        /// Which run.
        run: RunId,
        /// What is wanted; whether it is `settled` says nothing here.
        next: Next,
    },
    /// Somebody cancelled a run.
    Cancelled {
        /// Which.
        run: RunId,
    },
    /// A person or a rule decided about a host.
    PolicySet {
        /// Which.
        host: HostName,
        /// What.
        policy: Policy,
    },
    /// Time passed.
    Ticked,
}

/// What a run asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// Cells are `0..cells`.
    pub cells: u64,
    /// Attempts that every cell gets at least; 1 at least.
    pub repeat: u32,
    /// At most so many attempts at once; none: no such limit.
    pub parallel: Option<u32>,
    /// Stop placing after the first failing cell.
    pub fail_fast: bool,
    /// Higher goes first.
    pub priority: i32,
    /// Whose it is; owners of the same priority share the places.
    pub owner: Option<Owner>,
    /// How much of the places it gets beside other runs; 0 counts as 1.
    pub weight: u32,
    /// What a host must have free for each attempt.
    pub asked: Resources,
    /// Labels that a host must carry.
    pub labels: BTreeMap<String, String>,
    /// Which cells are made from the same image and set-up, so far as that is known.
    pub kinds: Kinds,
    /// Cells whose attempts run in rounds, one of each of a group after the other on the same host; each cell in one group, or
    /// none where nothing runs in rounds.
    pub rounds: Vec<Vec<CellNumber>>,
    /// Whether each attempt has its host to itself.
    pub exclusive: bool,
    /// Accepted in this life of the server, so that no host can hold an attempt of it yet. False (a run that
    /// is taken up again): nothing of it is placed until every host told of itself; see [`crate::Restored`].
    pub fresh: bool,
    /// After a restart: cells with a verdict already.
    pub settled: Vec<CellNumber>,
    /// After a restart: the highest ordinal recorded of each cell that has any; cells in `settled` with exactly
    /// `repeat` attempts may be left out.
    pub tried: BTreeMap<CellNumber, Ordinal>,
    /// After a restart: how many more attempts each cell in `tried` without a verdict waits for; a cell that is not
    /// named here gets what it lacks of `repeat`, and one at least.
    pub again: Vec<Again>,
    /// How many reruns all cells may take together, or may still take after a restart; none: no limit.
    pub reruns_left: Option<u64>,
}

/// What an agent said of its host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostState {
    /// Attempts that it can run at once.
    pub slots: u32,
    /// How many more it takes now.
    pub free: u32,
    /// Whether it says itself that it cannot work: it gets nothing new, whatever is free.
    pub lacks: bool,
    /// What it holds and has not told the end of.
    pub holding: Vec<Held>,
    /// What ended there and this sync tells. It takes no place on the host any more, but is held until it is
    /// [`Event::Recorded`]. Say `Synced` first, then ask [`crate::Scheduler::holder`] whether each counts: after a
    /// restart, the sync is what makes its host the holder again.
    pub ended: Vec<Held>,
    /// Labels that it carries; `rack` tells what fails together.
    pub labels: BTreeMap<String, String>,
    /// The model of its processors; empty where it is not known.
    pub cpu: String,
    /// What all attempts together can have there.
    pub capacity: Resources,
    /// Images and set-ups that it has.
    pub ready: Vec<Digest>,
}

/// What is to be done. The caller commits what must last, then publishes.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The host should hold this attempt (also said again while the host does not list it).
    Assign {
        /// Which host.
        host: HostName,
        /// Which attempt.
        attempt: AttemptId,
        /// Its generation.
        generation: u64,
    },
    /// The host should hold this attempt no longer.
    Revoke {
        /// Which host.
        host: HostName,
        /// Which attempt.
        attempt: AttemptId,
        /// For logs.
        reason: &'static str,
    },
    /// The attempt's host is lost: record it as ended by [`regatta_model::Outcome::HostLost`].
    Lost {
        /// Which attempt.
        attempt: AttemptId,
        /// Which host.
        host: HostName,
    },
    /// Every cell of the run is settled (or it was cancelled), and nothing of it is held any more.
    Finish {
        /// Which run.
        run: RunId,
        /// Whether it was cancelled.
        cancelled: bool,
    },
    /// So many hosts are silent at once that the server may be at fault: for a bounded time none of them is lost.
    Doubted {
        /// How many.
        silent: usize,
    },
    /// A host's health changed.
    HealthChanged {
        /// Which host.
        host: HostName,
        /// To this.
        health: Health,
    },
}

/// What the server sees of a host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It speaks.
    Ready,
    /// It missed its time.
    Suspect,
    /// Lease and drift are over since it last spoke: what it held is placed elsewhere.
    Lost,
}

/// What a person or a rule decided about a host.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It gets work.
    #[default]
    Active,
    /// It gets nothing new.
    Cordoned,
    /// It gets nothing new, and is meant to go away once it is empty.
    Draining,
    /// It gets nothing that decides a verdict, for its faults.
    Quarantined,
}
