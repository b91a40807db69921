//! Manifests and configurations as the store reads them: by their bytes, verified, in OCI's and in
//! Docker's form. May not: change a byte of them, for then their digest would be another.

use oci_spec::image::ImageConfiguration;
use serde::Deserialize;
use serde_json::Value;

use regatta_model::Digest;

use super::Store;
use crate::error::{Error, Result};
use crate::limits;
use crate::platform::Platform;

/// Media types of manifests and indexes.
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Indexes within indexes.
const INDEX_DEPTH: usize = 3;

/// What refers to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Blob {
    /// What it is, as its image says.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// An image's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its own digest: the image's identity.
    pub digest: Digest,
    /// Its own media type.
    pub media_type: String,
    /// The image's configuration.
    pub config: Blob,
    /// The layers' archives, the lowest first.
    pub layers: Vec<Blob>,
}

#[derive(Deserialize)]
struct Raw {
    config: Blob,
    layers: Vec<Blob>,
}

impl Manifest {
    /// Reads a manifest's JSON.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let digest = Digest::of(bytes);
        let wrong = |why: String| Error::malformed(format!("manifest {digest}"), why);
        let value: Value = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
        if !value.is_object() {
            return Err(wrong("it is no JSON object".into()));
        }
        if value.get("manifests").is_some() {
            return Err(wrong("it is an index of images, not one image".into()));
        }
        let media_type = value
            .get("mediaType")
            .and_then(Value::as_str)
            .unwrap_or(OCI_MANIFEST)
            .to_owned();
        let raw: Raw = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
        if raw.layers.len() > limits::LAYERS {
            let most = u64::try_from(limits::LAYERS).unwrap_or(u64::MAX);
            return Err(Error::limit("the number of layers", "layers", most));
        }
        Ok(Self {
            digest,
            media_type,
            config: raw.config,
            layers: raw.layers,
        })
    }
}

impl Store {
    /// An image's manifest. Of an index, that of the image for this machine.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        let digest = self.select(digest)?;
        Manifest::parse(&self.read_blob(&digest)?)
    }

    /// An image's configuration, by the digest of its manifest.
    pub fn config(&self, manifest: &Digest) -> Result<ImageConfiguration> {
        self.config_of(&self.manifest(manifest)?)
    }

    pub(super) fn config_of(&self, manifest: &Manifest) -> Result<ImageConfiguration> {
        let bytes = self.read_blob(&manifest.config.digest)?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length != manifest.config.size {
            return Err(Error::Mismatch {
                what: "the size of an image's configuration".into(),
                expected: manifest.config.size.to_string(),
                found: length.to_string(),
            });
        }
        ImageConfiguration::from_reader(bytes.as_slice()).map_err(|e| {
            Error::malformed(
                format!("configuration {}", manifest.config.digest),
                e.to_string(),
            )
        })
    }

    /// The digests of the layers' uncompressed archives, as many as there are layers.
    pub(crate) fn diff_ids(&self, manifest: &Manifest) -> Result<Vec<Digest>> {
        let config = self.config_of(manifest)?;
        let wrong = |why: String| {
            Error::malformed(format!("configuration {}", manifest.config.digest), why)
        };
        let ids = config.rootfs().diff_ids();
        if ids.len() != manifest.layers.len() {
            return Err(wrong(format!(
                "it tells of {} layers, and the manifest of {}",
                ids.len(),
                manifest.layers.len()
            )));
        }
        ids.iter()
            .map(|id| {
                id.parse()
                    .map_err(|e: regatta_model::digest::NotADigest| wrong(e.to_string()))
            })
            .collect()
    }

    /// The manifest itself, or of an index the one for this machine.
    pub(crate) fn select(&self, digest: &Digest) -> Result<Digest> {
        let mut digest = *digest;
        for _ in 0..INDEX_DEPTH {
            let bytes = self.read_blob(&digest)?;
            let what = || format!("index {digest}");
            let value: Value = serde_json::from_slice(&bytes)
                .map_err(|e| Error::malformed(format!("manifest {digest}"), e.to_string()))?;
            let Some(entries) = value.get("manifests").and_then(Value::as_array) else {
                // Whoever asks for a manifest gets one, not a blob of another kind.
                Manifest::parse(&bytes)?;
                return Ok(digest);
            };
            if value.get("layers").is_some() {
                return Err(Error::malformed(
                    what(),
                    "it is both an index and a manifest",
                ));
            }
            let platform = Platform::host();
            let chosen = platform.choose(&value).and_then(|at| entries.get(at));
            let Some(chosen) = chosen else {
                return Err(Error::malformed(
                    what(),
                    format!("it has no image for {platform}"),
                ));
            };
            digest = chosen
                .get("digest")
                .and_then(Value::as_str)
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| Error::malformed(what(), "an entry has no digest"))?;
        }
        Err(Error::malformed(
            format!("index {digest}"),
            "it is an index within too many others",
        ))
    }

    /// What a manifest or index says it is.
    pub(super) fn media_type(&self, digest: &Digest) -> Result<String> {
        let bytes = self.read_blob(digest)?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::malformed(format!("manifest {digest}"), e.to_string()))?;
        let default = if value.get("manifests").is_some() {
            OCI_INDEX
        } else {
            OCI_MANIFEST
        };
        Ok(value
            .get("mediaType")
            .and_then(Value::as_str)
            .unwrap_or(default)
            .to_owned())
    }
}
