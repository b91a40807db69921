//! What the agent needs of this host, to be told with the executor's checks. May not: change anything but a file of its
//! own in the data directory, which it removes.

use std::path::Path;

use regatta_executor::Check;

use crate::facts;

/// Free space below which nothing useful runs, in bytes.
const FREE_LEAST: u64 = 2 << 30;

/// Looks at the data directory.
pub fn doctor(data: &Path) -> Vec<Check> {
    let existing = existing(data);
    vec![
        check(
            "data directory",
            writable(existing),
            &format!(
                "let root write to {}, or choose another one with --data",
                existing.display()
            ),
        ),
        check(
            "disk space",
            space(existing),
            "make room: regatta image prune; or choose another --data",
        ),
        check(
            "file system",
            kind(existing),
            "choose a --data on a disk (ext4, xfs, btrfs): an overlay cannot lie on an overlay",
        ),
    ]
}

fn check(name: &str, found: Result<String, String>, mend: &str) -> Check {
    let ok = found.is_ok();
    let detail = found.unwrap_or_else(|error| error);
    Check {
        name: name.into(),
        ok,
        detail,
        mend: if ok { String::new() } else { mend.into() },
    }
}

/// The data directory, or the nearest directory above it that exists.
fn existing(data: &Path) -> &Path {
    data.ancestors()
        .find(|path| path.is_dir())
        .unwrap_or_else(|| Path::new("/"))
}

fn writable(directory: &Path) -> Result<String, String> {
    let probe = tempfile::Builder::new()
        .prefix(".doctor-")
        .tempdir_in(directory);
    match probe {
        Ok(_) => Ok(format!("{} can be written to", directory.display())),
        Err(error) => Err(format!(
            "{} cannot be written to: {error}",
            directory.display()
        )),
    }
}

fn space(directory: &Path) -> Result<String, String> {
    let free = facts::disk_free_bytes(directory);
    let text = format!("{} MiB free below {}", free >> 20, directory.display());
    if free < FREE_LEAST {
        Err(text)
    } else {
        Ok(text)
    }
}

/// Which file system a layer store would be on: an overlay cannot lie on most overlays.
fn kind(directory: &Path) -> Result<String, String> {
    /// What `statfs` calls an overlay.
    const OVERLAY: i64 = 0x794c_7630;
    let stat = rustix::fs::statfs(directory).map_err(|error| error.to_string())?;
    if stat.f_type == OVERLAY {
        Err(format!("{} lies on an overlay", directory.display()))
    } else {
        Ok(format!(
            "{} does not lie on an overlay",
            directory.display()
        ))
    }
}
