//! `history` and `flaky` on one machine, over real runs.

use regatta_tests::busybox;
use regatta_tests::command::Data;

/// `sail` of library 2.0 fails.
const BROKEN: &str = r#"
name: harbour
image: busybox
axes: {library: [1.0, 2.0]}
test:
  run: |
    sail=ok; [ "$REGATTA_AXIS_LIBRARY" = BAD ] && sail="not ok"
    printf '1..2\nok 1 - anchor\n%s 2 - sail\n' "$sail" >"$REGATTA_RESULTS/case.tap"
"#;

#[test]
fn a_strip_has_one_mark_a_run_and_names_the_one_since_which_it_fails() {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    let mut ids = Vec::new();
    for (bad, status) in [("none", 0), ("2.0", 1), ("2.0", 1)] {
        let file = data.file("m.yaml", &BROKEN.replace("BAD", bad));
        let report = data.run(["run", file.to_str().unwrap(), "--json"]);
        let report = report.expect(status).json();
        ids.push(report["run"].as_str().unwrap().to_owned());
    }
    let history = data.run(["history", "sail"]).expect(0).out;
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(
        lines,
        [
            "sail in 3 runs of harbour, the newest last",
            "library=1.0  ✓✓✓  failed 0 of 3",
            &format!(
                "library=2.0  ✓✗✗  failed 2 of 3 (67%, 95% 21 to 94%), since run {}",
                ids[1]
            ),
        ]
    );
    let one = data.run([
        "history",
        "-",
        "--axis",
        "library=2.0",
        "--limit",
        "1",
        "--json",
    ]);
    let one = one.expect(0).json();
    assert_eq!(one["case"], serde_json::Value::Null);
    assert_eq!(one["cells"][0]["marks"], serde_json::json!(["failed"]));
    assert_eq!(one["runs"][0]["run"], ids[2].as_str());

    let flaky = data.run(["flaky", "--matrix", "harbour"]).expect(0).out;
    let ranked = flaky.lines().nth(1).unwrap();
    assert!(
        ranked
            .trim_start()
            .starts_with("0.33  sail: 1 transition, "),
        "{flaky}"
    );
    assert_eq!(flaky.lines().count(), 2, "{flaky}");

    let wrong = data.run(["history", "sial"]).expect(2);
    assert!(
        wrong.err.contains("did you mean \"sail\"?"),
        "{}",
        wrong.err
    );
    let wrong = data.run(["history", "--axis", "library"]).expect(2);
    assert!(wrong.err.contains("AXIS=VALUE"), "{}", wrong.err);
}

#[test]
fn a_report_tells_what_is_new_beside_another_run_in_every_format() {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    let mut ids = Vec::new();
    for (bad, status) in [("none", 0), ("2.0", 1)] {
        let text = BROKEN.replace("BAD", bad) + "repeat: 4\n";
        let file = data.file("m.yaml", &text);
        let report = data.run(["run", file.to_str().unwrap(), "--json"]);
        ids.push(
            report.expect(status).json()["run"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    let said = format!("sail fails in library 2.0, and did not in run {}", ids[0]);
    for format in ["text", "markdown", "html", "json"] {
        let arguments = ["report", "last", "--against", &ids[0], "--format", format];
        let shown = data.run(arguments).expect(0).out;
        assert!(shown.contains(&said), "{format}: {shown}");
    }
    let same = data.run(["report", "last", "--against", &ids[1]]).expect(2);
    assert!(same.err.contains("is the same run"), "{}", same.err);
}
