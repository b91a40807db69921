//! The demo, as a new user runs it: it finds the version that broke Flask, and nothing else. Needs Debian's packages and
//! PyPI, and takes minutes.

use std::collections::BTreeMap;
use std::process::Command;

use regatta_tests::command::{Done, regatta, root};
use serde_json::Value;

/// Passed, failed (errors included), skipped: counted by hand, the same in three repetitions of every cell.
fn truth() -> BTreeMap<&'static str, (u64, u64, u64)> {
    let good = [
        "2.2.0", "2.2.2", "2.2.3", "2.3.0", "2.3.3", "2.3.7", "2.3.8",
    ]
    .map(|version| (version, (462, 0, 14)));
    let broken = ["3.0.0", "3.0.1", "3.0.6"].map(|version| (version, (239, 39 + 184, 14)));
    let worse = ["3.1.0", "3.1.3"].map(|version| (version, (237, 39 + 186, 14)));
    good.into_iter().chain(broken).chain(worse).collect()
}

#[test]
fn the_demo_names_the_first_bad_version_and_the_tests_that_it_broke() {
    regatta_tests::need_root();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let mut command = Command::new(root().join("ops/demo"));
    command
        .arg("--json")
        .arg(&json)
        .env("REGATTA", regatta())
        .env_remove("REGATTA_DATA");
    let done = Done::of(&mut command).expect(0);
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();

    let cells = report["cells"].as_array().unwrap();
    let seen: BTreeMap<&str, (u64, u64, u64)> = cells
        .iter()
        .map(|cell| {
            let count = |name: &str| cell["cases"][name].as_u64().unwrap();
            (
                cell["axes"]["werkzeug"].as_str().unwrap(),
                (count("passed"), count("failed"), count("skipped")),
            )
        })
        .collect();
    assert_eq!(seen, truth(), "{}", done.out);

    let findings: Vec<&Value> = report["findings"].as_array().unwrap().iter().collect();
    let found: Vec<_> = findings
        .iter()
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().unwrap_or_default();
            (
                text("kind"),
                text("last_good"),
                text("first_bad"),
                finding["cases"].as_array().map_or(0, Vec::len),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("regression", "2.3.8", "3.0.0", 223),
            ("regression", "3.0.6", "3.1.0", 2)
        ],
        "{}",
        done.out
    );
    let found: Value = serde_json::from_slice(
        &std::fs::read(directory.path().join("report.json.bisect")).unwrap(),
    )
    .unwrap();
    assert_eq!(
        (&found["last_good"], &found["first_bad"], &found["result"]),
        (&"2.3.8".into(), &"3.0.0".into(), &"found".into()),
        "{found}"
    );
    assert!(found["probability"].as_f64().unwrap() >= 0.99, "{found}");
    let (asked, all) = (&found["attempts"], &report["counts"]["attempts"]);
    assert!(
        asked.as_u64() < all.as_u64(),
        "{asked} attempts, and {all} for the whole matrix"
    );
    assert_eq!(report["conclusion"], "regressed");
    assert_eq!(
        (&report["counts"]["flaky"], &report["counts"]["host_faults"]),
        (&0.into(), &0.into()),
        "{}",
        done.out
    );
    assert!(
        done.out.lines().next().unwrap().contains("3.0.0"),
        "the first line is the conclusion: {}",
        done.out
    );
    for attempt in cells
        .iter()
        .flat_map(|cell| cell["attempts"].as_array().unwrap())
    {
        assert!(
            attempt["identity"].as_str().unwrap().starts_with("sha256:"),
            "{attempt}"
        );
    }
}
