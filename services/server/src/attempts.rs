//! Naming one attempt in a path, and a cell's plan. May not: read an attempt's files.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use regatta_model::matrix::Matrix;
use regatta_model::{AttemptId, CellNumber, RunId};
use regatta_store::{BlobKey, BlobStream, EndedRow, RunRecord};

use crate::answer::{Answer, Refusal, json};
use crate::app::App;
use crate::disk;
use crate::runs::{head, run_id};

/// The parts of a path that name an attempt.
pub(crate) type AttemptPath = Path<(String, String, String)>;

pub(crate) fn cell_number(text: &str) -> Answer<CellNumber> {
    text.parse().map_err(|_| {
        Refusal::not_found(format!(
            "{text:?} is no cell's number; cells are counted from 0"
        ))
    })
}

/// The attempt that a path names. It need not exist.
pub(crate) fn attempt_id(run: &str, cell: &str, attempt: &str) -> Answer<AttemptId> {
    let ordinal = attempt.parse().map_err(|_| {
        Refusal::not_found(format!(
            "{attempt:?} is no attempt's number; attempts are counted from 1"
        ))
    })?;
    Ok(AttemptId {
        run: run_id(run)?,
        cell: cell_number(cell)?,
        ordinal,
    })
}

/// An attempt that ended.
pub(crate) async fn ended(app: &App, attempt: &AttemptId) -> Answer<EndedRow> {
    let row = app.store.attempt(attempt).await?;
    row.ok_or_else(|| Refusal::not_found(format!("attempt {attempt} has not ended, or never was")))
}

/// Whether an agent may still bring files of this attempt. Those of an ended attempt stay as they are.
pub(crate) async fn takes_files(app: &App, attempt: &AttemptId) -> Answer<bool> {
    let head = head(app, &attempt.run).await?;
    if attempt.cell >= head.summary.progress.cells || attempt.ordinal == 0 {
        return Err(Refusal::not_found(format!(
            "run {} has no attempt {attempt}",
            attempt.run
        )));
    }
    if !disk::has_room(&app.data) {
        return Err(Refusal::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "disk-full",
            disk::full(),
        ));
    }
    Ok(!head.summary.state.is_over() && app.store.attempt(attempt).await?.is_none())
}

/// By which assignment an agent brings files.
#[derive(Clone, Copy, Default, serde::Deserialize)]
pub(crate) struct FilesQuery {
    /// Its generation; agents of former versions do not tell it.
    pub(crate) generation: Option<u64>,
}

/// A blob of an ended attempt; `key` gives it by a generation. What an agent brought to a server of a former version is kept by
/// none.
pub(crate) async fn blob(
    app: &App,
    row: &EndedRow,
    key: impl Fn(Option<u64>) -> BlobKey,
) -> Answer<Option<(u64, BlobStream)>> {
    let found = app.blobs.get(&key(row.files)).await?;
    if found.is_some() || row.files.is_none() {
        return Ok(found);
    }
    Ok(app.blobs.get(&key(None)).await?)
}

/// A run's record with its matrix, read again.
pub(crate) async fn matrix(app: &App, run: &RunId) -> Answer<(RunRecord, Matrix)> {
    let record = app.store.run(run).await?;
    let record = record.ok_or_else(|| {
        Refusal::not_found(format!("there is no run {run}; `regatta runs` lists them"))
    })?;
    let matrix = Matrix::parse(&record.matrix, &record.file).map_err(|errors| {
        let detail = format!("the matrix of run {run} is not understood by this version: {errors}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "store", detail)
    })?;
    Ok((record, matrix))
}

/// What an attempt of a cell is made from: for `regatta repro`.
pub(crate) async fn plan(
    State(app): State<Arc<App>>,
    Path((run, cell)): Path<(String, String)>,
) -> Answer<Response> {
    let (record, matrix) = matrix(&app, &run_id(&run)?).await?;
    let cell = cell_number(&cell)?;
    if cell >= matrix.cells().count() {
        return Err(Refusal::not_found(format!("run {run} has no cell {cell}")));
    }
    let plan = matrix.plan(cell, &record.pins).map_err(|error| {
        Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "plan",
            format!("cell {cell} of run {run}: {error}"),
        )
    })?;
    Ok(json(StatusCode::OK, &plan))
}
