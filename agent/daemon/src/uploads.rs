//! Logs and artifacts on their way to the server, or straight to its bucket. May not: try again at the server; the
//! callers do, with patience.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use regatta_model::AttemptId;
use regatta_model::upload::{UploadPlace, UploadRequest};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use tokio::fs::File;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::collect::Left;
use crate::server::{Error, PLACE_MOST, Server, body, send, understood};

/// How long an upload may take without any progress.
const STALL: Duration = Duration::from_mins(1);

/// How long all goes to the server after a bucket did not take a file: a network that does not lead there costs each
/// large file the time for a connection.
const DIRECT_AGAIN_AFTER: Duration = Duration::from_mins(5);

/// Longest answer of a store that is read for its reason, in bytes.
const REASON_MOST: usize = 16 << 10;
/// Characters of that reason which are repeated.
const CODE_MOST: usize = 64;

/// What is uploaded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Upload<'a> {
    /// An attempt's log, compressed.
    Log(&'a Path),
    /// A file that it left.
    Artifact(&'a Left),
}

impl Upload<'_> {
    /// From its start; each try reads with a position of its own.
    async fn open(&self) -> Result<(File, u64), Error> {
        let file = match *self {
            Self::Log(path) => {
                let opened = File::open(path).await;
                opened.map_err(|error| Error::Nonsense(format!("{}: {error}", path.display())))?
            }
            Self::Artifact(left) => {
                let left = left.clone();
                let opened = crate::failure::blocking(move || left.open()).await;
                let opened = opened.map_err(|failure| Error::Nonsense(failure.detail))?;
                File::from_std(opened.map_err(|error| Error::Nonsense(error.to_string()))?)
            }
        };
        let metadata = file.metadata().await;
        let metadata = metadata.map_err(|error| Error::Nonsense(error.to_string()))?;
        Ok((file, metadata.len()))
    }

    fn artifact(&self) -> Option<&str> {
        match self {
            Self::Log(_) => None,
            Self::Artifact(left) => Some(&left.name),
        }
    }
}

/// The ways that files take.
#[derive(Clone, Debug)]
pub(crate) struct Ways {
    /// To the server; a connection is not watched, an upload is.
    server: Client,
    /// To anywhere.
    anywhere: Client,
    /// Bytes of a file from which the server is asked where it goes, as it said last.
    least: Arc<AtomicU64>,
    /// Until when it is not asked, because a bucket did not take what it should.
    closed_until: Arc<std::sync::Mutex<Option<Instant>>>,
}

impl Ways {
    /// `socket`: where the server is, if that is one.
    pub(crate) fn new(socket: Option<&PathBuf>) -> Result<Self, Error> {
        let anywhere = crate::server::client().build()?;
        let server = match socket {
            Some(path) => crate::server::client()
                .unix_socket(path.as_path())
                .build()?,
            None => anywhere.clone(),
        };
        Ok(Self {
            server,
            anywhere,
            least: Arc::new(AtomicU64::new(u64::MAX)),
            closed_until: Arc::default(),
        })
    }

