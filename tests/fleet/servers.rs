//! Two servers on one PostgreSQL: what a follower does, and what happens when the leader, the database or a host is
//! killed or stands still. Whatever it is, every cell gets its verdict, and each attempt is recorded once.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use regatta_tests::busybox;
use regatta_tests::command::Data;
use regatta_tests::postgres::Postgres;
use regatta_tests::process::{Host, Server};
use regatta_tests::wait_until;
use serde_json::Value;

const CELLS: u64 = 200;
/// Seconds; short, so that a lost host is noticed within the test.
const LEASE: u64 = 4;

/// Two servers and two hosts.
pub(crate) struct Pair {
    pub(crate) servers: [Server; 2],
    pub(crate) hosts: Vec<Host>,
    run: String,
    postgres: Postgres,
    /// Images and blobs, which the servers share.
    shared: Data,
}

impl Pair {
    /// With a run of which every tenth cell fails.
    pub(crate) fn start() -> Self {
        Self::start_on(Postgres::start())
    }

    fn start_on(postgres: Postgres) -> Self {
        regatta_tests::need_root();
        let shared = Data::new();
        let (images, blobs) = (shared.path().join("images"), shared.path().join("blobs"));
        let (url, blobs) = (postgres.url(), format!("file://{}", blobs.display()));
        let start = || {
            let images = images.to_str().unwrap();
            let options = ["--database", &url, "--images", images, "--blobs", &blobs];
            Server::start_with(LEASE, &options)
        };
        let servers = [start(), start()];
        busybox::import(&shared);
        let all = format!("{},{}", servers[0].url, servers[1].url);
        let hosts = ["left", "right"].map(|name| Host::start_at(&all, name, 3));
        let mut pair = Self {
            servers,
            hosts: hosts.into(),
            run: String::new(),
            postgres,
            shared,
        };
        pair.run = pair.submit(1);
        pair
    }

    /// Submits through one of the servers.
    fn submit(&self, server: usize) -> String {
        let values: Vec<String> = (0..CELLS).map(|n| format!("v{n}")).collect();
        let matrix = format!(
            "name: pair\nimage: busybox\naxes: {{n: [{}]}}\n\
             test:\n  run: |\n    sleep 0.1\n    case $REGATTA_AXIS_N in *7) exit 1;; esac\n",
            values.join(", ")
        );
        let file = self.shared.file("matrix.yaml", &matrix);
        let server = &self.servers[server].url;
        let arguments = ["submit", file.to_str().unwrap(), "--server", server];
        self.shared.run(arguments).expect(0).out.trim().to_owned()
    }

    pub(crate) fn leader(&self) -> usize {
        let mut leader = None;
        wait_until("a server leads", Duration::from_secs(60), || {
            leader = self.servers.iter().position(Server::leads);
            leader.is_some()
        });
        leader.unwrap()
    }

    fn settled(&self) -> u64 {
        let path = format!("/api/v1/runs/{}", self.run);
        let told = self.servers.iter().find_map(|server| server.get(&path));
        told.and_then(|run| run["progress"]["settled"].as_u64())
            .unwrap_or(0)
    }

    pub(crate) fn until_settled(&self, cells: u64) {
        wait_until(
            &format!("{cells} cells are settled"),
            Duration::from_secs(120),
            || self.settled() >= cells,
        );
    }

    /// Waits for the end, checks everything that must hold, and gives the report.
    pub(crate) fn end(&self) -> Value {
        self.until_settled(CELLS);
        let path = format!("/api/v1/runs/{}", self.run);
        let leader = &self.servers[self.leader()];
        wait_until("the run is over", Duration::from_secs(60), || {
            leader
                .get(&path)
                .is_some_and(|run| run["state"] == "finished")
        });
        let report = leader.get(&format!("{path}/report")).unwrap();
        let counts = &report["counts"];
        assert_eq!(
            (&counts["passed"], &counts["failed"]),
            (&(CELLS * 9 / 10).into(), &(CELLS / 10).into()),
            "{counts}"
        );
        for cell in report["cells"].as_array().unwrap() {
            let attempts = cell["attempts"].as_array().unwrap();
            let ordinals = attempts.iter().map(|a| a["attempt"].as_u64().unwrap());
            let different: BTreeSet<u64> = ordinals.collect();
            assert_eq!(different.len(), attempts.len(), "{cell}");
        }
        let recorded = format!(
            "SELECT count(*) FROM attempts JOIN runs ON key = run WHERE id = '{}'",
            self.run
        );
        let recorded = self.postgres.psql(&recorded);
        assert_eq!(recorded, counts["attempts"].to_string());
        report
    }
}

