//! What a container changed in its root: a walk over its writable layer. May not: follow a symbolic
//! link, leave the layer, or take longer for a bigger layer than [`ENTRIES_MOST`] entries need.
//!
//! Files, links and deletions are listed. A directory is listed where it is new and holds nothing
//! listed, where its mode changed, or where it replaced another one; not where it stands in the layer only
//! because something below it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::PathBuf;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use regatta_model::container::CHANGED_MOST;

/// Entries of a layer that are looked at; what lies beyond is "more".
pub const ENTRIES_MOST: usize = 100_000;
/// How deep directories are looked into; what lies deeper is "more".
const DEPTH_MOST: usize = 100;
/// Where anybody may leave things: never listed.
const FREE_PLACES: [&str; 3] = ["/tmp", "/var/tmp", "/run"];

/// What a container changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Absolute paths as seen inside, sorted; at most [`CHANGED_MOST`], the first ones. A byte that is no UTF-8
    /// reads as U+FFFD.
    pub paths: Vec<String>,
    /// Whether there are more.
    pub more: bool,
}

/// Lists what the writable layer `upper` changes over `lowers` (the lowest first) outside `/tmp`, `/var/tmp`,
/// `/run` and the `declared` paths, which are absolute and as seen inside.
///
/// # Errors
/// The layer itself cannot be read.
pub fn list(
    upper: BorrowedFd<'_>,
    lowers: &[PathBuf],
    declared: &[String],
) -> Result<Changes, Errno> {
    let declared = declared.iter().map(String::as_str).chain(FREE_PLACES);
    let mut walk = Walk {
        declared: declared
            .map(|path| format!("{}/", path.trim_end_matches('/')))
            .collect(),
        lowers,
        found: BTreeSet::new(),
        more: false,
        left: ENTRIES_MOST,
    };
    let top = Dir::openat(upper, ".", DIRECTORY, Mode::empty())?;
    walk.directory(top, "/", 0);
    Ok(Changes {
        paths: walk.found.into_iter().collect(),
        more: walk.more,
    })
}

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NOFOLLOW);

struct Walk<'a> {
    /// Each with a slash at its end.
    declared: Vec<String>,
    lowers: &'a [PathBuf],
    found: BTreeSet<String>,
    more: bool,
    left: usize,
}

impl Walk<'_> {
    /// Looks at what is in a directory, whose path `prefix` ends with a slash; whether it listed anything.
    fn directory(&mut self, mut directory: Dir, prefix: &str, depth: usize) -> bool {
        let mut entries = BTreeMap::new();
        for entry in directory.iter() {
            let Ok(entry) = entry else {
                self.more = true;
                break;
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if self.left == 0 {
                self.more = true;
                break;
            }
            self.left -= 1;
            entries.insert(name.to_owned(), entry.file_type());
        }
        let mut any = false;
        for (name, kind) in entries {
            let path = format!("{prefix}{}", name.to_string_lossy());
            let inside = format!("{path}/");
            if self
                .declared
                .iter()
                .any(|place| inside.starts_with(place.as_str()))
            {
                continue;
            }
            if self.is_beyond(&path) {
                self.more = true;
                return true;
            }
            let is_directory = match kind {
                Some(kind) => kind == Type::Directory,
                None => {
                    openat(directory.as_fd(), name.as_c_str(), DIRECTORY, Mode::empty()).is_ok()
                }
            };
            if !is_directory {
                self.add(path);
                any = true;
                continue;
            }
            let inner = Dir::openat(directory.as_fd(), name.as_c_str(), DIRECTORY, Mode::empty());
            let (Ok(inner), true) = (inner, depth < DEPTH_MOST) else {
                self.more = true;
                continue;
            };
            let replaced = is_opaque(inner.as_fd());
            let mode = fstat(inner.as_fd()).map(|stat| permissions(&stat)).ok();
            let below = self.directory(inner, &inside, depth + 1);
            // The way to a declared place was made for it, by the executor.
            let is_way = self.declared.iter().any(|place| place.starts_with(&inside));
            let changed = match self.lower_mode(&path) {
                None => !below,
                Some(before) => replaced || mode != Some(before),
            };
            if changed && !is_way {
                self.add(path);
            }
            any |= below || changed;
        }
        any
    }

    fn add(&mut self, path: String) {
        self.found.insert(path);
        if self.found.len() > CHANGED_MOST {
            self.found.pop_last();
            self.more = true;
        }
    }

    /// Whether the list is full of paths before this one, so that nothing from here on can enter it.
    fn is_beyond(&self, path: &str) -> bool {
        // A sibling like `a-b` sorts between `a` and `a/b`: only a path that the last one does not begin is beyond.
        let last = self
            .found
            .last()
            .filter(|_| self.found.len() == CHANGED_MOST && self.more);
        last.is_some_and(|last| path > last.as_str() && !path.starts_with(last.as_str()))
    }

    /// A directory's mode in the highest layer below that has it.
    fn lower_mode(&self, path: &str) -> Option<u32> {
        let relative = path.trim_start_matches('/');
        self.lowers.iter().rev().find_map(|lower| {
            let root = openat(AT_FDCWD, lower, DIRECTORY, Mode::empty()).ok()?;
            let how = OpenHow::new()
                .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
                .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
            let found = openat2(root.as_fd(), relative, how).ok()?;
            let stat = fstatat(found.as_fd(), "", AtFlags::AT_EMPTY_PATH).ok()?;
            let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
            (kind == SFlag::S_IFDIR).then(|| permissions(&stat))
        })
    }
}

