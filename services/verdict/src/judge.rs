//! Whether an attempt passed, what its cell comes to, and whether more attempts are wanted. May not: know where or when
//! an attempt runs, or read blame out of text.

mod beside;
mod passed;

use std::collections::BTreeSet;

use regatta_model::case::{CaseStatus, Results};
use regatta_model::matrix::Matrix;
use regatta_model::report::Verdict;
use regatta_model::run::RunSummary;
use regatta_model::{Blame, HostName, Ordinal, Outcome};

use beside::Beside;
pub use beside::is_untested;
pub use passed::{Brief, passed_attempt};

use crate::earlier::Earlier;
use crate::sequential::{Depth, Rule};

/// Host faults that a cell outlives even where `rerun.at-most` is less: a lost host must not decide.
pub const HOST_FAULTS_LEAST: u32 = 3;

/// Reruns of a cell at most where somebody asked to go on until nothing is unresolved, if the matrix allows no more.
pub const RERUNS_DEEP: u32 = 40;

/// Attempts of a cell that are taken back at most without being counted among its host faults, beside those that it is
/// asked for: whatever hosts say, there is an end.
pub const TAKEN_BACK_MOST: u32 = 100;

/// Failed images after which a cell is given up: a missing image is missing on every host.
pub const IMAGE_FAULTS_MOST: u32 = 3;

/// What a verdict is made from: one ended attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptFacts {
    /// Its ordinal.
    pub ordinal: Ordinal,
    /// Where it ran.
    pub host: HostName,
    /// How it ended.
    pub outcome: Outcome,
    /// Whose doing that was.
    pub blame: Option<Blame>,
    /// Whether it counts as passed; see [`passed_attempt`].
    pub passed: bool,
    /// Names of its failing cases, sorted; empty where it passed, or failed without a failing case.
    pub failing: Vec<String>,
    /// Whether one of its cases both failed and passed within it.
    pub flaky: bool,
}

impl AttemptFacts {
    /// The facts of an attempt. `blame` is what its agent said; where it said nothing, that of [`passed_attempt`]
    /// stands.
    pub fn new(
        ordinal: Ordinal,
        host: HostName,
        outcome: Outcome,
        blame: Option<Blame>,
        results: &Results,
    ) -> Self {
        let (passed, judged, _) = passed_attempt(outcome, results);
        let blame = blame.or(judged);
        let mut failing: Vec<String> = results
            .failures()
            .map(|(name, _)| name.to_owned())
            .collect();
        failing.sort_unstable();
        let flaky = results
            .exceptions
            .iter()
            .any(|e| e.status == CaseStatus::Flaky);
        Self {
            ordinal,
            host,
            outcome,
            blame,
            passed,
            failing,
            flaky,
        }
    }

    /// Whether it may decide a verdict: it came to an end of its own, and neither host nor platform is to blame.
    pub fn is_decisive(&self) -> bool {
        is_decisive(self.outcome, self.blame)
    }

    /// Whether it came to an end of its own and decides nothing all the same, for nobody trusts its host. That is no fault
    /// that its cell met: it was run, and is to be run again.
    pub fn is_taken_back(&self) -> bool {
        let ended = matches!(
            self.outcome,
            Outcome::Exited { .. }
                | Outcome::Signaled { .. }
                | Outcome::TimedOut
                | Outcome::SetupFailed
        );
        ended && self.blame == Some(Blame::Host)
    }

    /// Whether it failed as a whole: no case tells why.
    pub const fn is_whole(&self) -> bool {
        !self.passed && self.failing.is_empty()
    }
}

/// Whether an attempt that ended so may decide a verdict.
pub fn is_decisive(outcome: Outcome, blame: Option<Blame>) -> bool {
    let ran = !matches!(outcome, Outcome::Cancelled | Outcome::HostLost);
    ran && !matches!(blame, Some(Blame::Host | Blame::Platform))
}

/// What the matrix says about how much evidence is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Attempts of every cell at least; 1 at least.
    pub repeat: u32,
    /// Reruns of a cell at most (`rerun.at-most`).
    pub at_most: u32,
    /// Reruns of all cells of a run at most (`rerun.in-all`); none: no such limit.
    pub in_all: Option<u32>,
    /// How often a verdict may be wrong (`rerun.error-rate`), from 0 to 1.
    pub error_rate: f64,
    /// How hard to look.
    pub depth: Depth,
}

