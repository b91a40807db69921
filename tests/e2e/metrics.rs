//! What tests measure, compared between versions on a real host.

use regatta_tests::busybox;
use regatta_tests::command::Data;

/// The second version measures a fifth more queries, the third as many as the first; all but for a little noise.
const QUERIES: &str = r#"
name: queries
image: busybox
axes: {lib: {values: [1.0, 2.0, 3.0], ordered: true}}
test:
  run: |
    queries=$((1000 + REGATTA_ATTEMPT * 37 % 11))
    [ "$REGATTA_AXIS_LIB" = 2.0 ] && queries=$((queries * 6 / 5))
    echo "{\"queries\": {\"value\": $queries, \"better\": \"lower\"}, \"wall_ms\": 1}" > $REGATTA_RESULTS/metrics.json
    echo "BenchmarkJoin-2 1000 $queries ns/op" > $REGATTA_RESULTS/go.txt
compare: {axis: lib, baseline: 1.0}
metrics: {compare: true, exclusive: true}
"#;

#[test]
fn a_version_that_takes_a_fifth_more_is_named_and_one_that_does_not_is_not() {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    let file = data.file("matrix.yaml", QUERIES);
    let done = data.run(["run", file.to_str().unwrap(), "--json"]);
    let report = done.expect(0).json();
    assert_eq!(report["conclusion"], "passed");
    let attempts = report["cells"][1]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 12, "{report}");
    assert_eq!(attempts[0]["metrics"]["queries"]["value"], 1204.0);
    let detail = attempts[0]["detail"].as_str().unwrap();
    assert!(
        detail.contains("wall_ms is measured of every attempt"),
        "{detail}"
    );

    let compared = report["metrics"].as_array().unwrap();
    let of = |cell: u64, metric: &str| {
        let mut all = compared.iter();
        all.find(|one| one["cell"] == cell && one["metric"] == metric)
            .unwrap_or_else(|| panic!("{metric} of {cell}: {report}"))
    };
    for (metric, change) in [("queries", "more"), ("BenchmarkJoin", "slower")] {
        assert_eq!(of(1, metric)["change"], change, "{report}");
        assert_eq!(of(1, metric)["pairs"], 12);
        let ratio = of(1, metric)["ratio"].as_f64().unwrap();
        assert!((1.18..1.22).contains(&ratio), "{ratio}");
        let third = of(2, metric)["change"].as_str().unwrap();
        assert!(["unchanged", "unclear"].contains(&third), "{third}");
    }
    for measured in ["wall_ms", "cpu_us", "peak_memory_bytes"] {
        assert!(of(1, measured)["pairs"].as_u64().unwrap() > 0, "{measured}");
    }
    let findings = report["findings"].as_array().unwrap();
    let named: Vec<_> = findings
        .iter()
        .filter(|one| one["kind"] == "metric" && one["text"].as_str().unwrap().contains("queries"))
        .collect();
    assert_eq!(named.len(), 1, "{report}");
    assert_eq!(
        (&named[0]["first_bad"], &named[0]["last_good"]),
        (&"2.0".into(), &"1.0".into())
    );

    let said = "Lib 2.0 has more queries than 1.0: median 1.20×";
    for format in ["text", "html", "markdown"] {
        let text = data
            .run(["report", "last", "--format", format])
            .expect(0)
            .out;
        assert!(text.contains(said), "{format}: {text}");
        assert!(text.contains("BenchmarkJoin"), "{format}: {text}");
    }
    let csv = data
        .run(["report", "last", "--format", "csv"])
        .expect(0)
        .out;
    assert!(csv.contains("queries=1204"), "{csv}");
}

