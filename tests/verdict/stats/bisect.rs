//! Bisection: what is believed against quadrature, what is asked for, and how it ends.

use regatta_verdict::bisect::{Answer, Bisection, Policy, Step};
use serde_json::Value;

use super::{close, numbers, reference, rows};

/// Values whose runs all end the same way: at `bad` and after it they fail.
fn certain(bisection: &mut Bisection, bad: usize, idle: usize) -> (Answer, Vec<Vec<usize>>) {
    let mut rounds = Vec::new();
    loop {
        match bisection.step(idle) {
            Step::Done(answer) => return (answer, rounds),
            Step::Probe(probes) => {
                assert!(!probes.is_empty() && probes.len() <= idle);
                for probe in &probes {
                    bisection.record(*probe, *probe >= bad).unwrap();
                }
                rounds.push(probes);
            }
        }
    }
}

#[test]
fn what_is_believed_is_what_quadrature_says() {
    let reference = reference("bisect.json");
    for row in rows(&reference) {
        let values = row["runs"].as_array().unwrap();
        let policy = Policy {
            none: reference["none_before"].as_f64().unwrap(),
            rise_least: row["rise_least"].as_f64().unwrap(),
            ..Policy::default()
        };
        let mut bisection = Bisection::new(values.len(), policy);
        if row["weights"] != Value::Null {
            bisection = bisection.with_weights(&numbers(&row["weights"]));
        }
        for (value, runs) in values.iter().enumerate() {
            let Some(runs) = runs.as_u64() else {
                bisection.skip(value).unwrap();
                continue;
            };
            let failed = row["failed"][value].as_u64().unwrap();
            for run in 0..runs {
                bisection.record(value, run < failed).unwrap();
            }
        }
        let posterior = bisection.posterior();
        close(posterior.none, row["none"].as_f64().unwrap(), 0.0002, row);
        let wanted = numbers(&row["values"]);
        assert_eq!(posterior.values.len(), wanted.len());
        for (is, wanted) in posterior.values.iter().zip(wanted) {
            close(*is, wanted, 0.0002, row);
        }
    }
}

#[test]
fn one_value_breaks_where_it_always_fails() {
    for (values, idle) in [(2, 1), (3, 1), (100, 1), (100, 8), (100_000, 8)] {
        for bad in [1, values / 2, values - 1] {
            let bad = bad.max(1);
            let mut bisection = Bisection::new(values, Policy::default());
            let (answer, rounds) = certain(&mut bisection, bad, idle);
            let Answer::Found {
                good,
                bad: found,
                probability,
            } = answer
            else {
                panic!("{answer:?}");
            };
            assert_eq!((good, found), (bad - 1, bad), "of {values}");
            assert!(probability >= 0.99);
            let ends: usize = rounds
                .iter()
                .take(20_usize.div_ceil(idle))
                .map(Vec::len)
                .sum();
            assert!(ends >= 20, "the ends come first");
            assert!(bisection.probes() <= 60, "{}", bisection.probes());
        }
    }
}

#[test]
fn nothing_broke_where_all_pass_or_all_fail() {
    for bad in [0, 50] {
        let mut bisection = Bisection::new(50, Policy::default());
        let (answer, _) = certain(&mut bisection, bad, 8);
        assert!(
            matches!(answer, Answer::NoCulprit { probability } if probability >= 0.99),
            "{answer:?}"
        );
        assert!(bisection.probes() <= 60, "{}", bisection.probes());
    }
}

#[test]
fn what_was_repaired_has_no_culprit() {
    let mut bisection = Bisection::new(50, Policy::default());
    loop {
        match bisection.step(4) {
            Step::Done(answer) => {
                assert!(matches!(answer, Answer::NoCulprit { .. }), "{answer:?}");
                return;
            }
            Step::Probe(probes) => {
                for probe in probes {
                    bisection.record(probe, probe < 25).unwrap();
                }
            }
        }
    }
}

#[test]
fn an_answer_spans_what_cannot_be_tested() {
    let mut bisection = Bisection::new(20, Policy::default());
    for untestable in [0, 8, 9, 10, 19] {
        bisection.skip(untestable).unwrap();
    }
    let (answer, rounds) = certain(&mut bisection, 10, 4);
    assert!(
        matches!(
            answer,
            Answer::Found {
                good: 7,
                bad: 11,
                ..
            }
        ),
        "{answer:?}"
    );
    let asked = rounds.iter().flatten();
    assert_eq!(
        asked
            .filter(|probe| [0, 8, 9, 10, 19].contains(probe))
            .count(),
        0
    );
}

#[test]
fn runs_of_a_value_that_turns_out_untestable_do_not_count() {
    let mut bisection = Bisection::new(3, Policy::default());
    for value in [0, 1, 2] {
        bisection.record(value, value > 0).unwrap();
    }
    let mut without = Bisection::new(3, Policy::default());
    without.record(0, false).unwrap();
    without.record(2, true).unwrap();
    without.skip(1).unwrap();
    assert_ne!(bisection.posterior(), without.posterior());
    bisection.skip(1).unwrap();
    assert_eq!(bisection.posterior(), without.posterior());
}

#[test]
fn a_search_ends_though_results_mean_nothing() {
    let policy = Policy {
        probes_most: 30,
        ..Policy::default()
    };
    let mut bisection = Bisection::new(40, policy);
    let mut run = 0_u32;
    loop {
        match bisection.step(8) {
            Step::Probe(probes) => {
                for probe in probes {
                    // A fifth fails in the first half, two fifths in the other.
                    run += 1;
                    bisection
                        .record(probe, run % 5 < if probe < 20 { 1 } else { 2 })
                        .unwrap();
                }
            }
            Step::Done(answer) => {
                let Answer::Range {
                    good,
                    bad,
                    probability,
                    none,
                } = answer
                else {
                    panic!("{answer:?}");
                };
                assert!(good < bad && bad < 40);
                assert!((0.95..=1.0 + 1e-9).contains(&probability), "{probability}");
                assert!(none < 0.99);
                assert_eq!(bisection.probes(), 30);
                return;
            }
        }
    }
}

#[test]
fn what_can_not_be_searched_is_said() {
    for values in [0, 1] {
        let bisection = Bisection::new(values, Policy::default());
        assert_eq!(bisection.step(8), Step::Done(Answer::Untestable));
    }
    let mut bisection = Bisection::new(2, Policy::default());
    assert_eq!(
        bisection.step(0),
        Step::Probe(Vec::new()),
        "no place is idle"
    );
    let unknown = bisection.record(2, true).unwrap_err();
    assert_eq!(unknown.to_string(), "value 2 of 2, counted from 0");
    assert_eq!(bisection.step(1), Step::Probe(vec![0]));
    bisection.skip(1).unwrap();
    assert_eq!(bisection.step(8), Step::Done(Answer::Untestable));
}
