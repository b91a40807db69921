//! `bisect: auto`: a run over a few values of an ordered axis tells where its regressions began among those it left out.

use std::time::Duration;

use regatta_tests::busybox;
use regatta_tests::command::Data;
use regatta_tests::process::{Host, Server};
use regatta_tests::wait_until;
use serde_json::Value;

/// Twelve versions, of which the run has the first and the last: `mast` and `sail` break in v5, `rudder` in v9, and v8 cannot be
/// set up.
fn matrix(bisect: &str, test: &str) -> String {
    let versions: Vec<String> = (1..=12).map(|n| format!("v{n}")).collect();
    format!(
        r#"name: regatta
image: busybox
axes:
  version: {{values: [{}], ordered: true}}
  sea: [calm, rough]
only: {{version: [v1, v12]}}
setup: {{run: "[ ${{{{ matrix.version }}}} != v8 ]"}}
test:
  run: |
    at=${{REGATTA_AXIS_VERSION#v}}
    case_of() {{ if [ $at -ge $2 ]; then f='<failure message="'$1' is gone"/>'; bad=1; else f=; fi; echo "<testcase name=\"$1\">$f</testcase>"; }}
    bad=0
    {test}
    {{ echo '<testsuite>'; case_of mast 5; case_of sail 5; case_of rudder 9; case_of keel 99; echo '</testsuite>'; }} > $REGATTA_RESULTS/r.xml
    exit $bad
compare: {{axis: version, baseline: previous}}
{bisect}
"#,
        versions.join(", ")
    )
}

fn regressions(report: &Value) -> Vec<(String, String, Vec<String>)> {
    let findings = report["findings"].as_array().unwrap();
    let regressions = findings
        .iter()
        .filter(|finding| finding["kind"] == "regression");
    regressions
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap().to_owned();
            let cases = finding["cases"].as_array().unwrap();
            let cases = cases.iter().map(|case| case.as_str().unwrap().to_owned());
            (text("last_good"), text("first_bad"), cases.collect())
        })
        .collect()
}

#[test]
fn regressions_are_traced_to_values_that_the_run_left_out_and_told_apart() {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    let file = data.file("matrix.yaml", &matrix("bisect: auto", ""));
    let done = data
        .run(["run", file.to_str().unwrap(), "--json"])
        .expect(1);
    let report = done.json();
    let cases = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(
        regressions(&report),
        [
            ("v4".to_owned(), "v5".to_owned(), cases(&["mast", "sail"])),
            // v8 cannot be tested.
            ("v7".to_owned(), "v9".to_owned(), cases(&["rudder"])),
        ],
        "{report:#}"
    );
    assert_eq!(report["counts"]["cells"], 4, "only those of the run");
    let first = &report["findings"][0];
    assert!(first["confidence"].as_f64().unwrap() >= 0.95, "{first}");
    assert_eq!(first["bisected"]["result"], "found", "{first}");
    assert!(
        first["text"].as_str().unwrap().contains("Version v5 broke"),
        "{first}"
    );
    // Every value in between twice, as both seas ask, would be 20 for a single look at each.
    let attempts = first["bisected"]["attempts"].as_u64().unwrap();
    assert!(attempts > 6 && attempts < 60, "{first}");
    assert!(done.err.contains("first bad version is"), "{}", done.err);
}

#[test]
fn a_budget_that_is_used_up_leaves_a_range() {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    let file = data.file("matrix.yaml", &matrix("bisect: {at-most: 7}", ""));
    let done = data
        .run(["run", file.to_str().unwrap(), "--json"])
        .expect(1);
    let report = done.json();
    let found = regressions(&report);
    assert!(
        found
            .iter()
            .all(|(good, bad, _)| (good.as_str(), bad.as_str()) == ("v1", "v12")),
        "{report:#}"
    );
    let first = &report["findings"][0];
    assert_eq!(first["bisected"]["result"], "range", "{first}");
    assert!(
        first["bisected"]["attempts"].as_u64().unwrap() <= 7,
        "{first}"
    );
}

#[test]
fn a_search_goes_on_where_a_killed_server_left_it() {
    regatta_tests::need_root();
    let mut server = Server::start(10);
    busybox::import(&server.data);
    let _host = Host::start(&server, "one", 2);
    let file = server.data.file("matrix.yaml", &matrix("bisect: auto", ""));
    let file = file.to_str().unwrap().to_owned();
    let run = server
        .data
        .run(["submit", &file, "--server", &server.url])
        .expect(0);
    let run = run.out.trim().to_owned();
    let path = format!("/api/v1/runs/{run}/bisection");
    let rounds = |server: &Server| {
        let searches = server.get(&path).unwrap_or_default();
        let rounds = searches["gaps"][0]["found"][0]["rounds"].as_u64();
        (searches["searching"] == true, rounds.unwrap_or(0))
    };
    wait_until("the search has begun", Duration::from_secs(60), || {
        rounds(&server).1 >= 2
    });
    server.kill_and_restart();
    wait_until("the search is over", Duration::from_secs(120), || {
        rounds(&server).1 >= 2 && !rounds(&server).0
    });
    let report = server.get(&format!("/api/v1/runs/{run}/report")).unwrap();
    let bad: Vec<String> = regressions(&report)
        .into_iter()
        .map(|found| found.1)
        .collect();
    assert_eq!(bad, ["v5", "v9"], "{report:#}");
    let searches = server.get(&path).unwrap();
    let listed = server.get("/api/v1/runs?limit=100").unwrap();
    assert_eq!(listed[0]["name"], "regatta (bisect)");
    assert_eq!(
        searches["gaps"][0]["runs"].as_array().unwrap().len() + 1,
        listed.as_array().unwrap().len(),
        "no run was submitted twice: {searches:#}"
    );
}

#[test]
fn a_search_that_is_cancelled_ends_with_its_runs() {
    regatta_tests::need_root();
    let server = Server::start(10);
    busybox::import(&server.data);
    let _host = Host::start(&server, "one", 2);
    let test = "case $at in 1|12) ;; *) exec sleep 1000 ;; esac";
    let file = server
        .data
        .file("matrix.yaml", &matrix("bisect: auto", test));
    let file = file.to_str().unwrap().to_owned();
    let run = server
        .data
        .run(["submit", &file, "--server", &server.url])
        .expect(0);
    let run = run.out.trim().to_owned();
    let runs = |server: &Server| server.get("/api/v1/runs?limit=100").unwrap_or_default();
    let hangs = |server: &Server| {
        let open = runs(server).as_array().unwrap().clone();
        open.iter()
            .any(|run| run["state"] == "running" && run["progress"]["cells"] != 4)
            && server
                .get(&format!("/api/v1/runs/{run}/bisection"))
                .unwrap()["gaps"][0]["found"][0]["rounds"]
                .as_u64()
                .unwrap_or(0)
                >= 2
    };
    wait_until("a probe hangs", Duration::from_secs(60), || hangs(&server));
    server
        .data
        .run(["cancel", &run, "--server", &server.url])
        .expect(0);
    wait_until("all runs are over", Duration::from_secs(60), || {
        let all = runs(&server).as_array().unwrap().clone();
        all.iter()
            .all(|run| run["state"] == "finished" || run["state"] == "cancelled")
    });
    let searches = server
        .get(&format!("/api/v1/runs/{run}/bisection"))
        .unwrap();
    assert_eq!(searches["searching"], false, "{searches:#}");
}
