//! A submission and what became of it. May not: hold cells; they are arithmetic.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CellNumber, Digest, RunId};

/// What a client sends to have a matrix run (`POST /api/v1/runs` with `application/vnd.regatta.submission+json`). A
/// bare matrix is the same with empty pins, which the server then fills from its own store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Submission {
    /// The matrix as its author wrote it, YAML or JSON.
    pub matrix: String,
    /// The name of the file it came from, for messages.
    #[serde(default)]
    pub file: String,
    /// What the matrix's names meant when it was submitted.
    #[serde(default)]
    pub pins: Pins,
}

/// What a matrix's references meant at submission: from then on a run depends on digests alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Pins {
    /// Rendered `image` text to the digest of the manifest.
    pub images: BTreeMap<String, Digest>,
    /// Rendered `from` of `files` to the digest of an uncompressed tar.
    pub files: BTreeMap<String, Digest>,
    /// Plans of shards ([`crate::plan::Shard::plan`]) by the cells that share one
    /// ([`Cells::group`](crate::matrix::Cells::group)): what earlier runs said of durations when it was submitted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shards: BTreeMap<String, Digest>,
}

/// How far a run is.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Accepted; nothing of it was placed yet.
    Queued,
    /// Something of it was placed.
    Running,
    /// Every cell is settled.
    Finished,
    /// It was cancelled, and nothing of it runs any more.
    Cancelled,
}

impl RunState {
    /// The name in reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Cancelled)
    }
}

/// A run as lists and `status` show it (`GET /api/v1/runs`, `/api/v1/runs/{run}`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunSummary {
    /// Its id.
    pub run: RunId,
    /// The matrix's name.
    pub name: String,
    /// How far it is.
    pub state: RunState,
    /// Milliseconds since 1970.
    pub submitted_ms: u64,
    /// Milliseconds since 1970, once it is over.
    #[serde(default)]
    pub ended_ms: Option<u64>,
    /// Whether somebody asked to go on until nothing is unresolved: then more reruns are allowed than the matrix says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deep: bool,
    /// Whether the server looks into it further although it is over: it is to run on where something is unresolved
    /// (`rerun.deep`), or it is looked for where its regressions began (`bisect`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bisecting: bool,
    /// Its cells and where they stand.
    pub progress: Progress,
}

/// Where a run's cells stand.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Progress {
    /// All cells.
    pub cells: u64,
    /// Cells with a verdict.
    pub settled: u64,
    /// Attempts that hosts hold now.
    pub running: u64,
    /// Settled cells that failed or are unresolved.
    pub failing: u64,
    /// Ended attempts.
    pub attempts: u64,
}

/// One event of a run's stream (`GET /api/v1/runs/{run}/events`): `event:` is the kind, `id:` the sequence number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum RunEvent {
    /// An attempt ended and is recorded.
    Attempt {
        /// Which cell.
        cell: CellNumber,
        /// Which attempt of it.
        ordinal: u32,
        /// Its host.
        host: String,
        /// [`crate::Outcome::name`].
        outcome: String,
        /// Whether it counts as passed.
        passed: bool,
        /// Where the run stands after it.
        progress: Progress,
    },
    /// The run's state changed.
    State {
        /// To this.
        state: RunState,
        /// Where it stands.
        progress: Progress,
    },
}
