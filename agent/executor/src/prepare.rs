//! Everything of a container that the host must hold before it is cloned: its cgroup, its range of ids, the
//! mounts of its layers, its writable layer, its pipes. May not: change anything that a container
//! leaves behind, except its writable layer.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, fcntl};
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
use crate::writable::{self, Upper};

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

/// Descriptors that go along with an order.
#[derive(Debug, Default)]
pub(crate) struct Sent(Vec<OwnedFd>);

impl Sent {
    pub(crate) fn add(&mut self, fd: OwnedFd) -> Slot {
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
                let _left = fs::remove_dir_all(writable::work_of(directory));
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
    let made = writable::make(host, number, spec, top, first, &mut sent)?;
    let names = surroundings::names(spec);
    let etc = made.etc.as_str();
    let files = [
        ("hosts", names.hosts),
        ("hostname", names.hostname),
        ("resolv.conf", names.resolv),
    ];
    let mut own = Vec::with_capacity(files.len());
    for (name, bytes) in files {
        writable::write_at(&made.files, name, &bytes)
            .and_then(|()| {
                let owner = if made.mapped { 0 } else { first };
                writable::own(&made.files, name, owner)
            })
            .map_err(|errno| call("write /etc/hosts", errno))?;
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
        writable_mapped: made.mapped,
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

pub(crate) fn call(what: &str, errno: Errno) -> String {
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
    let again = |fd: BorrowedFd<'_>| {
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
pub(crate) fn tree(path: &Path) -> Result<OwnedFd, String> {
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
