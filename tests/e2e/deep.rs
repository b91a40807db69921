//! `rerun: {deep: true}` and `rerun: {in-all: N}`: reruns that go on by themselves, and reruns that a whole run may take.

use std::time::Duration;

use regatta_tests::busybox;
use regatta_tests::command::Data;
use regatta_tests::process::{Host, Server};
use regatta_tests::wait_until;
use serde_json::Value;

/// Two versions, of which `new` fails in every second attempt. `before` is run by each attempt, which knows its number `n`
/// among those of its version.
fn matrix(rerun: &str, before: &str) -> String {
    format!(
        r#"name: regatta
image: busybox
axes: {{version: [old, new]}}
volumes: [{{name: counts, at: /counts, mode: rw}}]
test:
  run: |
    n=1; while ! mkdir /counts/$REGATTA_AXIS_VERSION-$n; do n=$((n + 1)); done 2>/dev/null
    {before}
    [ $REGATTA_AXIS_VERSION = old ] || [ $((n % 2)) = 0 ] || bad=1
    echo "<testsuite><testcase name='mast'>${{bad:+<failure message='gone'/>}}</testcase></testsuite>" > $REGATTA_RESULTS/r.xml
    exit ${{bad:-0}}
compare: {{axis: version, baseline: old}}
rerun: {rerun}
"#
    )
}

fn kinds(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|finding| finding["kind"].as_str().unwrap())
        .collect()
}

#[test]
fn what_is_unresolved_runs_on_by_itself_where_the_matrix_says_so() {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    let file = data.file("matrix.yaml", &matrix("{at-most: 2}", ""));
    let done = data
        .run(["run", file.to_str().unwrap(), "--json"])
        .expect(3);
    let report = done.json();
    assert_eq!(kinds(&report), ["unresolved"], "{report:#}");
    assert!(report["counts"]["attempts"].as_u64().unwrap() <= 6);

    let data = Data::new();
    busybox::import(&data);
    let file = data.file("matrix.yaml", &matrix("{at-most: 2, deep: true}", ""));
    let done = data
        .run(["run", file.to_str().unwrap(), "--json"])
        .expect(1);
    let report = done.json();
    assert_eq!(kinds(&report)[0], "regression", "{report:#}");
    assert!(report["counts"]["attempts"].as_u64().unwrap() > 6);
}

#[test]
fn what_runs_on_lets_everything_else_go_first_and_outlives_its_server() {
    regatta_tests::need_root();
    let mut server = Server::start(10);
    busybox::import(&server.data);
    let host = Host::start(&server, "one", 2);
    let volumes = host.data.path().join("volumes");
    let log = volumes.join("counts/log");
    // It stays unresolved long; from the eighth attempt on it waits until somebody comes who goes first.
    let before = "[ $REGATTA_AXIS_VERSION = new ] || [ $((n % 6)) != 5 ] || bad=1
    if [ $n -ge 8 ]; then for i in $(seq 600); do [ -e /counts/open ] && break; sleep 0.1; done; echo idle >> /counts/log; fi";
    let submit = |server: &Server, text: &str| {
        let file = server.data.file("matrix.yaml", text);
        let file = file.to_str().unwrap().to_owned();
        let run = server
            .data
            .run(["submit", &file, "--server", &server.url])
            .expect(0);
        run.out.trim().to_owned()
    };
    let idle = submit(&server, &matrix("{at-most: 2, deep: true}", before));
    let of = |server: &Server, run: &str| {
        server
            .get(&format!("/api/v1/runs/{run}"))
            .unwrap_or_default()
    };
    wait_until("the run goes on", Duration::from_secs(60), || {
        let run = of(&server, &idle);
        run["deep"] == true && run["state"] == "running"
    });
    server.kill_and_restart();
    let cells: Vec<String> = (1..=40).map(|n| n.to_string()).collect();
    let fresh = submit(
        &server,
        &format!(
            "image: busybox\naxes: {{n: [{}]}}\nvolumes: [{{name: counts, at: /counts, mode: rw}}]\n\
             test: {{run: 'echo fresh >> /counts/log'}}\n",
            cells.join(", ")
        ),
    );
    std::fs::write(volumes.join("counts/open"), "").unwrap();
    for run in [&fresh, &idle] {
        wait_until("both runs are over", Duration::from_secs(180), || {
            let run = of(&server, run);
            run["state"] == "finished" && run["bisecting"] != true
        });
    }
    let log = std::fs::read_to_string(log).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let first = lines.iter().position(|line| *line == "fresh").unwrap();
    let last = lines.iter().rposition(|line| *line == "fresh").unwrap();
    let between = lines[first..last].iter().filter(|line| **line == "idle");
    // What the host holds already when the others come: one that runs, and what it fetched ahead.
    assert!(between.count() <= 4, "{log}");
    let after = lines[last..].iter().filter(|line| **line == "idle");
    assert!(after.count() >= 10, "{log}");
}

#[test]
fn a_run_takes_no_more_reruns_than_it_may_and_says_so() {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    let text = matrix("{in-all: 3}", "").replace("[old, new]", "[old, new, newer, newest]");
    let file = data.file("matrix.yaml", &text);
    let done = data
        .run(["run", file.to_str().unwrap(), "--json"])
        .expect(3);
    let report = done.json();
    let cells = report["cells"].as_array().unwrap();
    let attempts = cells
        .iter()
        .flat_map(|cell| cell["attempts"].as_array().unwrap());
    let ended = attempts
        .filter(|attempt| attempt["outcome"] == "exited")
        .count();
    assert_eq!(ended, 4 + 3, "{report:#}");
    let first = &report["findings"][0];
    assert_eq!(first["kind"], "unresolved", "{report:#}");
    let text = first["text"].as_str().unwrap();
    assert!(
        text.contains("the 3 reruns of the whole run are used up (`rerun.in-all`)"),
        "{text}"
    );
}

#[test]
fn a_run_that_runs_on_is_over_with_what_it_has_once_it_is_cancelled() {
    regatta_tests::need_root();
    let server = Server::start(10);
    busybox::import(&server.data);
    let _host = Host::start(&server, "one", 2);
    // From the fourth attempt of a version on, none ends.
    let text = matrix(
        "{at-most: 2, deep: true}",
        "[ $n -lt 4 ] || exec sleep 1000",
    );
    let file = server.data.file("matrix.yaml", &text);
    let file = file.to_str().unwrap();
    let client = |words: &[&str]| {
        server
            .data
            .run([words, &["--server", &server.url]].concat())
    };
    let run = client(&["submit", file]).expect(0).out.trim().to_owned();
    let path = format!("/api/v1/runs/{run}");
    let now = || server.get(&path).unwrap_or_default();
    wait_until("it runs on", Duration::from_secs(60), || {
        let run = now();
        run["deep"] == true && run["progress"]["running"].as_u64() > Some(0)
    });
    let said = client(&["cancel", &run]).expect(0).err;
    assert!(said.contains("runs on no further"), "{said}");
    wait_until("it is over", Duration::from_secs(60), || {
        now()["state"] == "finished" && now()["bisecting"] != true
    });
    assert_eq!(now()["progress"]["settled"], 2, "{:#}", now());
    let report = server.get(&format!("{path}/report")).unwrap();
    assert_eq!(report["conclusion"], "unresolved", "{report:#}");
    assert_eq!(kinds(&report), ["unresolved"]);
}
