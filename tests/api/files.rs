//! Logs and artifacts of an attempt, where more than one host brings some.

use regatta_model::log::{self, Stream};
use regatta_model::wire::{Artifact, EndedAttempt, LogPlace};
use reqwest::StatusCode;

use crate::kit::{Agent, Api, fresh, matrix, until};

/// Uploads a log that says this and an artifact of the same text; gives the log's bytes.
async fn upload(api: &Api, files: &str, text: &str, by: Option<u64>) -> u64 {
    let mut records = Vec::new();
    log::encode(1, Stream::Out, text.as_bytes(), &mut records);
    let log = zstd::encode_all(records.as_slice(), 3).unwrap();
    let bytes = log.len() as u64;
    let query = by.map_or(String::new(), |by| format!("?generation={by}"));
    for (path, body) in [("log", log), ("artifacts/a.txt", text.into())] {
        let url = api.url(&format!("{files}/{path}{query}"));
        let answer = api.http.put(url).body(body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
    }
    bytes
}

async fn texts(api: &Api, files: &str) -> [String; 2] {
    let mut texts = [String::new(), String::new()];
    for (text, path) in texts.iter_mut().zip(["log", "artifacts/a.txt"]) {
        *text = api
            .get(&format!("{files}/{path}"))
            .await
            .text()
            .await
            .unwrap();
    }
    texts
}

fn left(end: EndedAttempt, bytes: u64, by: Option<u64>) -> EndedAttempt {
    EndedAttempt {
        log: LogPlace::Uploaded { bytes },
        artifacts: vec![Artifact {
            path: "a.txt".into(),
            bytes: 1,
        }],
        files: by,
        ..end
    }
}

#[tokio::test]
async fn a_host_that_lost_an_attempt_does_not_replace_its_files() {
    let (_data, server) = fresh(5000).await;
    let api = &server.api;
    let run = api.submit(&matrix(1)).await;
    let mut agent = Agent::new(api, "one", 1);
    agent.given().await;
    let (attempt, generation) = agent.held.clone().pop_first().unwrap();
    let files = format!("api/v1/runs/{}/cells/0/attempts/1", run.run);
    let bytes = upload(api, &files, "right", Some(generation)).await;
    // Before the outcome is recorded: somebody of an earlier assignment, and somebody of a former version.
    upload(api, &files, "zombie", Some(generation - 1)).await;
    upload(api, &files, "former", None).await;
    let end = left(agent.end(&attempt, 0), bytes, Some(generation));
    assert!(agent.sync(vec![end]).await.takes_generations);
    until("the run is over", async || {
        api.run(&run).await.state.is_over()
    })
    .await;
    assert_eq!(texts(api, &files).await, ["right", "right"]);
    // Afterwards, nothing of it changes.
    let url = api.url(&format!("{files}/log?generation={generation}"));
    let late = api.http.put(url).body("late").send().await.unwrap();
    assert_eq!(late.status(), StatusCode::NO_CONTENT);
    assert_eq!(texts(api, &files).await, ["right", "right"]);
}

#[tokio::test]
async fn files_that_are_kept_by_no_generation_are_found() {
    // By an agent of a former version, and by one whose upload a server of a former version took.
    for by in [None, Some(1)] {
        let (_data, server) = fresh(5000).await;
        let api = &server.api;
        let run = api.submit(&matrix(1)).await;
        let mut agent = Agent::new(api, "one", 1);
        agent.given().await;
        let attempt = agent.held.keys().next().unwrap().clone();
        let files = format!("api/v1/runs/{}/cells/0/attempts/1", run.run);
        let bytes = upload(api, &files, "former", None).await;
        let end = left(agent.end(&attempt, 0), bytes, by);
        agent.sync(vec![end]).await;
        assert_eq!(texts(api, &files).await, ["former", "former"]);
    }
}
