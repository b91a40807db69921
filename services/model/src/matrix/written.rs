//! The matrix as people write it: every key, in one place, for reading, printing and the schema.
//! May not: check what needs more than one value; that is `check`.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use crate::container::Network;
use crate::plan::Keep;

use super::adapters::Test;
use super::bisect::Bisect;
use super::commits::{Checkout, CommitValues};
use super::finding::{Finding, Spot};
use super::known::Day;
use super::read::{Map, Read, Reader, Spanned, has_key, written};
use super::rerun::WrittenRerun;
use super::scalars::{Later, OneOrMany, Text, Whole, Word};
use super::tree::{Kind, Node};
use super::units::{Cpus, Duration, Size};

pub(super) type Optional<T> = Option<Spanned<T>>;
type List<T> = Vec<Spanned<T>>;

/// Longest timeout: a week, in milliseconds.
const TIMEOUT_MOST: u64 = 7 * 86_400_000;

/// A timeout: one second to a week.
pub(super) type Timeout = Duration<1000, TIMEOUT_MOST>;

written! {
    /// What to test: image, axes, set-up, test, limits, comparison.
    Written {
        /// The run's name in lists and reports; the file's name where it is left away.
        name: "name" => Optional<Text>,
        /// A Containerfile, a directory, a name in the local store, or a reference to a registry.
        image: "image" => Spanned<Text>,
        /// Environment of set-up and test; takes templates.
        env: "env" => Optional<Map<Text>>,
        /// The dimensions; every combination of their values is a cell.
        axes: "axes" => Spanned<Map<Values>>,
        /// Combinations that are no cells.
        exclude: "exclude" => Optional<List<Map<OneOrMany>>>,
        /// Further cells; each gives every axis.
        include: "include" => Optional<List<Map<Text>>>,
        /// Changes for the cells that match.
        adjust: "adjust" => Optional<List<Adjust>>,
        /// Cases that are known to fail, and who answers for them until when.
        known: "known" => Optional<List<KnownFailure>>,
        /// Copied in before set-up.
        files: "files" => Optional<List<File>>,
        /// Run once per distinct content; becomes a layer that its cells share.
        setup: "setup" => Optional<Step>,
        /// Run in a fresh container for each attempt.
        test: "test" => Spanned<Test>,
        /// Not supported yet.
        services: "services" => Optional<Later>,
        /// Containers over which the tests of each cell are split.
        shards: "shards" => Optional<Whole<1, 64>>,
        /// Directories on the host that outlive containers.
        volumes: "volumes" => Optional<List<Volume>>,
        /// What set-up and test may use at most.
        limits: "limits" => Optional<Limits>,
        /// What a host must have free for each attempt.
        resources: "resources" => Optional<Resources>,
        /// Globs of result files below $REGATTA_RESULTS; every *.xml, *.tap, *.json, *.jsonl and *.tsv
        /// that is results where it is left away.
        results: "results" => Optional<List<Text>>,
        /// Globs of files to keep below $REGATTA_ARTIFACTS; all where it is left away.
        artifacts: "artifacts" => Optional<List<Text>>,
        /// Against which cells to compare.
        compare: "compare" => Optional<Compare>,
        /// What is done with numbers that tests measure.
        metrics: "metrics" => Optional<WrittenMetrics>,
        /// Whether regressions are traced to where they began, among values that are left out.
        bisect: "bisect" => Optional<Bisect>,
        /// How often a cell may be run again to reach a verdict.
        rerun: "rerun" => Optional<WrittenRerun>,
        /// Attempts of every cell at least.
        repeat: "repeat" => Optional<Whole<1, 1000>>,
        /// Attempts at once at most.
        parallel: "parallel" => Optional<Whole<1, 1_000_000>>,
        /// Whether the first failing cell ends the run.
        fail_fast: "fail-fast" => Optional<bool>,
        /// Labels of the hosts that may run it.
        labels: "labels" => Optional<Map<Text>>,
        /// Runs of higher priority go first.
        priority: "priority" => Optional<Whole<-1000, 1000>>,
        /// Whose run it is: owners of the same priority share the places.
        owner: "owner" => Optional<Text>,
        /// How much of the places it gets beside other runs; 1 where it is left away.
        weight: "weight" => Optional<Whole<1, 1000>>,
        /// When the container's writable layer is kept as an image.
        keep: "keep" => Optional<Keep>,
        /// Only the cells with these values; what `run --only` sets.
        only: "only" => Optional<Map<OneOrMany>>,
    }
}

