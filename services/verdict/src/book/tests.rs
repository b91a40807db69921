//! Runs whose attempts end in any order, of which some are lost, revoked or no longer trusted: each comes to an end, with a
//! verdict for every cell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regatta_model::matrix::Matrix;
use regatta_model::next::{Again, Next};
use regatta_model::{Blame, CellNumber, HostName, Outcome};

use super::{Book, TakenUp};
use crate::judge::{AttemptFacts, Policy};
use crate::report::AttemptRow;

mod stories;

/// Worlds that are tried of each matrix.
const WORLDS: u64 = 300;

/// Attempts that a cell may have at most: those that it is asked for, those of both neighbours, and what hosts lose.
const ATTEMPTS_MOST: usize = 60;

const CHAIN: &str = "image: i\naxes: {v: {values: [1, 2, 3, 4, 5, 6, 7, 8], ordered: true}}\ntest: {run: x}\n\
                     compare: {axis: v, baseline: previous}\n";
const STAR: &str = "image: i\naxes: {v: [1, 2, 3, 4, 5, 6, 7, 8]}\ntest: {run: x}\n\
                    compare: {axis: v, baseline: 3}\nrepeat: 2\nrerun: {at-most: 4}\n";

const THRIFTY_CHAIN: &str = "image: i\naxes: {v: {values: [1, 2, 3, 4, 5, 6, 7, 8], ordered: true}}\n\
                             test: {run: x}\ncompare: {axis: v, baseline: previous}\nrerun: {in-all: 7}\n";
const THRIFTY_STAR: &str = "image: i\naxes: {v: [1, 2, 3, 4, 5, 6, 7, 8]}\ntest: {run: x}\n\
                            compare: {axis: v, baseline: 3}\nrepeat: 2\nrerun: {in-all: 7}\n";

const MEASURED: &str = "image: i\naxes: {v: {values: [1, 2, 3], ordered: true}, w: [1, 2]}\ntest: {run: x}\n\
                        compare: {axis: v, baseline: 1}\nmetrics: {compare: true}\n";

/// Chance from a seed (xorshift).
struct Lot(u64);

