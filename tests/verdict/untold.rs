//! What a comparison cannot tell is told all the same: tests that vanished, failures whose baseline says nothing, and
//! failures that only look alike.

use regatta_model::Outcome;
use regatta_model::case::Results;
use regatta_model::matrix::Matrix;
use regatta_model::report::{Comparison, Conclusion, Finding, FindingKind, Report};

use crate::report::{EXIT_0, EXIT_1, Race, cases};

const COMPARED: &str = "name: shop\nimage: x\naxes: {lib: {values: [1, 2, 3], ordered: true}}\ntest: {run: x}\n\
                        compare: {axis: lib, baseline: 1}\n";
const ALONE: &str = "name: shop\nimage: x\naxes: {lib: [1, 2, 3, 4]}\ntest: {run: x}\n";

fn matrix(text: &str) -> Matrix {
    Matrix::parse(text, "m.yaml").unwrap()
}

fn of_kind(report: &Report, kind: FindingKind) -> Vec<&Finding> {
    let findings = report.findings.iter();
    findings.filter(|finding| finding.kind == kind).collect()
}

/// Four tests, of which these fail, or only those that are named, of which these fail.
fn some(names: &[&str], failing: &[&str]) -> (Outcome, Results) {
    let outcome = if failing.is_empty() { EXIT_0 } else { EXIT_1 };
    (outcome, cases(names, failing))
}

#[test]
fn a_failing_cell_that_lost_tests_is_not_unchanged() {
    let matrix = matrix(COMPARED);
    let report = Race::run(&matrix, |values, _| match values["lib"] {
        "1" => some(&["a", "b", "c", "d"], &["a"]),
        _ => some(&["a"], &["a"]),
    })
    .report();
    let results: Vec<_> = report.cells[1..]
        .iter()
        .map(|cell| cell.comparison.as_ref().unwrap().result)
        .collect();
    assert_eq!(results, [Comparison::Unresolved; 2]);
    assert_eq!(report.conclusion, Conclusion::Unresolved);
    let texts: Vec<&str> = of_kind(&report, FindingKind::Failure)
        .iter()
        .map(|finding| finding.text.as_str())
        .collect();
    assert_eq!(
        texts,
        [
            "a fails in 2 cells, before it came to all tests of its baseline",
            "a fails in lib 1, which others are compared with"
        ]
    );
}

#[test]
fn a_passing_cell_that_lost_tests_says_so() {
    let matrix = matrix(COMPARED);
    let report = Race::run(&matrix, |values, _| match values["lib"] {
        "3" => some(&["a"], &[]),
        _ => some(&["a", "b", "c", "d"], &[]),
    })
    .report();
    let [finding] = of_kind(&report, FindingKind::Missing)[..] else {
        panic!("{:#?}", report.findings)
    };
    assert_eq!(
        finding.text,
        "Lib 3 did not run 3 tests that pass in the baseline"
    );
    assert_eq!(
        (finding.cases.len(), finding.cells.as_slice()),
        (3, [2].as_slice())
    );
    assert_eq!(
        report.sentence,
        "All 3 cells passed (1 cell did not run all tests of its baseline)."
    );
    // A version that writes no results any more ran none of them, whatever it says of itself.
    let report = Race::run(&matrix, |values, _| match values["lib"] {
        "3" => (EXIT_0, Results::default()),
        _ => some(&["a", "b"], &[]),
    })
    .report();
    let missing = of_kind(&report, FindingKind::Missing);
    let texts: Vec<&str> = missing
        .iter()
        .map(|finding| finding.text.as_str())
        .collect();
    assert_eq!(
        texts,
        ["Lib 3 did not run 2 tests that pass in the baseline"]
    );
    // Further tests are nobody's loss.
    let report = Race::run(&matrix, |values, _| match values["lib"] {
        "1" => some(&["a"], &[]),
        _ => some(&["a", "b"], &[]),
    })
    .report();
    assert_eq!(report.findings, []);
}

#[test]
fn failures_without_a_failing_case_are_one_finding_for_each_way_to_end() {
    let matrix = matrix(ALONE);
    let report = Race::run(&matrix, |values, _| match values["lib"] {
        "1" => (Outcome::TimedOut, Results::default()),
        "2" => (Outcome::OutOfMemory, Results::default()),
        "3" => (Outcome::Exited { exit_code: 5 }, Results::default()),
        _ => (EXIT_1, cases(&["a", "b"], &[])),
    })
    .report();
    let mut texts: Vec<&str> = of_kind(&report, FindingKind::Failure)
        .iter()
        .map(|finding| finding.text.as_str())
        .collect();
    texts.sort_unstable();
    assert_eq!(
        texts,
        [
            "The test of shop failed by its memory limit in lib 2",
            "The test of shop failed by its time limit in lib 1",
            "The test of shop failed with exit status 1 in lib 4",
            "The test of shop failed with exit status 5 in lib 3",
        ]
    );
}

#[test]
fn what_cannot_be_compared_is_named_with_the_reason() {
    let matrix = matrix(COMPARED);
    // The baseline crashes in another way.
    let report = Race::run(&matrix, |values, _| match values["lib"] {
        "1" => (EXIT_1, Results::default()),
        "2" => some(&["a", "b"], &["b"]),
        _ => some(&["a", "b"], &[]),
    })
    .report();
    let texts: Vec<&str> = report.findings.iter().map(|f| f.text.as_str()).collect();
    assert!(
        texts.contains(&"b fails in lib 2, and the baseline does not pass either"),
        "{texts:#?}"
    );
    // The baseline never ran.
    let run = Race::run(&matrix, |_, _| some(&["a"], &["a"]));
    let report = run.without_cell(0).report();
    let texts: Vec<&str> = report.findings.iter().map(|f| f.text.as_str()).collect();
    assert_eq!(
        texts,
        ["a fails in 2 cells, and there is no verdict of the baseline to compare it with"]
    );
}

#[test]
fn a_set_up_that_fails_asks_nothing_more_of_the_baseline() {
    let matrix = matrix(COMPARED);
    let run = Race::run(&matrix, |values, _| match values["lib"] {
        "1" => some(&["a"], &[]),
        _ => (Outcome::SetupFailed, Results::default()),
    });
    let report = run.report();
    assert_eq!(report.cells[0].attempts.len(), 1, "{:#?}", report.cells[0]);
}
