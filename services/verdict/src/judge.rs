//! Whether an attempt passed, what its cell comes to, and whether more attempts are wanted. May not: know where or when
//! an attempt runs, or read blame out of text.

use std::collections::BTreeSet;

use regatta_model::case::{CaseException, CaseStatus, Results};
use regatta_model::report::Verdict;
use regatta_model::{Blame, HostName, Ordinal, Outcome};

/// Host faults that a cell outlives even where `rerun.at-most` is less: a lost host must not decide.
pub const HOST_FAULTS_LEAST: u32 = 3;

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
}

/// Whether an attempt that ended so may decide a verdict.
pub fn is_decisive(outcome: Outcome, blame: Option<Blame>) -> bool {
    let ran = !matches!(outcome, Outcome::Cancelled | Outcome::HostLost);
    ran && !matches!(blame, Some(Blame::Host | Blame::Platform))
}

/// What of an attempt's results says whether it passed: no names, which are many.
#[derive(Clone, Copy, Debug)]
pub struct Brief<'a> {
    /// How many cases there are.
    pub cases: usize,
    /// Those that did not simply pass.
    pub exceptions: &'a [CaseException],
    /// Whether any results file was found.
    pub found: bool,
    /// What could not be read.
    pub problems: &'a [String],
}

impl<'a> From<&'a Results> for Brief<'a> {
    fn from(results: &'a Results) -> Self {
        Self {
            cases: results.names.len(),
            exceptions: &results.exceptions,
            found: results.found,
            problems: &results.problems,
        }
    }
}

/// Whether an attempt counts as passed, whose doing it is where its agent does not say, and what is to tell about it
/// beyond the outcome's name (empty: nothing).
///
/// Exit status and results must agree: an exit with 0 and failing cases is no pass, nor is one whose results are cut,
/// unreadable, or hold no case. An exit with another status is a failure, whether or not a case failed.
pub fn passed_attempt<'a>(
    outcome: Outcome,
    results: impl Into<Brief<'a>>,
) -> (bool, Option<Blame>, String) {
    let results = &results.into();
    let failed = |detail: String| (false, Some(Blame::Test), detail);
    match outcome {
        Outcome::Exited { exit_code: 0 } => match disagreement(results) {
            None => (true, None, String::new()),
            Some(detail) => failed(format!("exit status 0, but {detail}")),
        },
        Outcome::Exited { exit_code } => {
            failed(format!("exit status {exit_code}{}", beside(results)))
        }
        Outcome::Signaled { signal } => failed(format!(
            "ended by signal {signal}{}{}",
            signal_name(signal),
            beside(results)
        )),
        Outcome::TimedOut => failed(format!("ended by its time limit{}", beside(results))),
        Outcome::OutOfMemory => failed(format!("ended by its memory limit{}", beside(results))),
        Outcome::Cancelled => (false, None, String::new()),
        Outcome::SetupFailed => failed("its set-up failed: nothing was tested".into()),
        Outcome::ImageFailed => (
            false,
            Some(Blame::Platform),
            "its image could not be had: nothing was tested".into(),
        ),
        Outcome::HostLost => (false, Some(Blame::Host), "its host was lost".into()),
    }
}

/// Why results do not agree with an exit status of 0.
fn disagreement(results: &Brief<'_>) -> Option<String> {
    let failing = failing(results);
    if failing > 0 {
        Some(format!("{} failed", of_cases(failing, results)))
    } else if let Some(problem) = results.problems.first() {
        Some(format!("its results are not whole: {problem}"))
    } else if results.found && results.cases == 0 {
        Some("its results hold no case".into())
    } else {
        None
    }
}

/// What the results say beside a failing end, as the rest of a sentence.
fn beside(results: &Brief<'_>) -> String {
    let failing = failing(results);
    if let Some(problem) = results.problems.first() {
        format!(", and its results are not whole: {problem}")
    } else if failing > 0 {
        format!(", {} failed", of_cases(failing, results))
    } else if !results.found {
        String::new()
    } else if results.cases == 0 {
        ", and its results hold no case".into()
    } else {
        match results.cases {
            1 => ", though its only case did not fail".into(),
            cases => format!(", though none of its {cases} cases failed"),
        }
    }
}

