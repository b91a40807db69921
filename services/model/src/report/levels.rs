//! Where a metric changed its level along many versions. A promise: fields may be added, never renamed. May not: find it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::CellNumber;
use crate::metric::{Better, MetricChange};

/// Changes of level along an ordered axis with many values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Levels {
    /// The axis.
    pub axis: String,
    /// Series that were looked at: a metric in cells that differ in the axis alone.
    pub series: u64,
    /// The changes, what is worse first, then the largest.
    pub changes: Vec<LevelChange>,
    /// Changes that are left out because there are too many.
    pub more: u64,
}

/// A change of level in one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LevelChange {
    /// The values of the other axes.
    pub axes: BTreeMap<String, String>,
    /// The metric: one of [`crate::metric::MEASURED`], or what the test calls it.
    pub metric: String,
    /// Its unit; empty where nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// In which direction it is better; none where nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub better: Option<Better>,
    /// What it comes to.
    pub change: MetricChange,
    /// The first value of the axis with the new level.
    pub first: String,
    /// The last one with the old level that was measured.
    pub last: String,
    /// Since which value there was the old level: the change before this one, or the first that was measured.
    pub since: String,
    /// Up to which value there is the new level: that before the next change, or the last that was measured.
    pub until: String,
    /// The cell with the first value of the new level.
    pub cell: CellNumber,
    /// The old level, in the metric's unit: the geometric mean.
    pub from: f64,
    /// The new level.
    pub to: f64,
    /// New to old.
    pub ratio: f64,
    /// The probability that chance alone looks so in any of the series, at most.
    pub p: f64,
}

impl LevelChange {
    /// Whether it is in the direction that is worse.
    pub const fn is_worse(&self) -> bool {
        self.change.is_worse(self.better)
    }

    /// `1.25×, from 2.01 s to 2.51 s`.
    pub fn told(&self) -> String {
        let (from, to) = (amount(self.from, &self.unit), amount(self.to, &self.unit));
        format!("{:.2}×, from {from} to {to}", self.ratio)
    }
}

/// A measured amount for a person: three digits, in a unit that suits it.
pub fn amount(value: f64, unit: &str) -> String {
    /// Units, each with the next larger one and how many it takes.
    const LARGER: [(&str, &str, f64); 6] = [
        ("ns", "us", 1000.0),
        ("us", "ms", 1000.0),
        ("ms", "s", 1000.0),
        ("bytes", "KiB", 1024.0),
        ("KiB", "MiB", 1024.0),
        ("MiB", "GiB", 1024.0),
    ];
    let (mut value, mut unit) = (value, unit);
    for (own, larger, count) in LARGER {
        if unit == own && value.abs() >= count {
            (value, unit) = (value / count, larger);
        }
    }
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        large if large >= 10.0 => 1,
        large if large >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::amount;

    #[test]
    fn an_amount_has_the_unit_that_suits_it() {
        for (value, unit, told) in [
            (2012.0, "ms", "2.01 s"),
            (999.0, "ms", "999 ms"),
            (2_500_000.0, "us", "2.50 s"),
            (12_345.0, "us", "12.3 ms"),
            (104_857_600.0, "bytes", "100 MiB"),
            (0.0125, "s", "0.0125 s"),
            (812.0, "", "812"),
            (12.5, "requests", "12.5 requests"),
        ] {
            assert_eq!(amount(value, unit), told);
        }
    }
}
