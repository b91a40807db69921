//! A full disk: uploads are refused before it is full, and what cannot be recorded waits until it can.

use std::path::{Path, PathBuf};
use std::process::Command;

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
    until("the commit was tried again", || async {
        server.api.metric(commits).await.unwrap() >= before + 2.0
    })
    .await;
    assert_eq!(server.api.run(&first).await.progress.attempts, 0);
    // Who asks hears at once that it is no time to submit,
    let refused = server.api.http.post(server.api.url("api/v1/runs"));
    let refused = refused.body(matrix(1)).send().await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "2");
    let refused = problem(refused).await;
    assert!(
        refused.status == 503 && refused.detail.contains("nothing can be recorded"),
        "{}",
        refused.detail
    );
    // and a host goes on with what it holds.
    let end = agent.end(&attempt, 0);
    let kept = agent.sync(vec![end]).await;
    assert_eq!((kept.acknowledged.len(), kept.lease_ms), (0, 20_000));
    let told = told.await.unwrap().text().await.unwrap();
    let told: regatta_model::wire::SyncResponse = serde_json::from_str(&told).expect(&told);
    assert_eq!(told.acknowledged, []);

    std::fs::remove_file(filler).unwrap();
    until("what was told is recorded", || async {
        server.api.run(&first).await.progress.attempts == 1
    })
    .await;
    let end = agent.end(&attempt, 0);
    assert_eq!(agent.sync(vec![end]).await.acknowledged, [attempt]);
    assert_eq!(server.api.run(&first).await.progress.attempts, 1);
    let second = server.api.submit(&matrix(1)).await;
    assert_eq!(second.progress.cells, 1);
    server.handle.shutdown().await;
}
