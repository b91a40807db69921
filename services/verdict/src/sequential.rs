//! Did the version break it? A sequential test of one case in a candidate against the same case in its baseline, which asks
//! for as many reruns as the evidence needs. May not: know attempts, cells or names.
//!
//! Two explanations of what was seen are weighed in the manner of Bayes. Either the case fails at the same unknown rate on
//! both sides (it is flaky), or the candidate breaks it in a share of its runs, on top of that rate. Rates and shares are
//! unknown and averaged over a grid. The grid and its weights, the limits and the order of reruns are the policy that
//! `ops/docs/verdicts.md` measures.

use crate::fdr;

/// Rates at which a case may fail for no reason, and how common each is.
const FLAKE_RATES: [(f64, f64); 12] = [
    (0.0002, 0.30),
    (0.0005, 0.15),
    (0.001, 0.12),
    (0.002, 0.10),
    (0.005, 0.10),
    (0.01, 0.07),
    (0.02, 0.05),
    (0.05, 0.04),
    (0.1, 0.03),
    (0.2, 0.02),
    (0.35, 0.01),
    (0.5, 0.01),
];

/// Shares of its runs in which a broken case fails, and how common each is.
const BREAKS: &[(f64, f64)] = &[(1.0, 0.7), (0.5, 0.3)];

/// The same where there is time for weak ones.
const BREAKS_DEEP: &[(f64, f64)] = &[(1.0, 0.6), (0.5, 0.25), (0.2, 0.15)];

/// However broken: a case may pass all the same.
const FAILS_MOST: f64 = 0.998;

/// How probable a break is before anything was seen but one failure.
const PRIOR: f64 = 0.05;

/// Earlier runs of a baseline count for no more than so many.
const EARLIER_MOST: f64 = 50.0;

/// Reruns of the baseline at the same time, before a break is believed that showed in every run.
const CONTROLS: u32 = 4;

/// The same where the candidate also passed, or a control failed: then something else may happen to both sides at times.
const CONTROLS_DOUBTED: u32 = 6;

/// Where a larger share of the controls fails, no break is believed: the test knows no rates of chance failures as high, and
/// would take any such candidate for broken.
const CONTROLS_FAIL_MOST: f64 = 2.0 / 3.0;

/// Reruns that are asked for together.
const ROUND: u32 = 2;

/// How often a case ran, and in how many of the runs it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Runs that failed.
    pub failed: u32,
    /// All runs.
    pub runs: u32,
}

impl Record {
    /// The interval in which the true rate is with 95% (Wilson's), from 0 to 1; all of it where nothing ran.
    pub fn interval(self) -> (f64, f64) {
        if self.runs == 0 {
            return (0.0, 1.0);
        }
        let (failures, all) = (f64::from(self.failed), f64::from(self.runs));
        let (share, z) = (failures / all, 1.96);
        let middle = (share + z * z / (2.0 * all)) / (1.0 + z * z / all);
        let half = z / (1.0 + z * z / all)
            * (share * (1.0 - share) / all + z * z / (4.0 * all * all)).sqrt();
        ((middle - half).max(0.0), (middle + half).min(1.0))
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            failed: self.failed.saturating_add(other.failed),
            runs: self.runs.saturating_add(other.runs),
        }
    }

    /// Whether it ran, and failed every time.
    pub const fn only_failed(self) -> bool {
        self.runs > 0 && self.failed >= self.runs
    }

    /// Failed and passed runs.
    fn split(self) -> (f64, f64) {
        let failed = self.failed.min(self.runs);
        (f64::from(failed), f64::from(self.runs - failed))
    }
}

/// What one cell says of a case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// In the attempts that its matrix asks for.
    pub first: Record,
    /// In its reruns.
    pub reruns: Record,
}

impl Told {
    /// In all of its attempts.
    pub const fn all(self) -> Record {
        self.first.and(self.reruns)
    }
}

/// How hard to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// For breaks that show half the time at least.
    #[default]
    Usual,
    /// Also for those that show in one run of five; takes four times as many reruns.
    Deep,
}

/// How much evidence is enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// How often an answer may be wrong, above 0 and below 0.5. A regression is never told with more than [`fdr::LEVEL`].
    pub error_rate: f64,
    /// Reruns of each side at most; with 0, the first failure decides.
    pub reruns_most: u32,
    /// How hard to look.
    pub depth: Depth,
}

/// A case on both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sides {
    /// In the candidate, the failure included that raised the question.
    pub candidate: Told,
    /// In the baseline; its reruns are the controls.
    pub baseline: Told,
    /// In the baseline's cell in earlier runs.
    pub earlier: Record,
    /// Reruns of the candidate's cell, whether or not they told of this case.
    pub reruns: u32,
    /// Reruns of the baseline's cell.
    pub controls: u32,
    /// Whether the baseline is known to have broken it itself: then nobody asks whether the candidate did.
    pub broken_before: bool,
}

/// What the evidence comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// The candidate broke it.
    Regressed,
    /// It did not: the case is flaky, or something else happened to both sides.
    Unbroken,
    /// So many more reruns of the candidate and of the baseline are wanted, those under way included.
    Ask {
        /// Of the candidate.
        candidate: u32,
        /// Of the baseline.
        controls: u32,
    },
    /// The reruns that are allowed do not tell.
    Unresolved,
}

/// The logarithm of the odds that the candidate broke the case.
///
/// With `even`, all rates of chance failures are held for equally common: what one believes after the baseline failed too.
pub fn score(baseline: Record, candidate: Record, depth: Depth, even: bool) -> f64 {
    score_of(baseline.split(), candidate.split(), depth, even)
}