impl Written {
    /// Shards of each cell; 1 where nothing is said.
    pub(super) fn shards(&self) -> u32 {
        let shards = self.shards.as_ref();
        shards
            .and_then(|shards| u32::try_from(shards.value.0).ok())
            .unwrap_or(1)
    }

    /// What the test runs.
    pub(super) fn test_step(&self) -> Step {
        self.test.value.step(self.shards() > 1)
    }
}

written! {
    /// An axis in its long form.
    LongValues {
        /// The values; where the axis is ordered, the oldest first.
        values: "values" => Spanned<List<Text>>,
        /// Whether the order of the values means something.
        ordered: "ordered" => Optional<bool>,
        /// What values are to people, such as a commit's subject: shown beside them in findings.
        titles: "titles" => Optional<Map<Text>>,
    }
}

/// An axis: its values, or a mapping with `values` and `ordered`, or the commits of a repository.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Values {
    /// Just the values.
    Short(#[schemars(extend("minItems" = 1))] List<Text>),
    /// With more to say.
    Long(LongValues),
    /// The commits of a repository.
    Commits(CommitValues),
}

impl Read for Values {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match &node.kind {
            Kind::List(_) => Read::read(node, reader).map(Self::Short),
            Kind::Map(_) if has_key(node, &["git", "range", "every"]) => {
                CommitValues::read(node, reader).map(Self::Commits)
            }
            Kind::Map(_) => LongValues::read(node, reader).map(Self::Long),
            Kind::Scalar(scalar) => {
                let expected = "a list of values, or a mapping with `values` and `ordered`";
                let help = format!("for one value, write [{}]", scalar.text);
                let short = !scalar.is_null() && scalar.text.len() < 60;
                reader.misfit(node, expected, short.then_some(help))
            }
        }
    }
}

written! {
    /// Changes for the cells that match.
    Adjust {
        /// Axis values; a list means any of them.
        selector: "where" => Spanned<Map<OneOrMany>>,
        /// Added to the environment of set-up and test.
        env: "env" => Optional<Map<Text>>,
        /// In place of the test's timeout.
        timeout: "timeout" => Optional<Timeout>,
        /// In place of the matrix's limits, key by key.
        limits: "limits" => Optional<Limits>,
        /// Whether these cells may fail without failing the run.
        allow_failure: "allow-failure" => Optional<bool>,
    }
}

written! {
    /// A case that is known to fail: it counts neither against its cell nor for it.
    KnownFailure {
        /// The case's name, as reports have it; `*` stands for any characters.
        case: "case" => Spanned<Text>,
        /// Axis values of the cells where it fails; all cells where it is left away.
        selector: "where" => Optional<Map<OneOrMany>>,
        /// Who answers for it.
        owner: "owner" => Spanned<Text>,
        /// The last day (UTC) on which it may fail.
        until: "until" => Spanned<Day>,
        /// Why, or where one reads about it.
        why: "why" => Optional<Text>,
    }
}

/// What is copied in: files, or those of a commit.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum File {
    /// Of this machine.
    Copy(FileCopy),
    /// Of a repository.
    Checkout(Checkout),
}

impl Read for File {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if has_key(node, &["checkout"]) {
            return Checkout::read(node, reader).map(Self::Checkout);
        }
        FileCopy::read(node, reader).map(Self::Copy)
    }
}

written! {
    /// Files or a directory to copy in.
    FileCopy {
        /// Relative to the matrix file; takes templates.
        from: "from" => Spanned<Text>,
        /// An absolute path in the container; takes templates.
        to: "to" => Spanned<Text>,
    }
}

written! {
    /// A command in a container.
    Step {
        /// A text is run by `/bin/sh -ec`; a list is executed as it is. Takes templates.
        run: "run" => Spanned<Run>,
        /// Added to the image's environment; takes templates.
        env: "env" => Optional<Map<Text>>,
        /// Name or `uid[:gid]`; the image's where it is left away. Takes templates.
        user: "user" => Optional<Text>,
        /// An absolute path; the image's where it is left away. Takes templates.
        workdir: "workdir" => Optional<Text>,
        /// Then SIGTERM, and after ten seconds SIGKILL; 10m where it is left away.
        timeout: "timeout" => Optional<Timeout>,
        /// `none` is the default for the test, `host` for set-up.
        network: "network" => Optional<Network>,
    }
}

/// A command: a text for the shell, or program and arguments.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Run {
    /// Run by `/bin/sh -ec`.
    Shell(Text),
    /// Executed as it is.
    Exec(#[schemars(extend("minItems" = 1))] List<Text>),
}

