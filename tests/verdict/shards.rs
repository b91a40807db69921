//! Cells whose tests are split: attempts of shards, judged each by itself, and one conclusion of each cell.

use std::collections::BTreeMap;

use regatta_model::case::Results;
use regatta_model::matrix::Matrix;
use regatta_model::report::{Comparison, Conclusion, FindingKind, Report, Verdict};

use crate::report::{EXIT_0, EXIT_1, End, Race, cases};

fn matrix(more: &str) -> Matrix {
    let text = format!(
        "name: shop\nimage: x\naxes: {{lib: {{values: [1, 2], ordered: true}}}}\nshards: 3\ntest: {{run: x}}\n{more}"
    );
    Matrix::parse(&text, "m.yaml").unwrap_or_else(|errors| panic!("{errors}"))
}

const COMPARED: &str = "compare: {axis: lib, baseline: 1}\n";

/// Every third of these cases, a letter each, from the shard's on; those in `failing` fail.
fn third(values: &BTreeMap<&str, &str>, all: &str, failing: &str) -> End {
    let shard: usize = values["shard"].parse().unwrap();
    let part: Vec<String> = all
        .chars()
        .skip(shard)
        .step_by(3)
        .map(String::from)
        .collect();
    let mut part: Vec<&str> = part.iter().map(String::as_str).collect();
    part.sort_unstable();
    let failing: Vec<&str> = part
        .iter()
        .copied()
        .filter(|name| failing.contains(name))
        .collect();
    let end = if failing.is_empty() { EXIT_0 } else { EXIT_1 };
    (end, cases(&part, &failing))
}

fn shards_of(report: &Report, cell: usize) -> Vec<u32> {
    let attempts = report.cells[cell].attempts.iter();
    attempts.map(|attempt| attempt.shard.unwrap()).collect()
}

#[test]
fn a_case_that_fails_in_one_shard_fails_one_cell_and_only_that_shard_runs_again() {
    let matrix = matrix("");
    let report = Race::run(&matrix, |values, _| {
        third(
            values,
            "abcdefg",
            if values["lib"] == "2" { "e" } else { "" },
        )
    })
    .report();
    assert_eq!(report.conclusion, Conclusion::Failed);
    assert_eq!(report.sentence, "1 of 2 cells failed.");
    let counts = report.counts;
    assert_eq!((counts.cells, counts.passed, counts.failed), (2, 1, 1));
    assert_eq!((counts.attempts, counts.reruns), (7, 1));
    let numbers: Vec<u64> = report.cells.iter().map(|cell| cell.cell).collect();
    assert_eq!(numbers, [0, 3]);
    let (first, second) = (&report.cells[0], &report.cells[1]);
    assert_eq!((first.cases.passed, first.cases.failed), (7, 0));
    assert_eq!((second.cases.passed, second.cases.failed), (6, 1));
    assert_eq!(second.failing, ["e"]);
    assert_eq!(shards_of(&report, 0), [1, 2, 3]);
    assert_eq!(shards_of(&report, 1), [1, 2, 2, 3]);
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].text, "e fails in lib 2");
    assert_eq!(report.findings[0].cells, [3]);
}

#[test]
fn a_version_that_breaks_a_case_of_one_shard_is_found() {
    let matrix = matrix(COMPARED);
    let report = Race::run(&matrix, |values, _| {
        third(
            values,
            "abcdef",
            if values["lib"] == "2" { "c" } else { "" },
        )
    })
    .report();
    assert_eq!(report.conclusion, Conclusion::Regressed);
    // Three reruns, and four of the same shard of the baseline.
    assert_eq!(shards_of(&report, 0), [1, 2, 3, 3, 3, 3, 3]);
    assert_eq!(shards_of(&report, 1), [1, 2, 3, 3, 3, 3]);
    let compared = report.cells[1].comparison.as_ref().unwrap();
    assert_eq!(compared.regressed, ["c"]);
    assert_eq!(report.findings.len(), 1);
    let finding = &report.findings[0];
    assert_eq!(finding.text, "Lib 2 broke c; last good: 1");
    assert_eq!(finding.cells, [3]);
    assert!(finding.confidence >= 0.99);
}

#[test]
fn cases_that_move_to_another_shard_are_the_same_cases() {
    let matrix = matrix(COMPARED);
    // A new case moves all others to the next shard.
    for (before, after, comparison, findings) in [
        ("", "", Comparison::Unchanged, vec![]),
        ("c", "c", Comparison::Unchanged, vec![FindingKind::Failure]),
        ("c", "", Comparison::Fixed, vec![FindingKind::Fix]),
        // The shard of the baseline that ran again was not the one that has it.
        (
            "",
            "c",
            Comparison::Unresolved,
            vec![FindingKind::Unresolved],
        ),
    ] {
        let report = Race::run(&matrix, |values, _| match values["lib"] {
            "1" => third(values, "abcdef", before),
            _ => third(values, "Nabcdef", after),
        })
        .report();
        let compared = report.cells[1].comparison.as_ref().unwrap();
        assert_eq!(compared.result, comparison, "{before:?} {after:?}");
        let kinds: Vec<FindingKind> = report.findings.iter().map(|f| f.kind).collect();
        assert_eq!(
            kinds, findings,
            "{before:?} {after:?}: {:?}",
            report.findings
        );
    }
}

#[test]
fn cases_that_no_shard_runs_any_more_are_missing() {
    let matrix = matrix(COMPARED);
    let report = Race::run(&matrix, |values, _| match values["lib"] {
        "1" => third(values, "abcdefg", ""),
        _ => third(values, "abdefg", ""),
    })
    .report();
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    let finding = &report.findings[0];
    assert_eq!(
        (finding.kind, finding.case.as_deref()),
        (FindingKind::Missing, Some("c"))
    );
}

