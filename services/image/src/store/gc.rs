//! What is still needed, and removing what is not. May not: remove anything while another process takes
//! something in, nor what a living session holds.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use regatta_model::Digest;

use super::lock::{self, Lock};
use super::{Manifest, Store, blob, layer, read_small};
use crate::error::{Error, Result};

/// Something is being taken in, so that nothing is removed meanwhile; until dropped.
#[derive(Debug)]
pub struct Work {
    _lock: Lock,
}

/// An image (or a single blob) is in use; until dropped, or the process ends.
#[derive(Debug)]
pub struct Hold {
    path: PathBuf,
    /// What is held.
    pub digest: Digest,
    _store: Store,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Blobs.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// Blobs and unpacked layers that are needed.
#[derive(Debug, Default)]
struct Needed {
    blobs: BTreeSet<Digest>,
    layers: BTreeSet<Digest>,
}

static HOLDS: AtomicU64 = AtomicU64::new(0);

impl Store {
    /// Begins to take something in: blobs that nothing refers to yet are safe until this is dropped.
    /// Waits while a [`Self::prune`] runs.
    pub fn work(&self) -> Result<Work> {
        Ok(Work {
            _lock: Lock::shared(self.directory(), "work")?,
        })
    }

    /// Keeps an image with its layers, or a single blob, from being pruned while it is in use.
    pub fn hold(&self, digest: &Digest) -> Result<Hold> {
        let _work = self.work()?;
        if !self.has(digest) {
            return Err(Error::NoBlob { digest: *digest });
        }
        let number = HOLDS.fetch_add(1, Ordering::Relaxed);
        let path = self
            .path("holds")
            .join(format!("{}-{number}", self.inner.session.name));
        fs::write(&path, digest.to_string()).map_err(|e| Error::at("write", &path, e))?;
        Ok(Hold {
            path,
            digest: *digest,
            _store: self.clone(),
        })
    }

    /// Removes all that no name refers to and no living process holds.
    pub fn prune(&self) -> Result<Freed> {
        let _lock = self.stop_work()?;
        self.sweep_holds()?;
        let needed = self.needed()?;
        let blobs = blob::all(self)?
            .into_iter()
            .filter(|digest| !needed.blobs.contains(digest));
        let layers = layer::all(&self.path("layers"))?;
        let layers = layers.into_iter().filter(|id| !needed.layers.contains(id));
        let freed = self.drop_all(blobs, layers)?;
        // What a step made is of no use without its layer.
        crate::build::sweep_cache(self)?;
        Ok(freed)
    }

    /// Takes a name away, and removes what only it referred to. While something is being taken in
    /// elsewhere that is left to the next [`Self::prune`].
    pub fn remove(&self, name: &str) -> Result<Freed> {
        let Some(digest) = self.untag(name)? else {
            return Err(Error::NoImage { name: name.into() });
        };
        match self.stop_work() {
            Ok(_lock) => self.discard(&digest),
            Err(Error::Busy { .. }) => Ok(Freed::default()),
            Err(e) => Err(e),
        }
    }

    /// Verifies an image whose blobs were taken in, by unpacking every layer, then names it. An image
    /// that is not what it claims to be is removed again, as far as nothing else needs its parts.
    pub fn admit(&self, work: Work, manifest: &Digest, names: &[String]) -> Result<Vec<PathBuf>> {
        let mut layers = self.admit_all(work, &[(*manifest, names.to_vec())])?;
        Ok(layers.pop().unwrap_or_default())
    }

    /// [`Self::admit`] of several images: all of them, or none.
    pub fn admit_all(
        &self,
        work: Work,
        images: &[(Digest, Vec<String>)],
    ) -> Result<Vec<Vec<PathBuf>>> {
        let verified: Result<Vec<_>> = images
            .iter()
            .map(|(manifest, _)| self.unpack_layers(manifest))
            .collect();
        let done = verified.and_then(|layers| {
            for (manifest, names) in images {
                names.iter().try_for_each(|name| self.tag(name, manifest))?;
            }
            Ok(layers)
        });
        drop(work);
        if done.is_err() {
            for (manifest, _) in images {
                self.discard_refused(manifest);
            }
        }
        done
    }

