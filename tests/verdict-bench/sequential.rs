//! Whether a version is blamed for what it broke, and for that alone: one failure, then the reruns that the server would ask
//! for, or that simpler rules take. May not: weigh the evidence; outside the rule that leaves something out on purpose.

use regatta_sim::chance::Chance;
use regatta_verdict::sequential::{Answer, Depth, Record, Rule, Sides, Told, score};

use crate::table::{Cell, Table};
use crate::{Args, happens, percent};

/// Earlier runs of the baseline, beside the one of this run.
const EARLIER: u32 = 20;

/// Other numbers of them.
const EARLIER_OTHERS: [u32; 3] = [0, 10, 50];

/// What the test on two versions is run by, usually.
pub const USUAL: Rule = Rule {
    error_rate: 0.01,
    reruns_most: 10,
    depth: Depth::Usual,
};

/// For idle fleets.
pub const DEEP: Rule = Rule {
    error_rate: 0.01,
    reruns_most: 40,
    depth: Depth::Deep,
};

/// How often a case fails in each version.
#[derive(Clone, Copy)]
pub struct World {
    pub flake: f64,
    /// In what share of the runs that would pass the candidate fails; 0 where nothing is broken.
    pub broken: f64,
    /// How often both fail from now on for another reason.
    pub outage: f64,
}

impl World {
    pub const fn new(flake: f64, broken: f64) -> Self {
        let outage = 0.0;
        Self {
            flake,
            broken,
            outage,
        }
    }

    pub fn baseline_fails(&self, chance: &mut Chance) -> bool {
        happens(chance, self.flake) || happens(chance, self.outage)
    }

    pub fn candidate_fails(&self, chance: &mut Chance) -> bool {
        happens(chance, self.broken) || self.baseline_fails(chance)
    }
}

fn runs(count: u32, mut fails: impl FnMut() -> bool) -> Record {
    let failed = (0..count).filter(|_| fails()).count() as u32;
    Record {
        failed,
        runs: count,
    }
}

/// What is known when a case fails in the candidate and passes in the baseline.
pub fn triggered(chance: &mut Chance, world: &World) -> Sides {
    triggered_after(EARLIER, chance, world)
}

/// The same with so many earlier runs of the baseline.
fn triggered_after(earlier: u32, chance: &mut Chance, world: &World) -> Sides {
    let first = |failed| Told {
        first: Record { failed, runs: 1 },
        ..Told::default()
    };
    Sides {
        candidate: first(1),
        baseline: first(0),
        earlier: runs(earlier, || happens(chance, world.flake)),
        ..Sides::default()
    }
}

/// Runs what is asked for.
fn rerun(chance: &mut Chance, world: &World, sides: &mut Sides, candidate: u32, controls: u32) {
    let failed = runs(candidate, || world.candidate_fails(chance));
    sides.candidate.reruns = sides.candidate.reruns.and(failed);
    sides.reruns += candidate;
    let failed = runs(controls, || world.baseline_fails(chance));
    sides.baseline.reruns = sides.baseline.reruns.and(failed);
    sides.controls += controls;
}

/// Reruns until there is an answer.
pub fn settle(chance: &mut Chance, world: &World, sides: &mut Sides, rule: &Rule) -> Answer {
    loop {
        match sides.answer(rule) {
            Answer::Ask {
                candidate,
                controls,
            } => {
                rerun(chance, world, sides, candidate, controls);
            }
            answer => return answer,
        }
    }
}

/// The same by a rule that takes no notice when controls fail: history counts all the same, and four controls are enough.
fn settle_trusting(chance: &mut Chance, world: &World, sides: &mut Sides) -> Answer {
    let enough = 99.0_f64.ln();
    loop {
        let baseline = sides.earlier.and(sides.baseline.all());
        let score = score(baseline, sides.candidate.all(), Depth::Usual, false);
        match (sides.reruns, sides.controls) {
            _ if score <= -enough => return Answer::Unbroken,
            (_, 4..) if score >= enough => return Answer::Regressed,
            (10.., 10..) => return Answer::Unresolved,
            (candidate, controls) => {
                let again = sides.candidate.all().failed > 1;
                let controls = if again { 2.min(10 - controls) } else { 0 };
                let candidate = 2.min(10 - candidate);
                if candidate + controls == 0 {
                    return Answer::Unresolved;
                }
                rerun(chance, world, sides, candidate, controls);
            }
        }
    }
}

