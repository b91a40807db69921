//! `/v2/`: as much of the OCI distribution API as pushing and pulling needs. May not: name an image before its blobs are
//! here, or give out bytes under a digest that they do not have.
//!
//! Repositories are names only: all blobs are of one store, by digest. `regatta/NAME:TAG` is `NAME:TAG` of the server's
//! own store, so what is pushed can be named in a matrix.

mod blobs;
mod manifests;
mod uploads;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use regatta_model::Digest;

use crate::answer::json;
use crate::app::App;

pub(crate) use uploads::Uploads;

/// Longest name of a repository, in bytes.
const NAME_MOST: usize = 255;

/// A refusal in the form of the distribution API: a code from its closed set, and a sentence.
#[derive(Debug)]
pub(crate) struct Denied {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Denied {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    fn unknown_blob(digest: &Digest) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "BLOB_UNKNOWN",
            format!("{digest} is not in this server's store"),
        )
    }

    fn unsupported(method: &Method) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "UNSUPPORTED",
            format!("{method} is not taken here"),
        )
    }

    fn store(error: &regatta_image::Error) -> Self {
        use regatta_image::Error;
        match error {
            Error::Mismatch { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string())
            }
            Error::Malformed { .. } | Error::Refused(_) => Self::new(
                StatusCode::BAD_REQUEST,
                "MANIFEST_INVALID",
                error.to_string(),
            ),
            Error::NoBlob { digest } => Self::unknown_blob(digest),
            Error::Limit { .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "SIZE_INVALID",
                error.to_string(),
            ),
            _ => {
                tracing::error!("{error}");
                let message = "the server's store cannot be used at the moment; try again";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message)
            }
        }
    }

    fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!("the image store: {error}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "UNKNOWN",
            "the server failed; its log says why",
        )
    }

    fn into_response(self) -> Response {
        let body = serde_json::json!({"errors": [{"code": self.code, "message": self.message}]});
        json(self.status, &body)
    }
}

type Granted = Result<Response, Denied>;

/// `GET /v2/`: the API is here.
pub(crate) async fn base(method: Method) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return Denied::unsupported(&method).into_response();
    }
    (
        [("docker-distribution-api-version", "registry/2.0")],
        json(StatusCode::OK, &serde_json::json!({})),
    )
        .into_response()
}

/// What a path below `/v2/` names.
enum Asked<'a> {
    Manifest(&'a str),
    Blob(&'a str),
    NewUpload,
    Upload(&'a str),
    Tags,
}

/// Splits `NAME/manifests/REFERENCE` and the like; names hold slashes themselves, so the end decides.
fn split(path: &str) -> Option<(&str, Asked<'_>)> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if let Some(name) = path.strip_suffix("/blobs/uploads") {
        return Some((name, Asked::NewUpload));
    }
    if let Some(name) = path.strip_suffix("/tags/list") {
        return Some((name, Asked::Tags));
    }
    let (rest, last) = path.rsplit_once('/')?;
    if let Some(name) = rest.strip_suffix("/blobs/uploads") {
        return Some((name, Asked::Upload(last)));
    }
    if let Some(name) = rest.strip_suffix("/blobs") {
        return Some((name, Asked::Blob(last)));
    }
    rest.strip_suffix("/manifests")
        .map(|name| (name, Asked::Manifest(last)))
}

/// Whether a repository's name is one: parts of lower-case letters, digits and separators.
fn is_name(name: &str) -> bool {
    let inner =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let part = |part: &str| {
        part.chars().all(inner)
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && !part.ends_with(['.', '_', '-'])
    };
    !name.is_empty() && name.len() <= NAME_MOST && name.split('/').all(part)
}

/// The name of a repository's image in the server's own store.
fn local_name(name: &str) -> &str {
    name.strip_prefix("regatta/").unwrap_or(name)
}

/// Everything below `/v2/`.
pub(crate) async fn dispatch(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    request: Request<Body>,
) -> Response {
    let Some((name, asked)) = split(&path) else {
        let message = format!("there is nothing at /v2/{path}");
        return Denied::new(StatusCode::NOT_FOUND, "UNSUPPORTED", message).into_response();
    };
    if !is_name(name) {
        let message = format!("{name:?} is no name of a repository");
        return Denied::new(StatusCode::BAD_REQUEST, "NAME_INVALID", message).into_response();
    }
    let granted = match asked {
        Asked::Manifest(reference) => manifests::handle(&app, name, reference, request).await,
        Asked::Blob(digest) => blobs::handle(&app, digest, request).await,
        Asked::NewUpload => uploads::begin(&app, name, request).await,
        Asked::Upload(id) => uploads::handle(&app, name, id, request).await,
        Asked::Tags => manifests::tags(&app, name, request.method()).await,
    };
    granted.unwrap_or_else(Denied::into_response)
}

fn digest(text: &str) -> Result<Digest, Denied> {
    text.parse()
        .map_err(|error: regatta_model::digest::NotADigest| {
            Denied::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string())
        })
}

/// The value of a field of the query string; digests and repositories need no escapes but `%3A` and `%2F`.
fn query_field(request: &Request<Body>, wanted: &str) -> Option<String> {
    let fields = request.uri().query()?.split('&');
    let value = fields
        .filter_map(|field| field.split_once('='))
        .find(|(name, _)| *name == wanted)?
        .1;
    Some(
        value
            .replace("%3A", ":")
            .replace("%3a", ":")
            .replace("%2F", "/")
            .replace("%2f", "/"),
    )
}

/// An answer without a body that names a blob or manifest.
fn made(location: String, digest: &Digest) -> Response {
    let headers = [
        (header::LOCATION, location),
        (
            header::HeaderName::from_static("docker-content-digest"),
            digest.to_string(),
        ),
    ];
    (StatusCode::CREATED, headers).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_at_its_end() {
        let name = |path| split(path).map(|(name, _)| name.to_owned());
        assert_eq!(name("a/b/manifests/latest").as_deref(), Some("a/b"));
        assert_eq!(name("a/blobs/uploads/").as_deref(), Some("a"));
        assert_eq!(name("a/blobs/uploads/7").as_deref(), Some("a"));
        assert_eq!(name("blobs/blobs/sha256:0").as_deref(), Some("blobs"));
        assert_eq!(name("manifests/x"), None);
        assert!(is_name("regatta/files") && !is_name("a//b") && !is_name("../a") && !is_name("A"));
    }
}
