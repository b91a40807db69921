//! Reading what a client sends, within a limit and a time. May not: understand it.

use std::path::PathBuf;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use serde::de::DeserializeOwned;

use crate::answer::{Answer, Refusal};
use crate::disk;
use crate::limits::BODY_IDLE;

/// The whole body, up to `most` bytes; `limit` is the limit's name.
pub(crate) async fn read(body: Body, most: usize, limit: &str) -> Answer<Bytes> {
    let mut chunks = chunks(body);
    let mut whole = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|error| Refusal::bad(format!("the body was not sent whole: {error}")))?;
        if whole.len().saturating_add(chunk.len()) > most {
            return Err(Refusal::too_large(
                "the body",
                most.try_into().unwrap_or(u64::MAX),
                limit,
            ));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// A JSON document of up to `most` bytes.
pub(crate) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    most: usize,
    limit: &str,
) -> Answer<T> {
    let kind = media_type(headers);
    if !kind.is_empty() && kind != "application/json" {
        return Err(unsupported(&kind, "application/json"));
    }
    let body = read(body, most, limit).await?;
    serde_json::from_slice(&body).map_err(|error| {
        Refusal::bad(format!(
            "the body is not the JSON document that is expected here: {error}"
        ))
    })
}

/// The media type without its parameters, in lower case; empty where none is given.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

pub(crate) fn unsupported(kind: &str, expected: &str) -> Refusal {
    let detail = format!("a body of type {kind:?} is not taken here; expected {expected}");
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "", detail)
}

/// A body as it comes; fails where nothing comes for [`BODY_IDLE`].
pub(crate) fn chunks(body: Body) -> impl Stream<Item = Result<Bytes, Cut>> + Send + Unpin {
    let next = |mut stream: BodyDataStream| async move {
        match tokio::time::timeout(BODY_IDLE, stream.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(chunk))) => Some((Ok(chunk), stream)),
            Ok(Some(Err(error))) => Some((Err(Cut(error.to_string())), stream)),
            Err(_) => {
                let seconds = BODY_IDLE.as_secs();
                let error = Cut(format!(
                    "nothing came for {seconds} seconds (limit BODY_IDLE)"
                ));
                Some((Err(error), Body::empty().into_data_stream()))
            }
        }
    };
    Box::pin(futures_util::stream::unfold(body.into_data_stream(), next))
}

/// A body that is written to the disk as it comes; fails where that would fill the disk.
pub(crate) fn chunks_for_disk(
    body: Body,
    directory: PathBuf,
) -> impl Stream<Item = Result<Bytes, Cut>> + Send + Unpin {
    let mut written = 0_u64;
    Box::pin(chunks(body).map(move |chunk| {
        let chunk = chunk?;
        let before = written / disk::ASK_EVERY;
        written = written.saturating_add(chunk.len().try_into().unwrap_or(u64::MAX));
        if written / disk::ASK_EVERY > before && !disk::has_room(&directory) {
            return Err(Cut(disk::full()));
        }
        Ok(chunk)
    }))
}

/// Why a body ended before its end.
#[derive(Debug)]
pub(crate) struct Cut(String);

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads and drops a body of up to `most` bytes, so that its sender can hear the answer.
pub(crate) async fn drain(body: Body, most: u64) {
    let mut chunks = chunks(body);
    let mut read = 0_u64;
    while let Some(Ok(chunk)) = chunks.next().await {
        read = read.saturating_add(chunk.len().try_into().unwrap_or(u64::MAX));
        if read > most {
            return;
        }
    }
}
