//! Finished runs beside each other: marks, counts and the ranking, by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use regatta_model::case::{CaseException, CaseStatus};
use regatta_model::history::{Mark, PastRun, nearest};
use regatta_model::{Blame, Outcome};
use regatta_verdict::history::{CELLS_MOST, Past, PastAttempt};
use regatta_verdict::report::CaseNames;

fn exception(index: u32, status: CaseStatus) -> CaseException {
    CaseException {
        index,
        status,
        message: String::new(),
    }
}

/// An attempt of the cases `a` and `b`. `P`: both pass, `F`: `a` fails, `R`: `a` fails and passes when tried again, `S`: `a`
/// does not run, `W`: it fails without a failing case, `H`: its host did it.
fn attempt(past: &mut Past, cell: &str, letter: char) {
    let exceptions = match letter {
        'F' | 'H' => vec![exception(0, CaseStatus::Failed)],
        'R' => vec![exception(0, CaseStatus::Flaky)],
        'S' => vec![exception(0, CaseStatus::Skipped)],
        _ => Vec::new(),
    };
    let passed = !matches!(letter, 'F' | 'H' | 'W');
    let names = CaseNames {
        digest: None,
        names: vec!["a".to_owned(), "b".to_owned()],
    };
    let attempt = PastAttempt {
        shard: 0,
        outcome: Outcome::Exited {
            exit_code: i32::from(!passed),
        },
        blame: match letter {
            'H' => Some(Blame::Host),
            _ => (!passed).then_some(Blame::Test),
        },
        passed,
        names: Some(Arc::new(names)),
        exceptions: &exceptions,
    };
    let axes = BTreeMap::from([("v".to_owned(), cell.to_owned())]);
    assert!(past.add(axes, attempt));
}

/// Runs of cells, the oldest first; each word is a run's attempts of the cell.
fn past(cells: &[(&str, &str)]) -> Past {
    let mut past = Past::default();
    let runs = cells[0].1.split(' ').count();
    for run in (0..runs).rev() {
        past.begin(PastRun {
            run: format!("run{run}"),
            submitted_ms: 0,
        });
        for (cell, words) in cells {
            let word = words.split(' ').nth(run).unwrap();
            word.chars()
                .for_each(|letter| attempt(&mut past, cell, letter));
        }
    }
    past
}

fn strip(past: &Past, case: Option<&str>) -> String {
    let history = past.history("m", case);
    let marks = history.cells[0].marks.iter();
    marks
        .map(|mark| match mark {
            Mark::Passed => 'P',
            Mark::Failed => 'F',
            Mark::Flaky => '~',
            Mark::Out => '.',
        })
        .collect()
}

#[test]
fn a_run_is_one_mark_and_only_what_decides_counts() {
    let past = past(&[("1", "P F FP R S W H FH PPP")]);
    assert_eq!(strip(&past, Some("a")), "PF~~...FP");
    assert_eq!(strip(&past, Some("b")), "PPPPP..PP");
    assert_eq!(strip(&past, None), "PF~~PF.FP");
    let history = past.history("m", Some("a"));
    let counts = &history.cells[0].counts;
    assert_eq!(
        (counts.runs, counts.failed, counts.flaky, counts.transitions),
        (6, 4, 2, 2)
    );
    assert_eq!(history.runs[0].run, "run0", "the oldest first");
    assert_eq!(history.cells[0].since, None, "it passes now");
}

#[test]
fn rates_have_wilsons_interval_and_failures_a_beginning() {
    let past = past(&[("1", "P P P F F S F")]);
    let history = past.history("m", Some("a"));
    let cell = &history.cells[0];
    assert_eq!((cell.counts.failed, cell.counts.runs), (3, 6));
    // (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) with p = .5, n = 6, z = 1.96.
    assert!(
        (cell.counts.low - 0.1876).abs() < 1e-3,
        "{}",
        cell.counts.low
    );
    assert!((cell.counts.high - 0.8124).abs() < 1e-3);
    assert_eq!(cell.since.as_deref(), Some("run3"));
}