#[derive(Default)]
struct Tally {
    regressed: u64,
    unbroken: u64,
    unresolved: u64,
    reruns: Vec<f64>,
}

impl Tally {
    fn add(&mut self, answer: Answer, sides: &Sides) {
        match answer {
            Answer::Regressed => self.regressed += 1,
            Answer::Unbroken => self.unbroken += 1,
            _ => self.unresolved += 1,
        }
        self.reruns.push(f64::from(sides.reruns + sides.controls));
    }
}

const FLAKES: [f64; 4] = [0.001, 0.01, 0.05, 0.2];

pub fn table(args: &Args) -> Table {
    let mut table = Table::new(
        "sequential",
        format!(
            "The test on two versions, from one failure of the candidate on, with {} earlier passes or failures of the baseline by chance; {} trials \
             a row. Reruns: of both versions together.",
            EARLIER + 1,
            args.trials
        ),
        &[
            "rule",
            "flake rate",
            "broken",
            "regressed",
            "not regressed",
            "unresolved",
            "reruns",
        ],
    );
    for (name, rule) in [("usual", USUAL), ("deep", DEEP)] {
        for flake in FLAKES {
            for broken in [0.0, 1.0, 0.5, 0.2] {
                let world = World::new(flake, broken);
                let mut chance = Chance::new(args.seed);
                let mut tally = Tally::default();
                for _ in 0..args.trials {
                    let mut sides = triggered(&mut chance, &world);
                    let answer = settle(&mut chance, &world, &mut sides, &rule);
                    tally.add(answer, &sides);
                }
                let share = |hits| Cell::Share(hits, args.trials);
                let nothing = broken <= 0.0;
                table.rows.push(vec![
                    Cell::text(name),
                    Cell::text(percent(flake)),
                    Cell::text(if nothing {
                        "nothing".to_owned()
                    } else {
                        percent(broken)
                    }),
                    share(tally.regressed),
                    share(tally.unbroken),
                    share(tally.unresolved),
                    Cell::mean(&tally.reruns),
                ]);
            }
        }
    }
    table
}

pub fn outages(args: &Args) -> Table {
    let mut table = Table::new(
        "outages",
        format!(
            "Nothing is broken, but from the failure on both versions fail for another reason; {} trials a row, a flake rate of 0.1%.",
            args.trials
        ),
        &[
            "rule",
            "outage fails",
            "regressed",
            "of them without a failed control",
            "unresolved",
            "regressed without the rule on controls",
            "reruns",
        ],
    );
    let shares = [1.0, 0.8, 0.6, 0.3, 0.1];
    let rows = [("usual", USUAL), ("deep", DEEP)]
        .into_iter()
        .flat_map(|rule| shares.map(|share| (rule, share)));
    for ((name, rule), outage) in rows {
        let world = World {
            outage,
            ..World::new(0.001, 0.0)
        };
        let (mut with, mut without, mut by_luck) = (Tally::default(), Tally::default(), 0);
        let mut chance = Chance::new(args.seed);
        for _ in 0..args.trials {
            let mut sides = triggered(&mut chance, &world);
            let mut trusting = sides;
            let answer = settle(&mut chance, &world, &mut sides, &rule);
            with.add(answer, &sides);
            let clean = sides.baseline.reruns.failed == 0;
            by_luck += u64::from(answer == Answer::Regressed && clean);
            let answer = settle_trusting(&mut chance, &world, &mut trusting);
            without.add(answer, &trusting);
        }
        let share = |hits| Cell::Share(hits, args.trials);
        table.rows.push(vec![
            Cell::text(name),
            Cell::text(percent(outage)),
            share(with.regressed),
            share(by_luck),
            share(with.unresolved),
            if rule.depth == Depth::Usual {
                share(without.regressed)
            } else {
                Cell::text("")
            },
            Cell::mean(&with.reruns),
        ]);
    }
    table
}

