//! HTTP itself: problems, limits, the OpenAPI document, metrics, and who is let in.

use std::io::Write as _;
use std::process::{Command, Stdio};

use regatta_model::log::{Stream, encode};
use regatta_model::wire::{Artifact, LogPlace};
use regatta_server::{Listen, Options, Server};
use reqwest::Method;
use serde_json::Value;

use crate::kit::{Agent, fresh, http, matrix, problem, until};

#[tokio::test]
async fn a_matrix_that_asks_for_commits_is_told_to_come_by_the_command() {
    let (_data, server) = fresh(5000).await;
    let text = "image: mini:1\naxes:\n  commit: {git: /srv/boat, range: v1..v2}\n\
                files: [{checkout: commit, to: /src}]\ntest: {run: 'true'}\n";
    let refused = problem(server.api.submit_text(text).await).await;
    assert_eq!(
        (refused.status, refused.line, refused.column),
        (422, Some(3), Some(17)),
        "{refused:?}"
    );
    assert_eq!(refused.pointer.as_deref(), Some("/axes/commit/git"));
    assert!(refused.detail.contains("`regatta submit`"), "{refused:?}");
}

#[tokio::test]
async fn whatever_is_wrong_is_told_as_a_problem() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(1)).await;
    let api = &server.api;
    for (path, status) in [
        ("nothing", 404),
        ("api/v1/nothing", 404),
        ("api/v1/runs/none", 404),
        ("api/v1/runs/a%2Fb", 404),
        ("api/v1/runs/%FF", 400),
        ("api/v1/runs?limit=x", 400),
        ("api/v1/runs?limit=100000", 400),
        ("api/v1/runs?before=-", 404),
        ("api/v1/runs/none/report", 404),
        ("api/v1/runs/none/events", 404),
        ("api/v1/runs/none/cells", 404),
        (&format!("api/v1/runs/{}/cells/x", run.run), 404),
        (
            &format!("api/v1/runs/{}/cells/0/attempts/1/log", run.run),
            404,
        ),
        (
            &format!("api/v1/runs/{}/cells/0/attempts/0/artifacts/x", run.run),
            404,
        ),
        ("api/v1/agents/sync", 405),
    ] {
        assert_eq!(problem(api.get(path).await).await.status, status, "{path}");
    }
    assert_eq!(problem(api.post("healthz").await).await.status, 405);
    let sent = api
        .http
        .post(api.url("api/v1/runs"))
        .header("content-type", "image/png")
        .body("x");
    assert_eq!(problem(sent.send().await.unwrap()).await.status, 415);
    let sent = api
        .http
        .post(api.url("api/v1/runs"))
        .body(vec![b' '; (1 << 20) + 1]);
    let refused = problem(sent.send().await.unwrap()).await;
    assert!(
        refused.status == 413 && refused.detail.contains("MATRIX_BYTES_MOST"),
        "{}",
        refused.detail
    );
    let sent = api
        .http
        .post(api.url("api/v1/runs"))
        .header("idempotency-key", "x".repeat(256))
        .body("x");
    assert_eq!(problem(sent.send().await.unwrap()).await.status, 400);
}