/// The same with failed and passed runs, which may be parts of runs where earlier ones are scaled down.
fn score_of(
    (failed_b, passed_b): (f64, f64),
    (failed_c, passed_c): (f64, f64),
    depth: Depth,
    even: bool,
) -> f64 {
    let breaks = match depth {
        Depth::Usual => BREAKS,
        Depth::Deep => BREAKS_DEEP,
    };
    let mut broken = Sum::default();
    let mut flaky = Sum::default();
    for (rate, common) in FLAKE_RATES {
        let common = if even { 1.0 } else { common };
        let chance = |failed: f64, passed: f64| failed * rate.ln() + passed * (-rate).ln_1p();
        let alike = common.ln() + chance(failed_b, passed_b);
        flaky.add(alike + chance(failed_c, passed_c));
        for (share, weight) in breaks {
            let fails = (rate + (1.0 - rate) * share).min(FAILS_MOST);
            broken.add(alike + weight.ln() + failed_c * fails.ln() + passed_c * (-fails).ln_1p());
        }
    }
    (PRIOR / (1.0 - PRIOR)).ln() + broken.ln() - flaky.ln()
}

/// Whether a cell broke a case, by what those before it say and without a question of its own. `before`: their runs.
pub(crate) fn is_broken(cell: Record, before: Record, error_rate: f64) -> bool {
    let asked = cell.failed > 0 && before.runs > 0;
    asked && score(before, cell, Depth::Usual, false) >= odds(error_rate.clamp(1e-9, 0.499))
}

/// The probability that belongs to a score.
pub fn probability(score: f64) -> f64 {
    1.0 / (1.0 + (-score).exp())
}

/// The score at which an answer is wrong as often as this, above 0 and below 0.5.
fn odds(error_rate: f64) -> f64 {
    ((1.0 - error_rate) / error_rate).ln()
}

/// A sum of numbers that are given, and kept, by their logarithms: none of them is lost for being small.
#[derive(Default)]
struct Sum {
    terms: Vec<f64>,
}

impl Sum {
    fn add(&mut self, logarithm: f64) {
        self.terms.push(logarithm);
    }

    fn ln(&self) -> f64 {
        let most = self.terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.terms.iter().map(|term| (term - most).exp()).sum();
        most + sum.ln()
    }
}

impl Sides {
    /// The logarithm of the odds that the candidate broke it. Once a control failed, only controls speak for the
    /// baseline: what was before is another world.
    pub fn score(&self, depth: Depth) -> f64 {
        let candidate = self.candidate.all().split();
        let (failed, passed) = self.baseline.reruns.split();
        if failed > 0.0 {
            return score_of((failed, passed), candidate, depth, true);
        }
        let (failed_before, passed_before) = self.earlier.split();
        let scale = (EARLIER_MOST / f64::from(self.earlier.runs.max(1))).min(1.0);
        let (failed_first, passed_first) = self.baseline.first.split();
        let baseline = (
            failed + failed_first + failed_before * scale,
            passed + passed_first + passed_before * scale,
        );
        score_of(baseline, candidate, depth, false)
    }

    /// Whether there is a question: the candidate failed it, and the baseline ran it and is not known to fail it.
    pub fn is_open(&self) -> bool {
        let baseline = self.baseline.all();
        !self.broken_before
            && self.candidate.all().failed > 0
            && baseline.runs > 0
            && !baseline.only_failed()
    }

    /// What the evidence comes to, where there is a question.
    pub fn answer(&self, rule: &Rule) -> Answer {
        if rule.reruns_most == 0 {
            return Answer::Regressed;
        }
        let error_rate = rule.error_rate.clamp(1e-9, 0.499);
        // Of any list of regressions, however long, the mean probability of being false is at most the level: there is none
        // to be left out of it afterwards.
        let (enough, enough_regressed) = (odds(error_rate), odds(error_rate.min(fdr::LEVEL)));
        let (candidate, controls) = (self.candidate.all(), self.baseline.reruns);
        let doubted = controls.failed > 0 || !candidate.only_failed();
        let needed = if doubted { CONTROLS_DOUBTED } else { CONTROLS };
        let needed = needed.min(rule.reruns_most);
        let score = self.score(rule.depth);
        if score <= -enough {
            return Answer::Unbroken;
        }
        let (failed, passed) = controls.split();
        let believed =
            score >= enough_regressed && failed <= CONTROLS_FAIL_MOST * (failed + passed);
        if believed && controls.runs >= needed {
            return Answer::Regressed;
        }
        let left = |had: u32| rule.reruns_most.saturating_sub(had);
        let round = |had: u32| (ROUND - had % ROUND).min(left(had));
        // Where only controls are missing, only controls are asked for. What they would say if they all passed is not taken
        // for granted: twice as many flaky cases would get this far.
        let missing = needed
            .saturating_sub(controls.runs)
            .min(left(self.controls));
        if believed && missing > 0 {
            return Answer::Ask {
                candidate: 0,
                controls: missing,
            };
        }
        let failed_again = candidate.failed > 1;
        match (
            round(self.reruns),
            if failed_again {
                round(self.controls)
            } else {
                0
            },
        ) {
            (0, 0) => Answer::Unresolved,
            (candidate, controls) => Answer::Ask {
                candidate,
                controls,
            },
        }
    }

    /// Whether the baseline fails now what it did not before: then something changed around both sides.
    pub fn has_drifted(&self, rule: &Rule) -> bool {
        let before = self.earlier.and(self.baseline.first);
        let controls = self.baseline.reruns;
        let enough = odds(rule.error_rate.clamp(1e-9, 0.499));
        controls.failed > 1 && score(before, controls, Depth::Usual, false) >= enough
    }
}
