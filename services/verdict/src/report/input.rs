//! What a report is made from. May not: conclude anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use regatta_model::case::CaseException;
use regatta_model::matrix::Matrix;
use regatta_model::metric::Metrics;
use regatta_model::run::RunSummary;
use regatta_model::{Blame, CellNumber, Digest, HostName, Ordinal, Outcome};

use crate::earlier::Earlier;

/// The names of an attempt's cases, shared by all attempts that have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaseNames {
    /// [`regatta_model::case::Results::set`].
    pub digest: Option<Digest>,
    /// Sorted, each once.
    pub names: Vec<String>,
}

/// An ended attempt, as it is recorded.
#[derive(Clone, Debug)]
pub struct AttemptRow {
    /// Which cell.
    pub cell: CellNumber,
    /// Which attempt of it.
    pub ordinal: Ordinal,
    /// Its place among the run's attempts and changes of state, in the order in which they ended.
    pub sequence: u64,
    /// Where.
    pub host: HostName,
    /// How it ended.
    pub outcome: Outcome,
    /// Whose doing that was.
    pub blame: Option<Blame>,
    /// Whether it counts as passed; see [`crate::judge::passed_attempt`].
    pub passed: bool,
    /// What else is to say.
    pub detail: String,
    /// How long its test ran, in milliseconds.
    pub wall_ms: u64,
    /// Processor time, in microseconds.
    pub cpu_us: u64,
    /// Most memory held at once, in bytes.
    pub peak_memory_bytes: u64,
    /// What else it measured.
    pub metrics: Metrics,
    /// The digest of all that defines it.
    pub identity: Option<Digest>,
    /// Paths changed outside the declared places.
    pub changed: Vec<String>,
    /// Names of its cases; none where it left no results.
    pub names: Option<Arc<CaseNames>>,
    /// Those that did not simply pass.
    pub exceptions: Vec<CaseException>,
    /// What could not be read of its results.
    pub problems: Vec<String>,
}

/// What a report is made from.
#[derive(Clone, Copy, Debug)]
pub struct ReportInput<'a> {
    /// The run's matrix.
    pub matrix: &'a Matrix,
    /// Where the run stands.
    pub run: &'a RunSummary,
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// All ended attempts, by cell and ordinal.
    pub attempts: &'a [AttemptRow],
    /// What earlier runs say of cells that others are compared with.
    pub earlier: &'a BTreeMap<CellNumber, Earlier>,
}
