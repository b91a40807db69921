//! How often the first bad one of a hundred values is found, and after how many runs. May not: compute what is believed.

use regatta_sim::chance::Chance;
use regatta_verdict::bisect::{Answer, Bisection, Policy, Step};

use crate::table::{Cell, Table};
use crate::{Args, happens, percent};

const VALUES: usize = 100;

/// Runs of each value in the better of the plain searches.
const NINE: u32 = 9;

/// How often values fail before the culprit, and from it on. No culprit is where both are the same.
#[derive(Clone, Copy)]
struct Case {
    before: f64,
    after: f64,
}

#[derive(Default)]
struct Tally {
    right: u64,
    wrong: u64,
    runs: Vec<f64>,
    rounds: Vec<f64>,
}

impl Tally {
    fn row(self, method: &str, case: Case, trials: u64) -> Vec<Cell> {
        let always = case.before + (1.0 - case.before) >= case.after && case.after >= 1.0;
        let breaks = match () {
            () if case.after <= case.before => "nothing".to_owned(),
            () if always => "always".to_owned(),
            () => percent(case.after),
        };
        vec![
            Cell::text(method),
            Cell::text(percent(case.before)),
            Cell::text(breaks),
            Cell::Share(self.right, trials),
            Cell::Share(self.wrong, trials),
            Cell::mean(&self.runs),
            Cell::mean(&self.rounds),
        ]
    }
}

fn fails(chance: &mut Chance, case: Case, culprit: usize, value: usize) -> bool {
    happens(
        chance,
        if value < culprit {
            case.before
        } else {
            case.after
        },
    )
}

/// Halving, each value by the majority of so many runs.
fn halve(chance: &mut Chance, case: Case, culprit: usize, runs: u32, tally: &mut Tally) {
    let (mut good, mut bad, mut all, mut rounds) = (0, VALUES - 1, 0, 0);
    while bad - good > 1 {
        let middle = usize::midpoint(good, bad);
        let failed = (0..runs)
            .filter(|_| fails(chance, case, culprit, middle))
            .count() as u32;
        all += runs;
        rounds += 1;
        if failed * 2 > runs {
            bad = middle;
        } else {
            good = middle;
        }
    }
    // It knows no other answer than a culprit.
    tally.count(bad == culprit, true, all, rounds);
}

impl Tally {
    fn count(&mut self, right: bool, named: bool, runs: u32, rounds: u32) {
        self.right += u64::from(right);
        self.wrong += u64::from(named && !right);
        self.runs.push(f64::from(runs));
        self.rounds.push(f64::from(rounds));
    }
}

fn search(
    chance: &mut Chance,
    case: Case,
    culprit: usize,
    (width, ends): (usize, u32),
    tally: &mut Tally,
) {
    let policy = Policy {
        ends,
        ..Policy::default()
    };
    let mut bisection = Bisection::new(VALUES, policy);
    let mut rounds = 0;
    loop {
        match bisection.step(width) {
            Step::Probe(probes) => {
                let before = bisection.probes();
                for probe in probes {
                    let failed = fails(chance, case, culprit, probe);
                    bisection.record(probe, failed).expect("a probe is a value");
                }
                // Those of the two ends come before.
                rounds += u32::from(bisection.probes() > before);
            }
            Step::Done(answer) => {
                let nothing = case.after <= case.before;
                let (right, named) = match answer {
                    Answer::Found { bad, .. } => (!nothing && bad == culprit, true),
                    Answer::NoCulprit { .. } => (nothing, true),
                    Answer::Range { .. } | Answer::Untestable => (false, false),
                };
                tally.count(right, named, bisection.probes(), rounds);
                return;
            }
        }
    }
}

pub fn table(args: &Args) -> Table {
    let trials = (args.trials / 10).max(1);
    let mut table = Table::new(
        "bisect",
        format!(
            "The first bad one of {VALUES} values; {trials} searches a row, the culprit anywhere. Runs and rounds without the ten (or three) of each end. \
             A search that is neither right nor wrong answers with a range."
        ),
        &[
            "method",
            "flake rate",
            "break fails",
            "right",
            "wrong",
            "runs",
            "rounds",
        ],
    );
    let mut cases = Vec::new();
    for before in [0.05, 0.1, 0.2] {
        cases.push(Case { before, after: 1.0 });
    }
    cases.push(Case {
        before: 0.05,
        after: 0.525,
    });
    for before in [0.0, 0.05, 0.2, 0.5] {
        cases.push(Case {
            before,
            after: before,
        });
    }
    for case in cases {
        let methods = [
            "halving",
            "majority of nine",
            "W = 1",
            "W = 8",
            "W = 2, ends 3",
        ];
        let nothing = case.after <= case.before;
        for method in methods.iter().skip(if nothing { 2 } else { 0 }) {
            let mut chance = Chance::new(args.seed);
            let mut tally = Tally::default();
            for _ in 0..trials {
                let culprit = if nothing {
                    0
                } else {
                    1 + chance.index(VALUES - 1)
                };
                match *method {
                    "halving" => halve(&mut chance, case, culprit, 1, &mut tally),
                    "majority of nine" => halve(&mut chance, case, culprit, NINE, &mut tally),
                    "W = 1" => search(&mut chance, case, culprit, (1, 10), &mut tally),
                    "W = 2, ends 3" => search(&mut chance, case, culprit, (2, 3), &mut tally),
                    _ => search(&mut chance, case, culprit, (8, 10), &mut tally),
                }
            }
            table.rows.push(tally.row(method, case, trials));
        }
    }
    table
}
