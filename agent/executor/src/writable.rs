//! A container's writable layer: in memory, on disk, or kept. May not: leave anything of its own in a layer
//! that stays.
//!
//! The disk limit is exact in memory, where it is the size of a file system. On disk it would need a project quota of
//! the host's file system, which few have switched on; there the layer is measured four times a
//! second, and a container above its limit is ended (see [`crate::disk`]).

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};
use regatta_model::container::{ContainerSpec, Writable};

use crate::host::Host;
use crate::plan::CERTIFICATES;
use crate::prepare::{Sent, call, tree};
use crate::steps::Slot;
use crate::sys::mount;

/// Bytes that are added to a container's disk limit for what Regatta itself puts beside its writable layer.
const OWN_BYTES: u64 = 64 << 10;
/// Bytes of disk limit for one file at least: a writable layer of many empty files is bounded too.
const BYTES_PER_FILE: u64 = 4096;
/// Files that a writable layer in memory may have at least and at most.
const FILES_LEAST: u64 = 1024;
const FILES_MOST: u64 = 4 << 20;

/// A container's writable layer, as its executor holds it.
#[derive(Debug)]
pub(crate) struct Upper {
    /// The layer's directory.
    pub directory: OwnedFd,
    /// What to remove at the end.
    pub discard: Vec<PathBuf>,
    /// Where mounts are in it, if it stays: to be removed where they left something empty.
    pub tidy: Vec<String>,
    /// The layer on disk and the most bytes it may have, where only looking at it now and then enforces that.
    pub watch: Option<(PathBuf, u64)>,
}

/// A writable layer that was made.
pub(crate) struct Made {
    pub held: Upper,
    /// The mount that holds it, and the names in it.
    pub tree: Slot,
    pub upper: String,
    pub work: String,
    /// Whether owners in that mount are mapped; else they are host ids.
    pub mapped: bool,
    /// A second mount, where the first must hold nothing else.
    pub extra: Option<Slot>,
    /// Where the container's first process finds the three files that name things, and the directory for them.
    pub etc: String,
    pub files: OwnedFd,
}

pub(crate) fn make(
    host: &Host,
    number: u64,
    spec: &ContainerSpec,
    mode: u32,
    first: u32,
    sent: &mut Sent,
) -> Result<Made, String> {
    match &spec.writable {
        Writable::Memory => in_memory(spec.limits.disk_bytes, mode, first, sent),
        Writable::Disk => {
            let room = host.make_room(number)?;
            let upper = room.join("upper");
            make_directory(&upper, mode)?;
            make_directory(&room.join("work"), 0o700)?;
            make_directory(&room.join("etc"), 0o755)?;
            Ok(Made {
                held: Upper {
                    directory: open(&upper)?,
                    discard: to_discard(host, number, spec),
                    tidy: Vec::new(),
                    watch: spec.limits.disk_bytes.map(|most| (upper, most)),
                },
                tree: sent.add(tree(&room)?),
                upper: "upper".to_owned(),
                work: "work".to_owned(),
                mapped: true,
                extra: None,
                etc: "/u/etc".to_owned(),
                files: open(&room.join("etc"))?,
            })
        }
        Writable::Keep { directory } => keep(host, number, spec, directory, mode, sent),
    }
}

/// Its owners are host ids: before Linux 6.3 no mount of a tmpfs can map them.
fn in_memory(disk: Option<u64>, mode: u32, first: u32, sent: &mut Sent) -> Result<Made, String> {
    let failed = |errno| call("make a writable layer in memory", errno);
    let size = disk.map(|most| most.saturating_add(OWN_BYTES).to_string());
    let files = disk.map(|most| {
        (most / BYTES_PER_FILE)
            .clamp(FILES_LEAST, FILES_MOST)
            .to_string()
    });
    let texts = [
        ("mode", Some("0755".to_owned())),
        ("size", size),
        ("nr_inodes", files),
    ];
    let mut options = Vec::with_capacity(texts.len());
    for (name, value) in texts {
        if let Some(value) = value {
            let name = CString::new(name).map_err(|_| failed(Errno::EINVAL))?;
            options.push((
                name,
                CString::new(value).map_err(|_| failed(Errno::EINVAL))?,
            ));
        }
    }
    let options: Vec<_> = options
        .iter()
        .map(|(name, value)| (name.as_c_str(), Some(value.as_c_str())))
        .collect();
    let tmpfs = mount::new_file_system(c"tmpfs", &options, 0).map_err(failed)?;
    for (name, mode) in [("upper", mode), ("work", 0o700), ("etc", 0o755)] {
        mkdirat(&tmpfs, name, Mode::from_bits_truncate(mode)).map_err(failed)?;
        own(&tmpfs, name, first).map_err(failed)?;
    }
    let directory = |name: &str| {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(&tmpfs, name, flags, Mode::empty()).map_err(failed)
    };
    let (upper, files) = (directory("upper")?, directory("etc")?);
    Ok(Made {
        held: Upper {
            directory: upper,
            discard: Vec::new(),
            tidy: Vec::new(),
            watch: None,
        },
        tree: sent.add(tmpfs),
        upper: "upper".to_owned(),
        work: "work".to_owned(),
        mapped: false,
        extra: None,
        etc: "/u/etc".to_owned(),
        files,
    })
}

