//! One entry after another onto the tree. May not: open what it did not just make, nor change anything
//! but by descriptor and single name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::Unpacked;
use super::attributes::{self, default_acl, set_opaque, times};
use super::name::{self, Meaning};
use super::tree::Tree;
use crate::compression::CHUNK;
use crate::error::{Error, Result, shown};
use crate::limits::UnpackLimits;
use crate::merged::{Merged, is_whiteout};
use crate::tarfile::{Entry, Kind, TarReader};

/// A directory whose time and inherited access list are set when nothing is made in it any more.
struct Late {
    parts: Vec<Vec<u8>>,
    mtime: (i64, u32),
    default_acl: Option<Vec<u8>>,
}

pub(super) struct Applier {
    pub(super) tree: Tree,
    pub(super) below: Merged,
    pub(super) limits: UnpackLimits,
    pub(super) done: Unpacked,
    late: Vec<Late>,
    /// Directories that the archive only implies; whether this layer removes the one below.
    implied: BTreeMap<Vec<Vec<u8>>, bool>,
    /// Device nodes that were left out; a hard link to one is left out too.
    pub(super) devices: BTreeSet<Vec<Vec<u8>>>,
    buffer: Vec<u8>,
}

impl Applier {
    pub(super) fn new(root: OwnedFd, below: Merged, limits: UnpackLimits) -> Result<Self> {
        // Found once here, so that a kernel without it is named as what is missing.
        let mut tree = Tree::new(root);
        tree.open(&[b".".to_vec()])
            .map_err(|e| Error::io("use openat2 (Linux 5.6 has it)", e))?;
        Ok(Self {
            tree,
            below,
            limits,
            done: Unpacked::default(),
            late: Vec::new(),
            implied: BTreeMap::new(),
            devices: BTreeSet::new(),
            buffer: vec![0; CHUNK],
        })
    }

