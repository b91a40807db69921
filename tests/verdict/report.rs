//! Whole runs of made-up attempts, judged and reported: the demo's truth, and the traps around it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regatta_model::case::{CaseException, CaseStatus, Results};
use regatta_model::matrix::Matrix;
use regatta_model::report::{
    CellReport, Comparison, Conclusion, Finding, FindingKind, Report, Verdict,
};
use regatta_model::run::{Progress, RunState, RunSummary};
use regatta_model::{Blame, CellNumber, Outcome};
use regatta_verdict::earlier::Earlier;
use regatta_verdict::judge::{self, AttemptFacts, Baseline, Line, Policy};
use regatta_verdict::report::{AttemptRow, Builder, CaseNames, ReportInput, build};

pub(crate) const EXIT_0: Outcome = Outcome::Exited { exit_code: 0 };
pub(crate) const EXIT_1: Outcome = Outcome::Exited { exit_code: 1 };

/// One attempt's end, as a test would have it.
pub(crate) type End = (Outcome, Results);

/// A run that is driven by the real judge: `test` says how a cell's attempt ends. Where cells are split, their shard (from 0)
/// stands among the values.
pub(crate) struct Race<'a> {
    matrix: &'a Matrix,
    rows: Vec<AttemptRow>,
}

/// The cells before one that others are compared with, where they are compared with the previous one.
fn line<'a>(
    matrix: &Matrix,
    facts: &'a BTreeMap<CellNumber, Vec<AttemptFacts>>,
    baseline: CellNumber,
) -> Line<'a> {
    let previous = matrix.compare().unwrap().baseline == regatta_model::matrix::Baseline::Previous;
    let before = |cell: &CellNumber| matrix.cells().baseline(*cell);
    let cells = std::iter::successors(before(&baseline), before).take_while(|_| previous);
    Line {
        facts: cells
            .filter_map(|cell| Some(facts.get(&cell)?.as_slice()))
            .collect(),
        passed: 0,
    }
}

impl<'a> Race<'a> {
    pub(crate) fn run(
        matrix: &'a Matrix,
        test: impl Fn(&BTreeMap<&str, &str>, u32) -> End,
    ) -> Self {
        let mut race = Race {
            matrix,
            rows: Vec::new(),
        };
        let policy = Policy::of(matrix);
        let earlier = Earlier::default();
        let mut facts: BTreeMap<CellNumber, Vec<AttemptFacts>> = BTreeMap::new();
        let mut wanted: BTreeSet<CellNumber> = (0..matrix.cells().count()).collect();
        let mut sets: BTreeMap<String, Arc<CaseNames>> = BTreeMap::new();
        while !wanted.is_empty() {
            for cell in std::mem::take(&mut wanted) {
                let had = facts.entry(cell).or_default();
                let ordinal = u32::try_from(had.len()).unwrap() + 1;
                let mut values: BTreeMap<&str, &str> =
                    matrix.cells().values(cell).unwrap().into_iter().collect();
                let shard = matrix.cells().shard(cell).to_string();
                if matrix.shards() > 1 {
                    values.insert("shard", &shard);
                }
                let (outcome, results) = test(&values, ordinal);
                let host = format!("host-{}", 1 + (cell + u64::from(ordinal)) % 3)
                    .parse()
                    .unwrap();
                let fact = AttemptFacts::new(ordinal, host, outcome, None, &results);
                race.rows.push(row(cell, &fact, results, &mut sets));
                had.push(fact);
            }
            for (cell, own) in &facts {
                let baseline = matrix.cells().baseline(*cell);
                let beside = baseline.map(|baseline| Baseline {
                    facts: facts.get(&baseline).map_or(&[][..], Vec::as_slice),
                    settled: true,
                    spent: false,
                    earlier: &earlier,
                    line: line(matrix, &facts, baseline),
                });
                let decision = judge::next(own, beside, &policy);
                wanted.extend((decision.again > 0).then_some(*cell));
                wanted.extend(baseline.filter(|_| decision.again_baseline > 0));
            }
        }
        race.rows.sort_by_key(|row| (row.cell, row.ordinal));
        race
    }

