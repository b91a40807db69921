//! Answers that say what is wrong: RFC 9457 problems. May not: tell a client what only the operator should know.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use regatta_model::problem::Problem;

/// Why a request is not answered as it wished.
#[derive(Debug)]
pub(crate) struct Refusal {
    problem: Box<Problem>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

pub(crate) type Answer<T> = Result<T, Refusal>;

/// How many seconds a client should wait when the server is busy.
const RETRY_AFTER: &str = "2";

impl Refusal {
    /// `kind` is a word of `urn:regatta:`, or empty where the status says it all.
    pub(crate) fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        let problem = Box::new(Problem {
            kind: if kind.is_empty() {
                "about:blank".to_owned()
            } else {
                format!("urn:regatta:{kind}")
            },
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            ..Problem::default()
        });
        Self {
            problem,
            headers: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// Points to a place in a matrix.
    pub(crate) fn at(
        mut self,
        line: Option<u32>,
        column: Option<u32>,
        pointer: Option<String>,
    ) -> Self {
        self.problem.line = line;
        self.problem.column = column;
        self.problem.pointer = pointer;
        self
    }

    pub(crate) fn titled(mut self, title: &str) -> Self {
        title.clone_into(&mut self.problem.title);
        self
    }

    /// Whether the same may be answered later.
    pub(crate) fn is_passing(&self) -> bool {
        self.problem.status == StatusCode::SERVICE_UNAVAILABLE.as_u16()
    }

    /// What it says.
    pub(crate) fn detail(&self) -> &str {
        &self.problem.detail
    }

    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "", detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "", detail)
    }

    pub(crate) fn conflict(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, kind, detail)
    }

    /// A limit was passed. `limit` is its name.
    pub(crate) fn too_large(what: &str, most: u64, limit: &str) -> Self {
        let detail = format!("{what} is longer than {most} bytes (limit {limit})");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "limit", detail)
    }

    /// The server cannot now, and may later.
    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
            .with(header::RETRY_AFTER, RETRY_AFTER)
    }

    pub(crate) fn ending() -> Self {
        Self::busy("the server is shutting down, or leads no more; try again")
    }

    pub(crate) fn no_leader() -> Self {
        Self::busy("no server leads at the moment, or none that can be reached; try again")
    }
}

impl From<regatta_store::Error> for Refusal {
    fn from(error: regatta_store::Error) -> Self {
        use regatta_store::Error;
        match error {
            Error::TooLong { key, most, limit } => Self::too_large(&key, most, limit),
            Error::Cut { .. } => Self::bad(error.to_string()),
            Error::Corrupt(_) => {
                tracing::error!("{error}");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "store",
                    error.to_string(),
                )
            }
            _ => {
                tracing::error!("{error}");
                Self::busy("the database or the blobs cannot be used at the moment; try again")
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.extend(self.headers);
        response
    }
}

/// A JSON answer.
pub(crate) fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::error!("an answer is no JSON: {error}");
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "",
                "the answer could not be written",
            )
            .into_response()
        }
    }
}
