//! Pairs of measurements: Wilcoxon's signed-rank test and the estimate of Hodges and Lehmann, both on logarithms of ratios.
//! May not: decide what is a finding.

use serde::Serialize;

/// Pairs that are looked at, at most: the exact distribution costs the third power of their number.
pub const PAIRS_MOST: usize = 200;

/// What baseline and candidate took, side by side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// What the baseline took, in the metric's unit.
    pub baseline: f64,
    /// What the candidate took.
    pub candidate: f64,
}

impl Pair {
    /// Both are positive numbers.
    pub fn is_usable(&self) -> bool {
        let usable = |value: f64| value.is_finite() && value > 0.0;
        usable(self.baseline) && usable(self.candidate)
    }
}

/// How much more the candidate takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Pairs that it is made from.
    pub pairs: usize,
    /// Candidate to baseline: e to the median of the Walsh averages of the logarithms.
    pub ratio: f64,
    /// The ends of its confidence interval.
    pub low: f64,
    /// The upper one.
    pub high: f64,
    /// Candidate less baseline, in the metric's unit: the median of the Walsh averages of the differences.
    pub difference: f64,
    /// Of the signed-rank test, two-sided.
    pub p: f64,
}

/// Estimates the ratio with an interval of this confidence, 0 to 1. Of more than [`PAIRS_MOST`] usable pairs the first count.
pub fn estimate(pairs: &[Pair], confidence: f64) -> Estimate {
    let usable = pairs.iter().filter(|pair| pair.is_usable());
    let usable: Vec<&Pair> = usable.take(PAIRS_MOST).collect();
    let logs = usable
        .iter()
        .map(|pair| (pair.candidate / pair.baseline).ln());
    let logs: Vec<f64> = logs.collect();
    let differences = usable.iter().map(|pair| pair.candidate - pair.baseline);
    let differences: Vec<f64> = differences.collect();
    let averages = walsh(&logs);
    let (low, high) = interval(&averages, logs.len(), 1.0 - confidence);
    Estimate {
        pairs: logs.len(),
        ratio: median(&averages).exp(),
        low: low.exp(),
        high: high.exp(),
        difference: median(&walsh(&differences)),
        p: signed_rank(&logs),
    }
}

/// The p-value of Wilcoxon's signed-rank test, two-sided: how often signs thrown at random, with the same ranks, lie as far off.
/// Exact with ties too, which share the mean of their ranks. Zeros are left out, as by scipy's `zero_method="wilcox"`. 1 where
/// nothing is left. Of more than [`PAIRS_MOST`] the first count.
pub fn signed_rank(differences: &[f64]) -> f64 {
    let differing = differences
        .iter()
        .copied()
        .filter(|value| *value != 0.0 && !value.is_nan());
    let mut ordered: Vec<f64> = differing.take(PAIRS_MOST).collect();
    ordered.sort_by(|one, other| one.abs().total_cmp(&other.abs()));
    // Twice the ranks, which are whole numbers.
    let mut ranks = Vec::with_capacity(ordered.len());
    let (mut below, mut sum) = (0, 0);
    for tied in ordered.chunk_by(|one, other| one.abs().total_cmp(&other.abs()).is_eq()) {
        // The mean of below + 1 ..= below + count.
        let rank = 2 * below + tied.len() + 1;
        let positive = tied.iter().filter(|value| **value > 0.0).count();
        sum += rank * positive;
        ranks.extend(std::iter::repeat_n(rank, tied.len()));
        below += tied.len();
    }
    let distribution = sums(&ranks);
    let lower: f64 = distribution.iter().take(sum + 1).sum();
    let upper: f64 = distribution.iter().skip(sum).sum();
    (2.0 * lower.min(upper)).min(1.0)
}

/// How probable each sum of ranks is when each takes part with probability one half.
fn sums(ranks: &[usize]) -> Vec<f64> {
    let mut distribution = vec![1.0];
    for rank in ranks {
        let longer = distribution.len() + rank;
        let without = distribution.iter().copied().chain(std::iter::repeat(0.0));
        let with = std::iter::repeat_n(0.0, *rank).chain(distribution.iter().copied());
        let halves = without
            .zip(with)
            .map(|(without, with)| f64::midpoint(without, with));
        distribution = halves.take(longer).collect();
    }
    distribution
}

/// The means of all pairs of values, each with itself too, in ascending order.
fn walsh(values: &[f64]) -> Vec<f64> {
    let mut averages = Vec::with_capacity(values.len() * (values.len() + 1) / 2);
    for (place, one) in values.iter().enumerate() {
        let others = values.iter().skip(place);
        averages.extend(others.map(|other| f64::midpoint(*one, *other)));
    }
    averages.sort_by(f64::total_cmp);
    averages
}

/// Of values in order; 0 of none.
fn median(ordered: &[f64]) -> f64 {
    let at = |place: usize| ordered.get(place).copied().unwrap_or(0.0);
    let half = ordered.len() / 2;
    if ordered.len() % 2 == 1 {
        at(half)
    } else {
        f64::midpoint(at(half.saturating_sub(1)), at(half))
    }
}

/// The interval that the test inverts to: so many averages cut off at each end that both together are at most `outside` likely,
/// or none. Takes it that there are no ties, as R's `wilcox.test` does; the ends are then as R has them.
fn interval(averages: &[f64], values: usize, outside: f64) -> (f64, f64) {
    let ranks: Vec<usize> = (1..=values).collect();
    let mut below = 0.0;
    let cut = sums(&ranks)
        .iter()
        .take_while(|probability| {
            below += **probability;
            below < outside / 2.0
        })
        .count();
    // The cut-th smallest, counted from 1; the smallest if not even that is likely enough to be cut off.
    let place = cut.saturating_sub(1);
    let low = averages.get(place);
    let high = averages.get(averages.len().saturating_sub(place + 1));
    (low.copied().unwrap_or(0.0), high.copied().unwrap_or(0.0))
}
