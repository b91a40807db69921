//! Files that are no directory of this host, such as those of a commit, in an archive like that of a directory. May not:
//! sort them; whoever lists them gives them in an order that depends on them only.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use tar::EntryType;

use super::entry::Item;
use super::{LONG_AGO, PackOptions, Packed, Packer};
use crate::error::{Error, Result};
use crate::unpack::{components, is_reserved};

/// An archive that is given its entries one by one, a directory before what is in it. All belong to root, and have the
/// same time, as with [`PackOptions::default`]; the limits are those of the environment. Names are bytes relative to the directory; one that
/// means a place outside, or that no file can have, is an error.
pub struct Tree<W: Write>(Packer<'static, W>);

impl<W: Write> Tree<W> {
    /// Nothing yet.
    pub fn new(out: W) -> Result<Self> {
        Ok(Self(Packer::new(PackOptions::limited()?, out)))
    }

    /// A directory.
    pub fn directory(&mut self, name: &[u8]) -> Result<()> {
        let name = [name, b"/"].concat();
        self.add(&name, EntryType::Directory, 0o755, &[], (0, io::empty()))
    }

    /// A file with its size in bytes and its content, which is an error where it is shorter.
    pub fn file(
        &mut self,
        name: &[u8],
        executable: bool,
        size: u64,
        content: impl Read,
    ) -> Result<()> {
        let mode = if executable { 0o755 } else { 0o644 };
        self.add(name, EntryType::Regular, mode, &[], (size, content))
    }

    /// A symbolic link, wherever it leads: whoever unpacks it does not follow it.
    pub fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        self.add(name, EntryType::Symlink, 0o777, target, (0, io::empty()))
    }

    /// All is there.
    pub fn finish(self) -> Result<Packed> {
        self.0.finish()
    }

    fn add(
        &mut self,
        name: &[u8],
        kind: EntryType,
        mode: u32,
        link: &[u8],
        (size, content): (u64, impl Read),
    ) -> Result<()> {
        let parts = components(name, &self.0.options.limits)?;
        if parts.is_empty() || name.contains(&0) || link.contains(&0) {
            return Err(Error::hostile(name, "no file can have this name or target"));
        }
        if parts.iter().any(|part| is_reserved(part)) {
            let why =
                "a name that starts with \".wh.\" removes files in an image and cannot be packed";
            return Err(Error::hostile(name, why));
        }
        let item = Item {
            path: Path::new(OsStr::from_bytes(name)),
            name,
            kind,
            mode,
            owner: (0, 0),
            time: LONG_AGO,
            link,
        };
        self.0.entry(&item, size, content)
    }
}
