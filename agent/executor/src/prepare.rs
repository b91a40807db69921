//! Everything of a container that the host must hold before it is cloned: its cgroup, its range of ids, the
//! mounts of its layers, its writable layer, its pipes. May not: change anything that a container
//! leaves behind, except its writable layer.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, fcntl, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, fchown, pipe2};
use regatta_model::container::{ContainerSpec, Limits, Network, Writable};

use crate::cgroup::{Cgroup, Entry};
use crate::host::Host;
use crate::order::Order;
use crate::plan::{self, CERTIFICATES, Layout, Placed, Users};
use crate::steps::{Slot, Source, Step};
use crate::surroundings;
use crate::sys::mount;
use crate::users::Range;

/// Bytes that are added to a container's disk limit for what Regatta itself puts beside its writable layer.
const OWN_BYTES: u64 = 64 << 10;
/// Bytes of disk limit for one file at least: a writable layer of many empty files is bounded too.
const BYTES_PER_FILE: u64 = 4096;
/// Files that a writable layer in memory may have at least and at most.
const FILES_LEAST: u64 = 1024;
const FILES_MOST: u64 = 4 << 20;

/// A container that can be cloned.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The order, and the descriptors that it names; taken when it is sent.
    pub order: Option<(Order, Vec<OwnedFd>)>,
    pub steps: Vec<Step>,
    pub cgroup: Cgroup,
    pub range: Option<Range>,
    pub report: OwnedFd,
    pub out: OwnedFd,
    pub err: OwnedFd,
    pub writable: Upper,
}

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

/// Descriptors that go along with an order.
#[derive(Debug, Default)]
struct Sent(Vec<OwnedFd>);

impl Sent {
    fn add(&mut self, fd: OwnedFd) -> Slot {
        let slot = Slot(u16::try_from(self.0.len()).unwrap_or(u16::MAX));
        self.0.push(fd);
        slot
    }
}

/// Prepares a container, or says in a sentence what the host could not do. Nothing stays then.
pub(crate) fn prepare(
    host: &mut Host,
    number: u64,
    spec: &ContainerSpec,
) -> Result<Prepared, String> {
    let range = host.take_range()?;
    let cgroup = match create_cgroup(host, number, spec) {
        Ok(cgroup) => cgroup,
        Err(message) => {
            host.give_back(range);
            return Err(message);
        }
    };
    let room = host.room(number);
    match build(host, number, spec, &cgroup, range) {
        Ok(built) => Ok(Prepared {
            order: Some((built.order, built.fds)),
            steps: built.steps,
            cgroup,
            range,
            report: built.report,
            out: built.out,
            err: built.err,
            writable: built.writable,
        }),
        Err(message) => {
            host.give_back(range);
            let _left = cgroup.remove();
            let _left = fs::remove_dir_all(room);
            if let Writable::Keep { directory } = &spec.writable {
                let _left = fs::remove_dir_all(work_of(directory));
            }
            Err(message)
        }
    }
}

fn create_cgroup(host: &Host, number: u64, spec: &ContainerSpec) -> Result<Cgroup, String> {
    // Its init is a process too, which the limit is not meant for.
    let limits = Limits {
        processes: spec.limits.processes.map(|most| most.saturating_add(1)),
        ..spec.limits
    };
    host.hierarchy
        .create(&format!("{number}"), &limits)
        .map_err(|error| format!("cannot make its cgroup: {error}"))
}

/// What [`build`] made.
struct Built {
    order: Order,
    fds: Vec<OwnedFd>,
    steps: Vec<Step>,
    report: OwnedFd,
    out: OwnedFd,
    err: OwnedFd,
    writable: Upper,
}

