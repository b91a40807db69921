//! Axes whose values are commits: whoever reads the matrix is asked for them, and what comes of it is a plain matrix.

use std::collections::BTreeMap;

use regatta_model::matrix::{About, Commit, CommitRange, Matrix, NoCommits};

/// A repository `./boat` with five commits.
pub fn look(asked: &CommitRange) -> Result<Vec<Commit>, NoCommits> {
    let wrong = |about, message: &str| NoCommits {
        about,
        message: message.to_owned(),
        note: Some("git says: nothing".into()),
        help: Some("look elsewhere".into()),
    };
    if asked.repository != "./boat" {
        return Err(wrong(About::Repository, "there is no repository"));
    }
    let all = ["keel", "mast", "sail", "oar", "flag"];
    let place = |revision: &str, about| {
        let revision = if revision == "HEAD" { "flag" } else { revision };
        let place = all.iter().position(|commit| *commit == revision);
        place.ok_or_else(|| wrong(about, "there is no such commit"))
    };
    let (first, last) = (
        place(&asked.first, About::First)?,
        place(&asked.last, About::Last)?,
    );
    if first >= last {
        return Err(wrong(About::Range, "the range is empty"));
    }
    let commits = all[first..=last].iter().map(|name| Commit {
        value: format!("0{name}"),
        title: if *name == "oar" {
            String::new()
        } else {
            format!("Add the {name}: ${{{{ x }}}}")
        },
    });
    Ok(commits.collect())
}

const BOAT: &str = r#"
image: "boat:${{ matrix.crew }}"
axes:
  commit: {git: ./boat, range: mast.., every: 7}
  crew: [1, 2]
exclude: [{commit: 0oar, crew: 2}]
files: [{from: ./tests, to: /tests}, {checkout: commit, to: "/src/${{ matrix.crew }}"}]
test: {run: "echo ${{ matrix.commit }}"}
compare: {axis: commit, baseline: previous}
"#;

fn boat() -> Matrix {
    Matrix::parse_with(BOAT, "boat.yaml", &mut look).unwrap_or_else(|wrong| panic!("{wrong}"))
}

#[test]
fn commits_become_values_in_order_and_checkouts_sources_of_files() {
    let mut asked = Vec::new();
    let mut looked = |range: &CommitRange| {
        asked.push(range.clone());
        look(range)
    };
    let matrix = Matrix::parse_with(BOAT, "boat.yaml", &mut looked).unwrap();
    let range = CommitRange {
        repository: "./boat".into(),
        first: "mast".into(),
        last: "HEAD".into(),
        every: 7,
    };
    assert_eq!(asked, std::slice::from_ref(&range));
    let axis = &matrix.axes()[0];
    assert!(axis.ordered);
    assert_eq!(axis.values, ["0mast", "0sail", "0oar", "0flag"]);
    assert_eq!(axis.named("0sail"), r#"0sail ("Add the sail: ${{ x }}")"#);
    assert_eq!(axis.named("0oar"), "0oar");
    assert_eq!(matrix.cells().count(), 7);

    let values = BTreeMap::from([
        ("commit".into(), "0sail".into()),
        ("crew".into(), "2".into()),
    ]);
    let cell = matrix.cells().number(&values).unwrap();
    let sources = matrix.file_sources(10).unwrap();
    let digest = |text: &String| (text.clone(), regatta_model::Digest::of(text.as_bytes()));
    let pins = regatta_model::run::Pins {
        images: matrix.images(10).unwrap().iter().map(digest).collect(),
        files: sources.iter().map(digest).collect(),
        ..Default::default()
    };
    let plan = matrix.plan(cell, &pins).unwrap();
    assert_eq!(plan.files[1].blob, pins.files[&range.source("0sail")]);
    assert_eq!(plan.files[1].to, "/src/2");
    assert_eq!(sources.len(), 5, "{sources:?}");
}

#[test]
fn what_is_submitted_says_nothing_of_a_repository() {
    let matrix = boat();
    let sent = matrix.to_json();
    let again = Matrix::parse(&sent.to_string(), "boat.yaml").unwrap();
    assert_eq!(again, matrix);
    assert_eq!(again.axes()[0].titles, matrix.axes()[0].titles);
    let fewer = again.only(&[("commit".into(), vec!["0flag".into()])]);
    assert_eq!(
        fewer.unwrap().axes()[0].named("0flag"),
        r#"0flag ("Add the flag: ${{ x }}")"#
    );
    let schema = jsonschema::validator_for(&Matrix::schema()).unwrap();
    assert!(schema.is_valid(&sent), "{sent}");
}

#[test]
fn the_schema_takes_commits_as_they_are_written() {
    let schema = jsonschema::validator_for(&Matrix::schema()).unwrap();
    let matrix = |axis: &str, file: &str| -> serde_json::Value {
        let text = format!(
            r#"{{"image": "i", "axes": {{"commit": {axis}}}, "files": [{file}], "test": {{"run": "x"}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    let boat = r#"{"git": "./boat", "range": "keel..flag"}"#;
    let checkout = r#"{"checkout": "commit", "to": "/src"}"#;
    let good = [
        (boat, checkout),
        (
            r#"{"git": "./boat", "range": "keel..", "every": 2, "ordered": true}"#,
            checkout,
        ),
    ];
    let wrong = [
        (r#"{"git": "./boat"}"#, checkout),
        (r#"{"range": "keel..flag"}"#, checkout),
        (
            r#"{"git": "./boat", "range": "keel..flag", "every": 0}"#,
            checkout,
        ),
        (
            r#"{"git": "./boat", "range": "keel..flag", "values": ["1"]}"#,
            checkout,
        ),
        (boat, r#"{"checkout": "commit"}"#),
        (boat, r#"{"checkout": "commit", "from": "x", "to": "/src"}"#),
    ];
    for (cases, fits) in [(&good[..], true), (&wrong[..], false)] {
        for (axis, file) in cases {
            let matrix = matrix(axis, file);
            assert_eq!(schema.is_valid(&matrix), fits, "{matrix}");
            let parsed = Matrix::parse_with(&matrix.to_string(), "m", &mut look);
            assert_eq!(parsed.is_ok(), fits, "{matrix}: {parsed:?}");
        }
    }
}
