//! Fetching an image: its manifest, the one of an index that fits, its configuration and its layers. May
//! not: name an image before all of it is there.

use futures_util::{StreamExt as _, TryStreamExt as _};
use regatta_model::Digest;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};

use super::answer::{chain, error, refused};
use super::manifest::{self, Descriptor, Form, ImageManifest};
use super::transport::{Ask, SILENCE_MOST, accept};
use super::{CONCURRENT_BLOBS, Client, Meter, upload};
use crate::error::{Error, Result};
use crate::limits;
use crate::progress::Progress;
use crate::reference::{Reference, Repository};
use crate::store::Store;

/// Deepest nesting of an index in an index.
const NESTING_MOST: usize = 3;

/// A manifest as it came.
struct Fetched {
    bytes: Vec<u8>,
    digest: Digest,
    manifest: ImageManifest,
}

impl Client {
    /// Pulls an image into the store and names it there as `reference` says. Gives its manifest's digest.
    ///
    /// Of an index, the image for the client's platform is taken. Errors name the registry, what was
    /// asked, what it answered, and the way out; what was fetched until then stays for the next try, as
    /// blobs without a name.
    pub async fn pull(
        &self,
        store: &Store,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<Digest> {
        let keeper = store.clone();
        let work = tokio::task::spawn_blocking(move || keeper.work());
        let work = work
            .await
            .map_err(|e| Error::io("wait for the store", std::io::Error::other(e)))??;
        let fetched = self.find(reference).await?;
        self.fetch_parts(store, reference.repository(), &fetched.manifest, progress)
            .await?;
        let (keeper, name) = (store.clone(), local_name(reference, &fetched.digest));
        let kept = tokio::task::spawn_blocking(move || {
            keeper.ingest(fetched.bytes.as_slice(), Some(fetched.digest))?;
            keeper.admit(work, &fetched.digest, &[name])?;
            Ok(fetched.digest)
        });
        kept.await
            .map_err(|e| Error::io("keep the image", std::io::Error::other(e)))?
    }

    /// What `reference` stands for at its registry now, for the client's platform; fetches no layer.
    pub async fn resolve(&self, reference: &Reference) -> Result<Digest> {
        self.find(reference).await.map(|fetched| fetched.digest)
    }

    /// Fetches one blob of a repository into the store, unless it is there. Gives its size in bytes.
    pub async fn fetch_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<u64> {
        if store.has(digest) {
            let file = store.open_blob(digest)?;
            return file
                .metadata()
                .map(|m| m.len())
                .map_err(|e| Error::io("look at a blob", e));
        }
        let meter = Meter::begin(progress, &short(digest), None);
        let bytes = self
            .download(repository, *digest, None, store, &meter)
            .await?;
        meter.finish();
        Ok(bytes)
    }

    /// Finds the manifest of the one image that is meant.
    async fn find(&self, reference: &Reference) -> Result<Fetched> {
        let repository = reference.repository();
        let mut wanted = reference.wanted();
        let mut expected = reference.digest();
        let mut size = None;
        for _ in 0..=NESTING_MOST {
            let (bytes, content_type) = self.manifest_bytes(repository, &wanted, size).await?;
            let digest = Digest::of(&bytes);
            let what = format!("manifest {wanted} of {repository}");
            if let Some(expected) = expected.filter(|expected| *expected != digest) {
                let (expected, found) = (expected.to_string(), digest.to_string());
                return Err(Error::Mismatch {
                    what,
                    expected,
                    found,
                });
            }
            let index = match manifest::read(&bytes, &content_type, &what)? {
                (Form::Image(manifest), _) => {
                    return Ok(Fetched {
                        bytes,
                        digest,
                        manifest,
                    });
                }
                (Form::Index(index), _) => index,
            };
            let entry = self
                .platform
                .choose(&index)
                .and_then(|place| index.get("manifests")?.get(place))
                .ok_or_else(|| error(repository, self.no_platform(reference, &index)))?;
            let entry: Descriptor = serde_json::from_value(entry.clone())
                .map_err(|e| Error::malformed(what, e.to_string()))?;
            wanted = entry.digest.to_string();
            expected = Some(entry.digest);
            size = Some(entry.size);
        }
        let why = format!("{reference} is an index in an index, deeper than {NESTING_MOST} times");
        Err(error(repository, why))
    }

    fn no_platform(&self, reference: &Reference, index: &serde_json::Value) -> String {
        let entries = index
            .get("manifests")
            .and_then(|m| m.as_array())
            .cloned()
            .unwrap_or_default();
        let text = |entry: &serde_json::Value, key: &str| {
            let text = entry
                .pointer(&format!("/platform/{key}"))
                .and_then(|v| v.as_str());
            text.unwrap_or("unknown")
                .chars()
                .filter(char::is_ascii_graphic)
                .take(30)
                .collect::<String>()
        };
        let mut there: Vec<_> = entries
            .iter()
            .take(100)
            .map(|entry| format!("{}/{}", text(entry, "os"), text(entry, "architecture")))
            .filter(|platform| platform != "unknown/unknown")
            .collect();
        there.dedup();
        let there = if there.is_empty() {
            "none".to_owned()
        } else {
            there.join(", ")
        };
        format!(
            "{reference} has no image for {}; it has {there}",
            self.platform
        )
    }

    async fn manifest_bytes(
        &self,
        repository: &Repository,
        wanted: &str,
        size: Option<u64>,
    ) -> Result<(Vec<u8>, String)> {
        let what = format!("manifest {wanted:?}");
        let ask = Ask {
            repository,
            push: false,
            method: Method::GET,
            url: self
                .transport
                .url(repository, &format!("manifests/{wanted}"))
                .await?,
            headers: accept(&manifest::TYPES),
            body: None,
            what: &what,
        };
        let mut response = self.transport.send(&ask).await?;
        if response.status() != StatusCode::OK {
            return Err(refused(&ask, response).await);
        }
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|t| t.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let most = size.unwrap_or(limits::JSON_BYTES).min(limits::JSON_BYTES);
        let mut bytes = Vec::new();
        loop {
            let chunk = tokio::time::timeout(SILENCE_MOST, response.chunk())
                .await
                .map_err(|_| error(repository, format!("asked for {what}, it fell silent")))?
                .map_err(|e| {
                    error(
                        repository,
                        format!("asked for {what}, it broke off: {}", chain(&e)),
                    )
                })?;
            let Some(chunk) = chunk else { break };
            bytes.extend_from_slice(&chunk);
            if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
                return Err(match size {
                    Some(size) => error(
                        repository,
                        format!("{what} is longer than the {size} bytes that its index promised"),
                    ),
                    None => Error::limit(what, "image.json_bytes", limits::JSON_BYTES),
                });
            }
        }
        upload::check_digest(repository, &response, Digest::of(&bytes), &what)?;
        Ok((bytes, content_type))
    }

