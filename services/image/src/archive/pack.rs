//! A directory as a tar archive that depends on its content only: names sorted, times clamped. May not:
//! follow a symbolic link below the directory.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tar::EntryType;

use crate::error::{Error, Result};
use crate::limits::UnpackLimits;
use crate::unpack::is_reserved;

mod entry;
mod tree;

use entry::Item;
pub use tree::Tree;

/// The time that [`Times::Fixed`] has by default: 1980-01-02, since zip files know none before 1980.
const LONG_AGO: i64 = 315_619_200;

/// Whether something is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It is; of a directory, its content is asked for.
    Yes,
    /// It is not, and nothing below it is asked for.
    No,
    /// The directory itself only if something below it is.
    Below,
}

/// Which times files get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// All the same, in seconds since 1970.
    Fixed(i64),
    /// Their own, but none later than this.
    Clamped(i64),
    /// Their own, in whole seconds.
    Kept,
}

/// Says of each path below the directory, and whether that is a directory, what is to be done with it.
pub type Filter = dyn FnMut(&Path, bool) -> Take;

/// How a directory is packed.
pub struct PackOptions<'a> {
    /// Put before every name; relative, no `..`.
    pub prefix: PathBuf,
    /// User and group id of everything; none: their own.
    pub owner: Option<(u32, u32)>,
    /// Times.
    pub times: Times,
    /// Whether `user.*` attributes and file capabilities are kept.
    pub xattrs: bool,
    /// Asked for each path below the directory, and whether that is a directory, in sorted order.
    pub filter: Option<&'a mut Filter>,
    /// Bytes and entries at most.
    pub limits: UnpackLimits,
}

impl Default for PackOptions<'_> {
    fn default() -> Self {
        Self {
            prefix: PathBuf::new(),
            owner: Some((0, 0)),
            times: Times::Fixed(LONG_AGO),
            xattrs: false,
            filter: None,
            limits: UnpackLimits::default(),
        }
    }
}

impl PackOptions<'_> {
    /// The defaults with the limits of the environment.
    fn limited() -> Result<Self> {
        Ok(Self {
            limits: UnpackLimits::from_environment()?,
            ..Self::default()
        })
    }
}

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// Whether an archive holds one regular file and nothing else, as [`pack`] makes it of a file.
pub fn is_one_file(archive: impl Read) -> Result<bool> {
    let failed = |e| Error::io("read an archive", e);
    let mut archive = tar::Archive::new(archive);
    // Raw: extension headers count as entries of their own here, and are not read.
    let mut entries = archive.entries().map_err(failed)?.raw(true);
    let first = entries.next().transpose().map_err(failed)?;
    // A directory's content has no `./`: one that holds a single file is no file.
    let is_file = first.is_some_and(|entry| {
        entry.header().entry_type().is_file() && entry.path_bytes().starts_with(b"./")
    });
    Ok(is_file && entries.next().transpose().map_err(failed)?.is_none())
}

/// Packs a file or directory with the default options and the limits of the environment: a file as `./NAME`, by which [`is_one_file`] knows it,
/// a directory's content without the directory.
pub fn pack(path: &Path, out: impl Write) -> Result<Packed> {
    let meta = std::fs::metadata(path).map_err(|e| Error::at("find", path, e))?;
    if meta.is_dir() {
        return pack_directory(path, PackOptions::limited()?, out);
    }
    let mut packer = Packer::new(PackOptions::limited()?, out);
    let name = path
        .file_name()
        .ok_or_else(|| Error::Refused(format!("{} has no name", path.display())))?;
    packer.file(path, &Path::new(".").join(name), &meta)?;
    packer.finish()
}

/// Packs a directory's content. Device nodes and sockets are left out.
pub fn pack_directory(path: &Path, options: PackOptions<'_>, out: impl Write) -> Result<Packed> {
    let meta = std::fs::metadata(path).map_err(|e| Error::at("find", path, e))?;
    if !meta.is_dir() {
        return Err(Error::Refused(format!(
            "{} is no directory",
            path.display()
        )));
    }
    let mut packer = Packer::new(options, out);
    let prefix = packer.options.prefix.clone();
    packer.content(path, Path::new(""), &prefix, 0)?;
    packer.finish()
}

struct Packer<'a, W: Write> {
    options: PackOptions<'a>,
    builder: tar::Builder<W>,
    packed: Packed,
    /// Files with several names, by device and inode, with the first.
    linked: BTreeMap<(u64, u64), Vec<u8>>,
    /// Directories whose entry waits for something below them.
    waiting: Vec<(PathBuf, PathBuf, Metadata)>,
}

impl<'a, W: Write> Packer<'a, W> {
    fn new(options: PackOptions<'a>, out: W) -> Self {
        Self {
            options,
            builder: tar::Builder::new(out),
            packed: Packed::default(),
            linked: BTreeMap::new(),
            waiting: Vec::new(),
        }
    }

    fn finish(mut self) -> Result<Packed> {
        self.builder
            .finish()
            .map_err(|e| Error::io("write the archive", e))?;
        Ok(self.packed)
    }

