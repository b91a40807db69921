//! What a container's first process does to its mounts: its root, what is hidden, what is read-only. May not:
//! name anything but beneath a root or a mount that it was given.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::libc;
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use nix::unistd::chdir;

use crate::child::Table;
use crate::plan::OPTIONS_MOST;
use crate::steps::{Attributes, Slot, Source};
use crate::sys::{files, mount};

/// Where the zygote keeps `/dev/null` and an empty directory, to hide files and directories.
const EMPTY_FILE: &CStr = c"/t/dev/null";
const EMPTY_DIRECTORY: &CStr = c"/t/empty";

type Result<T> = std::result::Result<T, Errno>;

/// Refuses a place in the kernel's own file systems, into which a symlink of the image may lead: what is
/// hidden and protected there must stay so.
pub(crate) fn refuse_kernel(place: BorrowedFd<'_>) -> Result<()> {
    let kind = fstatfs(place)?.filesystem_type();
    if kind == PROC_SUPER_MAGIC || kind == SYSFS_MAGIC {
        Err(Errno::ELOOP)
    } else {
        Ok(())
    }
}

/// A path or name as the kernel takes it.
pub(crate) fn text(path: &str) -> Result<CString> {
    CString::new(path).map_err(|_| Errno::EINVAL)
}

/// What this kernel does not have needs no hiding.
pub(crate) fn present(done: Result<()>) -> Result<()> {
    match done {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

/// A mount that is to be attached: one of the table, or a new one.
pub(crate) enum Tree {
    Slot(Slot),
    Own(OwnedFd),
}

impl Tree {
    pub(crate) fn get<'a>(&'a self, table: &'a Table) -> Result<BorrowedFd<'a>> {
        match self {
            Self::Slot(slot) => table.get(*slot),
            Self::Own(tree) => Ok(tree.as_fd()),
        }
    }
}

pub(crate) fn source_tree(
    source: &Source,
    table: &Table,
    attributes: Attributes,
    users: Option<Slot>,
) -> Result<Tree> {
    let bits = bits(attributes);
    let tree = match source {
        Source::New { kind, options } => {
            let mut texts = Vec::with_capacity(options.len());
            for (name, value) in options {
                texts.push((text(name)?, value.as_deref().map(text).transpose()?));
            }
            let options: Vec<_> = texts
                .iter()
                .map(|(name, value)| (name.as_c_str(), value.as_deref()))
                .collect();
            return mount::new_file_system(&text(kind)?, &options, bits).map(Tree::Own);
        }
        Source::Tree(slot) => Tree::Slot(*slot),
        Source::Path(path) => Tree::Own(mount::clone_tree(AT_FDCWD, &text(path)?)?),
    };
    let mapped = mount::set_attributes(tree.get(table)?, bits, table.optional(users)?);
    match mapped {
        // Before Linux 6.3 no mount of a tmpfs maps owners. Everybody may use the zygote's devices: whose they
        // are does not matter.
        Err(Errno::EINVAL) if users.is_some() && matches!(source, Source::Path(_)) => {
            mount::set_attributes(tree.get(table)?, bits, None)?;
        }
        other => other?,
    }
    Ok(tree)
}

fn bits(attributes: Attributes) -> u64 {
    [
        (attributes.read_only, mount::RDONLY),
        (attributes.no_suid, mount::NOSUID),
        (attributes.no_devices, mount::NODEV),
        (attributes.no_exec, mount::NOEXEC),
    ]
    .iter()
    .filter(|(chosen, _)| *chosen)
    .fold(0, |all, (_, bit)| all | bit)
}

pub(crate) fn overlay(from: &str, options: &str, at: &str) -> Result<()> {
    // mount(2) cuts what is longer without a word.
    if options.len() >= OPTIONS_MOST {
        return Err(Errno::E2BIG);
    }
    chdir(from)?;
    let flags = nix::mount::MsFlags::MS_NODEV;
    nix::mount::mount(Some("overlay"), at, Some("overlay"), flags, Some(options))?;
    chdir("/")
}

/// Opens a path of a kernel file system that we mounted ourselves: nothing in it leads elsewhere.
fn inside(mount: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<OwnedFd> {
    files::open_in_root(mount, path, flags, 0)
}

pub(crate) fn mask(mount: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    let at = inside(mount, path, libc::O_PATH)?;
    let kind = SFlag::from_bits_truncate(fstat(&at)?.st_mode) & SFlag::S_IFMT;
    let empty = if kind == SFlag::S_IFDIR {
        EMPTY_DIRECTORY
    } else {
        EMPTY_FILE
    };
    let tree = mount::clone_tree(AT_FDCWD, empty)?;
    mount::set_attributes(tree.as_fd(), mount::RDONLY, None)?;
    mount::attach(tree.as_fd(), at.as_fd())
}

pub(crate) fn read_only(mount: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    let at = inside(mount, path, libc::O_PATH)?;
    let tree = mount::clone_tree(at.as_fd(), c"")?;
    mount::set_attributes(tree.as_fd(), mount::RDONLY, None)?;
    mount::attach(tree.as_fd(), at.as_fd())
}

pub(crate) fn write_file(mount: BorrowedFd<'_>, path: &str, value: &str) -> Result<()> {
    let file = inside(mount, &text(path)?, libc::O_WRONLY)?;
    nix::unistd::write(&file, value.as_bytes()).map(drop)
}
