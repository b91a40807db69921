//! Images from containers: what a container wrote to its root becomes a layer. May not: follow a symbolic
//! link or trust a name; the directory was a container's own.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use regatta_model::Digest;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use crate::build::layer::{Kind, LayerWriter, Meta};
use crate::build::{Draft, Layer};
use crate::error::{Error, Result, shown};
use crate::merged::{is_opaque, is_whiteout};
use crate::store::Store;

/// Deepest directory that is kept: what unpacking takes by default.
const DEPTH_MOST: usize = 200;
/// Most extended attributes of one file, and the largest value of one, in bytes.
const XATTRS_MOST: usize = 64;
const XATTR_MOST: usize = 64 << 10;
/// Overlay's own attributes, by either name.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// How an image is made from a container.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What the image's history says of the layer: "regatta exec -- make install".
    pub created_by: String,
    /// Later times are written as this one: seconds since 1970.
    pub epoch: Option<u64>,
}

/// A new image: the one of the manifest `base`, and upon it what `upper` holds. It has no name yet.
///
/// Where `upper` is empty, the image equals its base but for its history.
pub fn commit(store: &Store, base: &Digest, upper: &Path, options: &Options) -> Result<Digest> {
    let mut draft = Draft::from_store(store, base)?;
    match layer_from(store, upper, options.epoch)? {
        Some(layer) => draft.push_layer(&layer, &options.created_by),
        None => draft.push_empty(&options.created_by),
    }
    draft.write(store, options.epoch)
}

/// Makes a layer of an overlay's upper directory and takes it into the store. None: it is empty.
///
/// Names are sorted, whiteouts and opaque directories take the form that archives have for them, owners,
/// modes, times, extended attributes and hard links are kept. Sockets and devices are left out.
pub fn layer_from(store: &Store, upper: &Path, epoch: Option<u64>) -> Result<Option<Layer>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(upper, flags, Mode::empty())
        .map_err(|e| Error::at("open the container's root", upper, e))?;
    let mut walk = Walk {
        writer: LayerWriter::new(store, epoch)?,
        links: BTreeMap::new(),
    };
    if is_opaque(&root) {
        walk.mark(b".wh..wh..opq")?;
    }
    walk.directory(&root, b"", 0)?;
    if walk.writer.entries() == 0 {
        return Ok(None);
    }
    walk.writer.finish().map(Some)
}

struct Walk {
    writer: LayerWriter,
    /// Files with several names: by device and inode, the first name.
    links: BTreeMap<(u64, u64), Vec<u8>>,
}

impl Walk {
    fn directory(&mut self, dir: &OwnedFd, path: &[u8], depth: usize) -> Result<()> {
        if depth > DEPTH_MOST {
            let most = u64::try_from(DEPTH_MOST).unwrap_or(u64::MAX);
            return Err(Error::limit(
                format!("directory {:?}", shown(path)),
                "unpack.depth",
                most,
            ));
        }
        for name in names(dir, path)? {
            let below = if path.is_empty() {
                name.clone()
            } else {
                [path, b"/", &name].concat()
            };
            self.entry(dir, &name, &below, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8], depth: usize) -> Result<()> {
        let fail = |e| Error::io(format!("read {:?} of the container", shown(path)), e);
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        if is_whiteout(&stat) {
            let place = path.len() - name.len();
            let mark = [path.get(..place).unwrap_or_default(), b".wh.", name].concat();
            return self.mark(&mark);
        }
        if name.starts_with(b".wh.") {
            let why =
                "a name that begins with \".wh.\" means a removed file in an image; rename it";
            return Err(Error::hostile(path, why));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let child = rustix::fs::openat(dir, name, flags | OFlags::DIRECTORY, Mode::empty())
                    .map_err(fail)?;
                let meta = meta(&stat, attributes(&child, path)?);
                self.writer.add(path, Kind::Directory, &meta, None)?;
                if is_opaque(&child) {
                    self.mark(&[path, b"/.wh..wh..opq"].concat())?;
                }
                self.directory(&child, path, depth + 1)
            }
            FileType::RegularFile => {
                let key = (stat.st_dev, stat.st_ino);
                if stat.st_nlink > 1 {
                    if let Some(first) = self.links.get(&key) {
                        let meta = meta(&stat, Vec::new());
                        return self.writer.add(path, Kind::HardLink(first), &meta, None);
                    }
                    self.links.insert(key, path.to_vec());
                }
                let file = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(fail)?;
                let stat = rustix::fs::fstat(&file).map_err(fail)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(Error::hostile(path, "it changed while it was read"));
                }
                let meta = meta(&stat, attributes(&file, path)?);
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                self.writer
                    .add(path, Kind::File(size), &meta, Some(&mut File::from(file)))
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(fail)?;
                self.writer.add(
                    path,
                    Kind::Symlink(target.as_bytes()),
                    &meta(&stat, Vec::new()),
                    None,
                )
            }
            FileType::Fifo => self
                .writer
                .add(path, Kind::Fifo, &meta(&stat, Vec::new()), None),
            kind => {
                tracing::warn!(path = %shown(path), ?kind, "left out of the layer");
                Ok(())
            }
        }
    }

    /// An empty file that says something about its neighbours.
    fn mark(&mut self, path: &[u8]) -> Result<()> {
        let meta = Meta {
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: Vec::new(),
        };
        self.writer.add(path, Kind::File(0), &meta, None)
    }
}

/// The names in a directory, sorted.
fn names(dir: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let fail = |e| Error::io(format!("list {:?} of the container", shown(path)), e);
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn meta(stat: &Stat, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Meta {
    Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: u64::try_from(stat.st_mtime).unwrap_or(0),
        xattrs,
    }
}

/// The extended attributes that a layer keeps, sorted.
pub(crate) fn attributes(fd: impl AsFd, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let fail = |e| Error::io(format!("read the attributes of {:?}", shown(path)), e);
    let mut list = vec![0; XATTR_MOST];
    let length = match rustix::fs::flistxattr(&fd, list.as_mut_slice()) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(fail(e)),
    };
    list.truncate(length);
    let mut found = Vec::new();
    for name in list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        if OVERLAY.iter().any(|prefix| name.starts_with(prefix)) {
            if name.ends_with(b".redirect") || name.ends_with(b".metacopy") {
                let why = "its content is in another layer, which only overlay knows";
                return Err(Error::hostile(path, why));
            }
            continue;
        }
        let kept = name.starts_with(b"user.")
            || matches!(
                name,
                b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default"
            );
        if !kept || name.contains(&b'=') {
            continue;
        }
        if found.len() == XATTRS_MOST {
            let most = u64::try_from(XATTRS_MOST).unwrap_or(u64::MAX);
            let what = format!("attributes of {:?}", shown(path));
            return Err(Error::limit(what, "unpack.xattrs", most));
        }
        let mut value = vec![0; XATTR_MOST];
        let length = rustix::fs::fgetxattr(&fd, name, value.as_mut_slice()).map_err(fail)?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort_unstable();
    Ok(found)
}
