//! Locks between processes, and the directory for one process's work under way. May not: be held by a
//! dead process; the kernel lets go of all of them.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{Error, Result};

/// How the names of the locks begin that are one of many, and removed in the end.
const PASSING: &str = "layer-";

/// A lock on a file of `locks/`, until dropped. Between threads too: each lock opens the file anew.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// Removed when the lock is let go: it is one of many (a layer's).
    remove: Option<PathBuf>,
}

impl Lock {
    /// Waits until nobody else has the lock of this name.
    pub(super) fn exclusive(store: &Path, name: &str) -> Result<Self> {
        Self::take(store, name, FlockOperation::LockExclusive)
    }

    /// Waits until nobody has it exclusively.
    pub(super) fn shared(store: &Path, name: &str) -> Result<Self> {
        Self::take(store, name, FlockOperation::LockShared)
    }

    /// None: somebody else has it.
    pub(super) fn try_exclusive(store: &Path, name: &str) -> Result<Option<Self>> {
        let path = store.join("locks").join(name);
        let file = open(&path)?;
        Ok(
            flock(&file, &path, FlockOperation::NonBlockingLockExclusive)?
                .then_some(Self { file, remove: None }),
        )
    }

    /// The lock of one layer, whose file is removed in the end.
    pub(super) fn passing(store: &Path, layer: &str) -> Result<Self> {
        let path = store.join("locks").join(format!("{PASSING}{layer}"));
        loop {
            let file = open(&path)?;
            flock(&file, &path, FlockOperation::LockExclusive)?;
            if is_there(&file, &path)? {
                return Ok(Self {
                    file,
                    remove: Some(path),
                });
            }
        }
    }

    fn take(store: &Path, name: &str, operation: FlockOperation) -> Result<Self> {
        let path = store.join("locks").join(name);
        let file = open(&path)?;
        flock(&file, &path, operation)?;
        Ok(Self { file, remove: None })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(path) = &self.remove {
            // Still locked, so that nobody takes the old file for the lock.
            let _ = fs::remove_file(path);
        }
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

fn open(path: &Path) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|e| Error::at("open lock", path, e))
}

/// Whether this is still the file of that name: whoever had the lock may have removed the one that we waited for.
fn is_there(file: &File, path: &Path) -> Result<bool> {
    let ours = file.metadata().map_err(|e| Error::at("look at", path, e))?;
    Ok(fs::metadata(path).is_ok_and(|there| there.ino() == ours.ino()))
}

/// Whether the lock was got.
fn flock(file: &File, path: &Path, operation: FlockOperation) -> Result<bool> {
    loop {
        match rustix::fs::flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::at("lock", path, e)),
        }
    }
}

/// One opening of the store. While it lives its lock is held; what it has under way and in use counts
/// only as long.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) name: String,
    dir: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Session {
    /// Sweeps what dead ones left, and begins.
    pub(super) fn begin(store: &Path) -> Result<Self> {
        let tmp = store.join("tmp");
        // Between making a lock file and locking it nobody may sweep.
        let _sweeping = Lock::exclusive(store, "sweep")?;
        sweep(&tmp)?;
        sweep_passing(store)?;
        let dir = tempfile::Builder::new()
            .prefix(&format!("{}-", std::process::id()))
            .tempdir_in(&tmp)
            .map_err(|e| Error::at("make a directory in", &tmp, e))?
            .keep();
        let name = dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let lock_path = tmp.join(format!("{name}.lock"));
        let lock = open(&lock_path)?;
        flock(&lock, &lock_path, FlockOperation::LockExclusive)?;
        Ok(Self {
            name,
            dir,
            lock_path,
            _lock: lock,
        })
    }

    /// A new directory in the session's own.
    pub(super) fn directory(&self) -> Result<tempfile::TempDir> {
        tempfile::tempdir_in(&self.dir).map_err(|e| Error::at("make a directory in", &self.dir, e))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// Removes directories whose lock nobody holds.
fn sweep(tmp: &Path) -> Result<()> {
    for entry in fs::read_dir(tmp).map_err(|e| Error::at("list", tmp, e))? {
        let path = entry.map_err(|e| Error::at("list", tmp, e))?.path();
        let lock_path = if path.extension().is_some_and(|end| end == "lock") {
            path.clone()
        } else {
            path.with_extension("lock")
        };
        if !lock_path.exists() {
            remove(&path)?;
            continue;
        }
        let lock = open(&lock_path)?;
        if flock(&lock, &lock_path, FlockOperation::NonBlockingLockExclusive)? {
            remove(&lock_path.with_extension(""))?;
            remove(&lock_path)?;
        }
    }
    Ok(())
}

/// Removes the files of [`Lock::passing`] whose holder died before it could.
fn sweep_passing(store: &Path) -> Result<()> {
    let locks = store.join("locks");
    for entry in fs::read_dir(&locks).map_err(|e| Error::at("list", &locks, e))? {
        let entry = entry.map_err(|e| Error::at("list", &locks, e))?;
        if entry.file_name().to_string_lossy().starts_with(PASSING) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(mut lock) = Lock::try_exclusive(store, &name)?
                && is_there(&lock.file, &entry.path())?
            {
                lock.remove = Some(entry.path());
            }
        }
    }
    Ok(())
}

/// Removes a file or directory, whichever is there.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::at("remove", path, e)),
        _ => Ok(()),
    }
}

/// Whether the session of this name lives.
pub(super) fn is_alive(store: &Path, name: &str) -> Result<bool> {
    let path = store.join("tmp").join(format!("{name}.lock"));
    match File::open(&path) {
        Ok(file) => Ok(!flock(&file, &path, FlockOperation::NonBlockingLockShared)?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::at("open lock", &path, e)),
    }
}
