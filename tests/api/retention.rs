//! Runs that are over are removed when they are old, with all that they left.

use regatta_model::AttemptId;
use reqwest::StatusCode;
use serde_json::Value;

use crate::kit::{Agent, fresh, matrix, problem, until};

/// How many files there are below a directory.
fn walk(directory: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => walk(&path),
            _ => 1,
        })
        .sum()
}

#[tokio::test]
async fn prune_removes_what_is_over_with_its_logs_and_nothing_else() {
    let (data, server) = fresh(5000).await;
    let api = &server.api;
    let mut agent = Agent::new(api, "one", 4);
    let put = async |attempt: &AttemptId| {
        let AttemptId { run, cell, ordinal } = attempt;
        let path = format!("api/v1/runs/{run}/cells/{cell}/attempts/{ordinal}/log");
        let request = api.http.put(api.url(&path)).body("kept as it comes");
        assert!(request.send().await.unwrap().status().is_success());
    };
    let over = api.submit(&matrix(2)).await;
    for assignment in agent.given().await {
        put(&assignment.attempt).await;
    }
    agent.finish(&over, |_| 0).await;
    let open = api.submit(&matrix(1)).await;
    let attempt = agent.given().await.remove(0).attempt;
    put(&attempt).await;
    let blobs = |run: &str| data.path().join("server/blobs/runs").join(run);
    let left = |run: &str| walk(&blobs(run));
    assert_eq!(left(over.run.as_str()), 2, "{}", data.path().display());

    let refused = problem(api.post("api/v1/prune").await).await;
    assert!(
        refused.status == 400 && refused.detail.contains("older_than"),
        "{}",
        refused.detail
    );
    let told: Value = api
        .post("api/v1/prune?older_than=3600")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(told["runs"], 0, "it ended less than an hour ago");
    let told: Value = api
        .post("api/v1/prune?older_than=0&dry_run=true")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&told["runs"], &told["gone"][0]["run"]),
        (&1.into(), &over.run.as_str().into())
    );
    assert_eq!(api.run(&over).await.run, over.run, "it was not for earnest");

    let told: Value = api
        .post("api/v1/prune?older_than=0")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(told["runs"], 1);
    let gone = api
        .http
        .get(api.url(&format!("api/v1/runs/{}", over.run)))
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
    until("its blobs are removed", || async {
        left(over.run.as_str()) == 0
    })
    .await;
    assert_eq!(left(open.run.as_str()), 1, "the open run keeps its own");
    assert_eq!(
        api.metric("regatta_runs{state=\"finished\"}").await,
        Some(0.0)
    );
    // The open run goes on.
    let end = agent.end(&attempt, 0);
    agent.sync(vec![end]).await;
    agent.finish(&open, |_| 0).await;
    assert_eq!(api.report(&open).await.counts.passed, 1);
}

#[tokio::test]
async fn prune_down_to_a_size_takes_the_oldest_first_and_no_more() {
    let (_data, server) = fresh(5000).await;
    let api = &server.api;
    let mut agent = Agent::new(api, "one", 4);
    let mut runs = Vec::new();
    for _ in 0..3 {
        let run = api.submit(&matrix(2)).await;
        agent.finish(&run, |_| 0).await;
        runs.push(run);
    }
    let told: Value = api
        .post("api/v1/prune?down_to=1000000000000")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(told["runs"], 0, "it is smaller already");
    let bytes = told["database_bytes"].as_u64().unwrap();
    let wanted = bytes - 100;
    let told: Value = api
        .post(&format!("api/v1/prune?down_to={wanted}"))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&told["runs"], &told["gone"][0]["run"]),
        (&1.into(), &runs[0].run.as_str().into())
    );
    assert_eq!(api.run(&runs[1]).await.run, runs[1].run);
}
