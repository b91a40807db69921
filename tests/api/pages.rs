//! Streams of events: live, resumed, and over a restart of the server.

use futures_util::StreamExt as _;
use regatta_model::run::{RunEvent, RunState, RunSummary};

use crate::kit::{Agent, Api, BOUND, fresh, matrix, problem, start};

/// The events of a stream until it ends, or until there are `most`; each with its id.
async fn events(
    api: &Api,
    run: &RunSummary,
    after: Option<u64>,
    most: usize,
) -> Vec<(u64, RunEvent)> {
    let mut request = api
        .http
        .get(api.url(&format!("api/v1/runs/{}/events", run.run)));
    if let Some(after) = after {
        request = request.header("last-event-id", after.to_string());
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let read = async {
        let (mut events, mut rest) = (Vec::new(), String::new());
        let mut body = response.bytes_stream();
        while events.len() < most
            && let Some(chunk) = body.next().await
        {
            let Ok(chunk) = chunk else { break };
            rest.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some((event, after)) = rest.split_once("\n\n") {
                let field = |name: &str| {
                    event
                        .lines()
                        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                };
                if let (Some(id), Some(data)) = (field("id"), field("data")) {
                    let parsed: RunEvent = serde_json::from_str(data).unwrap();
                    let kind = if matches!(parsed, RunEvent::State { .. }) {
                        "state"
                    } else {
                        "attempt"
                    };
                    assert_eq!(field("event"), Some(kind));
                    events.push((id.parse().unwrap(), parsed));
                }
                rest = after.to_owned();
            }
        }
        events
    };
    tokio::time::timeout(BOUND, read)
        .await
        .expect("the stream ends")
}

#[tokio::test]
async fn a_stream_goes_on_where_it_stopped_even_over_a_restart() {
    let (data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(6)).await;
    let mut agent = Agent::new(&server.api, "one", 2);
    agent.given().await;
    let ended: Vec<_> = agent
        .held
        .keys()
        .map(|attempt| agent.end(attempt, 0))
        .collect();
    agent.sync(ended).await;
    let first = events(&server.api, &run, None, 4).await;
    assert_eq!(
        first.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert!(matches!(
        first[0].1,
        RunEvent::State {
            state: RunState::Queued,
            ..
        }
    ));
    assert!(matches!(
        first[1].1,
        RunEvent::State {
            state: RunState::Running,
            ..
        }
    ));
    let RunEvent::Attempt {
        host,
        outcome,
        passed,
        progress,
        ..
    } = &first[3].1
    else {
        panic!("{first:?}")
    };
    assert_eq!(
        (host.as_str(), outcome.as_str(), *passed),
        ("one", "exited", true)
    );
    assert_eq!(
        (progress.settled, progress.attempts, progress.cells),
        (2, 2, 6)
    );

    server.handle.shutdown().await;
    let server = start(data.path(), 5000).await;
    agent.api = server.api.clone();
    let (rest, over) = tokio::join!(
        events(&server.api, &run, Some(3), usize::MAX),
        agent.finish(&run, |_| 0)
    );
    let ids: Vec<u64> = rest.iter().map(|(id, _)| *id).collect();
    assert_eq!(
        ids,
        (4..=ids.len() as u64 + 3).collect::<Vec<_>>(),
        "none is left out, none comes twice"
    );
    assert_eq!(rest[0], {
        let mut again = first[3].clone();
        if let (RunEvent::Attempt { progress: now, .. }, RunEvent::Attempt { progress, .. }) =
            (&rest[0].1, &mut again.1)
        {
            progress.running = now.running;
        }
        again
    });
    let Some((_, RunEvent::State { state, progress })) = rest.last() else {
        panic!("{rest:?}")
    };
    assert_eq!(
        (*state, progress.settled, progress.attempts),
        (over.state, 6, 6)
    );

    let all = events(&server.api, &run, None, usize::MAX).await;
    let attempts = all
        .iter()
        .filter(|(_, event)| matches!(event, RunEvent::Attempt { .. }))
        .count();
    assert_eq!(
        attempts, 6,
        "a run that is over can be read from its beginning"
    );
    let last = all.last().unwrap().0;
    assert_eq!(events(&server.api, &run, Some(last), usize::MAX).await, []);
    let request = server
        .api
        .http
        .get(server.api.url(&format!("api/v1/runs/{}/events", run.run)));
    assert_eq!(
        problem(request.header("last-event-id", "x").send().await.unwrap())
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn an_end_that_a_rerun_took_back_is_not_told() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(2)).await;
    let mut agent = Agent::new(&server.api, "one", 2);
    agent.finish(&run, |_| 1).await;
    let before = events(&server.api, &run, None, usize::MAX).await;
    let path = format!("api/v1/runs/{}/rerun?failed=true", run.run);
    assert!(server.api.post(&path).await.status().is_success());
    let (told, _) = tokio::join!(
        events(&server.api, &run, None, usize::MAX),
        agent.finish(&run, |_| 0)
    );
    let over = |(_, event): &&(u64, RunEvent)| matches!(event, RunEvent::State { state, .. } if state.is_over());
    assert_eq!(told.iter().filter(over).count(), 1);
    assert!(told.last().iter().all(over), "the stream ends with the end");
    assert!(
        told.len() > before.len(),
        "what came before and after is all told"
    );
}

#[tokio::test]
async fn runs_are_listed_the_newest_first_page_by_page() {
    let (_data, server) = fresh(5000).await;
    let mut submitted = Vec::new();
    for _ in 0..5 {
        submitted.push(server.api.submit(&matrix(1)).await.run);
    }
    assert!(submitted.is_sorted(), "ids sort by time");
    submitted.reverse();
    let first: Vec<RunSummary> = server.api.json("api/v1/runs?limit=3").await;
    assert_eq!(
        first.iter().map(|run| run.run.clone()).collect::<Vec<_>>(),
        submitted[..3]
    );
    let rest: Vec<RunSummary> = server
        .api
        .json(&format!("api/v1/runs?limit=3&before={}", submitted[2]))
        .await;
    assert_eq!(
        rest.iter().map(|run| run.run.clone()).collect::<Vec<_>>(),
        submitted[3..]
    );
}
