//! The digest of a directory tree's contents: names, kinds, modes, owners, link targets, bytes; not times,
//! which differ each time the same thing is made. May not: follow a symbolic link.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use regatta_model::Digest;
use sha2::{Digest as _, Sha256};

/// Read at once, in bytes.
const BUFFER: usize = 128 << 10;

/// What [`digest`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Of everything below the directory.
    pub digest: Digest,
    /// Bytes of all regular files.
    pub bytes: u64,
}

/// Reads all of `root`. Each field goes into the hash with its length before it, so that no two trees look alike.
pub fn digest(root: &Path) -> io::Result<Tree> {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut buffer = vec![0; BUFFER];
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry?;
        let meta = entry.metadata()?;
        let name = entry.path().strip_prefix(root).unwrap_or(entry.path());
        field(&mut hash, name.as_os_str().as_bytes());
        for number in [meta.mode(), meta.uid(), meta.gid()] {
            hash.update(number.to_le_bytes());
        }
        let kind = meta.file_type();
        if kind.is_symlink() {
            field(
                &mut hash,
                fs::read_link(entry.path())?.as_os_str().as_bytes(),
            );
        } else if kind.is_char_device() || kind.is_block_device() {
            hash.update(meta.rdev().to_le_bytes());
        } else if kind.is_file() {
            hash.update(meta.len().to_le_bytes());
            bytes += meta.len();
            // What the file may have grown by meanwhile is not hashed; nobody writes to a finished layer.
            let mut file = File::open(entry.path())?.take(meta.len());
            loop {
                let read = file.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                hash.update(buffer.get(..read).unwrap_or_default());
            }
        }
    }
    Ok(Tree {
        digest: Digest::from_bytes(hash.finalize().into()),
        bytes,
    })
}

fn field(hash: &mut Sha256, bytes: &[u8]) {
    hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
    hash.update(bytes);
}
