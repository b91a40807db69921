//! The attempts of one cell, merged case by case. May not: compare it with another cell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regatta_model::case::CaseStatus;
use regatta_model::report::{AttemptReport, CaseCounts, Verdict};
use regatta_model::{Blame, Outcome};

use super::AttemptRow;
use super::case::{CaseId, Cases, SetId};
use super::measures::Sample;
use super::shards::Part;
use crate::judge::{self, Evidence};
use crate::tally::Tally;

/// The number that no set has.
pub(super) const NO_SET: SetId = SetId::MAX;

/// A cell that has ended attempts.
pub(super) struct Cell {
    pub(super) verdict: Verdict,
    /// Every decisive attempt failed, and none of them by a case.
    pub(super) broken: bool,
    /// Why nothing could be tested, where that is so: an outcome and what was told of it.
    pub(super) untested: Option<(Outcome, String)>,
    /// All its cases.
    pub(super) set: Option<SetId>,
    /// Cases that failed and never passed, sorted by name.
    pub(super) failing: Vec<CaseId>,
    /// Cases that both passed and failed.
    pub(super) flaky: Vec<CaseId>,
    /// Cases that never ran.
    pub(super) skipped: Vec<CaseId>,
    /// Cases that failed as the matrix knows them to, sorted by name.
    pub(super) known: Vec<CaseId>,
    /// Messages of failing cases.
    pub(super) messages: BTreeMap<CaseId, Arc<str>>,
    /// How the first failing attempt ended, and what is told of it as a whole.
    pub(super) end: Option<Outcome>,
    pub(super) detail: String,
    /// Decisive attempts that passed, and that failed.
    pub(super) passes: u32,
    pub(super) failures: u32,
    /// The decisive attempts, counted as comparisons want them, by shard.
    pub(super) parts: Vec<Part>,
    pub(super) attempts: Vec<AttemptReport>,
    /// What its passing attempts measured, where metrics are compared.
    pub(super) samples: Vec<Sample>,
}

/// What is kept of a cell that simply passed, in a large run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain {
    /// Its set of cases and the skipped ones.
    pub(super) kind: u32,
    /// Attempts that passed, of each shard.
    pub(super) passes: u32,
}

/// How often a case ended how.
#[derive(Clone, Copy, Default)]
struct Ends {
    failed: u32,
    passed: u32,
    skipped: u32,
    known: u32,
    flaky: bool,
}

/// So many parts of a second as seconds.
pub(super) fn seconds(count: u64, parts: u32) -> f64 {
    std::time::Duration::from_nanos(count.saturating_mul(1_000_000_000 / u64::from(parts.max(1))))
        .as_secs_f64()
}

/// Whether host or platform are to blame for how an attempt ended.
pub(super) fn is_fault(row: &AttemptRow) -> bool {
    let lost = row.outcome == Outcome::HostLost;
    lost || matches!(row.blame, Some(Blame::Host | Blame::Platform))
}

