//! Finished runs of one matrix beside each other: how each cell, and each case in it, went over time. May not: look runs up,
//! or compare versions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regatta_model::case::{CaseException, CaseStatus};
use regatta_model::history::{
    CellHistory, FlakyCase, FlakyCases, History, Mark, MarkCounts, PastRun,
};
use regatta_model::{Blame, Outcome};

use crate::judge::is_decisive;
use crate::report::CaseNames;
use crate::sequential::Record;

/// Most attempts and exceptions, together, that are kept: less than 100 MB.
pub const HEARD_MOST: usize = 500_000;

/// Most cells that are kept; those of the newest run with the lowest numbers.
pub const CELLS_MOST: usize = 10_000;

/// Most cases that are ranked.
pub const FLAKY_MOST: usize = 100;

/// An attempt, as far as it says something here.
struct Heard {
    /// Which shard of the cell it ran.
    shard: u32,
    passed: bool,
    names: Option<Arc<CaseNames>>,
    /// Cases that did not simply pass, by index.
    exceptions: Vec<(u32, CaseStatus)>,
}

/// An ended attempt as it is recorded.
#[derive(Clone, Debug)]
pub struct PastAttempt<'a> {
    /// Which shard of its cell it ran; 0 where cells are not split.
    pub shard: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Whose doing that was.
    pub blame: Option<Blame>,
    /// Whether it counts as passed.
    pub passed: bool,
    /// Names of its cases; none where it left no results.
    pub names: Option<Arc<CaseNames>>,
    /// Those that did not simply pass.
    pub exceptions: &'a [CaseException],
}

/// What is asked of an attempt.
#[derive(Clone, Copy)]
enum Of<'a> {
    /// Whether the cell passed.
    Cell,
    /// Whether it failed without a case that tells why.
    Whole,
    Case(&'a str),
}

impl Heard {
    fn is_whole(&self) -> bool {
        !self.passed
            && !self
                .exceptions
                .iter()
                .any(|(_, status)| status.is_failure())
    }

    /// Whether it says passed, and whether it says failed.
    fn says(&self, of: Of<'_>) -> (bool, bool) {
        match of {
            Of::Cell => {
                let flaky = |(_, status): &(u32, CaseStatus)| *status == CaseStatus::Flaky;
                (
                    self.passed,
                    !self.passed || self.exceptions.iter().any(flaky),
                )
            }
            Of::Whole => (!self.is_whole(), self.is_whole()),
            // Its cases were cut off, or had no part in the failure: as in a verdict, it says nothing of them.
            Of::Case(_) if self.is_whole() => (false, false),
            Of::Case(name) => match self.status(name) {
                None | Some(CaseStatus::Skipped) => (false, false),
                Some(CaseStatus::Passed) => (true, false),
                Some(CaseStatus::Flaky) => (true, true),
                Some(CaseStatus::Failed | CaseStatus::Error | CaseStatus::Known) => (false, true),
            },
        }
    }

    fn status(&self, name: &str) -> Option<CaseStatus> {
        let names = &self.names.as_ref()?.names;
        let index = names
            .binary_search_by(|known| known.as_str().cmp(name))
            .ok()?;
        let exception = self
            .exceptions
            .iter()
            .find(|(at, _)| usize::try_from(*at) == Ok(index));
        Some(exception.map_or(CaseStatus::Passed, |(_, status)| *status))
    }

    /// Names of its cases that failed at least once.
    fn failing(&self) -> impl Iterator<Item = &str> {
        let names = self.names.as_ref().map(|names| &names.names);
        self.exceptions
            .iter()
            .filter(|(_, status)| {
                status.is_failure() || matches!(status, CaseStatus::Flaky | CaseStatus::Known)
            })
            .filter_map(move |(at, _)| Some(names?.get(usize::try_from(*at).ok()?)?.as_str()))
    }
}

struct Cell {
    axes: BTreeMap<String, String>,
    /// What each run says of it, by the run's place among those that were asked.
    runs: BTreeMap<usize, Vec<Heard>>,
}

