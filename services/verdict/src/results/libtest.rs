//! The events of Rust's libtest (`--format json`), and of nextest's `libtest-json` and `libtest-json-plus`. May not: count what
//! nextest says of a suite, which begins and ends it several times.
//!
//! libtest does not name its binary: where Cargo's own lines (`Running ...`) stand in between, the key is `BINARY::TEST`, else the test's
//! name. nextest does, and its key is that of its JUnit: `PACKAGE::TEST` for the library, `PACKAGE::BINARY::TEST` else. A further
//! try's `#2` is no part of the name: one that passed is flaky.

use std::borrow::Cow;
use std::collections::BTreeSet;

use regatta_model::case::CaseStatus;
use serde::Deserialize;

use super::collect::Collector;
use super::json;

#[derive(Deserialize)]
struct Event<'t> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'t, str>>,
    #[serde(borrow, rename = "event")]
    what: Option<Cow<'t, str>>,
    #[serde(borrow)]
    name: Option<Cow<'t, str>>,
    #[serde(borrow)]
    stdout: Option<Cow<'t, str>>,
    #[serde(borrow)]
    message: Option<Cow<'t, str>>,
    #[serde(borrow)]
    reason: Option<Cow<'t, str>>,
    test_count: Option<u64>,
    /// Seconds.
    #[serde(default, deserialize_with = "json::number")]
    exec_time: Option<f64>,
}

#[derive(Default)]
struct Libtest {
    /// The binary that Cargo named last.
    binary: Option<String>,
    /// The suite that is open: its binary, and how many tests it has to tell of yet.
    suite: Option<(Option<String>, u64)>,
    /// Keys of tests that have begun and not ended.
    open: BTreeSet<String>,
    /// It is nextest: its suites say nothing.
    nextest: bool,
    /// What is not whole.
    short: Vec<String>,
}

/// Reads one file.
pub(super) fn read(path: &str, text: &str, collector: &mut Collector) {
    let mut libtest = Libtest::default();
    let read = json::events(
        path,
        text,
        collector,
        &mut libtest,
        Libtest::event,
        Libtest::plain,
    );
    let ended = read.and_then(|()| libtest.end_suite(false, collector));
    for short in &libtest.short {
        collector.problem(&format!("{path}: {short}"));
    }
    if let Err(problem) = ended {
        collector.problem(&format!("{path}: {problem}"));
    }
}

impl Libtest {
    fn event(&mut self, collector: &mut Collector, event: Event<'_>) -> Result<(), String> {
        let kind = event.kind.as_deref().unwrap_or_default();
        let what = event.what.as_deref().unwrap_or_default();
        match (kind, what) {
            ("suite", "started") => {
                if !self.nextest {
                    self.end_suite(false, collector)?;
                }
                self.suite = Some((self.binary.clone(), event.test_count.unwrap_or(0)));
                return Ok(());
            }
            ("suite", "ok" | "failed") => return self.end_suite(true, collector),
            ("test" | "bench", _) => {}
            _ => return Ok(()),
        }
        let (key, again) = self.key(event.name.as_deref().unwrap_or_default());
        let status = match what {
            "started" => {
                self.open.insert(key);
                return Ok(());
            }
            "ok" if again => CaseStatus::Flaky,
            "ok" => CaseStatus::Passed,
            "ignored" => CaseStatus::Skipped,
            "failed" => CaseStatus::Failed,
            // A benchmark has no event; a test that takes long has one, and goes on.
            "" if kind == "bench" => CaseStatus::Passed,
            _ => return Ok(()),
        };
        self.open.remove(&key);
        if let Some((_, left)) = &mut self.suite {
            *left = left.saturating_sub(1);
        }
        let summary = event.reason.or(event.message).unwrap_or_default();
        let details = event.stdout.unwrap_or_default();
        let details = told(&details);
        let summary = if status == CaseStatus::Flaky {
            Cow::Borrowed("it failed, and passed when it was tried again")
        } else {
            summary
        };
        collector.lasts(event.exec_time);
        collector.case(&key, status, &summary, details)
    }

    /// The key of a test, and whether it is a further try.
    fn key(&mut self, name: &str) -> (String, bool) {
        let Some((binary, test)) = name.split_once('$') else {
            return match &self.binary {
                Some(binary) => (format!("{binary}::{name}"), false),
                None => (name.to_owned(), false),
            };
        };
        self.nextest = true;
        let tries = test.rsplit_once('#').filter(|(_, number)| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        let (test, again) = tries.map_or((test, false), |(test, number)| (test, number != "1"));
        let binary = match binary.split_once("::") {
            Some((package, binary)) if package.replace('-', "_") == binary.replace('-', "_") => {
                package
            }
            _ => binary,
        };
        (format!("{binary}::{test}"), again)
    }

    /// A suite ended, by its own word or because another began or the file ended.
    fn end_suite(&mut self, said: bool, collector: &mut Collector) -> Result<(), String> {
        let Some((binary, left)) = self.suite.take() else {
            return self.end_tests(collector);
        };
        if self.nextest && said {
            return Ok(());
        }
        if !said || left > 0 {
            let binary = binary.as_deref().unwrap_or("a test binary");
            self.short.push(format!(
                "{binary} ended, or the output was cut off, before {left} of its tests had ended"
            ));
        }
        self.end_tests(collector)
    }

    fn end_tests(&mut self, collector: &mut Collector) -> Result<(), String> {
        for key in std::mem::take(&mut self.open) {
            collector.case(&key, CaseStatus::Error, "it did not end", "")?;
        }
        Ok(())
    }

    /// Cargo's own lines name the binary.
    fn plain(&mut self, line: &str) {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("Doc-tests ") {
            self.binary = Some(format!("{name} (doc)"));
        } else if let Some(rest) = line.strip_prefix("Running ") {
            let program = rest.rsplit_once('(').map(|(_, path)| path);
            let program = program.and_then(|path| path.trim_end_matches(')').rsplit('/').next());
            let name = program.map(|file| match file.rsplit_once('-') {
                Some((name, hash)) if hash.len() == 16 => name,
                _ => file,
            });
            self.binary = name.map(str::to_owned);
        }
    }
}

/// The output of a test from its panic on, without the stack.
fn told(output: &str) -> &str {
    let from = output
        .find("thread '")
        .or_else(|| output.find("\nError: "))
        .unwrap_or(0);
    let output = output.get(from..).unwrap_or(output);
    let to = output.find("\nstack backtrace:").unwrap_or(output.len());
    output.get(..to).unwrap_or(output)
}