#[tokio::test]
async fn every_operation_of_the_openapi_document_is_there() {
    let (_data, server) = fresh(5000).await;
    let document: Value = server.api.json("api/v1/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let headers = |path: &str, method: &str| -> Vec<String> {
        let parameters = document["paths"][path][method]["parameters"].as_array();
        let headers = parameters
            .into_iter()
            .flatten()
            .filter(|p| p["in"] == "header");
        headers
            .map(|p| p["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(headers("/api/v1/runs", "post"), ["Idempotency-Key"]);
    assert_eq!(
        headers("/api/v1/runs/{run}/events", "get"),
        ["Last-Event-ID"]
    );
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let concrete = path
                .replace("{run}", "none")
                .replace("{cell}", "0")
                .replace("{attempt}", "1");
            let url = server.api.url(
                concrete
                    .replace("{path}", "x")
                    .replace("{host}", "none")
                    .trim_start_matches('/'),
            );
            let method: Method = method.to_uppercase().parse().unwrap();
            let response = server
                .api
                .http
                .request(method.clone(), url)
                .send()
                .await
                .unwrap();
            let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
            assert!(
                status != 405 && !text.contains("there is nothing at"),
                "{method} {path}: {status}: {text}"
            );
            operations += 1;
        }
    }
    assert!(operations >= 25, "{operations}");
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text
        .split("\"#/components/schemas/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
    {
        assert!(
            document["components"]["schemas"].get(reference).is_some(),
            "{reference}"
        );
    }
}

fn promtool(page: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is part of Debian's prometheus");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(page.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{said}\n{page}"
    );
}

#[tokio::test]
async fn promtool_accepts_the_metrics_and_they_count() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(3)).await;
    let mut agent = Agent::new(&server.api, "one", 2);
    agent
        .finish(&run, |attempt| i32::from(attempt.cell == 0))
        .await;
    promtool(&server.api.get("metrics").await.text().await.unwrap());
    let hosts = server.api.get("metrics/hosts").await.text().await.unwrap();
    promtool(&hosts);
    assert!(
        hosts.contains("regatta_host_slots{host=\"one\"} 2"),
        "{hosts}"
    );
    let metric = async |series: &str| server.api.metric(series).await;
    assert_eq!(
        metric("regatta_attempts_total{outcome=\"exited\",blame=\"none\"}").await,
        Some(2.0)
    );
    assert_eq!(
        metric("regatta_attempts_total{outcome=\"exited\",blame=\"test\"}").await,
        Some(2.0)
    );
    assert_eq!(
        metric("regatta_verdicts_total{verdict=\"failed\"}").await,
        Some(1.0)
    );
    assert_eq!(metric("regatta_attempt_seconds_count").await, Some(4.0));
    assert_eq!(metric("regatta_leader").await, Some(1.0));
    until("the gauges are up to date", || async {
        metric("regatta_runs{state=\"finished\"}").await == Some(1.0)
            && metric("regatta_hosts{health=\"ready\",policy=\"active\"}").await == Some(1.0)
            && metric("regatta_host_slots{state=\"free\"}").await == Some(2.0)
    })
    .await;
    let page = server.api.get("metrics").await.text().await.unwrap();
    for name in [
        "regatta_cells{state=\"pending\"}",
        "regatta_findings_total{kind=\"regression\"}",
        "regatta_queue_seconds_bucket",
        "regatta_container_start_seconds_bucket",
        "regatta_sync_seconds_bucket",
        "regatta_store_operation_seconds_bucket{le=\"0.0001\",operation=\"commit\"}",
        "regatta_image_pull_bytes_total",
        "regatta_upload_bytes_total{to=\"bucket\"}",
        "regatta_build_info{version=\"",
    ] {
        assert!(page.contains(name), "{name}\n{page}");
    }
    for outside in [run.run.as_str(), "small", "\"one\""] {
        assert!(!page.contains(outside), "no label has {outside}");
    }
}

#[tokio::test]
async fn other_machines_are_let_in_only_on_request() {
    let data = tempfile::tempdir().unwrap();
    let mut options = Options::local(data.path(), Listen::Tcp("0.0.0.0:0".parse().unwrap()));
    let refused = Server::start(options.clone())
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("--insecure"), "{refused}");
    options.insecure = true;
    let handle = Server::start(options.clone()).await.unwrap();
    let second = Server::start(options).await.unwrap_err().to_string();
    assert!(
        second.contains("another server uses the database"),
        "{second}"
    );
    handle.shutdown().await;
}

