//! Writing one layer: a tar of fixed form, compressed by gzip, so that the same entries give the same bytes.
//! ustar, with PAX records where a field is too short. May not: read directories.

use std::fs::File;
use std::io::{self, Read, Write};

use flate2::write::GzEncoder;
use regatta_model::Digest;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::store::Store;

const BLOCK: usize = 512;
/// Largest value of an octal field with 11 digits, and with 7.
const OCTAL_11: u64 = 0o777_7777_7777;
const OCTAL_7: u64 = 0o777_7777;
/// Longest name in a ustar header.
const NAME_MOST: usize = 100;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    Directory,
    /// With so many bytes.
    File(u64),
    Symlink(&'a [u8]),
    /// To an entry before, by its path.
    HardLink(&'a [u8]),
    Fifo,
}

/// Whose an entry is, and how old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970.
    pub(crate) mtime: u64,
    /// Sorted.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A finished layer, in the store.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Layer {
    /// The digest of its blob.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// The digest of its tar.
    pub diff_id: Digest,
    /// The latest time in it, in seconds since 1970.
    pub newest: u64,
}

/// Writes a layer's entries, in the order they are given.
pub(crate) struct LayerWriter {
    store: Store,
    scratch: tempfile::TempDir,
    tar: Hashing<GzEncoder<Hashing<io::BufWriter<File>>>>,
    epoch: Option<u64>,
    now: u64,
    newest: u64,
    entries: u64,
}

impl LayerWriter {
    /// Begins. Times after `epoch` are written as `epoch`, times in the future as now.
    pub(crate) fn new(store: &Store, epoch: Option<u64>) -> Result<Self> {
        let scratch = store.scratch()?;
        let path = scratch.path().join("layer");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| Error::at("make", &path, e))?;
        let compressed = Hashing::new(io::BufWriter::with_capacity(128 << 10, file));
        let gzip = flate2::GzBuilder::new()
            .mtime(0)
            .write(compressed, flate2::Compression::new(6));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Ok(Self {
            store: store.clone(),
            scratch,
            tar: Hashing::new(gzip),
            epoch,
            now: now.map_or(0, |now| now.as_secs()),
            newest: 0,
            entries: 0,
        })
    }

    /// How many entries it has.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// Adds an entry. `path` is relative and has no slash at its end; `content` gives a file's bytes, all of
    /// them.
    pub(crate) fn add(
        &mut self,
        path: &[u8],
        kind: Kind<'_>,
        meta: &Meta,
        content: Option<&mut dyn Read>,
    ) -> Result<()> {
        self.entries += 1;
        let mtime = meta.mtime.min(self.epoch.unwrap_or(u64::MAX)).min(self.now);
        self.newest = self.newest.max(mtime);
        let size = if let Kind::File(size) = kind { size } else { 0 };
        let (flag, link): (u8, &[u8]) = match kind {
            Kind::File(_) => (b'0', b""),
            Kind::HardLink(to) => (b'1', to),
            Kind::Symlink(to) => (b'2', to),
            Kind::Directory => (b'5', b""),
            Kind::Fifo => (b'6', b""),
        };
        let mut name = path.to_vec();
        if kind == Kind::Directory {
            name.push(b'/');
        }
        let records = pax(&name, link, size, meta);
        if !records.is_empty() {
            let header = header(b"pax", b'x', 0o644, 0, 0, length(records.len()), 0, b"");
            self.write(&header)?;
            self.write(&records)?;
            self.pad(length(records.len()))?;
        }
        let (uid, gid) = (u64::from(meta.uid), u64::from(meta.gid));
        let header = header(&name, flag, meta.mode & 0o7777, uid, gid, size, mtime, link);
        self.write(&header)?;
        if let Some(content) = content {
            self.content(path, content, size)?;
        }
        self.pad(size)
    }

    fn content(&mut self, path: &[u8], content: &mut dyn Read, size: u64) -> Result<()> {
        let changed = || {
            let path = String::from_utf8_lossy(path).into_owned();
            Error::Refused(format!(
                "{path:?} changed while it was read; build again when it is at rest"
            ))
        };
        let mut limited = content.take(size);
        let copied =
            io::copy(&mut limited, &mut self.tar).map_err(|e| Error::io("write a layer", e))?;
        let mut more = [0];
        let content = limited.into_inner();
        let rest = content
            .read(&mut more)
            .map_err(|e| Error::io("read a file for a layer", e))?;
        if copied == size && rest == 0 {
            Ok(())
        } else {
            Err(changed())
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.tar
            .write_all(bytes)
            .map_err(|e| Error::io("write a layer", e))
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let rest = usize::try_from(size % length(BLOCK)).unwrap_or(0);
        match [0; BLOCK].get(rest..) {
            Some(padding) if rest > 0 => self.write(padding),
            _ => Ok(()),
        }
    }

    /// Ends the archive and moves it into the store.
    pub(crate) fn finish(mut self) -> Result<Layer> {
        self.write(&[0; 2 * BLOCK])?;
        let fail = |e| Error::io("write a layer", e);
        let (gzip, diff_id, _) = self.tar.finish();
        let (file, digest, size) = gzip.finish().map_err(fail)?.finish();
        let file = file.into_inner().map_err(|e| fail(e.into_error()))?;
        file.sync_all().map_err(fail)?;
        let path = self.scratch.path().join("layer");
        self.store.ingest_file(&path, digest)?;
        Ok(Layer {
            digest,
            size,
            diff_id,
            newest: self.newest,
        })
    }
}

