//! A server and two hosts as processes of their own, and what happens when one of them is killed in the middle of a run:
//! every cell gets its verdict, no attempt is recorded twice, no container is left.

mod bad_host;
mod canary;
mod crashes;
mod near;
mod partitions;
mod servers;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regatta_tests::busybox;
use regatta_tests::leaks::Left;
use regatta_tests::process::{Host, Server};
use regatta_tests::wait_until;
use serde_json::Value;

const CELLS: u64 = 500;
/// Seconds; short, so that a lost host is noticed within the test.
const LEASE: u64 = 4;

struct Fleet {
    server: Server,
    hosts: Vec<Host>,
    run: String,
}

impl Fleet {
    /// A server, two hosts, and a run of 500 cells of which every fiftieth fails.
    fn start() -> Self {
        regatta_tests::need_root();
        let server = Server::start(LEASE);
        busybox::import(&server.data);
        let values: Vec<String> = (0..CELLS).map(|n| format!("v{n}")).collect();
        let matrix = format!(
            "name: five-hundred\nimage: busybox\naxes: {{n: [{}]}}\n\
             test:\n  run: |\n    sleep 0.05\n    case $REGATTA_AXIS_N in *[05]0) exit 1;; esac\n",
            values.join(", ")
        );
        let file = server.data.file("matrix.yaml", &matrix);
        let hosts = vec![
            Host::start(&server, "left", 3),
            Host::start(&server, "right", 3),
        ];
        let done = server
            .data
            .run(["submit", file.to_str().unwrap(), "--server", &server.url])
            .expect(0);
        Self {
            server,
            hosts,
            run: done.out.trim().to_owned(),
        }
    }

    fn settled(&self) -> u64 {
        let run = self.server.get(&format!("/api/v1/runs/{}", self.run));
        run.and_then(|run| run["progress"]["settled"].as_u64())
            .unwrap_or(0)
    }

    fn until_settled(&self, cells: u64) {
        wait_until(
            &format!("{cells} cells are settled"),
            Duration::from_secs(120),
            || self.settled() >= cells,
        );
    }

    /// Waits for the end and checks everything that must hold, whatever was killed.
    fn end(mut self) -> Value {
        let over = |run: Value| run["state"] == "finished";
        wait_until("the run is over", Duration::from_secs(240), || {
            self.server
                .get(&format!("/api/v1/runs/{}", self.run))
                .is_some_and(over)
        });
        let report = self
            .server
            .get(&format!("/api/v1/runs/{}/report", self.run))
            .unwrap();
        let cells = report["cells"].as_array().unwrap();
        assert_eq!(cells.len() as u64, CELLS);
        let mut verdicts: BTreeMap<&str, u64> = BTreeMap::new();
        for cell in cells {
            *verdicts
                .entry(cell["verdict"].as_str().unwrap())
                .or_default() += 1;
            let ordinals: Vec<u64> = cell["attempts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|a| a["attempt"].as_u64().unwrap())
                .collect();
            let distinct: BTreeSet<u64> = ordinals.iter().copied().collect();
            assert_eq!(
                ordinals.len(),
                distinct.len(),
                "an attempt is recorded twice: {cell}"
            );
        }
        // v50, v100, ... v450 and v0 is no match: `*[05]0` wants two digits.
        let failing = (0..CELLS).filter(|n| *n >= 10 && (n % 50 == 0)).count() as u64;
        assert_eq!(
            verdicts,
            BTreeMap::from([("passed", CELLS - failing), ("failed", failing)]),
            "{}",
            self.server.log()
        );

        // The hosts hold nothing any more, and end clean.
        for host in &mut self.hosts {
            let attempts = host.data.path().join("attempts");
            wait_until("attempts are cleared away", Duration::from_secs(30), || {
                std::fs::read_dir(&attempts).map_or(0, Iterator::count) == 0
            });
            host.process.end();
        }
        let paths: Vec<_> = self
            .hosts
            .iter()
            .map(|host| host.data.path().to_owned())
            .collect();
        let data: Vec<_> = self.hosts.drain(..).collect();
        for host in &data {
            let running = Left::of(host.data.path(), &[&self.run]);
            assert!(running.cgroups.is_empty(), "{running:?}");
        }
        drop(data);
        for path in paths {
            let left = Left::of(&path, &[&self.run]);
            assert!(left.is_empty(), "{left:?}");
        }
        report
    }
}

fn host_faults(report: &Value) -> u64 {
    report["counts"]["host_faults"].as_u64().unwrap()
}

#[test]
fn a_run_over_two_hosts_uses_both_and_blames_none() {
    let report = Fleet::start().end();
    assert_eq!(host_faults(&report), 0);
    let hosts: BTreeSet<&str> = report["cells"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|cell| cell["attempts"].as_array().unwrap())
        .map(|attempt| attempt["host"].as_str().unwrap())
        .collect();
    assert_eq!(hosts, BTreeSet::from(["left", "right"]));
    // A failing attempt is run again on the host that has not run the cell.
    for cell in report["cells"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|cell| cell["verdict"] == "failed")
    {
        let hosts: Vec<&Value> = cell["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| &a["host"])
            .collect();
        assert!(hosts.len() >= 2 && hosts[0] != hosts[1], "{cell}");
    }
}

#[test]
fn a_killed_server_takes_its_run_up_again() {
    let mut fleet = Fleet::start();
    fleet.until_settled(100);
    fleet.server.kill_and_restart();
    let again = fleet.settled();
    assert!(
        (100..CELLS).contains(&again),
        "what was acknowledged is still there, and the kill was in the middle: {again}"
    );
    let report = fleet.end();
    assert_eq!(
        host_faults(&report),
        0,
        "hosts go on while the server is away"
    );
}

#[test]
fn a_killed_agent_costs_time_and_no_verdict() {
    let mut fleet = Fleet::start();
    fleet.until_settled(100);
    fleet.hosts[0].kill_agent();
    // What it held is lost after lease and drift, and runs on the other host.
    fleet.until_settled(CELLS);
    fleet.hosts[0].restart_agent();
    fleet.end();
}

#[test]
fn a_killed_agent_that_comes_back_takes_up_its_containers() {
    let mut fleet = Fleet::start();
    fleet.until_settled(100);
    fleet.hosts[0].kill_agent();
    fleet.hosts[0].restart_agent();
    fleet.end();
}

#[test]
fn a_killed_executor_is_the_hosts_fault_and_nobodys_failure() {
    let fleet = Fleet::start();
    fleet.until_settled(100);
    fleet.hosts[0].kill_executor();
    let report = fleet.end();
    assert!(host_faults(&report) >= 1, "its containers ended with it");
    assert!(
        host_faults(&report) <= 20,
        "another one took its place: {}",
        report["counts"]
    );
}
