//! The limits on what archives and images may hold, by name. May not: be read anywhere but here from
//! the environment.

use crate::error::{Error, Result};

/// Largest manifest, index, configuration or other JSON of an image, in bytes.
pub const JSON_BYTES: u64 = 4 << 20;
/// Most layers of one image: overlay takes no more.
pub const LAYERS: usize = 500;
/// Most members of an image archive (`load`), and most images in it.
pub const ARCHIVE_MEMBERS: u64 = 20_000;
/// Longest path in an archive, in bytes.
pub const PATH_BYTES: usize = 4_095;
/// Longest component of a path in an archive, in bytes: what Linux takes.
pub const NAME_BYTES: usize = 255;
/// Largest extended header (PAX) or long name (GNU) of one entry, in bytes.
pub const HEADER_BYTES: u64 = 1 << 20;
/// Largest value of one extended attribute, in bytes: what Linux takes.
pub const XATTR_BYTES: usize = 64 << 10;
/// Most extended attributes of one entry.
pub const XATTRS: usize = 64;
/// Most pieces of one sparse file.
pub const SPARSE_PIECES: usize = 1 << 16;
/// Largest file that is read whole out of an image's layers (`/etc/passwd`), in bytes.
pub const SMALL_FILE_BYTES: u64 = 1 << 20;
/// Most symbolic links followed for one path in an image: what Linux takes.
pub const LINKS_FOLLOWED: usize = 40;
/// Decompressed bytes from which on the ratio counts.
const RATIO_FREE_BYTES: u64 = 256 << 20;

/// What one archive may unpack to at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes after decompression, and bytes of all files together with the holes of sparse files.
    pub bytes: u64,
    /// Entries: files, directories, links, whiteouts.
    pub entries: u64,
    /// Components of one path.
    pub depth: u64,
    /// Decompressed bytes per compressed byte, once 256 MiB were decompressed.
    pub ratio: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self {
            bytes: 64 << 30,
            entries: 2_000_000,
            depth: 200,
            ratio: 400,
        }
    }
}

impl UnpackLimits {
    /// The defaults, each replaced by its variable (`REGATTA_UNPACK_BYTES`, ...) where that is set.
    pub fn from_environment() -> Result<Self> {
        let mut limits = Self::default();
        for (limit, value) in [
            ("unpack.bytes", &mut limits.bytes),
            ("unpack.entries", &mut limits.entries),
            ("unpack.depth", &mut limits.depth),
            ("unpack.ratio", &mut limits.ratio),
        ] {
            let Some(name) = variable(limit) else {
                continue;
            };
            let Some(text) = std::env::var_os(name) else {
                continue;
            };
            *value = text
                .to_str()
                .and_then(|text| text.trim().parse().ok())
                .ok_or_else(|| {
                    let text = text.to_string_lossy();
                    Error::malformed(name, format!("expected a whole number, found {text:?}"))
                })?;
        }
        Ok(limits)
    }

    /// Checks decompressed against compressed bytes.
    pub(crate) fn check_ratio(&self, what: &str, compressed: u64, decompressed: u64) -> Result<()> {
        if decompressed > self.bytes {
            return Err(Error::limit(what, "unpack.bytes", self.bytes));
        }
        let most = compressed.saturating_mul(self.ratio).max(RATIO_FREE_BYTES);
        if decompressed > most {
            return Err(Error::limit(what, "unpack.ratio", self.ratio));
        }
        Ok(())
    }
}

/// The environment variable that sets a limit.
pub(crate) fn variable(limit: &str) -> Option<&'static str> {
    match limit {
        "unpack.bytes" => Some("REGATTA_UNPACK_BYTES"),
        "unpack.entries" => Some("REGATTA_UNPACK_ENTRIES"),
        "unpack.depth" => Some("REGATTA_UNPACK_DEPTH"),
        "unpack.ratio" => Some("REGATTA_UNPACK_RATIO"),
        _ => None,
    }
}
