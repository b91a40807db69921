//! How long a million cases of twenty versions take to be judged and reported, and how much memory. May not: count the time in
//! which results are made up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use regatta_model::case::{CaseException, CaseStatus};
use regatta_model::matrix::Matrix;
use regatta_model::run::{Progress, RunState, RunSummary};
use regatta_model::{Blame, CellNumber, Digest, Outcome};
use regatta_sim::chance::Chance;
use regatta_verdict::earlier::Earlier;
use regatta_verdict::judge::{self, AttemptFacts, Baseline, Line, Policy};
use regatta_verdict::report::{AttemptRow, Builder, CaseNames};

use crate::table::{Cell, Table};
use crate::{Args, happens};

const PARTS: u64 = 1000;
const VERSIONS: u64 = 20;
const CASES: u32 = 1000;

/// Of a hundred parts, those in which some version broke a case.
const BROKEN: f64 = 0.1;

/// Flaky cases of each part, and how often they fail.
const FLAKY: [(u32, f64); 3] = [(7, 0.01), (77, 0.05), (777, 0.2)];

/// The case that breaks.
const VICTIM: u32 = 500;

/// One part: its names, its truth, and the attempts of its versions.
struct Part {
    names: Arc<CaseNames>,
    /// The version that breaks the victim.
    breaks: Option<u64>,
    rows: BTreeMap<CellNumber, Vec<AttemptRow>>,
}

impl Part {
    fn new(number: u64, chance: &mut Chance) -> Self {
        let names: Vec<String> = (0..CASES)
            .map(|case| format!("part_{number:04}::test_{case:04}"))
            .collect();
        let digest = Digest::of_canonical(&names);
        let breaks = happens(chance, BROKEN).then(|| chance.within(1, VERSIONS - 1));
        Self {
            names: Arc::new(CaseNames {
                digest: Some(digest),
                names,
            }),
            breaks,
            rows: BTreeMap::new(),
        }
    }

    /// One more attempt of a cell.
    fn attempt(&mut self, cell: CellNumber, chance: &mut Chance) {
        let mut failing: BTreeSet<u32> = FLAKY
            .iter()
            .filter(|(_, rate)| happens(chance, *rate))
            .map(|(case, _)| *case)
            .collect();
        if self
            .breaks
            .is_some_and(|version| cell % VERSIONS >= version)
        {
            failing.insert(VICTIM);
        }
        let passed = failing.is_empty();
        let exception = |index| CaseException {
            index,
            status: CaseStatus::Failed,
            message: format!("AssertionError: expected 1, got {index}"),
        };
        let rows = self.rows.entry(cell).or_default();
        let ordinal = u32::try_from(rows.len()).unwrap_or(0) + 1;
        rows.push(AttemptRow {
            cell,
            ordinal,
            sequence: 0,
            host: "boat".parse().expect("a name"),
            outcome: Outcome::Exited {
                exit_code: i32::from(!passed),
            },
            blame: (!passed).then_some(Blame::Test),
            passed,
            detail: String::new(),
            wall_ms: 1000,
            cpu_us: 900_000,
            peak_memory_bytes: 1 << 20,
            metrics: std::collections::BTreeMap::new(),
            identity: None,
            changed: Vec::new(),
            names: Some(Arc::clone(&self.names)),
            exceptions: failing.into_iter().map(exception).collect(),
            problems: Vec::new(),
        });
    }

    fn facts(&self, cell: CellNumber) -> Vec<AttemptFacts> {
        let rows = self.rows.get(&cell).into_iter().flatten();
        let name = |index: u32| self.names.names.get(usize::try_from(index).ok()?).cloned();
        rows.map(|row| AttemptFacts {
            ordinal: row.ordinal,
            host: row.host.clone(),
            outcome: row.outcome,
            blame: row.blame,
            passed: row.passed,
            failing: row
                .exceptions
                .iter()
                .filter_map(|exception| name(exception.index))
                .collect(),
            flaky: false,
        })
        .collect()
    }
}

/// The versions before one.
fn line<'a>(
    matrix: &Matrix,
    facts: &'a BTreeMap<CellNumber, Vec<AttemptFacts>>,
    baseline: CellNumber,
) -> Line<'a> {
    let before = |cell: &CellNumber| matrix.cells().baseline(*cell);
    let cells = std::iter::successors(before(&baseline), before);
    Line {
        facts: cells
            .filter_map(|cell| Some(facts.get(&cell)?.as_slice()))
            .collect(),
        passed: 0,
    }
}

