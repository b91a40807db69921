//! One entry of a packed directory: a ustar header, and a PAX one before it where a field is too short.
//! May not: write anything that differs from time to time.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use tar::EntryType;

use crate::error::{Error, Result};
use crate::limits;

/// What is packed.
pub(super) struct Item<'a> {
    /// On this host.
    pub(super) path: &'a Path,
    /// In the archive.
    pub(super) name: &'a [u8],
    pub(super) kind: EntryType,
    /// Permissions.
    pub(super) mode: u32,
    /// User and group id.
    pub(super) owner: (u32, u32),
    /// When it was changed, in seconds since 1970.
    pub(super) time: i64,
    /// Target of a link.
    pub(super) link: &'a [u8],
}

/// Writes an entry: whether its attributes are kept, then its size and content.
pub(super) fn write<W: Write>(
    builder: &mut tar::Builder<W>,
    item: &Item<'_>,
    xattrs: bool,
    size: u64,
    content: impl io::Read,
) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(item.kind);
    header.set_mode(item.mode & 0o7777);
    header.set_uid(item.owner.0.into());
    header.set_gid(item.owner.1.into());
    header.set_size(size);
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    match u64::try_from(item.time) {
        Ok(time) => header.set_mtime(time),
        Err(_) => records.push((b"mtime".to_vec(), item.time.to_string().into_bytes())),
    }
    let fields = header.as_old_mut();
    for (field, key, value) in [
        (&mut fields.name, b"path".as_slice(), item.name),
        (&mut fields.linkname, b"linkpath", item.link),
    ] {
        if value.len() > field.len() || !value.is_ascii() {
            records.push((key.to_vec(), value.to_vec()));
        }
        for (to, from) in field.iter_mut().zip(value) {
            *to = *from;
        }
    }
    if xattrs && ![EntryType::Link, EntryType::Symlink].contains(&item.kind) {
        records.extend(attributes(item.path)?);
    }
    header.set_cksum();
    if !records.is_empty() {
        extended(builder, &records)?;
    }
    let mut content = content.take(size);
    builder.append(&header, &mut content).map_err(written)?;
    if content.limit() > 0 {
        return Err(Error::Refused(format!(
            "{} changed while it was packed; try again",
            item.path.display()
        )));
    }
    Ok(())
}

/// A PAX header.
fn extended<W: Write>(builder: &mut tar::Builder<W>, records: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
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
    builder.append(&header, bytes.as_slice()).map_err(written)
}

fn written(error: io::Error) -> Error {
    Error::io("write the archive", error)
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
