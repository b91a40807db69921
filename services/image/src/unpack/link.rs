//! Hard links: to what the same archive holds, or to a file of a layer below, which is then copied. May
//! not: link to anything outside, to a directory, or to what the layer removes.

use std::rc::Rc;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::apply::{Applier, as_path, create, way_refused};
use super::attributes::{self, times};
use super::name;
use super::tree::Tree;
use crate::error::{Error, Result, shown};
use crate::merged::is_opaque;
use crate::tarfile::{Entry, Kind};

impl Applier {
    pub(super) fn make_link(&mut self, entry: &Entry, dir: &OwnedFd, name: &[u8]) -> Result<()> {
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

    /// Whether this layer hides what is in a directory of the layers below, or at a path of them.
    pub(super) fn is_hidden(&mut self, parts: &[Vec<u8>]) -> Result<bool> {
        let mut dir = self
            .tree
            .open(&[])
            .map_err(|e| Error::io("look at the layer", e))?;
        for name in parts {
            if is_opaque(&dir) {
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
        Ok(is_opaque(&dir))
    }
}
