//! What fails by chance, what nobody can tell, and what changed around all versions: none of it is a version's doing.

use regatta_model::matrix::Matrix;
use regatta_model::report::{Comparison, Finding, FindingKind, Report, Verdict};

use crate::report::{EXIT_0, EXIT_1, End, Race, cases};

/// An attempt over the cases `a` and `b`, of which `a` fails.
fn a_fails(fails: bool) -> End {
    match fails {
        true => (EXIT_1, cases(&["a", "b"], &["a"])),
        false => (EXIT_0, cases(&["a", "b"], &[])),
    }
}

fn matrix(values: &str, baseline: &str, more: &str) -> Matrix {
    let text = format!(
        "name: shop\nimage: base\naxes: {{v: {{values: [{values}], ordered: true}}}}\ntest: {{run: x}}\n\
         compare: {{axis: v, baseline: {baseline}}}\n{more}\n"
    );
    Matrix::parse(&text, "matrix.yaml").unwrap_or_else(|errors| panic!("{errors}"))
}

fn of_kind(report: &Report, kind: FindingKind) -> Vec<&Finding> {
    let findings = report.findings.iter();
    findings.filter(|finding| finding.kind == kind).collect()
}

fn texts(report: &Report) -> Vec<(FindingKind, &str)> {
    let findings = report.findings.iter();
    findings
        .map(|finding| (finding.kind, finding.text.as_str()))
        .collect()
}

#[test]
fn what_the_allowed_reruns_do_not_tell_is_said_once_and_what_would() {
    let matrix = matrix("1, 2", "1", "rerun: {at-most: 1}");
    let report = Race::run(&matrix, |values, _| a_fails(values["v"] == "2")).report();
    let [finding] = &report.findings[..] else {
        panic!("{:#?}", report.findings)
    };
    assert_eq!(finding.kind, FindingKind::Unresolved);
    let expected = "a failed 2 of 2 times in v 2 and 0 of 2 times in the baseline";
    assert!(finding.text.starts_with(expected), "{}", finding.text);
    assert!(
        finding.text.ends_with("--until-resolved`)"),
        "{}",
        finding.text
    );
    assert_eq!(report.cells[1].verdict, Verdict::Failed);
}

#[test]
fn a_baseline_that_begins_to_fail_is_the_environments_doing() {
    let matrix = matrix("1, 2", "1", "repeat: 4");
    // After four attempts of both something else goes away that both need.
    let report = Race::run(&matrix, |values, ordinal| {
        a_fails(ordinal > 4 || (values["v"] == "2" && ordinal == 4))
    })
    .report();
    assert_eq!(
        of_kind(&report, FindingKind::Regression),
        [] as [&Finding; 0]
    );
    let [finding] = of_kind(&report, FindingKind::Environment)[..] else {
        panic!("{:#?}", texts(&report))
    };
    let end = "which it did not before: something changed around all versions";
    assert!(finding.text.ends_with(end), "{}", finding.text);
}

#[test]
fn a_break_that_shows_half_the_time_is_not_the_doing_of_a_later_version() {
    let matrix = matrix("1, 2, 3, 4, 5, 6", "previous", "");
    // From version 3 on every other attempt fails; the first one of 4 and of 6 passes.
    let report = Race::run(&matrix, |values, ordinal| {
        let version: u32 = values["v"].parse().unwrap();
        a_fails(version >= 3 && (version + ordinal).is_multiple_of(2))
    })
    .report();
    let blamed: Vec<Option<&str>> = of_kind(&report, FindingKind::Regression)
        .iter()
        .map(|finding| finding.first_bad.as_deref())
        .collect();
    assert_eq!(blamed, [Some("3")], "{:#?}", texts(&report));
}

#[test]
fn what_a_version_before_broke_is_neither_asked_again_nor_a_drift() {
    let values = (1..=12).map(|n| n.to_string()).collect::<Vec<_>>();
    let matrix = matrix(&values.join(", "), "previous", "repeat: 3");
    // Version 11 broke it, so that it fails in two of three runs.
    let report = Race::run(&matrix, |values, ordinal| {
        let version: u32 = values["v"].parse().unwrap();
        a_fails(version >= 11 && !ordinal.is_multiple_of(3))
    })
    .report();
    let kinds: Vec<FindingKind> = texts(&report).iter().map(|text| text.0).collect();
    assert_eq!(kinds, [FindingKind::Regression], "{:#?}", texts(&report));
    assert_eq!(report.findings[0].first_bad.as_deref(), Some("11"));
    assert!(report.cells[11].attempts.len() < 6);
}

#[test]
fn how_sure_a_mended_case_is_does_not_depend_on_what_broke_beside_it() {
    let matrix = matrix("1, 2", "1", "repeat: 6");
    // `a` fails with 1 and never with 2; `b` the other way round, but now and then only.
    let report = Race::run(&matrix, |values, ordinal| match values["v"] {
        "1" => (EXIT_1, cases(&["a", "b"], &["a"])),
        _ if ordinal % 3 == 0 => (EXIT_0, cases(&["a", "b"], &[])),
        _ => (EXIT_1, cases(&["a", "b"], &["b"])),
    })
    .report();
    let comparison = report.cells[1].comparison.as_ref().unwrap();
    assert_eq!(comparison.result, Comparison::Regressed, "{report:#?}");
    let sure = |kind| of_kind(&report, kind).first().map(|f| f.confidence);
    let (fix, break_) = (sure(FindingKind::Fix), sure(FindingKind::Regression));
    assert!(fix > break_, "{fix:?} {break_:?}");
}
