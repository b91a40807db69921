//! Numbers that an attempt measured, as an agent read them from its files. May not: parse them (that is
//! `verdict::measured`), or compare them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::CellNumber;

/// Most metrics of one attempt.
pub const METRICS_MOST: usize = 256;

/// Longest name of a metric, in bytes; longer ones are left out.
pub const METRIC_NAME_MOST: usize = 200;

/// Longest unit, in bytes; a metric with a longer one has none.
pub const METRIC_UNIT_MOST: usize = 16;

/// What Regatta measures of every attempt itself. A test's own metric cannot have such a name.
pub const MEASURED: [&str; 3] = ["wall_ms", "cpu_us", "peak_memory_bytes"];

/// What one attempt measured, by name.
pub type Metrics = BTreeMap<String, Metric>;

/// A number that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Metric {
    /// How much; finite.
    pub value: f64,
    /// Of what: `s`, `bytes`, `MB/s`; empty where nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// In which direction it is better; none where nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub better: Option<Better>,
}

/// In which direction a metric is better.
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
pub enum Better {
    /// Less of it, as of durations.
    Lower,
    /// More of it, as of throughput.
    Higher,
}

/// A metric of a cell against its baseline's, from pairs of attempts that ran one after the other on the same host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MetricComparison {
    /// The cell.
    pub cell: CellNumber,
    /// The cell that it is compared with.
    pub baseline: CellNumber,
    /// The metric: one of [`MEASURED`], or what the test calls it.
    pub metric: String,
    /// Its unit; empty where nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// In which direction it is better; none where nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub better: Option<Better>,
    /// Pairs of passing attempts that measured it, above 0 both.
    pub pairs: u64,
    /// Hosts on which they ran.
    pub hosts: u64,
    /// The median ratio of cell to baseline (Hodges and Lehmann); none without a pair.
    pub ratio: Option<f64>,
    /// The lower end of its 95% interval.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
    /// Cell less baseline, in the metric's unit.
    pub difference: Option<f64>,
    /// Of Wilcoxon's signed-rank test, two-sided; twice that of one look, since there may be two.
    pub p: Option<f64>,
    /// What it comes to.
    pub change: MetricChange,
}

/// What a metric's comparison comes to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MetricChange {
    /// A duration that is longer.
    Slower,
    /// A duration that is shorter.
    Faster,
    /// Something else of which there is more.
    More,
    /// Something else of which there is less.
    Less,
    /// It differs by less than is worth telling.
    Unchanged,
    /// The pairs do not tell.
    Unclear,
}

impl MetricChange {
    /// The word for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slower => "slower",
            Self::Faster => "faster",
            Self::More => "more",
            Self::Less => "less",
            Self::Unchanged => "unchanged",
            Self::Unclear => "unclear",
        }
    }

    /// Whether a change was shown.
    pub const fn is_change(self) -> bool {
        matches!(self, Self::Slower | Self::Faster | Self::More | Self::Less)
    }

    /// Whether it is in the direction that is worse, for what is better so.
    pub const fn is_worse(self, better: Option<Better>) -> bool {
        match self {
            Self::Slower => true,
            Self::More => matches!(better, Some(Better::Lower)),
            Self::Less => matches!(better, Some(Better::Higher)),
            Self::Faster | Self::Unchanged | Self::Unclear => false,
        }
    }
}

impl MetricComparison {
    /// Whether a change was shown in the direction that is worse.
    pub const fn is_worse(&self) -> bool {
        self.change.is_worse(self.better)
    }

    /// `1.23× (95% 1.18–1.29) in 10 pairs on 3 hosts`, or how few pairs there are.
    pub fn told(&self) -> String {
        let plural = |count: u64, word: &str| {
            let s = if count == 1 { "" } else { "s" };
            format!("{count} {word}{s}")
        };
        let pairs = plural(self.pairs, "pair");
        match (self.ratio, self.low, self.high) {
            (Some(ratio), Some(low), Some(high)) => {
                let hosts = plural(self.hosts, "host");
                format!("{ratio:.2}× (95% {low:.2}–{high:.2}) in {pairs} on {hosts}")
            }
            _ => pairs,
        }
    }
}

impl Metric {
    /// A number of which nothing else is known.
    pub const fn plain(value: f64) -> Self {
        Self {
            value,
            unit: String::new(),
            better: None,
        }
    }
}

/// Why a metric of this name cannot be taken; none where it can.
pub fn fault(name: &str, metric: &Metric) -> Option<String> {
    if name.is_empty() {
        Some("a metric has no name".to_owned())
    } else if name.len() > METRIC_NAME_MOST {
        Some(format!(
            "the name of a metric has more than {METRIC_NAME_MOST} bytes"
        ))
    } else if name.chars().any(char::is_control) {
        Some("the name of a metric has control characters".to_owned())
    } else if MEASURED.contains(&name) {
        Some(format!(
            "{name} is measured of every attempt; choose another name"
        ))
    } else if !metric.value.is_finite() {
        Some(format!("{name} is no finite number"))
    } else {
        None
    }
}
