//! Directories below the root that is unpacked into, reached by descriptors only. May not: follow a
//! symbolic link that is absolute or leads out of the root.

use std::rc::Rc;

use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result, shown};

/// How directories are opened.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
/// How often a resolution is tried again that a change elsewhere in the file system interrupted.
const TRIES: usize = 64;

/// The root and the directory used last.
#[derive(Debug)]
pub(super) struct Tree {
    root: Rc<OwnedFd>,
    last: Option<(Vec<Vec<u8>>, Rc<OwnedFd>)>,
}

impl Tree {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self {
            root: Rc::new(root),
            last: None,
        }
    }

    /// A directory by its components.
    pub(super) fn open(&mut self, parts: &[Vec<u8>]) -> Result<Rc<OwnedFd>, Errno> {
        if parts.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some((_, fd)) = self.last.as_ref().filter(|(last, _)| last == parts) {
            return Ok(Rc::clone(fd));
        }
        let path = parts.join(&b'/');
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        let fd = loop {
            match rustix::fs::openat2(
                &*self.root,
                path.as_slice(),
                DIRECTORY,
                Mode::empty(),
                resolve,
            ) {
                Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
                other => break Rc::new(other?),
            }
        };
        self.last = Some((parts.to_vec(), Rc::clone(&fd)));
        Ok(fd)
    }

    /// What stands at a name, links not followed.
    pub(super) fn look(dir: &OwnedFd, name: &[u8]) -> Result<Option<Stat>> {
        match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::io(format!("look at {:?}", shown(name)), e)),
        }
    }

    /// Opens a directory just looked at; never through a link.
    pub(super) fn open_child(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
        rustix::fs::openat(dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|e| Error::io(format!("open directory {:?}", shown(name)), e))
    }

    /// Removes what stands at a name, whole.
    pub(super) fn remove(&mut self, dir: &OwnedFd, name: &[u8], stat: &Stat) -> Result<()> {
        // The directory used last may be gone or mean another one now.
        self.last = None;
        remove_all(
            dir,
            name,
            FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
        )
        .map_err(|e| Error::io(format!("replace {:?}", shown(name)), e))
    }
}

/// Removes a file, or a directory with all that is in it; its depth is bounded by that of the paths
/// that were unpacked.
fn remove_all(dir: &OwnedFd, name: &[u8], directory: bool) -> Result<(), Errno> {
    if !directory {
        return rustix::fs::unlinkat(dir, name, AtFlags::empty());
    }
    let inner = rustix::fs::openat(dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(inner.as_fd())? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    for name in names {
        let stat = rustix::fs::statat(&inner, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
        remove_all(
            &inner,
            &name,
            FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
        )?;
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}
