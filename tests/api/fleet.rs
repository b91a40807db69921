//! Hosts: leases, losses, restarts of the server, and agents that do not do as they should.

use regatta_model::run::{RunState, RunSummary};
use regatta_model::wire::{ENDED_MOST, SyncResponse};
use regatta_model::{AttemptId, Blame, Incarnation, Outcome};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::kit::{Agent, Api, Process, cases, fresh, matrix, problem, start, until};

async fn hosts(api: &Api) -> Vec<Value> {
    api.json("api/v1/hosts").await
}

#[tokio::test]
async fn an_outcome_told_ten_times_is_recorded_once() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(1)).await;
    let mut agent = Agent::new(&server.api, "one", 1);
    let attempt = agent.given().await.remove(0).attempt;
    let end = agent.end(&attempt, 0);
    for _ in 0..10 {
        let answer = agent.sync(vec![end.clone()]).await;
        assert_eq!(answer.acknowledged, std::slice::from_ref(&attempt));
    }
    let mut request = agent.request(vec![end; 3], 0);
    request.sequence += 1;
    let (one, two) = tokio::join!(agent.send(&request), agent.send(&request));
    assert!(one.status().is_success() && two.status().is_success());
    assert_eq!(server.api.run(&run).await.progress.attempts, 1);
}

#[tokio::test]
async fn the_late_outcome_of_a_lost_host_does_not_count() {
    let (_data, server) = fresh(1000).await;
    let run = server.api.submit(&matrix(1)).await;
    let mut silent = Agent::new(&server.api, "silent", 1);
    let first = silent.given().await.remove(0).attempt;
    let mut other = Agent::new(&server.api, "other", 1);
    let second = other.given().await.remove(0).attempt;
    assert_eq!(
        (second.cell, second.ordinal),
        (first.cell, 2),
        "placed elsewhere once the lease was over"
    );
    let late = silent.end(&first, 1);
    let answer = silent.sync(vec![late]).await;
    assert_eq!(answer.acknowledged, [first], "it need not be told again");
    let over = other.finish(&run, |_| 0).await;
    assert_eq!((over.progress.attempts, over.progress.failing), (2, 0));
    let attempts = server.api.report(&run).await.cells.remove(0).attempts;
    let told: Vec<_> = attempts
        .iter()
        .map(|a| (a.outcome.as_str(), a.blame.as_deref(), a.host.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("host_lost", Some("host"), "silent"),
            ("exited", None, "other")
        ]
    );
}

#[tokio::test]
async fn a_killed_server_takes_up_where_it_was() {
    let data = tempfile::tempdir().unwrap();
    let server = Process::start(data.path()).await;
    server.api.push_image().await;
    let run = server.api.submit(&matrix(40)).await;
    let mut agent = Agent::new(&server.api, "one", 4);
    agent.given().await;
    let mut server = Some(server);
    let mut told = 0;
    for round in 0..3 {
        // Some are recorded, some end while nobody hears it, some go on running.
        let recorded: Vec<_> = agent
            .held
            .keys()
            .take(1)
            .map(|attempt| agent.end(attempt, 0))
            .collect();
        agent.sync(recorded).await;
        let unheard: Vec<_> = agent
            .held
            .keys()
            .take(2)
            .map(|attempt| agent.end(attempt, 0))
            .collect();
        let held = agent.held.clone();
        server.take().unwrap().kill();
        let restarted = Process::start(data.path()).await;
        agent.api = restarted.api.clone();
        let answer = agent.sync(unheard.clone()).await;
        told += 1 + unheard.len() as u64;
        let acknowledged: Vec<AttemptId> = unheard.into_iter().map(|end| end.attempt).collect();
        assert_eq!(answer.acknowledged, acknowledged, "round {round}");
        let now = agent.api.run(&run).await;
        assert_eq!(
            now.progress.attempts, told,
            "what was acknowledged is recorded"
        );
        assert_eq!(answer.stop, [], "what it held it may go on with");
        let given: Vec<_> = answer.start.iter().map(|given| &given.attempt).collect();
        assert!(
            given.iter().all(|attempt| !held.contains_key(*attempt)),
            "nothing is given twice: {given:?}"
        );
        server = Some(restarted);
    }
    let over = agent.finish(&run, |_| 0).await;
    assert_eq!(
        (over.state, over.progress.attempts),
        (RunState::Finished, 40)
    );
    let report = agent.api.report(&run).await;
    assert!(
        report.cells.iter().all(|cell| cell.attempts.len() == 1),
        "no attempt was made twice"
    );
}

