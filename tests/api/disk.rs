//! A full disk: uploads are refused before it is full, and what cannot be recorded waits until it can.

use std::path::{Path, PathBuf};
use std::process::Command;

use regatta_model::run::RunSummary;
use reqwest::StatusCode;

use crate::kit::{Agent, matrix, problem, start, until};

/// A small file system that is gone afterwards.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=48m,mode=0700", "regatta-test"])
            .arg(directory.path())
            .status()
            .unwrap();
        assert!(
            mounted.success(),
            "this test mounts a file system: run it as root"
        );
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room there is.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_acknowledged_and_waits() {
    let disk = Small::new();
    let server = start(disk.path(), 20_000).await;
    server.api.push_image().await;
    let first = server.api.submit(&matrix(2)).await;
    let mut agent = Agent::new(&server.api, "one", 1);
    let attempt = agent.given().await.remove(0).attempt;

    let filler = disk.fill();
    let path = format!(
        "api/v1/runs/{}/cells/{}/attempts/1/log",
        first.run, attempt.cell
    );
    let refused = server
        .api
        .http
        .put(server.api.url(&path))
        .body("x")
        .send()
        .await
        .unwrap();
    let refused = problem(refused).await;
    assert!(
        refused.status == 507 && refused.detail.contains("DISK_FREE_LEAST"),
        "{}",
        refused.detail
    );
    let upload = server.api.post("v2/regatta/x/blobs/uploads/").await;
    assert_eq!(upload.status(), StatusCode::INSUFFICIENT_STORAGE);

    let commits = "regatta_store_operation_seconds_count{operation=\"commit\"}";
    let before = server.api.metric(commits).await.unwrap();
    let end = agent.end(&attempt, 0);
    let request = agent.request(vec![end], 0);
    let (client, url) = (
        server.api.http.clone(),
        server.api.url("api/v1/agents/sync"),
    );
    let told = tokio::spawn(async move { client.post(url).json(&request).send().await.unwrap() });
    let (client, url) = (server.api.http.clone(), server.api.url("api/v1/runs"));
    let submitted =
        tokio::spawn(async move { client.post(url).body(matrix(1)).send().await.unwrap() });
    until("the commit was tried again", || async {
        server.api.metric(commits).await.unwrap() >= before + 2.0
    })
    .await;
    assert!(
        !told.is_finished() && !submitted.is_finished(),
        "nobody hears of what is not recorded"
    );
    assert_eq!(server.api.run(&first).await.progress.attempts, 0);

    std::fs::remove_file(filler).unwrap();
    let told = told.await.unwrap().text().await.unwrap();
    let told: regatta_model::wire::SyncResponse = serde_json::from_str(&told).expect(&told);
    assert_eq!(told.acknowledged, [attempt]);
    let second: RunSummary = submitted.await.unwrap().json().await.unwrap();
    assert_eq!(server.api.run(&first).await.progress.attempts, 1);
    assert_eq!(server.api.run(&second).await.progress.cells, 1);
    server.handle.shutdown().await;
}
