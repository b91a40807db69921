//! A header block's fields, as V7, ustar, star and GNU lay them out. May not: judge what they mean
//! together.

use super::number::number;
use super::{BLOCK, Kind, until_nul, wrong};
use crate::error::Result;

/// A header block.
pub(super) struct Header<'a>(pub(super) &'a [u8; BLOCK]);

impl Header<'_> {
    pub(super) fn field(&self, at: usize, length: usize) -> &[u8] {
        self.0.get(at..at + length).unwrap_or_default()
    }

    pub(super) fn flag(&self) -> u8 {
        self.0.get(156).copied().unwrap_or(0)
    }

    pub(super) fn size(&self) -> Result<u64> {
        number(self.field(124, 12))
            .and_then(|size| u64::try_from(size).ok())
            // No file is larger, and sums of sizes stay within 64 bits.
            .filter(|size| *size <= 1 << 60)
            .ok_or_else(|| wrong("a header's size is no number that a size can be"))
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = until_nul(self.field(0, 100).to_vec());
        if self.field(257, 6) != b"ustar\0" {
            return name;
        }
        // star keeps times behind a shorter prefix.
        let length = if self.field(508, 4) == b"tar\0" {
            131
        } else {
            155
        };
        let mut path = until_nul(self.field(345, length).to_vec());
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name);
        path
    }

    pub(super) fn link(&self) -> Vec<u8> {
        until_nul(self.field(157, 100).to_vec())
    }

    pub(super) fn kind(&self, path: &[u8]) -> Result<Kind, String> {
        Ok(match self.flag() {
            // Before there was a flag for directories, a slash told them.
            0 | b'0' if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(format!("its type {:?} is not known", char::from(other))),
        })
    }
}
