//! Manifests and indexes, by tag and by digest. May not: take one whose parts are not here.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse as _;
use regatta_image::reference::Reference;
use regatta_model::Digest;
use serde_json::Value;

use super::{Denied, Granted, digest, local_name, made};
use crate::answer::json;
use crate::app::App;
use crate::body;
use crate::limits::MANIFEST_BYTES_MOST;

/// What a manifest is where it does not say so itself.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Most images of one index.
const INDEX_MOST: usize = 256;

pub(super) async fn handle(
    app: &Arc<App>,
    name: &str,
    reference: &str,
    request: Request<Body>,
) -> Granted {
    match *request.method() {
        Method::GET => get(app, name, reference, true).await,
        Method::HEAD => get(app, name, reference, false).await,
        Method::PUT => put(app, name, reference, request).await,
        ref other => Err(Denied::unsupported(other)),
    }
}

/// The name of a tag in the server's own store.
fn tagged(name: &str, tag: &str) -> Result<String, Denied> {
    let full = format!("{}:{tag}", local_name(name));
    match Reference::parse(&full) {
        Ok(_) => Ok(full),
        Err(error) => Err(Denied::new(
            StatusCode::BAD_REQUEST,
            "TAG_INVALID",
            error.to_string(),
        )),
    }
}

async fn get(app: &Arc<App>, name: &str, reference: &str, whole: bool) -> Granted {
    let unknown = || {
        let message = format!("{name} has no manifest {reference} here");
        Denied::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message)
    };
    let (images, named) = match reference.parse::<Digest>() {
        Ok(digest) => (app.images.clone(), Err(digest)),
        Err(_) => (app.images.clone(), Ok(tagged(name, reference)?)),
    };
    let found = tokio::task::spawn_blocking(move || {
        let digest = match named {
            Err(digest) => Some(digest),
            Ok(named) => images.resolve(&named),
        };
        digest
            .filter(|digest| images.has(digest))
            .map(|digest| images.read_blob(&digest).map(|bytes| (digest, bytes)))
    });
    let found = found.await.map_err(Denied::internal)?.ok_or_else(unknown)?;
    let (digest, bytes) = found.map_err(|_| unknown())?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| unknown())?;
    let default = if value.get("manifests").is_some() {
        INDEX
    } else {
        MANIFEST
    };
    let kind = value
        .get("mediaType")
        .and_then(Value::as_str)
        .unwrap_or(default);
    let headers = [
        ("content-type", kind.to_owned()),
        ("content-length", bytes.len().to_string()),
        ("docker-content-digest", digest.to_string()),
        ("etag", format!("\"{digest}\"")),
    ];
    let body = if whole {
        Body::from(bytes)
    } else {
        Body::empty()
    };
    Ok((headers, body).into_response())
}

async fn put(app: &Arc<App>, name: &str, reference: &str, request: Request<Body>) -> Granted {
    let bytes = body::read(
        request.into_body(),
        MANIFEST_BYTES_MOST,
        "MANIFEST_BYTES_MOST",
    )
    .await
    .map_err(|refusal| {
        let message = format!("the manifest was not read: {}", refusal.detail());
        Denied::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
    })?;
    let found = Digest::of(&bytes);
    let tag = match reference.parse::<Digest>() {
        Ok(wanted) if wanted != found => {
            let message = format!("the body is {found} and not {wanted}");
            return Err(Denied::new(
                StatusCode::BAD_REQUEST,
                "DIGEST_INVALID",
                message,
            ));
        }
        Ok(_) => None,
        Err(_) => Some(tagged(name, reference)?),
    };
    let images = app.images.clone();
    let kept = tokio::task::spawn_blocking(move || keep(&images, &bytes, found, tag.as_deref()));
    kept.await.map_err(Denied::internal)??;
    Ok(made(format!("/v2/{name}/manifests/{found}"), &found))
}

/// Takes a manifest in, once all that it refers to is here.
fn keep(
    images: &regatta_image::Store,
    bytes: &[u8],
    found: Digest,
    tag: Option<&str>,
) -> Result<(), Denied> {
    let wrong = |message: String| Denied::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message);
    let store = |error: regatta_image::Error| Denied::store(&error);
    let work = images.work().map_err(store)?;
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| wrong(format!("it is no JSON: {error}")))?;
    let missing = |digest: &Digest| {
        let message = format!("{digest}, which it refers to, is not here; push that first");
        Denied::new(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", message)
    };
    if let Some(entries) = value.get("manifests").and_then(Value::as_array) {
        if entries.len() > INDEX_MOST {
            return Err(wrong(format!(
                "it has more than {INDEX_MOST} images (limit INDEX_MOST)"
            )));
        }
        for entry in entries {
            let part = entry
                .get("digest")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let part = digest(part)?;
            if !images.has(&part) {
                return Err(missing(&part));
            }
        }
        images.ingest(bytes, Some(found)).map_err(store)?;
        return tag.map_or(Ok(()), |tag| images.tag(tag, &found).map_err(store));
    }
    let manifest = regatta_image::Manifest::parse(bytes).map_err(store)?;
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        if !images.has(&blob.digest) {
            return Err(missing(&blob.digest));
        }
    }
    images.ingest(bytes, Some(found)).map_err(store)?;
    let names: Vec<String> = tag.map(str::to_owned).into_iter().collect();
    if names.is_empty() {
        // Hosts verify it when they unpack it; who pushed it by digest may name it later.
        return Ok(());
    }
    images.admit(work, &found, &names).map(drop).map_err(store)
}

/// `GET tags/list`: the tags of one repository.
pub(super) async fn tags(app: &Arc<App>, name: &str, method: &Method) -> Granted {
    if method != Method::GET {
        return Err(Denied::unsupported(method));
    }
    let images = app.images.clone();
    let listed = tokio::task::spawn_blocking(move || images.list())
        .await
        .map_err(Denied::internal)?;
    let listed = listed.map_err(|error| Denied::store(&error))?;
    let prefix = format!("{}:", local_name(name));
    let names = listed.iter().map(|image| image.name.as_str());
    let mut tags: Vec<&str> = names
        .filter_map(|name| name.strip_prefix(&prefix))
        .collect();
    tags.sort_unstable();
    if tags.is_empty() {
        let message = format!("there is no repository {name} here");
        return Err(Denied::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message));
    }
    let mut response = json(
        StatusCode::OK,
        &serde_json::json!({"name": name, "tags": tags}),
    );
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    Ok(response)
}
