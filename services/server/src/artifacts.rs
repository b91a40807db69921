//! Artifacts: agents bring them, people fetch them. May not: let one leave its attempt's directory, or be run by a
//! browser as a page of this server.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use regatta_store::BlobKey;

use crate::answer::{Answer, Refusal, json};
use crate::app::App;
use crate::attempts::{AttemptPath, FilesQuery, attempt_id, blob, ended, takes_files};
use crate::body;
use crate::check::is_artifact_path;
use crate::limits::ARTIFACT_BYTES_MOST;
use crate::runs::{MaybeQuery, query};

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Path((run, cell, attempt)): AttemptPath,
) -> Answer<Response> {
    let row = ended(&app, &attempt_id(&run, &cell, &attempt)?).await?;
    Ok(json(StatusCode::OK, &row.artifacts))
}

type ArtifactPath = Path<(String, String, String, String)>;

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path((run, cell, attempt, path)): ArtifactPath,
) -> Answer<Response> {
    let attempt = attempt_id(&run, &cell, &attempt)?;
    let none = || Refusal::not_found(format!("attempt {attempt} left no artifact {path:?}"));
    if !is_artifact_path(&path) {
        return Err(none());
    }
    let row = ended(&app, &attempt).await?;
    if !row.artifacts.iter().any(|artifact| artifact.path == path) {
        return Err(none());
    }
    let key = |by| BlobKey::Artifact(attempt.clone(), by, path.clone());
    let found = blob(&app, &row, key).await?;
    let (bytes, stream) = found.ok_or_else(none)?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
        (header::CONTENT_DISPOSITION, "attachment".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

/// Refuses a path that no artifact has.
pub(crate) fn check_path(path: &str) -> Answer<()> {
    if is_artifact_path(path) {
        return Ok(());
    }
    let detail =
        format!("{path:?} is no artifact's path: expected a relative one with '/', without '..'");
    Err(Refusal::bad(detail))
}

pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    Path((run, cell, attempt, path)): ArtifactPath,
    asked: MaybeQuery<FilesQuery>,
    sent: Body,
) -> Answer<StatusCode> {
    let attempt = attempt_id(&run, &cell, &attempt)?;
    let by = query(asked)?.generation;
    check_path(&path)?;
    if !takes_files(&app, &attempt).await? {
        body::drain(sent, ARTIFACT_BYTES_MOST).await;
        return Ok(StatusCode::NO_CONTENT);
    }
    let key = BlobKey::Artifact(attempt, by, path);
    let bytes = app
        .blobs
        .put(
            &key,
            body::chunks_for_disk(sent, app.data.clone()),
            ARTIFACT_BYTES_MOST,
            "ARTIFACT_BYTES_MOST",
        )
        .await?;
    app.metrics.uploaded(bytes);
    Ok(StatusCode::CREATED)
}
