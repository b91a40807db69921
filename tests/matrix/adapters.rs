//! Tools that a matrix names in place of a command: what they become, run with stand-ins of the tools.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use regatta_model::Digest;
use regatta_model::matrix::Matrix;
use regatta_model::plan::{AttemptPlan, Command, Shard};
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
        shards: BTreeMap::new(),
    };
    matrix.plan(0, &pins).unwrap()
}

/// Runs a plan's test where every tool is one that says how it was called, and exits with 7.
fn run(plan: &AttemptPlan, place: &Path) -> Option<i32> {
    run_with(plan, place, &[])
}

fn run_with(plan: &AttemptPlan, place: &Path, env: &[(&str, String)]) -> Option<i32> {
    let (tools, results) = (place.join("node_modules/.bin"), place.join("results"));
    fs::create_dir_all(&tools).unwrap();
    fs::create_dir_all(&results).unwrap();
    for tool in ["pytest", "cargo", "go", "jest", "ctest"] {
        let program = tools.join(tool);
        if program.exists() {
            continue;
        }
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
        .envs(env.iter().map(|(name, value)| (name, value)))
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

/// One shard of a cell, with tools that say how they were called.
pub(crate) fn shard(test: &str, index: u32, total: u32) -> (AttemptPlan, tempfile::TempDir) {
    let source = format!("image: x\naxes: {{a: [1, 2]}}\ntest: {test}\nshards: {total}\n");
    let matrix = Matrix::parse(&source, "m.yaml").unwrap_or_else(|wrong| panic!("{wrong}"));
    let pins = Pins {
        images: BTreeMap::from([("x".to_owned(), Digest::of(b"x"))]),
        files: BTreeMap::new(),
        shards: BTreeMap::new(),
    };
    let plan = matrix.plan(u64::from(total + index), &pins).unwrap();
    assert_eq!(plan.axes["a"], "2");
    let unplanned = Shard {
        index,
        total,
        plan: None,
    };
    assert_eq!(plan.shard, Some(unplanned));
    (plan, tempfile::tempdir().unwrap())
}

fn run_shard(plan: &AttemptPlan, place: &Path) -> Option<i32> {
    run_planned(plan, place, None)
}

/// ... with a plan of shards in its environment.
pub(crate) fn run_planned(plan: &AttemptPlan, place: &Path, planned: Option<&str>) -> Option<i32> {
    let shard = plan.shard.unwrap();
    let status = place.join("results/.shard-status");
    let mut env = vec![
        ("TEST_TOTAL_SHARDS", shard.total.to_string()),
        ("TEST_SHARD_INDEX", shard.index.to_string()),
        ("TEST_SHARD_STATUS_FILE", status.display().to_string()),
    ];
    if let Some(planned) = planned {
        let file = place.join("shards.tsv");
        fs::write(&file, planned).unwrap();
        env.push(("REGATTA_SHARDS", file.display().to_string()));
    }
    let code = run_with(plan, place, &env);
    assert!(
        status.exists(),
        "the tool's command says that it knows of shards"
    );
    code
}

#[test]
fn a_tool_runs_only_its_shard() {
    for (key, words) in [
        ("cargo-nextest", vec!["--partition", "hash:3/4", "first"]),
        ("jest", vec!["--shard=3/4", "--passWithNoTests", "first"]),
        ("ctest", vec!["-I", "3,,4,0", "--test-dir", "first"]),
    ] {
        let (plan, place) = shard(&format!("{{{key}: [first]}}"), 2, 4);
        assert_eq!(run_shard(&plan, place.path()), Some(7), "{key}");
        let said = fs::read_to_string(place.path().join("results/words")).unwrap();
        let said: Vec<&str> = said.lines().collect();
        assert!(
            said.windows(words.len()).any(|part| part == words),
            "{key}: {said:?}"
        );
    }
}

#[test]
fn go_tests_every_nth_package() {
    let list = "#!/bin/sh\n\
        if [ \"$1\" = list ]; then echo \"$@\" >\"$REGATTA_RESULTS/listed\"; printf '%s\\n' p/a p/b p/c p/d p/e; exit; fi\n\
        for word do printf '%s\\n' \"$word\"; done >\"$REGATTA_RESULTS/words\"; exit 7\n";
    let run = |index, total, planned| {
        let (plan, place) = shard("{go: [-race, -run=A B, ./...]}", index, total);
        let planned: Option<&str> = planned;
        let tool = place.path().join("node_modules/.bin/go");
        fs::create_dir_all(tool.parent().unwrap()).unwrap();
        fs::write(&tool, list).unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let code = run_planned(&plan, place.path(), planned);
        let read = |name: &str| fs::read_to_string(place.path().join("results").join(name));
        assert_eq!(read("listed").unwrap(), "list -race -- ./...\n");
        (code, read("words").ok(), read("go.json").unwrap())
    };
    for (index, packages) in [(0, "p/a\np/d\n"), (1, "p/b\np/e\n"), (2, "p/c\n")] {
        let (code, words, _) = run(index, 3, None);
        let expected = format!("test\n-json\n-race\n-run=A B\n{packages}");
        assert_eq!((code, words), (Some(7), Some(expected)));
    }
    // With a plan, what it names stays where it says, wherever else packages are; the rest goes somewhere, once.
    let planned = Some("p/e\t0\np/gone\t0\np/d\t2\np/a\t2\np/b\t9\nnonsense\n");
    let front = "test\n-json\n-race\n-run=A B\n";
    let mut all = Vec::new();
    for (index, named) in [(0, vec!["p/e"]), (1, vec![]), (2, vec!["p/a", "p/d"])] {
        let (_, words, _) = run(index, 3, planned);
        let words = words.unwrap_or_default();
        let packages: Vec<&str> = words
            .strip_prefix(front)
            .unwrap_or_default()
            .lines()
            .collect();
        for package in ["p/a", "p/d", "p/e"] {
            let here = packages.contains(&package);
            assert_eq!(here, named.contains(&package), "{index}: {packages:?}");
        }
        all.extend(packages.into_iter().map(str::to_owned));
    }
    all.sort_unstable();
    assert_eq!(all, ["p/a", "p/b", "p/c", "p/d", "p/e"]);
    // A shard without a package tests nothing, and not the package of its directory.
    let (code, words, events) = run(5, 6, None);
    assert_eq!((code, words), (Some(0), None));
    let files = [("go.json".to_owned(), events.into_bytes())];
    let results = regatta_verdict::results::read(&files, &Default::default());
    assert!(results.found && results.names.is_empty() && results.problems.is_empty());
}
