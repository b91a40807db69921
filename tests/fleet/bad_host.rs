//! A host whose disk is broken, among three good ones, with real containers: it is quarantined, what it decided is run
//! again elsewhere, and no version is blamed.

use std::collections::BTreeSet;
use std::time::Duration;

use regatta_tests::busybox;
use regatta_tests::process::{Host, Server};
use regatta_tests::wait_until;
use serde_json::Value;

const VERSIONS: u64 = 80;

/// Runs four versions beside a baseline on four hosts, of which one is as `broken` says; gives the report.
///
/// Each test reads a volume, which is a directory of its host: on the bad one it holds a file that says so.
fn run(broken: &str) -> (Value, Value) {
    regatta_tests::need_root();
    let server = Server::start(10);
    busybox::import(&server.data);
    let hosts = ["bad", "one", "two", "three"].map(|name| {
        let host = Host::start(&server, name, 2);
        if name == "bad" {
            let volume = host.data.path().join("volumes/disk");
            std::fs::create_dir_all(&volume).unwrap();
            std::fs::write(volume.join("broken"), "").unwrap();
        }
        host
    });
    let versions: Vec<String> = (0..=VERSIONS).map(|n| format!("v{n}")).collect();
    let matrix = format!(
        "name: disk\nimage: busybox\naxes:\n  part: [a, b, c]\n  version: [{}]\n\
         compare: {{axis: version, baseline: v0}}\nvolumes: [{{name: disk, at: /disk, mode: ro}}]\n\
         test:\n  run: |\n    \
         good() {{ echo '<testsuite><testcase name=\"reads\"/><testcase name=\"writes\"/></testsuite>'; }}\n    \
         unlucky() {{ [ -e /disk/broken ] && [ $(($(od -An -N1 -tu1 /dev/urandom) % 10)) -lt 3 ]; }}\n    \
         cd $REGATTA_RESULTS\n    good > results.xml\n    {broken}\n",
        versions.join(", ")
    );
    let file = server.data.file("matrix.yaml", &matrix);
    let done = server
        .data
        .run(["submit", file.to_str().unwrap(), "--server", &server.url])
        .expect(0);
    let path = format!("/api/v1/runs/{}", done.out.trim());
    wait_until("the run is over", Duration::from_secs(240), || {
        let told = server.get(&path);
        told.is_some_and(|run| run["state"] == "finished")
    });
    let report = server.get(&format!("{path}/report")).unwrap();
    let told = server.get("/api/v1/hosts").unwrap();
    let known = told.as_array().unwrap().iter();
    let bad = known
        .clone()
        .find(|host| host["name"] == "bad")
        .unwrap()
        .clone();
    for host in known.filter(|host| host["name"] != "bad") {
        assert_eq!(host["policy"], "active", "{host}");
    }
    drop(hosts);
    (report, bad)
}

fn check(report: &Value, bad: &Value) {
    assert_eq!(bad["policy"], "quarantined", "{bad}");
    assert_eq!(
        report["counts"]["passed"],
        (VERSIONS + 1) * 3,
        "{}",
        report["counts"]
    );
    let kinds: BTreeSet<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, BTreeSet::from(["host"]), "{}", report["findings"]);
    for cell in report["cells"].as_array().unwrap() {
        let attempts = cell["attempts"].as_array().unwrap();
        let elsewhere = attempts.iter().filter(|a| a["host"] != "bad");
        assert!(elsewhere.count() >= 1, "{cell}");
        // What was cancelled, since its cell had its verdict, is nobody's fault.
        let ended = attempts.iter().filter(|a| a["outcome"] != "cancelled");
        for attempt in ended.filter(|a| a["host"] == "bad") {
            assert_eq!(attempt["blame"], "host", "{cell}");
        }
    }
}

#[test]
fn a_host_that_fails_three_tests_in_ten_is_found_and_nothing_else() {
    let (report, bad) = run("if unlucky; then exit 1; fi");
    check(&report, &bad);
}

#[test]
fn a_host_that_only_spoils_results_is_found_and_nothing_else() {
    let (report, bad) =
        run("if unlucky; then echo '<testsuite><testcase name=\"re' > results.xml; fi");
    check(&report, &bad);
}
