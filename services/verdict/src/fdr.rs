//! Which of many findings are reported together, so that few of those that are shown are false. May not: weigh one finding
//! by itself; each comes with its probability, or its p-value, and leaves with yes or no.

/// The share of false ones among those reported that is aimed at.
pub const LEVEL: f64 = 0.05;

/// The share of broken cases is not held for smaller, or for nearer to all, than this.
const SHARE_LEAST: f64 = 1e-6;

/// After so many the share moves no more that matters.
const REPETITIONS: u32 = 30;

/// Which findings to report, by the probability that each is real (Bayesian false discovery rate): the surest first, as long as
/// the mean probability of being false stays at or below `level`. Equal ones stand in their order; what is no number is not
/// real. In the order of the input.
pub fn by_probability(real: &[f64], level: f64) -> Vec<bool> {
    let usable = |real: f64| {
        if real.is_nan() {
            0.0
        } else {
            real.clamp(0.0, 1.0)
        }
    };
    let mut order: Vec<(usize, f64)> = real.iter().copied().map(usable).enumerate().collect();
    order.sort_by(|one, other| other.1.total_cmp(&one.1));
    let mut reported = vec![false; real.len()];
    let (mut count, mut false_ones) = (0.0, 0.0);
    for (place, real) in order {
        count += 1.0;
        false_ones += 1.0 - real;
        // They get no surer from here on: the mean only rises.
        if false_ones > level * count {
            break;
        }
        if let Some(reported) = reported.get_mut(place) {
            *reported = true;
        }
    }
    reported
}

/// P-values adjusted for their number (Benjamini and Hochberg): reporting those at or below a level keeps the expected share of
/// false ones at or below it, for independent tests. For p-values of tests with a fixed number of looks, not for those of a
/// sequential test. What is no number counts as 1. In the order of the input.
pub fn adjusted(p_values: &[f64]) -> Vec<f64> {
    let usable = |p: f64| if p.is_nan() { 1.0 } else { p.clamp(0.0, 1.0) };
    let mut order: Vec<(usize, f64)> = p_values.iter().copied().map(usable).enumerate().collect();
    order.sort_by(|one, other| one.1.total_cmp(&other.1));
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let all = number(p_values.len());
    let mut adjusted = vec![1.0; p_values.len()];
    let mut least = 1.0_f64;
    for (rank, (place, p)) in order.iter().enumerate().rev() {
        least = least.min(p * all / number(rank + 1));
        if let Some(adjusted) = adjusted.get_mut(*place) {
            *adjusted = least;
        }
    }
    adjusted
}

/// Which to report at this level, by [`adjusted`].
pub fn benjamini_hochberg(p_values: &[f64], level: f64) -> Vec<bool> {
    let adjusted = adjusted(p_values);
    adjusted.iter().map(|p| *p <= level).collect()
}

/// Probabilities for a whole comparison from scores of single cases. Each score is the logarithm of the odds that a case is
/// broken, made with `prior` as the share of broken ones; here that share is what the comparison itself shows: the mean probability
/// over all `cases`, those without a question counting as 0, found by repetition. A comparison of thousands of cases
/// in which few are broken would believe too much otherwise, and one in which nearly all are, too little.
pub fn with_own_prior(scores: &[f64], cases: u64, prior: f64) -> Vec<f64> {
    let odds = |share: f64| (share / (1.0 - share)).ln();
    let prior = prior.clamp(SHARE_LEAST, 1.0 - SHARE_LEAST);
    let all = f64::from(u32::try_from(cases).unwrap_or(u32::MAX)).max(1.0);
    let at = |share: f64| -> Vec<f64> {
        let shift = odds(share) - odds(prior);
        scores
            .iter()
            .map(|score| 1.0 / (1.0 + (-score - shift).exp()))
            .collect()
    };
    let mut share = prior;
    for _ in 0..REPETITIONS {
        let broken: f64 = at(share).iter().filter(|real| real.is_finite()).sum();
        share = (broken / all).clamp(SHARE_LEAST, 1.0 - SHARE_LEAST);
    }
    at(share)
}
