//! Uploads of blobs: at once, or in chunks to a file that becomes a blob when its digest fits. May not: keep an upload
//! that nobody goes on with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use regatta_model::Digest;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Duration, Instant};

use super::{Denied, Granted, digest, made, query_field};
use crate::app::App;
use crate::limits::{BLOB_BYTES_MOST, UPLOAD_IDLE, UPLOADS_MOST};
use crate::{body, disk};

/// How often idle uploads are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Uploads that are under way.
#[derive(Debug)]
pub(crate) struct Uploads {
    directory: PathBuf,
    open: Mutex<BTreeMap<String, Upload>>,
}

#[derive(Clone, Copy, Debug)]
struct Upload {
    bytes: u64,
    touched: Instant,
    /// Somebody writes to it now.
    busy: bool,
}

impl Uploads {
    /// Uploads into this directory; what an earlier server left there is dropped.
    pub(crate) fn open(directory: PathBuf) -> Self {
        if let Ok(entries) = std::fs::read_dir(&directory) {
            for entry in entries.flatten() {
                drop(std::fs::remove_file(entry.path()));
            }
        }
        Self {
            directory,
            open: Mutex::default(),
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(id)
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Upload>) -> T) -> T {
        change(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self) -> Result<String, Denied> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let full = self.with(|open| {
            let full = open.len() >= UPLOADS_MOST;
            if !full {
                open.insert(
                    id.clone(),
                    Upload {
                        bytes: 0,
                        touched: Instant::now(),
                        busy: false,
                    },
                );
            }
            full
        });
        if full {
            let message =
                format!("{UPLOADS_MOST} uploads are under way (limit UPLOADS_MOST); try again");
            return Err(Denied::new(
                StatusCode::TOO_MANY_REQUESTS,
                "TOOMANYREQUESTS",
                message,
            ));
        }
        std::fs::File::create(self.path(&id)).map_err(Denied::internal)?;
        Ok(id)
    }

    /// Takes an upload to write to it; gives its bytes so far.
    fn take(&self, id: &str) -> Result<u64, Denied> {
        self.with(|open| match open.get_mut(id) {
            None => Err(Denied::new(
                StatusCode::NOT_FOUND,
                "BLOB_UPLOAD_UNKNOWN",
                "there is no such upload; begin again",
            )),
            Some(upload) if upload.busy => Err(Denied::new(
                StatusCode::CONFLICT,
                "BLOB_UPLOAD_INVALID",
                "somebody else writes to this upload",
            )),
            Some(upload) => {
                upload.busy = true;
                Ok(upload.bytes)
            }
        })
    }

    fn put_back(&self, id: &str, bytes: u64) {
        self.with(|open| {
            if let Some(upload) = open.get_mut(id) {
                *upload = Upload {
                    bytes,
                    touched: Instant::now(),
                    busy: false,
                };
            }
        });
    }

    fn end(&self, id: &str) {
        self.with(|open| open.remove(id));
        drop(std::fs::remove_file(self.path(id)));
    }

    /// Drops uploads that nobody goes on with, for as long as the server runs.
    pub(crate) async fn sweep(app: Arc<App>) {
        loop {
            tokio::select! {
                () = app.shutdown.cancelled() => return,
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
            let idle = |(id, upload): (&String, &Upload)| {
                (!upload.busy && upload.touched.elapsed() > UPLOAD_IDLE).then(|| id.clone())
            };
            let idle: Vec<String> = app
                .uploads
                .with(|open| open.iter().filter_map(idle).collect());
            for id in idle {
                app.uploads.end(&id);
            }
        }
    }
}

/// An upload that is written to; whatever happens, it is given back.
struct Taken<'a> {
    uploads: &'a Uploads,
    id: &'a str,
    bytes: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.uploads.put_back(self.id, self.bytes);
    }
}

/// `POST uploads/`: begins an upload, or takes all of it, or finds that the blob is here already.
pub(super) async fn begin(app: &Arc<App>, name: &str, request: Request<Body>) -> Granted {
    if request.method() != Method::POST {
        return Err(Denied::unsupported(request.method()));
    }
    if let Some(mounted) =
        query_field(&request, "mount").and_then(|text| text.parse::<Digest>().ok())
        && app.images.has(&mounted)
    {
        return Ok(made(format!("/v2/{name}/blobs/{mounted}"), &mounted));
    }
    if !disk::has_room(&app.data) {
        return Err(Denied::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "DENIED",
            disk::full(),
        ));
    }
    let whole = query_field(&request, "digest");
    let id = app.uploads.begin()?;
    let Some(whole) = whole else {
        return Ok(under_way(name, &id, 0, StatusCode::ACCEPTED));
    };
    let done = async {
        let digest = digest(&whole)?;
        append(app, &id, request).await?;
        finish(app, name, &id, digest).await
    };
    let done = done.await;
    app.uploads.end(&id);
    done
}

