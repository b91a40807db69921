//! Runs that leave a question open, and what answers it.

use regatta_model::AttemptId;
use regatta_model::report::{Comparison, Conclusion, Finding, FindingKind, Report};
use regatta_model::run::RunSummary;
use reqwest::StatusCode;

use crate::kit::{Agent, Api, cases, finish, fresh, http, problem};

const MATRIX: &str = "name: small\nimage: mini:1\naxes:\n  n: [1, 2]\ntest: {run: 'true'}\n\
                      compare: {axis: n, baseline: 1}\nrerun: {at-most: 1}\n";

/// Of the second cell every second attempt fails.
fn end(agent: &Agent, id: &AttemptId) -> regatta_model::wire::EndedAttempt {
    let fails = id.cell == 1 && id.ordinal % 2 == 1;
    regatta_model::wire::EndedAttempt {
        results: cases(if fails { &["test_b"] } else { &[] }),
        ..agent.end(id, i32::from(fails))
    }
}

fn finding(report: &Report, kind: FindingKind) -> Option<&Finding> {
    report.findings.iter().find(|finding| finding.kind == kind)
}

async fn rerun(api: &Api, run: &RunSummary) -> reqwest::Response {
    let url = api.url(&format!(
        "api/v1/runs/{}/rerun?until_resolved=true",
        run.run
    ));
    http().post(url).send().await.unwrap()
}

#[tokio::test]
async fn what_the_matrix_leaves_open_is_resolved_on_demand_and_stays_so() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(MATRIX).await;
    let mut agents = ["one", "two", "three"].map(|name| Agent::new(&server.api, name, 2));
    let over = finish(&mut agents, &run, end).await;
    assert!(!over.deep);
    let report = server.api.report(&run).await;
    let open = finding(&report, FindingKind::Unresolved).unwrap();
    let way_out = format!("`regatta rerun {} --until-resolved`", run.run);
    assert!(open.text.contains(&way_out), "{}", open.text);

    let again = rerun(&server.api, &run).await;
    assert_eq!(again.status(), StatusCode::OK);
    assert_eq!(
        rerun(&server.api, &run).await.status(),
        StatusCode::CONFLICT,
        "it is not over"
    );
    let over = finish(&mut agents, &run, end).await;
    assert!(over.deep, "{over:?}");
    let report = server.api.report(&run).await;
    assert_eq!(
        report.conclusion,
        Conclusion::Regressed,
        "{}",
        report.sentence
    );
    let comparison = report.cells[1].comparison.as_ref().unwrap();
    assert_eq!(
        (comparison.result, comparison.regressed.as_slice()),
        (Comparison::Regressed, &["test_b".to_owned()][..])
    );
    assert_eq!(finding(&report, FindingKind::Unresolved), None);

    // It is known now, and there is nothing to ask.
    let refused = rerun(&server.api, &run).await;
    let status = refused.status();
    let why = problem(refused).await;
    assert_eq!(
        (status, why.kind.as_str()),
        (StatusCode::CONFLICT, "urn:regatta:resolved"),
        "{why:?}"
    );
}
