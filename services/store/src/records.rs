//! What is recorded, as values. May not: know a database.

mod cases;

use regatta_model::metric::Metrics;
use regatta_model::run::{Pins, Progress, RunState, RunSummary};
use regatta_model::wire::{Artifact, HostFacts, LogPlace};
use regatta_model::{AttemptId, Blame, CellNumber, Digest, HostName, Incarnation, Outcome, RunId};
use serde::{Deserialize, Serialize};

pub use cases::{CaseSet, Cases, DurationsRow};

/// What is recorded in one transaction, in this order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The epoch of the leader that writes. A database that knows a later one refuses the batch:
    /// [`crate::Error::Deposed`].
    pub epoch: u64,
    /// Accepted submissions.
    pub runs: Vec<NewRun>,
    /// Hosts that are new or changed.
    pub hosts: Vec<HostRecord>,
    /// Hosts whose recorded attempts of a run count for nothing any more.
    pub distrusted: Vec<Distrusted>,
    /// What earlier runs say of cells; the first that is recorded of a cell stays.
    pub earlier: Vec<EarlierRow>,
    /// How long cases took; the first that is recorded of a run, cells and shard stays.
    pub durations: Vec<DurationsRow>,
    /// Ended attempts.
    pub attempts: Vec<EndedRow>,
    /// Changes of runs' states.
    pub states: Vec<StateRow>,
    /// Runs that are over and that nobody is to see any more; [`crate::Store::sweep`] removes what is left of them.
    pub pruned: Vec<RunId>,
    /// Where the touched runs stand after all this.
    pub heads: Vec<RunHead>,
    /// What searches for where regressions began came to.
    pub bisections: Vec<BisectionRow>,
}

impl Batch {
    /// Whether there is nothing to record.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
            && self.hosts.is_empty()
            && self.distrusted.is_empty()
            && self.earlier.is_empty()
            && self.durations.is_empty()
            && self.attempts.is_empty()
            && self.states.is_empty()
            && self.pruned.is_empty()
            && self.heads.is_empty()
            && self.bisections.is_empty()
    }
}

/// What earlier runs of the same matrix say of a cell, as its run takes it into account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierRow {
    /// Which run.
    pub run: RunId,
    /// Which cell.
    pub cell: CellNumber,
    /// What they say, as the caller writes it.
    pub said: String,
}

/// What the search for where a run's regressions began came to, so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BisectionRow {
    /// Which run.
    pub run: RunId,
    /// Whether it goes on.
    pub searching: bool,
    /// What it came to, as the caller writes it.
    pub said: String,
}

/// A host whose attempts of a run are blamed on it, whatever they ended as; those blamed on the platform, and those that
/// were lost or cancelled, stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrusted {
    /// The run.
    pub run: RunId,
    /// The host.
    pub host: HostName,
}

/// A server that would lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Unique to one try of one process: who leads again after it did not for a while needs a new one.
    pub id: String,
    /// Where other servers reach it: the URL that they pass requests on to. Empty where nobody can.
    pub address: String,
}

/// Who leads. Times are the database's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Grows with every change of the leader.
    pub epoch: u64,
    /// Who leads until the lease ends.
    pub leader: Candidate,
    /// How long the lease lasts still, in milliseconds.
    pub left_ms: u64,
}

/// What a commit found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Attempts that had been recorded before and stayed as they were.
    pub doubled: u64,
}

/// An accepted submission.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its id.
    pub run: RunId,
    /// The matrix's name.
    pub name: String,
    /// The name of the file it came from.
    pub file: String,
    /// The matrix as its author wrote it.
    pub matrix: String,
    /// What its references meant.
    pub pins: Pins,
    /// How many cells it has.
    pub cells: u64,
    /// Milliseconds since 1970.
    pub submitted_ms: u64,
    /// The client's key, so that the same submission twice is one run.
    pub idempotency_key: Option<String>,
    /// The digest of what the client sent.
    pub body: Digest,
}

/// A run that a client's key led to.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// Which.
    pub run: RunId,
    /// The digest of what the client had sent.
    pub body: Digest,
}

/// Where a run stands, as lists show it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunHead {
    /// What everybody sees. `progress.running` is not recorded and reads as 0.
    pub summary: RunSummary,
    /// The number of its last event.
    pub sequence: u64,
    /// Whether somebody cancelled it, though it may still run.
    pub cancelled: bool,
    /// The number of the last event before somebody asked for another attempt of what had not passed.
    pub rerun_after: Option<u64>,
}

/// A run with its submission.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Where it stands.
    pub head: RunHead,
    /// The name of the file it came from.
    pub file: String,
    /// The matrix as its author wrote it.
    pub matrix: String,
    /// What its references meant.
    pub pins: Pins,
}

/// A change of a run's state.
#[derive(Clone, Debug, PartialEq)]
pub struct StateRow {
    /// Which run.
    pub run: RunId,
    /// The number of this event within the run, from 1.
    pub sequence: u64,
    /// To this.
    pub state: RunState,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Cells with a verdict then.
    pub settled: u64,
    /// Settled cells that failed or are unresolved then.
    pub failing: u64,
}

/// Something that happened to a run.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Its number within the run, from 1.
    pub sequence: u64,
    /// Where the run stood after it. `running` is not recorded and reads as 0.
    pub progress: Progress,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// An attempt was recorded.
    Attempt {
        /// Which.
        attempt: AttemptId,
        /// Its host.
        host: HostName,
        /// How it ended.
        outcome: Outcome,
        /// Whether it counts as passed.
        passed: bool,
    },
    /// The run's state changed.
    State(RunState),
}

/// An ended attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedRow {
    /// Which.
    pub attempt: AttemptId,
    /// The number of this event within the run, from 1.
    pub sequence: u64,
    /// Its host.
    pub host: HostName,
    /// How it ended.
    pub outcome: Outcome,
    /// Whose doing that was.
    pub blame: Option<Blame>,
    /// Whether it counts as passed.
    pub passed: bool,
    /// Cells of the run with a verdict after it.
    pub settled: u64,
    /// Cells of the run that failed or are unresolved after it.
    pub failing: u64,
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
    /// The digest of all that defines it.
    pub identity: Option<Digest>,
    /// Its cases.
    pub cases: Cases,
    /// What it measured, beside the numbers above.
    pub metrics: Metrics,
    /// For a person.
    pub detail: String,
    /// Paths changed outside the declared places.
    pub changed: Vec<String>,
    /// What it left as artifacts.
    pub artifacts: Vec<Artifact>,
    /// By which generation its log and artifacts are kept as blobs; none: by none, or there are none.
    pub files: Option<u64>,
    /// Its output. What is read back from the database has [`LogPlace::Inline`] with an empty text: see
    /// [`crate::Store::short_log`].
    pub log: LogPlace,
    /// The bytes of a short log, where `log` is [`LogPlace::Inline`] and the row is to be written.
    pub short_log: Vec<u8>,
}

/// A host, as it is remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct HostRecord {
    /// Its name.
    pub host: HostName,
    /// The life of its executor that spoke last.
    pub incarnation: Incarnation,
    /// What was decided about it.
    pub policy: Policy,
    /// Why, as a person wrote it.
    pub reason: String,
    /// Whether it had been lost when it was recorded.
    pub lost: bool,
    /// What it is.
    pub facts: HostFacts,
    /// What results say of it, as JSON that only the caller understands.
    pub trust: String,
    /// When it was recorded, in milliseconds since 1970.
    pub seen_ms: u64,
}

/// What a person or a rule decided about a host; the same four words as the scheduler's, which this crate
/// may not know.
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
