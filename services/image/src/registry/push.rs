//! Sending an image: its layers and configuration where the registry lacks them, then its manifest, byte
//! for byte as the store has it. May not: send a manifest before all that it names.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use regatta_model::Digest;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Body, Method};

use super::answer::{error, refused};
use super::manifest::{self, Descriptor, Form};
use super::pull::short;
use super::transport::Ask;
use super::upload::{Upload, check_digest};
use super::{CONCURRENT_BLOBS, Client, Meter};
use crate::error::{Error, Result};
use crate::limits;
use crate::progress::Progress;
use crate::reference::{Reference, Repository};
use crate::store::Store;

impl Client {
    /// Pushes an image of the store, by its manifest's digest, to where `reference` says.
    ///
    /// Errors name the registry, what was asked, what it answered, and the way out.
    pub async fn push(
        &self,
        store: &Store,
        manifest: &Digest,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<()> {
        let repository = reference.repository();
        let bytes = read_json(store, manifest)?;
        let what = format!("manifest {manifest}");
        if reference.digest().is_some_and(|wanted| wanted != *manifest) {
            let why = format!("{reference} names another digest than the image has, {manifest}");
            return Err(Error::Refused(why));
        }
        let (Form::Image(parts), media_type) = manifest::read(&bytes, "", &what)? else {
            return Err(Error::Refused(format!(
                "{manifest} is an index; push its images one by one"
            )));
        };
        let mut blobs: Vec<&Descriptor> = Vec::new();
        for blob in parts.layers.iter().chain([&parts.config]) {
            if !blobs.iter().any(|known| known.digest == blob.digest) {
                blobs.push(blob);
            }
        }
        futures_util::stream::iter(blobs)
            .map(|blob| async move {
                let open = || store.open_blob(&blob.digest);
                let meter = Arc::new(Meter::begin(
                    progress,
                    &short(&blob.digest),
                    Some(blob.size),
                ));
                let upload = Upload {
                    repository,
                    digest: blob.digest,
                    size: blob.size,
                    open: &open,
                    meter: Arc::clone(&meter),
                };
                self.upload(&upload).await?;
                meter.finish();
                Ok::<_, Error>(())
            })
            .buffer_unordered(CONCURRENT_BLOBS)
            .try_collect::<()>()
            .await?;
        self.put_manifest(reference, *manifest, &bytes, &media_type)
            .await
    }

    /// Sends a file as a blob of a repository, unless it is there. The file must not change meanwhile.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        file: &std::path::Path,
        progress: &dyn Progress,
    ) -> Result<Digest> {
        let path = file.to_owned();
        let hashed = tokio::task::spawn_blocking(move || hash(&path));
        let (digest, size) = hashed
            .await
            .map_err(|e| Error::io("read a blob", std::io::Error::other(e)))??;
        let open = || std::fs::File::open(file).map_err(|e| Error::at("open", file, e));
        let meter = Arc::new(Meter::begin(progress, &short(&digest), Some(size)));
        let upload = Upload {
            repository,
            digest,
            size,
            open: &open,
            meter: Arc::clone(&meter),
        };
        self.upload(&upload).await?;
        meter.finish();
        Ok(digest)
    }

    /// Whether a repository has a blob.
    pub async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let what = format!("blob {digest}");
        let ask = Ask {
            repository,
            push: false,
            method: Method::HEAD,
            url: self
                .transport
                .url(repository, &format!("blobs/{digest}"))
                .await?,
            headers: reqwest::header::HeaderMap::new(),
            body: None,
            what: &what,
        };
        let response = self.transport.send(&ask).await?;
        match response.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(refused(&ask, response).await),
        }
    }

    async fn put_manifest(
        &self,
        reference: &Reference,
        digest: Digest,
        bytes: &[u8],
        media_type: &str,
    ) -> Result<()> {
        let repository = reference.repository();
        let name = reference
            .tag()
            .map_or_else(|| digest.to_string(), str::to_owned);
        let what = format!("an upload of manifest {name:?}");
        let body = || Ok(Body::from(bytes.to_vec()));
        let mut ask = Ask {
            repository,
            push: true,
            method: Method::PUT,
            url: self
                .transport
                .url(repository, &format!("manifests/{name}"))
                .await?,
            headers: reqwest::header::HeaderMap::new(),
            body: Some(&body),
            what: &what,
        };
        let media_type = HeaderValue::from_str(media_type)
            .map_err(|_| error(repository, "the manifest has no media type".to_owned()))?;
        ask.headers.insert(CONTENT_TYPE, media_type);
        let response = self.transport.send(&ask).await?;
        if !response.status().is_success() {
            return Err(refused(&ask, response).await);
        }
        check_digest(repository, &response, digest, &what)
    }
}

/// A manifest's bytes.
fn read_json(store: &Store, digest: &Digest) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    store
        .open_blob(digest)?
        .take(limits::JSON_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io(format!("read manifest {digest}"), e))?;
    Ok(bytes)
}

fn hash(path: &std::path::Path) -> Result<(Digest, u64)> {
    use sha2::Digest as _;
    let mut file = std::fs::File::open(path).map_err(|e| Error::at("open", path, e))?;
    let mut hasher = sha2::Sha256::new();
    let size =
        std::io::copy(&mut file, &mut Sink(&mut hasher)).map_err(|e| Error::at("read", path, e))?;
    Ok((Digest::from_bytes(hasher.finalize().into()), size))
}

struct Sink<'a>(&'a mut sha2::Sha256);

impl std::io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        use sha2::Digest as _;
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
