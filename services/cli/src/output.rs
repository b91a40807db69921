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
use crate::watch::{Watched, looked_into};

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
        let path = PathBuf::from(path);
        // Found out now, not when hours of work are to be written there.
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        if path.is_dir() || above.is_some_and(|above| !above.is_dir()) {
            return Err(Failure::wrong(format!(
                "--report {text}: no file can be written to {}: its directory does not exist, or it is one itself",
                path.display()
            )));
        }
        Ok((format, path))
    };
    options.iter().map(parse).collect()
}

/// Most cells that are brought for a format that lists all of them: a file of about 100 MB.
const CELLS_MOST: u64 = 500_000;

/// A large run's report has only cells that did not simply pass. Where a format that lists every cell is asked for, brings
/// the others, too.
pub(crate) async fn whole(
    context: &Context,
    client: &Client,
    mut report: Report,
    formats: &[Format],
) -> Result<Report, Failure> {
    let listed = u64::try_from(report.cells.len()).unwrap_or(u64::MAX);
    let lists = formats
        .iter()
        .any(|format| matches!(format, Format::Junit | Format::Csv));
    if !lists || listed == report.counts.cells {
        return Ok(report);
    }
    if report.counts.cells > CELLS_MOST {
        context.say(format_args!(
            "the run has {} cells, and a file lists {CELLS_MOST} at most (limit CELLS_MOST): JUnit and CSV have only those \
             that did not simply pass; the API pages through all",
            report.counts.cells
        ));
        return Ok(report);
    }
    report.cells.clear();
    loop {
        let after = report.cells.last().map(|cell| cell.cell);
        let page = client.cells(&report.run, after).await?;
        if page.is_empty() {
            return Ok(report);
        }
        report.cells.extend(page);
    }
}

/// Prints and writes the report of a run that was watched; the exit status says what it concludes.
pub(crate) async fn finish(
    context: &Context,
    client: &Client,
    run: &str,
    files: &[(Format, PathBuf)],
    watched: Watched,
) -> Result<ExitCode, Failure> {
    let watched = match watched {
        Watched::Over => looked_into(context, client, run).await?,
        Watched::Interrupted => watched,
    };
    let report = client.report(run).await?;
    let formats: Vec<Format> = files.iter().map(|(format, _)| *format).collect();
    let listing = whole(context, client, report.clone(), &formats).await?;
    for (format, path) in files {
        std::fs::write(path, render(&listing, *format, Look::plain())).map_err(|error| {
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
