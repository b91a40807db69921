//! Layers unpacked, once for each content, shared by all containers. May not: move a layer into place
//! before all of it was verified and written to disk.

use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use regatta_model::Digest;

use super::lock::Lock;
use super::{Store, read_small, rename_durably};
use crate::compression::Compression;
use crate::error::{Error, Result};
use crate::limits;
use crate::unpack::{self, Promise, Stream, Unpacked};

/// What is known of an unpacked layer; stands beside it as `layer.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Note {
    diff_id: Digest,
    /// Whether its content depends on the layers that it was unpacked on.
    depends: bool,
    entries: u64,
    pub(super) bytes: u64,
    devices_skipped: u64,
    attributes_dropped: u64,
}

/// A layer unpacked aside; removed when dropped.
#[derive(Debug)]
struct Aside {
    _scratch: tempfile::TempDir,
    dir: PathBuf,
}

/// The identity of a stack of layers: of its lower part and the layer on it.
pub(crate) fn chain_id(below: Option<Digest>, diff_id: Digest) -> Digest {
    match below {
        None => diff_id,
        Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
    }
}

impl Store {
    /// The unpacked layers of an image, the lowest first, each made where it is missing. Every byte is
    /// verified before a layer counts. A layer that occurs twice is given once, at its higher place:
    /// the merged view is the same, and overlay takes no directory twice.
    ///
    /// They may be removed by [`Self::prune`] once no name refers to the image: [`Self::hold`] it.
    pub fn unpack(&self, manifest: &Digest) -> Result<Vec<PathBuf>> {
        let _work = self.work()?;
        self.unpack_layers(manifest)
    }

    pub(super) fn unpack_layers(&self, manifest: &Digest) -> Result<Vec<PathBuf>> {
        let manifest = self.manifest(manifest)?;
        let diff_ids = self.diff_ids(&manifest)?;
        let mut paths: Vec<PathBuf> = Vec::new();
        let mut chain = None;
        for (blob, diff_id) in manifest.layers.iter().zip(diff_ids) {
            let here = chain_id(chain, diff_id);
            chain = Some(here);
            let path = if let Some(path) = self.unpacked(diff_id, here)? {
                path
            } else {
                let promise = Promise {
                    blob: blob.digest,
                    blob_size: blob.size,
                    diff_id,
                };
                self.unpack_layer(&promise, here, &paths)?
            };
            paths.retain(|have| *have != path);
            paths.push(path);
        }
        Ok(paths)
    }

    /// A layer that is unpacked already, fit to stand at the top of this chain.
    fn unpacked(&self, diff_id: Digest, chain: Digest) -> Result<Option<PathBuf>> {
        for id in [diff_id, chain] {
            if let Some(note) = self.note(id)?
                && (id == chain || !note.depends)
            {
                return Ok(Some(self.layer_directory(id).join("fs")));
            }
        }
        Ok(None)
    }

    pub(super) fn layer_directory(&self, id: Digest) -> PathBuf {
        self.path("layers").join(id.hex())
    }

    pub(super) fn note(&self, id: Digest) -> Result<Option<Note>> {
        let path = self.layer_directory(id).join("layer.json");
        if !path.is_file() {
            return Ok(None);
        }
        serde_json::from_slice(&read_small(&path, limits::JSON_BYTES)?)
            .map(Some)
            .map_err(|e| Error::malformed(path.display().to_string(), e.to_string()))
    }

    fn unpack_layer(&self, promise: &Promise, chain: Digest, below: &[PathBuf]) -> Result<PathBuf> {
        // Whoever unpacks the same content at the same time waits here, then finds it done.
        let _lock = Lock::passing(self.directory(), &promise.diff_id.hex())?;
        if let Some(path) = self.unpacked(promise.diff_id, chain)? {
            return Ok(path);
        }
        let aside = self.aside()?;
        let blob = self.open_blob(&promise.blob)?;
        let fs = aside.dir.join("fs");
        let unpacked = unpack::unpack_verified(blob, promise, &fs, below, &self.limits())?;
        self.settle(&aside, promise.diff_id, chain, &unpacked)
    }

    /// A directory to unpack into, on the file system of the store.
    fn aside(&self) -> Result<Aside> {
        let scratch = self.scratch()?;
        let dir = scratch.path().join("layer");
        let fs = dir.join("fs");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&fs)
            .map_err(|e| Error::at("make directory", &fs, e))?;
        fs::set_permissions(&fs, fs::Permissions::from_mode(0o755))
            .map_err(|e| Error::at("open to all", &fs, e))?;
        Ok(Aside {
            _scratch: scratch,
            dir,
        })
    }

    /// Writes an unpacked layer to disk, then moves it into place.
    fn settle(
        &self,
        aside: &Aside,
        diff_id: Digest,
        chain: Digest,
        unpacked: &Unpacked,
    ) -> Result<PathBuf> {
        let note = Note {
            diff_id,
            depends: unpacked.depends,
            entries: unpacked.entries,
            bytes: unpacked.bytes,
            devices_skipped: unpacked.devices_skipped,
            attributes_dropped: unpacked.attributes_dropped,
        };
        let path = aside.dir.join("layer.json");
        let text = serde_json::to_vec(&note).unwrap_or_default();
        fs::write(&path, text).map_err(|e| Error::at("write", &path, e))?;
        let dir = File::open(&aside.dir).map_err(|e| Error::at("open", &aside.dir, e))?;
        rustix::fs::syncfs(&dir).map_err(|e| Error::at("write to disk", &aside.dir, e))?;
        let id = if unpacked.depends { chain } else { diff_id };
        let place = self.layer_directory(id);
        if !place.exists() {
            rename_durably(&aside.dir, &place)?;
        }
        Ok(place.join("fs"))
    }

    /// Takes in a root filesystem's archive, whose digests nobody knows yet: unpacked and kept as a
    /// blob in one pass. Gives the stream's digests; the blob is not in the store yet where it is
    /// compressed in a way that OCI has no name for.
    pub(crate) fn take_base(&self, reader: impl Read) -> Result<(Stream, super::Staged)> {
        let aside = self.aside()?;
        let fs = aside.dir.join("fs");
        let mut tee = self.tee(reader)?;
        let (unpacked, stream) = unpack::unpack_any(&mut tee, &fs, &[], &self.limits())?;
        let mut staged = tee.finish()?;
        if stream.compression == Compression::Xz {
            let (_, content) = crate::compression::decoder(staged.open()?)?;
            staged = self.stage(content, Some(stream.diff_id))?;
        }
        let _lock = Lock::passing(self.directory(), &stream.diff_id.hex())?;
        if self.unpacked(stream.diff_id, stream.diff_id)?.is_none() {
            self.settle(&aside, stream.diff_id, stream.diff_id, &unpacked)?;
        }
        Ok((stream, staged))
    }

    /// The directories that an image's layers have or would have here.
    pub(super) fn layer_ids(&self, manifest: &super::Manifest) -> Result<Vec<Digest>> {
        let mut ids = Vec::new();
        let mut chain = None;
        for diff_id in self.diff_ids(manifest)? {
            let here = chain_id(chain, diff_id);
            chain = Some(here);
            ids.extend([diff_id, here]);
        }
        Ok(ids)
    }
}

/// The ids of all unpacked layers.
pub(super) fn all(layers: &Path) -> Result<Vec<Digest>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(layers).map_err(|e| Error::at("list", layers, e))? {
        let name = entry.map_err(|e| Error::at("list", layers, e))?.file_name();
        if let Ok(id) = format!("sha256:{}", name.to_string_lossy()).parse() {
            ids.push(id);
        }
    }
    Ok(ids)
}
