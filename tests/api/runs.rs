//! Runs: from submission to report, and what people do with them.

use regatta_model::report::{CellReport, Conclusion, Report, Verdict};
use regatta_model::run::{RunState, RunSummary, Submission};
use regatta_model::{Outcome, RunId};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::kit::{Agent, cases, finish, fresh, matrix, problem, start};

#[tokio::test]
async fn a_run_goes_from_submission_to_report() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(7)).await;
    assert_eq!((run.state, run.progress.cells), (RunState::Queued, 7));
    let mut agent = Agent::new(&server.api, "one", 3);
    let given = agent.given().await;
    assert_eq!(given.len(), 3, "as many as it has places");
    assert_eq!(given[0].plan.axes["n"], given[0].attempt.cell.to_string());
    assert_eq!(server.api.run(&run).await.progress.running, 3);
    let over = agent.finish(&run, |_| 0).await;
    assert_eq!(over.state, RunState::Finished);
    assert_eq!(
        (
            over.progress.settled,
            over.progress.attempts,
            over.progress.failing
        ),
        (7, 7, 0)
    );
    assert_eq!(over.progress.running, 0);

    let report = server.api.report(&run).await;
    assert_eq!(
        (
            report.conclusion,
            report.counts.passed,
            report.counts.attempts
        ),
        (Conclusion::Passed, 7, 7)
    );
    assert_eq!(report.cells.len(), 7);
    let attempt = &report.cells[3].attempts[0];
    assert_eq!(
        (
            attempt.attempt,
            attempt.host.as_str(),
            attempt.outcome.as_str()
        ),
        (1, "one", "exited")
    );
    assert!(attempt.identity.starts_with("sha256:"));

    let report: Value = server
        .api
        .json(&format!("api/v1/runs/{}/report", run.run))
        .await;
    let schema: Value = server.api.json("api/v1/report.schema.json").await;
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<String> = validator
        .iter_errors(&report)
        .map(|error| error.to_string())
        .collect();
    assert_eq!(faults, Vec::<String>::new());
}

#[tokio::test]
async fn a_failing_cell_is_run_again_elsewhere_and_so_is_its_baseline() {
    let (_data, server) = fresh(5000).await;
    let source = "name: compared\nimage: mini:1\naxes:\n  v: {values: [1, 2, 3], ordered: true}\ntest: {run: pytest}\n\
                  compare: {axis: v, baseline: 1}\n";
    let run = server.api.submit(source).await;
    let mut agents = [
        Agent::new(&server.api, "one", 1),
        Agent::new(&server.api, "two", 1),
    ];
    finish(&mut agents, &run, |agent, attempt| {
        let broken = attempt.cell == 2;
        let mut end = agent.end(attempt, i32::from(broken));
        end.results = if broken {
            cases(&["test_b"])
        } else {
            cases(&[])
        };
        end
    })
    .await;
    let report = server.api.report(&run).await;
    assert_eq!(
        report.conclusion,
        Conclusion::Regressed,
        "{}",
        report.sentence
    );
    assert_eq!(
        (report.cells[2].verdict, &report.cells[2].failing),
        (Verdict::Failed, &vec!["test_b".to_owned()])
    );
    let hosts = |cell: usize| {
        let mut hosts: Vec<&str> = report.cells[cell]
            .attempts
            .iter()
            .map(|attempt| attempt.host.as_str())
            .collect();
        hosts.sort_unstable();
        hosts
    };
    let failed = hosts(2);
    assert_eq!(failed.len(), 5);
    let both = failed.contains(&"one") && failed.contains(&"two");
    assert!(both, "a rerun goes to the other host: {failed:?}");
    assert_eq!(
        hosts(0).len(),
        5,
        "a break is the difference of two, so the baseline is confirmed"
    );
    assert_eq!(hosts(1).len(), 1);
    let detail = &report.cells[2].attempts[0].detail;
    assert!(
        detail.starts_with("exit status 1, 1 of 3 cases failed"),
        "{detail}"
    );
}

