//! A directory as a tar archive that depends on its content only: names sorted, times clamped. May not:
//! follow a symbolic link below the directory.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::limits::{self, UnpackLimits};
use crate::merged::OPAQUE;
use crate::unpack::is_reserved;

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
    /// Whether it is an overlay's upper directory: its whiteouts and opaque directories become OCI's.
    pub overlay: bool,
    /// Whether the directory itself gets an entry.
    pub root: bool,
    /// Asked for each path below the directory, and whether that is a directory, in sorted order.
    pub filter: Option<&'a mut dyn FnMut(&Path, bool) -> Take>,
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
            overlay: false,
            root: false,
            filter: None,
            limits: UnpackLimits::default(),
        }
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

/// Packs a file or directory with the default options: a file under its own name, a directory's content
/// without the directory.
pub fn pack(path: &Path, out: impl Write) -> Result<Packed> {
    let meta = std::fs::metadata(path).map_err(|e| Error::at("find", path, e))?;
    if meta.is_dir() {
        return pack_directory(path, PackOptions::default(), out);
    }
    let mut packer = Packer::new(PackOptions::default(), out);
    let name = path
        .file_name()
        .ok_or_else(|| Error::Refused(format!("{} has no name", path.display())))?;
    packer.file(path, Path::new(name), &meta)?;
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
    if packer.options.root {
        packer.directory(path, &prefix, &meta)?;
    }
    packer.content(path, Path::new(""), &prefix, 0)?;
    packer.finish()
}