impl Policy {
    /// What a matrix says.
    pub fn of(matrix: &Matrix) -> Self {
        let rerun = matrix.rerun();
        Self {
            repeat: matrix.repeat(),
            at_most: rerun.at_most,
            in_all: rerun.in_all,
            error_rate: rerun.error_rate,
            depth: Depth::Usual,
        }
    }

    /// What holds for a run: what its matrix says, and what somebody asked for since.
    pub fn of_run(matrix: &Matrix, run: &RunSummary) -> Self {
        let policy = Self::of(matrix);
        if !run.deep {
            return policy;
        }
        Self {
            at_most: policy.at_most.max(RERUNS_DEEP),
            in_all: None,
            depth: Depth::Deep,
            ..policy
        }
    }

    /// How much evidence a comparison wants.
    pub const fn rule(&self) -> Rule {
        Rule {
            error_rate: self.error_rate,
            reruns_most: self.at_most,
            depth: self.depth,
        }
    }
}

/// As in a matrix that says nothing about it.
impl Default for Policy {
    fn default() -> Self {
        Self {
            repeat: 1,
            at_most: 10,
            in_all: None,
            error_rate: 0.01,
            depth: Depth::Usual,
        }
    }
}

/// What a cell's attempts lead to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The verdict, once there is evidence enough; none: more attempts are wanted.
    pub verdict: Option<Verdict>,
    /// How many more attempts the cell should get, those under way included.
    pub again: u32,
    /// How many more its baseline should get, those under way included.
    pub again_baseline: u32,
}

impl Decision {
    /// There is nothing more to ask.
    const fn settled(verdict: Verdict) -> Self {
        Self {
            verdict: Some(verdict),
            again: 0,
            again_baseline: 0,
        }
    }
}

/// What the attempts of a cell say, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Decisive attempts that passed.
    pub passed: u32,
    /// Decisive attempts that failed.
    pub failed: u32,
    /// All attempts failed, but no case failed in all of them.
    pub scattered: bool,
    /// A case both failed and passed within one attempt.
    pub flaky: bool,
}

/// What a cell is compared with.
#[derive(Clone, Debug)]
pub struct Baseline<'a> {
    /// Its attempts that ended so far, in any order.
    pub facts: &'a [AttemptFacts],
    /// Whether it has a verdict: no attempt of it is to come unless somebody asks.
    pub settled: bool,
    /// Whether no further attempt of it can be had.
    pub spent: bool,
    /// What earlier runs say of it.
    pub earlier: &'a Earlier,
    /// Where cells are compared with the previous one: those before this one.
    pub line: Line<'a>,
}

/// Cells before a baseline on its line: how often does a case fail there that nobody broke?
#[derive(Clone, Debug, Default)]
pub struct Line<'a> {
    /// Attempts of those that did not simply pass, a cell each.
    pub facts: Vec<&'a [AttemptFacts]>,
    /// Attempts of those that did.
    pub passed: u32,
}

/// Most cells of a line that are looked at.
pub const LINE_MOST: usize = 20;

/// What is wanted after these attempts of a cell, all that ended so far, in any order. `baseline` has its baseline
/// cell's, where something is compared and the cell has one.
///
/// What hosts or the platform are to blame for is run again, a bounded number of times, and decides nothing.
pub fn next(cell: &[AttemptFacts], baseline: Option<Baseline<'_>>, policy: &Policy) -> Decision {
    let evidence = evidence(cell);
    let beside = baseline.map_or(Beside::Alone, |baseline| {
        Beside::of(cell, &baseline, policy)
    });
    let repeat = policy.repeat.max(1);
    let had = evidence.passed.saturating_add(evidence.failed);
    let decision = match beside {
        // Of a cell that nobody compares, or that fails like its baseline, it is only asked how often.
        _ if had < repeat => Decision {
            again: repeat - had,
            again_baseline: beside.asks().1,
            ..Decision::default()
        },
        Beside::Alone => confirm(&evidence, policy),
        Beside::Waits | Beside::Asks(..) => {
            let (again, again_baseline) = beside.asks();
            Decision {
                verdict: None,
                again,
                again_baseline,
            }
        }
        Beside::Regressed => Decision::settled(Verdict::Failed),
        Beside::Alike | Beside::Answered => Decision::settled(verdict(&evidence)),
    };
    if decision.verdict.is_some() || faults_bearable(cell, policy) {
        return decision;
    }
    as_it_is(cell)
}

