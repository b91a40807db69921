//! Unpacking tar streams below a directory, whatever they hold. Every path is resolved by the kernel
//! below the root's descriptor (`openat2` with `RESOLVE_BENEATH`), every file is made new and never
//! opened through a link. May not: use a name from an archive as a path of this host.
//!
//! Device nodes are skipped and counted: a container gets a `/dev` of its own, and none of an image's.
//! Whiteouts become what overlay takes: 0/0 character devices, and directories with both opaque
//! attributes.

use std::cell::Cell;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};

use regatta_model::Digest;

use crate::compression::{Compression, Hashing, decoder};
use crate::error::{Error, Result};
use crate::limits::UnpackLimits;
use crate::merged::Merged;
use crate::tarfile::TarReader;

mod apply;
mod attributes;
mod link;
mod name;
mod tree;

use apply::Applier;
pub(crate) use name::{components, is_reserved};

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries in all, skipped ones included.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Device nodes that were left out.
    pub devices_skipped: u64,
    /// Extended attributes that were left out: overlay's own, and others that mean nothing to a
    /// container.
    pub attributes_dropped: u64,
    /// Whether the result depends on the layers below: a directory that the archive only implies, or
    /// a hard link to a file below.
    pub(crate) depends: bool,
}

/// Unpacks an uncompressed tar stream into an existing directory. `below`: the layers under it, the
/// lowest first. What was made stays when it fails; the caller discards the directory.
fn unpack(
    reader: impl Read,
    into: &Path,
    below: &[PathBuf],
    limits: &UnpackLimits,
) -> Result<Unpacked> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root =
        rustix::fs::open(into, flags, Mode::empty()).map_err(|e| Error::at("open", into, e))?;
    let mut tar = TarReader::new(reader);
    let mut applier = Applier::new(root, Merged::open(below)?, *limits)?;
    while let Some(entry) = tar.next()? {
        applier.apply(&mut tar, entry)?;
    }
    applier.finish()
}

/// What a stream was that was unpacked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) compression: Compression,
    /// Of the tar within.
    pub(crate) diff_id: Digest,
}

/// What a stream must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    pub(crate) blob: Digest,
    pub(crate) blob_size: u64,
    pub(crate) diff_id: Digest,
}

/// Unpacks a tar stream of any compression, reads it to its end, and tells what it was.
pub(crate) fn unpack_any(
    reader: impl Read,
    into: &Path,
    below: &[PathBuf],
    limits: &UnpackLimits,
) -> Result<(Unpacked, Stream)> {
    let mut raw = Hashing::new(reader);
    let (unpacked, compression, diff_id) = unpack_content(&mut raw, into, below, limits)?;
    let (blob, _) = raw.finish(|_| Ok(()))?;
    Ok((
        unpacked,
        Stream {
            compression,
            diff_id: diff_id.unwrap_or(blob),
        },
    ))
}

/// [`unpack_any`] of a layer that must be what was promised.
pub(crate) fn unpack_verified(
    reader: impl Read,
    promise: &Promise,
    into: &Path,
    below: &[PathBuf],
    limits: &UnpackLimits,
) -> Result<Unpacked> {
    let mismatch = |what: &str, expected: String, found: String| Error::Mismatch {
        what: format!("layer {what}"),
        expected,
        found,
    };
    let mut raw = Hashing::new(reader);
    let content = unpack_content(&mut raw, into, below, limits);
    // Damage shows as all kinds of errors further in; the digest says what it really is.
    let (blob, size) = raw.finish(|_| Ok(()))?;
    if blob != promise.blob {
        return Err(mismatch("blob", promise.blob.to_string(), blob.to_string()));
    }
    if size != promise.blob_size {
        return Err(mismatch(
            "size",
            promise.blob_size.to_string(),
            size.to_string(),
        ));
    }
    let (unpacked, _, diff_id) = content?;
    let diff_id = diff_id.unwrap_or(blob);
    if diff_id != promise.diff_id {
        return Err(mismatch(
            "content (diffID)",
            promise.diff_id.to_string(),
            diff_id.to_string(),
        ));
    }
    Ok(unpacked)
}

/// Gives no digest where the stream is not compressed: it is that of the stream.
fn unpack_content<R: Read>(
    raw: &mut Hashing<R>,
    into: &Path,
    below: &[PathBuf],
    limits: &UnpackLimits,
) -> Result<(Unpacked, Compression, Option<Digest>)> {
    let compressed = raw.counter();
    let (compression, decoded) = decoder(raw)?;
    let mut content = Hashing::new(decoded);
    if compression == Compression::None {
        content = content.without_digest();
    }
    let mut guard = Guard {
        decompressed: content.counter(),
        content,
        compressed,
        limits: *limits,
    };
    let unpacked = unpack(&mut guard, into, below, limits)?;
    io::copy(&mut guard, &mut io::sink()).map_err(|e| Error::io("read the archive", e))?;
    let (digest, _) = guard.content.finish(|_| Ok(()))?;
    Ok((
        unpacked,
        compression,
        (compression != Compression::None).then_some(digest),
    ))
}

/// A reader that ends with an error when decompression gives too much.
struct Guard<R> {
    content: Hashing<R>,
    compressed: Rc<Cell<u64>>,
    decompressed: Rc<Cell<u64>>,
    limits: UnpackLimits,
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.content.read(buffer)?;
        self.limits
            .check_ratio(
                "what the archive decompresses to",
                self.compressed.get(),
                self.decompressed.get(),
            )
            .map_err(io::Error::other)?;
        Ok(got)
    }
}
