//! Result files of every dialect (`fixtures/results`), each with the cases that are read from it as a golden file: status, key, and
//! the first line of its message. `REGATTA_BLESS=1` writes them anew; read what it wrote: is it what the tool said?

use std::fs;
use std::path::{Path, PathBuf};

use regatta_model::case::{CaseStatus, Results};
use regatta_verdict::results::{Limits, read, read_found};

/// Every fixture, sorted.
fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/results");
    let entries = fs::read_dir(folder).expect("the fixtures");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.retain(|file| {
        let ending = file
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        ["xml", "tap", "json", "tsv"].contains(&ending)
    });
    files.sort();
    assert!(files.len() > 40, "only {} fixtures", files.len());
    files
}

fn name(file: &Path) -> &str {
    file.file_name()
        .and_then(|name| name.to_str())
        .expect("a name")
}

fn of(name: &str, bytes: &[u8]) -> Results {
    read(&[(name.to_owned(), bytes.to_vec())], &Limits::default())
}

/// All cases with how they ended and the first line of their message, by name.
fn cases(results: &Results) -> Vec<(&str, CaseStatus, &str)> {
    let exception = |index: usize| {
        let mut found = results.exceptions.iter();
        found.find(|e| usize::try_from(e.index) == Ok(index))
    };
    let cases = results.names.iter().enumerate().map(|(at, name)| {
        let exception = exception(at);
        let message = exception.map_or("", |e| e.message.lines().next().unwrap_or_default());
        (
            name.as_str(),
            exception.map_or(CaseStatus::Passed, |e| e.status),
            message,
        )
    });
    cases.collect()
}

#[test]
fn every_dialect_is_read_as_its_tool_meant_it() {
    let bless = std::env::var_os("REGATTA_BLESS").is_some();
    let mut differ = Vec::new();
    for file in fixtures() {
        let results = of(name(&file), &fs::read(&file).expect("a fixture"));
        let mut told: String = cases(&results)
            .iter()
            .map(|(name, status, message)| format!("{status:?} | {name} | {message}\n"))
            .collect();
        for problem in &results.problems {
            told.push_str(&format!("problem: {problem}\n"));
        }
        let golden = PathBuf::from(format!("{}.cases", file.display()));
        if bless {
            fs::write(&golden, &told).expect("to be written");
        } else if fs::read_to_string(&golden).unwrap_or_default() != told {
            differ.push(format!("--- {}\n{told}", name(&file)));
        }
    }
    assert!(
        differ.is_empty(),
        "{}\nREGATTA_BLESS=1 accepts this",
        differ.join("\n")
    );
}

#[test]
fn a_file_that_was_cut_off_says_so_or_has_lost_nothing() {
    for file in fixtures() {
        let bytes = fs::read(&file).expect("a fixture");
        let (name, whole) = (name(&file), of(name(&file), &bytes));
        // Events have no last one: a file may end behind a whole package or test binary.
        let events = name.starts_with("go") && name.ends_with("json") || name.contains("libtest");
        // Every byte of small files; of larger ones the places at which something ends, and some between.
        let telling =
            |at: usize| bytes.len() < 2500 || at.is_multiple_of(31) || b">\n}".contains(&bytes[at]);
        for end in (0..bytes.len()).filter(|at| telling(*at) || telling(at.saturating_sub(1))) {
            let cut = of(name, &bytes[..end]);
            if !cut.problems.is_empty() {
                continue;
            }
            let (cut, whole) = (cases(&cut), cases(&whole));
            let same = |case: &(&str, CaseStatus, &str)| {
                whole
                    .iter()
                    .any(|other| (other.0, other.1) == (case.0, case.1))
            };
            let kept = if events {
                cut.iter().all(|case| same(case) || case.1.is_failure())
            } else {
                cut.len() == whole.len() && cut.iter().all(same)
            };
            assert!(kept, "{name} cut to {end} bytes is whole, with {cut:#?}");
        }
    }
}

