//! What Prometheus reads. The doc comment of a metric is its help text. May not: take a label value that is not
//! from a closed set (`/metrics/hosts` apart, which has the label `host` and is scraped on request only).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use regatta_model::Outcome;
use regatta_model::report::{FindingKind, Verdict};
use regatta_model::run::RunState;
use regatta_scheduler::{Health, Policy};

mod hosts;

pub(crate) use hosts::hosts_page;

macro_rules! labels {
    ($($type:ident { $($label:ident),+ })+) => { $(
        #[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
        pub(crate) struct $type { $(pub(crate) $label: &'static str),+ }
    )+ };
}

labels! {
    StateLabel { state }
    AttemptLabels { outcome, blame }
    VerdictLabel { verdict }
    KindLabel { kind }
    HostLabels { health, policy }
    OperationLabel { operation }
    ToLabel { to }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct BuildLabels {
    version: String,
    commit: String,
}

type Seconds = Gauge<f64, AtomicU64>;

/// Makes histograms whose buckets grow by a factor of about two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// From a millisecond to an hour.
const LONG: Buckets = Buckets(&[
    0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1200.0,
    3600.0,
]);
/// From a tenth of a millisecond to ten seconds.
const SHORT: Buckets = Buckets(&[
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
]);

macro_rules! metrics {
    ($(#[doc = $help:literal] $field:ident: $type:ty = $make:expr, $name:literal;)+) => {
        /// All metrics of a server.
        #[derive(Debug)]
        pub(crate) struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub(crate) $field: $type,)+
        }

        impl Metrics {
            fn empty() -> Self {
                let mut registry = Registry::with_prefix("regatta");
                $(
                    let $field: $type = $make;
                    registry.register($name, $help.trim().trim_end_matches('.'), $field.clone());
                )+
                Self { registry, $($field,)+ }
            }
        }
    };
}

metrics! {
    /// Runs by state.
    runs: Family<StateLabel, Gauge> = Family::default(), "runs";
    /// Cells of the runs that are not over, by state.
    cells: Family<StateLabel, Gauge> = Family::default(), "cells";
    /// Attempts that ended and were recorded, by outcome and blame.
    attempts: Family<AttemptLabels, Counter> = Family::default(), "attempts";
    /// Verdicts reached of cells; a cell that is opened again and settled again counts again.
    verdicts: Family<VerdictLabel, Counter> = Family::default(), "verdicts";
    /// Findings of finished runs, by kind.
    findings: Family<KindLabel, Counter> = Family::default(), "findings";
    /// Hosts by observed health and willed policy.
    hosts: Family<HostLabels, Gauge> = Family::default(), "hosts";
    /// Places for attempts on hosts that are not lost, by state.
    host_slots: Family<StateLabel, Gauge> = Family::default(), "host_slots";
    /// Time from the start of a test to its end.
    attempt_seconds: Histogram = LONG.new_metric(), "attempt_seconds";
    /// Time from an attempt's assignment to the start of its test.
    queue_seconds: Histogram = LONG.new_metric(), "queue_seconds";
    /// Time from the order to the start of a container's program.
    container_start_seconds: Histogram = SHORT.new_metric(), "container_start_seconds";
    /// Time that the server took for an agent's sync, without the time that the agent allowed it to wait.
    sync_seconds: Histogram = SHORT.new_metric(), "sync_seconds";
    /// Time of an operation of the database.
    store_operation_seconds: Family<OperationLabel, Histogram, Buckets> = Family::new_with_constructor(SHORT),
        "store_operation_seconds";
    /// Bytes of images and files that hosts pulled from this server, and this server from registries.
    image_pull_bytes: Counter = Counter::default(), "image_pull_bytes";
    /// Bytes of logs and artifacts that hosts brought to this server, and with which it sent them to the bucket.
    upload_bytes: Family<ToLabel, Counter> = Family::default(), "upload_bytes";
    /// Whether this server leads.
    leader: Gauge = Gauge::default(), "leader";
    /// What runs here; always 1.
    build_info: Family<BuildLabels, Gauge> = Family::default(), "build_info";
}

/// The label value for attempts that are nobody's fault.
pub(crate) const NO_BLAME: &str = "none";

const STATES: [RunState; 4] = [
    RunState::Queued,
    RunState::Running,
    RunState::Finished,
    RunState::Cancelled,
];
const CELL_STATES: [&str; 3] = ["pending", "running", "settled"];
const SLOT_STATES: [&str; 2] = ["free", "held"];
const VERDICTS: [Verdict; 4] = [
    Verdict::Passed,
    Verdict::Failed,
    Verdict::Flaky,
    Verdict::Unresolved,
];
const KINDS: [FindingKind; 11] = [
    FindingKind::Regression,
    FindingKind::Fix,
    FindingKind::Flaky,
    FindingKind::Host,
    FindingKind::Failure,
    FindingKind::Missing,
    FindingKind::Unresolved,
    FindingKind::Environment,
    FindingKind::Platform,
    FindingKind::Known,
    FindingKind::Metric,
];

pub(crate) const fn kind_name(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Regression => "regression",
        FindingKind::Fix => "fix",
        FindingKind::Flaky => "flaky",
        FindingKind::Host => "host",
        FindingKind::Failure => "failure",
        FindingKind::Missing => "missing",
        FindingKind::Unresolved => "unresolved",
        FindingKind::Environment => "environment",
        FindingKind::Platform => "platform",
        FindingKind::Known => "known",
        FindingKind::Metric => "metric",
    }
}

pub(crate) const fn health_name(health: Health) -> &'static str {
    match health {
        Health::Ready => "ready",
        Health::Suspect => "suspect",
        Health::Lost => "lost",
    }
}

