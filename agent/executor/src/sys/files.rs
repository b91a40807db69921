//! Files by descriptor: beneath a root, in memory, and sent to other processes. May not: follow a
//! symlink out of the root it was given.
#![expect(
    unsafe_code,
    reason = "openat2 and descriptors in messages have no safe form"
)]

use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

type Result<T> = std::result::Result<T, Errno>;

/// Opens a path as if `root` were `/`: neither `..` nor a symlink leads out of it.
pub(crate) fn open_in_root(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: i32,
    mode: u32,
) -> Result<OwnedFd> {
    // SAFETY: all zeros is a valid value of this plain structure of numbers.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((flags | libc::O_CLOEXEC).unsigned_abs());
    how.mode = u64::from(mode);
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the path is a C string, and `how` is live with its true size.
    let returned = Errno::result(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    })?;
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(returned).map_err(|_| Errno::EBADF)?) })
}

/// Changes the root of this mount namespace to the working directory and detaches the old one.
pub(crate) fn pivot_here() -> Result<()> {
    // SAFETY: both paths are live C strings.
    Errno::result(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: as above.
    Errno::result(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) })?;
    // SAFETY: as above.
    Errno::result(unsafe { libc::chdir(c"/".as_ptr()) }).map(drop)
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) -> Result<()> {
    // SAFETY: callers are about to execute a program or to wait for signals, and use no descriptor after this
    // but those below `first`.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) }).map(drop)
}

/// Marks every descriptor from `first` on to be closed by an exec.
pub(crate) fn close_from_at_exec(first: u32) -> Result<()> {
    // SAFETY: changes flags of descriptors only.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
    .map(drop)
}

/// Makes `number` another name of `fd`, kept open by an exec.
pub(crate) fn duplicate_to(fd: BorrowedFd<'_>, number: i32) -> Result<()> {
    if fd.as_raw_fd() == number {
        // SAFETY: changes a flag only.
        return Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }).map(drop);
    }
    // SAFETY: numbers only; whoever owned `number` before is about to execute a program.
    Errno::result(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), number, 0) }).map(drop)
}

/// Closes everything from `number` on but `kept`, which becomes `number`.
pub(crate) fn keep_only(kept: OwnedFd, number: i32) -> Result<OwnedFd> {
    if kept.as_raw_fd() != number {
        // SAFETY: numbers only; this process has just been forked, and of what it holds only `kept` is used.
        Errno::result(unsafe {
            libc::syscall(libc::SYS_dup3, kept.as_raw_fd(), number, libc::O_CLOEXEC)
        })?;
    }
    std::mem::forget(kept);
    close_from(number.unsigned_abs() + 1)?;
    // SAFETY: made just above, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Most descriptors in one message: the kernel's limit.
const DESCRIPTORS_MOST: usize = 253;

/// Sends bytes with descriptors as one message.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let numbers: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control: &[ControlMessage<'_>] = if numbers.is_empty() { &[] } else { &rights };
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        flags,
        None,
    )
    .map(drop)
}

/// Receives one message into `bytes`; says how long it was (0: the other side is gone).
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> Result<usize> {
    let mut space = nix::cmsg_space!([i32; DESCRIPTORS_MOST]);
    let mut parts = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            for number in numbers {
                // SAFETY: the kernel has just made this descriptor for us.
                fds.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    Ok(message.bytes)
}

/// Sends any number of descriptors (one at least): each message says how many are still to come.
pub(crate) fn send_all(socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) -> Result<()> {
    let mut left = fds.len();
    for some in fds.chunks(DESCRIPTORS_MOST) {
        left -= some.len();
        let left = u32::try_from(left).map_err(|_| Errno::E2BIG)?;
        send(socket, &left.to_le_bytes(), some)?;
    }
    Ok(())
}

/// Receives what [`send_all`] sent; none when the other side is gone.
pub(crate) fn receive_all(socket: BorrowedFd<'_>) -> Result<Option<Vec<OwnedFd>>> {
    let mut fds = Vec::new();
    loop {
        let mut left = [0; 4];
        match receive(socket, &mut left, &mut fds) {
            Ok(0) => return Ok(None),
            Ok(4) if left == [0; 4] => return Ok(Some(fds)),
            Ok(4) | Err(Errno::EINTR) => {}
            Ok(_) => return Err(Errno::EPROTO),
            Err(error) => return Err(error),
        }
    }
}
