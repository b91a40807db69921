//! `index.json`: which names there are. Replaced as a whole under a lock; entries and fields that others
//! wrote are kept. May not: hold more than [`limits::JSON_BYTES`].

use serde_json::{Value, json};

use regatta_model::Digest;

use super::lock::Lock;
use super::{Store, read_small};
use crate::error::{Error, Result};
use crate::limits;
use crate::reference::Reference;

/// The annotation that names an entry.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An entry of `index.json`.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// As it stands there; none: no name refers to it.
    pub(super) name: Option<String>,
    pub(super) digest: Digest,
}

/// The form in which a name is kept: `debian` is `debian:latest`, and so is `docker.io/library/debian`.
pub(crate) fn local_name(name: &str) -> Result<String> {
    let reference = Reference::parse(name).map_err(|e| Error::Refused(e.to_string()))?;
    if reference.digest().is_some() {
        let why = format!("{name:?} cannot name an image here: it holds a digest; leave that out");
        return Err(Error::Refused(why));
    }
    Ok(reference.familiar())
}

impl Store {
    /// Makes the files of an empty layout where they are missing.
    pub(super) fn make_layout(&self) -> Result<()> {
        let version = self.path("oci-layout");
        let index = self.path("index.json");
        if version.is_file() && index.is_file() {
            return Ok(());
        }
        let _lock = Lock::exclusive(self.directory(), "index")?;
        if !index.is_file() {
            self.replace(&index, br#"{"schemaVersion":2,"manifests":[]}"#)?;
        }
        if !version.is_file() {
            self.replace(&version, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(())
    }

    pub(super) fn find(&self, name: &str) -> Result<Option<Digest>> {
        if let Ok(digest) = name.parse::<Digest>() {
            return Ok(self.select(&digest).ok());
        }
        let reference = Reference::parse(name).ok();
        if let Some(digest) = reference.as_ref().and_then(Reference::digest) {
            return Ok(self.select(&digest).ok());
        }
        let local = reference.map(|reference| reference.familiar());
        let entries = self.entries()?;
        let by = |wanted: &str| {
            entries
                .iter()
                .find(|entry| entry.name.as_deref() == Some(wanted))
        };
        let entry = local.as_deref().and_then(by).or_else(|| by(name));
        entry.map(|entry| self.select(&entry.digest)).transpose()
    }

    /// Gives an image a name, in place of another that had it.
    pub fn tag(&self, name: &str, manifest: &Digest) -> Result<()> {
        let name = local_name(name)?;
        let size = self.blob_size(manifest)?;
        let media_type = self.media_type(manifest)?;
        self.change(|entries| {
            entries.retain(|entry| entry_name(entry) != Some(name.as_str()));
            entries.push(json!({
                "mediaType": media_type,
                "digest": manifest.to_string(),
                "size": size,
                "annotations": {REF_NAME: name},
            }));
        })
    }

    /// Takes a name away; the image stays until [`Self::prune`]. Gives what it stood for.
    pub fn untag(&self, name: &str) -> Result<Option<Digest>> {
        let local = local_name(name).unwrap_or_else(|_| name.to_owned());
        let mut found = None;
        self.change(|entries| {
            let names: Vec<_> = entries
                .iter()
                .filter_map(entry_name)
                .map(str::to_owned)
                .collect();
            let wanted = if names.contains(&local) {
                local.as_str()
            } else {
                name
            };
            entries.retain(|entry| {
                let hit = entry_name(entry) == Some(wanted);
                if hit {
                    found = entry_digest(entry);
                }
                !hit
            });
        })?;
        Ok(found)
    }

    /// All entries whose digest we can read.
    pub(super) fn entries(&self) -> Result<Vec<Entry>> {
        let index = self.read_index()?;
        let entries = index.get("manifests").and_then(Value::as_array);
        Ok(entries
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let digest = entry_digest(entry)?;
                Some(Entry {
                    name: entry_name(entry).map(str::to_owned),
                    digest,
                })
            })
            .collect())
    }

    fn read_index(&self) -> Result<Value> {
        let path = self.path("index.json");
        serde_json::from_slice(&read_small(&path, limits::JSON_BYTES)?)
            .map_err(|e| Error::malformed(path.display().to_string(), e.to_string()))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Value>)) -> Result<()> {
        let _lock = Lock::exclusive(self.directory(), "index")?;
        let mut index = self.read_index()?;
        let path = self.path("index.json");
        let Some(entries) = index.get_mut("manifests").and_then(Value::as_array_mut) else {
            return Err(Error::malformed(
                path.display().to_string(),
                "it has no list of manifests",
            ));
        };
        let before = entries.clone();
        change(entries);
        if *entries == before {
            return Ok(());
        }
        let bytes = index.to_string().into_bytes();
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limits::JSON_BYTES {
            return Err(Error::limit(
                path.display().to_string(),
                "json_bytes",
                limits::JSON_BYTES,
            ));
        }
        self.replace(&path, &bytes)
    }
}

fn entry_name(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}

fn entry_digest(entry: &Value) -> Option<Digest> {
    entry.get("digest")?.as_str()?.parse().ok()
}