#[tokio::test]
async fn the_same_key_is_the_same_run_and_another_body_is_refused() {
    let (data, server) = fresh(5000).await;
    let submit = async |api: &crate::kit::Api, source: &str| {
        let request = api
            .http
            .post(api.url("api/v1/runs"))
            .header("content-type", "application/yaml");
        request
            .header("idempotency-key", "\"once\"")
            .body(source.to_owned())
            .send()
            .await
            .unwrap()
    };
    let first: RunSummary = submit(&server.api, &matrix(2)).await.json().await.unwrap();
    let source = matrix(2);
    let (one, two) = tokio::join!(submit(&server.api, &source), submit(&server.api, &source));
    assert_eq!(one.json::<RunSummary>().await.unwrap().run, first.run);
    assert_eq!(two.json::<RunSummary>().await.unwrap().run, first.run);
    let refused = problem(submit(&server.api, &matrix(3)).await).await;
    assert_eq!(
        (refused.status, refused.kind.as_str()),
        (409, "urn:regatta:idempotency-key")
    );
    assert_eq!(
        server
            .api
            .json::<Vec<RunSummary>>("api/v1/runs")
            .await
            .len(),
        1
    );

    server.handle.shutdown().await;
    let server = start(data.path(), 5000).await;
    let again: RunSummary = submit(&server.api, &matrix(2)).await.json().await.unwrap();
    assert_eq!(again.run, first.run, "a restart forgets no key");
}

#[tokio::test]
async fn a_wrong_matrix_is_refused_with_its_place() {
    let (_data, server) = fresh(5000).await;
    let refused = problem(
        server
            .api
            .submit_text("name: x\nimage: mini:1\naxis: {a: [1]}\ntest: {run: x}\n")
            .await,
    )
    .await;
    assert_eq!(
        (refused.status, refused.kind.as_str()),
        (422, "urn:regatta:matrix")
    );
    assert_eq!((refused.line, refused.column), (Some(3), Some(1)));
    assert!(
        refused.detail.contains("axes"),
        "the nearest known word is named: {}",
        refused.detail
    );
    for (image, way_out) in [
        ("./Containerfile", "regatta submit"),
        ("127.0.0.1:9/none:1", "could not be pulled"),
    ] {
        let source = format!("image: {image}\naxes: {{n: [1]}}\ntest: {{run: x}}\n");
        let refused = problem(server.api.submit_text(&source).await).await;
        assert_eq!(refused.status, 422);
        assert!(refused.detail.contains(way_out), "{}", refused.detail);
    }
    let source = "image: mini:1\naxes: {n: [1]}\nfiles: [{from: ./x, to: /x}]\ntest: {run: x}\n";
    let refused = problem(server.api.submit_text(source).await).await;
    assert!(
        refused.detail.contains("regatta submit"),
        "{}",
        refused.detail
    );
    assert_eq!(server.api.json::<Vec<RunSummary>>("api/v1/runs").await, []);
}

#[tokio::test]
async fn pins_are_kept_and_what_they_name_must_be_here() {
    let (_data, server) = fresh(5000).await;
    let image = server.api.push_image().await;
    let mut submission = Submission {
        matrix: "image: ./Containerfile\naxes: {n: [1]}\ntest: {run: x}\n".to_owned(),
        file: "some/matrix.yaml".to_owned(),
        ..Submission::default()
    };
    let submit = async |submission: &Submission| {
        let request = server.api.http.post(server.api.url("api/v1/runs"));
        let request = request.header("content-type", "application/vnd.regatta.submission+json");
        request
            .body(serde_json::to_vec(submission).unwrap())
            .send()
            .await
            .unwrap()
    };
    submission.pins.images.insert(
        "./Containerfile".into(),
        regatta_model::Digest::of(b"nowhere"),
    );
    let refused = problem(submit(&submission).await).await;
    assert!(
        refused.status == 422 && refused.detail.contains("push it first"),
        "{}",
        refused.detail
    );
    submission
        .pins
        .images
        .insert("./Containerfile".into(), image);
    let response = submit(&submission).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let run: RunSummary = response.json().await.unwrap();
    assert_eq!(
        (location, run.name.as_str()),
        (format!("/api/v1/runs/{}", run.run), "matrix")
    );
    let kept: Submission = server
        .api
        .json(&format!("api/v1/runs/{}/submission", run.run))
        .await;
    assert_eq!(kept, submission);
    let given = Agent::new(&server.api, "one", 1).given().await;
    assert_eq!(given[0].plan.image, image);
    let plan: regatta_model::plan::AttemptPlan = server
        .api
        .json(&format!("api/v1/runs/{}/cells/0/plan", run.run))
        .await;
    assert_eq!(plan, given[0].plan);
}

