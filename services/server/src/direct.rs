//! Uploads that pass this server by: it tells an agent where a large file goes. May not: read what is uploaded, or sign for
//! whom it would not let upload here.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use regatta_model::upload::{UploadPlace, UploadRequest};
use regatta_store::BlobKey;

use crate::answer::{Answer, Refusal, json};
use crate::app::App;
use crate::artifacts::check_path;
use crate::attempts::{AttemptPath, attempt_id, takes_files};
use crate::body;
use crate::limits::{ARTIFACT_BYTES_MOST, DIRECT_BYTES_LEAST, DOCUMENT_BYTES_MOST, LOG_BYTES_MOST};
use crate::metrics::ToLabel;

pub(crate) async fn place(
    State(app): State<Arc<App>>,
    Path((run, cell, attempt)): AttemptPath,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let attempt = attempt_id(&run, &cell, &attempt)?;
    let limit = "DOCUMENT_BYTES_MOST";
    let asked: UploadRequest = body::json(&headers, body, DOCUMENT_BYTES_MOST, limit).await?;
    let by = Some(asked.generation);
    let (most, limit) = match &asked.artifact {
        None => (LOG_BYTES_MOST, "LOG_BYTES_MOST"),
        Some(path) => {
            check_path(path)?;
            (ARTIFACT_BYTES_MOST, "ARTIFACT_BYTES_MOST")
        }
    };
    if asked.bytes > most {
        return Err(Refusal::too_large("the file", most, limit));
    }
    let place = if takes_files(&app, &attempt).await? {
        let key = match asked.artifact {
            None => BlobKey::Log(attempt, by),
            Some(path) => BlobKey::Artifact(attempt, by, path),
        };
        elsewhere(&app, &key, asked.bytes).await
    } else {
        UploadPlace::Nowhere
    };
    Ok(json(StatusCode::OK, &place))
}

/// A place in the bucket, or this server where there is none.
async fn elsewhere(app: &App, key: &BlobKey, bytes: u64) -> UploadPlace {
    if app.direct_from.is_none_or(|least| bytes < least) {
        return UploadPlace::Server;
    }
    match app.blobs.place(key).await {
        Ok(Some(signed)) => {
            let to = ToLabel { to: "bucket" };
            app.metrics.upload_bytes.get_or_create(&to).inc_by(bytes);
            UploadPlace::Url {
                url: signed.url,
                headers: signed.headers,
            }
        }
        Ok(None) => UploadPlace::Server,
        Err(error) => {
            tracing::warn!("{error}; it comes through this server");
            UploadPlace::Server
        }
    }
}

/// From which length on files go straight to the bucket; none: there is none, or that is not wanted.
pub(crate) fn from(wanted: bool, blobs: &regatta_store::Blobs) -> Option<u64> {
    (wanted && blobs.signs()).then_some(DIRECT_BYTES_LEAST)
}
