//! The executor's own program out of a container's reach, where there are no user namespaces: it runs from a sealed
//! copy in memory, which nobody can write to, not even a root that got hold of `/proc/PID/exe`
//! (CVE-2019-5736). With user namespaces the file belongs to nobody whom a container could be. May
//! not: do anything a second time.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::fexecve;

use crate::Error;

/// What `/proc/self/exe` begins with for a program that runs from such a copy.
const SEALED: &str = "/memfd:regatta";

/// Starts this process anew from a sealed copy of its program, with the same arguments; returns only in the
/// copy.
pub(crate) fn run_from_sealed_copy() -> Result<(), Error> {
    let exe = Path::new("/proc/self/exe");
    let failed = |error: io::Error| Error::Host(format!("cannot run from a sealed copy: {error}"));
    if fs::read_link(exe)
        .map_err(failed)?
        .to_string_lossy()
        .starts_with(SEALED)
    {
        return Ok(());
    }
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let copy = memfd_create(c"regatta", flags).map_err(|errno| failed(errno.into()))?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open(exe).map_err(failed)?, &mut copy).map_err(failed)?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals)).map_err(|errno| failed(errno.into()))?;
    let arguments = fs::read("/proc/self/cmdline").map_err(failed)?;
    let arguments: Vec<CString> = arguments
        .strip_suffix(b"\0")
        .unwrap_or(&arguments)
        .split(|byte| *byte == 0)
        .filter_map(|argument| CString::new(argument).ok())
        .collect();
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| {
            CString::new([name.into_vec(), value.into_vec()].join(&b'=')).ok()
        })
        .collect();
    match fexecve(copy.as_fd(), &arguments, &environment) {
        Err(errno) => Err(failed(errno.into())),
        Ok(never) => match never {},
    }
}
