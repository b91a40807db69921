//! One blob, sent to a registry in one request, or in pieces where it refuses large ones. May not: send a
//! blob that the registry has.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::TryStreamExt as _;
use regatta_model::Digest;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION,
};
use reqwest::{Body, Method, Response, StatusCode};
use url::Url;

use super::answer::{error, refused};
use super::transport::{Ask, SILENCE_MOST, TRIES_MOST, backoff, is_passing};
use super::{Client, Meter};
use crate::error::{Error, Result};
use crate::reference::Repository;

/// Size of a piece where a registry refuses an upload in one.
const PIECE: u64 = 16 << 20;
/// How often in a row [`SILENCE_MOST`] may pass without a byte taken: a registry may need a while for a
/// large blob after its last byte.
const SILENCES_MOST: u32 = 5;

/// A blob to send.
pub(super) struct Upload<'a> {
    pub(super) repository: &'a Repository,
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Gives the blob anew for each try.
    pub(super) open: &'a (dyn Fn() -> Result<File> + Send + Sync),
    pub(super) meter: Arc<Meter>,
}

/// How a try went.
enum Sent {
    /// Taken; the next piece goes there.
    Done(Option<Url>),
    TooLarge(Error),
    Broke(String),
}

impl Client {
    /// Sends a blob; false where it was there already.
    pub(super) async fn upload(&self, upload: &Upload<'_>) -> Result<bool> {
        let what = format!("blob {}", upload.digest);
        let repository = upload.repository;
        let url = self
            .transport
            .url(repository, &format!("blobs/{}", upload.digest))
            .await?;
        let ask = upload.ask(Method::HEAD, url, &what);
        let response = self.transport.send(&ask).await?;
        if response.status() == StatusCode::OK {
            return Ok(false);
        }
        // Registries answer a HEAD below a repository that is not there yet in several ways; only what an
        // upload would meet as well ends it here.
        if matches!(
            response.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) {
            return Err(refused(&ask, response).await);
        }
        let what = format!("an upload of {what}");
        let mut tries = 0;
        let mut in_pieces = false;
        loop {
            tries += 1;
            let url = self.transport.url(repository, "blobs/uploads/").await?;
            let ask = upload.ask(Method::POST, url, &what);
            let response = self.transport.send(&ask).await?;
            if response.status() != StatusCode::ACCEPTED {
                return Err(refused(&ask, response).await);
            }
            let place = location(&response).ok_or_else(|| {
                error(
                    repository,
                    format!("asked for {what}, it does not say where it goes"),
                )
            })?;
            let sent = if in_pieces {
                self.in_pieces(upload, place).await?
            } else {
                self.put(
                    upload,
                    Method::PUT,
                    finishing(place, upload.digest),
                    0,
                    upload.size,
                )
                .await?
            };
            match sent {
                Sent::Done(_) => return Ok(true),
                Sent::TooLarge(_) if !in_pieces && upload.size > PIECE => in_pieces = true,
                Sent::TooLarge(answer) => return Err(answer),
                Sent::Broke(why) if tries >= TRIES_MOST => {
                    let why = format!("{what} broke off {tries} times: {why}; try again later");
                    return Err(error(repository, why));
                }
                Sent::Broke(why) => {
                    tracing::debug!(digest = %upload.digest, %why, "an upload broke off; sending it again");
                    // Who refuses a large upload may hang up before its answer was read.
                    in_pieces |= upload.size > PIECE;
                    tokio::time::sleep(backoff(tries)).await;
                }
            }
        }
    }

    async fn in_pieces(&self, upload: &Upload<'_>, mut place: Url) -> Result<Sent> {
        let mut at = 0;
        while at < upload.size {
            let length = PIECE.min(upload.size - at);
            place = match self.put(upload, Method::PATCH, place, at, length).await? {
                Sent::Done(Some(next)) => next,
                Sent::Done(None) => {
                    let why = "it took a piece of a blob, and does not say where the next goes";
                    return Err(error(upload.repository, why.to_owned()));
                }
                other => return Ok(other),
            };
            at += length;
        }
        self.put(
            upload,
            Method::PUT,
            finishing(place, upload.digest),
            upload.size,
            0,
        )
        .await
    }

