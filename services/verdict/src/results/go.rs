//! The events of `go test -json`. May not: take a time, or the order of packages, for part of a name.
//!
//! The key is `PACKAGE::TEST`, as gotestsum's JUnit has it; subtests are named as Go names them, with slashes. A test fails with
//! its subtests, and is a case of its own: what is read is what Go says. A package that failed with no failed test (it could not be
//! built, or broke outside of all tests) is a case of the package's name that ended with an error, and so is a test that did not end.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use regatta_model::case::CaseStatus;
use serde::Deserialize;

use super::collect::Collector;
use super::json;
use crate::excerpt;

/// Most bytes of the output of one test, package or build that are kept.
const OUTPUT_MOST: usize = 8 << 10;

/// Most bytes of all kept output at once.
const OUTPUTS_MOST: usize = 32 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event<'t> {
    #[serde(borrow)]
    action: Option<Cow<'t, str>>,
    #[serde(borrow)]
    package: Option<Cow<'t, str>>,
    #[serde(borrow)]
    import_path: Option<Cow<'t, str>>,
    #[serde(borrow)]
    test: Option<Cow<'t, str>>,
    #[serde(borrow)]
    output: Option<Cow<'t, str>>,
    #[serde(borrow)]
    failed_build: Option<Cow<'t, str>>,
    /// Seconds.
    #[serde(default, deserialize_with = "json::number")]
    elapsed: Option<f64>,
}

/// A package that has begun and not ended.
#[derive(Default)]
struct Package {
    output: String,
    /// Tests that have begun and not ended, and what they wrote.
    open: BTreeMap<String, String>,
    /// Tests that failed.
    failed: BTreeSet<String>,
}

#[derive(Default)]
struct Go {
    packages: BTreeMap<String, Package>,
    /// What builds wrote, by import path.
    builds: BTreeMap<String, String>,
    /// Packages whose failure is told already.
    told: BTreeSet<String>,
    kept: usize,
}

/// Reads one file.
pub(super) fn read(path: &str, text: &str, collector: &mut Collector) {
    let mut go = Go::default();
    let read = json::events(path, text, collector, &mut go, Go::event, |_, _| {});
    let read = read.and_then(|()| go.plain(text, collector));
    if let Err(problem) = read.and_then(|()| go.finish(path, collector)) {
        collector.problem(&format!("{path}: {problem}"));
    }
}

impl Go {
    fn event(&mut self, collector: &mut Collector, event: Event<'_>) -> Result<(), String> {
        let action = event.action.as_deref().unwrap_or_default();
        let output = event.output.as_deref().unwrap_or_default();
        if action == "build-output" {
            let import = event.import_path.unwrap_or_default().into_owned();
            let build = self.builds.entry(import).or_default();
            // Lines with `#` say which package it is.
            if !output.starts_with('#') {
                keep(&mut self.kept, build, output);
            }
            return Ok(());
        }
        let Some(package) = event.package else {
            return Ok(());
        };
        let Some(test) = event.test.filter(|test| !test.is_empty()) else {
            return match action {
                "output" => {
                    let open = self.packages.entry(package.into_owned()).or_default();
                    keep(&mut self.kept, &mut open.output, output);
                    Ok(())
                }
                "start" => {
                    self.packages.entry(package.into_owned()).or_default();
                    Ok(())
                }
                "pass" | "fail" | "skip" => {
                    let build = event.failed_build.as_deref();
                    self.end_package(&package, action == "fail", build, collector)
                }
                _ => Ok(()),
            };
        };
        let open = self.packages.entry(package.to_string()).or_default();
        let status = match action {
            "run" => {
                open.open.insert(test.into_owned(), String::new());
                return Ok(());
            }
            "output" => {
                let kept = open.open.entry(test.into_owned()).or_default();
                if !is_frame(output) {
                    keep(&mut self.kept, kept, output);
                }
                return Ok(());
            }
            "pass" | "bench" => CaseStatus::Passed,
            "skip" => CaseStatus::Skipped,
            "fail" => CaseStatus::Failed,
            _ => return Ok(()),
        };
        let output = open.open.remove(test.as_ref()).unwrap_or_default();
        self.kept = self.kept.saturating_sub(output.len());
        let mut summary = String::new();
        if status == CaseStatus::Failed {
            let within = format!("{test}/");
            if output.trim().is_empty() {
                let mut below = open.failed.range(within.clone()..);
                if let Some(first) = below.next().filter(|name| name.starts_with(&within)) {
                    summary = format!("its subtest {first} failed");
                }
            }
            open.failed.insert(test.to_string());
        }
        collector.lasts(event.elapsed);
        collector.case(&format!("{package}::{test}"), status, &summary, &output)
    }

    /// A package ended: what is open in it did not end by itself.
    fn end_package(
        &mut self,
        name: &str,
        failed: bool,
        build: Option<&str>,
        collector: &mut Collector,
    ) -> Result<(), String> {
        let package = self.packages.remove(name).unwrap_or_default();
        self.kept = self.kept.saturating_sub(package.output.len());
        let explained = !package.failed.is_empty() || !package.open.is_empty();
        for (test, output) in package.open {
            self.kept = self.kept.saturating_sub(output.len());
            let summary = if output.trim().is_empty() {
                "it did not end before its package did"
            } else {
                ""
            };
            let key = format!("{name}::{test}");
            collector.case(&key, CaseStatus::Error, summary, &output)?;
        }
        if failed && !explained && self.told.insert(name.to_owned()) {
            let built = build.and_then(|import| self.builds.get(import));
            let (summary, details) = match built {
                Some(output) => ("build failed", output),
                None => ("", &package.output),
            };
            collector.case(name, CaseStatus::Error, summary, details)?;
        }
        Ok(())
    }

    /// Before Go 1.20 a package that could not be built is told in a line that is no event.
    fn plain(&mut self, text: &str, collector: &mut Collector) -> Result<(), String> {
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("FAIL\t") else {
                continue;
            };
            let Some((name, why)) = rest.split_once(" [") else {
                continue;
            };
            let why = why.trim_end_matches(']');
            if why.ends_with("failed") && self.told.insert(name.to_owned()) {
                self.packages.remove(name);
                collector.case(name, CaseStatus::Error, why, "")?;
            }
        }
        Ok(())
    }

    /// The file ended: what is open was cut off.
    fn finish(self, path: &str, collector: &mut Collector) -> Result<(), String> {
        for (name, package) in self.packages {
            collector.problem(&format!(
                "{path}: the package {name} did not end: the output was cut off"
            ));
            for (test, output) in package.open {
                let key = format!("{name}::{test}");
                collector.case(&key, CaseStatus::Error, "it did not end", &output)?;
            }
        }
        Ok(())
    }
}

/// Adds to what is kept, within the limits.
fn keep(kept: &mut usize, text: &mut String, more: &str) {
    let room = OUTPUT_MOST
        .saturating_sub(text.len())
        .min(OUTPUTS_MOST.saturating_sub(*kept));
    let more = excerpt::cut(more, room);
    *kept = kept.saturating_add(more.len());
    text.push_str(more);
}

/// Whether a line only says that a test began, waited or ended.
fn is_frame(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("=== ") || line.starts_with("--- ")
}