impl Cell {
    /// Merges attempts. Those that are no evidence are listed, and count for nothing.
    pub(super) fn merge(rows: Vec<AttemptRow>, repeat: u32, cases: &mut Cases) -> Self {
        let decisive: Vec<&AttemptRow> = rows
            .iter()
            .filter(|row| judge::is_decisive(row.outcome, row.blame))
            .collect();
        let Merged {
            set,
            tallies,
            messages,
        } = merge_cases(&decisive, cases);
        let pick = |wanted: fn(&Ends) -> bool| {
            let mut ids: Vec<CaseId> = tallies
                .iter()
                .filter(|(_, tally)| wanted(tally))
                .map(|(id, _)| *id)
                .collect();
            ids.sort_by(|a, b| cases.name(*a).cmp(cases.name(*b)));
            ids
        };
        let failing = pick(|t| t.failed > 0 && t.passed == 0 && !t.flaky);
        let flaky = pick(|t| t.flaky || (t.failed > 0 && t.passed > 0));
        let known = pick(|t| t.known > 0);
        let skipped =
            pick(|t| t.skipped > 0 && t.failed == 0 && t.passed == 0 && t.known == 0 && !t.flaky);
        let count = |passed| {
            let number = decisive.iter().filter(|row| row.passed == passed).count();
            u32::try_from(number).unwrap_or(u32::MAX)
        };
        let (passes, failures) = (count(true), count(false));
        let by_case = |row: &&&AttemptRow| row.exceptions.iter().any(|e| e.status.is_failure());
        let by_cases = decisive.iter().filter(by_case).count();
        let untested = untested(&rows, &decisive);
        let evidence = Evidence {
            passed: passes,
            failed: failures,
            scattered: failing.is_empty() && by_cases == decisive.len(),
            flaky: !flaky.is_empty(),
        };
        let verdict = match judge::verdict(&evidence) {
            // Too few attempts ended so far.
            Verdict::Passed if passes < repeat => Verdict::Unresolved,
            verdict => verdict,
        };
        let mut tally = Tally::default();
        for row in &decisive {
            let failing = row.exceptions.iter().filter(|e| e.status.is_failure());
            let ids = row.names.as_ref().map(|names| cases.set_of(names).1);
            let id = |index: u32| ids.as_ref()?.get(usize::try_from(index).ok()?).copied();
            tally.add(repeat, row.passed, failing.filter_map(|e| id(e.index)));
        }
        let first = decisive.iter().find(|row| !row.passed).or(decisive.first());
        let detail = first.map_or_else(String::new, |row| row.detail.clone());
        Self {
            verdict,
            broken: failures > 0 && passes == 0 && by_cases == 0,
            untested,
            set,
            failing,
            flaky,
            skipped,
            known,
            messages,
            end: first.map(|row| row.outcome),
            detail,
            passes,
            failures,
            parts: vec![Part {
                set: set.unwrap_or(NO_SET),
                tally,
            }],
            attempts: rows.into_iter().map(attempt_report).collect(),
            samples: Vec::new(),
        }
    }

    /// Whether all of its attempts passed, as many as the matrix asks for at the first.
    pub(super) fn simply_passed(&self) -> bool {
        let all = usize::try_from(self.passes).is_ok_and(|passes| passes == self.attempts.len());
        self.verdict == Verdict::Passed && self.failures == 0 && all
    }

    /// What is kept of it where it simply passed: at the first attempt for each that the matrix asks for.
    pub(super) fn plain(&self, cases: &mut Cases) -> Option<Plain> {
        let passes = self.parts.first()?.tally.attempts();
        // Where only some shards ran again, there is more to keep.
        let alike = |part: &Part| part.tally.attempts() == passes;
        let simply = self.simply_passed() && self.known.is_empty();
        if !simply || !self.parts.iter().all(alike) {
            return None;
        }
        let set = self.set.unwrap_or(NO_SET);
        Some(Plain {
            kind: cases.kind(set, &self.skipped),
            passes,
        })
    }

    pub(super) fn counts(&self, cases: &Cases) -> CaseCounts {
        let length = |ids: &[CaseId]| u64::try_from(ids.len()).unwrap_or(u64::MAX);
        let all = self.set.map_or(0, |set| length(&cases.in_order(set)));
        let (failed, skipped) = (length(&self.failing), length(&self.skipped));
        let flaky = length(&self.flaky);
        // What failed once though it was known to fail otherwise is counted as that.
        let known = self
            .known
            .iter()
            .filter(|case| !cases.has(&self.failing, **case) && !cases.has(&self.flaky, **case));
        let known = u64::try_from(known.count()).unwrap_or(u64::MAX);
        let others = [failed, skipped, flaky, known];
        CaseCounts {
            passed: others.into_iter().fold(all, u64::saturating_sub),
            failed,
            skipped,
            flaky,
            known,
        }
    }
}

/// The cases of decisive attempts, merged.
struct Merged {
    /// All of them.
    set: Option<SetId>,
    /// How often each ended how, for those that did not pass everywhere.
    tallies: BTreeMap<CaseId, Ends>,
    messages: BTreeMap<CaseId, Arc<str>>,
}

