//! Outcomes that have the digest of their cases' names in place of the names.

use regatta_model::case::{NamedSet, Results, ToldResults};
use regatta_model::report::Verdict;
use regatta_model::wire::{EndedAttempt, SyncResponse};
use regatta_model::{AttemptId, Digest};
use reqwest::StatusCode;
use serde_json::json;

use crate::kit::{Agent, cases, finish, fresh, matrix, start};

type Told = EndedAttempt<ToldResults>;

fn by_digest(ended: &EndedAttempt) -> Told {
    ended.with_results(ended.results.by_digest(ended.results.named_set()))
}

fn with_names(ended: &EndedAttempt) -> Told {
    ended.with_results(ToldResults::from(&ended.results))
}

/// Says that these ended, and holds what it is given.
async fn say(agent: &mut Agent, ended: &[Told]) -> SyncResponse {
    for end in ended {
        agent.held.remove(&end.attempt);
    }
    let mut request = json!(agent.request(Vec::new(), 0));
    request["ended"] = json!(ended);
    let sent = agent.api.http.post(agent.api.url("api/v1/agents/sync"));
    let answer = sent.json(&request).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: SyncResponse = answer.json().await.unwrap();
    for assignment in &answer.start {
        let attempt = assignment.attempt.clone();
        agent.held.insert(attempt, assignment.generation);
    }
    answer
}

/// An end with these results.
fn end(agent: &Agent, attempt: &AttemptId, results: Results) -> EndedAttempt {
    let exit = i32::from(results.failures().next().is_some());
    EndedAttempt {
        results,
        ..agent.end(attempt, exit)
    }
}

fn set() -> Digest {
    cases(&[]).set()
}

#[tokio::test]
async fn names_that_are_not_known_are_asked_for_and_come_once() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(2)).await;
    let mut agent = Agent::new(&server.api, "one", 2);
    let given = agent.given().await;
    let failed = end(&agent, &given[0].attempt, cases(&["test_b"]));
    let passed = end(&agent, &given[1].attempt, cases(&[]));

    let told = [by_digest(&failed), by_digest(&passed)];
    for _ in 0..3 {
        let answer = say(&mut agent, &told).await;
        assert!(answer.takes_sets);
        assert_eq!(answer.unknown_sets, [set()]);
        assert!(answer.acknowledged.is_empty(), "it is not recorded yet");
        assert!(answer.stop.is_empty());
        let again = |start: &AttemptId| told.iter().any(|end| end.attempt == *start);
        let started = answer.start.iter().any(|start| again(&start.attempt));
        assert!(!started, "what ended is not started again");
    }
    assert_eq!(server.api.run(&run).await.progress.attempts, 0);

    let told = [with_names(&failed), by_digest(&passed)];
    let answer = say(&mut agent, &told).await;
    assert_eq!(answer.acknowledged.len(), 2);
    assert!(answer.unknown_sets.is_empty());

    let over = finish(std::slice::from_mut(&mut agent), &run, |agent, attempt| {
        end(agent, attempt, cases(&["test_b"]))
    });
    over.await;
    let report = server.api.report(&run).await;
    let cell = &report.cells[usize::try_from(failed.attempt.cell).unwrap()];
    assert_eq!(cell.verdict, Verdict::Failed);
    assert_eq!(cell.failing, ["test_b"]);
    let cell = &report.cells[usize::try_from(passed.attempt.cell).unwrap()];
    assert_eq!(
        (cell.verdict, cell.cases.passed),
        (Verdict::Passed, 3),
        "the names count although only the other outcome had them"
    );
}