/// Takes the digest and the length of what is written.
struct Hashing<W> {
    inner: W,
    hasher: Sha256,
    count: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            count: 0,
        }
    }

    fn finish(self) -> (W, Digest, u64) {
        (
            self.inner,
            Digest::from_bytes(self.hasher.finalize().into()),
            self.count,
        )
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.count += length(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn length(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// The records for what a ustar header cannot hold.
fn pax(name: &[u8], link: &[u8], size: u64, meta: &Meta) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut total = rest + 1;
        while total != rest + total.to_string().len() {
            total = rest + total.to_string().len();
        }
        records.extend_from_slice(total.to_string().as_bytes());
        records.push(b' ');
        records.extend_from_slice(key);
        records.push(b'=');
        records.extend_from_slice(value);
        records.push(b'\n');
    };
    if name.len() > NAME_MOST {
        add(b"path", name);
    }
    if link.len() > NAME_MOST {
        add(b"linkpath", link);
    }
    if size > OCTAL_11 {
        add(b"size", size.to_string().as_bytes());
    }
    for (key, id) in [("uid", meta.uid), ("gid", meta.gid)] {
        if u64::from(id) > OCTAL_7 {
            add(key.as_bytes(), id.to_string().as_bytes());
        }
    }
    for (key, value) in &meta.xattrs {
        add(&[b"SCHILY.xattr.".as_slice(), key].concat(), value);
    }
    records
}

#[expect(
    clippy::too_many_arguments,
    reason = "the fields of one header, in its order"
)]
fn header(
    name: &[u8],
    flag: u8,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
    link: &[u8],
) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8], most: usize| {
        let bytes = bytes.get(..bytes.len().min(most)).unwrap_or_default();
        if let Some(field) = block.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    let within = |value: u64, most: u64| if value > most { 0 } else { value };
    put(0, name, NAME_MOST);
    put(100, format!("{mode:07o}\0").as_bytes(), 8);
    put(108, format!("{:07o}\0", within(uid, OCTAL_7)).as_bytes(), 8);
    put(116, format!("{:07o}\0", within(gid, OCTAL_7)).as_bytes(), 8);
    put(
        124,
        format!("{:011o}\0", within(size, OCTAL_11)).as_bytes(),
        12,
    );
    put(
        136,
        format!("{:011o}\0", within(mtime, OCTAL_11)).as_bytes(),
        12,
    );
    put(148, b"        ", 8);
    put(156, &[flag], 1);
    put(157, link, NAME_MOST);
    put(257, b"ustar\x0000", 8);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    if let Some(field) = block.get_mut(148..156) {
        field.copy_from_slice(sum.as_bytes());
    }
    block
}
