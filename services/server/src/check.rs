//! What an agent sends is checked here, before anything else sees it: sizes, names, indexes. May not: believe an agent.
//!
//! A host's own state must be whole, or the sync is refused. An ended attempt whose results make no sense is recorded
//! without them, with a sentence: refusing it would make an honest agent with a fault send it for ever.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use regatta_model::case::{CaseStatus, MESSAGE_MOST, Results};
use regatta_model::container::CHANGED_MOST;
use regatta_model::wire::{
    Artifact, ENDED_MOST, EndedAttempt, HostFacts, INLINE_LOG_MOST, LogPlace, PROTOCOL, SyncRequest,
};
use regatta_model::{HostName, Outcome};
use regatta_store::{Cases, EndedRow};
use regatta_verdict::judge;

use crate::actor::{Synced, SyncedEnd, wall_ms};
use crate::answer::{Answer, Refusal};
use crate::limits::{
    ARTIFACTS_MOST, CASE_BYTES_MOST, CASES_MOST, DETAIL_BYTES_MOST, FACT_BYTES_MOST, HOLDING_MOST,
    LABEL_BYTES_MOST, LABELS_MOST, LACKS_MOST, PATH_BYTES_MOST, PROBLEM_BYTES_MOST, PROBLEMS_MOST,
    SLOTS_MOST,
};

/// Cuts a text to `most` bytes, at a character.
fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = text.floor_char_boundary(most);
        text.truncate(end);
    }
}

/// A whole sync, or why it is refused.
pub(crate) fn sync(request: SyncRequest) -> Answer<Synced> {
    let SyncRequest {
        protocol,
        host,
        incarnation,
        sequence,
        facts,
        slots,
        free,
        holding,
        ended,
        wait_ms,
        clock_ms,
    } = request;
    if protocol != PROTOCOL {
        return Err(Refusal::conflict(
            "protocol",
            format!(
                "the agent on {host} speaks protocol {protocol} and this server {PROTOCOL}: \
                 install the same version of Regatta on both"
            ),
        ));
    }
    let beyond = |what: &str, most: usize, limit: &str| {
        Refusal::bad(format!(
            "the sync of {host} has more than {most} {what} (limit {limit})"
        ))
    };
    if slots > SLOTS_MOST {
        let most = usize::try_from(SLOTS_MOST).unwrap_or(usize::MAX);
        return Err(beyond("places", most, "SLOTS_MOST"));
    }
    if holding.len() > HOLDING_MOST {
        return Err(beyond("attempts held", HOLDING_MOST, "HOLDING_MOST"));
    }
    if ended.len() > ENDED_MOST {
        return Err(beyond("ended attempts", ENDED_MOST, "ENDED_MOST"));
    }
    let facts =
        facts_within(facts).map_err(|why| Refusal::bad(format!("the sync of {host}: {why}")))?;
    let ended = ended
        .into_iter()
        .map(|attempt| end(&host, attempt))
        .collect();
    let wait = std::time::Duration::from_millis(wait_ms);
    let offset = |now: u64| i128::from(clock_ms) - i128::from(now);
    let clock_offset_ms =
        (clock_ms > 0).then(|| i64::try_from(offset(wall_ms())).unwrap_or(i64::MAX));
    Ok(Synced {
        host,
        incarnation,
        sequence,
        facts,
        slots,
        free,
        holding,
        ended,
        wait,
        clock_offset_ms,
    })
}

fn facts_within(mut facts: HostFacts) -> Result<HostFacts, String> {
    for text in [&mut facts.kernel, &mut facts.cpu, &mut facts.version] {
        cut(text, FACT_BYTES_MOST);
    }
    let lacks = &mut facts.observed.lacks;
    lacks.truncate(LACKS_MOST);
    for lack in lacks {
        cut(lack, FACT_BYTES_MOST);
    }
    if let Some(canaries) = &mut facts.observed.canaries {
        cut(&mut canaries.failure, FACT_BYTES_MOST);
    }
    if let Some(kernel) = &mut facts.observed.kernel {
        cut(&mut kernel.last, FACT_BYTES_MOST);
    }
    if facts.labels.len() > LABELS_MOST {
        return Err(format!(
            "more than {LABELS_MOST} labels (limit LABELS_MOST)"
        ));
    }
    if facts
        .labels
        .iter()
        .any(|(name, value)| name.len().max(value.len()) > LABEL_BYTES_MOST)
    {
        return Err(format!(
            "a label of more than {LABEL_BYTES_MOST} bytes (limit LABEL_BYTES_MOST)"
        ));
    }
    Ok(facts)
}

/// An ended attempt as it will be recorded.
fn end(host: &HostName, ended: EndedAttempt) -> SyncedEnd {
    let EndedAttempt {
        attempt,
        generation,
        incarnation,
        outcome,
        blame,
        mut detail,
        wall_ms,
        queue_ms,
        start_us,
        cpu_us,
        peak_memory_bytes,
        identity,
        mut changed,
        results,
        log,
        artifacts,
    } = ended;
    let results = results_within(results);
    let (passed, judged, said) = judge::passed_attempt(outcome, &results);
    let by_results = !passed
        && (results.found || !results.problems.is_empty())
        && results.failures().next().is_none();
    if detail.is_empty() {
        detail = said;
    } else if by_results {
        // How the results and the end of the test disagree is not in its log.
        detail = format!("{said}\n{detail}");
    }
    cut(&mut detail, DETAIL_BYTES_MOST);
    changed.truncate(CHANGED_MOST);
    for path in &mut changed {
        cut(path, PATH_BYTES_MOST);
    }
    // A pass needs nobody's blame, and what a host lost is the host's.
    let blame = match outcome {
        _ if passed => None,
        Outcome::HostLost => Some(regatta_model::Blame::Host),
        _ => blame.or(judged),
    };
    let (log, short_log) = log_within(log);
    let row = EndedRow {
        attempt,
        sequence: 0,
        host: host.clone(),
        outcome,
        blame,
        passed,
        settled: 0,
        failing: 0,
        wall_ms,
        queue_ms,
        start_us,
        cpu_us,
        peak_memory_bytes,
        identity,
        cases: Cases::from(results),
        detail,
        changed,
        artifacts: artifacts_within(artifacts),
        log,
        short_log,
    };
    SyncedEnd {
        generation,
        incarnation,
        row,
    }
}

