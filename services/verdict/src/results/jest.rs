//! The JSON of Jest (`--json`), of Vitest's JSON reporter, and of Mocha's. May not: take an order, a time or a count for a case.
//!
//! The key is `FILE::SUITE > TEST`, the file as the tool gives it. A file that could not be run is a case of its own name that
//! ended with an error. A test that passed after further tries is flaky.

use regatta_model::case::CaseStatus;
use serde::Deserialize;

use super::WITHIN;
use super::collect::Collector;
use super::json;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    test_results: Vec<File>,
    #[serde(default)]
    was_interrupted: bool,
    #[serde(default)]
    num_total_tests: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    name: String,
    #[serde(default)]
    status: String,
    message: Option<String>,
    #[serde(default)]
    assertion_results: Vec<Test>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Test {
    #[serde(default)]
    ancestor_titles: Vec<String>,
    #[serde(default)]
    title: String,
    #[serde(default)]
    status: String,
    failure_messages: Option<Vec<String>>,
    retry_reasons: Option<Vec<String>>,
    invocations: Option<u64>,
    /// Milliseconds.
    #[serde(default, deserialize_with = "json::number")]
    duration: Option<f64>,
}

/// Reads one file of Jest or Vitest.
pub(super) fn read(path: &str, text: &str, collector: &mut Collector) {
    let report: Report = match serde_json::from_str(text) {
        Ok(report) => report,
        Err(error) => return collector.problem(&format!("{path}: not as Jest writes it: {error}")),
    };
    let mut tests = 0_u64;
    for file in &report.test_results {
        tests = tests.saturating_add(file.assertion_results.len().try_into().unwrap_or(u64::MAX));
        if let Err(beyond) = take_file(file, collector) {
            return collector.problem(&format!("{path}: {beyond}"));
        }
    }
    if report.was_interrupted {
        collector.problem(&format!("{path}: the tests were interrupted"));
    }
    if tests < report.num_total_tests {
        let total = report.num_total_tests;
        collector.problem(&format!(
            "{path}: it says {total} tests, and there are {tests}"
        ));
    }
}

fn take_file(file: &File, collector: &mut Collector) -> Result<(), String> {
    let mut failed = false;
    for test in &file.assertion_results {
        let retried = test.invocations.is_some_and(|count| count > 1)
            || test.retry_reasons.as_ref().is_some_and(|r| !r.is_empty());
        let status = match test.status.as_str() {
            "passed" if retried => CaseStatus::Flaky,
            "passed" | "focused" => CaseStatus::Passed,
            "failed" => CaseStatus::Failed,
            "pending" | "skipped" | "todo" | "disabled" => CaseStatus::Skipped,
            // A word that is not known may not make a pass.
            _ => CaseStatus::Error,
        };
        failed |= status.is_failure();
        let reasons = match status {
            CaseStatus::Flaky => &test.retry_reasons,
            _ => &test.failure_messages,
        };
        let details = reasons.as_deref().unwrap_or_default().join("\n");
        let mut name = test.ancestor_titles.join(WITHIN);
        // Vitest gives an empty title for the file itself.
        name = name.trim_start_matches(WITHIN.trim_end()).trim().to_owned();
        let name = if name.is_empty() {
            test.title.clone()
        } else {
            format!("{name}{WITHIN}{}", test.title)
        };
        let key = format!("{}::{name}", file.name);
        collector.lasts(test.duration.map(|ms| ms / 1000.0));
        collector.case(&key, status, "", &details)?;
    }
    if file.status == "failed" && !failed {
        let message = file.message.as_deref().unwrap_or_default();
        collector.case(&file.name, CaseStatus::Error, "", message)?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Mocha {
    tests: Vec<MochaTest>,
    #[serde(default)]
    failures: Vec<MochaTest>,
    #[serde(default)]
    pending: Vec<MochaTest>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct MochaTest {
    #[serde(default)]
    title: String,
    #[serde(default)]
    full_title: String,
    file: Option<String>,
    #[serde(default)]
    current_retry: u64,
    #[serde(default)]
    err: MochaError,
    /// Milliseconds.
    #[serde(default, deserialize_with = "json::number")]
    duration: Option<f64>,
}

#[derive(Default, Deserialize, PartialEq)]
struct MochaError {
    message: Option<String>,
    stack: Option<String>,
}

/// Reads one file of Mocha.
pub(super) fn read_mocha(path: &str, text: &str, collector: &mut Collector) {
    let report: Mocha = match serde_json::from_str(text) {
        Ok(report) => report,
        Err(error) => {
            return collector.problem(&format!("{path}: not as Mocha writes it: {error}"));
        }
    };
    let id = |test: &MochaTest| (test.file.clone(), test.full_title.clone());
    let pending: std::collections::BTreeSet<_> = report.pending.iter().map(id).collect();
    // A hook that fails is among the failures alone.
    let known: std::collections::BTreeSet<_> = report.tests.iter().map(id).collect();
    let hooks = report
        .failures
        .iter()
        .filter(|test| !known.contains(&id(test)));
    for (test, hook) in report
        .tests
        .iter()
        .map(|test| (test, false))
        .chain(hooks.map(|test| (test, true)))
    {
        let broke = test.err.message.is_some() || test.err.stack.is_some();
        let status = if hook {
            CaseStatus::Error
        } else if broke {
            CaseStatus::Failed
        } else if pending.contains(&id(test)) {
            CaseStatus::Skipped
        } else if test.current_retry > 0 {
            CaseStatus::Flaky
        } else {
            CaseStatus::Passed
        };
        let title = if test.full_title.is_empty() {
            &test.title
        } else {
            &test.full_title
        };
        let key = match &test.file {
            Some(file) => format!("{file}::{title}"),
            None => title.clone(),
        };
        let summary = test.err.message.as_deref().unwrap_or_default();
        let details = test.err.stack.as_deref().unwrap_or_default();
        collector.lasts(test.duration.map(|ms| ms / 1000.0));
        if let Err(beyond) = collector.case(&key, status, summary, details) {
            return collector.problem(&format!("{path}: {beyond}"));
        }
    }
}