#[tokio::test]
async fn a_run_shows_all_that_runs_of_it() {
    let (data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(9)).await;
    let mut one = Agent::new(&server.api, "one", 3);
    let mut two = Agent::new(&server.api, "two", 2);
    for (agent, running) in [(&mut one, 3), (&mut two, 5)] {
        agent.given().await;
        let now = server.api.run(&run).await;
        assert_eq!(now.progress.running, running, "with {}", agent.host);
    }
    let listed: Vec<RunSummary> = server.api.json("api/v1/runs").await;
    assert_eq!(listed[0].progress.running, 5);

    // After a restart they go on with what they hold, and nothing new is placed or recorded.
    server.handle.shutdown().await;
    let server = start(data.path(), 5000).await;
    for agent in [&mut one, &mut two] {
        agent.api = server.api.clone();
        agent.sync(Vec::new()).await;
    }
    until("all that is held is shown again", || async {
        server.api.run(&run).await.progress.running == 5
    })
    .await;
    let now = server.api.run(&run).await;
    assert_eq!(now.progress.attempts, 0, "nothing ended meanwhile");
}

#[tokio::test]
async fn what_was_known_of_failing_cells_outlives_the_server() {
    let (data, server) = fresh(5000).await;
    let source =
        "image: mini:1\naxes:\n  v: [1, 2]\ntest: {run: x}\ncompare: {axis: v, baseline: 1}\n";
    let run = server.api.submit(source).await;
    let mut agent = Agent::new(&server.api, "one", 2);
    agent.given().await;
    let ended: Vec<_> = agent
        .held
        .keys()
        .map(|attempt| {
            let mut end = agent.end(attempt, i32::from(attempt.cell == 1));
            end.results = if attempt.cell == 1 {
                cases(&["test_a"])
            } else {
                cases(&[])
            };
            end
        })
        .collect();
    // Told, and then the server ends before the reruns that this leads to are heard of.
    let request = agent.request(ended, 0);
    agent
        .send(&request)
        .await
        .json::<SyncResponse>()
        .await
        .unwrap();
    let before: RunSummary = server.api.run(&run).await;
    server.handle.shutdown().await;
    let server = start(data.path(), 5000).await;
    agent.api = server.api.clone();
    let after = server.api.run(&run).await;
    assert_eq!(
        (
            before.progress.settled,
            before.progress.failing,
            before.progress.attempts
        ),
        (
            after.progress.settled,
            after.progress.failing,
            after.progress.attempts
        )
    );
    let over = crate::kit::finish(std::slice::from_mut(&mut agent), &run, |agent, attempt| {
        let mut end = agent.end(attempt, i32::from(attempt.cell == 1));
        end.results = if attempt.cell == 1 {
            cases(&["test_a"])
        } else {
            cases(&[])
        };
        end
    })
    .await;
    assert_eq!(
        (
            over.progress.settled,
            over.progress.failing,
            over.progress.attempts
        ),
        (2, 1, 10),
        "four reruns of what failed, and four of its baseline"
    );
}

#[tokio::test]
async fn an_idle_sync_waits_until_there_is_something_to_say() {
    let (_data, server) = fresh(20_000).await;
    let mut agent = Agent::new(&server.api, "one", 1);
    agent.sync(Vec::new()).await;
    let request = agent.request(Vec::new(), 20_000);
    let (client, url) = (
        server.api.http.clone(),
        server.api.url("api/v1/agents/sync"),
    );
    let waiting =
        tokio::spawn(async move { client.post(url).json(&request).send().await.unwrap() });
    server.api.submit(&matrix(1)).await;
    let answer: SyncResponse = waiting.await.unwrap().json().await.unwrap();
    // Where the submission came first, the sync had something to hear at once; else it heard it when it came. Only a
    // sync that waited its whole time would have an empty answer.
    assert_eq!(answer.start.len(), 1);

    let mut idle = Agent::new(&server.api, "idle", 0);
    let older = idle.request(Vec::new(), 20_000);
    let (client, url) = (
        server.api.http.clone(),
        server.api.url("api/v1/agents/sync"),
    );
    let begun = Instant::now();
    let waiting = tokio::spawn(async move { client.post(url).json(&older).send().await.unwrap() });
    until("the older sync is waiting", || async {
        hosts(&server.api).await.len() == 2
    })
    .await;
    idle.sync(Vec::new()).await;
    let answer: SyncResponse = waiting.await.unwrap().json().await.unwrap();
    assert_eq!(
        (answer.start, answer.stop, answer.acknowledged),
        (vec![], vec![], vec![])
    );
    assert!(
        begun.elapsed().as_millis() < u128::from(answer.next_sync_ms),
        "it was released before its time"
    );
}

