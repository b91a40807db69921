//! The store on disk: an OCI image layout, and beside it the layers unpacked. May not: show a blob or
//! layer that was not verified whole, nor let other users in.
//!
//! ```text
//! oci-layout, index.json, blobs/sha256/HEX     an OCI image layout; other programs may read it
//! layers/HEX/fs                                a layer unpacked; HEX is its diffID, or the chainID of
//!                                              the layers up to it where its content depends on them
//! holds/SESSION-N                              a manifest in use, as long as SESSION lives
//! tmp/SESSION/, tmp/SESSION.lock               work under way; swept when nobody holds the lock
//! locks/                                       lock files
//! ```

use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use regatta_model::Digest;

use crate::error::{Error, Result};
use crate::limits::UnpackLimits;
use crate::unpack::{self, Unpacked};

mod blob;
mod gc;
mod index;
mod inspect;
mod layer;
mod lock;
mod manifest;

pub use blob::Staged;
pub use gc::{Freed, Hold, Work};
pub(crate) use index::{REF_NAME, local_name};
pub use inspect::{Inspected, Listed};
pub use manifest::{Blob, Manifest};
pub(crate) use manifest::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};

use lock::Session;

/// A store of images. Clones are the same store; several processes may use one directory.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    limits: UnpackLimits,
    session: Session,
}

impl Store {
    /// Opens the store in a directory, which is made (mode 0700) where it is missing, and removes
    /// what processes that died left in `tmp`.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, UnpackLimits::from_environment()?)
    }

    /// [`Self::open`] with limits of one's own.
    pub fn open_with(dir: &Path, limits: UnpackLimits) -> Result<Self> {
        let make = |path: &Path| {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|e| Error::at("make directory", path, e))
        };
        make(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(|e| Error::at("close to others", dir, e))?;
        let dir = dir.canonicalize().map_err(|e| Error::at("find", dir, e))?;
        for part in ["blobs/sha256", "layers", "tmp", "holds", "locks"] {
            make(&dir.join(part))?;
        }
        let session = Session::begin(&dir)?;
        let store = Self {
            inner: Arc::new(Inner {
                dir,
                limits,
                session,
            }),
        };
        store.make_layout()?;
        store.sweep_holds()?;
        Ok(store)
    }

    /// Where the store is.
    pub fn directory(&self) -> &Path {
        &self.inner.dir
    }

    /// The limits that hold for layers.
    pub fn limits(&self) -> UnpackLimits {
        self.inner.limits
    }

    /// The manifest that a name stands for: `name:tag` in this store, `name@sha256:...` or
    /// `sha256:...`. None: not here (or no name at all).
    pub fn resolve(&self, name: &str) -> Option<Digest> {
        self.find(name).ok().flatten()
    }

    /// [`Self::resolve`] with a sentence where there is none.
    pub fn require(&self, name: &str) -> Result<Digest> {
        self.find(name)?
            .ok_or_else(|| Error::NoImage { name: name.into() })
    }

    /// Unpacks a tar stream of any compression below `into`, an existing directory, whatever it
    /// holds; nothing outside is touched. Whiteouts become overlay's. What was made stays when it
    /// fails: the caller discards the directory.
    pub fn unpack_tar(
        &self,
        reader: impl Read,
        into: &Path,
        limits: &UnpackLimits,
    ) -> Result<Unpacked> {
        unpack::unpack_any(reader, into, &[], limits).map(|(unpacked, _)| unpacked)
    }

    /// A directory of this process alone for work under way; removed with what is returned, or by
    /// whoever opens the store next.
    pub fn scratch(&self) -> Result<tempfile::TempDir> {
        self.inner.session.directory()
    }

    fn path(&self, part: &str) -> PathBuf {
        self.inner.dir.join(part)
    }

    /// Replaces a file as a whole: new content, written to disk, then renamed into place.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let scratch = self.scratch()?;
        let new = scratch.path().join("new");
        fs::write(&new, bytes).map_err(|e| Error::at("write", &new, e))?;
        File::open(&new)
            .and_then(|file| file.sync_all())
            .map_err(|e| Error::at("write", &new, e))?;
        rename_durably(&new, path)
    }
}

/// Renames and writes the directory's change to disk.
fn rename_durably(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| Error::at("move into place", to, e))?;
    let parent = to.parent().unwrap_or(to);
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| Error::at("write", parent, e))
}

/// Reads a file of at most `most` bytes.
fn read_small(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| Error::at("open", path, e))?;
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::at("read", path, e))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(Error::limit(path.display().to_string(), "json_bytes", most));
    }
    Ok(bytes)
}
