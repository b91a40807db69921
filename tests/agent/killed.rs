//! Kills: of the server for longer than a lease, of agent and executor together, and what the outbox makes of it.

use std::time::Duration;

use regatta_tests::busybox;
use regatta_tests::leaks::Left;
use regatta_tests::process::{Host, Server};
use regatta_tests::wait_until;
use serde_json::Value;

const BOUND: Duration = Duration::from_secs(90);

fn submit(server: &Server, cells: &str, test: &str) -> String {
    let matrix = format!(
        "name: killed\nimage: busybox\naxes: {{v: [{cells}]}}\ntest:\n  run: |\n    {test}\n"
    );
    let file = server.data.file("matrix.yaml", &matrix);
    let done = server
        .data
        .run(["submit", file.to_str().unwrap(), "--server", &server.url]);
    done.expect(0).out.trim().to_owned()
}

fn run(server: &Server, run: &str) -> Value {
    server
        .get(&format!("/api/v1/runs/{run}"))
        .unwrap_or_default()
}

fn attempts(server: &Server, run: &str) -> Vec<Value> {
    let report = server
        .get(&format!("/api/v1/runs/{run}/report"))
        .unwrap_or_default();
    let cells = report["cells"].as_array().cloned().unwrap_or_default();
    cells
        .iter()
        .flat_map(|cell| cell["attempts"].as_array().cloned().unwrap_or_default())
        .collect()
}

fn until_running(server: &Server, id: &str, attempts: u64) {
    wait_until(&format!("{attempts} attempts run"), BOUND, || {
        run(server, id)["progress"]["running"].as_u64() == Some(attempts)
    });
}

fn until_finished(server: &Server, id: &str) {
    wait_until("the run is over", BOUND, || {
        run(server, id)["state"] == "finished"
    });
}

/// Waits until a test's container itself says that it began.
fn until_begun(host: &Host, count: usize) {
    let attempts = host.data.path().join("attempts");
    wait_until("the tests began", BOUND, || {
        let entries = std::fs::read_dir(&attempts).into_iter().flatten().flatten();
        let begun = entries.filter(|entry| entry.path().join("artifacts/begun").exists());
        begun.count() == count
    });
}

#[test]
fn what_ends_while_the_server_is_away_is_recorded_when_it_is_back() {
    regatta_tests::need_root();
    let mut server = Server::start(60);
    busybox::import(&server.data);
    let mut host = Host::start(&server, "one", 2);
    let id = submit(
        &server,
        "a, b",
        "touch $REGATTA_ARTIFACTS/begun; sleep 1; echo done",
    );
    until_begun(&host, 2);
    server.process.kill();
    wait_until("both containers ended", BOUND, || {
        Left::of(host.data.path(), &[&id]).cgroups.is_empty()
    });
    // The outcomes wait, here for their artifacts' upload, and over another life of the agent.
    host.kill_agent();
    host.restart_agent();
    server.kill_and_restart();
    until_finished(&server, &id);
    let attempts = attempts(&server, &id);
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    for attempt in &attempts {
        assert_eq!(attempt["outcome"], "exited", "{attempt}");
        assert_eq!(attempt["passed"], true, "{attempt}");
    }
    host.process.end();
}

#[test]
fn without_a_server_containers_end_with_their_lease() {
    regatta_tests::need_root();
    let mut server = Server::start(3);
    busybox::import(&server.data);
    let host = Host::start(&server, "one", 1);
    let id = submit(&server, "a", "touch $REGATTA_ARTIFACTS/begun; sleep 3600");
    until_begun(&host, 1);
    server.process.kill();
    wait_until("the container is ended", BOUND, || {
        Left::of(host.data.path(), &[&id]).cgroups.is_empty()
    });
    drop(host);
}

#[test]
fn agent_and_executor_killed_together_are_the_hosts_fault_and_run_again() {
    regatta_tests::need_root();
    let server = Server::start(4);
    busybox::import(&server.data);
    let mut host = Host::start(&server, "one", 2);
    let id = submit(
        &server,
        "a, b",
        "touch $REGATTA_ARTIFACTS/begun; if [ $REGATTA_ATTEMPT = 1 ]; then sleep 3600; fi",
    );
    until_begun(&host, 2);
    until_running(&server, &id, 2);
    host.kill_agent();
    host.kill_executor();
    host.restart_agent();
    until_finished(&server, &id);
    let attempts = attempts(&server, &id);
    let of = |outcome: &str| attempts.iter().filter(|a| a["outcome"] == outcome).count();
    assert_eq!(
        (of("host_lost"), of("exited")),
        (2, 2),
        "{attempts:#?}\n{}",
        host.log()
    );
    assert!(
        attempts
            .iter()
            .all(|a| a["outcome"] != "host_lost" || a["blame"] == "host")
    );
    host.process.end();
}

#[test]
fn of_two_agents_with_one_name_the_later_one_works_and_the_other_says_why_it_does_not() {
    regatta_tests::need_root();
    let server = Server::start(4);
    busybox::import(&server.data);
    let mut former = Host::start(&server, "one", 1);
    wait_until("the host is ready", BOUND, || {
        server
            .get("/api/v1/hosts")
            .is_some_and(|hosts| hosts[0]["health"] == "ready")
    });
    let mut later = Host::start(&server, "one", 1);
    wait_until("the former one is refused", BOUND, || {
        former.log().contains("the server refuses this host")
    });
    assert!(former.log().contains("--name"), "{}", former.log());
    let id = submit(&server, "a", "true");
    until_finished(&server, &id);
    later.process.end();
    former.process.end();
}
