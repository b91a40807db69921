//! How a process keeps what it allocates. May not: allocate.
#![expect(unsafe_code, reason = "this call has no safe form")]

/// Bytes from which a piece is mapped by itself, and given back to the kernel as a whole once it is freed.
#[cfg(target_env = "gnu")]
const MAPPED_LEAST: nix::libc::c_int = 256 << 10;

/// Bytes that stay unused at the heap's end before they are given back to the kernel.
#[cfg(target_env = "gnu")]
const UNUSED_MOST: nix::libc::c_int = 4 << 20;

/// Has all threads allocate from one heap, and what is large mapped by itself, where the C library is glibc. It would make
/// a heap for each thread, and after a while put pieces of up to 32 MiB between what stays: of a process that holds
/// thousands of connections, a third is holes then. To be called before there is a second thread.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    for (setting, value) in [
        (nix::libc::M_ARENA_MAX, 1),
        (nix::libc::M_MMAP_THRESHOLD, MAPPED_LEAST),
        (nix::libc::M_TRIM_THRESHOLD, UNUSED_MOST),
    ] {
        // SAFETY: numbers only. What it refuses stays as it is, and costs memory.
        unsafe { nix::libc::mallopt(setting, value) };
    }
}