impl Read for Run {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        const EXPECTED: &str = "a text for the shell, or a list of program and arguments";
        match &node.kind {
            Kind::List(items) if items.is_empty() => reader.misfit(
                node,
                EXPECTED,
                Some("to do nothing, write `run: \"true\"`".into()),
            ),
            Kind::List(_) => Read::read(node, reader).map(Self::Exec),
            Kind::Map(_) => reader.misfit(node, EXPECTED, None),
            Kind::Scalar(_) => Text::read(node, reader).map(Self::Shell),
        }
    }
}

written! {
    /// A named directory on the host's disk.
    Volume {
        /// Letters, digits, `-`, `_` and `.`; begins with a letter or digit.
        name: "name" => Spanned<Text>,
        /// Where it is mounted: an absolute path.
        at: "at" => Spanned<Text>,
        /// Whether containers may write to it: `rw` (the default) or `ro`.
        mode: "mode" => Optional<Mode>,
    }
}

/// Whether containers may write to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// They may.
    Rw,
    /// They may not.
    Ro,
}

impl Word for Mode {
    const WORDS: &'static [(&'static str, Self)] = &[("rw", Self::Rw), ("ro", Self::Ro)];
    const LATER: &'static [&'static str] = &["snapshot"];
}

impl Word for Network {
    const WORDS: &'static [(&'static str, Self)] = &[("none", Self::None), ("host", Self::Host)];
}

impl Word for Keep {
    const WORDS: &'static [(&'static str, Self)] =
        &[("never", Self::Never), ("on-failure", Self::OnFailure)];
}

written! {
    /// What set-up and test may use at most.
    Limits {
        /// Processors: 2, 1.5, 500m. No limit where it is left away.
        cpus: "cpus" => Optional<Cpus>,
        /// Memory, page cache included; swap is off. No limit where it is left away.
        memory: "memory" => Optional<Size<{ 4 << 20 }, { 64 << 40 }>>,
        /// Processes and threads at once; 4096 where it is left away.
        processes: "processes" => Optional<Whole<2, 4_194_304>>,
        /// Bytes in the container's writable layer; 10GiB where it is left away.
        disk: "disk" => Optional<Size<{ 1 << 20 }, { 64 << 40 }>>,
        /// Open files of each process; 65536 where it is left away.
        files: "files" => Optional<Whole<16, 1_048_576>>,
        /// Bytes of output that are kept, the middle is dropped; 16MiB where it is left away.
        output: "output" => Optional<Size<1024, { 1 << 30 }>>,
    }
}

written! {
    /// What a host must have free for each attempt.
    Resources {
        /// Processors: 2, 1.5, 500m. None where it is left away.
        cpus: "cpus" => Optional<Cpus>,
        /// Memory. None where it is left away.
        memory: "memory" => Optional<Size<{ 1 << 20 }, { 64 << 40 }>>,
    }
}

written! {
    /// Against which cells to compare.
    Compare {
        /// The axis along which cells are compared.
        axis: "axis" => Spanned<Text>,
        /// A value of the axis, or `previous` where it is ordered.
        baseline: "baseline" => Spanned<Text>,
    }
}

written! {
    /// What is done with numbers that tests measure.
    WrittenMetrics {
        /// Whether durations, memory and what tests measure are compared as `compare` says; every cell then gets ten
        /// attempts at least.
        compare: "compare" => Optional<bool>,
        /// Whether an attempt has its host to itself: nothing else is placed beside it.
        exclusive: "exclusive" => Optional<bool>,
    }
}

/// Reads the whole matrix, and says what is wrong with it. Where only unknown keys are, there is something to
/// check further.
pub(super) fn read(root: &Node) -> (Option<Written>, Vec<Finding>) {
    let mut reader = Reader::default();
    (Written::read(root, &mut reader), reader.findings)
}

/// The `only` of a matrix over fewer values.
pub(super) fn only(values: &[(String, Vec<String>)]) -> Spanned<Map<OneOrMany>> {
    let at = Spot::default();
    let mut merged: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (axis, values) in values {
        merged
            .entry(axis)
            .or_default()
            .extend(values.iter().map(String::as_str));
    }
    let entries = merged.into_iter().map(|(axis, values)| {
        let texts = values.into_iter().map(|value| Spanned {
            at,
            value: Text(value.to_owned()),
        });
        let many = OneOrMany::Many(texts.collect());
        (
            Spanned {
                at,
                value: axis.to_owned(),
            },
            Spanned { at, value: many },
        )
    });
    Spanned {
        at,
        value: Map {
            entries: entries.collect(),
        },
    }
}