    /// Removes a refused image. That it cannot be done now is no further error: `prune` does it.
    pub(crate) fn discard_refused(&self, manifest: &Digest) {
        if let Ok(_lock) = self.stop_work()
            && let Err(error) = self.discard(manifest)
        {
            tracing::warn!(%error, "the parts of a refused image stay until the next prune");
        }
    }

    /// Removes of an image what nothing else needs.
    fn discard(&self, manifest: &Digest) -> Result<Freed> {
        let needed = self.needed()?;
        let mut own = Needed::default();
        self.collect(manifest, &mut own);
        let blobs = own
            .blobs
            .into_iter()
            .filter(|digest| !needed.blobs.contains(digest));
        let layers = own
            .layers
            .into_iter()
            .filter(|id| !needed.layers.contains(id));
        self.drop_all(blobs, layers)
    }

    fn stop_work(&self) -> Result<Lock> {
        Lock::try_exclusive(self.directory(), "work")?.ok_or_else(|| Error::Busy {
            what: "the image store".into(),
            why: "an image is being pulled, loaded, built or unpacked".into(),
        })
    }

    fn drop_all(
        &self,
        blobs: impl Iterator<Item = Digest>,
        layers: impl Iterator<Item = Digest>,
    ) -> Result<Freed> {
        let mut freed = Freed::default();
        let scratch = self.scratch()?;
        // Layers first: a layer without its blob cannot be made again, a blob without its layer can.
        for id in layers {
            let path = self.layer_directory(id);
            if !path.exists() {
                continue;
            }
            freed.bytes += self.note(id).ok().flatten().map_or(0, |note| note.bytes);
            // Renamed before it is taken apart, so that half a layer is never seen.
            fs::rename(&path, scratch.path().join(id.hex()))
                .map_err(|e| Error::at("remove", &path, e))?;
            freed.layers += 1;
        }
        for digest in blobs {
            let path = self.blob_path(&digest);
            if let Ok(meta) = fs::metadata(&path) {
                lock::remove(&path)?;
                freed.bytes += meta.len();
                freed.blobs += 1;
            }
        }
        Ok(freed)
    }

    /// Everything that names and holds refer to. An image that cannot be read keeps what could be read
    /// of it; what it lost already cannot be kept.
    fn needed(&self) -> Result<Needed> {
        let mut needed = Needed::default();
        for entry in self.entries()? {
            self.collect(&entry.digest, &mut needed);
        }
        for (path, _) in self.holds()? {
            let text = read_small(&path, 200)?;
            if let Ok(digest) = String::from_utf8_lossy(&text).parse() {
                self.collect(&digest, &mut needed);
            }
        }
        Ok(needed)
    }

    /// An image, index or blob with all that it refers to.
    fn collect(&self, digest: &Digest, needed: &mut Needed) {
        if !needed.blobs.insert(*digest) {
            return;
        }
        let Ok(bytes) = self.read_blob(digest) else {
            return;
        };
        if let Ok(manifest) = Manifest::parse(&bytes) {
            needed.blobs.insert(manifest.config.digest);
            needed
                .blobs
                .extend(manifest.layers.iter().map(|layer| layer.digest));
            needed
                .layers
                .extend(self.layer_ids(&manifest).unwrap_or_default());
            return;
        }
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        for entry in value
            .get("manifests")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let inner = entry
                .get("digest")
                .and_then(Value::as_str)
                .and_then(|text| text.parse().ok());
            if let Some(inner) = inner {
                self.collect(&inner, needed);
            }
        }
    }

    /// The files of holds, with the name of their session.
    fn holds(&self) -> Result<Vec<(PathBuf, String)>> {
        let dir = self.path("holds");
        let mut holds = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|e| Error::at("list", &dir, e))? {
            let entry = entry.map_err(|e| Error::at("list", &dir, e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let session = name
                .rsplit_once('-')
                .map_or(name.as_str(), |(session, _)| session)
                .to_owned();
            holds.push((entry.path(), session));
        }
        Ok(holds)
    }

    /// Removes the holds of sessions that ended.
    pub(super) fn sweep_holds(&self) -> Result<()> {
        for (path, session) in self.holds()? {
            if !lock::is_alive(self.directory(), &session)? {
                lock::remove(&path)?;
            }
        }
        Ok(())
    }
}
