//! `bisect`: the first bad value is named with its probability, by fewer attempts than trying every value often would take.

use regatta_tests::busybox;
use regatta_tests::command::Data;
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
