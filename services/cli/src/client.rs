//! The HTTP client of the API: this module is the one place of the cli that speaks HTTP. May not: retry a
//! submission without its idempotency key.

mod place;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use regatta_model::problem::Problem;
use regatta_model::report::{CellReport, Report};
use regatta_model::run::{RunEvent, RunSummary, Submission};
use regatta_model::wait::Explanation;
use serde::de::DeserializeOwned;

use crate::context::Failure;
pub(crate) use place::{Place, socket};

/// A server's API.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    bases: Arc<[url::Url]>,
    /// Which of them is spoken to; the next one where it cannot be reached.
    current: Arc<AtomicUsize>,
    place: Place,
}

/// Longest wait for an answer that is not a stream.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// Longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Longest document that is read into memory, in bytes.
const DOCUMENT_MOST: usize = 1 << 30;

/// Cells that are asked for at once.
const CELLS_PAGE: u32 = 1000;

impl Client {
    pub(crate) fn new(place: &Place) -> Result<Self, Failure> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .user_agent(concat!("regatta/", env!("CARGO_PKG_VERSION")));
        if let Place::Socket(path) = place {
            builder = builder.unix_socket(path.as_path()).no_proxy();
        }
        let http = builder.build().map_err(Failure::platform)?;
        let bases = match place {
            Place::Urls(urls) => urls.clone(),
            Place::Socket(_) => {
                vec![url::Url::parse("http://regatta.local/").map_err(Failure::platform)?]
            }
        };
        Ok(Self {
            http,
            bases: bases.into(),
            current: Arc::default(),
            place: place.clone(),
        })
    }

    /// The URL of the server that is spoken to; none where it is this machine's own.
    pub(crate) fn server(&self) -> Option<&url::Url> {
        matches!(self.place, Place::Urls(_))
            .then(|| self.base())
            .flatten()
    }

    fn base(&self) -> Option<&url::Url> {
        let current = self.current.load(Ordering::Relaxed) % self.bases.len().max(1);
        self.bases.get(current)
    }

    fn url(&self, path: &str) -> Result<url::Url, Failure> {
        let base = self.base();
        let base = base.ok_or_else(|| Failure::wrong("--server names no server"))?;
        base.join(path).map_err(Failure::platform)
    }

    /// Turns to the next server, where there is one; tells the same request's URL there.
    fn next_server(&self, url: &url::Url) -> Option<url::Url> {
        let from = self.base()?.clone();
        self.current.fetch_add(1, Ordering::Relaxed);
        let rest = url.as_str().strip_prefix(from.as_str())?;
        self.base()?.join(rest).ok()
    }

    /// Sends a request to the servers in turn, until one can be reached.
    async fn execute(
        &self,
        request: reqwest::RequestBuilder,
    ) -> reqwest::Result<reqwest::Response> {
        let mut request = request.build()?;
        for _ in 1..self.bases.len() {
            let again = request.try_clone();
            match (self.http.execute(request).await, again) {
                (Err(error), Some(mut again)) if error.is_connect() => {
                    let Some(url) = self.next_server(again.url()) else {
                        return Err(error);
                    };
                    *again.url_mut() = url;
                    request = again;
                }
                (result, _) => return result,
            }
        }
        self.http.execute(request).await
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut causes = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            causes = format!("{causes}: {cause}");
            source = cause.source();
        }
        match &self.place {
            Place::Urls(urls) => {
                let urls: Vec<&str> = urls.iter().map(url::Url::as_str).collect();
                let urls = urls.join(" or ");
                Failure::unreachable(format!(
                    "cannot reach the server at {urls}: {causes}; is `regatta server` running there?"
                ))
            }
            Place::Socket(path) => Failure::unreachable(format!(
                "cannot reach the server behind {}: {causes}",
                path.display()
            )),
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
        let response = self
            .execute(request)
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        let message = match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if !problem.detail.is_empty() => problem.detail,
            Ok(problem) => problem.title,
            Err(_) => format!(
                "the server answered {status}: {}",
                String::from_utf8_lossy(&body)
                    .chars()
                    .take(300)
                    .collect::<String>()
            ),
        };
        // What the server calls the client's mistake is the command's or the matrix's: exit status 2.
        if status.is_client_error() {
            Err(Failure::wrong(message))
        } else {
            Err(Failure::platform(message))
        }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let bytes = self.bytes(path).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::platform(format!(
                "the server's answer to {path} is not understood: {error}"
            ))
        })
    }

    pub(crate) async fn bytes(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let response = self
            .send(self.http.get(self.url(path)?).timeout(ANSWER_WITHIN))
            .await?;
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.unreachable(&error))?;
            if body.len() + chunk.len() > DOCUMENT_MOST {
                return Err(Failure::platform(format!(
                    "{path}: the answer is longer than {DOCUMENT_MOST} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Asks without a body, and drops the answer's.
    pub(crate) async fn post(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let response = self
            .send(self.http.post(self.url(path)?).timeout(ANSWER_WITHIN))
            .await?;
        Ok(response
            .bytes()
            .await
            .map_err(|error| self.unreachable(&error))?
            .to_vec())
    }

    /// The same, with a key that makes a second try the first one.
    pub(crate) async fn post_once(&self, path: &str, key: &str) -> Result<Vec<u8>, Failure> {
        let request = self
            .http
            .post(self.url(path)?)
            .header("idempotency-key", key)
            .timeout(ANSWER_WITHIN);
        let response = self.send(request).await?;
        Ok(response
            .bytes()
            .await
            .map_err(|error| self.unreachable(&error))?
            .to_vec())
    }

    pub(crate) async fn put_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<T, Failure> {
        let response = self
            .send(
                self.http
                    .put(self.url(path)?)
                    .json(body)
                    .timeout(ANSWER_WITHIN),
            )
            .await?;
        let answer = response.bytes().await;
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&answer).map_err(|error| {
            Failure::platform(format!(
                "the server's answer to {path} is not understood: {error}"
            ))
        })
    }

    /// Hands in a matrix. The key makes a second try after a lost answer harmless.
    pub(crate) async fn submit(
        &self,
        submission: &Submission,
        key: &str,
    ) -> Result<RunSummary, Failure> {
        let body = serde_json::to_vec(submission).map_err(Failure::platform)?;
        let request = self
            .http
            .post(self.url("api/v1/runs")?)
            .header("content-type", "application/vnd.regatta.submission+json")
            .header("idempotency-key", key)
            .timeout(ANSWER_WITHIN)
            .body(body);
        let response = self.send(request).await?;
        let body = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body).map_err(|error| {
            Failure::platform(format!("the server's answer is not understood: {error}"))
        })
    }

    pub(crate) async fn run(&self, run: &str) -> Result<RunSummary, Failure> {
        self.get(&format!("api/v1/runs/{run}")).await
    }

    /// Why something of a run waits.
    pub(crate) async fn explain(&self, run: &str) -> Result<Explanation, Failure> {
        self.get(&format!("api/v1/runs/{run}/explain")).await
    }

    /// A run's report, with what is new beside another run.
    pub(crate) async fn report_against(&self, run: &str, other: &str) -> Result<Report, Failure> {
        self.get(&format!("api/v1/runs/{run}/report?against={other}"))
            .await
    }

    pub(crate) async fn report(&self, run: &str) -> Result<Report, Failure> {
        self.get(&format!("api/v1/runs/{run}/report")).await
    }

    /// Cells of a run after `after`, in the order of their numbers; none after the last.
    pub(crate) async fn cells(
        &self,
        run: &str,
        after: Option<u64>,
    ) -> Result<Vec<CellReport>, Failure> {
        let after = after.map_or(String::new(), |after| format!("&after={after}"));
        self.get(&format!(
            "api/v1/runs/{run}/cells?limit={CELLS_PAGE}{after}"
        ))
        .await
    }

    /// A run's events from `after` on, until the server or the connection ends them.
    pub(crate) async fn events(
        &self,
        run: &str,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<(String, RunEvent), Failure>> + use<>, Failure> {
        let mut request = self
            .http
            .get(self.url(&format!("api/v1/runs/{run}/events"))?);
        request = request.header("accept", "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = self.send(request).await?;
        Ok(read_events(response))
    }
}

/// Longest line of a stream of events, in bytes.
const EVENT_LINE_MOST: usize = 1 << 20;

/// Reads server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): `id`, `event` and `data` lines,
/// an empty line ends one. The data of Regatta's events is JSON that repeats the kind.
fn read_events(
    response: reqwest::Response,
) -> impl Stream<Item = Result<(String, RunEvent), Failure>> {
    struct State {
        body: futures_util::stream::BoxStream<'static, Result<bytes::Bytes, reqwest::Error>>,
        rest: Vec<u8>,
        id: String,
        data: String,
    }
    let state = State {
        body: response.bytes_stream().boxed(),
        rest: Vec::new(),
        id: String::new(),
        data: String::new(),
    };
    futures_util::stream::unfold(state, |mut state| async move {
        loop {
            while let Some(end) = state.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = state.rest.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let line = line.trim_end_matches(['\n', '\r']);
                if let Some(id) = line.strip_prefix("id:") {
                    id.trim().clone_into(&mut state.id);
                } else if let Some(data) = line.strip_prefix("data:") {
                    state.data.push_str(data.strip_prefix(' ').unwrap_or(data));
                } else if line.is_empty() && !state.data.is_empty() {
                    let data = std::mem::take(&mut state.data);
                    // An event of a newer server that this program does not know is passed over.
                    if let Ok(event) = serde_json::from_str::<RunEvent>(&data) {
                        return Some((Ok((state.id.clone(), event)), state));
                    }
                }
            }
            if state.rest.len() > EVENT_LINE_MOST || state.data.len() > EVENT_LINE_MOST {
                return Some((
                    Err(Failure::platform(
                        "the server sent an event that is too long",
                    )),
                    state,
                ));
            }
            match state.body.next().await {
                Some(Ok(bytes)) => state.rest.extend_from_slice(&bytes),
                Some(Err(error)) => return Some((Err(Failure::platform(error)), state)),
                None => return None,
            }
        }
    })
}
