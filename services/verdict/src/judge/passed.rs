//! Whether an attempt counts as passed, from its end and its results. May not: look at other attempts.

use regatta_model::case::{CaseException, CaseStatus, Results};
use regatta_model::{Blame, Outcome};

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
/// unreadable, or hold no case. An exit with another status is a failure, whether or not a case failed; where all that
/// failed is known to, that is what it means.
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
        Outcome::Exited { exit_code } if is_known(results) => {
            let detail = format!("exit status {exit_code}: what failed is known to");
            (true, None, detail)
        }
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

/// Whether cases failed that are known to, and nothing else is wrong.
fn is_known(results: &Brief<'_>) -> bool {
    let known = |exception: &CaseException| exception.status == CaseStatus::Known;
    failing(results) == 0 && results.problems.is_empty() && results.exceptions.iter().any(known)
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