#[tokio::test]
async fn a_cancelled_run_stops_what_runs_and_starts_nothing_more() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(9)).await;
    let mut agent = Agent::new(&server.api, "one", 2);
    let held: Vec<_> = agent
        .given()
        .await
        .into_iter()
        .map(|given| given.attempt)
        .collect();
    let cancelled: RunSummary = server
        .api
        .post(&format!("api/v1/runs/{}/cancel", run.run))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        cancelled.state,
        RunState::Running,
        "it is over when its attempts are"
    );
    let told = agent.request(Vec::new(), 0);
    let told: regatta_model::wire::SyncResponse = agent.send(&told).await.json().await.unwrap();
    let stopped: Vec<_> = told.stop.iter().map(|stop| stop.attempt.clone()).collect();
    assert_eq!((stopped, told.start.len()), (held.clone(), 0));
    let ended = held.iter().map(|attempt| {
        let mut end = agent.end(attempt, 0);
        (end.outcome, end.blame) = (Outcome::Cancelled, None);
        end
    });
    let ended: Vec<_> = ended.collect();
    assert_eq!(agent.sync(ended).await.acknowledged.len(), 2);
    let over = server.api.run(&run).await;
    assert_eq!(
        (over.state, over.progress.attempts),
        (RunState::Cancelled, 2)
    );
    assert_eq!(
        server.api.report(&run).await.conclusion,
        Conclusion::Cancelled
    );
    let again = server
        .api
        .post(&format!("api/v1/runs/{}/cancel", run.run))
        .await;
    assert_eq!(
        again.json::<RunSummary>().await.unwrap().state,
        RunState::Cancelled,
        "twice is once"
    );
    assert_eq!(agent.sync(Vec::new()).await.start, []);
}

#[tokio::test]
async fn what_did_not_pass_is_run_again_in_the_same_run() {
    let (data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(5)).await;
    let mut agent = Agent::new(&server.api, "one", 2);
    let over = agent
        .finish(&run, |attempt| i32::from(attempt.cell == 3))
        .await;
    assert_eq!((over.progress.settled, over.progress.failing), (5, 1));
    let attempts = over.progress.attempts;
    let path = format!("api/v1/runs/{}/rerun?failed=true", run.run);
    let open: RunSummary = server.api.post(&path).await.json().await.unwrap();
    assert_eq!(
        (&open.run, open.state, open.progress.settled),
        (&run.run, RunState::Running, 4)
    );
    let refused = problem(server.api.post(&path).await).await;
    assert_eq!(
        (refused.status, refused.kind.as_str()),
        (409, "urn:regatta:not-over")
    );

    // What was acknowledged outlives a restart.
    server.handle.shutdown().await;
    let server = start(data.path(), 1000).await;
    let mut agent = Agent {
        incarnation: 2,
        ..Agent::new(&server.api, "one", 2)
    };
    let over = agent.finish(&run, |_| 0).await;
    assert_eq!(
        (over.state, over.progress.attempts),
        (RunState::Finished, attempts + 1)
    );
    let report = server.api.report(&run).await;
    assert_eq!(
        report.cells[3].verdict,
        Verdict::Flaky,
        "it failed and passed"
    );
    let refused = problem(server.api.post(&path).await).await;
    assert_eq!(refused.kind, "urn:regatta:passed");

    let whole: RunSummary = server
        .api
        .post(&format!("api/v1/runs/{}/rerun", run.run))
        .await
        .json()
        .await
        .unwrap();
    assert!(
        whole.run != run.run && whole.progress.cells == 5,
        "all of it again is a run of its own"
    );
    assert_eq!(agent.finish(&whole, |_| 0).await.progress.attempts, 5);
}

