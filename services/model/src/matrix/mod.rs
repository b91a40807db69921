//! The matrix language: what people write, checked and turned into cells.
//!
//! A source becomes a tree with places (`tree`), the tree becomes types (`read`, `written`), these are
//! checked against each other (`check`, `select`, `steps`) and become cells (`product`, `cells`) and
//! plans (`plan`). What is wrong is told by `diagnostic`.
//! May not: resolve images or read files; a matrix is a value.

mod adapters;
mod adjust;
mod axes;
mod bisect;
mod cells;
mod check;
mod commits;
mod diagnostic;
mod finding;
mod kinds;
mod known;
mod metrics;
mod plan;
mod product;
mod read;
mod rerun;
mod restrict;
mod scalars;
mod schema;
mod select;
mod sharded;
mod steps;
mod template;
mod tree;
mod units;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use adjust::{ADJUSTMENTS_MOST, FIND_STEPS_MOST};
pub use axes::{AXES_MOST, axis_variable};
pub use bisect::BISECT_ATTEMPTS;
pub use cells::{Axis, Baseline, Cells, Compare};
pub use commits::{About, Commit, CommitRange, Look, NoCommits};
pub use diagnostic::{DIAGNOSTICS_MOST, Diagnostic, Diagnostics};
pub use kinds::{KINDS_MOST, Kind, Kinds, RANGES_MOST};
pub use known::{Day, KNOWN_MOST, Known};
pub use metrics::{METRIC_CELLS_MOST, METRIC_PAIRS};
pub use plan::PlanError;
pub use product::{CELLS_MOST, STATE_BYTES_MOST, STEPS_MOST};
pub use rerun::{ERROR_RATE_DEFAULT, RERUNS_DEFAULT, Rerun};
pub use steps::{
    DISK_DEFAULT, FILES_DEFAULT, OUTPUT_DEFAULT, PROCESSES_DEFAULT, TIMEOUT_DEFAULT_MS,
};
pub use tree::{DEPTH_MOST, SOURCE_MOST, UNFOLDED_MOST};
pub use units::{parse_bytes, parse_cpu_millis, parse_duration_ms};

use crate::container::Limits;
use crate::plan::{AttemptPlan, Keep};
use crate::run::Pins;
use crate::{Owner, Resources};

use finding::{Finding, Spot};
use template::Template;
use written::Written;

/// A matrix that was checked. Cheap to clone. Two are equal where the same was written, places and
/// spelling aside.
#[derive(Clone)]
pub struct Matrix(Arc<Inner>);

struct Inner {
    file: String,
    written: Written,
    checked: check::Checked,
    labels: BTreeMap<String, String>,
    owner: Option<Owner>,
}

impl PartialEq for Matrix {
    fn eq(&self, other: &Self) -> bool {
        self.0.written == other.0.written
    }
}

impl std::fmt::Debug for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matrix")
            .field("name", &self.name())
            .field("cells", self.cells())
            .finish()
    }
}

impl Matrix {
    /// Reads and checks `source`, YAML or JSON. `file` is its name, for messages and as the default of the
    /// matrix's name; nothing is read from it.
    pub fn parse(source: &str, file: &str) -> Result<Self, Diagnostics> {
        Self::read(source, file, None)
    }

    /// The same where repositories are at hand: commits that are asked for are looked up, and become values like others.
    pub fn parse_with(source: &str, file: &str, look: &mut Look<'_>) -> Result<Self, Diagnostics> {
        Self::read(source, file, Some(look))
    }

    fn read(source: &str, file: &str, look: Option<&mut Look<'_>>) -> Result<Self, Diagnostics> {
        let told = |findings, pointer: &dyn Fn(Spot) -> String| {
            Diagnostics::new(file, source, findings, pointer)
        };
        let root = tree::read(source).map_err(|findings| told(findings, &|_| String::new()))?;
        let (mut written, mut findings) = written::read(&root);
        let unknown = match (&mut written, look) {
            (Some(written), Some(look)) => commits::expand(written, look),
            _ => Vec::new(),
        };
        // Without its values, what else is said of an axis cannot be checked.
        let written = written.filter(|_| unknown.is_empty());
        findings.extend(unknown);
        match written.map(|written| Self::new(written, file)) {
            Some(Ok(matrix)) if findings.is_empty() => return Ok(matrix),
            Some(Err(further)) => findings.extend(further),
            _ => {}
        }
        Err(told(findings, &|spot| root.pointer(spot)))
    }