/// The bits that `chmod` sets.
fn permissions(stat: &FileStat) -> u32 {
    stat.st_mode & 0o7777
}

/// Whether a directory of a writable layer hides the one below it.
#[expect(unsafe_code, reason = "nix has no fgetxattr")]
fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    [c"trusted.overlay.opaque", c"user.overlay.opaque"]
        .iter()
        .any(|name| {
            let mut value = [0_u8; 4];
            // SAFETY: the name ends with NUL, and the buffer is as long as it is said to be.
            let length = unsafe {
                let into = value.as_mut_ptr().cast();
                libc::fgetxattr(directory.as_raw_fd(), name.as_ptr(), into, value.len())
            };
            length >= 1 && value.first() == Some(&b'y')
        })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    use super::*;

    /// A directory that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("changes-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("upper")).unwrap();
            fs::create_dir_all(path.join("lower")).unwrap();
            Self(path)
        }

        fn upper(&self, path: &str) -> PathBuf {
            self.0.join("upper").join(path)
        }

        fn list(&self, declared: &[&str]) -> Changes {
            let upper = File::open(self.0.join("upper")).unwrap();
            let declared: Vec<String> = declared.iter().map(|path| (*path).to_owned()).collect();
            list(upper.as_fd(), &[self.0.join("lower")], &declared).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn put(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    #[test]
    fn files_are_listed_and_the_directories_that_only_hold_them_are_not() {
        let scratch = Scratch::new("plain");
        fs::create_dir_all(scratch.0.join("lower/etc/kept")).unwrap();
        for file in [
            "etc/passwd",
            "new/a",
            "tmp/x",
            "var/tmp/y",
            "run/z",
            "var/log/l",
            "tmpx",
        ] {
            put(&scratch.upper(file));
        }
        fs::create_dir_all(scratch.upper("empty/inner")).unwrap();
        fs::create_dir_all(scratch.upper("etc/kept")).unwrap();
        fs::create_dir_all(scratch.upper("regatta/results/deep")).unwrap();
        put(&scratch.upper("regatta/results/junit.xml"));
        symlink("/etc", scratch.upper("link")).unwrap();
        let changes = scratch.list(&["/regatta/results"]);
        let expected = [
            "/empty/inner",
            "/etc/passwd",
            "/link",
            "/new/a",
            "/tmpx",
            "/var/log/l",
        ];
        assert_eq!(changes.paths, expected);
        assert!(!changes.more);
    }

    #[test]
    fn a_directory_whose_mode_changed_is_listed() {
        let scratch = Scratch::new("mode");
        for path in [scratch.0.join("lower/srv"), scratch.upper("srv")] {
            fs::create_dir_all(path).unwrap();
        }
        assert_eq!(scratch.list(&[]).paths, [""; 0]);
        fs::set_permissions(scratch.upper("srv"), fs::Permissions::from_mode(0o1700)).unwrap();
        assert_eq!(scratch.list(&[]).paths, ["/srv"]);
    }

    #[test]
    fn the_list_is_bounded_and_holds_the_first_paths() {
        let scratch = Scratch::new("many");
        for number in 0..CHANGED_MOST {
            put(&scratch.upper(&format!("many/{number:04}")));
        }
        put(&scratch.upper("many-more"));
        let changes = scratch.list(&[]);
        assert_eq!(changes.paths.len(), CHANGED_MOST);
        assert!(changes.more);
        assert_eq!(changes.paths[0], "/many-more");
        assert_eq!(changes.paths[1], "/many/0000");
        assert!(changes.paths.is_sorted());
    }

    #[test]
    fn a_directory_too_deep_is_more() {
        let scratch = Scratch::new("deep");
        fs::create_dir_all(scratch.upper(&"d/".repeat(DEPTH_MOST + 5))).unwrap();
        assert!(scratch.list(&[]).more);
    }
}