/// No more attempts: what there is must do.
pub(crate) fn as_it_is(cell: &[AttemptFacts]) -> Decision {
    let evidence = evidence(cell);
    Decision::settled(if evidence.failed > 0 {
        verdict(&evidence)
    } else {
        Verdict::Unresolved
    })
}

/// Whether the cell may be run again after the faults that it met.
pub fn faults_bearable(cell: &[AttemptFacts], policy: &Policy) -> bool {
    let ended = cell
        .iter()
        .filter(|a| a.outcome != Outcome::Cancelled && !a.is_decisive());
    let (images, hosts): (Vec<_>, Vec<_>) = ended.partition(|a| a.outcome == Outcome::ImageFailed);
    let faults = count(hosts.len()).saturating_sub(excused(cell, policy));
    faults <= policy.at_most.max(HOST_FAULTS_LEAST) && count(images.len()) < IMAGE_FAULTS_MOST
}

/// Attempts of a cell, less those that were taken back.
pub fn attempts(cell: &[AttemptFacts], policy: &Policy) -> u32 {
    count(cell.len()).saturating_sub(excused(cell, policy))
}

/// How many of a cell's attempts were taken back, so far as that is borne.
fn excused(cell: &[AttemptFacts], policy: &Policy) -> u32 {
    let taken_back = cell.iter().filter(|a| a.is_taken_back()).count();
    count(taken_back).min(TAKEN_BACK_MOST.saturating_add(policy.repeat))
}

/// Counts a cell's decisive attempts.
fn evidence(cell: &[AttemptFacts]) -> Evidence {
    let (passed, failed) = tally(cell);
    let mut failing = cell
        .iter()
        .filter(|a| a.is_decisive() && !a.passed)
        .map(|a| &a.failing);
    let mut common: BTreeSet<&String> = failing.next().into_iter().flatten().collect();
    let by_case = cell
        .iter()
        .filter(|a| a.is_decisive())
        .all(|a| !a.failing.is_empty());
    for names in failing {
        common.retain(|name| names.binary_search(name).is_ok());
    }
    let flaky = cell.iter().any(|a| a.is_decisive() && a.flaky);
    Evidence {
        passed,
        failed,
        scattered: by_case && common.is_empty(),
        flaky,
    }
}

/// Decisive attempts that passed, and that failed.
fn tally(cell: &[AttemptFacts]) -> (u32, u32) {
    let decisive = cell.iter().filter(|a| a.is_decisive());
    let (passed, failed): (Vec<_>, Vec<_>) = decisive.partition(|a| a.passed);
    (count(passed.len()), count(failed.len()))
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// What attempts come to when there are no more of them.
pub(crate) fn verdict(evidence: &Evidence) -> Verdict {
    match (evidence.passed, evidence.failed) {
        (0, 0) => Verdict::Unresolved,
        (_, 0) if evidence.flaky => Verdict::Flaky,
        (_, 0) => Verdict::Passed,
        (0, _) if !evidence.scattered => Verdict::Failed,
        _ => Verdict::Flaky,
    }
}

/// How much is enough where nothing is compared: a failing attempt is confirmed by one more; where attempts disagree there
/// is a third, which says how often.
fn confirm(evidence: &Evidence, policy: &Policy) -> Decision {
    let had = evidence.passed.saturating_add(evidence.failed);
    let repeat = policy.repeat.max(1);
    let mixed = evidence.failed > 0 && (evidence.passed > 0 || evidence.scattered);
    let enough = match evidence.failed {
        0 => 1,
        _ if mixed => 3,
        _ => 2,
    };
    let wanted = repeat
        .max(enough)
        .min(repeat.saturating_add(policy.at_most));
    let again = wanted.saturating_sub(had);
    Decision {
        verdict: (again == 0).then(|| verdict(evidence)),
        again,
        again_baseline: 0,
    }
}

/// The hosts that ran the cell, each once: what a rerun should avoid.
pub fn hosts(cell: &[AttemptFacts]) -> Vec<HostName> {
    let hosts: BTreeSet<&HostName> = cell.iter().map(|a| &a.host).collect();
    hosts.into_iter().cloned().collect()
}
