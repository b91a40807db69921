//! `bisect`: the first bad value is named with its probability, by fewer attempts than trying every value often would take.

use std::time::Duration;

use regatta_tests::busybox;
use regatta_tests::command::Data;
use regatta_tests::process::{Host, Process, Server};
use regatta_tests::wait_until;
use serde_json::Value;

/// Fourteen versions, of which those from `bad` on fail; every version fails by chance in `flaky` of 100 attempts. A version
/// of `unbuildable` cannot be set up.
fn matrix(bad: u32, flaky: u32, unbuildable: &str) -> String {
    let versions: Vec<String> = (1..=14).map(|n| format!("v{n}")).collect();
    format!(
        r#"name: course
image: busybox
axes: {{version: {{values: [{}], ordered: true}}}}
setup: {{run: "[ ${{{{ matrix.version }}}} != {unbuildable} ]"}}
test:
  run: |
    draw=$(echo "$REGATTA_RUN $REGATTA_AXIS_VERSION" | md5sum | cut -c1-6)
    bad=0
    if [ ${{REGATTA_AXIS_VERSION#v}} -ge {bad} ] || [ $((0x$draw % 100)) -lt {flaky} ]; then bad=1; fi
    if [ $bad = 1 ]; then failure='<failure message="adrift"/>'; fi
    echo "<testsuite><testcase name=\"sail\">$failure</testcase><testcase name=\"moor\"/></testsuite>" > $REGATTA_RESULTS/r.xml
    exit $bad
compare: {{axis: version, baseline: previous}}
"#,
        versions.join(", ")
    )
}

fn bisect(text: &str, more: &[&str], status: i32) -> (Value, String) {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    let file = data.file("matrix.yaml", text);
    let mut command = vec![
        "bisect",
        file.to_str().unwrap(),
        "--axis",
        "version",
        "--json",
    ];
    command.extend(more);
    let done = data.run(command).expect(status);
    (done.json(), done.err)
}

#[test]
fn the_first_bad_version_is_named_with_its_probability() {
    let (found, said) = bisect(&matrix(9, 0, "none"), &["--case", "sail"], 1);
    assert_eq!(
        (&found["last_good"], &found["first_bad"], &found["result"]),
        (&"v8".into(), &"v9".into(), &"found".into()),
        "{found}"
    );
    assert!(found["probability"].as_f64().unwrap() >= 0.99, "{found}");
    assert_eq!(found["posterior"][0]["value"], "v9");
    // Twice each would be 28.
    assert!(found["attempts"].as_u64().unwrap() < 28, "{found}");
    assert!(said.contains("first bad version is v9"), "{said}");
}

#[test]
fn a_case_that_stands_at_the_other_one_is_not_mistaken_for_it() {
    let (found, _) = bisect(&matrix(9, 0, "none"), &["--case", "moor"], 0);
    assert_eq!(found["result"], "none", "{found}");
    assert_eq!(
        (&found["first_bad"], &found["last_good"]),
        (&Value::Null, &Value::Null)
    );
    assert!(found["none"].as_f64().unwrap() >= 0.99, "{found}");
}

#[test]
fn a_case_that_there_is_not_is_no_case_that_nothing_broke() {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    let file = data.file("matrix.yaml", &matrix(5, 0, "none"));
    let words = [
        "bisect",
        file.to_str().unwrap(),
        "--axis",
        "version",
        "--case",
        "saill",
    ];
    let done = data.run(words).expect(2);
    assert!(done.err.contains("did you mean \"sail\""), "{}", done.err);
}

#[test]
fn failures_by_chance_cost_attempts_and_name_no_other_version() {
    let (found, _) = bisect(&matrix(5, 5, "none"), &[], 1);
    assert_eq!(
        (&found["last_good"], &found["first_bad"]),
        (&"v4".into(), &"v5".into()),
        "{found}"
    );
}

#[test]
fn a_version_that_cannot_be_set_up_is_passed_over() {
    let (found, said) = bisect(&matrix(9, 0, "v8"), &[], 1);
    assert_eq!(
        (&found["last_good"], &found["first_bad"]),
        (&"v7".into(), &"v9".into()),
        "{found}"
    );
    assert!(
        said.contains("version v8 cannot be tested and is left out"),
        "{said}"
    );
}

#[test]
fn an_interrupted_search_leaves_no_run_behind() {
    regatta_tests::need_root();
    let server = Server::start(10);
    busybox::import(&server.data);
    let _host = Host::start(&server, "one", 2);
    let text = "name: course\nimage: busybox\naxes: {version: {values: [1, 2, 3, 4], ordered: true}}\n\
                test: {run: exec sleep 1000}\n";
    let file = server.data.file("matrix.yaml", text);
    let arguments = [
        "bisect",
        file.to_str().unwrap(),
        "--axis",
        "version",
        "--jobs",
        "6",
        "--server",
        &server.url,
    ];
    let mut command = server.data.command(arguments);
    let mut search = Process::start(&mut command, &server.data.path().join("bisect.log"));
    let runs = || {
        let runs = server.get("/api/v1/runs").unwrap_or_default();
        let runs = runs.as_array().cloned().unwrap_or_default();
        let states = runs
            .iter()
            .map(|run| run["state"].as_str().unwrap_or_default().to_owned());
        states.collect::<Vec<String>>()
    };
    let bound = Duration::from_secs(60);
    // The ends are asked three times, each time in a run of its own.
    wait_until("three runs, of which one goes on", bound, || {
        let runs = runs();
        runs.len() == 3 && runs.iter().any(|state| state == "running")
    });
    let status = format!("/proc/{}/status", search.pid());
    let catches = || {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 2 != 0)
    };
    wait_until("the search would hear Ctrl-C", bound, catches);
    search.signal("INT");
    search.wait();
    wait_until("all are cancelled", bound, || {
        runs().iter().all(|state| state == "cancelled")
    });
}