    /// The same without what one cell did.
    pub(crate) fn without_cell(mut self, cell: CellNumber) -> Self {
        self.rows.retain(|row| row.cell != cell);
        self
    }

    /// These cells alone.
    pub(crate) fn cells(&self, cells: &[CellNumber]) -> Vec<CellReport> {
        let run = summary(RunState::Finished);
        let mut builder = Builder::of_cells(self.matrix, &run, 99_000);
        for row in &self.rows {
            builder.add(row.clone());
        }
        builder.finish_cells(cells)
    }

    pub(crate) fn report(&self) -> Report {
        let run = summary(RunState::Finished);
        build(&ReportInput {
            matrix: self.matrix,
            run: &run,
            now_ms: 99_000,
            attempts: &self.rows,
            earlier: &BTreeMap::new(),
        })
    }
}

pub(crate) fn summary(state: RunState) -> RunSummary {
    RunSummary {
        run: "r1".parse().unwrap(),
        name: "flask".into(),
        state,
        submitted_ms: 1000,
        ended_ms: Some(61_500),
        deep: false,
        bisecting: false,
        progress: Progress::default(),
    }
}

fn row(
    cell: CellNumber,
    fact: &AttemptFacts,
    results: Results,
    sets: &mut BTreeMap<String, Arc<CaseNames>>,
) -> AttemptRow {
    let (_, _, detail) = judge::passed_attempt(fact.outcome, &results);
    let names = results.found.then(|| {
        let digest = results.set();
        let names = results.names.clone();
        let set = || {
            Arc::new(CaseNames {
                digest: Some(digest),
                names,
            })
        };
        sets.entry(digest.to_string()).or_insert_with(set).clone()
    });
    AttemptRow {
        cell,
        ordinal: fact.ordinal,
        sequence: 0,
        host: fact.host.clone(),
        outcome: fact.outcome,
        blame: fact.blame,
        passed: fact.passed,
        detail,
        wall_ms: 2500,
        cpu_us: 2_000_000,
        peak_memory_bytes: 1 << 20,
        metrics: std::collections::BTreeMap::new(),
        identity: None,
        changed: Vec::new(),
        names,
        exceptions: results.exceptions,
        problems: results.problems,
    }
}

