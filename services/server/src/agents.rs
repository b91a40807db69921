//! `POST /api/v1/agents/sync`. May not: decide what an agent hears.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use regatta_model::case::ToldResults;
use regatta_model::wire::{SYNC_BYTES_MOST, SyncRequest};
use tokio::time::Instant;

use crate::answer::{Answer, json};
use crate::app::App;
use crate::{body, check};

pub(crate) async fn sync(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let request: SyncRequest<ToldResults> =
        body::json(&headers, body, SYNC_BYTES_MOST, "SYNC_BYTES_MOST").await?;
    // They hold on to the buffer that they were read into, and the answer may take long.
    drop(headers);
    let begun = Instant::now();
    let leader = app.leader().await?;
    let sets = app.sets.named(app.store.as_ref(), &request.ended).await;
    let (synced, unknown_sets) = check::sync(request, sets)?;
    let mut answer = leader.sync(synced).await?;
    answer.response.takes_sets = true;
    answer.response.takes_generations = true;
    answer.response.direct_from = app.direct_from;
    answer.response.unknown_sets = unknown_sets;
    let took = begun.elapsed().saturating_sub(answer.waited);
    app.metrics.sync_seconds.observe(took.as_secs_f64());
    Ok(json(StatusCode::OK, &answer.response))
}
