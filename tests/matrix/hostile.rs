//! No source panics or takes for ever: real files with pieces changed, swapped and repeated, and
//! sources that are made to hurt.

use std::fs;

use proptest::prelude::*;
use regatta_model::matrix::Matrix;
use regatta_model::run::Pins;

use crate::fixtures;

/// Pieces that mean something to the parser.
const PIECES: [&str; 40] = [
    "\n",
    " ",
    "  ",
    "\t",
    ":",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "#",
    "&a ",
    "*a",
    "!",
    "!!str ",
    "|\n",
    ">\n",
    "\"",
    "'",
    "\\",
    "${{",
    "}}",
    "${{ matrix.python }}",
    "~",
    "null",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "<<: ",
    "? ",
    "\u{feff}",
    "\u{0}",
    "é",
    "\u{202e}",
    "99999999999999999999",
    "-1",
    "\r\n",
    "previous",
];

#[derive(Clone, Debug)]
enum Change {
    Insert(usize, usize),
    Remove(usize, usize),
    Repeat(usize, usize, usize),
    Move(usize, usize, usize),
    Truncate(usize),
    Replace(usize, char),
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0usize..4000;
    prop_oneof![
        4 => (at.clone(), 0..PIECES.len()).prop_map(|(at, piece)| Change::Insert(at, piece)),
        2 => (at.clone(), 1usize..60).prop_map(|(at, length)| Change::Remove(at, length)),
        2 => (at.clone(), 1usize..80, 1usize..20).prop_map(|(at, length, n)| Change::Repeat(at, length, n)),
        2 => (at.clone(), 1usize..80, at.clone()).prop_map(|(from, length, to)| Change::Move(from, length, to)),
        1 => at.clone().prop_map(Change::Truncate),
        3 => (at, any::<char>()).prop_map(|(at, c)| Change::Replace(at, c)),
    ]
}

fn apply(source: &str, changes: &[Change]) -> String {
    let mut text: Vec<char> = source.chars().collect();
    for change in changes {
        let length = text.len();
        let at = |at: usize| at % (length + 1);
        let range = |from: usize, count: usize| at(from)..(at(from) + count).min(length);
        match *change {
            Change::Insert(place, piece) => {
                text.splice(at(place)..at(place), PIECES[piece].chars());
            }
            Change::Remove(from, count) => {
                text.drain(range(from, count));
            }
            Change::Repeat(from, count, times) => {
                let piece = text[range(from, count)].repeat(times);
                text.splice(at(from)..at(from), piece);
            }
            Change::Move(from, count, to) => {
                let piece: Vec<char> = text[range(from, count)].to_vec();
                text.splice(at(to)..at(to), piece);
            }
            Change::Truncate(place) => text.truncate(at(place)),
            Change::Replace(place, c) => {
                if let Some(old) = text.get_mut(place % length.max(1)) {
                    *old = c;
                }
            }
        }
    }
    text.into_iter().collect()
}

