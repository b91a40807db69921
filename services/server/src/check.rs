//! What an agent sends is checked here, before anything else sees it: sizes, names, indexes. May not: believe an agent.
//!
//! A host's own state must be whole, or the sync is refused. An ended attempt whose results make no sense is recorded
//! without them, with a sentence: refusing it would make an honest agent with a fault send it for ever.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use regatta_model::case::{
    CaseException, CaseStatus, MESSAGE_MOST, NamedSet, ToldNames, ToldResults,
};
use regatta_model::container::CHANGED_MOST;
use regatta_model::metric::{self, METRIC_UNIT_MOST, METRICS_MOST, Metrics};
use regatta_model::wire::{
    Artifact, ENDED_MOST, EndedAttempt, Held, HeldState, HostFacts, INLINE_LOG_MOST, LogPlace,
    PROTOCOL, SyncRequest,
};
use regatta_model::{Digest, HostName, Outcome};
use regatta_store::{CaseSet, Cases, EndedRow};
use regatta_verdict::judge;

use crate::actor::{Synced, SyncedEnd, wall_ms};
use crate::answer::{Answer, Refusal};
use crate::limits::{
    ARTIFACTS_MOST, CASE_BYTES_MOST, CASES_MOST, DETAIL_BYTES_MOST, FACT_BYTES_MOST, HOLDING_MOST,
    LABEL_BYTES_MOST, LABELS_MOST, LACKS_MOST, PATH_BYTES_MOST, PROBLEM_BYTES_MOST, PROBLEMS_MOST,
    SLOTS_MOST,
};
use crate::sets::Named;

/// Cuts a text to `most` bytes, at a character.
fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = text.floor_char_boundary(most);
        text.truncate(end);
    }
}

/// A whole sync and the sets of names that it lacks, or why it is refused.
pub(crate) fn sync(
    request: SyncRequest<ToldResults>,
    mut sets: Named<'_>,
) -> Answer<(Synced, Vec<Digest>)> {
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
    let (mut taken, mut withheld, mut unknown) = (Vec::new(), Vec::new(), BTreeSet::new());
    for mut attempt in ended {
        match cases_within(std::mem::take(&mut attempt.results), &mut sets) {
            Ok(found) => taken.push(end(&host, attempt, found)),
            Err(digest) => {
                unknown.insert(digest);
                withheld.push(Held {
                    attempt: attempt.attempt,
                    generation: attempt.generation,
                    state: HeldState::Running,
                });
            }
        }
    }
    let wait = if unknown.is_empty() { wait_ms } else { 0 };
    let offset = |now: u64| i128::from(clock_ms) - i128::from(now);
    let clock_offset_ms =
        (clock_ms > 0).then(|| i64::try_from(offset(wall_ms())).unwrap_or(i64::MAX));
    let synced = Synced {
        host,
        incarnation,
        sequence,
        facts,
        slots,
        free,
        holding,
        ended: taken,
        withheld,
        clock_offset_ms,
        wait: std::time::Duration::from_millis(wait),
    };
    Ok((synced, unknown.into_iter().collect()))
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

/// An ended attempt as it will be recorded, with these cases.
fn end(host: &HostName, ended: EndedAttempt<ToldResults>, results: Sound) -> SyncedEnd {
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
        results: _,
        mut metrics,
        log,
        artifacts,
        files,
    } = ended;
    let brief = results.brief();
    let (passed, judged, said) = judge::passed_attempt(outcome, brief);
    let by_results = !passed
        && (brief.found || !brief.problems.is_empty())
        && !brief.exceptions.iter().any(|one| one.status.is_failure());
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
    metrics_within(&mut metrics);
    let (log, short_log) = log_within(log);
    let artifacts = artifacts_within(artifacts);
    let uploaded = !artifacts.is_empty() || matches!(log, LogPlace::Uploaded { .. });
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
        cases: results.into_cases(),
        metrics,
        detail,
        changed,
        artifacts,
        // No later assignment's than this one.
        files: files.filter(|by| uploaded && *by <= generation),
        log,
        short_log,
    };
    SyncedEnd {
        generation,
        incarnation,
        row,
    }
}

