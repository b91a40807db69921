//! Blobs: whole or in part. May not: keep one in memory.

use std::io::SeekFrom;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use regatta_model::Digest;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::{Denied, Granted, digest};
use crate::app::App;

pub(super) async fn handle(app: &Arc<App>, reference: &str, request: Request<Body>) -> Granted {
    let digest = digest(reference)?;
    match *request.method() {
        Method::HEAD => head(app, &digest),
        Method::GET => {
            let range = request
                .headers()
                .get(header::RANGE)
                .and_then(|value| value.to_str().ok());
            get(app, &digest, range).await
        }
        ref other => Err(Denied::unsupported(other)),
    }
}

fn size(app: &App, digest: &Digest) -> Result<u64, Denied> {
    if !app.images.has(digest) {
        return Err(Denied::unknown_blob(digest));
    }
    app.images
        .blob_size(digest)
        .map_err(|error| Denied::store(&error))
}

fn headers(digest: &Digest, length: u64) -> [(&'static str, String); 5] {
    [
        ("content-type", "application/octet-stream".to_owned()),
        ("content-length", length.to_string()),
        ("accept-ranges", "bytes".to_owned()),
        ("docker-content-digest", digest.to_string()),
        ("etag", format!("\"{digest}\"")),
    ]
}

fn head(app: &App, digest: &Digest) -> Granted {
    let size = size(app, digest)?;
    Ok((headers(digest, size), Body::empty()).into_response())
}

/// The first and the last byte that are wanted; none: all of it. Several ranges at once are answered with all of it.
fn range(header: Option<&str>, size: u64) -> Result<Option<(u64, u64)>, Denied> {
    let Some(range) = header
        .and_then(|text| text.strip_prefix("bytes="))
        .filter(|text| !text.contains(','))
    else {
        return Ok(None);
    };
    let Some((first, last)) = range.split_once('-') else {
        return Ok(None);
    };
    let last_byte = size.saturating_sub(1);
    let wanted = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.min(last_byte)),
        (Ok(first), Err(_)) if last.trim().is_empty() => (first, last_byte),
        (Err(_), Ok(last)) if first.trim().is_empty() && last > 0 => {
            (size.saturating_sub(last), last_byte)
        }
        _ => return Ok(None),
    };
    if wanted.0 >= size {
        let message = format!("the blob has {size} bytes only");
        return Err(Denied::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "SIZE_INVALID",
            message,
        ));
    }
    Ok(Some(wanted))
}

async fn get(app: &Arc<App>, digest: &Digest, wanted: Option<&str>) -> Granted {
    let size = size(app, digest)?;
    let wanted = range(wanted, size)?;
    let (images, of) = (app.images.clone(), *digest);
    let file = tokio::task::spawn_blocking(move || images.open_blob(&of))
        .await
        .map_err(Denied::internal)?;
    let mut file = tokio::fs::File::from_std(file.map_err(|error| Denied::store(&error))?);
    let (first, last) = wanted.unwrap_or((0, size.saturating_sub(1)));
    let length = if size == 0 {
        0
    } else {
        last.saturating_sub(first).saturating_add(1)
    };
    if first > 0 {
        file.seek(SeekFrom::Start(first))
            .await
            .map_err(Denied::internal)?;
    }
    let counter = app.metrics.image_pull_bytes.clone();
    let stream = ReaderStream::with_capacity(file.take(length), 128 << 10).inspect(move |chunk| {
        if let Ok(chunk) = chunk {
            counter.inc_by(chunk.len().try_into().unwrap_or(0));
        }
    });
    let mut response: Response =
        (headers(digest, length), Body::from_stream(stream)).into_response();
    if wanted.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {first}-{last}/{size}");
        if let Ok(range) = range.parse() {
            response.headers_mut().insert(header::CONTENT_RANGE, range);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        let read = |text| range(Some(text), 10).unwrap();
        assert_eq!(read("bytes=0-3"), Some((0, 3)));
        assert_eq!(read("bytes=4-"), Some((4, 9)));
        assert_eq!(read("bytes=-3"), Some((7, 9)));
        assert_eq!(read("bytes=8-99"), Some((8, 9)));
        assert_eq!(read("bytes=1-2,4-5"), None);
        assert_eq!(read("bytes=3-1"), None);
        assert!(range(Some("bytes=10-"), 10).is_err());
    }
}
