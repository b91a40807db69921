//! Layers that this host makes itself (set-up, `files`), by the key of what they are made from. Whole or
//! absent: a layer is made in a directory beside and renamed; a layer from before the host's last boot
//! is compared with its digest before it is used again. One maker at a time, among all processes. May
//! not: know what a layer holds.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use regatta_model::Digest;
use serde::{Deserialize, Serialize};

use crate::{facts, tree};

/// Bytes of layers kept in one cache beyond those in use; the longest unused go first.
pub const CACHE_BYTES_MOST: u64 = 20 << 30;

/// Between two looks whether another process made the layer.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A directory of layers.
#[derive(Clone, Debug)]
pub struct Layers {
    directory: PathBuf,
    bytes_most: u64,
}

/// A layer in use; it is not removed while this lives.
#[derive(Debug)]
pub struct Layer {
    /// Its root.
    pub root: PathBuf,
    /// The digest of its contents.
    pub digest: Digest,
    /// Its directory, with whatever its maker left beside `fs`.
    pub directory: PathBuf,
    _lock: File,
}

/// The right to make a layer.
#[derive(Debug)]
pub struct Making {
    layers: Layers,
    key: Digest,
    temporary: PathBuf,
    lock: File,
}

/// What was found under a key.
#[derive(Debug)]
pub enum Found {
    /// The layer.
    Ready(Layer),
    /// Nothing: the caller is to make it.
    Absent(Making),
}

#[derive(Serialize, Deserialize)]
struct Meta {
    digest: Digest,
    bytes: u64,
    boot: String,
}

impl Layers {
    /// The layers in `directory`, which exists.
    pub fn new(directory: PathBuf) -> Self {
        Self::bounded(directory, CACHE_BYTES_MOST)
    }

    /// The same with another limit than [`CACHE_BYTES_MOST`].
    pub fn bounded(directory: PathBuf, bytes_most: u64) -> Self {
        Self {
            directory,
            bytes_most,
        }
    }

    /// The layer of `key`, or the right to make it; waits while another process makes it.
    pub async fn get(&self, key: Digest) -> io::Result<Found> {
        loop {
            let this = self.clone();
            let found = tokio::task::spawn_blocking(move || this.try_get(key)).await?;
            match found? {
                Some(found) => return Ok(found),
                None => tokio::time::sleep(LOCK_PAUSE).await,
            }
        }
    }

