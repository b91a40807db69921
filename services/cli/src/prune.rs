//! `prune`: runs that ended long ago go. May not: choose them; the server does.

use std::process::ExitCode;

use regatta_model::matrix::{parse_bytes, parse_duration_ms};
use regatta_model::run::RunSummary;
use serde::{Deserialize, Serialize};

use crate::args::PruneArgs;
use crate::client::Client;
use crate::context::{Context, Failure, quantity};
use crate::local::{self, Need};

/// What `POST /api/v1/prune` answers.
#[derive(Debug, Serialize, Deserialize)]
struct Pruned {
    runs: u64,
    gone: Vec<RunSummary>,
    database_bytes: u64,
}

pub(crate) async fn prune(context: &Context, options: &PruneArgs) -> Result<ExitCode, Failure> {
    let age = options.older_than.as_deref();
    let age = quantity("older-than", age, "a time like 30d", parse_duration_ms)?;
    let size = options.down_to.as_deref();
    let size = quantity("down-to", size, "a size like 10GiB", parse_bytes)?;
    let mut path = format!("api/v1/prune?dry_run={}", options.dry_run);
    if let Some(age) = age {
        path = format!("{path}&older_than={}", age.div_ceil(1000));
    }
    if let Some(size) = size {
        path = format!("{path}&down_to={size}");
    }
    let work = async |client: &Client| client.post(&path).await;
    let answer = local::with(context, Need::Records, work).await?;
    let pruned: Pruned = serde_json::from_slice(&answer).map_err(|error| {
        Failure::platform(format!("the server's answer is not understood: {error}"))
    })?;
    if context.global.json {
        crate::output::print_json(&pruned)?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.dry_run {
        for run in &pruned.gone {
            anstream::println!(
                "{}  {:<32}{} attempts",
                run.run,
                run.name,
                run.progress.attempts
            );
        }
    }
    let what = if options.dry_run { "would go" } else { "went" };
    let runs = if pruned.runs == 1 { "run" } else { "runs" };
    context.say(format!(
        "{} {runs} {what}; the database has {}",
        pruned.runs,
        crate::image::bytes(pruned.database_bytes)
    ));
    Ok(ExitCode::SUCCESS)
}
