//! Hosts whose failures others do not confirm.

use regatta_model::run::RunState;
use regatta_model::wire::{Canaries, SyncResponse};
use serde_json::Value;

use crate::kit::{Agent, Api, Process, fresh, matrix};

/// Lets all agents take and end what they can, until nothing is left of the run; `fails` says what fails where.
async fn play(
    agents: &mut [Agent],
    run: &regatta_model::run::RunSummary,
    fails: impl Fn(&str, u64) -> bool,
    stop: impl AsyncFn(&Api) -> bool,
) {
    for _ in 0..1000 {
        for agent in &mut *agents {
            let held: Vec<_> = agent.held.keys().cloned().collect();
            let end = |attempt: &regatta_model::AttemptId| {
                agent.end(attempt, i32::from(fails(&agent.host, attempt.cell)))
            };
            let ended = held.iter().map(end).collect();
            agent.sync(ended).await;
        }
        let api = &agents[0].api;
        if api.run(run).await.state.is_over() || stop(api).await {
            return;
        }
    }
    panic!("the run does not end");
}

fn fleet(api: &Api, names: &[&str]) -> Vec<Agent> {
    names.iter().map(|name| Agent::new(api, name, 4)).collect()
}

async fn host(api: &Api, name: &str) -> Value {
    let hosts: Vec<Value> = api.json("api/v1/hosts").await;
    hosts.into_iter().find(|host| host["name"] == name).unwrap()
}

async fn is_quarantined(api: &Api) -> bool {
    host(api, "bad").await["policy"] == "quarantined"
}

/// A disk that breaks every third test, say.
fn breaks_every_third(host: &str, cell: u64) -> bool {
    host == "bad" && cell.is_multiple_of(3)
}

const CELLS: u64 = 120;

#[tokio::test]
async fn what_a_bad_host_decided_is_run_again_elsewhere_and_counts_for_nothing() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(CELLS)).await;
    let mut agents = fleet(&server.api, &["bad", "one", "two", "three"]);
    play(&mut agents, &run, breaks_every_third, async |_| false).await;
    let bad = host(&server.api, "bad").await;
    assert_eq!(
        (&bad["policy"], &bad["standing"]),
        (&"quarantined".into(), &"quarantined".into())
    );
    let reason = bad["reason"].as_str().unwrap();
    assert!(
        reason.contains("failures that other hosts did not confirm"),
        "{reason}"
    );
    for name in ["one", "two", "three"] {
        let good = host(&server.api, name).await;
        assert_eq!(
            (&good["policy"], &good["unconfirmed"]),
            (&"active".into(), &0.into())
        );
    }
    let report = server.api.report(&run).await;
    assert_eq!(report.counts.passed, CELLS, "{:?}", report.counts);
    let mut blamed = 0;
    for cell in &report.cells {
        let elsewhere = cell.attempts.iter().filter(|a| a.host != "bad");
        assert!(elsewhere.count() >= 1, "{cell:?}");
        for attempt in cell.attempts.iter().filter(|a| a.host == "bad") {
            assert_eq!(attempt.blame.as_deref(), Some("host"), "{cell:?}");
            blamed += 1;
        }
    }
    assert!(blamed >= 3);
    let finding = report
        .findings
        .iter()
        .find(|f| f.host.as_deref() == Some("bad"));
    let text = &finding.expect("a finding says so").text;
    assert!(
        text.contains("host bad") && text.contains("did not confirm"),
        "{text}"
    );
    assert!(
        report.findings.iter().all(|f| f.host.is_some()),
        "nothing else is found: {:?}",
        report.findings
    );
}

#[tokio::test]
async fn what_others_confirm_is_no_hosts_fault() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(CELLS)).await;
    let mut agents = fleet(&server.api, &["bad", "one", "two", "three"]);
    play(
        &mut agents,
        &run,
        |_, cell| cell.is_multiple_of(3),
        async |_| false,
    )
    .await;
    for name in ["bad", "one", "two", "three"] {
        let host = host(&server.api, name).await;
        assert_eq!(
            (&host["policy"], &host["unconfirmed"]),
            (&"active".into(), &0.into())
        );
    }
    let report = server.api.report(&run).await;
    assert_eq!(report.counts.failed, CELLS / 3);
}

