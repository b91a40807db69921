//! How often a slower version is found, and one that is not slower called so. May not: test or estimate anything itself.

use regatta_sim::chance::Chance;
use regatta_verdict::metrics::pairs::{Pair, estimate};
use regatta_verdict::metrics::series::change_points;
use regatta_verdict::metrics::{Change, Policy, SECONDS_LEAST, judge};

use crate::table::{Cell, Table};
use crate::{Args, normal, percent};

/// What the baseline takes, in seconds.
const TAKES: f64 = 2.0;

/// Values of a series.
const SERIES: usize = 60;

/// A measurement: normal noise on its logarithm; of tailed noise, one in ten is four times as loud.
fn measured(chance: &mut Chance, takes: f64, noise: f64, tailed: bool) -> f64 {
    let loud = tailed && chance.permille(100);
    takes * (normal(chance) * noise * if loud { 4.0 } else { 1.0 }).exp()
}

fn pairs(chance: &mut Chance, count: usize, slower: f64, noise: f64, tailed: bool) -> Vec<Pair> {
    let pair = |_| Pair {
        baseline: measured(chance, TAKES, noise, tailed),
        candidate: measured(chance, TAKES * slower, noise, tailed),
    };
    (0..count).map(pair).collect()
}

/// One look at so many pairs, by the rule for one look.
fn one_look(pairs: &[Pair], policy: &Policy) -> bool {
    let estimate = estimate(pairs, 1.0 - policy.p);
    estimate.p < policy.p && estimate.ratio >= policy.ratio && estimate.difference >= SECONDS_LEAST
}

pub fn table(args: &Args) -> Table {
    let trials = (args.trials / 2).max(1);
    let policy = Policy::default();
    let mut table = Table::new(
        "metrics",
        format!(
            "Pairs of {TAKES} s; {trials} comparisons a row. Noise is the standard deviation of one measurement; of tailed noise one \
             measurement in ten is four times as loud."
        ),
        &[
            "noise",
            "slower by",
            "found, 10 pairs, p < .01",
            "found, 20 pairs, p < .01",
            "found by the policy",
            "pairs",
        ],
    );
    for (noise, tailed) in [(0.03, false), (0.03, true), (0.1, false), (0.1, true)] {
        for slower in [1.0, 1.05, 1.1, 1.2] {
            let mut chance = Chance::new(args.seed);
            let (mut ten, mut twenty, mut found) = (0, 0, 0);
            let mut ran = Vec::new();
            for _ in 0..trials {
                let mut seen = pairs(&mut chance, policy.pairs, slower, noise, tailed);
                let more = pairs(&mut chance, policy.pairs, slower, noise, tailed);
                ten += u64::from(one_look(&seen, &policy));
                let mut change = judge(&seen, SECONDS_LEAST, &policy).change;
                seen.extend(more);
                twenty += u64::from(one_look(&seen, &policy));
                let open = change == Change::Open;
                if open {
                    change = judge(&seen, SECONDS_LEAST, &policy).change;
                }
                ran.push(if open { 20.0 } else { 10.0 });
                found += u64::from(change == Change::Worse);
            }
            let share = |hits| Cell::Share(hits, trials);
            let name = if tailed { ", tailed" } else { "" };
            table.rows.push(vec![
                Cell::text(format!("{}{name}", percent(noise))),
                Cell::text(percent(slower - 1.0)),
                share(ten),
                share(twenty),
                share(found),
                Cell::mean(&ran),
            ]);
        }
    }
    table
}

pub fn series(args: &Args) -> Table {
    let trials = (args.trials / 20).max(1);
    let mut table = Table::new(
        "series",
        format!(
            "Series of {SERIES} versions, slower from the 31st or the 56th on; {trials} a row. Found: a point within two versions."
        ),
        &["noise", "slower by", "from", "found", "with other points"],
    );
    for (noise, tailed) in [(0.03, false), (0.03, true), (0.1, false)] {
        for (slower, from) in [(1.0, 30), (1.05, 30), (1.1, 30), (1.2, 30), (1.2, 55)] {
            let mut chance = Chance::new(args.seed);
            let (mut found, mut others) = (0, 0);
            for _ in 0..trials {
                let level = |place: usize| if place < from { TAKES } else { TAKES * slower };
                let series =
                    (0..SERIES).map(|place| measured(&mut chance, level(place), noise, tailed));
                let series: Vec<f64> = series.collect();
                let points = change_points(&series, Policy::default().ratio);
                let near = |place: usize| slower > 1.0 && place.abs_diff(from) <= 2;
                found += u64::from(points.iter().any(|point| near(point.place)));
                others += u64::from(points.iter().any(|point| !near(point.place)));
            }
            let name = if tailed { ", tailed" } else { "" };
            table.rows.push(vec![
                Cell::text(format!("{}{name}", percent(noise))),
                Cell::text(percent(slower - 1.0)),
                Cell::text(from + 1),
                Cell::Share(found, trials),
                Cell::Share(others, trials),
            ]);
        }
    }
    table
}