#[test]
fn a_cell_without_one_of_its_shards_has_no_verdict_unless_another_failed() {
    let matrix = matrix("");
    for (failing, verdict, conclusion) in [
        ("", Verdict::Unresolved, Conclusion::Unresolved),
        ("a", Verdict::Failed, Conclusion::Failed),
    ] {
        let race = Race::run(&matrix, |values, _| third(values, "abcdef", failing));
        let report = race.without_cell(4).report();
        assert_eq!(report.cells[1].verdict, verdict);
        assert_eq!(report.conclusion, conclusion);
        assert_eq!(
            report.cells[1].cases.passed + report.cells[1].cases.failed,
            4
        );
    }
}

#[test]
fn one_shard_may_be_without_a_case_but_not_all_of_them() {
    let declared = matrix("results: [r.xml]\n");
    let nothing = || (EXIT_0, Results::default());
    let report = Race::run(&declared, |values, _| match values["shard"] {
        "2" => nothing(),
        _ => third(values, "ab", ""),
    })
    .report();
    assert_eq!(report.conclusion, Conclusion::Passed, "{}", report.sentence);
    assert_eq!(report.cells[0].cases.passed, 2);

    let report = Race::run(&declared, |_, _| nothing()).report();
    assert_eq!(report.conclusion, Conclusion::Failed);
    assert_eq!(report.counts.failed, 2);
    let excerpt = "exit status 0, but the results of its 3 shards hold no case";
    assert_eq!(report.findings[0].excerpt, excerpt);

    let compared = matrix("results: [r.xml]\ncompare: {axis: lib, baseline: 1}\n");
    let report = Race::run(&compared, |values, _| match values["lib"] {
        "1" => third(values, "ab", ""),
        _ => nothing(),
    })
    .report();
    assert_ne!(report.conclusion, Conclusion::Passed, "{}", report.sentence);
}

#[test]
fn a_shard_that_fails_as_a_whole_is_named_and_judged_beside_the_same_one() {
    let matrix = matrix(COMPARED);
    let breaks = |values: &BTreeMap<&str, &str>| (values["lib"], values["shard"]) == ("2", "1");
    let report = Race::run(&matrix, |values, _| {
        if breaks(values) {
            (EXIT_1, Results::default())
        } else {
            third(values, "abcdef", "")
        }
    })
    .report();
    assert_eq!(report.conclusion, Conclusion::Regressed);
    assert_eq!(shards_of(&report, 0), [1, 2, 2, 2, 2, 2, 3]);
    let finding = &report.findings[0];
    assert_eq!(finding.text, "Lib 2 broke shop; last good: 1");
    assert_eq!(finding.excerpt, "shard 2 of 3: exit status 1");
    let failed = report.cells[1].attempts.iter().filter(|a| !a.passed);
    assert!(failed.clone().all(|a| a.whole && a.shard == Some(2)));
    assert_eq!(failed.count(), 4);
}

#[test]
fn what_fails_now_and_then_in_one_shard_makes_its_cell_flaky() {
    let matrix = matrix("");
    let report = Race::run(&matrix, |values, ordinal| {
        third(values, "abcdef", if ordinal == 1 { "f" } else { "" })
    })
    .report();
    assert_eq!(report.counts.flaky, 2);
    assert_eq!(report.cells[0].flaky, ["f"]);
    let finding = &report.findings[0];
    assert_eq!(finding.kind, FindingKind::Flaky);
    // Of the attempts of its shard alone.
    assert!(finding.text.contains("2 of 6 attempts"), "{}", finding.text);
}

#[test]
fn a_large_run_counts_cells_and_not_their_shards() {
    let values: Vec<String> = (0..5500).map(|n| n.to_string()).collect();
    let text = format!(
        "name: big\nimage: x\naxes:\n  n: [{}]\n  lib: [1, 2]\nshards: 3\ntest: {{run: t}}\n{COMPARED}",
        values.join(", ")
    );
    let matrix = Matrix::parse(&text, "m.yaml").unwrap();
    let race = Race::run(&matrix, |values, _| match (values["n"], values["lib"]) {
        ("77", "2") => third(values, "abcdef", "c"),
        ("500", "1") => third(values, "abcdef", "d"),
        _ => third(values, "abcdef", ""),
    });
    let report = race.report();
    let counts = report.counts;
    assert_eq!(
        (counts.cells, counts.passed, counts.failed),
        (11_000, 10_998, 2)
    );
    assert_eq!(counts.unresolved, 0);
    let listed: Vec<u64> = report.cells.iter().map(|cell| cell.cell).collect();
    assert_eq!(listed, [77 * 6 + 3, 500 * 6]);
    let texts: Vec<&str> = report.findings.iter().map(|f| f.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "Lib 2 broke c with n 77; last good: 1",
            "Lib 2 mended d with n 500, which fails with 1"
        ]
    );
}

#[test]
fn some_cells_are_reported_as_in_the_whole_report() {
    let matrix = matrix(COMPARED);
    let race = Race::run(&matrix, |values, _| match values["lib"] {
        "1" => third(values, "abcdef", ""),
        _ => third(values, "abcdef", "ab"),
    });
    let whole = race.report();
    assert_eq!(race.cells(&[3]), [whole.cells[1].clone()]);
    // A shard's own number is its cell's.
    assert_eq!(race.cells(&[5]), [whole.cells[1].clone()]);
}