/// Everything that a server does with a source.
fn use_all(source: &str) {
    match Matrix::parse(source, "m.yaml") {
        Ok(matrix) => {
            let printed = matrix.to_json().to_string();
            let again = Matrix::parse(&printed, "m.json")
                .unwrap_or_else(|wrong| panic!("{wrong}\n{printed}"));
            assert_eq!(matrix, again, "{source}");
            let count = matrix.cells().count();
            for cell in [0, 1, count / 2, count - 1, count, u64::MAX] {
                let values = matrix.cells().values(cell);
                assert_eq!(values.is_some(), cell < count);
                if let Some(values) = values {
                    let values = values
                        .into_iter()
                        .map(|(a, v)| (a.to_owned(), v.to_owned()))
                        .collect();
                    let first = matrix.cells().first(cell);
                    assert_eq!(matrix.cells().number(&values), Some(first), "{source}");
                }
                let _ = matrix.cells().baseline(cell);
                let _ = matrix.cells().key(cell);
                let _ = matrix.allow_failure(cell);
                let _ = matrix.plan(cell, &Pins::default());
            }
            let _ = matrix.images(10);
            let _ = matrix.file_sources(10);
        }
        Err(wrong) => {
            let text = wrong.render(true);
            assert!(!text.is_empty() && wrong.first().is_some());
            assert!(
                wrong
                    .render(false)
                    .chars()
                    .all(|c| c == '\n' || !c.is_control()),
                "{source:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_files_are_read_or_refused(
        file in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let mut files = fixtures("good", &["yaml", "json"]);
        files.extend(fixtures("wrong", &["yaml", "json"]));
        files.retain(|file| !file.ends_with("billion.yaml") && !file.ends_with("excludes-too-entangled.yaml"));
        let source = fs::read_to_string(file.get(&files)).unwrap();
        use_all(&apply(&source, &changes));
    }

    #[test]
    fn any_text_is_read_or_refused(source in any::<String>()) {
        use_all(&source);
    }

    #[test]
    fn whatever_json_holds_is_read_as_json_says(text in any::<String>(), number in any::<f64>(), pretty in any::<bool>()) {
        prop_assume!(!text.contains('\0') && !text.chars().any(char::is_control) && !text.contains("${{"));
        let value = serde_json::json!({
            "image": "x", "axes": { "a": [format!("t{text}"), number] }, "test": { "run": "x", "env": { "A": text } },
        });
        let source = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let source = source.unwrap().replace("\n  ", "\n\t");
        let matrix = Matrix::parse(&source, "m.json").map_err(|wrong| TestCaseError::fail(format!("{wrong}")))?;
        prop_assert_eq!(&matrix.axes()[0].values, &[format!("t{text}"), serde_json::to_string(&number).unwrap()]);
        prop_assert_eq!(&matrix.to_json()["test"]["env"]["A"], &serde_json::json!(text));
    }
}

#[test]
fn sources_that_are_made_to_hurt_are_refused_soon() {
    let deep = |open: &str, close: &str| {
        format!("image: {}x{}", open.repeat(100_000), close.repeat(100_000))
    };
    let many = |one: &str, count: usize| {
        (0..count)
            .map(|n| one.replace('N', &n.to_string()))
            .collect::<String>()
    };
    let head = "image: x\ntest: {run: x}\naxes:\n  a: [1, 2]\n";
    for source in [
        deep("[", "]"),
        deep("{a: ", "}"),
        deep("\n - ", ""),
        "[".repeat(1_000_000),
        "- ".repeat(500_000),
        "? ".repeat(500_000),
        "a: &a [*a]".to_owned(),
        format!("a: &a{} x", "a".repeat(1_000_000)),
        format!("{head}exclude:\n{}", many("  - {b: N}\n", 20_000)),
        format!("{head}exclude:\n{}", many("  - {a: vN}\n", 20_000)),
        format!("{head}exclude:\n{}", many("  - {aN: 1}\n", 20_000)),
        format!("{head}include:\n{}", many("  - {a: 1}\n", 20_000)),
        format!(
            "{head}adjust:\n{}",
            many("  - {where: {a: 1}, timeout: 1m}\n", 20_000)
        ),
        format!("{head}{}", many("keyN: 1\n", 20_000)),
        format!(
            "image: x\ntest: {{run: x}}\naxes:\n{}",
            many("  aN: [1]\n", 20_000)
        ),
        format!(
            "image: x\ntest: {{run: x}}\naxes:\n  a: [{}]\nexclude:\n{}",
            many("valueN, ", 20_000),
            many("  - {a: valueN_}\n", 10_000)
        ),
        format!(
            "image: x\naxes: {{a: [1]}}\ntest:\n  run: \"{}\"",
            "${{ matrix.b }}".repeat(50_000)
        ),
    ] {
        let wrong = Matrix::parse(&source, "m").err();
        assert!(wrong.is_some(), "accepted: {}...", &source[..200]);
        assert!(wrong.unwrap().render(false).len() < 100_000);
    }
}

#[test]
fn big_matrices_are_read() {
    let many = |one: &str, count: usize| {
        (0..count)
            .map(|n| one.replace('N', &n.to_string()))
            .collect::<String>()
    };
    for (source, cells) in [
        (
            format!(
                "image: x\ntest: {{run: x}}\naxes:\n  a: [{}]",
                many("vN, ", 100_000)
            ),
            100_000,
        ),
        (
            format!(
                "image: x\ntest: {{run: x}}\naxes:\n  a: [v]\ninclude:\n{}",
                many("  - {a: wN}\n", 50_000)
            ),
            50_001,
        ),
        (
            format!(
                "image: x\ntest: {{run: x}}\naxes:\n  a: [{0}]\n  b: [{0}]\nexclude:\n{1}",
                many("vN, ", 3000),
                many("  - {a: vN, b: [v1, v2, v3]}\n", 3000)
            ),
            3000 * 2997,
        ),
    ] {
        let matrix = Matrix::parse(&source, "m").unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(matrix.cells().count(), cells);
    }
}
