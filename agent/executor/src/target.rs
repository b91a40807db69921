//! Mount points and directories inside a container's root, found or made without ever leaving it.
//! May not: take a path apart in any way but this one, which treats the root as `/` for `..` and for
//! symlinks alike.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{Mode, mkdirat};

use crate::sys::files;

/// How many dangling symlinks are followed to make what they name; as the kernel's limit, roughly.
const LINKS_MOST: u32 = 16;

type Result<T> = std::result::Result<T, Errno>;

/// Opens `target` inside `root`, and makes it if it is missing: a directory, or an empty file.
pub(crate) fn make(root: BorrowedFd<'_>, target: &str, directory: bool) -> Result<OwnedFd> {
    let target = make_below(root, target, directory, LINKS_MOST)?;
    let kind = nix::sys::stat::fstat(&target)?.st_mode & libc::S_IFMT;
    match (kind == libc::S_IFDIR, directory) {
        (false, true) => Err(Errno::ENOTDIR),
        (true, false) => Err(Errno::EISDIR),
        _ => Ok(target),
    }
}

/// Makes a directory of the root that this process has now.
pub(crate) fn make_directories(path: &str) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open("/", flags, Mode::empty())?;
    make(root.as_fd(), path, true).map(drop)
}

fn open_path(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
    files::open_in_root(root, &path, libc::O_PATH, 0)
}

fn make_below(
    root: BorrowedFd<'_>,
    path: &str,
    directory: bool,
    links_left: u32,
) -> Result<OwnedFd> {
    match open_path(root, path) {
        Err(Errno::ENOENT) => {}
        other => return other,
    }
    let trimmed = path.trim_end_matches('/');
    let (above, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    if name.is_empty() || name == "." || name == ".." {
        return Err(Errno::ENOENT);
    }
    let parent = if above.trim_matches('/').is_empty() {
        root.try_clone_to_owned().map_err(|_| Errno::EMFILE)?
    } else {
        make_below(root, above, true, links_left)?
    };
    // A symlink to what is missing: make that instead.
    if let Ok(link) = readlinkat(&parent, name) {
        let link = link.into_string().map_err(|_| Errno::EINVAL)?;
        let left = links_left.checked_sub(1).ok_or(Errno::ELOOP)?;
        let next = if link.starts_with('/') {
            link
        } else {
            format!("{above}/{link}")
        };
        return make_below(root, &next, directory, left);
    }
    let made = if directory {
        mkdirat(&parent, name, Mode::from_bits_truncate(0o755))
    } else {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        openat(&parent, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
    };
    match made {
        Ok(()) | Err(Errno::EEXIST) => open_path(root, path),
        Err(error) => Err(error),
    }
}

/// Removes what [`make`] left in a writable layer, if nothing else came into it since: an empty file or directory.
pub(crate) fn remove_empty(layer: BorrowedFd<'_>, target: &str) {
    let trimmed = target.trim_matches('/');
    let (above, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    let Ok(parent) = open_path(layer, if above.is_empty() { "." } else { above }) else {
        return;
    };
    let Ok(stat) = nix::sys::stat::fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) else {
        return;
    };
    let flag = match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => nix::unistd::UnlinkatFlags::RemoveDir,
        libc::S_IFREG if stat.st_size == 0 => nix::unistd::UnlinkatFlags::NoRemoveDir,
        _ => return,
    };
    // A directory that is not empty stays, which is what is wanted.
    let _kept = nix::unistd::unlinkat(&parent, name, flag);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn open(path: &std::path::Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn a_target_is_made_inside_the_root_whatever_symlinks_say() {
        let scratch = tempfile::tempdir().unwrap();
        let outside = scratch.path().join("outside");
        let root = scratch.path().join("root");
        fs::create_dir(&outside).unwrap();
        fs::create_dir(&root).unwrap();
        symlink(&outside, root.join("dev")).unwrap();
        symlink("../../../..", root.join("up")).unwrap();
        symlink("/run/resolve/stub.conf", root.join("link")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let fd = open(&root);
        make(fd.as_fd(), "/dev/pts", true).unwrap();
        make(fd.as_fd(), "/up/sys", true).unwrap();
        make(fd.as_fd(), "/link", false).unwrap();
        make(fd.as_fd(), "/up/a/b/c/file", false).unwrap();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(root.join("sys").is_dir());
        assert!(root.join("run/resolve/stub.conf").is_file());
        assert!(make(fd.as_fd(), "/loop", false).is_err());
        assert_eq!(make(fd.as_fd(), "/sys", false).unwrap_err(), Errno::EISDIR);
        assert_eq!(
            make(fd.as_fd(), "/run/resolve/stub.conf", true).unwrap_err(),
            Errno::ENOTDIR
        );
        remove_empty(fd.as_fd(), "/run/resolve/stub.conf");
        assert!(!root.join("run/resolve/stub.conf").exists());
        fs::write(root.join("full"), "x").unwrap();
        remove_empty(fd.as_fd(), "/full");
        assert!(root.join("full").exists());
    }
}
