//! A follower passes on what only the leader can answer. May not: pass on what was passed on already.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::answer::Refusal;
use crate::app::App;
use crate::lead::Role;

/// Says that a server passed this request on: the one that gets it answers or refuses.
const PASSED_ON: HeaderName = HeaderName::from_static("regatta-passed-on");

/// How long the leader may take to be reached.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How long the leader may say nothing: longer than the longest wait of a sync, and than the signs of life of a stream of
/// events are apart.
const SILENT_MOST: Duration = Duration::from_mins(1);

/// Headers that speak of one connection only (RFC 9110, 7.6.1), and those that the client sets itself.
const OF_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::HOST,
    header::PROXY_AUTHORIZATION,
];

/// What speaks to other servers.
pub(crate) fn client() -> Result<reqwest::Client, crate::Error> {
    // The first one counts; whoever installed one before chose the same.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .connect_timeout(CONNECT_WITHIN)
        .read_timeout(SILENT_MOST)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(|error| crate::Error::Options(format!("no client for other servers: {error}")))
}

/// For what only the leader knows or may decide.
pub(crate) async fn to_leader(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let role = app.role.borrow().clone();
    match role {
        Role::Following(leader) => pass_on(&app, &leader, request).await,
        Role::Leading(_) | Role::Unknown => next.run(request).await,
    }
}

/// For what the leader knows better, and this server well enough while no leader can be reached.
pub(crate) async fn to_leader_if_any(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let role = app.role.borrow().clone();
    let Role::Following(leader) = role else {
        return next.run(request).await;
    };
    let (parts, body) = request.into_parts();
    if parts.method != Method::GET {
        return pass_on(&app, &leader, Request::from_parts(parts, body)).await;
    }
    let passed = pass_on(
        &app,
        &leader,
        Request::from_parts(parts.clone(), Body::empty()),
    )
    .await;
    if passed.status().is_server_error() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    passed
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in OF_CONNECTION {
        headers.remove(name);
    }
    headers
}

async fn pass_on(app: &App, leader: &str, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.headers.contains_key(PASSED_ON) {
        return Refusal::no_leader().into_response();
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let url = format!("{}{path}", leader.trim_end_matches('/'));
    let mut headers = end_to_end(&parts.headers);
    headers.insert(PASSED_ON, HeaderValue::from_static("1"));
    let mut passed = app
        .others
        .request(parts.method.clone(), url)
        .headers(headers);
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        passed = passed.body(reqwest::Body::wrap_stream(body.into_data_stream()));
    }
    match passed.send().await {
        Ok(answer) => {
            let status = answer.status();
            let headers = end_to_end(answer.headers());
            let mut response = (status, Body::from_stream(answer.bytes_stream())).into_response();
            *response.headers_mut() = headers;
            response
        }
        Err(error) => {
            tracing::debug!("the leader at {leader} does not answer: {error}");
            Refusal::no_leader().into_response()
        }
    }
}