#[tokio::test]
async fn a_rule_decides_about_one_host_in_ten_at_most() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(CELLS)).await;
    let mut agents = fleet(&server.api, &["bad", "worse", "one", "two", "three"]);
    let fails = |host: &str, cell: u64| {
        breaks_every_third(host, cell) || (host == "worse" && cell % 3 == 1)
    };
    play(&mut agents, &run, fails, async |_| false).await;
    let mut policies = Vec::new();
    for name in ["bad", "worse"] {
        let host = host(&server.api, name).await;
        assert_eq!(host["standing"], "quarantined", "{host}");
        policies.push(host["policy"].as_str().unwrap().to_owned());
    }
    policies.sort();
    assert_eq!(
        policies,
        ["active", "quarantined"],
        "a person decides about the second"
    );
    let report = server.api.report(&run).await;
    assert_eq!(
        report.counts.failed + report.counts.unresolved,
        0,
        "{:?}",
        report.counts
    );
}

#[tokio::test]
async fn a_quarantine_outlives_the_server_and_what_it_reopened_stays_open() {
    let data = tempfile::tempdir().unwrap();
    let server = Process::start(data.path()).await;
    server.api.push_image().await;
    let run = server.api.submit(&matrix(CELLS)).await;
    let mut agents = fleet(&server.api, &["bad", "one", "two", "three"]);
    play(&mut agents, &run, breaks_every_third, is_quarantined).await;
    assert!(is_quarantined(&server.api).await);
    assert_eq!(server.api.run(&run).await.state, RunState::Running);
    server.kill();
    let server = Process::start(data.path()).await;
    assert!(is_quarantined(&server.api).await);
    for agent in &mut agents {
        agent.api = server.api.clone();
    }
    play(&mut agents, &run, breaks_every_third, async |_| false).await;
    let report = server.api.report(&run).await;
    assert_eq!(report.counts.passed, CELLS, "{:?}", report.counts);
    for cell in &report.cells {
        assert!(cell.attempts.iter().any(|a| a.host != "bad"), "{cell:?}");
    }
}

#[tokio::test]
async fn a_host_that_comes_back_is_watched_more_closely() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(CELLS)).await;
    let mut agents = fleet(&server.api, &["bad", "one", "two", "three"]);
    play(&mut agents, &run, breaks_every_third, async |_| false).await;
    let first = host(&server.api, "bad").await["unconfirmed"]
        .as_u64()
        .unwrap();
    let resumed = server
        .api
        .http
        .put(server.api.url("api/v1/hosts/bad/policy"));
    let resumed = resumed.json(&serde_json::json!({"policy": "active"}));
    assert!(resumed.send().await.unwrap().status().is_success());
    let back = host(&server.api, "bad").await;
    assert_eq!(
        (&back["standing"], &back["unconfirmed"]),
        (&"trusted".into(), &0.into())
    );
    // As before, but less of it is enough.
    let again = server.api.submit(&matrix(CELLS)).await;
    play(&mut agents, &again, breaks_every_third, is_quarantined).await;
    let bad = host(&server.api, "bad").await;
    assert_eq!(bad["policy"], "quarantined", "{bad}");
    let second = bad["unconfirmed"].as_u64().unwrap();
    assert!(
        second < first,
        "{second} failures, and {first} the first time"
    );
}

/// Says what a canary's counts are, and what is wrong with the last one where it failed; gives how many more are wanted.
async fn canaries(agent: &mut Agent, passed: u64, failed: u64, failure: &str) -> u32 {
    let mut request = agent.request(Vec::new(), 0);
    let lacks = (!failure.is_empty()).then(|| format!("its canary failed: {failure}"));
    request.facts.observed.lacks = lacks.into_iter().collect();
    request.facts.observed.canaries = Some(Canaries {
        passed,
        failed,
        failure: failure.to_owned(),
    });
    let answer = agent.send(&request).await;
    assert!(answer.status().is_success());
    answer.json::<SyncResponse>().await.unwrap().canaries
}

