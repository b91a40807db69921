//! A cell beside its baseline: what the sequential test wants of both. May not: decide a verdict.

use std::collections::BTreeMap;

use regatta_model::Outcome;

use super::{AttemptFacts, Baseline, Policy};
use crate::sequential::{Answer, Record, Sides, is_broken};
use crate::tally::{Tally, by_chance};

/// How a cell stands beside its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// The baseline says nothing of what fails.
    Alone,
    /// Nothing fails that the baseline does not fail as well.
    Alike,
    /// The baseline's first attempt is to come; it may go ahead of others.
    Waits,
    /// So many more reruns are wanted, of the cell and of its baseline.
    Asks(u32, u32),
    /// Something is broken, and no question is left.
    Regressed,
    /// No question is left, and nothing is known to be broken.
    Answered,
}

impl Beside {
    /// Attempts that are wanted, of the cell and of its baseline.
    pub(super) const fn asks(self) -> (u32, u32) {
        match self {
            Self::Asks(candidate, controls) => (candidate, controls),
            Self::Waits => (0, 1),
            Self::Alone | Self::Alike | Self::Regressed | Self::Answered => (0, 0),
        }
    }

    /// How these attempts of a cell stand beside those of its baseline.
    pub(super) fn of(cell: &[AttemptFacts], baseline: &Baseline<'_>, policy: &Policy) -> Self {
        let candidate = tally(cell, policy.repeat);
        let failing = candidate.failing();
        if failing.is_empty() || is_untested(cell) {
            return Self::Alone;
        }
        let before = tally(baseline.facts, policy.repeat);
        if before.attempts() == 0 && !baseline.settled && !baseline.spent {
            return Self::Waits;
        }
        if is_untested(baseline.facts) {
            return Self::Alone;
        }
        let rule = policy.rule();
        let line = baseline.line.facts.iter();
        let line: Vec<Tally<&str>> = line.map(|facts| tally(facts, policy.repeat)).collect();
        let mut asks: Option<(u32, u32)> = None;
        let (mut open, mut regressed, mut unknown) = (false, false, false);
        // Cases that break together have the same numbers, and the same answer.
        let mut answers: BTreeMap<Sides, Answer> = BTreeMap::new();
        for case in failing {
            let earlier = baseline.earlier.of(case);
            let passed = Record {
                failed: 0,
                runs: baseline.line.passed,
            };
            let line = by_chance(passed, line.iter(), case, rule.error_rate);
            let mut sides = candidate.beside(&before, earlier.and(line), case);
            sides.broken_before = is_broken(sides.baseline.all(), line, rule.error_rate);
            if baseline.spent {
                sides.controls = u32::MAX;
            }
            if !sides.is_open() {
                unknown |= sides.baseline.all().runs == 0;
                continue;
            }
            open = true;
            match *answers.entry(sides).or_insert_with(|| sides.answer(&rule)) {
                Answer::Regressed => regressed = true,
                Answer::Unbroken | Answer::Unresolved => {}
                Answer::Ask {
                    candidate,
                    controls,
                } => {
                    let (most, most_controls) = asks.unwrap_or_default();
                    asks = Some((candidate.max(most), controls.max(most_controls)));
                }
            }
        }
        match asks {
            Some((candidate, controls)) => Self::Asks(candidate, controls),
            None if regressed => Self::Regressed,
            None if open => Self::Answered,
            None if unknown => Self::Alone,
            None => Self::Alike,
        }
    }
}

fn tally(facts: &[AttemptFacts], repeat: u32) -> Tally<&str> {
    let mut decisive: Vec<&AttemptFacts> =
        facts.iter().filter(|facts| facts.is_decisive()).collect();
    decisive.sort_by_key(|facts| facts.ordinal);
    let mut tally = Tally::default();
    for facts in decisive {
        let failing = facts.failing.iter().map(String::as_str);
        tally.add(repeat, facts.passed, failing);
    }
    tally
}

/// Whether nothing was tested, in all that could decide.
pub fn is_untested(facts: &[AttemptFacts]) -> bool {
    let mut decisive = facts.iter().filter(|facts| facts.is_decisive());
    decisive.all(|facts| facts.outcome == Outcome::SetupFailed)
}
