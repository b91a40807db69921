//! Processes: cloning, identities, signals, the last calls before a program. May not: allocate in what a
//! freshly cloned child calls; all here are bare system calls, since libc's wrappers may act for
//! other threads and keep copies of process ids.
#![expect(unsafe_code, reason = "process calls have no safe form")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc;

type Result<T> = std::result::Result<T, Errno>;

/// The child starts in the cgroup whose descriptor is given (kernel 5.7, cgroup v2).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// The signal with which an executor tells a container's init to signal its program: the last real-time one,
/// which nothing else uses; its value is the signal's number.
pub(crate) const ORDER_SIGNAL: i32 = 64;

/// Which side of a clone we are on.
pub(crate) enum Side {
    /// In the new process.
    Child,
    /// In the old one.
    Parent {
        /// The child's process id.
        pid: i32,
        /// A handle on it.
        pidfd: OwnedFd,
    },
}

/// What a clone makes anew and how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CloneFlags {
    /// CLONE_NEW* flags.
    pub namespaces: i32,
    /// The child becomes a child of our parent.
    pub sibling: bool,
}

/// Forks: the child has a copy of our memory. Single-threaded callers only.
pub(crate) fn clone(flags: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> Result<Side> {
    let mut pidfd: RawFd = -1;
    let mut bits =
        u64::from(flags.namespaces.unsigned_abs()) | u64::from(libc::CLONE_PIDFD.unsigned_abs());
    if flags.sibling {
        bits |= u64::from(libc::CLONE_PARENT.unsigned_abs());
    }
    if cgroup.is_some() {
        bits |= CLONE_INTO_CGROUP;
    }
    // SAFETY: all zeros is a valid value of this plain structure of numbers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = bits;
    args.pidfd = address(&raw mut pidfd);
    args.exit_signal = if flags.sibling {
        0
    } else {
        u64::from(libc::SIGCHLD.unsigned_abs())
    };
    args.cgroup = cgroup.map_or(0, |cgroup| u64::from(cgroup.as_raw_fd().unsigned_abs()));
    // SAFETY: no CLONE_VM and no stack: both sides go on with memory of their own. The process has one
    // thread, so that no lock can be held by a thread that the child lacks.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    };
    match i32::try_from(Errno::result(returned)?).map_err(|_| Errno::EINVAL)? {
        0 => Ok(Side::Child),
        pid => {
            // SAFETY: the kernel has stored a new descriptor there that nobody else knows.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Parent { pid, pidfd })
        }
    }
}

/// Bytes of the stack on which a child in our memory runs.
const STACK: usize = 64 << 10;
/// A part of a stack, aligned as every call needs it.
type StackUnit = u128;

/// Runs `child` in a new process that shares our memory, while this one stands still until the child has
/// executed a program or ended. `child` gives its exit status if it executes nothing. Costs no copy of memory.
pub(crate) fn spawn_sharing<F: FnMut() -> i32>(child: &mut F) -> Result<i32> {
    extern "C" fn begin<F: FnMut() -> i32>(argument: *mut libc::c_void) -> libc::c_int {
        let child: *mut F = argument.cast();
        // SAFETY: this is the pointer that is given below; whoever owns it stands still meanwhile.
        let child = unsafe { &mut *child };
        child()
    }
    let mut stack = vec![StackUnit::default(); STACK / size_of::<StackUnit>()];
    let top: *mut libc::c_void = stack.as_mut_ptr_range().end.cast();
    let argument: *mut libc::c_void = (&raw mut *child).cast();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is live, aligned and unused until the call returns, which is when the child uses it no more. We
    // have one thread, and the child runs while it stands still, so nothing is used by two at once. Descriptors
    // and signal handlers are copies.
    Errno::result(unsafe { libc::clone(begin::<F>, top, flags, argument) })
}

/// A pointer as the number that `clone_args` wants.
fn address(pointer: *mut RawFd) -> u64 {
    u64::try_from(pointer.addr()).unwrap_or(0)
}

/// Makes new namespaces for this process.
pub(crate) fn unshare(namespaces: i32) -> Result<()> {
    // SAFETY: a number only.
    Errno::result(unsafe { libc::syscall(libc::SYS_unshare, namespaces) }).map(drop)
}

/// Enters a namespace.
pub(crate) fn enter(namespace: BorrowedFd<'_>, kind: i32) -> Result<()> {
    // SAFETY: numbers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_setns, namespace.as_raw_fd(), kind) }).map(drop)
}

/// A `prctl` of one number.
pub(crate) fn control(operation: i32, value: u64) -> Result<()> {
    // SAFETY: callers give operations whose arguments are numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_prctl, operation, value, 0_u64, 0_u64, 0_u64) })
        .map(drop)
}

/// Has this process killed when its parent ends.
pub(crate) fn die_with_parent() -> Result<()> {
    control(
        libc::PR_SET_PDEATHSIG,
        u64::from(libc::SIGKILL.unsigned_abs()),
    )
}

/// Names this process in lists; at most 15 bytes count.
pub(crate) fn set_name(name: &CStr) -> Result<()> {
    // SAFETY: the name is a live C string.
    Errno::result(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, name.as_ptr()) })
        .map(drop)
}

/// Executes a program; returns only on failure. Both arrays end with a null pointer.
pub(crate) fn execute(
    path: &CStr,
    argv: &[*const libc::c_char],
    env: &[*const libc::c_char],
) -> Errno {
    if argv.last().is_none_or(|last| !last.is_null())
        || env.last().is_none_or(|last| !last.is_null())
    {
        return Errno::EINVAL;
    }
    // SAFETY: the path is a C string; both arrays are live, end with null (checked above) and hold pointers to
    // C strings that our caller keeps alive.
    unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    Errno::last()
}