    /// What is in a directory: `path` on this host, `below` from the packed directory, `name` in the tar.
    fn content(&mut self, path: &Path, below: &Path, name: &Path, depth: u64) -> Result<()> {
        let limits = self.options.limits;
        if depth > limits.depth {
            return Err(Error::limit(
                format!("the depth of {}", path.display()),
                "unpack.depth",
                limits.depth,
            ));
        }
        let mut children = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|e| Error::at("list", path, e))? {
            children.push(entry.map_err(|e| Error::at("list", path, e))?.file_name());
        }
        children.sort();
        for child in children {
            let (path, below, name) = (path.join(&child), below.join(&child), name.join(&child));
            let meta =
                std::fs::symlink_metadata(&path).map_err(|e| Error::at("look at", &path, e))?;
            let take = match &mut self.options.filter {
                Some(filter) => filter(&below, meta.is_dir()),
                None => Take::Yes,
            };
            if take == Take::No || (take == Take::Below && !meta.is_dir()) {
                continue;
            }
            if is_reserved(child.as_bytes()) {
                let why = "a name that starts with \".wh.\" removes files in an image and cannot be packed";
                return Err(Error::Refused(format!(
                    "{}: {why}; leave it out",
                    path.display()
                )));
            }
            if meta.is_dir() {
                let waiting = self.waiting.len();
                if take == Take::Below {
                    self.waiting.push((path.clone(), name.clone(), meta));
                } else {
                    self.directory(&path, &name, &meta)?;
                }
                self.content(&path, &below, &name, depth + 1)?;
                self.waiting.truncate(waiting);
            } else {
                self.file(&path, &name, &meta)?;
            }
        }
        Ok(())
    }

    /// Writes the directories that waited for what comes now.
    fn wake(&mut self) -> Result<()> {
        for (path, name, meta) in std::mem::take(&mut self.waiting) {
            self.directory(&path, &name, &meta)?;
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path, name: &Path, meta: &Metadata) -> Result<()> {
        self.wake()?;
        let mut bytes = name.as_os_str().as_bytes().to_vec();
        bytes.push(b'/');
        let item = self.item((path, &bytes), meta, EntryType::Directory, &[]);
        self.entry(&item, 0, io::empty())
    }

    fn file(&mut self, path: &Path, name: &Path, meta: &Metadata) -> Result<()> {
        let kind = meta.file_type();
        if kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
            return Ok(());
        }
        self.wake()?;
        let bytes = name.as_os_str().as_bytes();
        if meta.nlink() > 1 {
            let key = (meta.dev(), meta.ino());
            let first = self.linked.entry(key).or_insert_with(|| bytes.to_vec());
            if first != bytes {
                let first = first.clone();
                let item = self.item((path, bytes), meta, EntryType::Link, &first);
                return self.entry(&item, 0, io::empty());
            }
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(path).map_err(|e| Error::at("read link", path, e))?;
            let target = target.as_os_str().as_bytes();
            let item = self.item((path, bytes), meta, EntryType::Symlink, target);
            return self.entry(&item, 0, io::empty());
        }
        if kind.is_fifo() {
            let item = self.item((path, bytes), meta, EntryType::Fifo, &[]);
            return self.entry(&item, 0, io::empty());
        }
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or(0);
        let file = File::options().read(true).custom_flags(flags).open(path);
        let file = file.or_else(|e| {
            // What was given itself may be a link to a file.
            if self.packed.entries == 0 && path.is_symlink() {
                File::open(path)
            } else {
                Err(e)
            }
        });
        let file = file.map_err(|e| Error::at("open", path, e))?;
        let size = file
            .metadata()
            .map_err(|e| Error::at("look at", path, e))?
            .len();
        let item = self.item((path, bytes), meta, EntryType::Regular, &[]);
        self.entry(&item, size, file)
    }

    /// An entry for what is at a path of this host, under a name in the archive.
    fn item<'i>(
        &self,
        (path, name): (&'i Path, &'i [u8]),
        meta: &Metadata,
        kind: EntryType,
        link: &'i [u8],
    ) -> Item<'i> {
        let (options, time) = (&self.options, meta.mtime());
        Item {
            path,
            name,
            kind,
            mode: meta.mode(),
            owner: options.owner.unwrap_or((meta.uid(), meta.gid())),
            time: match options.times {
                Times::Fixed(time) => time,
                Times::Clamped(most) => time.min(most),
                Times::Kept => time,
            },
            link,
        }
    }

    fn entry(&mut self, item: &Item<'_>, size: u64, content: impl io::Read) -> Result<()> {
        self.packed.entries += 1;
        self.packed.bytes = self.packed.bytes.saturating_add(size);
        let limits = self.options.limits;
        if self.packed.bytes > limits.bytes {
            return Err(Error::limit(
                "the size of the files to pack",
                "unpack.bytes",
                limits.bytes,
            ));
        }
        if self.packed.entries > limits.entries {
            return Err(Error::limit(
                "the number of files to pack",
                "unpack.entries",
                limits.entries,
            ));
        }
        entry::write(&mut self.builder, item, self.options.xattrs, size, content)
    }
}
