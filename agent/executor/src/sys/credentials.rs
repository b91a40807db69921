//! Who a process is and what it may: ids, keyring, filter; and the one thing done to its network. May not:
//! allocate; all are bare system calls, since libc's wrappers act for other threads too.
#![expect(unsafe_code, reason = "these calls have no safe form")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc;

type Result<T> = std::result::Result<T, Errno>;

/// Sets real, effective and saved user id.
pub(crate) fn set_user(uid: u32) -> Result<()> {
    // SAFETY: numbers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Sets real, effective and saved group id.
pub(crate) fn set_group(gid: u32) -> Result<()> {
    // SAFETY: numbers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// Sets the further groups.
pub(crate) fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: the pointer and the length are those of a live slice.
    Errno::result(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
        .map(drop)
}

/// The ids with which files are made; the effective and real ids stay. Gives back the powers over
/// files that the change takes away, when the effective user is root.
pub(crate) fn set_file_owner(uid: u32, gid: u32) -> Result<()> {
    // SAFETY: numbers only. These calls return the former id and never fail by number; what they did shows in
    // a second call with an id that is never valid.
    let now = unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
        (
            libc::syscall(libc::SYS_setfsuid, u32::MAX),
            libc::syscall(libc::SYS_setfsgid, u32::MAX),
        )
    };
    if now != (i64::from(uid), i64::from(gid)) {
        return Err(Errno::EPERM);
    }
    raise_effective()
}

/// Makes every permitted capability effective again.
fn raise_effective() -> Result<()> {
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut words = [[0_u32; 3]; 2];
    // SAFETY: header and data are live and laid out as version 3 of the call asks for.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), words.as_mut_ptr()) })?;
    for [effective, permitted, _] in &mut words {
        *effective = *permitted;
    }
    // SAFETY: as above.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), words.as_ptr()) })
        .map(drop)
}

/// A new, empty session keyring in place of the inherited one. Kernels without keyrings do nothing.
pub(crate) fn new_keyring() -> Result<()> {
    const JOIN_SESSION: libc::c_int = 1;
    // SAFETY: a null name asks for a keyring without one.
    let done =
        unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION, ptr::null::<libc::c_char>()) };
    match Errno::result(done) {
        Ok(_) | Err(Errno::ENOSYS) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Loads a seccomp filter for this process.
pub(crate) fn load_filter(filter: &[libc::sock_filter]) -> Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::E2BIG)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program points to a live slice of that length, which the kernel only reads.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0_u32,
            &raw const program,
        )
    };
    Errno::result(done).map(drop)
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> Result<()> {
    // SAFETY: numbers only.
    let number = Errno::result(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    })?;
    // SAFETY: a new descriptor that nobody else knows.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the request is live and of the type that this ioctl reads.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    Errno::result(done).map(drop)
}
