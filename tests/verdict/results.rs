//! Result files of real tools (`fixtures/results`), read into cases; and the same files broken in every way.

use proptest::prelude::*;
use regatta_model::case::{CaseStatus, MESSAGE_MOST, Results};
use regatta_verdict::results::{Limits, read};

const FILES: [(&str, &[u8]); 12] = [
    (
        "pytest-xunit1.xml",
        include_bytes!("../fixtures/results/pytest-xunit1.xml"),
    ),
    (
        "pytest-xunit2.xml",
        include_bytes!("../fixtures/results/pytest-xunit2.xml"),
    ),
    (
        "nextest.xml",
        include_bytes!("../fixtures/results/nextest.xml"),
    ),
    (
        "surefire.xml",
        include_bytes!("../fixtures/results/surefire.xml"),
    ),
    (
        "gotestsum.xml",
        include_bytes!("../fixtures/results/gotestsum.xml"),
    ),
    (
        "jest-junit.xml",
        include_bytes!("../fixtures/results/jest-junit.xml"),
    ),
    (
        "jest-junit-titles.xml",
        include_bytes!("../fixtures/results/jest-junit-titles.xml"),
    ),
    ("tap13.tap", include_bytes!("../fixtures/results/tap13.tap")),
    ("tap14.tap", include_bytes!("../fixtures/results/tap14.tap")),
    ("node.tap", include_bytes!("../fixtures/results/node.tap")),
    (
        "skipped.tap",
        include_bytes!("../fixtures/results/skipped.tap"),
    ),
    (
        "bailed.tap",
        include_bytes!("../fixtures/results/bailed.tap"),
    ),
];

fn fixture(name: &str) -> Results {
    let (_, bytes) = FILES
        .iter()
        .find(|(file, _)| *file == name)
        .expect("a fixture");
    read(&[(name.to_owned(), bytes.to_vec())], &Limits::default())
}

fn of(text: &str) -> Results {
    read(
        &[("junit.xml".to_owned(), text.as_bytes().to_vec())],
        &Limits::default(),
    )
}

/// All cases with how they ended, by name.
fn cases(results: &Results) -> Vec<(&str, CaseStatus)> {
    let status = |index: usize| {
        let found = results
            .exceptions
            .iter()
            .find(|e| usize::try_from(e.index) == Ok(index));
        found.map_or(CaseStatus::Passed, |exception| exception.status)
    };
    results
        .names
        .iter()
        .enumerate()
        .map(|(at, name)| (name.as_str(), status(at)))
        .collect()
}

fn message<'a>(results: &'a Results, name: &str) -> &'a str {
    let index = results
        .names
        .iter()
        .position(|other| other == name)
        .expect("the case");
    let found = results
        .exceptions
        .iter()
        .find(|e| usize::try_from(e.index) == Ok(index));
    &found.expect("an exception").message
}

use CaseStatus::{Error, Failed, Flaky, Passed, Skipped};

#[test]
fn pytest_gives_the_same_cases_in_both_of_its_families() {
    let results = fixture("pytest-xunit2.xml");
    let expected = [
        ("test_broken_import", Error),
        ("test_shop.TestCart::test_setup_breaks", Error),
        ("test_shop.TestCart::test_total", Failed),
        ("test_shop::test_adds", Passed),
        ("test_shop::test_expected", Skipped),
        ("test_shop::test_fails_twice", Failed),
        ("test_shop::test_fails_twice#2", Error),
        ("test_shop::test_prices[1 \\u20ac]", Passed),
        ("test_shop::test_prices[a<b]", Failed),
        ("test_shop::test_prices[x&y]", Passed),
        ("test_shop::test_skipped", Skipped),
    ];
    assert_eq!(cases(&results), expected);
    assert_eq!(
        (results.found, results.problems.as_slice()),
        (true, [].as_slice())
    );
    let message = message(&results, "test_broken_import");
    assert_eq!(
        message,
        "collection failure\nModuleNotFoundError: No module named 'no_such_module'"
    );
    assert_eq!(cases(&fixture("pytest-xunit1.xml")), expected);
}

#[test]
fn nextest_names_the_binary_and_tells_of_tries_that_failed_first() {
    let results = fixture("nextest.xml");
    let expected = [
        ("shop::tests::adds", Passed),
        ("shop::tests::sometimes", Flaky),
        ("shop::tests::total", Failed),
    ];
    assert_eq!(cases(&results), expected);
    let message = message(&results, "shop::tests::total");
    assert!(message.contains("the <total> & more"), "{message}");
    assert!(!message.contains("running 1 test"), "{message}");
}

