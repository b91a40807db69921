//! The agent's side of HTTP: sync, blobs; uploads stand beside it. May not: decide when, or try again (but for what the
//! callers ask).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use regatta_model::Digest;
use regatta_model::case::ToldResults;
use regatta_model::problem::Problem;
use regatta_model::wire::{SYNC_BYTES_MOST, SyncRequest, SyncResponse};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode, Url};

use crate::uploads::Ways;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a sync may take beyond the time that it asked the server to wait.
const SYNC: Duration = Duration::from_secs(15);

/// How long a server may be silent within an answer, and before it.
const SILENT: Duration = Duration::from_mins(1);

/// Longest text of a problem that is read, in bytes.
const PROBLEM_MOST: usize = 16 << 10;

/// Longest answer to where a file goes, in bytes; a signed URL has a key of 1024 and credentials.
pub(crate) const PLACE_MOST: usize = 16 << 10;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `http://HOST[:PORT]` or `https://...`; several are servers of one database, any of which will do.
    Urls(Vec<Url>),
    /// A Unix socket, written `unix:/PATH`.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let expected = "expected http://HOST:PORT, https://HOST, several of them with commas between, or unix:/PATH";
        let url = |text: &str| {
            let url = Url::parse(text)
                .map_err(|e| format!("{text:?} is no address ({e}): {expected}"))?;
            if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
                return Err(format!("{text:?} is no server's address: {expected}"));
            }
            Ok(url)
        };
        text.split(',')
            .map(url)
            .collect::<Result<_, _>>()
            .map(Self::Urls)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Urls(urls) => {
                for (index, url) in urls.iter().enumerate() {
                    let between = if index > 0 { "," } else { "" };
                    write!(f, "{between}{url}")?;
                }
                Ok(())
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why the server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was not reached, or the connection broke: worth another try.
    #[error("the server was not reached: {0}")]
    Unreachable(String),
    /// It has no time or a fault of its own: worth another try.
    #[error("the server answered {status}: {detail}")]
    Busy {
        /// The HTTP status.
        status: u16,
        /// Its sentence.
        detail: String,
    },
    /// It will not do this, however often it is asked.
    #[error("the server refused ({status}): {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its sentence.
        detail: String,
    },
    /// It said what no server says.
    #[error("the server's answer makes no sense: {0}")]
    Nonsense(String),
}

impl Error {
    /// Whether another try may help.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Busy { .. })
    }
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        // The cause says more than the outermost sentence, which holds the whole address.
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            text = inner.to_string();
            cause = inner.source();
        }
        Self::Unreachable(text)
    }
}

/// A server, or several of one database: one is spoken to until it cannot be reached, then the next.
#[derive(Clone, Debug)]
pub struct Server {
    client: Client,
    bases: Arc<[Url]>,
    current: Arc<AtomicUsize>,
    /// Whether files may be uploaded by generation, as it said last.
    generations: Arc<AtomicBool>,
    pub(crate) ways: Ways,
    address: Address,
}

/// What all clients have in common.
pub(crate) fn client() -> ClientBuilder {
    // The first one counts; whoever installed one before chose the same.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder()
        .connect_timeout(CONNECT)
        .user_agent(concat!("regatta-agent/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
}

impl Server {
    /// Makes the client; connects to nothing yet.
    pub fn new(address: Address) -> Result<Self, Error> {
        let mut builder = client().read_timeout(SILENT);
        let mut socket = None;
        let bases = match &address {
            Address::Urls(urls) => urls.clone(),
            Address::Unix(path) => {
                builder = builder.unix_socket(path.as_path());
                socket = Some(path);
                vec![Url::parse("http://localhost/").map_err(|e| Error::Nonsense(e.to_string()))?]
            }
        };
        Ok(Self {
            client: builder.build()?,
            bases: bases.into(),
            current: Arc::default(),
            generations: Arc::default(),
            ways: Ways::new(socket)?,
            address,
        })
    }

    fn base(&self) -> Result<&Url, Error> {
        let current = self.current.load(Ordering::Relaxed) % self.bases.len().max(1);
        let base = self.bases.get(current);
        base.ok_or_else(|| Error::Nonsense("there is no address".to_owned()))
    }

    /// The one that is spoken to cannot be reached, or does not know who leads: the next one may.
    pub fn try_next(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// `HOST[:PORT]` as an image reference names it, and whether it is spoken to without TLS; none for a
    /// Unix socket.
    pub fn registry(&self) -> Option<(String, bool)> {
        if matches!(self.address, Address::Unix(_)) {
            return None;
        }
        let url = self.base().ok()?;
        let host = url.host_str()?;
        let port = url
            .port()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        Some((format!("{host}{port}"), url.scheme() == "http"))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn url<'a>(
        &self,
        segments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Url, Error> {
        let mut url = self.base()?.clone();
        url.path_segments_mut()
            .map_err(|()| Error::Nonsense("the address has no path".to_owned()))?
            .pop_if_empty()
            .extend(segments);
        Ok(url)
    }

    /// Says what this host holds, and hears what it should hold.
    pub async fn sync(&self, request: &SyncRequest<ToldResults>) -> Result<SyncResponse, Error> {
        let url = self.url(["api", "v1", "agents", "sync"])?;
        let timeout = SYNC + Duration::from_millis(request.wait_ms);
        let builder = self.client.post(url).timeout(timeout).json(request);
        let body = body(send(builder).await?, SYNC_BYTES_MOST).await?;
        let answer: SyncResponse =
            serde_json::from_slice(&body).map_err(|error| Error::Nonsense(error.to_string()))?;
        self.generations
            .store(answer.takes_generations, Ordering::Relaxed);
        self.ways.heard(answer.direct_from);
        Ok(answer)
    }

    /// By what an assignment's files are uploaded: its generation, where the server keeps them apart by that.
    pub fn files_by(&self, generation: u64) -> Option<u64> {
        let taken = self.generations.load(Ordering::Relaxed);
        taken.then_some(generation)
    }

    /// Begins to fetch a blob of the server's store.
    pub async fn blob(&self, repository: &str, digest: &Digest) -> Result<Response, Error> {
        let digest = digest.to_string();
        let head = std::iter::once("v2").chain(repository.split('/'));
        let url = self.url(head.chain(["blobs", digest.as_str()]))?;
        send(self.client.get(url)).await
    }
}

pub(crate) async fn send(builder: RequestBuilder) -> Result<Response, Error> {
    understood(builder.send().await?).await
}

/// A server's answer, if it did what it was asked.
pub(crate) async fn understood(response: Response) -> Result<Response, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = body(response, PROBLEM_MOST).await.unwrap_or_default();
    let detail = match serde_json::from_slice::<Problem>(&text) {
        Ok(problem) if !problem.detail.is_empty() => problem.detail,
        _ => String::from_utf8_lossy(&text).trim().to_owned(),
    };
    let passing = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        );
    let status = status.as_u16();
    Err(if passing {
        Error::Busy { status, detail }
    } else {
        Error::Refused { status, detail }
    })
}

/// A response's body, if it is no longer than `most` bytes.
pub(crate) async fn body(response: Response, most: usize) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if body.len() + chunk.len() > most {
            return Err(Error::Nonsense(format!("it is longer than {most} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