#[tokio::test]
async fn a_matrix_that_wants_it_stops_at_the_first_failing_cell_for_good() {
    let (data, server) = fresh(1000).await;
    let run = server
        .api
        .submit(&format!(
            "{}fail-fast: true\nrerun: {{at-most: 0}}\n",
            matrix(50)
        ))
        .await;
    let mut agent = Agent::new(&server.api, "one", 1);
    let first = agent.given().await.remove(0).attempt;
    let ended = vec![agent.end(&first, 1)];
    assert_eq!(agent.sync(ended).await.start, []);
    let over = server.api.run(&run).await;
    assert_eq!(
        (over.state, over.progress.attempts, over.progress.failing),
        (RunState::Finished, 1, 1)
    );
    server.handle.shutdown().await;
    let server = start(data.path(), 1000).await;
    assert_eq!(server.api.run(&run).await, over);
}

#[tokio::test]
async fn cells_are_paged_and_one_is_found_by_its_number() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(25)).await;
    Agent::new(&server.api, "one", 25).finish(&run, |_| 0).await;
    let mut pages: Vec<CellReport> = Vec::new();
    let mut next = Some(format!("api/v1/runs/{}/cells?limit=10", run.run));
    while let Some(path) = next {
        let response = server.api.get(&path).await;
        let link = response
            .headers()
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned());
        next = link.map(|link| {
            link.trim_start_matches("</")
                .split('>')
                .next()
                .unwrap()
                .to_owned()
        });
        pages.extend(response.json::<Vec<CellReport>>().await.unwrap());
    }
    assert_eq!(pages, server.api.report(&run).await.cells);
    let one: CellReport = server
        .api
        .json(&format!("api/v1/runs/{}/cells/24", run.run))
        .await;
    assert_eq!(one, pages[24]);
    assert_eq!(
        problem(
            server
                .api
                .get(&format!("api/v1/runs/{}/cells/25", run.run))
                .await
        )
        .await
        .status,
        404
    );
    let refused = problem(
        server
            .api
            .get(&format!("api/v1/runs/{}/cells?limit=0", run.run))
            .await,
    )
    .await;
    assert!(refused.status == 400 && refused.detail.contains("CELLS_PAGE_MOST"));
}

#[tokio::test]
async fn a_large_run_reports_what_did_not_simply_pass_and_pages_through_the_rest() {
    let (_data, server) = fresh(20_000).await;
    let axis: Vec<String> = (0..101).map(|value| value.to_string()).collect();
    let axis = axis.join(", ");
    let source = format!(
        "image: mini:1\naxes:\n  a: [{axis}]\n  b: [{axis}]\ntest: {{run: x}}\nrerun: {{at-most: 0}}\n"
    );
    let run = server.api.submit(&source).await;
    let mut agent = Agent::new(&server.api, "one", 2000);
    loop {
        let mut ended: Vec<_> = agent
            .held
            .keys()
            .map(|attempt| agent.end(attempt, i32::from(attempt.cell == 77)))
            .collect();
        ended.truncate(regatta_model::wire::ENDED_MOST);
        agent.sync(ended).await;
        if server.api.run(&run).await.state.is_over() {
            break;
        }
    }
    let report: Report = server.api.report(&run).await;
    assert_eq!(
        (
            report.counts.cells,
            report.counts.passed,
            report.counts.failed
        ),
        (10_201, 10_200, 1)
    );
    assert_eq!(
        report
            .cells
            .iter()
            .map(|cell| cell.cell)
            .collect::<Vec<_>>(),
        [77]
    );
    let page: Vec<CellReport> = server
        .api
        .json(&format!("api/v1/runs/{}/cells?after=74&limit=5", run.run))
        .await;
    let verdicts: Vec<_> = page
        .iter()
        .map(|cell| (cell.cell, cell.verdict, cell.attempts.len()))
        .collect();
    let passed = Verdict::Passed;
    assert_eq!(
        verdicts,
        [
            (75, passed, 1),
            (76, passed, 1),
            (77, Verdict::Failed, 1),
            (78, passed, 1),
            (79, passed, 1)
        ]
    );
    // A file that lists cells lists all of them.
    let (url, id) = (server.api.base.clone(), run.run.to_string());
    let junit = tokio::task::spawn_blocking(move || {
        let data = regatta_tests::command::Data::new();
        let asked = ["report", &id, "--format", "junit", "--server", &url];
        data.run(asked).expect(0).out
    });
    let junit = junit.await.unwrap();
    assert!(
        junit.contains("tests=\"10201\" failures=\"1\""),
        "{}",
        &junit[..300]
    );
    assert_eq!(junit.matches("<testcase ").count(), 10_201);
}