/// What cannot be a metric is left out: the agent told of it already, or is none of ours.
fn metrics_within(metrics: &mut Metrics) {
    metrics.retain(|name, metric| metric::fault(name, metric).is_none());
    while metrics.len() > METRICS_MOST {
        metrics.pop_last();
    }
    for metric in metrics.values_mut() {
        cut(&mut metric.unit, METRIC_UNIT_MOST);
    }
}

/// Results that hold together. The names are not copied: whoever told the same shares them.
struct Sound {
    set: Arc<CaseSet>,
    exceptions: Vec<CaseException>,
    found: bool,
    problems: Vec<String>,
    durations: Vec<u8>,
}

impl Sound {
    fn brief(&self) -> judge::Brief<'_> {
        judge::Brief {
            cases: self.set.names.len(),
            exceptions: &self.exceptions,
            found: self.found,
            problems: &self.problems,
        }
    }

    fn into_cases(self) -> Cases {
        Cases {
            set: self.found.then_some(self.set),
            exceptions: self.exceptions,
            problems: self.problems,
            durations: self.durations,
        }
    }
}

/// Results that hold together, or empty ones with a problem that says why; or the digest of names that are not known.
fn cases_within(results: ToldResults, sets: &mut Named<'_>) -> Result<Sound, Digest> {
    let ToldResults {
        names,
        mut exceptions,
        found,
        mut problems,
        mut durations,
    } = results;
    problems.truncate(PROBLEMS_MOST);
    for problem in &mut problems {
        cut(problem, PROBLEM_BYTES_MOST);
    }
    let set = match names {
        ToldNames::Listed(names) => match fault_of_names(&names) {
            None => Ok(sets.learn(names)),
            Some(why) => Err(why),
        },
        ToldNames::Set(named) => {
            let set = sets.get(&named.set).ok_or(named.set)?;
            fault_of_count(&set, named).map_or(Ok(set), Err)
        }
    };
    let sound =
        set.and_then(|set| fault_of_exceptions(set.names.len(), &exceptions).map_or(Ok(set), Err));
    Ok(match sound {
        Ok(set) => {
            for exception in &mut exceptions {
                cut(&mut exception.message, MESSAGE_MOST);
            }
            // They only balance shards: what does not fit is not told.
            if durations.len() != set.names.len() {
                durations = Vec::new();
            }
            Sound {
                set,
                exceptions,
                found,
                problems,
                durations,
            }
        }
        Err(why) => Sound {
            set: Arc::new(CaseSet::from(Vec::new())),
            exceptions: Vec::new(),
            found,
            problems: vec![format!("the agent's list of cases is refused: {why}")],
            durations: Vec::new(),
        },
    })
}

fn fault_of_count(set: &CaseSet, named: NamedSet) -> Option<String> {
    let cases = u32::try_from(set.names.len()).unwrap_or(u32::MAX);
    (cases != named.cases).then(|| {
        format!(
            "the set {} has {cases} names, not {}",
            named.set, named.cases
        )
    })
}

fn fault_of_names(names: &[String]) -> Option<String> {
    if names.len() > CASES_MOST {
        return Some(format!("more than {CASES_MOST} cases (limit CASES_MOST)"));
    }
    if names.iter().any(|name| name.len() > CASE_BYTES_MOST) {
        return Some(format!(
            "a name of more than {CASE_BYTES_MOST} bytes (limit CASE_BYTES_MOST)"
        ));
    }
    (!names.is_sorted_by(|one, next| one < next))
        .then(|| "the names are not sorted, or one stands twice".to_owned())
}