impl Lot {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How a version is.
#[derive(Clone, Copy, Debug, Default)]
struct Truth {
    /// Percent of attempts in which the case `a`, `b`, or the whole fails.
    fails: [u64; 3],
    unbuildable: bool,
}

struct World {
    run: Book,
    lot: Lot,
    truth: Vec<Truth>,
    /// What is recorded.
    rows: BTreeMap<CellNumber, Vec<AttemptFacts>>,
    /// Attempts that are wanted or run, and those that a settled cell no longer needs.
    wanted: BTreeMap<CellNumber, u32>,
    revoked: BTreeMap<CellNumber, u32>,
    settled: BTreeSet<CellNumber>,
    /// Attempts beyond those that the matrix asks for that decide something and were not revoked.
    reruns: u32,
    distrusted: Option<HostName>,
}

impl World {
    fn new(text: &str, seed: u64) -> Self {
        let matrix = Arc::new(Matrix::parse(text, "matrix.yaml").unwrap());
        let cells = matrix.cells().count();
        let repeat = matrix.repeat();
        let mut lot = Lot(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let rates = [0, 0, 0, 5, 20, 50, 100];
        let truth = (0..cells)
            .map(|_| {
                let mut rate = || rates[usize::try_from(lot.below(7)).unwrap()];
                let fails = [rate(), rate(), rate() / 2];
                Truth {
                    fails,
                    unbuildable: lot.happens(10),
                }
            })
            .collect();
        Self {
            run: Book::new(Arc::clone(&matrix), Policy::of(&matrix)),
            lot,
            truth,
            rows: BTreeMap::new(),
            wanted: (0..cells).map(|cell| (cell, repeat)).collect(),
            revoked: BTreeMap::new(),
            settled: BTreeSet::new(),
            reruns: 0,
            distrusted: None,
        }
    }

    fn recorded(&self, cells: &[CellNumber]) -> Vec<(CellNumber, AttemptFacts)> {
        let rows = cells
            .iter()
            .filter_map(|cell| Some((*cell, self.rows.get(cell)?)));
        rows.flat_map(|(cell, rows)| rows.iter().map(move |row| (cell, row.clone())))
            .collect()
    }

    /// What the scheduler makes of an answer.
    fn heed(&mut self, cell: CellNumber, next: Next) {
        let own = next.settled.then_some(cell);
        for cell in own.into_iter().chain(next.settles) {
            self.settled.insert(cell);
            for _ in 0..self.wanted.remove(&cell).unwrap_or(0) {
                // Those that no host has begun go without a word.
                if self.lot.happens(30) {
                    *self.revoked.entry(cell).or_default() += 1;
                }
            }
        }
        for again in next.again.into_iter().filter(|again| again.attempts > 0) {
            self.settled.remove(&again.cell);
            let wanted = self.wanted.entry(again.cell).or_default();
            *wanted = again.attempts.max(*wanted);
        }
    }

    /// Ends one attempt, any of them. False where there is none.
    fn end_one(&mut self) -> bool {
        self.wanted.retain(|_, count| *count > 0);
        self.revoked.retain(|_, count| *count > 0);
        let all = self.wanted.len() + self.revoked.len();
        if all == 0 {
            return false;
        }
        let place = usize::try_from(self.lot.below(u64::try_from(all).unwrap())).unwrap();
        let mut counts = self.wanted.iter_mut().chain(self.revoked.iter_mut());
        let (cell, count) = counts.nth(place).unwrap();
        *count -= 1;
        let cell = *cell;
        let revoked = place >= all - self.revoked.len();
        let row = self.row(cell, revoked);
        let decisive = self.rows.get(&cell).into_iter().flatten();
        let decisive = decisive.filter(|row| row.is_decisive()).count();
        let repeat = usize::try_from(self.run.matrix.repeat()).unwrap();
        let rerun = decisive >= repeat && row.is_decisive() && !revoked;
        self.reruns += u32::from(rerun);
        let missing = self.run.missing(cell, row.passed);
        let rows = self.recorded(&missing);
        self.run.bring(rows);
        let wall_ms = 1000 + self.lot.below(200);
        self.run.measured(measured(cell, &row, wall_ms));
        let (next, _) = self.run.record(cell, row.clone());
        self.rows.entry(cell).or_default().push(row);
        self.heed(cell, next);
        if self.lot.happens(30) {
            self.run.forget_passed();
        }
        true
    }

    fn row(&mut self, cell: CellNumber, revoked: bool) -> AttemptFacts {
        let truth = self.truth[usize::try_from(cell).unwrap()];
        let host: HostName = format!("h{}", self.lot.below(4)).parse().unwrap();
        let fails = truth.fails.map(|rate| self.lot.happens(rate));
        let (mut outcome, mut blame) = (Outcome::Exited { exit_code: 0 }, None);
        let mut failing = Vec::new();
        if truth.unbuildable {
            (outcome, blame) = (Outcome::SetupFailed, Some(Blame::Test));
        } else if fails.iter().any(|fails| *fails) {
            (outcome, blame) = (Outcome::Exited { exit_code: 1 }, Some(Blame::Test));
            let cases = ["a", "b"].into_iter().zip(fails);
            let failed = cases.filter(|(_, fails)| *fails);
            failing.extend(failed.map(|(name, _)| name.to_owned()));
        }
        if self.distrusted.as_ref() == Some(&host) {
            blame = Some(Blame::Host);
        }
        if self.lot.happens(5) {
            (outcome, blame) = (Outcome::HostLost, Some(Blame::Host));
        }
        if revoked && self.lot.happens(70) {
            (outcome, blame) = (Outcome::Cancelled, None);
        }
        let ordinal = self.rows.get(&cell).map_or(0, Vec::len) + 1;
        AttemptFacts {
            ordinal: u32::try_from(ordinal).unwrap(),
            host,
            outcome,
            blame,
            passed: outcome == (Outcome::Exited { exit_code: 0 }),
            failing,
            flaky: false,
        }
    }

    /// One host is not trusted any more.
    fn distrust(&mut self) {
        let host: HostName = format!("h{}", self.lot.below(4)).parse().unwrap();
        let theirs = |row: &AttemptFacts| {
            let blamed = matches!(row.blame, Some(Blame::Host | Blame::Platform));
            row.host == host && !blamed && row.outcome != Outcome::Cancelled
        };
        let cells = self.rows.iter().filter(|(_, rows)| rows.iter().any(theirs));
        let cells: Vec<CellNumber> = cells.map(|(cell, _)| *cell).collect();
        let decided = self.run.decided_by(&host, cells);
        let missing = decided
            .iter()
            .flat_map(|cell| self.run.missing(*cell, false));
        let missing: Vec<CellNumber> = missing.collect();
        let rows = self.recorded(&missing);
        self.run.bring(rows);
        let next = self.run.distrust(&host, &decided);
        self.heed(0, next);
        for row in self.rows.values_mut().flatten() {
            if row.host == host && row.outcome != Outcome::Cancelled {
                row.blame = Some(Blame::Host);
            }
        }
        self.distrusted = Some(host);
    }

    fn play(mut self, seed: u64) {
        let cells = self.run.matrix.cells().count();
        let distrust_at = seed.is_multiple_of(2).then(|| 5 + self.lot.below(40));
        let mut ended = 0;
        while self.end_one() {
            ended += 1;
            if distrust_at == Some(ended) {
                self.distrust();
            }
            for (cell, rows) in &self.rows {
                assert!(
                    rows.len() <= ATTEMPTS_MOST,
                    "seed {seed}: cell {cell} never comes to an end: {:?}",
                    self.truth
                );
            }
        }
        let without: Vec<CellNumber> = (0..cells)
            .filter(|cell| !self.settled.contains(cell))
            .collect();
        assert!(
            without.is_empty(),
            "seed {seed}: cells {without:?} wait for nothing, of {:?}",
            self.truth
        );
        assert_eq!(self.run.settled(), cells, "seed {seed}");
        // What a host is no longer trusted with was in vain; and of cells that wait for the first attempts of others, what was
        // asked for before is run when they are used up.
        let most = self.run.policy.in_all.filter(|_| distrust_at.is_none());
        let most = most.map_or(u32::MAX, |most| most + 4);
        assert!(self.reruns <= most, "seed {seed}: {} reruns", self.reruns);
    }
}

#[test]
fn whatever_order_attempts_end_in_every_cell_comes_to_a_verdict() {
    for text in [CHAIN, STAR, MEASURED, THRIFTY_CHAIN, THRIFTY_STAR] {
        for seed in 1..=WORLDS {
            World::new(text, seed).play(seed);
        }
    }
}

/// What an attempt measured.
fn measured(cell: CellNumber, facts: &AttemptFacts, wall_ms: u64) -> AttemptRow {
    AttemptRow {
        cell,
        ordinal: facts.ordinal,
        sequence: 0,
        host: facts.host.clone(),
        outcome: facts.outcome,
        blame: facts.blame,
        passed: facts.passed,
        detail: String::new(),
        wall_ms,
        cpu_us: 0,
        peak_memory_bytes: 0,
        metrics: BTreeMap::new(),
        identity: None,
        changed: Vec::new(),
        names: None,
        exceptions: Vec::new(),
        problems: Vec::new(),
    }
}

/// The same number of attempts of two versions; of the second, one in three is faster and two are slower.
fn measure(book: &mut Book, rows: &mut BTreeMap<CellNumber, Vec<AttemptRow>>, rounds: u64) -> Next {
    let mut next = Next::default();
    for round in 0..rounds {
        for cell in [0, 1] {
            let rows = rows.entry(cell).or_default();
            let facts = passing(u32::try_from(rows.len()).unwrap() + 1);
            let wall_ms = match (cell, round % 3) {
                (0, _) => 1000,
                (_, 0) => 950,
                _ => 1300,
            };
            let row = AttemptRow {
                sequence: 2 * u64::from(facts.ordinal) + cell,
                ..measured(cell, &facts, wall_ms)
            };
            rows.push(row.clone());
            book.measured(row);
            (next, _) = book.record(cell, facts);
            book.forget_passed();
        }
    }
    next
}

fn passing(ordinal: u32) -> AttemptFacts {
    AttemptFacts {
        ordinal,
        host: "h1".parse().unwrap(),
        outcome: Outcome::Exited { exit_code: 0 },
        blame: None,
        passed: true,
        failing: Vec::new(),
        flaky: false,
    }
}

#[test]
fn pairs_that_leave_it_open_are_run_as_often_again_once_also_after_a_restart() {
    let text = "image: i\naxes: {v: [1, 2]}\ntest: {run: x}\ncompare: {axis: v, baseline: 1}\n\
                metrics: {compare: true}\n";
    let matrix = Arc::new(Matrix::parse(text, "matrix.yaml").unwrap());
    let book = || Book::new(Arc::clone(&matrix), Policy::of(&matrix));
    let mut run = book();
    let mut rows = BTreeMap::new();
    let repeat = u64::from(matrix.repeat());
    let asked = |next: &[Again]| {
        let asked = next.iter().map(|again| (again.cell, again.attempts));
        asked.collect::<BTreeMap<_, _>>()
    };
    let next = measure(&mut run, &mut rows, repeat);
    let wanted = asked(&next.again);
    let again = u32::try_from(repeat).unwrap();
    assert_eq!(wanted, [(0, again), (1, again)].into());
    assert!(!next.settled && next.again.iter().all(|again| again.avoid.is_empty()));
    assert_eq!(run.settled(), 0);

    measure(&mut run, &mut rows, 2);
    let mut other = book();
    let mut taken_up = TakenUp::default();
    for (cell, rows) in &rows {
        rows.iter().cloned().for_each(|row| other.measured(row));
        let facts = rows.iter().map(|row| passing(row.ordinal)).collect();
        other.take_up(*cell, facts, &mut taken_up);
    }
    for cell in rows.keys() {
        other.judge_taken_up(*cell, false, &mut taken_up);
    }
    other.taken_up(&mut taken_up);
    assert_eq!(
        asked(&taken_up.again),
        [(0, again - 2), (1, again - 2)].into()
    );
    assert!(taken_up.settled.is_empty());

    let next = measure(&mut run, &mut rows, repeat - 2);
    assert!(next.settled && next.again.is_empty(), "{next:?}");
    assert_eq!(run.settled(), 2);
}
