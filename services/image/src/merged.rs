//! The merged view of unpacked layers, as overlay would show it, without mounting it: whiteouts and
//! opaque directories hide what is below, symbolic links stay inside. May not: write, nor open
//! anything but directories and plain files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result, shown};
use crate::limits;

/// Marks a directory that hides what is below; both names, for overlays of either kind.
pub(crate) const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Layers, looked through from the top.
#[derive(Debug)]
pub struct Merged {
    root: Rc<Vec<OwnedFd>>,
}

/// Something in the merged view.
#[derive(Debug)]
pub struct Found {
    /// What it is, whose, how large.
    pub stat: Stat,
    node: Node,
}

#[derive(Debug, Clone)]
enum Node {
    /// The directories that are merged, the topmost first.
    Directory(Rc<Vec<OwnedFd>>),
    /// The directory (of one layer) that holds it, and its name there.
    Other(Rc<Vec<OwnedFd>>, usize, Vec<u8>),
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Merged {
    /// Opens layers, the lowest first.
    pub fn open(layers: &[PathBuf]) -> Result<Self> {
        let mut root = Vec::with_capacity(layers.len());
        for layer in layers.iter().rev() {
            let fd = rustix::fs::open(layer, DIRECTORY, Mode::empty())
                .map_err(|e| Error::at("open layer", layer, e))?;
            let opaque = is_opaque(&fd);
            root.push(fd);
            if opaque {
                break;
            }
        }
        Ok(Self {
            root: Rc::new(root),
        })
    }

    /// What stands at a path, symbolic links followed inside the root; the last one only if `follow`.
    /// None: nothing, or not reachable.
    pub fn find(&self, path: &Path, follow: bool) -> Result<Option<Found>> {
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
        let mut stack = vec![Rc::clone(&self.root)];
        let mut todo: VecDeque<Vec<u8>> = parts(bytes);
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            let Some(here) = stack.last().map(Rc::clone) else {
                return Ok(None);
            };
            if name == b".." {
                if stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            let Some((node, stat)) = step(&here, &name)? else {
                return Ok(None);
            };
            match node {
                Node::Directory(next) => stack.push(next),
                Node::Other(..) => {
                    let link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
                    if link && (follow || !todo.is_empty()) {
                        links += 1;
                        if links > limits::LINKS_FOLLOWED {
                            return Ok(None);
                        }
                        let found = Found { stat, node };
                        let target = found.link_target()?;
                        if target.starts_with(b"/") {
                            stack.truncate(1);
                        }
                        for part in parts(&target).into_iter().rev() {
                            todo.push_front(part);
                        }
                        if todo.len() > limits::PATH_BYTES {
                            return Ok(None);
                        }
                        continue;
                    }
                    return Ok(todo.is_empty().then_some(Found { stat, node }));
                }
            }
        }
        let Some(dirs) = stack.pop() else {
            return Ok(None);
        };
        let Some(top) = dirs.first() else {
            return Ok(None);
        };
        let stat = rustix::fs::fstat(top).map_err(|e| Error::io("look at a layer", e))?;
        Ok(Some(Found {
            stat,
            node: Node::Directory(dirs),
        }))
    }

    /// A plain file's content, whole; none where there is no plain file. Larger than `most` bytes is
    /// an error.
    pub fn read(&self, path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(found) = self.find(path, true)? else {
            return Ok(None);
        };
        if found.kind() != FileType::RegularFile {
            return Ok(None);
        }
        if found.size() > most {
            return Err(Error::limit(
                format!("{} in the image", path.display()),
                "file_bytes",
                most,
            ));
        }
        let mut bytes = Vec::new();
        found
            .open_file()?
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io(format!("read {} in the image", path.display()), e))?;
        Ok(Some(bytes))
    }
}

impl Found {
    /// What it is.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Bytes of a plain file.
    pub fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// Permission bits, set-user-id and the like included.
    pub fn mode(&self) -> u32 {
        self.stat.st_mode & 0o7777
    }