/// `GET`, `PATCH`, `PUT` and `DELETE` of an upload.
pub(super) async fn handle(
    app: &Arc<App>,
    name: &str,
    id: &str,
    request: Request<Body>,
) -> Granted {
    match *request.method() {
        Method::GET => {
            let bytes = app.uploads.take(id)?;
            app.uploads.put_back(id, bytes);
            Ok(under_way(name, id, bytes, StatusCode::NO_CONTENT))
        }
        Method::PATCH => {
            let bytes = append(app, id, request).await?;
            Ok(under_way(name, id, bytes, StatusCode::ACCEPTED))
        }
        Method::PUT => {
            let wanted = query_field(&request, "digest").ok_or_else(|| {
                Denied::new(
                    StatusCode::BAD_REQUEST,
                    "DIGEST_INVALID",
                    "an upload ends with ?digest=sha256:...",
                )
            })?;
            let wanted = digest(&wanted)?;
            append(app, id, request).await?;
            let done = finish(app, name, id, wanted).await;
            app.uploads.end(id);
            done
        }
        Method::DELETE => {
            app.uploads.take(id)?;
            app.uploads.end(id);
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        ref other => Err(Denied::unsupported(other)),
    }
}

/// Where an upload goes on, and how far it is.
fn under_way(name: &str, id: &str, bytes: u64, status: StatusCode) -> Response {
    let headers = [
        ("location", format!("/v2/{name}/blobs/uploads/{id}")),
        ("range", format!("0-{}", bytes.saturating_sub(1))),
        ("docker-upload-uuid", id.to_owned()),
    ];
    (status, headers).into_response()
}

/// The first byte that a chunk is for, where it says so.
fn chunk_begin(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let range = range.trim().trim_start_matches("bytes").trim();
    range.split_once('-')?.0.trim().parse().ok()
}

/// Adds a request's body to an upload; gives the bytes that it has then.
async fn append(app: &App, id: &str, request: Request<Body>) -> Result<u64, Denied> {
    let mut taken = Taken {
        uploads: &app.uploads,
        id,
        bytes: app.uploads.take(id)?,
    };
    if let Some(first) = chunk_begin(request.headers())
        && first != taken.bytes
    {
        let message = format!(
            "the upload has {} bytes, and the chunk begins at {first}",
            taken.bytes
        );
        return Err(Denied::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "BLOB_UPLOAD_INVALID",
            message,
        ));
    }
    let path = app.uploads.path(id);
    let mut file = tokio::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .await
        .map_err(Denied::internal)?;
    let mut chunks = body::chunks_for_disk(request.into_body(), app.data.clone());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            Denied::new(
                StatusCode::BAD_REQUEST,
                "BLOB_UPLOAD_INVALID",
                format!("the chunk was not sent whole: {error}"),
            )
        })?;
        let bytes = taken
            .bytes
            .saturating_add(chunk.len().try_into().unwrap_or(u64::MAX));
        if bytes > BLOB_BYTES_MOST {
            let message =
                format!("a blob is at most {BLOB_BYTES_MOST} bytes long (limit BLOB_BYTES_MOST)");
            return Err(Denied::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "SIZE_INVALID",
                message,
            ));
        }
        file.write_all(&chunk).await.map_err(Denied::internal)?;
        taken.bytes = bytes;
    }
    file.flush().await.map_err(Denied::internal)?;
    Ok(taken.bytes)
}

/// Makes a blob of an upload that has the digest which was promised.
async fn finish(app: &App, name: &str, id: &str, wanted: Digest) -> Granted {
    let (images, path) = (app.images.clone(), app.uploads.path(id));
    let kept = tokio::task::spawn_blocking(move || keep(&images, &path, wanted));
    kept.await
        .map_err(Denied::internal)?
        .map_err(|error| Denied::store(&error))?;
    Ok(made(format!("/v2/{name}/blobs/{wanted}"), &wanted))
}

fn keep(images: &regatta_image::Store, path: &Path, wanted: Digest) -> regatta_image::Result<()> {
    let _work = images.work()?;
    images.ingest_file(path, wanted).map(drop)
}
