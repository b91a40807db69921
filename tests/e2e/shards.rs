//! Cells whose tests are split over containers, by a test runner of our own that keeps to Bazel's protocol.

use regatta_tests::busybox;
use regatta_tests::command::Data;
use serde_json::Value;

/// Seven cases, of which each shard runs every third; `e`, which the second of three shards runs, fails with library 2.0.
/// `TOUCH` is what the runner does to say that it knows of shards.
const RUNNER: &str = r#"
name: fleet
image: busybox
axes: {lib: {values: [1.0, 2.0], ordered: true}}
shards: 3
test:
  run: |
    TOUCH
    number=0
    {
      echo "<testsuite>"
      for name in a b c d e f g; do
        if [ $((number % TEST_TOTAL_SHARDS)) = "$TEST_SHARD_INDEX" ]; then
          failure=
          [ "$name$REGATTA_AXIS_LIB" != e2.0 ] || failure='<failure message="adrift"/>'
          echo "<testcase name=\"$name\">$failure</testcase>"
        fi
        number=$((number + 1))
      done
      echo "</testsuite>"
    } >"$REGATTA_RESULTS/r.xml"
    echo "this is shard $TEST_SHARD_INDEX of $TEST_TOTAL_SHARDS"
    ! grep -q failure "$REGATTA_RESULTS/r.xml"
"#;

const TOUCH: &str = r#": >"$TEST_SHARD_STATUS_FILE""#;

fn ready() -> Data {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    data
}

fn run(data: &Data, matrix: &str, status: i32) -> Value {
    let file = data.file("matrix.yaml", matrix);
    let done = data.run(["run", file.to_str().unwrap(), "--json"]);
    done.expect(status).json()
}

fn shards(cell: &Value) -> Vec<u64> {
    let attempts = cell["attempts"].as_array().unwrap().iter();
    attempts.map(|a| a["shard"].as_u64().unwrap()).collect()
}

