//! `run` and `submit`: a matrix from its file to its report. May not: know how attempts are made.

use std::path::PathBuf;
use std::process::ExitCode;

use regatta_model::run::{Pins, RunSummary, Submission};

use crate::args::{Format, RunArgs, SubmitArgs};
use crate::client::Client;
use crate::context::{Context, Failure};
use crate::git::Which;
use crate::image;
use crate::local::{self, Need, processors};
use crate::output::{finish, print_json, report_files};
use crate::pin::{self, Source};
use crate::watch;

/// Runs a matrix here (or on the named server) and reports.
pub(crate) async fn run(context: &Context, options: RunArgs) -> Result<ExitCode, Failure> {
    let files = report_files(&options.report)?;
    let source = narrowed(
        pin::read(context, &options.file, Which::Chosen)?,
        &options.only,
    )?;
    let slots = options.jobs.unwrap_or_else(processors);
    let key = uuid::Uuid::new_v4().to_string();
    let work =
        async |client: &Client| submit_and_watch(context, client, &source, &key, &files).await;
    local::with(context, Need::Attempts(slots), work).await
}

/// Hands a matrix to a server.
pub(crate) async fn submit(context: &Context, options: SubmitArgs) -> Result<ExitCode, Failure> {
    let files = report_files(&options.report)?;
    let source = narrowed(
        pin::read(context, &options.file, Which::Chosen)?,
        &options.only,
    )?;
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
            print_json(&run)?;
        } else {
            anstream::println!("{}", run.run);
        }
        Ok(ExitCode::SUCCESS)
    };
    local::with(context, Need::Records, work).await
}

/// The same matrix over the values that `--only` names.
fn narrowed(mut source: Source, only: &[String]) -> Result<Source, Failure> {
    if only.is_empty() {
        return Ok(source);
    }
    let mut wanted = Vec::new();
    for text in only {
        let (axis, values) = crate::context::key_value(
            "only",
            text,
            "AXIS=VALUE[,VALUE], like --only python=3.10,3.13",
        )?;
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

/// `run 01m8...: 12 cells`
pub(crate) fn started(run: &RunSummary) -> String {
    let cells = run.progress.cells;
    format!(
        "run {}: {cells} cell{}",
        run.run,
        if cells == 1 { "" } else { "s" }
    )
}

async fn submit_and_watch(
    context: &Context,
    client: &Client,
    source: &Source,
    key: &str,
    files: &[(Format, PathBuf)],
) -> Result<ExitCode, Failure> {
    let run = hand_in(context, client, source, key).await?;
    context.say(started(&run));
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
    let pins = ready(context, client, source, &Pins::default()).await?;
    give(client, source, pins, key).await
}

/// Pins what of a matrix is not `known`, and brings it where the server does not share this machine's images.
pub(crate) async fn ready(
    context: &Context,
    client: &Client,
    source: &Source,
    known: &Pins,
) -> Result<Pins, Failure> {
    let local = context.is_local();
    if !local {
        // Before images are built and brought for a server that is not there.
        client.bytes("readyz").await?;
    }
    let pins = pin::pin(context, source, local, known).await?;
    if !local {
        image::bring(context, client, &pins).await?;
    }
    Ok(pins)
}

/// Submits a matrix that is ready. With the same key, the second submission is the first one.
pub(crate) async fn give(
    client: &Client,
    source: &Source,
    pins: Pins,
    key: &str,
) -> Result<RunSummary, Failure> {
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