fn failing(results: &Brief<'_>) -> usize {
    results
        .exceptions
        .iter()
        .filter(|e| e.status.is_failure())
        .count()
}

fn of_cases(failing: usize, results: &Brief<'_>) -> String {
    let all = results.cases;
    format!(
        "{failing} of {all} {}",
        if all == 1 { "case" } else { "cases" }
    )
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        31 => " (SIGSYS)",
        _ => "",
    }
}

/// What the matrix says about how much evidence is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Attempts of every cell at least; 1 at least.
    pub repeat: u32,
    /// Reruns of a cell at most (`rerun.at-most`).
    pub at_most: u32,
    /// How often a verdict may be wrong (`rerun.error-rate`), from 0 to 1.
    pub error_rate: f64,
}

/// As in a matrix that says nothing about it.
impl Default for Policy {
    fn default() -> Self {
        Self {
            repeat: 1,
            at_most: 10,
            error_rate: 0.01,
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

/// What the attempts of a cell say, counted. All that a policy may look at.
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
    /// Decisive attempts of the baseline that passed, and that failed; none where there is no baseline.
    pub baseline: Option<(u32, u32)>,
}

/// What is wanted after these attempts of a cell, all that ended so far, in any order. `baseline` has its baseline
/// cell's, where something is compared and the cell has one.
///
/// What hosts or the platform are to blame for is run again, a bounded number of times, and decides nothing.
pub fn next(cell: &[AttemptFacts], baseline: Option<&[AttemptFacts]>, policy: &Policy) -> Decision {
    let evidence = Evidence {
        baseline: baseline.map(tally),
        ..evidence(cell)
    };
    let mut decision = weigh(&evidence, policy);
    if cell.iter().all(|a| a.outcome == Outcome::SetupFailed) {
        // Nothing was tested: there is nothing to compare.
        decision.again_baseline = 0;
    }
    if decision.verdict.is_some() || faults_bearable(cell, policy) {
        return decision;
    }
    // No more attempts: what there is must do.
    let verdict = if evidence.failed > 0 {
        verdict(&evidence)
    } else {
        Verdict::Unresolved
    };
    Decision {
        verdict: Some(verdict),
        ..Decision::default()
    }
}

/// Whether the cell may be run again after the faults that it met.
fn faults_bearable(cell: &[AttemptFacts], policy: &Policy) -> bool {
    let ended = cell
        .iter()
        .filter(|a| a.outcome != Outcome::Cancelled && !a.is_decisive());
    let (images, hosts): (Vec<_>, Vec<_>) = ended.partition(|a| a.outcome == Outcome::ImageFailed);
    count(hosts.len()) <= policy.at_most.max(HOST_FAULTS_LEAST)
        && count(images.len()) < IMAGE_FAULTS_MOST
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
        baseline: None,
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

/// How much evidence is enough: the policy itself, and the place of the sequential test to come.
///
/// For now: a failing attempt is confirmed by one more; where attempts disagree there is a third, which says how often. A
/// baseline that passed is confirmed by one more as well, since a break is the difference of the two.
fn weigh(evidence: &Evidence, policy: &Policy) -> Decision {
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
    let again_baseline = match evidence.baseline {
        Some((passed, 0)) if evidence.failed > 0 && passed > 0 => {
            let wanted = repeat.max(2).min(repeat.saturating_add(policy.at_most));
            wanted.saturating_sub(passed)
        }
        _ => 0,
    };
    Decision {
        verdict: (again == 0).then(|| verdict(evidence)),
        again,
        again_baseline,
    }
}

/// The hosts that ran the cell, each once: what a rerun should avoid.
pub fn hosts(cell: &[AttemptFacts]) -> Vec<HostName> {
    let hosts: BTreeSet<&HostName> = cell.iter().map(|a| &a.host).collect();
    hosts.into_iter().cloned().collect()
}