impl Cell {
    /// One mark a run, the oldest first, of `runs` runs that were asked, the newest first.
    fn marks(&self, runs: usize, of: Of<'_>) -> Vec<Mark> {
        let mark = |at: usize| {
            let mut shards: BTreeMap<u32, (bool, bool)> = BTreeMap::new();
            for heard in self.runs.get(&at).into_iter().flatten() {
                let (passes, fails) = heard.says(of);
                let (passed, failed) = shards.entry(heard.shard).or_default();
                *passed |= passes;
                *failed |= fails;
            }
            // What fails for good in one shard fails, whatever the others say.
            let any = |wanted| shards.values().any(|said| *said == wanted);
            if any((false, true)) {
                Mark::Failed
            } else if any((true, true)) {
                Mark::Flaky
            } else if any((true, false)) {
                Mark::Passed
            } else {
                Mark::Out
            }
        };
        (0..runs).rev().map(mark).collect()
    }
}

const fn fails(mark: Mark) -> bool {
    matches!(mark, Mark::Failed | Mark::Flaky)
}

/// Marks, counted.
pub fn count(marks: &[Mark]) -> MarkCounts {
    let mut counts = MarkCounts::default();
    let mut before = None;
    for mark in marks.iter().copied().filter(|mark| *mark != Mark::Out) {
        counts.runs += 1;
        counts.failed += u32::from(fails(mark));
        counts.flaky += u32::from(mark == Mark::Flaky);
        let changed = before.is_some_and(|before| before != fails(mark));
        counts.transitions += u32::from(changed);
        before = Some(fails(mark));
    }
    rated(&counts)
}

/// With rate and interval.
fn rated(counts: &MarkCounts) -> MarkCounts {
    let record = Record {
        failed: counts.failed,
        runs: counts.runs,
    };
    let (low, high) = record.interval();
    MarkCounts {
        rate: share(counts.failed, counts.runs),
        low,
        high,
        ..counts.clone()
    }
}

fn share(part: u32, all: u32) -> f64 {
    f64::from(part) / f64::from(all.max(1))
}

/// What runs said so far. They come the newest first.
#[derive(Default)]
pub struct Past {
    runs: Vec<PastRun>,
    cells: Vec<Cell>,
    index: BTreeMap<BTreeMap<String, String>, usize>,
    heard: usize,
    cut: bool,
}

impl Past {
    /// A run begins; the attempts that follow are its.
    pub fn begin(&mut self, run: PastRun) {
        self.runs.push(run);
    }

    /// Takes an attempt of the run that began last, in the cell with these axis values; one that decides nothing is passed
    /// over. False: there is no room for it (limits [`HEARD_MOST`] and [`CELLS_MOST`]), nor for later cells of this run.
    pub fn add(&mut self, axes: BTreeMap<String, String>, attempt: PastAttempt<'_>) -> bool {
        if !is_decisive(attempt.outcome, attempt.blame) {
            return true;
        }
        let many = self.cells.len() >= CELLS_MOST && !self.index.contains_key(&axes);
        if many || self.is_full() {
            self.cut = true;
            return false;
        }
        self.heard = self.heard.saturating_add(1 + attempt.exceptions.len());
        let next = self.cells.len();
        let at = *self.index.entry(axes).or_insert_with_key(|axes| {
            self.cells.push(Cell {
                axes: axes.clone(),
                runs: BTreeMap::new(),
            });
            next
        });
        let run = self.runs.len().saturating_sub(1);
        if let Some(cell) = self.cells.get_mut(at) {
            let exceptions = attempt.exceptions.iter();
            let heard = cell.runs.entry(run);
            // Most have one attempt; room for four would be most of what there is.
            heard.or_insert_with(|| Vec::with_capacity(1)).push(Heard {
                shard: attempt.shard,
                passed: attempt.passed,
                names: attempt.names,
                exceptions: exceptions.map(|e| (e.index, e.status)).collect(),
            });
        }
        true
    }

    /// Whether nothing more is taken, of whatever run.
    pub const fn is_full(&self) -> bool {
        self.heard >= HEARD_MOST
    }

    /// Somebody stopped reading: not all that there is came.
    pub const fn cut(&mut self) {
        self.cut = true;
    }

    fn heard(&self) -> impl Iterator<Item = &Heard> {
        let runs = self.cells.iter().flat_map(|cell| cell.runs.values());
        runs.flatten()
    }

