//! Which value of an ordered axis was the first bad one, where tests also fail by chance. May not: run anything, or know
//! what a value is; it asks for runs of values by their places and is told what came of them.
//!
//! Beta-Bernoulli: values before the culprit c fail at one unknown rate, c and those after it at another, and
//! P(c) ∝ prior(c) · B(.5 + xL, .5 + nL − xL) · B(.5 + xR, .5 + nR − xR), x failures in n runs on the left and on the right.
//! Two things are added. A hypothesis "none": all fail at one rate. And a direction: the rate on the right lies above that
//! on the left, and by so much ([`Policy::rise_least`]); else a range that was repaired would have a culprit, and a break too
//! small to be seen would keep "none" from ever being believed.

mod rates;
pub mod search;

use rates::Rates;

/// Places that one round may ask for.
const ROUND_MOST: usize = 8;

/// What a bisection is run by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Probability at which it ends.
    pub sure: f64,
    /// Probability of the range that is reported where it ends without that.
    pub range: f64,
    /// Probability beforehand that there is no culprit: of ranges that people asked about, two of five had none.
    pub none: f64,
    /// By how much the rate of failing rises at a break, at least, 0 to 1; at most .9 counts. A weaker break would take more
    /// runs to tell from none than a bisection has.
    pub rise_least: f64,
    /// Runs of the first and of the last value, before any other.
    pub ends: u32,
    /// Runs beyond those.
    pub probes_most: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            sure: 0.99,
            range: 0.95,
            none: 0.4,
            rise_least: 0.2,
            ends: 10,
            probes_most: 200,
        }
    }
}

/// A place that is not in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("value {value} of {values}, counted from 0")]
pub struct NoSuchValue {
    /// The place that was named.
    pub value: usize,
    /// How many there are.
    pub values: usize,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Run these values once each, then ask again. One value may stand here several times.
    Probe(Vec<usize>),
    /// It is over.
    Done(Answer),
}

/// How it ended. A culprit is one of the values after `good` up to `bad`: `bad` itself, unless those between could not be
/// tested.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// There it is. To be confirmed by a test of `good` against `bad`.
    Found {
        /// The last good value.
        good: usize,
        /// The first that was seen bad.
        bad: usize,
        /// That this is so, 0 to 1.
        probability: f64,
    },
    /// Nothing broke within the list: all fail alike.
    NoCulprit {
        /// That this is so, 0 to 1.
        probability: f64,
    },
    /// Too many runs without an answer: the shortest range that has the culprit, if there is one.
    Range {
        /// The last value before the range.
        good: usize,
        /// Its last value.
        bad: usize,
        /// That the culprit is in it, given that there is one.
        probability: f64,
        /// That there is none.
        none: f64,
    },
    /// Fewer than two values can be tested.
    Untestable,
}

/// What is believed, for showing while it goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    /// That there is no culprit.
    pub none: f64,
    /// That the break shows first at this value, for each. What cannot be tested has its share at the next that can.
    pub values: Vec<f64>,
}

/// What is known of a value.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    failed: u32,
    runs: u32,
    untestable: bool,
}

/// A search for the first bad one of a list of values, oldest first.
#[derive(Clone, Debug)]
pub struct Bisection {
    policy: Policy,
    tallies: Vec<Tally>,
    /// How probable each is beforehand, in any unit.
    weights: Vec<f64>,
    rates: Rates,
}

impl Bisection {
    /// Over so many values, each as likely as another.
    pub fn new(values: usize, policy: Policy) -> Self {
        Self {
            policy,
            tallies: vec![Tally::default(); values],
            weights: vec![1.0; values],
            rates: Rates::new(policy.rise_least),
        }
    }

    /// With weights of the values as culprits, in any unit, such as how much changed in each. Those that are missing,
    /// negative or no numbers count as 0; where all do, all count alike. The first value is no culprit.
    #[must_use]
    pub fn with_weights(mut self, weights: &[f64]) -> Self {
        let known = |place| weights.get(place).copied().unwrap_or(0.0);
        let usable = |weight: f64| {
            if weight.is_finite() {
                weight.max(0.0)
            } else {
                0.0
            }
        };
        self.weights = (0..self.tallies.len())
            .map(|place| usable(known(place)))
            .collect();
        if self.weights.iter().skip(1).all(|weight| *weight <= 0.0) {
            self.weights.fill(1.0);
        }
        self
    }