fn merge_cases(decisive: &[&AttemptRow], cases: &mut Cases) -> Merged {
    let mut sets: Vec<(SetId, Arc<[CaseId]>)> = Vec::new();
    let mut tallies: BTreeMap<CaseId, Ends> = BTreeMap::new();
    let mut messages = BTreeMap::new();
    let mut exceptional: Vec<(SetId, BTreeSet<CaseId>)> = Vec::new();
    for row in decisive {
        let Some(names) = &row.names else { continue };
        let (set, ids) = cases.set_of(names);
        let mut seen = BTreeSet::new();
        for exception in &row.exceptions {
            let index = usize::try_from(exception.index).unwrap_or(usize::MAX);
            let Some(id) = ids.get(index).copied() else {
                continue;
            };
            seen.insert(id);
            let tally = tallies.entry(id).or_default();
            match exception.status {
                CaseStatus::Failed | CaseStatus::Error => tally.failed += 1,
                CaseStatus::Skipped => tally.skipped += 1,
                CaseStatus::Flaky => tally.flaky = true,
                CaseStatus::Known => tally.known += 1,
                CaseStatus::Passed => tally.passed += 1,
            }
            if exception.status != CaseStatus::Skipped
                && let Some(message) = cases.message(&exception.message)
            {
                messages.entry(id).or_insert(message);
            }
        }
        exceptional.push((set, seen));
        sets.push((set, ids));
    }
    // A case that was exceptional in one attempt may have passed in another.
    for (id, tally) in &mut tallies {
        let unexceptional = exceptional.iter().filter(|(_, seen)| !seen.contains(id));
        let passed = unexceptional
            .filter(|(set, _)| cases.contains(*set, *id))
            .count();
        tally.passed += u32::try_from(passed).unwrap_or(u32::MAX);
    }
    Merged {
        set: union(&sets, cases),
        tallies,
        messages,
    }
}

/// All cases of several sets as one, sorted by name.
pub(super) fn union(sets: &[(SetId, Arc<[CaseId]>)], cases: &mut Cases) -> Option<SetId> {
    let (first, _) = sets.first()?;
    if sets.iter().all(|(set, _)| set == first) {
        return Some(*first);
    }
    let mut ids: Vec<CaseId> = sets
        .iter()
        .flat_map(|(_, ids)| ids.iter().copied())
        .collect();
    ids.sort_by(|a, b| cases.name(*a).cmp(cases.name(*b)));
    ids.dedup();
    Some(cases.set(ids.into()))
}

/// Why nothing could be tested: every attempt that says anything failed before its test began.
fn untested(rows: &[AttemptRow], decisive: &[&AttemptRow]) -> Option<(Outcome, String)> {
    let before =
        |row: &AttemptRow| matches!(row.outcome, Outcome::SetupFailed | Outcome::ImageFailed);
    if decisive.iter().any(|row| !before(row)) {
        return None;
    }
    let last = rows.iter().rev().find(|row| before(row))?;
    Some((last.outcome, last.detail.clone()))
}

fn attempt_report(row: AttemptRow) -> AttemptReport {
    let mut parts = Vec::from([row.detail.clone()]);
    let untold = row
        .problems
        .iter()
        .filter(|problem| !row.detail.contains(problem.as_str()));
    parts.extend(untold.cloned());
    parts.extend(first_failure(&row));
    parts.retain(|part| !part.is_empty());
    AttemptReport {
        attempt: row.ordinal,
        shard: None,
        host: row.host.to_string(),
        outcome: row.outcome.name().to_owned(),
        exit_code: row.outcome.exit_code(),
        signal: row.outcome.signal(),
        blame: row.blame.map(|blame| blame.name().to_owned()),
        passed: row.passed,
        whole: !row.passed && !row.exceptions.iter().any(|e| e.status.is_failure()),
        detail: parts.join("; "),
        seconds: seconds(row.wall_ms, 1000),
        cpu_seconds: seconds(row.cpu_us, 1_000_000),
        peak_memory_bytes: row.peak_memory_bytes,
        metrics: row.metrics,
        identity: row
            .identity
            .map(|identity| identity.to_string())
            .unwrap_or_default(),
        changed: row.changed,
    }
}

/// The first failing case of an attempt, with the first line of its message.
fn first_failure(row: &AttemptRow) -> Option<String> {
    let exception = row
        .exceptions
        .iter()
        .find(|exception| exception.status.is_failure())?;
    let index = usize::try_from(exception.index).ok()?;
    let name = row.names.as_ref()?.names.get(index)?;
    let line = exception.message.lines().next().unwrap_or("it failed");
    Some(format!("{name}: {line}"))
}