struct Packer<'a, W: Write> {
    options: PackOptions<'a>,
    builder: tar::Builder<W>,
    packed: Packed,
    /// Files with several names, by device and inode, with the first.
    linked: BTreeMap<(u64, u64), PathBuf>,
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
        self.builder.finish().map_err(written)?;
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
        bytes.extend(if bytes.is_empty() {
            b"./".as_slice()
        } else {
            b"/"
        });
        self.entry(
            path,
            bytes,
            meta,
            tar::EntryType::Directory,
            Vec::new(),
            0,
            io::empty(),
        )?;
        if self.options.overlay && has_opaque(path) {
            let marker = name.join(".wh..wh..opq").as_os_str().as_bytes().to_vec();
            self.entry(
                path,
                marker,
                meta,
                tar::EntryType::Regular,
                Vec::new(),
                0,
                io::empty(),
            )?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: &Path, meta: &Metadata) -> Result<()> {
        let kind = meta.file_type();
        let bytes = name.as_os_str().as_bytes().to_vec();
        if kind.is_char_device() && meta.rdev() == 0 && self.options.overlay {
            self.wake()?;
            let mut hidden = b".wh.".to_vec();
            hidden.extend(name.file_name().unwrap_or_default().as_bytes());
            let marker = name.with_file_name(std::ffi::OsStr::from_bytes(&hidden));
            let marker = marker.as_os_str().as_bytes().to_vec();
            return self.entry(
                path,
                marker,
                meta,
                tar::EntryType::Regular,
                Vec::new(),
                0,
                io::empty(),
            );
        }
        if kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
            return Ok(());
        }
        self.wake()?;
        if meta.nlink() > 1 {
            let first = self
                .linked
                .entry((meta.dev(), meta.ino()))
                .or_insert_with(|| name.to_owned());
            if first != name {
                let link = first.as_os_str().as_bytes().to_vec();
                return self.entry(
                    path,
                    bytes,
                    meta,
                    tar::EntryType::Link,
                    link,
                    0,
                    io::empty(),
                );
            }
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(path).map_err(|e| Error::at("read link", path, e))?;
            let link = target.as_os_str().as_bytes().to_vec();
            return self.entry(
                path,
                bytes,
                meta,
                tar::EntryType::Symlink,
                link,
                0,
                io::empty(),
            );
        }
        if kind.is_fifo() {
            return self.entry(
                path,
                bytes,
                meta,
                tar::EntryType::Fifo,
                Vec::new(),
                0,
                io::empty(),
            );
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
        self.packed.bytes = self.packed.bytes.saturating_add(size);
        if self.packed.bytes > self.options.limits.bytes {
            let most = self.options.limits.bytes;
            return Err(Error::limit(
                "the size of the files to pack",
                "unpack.bytes",
                most,
            ));
        }
        self.entry(
            path,
            bytes,
            meta,
            tar::EntryType::Regular,
            Vec::new(),
            size,
            file,
        )
    }

    #[expect(clippy::too_many_arguments, reason = "an entry has that many parts")]
    fn entry(
        &mut self,
        path: &Path,
        name: Vec<u8>,
        meta: &Metadata,
        kind: tar::EntryType,
        link: Vec<u8>,
        size: u64,
        content: impl io::Read,
    ) -> Result<()> {
        self.packed.entries += 1;
        let limits = self.options.limits;
        if self.packed.entries > limits.entries {
            return Err(Error::limit(
                "the number of files to pack",
                "unpack.entries",
                limits.entries,
            ));
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(meta.mode() & 0o7777);
        let (uid, gid) = self.options.owner.unwrap_or((meta.uid(), meta.gid()));
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_size(size);
        let time = match self.options.times {
            Times::Fixed(time) => time,
            Times::Clamped(most) => meta.mtime().min(most),
            Times::Kept => meta.mtime(),
        };
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        match u64::try_from(time) {
            Ok(time) => header.set_mtime(time),
            Err(_) => records.push((b"mtime".to_vec(), time.to_string().into_bytes())),
        }
        let fields = header.as_old_mut();
        for (field, key, value) in [
            (&mut fields.name, b"path".as_slice(), &name),
            (&mut fields.linkname, b"linkpath", &link),
        ] {
            if value.len() > field.len() || !value.is_ascii() {
                records.push((key.to_vec(), value.clone()));
            }
            for (to, from) in field.iter_mut().zip(value) {
                *to = *from;
            }
        }
        if self.options.xattrs && kind != tar::EntryType::Link && kind != tar::EntryType::Symlink {
            records.extend(attributes(path)?);
        }
        header.set_cksum();
        if !records.is_empty() {
            self.extended(&records)?;
        }
        let mut content = content.take(size);
        self.builder
            .append(&header, &mut content)
            .map_err(written)?;
        if content.limit() > 0 {
            return Err(Error::Refused(format!(
                "{} changed while it was packed; try again",
                path.display()
            )));
        }
        Ok(())
    }

    /// A PAX header.
    fn extended(&mut self, records: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut bytes = Vec::new();
        for (key, value) in records {
            // The length counts its own digits.
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            bytes.extend(format!("{length} ").into_bytes());
            bytes.extend(key);
            bytes.push(b'=');
            bytes.extend(value);
            bytes.push(b'\n');
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_path("PaxHeaders/entry").map_err(written)?;
        header.set_size(u64::try_from(bytes.len()).unwrap_or(0));
        header.set_mode(0o644);
        header.set_cksum();
        self.builder
            .append(&header, bytes.as_slice())
            .map_err(written)
    }
}

fn written(error: io::Error) -> Error {
    Error::io("write the archive", error)
}

fn has_opaque(path: &Path) -> bool {
    OPAQUE.iter().any(|name| {
        xattr::get(path, name)
            .ok()
            .flatten()
            .is_some_and(|value| value == b"y")
    })
}

/// The extended attributes that mean something in an image, sorted by name.
fn attributes(path: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = BTreeMap::new();
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::Unsupported => return Ok(Vec::new()),
        Err(e) => return Err(Error::at("list extended attributes of", path, e)),
    };
    for name in names {
        let bytes = name.as_bytes();
        let kept = (bytes.starts_with(b"user.") && !bytes.starts_with(b"user.overlay."))
            || bytes == b"security.capability"
            || bytes.starts_with(b"system.posix_acl_");
        if !kept || found.len() >= limits::XATTRS {
            continue;
        }
        let value =
            xattr::get(path, &name).map_err(|e| Error::at("read attributes of", path, e))?;
        if let Some(value) = value {
            found.insert([b"SCHILY.xattr.".as_slice(), bytes].concat(), value);
        }
    }
    Ok(found.into_iter().collect())
}
