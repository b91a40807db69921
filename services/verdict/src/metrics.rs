//! Slower, or more memory? From pairs of measurements that ran side by side on one host, and from series over many versions.
//! May not: measure, or compare what different hosts measured.

pub mod pairs;
pub mod series;

use serde::Serialize;

use crate::fdr;
use pairs::{Estimate, Pair};

/// Durations that differ by less are no finding, in seconds.
pub const SECONDS_LEAST: f64 = 0.05;

/// The same for memory, in bytes: 10 MiB.
pub const BYTES_LEAST: f64 = 10_485_760.0;

/// What a change of a metric is told from chance by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// How often chance alone may look like a change, over both looks together.
    pub p: f64,
    /// The ratio of candidate to baseline that is a change, above 1; its inverse is one in the other direction.
    pub ratio: f64,
    /// Pairs that a look needs.
    pub pairs_least: usize,
    /// Pairs to run first, and as many again where they leave it open.
    pub pairs: usize,
    /// The share of false ones among the changes of one comparison, over its metrics.
    pub level: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            p: 0.01,
            ratio: 1.05,
            pairs_least: 8,
            pairs: 10,
            level: fdr::LEVEL,
        }
    }
}

/// What the pairs of a metric come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The candidate takes more.
    Worse,
    /// It takes less.
    Better,
    /// Neither was shown.
    None,
    /// Neither shown nor excluded: after a first look, as many pairs again may tell.
    Open,
    /// Fewer usable pairs than a look needs.
    TooFew,
}

/// A metric of one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What it comes to, by itself.
    pub change: Change,
    /// The numbers behind it, where there were pairs enough.
    pub estimate: Option<Estimate>,
    /// The p-value over both looks; 1 without an estimate.
    pub p: f64,
}

/// Judges the pairs of one metric, at either look. `least`: differences below it are no finding, in the metric's unit. A change
/// is one whose p-value at this look is below half of the policy's, whose ratio is large enough, and whose difference is.
pub fn judge(pairs: &[Pair], least: f64, policy: &Policy) -> Finding {
    let usable: Vec<Pair> = pairs.iter().copied().filter(Pair::is_usable).collect();
    if usable.len() < policy.pairs_least.max(1) {
        return Finding {
            change: Change::TooFew,
            estimate: None,
            p: 1.0,
        };
    }
    let estimate = pairs::estimate(&usable, 1.0 - policy.p);
    let shown = estimate.p < policy.p / 2.0;
    // What the interval excludes, more pairs would hardly show.
    let open = estimate.high >= policy.ratio || estimate.low <= 1.0 / policy.ratio;
    let change = if estimate.difference.abs() < least {
        Change::None
    } else if shown && estimate.ratio >= policy.ratio {
        Change::Worse
    } else if shown && estimate.ratio <= 1.0 / policy.ratio {
        Change::Better
    } else if open {
        Change::Open
    } else {
        Change::None
    };
    Finding {
        change,
        estimate: Some(estimate),
        p: (2.0 * estimate.p).min(1.0),
    }
}

/// Which metrics of one comparison are reported: those that changed, and still do when it is taken into account how many
/// were looked at. In the order of the input.
pub fn reported(findings: &[Finding], policy: &Policy) -> Vec<bool> {
    let p_values: Vec<f64> = findings.iter().map(|finding| finding.p).collect();
    let kept = fdr::benjamini_hochberg(&p_values, policy.level);
    let changed = |finding: &Finding| matches!(finding.change, Change::Worse | Change::Better);
    let both = findings.iter().zip(kept);
    both.map(|(finding, kept)| kept && changed(finding))
        .collect()
}
