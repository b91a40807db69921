//! Runs that were submitted: list, status, watch, cancel, rerun, report, logs, artifacts. May not: keep a state of
//! its own; it shows what the server answers.

use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use regatta_model::report::{AttemptReport, CellReport};
use regatta_model::run::RunSummary;
use regatta_model::wait::Explanation;
use regatta_model::wire::Artifact;

use crate::args::{ArtifactsArgs, Format, LogsArgs, ReportArgs, RerunArgs, StatusArgs};
use crate::client::Client;
use crate::context::{Context, Failure};
use crate::local::{self, Need, processors};
use crate::output::{finish, print_json, terminal_width, whole};
use crate::progress::seconds;
use crate::render::{Look, render};
use crate::watch;

/// The run's id; `last` is the newest run's.
pub(crate) async fn resolve(client: &Client, run: &str) -> Result<String, Failure> {
    if run != "last" {
        return Ok(run.to_owned());
    }
    let runs: Vec<RunSummary> = client.get("api/v1/runs?limit=1").await?;
    let newest = runs
        .first()
        .ok_or_else(|| Failure::wrong("there is no run yet: `regatta run FILE` makes one"))?;
    Ok(newest.run.to_string())
}

pub(crate) async fn list(context: &Context) -> Result<ExitCode, Failure> {
    let work = async |client: &Client| client.get::<Vec<RunSummary>>("api/v1/runs").await;
    let runs = local::with(context, Need::Records, work).await?;
    if context.global.json {
        print_json(&runs)?;
        return Ok(ExitCode::SUCCESS);
    }
    if runs.is_empty() {
        context.say("no runs yet: `regatta run FILE` makes one");
        return Ok(ExitCode::SUCCESS);
    }
    anstream::println!(
        "{:<38}{:<24}{:<11}{:>12}{:>9}  {}",
        "RUN",
        "NAME",
        "STATE",
        "CELLS",
        "FAILING",
        "SUBMITTED"
    );
    for run in runs {
        let cells = format!("{}/{}", run.progress.settled, run.progress.cells);
        anstream::println!(
            "{:<38}{:<24}{:<11}{cells:>12}{:>9}  {}",
            run.run,
            run.name,
            run.state.name(),
            run.progress.failing,
            moment(run.submitted_ms)
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// A moment as RFC 3339 has it, in UTC, to the second.
fn moment(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| "?".to_owned(), |moment| moment.to_string())
}

/// Where a run stands, and what it waits for where somebody asked.
#[derive(serde::Serialize)]
struct Status {
    #[serde(flatten)]
    run: RunSummary,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Explanation>,
}

pub(crate) async fn status(context: &Context, options: &StatusArgs) -> Result<ExitCode, Failure> {
    let work = async |client: &Client| {
        let run = client.run(&resolve(client, &options.run).await?).await?;
        let explanation = if options.explain {
            Some(client.explain(run.run.as_str()).await?)
        } else {
            None
        };
        Ok(Status { run, explanation })
    };
    let status = local::with(context, Need::Records, work).await?;
    if context.global.json {
        print_json(&status)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Status { run, explanation } = status;
    let progress = run.progress;
    anstream::println!("run        {}", run.run);
    anstream::println!("name       {}", run.name);
    let looking = if run.bisecting {
        ", and looked into further"
    } else if run.deep && !run.state.is_over() {
        ", with what was unresolved"
    } else {
        ""
    };
    anstream::println!("state      {}{looking}", run.state.name());
    anstream::println!("submitted  {}", moment(run.submitted_ms));
    if let Some(ended) = run.ended_ms {
        let took = Duration::from_millis(ended.saturating_sub(run.submitted_ms));
        anstream::println!("took       {}", seconds(took.as_secs_f64()));
    }
    anstream::println!(
        "cells      {} settled of {}, {} failing",
        progress.settled,
        progress.cells,
        progress.failing
    );
    anstream::println!(
        "attempts   {} running, {} ended",
        progress.running,
        progress.attempts
    );
    if let Some(explanation) = explanation {
        anstream::println!("waiting    {} cells", explanation.cells);
        for wait in explanation.waits {
            anstream::println!("           {wait}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn watch(context: &Context, run: &str) -> Result<ExitCode, Failure> {
    let work = async |client: &Client| {
        let id = resolve(client, run).await?;
        let watched = watch::watch(context, client, &id).await?;
        finish(context, client, &id, &[], watched).await
    };
    local::with(context, Need::Attempts(processors()), work).await
}

pub(crate) async fn cancel(context: &Context, run: &str) -> Result<ExitCode, Failure> {
    let work = async |client: &Client| {
        let id = resolve(client, run).await?;
        let before = client.run(&id).await?;
        if !before.state.is_over() || before.bisecting {
            client.post(&format!("api/v1/runs/{id}/cancel")).await?;
        }
        Ok((before, client.run(&id).await?))
    };
    let (before, after) = local::with(context, Need::Records, work).await?;
    if context.global.json {
        print_json(&after)?;
    }
    if before.deep && !before.state.is_over() {
        context.say(format!(
            "run {} runs on no further with what was unresolved",
            before.run
        ));
    } else if before.bisecting {
        context.say(format!("run {} is not looked into any further", before.run));
    } else if before.state.is_over() {
        context.say(format!(
            "run {} was {} before",
            before.run,
            before.state.name()
        ));
    } else {
        context.say(format!("run {} is cancelled", before.run));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn rerun(context: &Context, options: &RerunArgs) -> Result<ExitCode, Failure> {
    let key = uuid::Uuid::new_v4().to_string();
    let work = async |client: &Client| {
        let id = resolve(client, &options.run).await?;
        let path = format!(
            "api/v1/runs/{id}/rerun?failed={}&until_resolved={}",
            options.failed, options.until_resolved
        );
        let body = client.post_once(&path, &key).await?;
        let run: RunSummary = serde_json::from_slice(&body).map_err(Failure::platform)?;
        if !context.is_local() {
            if context.global.json {
                print_json(&run)?;
            } else {
                anstream::println!("{}", run.run);
            }
            return Ok(ExitCode::SUCCESS);
        }
        context.say(crate::run::started(&run));
        let watched = watch::watch(context, client, run.run.as_str()).await?;
        finish(context, client, run.run.as_str(), &[], watched).await
    };
    local::with(context, Need::Attempts(processors()), work).await
}

pub(crate) async fn report(context: &Context, options: &ReportArgs) -> Result<ExitCode, Failure> {
    let format = if context.global.json {
        Format::Json
    } else {
        options.format
    };
    let work = async |client: &Client| {
        let run = resolve(client, &options.run).await?;
        let report = match &options.against {
            None => client.report(&run).await?,
            Some(other) => {
                let other = resolve(client, other).await?;
                client.report_against(&run, &other).await?
            }
        };
        whole(context, client, report, &[format]).await
    };
    let report = local::with(context, Need::Records, work).await?;
    if let Some(path) = &options.output {
        std::fs::write(path, render(&report, format, Look::plain())).map_err(|error| {
            Failure::platform(format!("cannot write {}: {error}", path.display()))
        })?;
    } else {
        let look = Look {
            paint: context.paint(),
            width: terminal_width(),
        };
        anstream::print!("{}", render(&report, format, look));
    }
    Ok(ExitCode::SUCCESS)
}

/// How often an attempt that has not ended is asked for.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn logs(context: &Context, options: &LogsArgs) -> Result<ExitCode, Failure> {
    use std::io::Write as _;
    // Whoever waits for an attempt wants it run.
    let need = if options.follow {
        Need::Attempts(processors())
    } else {
        Need::Records
    };
    let log = local::with(context, need, async |client: &Client| {
        log(client, options).await
    })
    .await?;
    // A log's bytes are shown as they are: whoever asks for a log wants its colours.
    std::io::stdout().lock().write_all(&log)?;
    Ok(ExitCode::SUCCESS)
}

async fn log(client: &Client, options: &LogsArgs) -> Result<Vec<u8>, Failure> {
    let id = resolve(client, &options.run).await?;
    loop {
        // Asked before the log, so that an attempt that ends in between is not missed.
        let over = client.run(&id).await?.state.is_over();
        let attempt = match options.attempt {
            Some(attempt) => Some((shard_of(options.cell, options.shard)?, attempt)),
            None => telling_attempt(client, &id, options.cell, options.shard).await?,
        };
        let log = match attempt {
            Some((cell, attempt)) => {
                client
                    .bytes(&format!(
                        "api/v1/runs/{id}/cells/{cell}/attempts/{attempt}/log"
                    ))
                    .await
            }
            None => Err(Failure::wrong(format!(
                "no attempt of cell {} of run {id} has ended; --follow waits for one",
                options.cell
            ))),
        };
        if log.is_ok() || over || !options.follow {
            return log;
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

/// The number of a cell's shard, which is counted from 1.
fn shard_of(cell: u64, shard: Option<u32>) -> Result<u64, Failure> {
    let before = u64::from(shard.unwrap_or(1)).checked_sub(1);
    let number = before.and_then(|before| cell.checked_add(before));
    number.ok_or_else(|| Failure::wrong("--shard: shards are counted from 1"))
}

/// Number and ordinal of the attempt that somebody means who names none: the last one; of a cell in shards, the last one that
/// failed, of whichever shard, where one did.
async fn telling_attempt(
    client: &Client,
    run: &str,
    cell: u64,
    shard: Option<u32>,
) -> Result<Option<(u64, u32)>, Failure> {
    let path = format!("api/v1/runs/{run}/cells/{cell}");
    let report: CellReport = client.get(&path).await?;
    let number = |attempt: &AttemptReport| shard_of(report.cell, attempt.shard);
    // Somebody may name a shard by its own number.
    let own = match shard {
        None if cell == report.cell => None,
        shard => Some(shard_of(cell, shard)?),
    };
    let mut attempts = Vec::new();
    for attempt in &report.attempts {
        let number = number(attempt)?;
        if own.is_none_or(|own| own == number) {
            attempts.push((number, attempt));
        }
    }
    let failed = |(_, attempt): &&(u64, &AttemptReport)| attempt.shard.is_some() && !attempt.passed;
    let last = attempts.iter().rfind(failed).or(attempts.last());
    Ok(last.map(|(number, attempt)| (*number, attempt.attempt)))
}

pub(crate) async fn artifacts(
    context: &Context,
    options: &ArtifactsArgs,
) -> Result<ExitCode, Failure> {
    let work = async |client: &Client| fetch_artifacts(context, client, options).await;
    local::with(context, Need::Records, work).await
}

async fn fetch_artifacts(
    context: &Context,
    client: &Client,
    options: &ArtifactsArgs,
) -> Result<ExitCode, Failure> {
    let id = resolve(client, &options.run).await?;
    let Some((cell, attempt)) = telling_attempt(client, &id, options.cell, options.shard).await?
    else {
        return Err(Failure::wrong(format!(
            "no attempt of cell {} of run {id} has ended",
            options.cell
        )));
    };
    let base = format!("api/v1/runs/{id}/cells/{cell}/attempts/{attempt}/artifacts");
    let artifacts: Vec<Artifact> = client.get(&base).await?;
    let Some(output) = &options.output else {
        if context.global.json {
            print_json(&artifacts)?;
        } else {
            for artifact in &artifacts {
                anstream::println!("{:>12}  {}", artifact.bytes, artifact.path);
            }
        }
        return Ok(ExitCode::SUCCESS);
    };
    for artifact in &artifacts {
        let target = below(output, &artifact.path)?;
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(
            &target,
            client
                .bytes(&format!("{base}/{}", path_segments(&artifact.path)))
                .await?,
        )?;
        context.say(target.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// A path below a directory; one that would leave it is refused, whoever names it.
fn below(directory: &Path, path: &str) -> Result<PathBuf, Failure> {
    let inner = Path::new(path);
    if path.is_empty()
        || !inner
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
    {
        return Err(Failure::platform(format!(
            "the server names an artifact {path:?}, which would leave the directory"
        )));
    }
    Ok(directory.join(inner))
}

/// A path as a URL has it: each part percent-encoded, the slashes kept.
fn path_segments(path: &str) -> String {
    let encode = |part: &str| -> String {
        part.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    char::from(byte).to_string()
                }
                byte => format!("%{byte:02X}"),
            })
            .collect()
    };
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_cannot_leave_its_directory() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "."] {
            assert!(below(Path::new("out"), path).is_err(), "{path}");
        }
        assert_eq!(
            below(Path::new("out"), "a/b.log").unwrap(),
            Path::new("out/a/b.log")
        );
        assert_eq!(path_segments("a b/ü?.log"), "a%20b/%C3%BC%3F.log");
    }
}