    pub(super) fn apply<R: Read>(
        &mut self,
        tar: &mut TarReader<R>,
        mut entry: Entry,
    ) -> Result<()> {
        self.done.entries += 1;
        if self.done.entries > self.limits.entries {
            return Err(Error::limit(
                "the number of entries",
                "unpack.entries",
                self.limits.entries,
            ));
        }
        self.done.bytes = self.done.bytes.saturating_add(entry.size);
        if self.done.bytes > self.limits.bytes {
            return Err(Error::limit(
                "the size of the files",
                "unpack.bytes",
                self.limits.bytes,
            ));
        }
        let parts = match name::meaning(&entry.path, &self.limits)? {
            Meaning::Make(parts) => parts,
            Meaning::Whiteout(parts) => return self.whiteout(&entry, &parts),
            Meaning::Opaque(parts) => {
                let dir = self.directory(&entry, &parts)?;
                return set_opaque(&dir);
            }
            Meaning::Skip => return Ok(()),
        };
        if entry.kind == Kind::Directory {
            return self.make_directory(&mut entry, parts);
        }
        let Some((last, above)) = parts.split_last() else {
            return Err(Error::hostile(
                &entry.path,
                "the root itself can only be a directory",
            ));
        };
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            self.done.devices_skipped += 1;
            self.devices.insert(parts);
            return Ok(());
        }
        let dir = self.directory(&entry, above)?;
        match entry.kind {
            Kind::File => self.make_file(tar, &entry, &dir, last),
            Kind::Symlink => self.make_symlink(&entry, &dir, last),
            Kind::Fifo => self.make_fifo(&entry, &dir, last),
            Kind::HardLink => self.make_link(&entry, &dir, last),
            Kind::Directory | Kind::CharDevice | Kind::BlockDevice => Ok(()),
        }
    }

    /// What can only be set at the end.
    pub(super) fn finish(mut self) -> Result<Unpacked> {
        for (parts, fresh) in std::mem::take(&mut self.implied) {
            self.settle_implied(parts, fresh)?;
        }
        for late in std::mem::take(&mut self.late) {
            // It may have been replaced since by something else of its name.
            let Ok(dir) = self.tree.open(&late.parts) else {
                continue;
            };
            if let Some(acl) = late.default_acl {
                let name = attributes::DEFAULT_ACL;
                let set = rustix::fs::fsetxattr(&*dir, name, &acl, rustix::fs::XattrFlags::empty());
                self.done.attributes_dropped += u64::from(set.is_err());
            }
            rustix::fs::futimens(&*dir, &times(late.mtime))
                .map_err(|e| Error::io("set the time of a directory", e))?;
        }
        Ok(self.done)
    }

    /// Gives a directory that was only implied what it has in the layers below; else it is root's.
    fn settle_implied(&mut self, parts: Vec<Vec<u8>>, fresh: bool) -> Result<()> {
        // It may have been replaced since.
        let Ok(dir) = self.tree.open(&parts) else {
            return Ok(());
        };
        let mut mtime = (0, 0);
        let above = parts.len().saturating_sub(1);
        if !fresh && !self.is_hidden(parts.get(..above).unwrap_or_default())? {
            self.done.depends = true;
            let below = self.below.find(&as_path(&parts), false)?;
            if let Some(below) = below.filter(|below| below.kind() == FileType::Directory) {
                attributes::set_as_below(&*dir, &below)?;
                mtime = (
                    below.stat.st_mtime,
                    u32::try_from(below.stat.st_mtime_nsec).unwrap_or(0),
                );
            }
        }
        self.late.push(Late {
            parts,
            mtime,
            default_acl: None,
        });
        Ok(())
    }

    /// The directory at `parts`, made where the archive only implies it.
    fn directory(&mut self, entry: &Entry, parts: &[Vec<u8>]) -> Result<Rc<OwnedFd>> {
        match self.tree.open(parts) {
            Ok(dir) => return Ok(dir),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(e) => return Err(way_refused(entry, e)),
        }
        let mut dir = self.tree.open(&[]).map_err(|e| way_refused(entry, e))?;
        for end in 1..=parts.len() {
            let (Some(path), Some(name)) = (parts.get(..end), parts.get(end - 1)) else {
                break;
            };
            dir = match self.tree.open(path) {
                Ok(dir) => dir,
                Err(Errno::NOENT | Errno::NOTDIR) => self.imply(entry, path, &dir, name)?,
                Err(e) => return Err(way_refused(entry, e)),
            };
        }
        Ok(dir)
    }

    /// Makes a directory that the archive has no entry for (yet).
    fn imply(
        &mut self,
        entry: &Entry,
        path: &[Vec<u8>],
        dir: &OwnedFd,
        name: &[u8],
    ) -> Result<Rc<OwnedFd>> {
        let there = Tree::look(dir, name)?;
        let hidden = there.as_ref().is_some_and(is_whiteout);
        match &there {
            Some(stat) if hidden => self.tree.remove(dir, name, stat)?,
            Some(_) => {
                let why = "its path goes through something that is no directory of this archive";
                return Err(Error::hostile(&entry.path, why));
            }
            None => {}
        }
        let fail =
            |e: Errno| Error::io(format!("make a directory for {:?}", shown(&entry.path)), e);
        rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)).map_err(fail)?;
        let made = Tree::open_child(dir, name)?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).map_err(fail)?;
        if hidden {
            set_opaque(&made)?;
        }
        self.implied.insert(path.to_vec(), hidden);
        self.tree.open(path).map_err(fail)
    }

    fn make_directory(&mut self, entry: &mut Entry, parts: Vec<Vec<u8>>) -> Result<()> {
        let made = if let Some((last, above)) = parts.split_last() {
            let dir = self.directory(entry, above)?;
            let there = Tree::look(&dir, last)?;
            let is_directory = |stat: &rustix::fs::Stat| {
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            };
            if !there.as_ref().is_some_and(is_directory) {
                if let Some(stat) = &there {
                    self.tree.remove(&dir, last, stat)?;
                }
                rustix::fs::mkdirat(&*dir, last.as_slice(), Mode::from_raw_mode(0o700)).map_err(
                    |e| Error::io(format!("make directory {:?}", shown(&entry.path)), e),
                )?;
            }
            let made = Tree::open_child(&dir, last)?;
            // In place of a whiteout, or of something that hid what is below, it goes on hiding it.
            if there.as_ref().is_some_and(|stat| !is_directory(stat)) {
                set_opaque(&made)?;
            }
            Rc::new(made)
        } else {
            self.tree.open(&[]).map_err(|e| way_refused(entry, e))?
        };
        let default_acl = default_acl(entry);
        self.done.attributes_dropped += attributes::set(&*made, entry)?;
        self.implied.remove(&parts);
        self.late.push(Late {
            parts,
            mtime: entry.mtime,
            default_acl,
        });
        Ok(())
    }

    /// Makes room for something that is no directory.
    pub(super) fn clear(&mut self, dir: &OwnedFd, name: &[u8]) -> Result<()> {
        match Tree::look(dir, name)? {
            Some(stat) => self.tree.remove(dir, name, &stat),
            None => Ok(()),
        }
    }

    fn make_file<R: Read>(
        &mut self,
        tar: &mut TarReader<R>,
        entry: &Entry,
        dir: &OwnedFd,
        name: &[u8],
    ) -> Result<()> {
        self.clear(dir, name)?;
        let fail = |e: std::io::Error| Error::io(format!("write {:?}", shown(&entry.path)), e);
        let file = create(dir, name).map_err(|e| fail(e.into()))?;
        if let Some(pieces) = &entry.pieces {
            file.set_len(entry.size).map_err(fail)?;
            for piece in pieces {
                let (mut at, mut left) = (piece.offset, piece.length);
                while left > 0 {
                    let most = usize::try_from(left)
                        .unwrap_or(usize::MAX)
                        .min(self.buffer.len());
                    let buffer = self.buffer.get_mut(..most).unwrap_or_default();
                    let got = tar.read(buffer)?;
                    file.write_all_at(buffer, at).map_err(fail)?;
                    let got = u64::try_from(got).unwrap_or(left);
                    (at, left) = (at + got, left.saturating_sub(got));
                }
            }
        } else {
            loop {
                let got = tar.read(&mut self.buffer)?;
                if got == 0 {
                    break;
                }
                (&file)
                    .write_all(self.buffer.get(..got).unwrap_or_default())
                    .map_err(fail)?;
            }
        }
        self.done.attributes_dropped += attributes::set(&file, entry)?;
        rustix::fs::futimens(&file, &times(entry.mtime)).map_err(|e| fail(e.into()))
    }

    pub(super) fn make_symlink(&mut self, entry: &Entry, dir: &OwnedFd, name: &[u8]) -> Result<()> {
        if entry.link.is_empty() || entry.link.len() > crate::limits::PATH_BYTES {
            return Err(Error::hostile(
                &entry.path,
                "its target is empty or too long",
            ));
        }
        self.clear(dir, name)?;
        rustix::fs::symlinkat(entry.link.as_slice(), dir, name)
            .map_err(|e| Error::io(format!("make link {:?}", shown(&entry.path)), e))?;
        self.done.attributes_dropped += u64::try_from(entry.xattrs.len()).unwrap_or(0);
        own_by_name(entry, dir, name)
    }

    fn make_fifo(&mut self, entry: &Entry, dir: &OwnedFd, name: &[u8]) -> Result<()> {
        self.clear(dir, name)?;
        let fail = |e: Errno| Error::io(format!("make fifo {:?}", shown(&entry.path)), e);
        rustix::fs::mknodat(dir, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .map_err(fail)?;
        self.done.attributes_dropped += u64::try_from(entry.xattrs.len()).unwrap_or(0);
        own_by_name(entry, dir, name)?;
        // Just made and no link, so that nothing is followed here.
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .map_err(fail)
    }

    /// Hides a name of the layers below; what this layer itself has there stays.
    fn whiteout(&mut self, entry: &Entry, parts: &[Vec<u8>]) -> Result<()> {
        let Some((last, above)) = parts.split_last() else {
            return Ok(());
        };
        let dir = self.directory(entry, above)?;
        match Tree::look(&dir, last)? {
            None => {
                let mode = Mode::from_raw_mode(0);
                rustix::fs::mknodat(&*dir, last.as_slice(), FileType::CharacterDevice, mode, 0)
                    .map_err(|e| Error::io(format!("make whiteout {:?}", shown(&entry.path)), e))
            }
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                if let Some(fresh) = self.implied.get_mut(parts) {
                    *fresh = true;
                }
                set_opaque(&Tree::open_child(&dir, last)?)
            }
            Some(_) => Ok(()),
        }
    }
}

/// A new file, never one that is there.
pub(super) fn create(dir: &OwnedFd, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600)).map(File::from)
}

/// Owner and time of what cannot be opened.
fn own_by_name(entry: &Entry, dir: &OwnedFd, name: &[u8]) -> Result<()> {
    let fail = |e: Errno| Error::io(format!("set owner and time of {:?}", shown(&entry.path)), e);
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(fail)?;
    rustix::fs::utimensat(dir, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)
}

/// The kernel would not resolve an entry's directory.
pub(super) fn way_refused(entry: &Entry, error: Errno) -> Error {
    match error {
        Errno::XDEV => Error::hostile(
            &entry.path,
            "its path goes through a symbolic link that leads outside",
        ),
        Errno::LOOP => Error::hostile(
            &entry.path,
            "its path goes through symbolic links in a circle",
        ),
        _ => Error::io(format!("reach {:?}", shown(&entry.path)), error),
    }
}

pub(super) fn as_path(parts: &[Vec<u8>]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    PathBuf::from(std::ffi::OsString::from_vec(parts.join(&b'/')))
}
