//! `run` and what is asked about a run afterwards.

use std::process::{Command, Stdio};
use std::time::Duration;

use regatta_tests::busybox;
use regatta_tests::command::Data;
use regatta_tests::leaks::Left;
use regatta_tests::process::Process;
use regatta_tests::wait_until;

fn ready() -> Data {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    data
}

const JUNIT: &str = r#"
name: lib-versions
image: busybox
axes: {lib: {values: [1.0, 1.10, 2.0], ordered: true}}
setup: {run: "echo ${{ matrix.lib }} > /version", network: none}
test:
  run: |
    version=$(cat /version)
    bad=""
    [ "$version" = 2.0 ] && bad='<failure message="wrong answer">expected 42, got 41</failure>'
    cat > $REGATTA_RESULTS/junit.xml <<XML
    <testsuite name="t"><testcase classname="t" name="answer">$bad</testcase><testcase classname="t" name="other"/></testsuite>
    XML
    echo "tested $version"
    echo artifact > $REGATTA_ARTIFACTS/left.log
    touch /outside
    [ -z "$bad" ]
compare: {axis: lib, baseline: previous}
"#;

#[test]
fn a_run_names_the_version_and_the_case_that_it_broke() {
    let data = ready();
    let file = data.file("matrix.yaml", JUNIT);
    let done = data
        .run(["run", file.to_str().unwrap(), "--json"])
        .expect(1);
    let report = done.json();
    assert_eq!(report["conclusion"], "regressed");
    let finding = &report["findings"][0];
    assert_eq!(
        (
            &finding["kind"],
            &finding["last_good"],
            &finding["first_bad"]
        ),
        (&"regression".into(), &"1.10".into(), &"2.0".into())
    );
    assert_eq!(finding["case"], "t::answer", "{finding}");
    assert!(
        finding["excerpt"]
            .as_str()
            .unwrap()
            .contains("expected 42, got 41"),
        "{finding}"
    );
    let cells = report["cells"].as_array().unwrap();
    let verdicts: Vec<_> = cells
        .iter()
        .map(|cell| cell["verdict"].as_str().unwrap())
        .collect();
    assert_eq!(verdicts, ["passed", "passed", "failed"]);
    // The failing cell ran four times more and its baseline as often, the other one did not.
    let attempts: Vec<_> = cells
        .iter()
        .map(|cell| cell["attempts"].as_array().unwrap().len())
        .collect();
    assert_eq!(attempts, [1, 5, 5], "{report}");
    assert_eq!(
        cells[0]["attempts"][0]["changed"],
        serde_json::json!(["/outside"])
    );

    // Everything can be asked again.
    assert_eq!(
        data.run(["report", "last", "--format", "json"])
            .expect(0)
            .json()["cells"],
        report["cells"]
    );
    assert_eq!(
        data.run(["logs", "last", "2"]).expect(0).out,
        "tested 2.0\n"
    );
    let text = data.run(["report", "last"]).expect(0).out;
    assert!(text.lines().next().unwrap().contains("2.0"), "{text}");
    let out = data.path().join("artifacts-here");
    data.run(["artifacts", "last", "1", "--output", out.to_str().unwrap()])
        .expect(0);
    assert_eq!(
        std::fs::read_to_string(out.join("left.log")).unwrap(),
        "artifact\n"
    );
    let runs = data.run(["runs", "--json"]).expect(0).json();
    assert_eq!(
        (runs.as_array().unwrap().len(), &runs[0]["state"]),
        (1, &"finished".into())
    );
    assert!(Left::of(data.path(), &[report["run"].as_str().unwrap()]).is_empty());
}

#[test]
fn everything_that_passes_exits_with_0_and_prints_the_report_alone() {
    let data = ready();
    let file = data.file(
        "m.yaml",
        "name: fine\nimage: busybox\naxes: {n: [1, 2, 3]}\ntest: {run: 'true'}\n",
    );
    let reports = data.path().join("r.xml");
    let done = data
        .run([
            "run",
            file.to_str().unwrap(),
            "--quiet",
            "--report",
            &format!("junit={}", reports.display()),
        ])
        .expect(0);
    assert_eq!(done.err, "", "--quiet says nothing");
    assert!(done.out.contains("3 cells: 3 passed"), "{}", done.out);
    assert!(
        std::fs::read_to_string(reports)
            .unwrap()
            .contains("tests=\"3\" failures=\"0\"")
    );
}

#[test]
fn a_failing_setup_is_told_once_for_all_its_cells() {
    let data = ready();
    let matrix = "name: broken-setup\nimage: busybox\naxes: {n: [1, 2, 3]}\n\
                  setup: {run: 'echo no such package >&2; exit 7', network: none}\ntest: {run: 'true'}\n";
    let file = data.file("m.yaml", matrix);
    let report = data
        .run(["run", file.to_str().unwrap(), "--json"])
        .expect(1)
        .json();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0]["cells"].as_array().unwrap().len(), 3);
    assert!(
        format!("{}{}", findings[0]["text"], findings[0]["excerpt"]).contains("no such package"),
        "{findings:#?}"
    );
    assert_eq!(report["cells"][0]["attempts"][0]["outcome"], "setup_failed");
}