    /// Names of all cases, each once, in order.
    pub fn cases(&self) -> BTreeSet<&str> {
        let mut sets: BTreeMap<*const CaseNames, &CaseNames> = BTreeMap::new();
        for names in self.heard().filter_map(|heard| heard.names.as_ref()) {
            sets.insert(Arc::as_ptr(names), names);
        }
        let names = sets.values().flat_map(|set| set.names.iter());
        names.map(String::as_str).collect()
    }

    fn oldest_first(&self) -> Vec<PastRun> {
        self.runs.iter().rev().cloned().collect()
    }

    /// How a case went in each cell that ever ran it, or (none) how each cell did.
    pub fn history(&self, matrix: &str, case: Option<&str>) -> History {
        let runs = self.oldest_first();
        let of = case.map_or(Of::Cell, Of::Case);
        let cells = self.cells.iter().filter_map(|cell| {
            let marks = cell.marks(self.runs.len(), of);
            let counts = count(&marks);
            (counts.runs > 0).then(|| CellHistory {
                axes: cell.axes.clone(),
                since: since(&marks, &runs),
                counts,
                marks,
            })
        });
        History {
            version: 1,
            matrix: matrix.to_owned(),
            case: case.map(str::to_owned),
            cells: cells.collect(),
            runs,
            whole: !self.cut,
        }
    }

    /// Cases that both passed and failed in a cell, those with most transitions of each run first.
    pub fn flaky(&self, matrix: &str) -> FlakyCases {
        let runs = self.oldest_first();
        let mut cases: BTreeMap<Option<&str>, Ranked> = BTreeMap::new();
        for cell in &self.cells {
            let all = || cell.runs.values().flatten();
            let mut failing: BTreeSet<Option<&str>> =
                all().flat_map(Heard::failing).map(Some).collect();
            if all().any(Heard::is_whole) {
                failing.insert(None);
            }
            for case in failing {
                let marks = cell.marks(runs.len(), case.map_or(Of::Whole, Of::Case));
                cases.entry(case).or_default().add(&marks);
            }
        }
        cases.retain(|_, ranked| ranked.counts.transitions > 0 || ranked.counts.flaky > 0);
        let found = cases.into_iter().map(|(case, ranked)| FlakyCase {
            case: case.map(str::to_owned),
            cells: ranked.cells,
            score: share(ranked.counts.transitions, ranked.counts.runs),
            counts: rated(&ranked.counts),
            last: ranked
                .last
                .and_then(|at| runs.get(at))
                .map_or_else(String::new, |run| run.run.clone()),
        });
        let mut cases: Vec<FlakyCase> = found.collect();
        // The sort is stable: equals stay in the order of their names.
        cases.sort_by(|a, b| {
            let by_score = b.score.total_cmp(&a.score);
            by_score.then_with(|| b.counts.flaky.cmp(&a.counts.flaky))
        });
        let more = cases.len().saturating_sub(FLAKY_MOST);
        cases.truncate(FLAKY_MOST);
        FlakyCases {
            version: 1,
            matrix: matrix.to_owned(),
            runs,
            whole: !self.cut,
            cases,
            more: u64::try_from(more).unwrap_or(u64::MAX),
        }
    }
}

/// A case's marks in several cells.
#[derive(Default)]
struct Ranked {
    cells: u32,
    counts: MarkCounts,
    /// Where among the marks it failed last.
    last: Option<usize>,
}

impl Ranked {
    fn add(&mut self, marks: &[Mark]) {
        let counts = count(marks);
        self.cells += 1;
        self.counts.runs += counts.runs;
        self.counts.failed += counts.failed;
        self.counts.flaky += counts.flaky;
        self.counts.transitions += counts.transitions;
        self.last = self.last.max(marks.iter().rposition(|mark| fails(*mark)));
    }
}

/// The first of the failures at the end.
fn since(marks: &[Mark], runs: &[PastRun]) -> Option<String> {
    let told = marks
        .iter()
        .zip(runs)
        .filter(|(mark, _)| **mark != Mark::Out);
    let failing = told.rev().take_while(|(mark, _)| fails(**mark));
    failing.last().map(|(_, run)| run.run.clone())
}
