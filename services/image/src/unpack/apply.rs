//! One entry after another onto the tree. May not: open what it did not just make, nor change anything
//! but by descriptor and single name.

use std::collections::BTreeSet;
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
    tree: Tree,
    below: Merged,
    limits: UnpackLimits,
    done: Unpacked,
    late: Vec<Late>,
    /// Device nodes that were left out; a hard link to one is left out too.
    devices: BTreeSet<Vec<Vec<u8>>>,
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

    /// Makes a directory that the archive has no entry for (yet): as it is in the layers below, else
    /// root's.
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
        let mut mtime = (0, 0);
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).map_err(fail)?;
        if hidden {
            set_opaque(&made)?;
        } else {
            self.done.depends = true;
            let below = self.below.find(&as_path(path), false)?;
            if let Some(below) = below.filter(|below| below.kind() == FileType::Directory) {
                let stat = &below.stat;
                rustix::fs::fchown(
                    &made,
                    Some(Uid::from_raw(stat.st_uid)),
                    Some(Gid::from_raw(stat.st_gid)),
                )
                .map_err(fail)?;
                rustix::fs::fchmod(&made, Mode::from_raw_mode(below.mode())).map_err(fail)?;
                if let Some(top) = below.top() {
                    attributes::copy(top, &made)?;
                }
                mtime = (
                    stat.st_mtime,
                    u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
                );
            }
        }
        self.late.push(Late {
            parts: path.to_vec(),
            mtime,
            default_acl: None,
        });
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
        self.late.push(Late {
            parts,
            mtime: entry.mtime,
            default_acl,
        });
        Ok(())
    }

    /// Makes room for something that is no directory.
    fn clear(&mut self, dir: &OwnedFd, name: &[u8]) -> Result<()> {
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

    fn make_symlink(&mut self, entry: &Entry, dir: &OwnedFd, name: &[u8]) -> Result<()> {
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

    fn make_link(&mut self, entry: &Entry, dir: &OwnedFd, name: &[u8]) -> Result<()> {
        let to = name::components(&entry.link, &self.limits)
            .map_err(|_| Error::hostile(&entry.path, "it is a hard link to a place outside"))?;
        let fail = |e: Errno| Error::io(format!("make hard link {:?}", shown(&entry.path)), e);
        let Some((target, above)) = to.split_last() else {
            return Err(Error::hostile(&entry.path, "it is a hard link to the root"));
        };
        if self.devices.contains(&to) {
            self.done.devices_skipped += 1;
            return Ok(());
        }
        let from = match self.tree.open(above) {
            Ok(from) => Some(from),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(e) => return Err(way_refused(entry, e)),
        };
        let there = match &from {
            Some(from) => Tree::look(from, target)?,
            None => None,
        };
        let (Some(from), Some(stat)) = (from, there) else {
            return self.link_to_below(entry, &to, dir, name);
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                return Err(Error::hostile(
                    &entry.path,
                    "it is a hard link to a directory",
                ));
            }
            // Only a whiteout is one.
            FileType::CharacterDevice => {
                return Err(Error::hostile(
                    &entry.path,
                    "it is a hard link to a file that is removed",
                ));
            }
            _ => {}
        }
        if let Some(have) = Tree::look(dir, name)? {
            if (have.st_dev, have.st_ino) == (stat.st_dev, stat.st_ino) {
                return Ok(());
            }
            if FileType::from_raw_mode(have.st_mode) == FileType::Directory {
                // The target may be in there.
                return Err(Error::hostile(
                    &entry.path,
                    "it is a hard link in place of a directory",
                ));
            }
            self.tree.remove(dir, name, &have)?;
        }
        rustix::fs::linkat(&*from, target.as_slice(), dir, name, AtFlags::empty()).map_err(fail)
    }

    /// A hard link to a file of a layer below: overlay has none, so it becomes a copy.
    fn link_to_below(
        &mut self,
        entry: &Entry,
        to: &[Vec<u8>],
        dir: &OwnedFd,
        name: &[u8],
    ) -> Result<()> {
        let missing =
            || Error::hostile(&entry.path, "it is a hard link to a file that is not there");
        if self.is_hidden(to)? {
            return Err(missing());
        }
        let found = self.below.find(&as_path(to), false)?.ok_or_else(missing)?;
        self.done.depends = true;
        let mut copied = Entry {
            path: entry.path.clone(),
            kind: Kind::File,
            link: Vec::new(),
            mode: found.mode(),
            uid: found.stat.st_uid,
            gid: found.stat.st_gid,
            mtime: (
                found.stat.st_mtime,
                u32::try_from(found.stat.st_mtime_nsec).unwrap_or(0),
            ),
            size: found.size(),
            pieces: None,
            xattrs: Vec::new(),
        };
        match found.kind() {
            FileType::Symlink => {
                copied.link = found.link_target()?;
                self.make_symlink(&copied, dir, name)
            }
            FileType::RegularFile => {
                self.done.bytes = self.done.bytes.saturating_add(copied.size);
                if self.done.bytes > self.limits.bytes {
                    return Err(Error::limit(
                        "the size of the files",
                        "unpack.bytes",
                        self.limits.bytes,
                    ));
                }
                self.clear(dir, name)?;
                let fail =
                    |e: std::io::Error| Error::io(format!("copy {:?}", shown(&entry.path)), e);
                let mut source = found.open_file()?;
                let mut file = create(dir, name).map_err(|e| fail(e.into()))?;
                std::io::copy(&mut source, &mut file).map_err(fail)?;
                attributes::set(&file, &copied)?;
                attributes::copy(&source, &file)?;
                rustix::fs::futimens(&file, &times(copied.mtime)).map_err(|e| fail(e.into()))
            }
            _ => Err(missing()),
        }
    }

    /// Whether this layer hides a path of the layers below.
    fn is_hidden(&mut self, parts: &[Vec<u8>]) -> Result<bool> {
        let mut dir = self
            .tree
            .open(&[])
            .map_err(|e| Error::io("look at the layer", e))?;
        for name in parts {
            if crate::merged::is_opaque(&dir) {
                return Ok(true);
            }
            match Tree::look(&dir, name)? {
                None => return Ok(false),
                Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    dir = Rc::new(Tree::open_child(&dir, name)?);
                }
                Some(_) => return Ok(true),
            }
        }
        Ok(false)
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
                set_opaque(&Tree::open_child(&dir, last)?)
            }
            Some(_) => Ok(()),
        }
    }
}

/// A new file, never one that is there.
fn create(dir: &OwnedFd, name: &[u8]) -> Result<File, Errno> {
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
fn way_refused(entry: &Entry, error: Errno) -> Error {
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

fn as_path(parts: &[Vec<u8>]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    PathBuf::from(std::ffi::OsString::from_vec(parts.join(&b'/')))
}