#[test]
fn cases_are_ranked_by_transitions_of_each_run() {
    let score = |words: &str| {
        let flaky = past(&[("1", words)]).flaky("m");
        flaky.cases.first().map(|case| case.score)
    };
    assert_eq!(score("P P F F F"), Some(0.2), "as the policy has it");
    assert_eq!(score("P F P F P"), Some(0.8));
    assert_eq!(score("F F F"), None, "it always fails");
    assert_eq!(score("P H P"), None, "a host's fault is nobody else's");
    assert_eq!(
        score("R P P"),
        Some(1.0 / 3.0),
        "a retry that passed counts as failed"
    );
    assert_eq!(
        score("FP"),
        Some(0.0),
        "within one run, without a transition"
    );
    let both = past(&[("1", "P P F F F"), ("2", "P F P F P"), ("3", "P P P P P")]).flaky("m");
    let case = &both.cases[0];
    assert_eq!(case.case.as_deref(), Some("a"));
    assert_eq!(
        (case.cells, case.counts.runs, case.counts.transitions),
        (2, 10, 5)
    );
    assert_eq!((case.score, case.last.as_str()), (0.5, "run4"));
    // What fails without a case is ranked, too.
    let whole = past(&[("1", "P W P")]).flaky("m");
    assert_eq!(
        (whole.cases.len(), whole.cases[0].case.as_deref()),
        (1, None)
    );
}

#[test]
fn a_cell_whose_one_shard_fails_has_failed_and_is_not_flaky() {
    let mut past = Past::default();
    for (run, failing) in [(1, true), (0, false)] {
        past.begin(PastRun {
            run: format!("run{run}"),
            submitted_ms: 0,
        });
        for (shard, name) in [(0, "a"), (1, "b")] {
            let fails = failing && name == "b";
            let names = CaseNames {
                digest: None,
                names: vec![name.to_owned()],
            };
            let attempt = PastAttempt {
                shard,
                outcome: Outcome::Exited {
                    exit_code: i32::from(fails),
                },
                blame: None,
                passed: !fails,
                names: Some(Arc::new(names)),
                exceptions: &[exception(0, CaseStatus::Failed)][..usize::from(fails)],
            };
            assert!(past.add(BTreeMap::from([("v".to_owned(), "1".to_owned())]), attempt));
        }
    }
    for (case, marks) in [
        (None, [Mark::Passed, Mark::Failed]),
        (Some("a"), [Mark::Passed, Mark::Passed]),
        (Some("b"), [Mark::Passed, Mark::Failed]),
    ] {
        let history = past.history("m", case);
        assert_eq!(history.cells.len(), 1, "{case:?}");
        assert_eq!(history.cells[0].marks, marks, "{case:?}");
    }
}

#[test]
fn the_nearest_names_are_told() {
    let known = ["suite::sail", "suite::anchor", "tail"];
    assert_eq!(nearest("sail", known, 3), ["suite::sail", "tail"]);
    assert_eq!(nearest("suite::ancor", known, 3), ["suite::anchor"]);
    assert_eq!(nearest("zzzz", known, 3), [""; 0]);
}

#[test]
fn more_cells_than_are_kept_are_refused_and_that_is_said() {
    let mut past = Past::default();
    past.begin(PastRun {
        run: "run".to_owned(),
        submitted_ms: 0,
    });
    let mut add = |cell: usize| {
        let attempt = PastAttempt {
            shard: 0,
            outcome: Outcome::Exited { exit_code: 0 },
            blame: None,
            passed: true,
            names: None,
            exceptions: &[],
        };
        past.add(
            BTreeMap::from([("v".to_owned(), cell.to_string())]),
            attempt,
        )
    };
    assert!((0..CELLS_MOST).all(&mut add));
    assert!(!add(CELLS_MOST), "one more");
    assert!(add(0), "one that is known");
    let history = past.history("m", None);
    assert_eq!((history.cells.len(), history.whole), (CELLS_MOST, false));
}
