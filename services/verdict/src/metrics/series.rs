//! Where a series of measurements changed its level, over many versions. May not: say why, or look at fewer values than a
//! change can be told from.
//!
//! E-divisive (Matteson and James) as Hunter and Apache Otava run it: within windows that overlap by half, the series is
//! divided where the two sides are farthest apart in the energy distance, as long as Student's t-test says that they differ (at ten times the
//! p-value); then the weakest points are taken away until all that are left pass at the p-value itself, measured against
//! their neighbours. The t-test stands in for random permutations, so that the same series always has the same points.
//! Unlike there, a side has three values at least: one odd value is no change. All on logarithms, so that changes are ratios.

use std::f64::consts::FRAC_2_PI;

/// Values that are looked at together.
const WINDOW: usize = 50;

/// Values on each side of a change.
const SIDE_LEAST: usize = 3;

/// P-values of a change, and of one that may become weaker or stronger when its neighbours are known.
const P: f64 = 0.001;
const P_WEAK: f64 = 0.01;

/// A change of level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChangePoint {
    /// The place of the first value of the new level.
    pub place: usize,
    /// The level after to the level before, as a ratio of geometric means between this change and its neighbours.
    pub ratio: f64,
    /// Of the t-test of the two, two-sided.
    pub p: f64,
}

/// The changes of level in a series, in its order. Values that are not positive numbers are left out. `ratio`: changes below
/// it, and above its inverse, are none; above 1.
pub fn change_points(series: &[f64], ratio: f64) -> Vec<ChangePoint> {
    let usable = series.iter().copied().enumerate();
    let usable = usable.filter(|(_, value)| value.is_finite() && *value > 0.0);
    let (places, logs): (Vec<usize>, Vec<f64>) =
        usable.map(|(place, value)| (place, value.ln())).unzip();
    let mut points = weak(&logs);
    loop {
        let compared = compared(&logs, &points);
        let by_p = compared
            .iter()
            .enumerate()
            .max_by(|one, other| one.1.p.total_cmp(&other.1.p));
        let by_size = compared.iter().enumerate().min_by(|one, other| {
            let size = |point: &ChangePoint| point.ratio.ln().abs();
            size(one.1).total_cmp(&size(other.1))
        });
        let insignificant = by_p.filter(|(_, point)| point.p >= P);
        let small = by_size.filter(|(_, point)| point.ratio.ln().abs() < ratio.ln());
        let Some((index, _)) = insignificant.or(small) else {
            let placed = compared.into_iter().map(|point| ChangePoint {
                place: places.get(point.place).copied().unwrap_or(point.place),
                ..point
            });
            return placed.collect();
        };
        points.remove(index);
    }
}

/// Points that may be changes, in order.
fn weak(values: &[f64]) -> Vec<usize> {
    let (mut points, mut start) = (Vec::new(), 0);
    while start < values.len() {
        let end = values.len().min(start + WINDOW);
        let mut found = Vec::new();
        divide(values, start, end, &mut found);
        start = found
            .iter()
            .copied()
            .max()
            .unwrap_or(0)
            .max(start + WINDOW / 2);
        points.append(&mut found);
    }
    points.sort_unstable();
    points.dedup();
    points
}

/// Divides a part of the values as long as its sides differ.
fn divide(values: &[f64], start: usize, end: usize, found: &mut Vec<usize>) {
    let part = values.get(start..end).unwrap_or_default();
    let Some(place) = farthest(part) else {
        return;
    };
    let (left, right) = part.split_at(place);
    if t_test(left, right) <= P_WEAK {
        found.push(start + place);
        divide(values, start, start + place, found);
        divide(values, start + place, end, found);
    }
}

/// Where the values before are farthest from those after, up to any end: the largest energy distance, scaled by the numbers on both sides.
fn farthest(values: &[f64]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    let last = values.len().checked_sub(SIDE_LEAST)?;
    for place in SIDE_LEAST..=last {
        let (left, right) = values.split_at(place);
        let lefts = count(left.len());
        let left_apart = apart(left);
        let (mut between, mut right_apart) = (0.0, 0.0);
        for (index, value) in right.iter().enumerate() {
            let to = |others: &[f64]| {
                others
                    .iter()
                    .map(|other| (value - other).abs())
                    .sum::<f64>()
            };
            between += to(left);
            right_apart += to(right.get(..index).unwrap_or_default());
            if index + 1 < SIDE_LEAST {
                continue;
            }
            let rights = count(index + 1);
            let distance = 2.0 / (lefts + rights)
                * (between
                    - rights / (lefts - 1.0) * left_apart
                    - lefts / (rights - 1.0) * right_apart);
            if best.is_none_or(|(_, most)| distance > most) {
                best = Some((place, distance));
            }
        }
    }
    best.map(|(place, _)| place)
}

/// The sum of the distances of all pairs.
fn apart(values: &[f64]) -> f64 {
    let pairs = values.iter().enumerate().map(|(place, one)| {
        let others = values.iter().take(place);
        others.map(|other| (one - other).abs()).sum::<f64>()
    });
    pairs.sum()
}

/// Each point with the values up to its neighbours.
fn compared(values: &[f64], points: &[usize]) -> Vec<ChangePoint> {
    let starts = std::iter::once(0).chain(points.iter().copied());
    let ends = points.iter().copied().skip(1).chain([values.len()]);
    let compare = |((start, place), end): ((usize, usize), usize)| {
        let left = values.get(start..place).unwrap_or_default();
        let right = values.get(place..end).unwrap_or_default();
        ChangePoint {
            place,
            ratio: (mean(right) - mean(left)).exp(),
            p: t_test(left, right),
        }
    };
    let all = starts.zip(points.iter().copied()).zip(ends);
    all.map(compare).collect()
}

fn count(values: usize) -> f64 {
    f64::from(u32::try_from(values).unwrap_or(u32::MAX))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / count(values.len()).max(1.0)
}

/// The p-value of Student's t-test on two samples of equal variance, two-sided; 1 where there are not three values.
pub fn t_test(left: &[f64], right: &[f64]) -> f64 {
    let freedom = (left.len() + right.len()).saturating_sub(2);
    if freedom == 0 || left.is_empty() || right.is_empty() {
        return 1.0;
    }
    let squares = |values: &[f64]| {
        let mean = mean(values);
        values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>()
    };
    let difference = (mean(left) - mean(right)).abs();
    let variance = (squares(left) + squares(right)) / count(freedom);
    let error = (variance * (1.0 / count(left.len()) + 1.0 / count(right.len()))).sqrt();
    if error > 0.0 {
        t_outside(difference / error, freedom)
    } else if difference > 0.0 {
        0.0
    } else {
        1.0
    }
}

/// The probability of a value farther from 0 than `t` under Student's distribution: its finite series for whole degrees of
/// freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).
fn t_outside(t: f64, freedom: usize) -> f64 {
    let angle = (t / count(freedom).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    // Terms with the powers 1, 3, 5 ... or 0, 2, 4 ... of the cosine, below that of the freedom less one.
    let (mut power, mut term) = if odd { (1, cosine) } else { (0, 1.0) };
    let mut sum = 0.0;
    while power + 2 <= freedom {
        sum += term;
        term *= cosine * cosine * count(power + 1) / count(power + 2);
        power += 2;
    }
    let inside = if odd {
        FRAC_2_PI * (angle + sine * sum)
    } else {
        sine * sum
    };
    (1.0 - inside).clamp(0.0, 1.0)
}