#[tokio::test]
async fn a_run_says_what_it_waits_for() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(2)).await;
    let asked = format!("api/v1/runs/{}/explain", run.run);
    let told: Value = server.api.json(&asked).await;
    assert_eq!(told, json!({"cells": 2, "waits": [{"reason": "no_host"}]}));
    let mut agent = Agent::new(&server.api, "one", 2);
    agent.finish(&run, |_| 0).await;
    let told: Value = server.api.json(&asked).await;
    assert_eq!(told, json!({"cells": 0, "waits": []}), "it is over");
    let unknown = server.api.get("api/v1/runs/nobody/explain").await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn owners_share_what_a_host_has_room_for_and_too_big_attempts_are_told() {
    let (_data, server) = fresh(5000).await;
    let owned = |owner: &str, weight: u32, memory: &str| {
        let cells = matrix(9);
        format!("{cells}owner: {owner}\nweight: {weight}\nresources: {{memory: {memory}}}\n")
    };
    let mut runs = Vec::new();
    for (owner, weight, memory) in [("a", 1, "1GiB"), ("a", 1, "1GiB"), ("b", 2, "1GiB")] {
        runs.push(server.api.submit(&owned(owner, weight, memory)).await.run);
    }
    let big = server.api.submit(&owned("c", 1, "64GiB")).await;
    let mut agent = Agent::new(&server.api, "one", 20);
    agent.memory_bytes = 6 << 30;
    let given = agent.given().await;
    let held = |run: &RunId| given.iter().filter(|g| g.attempt.run == *run).count();
    let held: Vec<usize> = runs.iter().map(held).collect();
    assert_eq!(held, [1, 1, 4]);
    let asked = format!("api/v1/runs/{}/explain", big.run);
    let told: Value = server.api.json(&asked).await;
    let wait = json!({
        "reason": "no_host_holds", "asked": {"cpu_millis": 0, "memory_bytes": 64_u64 << 30},
        "host": "one", "biggest": {"cpu_millis": 0, "memory_bytes": 6_u64 << 30},
    });
    assert_eq!(told, json!({"cells": 9, "waits": [wait]}));
}

#[tokio::test]
async fn how_results_and_exit_status_disagree_is_told_beside_the_log() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(1)).await;
    let mut agent = Agent::new(&server.api, "one", 1);
    let end = |agent: &Agent, attempt: &regatta_model::AttemptId| {
        let mut end = agent.end(attempt, 1);
        end.results = cases(&[]);
        end.detail = "the last line of its log".into();
        end
    };
    finish(std::slice::from_mut(&mut agent), &run, end).await;
    let report = server.api.report(&run).await;
    let detail = &report.cells[0].attempts[0].detail;
    assert_eq!(
        detail,
        "exit status 1, though none of its 3 cases failed\nthe last line of its log"
    );
    assert!(
        report.findings[0]
            .excerpt
            .starts_with("exit status 1, though")
    );
}

/// A run of version 1 alone, ten attempts of which three fail in one shard; then one of versions 1 and 2, of which the second
/// always fails in the shard of that number, its last. `shards`: those of both runs. Gives the attempts of the second run, and its report.
async fn after_earlier_runs(name_before: &str, shards: [u64; 2]) -> (u64, Report) {
    let (data, server) = fresh(5000).await;
    let source = |name: &str, values: &str, more: &str| {
        format!(
            "name: {name}\nimage: mini:1\naxes:\n  v: [{values}]\ntest: {{run: pytest}}\n{more}"
        )
    };
    let before = server
        .api
        .submit(&source(
            name_before,
            "1",
            &format!("repeat: 10\nshards: {}\n", shards[0]),
        ))
        .await;
    let mut agents = [Agent::new(&server.api, "one", 1)];
    finish(&mut agents, &before, |agent, attempt| {
        let failed = attempt.cell == shards[1] - 1 && attempt.ordinal % 3 == 0;
        let mut end = agent.end(attempt, i32::from(failed));
        end.results = cases(if failed { &["test_b"] } else { &[] });
        end
    })
    .await;
    let compared = format!("compare: {{axis: v, baseline: 1}}\nshards: {}\n", shards[1]);
    let run = server
        .api
        .submit(&source("course", "1, 2", &compared))
        .await;
    finish(&mut agents, &run, |agent, attempt| {
        let failed = attempt.cell == 2 * shards[1] - 1;
        let mut end = agent.end(attempt, i32::from(failed));
        end.results = cases(if failed { &["test_b"] } else { &[] });
        end
    })
    .await;
    let report = server.api.report(&run).await;
    // What was taken into account stays, whatever becomes of the earlier runs.
    server.handle.shutdown().await;
    let server = start(data.path(), 5000).await;
    let again = server.api.report(&run).await;
    assert_eq!(again.findings, report.findings);
    (report.counts.attempts, report)
}