#[test]
fn without_a_baseline_what_fails_is_told_with_the_decisive_lines_of_its_log() {
    let data = ready();
    let matrix = "name: failing\nimage: busybox\naxes: {n: [1, 2, 3]}\n\
                  test: {run: 'echo begin; test $REGATTA_AXIS_N = 1 || { echo \"error: disk on fire\" >&2; exit 3; }'}\n";
    let file = data.file("m.yaml", matrix);
    let report = data
        .run(["run", file.to_str().unwrap(), "--json"])
        .expect(1)
        .json();
    assert_eq!(report["conclusion"], "failed");
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(
        (&findings[0]["kind"], &findings[0]["cells"]),
        (&"failure".into(), &serde_json::json!([1, 2]))
    );
    assert!(
        findings[0]["excerpt"]
            .as_str()
            .unwrap()
            .contains("error: disk on fire"),
        "{findings:#?}"
    );
}

#[test]
fn results_that_a_matrix_names_and_a_test_does_not_write_are_no_pass() {
    let data = ready();
    let matrix =
        "name: silent\nimage: busybox\naxes: {n: [1]}\nresults: [junit.xml]\ntest: {run: 'true'}\n";
    let file = data.file("m.yaml", matrix);
    let report = data.run(["run", file.to_str().unwrap(), "--json"]).json();
    assert_eq!(report["cells"][0]["verdict"], "failed", "{report:#}");
    assert!(
        report["cells"][0]["attempts"][0]["detail"]
            .as_str()
            .unwrap()
            .contains("junit.xml"),
        "{report:#}"
    );
}

#[test]
fn a_wrong_matrix_exits_with_2_and_shows_the_line() {
    let data = Data::new();
    let file = data.file(
        "m.yaml",
        "name: x\nimage: busybox\naxes: {n: [1]}\ntset: {run: 'true'}\n",
    );
    let done = data.run(["run", file.to_str().unwrap()]).expect(2);
    assert!(
        done.err.contains("m.yaml:4:1") && done.err.contains("`test`"),
        "{}",
        done.err
    );
    assert_eq!(done.out, "");
}

#[test]
fn a_flaky_case_is_flaky_and_no_regression() {
    let data = ready();
    let matrix = "name: flaky\nimage: busybox\naxes: {lib: {values: [1, 2], ordered: true}}\n\
                  compare: {axis: lib, baseline: 1}\nvolumes: [{name: memory, at: /memory, mode: rw}]\n\
                  test: {run: 'test $REGATTA_AXIS_LIB = 1 && exit; test -e /memory/seen || { touch /memory/seen; exit 1; }'}\n";
    let file = data.file("m.yaml", matrix);
    let report = data.run(["run", file.to_str().unwrap(), "--json"]).json();
    assert_eq!(report["cells"][1]["verdict"], "flaky", "{report:#}");
    assert!(
        report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .all(|finding| finding["kind"] != "regression"),
        "{report:#}"
    );
}

#[test]
fn a_killed_run_stays_recorded_and_leaves_nothing() {
    let data = ready();
    let matrix = "name: killed\nimage: busybox\naxes: {n: [1, 2, 3, 4, 5, 6]}\n\
                  test: {run: 'test $REGATTA_AXIS_N -lt 3 || sleep 1000', timeout: 1h}\n";
    let file = data.file("m.yaml", matrix);
    let mut command = data.command(["run", file.to_str().unwrap(), "--jobs", "2"]);
    let mut run = Process::start(&mut command, &data.path().join("run.log"));
    let settled = || {
        let runs = data.run(["runs", "--json"]);
        if runs.status == 0 {
            runs.json()[0]["progress"]["settled"].as_u64().unwrap_or(0)
        } else {
            0
        }
    };
    wait_until("two cells are settled", Duration::from_secs(60), || {
        settled() == 2
    });
    run.kill();
    let runs = data.run(["runs", "--json"]).expect(0).json();
    assert_eq!(
        (&runs[0]["name"], &runs[0]["progress"]["settled"]),
        (&"killed".into(), &2.into())
    );
    let id = runs[0]["run"].as_str().unwrap().to_owned();
    wait_until(
        "containers end with the executor",
        Duration::from_secs(30),
        || Left::of(data.path(), &[&id]).processes.is_empty(),
    );
    // The next command that makes containers clears the rest away.
    data.run(["exec", "busybox", "--", "true"]).expect(0);
    wait_until("nothing is left", Duration::from_secs(30), || {
        Left::of(data.path(), &[&id]).is_empty()
    });
}

#[test]
fn ctrl_c_cancels_cleanly_and_reports() {
    let data = ready();
    let matrix = "name: interrupted\nimage: busybox\naxes: {n: [1, 2, 3, 4]}\ntest: {run: 'sleep 1000', timeout: 1h}\n";
    let file = data.file("m.yaml", matrix);
    let mut command = data.command(["run", file.to_str().unwrap(), "--json"]);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("something runs", Duration::from_secs(60), || {
        let runs = data.run(["runs", "--json"]);
        runs.status == 0 && runs.json()[0]["progress"]["running"].as_u64().unwrap_or(0) > 0
    });
    assert!(
        Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(130),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["state"], &report["conclusion"]),
        (&"cancelled".into(), &"cancelled".into())
    );
    assert!(Left::of(data.path(), &[report["run"].as_str().unwrap()]).is_empty());
}