#[test]
fn a_case_that_fails_in_one_shard_fails_one_cell() {
    let data = ready();
    let touch = format!("{TOUCH}; echo $TEST_SHARD_INDEX >/left");
    let matrix = RUNNER.replace("TOUCH", &touch)
        + "compare: {axis: lib, baseline: previous}\nkeep: on-failure\n";
    let report = run(&data, &matrix, 1);
    assert_eq!(report["conclusion"], "regressed");
    assert_eq!(report["counts"]["cells"], 2);
    let cells = report["cells"].as_array().unwrap();
    assert_eq!(
        cells[0]["cases"]["passed"], 7,
        "each case ran once: {report}"
    );
    assert_eq!(
        (&cells[1]["cases"]["passed"], &cells[1]["failing"]),
        (&6.into(), &serde_json::json!(["e"]))
    );
    assert_eq!(shards(&cells[0]), [1, 2, 2, 2, 2, 2, 3]);
    assert_eq!(shards(&cells[1]), [1, 2, 2, 2, 2, 2, 3]);
    let finding = &report["findings"][0];
    assert_eq!(
        (&finding["kind"], &finding["case"], &finding["cells"]),
        (&"regression".into(), &"e".into(), &serde_json::json!([3]))
    );

    let text = data.run(["report", "last"]).expect(0).out;
    assert!(text.contains("2 cells: 1 passed, 1 failed"), "{text}");
    assert!(text.contains(" 3 --shard 2 "), "{text}");
    // Whoever names no shard means the one that failed.
    for (more, expected) in [
        (&[][..], "this is shard 1 of 3\n"),
        (&["--shard", "1"], "this is shard 0 of 3\n"),
        (
            &["--shard", "3", "--attempt", "1"],
            "this is shard 2 of 3\n",
        ),
    ] {
        let asked = [&["logs", "last", "3"][..], more].concat();
        assert_eq!(data.run(asked).expect(0).out, expected, "{more:?}");
    }
    let junit = data
        .run(["report", "last", "--format", "junit"])
        .expect(0)
        .out;
    assert!(junit.contains("tests=\"2\" failures=\"1\""), "{junit}");
    let csv = data
        .run(["report", "last", "--format", "csv"])
        .expect(0)
        .out;
    let rows: Vec<&str> = csv.lines().collect();
    assert!(rows[0].ends_with(",shard"), "{csv}");
    assert_eq!(rows.len(), 1 + 14, "{csv}");
    assert!(
        rows[14].starts_with("3,2.0,") && rows[14].ends_with(",3"),
        "{csv}"
    );

    let marks = |case: &str| {
        let history = data.run(["history", case, "--json"]).expect(0).json();
        let cells = history["cells"].as_array().unwrap().clone();
        cells
            .into_iter()
            .map(|cell| cell["marks"][0].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(marks("-"), ["passed", "failed"]);
    assert_eq!(marks("e"), ["passed", "failed"]);
    assert_eq!(marks("a"), ["passed", "passed"]);

    // What the shard that failed left is what its cell left.
    data.run(["image", "commit", "last", "3", "left"]).expect(0);
    let left = data.run(["exec", "left", "--", "cat", "/left"]).expect(0);
    assert_eq!(left.out, "1\n");

    // Again by hand: the command is that of the shard which failed.
    let shell = data.run(["repro", "last", "3", "--shell"]).expect(0).out;
    assert!(
        shell.contains("TEST_TOTAL_SHARDS=3") && shell.contains("TEST_SHARD_INDEX=1"),
        "{shell}"
    );
    let again = data.run(["repro", "last", "3", "--json"]).expect(1).json();
    assert_eq!(again["counts"]["cells"], 1);
    assert_eq!(again["cells"][0]["failing"], serde_json::json!(["e"]));
}

#[test]
fn a_runner_that_knows_of_no_shards_is_found_out() {
    let data = ready();
    // It would run the second third only, but it does not say so.
    let report = run(&data, &RUNNER.replace("TOUCH", ":"), 1);
    assert_eq!(report["conclusion"], "failed");
    assert_eq!(report["counts"]["failed"], 2);
    let attempts = report["cells"][0]["attempts"].as_array().unwrap();
    for attempt in attempts {
        assert_eq!(
            (&attempt["passed"], &attempt["exit_code"]),
            (&false.into(), &0.into())
        );
        let detail = attempt["detail"].as_str().unwrap();
        assert!(
            detail.contains(
                "did not touch $TEST_SHARD_STATUS_FILE: every shard would have run everything"
            ),
            "{detail}"
        );
    }
    // Somebody who says otherwise in the matrix is not heard: some tests would run nowhere.
    let set = RUNNER
        .replace("TOUCH", TOUCH)
        .replace("shards: 3", "shards: 3\nenv: {TEST_SHARD_INDEX: 0}");
    let report = run(&data, &set.replace("e2.0", "e3.0"), 0);
    assert_eq!(report["cells"][0]["cases"]["passed"], 7);
    // Nobody has to touch anything where nothing is split.
    let alone = RUNNER.replace("TOUCH", "TEST_TOTAL_SHARDS=1 TEST_SHARD_INDEX=0");
    let report = run(&data, &alone.replace("shards: 3", "shards: 1"), 1);
    assert_eq!(report["cells"][1]["failing"], serde_json::json!(["e"]));
    assert_eq!(report["cells"][1]["attempts"][0].get("shard"), None);
}

#[test]
fn the_first_failing_shard_ends_a_run_that_fails_fast() {
    let data = ready();
    let matrix = RUNNER
        .replace("TOUCH", TOUCH)
        .replace("[1.0, 2.0]", "[2.0, 3.0, 4.0, 5.0]");
    let report = run(
        &data,
        &(matrix + "fail-fast: true\nparallel: 1\nrerun: {at-most: 0}\n"),
        1,
    );
    assert_eq!(report["conclusion"], "failed");
    let cells = report["cells"].as_array().unwrap();
    assert_eq!(cells[0]["verdict"], "failed");
    assert_eq!(cells[3]["attempts"], serde_json::json!([]));
}

#[test]
fn a_bisection_looks_between_versions_whose_tests_are_split() {
    let data = ready();
    let matrix = RUNNER
        .replace("TOUCH", TOUCH)
        .replace("[1.0, 2.0]", "[v1, v2, v3, v4, v5, v6, v7, v8]")
        .replace(
            "[ \"$name$REGATTA_AXIS_LIB\" != e2.0 ]",
            "[ $name != e ] || [ ${REGATTA_AXIS_LIB#v} -lt 6 ]",
        );
    let file = data.file("matrix.yaml", &matrix);
    let file = file.to_str().unwrap();
    for case in [&[][..], &["--case", "e"]] {
        let asked = [&["bisect", file, "--axis", "lib", "--json"][..], case].concat();
        let found = data.run(asked).expect(1).json();
        assert_eq!(
            (&found["last_good"], &found["first_bad"]),
            (&"v5".into(), &"v6".into()),
            "{found}"
        );
    }
}

/// Cases with seconds of their own choice: each runs where the plan of shards says, or else every third. `FAILS` fails with
/// library 2.0, and `MORE` are further cases.
const TIMED: &str = r#"
name: convoy
image: busybox
axes: {lib: {values: [1.0, 2.0], ordered: true}}
shards: 3
compare: {axis: lib, baseline: previous}
test:
  run: |
    : >"$TEST_SHARD_STATUS_FILE"
    number=0
    ran=
    {
      echo "<testsuite>"
      for case in a:60 'b [x  y]:5' c:5 d:50 e:5 f:5 g:40 MORE; do
        name=${case%:*} shard=$((number % TEST_TOTAL_SHARDS))
        [ -z "${REGATTA_SHARDS-}" ] || planned=$(awk -F '\t' -v name="$name" '$1 == name { print $2 }' "$REGATTA_SHARDS")
        shard=${planned:-$shard} number=$((number + 1))
        [ "$shard" = "$TEST_SHARD_INDEX" ] || continue
        failure= ran="$ran|$case"
        [ "$name$REGATTA_AXIS_LIB" != FAILS2.0 ] || failure='<failure message="adrift"/>'
        echo "<testcase name=\"$name\" time=\"${case##*:}\">$failure</testcase>"
      done
      echo "</testsuite>"
    } >"$REGATTA_RESULTS/r.xml"
    echo "$ran"
    ! grep -q failure "$REGATTA_RESULTS/r.xml"
"#;

/// What each of the three shards of a cell of the newest run ran last, and for how many seconds.
fn ran(data: &Data, cell: &str) -> (Vec<Vec<String>>, Vec<u64>) {
    let shard = |shard: u32| {
        let shard = shard.to_string();
        let log = data.run(["logs", "last", cell, "--shard", &shard]);
        let log = log.expect(0).out;
        let cases = log.trim().split('|').filter(|case| !case.is_empty());
        cases.map(str::to_owned).collect::<Vec<_>>()
    };
    let shards: Vec<Vec<String>> = (1..=3).map(shard).collect();
    let seconds = |case: &String| case.rsplit_once(':').unwrap().1.parse::<u64>().unwrap();
    let sums = shards.iter().map(|shard| shard.iter().map(seconds).sum());
    let sums = sums.collect();
    (shards, sums)
}

#[test]
fn the_second_run_is_split_by_what_the_first_one_took() {
    let data = ready();
    let matrix = |fails: &str, more: &str| TIMED.replace("FAILS", fails).replace("MORE", more);
    run(&data, &matrix("-", ""), 0);
    let (by_number, seconds) = ran(&data, "0");
    assert_eq!(seconds, [150, 10, 10], "{by_number:?}");

    // What is new runs where the test itself puts it, once; what is renamed or gone is in the plan and harms nobody.
    let grown = matrix("d", "new:1 'new [a]:1'").replace("c:5", "'c renamed:5'");
    let report = run(&data, &grown, 1);
    let (planned, seconds) = ran(&data, "0");
    assert!(seconds.iter().all(|sum| *sum <= 65), "{planned:?}");
    let mut all = planned.concat();
    all.sort_unstable();
    let expected = [
        "a:60",
        "b [x  y]:5",
        "c renamed:5",
        "d:50",
        "e:5",
        "f:5",
        "g:40",
        "new [a]:1",
        "new:1",
    ];
    assert_eq!(all, expected);
    // The cell that is compared with it, and the reruns of both, are split alike.
    assert_eq!(ran(&data, "3").0, planned);
    let finding = &report["findings"][0];
    assert_eq!(
        (&finding["kind"], &finding["case"]),
        (&"regression".into(), &"d".into())
    );
    let identities = |cell: usize, shard: u64| {
        let attempts = report["cells"][cell]["attempts"].as_array().unwrap();
        let of = attempts.iter().filter(|one| one["shard"] == shard);
        of.map(|one| one["identity"].clone()).collect::<Vec<_>>()
    };
    for shard in 1..=3 {
        let of = identities(1, shard);
        assert!(of.windows(2).all(|pair| pair[0] == pair[1]), "{of:?}");
    }
    assert!(identities(1, 1).len() + identities(1, 2).len() + identities(1, 3).len() > 3);

    // Once more by hand: the same shards, though what is known has changed since.
    data.run(["repro", "last", "3", "--json"]).expect(1);
    assert_eq!(ran(&data, "0").0, planned);
    let shell = data.run(["repro", "last", "0", "--shell"]).expect(0).out;
    assert!(
        shell.contains("# the plan of its shards is not copied"),
        "{shell}"
    );

    // Durations as before: the plan stays, and with it the identities.
    let third = run(&data, &grown, 1);
    let of = |report: &Value| report["cells"][0]["attempts"][0]["identity"].clone();
    let (again, _) = ran(&data, "0");
    let fourth = run(&data, &grown, 1);
    assert_eq!((ran(&data, "0").0, of(&fourth)), (again, of(&third)));
}