    fn new(mut written: Written, file: &str) -> Result<Self, Vec<Finding>> {
        if written.name.is_none() {
            let text = scalars::Text(scalars::stem(file).to_owned());
            written.name = Some(read::Spanned {
                at: Spot::default(),
                value: text,
            });
        }
        let checked = check::check(&written)?;
        let labels = written.labels.iter().flat_map(|labels| labels.value.iter());
        let labels = labels
            .map(|(name, value)| (name.value.clone(), value.value.0.clone()))
            .collect();
        let owner = written
            .owner
            .as_ref()
            .and_then(|owner| owner.value.0.parse().ok());
        Ok(Self(Arc::new(Inner {
            file: file.to_owned(),
            written,
            checked,
            labels,
            owner,
        })))
    }

    /// The matrix as JSON: what was written, with its defaults left away and scalars as texts. Parsing it
    /// gives an equal matrix.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(&self.0.written).unwrap_or_default()
    }

    /// The JSON Schema (draft 2020-12) of matrix files.
    pub fn schema() -> serde_json::Value {
        schema::schema()
    }

    /// Its name; the file's without its ending, where none was given.
    pub fn name(&self) -> &str {
        self.0
            .written
            .name
            .as_ref()
            .map_or("matrix", |name| &name.value.0)
    }

    /// The axes, in the order of the file.
    pub fn axes(&self) -> &[Axis] {
        &self.0.checked.axes
    }

    /// The cells.
    pub fn cells(&self) -> &Cells {
        &self.0.checked.cells
    }

    /// Against which cells to compare.
    pub fn compare(&self) -> Option<&Compare> {
        self.0.checked.compare.as_ref()
    }

    /// Attempts of every cell at least; 1 to 1000, 1 where nothing is said. Where metrics are compared, [`METRIC_PAIRS`] at
    /// least, and slowly more with the number of cells.
    pub fn repeat(&self) -> u32 {
        let repeat = self.0.written.repeat.as_ref();
        let least = if self.compares_metrics() {
            metrics::pairs(self.cells().count())
        } else {
            1
        };
        repeat
            .and_then(|repeat| u32::try_from(repeat.value.0).ok())
            .unwrap_or(1)
            .max(least)
    }

    /// Containers over which the tests of each cell are split; 1 to [`crate::plan::SHARDS_MOST`], 1 where nothing is said.
    pub fn shards(&self) -> u32 {
        self.cells().shards()
    }

    /// Attempts at once at most.
    pub fn parallel(&self) -> Option<u32> {
        self.0
            .written
            .parallel
            .as_ref()
            .and_then(|parallel| u32::try_from(parallel.value.0).ok())
    }

    /// Whether the first failing cell ends the run.
    pub fn fail_fast(&self) -> bool {
        self.0
            .written
            .fail_fast
            .as_ref()
            .is_some_and(|fail_fast| fail_fast.value)
    }

    /// Runs of higher priority go first; -1000 to 1000, 0 where nothing is said.
    pub fn priority(&self) -> i32 {
        let priority = self.0.written.priority.as_ref();
        priority
            .and_then(|priority| i32::try_from(priority.value.0).ok())
            .unwrap_or(0)
    }

    /// Whose run it is, where that is said.
    pub fn owner(&self) -> Option<&Owner> {
        self.0.owner.as_ref()
    }

    /// How much of the places it gets beside other runs; 1 to 1000, 1 where nothing is said.
    pub fn weight(&self) -> u32 {
        let weight = self.0.written.weight.as_ref();
        weight
            .and_then(|weight| u32::try_from(weight.value.0).ok())
            .unwrap_or(1)
    }

    /// What a host must have free for each attempt; 0 of what is not said.
    pub fn resources(&self) -> Resources {
        let asked = self.0.written.resources.as_ref().map(|asked| &asked.value);
        let cpus = asked.and_then(|asked| asked.cpus.as_ref());
        let memory = asked.and_then(|asked| asked.memory.as_ref());
        Resources {
            cpu_millis: cpus.map_or(0, |cpus| cpus.value.0),
            memory_bytes: memory.map_or(0, |size| size.value.0),
        }
    }

    /// Labels of the hosts that may run it.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.0.labels
    }

    /// What set-up and test may use, adjustments aside.
    pub fn limits(&self) -> &Limits {
        &self.0.checked.mould.limits
    }

    /// How often cells may be run again.
    pub fn rerun(&self) -> Rerun {
        Rerun::of(&self.0.written)
    }

    /// When containers are kept as images.
    pub fn keep(&self) -> Keep {
        self.0.checked.mould.keep
    }

    /// Whether the matrix has a set-up.
    pub fn has_setup(&self) -> bool {
        self.0.checked.mould.setup.is_some()
    }

    /// Whether the cell may fail without failing its run.
    pub fn allow_failure(&self, cell: u64) -> bool {
        let indices = self.cells().indices(cell);
        indices.is_some_and(|indices| self.0.checked.mould.allow_failure(&indices))
    }

    /// All known failures, in the order of the file.
    pub fn known(&self) -> &[Known] {
        &self.0.checked.mould.known
    }

    /// Those that are meant for this cell, with their places among all.
    pub fn known_in(&self, cell: u64) -> impl Iterator<Item = (usize, &Known)> {
        let indices = self.cells().indices(cell);
        self.known().iter().enumerate().filter(move |(_, known)| {
            indices
                .as_ref()
                .is_some_and(|indices| select::matches(&known.selector, indices))
        })
    }

    /// Program and arguments of the test, templates as they were written.
    pub fn test_command(&self) -> Vec<String> {
        match self.0.written.test_step().run.value {
            written::Run::Shell(text) => vec!["/bin/sh".into(), "-ec".into(), text.0],
            written::Run::Exec(argv) => argv.into_iter().map(|text| text.value.0).collect(),
        }
    }

    /// The patterns of result files; none where all that are known are read.
    pub fn results(&self) -> &[String] {
        &self.0.checked.mould.results
    }

    /// The distinct texts that `image` gives over all cells, those included where `bisect` may look; an error where they are more than `limit`.
    pub fn images(&self, limit: usize) -> Result<BTreeSet<String>, Diagnostics> {
        let all = self.reachable()?;
        let mut texts = BTreeSet::new();
        all.distinct(&all.0.checked.mould.image, "image", limit, &mut texts)?;
        Ok(texts)
    }

    /// The distinct texts that `from` of `files` gives over all cells, those included where `bisect` may look; an error where
    /// they are more than `limit`.
    pub fn file_sources(&self, limit: usize) -> Result<BTreeSet<String>, Diagnostics> {
        let all = self.reachable()?;
        let mut texts = BTreeSet::new();
        for (from, _) in &all.0.checked.mould.files {
            all.distinct(from, "files", limit, &mut texts)?;
        }
        Ok(texts)
    }

    /// Makes a cell ready to run.
    pub fn plan(&self, cell: u64, pins: &Pins) -> Result<AttemptPlan, PlanError> {
        self.0
            .checked
            .mould
            .plan(self.axes(), self.cells(), cell, pins)
    }

    /// Adds every text that a template gives.
    fn distinct(
        &self,
        template: &Template,
        key: &str,
        limit: usize,
        texts: &mut BTreeSet<String>,
    ) -> Result<(), Diagnostics> {
        let found = select::distinct(self.cells(), self.axes(), template, limit, texts);
        found.map_err(|_| {
            let message =
                format!("`{key}` names more than {limit} different things over all cells");
            let help = "use a template over fewer axes there";
            let findings = vec![Finding::nowhere(message).help(help)];
            Diagnostics::new(&self.0.file, "", findings, &|_| String::new())
        })
    }
}