fn host_faults(report: &Value) -> u64 {
    report["counts"]["host_faults"].as_u64().unwrap()
}

#[test]
fn a_follower_passes_on_what_it_cannot_answer_and_serves_the_rest() {
    let pair = Pair::start();
    let leader = pair.leader();
    let follower = 1 - leader;
    assert!(!pair.servers[follower].leads());
    // The run was submitted through the second server, whoever leads; another one goes through the follower for sure.
    let second = pair.submit(follower);
    let [of_leader, of_follower] = [leader, follower].map(|server| &pair.servers[server]);
    for path in ["/api/v1/hosts", "/api/v1/runs"] {
        let names = |server: &Server| -> BTreeSet<String> {
            let list = server.get(path).unwrap();
            let name = |one: &Value| {
                one["run"]
                    .as_str()
                    .or(one["name"].as_str())
                    .unwrap()
                    .to_owned()
            };
            list.as_array().unwrap().iter().map(name).collect()
        };
        assert_eq!(names(of_leader), names(of_follower), "{path}");
    }
    let page = of_follower.text("/metrics/hosts");
    assert!(!page.contains("host=\"left\""), "{page}");
    assert!(of_leader.text("/metrics/hosts").contains("host=\"left\""));
    // To watch through the follower is to hear what the leader decides.
    let watched = pair
        .shared
        .run(["watch", &second, "--server", &of_follower.url]);
    assert_eq!(watched.status, 1, "{}", watched.err);
    let report = pair.end();
    assert_eq!(host_faults(&report), 0);
    let path = format!("/api/v1/runs/{}/report", pair.run);
    assert_eq!(of_follower.get(&path).unwrap()["cells"], report["cells"]);
}

#[test]
fn a_killed_leader_is_followed_by_the_other_server() {
    let mut pair = Pair::start();
    pair.until_settled(20);
    let first = pair.leader();
    pair.servers[first].process.kill();
    assert_eq!(pair.leader(), 1 - first);
    pair.servers[first].restart();
    let report = pair.end();
    assert!(!pair.servers[first].leads(), "it came back as a follower");
    assert_eq!(pair.postgres.psql("SELECT epoch FROM leader"), "2");
    // Both know the whole run.
    let path = format!("/api/v1/runs/{}/report", pair.run);
    for server in &pair.servers {
        assert_eq!(server.get(&path).unwrap()["cells"], report["cells"]);
    }
}

#[test]
fn a_leader_that_ends_hands_over_at_once() {
    let mut pair = Pair::start();
    pair.until_settled(20);
    let first = pair.leader();
    pair.servers[first].process.end();
    // Its lease had been renewed; the other one did not wait for its end.
    let free = "SELECT until < clock_timestamp() + interval '1 hour' FROM leader";
    assert_eq!(pair.postgres.psql(free), "t");
    assert_eq!(pair.leader(), 1 - first);
    pair.servers[first].restart();
    let report = pair.end();
    assert_eq!(host_faults(&report), 0, "{}", pair.servers[1 - first].log());
}

#[test]
fn a_leader_that_stood_still_finds_itself_deposed() {
    let pair = Pair::start();
    pair.until_settled(20);
    let first = pair.leader();
    pair.servers[first].process.signal("STOP");
    let second = &pair.servers[1 - first];
    wait_until("the other server leads", Duration::from_secs(60), || {
        second.leads()
    });
    pair.servers[first].process.signal("CONT");
    pair.end();
    assert!(second.leads() && !pair.servers[first].leads());
    assert_eq!(pair.postgres.psql("SELECT epoch FROM leader"), "2");
}

