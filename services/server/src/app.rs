//! What handlers share, and which path leads to which. May not: decide anything.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post, put};
use regatta_store::{Blobs, Store};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::actor::{self, ActorHandle, Live};
use crate::answer::{Answer, Refusal};
use crate::lead::{self, Campaign, Role};
use crate::limits::{EVENT_STREAMS_MOST, REPORTS_MOST};
use crate::metrics::Metrics;
use crate::registry::Uploads;
use crate::sets::Sets;
use crate::{Address, Error, Options};
use crate::{
    agents, artifacts, attempts, bisect, cells, direct, events, history, hosts, logs, metrics,
    openapi, pass_on, registry, retention, runs,
};

/// How long a request waits for a leader.
const LEADER_WITHIN: Duration = Duration::from_secs(2);

/// What handlers share.
pub(crate) struct App {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: Blobs,
    /// Bytes of a file from which an agent is told to bring it elsewhere.
    pub(crate) direct_from: Option<u64>,
    pub(crate) images: regatta_image::Store,
    pub(crate) role: watch::Receiver<Role>,
    /// What speaks to other servers.
    pub(crate) others: reqwest::Client,
    pub(crate) live: Arc<Live>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) uploads: Uploads,
    pub(crate) sets: Sets,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) reports: Semaphore,
    /// A run ended whose regressions are to be traced.
    pub(crate) bisect_wanted: Arc<Notify>,
    /// Where uploads are written.
    pub(crate) data: PathBuf,
    pub(crate) shutdown: CancellationToken,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

impl App {
    /// Opens what lasts, and stands for leader: whoever leads takes up the runs that are not over.
    pub(crate) async fn open(
        options: &Options,
        address: &Address,
        shutdown: CancellationToken,
    ) -> Result<(Arc<Self>, JoinHandle<()>), Error> {
        let directory = options.data.join("server");
        make(&directory)?;
        let store = regatta_store::open(&options.database).await?;
        let mut blobs = Blobs::open(&options.blobs).await?;
        if let Some(endpoint) = &options.blobs_public_endpoint {
            blobs = blobs.reached_at("--blobs-public-endpoint", endpoint)?;
        }
        let direct_from = direct::from(options.direct_uploads, &blobs);
        let images = regatta_image::Store::open(&options.images).map_err(Error::Images)?;
        let uploads_at = directory.join("uploads");
        make(&uploads_at)?;
        let uploads = Uploads::open(uploads_at);
        let metrics = Arc::new(Metrics::new(&options.commit));
        let live = Arc::new(Live::default());
        let bisect_wanted = Arc::new(Notify::new());
        let shared = actor::Shared {
            store: Arc::clone(&store),
            blobs: blobs.clone(),
            images: images.clone(),
            live: Arc::clone(&live),
            metrics: Arc::clone(&metrics),
            bisect_wanted: Arc::clone(&bisect_wanted),
            lease_ms: options.lease_ms,
            keep: options.keep,
            shutdown: shutdown.clone(),
        };
        let (role, followed) = watch::channel(Role::default());
        let campaign = Campaign {
            shared,
            address: options
                .advertise
                .clone()
                .unwrap_or_else(|| format!("http://{address}")),
            role,
            shutdown: shutdown.clone(),
        };
        let leading = lead::start(campaign).await?;
        let app = Arc::new(Self {
            store,
            blobs,
            direct_from,
            images,
            role: followed,
            others: pass_on::client()?,
            live,
            metrics,
            uploads,
            sets: Sets::default(),
            streams: Arc::new(Semaphore::new(EVENT_STREAMS_MOST)),
            reports: Semaphore::new(REPORTS_MOST),
            bisect_wanted,
            data: directory,
            shutdown,
        });
        tokio::spawn(Uploads::sweep(Arc::clone(&app)));
        tokio::spawn(bisect::keep(Arc::clone(&app)));
        Ok((app, leading))
    }

    /// The way to the actor, where this server leads. Waits for a moment where nobody does.
    pub(crate) async fn leader(&self) -> Answer<ActorHandle> {
        let mut role = self.role.clone();
        let known = role.wait_for(|role| !matches!(role, Role::Unknown));
        match tokio::time::timeout(LEADER_WITHIN, known).await {
            Ok(Ok(role)) => match &*role {
                Role::Leading(actor) => Ok(actor.clone()),
                Role::Following(_) | Role::Unknown => Err(Refusal::no_leader()),
            },
            _ => Err(Refusal::no_leader()),
        }
    }

    pub(crate) async fn close(&self) {
        self.store.close().await;
    }
}

fn make(directory: &PathBuf) -> Result<(), Error> {
    std::fs::create_dir_all(directory).map_err(|source| Error::Directory {
        path: directory.clone(),
        source,
    })
}