#[test]
fn files_are_there_before_the_setup_and_a_change_of_them_is_noticed() {
    let data = ready();
    data.file("tree/a.txt", "one");
    data.file("tree/sub/b.txt", "two");
    data.file("single.conf", "three");
    let matrix = "name: files\nimage: busybox\naxes: {n: [1]}\n\
                  files: [{from: ./tree, to: /src/tree}, {from: ./single.conf, to: /etc/app.conf}]\n\
                  setup: {run: 'cat /src/tree/a.txt /src/tree/sub/b.txt /etc/app.conf > /seen', network: none}\n\
                  test: {run: 'cat /seen', user: tester}\n";
    let file = data.file("m.yaml", matrix);
    data.run(["run", file.to_str().unwrap()]).expect(0);
    assert_eq!(data.run(["logs", "last", "0"]).expect(0).out, "onetwothree");
    data.file("tree/a.txt", "ONE");
    data.run(["run", file.to_str().unwrap()]).expect(0);
    assert_eq!(data.run(["logs", "last", "0"]).expect(0).out, "ONEtwothree");
}

#[test]
fn an_image_in_use_is_not_pruned() {
    let data = ready();
    let matrix = "name: pruned\nimage: busybox\naxes: {n: [1]}\n\
                  volumes: [{name: sign, at: /sign, mode: rw}]\n\
                  test: {run: 'touch /sign/begun; until test -e /sign/go; do sleep 0.1; done; ls /bin | wc -l'}\n";
    let file = data.file("m.yaml", matrix);
    let mut command = data.command(["run", file.to_str().unwrap()]);
    let mut run = Process::start(&mut command, &data.path().join("run.log"));
    let sign = data.path().join("volumes/sign");
    wait_until("the test runs", Duration::from_secs(60), || {
        sign.join("begun").exists()
    });
    data.run(["image", "rm", "busybox"]).expect(0);
    data.run(["image", "prune"]).expect(0);
    std::fs::write(sign.join("go"), "").unwrap();
    run.wait();
    let listed: u64 = data
        .run(["logs", "last", "0"])
        .expect(0)
        .out
        .trim()
        .parse()
        .unwrap();
    assert!(
        listed > 100,
        "the root is whole until the end: {listed} programs"
    );
    assert_ne!(
        data.run(["image", "prune"]).expect(0).out,
        "0 blobs and 0 layers removed, 0 B freed\n"
    );
}

#[test]
fn a_data_directory_may_be_named_from_where_one_stands() {
    let data = ready();
    let file = data.file(
        "matrix.yaml",
        "image: busybox\naxes: {n: [1]}\ntest: {run: 'true'}\n",
    );
    let mut command = data.command(["run", file.to_str().unwrap(), "--json"]);
    let (above, name) = (
        data.path().parent().unwrap(),
        data.path().file_name().unwrap(),
    );
    command.current_dir(above).env("REGATTA_DATA", name);
    let report = regatta_tests::command::Done::of(&mut command)
        .expect(0)
        .json();
    assert_eq!(report["conclusion"], "passed");
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_anything_runs() {
    let data = ready();
    let file = data.file(
        "matrix.yaml",
        "image: busybox\naxes: {n: [1]}\ntest: {run: 'true'}\n",
    );
    let done = data.run([
        "run",
        file.to_str().unwrap(),
        "--report",
        "json=/nonexistent/report",
    ]);
    let done = done.expect(2);
    assert!(done.err.contains("/nonexistent/report"), "{}", done.err);
    assert_eq!(
        data.run(["runs", "--json"]).expect(0).json(),
        serde_json::json!([])
    );
}

#[test]
fn every_command_that_changes_something_tells_it_as_json() {
    let data = ready();
    let server = regatta_tests::process::Server::start(60);
    busybox::import(&server.data);
    let file = data.file(
        "matrix.yaml",
        "image: busybox\naxes: {n: [1]}\ntest: {run: 'true'}\n",
    );
    let tell = |arguments: &[&str]| server.data.run(arguments).expect(0).json();
    let at = ["--json", "--server", &server.url];
    let run = tell(&[&["submit", file.to_str().unwrap()][..], &at].concat());
    let id = run["run"].as_str().unwrap();
    assert_eq!(tell(&[&["cancel", id][..], &at].concat())["run"], id);
    assert_eq!(
        tell(&[&["rerun", id][..], &at].concat())["name"],
        run["name"]
    );
    let tagged = tell(&["image", "tag", "busybox", "other", "--json"]);
    assert_eq!(tagged["name"], "other");
    let removed = tell(&["image", "rm", "other", "--json"]);
    assert_eq!(removed[0]["name"], "other");
}