fn matrix(text: &str) -> Matrix {
    Matrix::parse(text, "matrix.yaml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// Results with these names, of which these fail.
pub(crate) fn cases(names: &[&str], failing: &[&str]) -> Results {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    results(&names, |name| {
        failing
            .contains(&name)
            .then_some((CaseStatus::Failed, "boom"))
    })
}

/// Results with these names, and exceptions by name.
fn results(
    names: &[String],
    status: impl Fn(&str) -> Option<(CaseStatus, &'static str)>,
) -> Results {
    let mut names = names.to_vec();
    names.sort();
    let mut exceptions = Vec::new();
    for (index, name) in (0..).zip(&names) {
        if let Some((status, message)) = status(name) {
            exceptions.push(CaseException {
                index,
                status,
                message: message.into(),
            });
        }
    }
    Results {
        names,
        exceptions,
        found: true,
        problems: Vec::new(),
        durations: Vec::new(),
    }
}

/// An attempt over the cases `a` to `e`, of which those in `failing` fail.
fn letters(failing: &str) -> End {
    let names: Vec<String> = "abcde".chars().map(String::from).collect();
    let failed = |name: &str| {
        failing
            .contains(name)
            .then_some((CaseStatus::Failed, "boom"))
    };
    let outcome = if failing.is_empty() { EXIT_0 } else { EXIT_1 };
    (outcome, results(&names, failed))
}

fn passes() -> End {
    letters("")
}

/// An attempt that leaves no results.
fn bare(outcome: Outcome) -> End {
    (outcome, Results::default())
}

const DEMO: &str = "
name: flask-on-werkzeug
image: base
axes:
  werkzeug:
    values: [2.2.0, 2.2.2, 2.2.3, 2.3.0, 2.3.3, 2.3.7, 2.3.8, 3.0.0, 3.0.1, 3.0.6, 3.1.0, 3.1.3]
    ordered: true
test: {run: pytest}
compare: {axis: werkzeug, baseline: BASELINE}
";

/// Flask's 476 cases as they end with this version of Werkzeug.
fn flask(version: &str) -> End {
    let mut names: Vec<String> = (0..474)
        .map(|n| format!("tests.test_flask::test_{n:03}"))
        .collect();
    let warnings = ["test_session_ip_warning", "test_session_localhost_warning"];
    names.extend(warnings.map(|name| format!("tests.test_basic::{name}")));
    let warned = |name: &str| {
        let message = "DeprecationWarning: The '__version__' attribute is deprecated";
        let number = name.rsplit('_').next().and_then(|n| n.parse::<u32>().ok());
        match (version.as_bytes()[0], number) {
            (_, Some(460..)) => Some((CaseStatus::Skipped, "")),
            (b'3', Some(0..39)) => Some((CaseStatus::Failed, message)),
            (b'3', Some(39..223)) => Some((CaseStatus::Error, message)),
            _ if version.starts_with("3.1") && name.ends_with("warning") => Some((
                CaseStatus::Error,
                "AttributeError: module 'werkzeug' has no attribute '__version__'",
            )),
            _ => None,
        }
    };
    (
        if version.starts_with('3') {
            EXIT_1
        } else {
            EXIT_0
        },
        results(&names, warned),
    )
}

fn regressions(report: &Report) -> Vec<&Finding> {
    report
        .findings
        .iter()
        .filter(|f| f.kind == FindingKind::Regression)
        .collect()
}

fn verdicts(report: &Report) -> Vec<Verdict> {
    report.cells.iter().map(|cell| cell.verdict).collect()
}

fn comparison(cell: &CellReport) -> Option<Comparison> {
    cell.comparison.as_ref().map(|comparison| comparison.result)
}

#[test]
fn the_demo_ends_with_its_truth() {
    for baseline in ["2.2.0", "2.3.8", "previous"] {
        let matrix = matrix(&DEMO.replace("BASELINE", baseline));
        let race = Race::run(&matrix, |values, _| flask(values["werkzeug"]));
        let report = race.report();
        assert_eq!(report.conclusion, Conclusion::Regressed, "{baseline}");
        for cell in &report.cells {
            let cases = (cell.cases.passed, cell.cases.failed, cell.cases.skipped);
            let expected = match &cell.axes["werkzeug"][..3] {
                "3.0" => (239, 39 + 184, 14),
                "3.1" => (237, 39 + 186, 14),
                _ => (462, 0, 14),
            };
            assert_eq!(cases, expected, "{:?}", cell.axes);
            assert_eq!(
                u64::try_from(cell.failing.len()).unwrap(),
                cell.cases.failed
            );
            // What the version before fails as well is no question.
            let asked = expected.1 > 0 && baseline != "previous";
            let attempts = if asked { 3 } else { 1 };
            assert!(cell.attempts.len() >= attempts, "{:?}", cell.axes);
        }
        let findings = regressions(&report);
        let [first, second] = findings.as_slice() else {
            panic!("{baseline}: {findings:#?}")
        };
        assert_eq!(first.first_bad.as_deref(), Some("3.0.0"));
        assert_eq!(first.last_good.as_deref(), Some("2.3.8"));
        assert_eq!(
            (first.cases.len(), first.cells.as_slice()),
            (223, [7, 8, 9, 10, 11].as_slice())
        );
        assert_eq!(
            first.text,
            "Werkzeug 3.0.0 broke 223 tests of flask-on-werkzeug; last good: 2.3.8"
        );
        assert!(
            first.excerpt.contains("DeprecationWarning"),
            "{}",
            first.excerpt
        );
        assert_eq!(second.first_bad.as_deref(), Some("3.1.0"));
        assert_eq!(second.last_good.as_deref(), Some("3.0.6"));
        let warnings = [
            "tests.test_basic::test_session_ip_warning",
            "tests.test_basic::test_session_localhost_warning",
        ];
        assert_eq!(second.cases, warnings);
        let ways = |finding: &Finding| {
            let clusters = finding.clusters.iter();
            clusters
                .map(|cluster| (cluster.signature.clone(), cluster.count))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            ways(first),
            [(
                "DeprecationWarning: The '__version__' attribute is deprecated".to_owned(),
                223
            )]
        );
        assert_eq!(
            ways(second),
            [(
                "AttributeError: module 'werkzeug' has no attribute '__version__'".to_owned(),
                2
            )]
        );
        assert_eq!(second.cells, [10, 11]);
        assert!(second.excerpt.contains("AttributeError"));
        assert_eq!(report.findings.len(), 2, "nothing flaky, no host");
        assert!(first.confidence > 0.9 && first.confidence < 1.0);
        // Three more of each cell that fails what its baseline passes, and four of each baseline once for all of them. Where the
        // versions before have never failed a case, fewer are enough to ask for the four: two after seven of them, and one.
        let reruns = if baseline == "previous" {
            (2 + 4) + (1 + 4)
        } else {
            5 * 3 + 4
        };
        assert_eq!(report.counts.reruns, reruns, "{baseline}");
        assert_eq!(
            (
                report.counts.passed,
                report.counts.failed,
                report.counts.host_faults
            ),
            (7, 5, 0)
        );
        assert_eq!(
            report.sentence,
            "Werkzeug 3.0.0 broke 223 tests of flask-on-werkzeug; last good: 2.3.8. \
             Werkzeug 3.1.0 broke 2 more tests of flask-on-werkzeug; last good: 3.0.6."
        );
    }
}

#[test]
fn the_same_attempts_give_the_same_report_whether_at_once_or_streamed() {
    let matrix = matrix(&DEMO.replace("BASELINE", "2.2.0"));
    let race = Race::run(&matrix, |values, _| flask(values["werkzeug"]));
    let run = summary(RunState::Finished);
    let mut builder = Builder::new(&matrix, &run, 5);
    race.rows.iter().cloned().for_each(|row| builder.add(row));
    assert_eq!(builder.finish(), race.report());
    let json = serde_json::to_value(race.report()).unwrap();
    assert_eq!(json["conclusion"], "regressed");
    assert_eq!(json["cells"][0]["comparison"], serde_json::Value::Null);
    assert_eq!(json["seconds"], 60.5);
}

const TWO_AXES: &str = "
name: shop
image: base
axes:
  lib: {values: [1, 2, 3, 4], ordered: true}
  python: [a, b]
test: {run: t}
compare: {axis: lib, baseline: 1}
";

#[test]
fn of_findings_of_as_many_cases_in_one_version_the_surest_comes_first() {
    let text = TWO_AXES.replace("[1, 2, 3, 4]", "[1, 2]");
    let matrix = matrix(&text);
    let report = Race::run(&matrix, |values, ordinal| {
        let fails = match (values["lib"], values["python"]) {
            ("2", "a") if ordinal % 3 != 0 => &["x"][..],
            ("2", "b") => &["y"],
            _ => &[],
        };
        let exit = if fails.is_empty() { EXIT_0 } else { EXIT_1 };
        (exit, cases(&["x", "y"], fails))
    })
    .report();
    let found = regressions(&report);
    let found: Vec<(&str, f64)> = found
        .iter()
        .map(|finding| (finding.case.as_deref().unwrap(), finding.confidence))
        .collect();
    let [(first, sure), (second, less)] = found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((first, second), ("y", "x"), "{found:?}");
    assert!(sure > less && less >= 0.99, "{found:?}");
}

#[test]
fn what_breaks_in_all_lines_is_one_finding_and_what_breaks_in_one_says_which() {
    let matrix = matrix(TWO_AXES);
    let race = Race::run(&matrix, |values, _| {
        match (values["lib"], values["python"]) {
            ("2", "b") => letters("c"),
            ("3" | "4", "a") => letters("ab"),
            ("3" | "4", "b") => letters("abc"),
            _ => passes(),
        }
    });
    let report = race.report();
    let found: Vec<_> = regressions(&report)
        .into_iter()
        .map(|f| (f.text.as_str(), f.cells.len()))
        .collect();
    let expected = [
        ("Lib 2 broke c with python b; last good: 1", 3),
        ("Lib 3 broke 2 more tests of shop; last good: 2", 4),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_mended_later_is_a_regression_and_ends_there() {
    let matrix = matrix(TWO_AXES);
    let race = Race::run(&matrix, |values, _| {
        if values["lib"] == "2" {
            letters("a")
        } else {
            passes()
        }
    });
    let report = race.report();
    let [finding] = regressions(&report)[..] else {
        panic!("{:#?}", report.findings)
    };
    assert_eq!(
        (finding.first_bad.as_deref(), finding.cells.as_slice()),
        (Some("2"), [2, 3].as_slice())
    );
    assert_eq!(finding.case.as_deref(), Some("a"));
}

#[test]
fn a_baseline_that_fails_makes_failures_unchanged_and_passes_fixed() {
    let matrix = matrix(TWO_AXES);
    let race = Race::run(&matrix, |values, _| {
        if values["lib"] <= "2" {
            letters("ab")
        } else {
            letters("b")
        }
    });
    let report = race.report();
    assert_eq!(report.conclusion, Conclusion::Passed);
    let results: Vec<_> = report.cells.iter().map(comparison).collect();
    let (unchanged, fixed) = (Some(Comparison::Unchanged), Some(Comparison::Fixed));
    assert_eq!(
        results,
        [None, None, unchanged, unchanged, fixed, fixed, fixed, fixed]
    );
    let [fix] = &report.findings[..] else {
        panic!("{:#?}", report.findings)
    };
    assert_eq!(
        (fix.kind, fix.text.as_str()),
        (FindingKind::Fix, "Lib 3 mended a, which fails with 2")
    );
    assert_eq!(
        report.sentence,
        "Nothing broke, and 4 of 8 cells are better than their baseline."
    );
}

#[test]
fn a_run_without_results_is_compared_by_its_exit_status() {
    let matrix = matrix(TWO_AXES);
    let broken =
        |values: &BTreeMap<&str, &str>, _| bare(if values["lib"] >= "3" { EXIT_1 } else { EXIT_0 });
    let report = Race::run(&matrix, broken).report();
    assert_eq!(report.conclusion, Conclusion::Regressed);
    let [finding] = regressions(&report)[..] else {
        panic!("{:#?}", report.findings)
    };
    assert_eq!(finding.text, "Lib 3 broke shop; last good: 2");
    assert_eq!(
        (
            finding.case.as_deref(),
            finding.cases.len(),
            finding.cells.len()
        ),
        (None, 0, 4)
    );
    assert_eq!(finding.excerpt, "exit status 1");
}

#[test]
fn results_that_are_missing_never_pass_for_the_cases_of_the_baseline() {
    let matrix = matrix(TWO_AXES);
    let crash = Outcome::Signaled { signal: 11 };
    let report = Race::run(&matrix, |values, _| {
        if values["lib"] == "4" {
            bare(crash)
        } else {
            passes()
        }
    })
    .report();
    assert_eq!(report.conclusion, Conclusion::Regressed);
    assert_eq!(
        regressions(&report)[0].excerpt,
        "ended by signal 11 (SIGSEGV)"
    );
}

#[test]
fn a_case_that_passed_the_second_time_is_flaky_and_breaks_nothing() {
    let matrix = matrix(TWO_AXES);
    let sometimes = |values: &BTreeMap<&str, &str>, ordinal| {
        if values["lib"] == "3" && values["python"] == "a" && ordinal == 1 {
            letters("a")
        } else {
            passes()
        }
    };
    let report = Race::run(&matrix, sometimes).report();
    assert_eq!(report.conclusion, Conclusion::Passed);
    assert_eq!((report.counts.flaky, report.counts.passed), (1, 7));
    let cell = &report.cells[4];
    assert_eq!(
        (cell.verdict, cell.flaky.as_slice()),
        (Verdict::Flaky, ["a".to_owned()].as_slice())
    );
    assert_eq!(cell.cases.flaky, 1);
    let [finding] = &report.findings[..] else {
        panic!("{:#?}", report.findings)
    };
    assert_eq!(finding.kind, FindingKind::Flaky);
    assert_eq!(
        finding.text,
        "a both passed and failed in lib 3, python a: 1 of 8 attempts failed (12%, 95% interval 2 to 47%)"
    );
    assert_eq!(
        report.sentence,
        "None of 8 cells fails for good (1 cell is flaky)."
    );
}

#[test]
fn a_host_fault_is_told_and_never_counts_against_a_version() {
    let matrix = matrix(TWO_AXES);
    let lost = |values: &BTreeMap<&str, &str>, ordinal| {
        if values["lib"] == "4" && ordinal == 1 {
            bare(Outcome::HostLost)
        } else {
            passes()
        }
    };
    let report = Race::run(&matrix, lost).report();
    assert_eq!(
        (
            report.conclusion,
            report.counts.host_faults,
            report.counts.reruns
        ),
        (Conclusion::Passed, 2, 2)
    );
    assert!(
        report
            .findings
            .iter()
            .all(|f| f.kind == FindingKind::Host && f.host.is_some())
    );
    assert_eq!(
        report.sentence,
        "All 8 cells passed (2 attempts were a host's or the platform's fault)."
    );
    // For ever, it is no verdict, and no regression.
    let always = |values: &BTreeMap<&str, &str>, _| {
        if values["lib"] == "4" {
            bare(Outcome::HostLost)
        } else {
            passes()
        }
    };
    let report = Race::run(&matrix, always).report();
    assert_eq!(
        (report.conclusion, report.counts.unresolved),
        (Conclusion::Unresolved, 2)
    );
    assert_eq!(comparison(&report.cells[7]), Some(Comparison::Unresolved));
    assert!(regressions(&report).is_empty());
}

#[test]
fn a_set_up_that_fails_is_told_once_for_all_its_cells() {
    let matrix = matrix(TWO_AXES);
    let report = Race::run(&matrix, |values, _| {
        if values["lib"] == "4" {
            bare(Outcome::SetupFailed)
        } else {
            passes()
        }
    })
    .report();
    assert_eq!(report.conclusion, Conclusion::Unresolved);
    let [finding] = &report.findings[..] else {
        panic!("{:#?}", report.findings)
    };
    assert_eq!(
        (finding.kind, finding.cells.as_slice()),
        (FindingKind::Platform, [6, 7].as_slice())
    );
    assert_eq!(
        finding.text,
        "The set-up of 2 cells (lib 4) failed: nothing of them was tested"
    );
    assert_eq!(comparison(&report.cells[6]), Some(Comparison::Unresolved));
}

#[test]
fn a_missing_baseline_is_no_verdict() {
    let matrix = matrix(&format!("{TWO_AXES}exclude: [{{lib: 1, python: b}}]\n"));
    let report = Race::run(&matrix, |values, _| {
        if values["lib"] == "3" && values["python"] == "b" {
            letters("a")
        } else {
            passes()
        }
    })
    .report();
    assert_eq!(report.conclusion, Conclusion::Unresolved);
    let unresolved: Vec<_> = report
        .cells
        .iter()
        .filter(|c| comparison(c) == Some(Comparison::Unresolved))
        .collect();
    assert_eq!(unresolved.len(), 3);
    assert_eq!(
        unresolved[0].comparison.as_ref().unwrap().baseline["lib"],
        "1"
    );
    assert_eq!(
        report.sentence,
        "3 of 7 cells could not be compared with their baseline."
    );
}

#[test]
fn what_is_allowed_to_fail_is_shown_and_does_not_conclude() {
    let text = format!("{TWO_AXES}adjust: [{{where: {{lib: 4}}, allow-failure: true}}]\n");
    let matrix = matrix(&text);
    let report = Race::run(&matrix, |values, _| {
        if values["lib"] == "4" {
            letters("a")
        } else {
            passes()
        }
    })
    .report();
    assert_eq!(report.conclusion, Conclusion::Passed);
    assert_eq!(
        (report.counts.failed, report.cells[6].allowed_failure),
        (2, true)
    );
    assert_eq!(comparison(&report.cells[6]), Some(Comparison::Regressed));
    assert!(
        regressions(&report)[0]
            .text
            .ends_with("(its cells are allowed to fail)")
    );
}

#[test]
fn without_a_comparison_failures_fail() {
    let text = TWO_AXES.replace("compare: {axis: lib, baseline: 1}", "");
    let matrix = matrix(&text);
    let report = Race::run(&matrix, |values, _| {
        if values["lib"] == "4" {
            letters("a")
        } else {
            passes()
        }
    })
    .report();
    assert_eq!(report.conclusion, Conclusion::Failed);
    assert_eq!(report.sentence, "2 of 8 cells failed.");
    assert_eq!(
        verdicts(&report)[5..],
        [Verdict::Passed, Verdict::Failed, Verdict::Failed]
    );
    let report = Race::run(&matrix, |_, _| passes()).report();
    assert_eq!(
        (report.conclusion, report.sentence.as_str()),
        (Conclusion::Passed, "All 8 cells passed.")
    );
}

#[test]
fn a_run_that_goes_on_or_was_cancelled_says_so() {
    let matrix = matrix(TWO_AXES);
    let mut race = Race::run(&matrix, |_, _| passes());
    race.rows.truncate(3);
    let report = |state| {
        let run = RunSummary {
            ended_ms: None,
            deep: false,
            bisecting: false,
            ..summary(state)
        };
        build(&ReportInput {
            matrix: &matrix,
            run: &run,
            now_ms: 3000,
            attempts: &race.rows,
            earlier: &BTreeMap::new(),
        })
    };
    let running = report(RunState::Running);
    assert_eq!(
        (running.conclusion, running.seconds),
        (Conclusion::Unresolved, 2.0)
    );
    assert_eq!(running.sentence, "So far: 5 of 8 cells have no verdict.");
    let cancelled = report(RunState::Cancelled);
    assert_eq!(cancelled.conclusion, Conclusion::Cancelled);
    assert_eq!(
        cancelled.sentence,
        "Cancelled: 3 of 8 cells have a verdict."
    );
}

#[test]
fn a_failing_case_that_the_baseline_has_not_is_worse_where_the_baseline_passes() {
    let matrix = matrix(TWO_AXES);
    let import = || {
        let names = ["tests.test_cart".to_owned()];
        (
            EXIT_1,
            results(&names, |_| Some((CaseStatus::Error, "collection failure"))),
        )
    };
    let report = Race::run(&matrix, |values, _| {
        if values["lib"] == "4" {
            import()
        } else {
            passes()
        }
    })
    .report();
    assert_eq!(report.conclusion, Conclusion::Regressed);
    assert_eq!(
        regressions(&report)[0].case.as_deref(),
        Some("tests.test_cart")
    );
}

#[test]
fn a_large_run_lists_only_what_did_not_simply_pass() {
    let values: Vec<String> = (0..6000).map(|n| n.to_string()).collect();
    let text = format!(
        "name: big\nimage: base\naxes:\n  n: [{}]\n  v: {{values: [1, 2, 3], ordered: true}}\ntest: {{run: t}}\ncompare: {{axis: v, baseline: 1}}\n",
        values.join(", ")
    );
    let matrix = matrix(&text);
    let race = Race::run(&matrix, |values, _| match (values["n"], values["v"]) {
        ("77", "3") => letters("c"),
        ("5000", "1") => letters("d"),
        _ => passes(),
    });
    let report = race.report();
    assert_eq!(report.counts.cells, 18_000);
    assert_eq!((report.counts.passed, report.counts.failed), (17_998, 2));
    let listed: Vec<_> = report
        .cells
        .iter()
        .map(|cell| (cell.cell, cell.verdict))
        .collect();
    assert_eq!(listed, [(233, Verdict::Failed), (15_000, Verdict::Failed)]);
    let texts: Vec<_> = report
        .findings
        .iter()
        .map(|finding| finding.text.as_str())
        .collect();
    let expected = [
        "V 3 broke c with n 77; last good: 2",
        "V 2 mended d with n 5000, which fails with 1",
    ];
    assert_eq!(texts, expected);
}

#[test]
fn blame_of_the_agent_stands() {
    let matrix = matrix(TWO_AXES);
    let mut race = Race::run(&matrix, |_, _| passes());
    race.rows[7].outcome = Outcome::SetupFailed;
    race.rows[7].blame = Some(Blame::Host);
    race.rows[7].passed = false;
    let report = race.report();
    assert_eq!((report.counts.host_faults, report.counts.failed), (1, 0));
    assert_eq!(report.cells[7].verdict, Verdict::Unresolved);
}
