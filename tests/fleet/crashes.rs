//! The server and an agent abort at each step between which something could be lost, in the middle of a run, and are
//! started again: every cell gets its verdict, each attempt is recorded once and ran once, nothing is left on the hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use regatta_tests::busybox;
use regatta_tests::leaks::Left;
use regatta_tests::process::{Host, Server};
use regatta_tests::wait_until;
use serde_json::Value;

use crate::servers::Pair;

const CELLS: u64 = 60;
/// Seconds; long enough that nothing is lost while something is started again.
const LEASE: u64 = 15;

/// A server and two hosts that live through many runs.
struct Fleet {
    server: Server,
    hosts: [Host; 2],
    run: String,
}

impl Fleet {
    fn start() -> Self {
        regatta_tests::need_root();
        let server = Server::start(LEASE);
        busybox::import(&server.data);
        let hosts = ["left", "right"].map(|name| Host::start(&server, name, 3));
        Self {
            server,
            hosts,
            run: String::new(),
        }
    }

    /// Submits a run of which every tenth cell fails, and whose attempts note that they ran, on their host.
    fn submit(&mut self) {
        let values: Vec<String> = (0..CELLS).map(|n| format!("v{n}")).collect();
        let matrix = format!(
            "name: sixty\nimage: busybox\naxes: {{n: [{}]}}\nvolumes: [{{name: ran, at: /ran, mode: rw}}]\n\
             test:\n  run: |\n    echo >> /ran/$REGATTA_RUN,$REGATTA_CELL,$REGATTA_ATTEMPT\n    sleep 0.1\n    \
             case $REGATTA_AXIS_N in *7) exit 1;; esac\n",
            values.join(", ")
        );
        let file = self.server.data.file("matrix.yaml", &matrix);
        let arguments = ["submit", file.to_str().unwrap(), "--server"];
        let arguments = arguments.into_iter().chain([self.server.url.as_str()]);
        let done = self.server.data.run(arguments).expect(0);
        self.run = done.out.trim().to_owned();
    }

    fn until_it_answers(&self) {
        wait_until("the server answers", Duration::from_secs(30), || {
            self.server.get("/api/v1/hosts").is_some()
        });
    }

    fn until_settled(&self, cells: u64) {
        let path = format!("/api/v1/runs/{}", self.run);
        wait_until(
            &format!("{cells} cells are settled"),
            Duration::from_secs(60),
            || {
                let told = self.server.get(&path);
                told.is_some_and(|run| run["progress"]["settled"].as_u64() >= Some(cells))
            },
        );
    }

    /// Waits for the run's end, checks what must hold whatever happened, and gives the report. `step`: for messages.
    fn end(&self, step: &str) -> Value {
        let logs = || {
            let hosts = self.hosts.each_ref().map(Host::log).join("\n--- agent\n");
            format!("{step}\n{}\n--- agent\n{hosts}", self.server.log())
        };
        let path = format!("/api/v1/runs/{}", self.run);
        let over = || {
            let told = self.server.get(&path);
            told.is_some_and(|run| run["state"] == "finished")
        };
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while !over() {
            assert!(std::time::Instant::now() < end, "no end: {}", logs());
            std::thread::sleep(Duration::from_millis(20));
        }
        let report = self.server.get(&format!("{path}/report")).unwrap();
        let cells = report["cells"].as_array().unwrap();
        assert_eq!(cells.len() as u64, CELLS, "{step}");
        let mut recorded = Vec::new();
        for cell in cells {
            let number = cell["cell"].as_u64().unwrap();
            let verdict = ["passed", "failed"][usize::from(number % 10 == 7)];
            assert_eq!(cell["verdict"], verdict, "{cell}: {}", logs());
            for attempt in cell["attempts"].as_array().unwrap() {
                recorded.push((number, attempt["attempt"].as_u64().unwrap()));
            }
        }
        recorded.sort_unstable();
        // Each once, here and there.
        assert_eq!(recorded, self.ran(), "{}", logs());
        for host in &self.hosts {
            let data = host.data.path();
            let attempts = data.join("attempts");
            let end = std::time::Instant::now() + Duration::from_secs(30);
            while std::fs::read_dir(&attempts).map_or(0, Iterator::count) > 0 {
                assert!(std::time::Instant::now() < end, "left over: {}", logs());
                std::thread::sleep(Duration::from_millis(20));
            }
            let left = Left::of(data, &[&self.run]);
            assert!(left.cgroups.is_empty(), "{left:?}: {}", logs());
        }
        report
    }

    /// The attempts of the run that containers ran: cell and ordinal, as often as they did.
    fn ran(&self) -> Vec<(u64, u64)> {
        let mut ran = Vec::new();
        for host in &self.hosts {
            let noted = std::fs::read_dir(host.data.path().join("volumes/ran")).unwrap();
            for entry in noted.flatten() {
                let name = entry.file_name().into_string().unwrap();
                let mut words = name.split(',');
                if words.next() != Some(&self.run) {
                    continue;
                }
                let mut number = || words.next().unwrap().parse().unwrap();
                let attempt = (number(), number());
                let times = entry.metadata().unwrap().len();
                ran.extend((0..times).map(|_| attempt));
            }
        }
        ran.sort_unstable();
        ran
    }

