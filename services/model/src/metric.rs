//! Numbers that an attempt measured, as an agent read them from its files. May not: parse them (that is
//! `verdict::measured`), or compare them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