#[test]
fn surefire_tells_flakes_from_failures() {
    let results = fixture("surefire.xml");
    let expected = [
        ("shop.CartTest::adds", Passed),
        ("shop.CartTest::breaks{int}[1]", Error),
        ("shop.CartTest::ships", Skipped),
        ("shop.CartTest::sometimes", Flaky),
        ("shop.CartTest::total", Failed),
    ];
    assert_eq!(cases(&results), expected);
    assert!(message(&results, "shop.CartTest::breaks{int}[1]").starts_with("it <broke> & stays"));
}

#[test]
fn gotestsum_names_the_package_and_subtests() {
    let results = fixture("gotestsum.xml");
    let expected = [
        ("example.com/shop/cart::TestAdds", Passed),
        ("example.com/shop/cart::TestShips", Skipped),
        ("example.com/shop/cart::TestTotal", Failed),
        ("example.com/shop/cart::TestTotal/apples_&_pears", Failed),
        ("example.com/shop/cart::TestTotal/none", Passed),
    ];
    assert_eq!(cases(&results), expected);
    assert!(
        message(&results, "example.com/shop/cart::TestTotal/apples_&_pears")
            .contains("got 2, want 3")
    );
}

#[test]
fn jest_junit_says_a_title_once_even_where_the_file_says_it_twice() {
    let expected = [
        ("cart adds one & one", Passed),
        ("cart knows the total", Failed),
        ("cart refunds", Passed),
        ("cart ships", Skipped),
    ];
    assert_eq!(cases(&fixture("jest-junit.xml")), expected);
    let named = fixture("jest-junit-titles.xml");
    assert_eq!(named.names[1], "cart::knows the total");
}

#[test]
fn tap_13_is_read_with_directives_and_diagnostics() {
    let results = fixture("tap13.tap");
    let expected = [
        ("(unnamed)", Passed),
        ("adds", Passed),
        ("knows the total", Failed),
        ("refunds", Skipped),
        ("room #9 is free", Failed),
        ("ships", Skipped),
    ];
    assert_eq!(cases(&results), expected);
    assert!(message(&results, "knows the total").contains("expected 3, got 2"));
    assert_eq!(message(&results, "ships"), "no port");
    assert_eq!(results.problems, [""; 0]);
}

#[test]
fn subtests_of_tap_14_stand_behind_their_parents() {
    let results = fixture("tap14.tap");
    let expected = [
        ("a plain one", Passed),
        ("cart", Failed),
        ("cart > adds", Passed),
        ("cart > totals", Failed),
        ("cart > totals > of apples", Failed),
        ("cart > totals > of nothing", Passed),
        ("ships", Skipped),
    ];
    assert_eq!(cases(&results), expected);
    assert_eq!(results.problems, [""; 0]);
    let results = fixture("node.tap");
    let expected = [
        ("cart", Failed),
        ("cart > adds", Passed),
        ("cart > later", Skipped),
        ("cart > total", Failed),
        ("ships", Skipped),
    ];
    assert_eq!(cases(&results), expected);
    assert_eq!(results.problems, [""; 0]);
}

#[test]
fn a_skipped_tap_file_is_one_skipped_case_and_a_bail_out_is_a_problem() {
    let results = fixture("skipped.tap");
    assert_eq!(cases(&results), [("skipped.tap", Skipped)]);
    assert_eq!(results.problems, [""; 0]);
    let results = fixture("bailed.tap");
    assert_eq!(cases(&results), [("one", Passed), ("two", Failed)]);
    assert_eq!(
        results.problems,
        ["bailed.tap: line 5: the test bailed out: the database went away"]
    );
}

