//! The table in the documentation and the tests say the same.

use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../ops/docs/isolation.md");

const SOURCES: [&str; 8] = [
    include_str!("leftovers.rs"),
    include_str!("limits.rs"),
    include_str!("links.rs"),
    include_str!("namespaces.rs"),
    include_str!("places.rs"),
    include_str!("powers.rs"),
    include_str!("process.rs"),
    include_str!("v2.rs"),
];

#[test]
fn every_row_of_the_table_is_a_test_and_every_test_a_row() {
    let rows: Vec<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let tests = SOURCES.iter().flat_map(|source| {
        let after = source.split("#[test]\n").skip(1);
        after.filter_map(|text| text.trim_start().strip_prefix("fn ")?.split_once('('))
    });
    let tests: BTreeSet<&str> = tests.map(|(name, _)| name).collect();
    assert_eq!(rows.iter().copied().collect::<BTreeSet<_>>(), tests);
    assert_eq!(rows.len(), tests.len(), "a row stands twice");
    assert!(rows.len() >= 30, "{}", rows.len());
}
