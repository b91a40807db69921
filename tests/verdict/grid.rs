//! The grid of a report: cases that did not pass everywhere, along the axis that tells most.

use std::collections::BTreeMap;

use regatta_model::case::{CaseException, CaseStatus};
use regatta_model::matrix::Matrix;
use regatta_model::report::{CaseGrid, CaseMark, CaseRow};

use crate::report::{EXIT_0, EXIT_1, End, Race, cases};

fn matrix(axes: &str, more: &str) -> Matrix {
    let text = format!("name: shop\nimage: base\naxes: {axes}\ntest: {{run: x}}\n{more}\n");
    Matrix::parse(&text, "matrix.yaml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// The grid of a run in which `failing` says what fails of the cases `a`, `b` and `c` in an attempt.
fn grid(
    matrix: &Matrix,
    failing: impl Fn(&BTreeMap<&str, &str>, u32) -> Vec<&'static str>,
) -> Option<CaseGrid> {
    let test = |values: &BTreeMap<&str, &str>, ordinal| end(&failing(values, ordinal));
    Race::run(matrix, test).report().grid
}

fn end(failing: &[&str]) -> End {
    let exit = if failing.is_empty() { EXIT_0 } else { EXIT_1 };
    (exit, cases(&["a", "b", "c"], failing))
}

/// A row's marks in short; a space where there is no cell.
fn marks(row: &CaseRow) -> String {
    let short = |mark: &Option<CaseMark>| match mark {
        None => ' ',
        Some(CaseMark::Passed) => '.',
        Some(CaseMark::Failed) => 'F',
        Some(CaseMark::Flaky) => '~',
        Some(CaseMark::Regressed) => 'R',
        Some(CaseMark::Fixed) => '+',
        Some(CaseMark::Unresolved) => '?',
        Some(CaseMark::Skipped) => '-',
    };
    row.marks.iter().map(short).collect()
}

fn rows(grid: &CaseGrid) -> Vec<(&str, String, u64)> {
    let rows = grid.rows.iter();
    rows.map(|row| (row.case.as_str(), marks(row), row.count))
        .collect()
}

#[test]
fn where_all_pass_there_is_none() {
    let two = matrix("{v: [1, 2]}", "");
    assert_eq!(grid(&two, |_, _| vec![]), None);
}

#[test]
fn it_goes_along_the_compared_axis_else_an_ordered_one_else_the_last() {
    let axes = "{x: [1, 2], y: {values: [1, 2], ordered: true}, z: [1, 2]}";
    for (axes, more, axis) in [
        (axes, "compare: {axis: x, baseline: 1}", "x"),
        (axes, "", "y"),
        ("{x: [1, 2], z: [1, 2]}", "", "z"),
    ] {
        let grid = grid(&matrix(axes, more), |_, _| vec!["a"]).unwrap();
        assert_eq!(
            (grid.axis.as_str(), grid.values),
            (axis, vec!["1".to_owned(), "2".to_owned()])
        );
    }
}

#[test]
fn each_cell_has_a_mark_and_one_that_does_not_exist_none() {
    let matrix = matrix(
        "{v: {values: [1, 2, 3, 4, 5], ordered: true}, os: [x, y]}",
        "compare: {axis: v, baseline: previous}\nexclude: [{v: 5, os: x}]",
    );
    let race = Race::run(&matrix, |values, ordinal| {
        match (values["os"], values["v"]) {
            // Broken by 2, mended by 4, and nothing is known of y 4.
            ("x", "2" | "3") => end(&["a"]),
            // It fails everywhere.
            ("y", _) if ordinal == 1 && values["v"] == "3" => end(&["b", "c"]),
            ("y", _) => end(&["b"]),
            _ => end(&[]),
        }
    });
    let unknown = matrix.cells().number(&BTreeMap::from([
        ("v".to_owned(), "4".to_owned()),
        ("os".to_owned(), "y".to_owned()),
    ]));
    let grid = race.without_cell(unknown.unwrap()).report().grid.unwrap();
    assert_eq!(
        rows(&grid),
        [
            ("a", ".RF+ ".to_owned(), 1),
            ("b", "FFF?F".to_owned(), 1),
            ("c", "..~?.".to_owned(), 1),
        ],
        "what regressed first, then what fails most"
    );
    assert_eq!(
        grid.rows[1].lines,
        [BTreeMap::from([("os".to_owned(), "y".to_owned())])]
    );
    assert_eq!((grid.more_values, grid.more_cases), (0, 0));
}

#[test]
fn a_case_that_a_cell_skips_or_does_not_have_is_marked_so() {
    let matrix = matrix("{v: [1, 2, 3]}", "");
    let race = Race::run(&matrix, |values, _| match values["v"] {
        "1" => end(&["b"]),
        "2" => {
            let mut results = cases(&["a", "b", "c"], &[]);
            let index = results.names.iter().position(|name| name == "b").unwrap();
            results.exceptions.push(CaseException {
                index: u32::try_from(index).unwrap(),
                status: CaseStatus::Skipped,
                message: String::new(),
            });
            (EXIT_0, results)
        }
        _ => (EXIT_0, cases(&["a", "c"], &[])),
    });
    let grid = race.report().grid.unwrap();
    assert_eq!(rows(&grid), [("b", "F--".to_owned(), 1)]);
}

#[test]
fn lines_that_go_the_same_way_are_one_row_the_most_first() {
    let values: Vec<String> = (0..20).map(|os| format!("o{os:02}")).collect();
    let axes = format!(
        "{{v: {{values: [1, 2], ordered: true}}, os: [{}]}}",
        values.join(", ")
    );
    let grid = grid(&matrix(&axes, ""), |values, _| {
        match (values["os"], values["v"]) {
            ("o07", "2") => vec![],
            (_, "2") => vec!["a"],
            ("o07", _) => vec!["a"],
            _ => vec![],
        }
    });
    let grid = grid.unwrap();
    assert_eq!(
        rows(&grid),
        [("a", ".F".to_owned(), 19), ("a", "F.".to_owned(), 1)]
    );
    assert_eq!(grid.rows[0].lines.len(), 12, "they are not all named");
    assert_eq!(grid.rows[1].lines[0]["os"], "o07");
}

#[test]
fn what_is_left_out_of_a_long_one_is_counted() {
    let values: Vec<String> = (0..130).map(|value| value.to_string()).collect();
    let matrix = matrix(&format!("{{v: [{}]}}", values.join(", ")), "");
    let names: Vec<String> = (0..105).map(|case| format!("case-{case:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // Two values fail all cases, and one of them the last case once more.
    let race = Race::run(&matrix, |values, _| match values["v"] {
        "7" | "120" => (EXIT_1, cases(&names, &names)),
        "121" => (EXIT_1, cases(&names, &names[104..])),
        _ => (EXIT_0, cases(&names, &[])),
    });
    let grid = race.report().grid.unwrap();
    assert_eq!(
        grid.values,
        ["7", "120", "121"],
        "only where something fails"
    );
    assert_eq!((grid.more_values, grid.more_cases), (127, 5));
    assert_eq!(grid.rows.len(), 100);
    assert_eq!(
        rows(&grid)[..2],
        [
            ("case-104", "FFF".to_owned(), 1),
            ("case-000", "FF.".to_owned(), 1)
        ]
    );
}
