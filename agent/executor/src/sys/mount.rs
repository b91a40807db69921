//! Mounts by descriptor: trees, file systems and attributes. May not: choose a path.
#![expect(unsafe_code, reason = "the mount calls have no safe form")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc;

type Result<T> = std::result::Result<T, Errno>;

/// Read-only.
pub(crate) const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// Set-user-id bits count for nothing.
pub(crate) const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// Device nodes cannot be opened.
pub(crate) const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
/// Nothing can be executed.
pub(crate) const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

/// Turns a returned descriptor into an owned one.
fn owned(returned: libc::c_long) -> Result<OwnedFd> {
    let number = i32::try_from(Errno::result(returned)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just given this descriptor to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A private copy of the mount at `path` (not of those below it), attached nowhere.
pub(crate) fn clone_tree(directory: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH.unsigned_abs();
    }
    // SAFETY: the path is a live C string; the other arguments are numbers.
    owned(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            directory.as_raw_fd(),
            path.as_ptr(),
            flags,
        )
    })
}

/// Attaches the detached mount `tree` at the descriptor `at`.
pub(crate) fn attach(tree: BorrowedFd<'_>, at: BorrowedFd<'_>) -> Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are live, empty C strings; the other arguments are numbers.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            at.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    Errno::result(done).map(drop)
}

/// Attaches the detached mount `tree` at `path` beneath `directory`. Follows no symlink at the end.
pub(crate) fn attach_at(
    tree: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    path: &CStr,
) -> Result<()> {
    // SAFETY: both paths are live C strings; the other arguments are numbers.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            directory.as_raw_fd(),
            path.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(done).map(drop)
}

/// Sets attributes of one mount, makes it private, and with `users` maps its owners by that user namespace.
pub(crate) fn set_attributes(
    tree: BorrowedFd<'_>,
    attributes: u64,
    users: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let mapped = if users.is_some() {
        libc::MOUNT_ATTR_IDMAP
    } else {
        0
    };
    let attr = libc::mount_attr {
        attr_set: attributes | mapped,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: users.map_or(0, |users| u64::from(users.as_raw_fd().unsigned_abs())),
    };
    // SAFETY: `attr` is live and its true size is given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(done).map(drop)
}

/// Makes a new instance of a file system as a detached mount. An option without a value is a flag.
pub(crate) fn new_file_system(
    kind: &CStr,
    options: &[(&CStr, Option<&CStr>)],
    attributes: u64,
) -> Result<OwnedFd> {
    // SAFETY: the name is a live C string.
    let context =
        owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) })?;
    for (name, value) in options {
        let command = if value.is_some() {
            FSCONFIG_SET_STRING
        } else {
            FSCONFIG_SET_FLAG
        };
        configure(
            &context,
            command,
            name.as_ptr(),
            value.map_or(ptr::null(), CStr::as_ptr),
        )?;
    }
    configure(&context, FSCONFIG_CMD_CREATE, ptr::null(), ptr::null())?;
    // SAFETY: numbers only.
    owned(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            libc::FSMOUNT_CLOEXEC,
            u32::try_from(attributes).map_err(|_| Errno::EINVAL)?,
        )
    })
}

fn configure(
    context: &OwnedFd,
    command: libc::c_uint,
    name: *const libc::c_char,
    value: *const libc::c_char,
) -> Result<()> {
    // SAFETY: both pointers are null or to C strings that our caller keeps alive.
    let done = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            name,
            value,
            0,
        )
    };
    Errno::result(done).map(drop)
}
