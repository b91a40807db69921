//! The messages between server and agent (`POST /api/v1/agents/sync`).
//!
//! The protocol is level-triggered: an agent says what it holds and what ended, the server answers with
//! what it wants there. Every message may be lost, doubled or late without harm: what the agent does
//! not list as held, the server sends again; what the server does not acknowledge, the agent sends again.
//! May not: assume that the peer is honest; both sides check what they take.

mod host;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::case::{NamedSet, Results, ToldResults};
use crate::metric::Metrics;
use crate::plan::AttemptPlan;
use crate::{AttemptId, Blame, Digest, HostName, Incarnation, Outcome};

pub use host::{Canaries, HostFacts, KERNEL_LINE_MOST, Kernel, Observed, Pressure, READY_MOST};

/// The protocol's version. A server refuses an agent with another one, with a sentence.
pub const PROTOCOL: u32 = 1;

/// Most outcomes in one sync; the rest waits for the next.
pub const ENDED_MOST: usize = 256;

/// Most bytes of a sync's body, either way.
pub const SYNC_BYTES_MOST: usize = 16 << 20;

/// Longest log that travels inside a sync, in bytes as stored; longer ones are uploaded before.
pub const INLINE_LOG_MOST: usize = 4 << 10;

/// Most images that a server names to a host at once that it will need soon.
pub const SOON_MOST: usize = 4;

/// Most canaries that a server asks for at once, and that an agent runs for it.
pub const CANARIES_MOST: u32 = 20;

/// What an agent says. `R`: how it tells the names of cases; every server understands [`Results`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "SyncRequest")]
pub struct SyncRequest<R: Default = Results> {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Which host.
    pub host: HostName,
    /// Which life of its executor.
    pub incarnation: Incarnation,
    /// Grows with every sync of an agent's process; an older one than the last is answered with nothing.
    pub sequence: u64,
    /// What the host is.
    pub facts: HostFacts,
    /// How many attempts it can run at once.
    pub slots: u32,
    /// How many more it takes now.
    pub free: u32,
    /// Everything that it was given and has not yet reported as ended.
    pub holding: Vec<Held>,
    /// What ended and is not yet acknowledged, the oldest first; at most [`ENDED_MOST`].
    pub ended: Vec<EndedAttempt<R>>,
    /// How long the server may wait with an empty answer, in milliseconds; it waits until there is something to say.
    #[serde(default)]
    pub wait_ms: u64,
    /// The host's wall clock when this was sent, in milliseconds since 1970; 0: not told.
    #[serde(default)]
    pub clock_ms: u64,
}

/// An attempt that an agent holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Held {
    /// Which.
    pub attempt: AttemptId,
    /// The generation of the assignment that it obeys.
    pub generation: u64,
    /// How far it is.
    pub state: HeldState,
}

/// How far an attempt on a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeldState {
    /// It waits for a place, its image or its set-up.
    Waiting,
    /// Its container runs.
    Running,
}

/// An attempt's end, as its agent tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "EndedAttempt")]
pub struct EndedAttempt<R: Default = Results> {
    /// Which.
    pub attempt: AttemptId,
    /// The generation of its assignment.
    pub generation: u64,
    /// The life of the executor that ran it.
    pub incarnation: Incarnation,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Whose doing that was; none while nobody's (an exit with 0, a cancellation).
    pub blame: Option<Blame>,
    /// For a person: which step failed and how, where the outcome alone does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// From the start of the test to its end, in milliseconds.
    pub wall_ms: u64,
    /// From the assignment to the start of the test, in milliseconds.
    pub queue_ms: u64,
    /// How long its container's start took, in microseconds.
    pub start_us: u64,
    /// Processor time, in microseconds.
    pub cpu_us: u64,
    /// Most memory held at once, in bytes.
    pub peak_memory_bytes: u64,
    /// The digest of all that defines it; none where it never came to that.
    pub identity: Option<Digest>,
    /// Paths changed outside the declared places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Its cases.
    #[serde(default)]
    pub results: R,
    /// What it measured, beside what is measured of every attempt.
    #[serde(default, skip_serializing_if = "Metrics::is_empty")]
    pub metrics: Metrics,
    /// Its output.
    pub log: LogPlace,
    /// What it left as artifacts, uploaded before this was said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// By which generation its log and artifacts were uploaded: the assignment's then, which may be lower than
    /// `generation`. None: by none, or there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
}