#[tokio::test]
async fn a_cordoned_host_gets_nothing_and_the_server_remembers_it() {
    let (data, server) = fresh(5000).await;
    let mut agent = Agent::new(&server.api, "one", 1);
    agent.sync(Vec::new()).await;
    let policy = async |api: &Api, host: &str, body: Value| {
        api.http
            .put(api.url(&format!("api/v1/hosts/{host}/policy")))
            .json(&body)
            .send()
            .await
            .unwrap()
    };
    assert_eq!(
        problem(policy(&server.api, "none", json!({"policy": "cordoned"})).await)
            .await
            .status,
        404
    );
    assert_eq!(
        problem(policy(&server.api, "one", json!({"policy": "asleep"})).await)
            .await
            .status,
        400
    );
    let set = policy(
        &server.api,
        "one",
        json!({"policy": "cordoned", "reason": "a new disk"}),
    )
    .await;
    assert!(set.status().is_success());
    server.api.submit(&matrix(1)).await;
    assert_eq!(agent.sync(Vec::new()).await.start, []);

    server.handle.shutdown().await;
    let server = start(data.path(), 5000).await;
    agent.api = server.api.clone();
    assert_eq!(agent.sync(Vec::new()).await.start, []);
    let known = hosts(&server.api).await.remove(0);
    assert_eq!(
        (&known["policy"], &known["reason"], &known["health"]),
        (&json!("cordoned"), &json!("a new disk"), &json!("ready"))
    );
    assert!(
        policy(&server.api, "one", json!({"policy": "active"}))
            .await
            .status()
            .is_success()
    );
    assert_eq!(agent.given().await.len(), 1);
}

#[tokio::test]
async fn a_former_life_of_a_host_gets_nothing_and_tells_nothing() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(2)).await;
    let mut former = Agent::new(&server.api, "one", 1);
    let first = former.given().await.remove(0).attempt;
    let mut later = Agent {
        incarnation: 2,
        ..Agent::new(&server.api, "one", 1)
    };
    let second = later.given().await.remove(0).attempt;
    assert_ne!(first, second);
    let told = former.end(&first, 1);
    let request = former.request(vec![told], 0);
    let answer: SyncResponse = former.send(&request).await.json().await.unwrap();
    assert_eq!(
        (
            answer.acknowledged.len(),
            answer.start.len(),
            answer.lease_ms
        ),
        (0, 0, 0)
    );
    let over = later.finish(&run, |_| 0).await;
    assert_eq!(
        (
            over.progress.settled,
            over.progress.failing,
            over.progress.attempts
        ),
        (2, 0, 3)
    );
}

#[tokio::test]
async fn a_later_life_that_tells_of_the_former_ones_loss_gets_the_next_attempt() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(1)).await;
    let mut agent = Agent::new(&server.api, "one", 1);
    let first = agent.given().await.remove(0).attempt;
    let mut lost = agent.end(&first, 0);
    lost.outcome = Outcome::HostLost;
    lost.blame = Some(Blame::Host);
    agent.incarnation = 2;
    lost.incarnation = Incarnation(2);
    let answer = agent.sync(vec![lost]).await;
    assert_eq!(answer.acknowledged, std::slice::from_ref(&first));
    let over = agent.finish(&run, |_| 0).await;
    assert_eq!((over.progress.attempts, over.progress.failing), (2, 0));
    let attempts = server.api.report(&run).await.cells.remove(0).attempts;
    let told: Vec<_> = attempts.iter().map(|a| a.outcome.as_str()).collect();
    assert_eq!(told, ["host_lost", "exited"]);
}