/// Ends this process at once, running nothing of ours.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: numbers only; the call does not return.
    unsafe { libc::_exit(status) }
}

/// Blocks every signal.
pub(crate) fn block_signals() -> Result<()> {
    mask(u64::MAX)
}

/// Unblocks every signal and sets what Rust's start-up ignores back to its default.
pub(crate) fn default_signals() -> Result<()> {
    // SAFETY: SIG_DFL is a valid disposition of this signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    mask(0)
}

fn mask(signals: u64) -> Result<()> {
    // SAFETY: the set is eight live bytes, which is the size given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const signals,
            ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
    Errno::result(done).map(drop)
}

/// A signal that was taken off the queue, and the number sent with it.
pub(crate) struct Taken {
    /// The signal.
    pub signal: i32,
    /// With what value; 0 where none was sent.
    pub value: i32,
}

/// Waits for any blocked signal.
pub(crate) fn wait_signal() -> Result<Taken> {
    let all = u64::MAX;
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: set and information are live; the size is the set's.
    let signal = Errno::result(unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const all,
            &raw mut information,
            ptr::null::<libc::timespec>(),
            size_of::<u64>(),
        )
    })?;
    let value = if information.si_code == libc::SI_QUEUE {
        // SAFETY: SI_QUEUE says that the value is the part of the union that is set; it is plain data.
        unsafe { information.si_value() }.sival_ptr.addr()
    } else {
        0
    };
    let low = u32::try_from(value & 0xff).unwrap_or(0);
    Ok(Taken {
        signal: i32::try_from(signal).unwrap_or(0),
        value: low.cast_signed(),
    })
}

/// Sends a signal through a process handle.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: a null information asks for the usual one.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    Errno::result(done).map(drop)
}

/// Sends [`ORDER_SIGNAL`] with a value to a container's init.
pub(crate) fn order_signal(pidfd: BorrowedFd<'_>, value: i32) -> Result<()> {
    /// The part of `siginfo_t` that carries a queued value.
    #[repr(C)]
    struct Queued {
        signal: i32,
        error: i32,
        code: i32,
        padding: i32,
        pid: i32,
        uid: u32,
        value: u64,
        rest: [u64; 12],
    }
    const { assert!(size_of::<Queued>() == size_of::<libc::siginfo_t>()) };
    let information = Queued {
        signal: ORDER_SIGNAL,
        error: 0,
        code: libc::SI_QUEUE,
        padding: 0,
        pid: 0,
        uid: 0,
        value: u64::from(value.unsigned_abs()),
        rest: [0; 12],
    };
    // SAFETY: the information is live, of the size and layout of `siginfo_t`.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            ORDER_SIGNAL,
            &raw const information,
            0_u32,
        )
    };
    Errno::result(done).map(drop)
}

/// A handle on a process by its id.
pub(crate) fn open_process(pid: i32) -> Result<OwnedFd> {
    // SAFETY: numbers only.
    let returned = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0_u32) })?;
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(returned).map_err(|_| Errno::EBADF)?) })
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Waits for the end of a child of ours that is about to end.
pub(crate) fn wait_exit(pidfd: BorrowedFd<'_>) -> Result<Option<Exit>> {
    exit_of(pidfd, libc::WEXITED)
}

/// Takes the end of a child of ours, without waiting; none while it runs.
pub(crate) fn take_exit(pidfd: BorrowedFd<'_>) -> Result<Option<Exit>> {
    exit_of(pidfd, libc::WEXITED | libc::WNOHANG)
}

fn exit_of(pidfd: BorrowedFd<'_>, options: i32) -> Result<Option<Exit>> {
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the information is live; the rest are numbers.
    Errno::result(unsafe {
        libc::waitid(
            libc::P_PIDFD,
            pidfd.as_raw_fd().unsigned_abs(),
            &raw mut information,
            options,
        )
    })?;
    // SAFETY: after waitid, zeroed or filled in, both fields are plain numbers.
    let (pid, status) = unsafe { (information.si_pid(), information.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    Ok(Some(if information.si_code == libc::CLD_EXITED {
        Exit::Code(status)
    } else {
        Exit::Signal(status)
    }))
}

/// Takes the end of any child that has ended: its process id and its status as `wait` gives it.
pub(crate) fn reap_any() -> Result<Option<(i32, i32)>> {
    let mut status: i32 = 0;
    // SAFETY: the status is live; a null usage asks for none.
    let pid = Errno::result(unsafe {
        libc::syscall(
            libc::SYS_wait4,
            -1_i32,
            &raw mut status,
            libc::WNOHANG,
            ptr::null_mut::<libc::rusage>(),
        )
    })?;
    Ok(i32::try_from(pid)
        .ok()
        .filter(|pid| *pid > 0)
        .map(|pid| (pid, status)))
}

/// Sends a signal to a process of this pid namespace.
pub(crate) fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: numbers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_kill, pid, signal) }).map(drop)
}

/// Nanoseconds of the monotonic clock.
pub(crate) fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is live.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Overwrites the command line that other processes can read of this one, so that no path of the host shows
/// inside a container. `start` and `end` come from this process's own `/proc/self/stat`.
pub(crate) fn overwrite_arguments(start: usize, end: usize, name: &[u8]) {
    if start == 0 || end <= start {
        return;
    }
    let length = end - start;
    let used = name.len().min(length - 1);
    let area: *mut u8 = ptr::with_exposed_provenance_mut(start);
    // SAFETY: the kernel says that the arguments' bytes lie there: writable memory of this process, on which
    // no Rust reference is held (std copies its arguments at each call of `args`).
    unsafe {
        ptr::write_bytes(area, 0, length);
        ptr::copy_nonoverlapping(name.as_ptr(), area, used);
    }
}