#[tokio::test]
async fn a_first_offender_comes_back_by_sixty_canaries_in_a_row_and_a_second_does_not() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(CELLS)).await;
    let mut agents = fleet(&server.api, &["bad", "one", "two", "three"]);
    play(&mut agents, &run, breaks_every_third, async |_| false).await;
    assert!(is_quarantined(&server.api).await);
    assert_eq!(canaries(&mut agents[0], 0, 0, "").await, 2);
    canaries(&mut agents[0], 59, 0, "").await;
    canaries(&mut agents[0], 59, 1, "it exited with 1").await;
    canaries(&mut agents[0], 118, 1, "").await;
    assert!(is_quarantined(&server.api).await, "59 in a row, twice");
    assert_eq!(canaries(&mut agents[0], 119, 1, "").await, 0);
    let back = host(&server.api, "bad").await;
    assert_eq!(
        (&back["policy"], &back["slots"]),
        (&"active".into(), &2.into()),
        "half of its places: {back}"
    );
    let reason = back["reason"].as_str().unwrap();
    assert!(reason.contains("60 canaries in a row"), "{reason}");
    let again = server.api.submit(&matrix(CELLS)).await;
    play(&mut agents, &again, breaks_every_third, is_quarantined).await;
    assert!(is_quarantined(&server.api).await);
    assert_eq!(canaries(&mut agents[0], 119, 1, "").await, 0);
    canaries(&mut agents[0], 500, 1, "").await;
    assert!(is_quarantined(&server.api).await, "a person decides");
}

#[tokio::test]
async fn whom_a_person_quarantined_no_canary_brings_back() {
    let (_data, server) = fresh(5000).await;
    let mut agents = fleet(&server.api, &["bad"]);
    canaries(&mut agents[0], 1, 0, "").await;
    let put = server
        .api
        .http
        .put(server.api.url("api/v1/hosts/bad/policy"));
    let put = put.json(&serde_json::json!({"policy": "quarantined"}));
    assert!(put.send().await.unwrap().status().is_success());
    assert_eq!(canaries(&mut agents[0], 1, 0, "").await, 0);
    canaries(&mut agents[0], 200, 0, "").await;
    assert!(is_quarantined(&server.api).await);
}

#[tokio::test]
async fn a_canary_that_fails_is_evidence_and_one_that_passes_is_none() {
    let (_data, server) = fresh(5000).await;
    let mut agents = fleet(&server.api, &["bad"]);
    canaries(&mut agents[0], 1, 0, "").await;
    canaries(&mut agents[0], 1, 1, "it exited with 1").await;
    canaries(&mut agents[0], 1, 9, "it exited with 1").await;
    canaries(&mut agents[0], 400, 9, "").await;
    let told = host(&server.api, "bad").await;
    assert_eq!(
        told["evidence"],
        serde_json::json!(["1 of its canaries failed"]),
        "what an agent repeats is one failure"
    );
    canaries(&mut agents[0], 400, 10, "it exited with 1").await;
    assert_eq!(host(&server.api, "bad").await["standing"], "suspect");
    canaries(&mut agents[0], 900, 10, "").await;
    let told = host(&server.api, "bad").await;
    assert_eq!(told["standing"], "suspect", "they lower nothing");
    let page = server.api.get("metrics/hosts").await.text().await.unwrap();
    for line in [
        "regatta_host_canaries_total{host=\"bad\",result=\"failed\"} 10",
        "regatta_host_canaries_total{host=\"bad\",result=\"passed\"} 899",
    ] {
        assert!(page.contains(line), "{page}");
    }
}

#[tokio::test]
async fn a_clock_that_is_far_off_is_told() {
    let (_data, server) = fresh(5000).await;
    let mut agent = Agent::new(&server.api, "late", 1);
    let mut request = agent.request(Vec::new(), 0);
    request.clock_ms = 1_000_000_000;
    assert!(agent.send(&request).await.status().is_success());
    let told = host(&server.api, "late").await;
    assert!(
        told["clock_offset_seconds"].as_f64().unwrap() < -1000.0,
        "{told}"
    );
    let evidence = told["evidence"][0].as_str().unwrap();
    assert!(evidence.ends_with(" s behind the server's"), "{evidence}");
    assert_eq!(told["policy"], "active");
}