/// With `calm` the second version measures a fifth more each time; with `moody` nearly a third more, but a little less in every
/// third attempt: twelve pairs do not show it, and do not exclude it.
const MOODY: &str = r#"
name: moody
image: busybox
axes: {lib: {values: [1.0, 2.0], ordered: true}, mood: [calm, moody]}
test:
  run: |
    case $REGATTA_AXIS_LIB-$REGATTA_AXIS_MOOD-$((REGATTA_ATTEMPT % 3)) in
      2.0-calm-*) queries=1200 ;;
      2.0-moody-0) queries=950 ;;
      2.0-moody-*) queries=1300 ;;
      *) queries=1000 ;;
    esac
    echo "{\"queries\": {\"value\": $queries, \"better\": \"lower\"}}" > $REGATTA_RESULTS/metrics.json
compare: {axis: lib, baseline: 1.0}
metrics: {compare: true}
"#;

#[test]
fn what_the_first_pairs_leave_open_is_measured_as_often_again_once_and_nothing_else_is() {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    for (rerun, moody, change) in [("", 24, "more"), ("rerun: {at-most: 0}", 12, "unclear")] {
        let file = data.file("matrix.yaml", &format!("{MOODY}{rerun}\n"));
        let done = data.run(["run", file.to_str().unwrap(), "--json"]);
        let report = done.expect(0).json();
        for cell in report["cells"].as_array().unwrap() {
            let expected = if cell["axes"]["mood"] == "moody" {
                moody
            } else {
                12
            };
            let attempts = cell["attempts"].as_array().unwrap();
            assert_eq!(attempts.len(), expected, "{rerun}: {report}");
        }
        let compared = report["metrics"].as_array().unwrap();
        let queries = compared.iter().filter(|one| one["metric"] == "queries");
        let mut queries: Vec<(u64, &str)> = queries
            .map(|one| {
                let change = one["change"].as_str().unwrap();
                (one["pairs"].as_u64().unwrap(), change)
            })
            .collect();
        queries.sort_unstable();
        let mut wanted = [(12, "more"), (u64::try_from(moody).unwrap(), change)];
        wanted.sort_unstable();
        assert_eq!(queries, wanted, "{rerun}: {report}");
    }
}

/// Thirty-four versions, of which the later ones ask a third more.
const LEVELS: &str = r#"
name: levels
image: busybox
axes: {lib: {values: [VERSIONS], ordered: true}}
test:
  run: |
    version=${REGATTA_AXIS_LIB#v}
    queries=$((1000 + version * 37 % 23))
    [ "$version" -lt 20 ] || queries=$((queries * 4 / 3))
    echo "{\"<queries>\": {\"value\": $queries, \"better\": \"lower\"}}" > $REGATTA_RESULTS/metrics.json
"#;

#[test]
fn a_version_from_which_on_more_is_asked_is_named_and_drawn() {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    let versions: Vec<String> = (1..35).map(|version| format!("v{version}")).collect();
    let matrix = LEVELS.replace("VERSIONS", &versions.join(", "));
    let file = data.file("matrix.yaml", &matrix);
    let done = data.run(["run", file.to_str().unwrap(), "--json"]);
    let report = done.expect(0).json();
    let levels = &report["levels"];
    assert_eq!(
        (&levels["axis"], &levels["series"]),
        (&"lib".into(), &4.into())
    );
    let changes = levels["changes"].as_array().unwrap();
    let change = changes.iter().find(|one| one["metric"] == "<queries>");
    let change = change.unwrap_or_else(|| panic!("{levels}"));
    assert_eq!(
        (&change["last"], &change["first"], &change["change"]),
        (&"v19".into(), &"v20".into(), &"more".into())
    );
    let said = [
        (
            "text",
            "Lib v20 and later have more <queries> than up to v19: 1.33×",
        ),
        ("text", "4 series along lib: "),
        ("markdown", "| v20 | &lt;queries&gt; | more | 1.33×"),
        ("html", "<section id=\"levels\">"),
        ("html", "&lt;queries&gt; along lib, with its levels"),
        ("html", "<title>lib v20: "),
        ("html", "class=\"level\""),
    ];
    for (format, said) in said {
        let text = data
            .run(["report", "last", "--format", format])
            .expect(0)
            .out;
        assert!(text.contains(said), "{format}, {said}: {text}");
    }
}