#[tokio::test]
async fn a_case_that_failed_by_chance_before_takes_more_reruns_to_be_called_broken() {
    let (attempts, report) = after_earlier_runs("other", [1, 1]).await;
    assert_eq!(attempts, 5 + 5, "{}", report.sentence);
    let (known, report) = after_earlier_runs("course", [1, 1]).await;
    assert!(known > attempts, "{known}");
    assert_eq!(
        report.conclusion,
        Conclusion::Regressed,
        "{}",
        report.sentence
    );
    assert!(
        report.findings[0].confidence > 0.99,
        "{:?}",
        report.findings
    );
}

#[tokio::test]
async fn a_shard_is_known_by_the_same_shard_of_earlier_runs() {
    let (attempts, report) = after_earlier_runs("other", [2, 2]).await;
    assert_eq!(attempts, 2 * 2 + 8, "{}", report.sentence);
    assert_eq!(report.conclusion, Conclusion::Regressed);
    let (known, report) = after_earlier_runs("course", [2, 2]).await;
    assert!(known > attempts, "{known}");
    assert_eq!(report.conclusion, Conclusion::Regressed);
    // Where the tests were split otherwise, the shard of that number is another one.
    let (unknown, _) = after_earlier_runs("course", [3, 2]).await;
    assert_eq!(unknown, attempts);
}

#[tokio::test]
async fn cells_in_shards_are_paged_as_cells_and_found_by_the_number_of_each_shard() {
    let (data, server) = fresh(5000).await;
    let source = "name: split\nimage: mini:1\naxes:\n  v: [1, 2, 3, 4, 5]\nshards: 3\ntest: {run: pytest}\n\
                  compare: {axis: v, baseline: 1}\n";
    let run = server.api.submit(source).await;
    assert_eq!(run.progress.cells, 15);
    let mut agents = [Agent::new(&server.api, "one", 4)];
    finish(&mut agents, &run, |agent, attempt| {
        let broken = attempt.cell == 10;
        let mut end = agent.end(attempt, i32::from(broken));
        end.results = cases(if broken { &["test_b"] } else { &[] });
        end
    })
    .await;
    let report = server.api.report(&run).await;
    assert_eq!(report.conclusion, Conclusion::Regressed);
    assert_eq!((report.counts.cells, report.counts.failed), (5, 1));
    let path = |rest: &str| format!("api/v1/runs/{}/cells{rest}", run.run);
    let first: Vec<CellReport> = server.api.json(&path("?limit=2")).await;
    let rest: Vec<CellReport> = server.api.json(&path("?after=3&limit=3")).await;
    assert_eq!([first, rest].concat(), report.cells);
    let (answer, last) = (
        server.api.get(&path("?limit=2")).await,
        server.api.get(&path("?after=3&limit=3")).await,
    );
    let link = answer.headers()["link"].to_str().unwrap();
    assert!(link.contains("after=3&limit=2"), "{link}");
    assert!(!last.headers().contains_key("link"));
    for number in 9..12 {
        let one: CellReport = server.api.json(&path(&format!("/{number}"))).await;
        assert_eq!(one, report.cells[3]);
    }
    let refused = problem(server.api.get(&path("/15")).await).await;
    assert_eq!(refused.status, 404);
    let plan: Value = server.api.json(&path("/10/plan")).await;
    assert_eq!(plan["shard"], json!({"index": 1, "total": 3}));
    // A server that takes over reads the same.
    server.handle.shutdown().await;
    let server = start(data.path(), 5000).await;
    assert_eq!(server.api.report(&run).await.cells, report.cells);
}
