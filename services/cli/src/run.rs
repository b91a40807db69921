//! `run` and `submit`: a matrix from its file to its report. May not: know how attempts are made.

use std::path::PathBuf;
use std::process::ExitCode;

use regatta_model::report::{Conclusion, Report};
use regatta_model::run::{RunSummary, Submission};

use crate::args::{Format, RunArgs, SubmitArgs};
use crate::client::Client;
use crate::context::{Context, Failure};
use crate::image;
use crate::local::{self, Need};
use crate::pin::{self, Source};
use crate::render::{Look, render};
use crate::watch::{self, Watched};

/// Runs a matrix here (or on the named server) and reports.
pub(crate) async fn run(context: &Context, options: RunArgs) -> Result<ExitCode, Failure> {
    let files = report_files(&options.report)?;
    let source = narrowed(pin::read(context, &options.file)?, &options.only)?;
    let slots = options.jobs.unwrap_or_else(processors);
    let key = uuid::Uuid::new_v4().to_string();
    let work =
        async |client: &Client| submit_and_watch(context, client, &source, &key, &files).await;
    local::with(context, Need::Attempts(slots), work).await
}

/// Hands a matrix to a server.
pub(crate) async fn submit(context: &Context, options: SubmitArgs) -> Result<ExitCode, Failure> {
    let files = report_files(&options.report)?;
    let source = narrowed(pin::read(context, &options.file)?, &options.only)?;
    if context.global.server.is_none() {
        return Err(Failure::wrong(
            "submit needs a server: name one with --server or REGATTA_SERVER, or use `regatta run`, which needs none",
        ));
    }
    let key = uuid::Uuid::new_v4().to_string();
    let work = async |client: &Client| {
        if options.watch {
            return submit_and_watch(context, client, &source, &key, &files).await;
        }
        let run = hand_in(context, client, &source, &key).await?;
        if context.global.json {
            crate::runs::print_json(&run)?;
        } else {
            anstream::println!("{}", run.run);
        }
        Ok(ExitCode::SUCCESS)
    };
    local::with(context, Need::Records, work).await
}

/// As many attempts at once as there are processors.
pub(crate) fn processors() -> u32 {
    std::thread::available_parallelism()
        .ok()
        .and_then(|n| u32::try_from(n.get()).ok())
        .unwrap_or(1)
}

/// The same matrix over the values that `--only` names.
fn narrowed(mut source: Source, only: &[String]) -> Result<Source, Failure> {
    if only.is_empty() {
        return Ok(source);
    }
    let mut wanted = Vec::new();
    for text in only {
        let (axis, values) = crate::context::key_value("only", text)?;
        wanted.push((
            axis.to_owned(),
            values.split(',').map(str::to_owned).collect::<Vec<_>>(),
        ));
    }
    source.matrix = source
        .matrix
        .only(&wanted)
        .map_err(|errors| Failure::wrong(errors.render(false)))?;
    source.text = source.matrix.to_json().to_string();
    Ok(source)
}

async fn submit_and_watch(
    context: &Context,
    client: &Client,
    source: &Source,
    key: &str,
    files: &[(Format, PathBuf)],
) -> Result<ExitCode, Failure> {
    let run = hand_in(context, client, source, key).await?;
    context.say(format!("run {}: {} cells", run.run, run.progress.cells));
    let watched = watch::watch(context, client, run.run.as_str()).await?;
    finish(context, client, run.run.as_str(), files, watched).await
}

/// Pins, brings (where the server does not share this machine's images) and submits. With the same key, the second
/// submission is the first one.
pub(crate) async fn hand_in(
    context: &Context,
    client: &Client,
    source: &Source,
    key: &str,
) -> Result<RunSummary, Failure> {
    let local = context.is_local();
    let pins = pin::pin(context, source, local).await?;
    if !local {
        image::bring(context, client.place(), &pins).await?;
    }
    let submission = Submission {
        matrix: source.text.clone(),
        file: source.file.clone(),
        pins,
    };
    // A lost answer is asked for again.
    match client.submit(&submission, key).await {
        Err(failure) if failure.is_unreachable() => client.submit(&submission, key).await,
        result => result,
    }
}

/// `FORMAT=PATH`
fn report_files(options: &[String]) -> Result<Vec<(Format, PathBuf)>, Failure> {
    let parse = |text: &String| {
        let (format, path) = crate::context::key_value("report", text)?;
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
pub(crate) fn show(context: &Context, report: &Report) {
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