pub fn histories(args: &Args) -> Table {
    let mut table = Table::new(
        "histories",
        format!(
            "The usual test with other numbers of earlier runs of the baseline; {} trials a number.",
            args.trials
        ),
        &[
            "earlier runs",
            "flake rate",
            "false regressions",
            "reruns",
            "broken 50%: not regressed",
            "unresolved",
            "reruns",
        ],
    );
    for earlier in EARLIER_OTHERS {
        for flake in FLAKES {
            let mut chance = Chance::new(args.seed);
            let mut tally = |broken| {
                let world = World::new(flake, broken);
                let mut tally = Tally::default();
                for _ in 0..args.trials {
                    let mut sides = triggered_after(earlier, &mut chance, &world);
                    let answer = settle(&mut chance, &world, &mut sides, &USUAL);
                    tally.add(answer, &sides);
                }
                tally
            };
            let share = |hits| Cell::Share(hits, args.trials);
            let (nothing, half) = (tally(0.0), tally(0.5));
            table.rows.push(vec![
                Cell::text(earlier),
                Cell::text(percent(flake)),
                share(nothing.regressed),
                Cell::mean(&nothing.reruns),
                share(half.unbroken),
                share(half.unresolved),
                Cell::mean(&half.reruns),
            ]);
        }
    }
    table
}

/// A rule that reruns the candidate so often and counts failures.
struct Simple {
    name: &'static str,
    reruns: u32,
    /// Failed reruns that make it a regression.
    least: u32,
}

/// `majority of 3` counts the first failure; those of ten reruns take what the sequential test takes where nothing is broken.
const SIMPLE: [Simple; 8] = [
    Simple {
        name: "no rerun",
        reruns: 0,
        least: 0,
    },
    Simple {
        name: "one retry fails",
        reruns: 1,
        least: 1,
    },
    Simple {
        name: "three reruns, all fail",
        reruns: 3,
        least: 3,
    },
    Simple {
        name: "three reruns, any fails",
        reruns: 3,
        least: 1,
    },
    Simple {
        name: "majority of 3",
        reruns: 2,
        least: 1,
    },
    Simple {
        name: "ten reruns, all fail",
        reruns: 10,
        least: 10,
    },
    Simple {
        name: "ten reruns, any fails",
        reruns: 10,
        least: 1,
    },
    Simple {
        name: "majority of 11",
        reruns: 10,
        least: 5,
    },
];

pub fn simple(args: &Args) -> Table {
    let mut table = Table::new(
        "simple",
        format!(
            "Simpler rules, from one failure of the candidate on; {} trials a number.",
            args.trials
        ),
        &[
            "rule",
            "flake rate",
            "false regressions",
            "100% missed",
            "50% missed",
            "20% missed",
            "reruns",
        ],
    );
    for rule in &SIMPLE {
        for flake in FLAKES {
            let mut chance = Chance::new(args.seed);
            let mut regressed = |broken: f64| {
                let world = World::new(flake, broken);
                let mut hits = 0;
                for _ in 0..args.trials {
                    let failed = runs(rule.reruns, || world.candidate_fails(&mut chance)).failed;
                    hits += u64::from(failed >= rule.least);
                }
                hits
            };
            let mut row = vec![Cell::text(rule.name), Cell::text(percent(flake))];
            row.push(Cell::Share(regressed(0.0), args.trials));
            for broken in [1.0, 0.5, 0.2] {
                row.push(Cell::Share(args.trials - regressed(broken), args.trials));
            }
            row.push(Cell::text(rule.reruns));
            table.rows.push(row);
        }
    }
    table
}