    /// Sends `length` bytes from `from` on.
    async fn put(
        &self,
        upload: &Upload<'_>,
        method: Method,
        url: Url,
        from: u64,
        length: u64,
    ) -> Result<Sent> {
        let sent = Arc::new(AtomicU64::new(0));
        let body = || upload.body(from, length, &sent);
        let what = format!("an upload of blob {}", upload.digest);
        let mut ask = upload.ask(method, url, &what);
        ask.body = Some(&body);
        ask.headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        ask.headers
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
        if ask.method == Method::PATCH
            && let Ok(range) = HeaderValue::from_str(&format!("{from}-{}", from + length - 1))
        {
            ask.headers.insert(CONTENT_RANGE, range);
        }
        let answer = tokio::select! {
            answer = self.transport.send_once(&ask) => answer?,
            () = until_silent(&sent) => Err("it took nothing for too long".to_owned()),
        };
        let response = match answer {
            Ok(response) => response,
            Err(why) => return Ok(Sent::Broke(why)),
        };
        match response.status() {
            status if status.is_success() => {
                if ask.method == Method::PUT {
                    check_digest(upload.repository, &response, upload.digest, &what)?;
                }
                Ok(Sent::Done(location(&response)))
            }
            StatusCode::PAYLOAD_TOO_LARGE => Ok(Sent::TooLarge(refused(&ask, response).await)),
            // An upload that is gone is begun anew.
            status if is_passing(status) || status == StatusCode::NOT_FOUND => {
                Ok(Sent::Broke(format!("it answered {status}")))
            }
            _ => Err(refused(&ask, response).await),
        }
    }
}

impl<'a> Upload<'a> {
    fn ask<'b>(&self, method: Method, url: Url, what: &'b str) -> Ask<'b>
    where
        'a: 'b,
    {
        Ask {
            repository: self.repository,
            push: true,
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            what,
        }
    }

    fn body(&self, from: u64, length: u64, sent: &Arc<AtomicU64>) -> Result<Body> {
        use std::io::Seek as _;
        let mut file = (self.open)()?;
        file.seek(std::io::SeekFrom::Start(from))
            .map_err(|e| Error::io("read a blob", e))?;
        let file = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), length);
        let (sent, meter) = (Arc::clone(sent), Arc::clone(&self.meter));
        let stream = tokio_util::io::ReaderStream::with_capacity(file, 64 << 10);
        Ok(Body::wrap_stream(stream.inspect_ok(move |chunk| {
            let length = u64::try_from(chunk.len()).unwrap_or(0);
            sent.fetch_add(length, Ordering::Relaxed);
            meter.advance(length);
        })))
    }
}

/// The registry's own digest of what it took must be ours, where it says one.
pub(super) fn check_digest(
    repository: &Repository,
    response: &Response,
    digest: Digest,
    what: &str,
) -> Result<()> {
    let claimed = response
        .headers()
        .get("docker-content-digest")
        .and_then(|c| c.to_str().ok());
    match claimed {
        Some(claimed) if claimed.starts_with("sha256:") && claimed != digest.to_string() => {
            let why =
                format!("asked for {what}, it has {claimed:?}: that is damaged, and not ours");
            Err(error(repository, why))
        }
        _ => Ok(()),
    }
}

fn finishing(mut place: Url, digest: Digest) -> Url {
    place
        .query_pairs_mut()
        .append_pair("digest", &digest.to_string());
    place
}

fn location(response: &Response) -> Option<Url> {
    let place = response.headers().get(LOCATION)?.to_str().ok()?;
    response.url().join(place).ok()
}

/// Ends once nothing more was sent for too long.
async fn until_silent(sent: &AtomicU64) {
    let mut before = None;
    let mut silent = 0;
    while silent < SILENCES_MOST {
        tokio::time::sleep(SILENCE_MOST).await;
        let now = Some(sent.load(Ordering::Relaxed));
        silent = if now == before { silent + 1 } else { 0 };
        before = now;
    }
}