    /// As [`Layers::get`]; `None` while another process makes the layer.
    fn try_get(&self, key: Digest) -> io::Result<Option<Found>> {
        let lock_path = self.directory.join(format!("{}.lock", key.hex()));
        let open = || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&lock_path)
        };
        let lock = open()?;
        if !locked(lock.try_lock_shared())? {
            return Ok(None);
        }
        let directory = self.directory.join(key.hex());
        if let Some(digest) = whole(&directory)? {
            let root = directory.join("fs");
            return Ok(Some(Found::Ready(Layer {
                root,
                digest,
                directory,
                _lock: lock,
            })));
        }
        drop(lock);
        let lock = open()?;
        if !locked(lock.try_lock())? {
            return Ok(None);
        }
        if whole(&directory)?.is_some() {
            // Another process was faster between the two locks.
            return Ok(None);
        }
        if directory.exists() {
            tracing::warn!(
                "the layer {} is not as it was made; making it again",
                directory.display()
            );
            fs::remove_dir_all(&directory)?;
        }
        // A name of its own: what a former maker started may still be about to end.
        let temporary = tempfile::Builder::new()
            .prefix(&format!("tmp-{}-", key.hex()))
            .tempdir_in(&self.directory)?
            .keep();
        Ok(Some(Found::Absent(Making {
            layers: self.clone(),
            key,
            temporary,
            lock,
        })))
    }

    /// Holds the layer in a directory of this cache, if it is there and whole. Blocking.
    pub fn hold(&self, directory: &Path) -> Option<Layer> {
        let key = directory.strip_prefix(&self.directory).ok()?.to_str()?;
        match self.try_get(format!("sha256:{key}").parse().ok()?) {
            Ok(Some(Found::Ready(layer))) => Some(layer),
            Ok(Some(Found::Absent(making))) => making.abandon().err().and(None),
            _ => None,
        }
    }

    /// The keys of layers that are here, the last used first, `most` at most. Blocking.
    pub fn keys(&self, most: usize) -> Vec<Digest> {
        let mut layers: Vec<(SystemTime, Digest)> = Vec::new();
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let key = entry.file_name().into_string().unwrap_or_default();
            let key = format!("sha256:{key}").parse();
            let used = fs::metadata(entry.path().join("meta.json"));
            if let (Ok(key), Ok(used)) = (key, used.and_then(|meta| meta.modified())) {
                layers.push((used, key));
            }
        }
        layers.sort_unstable_by(|one, other| other.cmp(one));
        layers.into_iter().take(most).map(|(_, key)| key).collect()
    }

    /// Removes what a crash left, and the longest unused layers above the limit.
    pub fn clean(&self) -> io::Result<()> {
        let mut layers = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if name.len() == 64 {
                let meta = path.join("meta.json");
                let used = fs::metadata(&meta).and_then(|meta| meta.modified());
                let bytes = read_meta(&path).map_or(0, |meta| meta.bytes);
                layers.push((used.unwrap_or(SystemTime::UNIX_EPOCH), bytes, path));
            } else if let Some(hex) = name.strip_prefix("tmp-").and_then(|rest| rest.get(..64)) {
                self.unless_locked(hex, || remove(&path))?;
            }
        }
        layers.sort();
        let mut total: u64 = layers.iter().map(|(_, bytes, _)| *bytes).sum();
        for (_, bytes, path) in layers {
            if total <= self.bytes_most {
                break;
            }
            let hex = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let removed = self.unless_locked(hex, || {
                // Renamed first: half a layer never stands under its key.
                let aside = self.directory.join(format!("tmp-{hex}-old"));
                fs::rename(&path, &aside)?;
                remove(&aside)
            })?;
            if removed {
                total -= bytes;
            }
        }
        Ok(())
    }

    fn unless_locked(&self, hex: &str, act: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
        let path = self.directory.join(format!("{hex}.lock"));
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        if !locked(lock.try_lock())? {
            return Ok(false);
        }
        act().map(|()| true)
    }
}

impl Making {
    /// Where it is to be made: `fs` is to be its root, anything else beside it is kept, too.
    pub fn directory(&self) -> &Path {
        &self.temporary
    }

    /// It is whole: puts it in its place. Blocking.
    pub fn done(self) -> io::Result<Layer> {
        let tree = tree::digest(&self.temporary.join("fs"))?;
        let meta = Meta {
            digest: tree.digest,
            bytes: tree.bytes,
            boot: facts::boot_id(),
        };
        fs::write(self.temporary.join("meta.json"), serde_json::to_vec(&meta)?)?;
        let directory = self.layers.directory.join(self.key.hex());
        fs::rename(&self.temporary, &directory)?;
        // From maker to user without letting go: nobody may remove it in between.
        self.lock.lock_shared()?;
        let root = directory.join("fs");
        Ok(Layer {
            root,
            digest: meta.digest,
            directory,
            _lock: self.lock,
        })
    }

    /// It could not be made: removes what there is. Blocking.
    pub fn abandon(self) -> io::Result<()> {
        remove(&self.temporary)
    }
}

/// The layer's digest, if it is whole; marks it as used.
fn whole(directory: &Path) -> io::Result<Option<Digest>> {
    let Some(meta) = read_meta(directory) else {
        return Ok(None);
    };
    let path = directory.join("meta.json");
    let boot = facts::boot_id();
    if meta.boot != boot {
        // Its files may not have reached the disk before the host went down.
        let tree = tree::digest(&directory.join("fs"));
        if tree.ok().map(|tree| tree.digest) != Some(meta.digest) {
            return Ok(None);
        }
        let temporary = directory.join("meta.tmp");
        fs::write(&temporary, serde_json::to_vec(&Meta { boot, ..meta })?)?;
        fs::rename(&temporary, &path)?;
        return Ok(Some(meta.digest));
    }
    OpenOptions::new()
        .append(true)
        .open(&path)?
        .set_modified(SystemTime::now())?;
    Ok(Some(meta.digest))
}

fn read_meta(directory: &Path) -> Option<Meta> {
    serde_json::from_slice(&fs::read(directory.join("meta.json")).ok()?).ok()
}

fn locked(result: Result<(), TryLockError>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes a directory that may be absent.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
