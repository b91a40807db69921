//! When the test on two versions believes a break, and when it asks for more. May not: weigh evidence by itself.

use regatta_verdict::fdr::{LEVEL, by_probability};
use regatta_verdict::sequential::{Answer, Depth, Record, Rule, Sides, Told, probability};

const USUAL: Rule = Rule {
    error_rate: 0.01,
    reruns_most: 10,
    depth: Depth::Usual,
};

/// Runs in short: `.` passed, `x` failed.
fn record(runs: &str) -> Record {
    let count = |runs: &str| u32::try_from(runs.len()).unwrap();
    Record {
        failed: count(&runs.replace('.', "")),
        runs: count(runs),
    }
}

/// One run of a cell and its reruns.
fn told(runs: &str) -> Told {
    let (first, reruns) = runs.split_at(1);
    Told {
        first: record(first),
        reruns: record(reruns),
    }
}

/// A candidate beside its baseline, which passed twenty times before.
fn sides(candidate: &str, baseline: &str) -> Sides {
    let (candidate, baseline) = (told(candidate), told(baseline));
    Sides {
        candidate,
        baseline,
        earlier: record(&".".repeat(20)),
        reruns: candidate.reruns.runs,
        controls: baseline.reruns.runs,
        broken_before: false,
    }
}

fn asks(candidate: u32, controls: u32) -> Answer {
    Answer::Ask {
        candidate,
        controls,
    }
}

#[test]
fn a_break_that_always_shows_wants_four_controls_and_any_other_six() {
    for (candidate, baseline, answer) in [
        ("xxx", ".", asks(0, 4)),
        ("xxx", "....", asks(0, 1)),
        ("xxx", ".....", Answer::Regressed),
        // It passed once: what made it fail may come and go, in the baseline too.
        ("x.xxx", "...", asks(0, 4)),
        ("x.xxx", ".....", asks(0, 2)),
        ("x.xxx", ".......", Answer::Regressed),
        // A control failed.
        ("xxxxxxxxx", "...x..", asks(0, 1)),
        ("xxxxxxxxx", "...x...", Answer::Regressed),
    ] {
        let is = sides(candidate, baseline).answer(&USUAL);
        assert_eq!(is, answer, "{candidate} beside {baseline}");
    }
}

#[test]
fn controls_that_are_to_come_are_not_taken_for_passed() {
    // The odds are 77 to 1, and with four passing controls they would be 113: more failures are wanted before anything else.
    assert_eq!(sides("x.x.x", ".").answer(&USUAL), asks(2, 2));
}

#[test]
fn an_outage_of_both_sides_is_no_regression_however_long_it_lasts() {
    for depth in [Depth::Usual, Depth::Deep] {
        let rule = Rule {
            reruns_most: 40,
            depth,
            ..USUAL
        };
        for reruns in 1..=40 {
            let candidate = "x".repeat(1 + reruns);
            // In the baseline a tenth passes.
            for controls in ["x".repeat(reruns), "xxxx.xxxxx".repeat(4)[..reruns].into()] {
                let answer = sides(&candidate, &format!(".{controls}")).answer(&rule);
                assert!(
                    matches!(answer, Answer::Ask { .. } | Answer::Unresolved),
                    "{answer:?} after {controls}"
                );
            }
        }
        let over = sides(&"x".repeat(41), &format!(".{}", "x".repeat(40)));
        assert_eq!(over.answer(&rule), Answer::Unresolved);
    }
}

/// All that up to so many reruns of either side can say, after a failure of the candidate.
fn all_sides(most: u32) -> Vec<Sides> {
    let records: Vec<Record> = (0..=most)
        .flat_map(|runs| (0..=runs).map(move |failed| Record { failed, runs }))
        .collect();
    let mut all = Vec::new();
    for earlier in [(0, 0), (0, 20), (1, 20), (4, 20), (0, 60)] {
        for reruns in &records {
            for controls in &records {
                let mut sides = sides("x", ".");
                (sides.earlier.failed, sides.earlier.runs) = earlier;
                (sides.candidate.reruns, sides.reruns) = (*reruns, reruns.runs);
                (sides.baseline.reruns, sides.controls) = (*controls, controls.runs);
                all.push(sides);
            }
        }
    }
    all
}

#[test]
fn of_any_list_of_regressions_none_has_to_be_left_out_for_its_share_of_false_ones() {
    let all = all_sides(10);
    for depth in [Depth::Usual, Depth::Deep] {
        for error_rate in [0.001, 0.01, LEVEL, 0.2, 0.5] {
            let rule = Rule {
                error_rate,
                depth,
                ..USUAL
            };
            let regressed = all
                .iter()
                .filter(|sides| sides.answer(&rule) == Answer::Regressed);
            let real: Vec<f64> = regressed
                .map(|sides| probability(sides.score(depth)))
                .collect();
            assert!(real.len() > 100, "{} at {error_rate}", real.len());
            // Whichever of them come together: each is sure enough by itself.
            let least = real.iter().copied().fold(1.0, f64::min);
            assert!(
                1.0 - least <= error_rate.min(LEVEL) + 1e-12,
                "{least} at {error_rate}"
            );
            assert!(by_probability(&real, LEVEL).into_iter().all(|kept| kept));
        }
    }
}
