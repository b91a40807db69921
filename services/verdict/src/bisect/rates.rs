//! How likely failures are at one unknown rate, and at two. May not: know of values or of their order.
//!
//! With p = sin² θ the prior Beta(.5, .5) is even in θ, so the integrals over rates are sums over evenly spaced θ: exact for one
//! rate up to 511 runs (these are Gauss-Chebyshev nodes); for two of which one has to be above the other, probabilities are
//! within .0002 of quadrature.

use std::f64::consts::FRAC_PI_2;

use super::{Posterior, Tally};

/// Nodes at which rates are looked at.
const NODES: u16 = 256;

/// With more, no pair of rates would be a break.
const RISE_MOST: f64 = 0.9;

/// Probabilities from logarithms of likelihoods, and weights beforehand.
pub(super) fn normalise(
    none_before: f64,
    none: f64,
    mut values: Vec<f64>,
    weights: &[f64],
) -> Posterior {
    let most = values.iter().copied().fold(none, f64::max);
    let all: f64 = weights.iter().sum();
    for (value, weight) in values.iter_mut().zip(weights) {
        let before = if all > 0.0 { weight / all } else { 0.0 };
        *value = if before > 0.0 {
            (1.0 - none_before) * before * (*value - most).exp()
        } else {
            0.0
        };
    }
    let none = none_before * (none - most).exp();
    let sum = none + values.iter().sum::<f64>();
    for value in &mut values {
        *value /= sum;
    }
    Posterior {
        none: none / sum,
        values,
    }
}

/// Rates of failing that are looked at, evenly spaced in θ.
#[derive(Clone, Debug)]
pub(super) struct Rates {
    /// Logarithms of each rate and of what is left to one.
    nodes: Vec<(f64, f64)>,
    /// For each rate on the right: up to which one on the left it is a break, in nodes.
    most: Vec<f64>,
    /// Pairs of rates that are a break.
    pairs: f64,
}

impl Rates {
    /// `rise`: how far the right one has to lie above the left one.
    pub(super) fn new(rise: f64) -> Self {
        let rise = rise.clamp(0.0, RISE_MOST);
        let step = FRAC_PI_2 / f64::from(NODES);
        let angle = |node: u16| (f64::from(node) + 0.5) * step;
        let nodes =
            (0..NODES).map(|node| (2.0 * angle(node).sin().ln(), 2.0 * angle(node).cos().ln()));
        let most = (0..NODES).map(|node| {
            let right = angle(node).sin().powi(2);
            let left = (right - rise).clamp(0.0, 1.0);
            left.sqrt().asin() / step
        });
        let most: Vec<f64> = most.collect();
        Self {
            nodes: nodes.collect(),
            pairs: most.iter().sum(),
            most,
        }
    }

    /// Logarithms of how likely so many failures are at each rate, and the largest.
    fn likelihoods(&self, failed: u32, runs: u32) -> (Vec<f64>, f64) {
        let (failed, passed) = (f64::from(failed), f64::from(runs.saturating_sub(failed)));
        let logs = self
            .nodes
            .iter()
            .map(|(fail, pass)| failed * fail + passed * pass);
        let logs: Vec<f64> = logs.collect();
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let likelihoods = logs.iter().map(|log| (log - most).exp()).collect();
        (likelihoods, most)
    }

    /// Logarithm of how likely all is with one rate.
    pub(super) fn alike(&self, failed: u32, runs: u32) -> f64 {
        let (likelihoods, most) = self.likelihoods(failed, runs);
        most + (likelihoods.iter().sum::<f64>() / f64::from(NODES)).ln()
    }

    /// The same with two, the right one above the left one.
    pub(super) fn broken(&self, left: Tally, right: Tally) -> f64 {
        let (left, left_most) = self.likelihoods(left.failed, left.runs);
        let (right, right_most) = self.likelihoods(right.failed, right.runs);
        let (mut whole, mut sum, mut product) = (0.0, 0.0, 0.0);
        let mut lefts = left.iter().copied().peekable();
        for (right, most) in right.iter().zip(&self.most) {
            // Whole nodes below the limit, then the part of the one that it cuts.
            while whole + 1.0 <= *most
                && let Some(left) = lefts.next()
            {
                sum += left;
                whole += 1.0;
            }
            let part = lefts.peek().map_or(0.0, |left| left * (most - whole));
            product += right * (sum + part);
        }
        left_most + right_most + (product / self.pairs).ln()
    }
}