    /// Ends everything; the hosts end clean.
    fn stop(mut self) {
        for host in &mut self.hosts {
            host.process.end();
        }
        let paths = self
            .hosts
            .each_ref()
            .map(|host| host.data.path().to_owned());
        drop(self);
        for path in paths {
            let left = Left::of(&path, &[]);
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

fn host_faults(report: &Value) -> u64 {
    report["counts"]["host_faults"].as_u64().unwrap()
}

#[test]
fn a_server_that_aborts_at_any_step_takes_its_run_up_again() {
    let mut fleet = Fleet::start();
    for step in [
        "chosen",
        "taken-up",
        "decided",
        "decided:4",
        "committed",
        "committed:4",
        "published",
        "published:4",
    ] {
        fleet.submit();
        fleet.until_settled(15);
        fleet.server.process.kill();
        fleet.server.restart_to_crash(step);
        fleet.server.process.abort();
        fleet.server.restart();
        let report = fleet.end(step);
        assert_eq!(host_faults(&report), 0, "{step}: hosts go on meanwhile");
    }
    fleet.stop();
}

#[test]
fn a_server_that_aborts_while_it_distrusts_a_host_distrusts_it_again() {
    let mut fleet = Fleet::start();
    fleet.submit();
    fleet.until_settled(15);
    fleet.server.process.kill();
    fleet.server.restart_to_crash("reopened");
    let url = fleet.server.url.clone();
    let quarantine = ["host", "quarantine", "left", "--server", &url];
    fleet.until_it_answers();
    let refused = fleet.server.data.run(quarantine);
    assert_ne!(refused.status, 0, "{}", refused.out);
    fleet.server.process.abort();
    fleet.server.restart();
    fleet.server.data.run(quarantine).expect(0);
    let report = fleet.end("reopened");
    let mut blames: BTreeMap<&str, u64> = BTreeMap::new();
    for cell in report["cells"].as_array().unwrap() {
        let attempts = cell["attempts"].as_array().unwrap();
        for attempt in attempts.iter().filter(|attempt| attempt["host"] == "left") {
            let blame = attempt["blame"].as_str().unwrap_or("nobody");
            *blames.entry(blame).or_default() += 1;
        }
    }
    assert_eq!(
        Vec::from_iter(blames.keys().copied()),
        ["host"],
        "what it decided counts for nothing: {blames:?}"
    );
    fleet.stop();
}

#[test]
fn a_leader_that_aborts_before_it_says_what_is_recorded_is_followed() {
    let mut pair = Pair::start();
    pair.until_settled(20);
    let first = pair.leader();
    let second = 1 - first;
    pair.servers[second].process.kill();
    pair.servers[second].restart_to_crash("committed:4");
    wait_until("the follower answers", Duration::from_secs(30), || {
        pair.servers[second].get("/api/v1/runs").is_some()
    });
    // Hands over at once.
    pair.servers[first].process.end();
    pair.servers[second].process.abort();
    pair.servers[first].restart();
    pair.servers[second].restart();
    pair.end();
    for host in &pair.hosts {
        let attempts = host.data.path().join("attempts");
        wait_until("attempts are cleared away", Duration::from_secs(30), || {
            std::fs::read_dir(&attempts).map_or(0, Iterator::count) == 0
        });
    }
}

#[test]
fn an_agent_that_aborts_at_any_step_takes_its_attempts_up_again() {
    let mut fleet = Fleet::start();
    for step in ["assigned", "ended", "written", "acknowledged", "forgotten"] {
        for times in [1, 4] {
            let step = format!("{step}:{times}");
            fleet.hosts[0].process.end();
            fleet.hosts[0].restart_agent_to_crash(&step);
            fleet.submit();
            fleet.hosts[0].process.abort();
            fleet.hosts[0].restart_agent();
            let report = fleet.end(&step);
            assert_eq!(host_faults(&report), 0, "{step}: it is back in time");
        }
    }
    fleet.stop();
}

#[test]
fn an_unknown_step_is_told_and_changes_nothing() {
    let mut fleet = Fleet::start();
    fleet.server.process.kill();
    fleet.server.restart_to_crash("nowhere");
    fleet.until_it_answers();
    fleet.hosts[0].process.end();
    fleet.hosts[0].restart_agent_to_crash("nowhere");
    fleet.submit();
    fleet.end("nowhere");
    for (log, whose) in [
        (fleet.server.log(), "server"),
        (fleet.hosts[0].log(), "agent"),
    ] {
        let told = format!("REGATTA_CRASH_AT=nowhere is no step of the {whose}");
        assert!(log.contains(&told), "{log}");
    }
    fleet.stop();
}
