//! `check` and `schema`: what a matrix means, without running it. May not: need a data directory.

use std::collections::BTreeMap;
use std::process::ExitCode;

use regatta_model::matrix::Matrix;
use serde::Serialize;

use crate::args::CheckArgs;
use crate::context::{Context, Failure};
use crate::git::Which;

#[derive(Serialize)]
struct Checked<'a> {
    name: &'a str,
    cells: u64,
    /// Containers over which the tests of each cell are split.
    #[serde(skip_serializing_if = "Option::is_none")]
    shards: Option<u32>,
    axes: Vec<CheckedAxis<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explained: Option<Explained<'a>>,
}

/// What a matrix leaves to Regatta, in full.
#[derive(Serialize)]
struct Explained<'a> {
    /// Program and arguments of the test.
    test: Vec<String>,
    /// Patterns of result files; none: all that are known.
    results: &'a [String],
}

#[derive(Serialize)]
struct CheckedAxis<'a> {
    name: &'a str,
    values: &'a [String],
    ordered: bool,
    /// What values are to people, such as the subjects of commits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    titles: &'a BTreeMap<String, String>,
}

pub(crate) fn check(context: &Context, options: &CheckArgs) -> Result<ExitCode, Failure> {
    let source = crate::pin::read(context, &options.file, Which::Chosen)?;
    let matrix = &source.matrix;
    let axes = matrix.axes().iter().map(|axis| CheckedAxis {
        name: &axis.name,
        values: &axis.values,
        ordered: axis.ordered,
        titles: &axis.titles,
    });
    let checked = Checked {
        name: matrix.name(),
        cells: matrix.cells().whole(),
        shards: Some(matrix.shards()).filter(|shards| *shards > 1),
        axes: axes.collect(),
        explained: options.explain.then(|| Explained {
            test: matrix.test_command(),
            results: matrix.results(),
        }),
    };
    if context.global.json {
        crate::output::print_json(&checked)?;
        return Ok(ExitCode::SUCCESS);
    }
    anstream::println!(
        "{}: {} cell{}{}",
        checked.name,
        checked.cells,
        if checked.cells == 1 { "" } else { "s" },
        checked
            .shards
            .map_or_else(String::new, |shards| format!(", each in {shards} shards"))
    );
    let width = checked
        .axes
        .iter()
        .map(|axis| axis.name.len())
        .max()
        .unwrap_or(0);
    for axis in &checked.axes {
        let ordered = if axis.ordered { " (ordered)" } else { "" };
        let (name, count) = (axis.name, axis.values.len());
        if axis.titles.is_empty() {
            let values = values(axis.values);
            anstream::println!("  {name:width$}  {count} values{ordered}: {values}");
            continue;
        }
        anstream::println!("  {name:width$}  {count} values{ordered}:");
        for value in axis.values {
            let title = axis.titles.get(value).map_or("", String::as_str);
            anstream::println!("  {:width$}  {value}  {title}", "");
        }
    }
    if let Some(explained) = &checked.explained {
        let words: Vec<String> = explained.test.iter().map(|word| quoted(word)).collect();
        anstream::println!("test runs: {}", words.join(" "));
        let results = match explained.results {
            [] => "all that are found".to_owned(),
            globs => globs.join(", "),
        };
        anstream::println!("results: {results}");
    }
    Ok(ExitCode::SUCCESS)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Values that one line shows before it counts the rest.
const VALUES_SHOWN: usize = 16;

fn values(values: &[String]) -> String {
    let text = values
        .iter()
        .take(VALUES_SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let more = values.len().saturating_sub(VALUES_SHOWN);
    if more == 0 {
        text
    } else {
        format!("{text}, ... {more} more")
    }
}

pub(crate) fn schema() -> Result<ExitCode, Failure> {
    crate::output::print_json(&Matrix::schema())?;
    Ok(ExitCode::SUCCESS)
}