#[test]
fn a_database_that_is_away_costs_time_and_nothing_else() {
    let mut pair = Pair::start();
    pair.until_settled(20);
    let leader = pair.leader();
    let path = format!("/api/v1/runs/{}/report", pair.run);
    pair.postgres.kill();
    let answer = Command::new("curl")
        .args(["--silent", "--include", "--max-time", "60"])
        .args(["--header", "content-type: application/yaml"])
        .args([
            "--data-binary",
            "axes: {n: [1]}\nimage: busybox\ntest: {run: 'true'}\n",
        ])
        .arg(format!("{}/api/v1/runs", pair.servers[leader].url))
        .output()
        .expect("curl is missing: apt-get install curl");
    let answer = String::from_utf8_lossy(&answer.stdout).to_lowercase();
    assert!(
        answer.contains("503") && answer.contains("retry-after: 2"),
        "{answer}"
    );
    assert!(pair.servers[leader].get(&path).is_none());
    pair.postgres.start_again();
    let report = pair.end();
    assert!(
        host_faults(&report) <= 12,
        "each host's three places, twice at most: {}",
        report["counts"]
    );
}

#[test]
fn a_database_that_takes_its_time_costs_no_host_its_attempts() {
    let pair = Pair::start();
    pair.until_settled(20);
    // Longer than a host's lease and drift (5.2 s), shorter than what is left of the leader's lease (7 s at least).
    let slow = "BEGIN; LOCK TABLE attempts IN EXCLUSIVE MODE; SELECT pg_sleep(6); COMMIT";
    let before = pair.settled();
    pair.postgres.psql(slow);
    assert!(
        pair.settled() <= before + 40,
        "nothing was recorded meanwhile"
    );
    let report = pair.end();
    assert_eq!(host_faults(&report), 0, "{}", report["counts"]);
}

#[test]
fn a_database_whose_disk_is_full_costs_time_and_nothing_else() {
    let mut pair = Pair::start_on(Postgres::start_on_small_disk(160));
    pair.until_settled(20);
    let filler = pair.postgres.fill_disk();
    // It goes on for as long as there is room in what it has, then it stops or even ends.
    let before = pair.settled();
    let refused = || {
        let page = pair.servers[pair.leader()].log();
        page.contains("nothing can be recorded") || page.contains("is not renewed")
    };
    wait_until("nothing can be recorded", Duration::from_secs(60), refused);
    std::fs::remove_file(filler).unwrap();
    if !pair.postgres.runs() {
        pair.postgres.start_again();
    }
    pair.end();
    let kept = pair.postgres.psql("SELECT max(settled) FROM attempts");
    assert!(kept.parse::<u64>().unwrap() >= before);
}

#[test]
fn a_replica_that_takes_over_has_all_that_was_acknowledged() {
    let mut pair = Pair::start();
    let mut replica = pair.postgres.replica();
    pair.until_settled(40);
    let acknowledged = pair.settled();
    let port = pair.postgres.port();
    pair.postgres.kill();
    replica.promote_at(port);
    pair.postgres = replica;
    let kept = pair.postgres.psql("SELECT max(settled) FROM attempts");
    assert!(
        kept.parse::<u64>().unwrap() >= acknowledged,
        "{kept} of {acknowledged}"
    );
    pair.end();
}

#[test]
fn a_host_that_stood_still_counts_for_nothing_it_did_meanwhile() {
    let pair = Pair::start();
    pair.until_settled(20);
    pair.hosts[0].process.signal("STOP");
    let hosts = || pair.servers[pair.leader()].get("/api/v1/hosts");
    wait_until("the host is lost", Duration::from_secs(60), || {
        let lost = |host: &Value| host["name"] == "left" && host["health"] == "lost";
        hosts().is_some_and(|hosts| hosts.as_array().unwrap().iter().any(lost))
    });
    pair.until_settled(60);
    pair.hosts[0].process.signal("CONT");
    pair.end();
    let attempts = pair.hosts[0].data.path().join("attempts");
    wait_until("attempts are cleared away", Duration::from_secs(60), || {
        std::fs::read_dir(&attempts).map_or(0, Iterator::count) == 0
    });
}
