//! Tools that a matrix names in place of a command: what they become, run with stand-ins of the tools.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use regatta_model::Digest;
use regatta_model::matrix::Matrix;
use regatta_model::plan::{AttemptPlan, Command};
use regatta_model::run::Pins;

/// A value of an axis that a shell would take apart.
const NASTY: &str = "it's $(false) \"x\"; exit 9";

fn plan(test: &str) -> AttemptPlan {
    let axes = serde_json::json!({ "a": [NASTY] });
    let source = format!("image: x\naxes: {axes}\ntest: {test}\n");
    let matrix = Matrix::parse(&source, "m.yaml").unwrap_or_else(|wrong| panic!("{wrong}"));
    let again = Matrix::parse(&matrix.to_json().to_string(), "m.yaml").unwrap();
    assert_eq!(matrix, again, "printed and read");
    let pins = Pins {
        images: BTreeMap::from([("x".to_owned(), Digest::of(b"x"))]),
        files: BTreeMap::new(),
    };
    matrix.plan(0, &pins).unwrap()
}

/// Runs a plan's test where every tool is one that says how it was called, and exits with 7.
fn run(plan: &AttemptPlan, place: &Path) -> Option<i32> {
    let (tools, results) = (place.join("node_modules/.bin"), place.join("results"));
    fs::create_dir_all(&tools).unwrap();
    fs::create_dir_all(&results).unwrap();
    for tool in ["pytest", "cargo", "go", "jest", "ctest"] {
        let program = tools.join(tool);
        let text = "#!/bin/sh\necho to-stdout\nfor word in \"$0\" \"$@\"; do printf '%s\\n' \"$word\"; done >\"$REGATTA_RESULTS/words\"\nexit 7\n";
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let Command::Exec(argv) = &plan.test.run else {
        panic!("{:?} is no list", plan.test.run)
    };
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let status = std::process::Command::new(&argv[0])
        .args(&argv[1..])
        .current_dir(place)
        .env("PATH", path)
        .env("REGATTA_RESULTS", &results)
        .stdout(std::process::Stdio::null())
        .status();
    status.unwrap().code()
}

#[test]
fn a_tool_gets_its_arguments_as_they_are_and_its_status_is_the_tests() {
    let nasty = "\"${{ matrix.a }}\"";
    for (key, front, results) in [
        ("pytest", vec!["--junitxml={}/pytest.xml"], "pytest.xml"),
        (
            "cargo-nextest",
            vec!["nextest", "run", "--message-format", "libtest-json-plus"],
            "nextest.json",
        ),
        ("go", vec!["test", "-json"], "go.json"),
        (
            "jest",
            vec!["--ci", "--json", "--outputFile={}/jest.json"],
            "jest.json",
        ),
        (
            "ctest",
            vec!["--output-junit", "{}/ctest.xml", "--test-dir"],
            "ctest.xml",
        ),
    ] {
        let place = tempfile::tempdir().unwrap();
        let plan = plan(&format!(
            "{{{key}: [first, {nasty}, -k, \"a b\"], env: {{A: b}}, timeout: 5m}}"
        ));
        assert_eq!(run(&plan, place.path()), Some(7), "{key}");
        let below = place.path().join("results");
        let words = fs::read_to_string(below.join("words")).unwrap();
        let mut expected: Vec<String> = front
            .iter()
            .map(|word| word.replace("{}", &below.display().to_string()))
            .collect();
        expected.extend(["first", NASTY, "-k", "a b"].map(str::to_owned));
        assert_eq!(words.lines().skip(1).collect::<Vec<_>>(), expected, "{key}");
        assert_eq!(plan.results, [results], "{key}");
        assert_eq!(plan.test.timeout_ms, 300_000, "{key}");
        assert_eq!(
            plan.test.env.get("A").map(String::as_str),
            Some("b"),
            "{key}"
        );
        // What goes to the results is what the tool wrote, where it writes no file itself.
        if ["cargo-nextest", "go"].contains(&key) {
            assert_eq!(
                fs::read_to_string(below.join(results)).unwrap(),
                "to-stdout\n",
                "{key}"
            );
        }
    }
}

#[test]
fn one_argument_needs_no_list_and_named_results_stay() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(run(&plan("{go: ./...}"), place.path()), Some(7));
    let words = fs::read_to_string(place.path().join("results/words")).unwrap();
    assert_eq!(words.lines().last(), Some("./..."));
    let named = plan("{jest: []}\nresults: [\"*.json\"]");
    assert_eq!(named.results, ["*.json"]);
}
