//! Logs: agents bring long ones, people read them. May not: keep a log in memory that is longer than one window and a
//! chunk of it.

use std::io::Read as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use regatta_model::log::{self, Stream as LogStream};
use regatta_model::wire::LogPlace;
use regatta_store::{BlobKey, Error};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::answer::{Answer, Refusal};
use crate::app::App;
use crate::attempts::{AttemptPath, FilesQuery, attempt_id, blob, ended, takes_files};
use crate::body;
use crate::limits::{LOG_BYTES_MOST, LOG_TEXT_MOST, LOG_WINDOW_LOG_MOST};
use crate::runs::{MaybeQuery, query};

/// How a log is wanted.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// What a person reads.
    #[default]
    Text,
    /// As it is stored: the records of `model::log`, compressed by zstd.
    Raw,
}

#[derive(Deserialize)]
pub(crate) struct LogQuery {
    #[serde(default)]
    format: Format,
}

/// Chunks of text that wait for a slow reader.
const CHUNKS_MOST: usize = 8;
/// Bytes that are decompressed at once.
const READ_AT_ONCE: usize = 64 << 10;

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path((run, cell, attempt)): AttemptPath,
    asked: MaybeQuery<LogQuery>,
) -> Answer<Response> {
    let attempt = attempt_id(&run, &cell, &attempt)?;
    let format = query(asked)?.format;
    let row = ended(&app, &attempt).await?;
    let stored = match row.log {
        LogPlace::Empty => futures_util::stream::empty().boxed(),
        LogPlace::Inline(_) => {
            let log = app.store.short_log(&attempt).await?.unwrap_or_default();
            futures_util::stream::once(async { Ok(Bytes::from(log)) }).boxed()
        }
        LogPlace::Uploaded { .. } => {
            let key = |by| BlobKey::Log(attempt.clone(), by);
            let found = blob(&app, &row, key).await?;
            let gone =
                || Refusal::not_found(format!("the log of attempt {attempt} is no longer kept"));
            found.ok_or_else(gone)?.1
        }
    };
    Ok(match format {
        Format::Raw => {
            let kind = [(header::CONTENT_TYPE, "application/zstd")];
            (kind, Body::from_stream(stored)).into_response()
        }
        Format::Text => {
            let kind = [
                (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (kind, Body::from_stream(text(stored))).into_response()
        }
    })
}

/// Turns a stored log into text as it comes. Its reader's pace is its own: nothing is read ahead but a few chunks.
fn text(stored: regatta_store::BlobStream) -> ReceiverStream<Result<Bytes, std::io::Error>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_MOST);
    let stored =
        stored.map(|chunk| chunk.map_err(|error: Error| std::io::Error::other(error.to_string())));
    let reader = SyncIoBridge::new(StreamReader::new(stored));
    tokio::task::spawn_blocking(move || {
        if let Err(error) = decompress(reader, &sender) {
            // A log that is not what its agent said: its reader sees how far it goes.
            let note = format!("\n[the rest of this log cannot be read: {error}]\n");
            drop(sender.blocking_send(Ok(Bytes::from(note))));
        }
    });
    ReceiverStream::new(receiver)
}

fn decompress(
    reader: impl std::io::Read,
    sender: &mpsc::Sender<Result<Bytes, std::io::Error>>,
) -> std::io::Result<()> {
    let mut reader = std::io::BufReader::new(reader);
    if std::io::BufRead::fill_buf(&mut reader)?.is_empty() {
        return Ok(());
    }
    let mut decoder = zstd::Decoder::with_buffer(reader)?;
    decoder.window_log_max(LOG_WINDOW_LOG_MOST)?;
    let mut rest = Vec::new();
    let mut buffer = vec![0; READ_AT_ONCE];
    let mut all = 0_usize;
    let mut newline = true;
    loop {
        let got = decoder.read(&mut buffer)?;
        if got == 0 {
            return Ok(());
        }
        all = all.saturating_add(got);
        if all > LOG_TEXT_MOST {
            let why = format!("it is longer than {LOG_TEXT_MOST} bytes (limit LOG_TEXT_MOST)");
            return Err(std::io::Error::other(why));
        }
        rest.extend_from_slice(buffer.get(..got).unwrap_or_default());
        let mut unread = rest.as_slice();
        let mut text = BytesMut::new();
        while let Some(chunk) = log::decode(&mut unread) {
            if chunk.stream == LogStream::Note && !newline {
                text.extend_from_slice(b"\n");
            }
            text.extend_from_slice(chunk.bytes);
            newline = chunk.bytes.last().map_or(newline, |last| *last == b'\n');
        }
        let read = rest.len().saturating_sub(unread.len());
        rest.drain(..read);
        if !text.is_empty() && sender.blocking_send(Ok(text.freeze())).is_err() {
            return Ok(());
        }
    }
}

/// From agents: a log that is too long to travel in a sync.
pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    Path((run, cell, attempt)): AttemptPath,
    asked: MaybeQuery<FilesQuery>,
    sent: Body,
) -> Answer<StatusCode> {
    let attempt = attempt_id(&run, &cell, &attempt)?;
    let by = query(asked)?.generation;
    if !takes_files(&app, &attempt).await? {
        // Said twice: what was recorded stays.
        body::drain(sent, LOG_BYTES_MOST).await;
        return Ok(StatusCode::NO_CONTENT);
    }
    let chunks = body::chunks_for_disk(sent, app.data.clone());
    let bytes = app
        .blobs
        .put(
            &BlobKey::Log(attempt, by),
            chunks,
            LOG_BYTES_MOST,
            "LOG_BYTES_MOST",
        )
        .await?;
    app.metrics.uploaded(bytes);
    Ok(StatusCode::CREATED)
}