pub fn table(args: &Args) -> Table {
    let parts: Vec<String> = (0..PARTS).map(|part| format!("p{part}")).collect();
    let versions: Vec<String> = (0..VERSIONS).map(|version| format!("v{version}")).collect();
    let text = format!(
        "name: scale\nimage: i\naxes:\n  part: [{}]\n  version: {{values: [{}], ordered: true}}\ntest: {{run: x}}\n\
         compare: {{axis: version, baseline: previous}}\n",
        parts.join(", "),
        versions.join(", ")
    );
    let matrix = Matrix::parse(&text, "scale.yaml").expect("the matrix is right");
    let policy = Policy::of(&matrix);
    let run = RunSummary {
        run: "scale".parse().expect("an id"),
        name: "scale".into(),
        state: RunState::Finished,
        submitted_ms: 0,
        ended_ms: Some(1000),
        deep: false,
        bisecting: false,
        progress: Progress::default(),
    };
    let mut chance = Chance::new(args.seed);
    let mut builder = Builder::new(&matrix, &run, 0);
    let (mut judging, mut reporting) = (Duration::ZERO, Duration::ZERO);
    let mut attempts = 0_u64;
    // The parts in which a version broke something, and which version.
    let mut truth: BTreeMap<u64, u64> = BTreeMap::new();
    let nothing = Earlier::default();
    for number in 0..PARTS {
        let mut part = Part::new(number, &mut chance);
        truth.extend(part.breaks.map(|version| (number, version)));
        let cells = number * VERSIONS..(number + 1) * VERSIONS;
        let mut wanted: BTreeSet<CellNumber> = cells.clone().collect();
        while !wanted.is_empty() {
            for cell in std::mem::take(&mut wanted) {
                part.attempt(cell, &mut chance);
            }
            let facts: BTreeMap<CellNumber, Vec<AttemptFacts>> =
                cells.clone().map(|cell| (cell, part.facts(cell))).collect();
            let begun = Instant::now();
            for (cell, own) in &facts {
                let before = matrix.cells().baseline(*cell);
                let baseline = before.map(|cell| Baseline {
                    facts: facts.get(&cell).map_or(&[][..], Vec::as_slice),
                    settled: true,
                    spent: false,
                    earlier: &nothing,
                    line: line(&matrix, &facts, cell),
                });
                let decision = judge::next(own, baseline, &policy);
                wanted.extend((decision.again > 0).then_some(*cell));
                wanted.extend(before.filter(|_| decision.again_baseline > 0));
            }
            judging += begun.elapsed();
        }
        for rows in std::mem::take(&mut part.rows).into_values() {
            attempts += u64::try_from(rows.len()).unwrap_or(0);
            let begun = Instant::now();
            for row in rows {
                builder.add(row);
            }
            reporting += begun.elapsed();
        }
    }
    let begun = Instant::now();
    let report = builder.finish();
    reporting += begun.elapsed();
    let regressed = report.cells.iter().filter_map(|cell| {
        let comparison = cell.comparison.as_ref()?;
        Some((cell.cell, comparison.regressed.len()))
    });
    let regressed: Vec<(u64, usize)> = regressed.filter(|(_, cases)| *cases > 0).collect();
    let cases: usize = regressed.iter().map(|(_, cases)| cases).sum();
    let right = regressed
        .iter()
        .filter(|(cell, _)| truth.get(&(cell / VERSIONS)) == Some(&(cell % VERSIONS)))
        .count();
    let mut table = Table::new(
        "scale",
        format!(
            "{PARTS} parts of {CASES} cases in {VERSIONS} versions, all of them in one run; in one of ten parts some version broke a case, and \
             in each there are cases that fail in 1, 5 and 20 of 100 attempts. On one processor, without the time in which results are \
             made up."
        ),
        &[
            "attempts",
            "judging, s",
            "report, s",
            "most memory, MB",
            "questions",
            "broken",
            "found",
            "blamed falsely",
        ],
    );
    table.rows.push(vec![
        Cell::text(attempts),
        Cell::text(format!("{:.2}", judging.as_secs_f64())),
        Cell::text(format!("{:.2}", reporting.as_secs_f64())),
        Cell::text(most_memory().map_or_else(|| "unknown".into(), |mb| mb.to_string())),
        Cell::text(report.counts.flaky + report.counts.failed),
        Cell::text(truth.len()),
        Cell::text(right),
        Cell::text(cases - right),
    ]);
    table
}

/// The most memory that this process ever had, in MB, as Linux tells it.
fn most_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1000)
}
