//! Runs: submit, list, show, cancel, run again. May not: know how a run goes on.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use regatta_model::RunId;
use regatta_model::run::{RunSummary, Submission};
use regatta_store::RunHead;
use serde::Deserialize;

use crate::actor::Rerun;
use crate::answer::{Answer, Refusal, json};
use crate::app::App;
use crate::limits::{RUNS_PAGE, RUNS_PAGE_MOST};
use crate::submit;

/// A run's id in a path.
pub(crate) fn run_id(text: &str) -> Answer<RunId> {
    text.parse()
        .map_err(|error: regatta_model::ids::BadName| Refusal::not_found(error.to_string()))
}

/// A query string's fields.
pub(crate) fn query<T>(
    query: Result<Query<T>, axum::extract::rejection::QueryRejection>,
) -> Answer<T> {
    query
        .map(|Query(query)| query)
        .map_err(|error| Refusal::bad(error.body_text()))
}

pub(crate) type MaybeQuery<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

/// What is recorded of a run, and how many of its attempts run now.
pub(crate) fn summary(app: &App, head: RunHead) -> RunSummary {
    let mut summary = head.summary;
    summary.progress.running = app.live.get(&summary.run).map_or(0, |live| live.running);
    summary
}

pub(crate) async fn head(app: &App, run: &RunId) -> Answer<RunHead> {
    let head = app.store.head(run).await?;
    head.ok_or_else(|| {
        Refusal::not_found(format!("there is no run {run}; `regatta runs` lists them"))
    })
}

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    limit: Option<u32>,
    before: Option<String>,
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    asked: MaybeQuery<ListQuery>,
) -> Answer<Response> {
    let asked = query(asked)?;
    let limit = asked.limit.unwrap_or(RUNS_PAGE);
    if limit == 0 || limit > RUNS_PAGE_MOST {
        return Err(Refusal::bad(format!(
            "limit={limit}: expected 1 to {RUNS_PAGE_MOST} (limit RUNS_PAGE_MOST)"
        )));
    }
    let before = asked.before.as_deref().map(run_id).transpose()?;
    let heads = app.store.heads(before.as_ref(), limit).await?;
    let more = u32::try_from(heads.len()).is_ok_and(|found| found == limit);
    let runs: Vec<RunSummary> = heads.into_iter().map(|head| summary(&app, head)).collect();
    let mut response = json(StatusCode::OK, &runs);
    if let Some(last) = runs.last().filter(|_| more) {
        let next = format!(
            "</api/v1/runs?limit={limit}&before={}>; rel=\"next\"",
            last.run
        );
        if let Ok(next) = next.parse() {
            response.headers_mut().insert(header::LINK, next);
        }
    }
    Ok(response)
}

pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    Path(run): Path<String>,
) -> Answer<Response> {
    let run = run_id(&run)?;
    head(&app, &run).await?;
    let explanation = app.leader().await?.explain(run).await?.unwrap_or_default();
    Ok(json(StatusCode::OK, &explanation))
}

fn created(summary: &RunSummary) -> Response {
    let location = format!("/api/v1/runs/{}", summary.run);
    (
        [(header::LOCATION, location)],
        json(StatusCode::CREATED, summary),
    )
        .into_response()
}

pub(crate) async fn submit(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let submission = submit::read(&app, &headers, body).await?;
    let summary = app.leader().await?.submit(submission).await?;
    Ok(created(&summary))
}

pub(crate) async fn show(State(app): State<Arc<App>>, Path(run): Path<String>) -> Answer<Response> {
    let head = head(&app, &run_id(&run)?).await?;
    Ok(json(StatusCode::OK, &summary(&app, head)))
}

async fn recorded(app: &App, run: &RunId) -> Answer<Submission> {
    let record = app.store.run(run).await?;
    let record = record.ok_or_else(|| {
        Refusal::not_found(format!("there is no run {run}; `regatta runs` lists them"))
    })?;
    Ok(Submission {
        matrix: record.matrix,
        file: record.file,
        pins: record.pins,
    })
}

/// What a run was submitted as.
pub(crate) async fn submission(
    State(app): State<Arc<App>>,
    Path(run): Path<String>,
) -> Answer<Response> {
    Ok(json(StatusCode::OK, &recorded(&app, &run_id(&run)?).await?))
}

pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Path(run): Path<String>,
) -> Answer<Response> {
    let mut summary = app.leader().await?.cancel(run_id(&run)?).await?;
    summary.progress.running = app.live.get(&summary.run).map_or(0, |live| live.running);
    Ok(json(StatusCode::OK, &summary))
}

#[derive(Deserialize)]
pub(crate) struct RerunQuery {
    #[serde(default)]
    failed: bool,
    #[serde(default)]
    until_resolved: bool,
}

/// `failed=true`: what did not pass gets another attempt, in the same run. `until_resolved=true`: what is unresolved gets
/// more of them than the matrix allows, in the same run. Else: the same submission, as a new run.
pub(crate) async fn rerun(
    State(app): State<Arc<App>>,
    Path(run): Path<String>,
    asked: MaybeQuery<RerunQuery>,
) -> Answer<Response> {
    let run = run_id(&run)?;
    let RerunQuery {
        failed,
        until_resolved,
    } = query(asked)?;
    let what = match (failed, until_resolved) {
        (true, true) => {
            return Err(Refusal::bad(
                "failed and until_resolved are two different things: ask for one of them",
            ));
        }
        (true, false) => Some(Rerun::Failed),
        (false, true) => Some(Rerun::Unresolved),
        (false, false) => None,
    };
    if let Some(what) = what {
        let summary = app.leader().await?.rerun(run, what).await?;
        return Ok(json(StatusCode::OK, &summary));
    }
    let submission = submit::again(&app, recorded(&app, &run).await?).await?;
    let summary = app.leader().await?.submit(submission).await?;
    Ok(created(&summary))
}
