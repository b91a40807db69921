//! What is in the store, told. May not: change it.

use std::collections::BTreeMap;

use serde::Serialize;

use regatta_model::Digest;

use super::Store;
use super::layer::chain_id;
use crate::error::Result;

/// A line of `image ls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// `name:tag`.
    pub name: String,
    /// Of the manifest.
    pub digest: Digest,
    /// When it was made, as the image says (RFC 3339).
    pub created: Option<String>,
    /// `os/architecture`.
    pub platform: String,
    /// Bytes of its layers' archives.
    pub size: u64,
}

/// What `image inspect` tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspected {
    /// All names of the image here.
    pub names: Vec<String>,
    /// Of the manifest.
    pub digest: Digest,
    /// Of the manifest.
    pub media_type: String,
    /// Of the configuration: what Docker calls the image's id.
    pub config_digest: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<InspectedLayer>,
    /// Bytes of its layers' archives.
    pub size: u64,
    /// The configuration as it stands in the image.
    pub config: serde_json::Value,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InspectedLayer {
    /// Of its archive.
    pub digest: Digest,
    /// Of its uncompressed archive.
    pub diff_id: Digest,
    /// Its archive's media type.
    pub media_type: String,
    /// Its archive's bytes.
    pub size: u64,
    /// Bytes of its files; none while it is not unpacked.
    pub unpacked_size: Option<u64>,
}

impl Store {
    /// All names, sorted. An image that is damaged is listed with what is known of it.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let mut listed = BTreeMap::new();
        for entry in self.entries()? {
            let Some(name) = entry.name else { continue };
            let manifest = self.manifest(&entry.digest).ok();
            let config = manifest
                .as_ref()
                .and_then(|manifest| self.config_of(manifest).ok());
            let platform = config
                .as_ref()
                .map(|c| format!("{}/{}", c.os(), c.architecture()));
            listed.insert(
                name.clone(),
                Listed {
                    name,
                    digest: manifest
                        .as_ref()
                        .map_or(entry.digest, |manifest| manifest.digest),
                    created: config.as_ref().and_then(|config| config.created().clone()),
                    platform: platform.unwrap_or_default(),
                    size: manifest
                        .iter()
                        .flat_map(|m| &m.layers)
                        .fold(0, |sum, layer| sum.saturating_add(layer.size)),
                },
            );
        }
        Ok(listed.into_values().collect())
    }

    /// Everything about one image.
    pub fn inspect(&self, name: &str) -> Result<Inspected> {
        let digest = self.require(name)?;
        let manifest = self.manifest(&digest)?;
        let diff_ids = self.diff_ids(&manifest)?;
        let mut chain = None;
        let mut layers = Vec::new();
        for (blob, diff_id) in manifest.layers.iter().zip(diff_ids) {
            let here = chain_id(chain, diff_id);
            chain = Some(here);
            let note = match self.note(diff_id)? {
                Some(note) => Some(note),
                None => self.note(here)?,
            };
            layers.push(InspectedLayer {
                digest: blob.digest,
                diff_id,
                media_type: blob.media_type.clone(),
                size: blob.size,
                unpacked_size: note.map(|note| note.bytes),
            });
        }
        let names = self.entries()?.into_iter().filter(|entry| {
            entry.digest == digest
                || self
                    .select(&entry.digest)
                    .is_ok_and(|inner| inner == digest)
        });
        let mut names: Vec<_> = names.filter_map(|entry| entry.name).collect();
        names.sort();
        let config = self.read_blob(&manifest.config.digest)?;
        Ok(Inspected {
            names,
            digest,
            media_type: manifest.media_type,
            config_digest: manifest.config.digest,
            size: layers
                .iter()
                .fold(0, |sum, layer| sum.saturating_add(layer.size)),
            layers,
            config: serde_json::from_slice(&config).unwrap_or_default(),
        })
    }
}