#[test]
fn the_dialects_of_one_tool_agree_on_keys_and_statuses() {
    let all = |name: &str| {
        let file = fixtures().into_iter().find(|file| self::name(file) == name);
        let results = of(
            name,
            &fs::read(file.expect("the fixture")).expect("a fixture"),
        );
        let cases = cases(&results);
        let owned = cases
            .iter()
            .map(|(name, status, _)| ((*name).to_owned(), *status));
        owned.collect::<Vec<_>>()
    };
    for major in [6, 7, 8, 9] {
        let one = all(&format!("pytest-{major}-xunit1.xml"));
        assert_eq!(
            one,
            all(&format!("pytest-{major}-xunit2.xml")),
            "pytest {major}"
        );
        assert!(one.len() > 10, "pytest {major}");
    }
    let plain = all("nextest-libtest-json.json");
    assert_eq!(plain, all("nextest-libtest-json-plus.json"));
    assert_eq!(
        plain,
        all("nextest-retries.xml")
            .into_iter()
            .chain([
                // nextest's JUnit leaves out what was not run.
                ("shop::tests::ships".to_owned(), CaseStatus::Skipped),
            ])
            .collect::<std::collections::BTreeMap<_, _>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    // TAP has the suites as cases as well.
    let tap = all("node-runner.tap");
    // A passing TODO is a pass to TAP, and skipped to its JUnit.
    let junit = all("node-junit.xml")
        .into_iter()
        .filter(|(name, _)| name != "later");
    for case in junit {
        assert!(tap.contains(&case), "{case:?} is not in the TAP: {tap:#?}");
    }
}

#[test]
fn what_is_no_results_is_passed_over_only_where_no_pattern_names_it() {
    let other: [(&str, &str); 5] = [
        (
            "metrics.json",
            "{\"seconds\": 3, \"tests\": {\"type\": \"suite\"}}\n",
        ),
        ("package.json", "[1, 2, {\"a\": null}]"),
        (
            "log.jsonl",
            "{\"level\": \"info\"}\n{\"level\": \"warn\"}\n",
        ),
        ("table.tsv", "name\tsize\ncart\t3\n"),
        (
            "stats.json",
            "{\"stats\": 1, \"tests\": 2, \"type\": \"test\"}",
        ),
    ];
    for (name, text) in other {
        let files = [(name.to_owned(), text.as_bytes().to_vec())];
        let found = read_found(&files, &Limits::default());
        assert_eq!(found, Results::default(), "{name}");
        let named = read(&files, &Limits::default());
        assert!(
            named.found && named.problems.len() == 1,
            "{name}: {named:?}"
        );
    }
    for (name, text) in [
        ("a.json", "{\"numTotalTests\": 3, \"testResul"),
        ("a.json", ""),
        ("a.tsv", "cart adds\tpas"),
        ("a.xml", "hello\n"),
    ] {
        let files = [(name.to_owned(), text.as_bytes().to_vec())];
        let found = read_found(&files, &Limits::default());
        assert_eq!(found.problems.len(), 1, "{name} {text:?}: {found:?}");
    }
    let both = [
        (
            "junit.xml".to_owned(),
            b"<testsuite><testcase classname='k' name='a'/></testsuite>".to_vec(),
        ),
        ("other.json".to_owned(), b"{}".to_vec()),
    ];
    let results = read_found(&both, &Limits::default());
    assert_eq!(
        (results.names, results.problems, results.found),
        (vec!["k::a".to_owned()], vec![], true)
    );
}

#[test]
fn content_tells_the_dialect_whatever_the_name_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/results");
    for file in [
        "go.json",
        "libtest.json",
        "jest.json",
        "mocha.json",
        "list.tsv",
        "ctest.xml",
        "node.tap",
    ] {
        let bytes = fs::read(folder.join(file)).expect("a fixture");
        let (own, other) = (of(file, &bytes), of("results", &bytes));
        assert_eq!(own.names, other.names, "{file}");
        assert!(own.names.len() > 3, "{file}");
    }
}

