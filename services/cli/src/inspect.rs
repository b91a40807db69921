//! `check` and `schema`: what a matrix means, without running it. May not: need a data directory.

use std::process::ExitCode;

use regatta_model::matrix::Matrix;
use serde::Serialize;

use crate::args::FileArgs;
use crate::context::{Context, Failure};

#[derive(Serialize)]
struct Checked<'a> {
    name: &'a str,
    cells: u64,
    axes: Vec<CheckedAxis<'a>>,
}

#[derive(Serialize)]
struct CheckedAxis<'a> {
    name: &'a str,
    values: &'a [String],
    ordered: bool,
}

pub(crate) fn check(context: &Context, options: &FileArgs) -> Result<ExitCode, Failure> {
    let source = crate::pin::read(context, &options.file)?;
    let matrix = &source.matrix;
    let axes = matrix.axes().iter().map(|axis| CheckedAxis {
        name: &axis.name,
        values: &axis.values,
        ordered: axis.ordered,
    });
    let checked = Checked {
        name: matrix.name(),
        cells: matrix.cells().count(),
        axes: axes.collect(),
    };
    if context.global.json {
        crate::output::print_json(&checked)?;
        return Ok(ExitCode::SUCCESS);
    }
    anstream::println!(
        "{}: {} cell{}",
        checked.name,
        checked.cells,
        if checked.cells == 1 { "" } else { "s" }
    );
    let width = checked
        .axes
        .iter()
        .map(|axis| axis.name.len())
        .max()
        .unwrap_or(0);
    for axis in &checked.axes {
        let ordered = if axis.ordered { " (ordered)" } else { "" };
        anstream::println!(
            "  {:width$}  {} values{ordered}: {}",
            axis.name,
            axis.values.len(),
            values(axis.values)
        );
    }
    Ok(ExitCode::SUCCESS)
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