/// A layer that stays: it and overlay's working directory must lie in one mount, so that is beside it.
fn keep(
    host: &Host,
    number: u64,
    spec: &ContainerSpec,
    directory: &Path,
    mode: u32,
    sent: &mut Sent,
) -> Result<Made, String> {
    let name = |path: &Path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .map(str::to_owned)
            .ok_or_else(|| {
                format!(
                    "cannot keep a layer as {}: its name is not plain text",
                    path.display()
                )
            })
    };
    let above = directory
        .parent()
        .ok_or_else(|| format!("cannot keep a layer as {}", directory.display()))?;
    match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            make_directory(directory, mode)?;
        }
        Err(error) => return Err(format!("cannot read {}: {error}", directory.display())),
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(format!(
                    "cannot keep a layer in {}: it is not empty",
                    directory.display()
                ));
            }
        }
    }
    let work = work_of(directory);
    let _left = fs::remove_dir_all(&work);
    make_directory(&work, 0o700)?;
    let room = host.make_room(number)?;
    let etc = room.join("etc");
    make_directory(&etc, 0o755)?;
    let mut tidy: Vec<String> = spec
        .mounts
        .iter()
        .map(|mount| mount.target.clone())
        .collect();
    tidy.extend(
        [
            "/etc/hosts",
            "/etc/hostname",
            "/etc/resolv.conf",
            CERTIFICATES,
        ]
        .map(str::to_owned),
    );
    tidy.extend(["/proc", "/sys", "/dev"].map(str::to_owned));
    Ok(Made {
        held: Upper {
            directory: open(directory)?,
            discard: to_discard(host, number, spec),
            tidy,
            watch: spec
                .limits
                .disk_bytes
                .map(|most| (directory.to_owned(), most)),
        },
        tree: sent.add(tree(above)?),
        upper: name(directory)?,
        work: name(&work)?,
        mapped: true,
        extra: Some(sent.add(tree(&etc)?)),
        etc: "/e".to_owned(),
        files: open(&etc)?,
    })
}

/// Directories that exist only as long as a container does.
pub(crate) fn to_discard(host: &Host, number: u64, spec: &ContainerSpec) -> Vec<PathBuf> {
    match &spec.writable {
        Writable::Memory => Vec::new(),
        Writable::Disk => vec![host.room(number)],
        Writable::Keep { directory } => vec![host.room(number), work_of(directory)],
    }
}

/// Overlay's working directory for a layer that stays.
pub(crate) fn work_of(directory: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(directory.file_name().unwrap_or_default());
    name.push(".work");
    directory.with_file_name(name)
}

fn open(path: &Path) -> Result<OwnedFd, String> {
    fs::File::open(path)
        .map(OwnedFd::from)
        .map_err(|error| format!("cannot open {}: {error}", path.display()))
}

fn make_directory(path: &Path, mode: u32) -> Result<(), String> {
    fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .and_then(|()| {
            // The umask may have taken bits away.
            if fs::metadata(path)?.mode() & 0o7777 == mode {
                return Ok(());
            }
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        })
        .map_err(|error| format!("cannot make {}: {error}", path.display()))
}

/// Gives something to a host id.
pub(crate) fn own(directory: &OwnedFd, name: &str, id: u32) -> Result<(), Errno> {
    let owner = (Some(Uid::from_raw(id)), Some(Gid::from_raw(id)));
    fchownat(
        directory,
        name,
        owner.0,
        owner.1,
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )
}

pub(crate) fn write_at(directory: &OwnedFd, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = openat(directory, name, flags, Mode::from_bits_truncate(0o644))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = nix::unistd::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}