    /// Opens a plain file to read.
    pub fn open_file(&self) -> Result<File> {
        let Node::Other(dirs, at, name) = &self.node else {
            return Err(Error::Refused(
                "a directory cannot be read as a file".into(),
            ));
        };
        if self.kind() != FileType::RegularFile {
            return Err(Error::Refused(format!(
                "{:?} in the image is no plain file",
                shown(name)
            )));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let dir = dirs
            .get(*at)
            .ok_or_else(|| Error::Refused("a layer is gone".into()))?;
        rustix::fs::openat(dir, name.as_slice(), flags, Mode::empty())
            .map(File::from)
            .map_err(|e| Error::io(format!("open {:?} in the image", shown(name)), e))
    }

    /// A symbolic link's target.
    pub fn link_target(&self) -> Result<Vec<u8>> {
        let Node::Other(dirs, at, name) = &self.node else {
            return Err(Error::Refused("a directory is no symbolic link".into()));
        };
        let dir = dirs
            .get(*at)
            .ok_or_else(|| Error::Refused("a layer is gone".into()))?;
        rustix::fs::readlinkat(dir, name.as_slice(), Vec::new())
            .map(std::ffi::CString::into_bytes)
            .map_err(|e| Error::io(format!("read link {:?} in the image", shown(name)), e))
    }

    /// The topmost of the directories that are merged here.
    pub(crate) fn top(&self) -> Option<&OwnedFd> {
        match &self.node {
            Node::Directory(dirs) => dirs.first(),
            Node::Other(..) => None,
        }
    }

    /// The names in a directory, sorted, what is hidden below included.
    pub fn names(&self) -> Result<BTreeSet<Vec<u8>>> {
        let mut names = BTreeSet::new();
        let Node::Directory(dirs) = &self.node else {
            return Ok(names);
        };
        for dir in dirs.iter() {
            let fail = |e: Errno| Error::io("list a layer's directory", e);
            for entry in rustix::fs::Dir::read_from(dir).map_err(fail)? {
                let name = entry.map_err(fail)?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    names.insert(name);
                }
            }
        }
        Ok(names)
    }

    /// What a directory holds, by name, opened one after the other.
    pub fn each(&self, mut visit: impl FnMut(&[u8], Found) -> Result<()>) -> Result<()> {
        let Node::Directory(dirs) = &self.node else {
            return Ok(());
        };
        for name in self.names()? {
            if let Some((node, stat)) = step(dirs, &name)? {
                visit(&name, Found { stat, node })?;
            }
        }
        Ok(())
    }

    /// What a directory holds, by name.
    pub fn entries(&self) -> Result<BTreeMap<Vec<u8>, Found>> {
        let mut entries = BTreeMap::new();
        self.each(|name, found| {
            entries.insert(name.to_vec(), found);
            Ok(())
        })?;
        Ok(entries)
    }
}

/// One component further.
fn step(dirs: &Rc<Vec<OwnedFd>>, name: &[u8]) -> Result<Option<(Node, Stat)>> {
    let fail = |e: Errno| Error::io(format!("look up {:?} in the image", shown(name)), e);
    let mut found = Vec::new();
    let mut first = None;
    for (at, dir) in dirs.iter().enumerate() {
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(Errno::NAMETOOLONG) => return Ok(None),
            Err(e) => return Err(fail(e)),
        };
        if is_whiteout(&stat) {
            break;
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            if found.is_empty() {
                return Ok(Some((
                    Node::Other(Rc::clone(dirs), at, name.to_vec()),
                    stat,
                )));
            }
            break;
        }
        let fd = rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()).map_err(fail)?;
        let opaque = is_opaque(&fd);
        found.push(fd);
        first.get_or_insert(stat);
        if opaque {
            break;
        }
    }
    Ok(first.map(|stat| (Node::Directory(Rc::new(found)), stat)))
}

fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// Whether this is overlay's sign for "nothing here".
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a directory hides what is below.
pub(crate) fn is_opaque(dir: &OwnedFd) -> bool {
    OPAQUE.iter().any(|name| {
        let mut value = [0; 4];
        matches!(rustix::fs::fgetxattr(dir, *name, &mut value), Ok(1))
            && value.first() == Some(&b'y')
    })
}