fn fault_of_exceptions(names: usize, exceptions: &[CaseException]) -> Option<String> {
    if !exceptions.is_sorted_by(|one, next| one.index < next.index) {
        // Agents write them in order; others may do as they like, but not twice.
        let mut seen: Vec<u32> = exceptions.iter().map(|exception| exception.index).collect();
        seen.sort_unstable();
        if !seen.is_sorted_by(|one, next| one < next) {
            return Some("a case has two results".to_owned());
        }
    }
    let names = u32::try_from(names).unwrap_or(u32::MAX);
    if exceptions.iter().any(|exception| exception.index >= names) {
        return Some("a result is of no case".to_owned());
    }
    let told = |status| exceptions.iter().any(|one| one.status == status);
    if told(CaseStatus::Known) {
        return Some("an exception says that its case is known to fail".to_owned());
    }
    told(CaseStatus::Passed).then(|| "an exception says that its case passed".to_owned())
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
    use super::*;
    use crate::sets::Sets;

    fn told(names: &[&str], exceptions: &[(u32, CaseStatus)]) -> ToldResults {
        let exception = |(index, status): &(u32, CaseStatus)| CaseException {
            index: *index,
            status: *status,
            message: String::new(),
        };
        ToldResults {
            names: ToldNames::Listed(names.iter().map(|name| (*name).to_owned()).collect()),
            exceptions: exceptions.iter().map(exception).collect(),
            found: true,
            problems: Vec::new(),
            durations: Vec::new(),
        }
    }

    fn by_digest(mut results: ToldResults, cases: u32) -> ToldResults {
        if let ToldNames::Listed(names) = results.names {
            let set = CaseSet::from(names).digest;
            results.names = ToldNames::Set(NamedSet { set, cases });
        }
        results
    }

    #[test]
    fn results_that_do_not_hold_together_become_a_problem() {
        let failed = CaseStatus::Failed;
        let all = Sets::default();
        let mut sets = all.none_named();
        for right in [
            told(&["a", "b"], &[(1, failed)]),
            told(&["a", "b"], &[(1, failed), (0, failed)]),
            by_digest(told(&["a", "b"], &[(1, failed)]), 2),
        ] {
            let found = cases_within(right, &mut sets).unwrap();
            assert_eq!((found.set.names.len(), found.problems.len()), (2, 0));
        }
        for wrong in [
            told(&["b", "a"], &[]),
            told(&["a", "a"], &[]),
            told(&["a", "b"], &[(2, failed)]),
            told(&["a", "b"], &[(u32::MAX, failed)]),
            told(&["a", "b"], &[(0, failed), (0, failed)]),
            told(&["a", "b"], &[(0, CaseStatus::Passed)]),
            told(&["a", "b"], &[(0, CaseStatus::Known)]),
            by_digest(told(&["a", "b"], &[(2, failed)]), 2),
            by_digest(told(&["a", "b"], &[]), 3),
        ] {
            let found = cases_within(wrong, &mut sets).unwrap();
            assert!(found.set.names.is_empty() && found.exceptions.is_empty());
            assert_eq!(found.problems.len(), 1);
        }
    }

    #[test]
    fn names_that_nobody_told_are_wanted() {
        let all = Sets::default();
        let unknown = by_digest(told(&["a"], &[]), 1);
        let wanted = cases_within(unknown.clone(), &mut all.none_named()).err();
        assert_eq!(wanted, Some(CaseSet::from(vec!["a".to_owned()]).digest));
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
    fn what_cannot_be_a_metric_is_left_out() {
        let metric = |value, unit: &str| metric::Metric {
            unit: unit.to_owned(),
            ..metric::Metric::plain(value)
        };
        let long = "n".repeat(metric::METRIC_NAME_MOST + 1);
        let mut metrics: Metrics = [
            ("a", metric(1.0, &"u".repeat(40))),
            ("b", metric(f64::NAN, "")),
            ("c\n", metric(1.0, "")),
            ("wall_ms", metric(1.0, "")),
            (long.as_str(), metric(1.0, "")),
        ]
        .map(|(name, metric)| (name.to_owned(), metric))
        .into();
        metrics_within(&mut metrics);
        assert_eq!(metrics.len(), 1);
        assert_eq!(metrics["a"].unit.len(), METRIC_UNIT_MOST);
        let many = (0..1000).map(|number| (format!("m{number}"), metric(1.0, "")));
        let mut many: Metrics = many.collect();
        metrics_within(&mut many);
        assert_eq!(many.len(), METRICS_MOST);
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        let mut text = "aä".to_owned();
        cut(&mut text, 2);
        assert_eq!(text, "a");
    }
}
