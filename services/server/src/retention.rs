//! Runs that are over and old go: first nobody sees them any more, then their rows and blobs are removed a few at a time.
//! May not: touch a run that is not over.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use regatta_model::RunId;
use regatta_model::run::RunSummary;
use regatta_store::{Error, PAGE_MOST, RunHead, Store};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::actor::{ActorHandle, Shared, wall_ms};
use crate::answer::{Answer, Refusal, json};
use crate::app::App;
use crate::limits::{PACK_EVERY, PRUNE_EVERY, SWEEP_EVERY};
use crate::runs::{MaybeQuery, query};

/// Longest age that can be asked for, in seconds: a century.
const AGE_MOST: u64 = 100 * 365 * 24 * 3600;

/// What `POST /api/v1/prune` is asked.
#[derive(Deserialize)]
pub(crate) struct Asked {
    /// Seconds since a run's end.
    older_than: Option<u64>,
    /// Bytes of database below which nothing goes.
    down_to: Option<u64>,
    /// Only tell what would go.
    #[serde(default)]
    dry_run: bool,
}

/// What it answers.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Pruned {
    /// How many runs nobody sees any more, or would not.
    runs: u64,
    /// The first of them, the oldest first; a thousand at most.
    gone: Vec<RunSummary>,
    /// Bytes that the database took before.
    database_bytes: u64,
}

/// Prunes runs by age and by size.
pub(crate) async fn prune(
    State(app): State<Arc<App>>,
    asked: MaybeQuery<Asked>,
) -> Answer<Response> {
    let Asked {
        older_than,
        down_to,
        dry_run,
    } = query(asked)?;
    if older_than.is_none() && down_to.is_none() {
        return Err(Refusal::bad(
            "expected older_than=SECONDS or down_to=BYTES, or both: which runs are to go?",
        ));
    }
    let leader = app.leader().await?;
    let age = Duration::from_secs(older_than.unwrap_or(0).min(AGE_MOST));
    let database_bytes = app.store.bytes().await?;
    let heads = old(app.store.as_ref(), age, down_to, database_bytes).await?;
    let pruned: Vec<RunSummary> = heads.into_iter().map(|head| head.summary).collect();
    let mut runs = u64::try_from(pruned.len()).unwrap_or(u64::MAX);
    if !dry_run {
        let ids = pruned.iter().map(|summary| summary.run.clone()).collect();
        runs = leader.prune(ids).await?;
    }
    let pruned = Pruned {
        runs,
        gone: pruned,
        database_bytes,
    };
    Ok(json(StatusCode::OK, &pruned))
}

/// Runs that ended so long ago, the oldest first; where the database is to become smaller, no more than that takes, by the
/// attempts that they have.
async fn old(
    store: &dyn Store,
    age: Duration,
    down_to: Option<u64>,
    bytes: u64,
) -> Result<Vec<RunHead>, Error> {
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    let mut heads = store
        .over_before(wall_ms().saturating_sub(age), PAGE_MOST)
        .await?;
    if let Some(down_to) = down_to {
        let mut excess = bytes.saturating_sub(down_to);
        let more = heads.iter().take_while(|head| {
            let before = excess;
            excess = excess.saturating_sub(bytes_of(head));
            before > 0
        });
        let count = more.count();
        heads.truncate(count);
    }
    Ok(heads)
}

/// About what a run takes in the database: 200 bytes an attempt, and some kilobytes for its matrix.
fn bytes_of(head: &RunHead) -> u64 {
    8192 + 200 * head.summary.progress.attempts
}

/// Prunes by age now and then, removes what is left of pruned runs, and packs what is left of others, for as long as this
/// server leads.
pub(crate) async fn keep_short(
    shared: Shared,
    leader: ActorHandle,
    epoch: u64,
    end: CancellationToken,
) {
    let work = async {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let every = PRUNE_EVERY.as_secs() / SWEEP_EVERY.as_secs().max(1);
        for round in 0_u64.. {
            sweep.tick().await;
            if let Some(keep) = shared.keep.filter(|_| round % every.max(1) == 0) {
                prune_old(&shared, &leader, keep).await;
            }
            if let Err(error) = sweep_all(&shared, epoch).await {
                tracing::warn!("pruned runs are not removed yet: {error}");
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = pack_all(&shared) => {}
        () = end.cancelled() => {}
    }
}

/// Packs now and then; beside the rest, for it takes its time.
async fn pack_all(shared: &Shared) {
    let mut pack = tokio::time::interval(PACK_EVERY);
    pack.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pack.tick().await;
        match shared.store.pack().await {
            // Another one may be worth it, too.
            Ok(true) => pack.reset_immediately(),
            Ok(false) => {}
            Err(error) => tracing::warn!("what runs left is not packed yet: {error}"),
        }
    }
}

async fn prune_old(shared: &Shared, leader: &ActorHandle, keep: Duration) {
    let heads = match old(shared.store.as_ref(), keep, None, 0).await {
        Ok(heads) => heads,
        Err(error) => return tracing::warn!("old runs are not pruned yet: {error}"),
    };
    if heads.is_empty() {
        return;
    }
    let runs: Vec<RunId> = heads.into_iter().map(|head| head.summary.run).collect();
    match leader.prune(runs).await {
        Ok(count) => tracing::info!("{count} runs that ended long ago are pruned"),
        Err(refusal) => tracing::warn!("old runs are not pruned yet: {}", refusal.detail()),
    }
}

/// Removes all that is left of pruned runs: blobs first, which nobody finds without the run's row.
async fn sweep_all(shared: &Shared, epoch: u64) -> Result<(), Error> {
    for run in shared.store.pruned(PAGE_MOST).await? {
        shared.blobs.delete_run(&run).await?;
        while !shared.store.sweep(epoch, &run).await? {
            tokio::task::yield_now().await;
        }
        tracing::info!("run {run} is removed");
    }
    Ok(())
}
