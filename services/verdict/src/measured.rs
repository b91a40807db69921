//! Numbers that tests measured, from the files that they and their tools write: `metrics.json`, Prometheus and OpenMetrics text,
//! and what pytest-benchmark, hyperfine, cargo-criterion and Go's benchmarks write; told apart by name and content. May not: trust
//! a byte of it, go beyond [`Limits`], or compare anything.
//!
//! A number that cannot be taken is told and left out; it never decides whether an attempt passed.

mod benchmarks;
mod go;
mod open;
mod own;

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::metric::{self, METRIC_UNIT_MOST, METRICS_MOST, Metric, Metrics};

use crate::excerpt;

/// Globs of the files that are looked at. Those that measure nothing are passed over.
pub const GLOBS: [&str; 5] = ["*.json", "*.jsonl", "*.prom", "*.txt", "*.bench"];

/// Longest sentence of a problem, in bytes.
const PROBLEM_MOST: usize = 300;

/// How much of what a container wrote is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file.
    pub file_bytes: usize,
    /// Bytes of all files.
    pub bytes: usize,
    /// Metrics of one attempt.
    pub metrics: usize,
    /// Problems that are told.
    pub problems: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 8 << 20,
            bytes: 32 << 20,
            metrics: METRICS_MOST,
            problems: 5,
        }
    }
}

/// What the files of one attempt measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// By name.
    pub metrics: Metrics,
    /// Paths of the files that are measurements; they are no test results.
    pub files: BTreeSet<String>,
    /// What could not be taken, a sentence each.
    pub problems: Vec<String>,
}

/// Reads the measurements of one attempt from its files, given by their paths below the results directory. Files are read in
/// the order of their paths; of metrics of one name the second gets `#2`.
pub fn read(files: &[(String, Vec<u8>)], limits: &Limits) -> Measured {
    let mut files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
        .collect();
    files.sort_unstable();
    let mut collector = Collector::new(*limits);
    let mut left = limits.bytes;
    for (path, bytes) in files {
        let named = is_named(path);
        if bytes.len() > limits.file_bytes.min(left) {
            // Whatever it is: a file of that size that is not named as metrics may well be something else.
            if named {
                collector.problem(&format!("{path}: too large to be read"));
                collector.measured.files.insert(path.to_owned());
            }
            continue;
        }
        left -= bytes.len();
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let found = read_one(path, text, &mut collector);
        if named || found {
            collector.measured.files.insert(path.to_owned());
        }
    }
    collector.finish()
}

/// Whether the file's name says that it is metrics.
fn is_named(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == "metrics.json" || is_open(path)
}

/// Whether the file's name says that it is Prometheus or OpenMetrics text.
fn is_open(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    name == "metrics.txt" || ending == Some("prom")
}

/// Reads one file; whether it is measurements.
fn read_one(path: &str, text: &str, collector: &mut Collector) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name == "metrics.json" {
        own::read(path, text, collector)
    } else if is_open(path) {
        open::read(path, text, collector);
        true
    } else if text.trim_start().starts_with('{') {
        benchmarks::read(path, text, collector)
    } else {
        go::read(path, text, collector)
    }
}

/// Metrics as they are found, held to the limits.
struct Collector {
    limits: Limits,
    measured: Measured,
    /// How often each name was met that was met more than once.
    repeated: BTreeMap<String, u32>,
    beyond: u64,
    untold: u64,
}

impl Collector {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            measured: Measured::default(),
            repeated: BTreeMap::new(),
            beyond: 0,
            untold: 0,
        }
    }

    fn problem(&mut self, sentence: &str) {
        if self.measured.problems.len() < self.limits.problems {
            let sentence = excerpt::cut(sentence, PROBLEM_MOST);
            self.measured.problems.push(sentence.to_owned());
        } else {
            self.untold += 1;
        }
    }

    /// Takes a metric, or says why not.
    fn add(&mut self, path: &str, name: &str, mut metric: Metric) {
        if let Some(fault) = metric::fault(name, &metric) {
            return self.problem(&format!("{path}: {fault}"));
        }
        if self.measured.metrics.len() >= self.limits.metrics {
            self.beyond += 1;
            return;
        }
        if metric.unit.len() > METRIC_UNIT_MOST || metric.unit.chars().any(char::is_control) {
            metric.unit.clear();
        }
        if let Some(name) = self.unique(name) {
            self.measured.metrics.insert(name, metric);
        } else {
            self.problem(&format!("{path}: {name} stands there too often"));
        }
    }

    /// A name that no metric has; none where it would be too long.
    fn unique(&mut self, name: &str) -> Option<String> {
        if !self.measured.metrics.contains_key(name) {
            return Some(name.to_owned());
        }
        let count = self.repeated.entry(name.to_owned()).or_insert(1);
        *count = count.saturating_add(1);
        let numbered = format!("{name}#{count}");
        let fits = numbered.len() <= metric::METRIC_NAME_MOST;
        (fits && !self.measured.metrics.contains_key(&numbered)).then_some(numbered)
    }

    fn finish(mut self) -> Measured {
        if self.beyond > 0 {
            let (most, beyond) = (self.limits.metrics, self.beyond);
            let sentence = format!("{beyond} metrics were left out: an attempt has {most} at most");
            self.measured.problems.push(sentence);
        }
        if self.untold > 0 {
            let sentence = format!("and {} more problems", self.untold);
            self.measured.problems.push(sentence);
        }
        self.measured
    }
}
