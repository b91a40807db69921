//! The report: what a run concluded, for programs (JSON) and as the source of every other format.
//! A promise: fields may be added, never renamed. May not: render text.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod against;
mod bisected;
mod grid;
mod levels;

use crate::metric::{MetricComparison, Metrics};

pub use against::{Against, AgainstChange, AgainstKind};
pub use bisected::{Belief, Bisected, BisectedAs, GapSearch, Searches};
pub use grid::{CaseGrid, CaseMark, CaseRow, Rate};
pub use levels::{LevelChange, Levels, amount};

/// What a run concluded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Version of this format: 1.
    pub version: u32,
    /// The run's id.
    pub run: String,
    /// The matrix's name.
    pub name: String,
    /// `queued`, `running`, `finished` or `cancelled`.
    pub state: String,
    /// What it comes to.
    pub conclusion: Conclusion,
    /// The conclusion as a person would say it.
    pub sentence: String,
    /// How many of what.
    pub counts: Counts,
    /// From submission to end (or now).
    pub seconds: f64,
    /// The axes in the matrix's order, with their values; the grid's rows and columns.
    pub axes: Vec<ReportAxis>,
    /// What was compared, if anything.
    pub compare: Option<ReportCompare>,
    /// The cells; above 10,000 only those that did not simply pass.
    pub cells: Vec<CellReport>,
    /// What is worth telling, the most important first.
    pub findings: Vec<Finding>,
    /// Beside another run, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    /// Cases that did not pass everywhere, along an axis; none where every case passed, or no case tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<CaseGrid>,
    /// Metrics of cells against those of their baselines, changes first; empty where none are compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricComparison>,
    /// Where metrics changed their level along an ordered axis with many values; none where no series is long enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<Levels>,
}

/// An axis as reports show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportAxis {
    /// Its name.
    pub name: String,
    /// Its values, the first first.
    pub values: Vec<String>,
    /// Whether their order means something (oldest first).
    pub ordered: bool,
}

/// What was compared with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportCompare {
    /// Along this axis.
    pub axis: String,
    /// With this value, or `previous`.
    pub baseline: String,
}

/// What a run comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Everything passed, or is unchanged against its baseline.
    Passed,
    /// Something failed, and nothing is compared.
    Failed,
    /// Something that the baseline passed failed.
    Regressed,
    /// No verdict could be reached for something, or not yet.
    Unresolved,
    /// The run was cancelled.
    Cancelled,
}

/// How many of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Cells in all.
    pub cells: u64,
    /// Cells that passed.
    pub passed: u64,
    /// Cells that failed.
    pub failed: u64,
    /// Cells that both passed and failed.
    pub flaky: u64,
    /// Cells without a verdict.
    pub unresolved: u64,
    /// Attempts that ended.
    pub attempts: u64,
    /// Attempts beyond those that the matrix asked for.
    pub reruns: u64,
    /// Attempts whose outcome was the host's or the platform's doing.
    pub host_faults: u64,
    /// Hosts on which attempts ended.
    #[serde(default)]
    pub hosts: u64,
    /// Attempts of each cell that the matrix asks for; those beyond are reruns. 0: not told.
    #[serde(default)]
    pub repeat: u64,
}

/// What is concluded of a cell, or of a case in a cell.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It passes.
    Passed,
    /// It fails.
    Failed,
    /// It does both.
    Flaky,
    /// Not known.
    Unresolved,
}

impl Verdict {
    /// The name in reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Flaky => "flaky",
            Self::Unresolved => "unresolved",
        }
    }
}

/// A verdict against its baseline's.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// The baseline passes it, this fails it.
    Regressed,
    /// The baseline fails it, this passes it.
    Fixed,
    /// Both do the same.
    Unchanged,
    /// Not known.
    Unresolved,
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CellReport {
    /// Its number; that of its first shard where it is split.
    pub cell: u64,
    /// Its axis values.
    pub axes: BTreeMap<String, String>,
    /// What is concluded of it.
    pub verdict: Verdict,
    /// Whether the matrix allows it to fail (`allow-failure`).
    #[serde(default)]
    pub allowed_failure: bool,
    /// Against its baseline; none where nothing is compared, and for baselines themselves.
    pub comparison: Option<CellComparison>,
    /// Its cases.
    pub cases: CaseCounts,
    /// Names of the cases that fail.
    pub failing: Vec<String>,
    /// Names of the cases that both passed and failed.
    #[serde(default)]
    pub flaky: Vec<String>,
    /// Names of the cases that failed as the matrix knows them to (`known`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
    /// Its attempts, the first first.
    pub attempts: Vec<AttemptReport>,
}

