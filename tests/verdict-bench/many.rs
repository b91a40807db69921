//! What a whole comparison reports: thousands of cases of which few are broken. May not: choose what is reported itself.

use regatta_sim::chance::Chance;
use regatta_verdict::fdr::{LEVEL, by_probability, with_own_prior};
use regatta_verdict::sequential::{Answer, Depth, probability};

use crate::sequential::{USUAL, World, settle, triggered};
use crate::table::{Cell, Table};
use crate::{Args, part};

const CASES: u32 = 5000;

/// What the test on two versions takes for the share of broken cases.
const PRIOR: f64 = 0.05;

/// Broken ones: how many fail in which share of their runs.
const BROKEN: [(u32, f64); 3] = [(8, 1.0), (3, 0.5), (1, 0.2)];

/// Flake rates of cases, and how common each is: those that the policy takes for granted.
const FLAKES: [(f64, f64); 12] = [
    (0.0002, 0.30),
    (0.0005, 0.15),
    (0.001, 0.12),
    (0.002, 0.10),
    (0.005, 0.10),
    (0.01, 0.07),
    (0.02, 0.05),
    (0.05, 0.04),
    (0.1, 0.03),
    (0.2, 0.02),
    (0.35, 0.01),
    (0.5, 0.01),
];

fn flake(chance: &mut Chance) -> f64 {
    let mut left = part(chance);
    for (rate, common) in FLAKES {
        left -= common;
        if left < 0.0 {
            return rate;
        }
    }
    0.0
}

/// Reported findings of a rule over all campaigns, and those of them that nothing broke.
#[derive(Default)]
struct Tally {
    reported: u64,
    falsely: u64,
}

impl Tally {
    fn add(&mut self, reported: bool, broken: bool) {
        self.reported += u64::from(reported);
        self.falsely += u64::from(reported && !broken);
    }

    fn row(&self, rule: &str, broken: u64, reruns: Cell) -> Vec<Cell> {
        vec![
            Cell::text(rule),
            Cell::Share(self.falsely, self.reported),
            Cell::Share(self.reported - self.falsely, broken),
            reruns,
        ]
    }
}

pub fn table(args: &Args) -> Table {
    let campaigns = (args.trials / 100).max(1);
    let mut table = Table::new(
        "fdr",
        format!(
            "{campaigns} comparisons of {CASES} cases, each run once in both versions, of which 8 fail always, 3 in half of their runs and 1 in a fifth; all \
             flake at the rates that the policy expects."
        ),
        &[
            "reported",
            "of those, false",
            "of the broken ones, found",
            "reruns in a comparison",
        ],
    );
    let mut chance = Chance::new(args.seed);
    let mut tallies: [Tally; 5] = Default::default();
    let mut reruns = Vec::new();
    for _ in 0..campaigns {
        let shares = BROKEN
            .iter()
            .flat_map(|(count, share)| std::iter::repeat_n(*share, *count as usize));
        let shares = shares.chain(std::iter::repeat(0.0)).take(CASES as usize);
        let (mut real, mut truth, mut ran) = (Vec::new(), Vec::new(), 0);
        let mut scores = Vec::new();
        for share in shares {
            let world = World::new(flake(&mut chance), share);
            if world.baseline_fails(&mut chance) || !world.candidate_fails(&mut chance) {
                continue;
            }
            let broken = share > 0.0;
            tallies[0].add(true, broken);
            let retry = world.candidate_fails(&mut chance);
            tallies[1].add(retry, broken);
            let mut sides = triggered(&mut chance, &world);
            let answer = settle(&mut chance, &world, &mut sides, &USUAL);
            tallies[2].add(answer == Answer::Regressed, broken);
            ran += sides.reruns + sides.controls;
            let score = sides.score(Depth::Usual);
            scores.push(score);
            real.push(probability(score));
            truth.push(broken);
        }
        let own = with_own_prior(&scores, u64::from(CASES), PRIOR);
        for (place, real) in [(3, real), (4, own)] {
            for (reported, broken) in by_probability(&real, LEVEL).into_iter().zip(&truth) {
                tallies[place].add(reported, *broken);
            }
        }
        reruns.push(f64::from(ran));
    }
    let broken = campaigns * u64::from(BROKEN.iter().map(|(count, _)| count).sum::<u32>());
    let none = || Cell::text(0);
    let names = [
        "every failure",
        "whose one retry fails",
        "called regressed",
        "while the mean of 1 - P is 5% at most",
        "the same, with the comparison's own share of broken cases",
    ];
    for (place, (tally, name)) in tallies.iter().zip(names).enumerate() {
        let cost = match place {
            0 => none(),
            1 => Cell::text("one a failure"),
            _ => Cell::mean(&reruns),
        };
        table.rows.push(tally.row(name, broken, cost));
    }
    table
}