pub(crate) const fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::Active => "active",
        Policy::Cordoned => "cordoned",
        Policy::Draining => "draining",
        Policy::Quarantined => "quarantined",
    }
}

/// A number as a gauge takes it.
pub(crate) fn level(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Metrics {
    /// All metrics at zero; every series of a closed set is there from the start.
    pub(crate) fn new(commit: &str) -> Self {
        let metrics = Self::empty();
        metrics.clear_gauges();
        for outcome in Outcome::NAMES {
            for blame in [NO_BLAME, "test", "host", "platform"] {
                drop(
                    metrics
                        .attempts
                        .get_or_create(&AttemptLabels { outcome, blame }),
                );
            }
        }
        for verdict in VERDICTS {
            drop(metrics.verdicts.get_or_create(&VerdictLabel {
                verdict: verdict.name(),
            }));
        }
        for kind in KINDS {
            drop(metrics.findings.get_or_create(&KindLabel {
                kind: kind_name(kind),
            }));
        }
        for to in ["server", "bucket"] {
            drop(metrics.upload_bytes.get_or_create(&ToLabel { to }));
        }
        let build = BuildLabels {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit.to_owned(),
        };
        metrics.build_info.get_or_create(&build).set(1);
        metrics
    }

    pub(crate) fn clear_hosts(&self) {
        for health in [Health::Ready, Health::Suspect, Health::Lost] {
            for policy in [
                Policy::Active,
                Policy::Cordoned,
                Policy::Draining,
                Policy::Quarantined,
            ] {
                let labels = HostLabels {
                    health: health_name(health),
                    policy: policy_name(policy),
                };
                self.hosts.get_or_create(&labels).set(0);
            }
        }
    }

    /// All that only a leader knows becomes zero.
    pub(crate) fn clear_gauges(&self) {
        for state in STATES {
            let state = state.name();
            self.runs.get_or_create(&StateLabel { state }).set(0);
        }
        for state in CELL_STATES {
            self.cells.get_or_create(&StateLabel { state }).set(0);
        }
        for state in SLOT_STATES {
            self.host_slots.get_or_create(&StateLabel { state }).set(0);
        }
        self.clear_hosts();
    }

    /// So much of a log or an artifact came to this server.
    pub(crate) fn uploaded(&self, bytes: u64) {
        let to = ToLabel { to: "server" };
        self.upload_bytes.get_or_create(&to).inc_by(bytes);
    }

    /// The page `/metrics`.
    pub(crate) fn page(&self) -> Result<String, std::fmt::Error> {
        encode(&self.registry)
    }
}

/// Encodes in Prometheus' own text format. The library writes OpenMetrics, where the name of a counter stands without
/// its suffix in comments; Prometheus' format wants it there.
fn encode(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut open = String::new();
    text::encode(&mut open, registry)?;
    let counter = |line: &str| {
        Some(
            line.strip_prefix("# TYPE ")?
                .strip_suffix(" counter")?
                .to_owned(),
        )
    };
    let counters: BTreeSet<String> = open.lines().filter_map(counter).collect();
    let mut page = String::with_capacity(open.len());
    for line in open.lines() {
        let mut words = line.splitn(4, ' ');
        let parts = (words.next(), words.next(), words.next(), words.next());
        match parts {
            (Some("#"), Some("EOF" | "UNIT"), ..) => {}
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                writeln!(page, "# {what} {name}_total {rest}")?;
            }
            _ => writeln!(page, "{line}")?,
        }
    }
    Ok(page)
}