#[test]
fn a_suite_that_counts_failures_without_a_case_is_a_problem() {
    let text = "<testsuites><testsuite name='cart' failures='1'><testcase classname='k' name='a'/></testsuite></testsuites>";
    let results = of("junit.xml", text.as_bytes());
    assert_eq!(
        results.problems,
        ["junit.xml: line 1: the suite \"cart\" counts 1 failures, and no case in it failed"]
    );
}

#[test]
fn a_case_whose_status_alone_says_failed_did_not_pass() {
    for (status, expected) in [
        ("failed", CaseStatus::Failed),
        ("error", CaseStatus::Error),
        ("run", CaseStatus::Passed),
    ] {
        let text =
            format!("<testsuite><testcase classname='k' name='a' status='{status}'/></testsuite>");
        assert_eq!(
            cases(&of("a.xml", text.as_bytes())),
            [("k::a", expected, "")]
        );
    }
}

#[test]
fn hostile_json_is_bounded() {
    let deep = format!(
        "{}1{}",
        "{\"testResults\":[".repeat(5000),
        "]}".repeat(5000)
    );
    let results = of("deep.json", deep.as_bytes());
    assert_eq!((results.names.len(), results.problems.len()), (0, 1));
    let deep = "[".repeat(1_000_000);
    assert_eq!(of("deep.json", deep.as_bytes()).problems.len(), 1);
    let event = |name: &str| {
        format!(
            "{{\"Action\":\"run\",\"Package\":\"p\",\"Test\":\"{name}\"}}\n{{\"Action\":\"pass\",\"Package\":\"p\",\"Test\":\"{name}\"}}\n"
        )
    };
    let small = Limits {
        cases: 100,
        ..Limits::default()
    };
    let many: String = (0..1000).map(|n| event(&n.to_string())).collect();
    let results = read(&[("go.json".to_owned(), many.into_bytes())], &small);
    assert_eq!(results.names.len(), 100);
    assert!(
        results.problems[0].contains("more than 100 cases"),
        "{:?}",
        results.problems
    );
    let long = event(&"n".repeat(2_000_000));
    assert!(of("go.json", long.as_bytes()).names[0].len() <= 1024);
    let nul = event("a\\u0000b\\ud800");
    assert_eq!(
        of("go.json", nul.as_bytes()).problems.len(),
        2,
        "half a character is no text"
    );
    // Output without an end is not kept without one.
    let line = format!(
        "{{\"Action\":\"output\",\"Package\":\"p\",\"Test\":\"t\",\"Output\":\"{}\"}}\n",
        "x".repeat(1000)
    );
    let text = format!(
        "{}{{\"Action\":\"fail\",\"Package\":\"p\",\"Test\":\"t\"}}\n{{\"Action\":\"fail\",\"Package\":\"p\"}}\n",
        line.repeat(20_000)
    );
    let results = of("go.json", text.as_bytes());
    assert_eq!(results.names, ["p::t"]);
}

#[test]
fn a_million_cases_end_at_the_limit() {
    let mut text = String::from("1..1000000\n");
    for n in 0..1_000_000 {
        text.push_str(&format!("ok {n} - c{n}\n"));
    }
    let results = of("many.tap", text.as_bytes());
    assert_eq!(results.names.len(), Limits::default().cases);
    assert!(!results.problems.is_empty());
    let nested: String = (0..500)
        .map(|n| format!("{}ok 1 - a\n", "    ".repeat(n)))
        .collect();
    let results = of("deep.tap", format!("1..1\n{nested}").as_bytes());
    assert!(
        results
            .problems
            .iter()
            .any(|p| p.contains("more than 64 subtests")),
        "{:?}",
        results.problems
    );
}
