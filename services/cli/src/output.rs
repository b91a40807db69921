//! What commands leave behind: one JSON document, or a report on the terminal and in files, and the exit status that says
//! what it concludes. May not: write progress or diagnostics; those go to standard error.

use std::path::PathBuf;
use std::process::ExitCode;

use regatta_model::report::{Conclusion, Report};
use serde::Serialize;

use crate::args::Format;
use crate::client::Client;
use crate::context::{Context, Failure};
use crate::render::{Look, render};
use crate::watch::Watched;

/// One JSON document on standard output.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::platform)?;
    anstream::println!("{text}");
    Ok(())
}

/// `FORMAT=PATH`
pub(crate) fn report_files(options: &[String]) -> Result<Vec<(Format, PathBuf)>, Failure> {
    let parse = |text: &String| {
        let (format, path) = crate::context::key_value(
            "report",
            text,
            "FORMAT=PATH, like --report junit=report.xml",
        )?;
        let format = <Format as clap::ValueEnum>::from_str(format, true).map_err(|_| {
            Failure::wrong(format!(
                "--report {text}: expected text, json, junit, markdown, html or csv before the ="
            ))
        })?;
        Ok((format, PathBuf::from(path)))
    };
    options.iter().map(parse).collect()
}

/// Prints and writes the report of a run that was watched; the exit status says what it concludes.
pub(crate) async fn finish(
    context: &Context,
    client: &Client,
    run: &str,
    files: &[(Format, PathBuf)],
    watched: Watched,
) -> Result<ExitCode, Failure> {
    let report = client.report(run).await?;
    for (format, path) in files {
        std::fs::write(path, render(&report, *format, Look::plain())).map_err(|error| {
            Failure::platform(format!(
                "cannot write the report to {}: {error}",
                path.display()
            ))
        })?;
    }
    show(context, &report);
    Ok(match watched {
        Watched::Interrupted => ExitCode::from(130),
        Watched::Over => ExitCode::from(status(&report)),
    })
}

/// Prints a report on standard output, as the terminal allows.
fn show(context: &Context, report: &Report) {
    let format = if context.global.json {
        Format::Json
    } else {
        Format::Text
    };
    let width = terminal_width();
    anstream::print!(
        "{}",
        render(
            report,
            format,
            Look {
                paint: context.paint(),
                width
            }
        )
    );
}

/// Columns of standard output's terminal; of a pipe, enough for most grids.
pub(crate) fn terminal_width() -> usize {
    match std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok())
    {
        Some(columns) => columns,
        None => terminal_size::terminal_size().map_or(120, |(width, _)| usize::from(width.0)),
    }
}

/// The exit status that a conclusion has.
fn status(report: &Report) -> u8 {
    match report.conclusion {
        Conclusion::Passed => 0,
        Conclusion::Failed | Conclusion::Regressed => 1,
        Conclusion::Unresolved => 3,
        Conclusion::Cancelled => 130,
    }
}