fn build(
    host: &mut Host,
    number: u64,
    spec: &ContainerSpec,
    cgroup: &Cgroup,
    range: Option<Range>,
) -> Result<Built, String> {
    let mut sent = Sent::default();
    let (report, report_in) = pipe()?;
    let (out, out_in) = pipe()?;
    let (err, err_in) = pipe()?;
    let first = range.map_or(0, |range| range.first);
    for end in [&out_in, &err_in] {
        // So that a program can open /dev/stdout.
        let owner = (
            Some(Uid::from_raw(first + spec.process.uid)),
            Some(Gid::from_raw(first + spec.process.gid)),
        );
        fchown(end, owner.0, owner.1).map_err(|errno| call("own a pipe", errno))?;
    }
    let report_slot = sent.add(report_in);
    let out_slot = sent.add(out_in);
    let err_slot = sent.add(err_in);
    let users = match range {
        Some(range) => {
            let namespace = host.namespace(range)?;
            Some(Users {
                namespace: sent.add(namespace),
                first: range.first,
            })
        }
        None => None,
    };
    let (tasks, group) = enter(cgroup, &mut sent)?;
    let mut placed = place_mounts(spec, &mut sent)?;
    let env = place_certificates(spec, &mut placed, &mut sent)?;
    let skeleton = host.skeleton(number, &targets(spec, &placed))?;
    let mut layers = Vec::with_capacity(spec.layers.len() + 1);
    for layer in spec.layers.iter().rev().chain([&skeleton]) {
        layers.push(sent.add(tree(layer)?));
    }
    let top = spec.layers.last().map_or(0o755, |top| {
        fs::metadata(top).map_or(0o755, |top| top.permissions().mode() & 0o7777)
    });
    let made = writable(host, number, spec, top, &mut sent)?;
    let names = surroundings::names(spec);
    let etc = made.etc.as_str();
    let files = [
        ("hosts", names.hosts),
        ("hostname", names.hostname),
        ("resolv.conf", names.resolv),
    ];
    let mut own = Vec::with_capacity(files.len());
    for (name, bytes) in files {
        write_at(&made.files, name, &bytes).map_err(|errno| call("write /etc/hosts", errno))?;
        own.push(Placed {
            source: Source::Path(format!("{etc}/{name}")),
            target: format!("/etc/{name}"),
            directory: false,
            writable: true,
            map: false,
            asked: false,
        });
    }
    own.extend(placed);
    let layout = Layout {
        out: out_slot,
        err: err_slot,
        users,
        tasks,
        cgroup_tree: group.is_some(),
        layers,
        writable: made.tree,
        upper: made.upper,
        work: made.work,
        volatile: !matches!(spec.writable, Writable::Keep { .. }),
        extra: made.extra,
        placed: own,
        files_hard: host.files_hard,
        env,
        free: Slot(u16::try_from(sent.0.len()).unwrap_or(u16::MAX)),
    };
    let (setup, program) = (plan::setup(spec, &layout), plan::program(spec, &layout));
    let steps = setup.iter().chain(&program).cloned().collect();
    let namespaces = namespaces(spec.network);
    Ok(Built {
        order: Order {
            number,
            namespaces,
            cgroup: group,
            report: report_slot,
            setup,
            program,
        },
        fds: sent.0,
        steps,
        report,
        out,
        err,
        writable: made.held,
    })
}

fn namespaces(network: Network) -> i32 {
    use nix::libc::{CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS};
    let net = match network {
        Network::None => CLONE_NEWNET,
        Network::Host => 0,
    };
    CLONE_NEWIPC | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | net
}

fn call(what: &str, errno: Errno) -> String {
    format!("cannot {what}: {}", errno.desc())
}

/// A pipe whose reading end never blocks.
fn pipe() -> Result<(OwnedFd, OwnedFd), String> {
    let (reads, writes) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| call("make a pipe", errno))?;
    fcntl(&reads, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|errno| call("set up a pipe", errno))?;
    Ok((reads, writes))
}

/// How the container gets into its cgroup: files of version 1, or a directory of version 2.
fn enter(cgroup: &Cgroup, sent: &mut Sent) -> Result<(Vec<Slot>, Option<Slot>), String> {
    let again = |fd: std::os::fd::BorrowedFd<'_>| {
        fd.try_clone_to_owned()
            .map_err(|error| format!("cannot pass on a cgroup: {error}"))
    };
    match cgroup.entry() {
        Entry::Tasks(files) => {
            let mut slots = Vec::with_capacity(files.len());
            for file in files {
                slots.push(sent.add(again(file.as_fd())?));
            }
            Ok((slots, None))
        }
        Entry::Directory(directory) => Ok((Vec::new(), Some(sent.add(again(directory)?)))),
    }
}