    /// A run of a value ended.
    pub fn record(&mut self, value: usize, failed: bool) -> Result<(), NoSuchValue> {
        let tally = self.tally(value)?;
        tally.runs = tally.runs.saturating_add(1);
        tally.failed = tally.failed.saturating_add(u32::from(failed));
        Ok(())
    }

    /// A value cannot be tested: what was heard of it no longer counts, and the answer may be a range over it.
    pub fn skip(&mut self, value: usize) -> Result<(), NoSuchValue> {
        self.tally(value)?.untestable = true;
        Ok(())
    }

    fn tally(&mut self, value: usize) -> Result<&mut Tally, NoSuchValue> {
        let values = self.tallies.len();
        let unknown = NoSuchValue { value, values };
        self.tallies.get_mut(value).ok_or(unknown)
    }

    /// Those that can be tested, with their places.
    fn testable(&self) -> impl DoubleEndedIterator<Item = (usize, &Tally)> {
        let all = self.tallies.iter().enumerate();
        all.filter(|(_, tally)| !tally.untestable)
    }

    /// Runs that were recorded, those of the two ends within [`Policy::ends`] not counted.
    pub fn probes(&self) -> u32 {
        let runs = self.testable().map(|(_, tally)| tally.runs);
        let all = runs.fold(0, u32::saturating_add);
        let owed: u32 = self
            .ends()
            .iter()
            .map(|(_, tally)| tally.runs.min(self.policy.ends))
            .sum();
        all.saturating_sub(owed)
    }

    /// The first and the last value that can be tested; fewer than two where there are not two.
    fn ends(&self) -> Vec<(usize, &Tally)> {
        let mut ends = Vec::from_iter(self.testable().next());
        let last = self.testable().next_back();
        ends.extend(last.filter(|last| ends.iter().all(|first| first.0 != last.0)));
        ends
    }

    /// What to run next with so many idle places, or the answer. Runs that are under way are not known here: ask again
    /// when all of a round ended. Costs time in proportion to the number of values.
    pub fn step(&self, idle: usize) -> Step {
        let ends = self.ends();
        if ends.len() < 2 {
            return Step::Done(Answer::Untestable);
        }
        let width = idle.min(ROUND_MOST);
        let owed = self.owed(&ends, width);
        if width == 0 || !owed.is_empty() {
            return Step::Probe(owed);
        }
        let posterior = self.posterior();
        if posterior.none >= self.policy.sure {
            let probability = posterior.none;
            return Step::Done(Answer::NoCulprit { probability });
        }
        let likeliest = posterior.values.iter().enumerate();
        let likeliest = likeliest.max_by(|one, other| one.1.total_cmp(other.1));
        if let Some((bad, probability)) = likeliest
            && *probability >= self.policy.sure
        {
            return Step::Done(Answer::Found {
                good: self.before(bad),
                bad,
                probability: *probability,
            });
        }
        let left = self.policy.probes_most.saturating_sub(self.probes());
        let width = width.min(usize::try_from(left).unwrap_or(usize::MAX));
        if width == 0 {
            return Step::Done(self.range(&posterior));
        }
        Step::Probe(self.quantiles(&posterior, width))
    }

    /// The shortest range that has the culprit with the probability of the policy, as far as it is known now.
    pub fn best(&self) -> Answer {
        if self.ends().len() < 2 {
            return Answer::Untestable;
        }
        self.range(&self.posterior())
    }

    /// Runs of the ends that are still to be made.
    fn owed(&self, ends: &[(usize, &Tally)], width: usize) -> Vec<usize> {
        let mut owed = Vec::new();
        for run in 0..self.policy.ends {
            let lacking = ends.iter().filter(|(_, tally)| tally.runs <= run);
            owed.extend(lacking.map(|(place, _)| *place));
        }
        owed.truncate(width);
        owed
    }

    /// The last value that can be tested before one.
    fn before(&self, value: usize) -> usize {
        let mut before = self.testable().rev().map(|(place, _)| place);
        before.find(|place| *place < value).unwrap_or(0)
    }

