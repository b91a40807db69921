//! Does this host have what containers need, and what would mend it? May not: change the host.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::AT_FDCWD;

use crate::sys::mount;
use crate::users;

/// A thing that a host has or lacks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// What was looked at, in a few words.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What would mend it; empty where there is nothing to mend.
    pub mend: String,
}

impl Check {
    fn new(name: &str, found: Result<String, String>, mend: &str) -> Self {
        let ok = found.is_ok();
        let detail = found.unwrap_or_else(|error| error);
        let mend = if ok { String::new() } else { mend.to_owned() };
        Self {
            name: name.to_owned(),
            ok,
            detail,
            mend,
        }
    }
}

/// Looks at everything that containers need of this host.
pub fn doctor() -> Vec<Check> {
    vec![
        Check::new("root", is_root(), "run it as root: sudo regatta doctor"),
        Check::new(
            "kernel",
            kernel(),
            "use Linux 5.12 or newer; 5.19 or newer for user namespaces",
        ),
        Check::new(
            "overlay file system",
            has_file_system("overlay"),
            "load it: modprobe overlay",
        ),
        Check::new(
            "user namespaces over image layers",
            maps_owners(Path::new("/var"))
                .map(|()| "each container gets ids of its own".to_owned()),
            "use Linux 5.19 or newer and ext4, xfs, btrfs or tmpfs for the data directory, and allow user \
             namespaces: sysctl -w user.max_user_namespaces=10000; without them containers run as Docker's do by default",
        ),
        Check::new(
            "control groups",
            control_groups(),
            "mount them: systemd does, or `mount -t cgroup2 none /sys/fs/cgroup`",
        ),
        Check::new(
            "network namespaces",
            Path::new("/proc/self/ns/net")
                .exists()
                .then(|| "present".to_owned())
                .ok_or_else(|| "none".to_owned()),
            "use a kernel with CONFIG_NET_NS",
        ),
    ]
}

fn is_root() -> Result<String, String> {
    if nix::unistd::geteuid().is_root() {
        Ok("yes".to_owned())
    } else {
        Err("not root: containers cannot be made".to_owned())
    }
}

/// The kernel's version as (major, minor).
pub(crate) fn kernel_version() -> (u32, u32) {
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut parts = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn kernel() -> Result<String, String> {
    let (major, minor) = kernel_version();
    let text = format!("Linux {major}.{minor}");
    if (major, minor) >= (5, 12) {
        Ok(text)
    } else {
        Err(format!("{text} is too old"))
    }
}

fn has_file_system(name: &str) -> Result<String, String> {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known
        .lines()
        .any(|line| line.split_whitespace().last() == Some(name))
    {
        Ok("present".to_owned())
    } else {
        Err("the kernel does not have it loaded".to_owned())
    }
}

fn control_groups() -> Result<String, String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let has = |kind: &str| {
        mounts
            .lines()
            .any(|line| line.split(' ').nth(2) == Some(kind))
    };
    match (has("cgroup2"), has("cgroup")) {
        (true, true) => Ok("versions 1 and 2".to_owned()),
        (true, false) => Ok("version 2".to_owned()),
        (false, true) => Ok("version 1".to_owned()),
        (false, false) => Err("none is mounted".to_owned()),
    }
}

/// Whether the layers below a directory can be given to a user namespace: tries it.
pub(crate) fn maps_owners(directory: &Path) -> Result<(), String> {
    let (major, minor) = kernel_version();
    if (major, minor) < (5, 19) {
        return Err(format!(
            "Linux {major}.{minor} cannot: overlay takes mapped layers from 5.19 on"
        ));
    }
    let users = users::make(0x7000_0000)
        .map_err(|errno| format!("cannot make a user namespace: {}", errno.desc()))?;
    let path = CString::new(directory.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    let tree = mount::clone_tree(AT_FDCWD, &path)
        .map_err(|errno| format!("cannot copy a mount: {}", errno.desc()))?;
    mount::set_attributes(tree.as_fd(), 0, Some(users.as_fd())).map_err(|errno| {
        format!(
            "{}: its file system cannot map owners: {}",
            directory.display(),
            errno.desc()
        )
    })
}
