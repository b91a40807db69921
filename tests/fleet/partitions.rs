//! Hosts and servers in network namespaces of their own: wires are cut in both directions and in one, clocks are wrong.
//! Whatever it is, every cell gets its verdict, each attempt is recorded once, and no container outlives its lease.

use std::process::Command;
use std::time::Duration;

use regatta_tests::busybox;
use regatta_tests::network::Network;
use regatta_tests::process::{Host, Server};
use regatta_tests::wait_until;
use serde_json::Value;

const CELLS: u64 = 120;
/// Seconds.
const LEASE: u64 = 4;

struct Fleet {
    network: Network,
    server: Server,
    hosts: Vec<Host>,
    run: String,
}

impl Fleet {
    /// A server and two hosts, each in its own namespace; `wrap` is put before the command of the second host's agent.
    fn start(wrap: &[&str]) -> Self {
        regatta_tests::need_root();
        let network = Network::new(2);
        let server = Server::start_in(&network.inside(0), "0.0.0.0:7470", LEASE, &["--insecure"]);
        busybox::import(&server.data);
        let inside = |node: usize, more: &[&str]| {
            let more = more.iter().map(ToString::to_string);
            network
                .inside(node)
                .into_iter()
                .chain(more)
                .collect::<Vec<_>>()
        };
        let url = |node| format!("http://{}:7470", network.hub(node));
        let hosts = vec![
            Host::start_in(&inside(1, &[]), &url(1), "left", 2),
            Host::start_in(&inside(2, wrap), &url(2), "right", 2),
        ];
        let values: Vec<String> = (0..CELLS).map(|n| format!("v{n}")).collect();
        let matrix = format!(
            "name: wires\nimage: busybox\naxes: {{n: [{}]}}\n\
             test:\n  run: |\n    sleep 0.2\n    case $REGATTA_AXIS_N in *7) exit 1;; esac\n",
            values.join(", ")
        );
        let file = server.data.file("matrix.yaml", &matrix);
        let arguments = ["submit", file.to_str().unwrap(), "--server", &server.url];
        let mut submit = server.data.command_in(&network.inside(0), arguments);
        let submitted = submit.output().unwrap();
        assert!(submitted.status.success(), "{submitted:?}");
        let run = String::from_utf8(submitted.stdout)
            .unwrap()
            .trim()
            .to_owned();
        Self {
            network,
            server,
            hosts,
            run,
        }
    }

    fn get(&self, path: &str) -> Option<Value> {
        let inside = self.network.inside(0);
        let output = Command::new(&inside[0])
            .args(&inside[1..])
            .args(["curl", "--silent", "--fail", "--max-time", "20"])
            .arg(format!("{}{path}", self.server.url))
            .output()
            .expect("curl is missing: apt-get install curl");
        serde_json::from_slice(&output.stdout).ok()
    }

    fn until_settled(&self, cells: u64) {
        let path = format!("/api/v1/runs/{}", self.run);
        let settled = || {
            let run = self.get(&path)?;
            run["progress"]["settled"].as_u64()
        };
        wait_until(
            &format!("{cells} cells are settled"),
            Duration::from_secs(120),
            || settled().is_some_and(|settled| settled >= cells),
        );
    }

    fn until_health(&self, host: &str, health: &str) {
        wait_until(
            &format!("{host} is {health}"),
            Duration::from_secs(60),
            || {
                let hosts = self.get("/api/v1/hosts").unwrap_or_default();
                let known = hosts.as_array().into_iter().flatten();
                known
                    .filter(|known| known["name"] == host)
                    .any(|known| known["health"] == health)
            },
        );
    }

    /// Waits until a host runs nothing of the run: its containers ended with their leases.
    fn until_quiet(&self, host: usize) {
        let data = self.hosts[host].data.path();
        wait_until("its containers ended", Duration::from_secs(60), || {
            regatta_tests::leaks::Left::of(data, &[&self.run])
                .cgroups
                .is_empty()
        });
    }

    fn end(&self) -> Value {
        self.until_settled(CELLS);
        let path = format!("/api/v1/runs/{}", self.run);
        wait_until("the run is over", Duration::from_secs(60), || {
            self.get(&path)
                .is_some_and(|run| run["state"] == "finished")
        });
        let report = self.get(&format!("{path}/report")).unwrap();
        let counts = &report["counts"];
        assert_eq!(
            (&counts["passed"], &counts["failed"]),
            (&(CELLS * 9 / 10).into(), &(CELLS / 10).into()),
            "{counts}"
        );
        let attempts = |cell: &Value| {
            let attempts = cell["attempts"].as_array().unwrap().iter();
            let mut ordinals: Vec<u64> = attempts.map(|a| a["attempt"].as_u64().unwrap()).collect();
            ordinals.sort_unstable();
            ordinals
        };
        for cell in report["cells"].as_array().unwrap() {
            let mut ordinals = attempts(cell);
            ordinals.dedup();
            assert_eq!(ordinals, attempts(cell), "{cell}");
        }
        report
    }
}

fn host_faults(report: &Value) -> u64 {
    report["counts"]["host_faults"].as_u64().unwrap()
}

#[test]
fn a_host_whose_wire_is_cut_ends_what_it_runs_and_comes_back() {
    let fleet = Fleet::start(&[]);
    fleet.until_settled(10);
    fleet.network.cut(2);
    fleet.until_quiet(1);
    fleet.until_health("right", "lost");
    fleet.until_settled(60);
    fleet.network.mend(2);
    fleet.until_health("right", "ready");
    let report = fleet.end();
    assert!(host_faults(&report) <= 8, "{}", report["counts"]);
}

#[test]
fn a_host_that_is_heard_and_hears_nothing_loses_its_lease() {
    let fleet = Fleet::start(&[]);
    fleet.until_settled(10);
    fleet.network.deafen(2);
    fleet.until_quiet(1);
    fleet.until_health("right", "lost");
    fleet.until_settled(60);
    fleet.network.mend(2);
    fleet.until_health("right", "ready");
    fleet.end();
}

#[test]
fn a_host_that_hears_and_is_not_heard_is_lost() {
    let fleet = Fleet::start(&[]);
    fleet.until_settled(10);
    fleet.network.mute(2);
    fleet.until_quiet(1);
    fleet.until_health("right", "lost");
    fleet.until_settled(60);
    fleet.network.mend(2);
    fleet.until_health("right", "ready");
    fleet.end();
}

#[test]
fn a_slow_wire_slows_and_breaks_nothing() {
    let fleet = Fleet::start(&[]);
    fleet.network.slow(2, 300);
    let report = fleet.end();
    assert_eq!(host_faults(&report), 0, "{}", report["counts"]);
}

#[test]
fn a_clock_that_is_years_ahead_and_five_percent_slow_breaks_nothing() {
    // What the command `faketime` does, but for a process between, which would be killed in the agent's place.
    let library = "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    assert!(
        std::path::Path::new(library.trim_start_matches("LD_PRELOAD=")).exists(),
        "libfaketime is missing: apt-get install faketime"
    );
    let fleet = Fleet::start(&["env", library, "FAKETIME=+900d x0.95"]);
    let report = fleet.end();
    assert_eq!(host_faults(&report), 0, "{}", report["counts"]);
    let cells = report["cells"].as_array().unwrap().iter();
    let of_right = |cell: &&Value| {
        let attempts = cell["attempts"].as_array().unwrap().iter();
        attempts.clone().any(|a| a["host"] == "right")
    };
    assert!(cells.filter(of_right).count() > 10, "it had its part");
}