    /// The values that part what is believed of culprits most evenly into one part more than there are places.
    fn quantiles(&self, posterior: &Posterior, width: usize) -> Vec<usize> {
        let all: f64 = posterior.values.iter().sum();
        let mut chosen = Vec::with_capacity(width);
        // The value before, with the probability that the culprit is it or an earlier one.
        let mut before: Option<(usize, f64)> = None;
        let mut part = 1.0;
        let parts = f64::from(u32::try_from(width).unwrap_or(u32::MAX)) + 1.0;
        for (place, _) in self.testable() {
            let share = posterior.values.get(place).copied().unwrap_or(0.0) / all;
            let until = before.map_or(0.0, |(_, until)| until) + share;
            while chosen.len() < width && until >= part / parts {
                let quantile = part / parts;
                // Of the two values beside the quantile the one that divides closer to it: with nearly all at one value,
                // runs of that value alone would never tell it from the next.
                let nearer = before.filter(|(_, early)| quantile - early < until - quantile);
                chosen.push(nearer.map_or(place, |(place, _)| place));
                part += 1.0;
            }
            before = Some((place, until));
        }
        // Rounding may leave the last quantile above the sum.
        while chosen.len() < width
            && let Some((place, _)) = before
        {
            chosen.push(place);
        }
        chosen
    }

    /// The shortest range that has the culprit with the probability of the policy.
    fn range(&self, posterior: &Posterior) -> Answer {
        let all: f64 = posterior.values.iter().sum();
        let groups = self.testable().skip(1).map(|(place, _)| {
            let share = posterior.values.get(place).copied().unwrap_or(0.0);
            (place, share / all)
        });
        let groups: Vec<(usize, f64)> = groups.collect();
        let mut best: Option<(usize, usize, f64)> = None;
        let (mut from, mut within) = (groups.iter(), 0.0);
        for (bad, share) in &groups {
            within += share;
            // Leave behind what is not needed.
            while let Some((_, first)) = from.as_slice().first()
                && within - first >= self.policy.range
            {
                within -= first;
                from.next();
            }
            let Some((first, _)) = from.as_slice().first() else {
                continue;
            };
            let shorter = best.is_none_or(|(good, bad_before, _)| bad - first < bad_before - good);
            if within >= self.policy.range && shorter {
                best = Some((*first, *bad, within));
            }
        }
        let whole = (
            groups.first().map_or(0, |group| group.0),
            groups.last().map_or(0, |group| group.0),
            1.0,
        );
        let (first, bad, probability) = best.unwrap_or(whole);
        Answer::Range {
            good: self.before(first),
            bad,
            probability,
            none: posterior.none,
        }
    }

    /// What is believed now. Costs time in proportion to the number of values, and 10 µs or so for each that was run.
    pub fn posterior(&self) -> Posterior {
        let seen = || self.testable().map(|(_, tally)| tally);
        let failed = seen()
            .map(|tally| tally.failed)
            .fold(0, u32::saturating_add);
        let runs = seen().map(|tally| tally.runs).fold(0, u32::saturating_add);
        let mut left = Tally::default();
        let mut right = Tally {
            failed,
            runs,
            untestable: false,
        };
        // Between two values that were run nothing changes: one likelihood serves all there.
        let mut likelihood = None;
        let mut values = vec![f64::NEG_INFINITY; self.tallies.len()];
        let mut weights = Vec::with_capacity(values.len());
        // Weight of those since the last one that can be tested; none before the first.
        let mut weight = 0.0;
        let mut before: Option<&Tally> = None;
        for ((tally, own), value) in self.tallies.iter().zip(&self.weights).zip(&mut values) {
            weight += own;
            if tally.untestable {
                weights.push(0.0);
                continue;
            }
            if let Some(before) = before {
                if before.runs > 0 {
                    left.failed = left.failed.saturating_add(before.failed);
                    left.runs = left.runs.saturating_add(before.runs);
                    right.failed = right.failed.saturating_sub(before.failed);
                    right.runs = right.runs.saturating_sub(before.runs);
                    likelihood = None;
                }
                *value = *likelihood.get_or_insert_with(|| self.rates.broken(left, right));
                weights.push(weight);
            } else {
                weights.push(0.0);
            }
            weight = 0.0;
            before = Some(tally);
        }
        let none = self.rates.alike(failed, runs);
        rates::normalise(self.policy.none.clamp(0.0, 1.0), none, values, &weights)
    }
}
