//! Canaries through the real agent and executor: a host whose disk takes no results gets nothing, says why, and works
//! once it is mended.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use regatta_tests::busybox;
use regatta_tests::process::{Host, Server};
use regatta_tests::wait_until;
use serde_json::Value;

const BOUND: Duration = Duration::from_secs(60);

/// A file system on which hardly any file can be made, until it is dropped.
struct Full(PathBuf);

impl Full {
    fn over(directory: &Path) -> Self {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "nr_inodes=5", "full"])
            .arg(directory)
            .status();
        assert!(mounted.unwrap().success());
        Self(directory.to_owned())
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

fn observed(server: &Server) -> Value {
    let hosts = server.get("/api/v1/hosts").unwrap_or_default();
    hosts[0]["facts"]["observed"].clone()
}

fn until_passed(server: &Server) {
    wait_until("a canary passed", BOUND, || {
        let observed = observed(server);
        let passed = observed["canaries"]["passed"].as_u64() >= Some(1);
        passed && observed["lacks"] == serde_json::json!([])
    });
}

#[test]
fn a_host_whose_canary_fails_gets_nothing_until_it_is_mended() {
    regatta_tests::need_root();
    let server = Server::start(4);
    busybox::import(&server.data);
    let mut host = Host::start(&server, "boat", 2);
    until_passed(&server);
    host.kill_agent();
    let full = Full::over(&host.data.path().join("exec"));
    host.restart_agent();
    wait_until("it says that its canary failed", BOUND, || {
        let lacks = observed(&server)["lacks"][0].clone();
        lacks
            .as_str()
            .is_some_and(|lack| lack.starts_with("its canary failed: "))
    });
    let matrix = "name: one\nimage: busybox\naxes: {n: [a]}\ntest: {run: 'true'}\n";
    let file = server.data.file("matrix.yaml", matrix);
    let submit = ["submit", file.to_str().unwrap(), "--server", &server.url];
    let run = server.data.run(submit).expect(0);
    let path = format!("/api/v1/runs/{}", run.out.trim());
    let failed = |server: &Server| observed(server)["canaries"]["failed"].as_u64();
    wait_until("another one failed", BOUND, || failed(&server) >= Some(2));
    assert_eq!(server.get(&path).unwrap()["state"], "queued");
    drop(full);
    until_passed(&server);
    wait_until("the run is over", BOUND, || {
        server
            .get(&path)
            .is_some_and(|run| run["state"] == "finished")
    });
}