/// A detached copy of the mount that a path lies in, beginning there.
fn tree(path: &Path) -> Result<OwnedFd, String> {
    let text = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| format!("{} holds a NUL byte", path.display()))?;
    mount::clone_tree(AT_FDCWD, &text)
        .map_err(|errno| format!("cannot mount {}: {}", path.display(), errno.desc()))
}

fn place_mounts(spec: &ContainerSpec, sent: &mut Sent) -> Result<Vec<Placed>, String> {
    let mut mounts: Vec<_> = spec.mounts.iter().collect();
    // What lies inside another one's place comes after it.
    mounts.sort_by_key(|mount| {
        mount
            .target
            .split('/')
            .filter(|part| !part.is_empty())
            .count()
    });
    let mut placed = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let kind = fs::metadata(&mount.source)
            .map_err(|error| format!("cannot mount {}: {error}", mount.source.display()))?;
        placed.push(Placed {
            source: Source::Tree(sent.add(tree(&mount.source)?)),
            target: mount.target.clone(),
            directory: kind.is_dir(),
            writable: mount.writable,
            map: true,
            asked: true,
        });
    }
    Ok(placed)
}

/// With the host's network: its certificates; and the environment that goes with that.
fn place_certificates(
    spec: &ContainerSpec,
    placed: &mut Vec<Placed>,
    sent: &mut Sent,
) -> Result<Vec<(String, String)>, String> {
    if spec.network == Network::None {
        return Ok(Vec::new());
    }
    let bundle = surroundings::certificates();
    if let Some(bundle) = &bundle {
        placed.push(Placed {
            source: Source::Tree(sent.add(tree(bundle)?)),
            target: CERTIFICATES.to_owned(),
            directory: false,
            writable: false,
            // The file is for everybody to read, and its file system may not know how to map owners.
            map: false,
            asked: false,
        });
    }
    Ok(surroundings::environment(bundle.is_some()))
}

/// Everything that must exist inside before it is mounted on, and whether it is a directory.
fn targets(spec: &ContainerSpec, placed: &[Placed]) -> Vec<(String, bool)> {
    let mut targets: Vec<(String, bool)> = [("/proc", true), ("/sys", true), ("/dev", true)]
        .into_iter()
        .chain(["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].map(|file| (file, false)))
        .map(|(path, directory)| (path.to_owned(), directory))
        .chain(
            placed
                .iter()
                .map(|placed| (placed.target.clone(), placed.directory)),
        )
        .collect();
    // A layer that stays is to have its working directory itself.
    if !matches!(spec.writable, Writable::Keep { .. }) {
        targets.push((spec.process.workdir.clone(), true));
    }
    targets.sort();
    targets.dedup();
    targets
}

/// A writable layer that was made.
struct Made {
    held: Upper,
    /// The mount that holds it, and the names in it.
    tree: Slot,
    upper: String,
    work: String,
    /// A second mount, where the first must hold nothing else.
    extra: Option<Slot>,
    /// Where the container's first process finds the three files that name things, and the directory for them.
    etc: String,
    files: OwnedFd,
}

fn writable(
    host: &Host,
    number: u64,
    spec: &ContainerSpec,
    mode: u32,
    sent: &mut Sent,
) -> Result<Made, String> {
    match &spec.writable {
        Writable::Memory => in_memory(spec.limits.disk_bytes, mode, sent),
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
                extra: None,
                etc: "/u/etc".to_owned(),
                files: open(&room.join("etc"))?,
            })
        }
        Writable::Keep { directory } => keep(host, number, spec, directory, mode, sent),
    }
}

fn in_memory(disk: Option<u64>, mode: u32, sent: &mut Sent) -> Result<Made, String> {
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
            let made = fs::metadata(path)?;
            if made.mode() & 0o7777 == mode {
                return Ok(());
            }
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        })
        .map_err(|error| format!("cannot make {}: {error}", path.display()))
}

fn write_at(directory: &OwnedFd, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = openat(directory, name, flags, Mode::from_bits_truncate(0o644))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = nix::unistd::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}
