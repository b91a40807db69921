//! The report and its cells. May not: keep one in memory between requests.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use regatta_model::CellNumber;
use regatta_model::matrix::Matrix;
use serde::Deserialize;

use crate::answer::{Answer, Refusal, json};
use crate::app::App;
use crate::attempts::{cell_number, matrix};
use crate::limits::{CELLS_PAGE, CELLS_PAGE_MOST};
use crate::reports;
use crate::runs::{MaybeQuery, query, run_id, summary};

#[derive(Deserialize)]
pub(crate) struct ReportQuery {
    against: Option<String>,
}

/// A run's report; `against=RUN`: also what is new beside that run.
pub(crate) async fn report(
    State(app): State<Arc<App>>,
    Path(run): Path<String>,
    asked: MaybeQuery<ReportQuery>,
) -> Answer<Response> {
    let id = run_id(&run)?;
    let against = query(asked)?.against;
    let (record, own) = matrix(&app, &id).await?;
    let run = summary(&app, record.head);
    let store = app.store.as_ref();
    let Some(against) = against else {
        let _place = app.reports.acquire().await;
        let report = reports::report(store, &own, &run).await?;
        return Ok(json(StatusCode::OK, &report));
    };
    let other_id = run_id(&against)?;
    if other_id == id {
        let detail = format!("against={other_id} is the same run: name another one");
        return Err(Refusal::bad(detail));
    }
    let (record, other) = matrix(&app, &other_id).await?;
    let other_run = summary(&app, record.head);
    let _place = app.reports.acquire().await;
    let report = reports::report_against(store, (&own, &run), (&other, &other_run)).await?;
    let report = report.ok_or_else(|| {
        Refusal::bad(format!(
            "run {id} shares no cell with run {other_id}: its axes are {}, those of the other {}",
            axes(&own),
            axes(&other)
        ))
    })?;
    Ok(json(StatusCode::OK, &report))
}

/// The names of a matrix's axes.
fn axes(matrix: &Matrix) -> String {
    let names: Vec<&str> = matrix
        .axes()
        .iter()
        .map(|axis| axis.name.as_str())
        .collect();
    names.join(", ")
}

#[derive(Deserialize)]
pub(crate) struct PageQuery {
    after: Option<CellNumber>,
    limit: Option<u64>,
}

/// Cells in the order of their numbers, after cell `after`; a `Link` header names the next page.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Path(run): Path<String>,
    asked: MaybeQuery<PageQuery>,
) -> Answer<Response> {
    let run = run_id(&run)?;
    let asked = query(asked)?;
    let limit = asked.limit.unwrap_or(CELLS_PAGE);
    if limit == 0 || limit > CELLS_PAGE_MOST {
        return Err(Refusal::bad(format!(
            "limit={limit}: expected 1 to {CELLS_PAGE_MOST} (limit CELLS_PAGE_MOST)"
        )));
    }
    let (record, matrix) = matrix(&app, &run).await?;
    let summary = summary(&app, record.head);
    let shards = CellNumber::from(matrix.shards());
    let count = matrix.cells().whole();
    let first = asked
        .after
        .map_or(0, |after| (after / shards).saturating_add(1))
        .min(count);
    let end = first.saturating_add(limit).min(count);
    let wanted: Vec<CellNumber> = (first..end).map(|cell| cell * shards).collect();
    let mut response = json(
        StatusCode::OK,
        &reports::cells(app.store.as_ref(), &matrix, &summary, &wanted).await?,
    );
    if let Some(last) = wanted.last().filter(|_| end < count) {
        let next = format!("</api/v1/runs/{run}/cells?after={last}&limit={limit}>; rel=\"next\"");
        if let Ok(next) = next.parse() {
            response.headers_mut().insert(header::LINK, next);
        }
    }
    Ok(response)
}

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path((run, cell)): Path<(String, String)>,
) -> Answer<Response> {
    let cell = cell_number(&cell)?;
    let (record, matrix) = matrix(&app, &run_id(&run)?).await?;
    let count = matrix.cells().count();
    if cell >= count {
        return Err(Refusal::not_found(format!(
            "run {run} has no cell {cell}; its cells are 0 to {}",
            count.saturating_sub(1)
        )));
    }
    let summary = summary(&app, record.head);
    let first = matrix.cells().first(cell);
    let cells = reports::cells(app.store.as_ref(), &matrix, &summary, &[first]).await?;
    let found = cells
        .first()
        .ok_or_else(|| Refusal::not_found(format!("run {run} has no cell {cell}")))?;
    Ok(json(StatusCode::OK, found))
}