    /// The server said so.
    pub(crate) fn heard(&self, direct_from: Option<u64>) {
        self.least
            .store(direct_from.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn leads_past(&self, bytes: u64) -> bool {
        let closed = self.closed_until.lock();
        let until = closed.map_or(None, |until| *until);
        bytes >= self.least.load(Ordering::Relaxed) && until.is_none_or(|end| Instant::now() > end)
    }

    fn close(&self) {
        if let Ok(mut until) = self.closed_until.lock() {
            *until = Some(Instant::now() + DIRECT_AGAIN_AFTER);
        }
    }
}

impl Server {
    /// Uploads a file of an attempt: a large one where the server says, if that works. `by`: see [`Self::files_by`].
    pub(crate) async fn upload(
        &self,
        attempt: &AttemptId,
        by: Option<u64>,
        what: Upload<'_>,
    ) -> Result<(), Error> {
        let (mut file, bytes) = what.open().await?;
        if let Some(generation) = by.filter(|_| self.ways.leads_past(bytes)) {
            let request = UploadRequest {
                generation,
                bytes,
                artifact: what.artifact().map(str::to_owned),
            };
            match self.place(attempt, &request).await {
                UploadPlace::Server => {}
                UploadPlace::Nowhere => return Ok(()),
                UploadPlace::Url { url, headers } => {
                    let way = &self.ways.anywhere;
                    let request = headers.iter().fold(way.put(url), |request, (name, value)| {
                        request.header(name, value)
                    });
                    match store(request, file, bytes).await {
                        Ok(true) => return Ok(()),
                        Ok(false) => {
                            tracing::debug!("a file of {attempt} is in the bucket already");
                        }
                        Err(error) => {
                            let of = what.artifact().unwrap_or("the log");
                            let minutes = DIRECT_AGAIN_AFTER.as_secs() / 60;
                            tracing::warn!(
                                "the bucket did not take {of} of {attempt} ({error}): for {minutes} minutes, all goes to the server"
                            );
                            self.ways.close();
                        }
                    }
                    (file, _) = what.open().await?;
                }
            }
        }
        let tail: Vec<&str> = match what.artifact() {
            None => vec!["log"],
            Some(path) => std::iter::once("artifacts")
                .chain(path.split('/'))
                .collect(),
        };
        let mut url = self.of(attempt, &tail)?;
        if let Some(generation) = by {
            url.query_pairs_mut()
                .append_pair("generation", &generation.to_string());
        }
        let answer = put(self.ways.server.put(url), file, bytes).await?;
        in_time(understood(answer)).await?.map(drop)
    }

    /// Where a file goes. A server that does not say takes it, or says then why not.
    async fn place(&self, attempt: &AttemptId, request: &UploadRequest) -> UploadPlace {
        let asked = async {
            let url = self.of(attempt, &["upload"])?;
            let answer = send(self.client().post(url).json(request)).await?;
            let text = body(answer, PLACE_MOST).await?;
            serde_json::from_slice(&text).map_err(|error| Error::Nonsense(error.to_string()))
        };
        asked.await.unwrap_or_else(|error: Error| {
            tracing::debug!("where a file of {attempt} goes was not said: {error}");
            UploadPlace::Server
        })
    }

    /// The path of an attempt at the server, and what stands below it.
    fn of(&self, attempt: &AttemptId, tail: &[&str]) -> Result<Url, Error> {
        let (cell, ordinal) = (attempt.cell.to_string(), attempt.ordinal.to_string());
        let run = attempt.run.as_str();
        let head = [
            "api", "v1", "runs", run, "cells", &cell, "attempts", &ordinal,
        ];
        self.url(head.into_iter().chain(tail.iter().copied()))
    }
}

/// The next step of an upload.
async fn in_time<T>(step: impl Future<Output = T>) -> Result<T, Error> {
    let done = tokio::time::timeout(STALL, step).await;
    let seconds = STALL.as_secs();
    done.map_err(|_| Error::Unreachable(format!("nothing moved for {seconds} seconds")))
}

/// To a store that is not the server. False: something is there already, which only the server replaces.
async fn store(request: RequestBuilder, file: File, bytes: u64) -> Result<bool, String> {
    let answer = put(request, file, bytes).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let status = answer.status();
    if status.is_success() {
        return Ok(true);
    }
    if matches!(
        status,
        StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT
    ) {
        return Ok(false);
    }
    let reason = in_time(body(answer, REASON_MOST)).await;
    let text = reason.and_then(|text| text).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let code = text.split_once("<Code>").map_or("", |(_, rest)| rest);
    let code = code.split_once("</Code>").map_or("", |(code, _)| code);
    let code: String = code.chars().take(CODE_MOST).collect();
    Err(format!("{status} {code}").trim().to_owned())
}

/// Sends a file, and gives it up once nothing moves for [`STALL`]. The answer may be any.
async fn put(request: RequestBuilder, file: File, bytes: u64) -> Result<Response, Error> {
    let moved = Arc::new(Notify::new());
    let moves = Arc::clone(&moved);
    let stream = tokio_util::io::ReaderStream::new(file).inspect(move |_| moves.notify_one());
    let request = request
        .header("content-length", bytes)
        .body(reqwest::Body::wrap_stream(stream));
    let mut sending = std::pin::pin!(request.send());
    loop {
        tokio::select! {
            // Without its URL, which is a licence.
            answer = &mut sending => return Ok(answer.map_err(reqwest::Error::without_url)?),
            moved = in_time(moved.notified()) => moved?,
        }
    }
}