#[test]
fn a_plan_that_does_not_hold_is_a_problem() {
    for (text, problem) in [
        (
            "1..3\nok 1\nok 2\n",
            "junit.xml: line 3: the plan says 3 tests, and there are 2",
        ),
        (
            "ok 1 - a\n",
            "junit.xml: line 1: there is no plan: the output may be cut off",
        ),
        (
            "1..1\n    1..2\n    ok 1 - a\nok 1 - b\n",
            "junit.xml: line 4: the plan says 2 tests, and there are 1",
        ),
        (
            "1..1\nnot ok 1 - a\n  ---\n  message: cut he",
            "junit.xml: line 4: the file ends within a diagnostic: it was cut off",
        ),
    ] {
        let problems = of(text).problems;
        assert_eq!(problems.len(), 1, "{text:?}: {problems:?}");
        // The line is that at which it was noticed: the last one, or one behind it.
        assert_eq!(
            problems[0].rsplit(": ").next(),
            problem.rsplit(": ").next(),
            "{text:?}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_told_with_its_place() {
    for (text, problem) in [
        ("", "junit.xml: is empty"),
        ("hello", "junit.xml: is neither JUnit XML nor TAP"),
        (
            "<html>\n</html>",
            "junit.xml: line 1: <html> is no JUnit XML: expected <testsuites> or <testsuite>",
        ),
        (
            "<testsuite>\n<testcase name='a'/>\n<testcase ",
            "junit.xml: line 3: ",
        ),
        (
            "<testsuite>\n<testcase name='a'/>\n",
            "junit.xml: line 3: the file ends within an element: it was cut off",
        ),
        (
            "<testsuite>\n<testcase name='a'>\n</testsuite>",
            "junit.xml: line 3: not well-formed XML: ",
        ),
    ] {
        let problems = of(text).problems;
        assert!(
            problems.len() == 1 && problems[0].starts_with(problem),
            "{text:?}: {problems:?}"
        );
    }
    assert_eq!(
        of("<testsuite>\n<testcase name='a'/>\n").names,
        ["a"],
        "what was read is kept"
    );
    assert_eq!(
        of("<testsuites/>"),
        Results {
            found: true,
            ..Results::default()
        }
    );
    assert_eq!(read(&[], &Limits::default()), Results::default());
}

#[test]
fn no_entity_is_expanded_but_the_five_and_characters() {
    let bomb = r#"<!DOCTYPE t [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]>
        <testsuite><testcase classname="k" name="x&amp;y&#65;"><failure message="&b;">&b;&c;&lt;&#x41;</failure></testcase></testsuite>"#;
    let results = of(bomb);
    assert_eq!(cases(&results), [("k::x&yA", Failed)]);
    assert_eq!(message(&results, "k::x&yA"), "&b;\n&b;&c;<A");
}

#[test]
fn duplicates_are_counted_and_never_meet_a_real_name() {
    let text = "<testsuite><testcase classname='k' name='a'/><testcase classname='k' name='a#2'/>\
        <testcase classname='k' name='a'><failure/></testcase><testcase classname='k' name='a'/></testsuite>";
    let expected = [
        ("k::a", Passed),
        ("k::a#2", Passed),
        ("k::a#3", Failed),
        ("k::a#4", Passed),
    ];
    assert_eq!(cases(&of(text)), expected);
}

#[test]
fn several_tap_files_are_suites_and_junit_files_are_not() {
    let file = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    let files = [
        file("b.tap", "1..1\nok 1 - works\n"),
        file("sub/a.tap", "1..1\nnot ok 1 - works\n"),
    ];
    let results = read(&files, &Limits::default());
    assert_eq!(
        cases(&results),
        [("b::works", Passed), ("sub/a::works", Failed)]
    );
}

#[test]
fn a_suite_that_broke_is_a_case_and_a_case_that_did_not_run_is_skipped() {
    let text = "<testsuite name='cart'><error message='cannot load'/><testcase classname='k' name='a' status='notrun'/></testsuite>";
    assert_eq!(cases(&of(text)), [("cart", Error), ("k::a", Skipped)]);
}

#[test]
fn every_limit_holds_and_says_so() {
    let suite = |body: &str| format!("<testsuite>{body}</testsuite>");
    let many: String = (0..50)
        .map(|n| {
            format!(
                "<testcase classname='k' name='case {n}'><failure>{}</failure></testcase>",
                "x".repeat(9000)
            )
        })
        .collect();
    let deep = "<a>".repeat(100);
    let small = Limits {
        cases: 10,
        names_bytes: 100,
        depth: 20,
        file_bytes: 100_000,
        bytes: 600_000,
        ..Limits::default()
    };
    for (limits, text, problem) in [
        (
            small,
            suite(&deep),
            "more than 20 elements within one another",
        ),
        (
            Limits {
                names_bytes: 1 << 20,
                file_bytes: 1 << 20,
                ..small
            },
            suite(&many),
            "more than 10 cases",
        ),
        (
            Limits {
                cases: 50,
                file_bytes: 1 << 20,
                ..small
            },
            suite(&many),
            "the names of all cases have more than 100 bytes",
        ),
        (small, suite(&many), "of which 100000 may be read"),
        (
            Limits {
                file_bytes: 1 << 20,
                bytes: 1000,
                ..small
            },
            suite(&many),
            "all results have 1000 bytes at most",
        ),
    ] {
        let results = read(&[("junit.xml".to_owned(), text.into_bytes())], &limits);
        assert!(
            results.problems.iter().any(|p| p.contains(problem)),
            "{problem}: {:?}",
            results.problems
        );
    }
    let results = of(&suite(&many));
    assert_eq!(results.names.len(), 50);
    assert!(
        results
            .exceptions
            .iter()
            .all(|e| e.message.len() <= MESSAGE_MOST)
    );
    let long = "n".repeat(5000);
    let results = of(&suite(&format!(
        "<testcase name='{long}1'/><testcase name='{long}2'/>"
    )));
    assert!(
        results.names.iter().all(|name| name.len() == 1024),
        "{:?}",
        results.names
    );
    assert_ne!(results.names[0], results.names[1], "cut names stay apart");
    assert_eq!(results.names.len(), 2);
}

#[test]
fn other_encodings_and_broken_ones_are_read_as_far_as_possible() {
    let text = "<testsuite><testcase classname='k' name='ä'/></testsuite>";
    let utf16: Vec<u8> = [0xfeff]
        .into_iter()
        .chain(text.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let bom = [b"\xef\xbb\xbf", text.as_bytes()].concat();
    let latin = text
        .replace('ä', "?")
        .into_bytes()
        .into_iter()
        .map(|b| if b == b'?' { 0xe4 } else { b })
        .collect();
    for (bytes, name) in [(utf16, "k::ä"), (bom, "k::ä"), (latin, "k::\u{fffd}")] {
        let results = read(&[("junit.xml".to_owned(), bytes)], &Limits::default());
        assert_eq!(cases(&results), [(name, Passed)]);
    }
}

/// One way to break a file.
#[derive(Clone, Debug)]
enum Break {
    Cut(usize),
    Put(usize, Vec<u8>),
    Drop(usize, usize),
    Double(usize, usize),
}

fn breaks() -> impl Strategy<Value = Vec<Break>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..6),
        prop::sample::select(vec![
            "<",
            ">",
            "&",
            "]]>",
            "<![CDATA[",
            "<!--",
            "\"",
            "<testcase>",
            "</testcase>",
            "&#x110000;",
            "\n    ",
            "ok",
            "1..99999999999999999999",
            "---\n",
            "\u{1b}["
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    let one = prop_oneof![
        any::<usize>().prop_map(Break::Cut),
        (any::<usize>(), piece).prop_map(|(at, bytes)| Break::Put(at, bytes)),
        (any::<usize>(), 1_usize..60).prop_map(|(at, length)| Break::Drop(at, length)),
        (any::<usize>(), 1_usize..400).prop_map(|(at, length)| Break::Double(at, length)),
    ];
    prop::collection::vec(one, 1..6)
}

fn broken(bytes: &[u8], breaks: &[Break]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for one in breaks {
        let place = |at: usize| at % (bytes.len() + 1);
        match one {
            Break::Cut(at) => bytes.truncate(place(*at)),
            Break::Put(at, piece) => {
                let at = place(*at);
                bytes.splice(at..at, piece.iter().copied());
            }
            Break::Drop(at, length) => {
                let (from, to) = (place(*at), (place(*at) + length).min(bytes.len()));
                bytes.drain(from..to);
            }
            Break::Double(at, length) => {
                let (from, to) = (place(*at), (place(*at) + length).min(bytes.len()));
                let piece = bytes[from..to].to_vec();
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn no_file_breaks_the_reader_and_what_it_reads_is_well_formed(file in 0..FILES.len(), breaks in breaks()) {
        let (name, bytes) = FILES[file];
        let results = read(&[(name.to_owned(), broken(bytes, &breaks))], &Limits::default());
        prop_assert!(results.names.is_sorted_by(|a, b| a < b), "sorted, each once");
        for exception in &results.exceptions {
            prop_assert!(usize::try_from(exception.index).unwrap() < results.names.len());
            prop_assert!(exception.message.len() <= MESSAGE_MOST);
            prop_assert_ne!(exception.status, Passed);
        }
        prop_assert!(results.names.iter().all(|name| !name.chars().any(char::is_control)));
        prop_assert!(results.problems.iter().all(|problem| problem.starts_with(name)));
    }
}
