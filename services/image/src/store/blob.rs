//! Blobs: taken in through a staged file, verified, then moved under their digest. May not: put a file
//! under a digest that its bytes do not have.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use regatta_model::Digest;

use super::{Store, read_small, rename_durably};
use crate::compression::{CHUNK, Hashing};
use crate::error::{Error, Result};
use crate::limits;

/// A blob whose bytes are on this disk and known, but not in the store yet; removed when dropped.
#[derive(Debug)]
pub struct Staged {
    _scratch: tempfile::TempDir,
    path: PathBuf,
    digest: Digest,
    size: u64,
}

impl Staged {
    /// The digest of its bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes it has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Opens it to read.
    pub fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(|e| Error::at("open", &self.path, e))
    }

    /// Its bytes, at most [`limits::JSON_BYTES`] of them.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        read_small(&self.path, limits::JSON_BYTES)
    }
}

impl Store {
    /// Whether a blob is here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// Where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    /// Opens a blob to read. Its content was verified when it came in.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::NoBlob { digest: *digest },
            _ => Error::at("open", &path, e),
        })
    }

    /// The size of a blob in bytes.
    pub fn blob_size(&self, digest: &Digest) -> Result<u64> {
        let file = self.open_blob(digest)?;
        file.metadata()
            .map(|meta| meta.len())
            .map_err(|e| Error::io("look at a blob", e))
    }

    /// A small blob (JSON), verified again.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        if !self.has(digest) {
            return Err(Error::NoBlob { digest: *digest });
        }
        let bytes = read_small(&self.blob_path(digest), limits::JSON_BYTES)?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(Error::Mismatch {
                what: "a blob of the local store".into(),
                expected: digest.to_string(),
                found: found.to_string(),
            });
        }
        Ok(bytes)
    }

    /// Takes a blob in: its bytes are written to disk, verified against `expected`, and only then
    /// stand under their digest. Gives digest and size. At most [`limits::UnpackLimits::bytes`].
    pub fn ingest(&self, reader: impl Read, expected: Option<Digest>) -> Result<(Digest, u64)> {
        let staged = self.stage(reader, expected)?;
        self.publish(staged)
    }

    /// The first half of [`Self::ingest`].
    pub fn stage(&self, reader: impl Read, expected: Option<Digest>) -> Result<Staged> {
        let limits = self.limits();
        let mut tee = self.tee(reader)?;
        let mut buffer = vec![0; CHUNK];
        let mut size: u64 = 0;
        loop {
            let got = tee
                .read(&mut buffer)
                .map_err(|e| Error::io("take in a blob", e))?;
            size = size.saturating_add(u64::try_from(got).unwrap_or(u64::MAX));
            if size > limits.bytes {
                return Err(Error::limit("a blob", "unpack.bytes", limits.bytes));
            }
            if got == 0 {
                break;
            }
        }
        let staged = tee.finish()?;
        if let Some(expected) = expected.filter(|expected| *expected != staged.digest) {
            return Err(Error::Mismatch {
                what: "a blob".into(),
                expected: expected.to_string(),
                found: staged.digest.to_string(),
            });
        }
        Ok(staged)
    }

    /// Takes over a file of this store's file system that holds a blob's bytes (a download that was
    /// resumed): verified, and moved into the store. The file is gone afterwards when it succeeds.
    pub fn ingest_file(&self, path: &Path, expected: Digest) -> Result<u64> {
        let file = File::open(path).map_err(|e| Error::at("open", path, e))?;
        let (found, size) = Hashing::new(&file).finish(|_| Ok(()))?;
        if found != expected {
            return Err(Error::Mismatch {
                what: "a blob".into(),
                expected: expected.to_string(),
                found: found.to_string(),
            });
        }
        file.sync_all().map_err(|e| Error::at("write", path, e))?;
        rename_durably(path, &self.blob_path(&expected))?;
        Ok(size)
    }

    /// The second half of [`Self::ingest`].
    pub fn publish(&self, staged: Staged) -> Result<(Digest, u64)> {
        let Staged {
            _scratch,
            path,
            digest,
            size,
        } = staged;
        // Renamed even where one is there already: that one may have been damaged since.
        rename_durably(&path, &self.blob_path(&digest))?;
        Ok((digest, size))
    }

    /// Takes a small blob in from memory.
    pub(crate) fn ingest_bytes(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.read_blob(&digest).is_err() {
            self.ingest(bytes, Some(digest))?;
        }
        Ok(digest)
    }

    /// A reader that keeps what passes as a staged blob.
    pub(crate) fn tee<R: Read>(&self, reader: R) -> Result<Tee<R>> {
        let scratch = self.scratch()?;
        let path = scratch.path().join("blob");
        let file = File::create(&path).map_err(|e| Error::at("make", &path, e))?;
        Ok(Tee {
            hashing: Hashing::new(Copying { reader, file }),
            scratch,
            path,
        })
    }
}

/// See [`Store::tee`].
pub(crate) struct Tee<R> {
    hashing: Hashing<Copying<R>>,
    scratch: tempfile::TempDir,
    path: PathBuf,
}

struct Copying<R> {
    reader: R,
    file: File,
}

impl<R: Read> Read for Copying<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.file.write_all(buffer.get(..got).unwrap_or_default())?;
        Ok(got)
    }
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.hashing.read(buffer)
    }
}

impl<R: Read> Tee<R> {
    /// Reads the rest and writes all to disk.
    pub(crate) fn finish(self) -> Result<Staged> {
        let (digest, size) = self.hashing.finish(|_| Ok(()))?;
        let file = File::open(&self.path).map_err(|e| Error::at("open", &self.path, e))?;
        file.sync_all()
            .map_err(|e| Error::at("write", &self.path, e))?;
        Ok(Staged {
            _scratch: self.scratch,
            path: self.path,
            digest,
            size,
        })
    }
}

/// The digests of all blobs in the store.
pub(super) fn all(store: &Store) -> Result<Vec<Digest>> {
    let dir = store.path("blobs/sha256");
    let mut digests = Vec::new();
    for entry in fs::read_dir(&dir).map_err(|e| Error::at("list", &dir, e))? {
        let name = entry.map_err(|e| Error::at("list", &dir, e))?.file_name();
        if let Ok(digest) = format!("sha256:{}", name.to_string_lossy()).parse() {
            digests.push(digest);
        }
    }
    Ok(digests)
}