/// A cell against its baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CellComparison {
    /// The baseline cell's axis values.
    pub baseline: BTreeMap<String, String>,
    /// The result.
    pub result: Comparison,
    /// Cases that the baseline passes and this fails.
    #[serde(default)]
    pub regressed: Vec<String>,
    /// Cases that the baseline fails and this passes.
    #[serde(default)]
    pub fixed: Vec<String>,
}

/// How many cases ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaseCounts {
    /// Passed.
    pub passed: u64,
    /// Failed, errors included.
    pub failed: u64,
    /// Did not run.
    pub skipped: u64,
    /// Both passed and failed.
    pub flaky: u64,
    /// Failed as the matrix knows them to (`known`).
    #[serde(default)]
    pub known: u64,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptReport {
    /// Its ordinal, from 1.
    pub attempt: u32,
    /// Its shard, from 1, where the cell is split: the number of the cell plus this less 1 names the shard, whose attempts
    /// are counted by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// Its host.
    pub host: String,
    /// One of [`crate::Outcome::NAMES`].
    pub outcome: String,
    /// Exit status, where it exited.
    pub exit_code: Option<i32>,
    /// Signal, where one ended it.
    pub signal: Option<i32>,
    /// `test`, `host` or `platform`; none where nobody's doing.
    pub blame: Option<String>,
    /// Whether it counts as passed.
    #[serde(default)]
    pub passed: bool,
    /// Whether it failed as a whole: no case of it tells why.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// What else is to say: which step failed and how, or what could not be read.
    #[serde(default)]
    pub detail: String,
    /// How long the test ran.
    pub seconds: f64,
    /// Processor time.
    pub cpu_seconds: f64,
    /// Most memory held at once.
    pub peak_memory_bytes: u64,
    /// What else it measured, by name.
    #[serde(default, skip_serializing_if = "Metrics::is_empty")]
    pub metrics: Metrics,
    /// The digest of all that defines it, or empty where it never came to that.
    pub identity: String,
    /// Paths changed outside the declared places.
    pub changed: Vec<String>,
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// The case, where it is about one.
    pub case: Option<String>,
    /// All cases that share this finding, where there are several.
    #[serde(default)]
    pub cases: Vec<String>,
    /// The axis along which it changed.
    pub axis: Option<String>,
    /// The last value that was good.
    pub last_good: Option<String>,
    /// The first value that was bad.
    pub first_bad: Option<String>,
    /// The cells that show it.
    pub cells: Vec<u64>,
    /// The host, where it is about one.
    pub host: Option<String>,
    /// From 0 to 1.
    pub confidence: f64,
    /// One sentence for a person.
    pub text: String,
    /// The decisive lines of a failing log or message.
    #[serde(default)]
    pub excerpt: String,
    /// Its cases by the way in which they fail, the most frequent first; empty where it has fewer than two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<Cluster>,
    /// How often it failed in its cells, where it both passes and fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What the search among values that the run left out came to, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bisected: Option<Bisected>,
}

/// Cases whose messages are the same but for numbers, addresses and places of files: probably one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cluster {
    /// What their messages have in common.
    pub signature: String,
    /// How many cases.
    pub count: u64,
    /// The names of some of them.
    pub cases: Vec<String>,
}

/// The kind of a finding.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A version broke something.
    Regression,
    /// A version mended something.
    Fix,
    /// Something both passes and fails.
    Flaky,
    /// A host did it.
    Host,
    /// Something fails, and no baseline tells whether a version broke it.
    Failure,
    /// Tests that pass in the baseline did not run.
    Missing,
    /// A version may have broken something: the reruns that are allowed do not tell.
    Unresolved,
    /// The baseline fails now what it passed before: something changed around all versions.
    Environment,
    /// Set-up, image or results failed: nothing could be tested.
    Platform,
    /// It fails as the matrix knows it to, no longer may, or does not fail any more.
    Known,
    /// A version takes more or less time or memory, or of something that the test measures.
    Metric,
}
