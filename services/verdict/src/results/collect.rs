//! Cases as they are found, held to the limits. May not: know a format.

use std::collections::BTreeMap;
use std::time::Duration;

use regatta_model::Digest;
use regatta_model::case::{CaseException, CaseStatus, MESSAGE_MOST, MESSAGES_MOST, Results};
use regatta_model::lasted;

use super::Limits;
use crate::excerpt;

/// A case, as it was told.
struct Case {
    status: CaseStatus,
    message: String,
    lasted: u8,
}

/// The cases of one attempt, while its files are read.
pub(super) struct Collector {
    pub(super) limits: Limits,
    cases: BTreeMap<String, Case>,
    /// How long the case took that comes next.
    lasted: u8,
    /// How often each key was met that was met more than once.
    repeated: BTreeMap<String, u32>,
    bytes: usize,
    names_bytes: usize,
    messages: usize,
    failures: u64,
    problems: Vec<String>,
    untold: usize,
}

impl Collector {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            cases: BTreeMap::new(),
            lasted: lasted::UNTOLD,
            repeated: BTreeMap::new(),
            bytes: 0,
            names_bytes: 0,
            messages: 0,
            failures: 0,
            problems: Vec::new(),
            untold: 0,
        }
    }

    /// Counts a file's bytes; false where it is too many.
    pub(super) fn take_bytes(&mut self, bytes: usize) -> bool {
        let sum = self.bytes.saturating_add(bytes);
        let fits = sum <= self.limits.bytes;
        if fits {
            self.bytes = sum;
        }
        fits
    }

    /// Something could not be read. A sentence that begins with the file and the place.
    pub(super) fn problem(&mut self, sentence: &str) {
        if self.problems.len() < self.limits.problems {
            self.problems
                .push(excerpt::cut(sentence, MESSAGE_MOST).to_owned());
        } else {
            self.untold += 1;
        }
    }

    /// How long the case took that is taken next, in seconds; what is no duration is not told.
    pub(super) fn lasts(&mut self, seconds: Option<f64>) {
        let told = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let ms = told.map(|told| u64::try_from(told.as_millis()).unwrap_or(u64::MAX));
        self.lasted = ms.map_or(lasted::UNTOLD, lasted::of_ms);
    }

    /// Takes a case; what limit it is beyond, where it is beyond one.
    pub(super) fn case(
        &mut self,
        key: &str,
        status: CaseStatus,
        summary: &str,
        details: &str,
    ) -> Result<(), String> {
        let lasted = std::mem::replace(&mut self.lasted, lasted::UNTOLD);
        if self.cases.len() >= self.limits.cases {
            return Err(format!(
                "more than {} cases: split the test into cells",
                self.limits.cases
            ));
        }
        let key = self.unique(shorten(key, self.limits.name_bytes));
        self.names_bytes = self.names_bytes.saturating_add(key.len());
        if self.names_bytes > self.limits.names_bytes {
            let most = self.limits.names_bytes;
            return Err(format!(
                "the names of all cases have more than {most} bytes: split the test into cells"
            ));
        }
        let wanted = status != CaseStatus::Passed && !(summary.is_empty() && details.is_empty());
        let message = if wanted && self.messages < MESSAGES_MOST {
            self.messages += 1;
            excerpt::message(summary, details, MESSAGE_MOST)
        } else {
            String::new()
        };
        self.failures += u64::from(status.is_failure());
        let case = Case {
            status,
            message,
            lasted,
        };
        self.cases.insert(key, case);
        Ok(())
    }

    /// How many cases counted as failed until now.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// A key that no case has: the second gets `#2`.
    fn unique(&mut self, key: String) -> String {
        if !self.cases.contains_key(&key) {
            return key;
        }
        let count = self.repeated.entry(key.clone()).or_insert(1);
        loop {
            *count = count.saturating_add(1);
            let numbered = format!("{key}#{count}");
            if !self.cases.contains_key(&numbered) || *count == u32::MAX {
                return numbered;
            }
        }
    }

    pub(super) fn finish(mut self, found: bool) -> Results {
        if self.untold > 0 {
            self.problems
                .push(format!("and {} more problems", self.untold));
        }
        let mut results = Results {
            found,
            problems: self.problems,
            ..Results::default()
        };
        results.names.reserve(self.cases.len());
        let told = self
            .cases
            .values()
            .any(|case| case.lasted != lasted::UNTOLD);
        for (name, case) in self.cases {
            let Case {
                status, message, ..
            } = case;
            if told {
                results.durations.push(case.lasted);
            }
            if status != CaseStatus::Passed {
                let index = u32::try_from(results.names.len()).unwrap_or(u32::MAX);
                results.exceptions.push(CaseException {
                    index,
                    status,
                    message,
                });
            }
            results.names.push(name);
        }
        results
    }
}

/// A key on one line, and not longer than `most` bytes.
fn shorten(key: &str, most: usize) -> String {
    let key: String = key
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let key = key.trim();
    if key.is_empty() {
        return "(unnamed)".into();
    }
    if key.len() <= most {
        return key.to_owned();
    }
    let hex = Digest::of(key.as_bytes()).hex();
    let mark = format!("...{}", excerpt::cut(&hex, 12));
    format!(
        "{}{mark}",
        excerpt::cut(key, most.saturating_sub(mark.len()))
    )
}
