//! Owner, permissions, times and extended attributes of what is unpacked. May not: set an attribute
//! that overlay reads, except for our own sign of an opaque directory.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{Error, Result, shown};
use crate::merged::{Found, OPAQUE};
use crate::tarfile::Entry;

/// Inherited by whatever is made in a directory, so it is set last.
pub(super) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Whether an attribute of an image means something to a container.
fn is_kept(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
        || [
            b"security.capability".as_slice(),
            b"system.posix_acl_access",
            DEFAULT_ACL,
        ]
        .contains(&name)
}

/// Owner, then permissions (a change of owner drops set-user-id), then attributes (it drops
/// capabilities too). Gives the number of attributes left out.
pub(super) fn set(fd: impl AsFd, entry: &Entry) -> Result<u64> {
    let fd = fd.as_fd();
    let fail =
        |what: &str, e: Errno| Error::io(format!("set {what} of {:?}", shown(&entry.path)), e);
    rustix::fs::fchown(
        fd,
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )
    .map_err(|e| fail("the owner", e))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))
        .map_err(|e| fail("the permissions", e))?;
    let mut dropped = 0;
    for (name, value) in &entry.xattrs {
        if name == DEFAULT_ACL {
            continue;
        }
        if !is_kept(name) {
            dropped += 1;
            continue;
        }
        match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) => {}
            // A malformed capability or access list, or a file system that keeps none.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) => dropped += 1,
            Err(e) => return Err(fail("an extended attribute", e)),
        }
    }
    Ok(dropped)
}

/// The list of access rights that a directory hands on.
pub(super) fn default_acl(entry: &mut Entry) -> Option<Vec<u8>> {
    let at = entry
        .xattrs
        .iter()
        .position(|(name, _)| name == DEFAULT_ACL)?;
    Some(entry.xattrs.swap_remove(at).1)
}

/// Makes a directory hide what is below, for overlays of both kinds.
pub(super) fn set_opaque(dir: &OwnedFd) -> Result<()> {
    for name in OPAQUE {
        match rustix::fs::fsetxattr(dir, name, b"y", XattrFlags::empty()) {
            Ok(()) => {}
            // Only root may set the trusted one, and only root mounts overlays that read it.
            Err(Errno::PERM) if !rustix::process::geteuid().is_root() => {}
            Err(e) => return Err(Error::io("mark a directory as opaque", e)),
        }
    }
    Ok(())
}

/// Access and modification both at `mtime`.
pub(super) fn times(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.0,
        tv_nsec: mtime.1.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Copies the extended attributes that are kept, from a file or directory of a layer below.
pub(super) fn copy(from: impl AsFd, to: impl AsFd) -> Result<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    let fail = |e: Errno| Error::io("copy extended attributes", e);
    let length = match rustix::fs::flistxattr_query(from) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(fail(e)),
    };
    let mut names = vec![0_u8; length];
    let length = rustix::fs::flistxattr(from, &mut names).map_err(fail)?;
    names.truncate(length);
    for name in names.split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let mut value = vec![0; crate::limits::XATTR_BYTES];
        let length = rustix::fs::fgetxattr(from, name, &mut value).map_err(fail)?;
        value.truncate(length);
        rustix::fs::fsetxattr(to, name, &value, XattrFlags::empty()).map_err(fail)?;
    }
    Ok(())
}

/// Owner, permissions and attributes as something has them in the layers below.
pub(super) fn set_as_below(fd: impl AsFd, below: &Found) -> Result<()> {
    let fd = fd.as_fd();
    let fail = |e: Errno| Error::io("set the owner of a directory", e);
    let (uid, gid) = (
        Uid::from_raw(below.stat.st_uid),
        Gid::from_raw(below.stat.st_gid),
    );
    rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(fail)?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(below.mode())).map_err(fail)?;
    below.top().map_or(Ok(()), |top| copy(top, fd))
}
