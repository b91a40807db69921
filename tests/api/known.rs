//! Failures that the matrix knows: they are told of, and count for nothing until their day is over.

use regatta_model::AttemptId;
use regatta_model::case::{CaseStatus, Results};
use regatta_model::history::{History, Mark};
use regatta_model::report::{Conclusion, FindingKind, Report, Verdict};
use regatta_model::wire::EndedAttempt;

use crate::kit::{Agent, cases, finish, fresh};

/// Two cells, and a third whose baseline is the first; `known` of the matrix.
fn matrix(known: &str) -> String {
    format!(
        "name: small\nimage: mini:1\naxes:\n  n: [1, 2, 3]\ntest: {{run: 'true'}}\ncompare: {{axis: n, baseline: 1}}\n\
         known:\n{known}\n"
    )
}

fn ends(agent: &Agent, attempt: &AttemptId, results: Results) -> EndedAttempt {
    let failed = results.count(CaseStatus::Failed) > 0;
    EndedAttempt {
        results,
        ..agent.end(attempt, i32::from(failed))
    }
}

async fn reported(known: &str, failing: impl Fn(&AttemptId) -> &'static [&'static str]) -> Report {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(known)).await;
    let mut agents = [
        Agent::new(&server.api, "one", 4),
        Agent::new(&server.api, "two", 4),
    ];
    let end = |agent: &Agent, id: &AttemptId| ends(agent, id, cases(failing(id)));
    finish(&mut agents, &run, end).await;
    server.api.report(&run).await
}

fn told(report: &Report) -> Vec<(FindingKind, &str)> {
    let findings = report.findings.iter();
    findings.map(|one| (one.kind, one.text.as_str())).collect()
}

#[tokio::test]
async fn what_is_known_to_fail_is_told_and_neither_fails_its_cell_nor_is_run_again() {
    let known = "  - {case: test_b, owner: web, until: 2999-12-31, why: 'https://bugs.example/7'}";
    let report = reported(known, |id| if id.cell == 1 { &["test_b"] } else { &[] }).await;
    assert_eq!(report.conclusion, Conclusion::Passed, "{}", report.sentence);
    assert_eq!((report.counts.passed, report.counts.attempts), (3, 3));
    let cell = &report.cells[1];
    assert_eq!(cell.verdict, Verdict::Passed);
    assert_eq!((cell.cases.passed, cell.cases.known), (2, 1));
    assert_eq!(
        (cell.known.as_slice(), cell.failing.len()),
        (&["test_b".to_owned()][..], 0)
    );
    let expected = "test_b fails in n 2, as web knows (until 2999-12-31): https://bugs.example/7";
    assert_eq!(told(&report), [(FindingKind::Known, expected)]);
    assert_eq!(
        cell.attempts[0].exit_code,
        Some(1),
        "what was recorded stays as it was"
    );
}

#[tokio::test]
async fn what_fails_beside_it_counts() {
    let known = "  - {case: 'test_[ab]', owner: web, until: 2999-12-31}\n  - {case: '*_b', owner: web, until: 2999-12-31}";
    let report = reported(known, |id| match id.cell {
        2 => &["test_a", "test_b"],
        _ => &[],
    })
    .await;
    assert_eq!(
        report.conclusion,
        Conclusion::Regressed,
        "{}",
        report.sentence
    );
    let regression = &report.findings[0];
    assert_eq!(
        regression.case.as_deref(),
        Some("test_a"),
        "{:#?}",
        told(&report)
    );
    assert_eq!(report.cells[2].known, ["test_b"]);
    // The first pattern means no case: brackets are nothing but brackets.
    let stale = "test_[ab] failed nowhere, though web knows it to (until 2999-12-31): its entry in `known` may go";
    assert!(
        told(&report).contains(&(FindingKind::Known, stale)),
        "{:#?}",
        told(&report)
    );
}

#[tokio::test]
async fn when_its_day_is_over_it_counts_again() {
    let known = "  - {case: test_b, owner: web, until: 2020-01-31, where: {n: 3}}";
    let report = reported(known, |id| if id.cell == 2 { &["test_b"] } else { &[] }).await;
    assert_eq!(
        report.conclusion,
        Conclusion::Regressed,
        "{}",
        report.sentence
    );
    let over = "test_b fails in n 3, and was known to until 2020-01-31 only: web answers for it";
    assert!(
        told(&report).contains(&(FindingKind::Known, over)),
        "{:#?}",
        told(&report)
    );
}

#[tokio::test]
async fn history_does_not_forget_that_it_failed() {
    let (_data, server) = fresh(5000).await;
    let known = "  - {case: test_b, owner: web, until: 2999-12-31}";
    let run = server.api.submit(&matrix(known)).await;
    let mut agents = [Agent::new(&server.api, "one", 4)];
    let end = |agent: &Agent, id: &AttemptId| ends(agent, id, cases(&["test_b"]));
    finish(&mut agents, &run, end).await;
    let report = server.api.report(&run).await;
    assert_eq!(report.conclusion, Conclusion::Passed, "{}", report.sentence);
    let history: History = server.api.json("api/v1/history?case=test_b").await;
    let marks: Vec<Mark> = history
        .cells
        .iter()
        .flat_map(|cell| cell.marks.clone())
        .collect();
    assert_eq!(marks, [Mark::Failed; 3]);
}
