//! Which powers a container's root keeps inside its user namespace: Docker's default set. May not: give
//! any back. Its functions are for the child between clone and exec: they allocate nothing and
//! make bare system calls, since that child shares its parent's memory.

use nix::errno::Errno;
use nix::libc;

/// Docker's default set as a bit mask: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
/// NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
pub const DEFAULT: u64 = 1 << 0
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 10
    | 1 << 13
    | 1 << 18
    | 1 << 27
    | 1 << 29
    | 1 << 31;

/// No kernel numbers a capability higher: the masks have 64 bits.
const NUMBER_MOST: u32 = 63;
/// The layout with two words of each set.
const VERSION_3: u32 = 0x2008_0522;

/// The ambient set's order to empty it, and what its other arguments must be.
const CLEAR_ALL: libc::c_ulong = 4;
const NOTHING: libc::c_ulong = 0;

/// Whose data a `capset` carries; `pid` 0 is the caller.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// One word of each set.
#[repr(C)]
#[derive(Clone, Copy)]
struct Word {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Takes everything but `keep` out of the bounding set, and all out of the ambient set. Needs CAP_SETPCAP.
///
/// # Errors
/// The kernel's error number.
#[expect(
    unsafe_code,
    reason = "bare system calls, in a child that shares its parent's memory"
)]
pub fn bound(keep: u64) -> Result<(), Errno> {
    for number in 0..=NUMBER_MOST {
        if keep & (1 << number) != 0 {
            continue;
        }
        // SAFETY: prctl with scalar arguments only.
        let done = unsafe {
            libc::syscall(
                libc::SYS_prctl,
                libc::PR_CAPBSET_DROP,
                libc::c_ulong::from(number),
            )
        };
        if done < 0 {
            match Errno::last() {
                // The kernel's last capability is behind us.
                Errno::EINVAL if number > 0 => break,
                error => return Err(error),
            }
        }
    }
    // SAFETY: prctl with scalar arguments only.
    let done = unsafe {
        libc::syscall(
            libc::SYS_prctl,
            libc::PR_CAP_AMBIENT,
            CLEAR_ALL,
            NOTHING,
            NOTHING,
            NOTHING,
        )
    };
    Errno::result(done).map(|_| ())
}

/// Makes `keep` the permitted and the effective set, and nothing inheritable.
///
/// For a user other than root call it with 0, after the change of user.
///
/// # Errors
/// The kernel's error number; EPERM where `keep` is more than the caller has.
#[expect(
    unsafe_code,
    reason = "bare system calls, in a child that shares its parent's memory"
)]
pub fn set(keep: u64) -> Result<(), Errno> {
    let low = u32::try_from(keep & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    let high = u32::try_from(keep >> 32).unwrap_or(u32::MAX);
    let word = |bits: u32| Word {
        effective: bits,
        permitted: bits,
        inheritable: 0,
    };
    let words = [word(low), word(high)];
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    // SAFETY: both pointers are to live values of the layout that version 3 asks for.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) };
    Errno::result(done).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_docker_documents() {
        // The mask that `/proc/1/status` shows in a container of Docker's.
        assert_eq!(DEFAULT, 0xa804_25fb);
    }
}
