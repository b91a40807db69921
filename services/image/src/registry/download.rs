//! One blob, fetched into the store. What came before a connection broke is kept: the rest is asked for by
//! Range. May not: count a blob as there before its digest was verified.

use std::io::{self, Read};

use bytes::Bytes;
use regatta_model::Digest;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;

use super::answer::{chain, error, refused};
use super::transport::{Ask, SILENCE_MOST, TRIES_MOST, backoff};
use super::{Client, Meter};
use crate::error::{Error, Result};
use crate::reference::Repository;
use crate::store::Store;

/// Largest blob, in bytes.
pub const BLOB_MOST: u64 = 64 << 30;
/// Chunks between the network and the disk.
const QUEUE: usize = 16;
/// Breaks of one download, however far it comes in between.
const BREAKS_MOST: u32 = 100;

impl Client {
    /// Fetches a blob into the store. `size` is checked where it is known. Gives its size.
    pub(super) async fn download(
        &self,
        repository: &Repository,
        digest: Digest,
        size: Option<u64>,
        store: &Store,
        meter: &Meter,
    ) -> Result<u64> {
        if size.is_some_and(|size| size > BLOB_MOST) {
            return Err(Error::limit(
                format!("blob {digest}"),
                "registry.blob_bytes",
                BLOB_MOST,
            ));
        }
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(QUEUE);
        let keeper = store.clone();
        let keeping = tokio::task::spawn_blocking(move || {
            keeper.ingest(
                Incoming {
                    receiver,
                    chunk: Bytes::new(),
                    ended: false,
                },
                Some(digest),
            )
        });
        let mut download = Download {
            client: self,
            repository,
            what: format!("blob {digest}"),
            total: size,
            have: 0,
            sender: sender.clone(),
            meter,
        };
        let broken = download.run(digest).await.err();
        if broken.is_some() {
            // The keeper must not take an early end for the end.
            let _ = sender
                .send(Err(io::Error::other("the download failed")))
                .await;
        }
        drop((download, sender));
        let kept = keeping
            .await
            .map_err(|e| Error::io("keep a blob", io::Error::other(e)))?;
        match (broken, kept) {
            // Where the keeper stopped listening its error is the cause.
            (Some(Stop::Failed(e)), _) | (_, Err(e)) => Err(e),
            (_, Ok((_, bytes))) => Ok(bytes),
        }
    }
}

/// Why a download stopped.
enum Stop {
    Failed(Error),
    /// Whoever keeps the bytes stopped listening.
    KeeperGone,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct Download<'a> {
    client: &'a Client,
    repository: &'a Repository,
    what: String,
    /// The whole size, once it is known.
    total: Option<u64>,
    /// Bytes that were passed on.
    have: u64,
    sender: mpsc::Sender<io::Result<Bytes>>,
    meter: &'a Meter,
}

impl Download<'_> {
    /// Passes a blob's bytes on, in order and each once, over as many connections as it takes.
    async fn run(&mut self, digest: Digest) -> Result<(), Stop> {
        let url = self
            .client
            .transport
            .url(self.repository, &format!("blobs/{digest}"))
            .await?;
        let (mut breaks, mut idle) = (0, 0);
        loop {
            let before = self.have;
            let mut headers = HeaderMap::new();
            if self.have > 0
                && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", self.have))
            {
                headers.insert(RANGE, range);
            }
            let what = self.what.clone();
            let ask = Ask {
                repository: self.repository,
                push: false,
                method: Method::GET,
                url: url.clone(),
                headers,
                body: None,
                what: &what,
            };
            let response = self.client.transport.send(&ask).await?;
            let skip = match response.status() {
                StatusCode::OK => self.have,
                StatusCode::PARTIAL_CONTENT if starts_at(&response) == Some(self.have) => 0,
                StatusCode::PARTIAL_CONTENT => {
                    let why = format!("asked for {what} from byte {before}, it sent another part");
                    return Err(error(self.repository, why).into());
                }
                _ => return Err(refused(&ask, response).await.into()),
            };
            if response.status() == StatusCode::OK && self.total.is_none() {
                self.total = response.content_length();
            }
            let broke = self.pass_on(response, skip).await?;
            if broke.is_none() && self.total.is_none_or(|total| self.have >= total) {
                return Ok(());
            }
            let why = broke.unwrap_or_else(|| "it ended early".to_owned());
            breaks += 1;
            idle = if self.have > before { 0 } else { idle + 1 };
            if idle >= TRIES_MOST || breaks >= BREAKS_MOST {
                let have = self.have;
                let why = format!(
                    "{what} broke off {breaks} times, at last after {have} bytes: {why}; try again later"
                );
                return Err(error(self.repository, why).into());
            }
            tracing::debug!(%digest, have = self.have, %why, "a download broke off; asking for the rest");
            tokio::time::sleep(backoff(idle + 1)).await;
        }
    }

    /// Passes one answer's bytes on, without its first `skip`; gives why it broke off, if it did.
    async fn pass_on(
        &mut self,
        mut response: Response,
        mut skip: u64,
    ) -> Result<Option<String>, Stop> {
        let most = self.total.unwrap_or(BLOB_MOST);
        loop {
            let mut chunk = match tokio::time::timeout(SILENCE_MOST, response.chunk()).await {
                Err(_) => return Ok(Some(format!("silence for {} s", SILENCE_MOST.as_secs()))),
                Ok(Err(e)) => return Ok(Some(chain(&e))),
                Ok(Ok(None)) => return Ok(None),
                Ok(Ok(Some(chunk))) => chunk,
            };
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            let _ = chunk.split_to(skipped);
            skip = skip.saturating_sub(u64::try_from(skipped).unwrap_or(0));
            if chunk.is_empty() {
                continue;
            }
            let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            self.have = self.have.saturating_add(length);
            if self.have > most {
                let why = format!(
                    "{} is longer than the {most} bytes it should have",
                    self.what
                );
                return Err(error(self.repository, format!("{why}; it is not used")).into());
            }
            self.sender
                .send(Ok(chunk))
                .await
                .map_err(|_| Stop::KeeperGone)?;
            self.meter.advance(length);
        }
    }
}

/// Where `Content-Range` says that the answer begins.
fn starts_at(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range
        .trim()
        .strip_prefix("bytes")?
        .trim()
        .split('-')
        .next()?
        .parse()
        .ok()
}

/// The network's chunks as a reader for the thread that keeps them.
struct Incoming {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
    ended: bool,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(e)) => return Err(e),
                None => self.ended = true,
            }
        }
        let length = self.chunk.len().min(buffer.len());
        let part = self.chunk.split_to(length);
        if let Some(to) = buffer.get_mut(..length) {
            to.copy_from_slice(&part);
        }
        Ok(length)
    }
}
