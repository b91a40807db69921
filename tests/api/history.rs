//! What a matrix's finished runs say together.

use regatta_model::history::{FlakyCases, History, Mark};
use regatta_model::{Blame, Outcome};
use reqwest::StatusCode;
use serde_json::Value;

use crate::kit::{Agent, cases, finish, fresh, matrix, problem};

#[tokio::test]
async fn runs_are_asked_together_and_what_hosts_did_is_not_counted() {
    let (_data, server) = fresh(5000).await;
    let mut agents = [
        Agent::new(&server.api, "one", 2),
        Agent::new(&server.api, "two", 2),
    ];
    let mut ids = Vec::new();
    for failing in ["", "test_b", "", "test_b"] {
        let run = server.api.submit(&matrix(2)).await;
        finish(&mut agents, &run, |agent, attempt| {
            let mut end = agent.end(attempt, i32::from(attempt.cell == 1 && !failing.is_empty()));
            end.results = cases(&[]);
            if attempt.cell == 1 && !failing.is_empty() {
                end.results = cases(&[failing]);
            }
            // The first attempt of cell 0 is lost with its host each time.
            if attempt.cell == 0 && attempt.ordinal == 1 {
                end.outcome = Outcome::HostLost;
                end.blame = Some(Blame::Host);
                end.results = cases(&["test_b"]);
            }
            end
        })
        .await;
        ids.push(run.run.to_string());
    }
    let history: History = server.api.json("api/v1/history?case=test_b").await;
    assert_eq!((history.matrix.as_str(), history.whole), ("small", true));
    let asked: Vec<&str> = history.runs.iter().map(|run| run.run.as_str()).collect();
    assert_eq!(asked, ids, "the oldest first");
    use Mark::{Failed, Passed};
    let marks: Vec<&[Mark]> = history
        .cells
        .iter()
        .map(|cell| cell.marks.as_slice())
        .collect();
    assert_eq!(marks, [[Passed; 4], [Passed, Failed, Passed, Failed]]);
    assert_eq!(history.cells[1].counts.transitions, 3);
    assert_eq!(history.cells[1].since.as_ref(), ids.last());

    let newest: History = server
        .api
        .json("api/v1/history?matrix=small&limit=3&axis=n%3D1")
        .await;
    assert_eq!((newest.runs.len(), newest.cells.len()), (3, 1));
    assert_eq!(newest.cells[0].marks, [Failed, Passed, Failed]);

    let flaky: FlakyCases = server.api.json("api/v1/flaky").await;
    let [case] = flaky.cases.as_slice() else {
        panic!("{flaky:?}");
    };
    assert_eq!(case.case.as_deref(), Some("test_b"));
    assert_eq!((case.score, case.cells, case.counts.failed), (0.75, 1, 2));
    assert_eq!(Some(&case.last), ids.last());

    let described: Value = server.api.json("api/v1/openapi.json").await;
    for (path, schema) in [("history", "History"), ("flaky", "FlakyCases")] {
        let mut document = described["components"]["schemas"][schema].clone();
        document["components"] = described["components"].clone();
        let answer: Value = server.api.json(&format!("api/v1/{path}")).await;
        let faults: Vec<String> = jsonschema::validator_for(&document)
            .unwrap()
            .iter_errors(&answer)
            .map(|error| error.to_string())
            .collect();
        assert_eq!(faults, Vec::<String>::new(), "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_refused_and_the_nearest_name_told() {
    let (_data, server) = fresh(5000).await;
    let ask = async |path: &str| {
        let problem = problem(server.api.get(path).await).await;
        (problem.status, problem.detail)
    };
    let not_found = StatusCode::NOT_FOUND.as_u16();
    assert_eq!(ask("api/v1/history").await.0, not_found);
    let run = server.api.submit(&matrix(1)).await;
    assert_eq!(
        ask("api/v1/history").await.0,
        not_found,
        "it has not finished"
    );
    let mut agents = [Agent::new(&server.api, "one", 1)];
    finish(&mut agents, &run, |agent, attempt| {
        let mut end = agent.end(attempt, 0);
        end.results = cases(&[]);
        end
    })
    .await;
    let (status, detail) = ask("api/v1/history?case=test_bb").await;
    assert_eq!(status, not_found);
    assert!(detail.contains("did you mean \"test_b\""), "{detail}");
    let (status, detail) = ask("api/v1/history?matrix=other").await;
    assert!(
        status == not_found && detail.contains("\"other\""),
        "{detail}"
    );
    for wrong in [
        "history?limit=0",
        "history?limit=101",
        "history?axis=n",
        "history?axis=m%3D1",
        "history?cell=1",
        "flaky?case=test_a",
    ] {
        let (status, detail) = ask(&format!("api/v1/{wrong}")).await;
        assert_eq!(status, 400, "{wrong}: {detail}");
    }
}