#[tokio::test]
async fn it_listens_behind_a_socket_that_only_its_owner_may_use() {
    use std::os::unix::fs::PermissionsExt as _;
    let data = tempfile::tempdir().unwrap();
    let socket = data.path().join("server/socket");
    let options = Options::local(data.path(), Listen::Unix(socket.clone()));
    let handle = Server::start(options).await.unwrap();
    drop(http());
    let client = reqwest::Client::builder()
        .unix_socket(socket.as_path())
        .build()
        .unwrap();
    let answer = client.get("http://localhost/readyz").send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ready\n");
    assert_eq!(
        socket.metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
    handle.shutdown().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn logs_and_artifacts_come_back_as_they_were() {
    let (_data, server) = fresh(5000).await;
    let api = &server.api;
    let run = api.submit(&matrix(2)).await;
    let mut agent = Agent::new(api, "one", 2);
    let held: Vec<_> = agent
        .given()
        .await
        .into_iter()
        .map(|given| given.attempt)
        .collect();
    let mut log = Vec::new();
    encode(1, Stream::Out, b"hello ", &mut log);
    encode(2, Stream::Err, "w\u{f6}rld".as_bytes(), &mut log);
    encode(3, Stream::Note, b"[set-up ends]\n", &mut log);
    let stored = zstd::encode_all(log.as_slice(), 3).unwrap();
    let long = vec![b'x'; 3 << 20];
    let mut long_log = Vec::new();
    encode(1, Stream::Out, &long, &mut long_log);
    let long_stored = zstd::encode_all(long_log.as_slice(), 3).unwrap();

    let base = |attempt: &regatta_model::AttemptId| {
        format!(
            "api/v1/runs/{}/cells/{}/attempts/{}",
            run.run, attempt.cell, attempt.ordinal
        )
    };
    let put = async |path: String, body: Vec<u8>| {
        api.http
            .put(api.url(&path))
            .body(body)
            .send()
            .await
            .unwrap()
    };
    assert_eq!(
        put(format!("{}/log", base(&held[1])), long_stored.clone())
            .await
            .status(),
        201
    );
    assert_eq!(
        put(
            format!("{}/artifacts/a%20b/c.txt", base(&held[1])),
            b"artifact".to_vec()
        )
        .await
        .status(),
        201
    );
    for wrong in ["..%2Fx", "a%2F..%2F..%2Fx", "%2Fetc%2Fpasswd", "a%0Ab"] {
        let refused = problem(
            put(
                format!("{}/artifacts/{wrong}", base(&held[1])),
                b"x".to_vec(),
            )
            .await,
        )
        .await;
        assert_eq!(refused.status, 400, "{wrong}");
    }
    assert_eq!(
        problem(
            put(
                format!("api/v1/runs/{}/cells/9/attempts/1/log", run.run),
                vec![1]
            )
            .await
        )
        .await
        .status,
        404
    );

    let mut short_end = agent.end(&held[0], 0);
    short_end.log = LogPlace::Inline(base64(&stored));
    let mut long_end = agent.end(&held[1], 0);
    long_end.log = LogPlace::Uploaded {
        bytes: long_stored.len().try_into().unwrap(),
    };
    long_end.artifacts = vec![
        Artifact {
            path: "a b/c.txt".into(),
            bytes: 8,
        },
        Artifact {
            path: "../../escape".into(),
            bytes: 1,
        },
    ];
    agent.sync(vec![short_end, long_end]).await;

    let text = api.get(&format!("{}/log", base(&held[0]))).await;
    assert_eq!(text.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(
        text.text().await.unwrap(),
        "hello w\u{f6}rld\n[set-up ends]\n"
    );
    let raw = api
        .get(&format!("{}/log?format=raw", base(&held[0])))
        .await
        .bytes()
        .await
        .unwrap();
    assert_eq!(raw, stored);
    let text = api
        .get(&format!("{}/log", base(&held[1])))
        .await
        .bytes()
        .await
        .unwrap();
    assert_eq!(text, long);
    let listed: Vec<Artifact> = api.json(&format!("{}/artifacts", base(&held[1]))).await;
    assert_eq!(
        listed,
        [Artifact {
            path: "a b/c.txt".into(),
            bytes: 8
        }]
    );
    let artifact = api
        .get(&format!("{}/artifacts/a%20b/c.txt", base(&held[1])))
        .await;
    assert_eq!(artifact.headers()["content-disposition"], "attachment");
    assert_eq!(artifact.bytes().await.unwrap(), "artifact");
    // What is recorded stays.
    assert_eq!(
        put(format!("{}/log", base(&held[1])), b"other".to_vec())
            .await
            .status(),
        204
    );
    let text = api
        .get(&format!("{}/log", base(&held[1])))
        .await
        .bytes()
        .await
        .unwrap();
    assert_eq!(text, long);
}

#[tokio::test]
async fn a_log_that_is_no_log_says_so_and_harms_nobody() {
    let (_data, server) = fresh(5000).await;
    let run = server.api.submit(&matrix(2)).await;
    let mut agent = Agent::new(&server.api, "one", 2);
    let held: Vec<_> = agent
        .given()
        .await
        .into_iter()
        .map(|given| given.attempt)
        .collect();
    let mut garbage = agent.end(&held[0], 0);
    garbage.log = LogPlace::Inline(base64(b"this is not zstd"));
    let mut nonsense = agent.end(&held[1], 0);
    nonsense.log = LogPlace::Inline("%%%".into());
    agent.sync(vec![garbage, nonsense]).await;
    let log = |cell| format!("api/v1/runs/{}/cells/{cell}/attempts/1/log", run.run);
    let text = server
        .api
        .get(&log(held[0].cell))
        .await
        .text()
        .await
        .unwrap();
    assert!(text.contains("cannot be read"), "{text}");
    assert_eq!(
        server
            .api
            .get(&log(held[1].cell))
            .await
            .text()
            .await
            .unwrap(),
        ""
    );
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