/// Results that hold together, or empty ones with a problem that says why.
fn results_within(mut results: Results) -> Results {
    results.problems.truncate(PROBLEMS_MOST);
    for problem in &mut results.problems {
        cut(problem, PROBLEM_BYTES_MOST);
    }
    match fault(&results) {
        None => {
            for exception in &mut results.exceptions {
                cut(&mut exception.message, MESSAGE_MOST);
            }
            results
        }
        Some(why) => Results {
            found: results.found,
            problems: vec![format!("the agent's list of cases is refused: {why}")],
            ..Results::default()
        },
    }
}

fn fault(results: &Results) -> Option<String> {
    if results.names.len() > CASES_MOST {
        return Some(format!("more than {CASES_MOST} cases (limit CASES_MOST)"));
    }
    if results
        .names
        .iter()
        .any(|name| name.len() > CASE_BYTES_MOST)
    {
        return Some(format!(
            "a name of more than {CASE_BYTES_MOST} bytes (limit CASE_BYTES_MOST)"
        ));
    }
    if !results.names.is_sorted_by(|one, next| one < next) {
        return Some("the names are not sorted, or one stands twice".to_owned());
    }
    if !results
        .exceptions
        .is_sorted_by(|one, next| one.index < next.index)
    {
        // Agents write them in order; others may do as they like, but not twice.
        let mut seen: Vec<u32> = results
            .exceptions
            .iter()
            .map(|exception| exception.index)
            .collect();
        seen.sort_unstable();
        if seen.is_sorted_by(|one, next| one < next) {
            return fault_of_exceptions(results);
        }
        return Some("a case has two results".to_owned());
    }
    fault_of_exceptions(results)
}

fn fault_of_exceptions(results: &Results) -> Option<String> {
    let names = u32::try_from(results.names.len()).unwrap_or(u32::MAX);
    if results
        .exceptions
        .iter()
        .any(|exception| exception.index >= names)
    {
        return Some("a result is of no case".to_owned());
    }
    let passed = results
        .exceptions
        .iter()
        .any(|exception| exception.status == CaseStatus::Passed);
    passed.then(|| "an exception says that its case passed".to_owned())
}

fn log_within(log: LogPlace) -> (LogPlace, Vec<u8>) {
    match log {
        LogPlace::Inline(text) if text.len() <= INLINE_LOG_MOST * 2 => match BASE64.decode(&text) {
            Ok(bytes) if bytes.is_empty() => (LogPlace::Empty, bytes),
            Ok(bytes) => (LogPlace::Inline(String::new()), bytes),
            Err(_) => (LogPlace::Empty, Vec::new()),
        },
        LogPlace::Inline(_) => (LogPlace::Empty, Vec::new()),
        other => (other, Vec::new()),
    }
}

fn artifacts_within(mut artifacts: Vec<Artifact>) -> Vec<Artifact> {
    artifacts.retain(|artifact| is_artifact_path(&artifact.path));
    artifacts.truncate(ARTIFACTS_MOST);
    artifacts
}

/// Whether a path is relative, with `/`, and leaves no directory.
pub(crate) fn is_artifact_path(path: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.len() <= 255
            && !part.chars().any(char::is_control)
    };
    path.len() <= PATH_BYTES_MOST && path.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use regatta_model::case::CaseException;

    use super::*;

    fn results(names: &[&str], exceptions: &[(u32, CaseStatus)]) -> Results {
        let exception = |(index, status): &(u32, CaseStatus)| CaseException {
            index: *index,
            status: *status,
            message: String::new(),
        };
        Results {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            exceptions: exceptions.iter().map(exception).collect(),
            found: true,
            problems: Vec::new(),
        }
    }

    #[test]
    fn results_that_do_not_hold_together_become_a_problem() {
        let failed = CaseStatus::Failed;
        assert_eq!(fault(&results(&["a", "b"], &[(1, failed)])), None);
        assert_eq!(
            fault(&results(&["a", "b"], &[(1, failed), (0, failed)])),
            None
        );
        for wrong in [
            results(&["b", "a"], &[]),
            results(&["a", "a"], &[]),
            results(&["a"], &[(1, failed)]),
            results(&["a"], &[(u32::MAX, failed)]),
            results(&["a"], &[(0, failed), (0, failed)]),
            results(&["a"], &[(0, CaseStatus::Passed)]),
        ] {
            let within = results_within(wrong);
            assert!(within.names.is_empty() && within.exceptions.is_empty());
            assert_eq!(within.problems.len(), 1);
        }
    }

    #[test]
    fn an_artifact_stays_in_its_attempt() {
        assert!(is_artifact_path("a/b c.log") && is_artifact_path("ä"));
        for wrong in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "a\nb",
            &"x".repeat(256),
        ] {
            assert!(!is_artifact_path(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        let mut text = "aä".to_owned();
        cut(&mut text, 2);
        assert_eq!(text, "a");
    }
}