#[tokio::test]
async fn a_server_knows_the_sets_that_are_recorded() {
    let (data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(2)).await;
    let mut agent = Agent::new(&server.api, "one", 1);
    let given = agent.given().await;
    let first = end(&agent, &given[0].attempt, cases(&[]));
    let answer = say(&mut agent, &[with_names(&first)]).await;
    assert_eq!(answer.acknowledged.len(), 1);

    server.handle.shutdown().await;
    let server = start(data.path(), 5000).await;
    agent.api = server.api.clone();
    let attempt = agent.held.keys().next().unwrap().clone();
    let failed = end(&agent, &attempt, cases(&["test_c"]));
    let answer = say(&mut agent, &[by_digest(&failed)]).await;
    assert_eq!(answer.acknowledged, std::slice::from_ref(&attempt));
    assert!(answer.unknown_sets.is_empty());
    finish(std::slice::from_mut(&mut agent), &run, |agent, attempt| {
        end(agent, attempt, cases(&["test_c"]))
    })
    .await;
    let report = server.api.report(&run).await;
    let cell = &report.cells[usize::try_from(attempt.cell).unwrap()];
    assert_eq!(cell.failing, ["test_c"]);
}

#[tokio::test]
async fn what_does_not_fit_its_set_is_refused() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(3)).await;
    let mut agent = Agent::new(&server.api, "one", 3);
    let given = agent.given().await;
    let all: Vec<_> = given
        .iter()
        .map(|given| end(&agent, &given.attempt, cases(&[])))
        .collect();
    let mut beyond = by_digest(&end(&agent, &given[1].attempt, cases(&["test_c"])));
    beyond.results.exceptions[0].index = 3;
    let wrong = NamedSet {
        set: set(),
        cases: 2,
    };
    let told = [
        with_names(&all[0]),
        beyond,
        all[2].with_results(all[2].results.by_digest(wrong)),
    ];
    let answer = say(&mut agent, &told).await;
    assert_eq!(
        answer.acknowledged.len(),
        3,
        "an agent need not say it again"
    );
    let report = server.api.report(&run).await;
    for (end, why) in [
        (&all[1], "a result is of no case"),
        (&all[2], "has 3 names, not 2"),
    ] {
        let cell = usize::try_from(end.attempt.cell).unwrap();
        let attempt = json!(report.cells[cell].attempts[0]);
        let detail = attempt["detail"].as_str().unwrap();
        assert!(detail.contains(why), "{detail}");
    }
}

#[tokio::test]
async fn names_of_another_set_do_not_answer() {
    let (_data, server) = fresh(5000).await;
    server.api.submit(&matrix(2)).await;
    let mut agent = Agent::new(&server.api, "one", 2);
    let given = agent.given().await;
    let honest = end(&agent, &given[0].attempt, cases(&[]));
    let mut other = end(&agent, &given[1].attempt, cases(&[]));
    other.results.names.pop();
    let answer = say(&mut agent, &[with_names(&other), by_digest(&honest)]).await;
    assert_eq!(answer.acknowledged, [other.attempt]);
    assert_eq!(answer.unknown_sets, [set()]);
}

#[tokio::test]
async fn an_outcome_of_a_former_life_waits_for_its_names_too() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(1)).await;
    let mut agent = Agent::new(&server.api, "one", 1);
    let given = agent.given().await;
    let ended = end(&agent, &given[0].attempt, cases(&[]));
    agent.incarnation = 2;
    let answer = say(&mut agent, &[by_digest(&ended)]).await;
    assert!(answer.acknowledged.is_empty() && answer.start.is_empty());
    let answer = say(&mut agent, &[with_names(&ended)]).await;
    assert_eq!(answer.acknowledged.len(), 1);
    let now = server.api.run(&run).await;
    assert_eq!((now.progress.attempts, now.progress.settled), (1, 1));
}

#[test]
fn a_server_that_knows_no_digests_refuses_rather_than_misjudges() {
    let agent = Agent::new(
        &crate::kit::Api {
            base: String::new(),
            http: crate::kit::http(),
        },
        "one",
        1,
    );
    let attempt = AttemptId {
        run: "r".parse().unwrap(),
        cell: 0,
        ordinal: 1,
    };
    let ended = end(&agent, &attempt, cases(&[]));
    let former = |told: &Told| serde_json::from_value::<EndedAttempt>(json!(told));
    assert_eq!(former(&with_names(&ended)).unwrap(), ended);
    assert!(former(&by_digest(&ended)).is_err());
}
