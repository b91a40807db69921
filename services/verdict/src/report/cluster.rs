//! Cases that fail in one way, put together: one cause is one line, not four hundred. May not: drop a case from its finding.

use std::collections::BTreeMap;

use regatta_model::CellNumber;
use regatta_model::report::Cluster;

use super::Builder;
use super::case::CaseId;
use crate::excerpt;

/// Most clusters of a finding; further ones are counted in the last.
const CLUSTERS_MOST: usize = 20;

/// Most names that a cluster lists.
const CASES_MOST: usize = 20;

/// Longest signature, in bytes.
const SIGNATURE_MOST: usize = 240;

/// Most cells in which messages are looked for.
const CELLS_MOST: usize = 1000;

/// The cases of a finding by what their messages have in common, the most frequent first. Nothing where there is but one
/// case.
pub(super) fn clusters(
    builder: &Builder<'_>,
    cells: &[CellNumber],
    cases: &[CaseId],
) -> Vec<Cluster> {
    if cases.len() < 2 {
        return Vec::new();
    }
    let cells: Vec<_> = cells
        .iter()
        .take(CELLS_MOST)
        .filter_map(|cell| builder.cells.get(cell))
        .collect();
    let mut found: BTreeMap<String, Vec<CaseId>> = BTreeMap::new();
    for case in cases {
        let message = cells.iter().find_map(|cell| cell.messages.get(case));
        let signature = message.map_or_else(String::new, |message| signature(message));
        found.entry(signature).or_default().push(*case);
    }
    let mut found: Vec<(String, Vec<CaseId>)> = found.into_iter().collect();
    found.sort_by(|one, other| other.1.len().cmp(&one.1.len()).then(one.0.cmp(&other.0)));
    let rest = found.split_off(found.len().min(CLUSTERS_MOST));
    if !rest.is_empty() {
        let cases = rest.into_iter().flat_map(|(_, cases)| cases).collect();
        found.push(("(other messages)".to_owned(), cases));
    }
    let cluster = |(signature, cases): (String, Vec<CaseId>)| Cluster {
        signature: if signature.is_empty() {
            "(without a message)".to_owned()
        } else {
            signature
        },
        count: u64::try_from(cases.len()).unwrap_or(u64::MAX),
        cases: cases
            .iter()
            .take(CASES_MOST)
            .map(|case| builder.cases.name(*case).to_owned())
            .collect(),
    };
    found.into_iter().map(cluster).collect()
}

/// The line of a message that names the error, without what differs from one case to the next: numbers, addresses, the
/// places of files.
fn signature(message: &str) -> String {
    let mut lines = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let names = |line: &&str| {
        let line = line.trim_start_matches("E ").trim_start();
        let word = line.split([':', ' ']).next();
        word.is_some_and(|word| word.ends_with("Error") || word.ends_with("Exception"))
    };
    let first = lines.clone().next().unwrap_or_default();
    let line = lines.find(names).unwrap_or(first);
    let line = line.trim_start_matches("E ").trim_start();
    excerpt::cut(&normalised(line), SIGNATURE_MOST).to_owned()
}

/// Words of digits become `N`, hexadecimal addresses `0xN`, the directories of a path `...`.
fn normalised(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    for (place, word) in line.split(' ').enumerate() {
        if place > 0 {
            plain.push(' ');
        }
        let lead = word.len()
            - word
                .trim_start_matches(['\'', '"', '(', '[', '<', '`'])
                .len();
        let (lead, rest) = word.split_at(lead);
        plain.push_str(lead);
        let rest = match rest.rsplit_once('/') {
            Some((directory, name)) if directory.starts_with('/') => {
                plain.push_str(".../");
                name
            }
            _ => rest,
        };
        if let Some(address) = rest.strip_prefix("0x") {
            let tail = address.trim_start_matches(|c: char| c.is_ascii_hexdigit());
            plain.push_str("0xN");
            plain.push_str(tail);
            continue;
        }
        let mut number = false;
        for letter in rest.chars() {
            let digit = letter.is_ascii_digit();
            if !digit {
                plain.push(letter);
            } else if !number {
                plain.push('N');
            }
            number = digit;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_by_chance_is_left_out_and_what_tells_why_stays() {
        for (message, expected) in [
            (
                "AttributeError: module 'werkzeug' has no attribute '__version__'\ntests/test_cli.py:12",
                "AttributeError: module 'werkzeug' has no attribute '__version__'",
            ),
            (
                "assert 17 == 42\nE  ValueError: 17 is not 42",
                "ValueError: N is not N",
            ),
            (
                "<Thing object at 0x7f3a9c>, in /tmp/tmp_8f2/data.db",
                "<Thing object at 0xN>, in .../data.db",
            ),
            (
                "panicked at src/lib.rs:10:5: left 3",
                "panicked at src/lib.rs:N:N: left N",
            ),
            ("", ""),
        ] {
            assert_eq!(signature(message), expected);
        }
        assert!(signature(&"é".repeat(1000)).len() <= SIGNATURE_MOST);
    }
}