    /// Fetches what the store lacks of an image.
    async fn fetch_parts(
        &self,
        store: &Store,
        repository: &Repository,
        manifest: &ImageManifest,
        progress: &dyn Progress,
    ) -> Result<()> {
        if manifest.config.size > limits::JSON_BYTES {
            return Err(Error::limit(
                "the image's configuration",
                "image.json_bytes",
                limits::JSON_BYTES,
            ));
        }
        // By value: futures that borrow what a stream lends them are not `Send` for every lifetime.
        let mut parts: Vec<(Digest, u64)> = Vec::new();
        for part in [&manifest.config].into_iter().chain(&manifest.layers) {
            let known = parts.iter().any(|(digest, _)| *digest == part.digest);
            if !known && !store.has(&part.digest) {
                parts.push((part.digest, part.size));
            }
        }
        futures_util::stream::iter(parts)
            .map(|(digest, size)| async move {
                let meter = Meter::begin(progress, &short(&digest), Some(size));
                self.download(repository, digest, Some(size), store, &meter)
                    .await?;
                meter.finish();
                Ok::<_, Error>(())
            })
            .buffer_unordered(CONCURRENT_BLOBS)
            .try_collect::<()>()
            .await
    }
}

/// The name that a pulled image has in the store: `debian:12`; one that was asked for by its digest alone
/// has a tag made of that.
pub(super) fn local_name(reference: &Reference, digest: &Digest) -> String {
    let tag = reference
        .tag()
        .map_or_else(|| format!("sha256-{}", short(digest)), str::to_owned);
    format!("{}:{tag}", reference.repository())
}

/// A digest as people see it in progress lines.
pub(super) fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}