impl<R: Default> EndedAttempt<R> {
    /// The same with its results told otherwise.
    pub fn with_results<S: Default>(&self, results: S) -> EndedAttempt<S> {
        EndedAttempt {
            attempt: self.attempt.clone(),
            generation: self.generation,
            incarnation: self.incarnation,
            outcome: self.outcome,
            blame: self.blame,
            detail: self.detail.clone(),
            wall_ms: self.wall_ms,
            queue_ms: self.queue_ms,
            start_us: self.start_us,
            cpu_us: self.cpu_us,
            peak_memory_bytes: self.peak_memory_bytes,
            identity: self.identity,
            changed: self.changed.clone(),
            results,
            metrics: self.metrics.clone(),
            log: self.log.clone(),
            artifacts: self.artifacts.clone(),
            files: self.files,
        }
    }
}

/// Which sets of names an agent's server has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// Whether it takes digests at all.
    taken: bool,
    /// Those that it asked for in its last answer.
    unknown: BTreeSet<Digest>,
}

impl Sets {
    /// After an answer.
    pub fn heard(&mut self, answer: &SyncResponse) {
        self.taken = answer.takes_sets;
        self.unknown = answer.unknown_sets.iter().copied().collect();
    }

    /// After a sync without an answer: whoever hears the next one may be another server, of a former version.
    pub fn unheard(&mut self) {
        *self = Self::default();
    }

    /// Whether it asked for names.
    pub fn are_wanted(&self) -> bool {
        !self.unknown.is_empty()
    }

    /// How outcomes of one sync are told: with names where the server takes nothing else, and with the first outcome of
    /// each set that it asked for.
    pub fn telling(&self) -> Telling<'_> {
        Telling {
            sets: self,
            told: BTreeSet::new(),
        }
    }
}

/// See [`Sets::telling`].
#[derive(Debug)]
pub struct Telling<'a> {
    sets: &'a Sets,
    told: BTreeSet<Digest>,
}

impl Telling<'_> {
    /// Whether the next outcome has to have its names. `set` is the digest of them.
    pub fn needs_names(&mut self, set: &Digest) -> bool {
        !self.sets.taken || (self.sets.unknown.contains(set) && self.told.insert(*set))
    }

    /// The next outcome. `set` is that of its names.
    pub fn tell(&mut self, ended: &EndedAttempt, set: NamedSet) -> EndedAttempt<ToldResults> {
        let results = &ended.results;
        let told = if results.names.is_empty() || self.needs_names(&set.set) {
            ToldResults::from(results)
        } else {
            results.by_digest(set)
        };
        ended.with_results(told)
    }
}

/// Where an attempt's log is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogPlace {
    /// It wrote nothing.
    Empty,
    /// Here, as base64 of the format of [`crate::log`] compressed by zstd.
    Inline(String),
    /// Uploaded before, to the attempt's `log`.
    Uploaded {
        /// Its size as stored, in bytes.
        bytes: u64,
    },
}

/// A file that an attempt left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Artifact {
    /// Relative to the artifacts directory, with `/`; never `..` or absolute.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
}

/// What the server answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SyncResponse {
    /// Outcomes that are recorded, or that nobody wants: the agent may drop them.
    pub acknowledged: Vec<AttemptId>,
    /// Attempts that the host should hold and does not list.
    pub start: Vec<Assignment>,
    /// Attempts that it should hold no longer.
    pub stop: Vec<Stop>,
    /// How long everything held may go on from the moment this sync was sent, in milliseconds.
    pub lease_ms: u64,
    /// When to come again at the latest, in milliseconds.
    pub next_sync_ms: u64,
    /// Why the server has nothing for this host, in a sentence for its operator; empty where it has no objection. The
    /// agent comes again after `next_sync_ms`, and not before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refused: String,
    /// Whether outcomes may have the digest of their names in place of the names.
    #[serde(default)]
    pub takes_sets: bool,
    /// Sets of names that this server has not. Outcomes that had their digests alone are not acknowledged; it takes them
    /// once one of them comes with the names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_sets: Vec<Digest>,
    /// Whether logs and artifacts may be uploaded by generation (`?generation=N`).
    #[serde(default)]
    pub takes_generations: bool,
    /// Of a file of so many bytes or more, the server is asked where it goes ([`crate::upload`]); none: of no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_from: Option<u64>,
    /// How many more canaries the server wants to see now; at most [`CANARIES_MOST`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub canaries: u32,
    /// Images (by manifest) that waiting work will need on this host, and that it may fetch now; [`SOON_MOST`] at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub soon: Vec<Digest>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An attempt for a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Assignment {
    /// Which.
    pub attempt: AttemptId,
    /// Grows with every assignment that the scheduler makes.
    pub generation: u64,
    /// What to run.
    pub plan: AttemptPlan,
}

/// An attempt that should end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Stop {
    /// Which.
    pub attempt: AttemptId,
    /// For logs: why.
    pub reason: String,
}