/// All paths.
pub(crate) fn router(app: Arc<App>) -> Router {
    let attempt = "/api/v1/runs/{run}/cells/{cell}/attempts/{attempt}";
    // What only the leader knows, or may decide.
    let leaders = Router::new()
        .route("/api/v1/runs/{run}/explain", get(runs::explain))
        .route("/api/v1/runs/{run}/events", get(events::stream))
        .route("/api/v1/runs/{run}/cancel", post(runs::cancel))
        .route("/api/v1/runs/{run}/rerun", post(runs::rerun))
        .route("/api/v1/prune", post(retention::prune))
        .route("/api/v1/hosts", get(hosts::list))
        .route("/api/v1/hosts/{host}/policy", put(hosts::set_policy))
        .route("/api/v1/agents/sync", post(agents::sync))
        .route_layer(from_fn_with_state(Arc::clone(&app), pass_on::to_leader));
    // What is recorded, and what runs now, which the leader knows.
    let better = Router::new()
        .route("/api/v1/runs", get(runs::list).post(runs::submit))
        .route("/api/v1/runs/{run}", get(runs::show))
        .route_layer(from_fn_with_state(
            Arc::clone(&app),
            pass_on::to_leader_if_any,
        ));
    Router::new()
        .merge(leaders)
        .merge(better)
        .route("/api/v1/runs/{run}/submission", get(runs::submission))
        .route("/api/v1/runs/{run}/report", get(cells::report))
        .route("/api/v1/runs/{run}/bisection", get(bisect::show))
        .route("/api/v1/runs/{run}/cells", get(cells::list))
        .route("/api/v1/runs/{run}/cells/{cell}", get(cells::show))
        .route("/api/v1/runs/{run}/cells/{cell}/plan", get(attempts::plan))
        .route(&format!("{attempt}/log"), get(logs::show).put(logs::upload))
        .route(&format!("{attempt}/upload"), post(direct::place))
        .route(&format!("{attempt}/artifacts"), get(artifacts::list))
        .route(
            &format!("{attempt}/artifacts/{{*path}}"),
            get(artifacts::show).put(artifacts::upload),
        )
        .route("/api/v1/history", get(history::history))
        .route("/api/v1/flaky", get(history::flaky))
        .route("/api/v1/openapi.json", get(openapi::document))
        .route("/api/v1/report.schema.json", get(openapi::report_schema))
        .route("/api/v1/matrix.schema.json", get(openapi::matrix_schema))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .route("/metrics/hosts", get(show_host_metrics))
        .route("/v2", any(registry::base))
        .route("/v2/", any(registry::base))
        .route("/v2/{*path}", any(registry::dispatch))
        .fallback(nothing)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(as_problem))
        .with_state(app)
}

async fn nothing(uri: Uri) -> Refusal {
    Refusal::not_found(format!(
        "there is nothing at {}; /api/v1/openapi.json lists what there is",
        uri.path()
    ))
}

/// Turns the refusals of the framework (405, a path that does not decode, ...) into problems, too.
async fn as_problem(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    // A copy: what holds on to the URI keeps the buffer that it was read into for as long as the answer takes.
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status();
    let refused = status.is_client_error() || status.is_server_error();
    let written = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().ends_with(b"json") || path.starts_with("/v2/"));
    if !refused || written || method == Method::HEAD {
        return response;
    }
    let detail = match status {
        StatusCode::METHOD_NOT_ALLOWED => format!("{path} does not take {method}"),
        _ => format!("{method} {path} is not understood"),
    };
    let mut problem = Refusal::new(status, "", detail).into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow.clone());
    }
    problem
}

async fn healthy() -> &'static str {
    "ok\n"
}

/// How long the parts may take to say that they work.
const READY_WITHIN: Duration = Duration::from_secs(3);

async fn ready(State(app): State<Arc<App>>) -> Answer<&'static str> {
    let works = async {
        app.store.ping().await?;
        let follows = matches!(&*app.role.borrow(), Role::Following(_));
        if follows {
            return Ok(());
        }
        app.leader().await?.hosts().await.map(drop)
    };
    match tokio::time::timeout(READY_WITHIN, works).await {
        Ok(Ok(())) => Ok("ready\n"),
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => Err(Refusal::busy("the database did not answer in time")),
    }
}

fn page(text: Result<String, std::fmt::Error>) -> Answer<Response> {
    let text = text.map_err(|_| {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "",
            "the metrics cannot be written",
        )
    })?;
    let mut headers = HeaderMap::new();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    Ok((headers, text).into_response())
}

async fn show_metrics(State(app): State<Arc<App>>) -> Answer<Response> {
    page(app.metrics.page())
}

async fn show_host_metrics(State(app): State<Arc<App>>) -> Answer<Response> {
    let leads = matches!(&*app.role.borrow(), Role::Leading(_));
    let hosts = if leads {
        app.leader().await?.hosts().await?
    } else {
        // The leader's page has them; a second one would count each host twice.
        Vec::new()
    };
    page(metrics::hosts_page(&hosts))
}