#[tokio::test]
async fn an_agent_that_talks_nonsense_is_refused_or_harmless() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(1)).await;
    let mut agent = Agent::new(&server.api, "one", 1);
    let attempt = agent.given().await.remove(0).attempt;

    let mut other = agent.request(Vec::new(), 0);
    other.protocol = 99;
    let refused = problem(agent.send(&other).await).await;
    assert!(
        refused.status == 409 && refused.detail.contains("protocol 99"),
        "{}",
        refused.detail
    );
    let mut many = agent.request(Vec::new(), 0);
    many.ended = vec![agent.end(&attempt, 0); ENDED_MOST + 1];
    assert_eq!(problem(agent.send(&many).await).await.status, 400);
    let mut greedy = agent.request(Vec::new(), 0);
    greedy.slots = u32::MAX;
    assert_eq!(problem(agent.send(&greedy).await).await.status, 400);
    for body in [
        "",
        "{}",
        "[]",
        "{\"protocol\": 1, \"host\": \"../x\"}",
        "\u{0}",
    ] {
        let request = server
            .api
            .http
            .post(server.api.url("api/v1/agents/sync"))
            .header("content-type", "application/json");
        assert_eq!(
            problem(request.body(body).send().await.unwrap())
                .await
                .status,
            400,
            "{body:?}"
        );
    }

    // Outcomes of attempts that are not its, that never were, or of another generation.
    let mut strange = Vec::new();
    let id = |run: &str, cell, ordinal| AttemptId {
        run: run.parse().unwrap(),
        cell,
        ordinal,
    };
    strange.push(agent.end(&id("never", 0, 1), 0));
    strange.push(agent.end(&id(run.run.as_str(), u64::MAX, 1), 0));
    strange.push(agent.end(&id(run.run.as_str(), 0, u32::MAX), 0));
    let mut stale = agent.end(&attempt, 0);
    stale.generation = 1;
    strange.push(stale);
    let mut former = agent.end(&attempt, 0);
    former.incarnation = Incarnation(0);
    strange.push(former);
    let request = agent.request(strange, 0);
    let answer: SyncResponse = agent.send(&request).await.json().await.unwrap();
    assert_eq!(
        answer.acknowledged.len(),
        5,
        "nobody wants them, so they need not be told again"
    );
    assert_eq!(server.api.run(&run).await.progress.attempts, 0);

    // Results that make no sense do not make a pass, and do not stop the run.
    agent.held.clear();
    agent.given().await;
    let mut end = agent.end(&agent.held.keys().next().unwrap().clone(), 0);
    end.results = cases(&["test_a"]);
    end.results.exceptions[0].index = 7;
    end.outcome = Outcome::Exited { exit_code: 0 };
    agent.sync(vec![end]).await;
    agent.finish(&run, |_| 0).await;
    let cell = server.api.report(&run).await.cells.remove(0);
    assert!(
        !cell.attempts[0].passed && cell.attempts[0].detail.contains("refused"),
        "{:?}",
        cell.attempts[0]
    );
}

#[tokio::test]
async fn a_host_that_says_what_it_lacks_gets_nothing_new_until_it_is_mended() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(3)).await;
    let mut agent = Agent::new(&server.api, "one", 1);
    let held = agent.given().await.remove(0).attempt;
    let lack = "its data lies on a file system that is read-only".to_owned();
    let lacking = async |agent: &mut Agent, lacks: Vec<String>, ended| {
        let mut request = agent.request(ended, 0);
        request.facts.observed.lacks = lacks;
        let answer: SyncResponse = agent.send(&request).await.json().await.unwrap();
        answer.start
    };
    let end = agent.end(&held, 0);
    let given = lacking(&mut agent, vec![lack.clone()], vec![end]).await;
    assert_eq!(given, [], "its place is free, and it gets nothing");
    let given = lacking(&mut agent, vec![lack.clone(); 100], Vec::new()).await;
    assert_eq!(given, []);
    let told = hosts(&server.api).await.remove(0);
    assert_eq!(
        told["policy"], "active",
        "what is seen is not what is willed"
    );
    let lacks = told["facts"]["observed"]["lacks"].as_array().unwrap();
    assert_eq!((lacks.len(), &lacks[0]), (16, &lack.as_str().into()));
    let page = server.api.http.get(server.api.url("metrics/hosts"));
    let page = page.send().await.unwrap().text().await.unwrap();
    assert!(
        page.contains("regatta_host_lacks{host=\"one\"} 16"),
        "{page}"
    );
    let mut request = agent.request(Vec::new(), 0);
    request.facts.observed.nodes_free = Some(7);
    let answer: SyncResponse = agent.send(&request).await.json().await.unwrap();
    assert_eq!(answer.start.len(), 1, "it is mended");
    assert_eq!(server.api.run(&run).await.progress.attempts, 1);
}
