//! Where a path leads in an image: symbolic links followed within it, and which directories are missing on
//! the way. May not: look outside the image's layers.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::FileType;

use super::layer::Meta;
use crate::commit;
use crate::error::{Result, shown};
use crate::limits;
use crate::merged::{Found, Merged};

/// A path without symbolic links in it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Relative to the root; empty for the root itself.
    pub(super) path: Vec<u8>,
    /// What stands there; none: nothing.
    pub(super) kind: Option<FileType>,
}

/// `path` seen from `workdir`, absolute and without `.` and `..`.
pub(super) fn join(workdir: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{workdir}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Finds where a path leads. A symbolic link at its end is followed only to something that is there. An
/// error is a sentence without its subject's place.
pub(super) fn resolve(merged: &Merged, path: &[u8]) -> Result<Place, String> {
    let mut here: Vec<Vec<u8>> = Vec::new();
    let mut todo: VecDeque<Vec<u8>> = parts(path).collect();
    let mut links = 0;
    let mut kind = Some(FileType::Directory);
    while let Some(name) = todo.pop_front() {
        if name == b".." {
            here.pop();
            continue;
        }
        here.push(name);
        if kind.is_none() {
            continue;
        }
        let at = here.join(&b'/');
        let found = look(merged, &at, false).map_err(|e| e.to_string())?;
        kind = found.as_ref().map(Found::kind);
        let Some(found) = found else { continue };
        match found.kind() {
            FileType::Symlink => {
                let last = todo.is_empty();
                if last
                    && look(merged, &at, true)
                        .map_err(|e| e.to_string())?
                        .is_none()
                {
                    break;
                }
                links += 1;
                if links > limits::LINKS_FOLLOWED {
                    return Err(format!(
                        "{:?} leads through too many symbolic links",
                        shown(path)
                    ));
                }
                let target = found.link_target().map_err(|e| e.to_string())?;
                here.pop();
                if target.starts_with(b"/") {
                    here.clear();
                }
                for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                    todo.push_front(part);
                }
                kind = Some(FileType::Directory);
            }
            FileType::Directory => {}
            _ if todo.is_empty() => {}
            _ => return Err(format!("{:?} is no directory in the image", shown(&at))),
        }
    }
    Ok(Place {
        path: here.join(&b'/'),
        kind,
    })
}

/// What stands at a path; the root for an empty one.
pub(super) fn look(merged: &Merged, path: &[u8], follow: bool) -> Result<Option<Found>> {
    merged.find(Path::new(std::ffi::OsStr::from_bytes(path)), follow)
}

/// A new directory.
pub(super) fn directory(mtime: u64, (uid, gid): (u32, u32)) -> Meta {
    Meta {
        mode: 0o755,
        uid,
        gid,
        mtime,
        xattrs: Vec::new(),
    }
}

/// A directory and all above it but the root, each with what it is in the image, or `fresh` where it is
/// not there.
pub(super) fn with_parents(
    merged: &Merged,
    path: &[u8],
    fresh: &Meta,
) -> Result<Vec<(Vec<u8>, Meta)>> {
    let mut found = Vec::new();
    if path.is_empty() {
        return Ok(found);
    }
    let ends = path
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'/')
        .map(|(at, _)| at);
    for end in ends.chain([path.len()]) {
        let part = path.get(..end).unwrap_or_default();
        let meta = match look(merged, part, false)? {
            Some(there) if there.kind() == FileType::Directory => meta_of(&there, part)?,
            _ => fresh.clone(),
        };
        found.push((part.to_vec(), meta));
    }
    Ok(found)
}

/// What an image says of something in it.
pub(super) fn meta_of(found: &Found, path: &[u8]) -> Result<Meta> {
    let xattrs = match found.kind() {
        FileType::Directory => match found.top() {
            Some(fd) => commit::attributes(fd, path)?,
            None => Vec::new(),
        },
        FileType::RegularFile => commit::attributes(&found.open_file()?, path)?,
        _ => Vec::new(),
    };
    Ok(Meta {
        mode: found.mode(),
        uid: found.stat.st_uid,
        gid: found.stat.st_gid,
        mtime: u64::try_from(found.stat.st_mtime).unwrap_or(0),
        xattrs,
    })
}

fn parts(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_are_joined_as_a_shell_would() {
        for (workdir, path, expected) in [
            ("/", "a", "/a"),
            ("/a/b", "../c/./d/", "/a/c/d"),
            ("/a", "/x", "/x"),
            ("/a", "../../..", "/"),
        ] {
            assert_eq!(join(workdir, path), expected);
        }
    }

    #[test]
    fn links_lead_within_the_image_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::write(root.join("usr/file"), "").unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/../../etc", root.join("out")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let merged = Merged::open(&[root.to_owned()]).unwrap();
        let path = |text: &str| resolve(&merged, text.as_bytes()).map(|place| place.path);
        assert_eq!(path("/lib/x/y").unwrap(), b"usr/lib/x/y");
        assert_eq!(path("/lib").unwrap(), b"usr/lib");
        assert_eq!(
            path("/out").unwrap(),
            b"out",
            "a link to nothing stays itself"
        );
        assert_eq!(path("/out/x").unwrap(), b"etc/x");
        assert_eq!(path("/").unwrap(), b"");
        assert!(path("/usr/file/x").unwrap_err().contains("no directory"));
        assert!(path("/loop/x").unwrap_err().contains("too many"));
    }
}
