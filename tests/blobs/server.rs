//! A whole server with its blobs in a bucket, which its environment leads it to. May not: know how blobs are stored.

use std::process::Stdio;

use regatta_model::log::{self, Stream as LogStream};
use regatta_model::wire::{Artifact, LogPlace};
use regatta_server::{Listen, Options, Server};
use reqwest::StatusCode;
use tokio::process::Command;

use crate::kit::{Agent, Api, Running, http, matrix};
use crate::s3::S3;

/// Tells a copy of this program to be the server, with its blobs there.
const BLOBS: &str = "REGATTA_TEST_BLOBS";

/// Runs the copy, whose environment no other test shares.
async fn told_with(s3: &S3, variables: &[(&str, &str)]) {
    let mut copy = Command::new(std::env::current_exe().unwrap());
    copy.args([
        "--exact",
        "server::in_an_environment_of_its_own",
        "--nocapture",
    ]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            copy.env_remove(name);
        }
    }
    copy.envs(s3.variables()).envs(variables.iter().copied());
    copy.env(BLOBS, "s3://boats/fleet").stdin(Stdio::null());
    let output = copy.output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    let left = s3.left();
    let kept = |end: &str| {
        left.iter()
            .any(|key| key.starts_with("boats/fleet/runs/") && key.ends_with(end))
    };
    assert!(
        left.len() == 2 && kept("/0/1/log") && kept("/0/1/artifacts/core/a b.bin"),
        "{left:?}"
    );
}

#[tokio::test]
async fn keeps_an_attempts_files_in_a_bucket() {
    told_with(&S3::start().await, &[]).await;
}

#[tokio::test]
async fn keeps_them_over_tls() {
    let s3 = S3::start_secure().await;
    let authority = s3.authority();
    let variables = [
        ("SSL_CERT_FILE", authority.to_str().unwrap()),
        ("AWS_ALLOW_HTTP", "false"),
    ];
    told_with(&s3, &variables).await;
    // Without that authority, the store is not believed.
    let opened = s3.open("s3://boats").await.unwrap_err().to_string();
    assert!(
        opened.contains("certificate") && opened.contains(&s3.endpoint),
        "{opened}"
    );
}

async fn start(data: &std::path::Path, blobs: &str) -> Running {
    let mut options = Options::local(data, Listen::Tcp("127.0.0.1:0".parse().unwrap()));
    blobs.clone_into(&mut options.blobs);
    let handle = Server::start(options)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let base = format!("http://{}", handle.address());
    Running {
        api: Api { base, http: http() },
        handle,
    }
}

#[tokio::test]
async fn in_an_environment_of_its_own() {
    let Ok(blobs) = std::env::var(BLOBS) else {
        return;
    };
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path(), &blobs).await;
    server.api.push_image().await;
    let run = server.api.submit(&matrix(1)).await;
    let mut agent = Agent::new(&server.api, "one", 1);
    let attempt = agent.given().await.remove(0).attempt;

    let files = format!("api/v1/runs/{}/cells/{}/attempts/1", run.run, attempt.cell);
    let mut records = Vec::new();
    log::encode(1, LogStream::Out, b"all hands on deck\n", &mut records);
    let log = zstd::encode_all(records.as_slice(), 3).unwrap();
    let artifact = crate::place::noise(7 << 20);
    let uploads = [
        ("log", log.clone()),
        ("artifacts/core/a%20b.bin", artifact.clone()),
    ];
    for (path, bytes) in uploads {
        let url = server.api.url(&format!("{files}/{path}"));
        let response = server.api.http.put(url).body(bytes).send().await.unwrap();
        assert_eq!(
            response.status(),
            StatusCode::CREATED,
            "{:?}",
            response.text().await
        );
    }
    let mut end = agent.end(&attempt, 0);
    end.log = LogPlace::Uploaded {
        bytes: log.len() as u64,
    };
    end.artifacts = vec![Artifact {
        path: "core/a b.bin".into(),
        bytes: artifact.len() as u64,
    }];
    let response = agent.sync(vec![end]).await;
    assert_eq!(response.acknowledged, [attempt]);
    server.handle.shutdown().await;

    let server = start(data.path(), &blobs).await;
    let text = server
        .api
        .get(&format!("{files}/log"))
        .await
        .text()
        .await
        .unwrap();
    assert_eq!(text, "all hands on deck\n");
    let path = format!("{files}/artifacts/core/a%20b.bin");
    let read = server.api.get(&path).await.bytes().await.unwrap();
    assert!(read == artifact, "{} other bytes", read.len());
    server.handle.shutdown().await;
}
