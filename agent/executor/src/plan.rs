//! From a container's specification to its steps. May not: call the kernel; what the host contributes
//! (descriptors, names) comes in a [`Layout`], so that the same layout gives the same steps.

use regatta_model::container::{ContainerSpec, Network};

use crate::capabilities;
use crate::steps::{Attributes, Slot, Source, Step};

/// Longest option text of a mount(2): a page, which the kernel cuts silently.
pub const OPTIONS_MOST: usize = 4095;
/// The search path of a program whose environment has none; as Docker's.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where a container with the host's network finds the host's trusted certificates.
pub const CERTIFICATES: &str = "/run/regatta/ca-certificates.crt";
/// Soft limit of open files where the specification sets none: what programs written for `select` stand.
const FILES_SOFT: u64 = 1024;
/// Containers' processes are ended before the host's when the host runs out of memory.
const OOM_SCORE: i32 = 500;
/// The group that terminals belong to, inside; as in Debian.
const TTY_GROUP: u32 = 5;

/// What is hidden in `/proc` and `/sys`: what Docker hides.
const MASKED_IN_PROC: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
const MASKED_IN_SYS: [&str; 2] = ["devices/virtual/powercap", "firmware"];
/// What can be read but not written in `/proc`: what Docker and runc protect.
const READ_ONLY_IN_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// Without power over its network namespace, a container could not serve port 80 nor `ping`; Docker sets the same.
const SYSCTLS: [(&str, &str); 2] = [
    ("sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("sys/net/ipv4/ping_group_range", "0 2147483647"),
];

/// A user namespace that a container enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Users {
    /// The namespace.
    pub namespace: Slot,
    /// The host id of its root.
    pub first: u32,
}

/// A directory or file that is mounted inside.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The detached mount, or a part of what the zygote holds.
    pub source: Source,
    /// Where inside.
    pub target: String,
    /// Whether it is a directory.
    pub directory: bool,
    /// Whether the container may write to it.
    pub writable: bool,
    /// Whether its owners are yet to be mapped.
    pub map: bool,
    /// Whether the container asked for it.
    pub asked: bool,
}

/// What the host contributes to a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Pipes for standard output and error.
    pub out: Slot,
    /// See `out`.
    pub err: Slot,
    /// Its user namespace; none on a kernel that cannot map the owners of layers.
    pub users: Option<Users>,
    /// The `tasks` files of its cgroups of version 1.
    pub tasks: Vec<Slot>,
    /// Whether its own cgroup of version 2 is to be seen in `/sys/fs/cgroup`.
    pub cgroup_tree: bool,
    /// Its layers as detached mounts, the highest first.
    pub layers: Vec<Slot>,
    /// The mount that holds its writable layer and overlay's working directory.
    pub writable: Slot,
    /// Their names in it.
    pub upper: String,
    /// See `upper`.
    pub work: String,
    /// Whether nobody reads the writable layer after a crash, so that it need not be synced.
    pub volatile: bool,
    /// A mount with further files, at the zygote's `/e`.
    pub extra: Option<Slot>,
    /// What is mounted inside, in order.
    pub placed: Vec<Placed>,
    /// The host's hard limit of open files.
    pub files_hard: u64,
    /// Environment beside the specification's.
    pub env: Vec<(String, String)>,
    /// The first place in the table that is free.
    pub free: Slot,
}

/// What the container's first process does.
pub fn setup(spec: &ContainerSpec, layout: &Layout) -> Vec<Step> {
    let root = layout.free;
    let proc = Slot(layout.free.0 + 1);
    let sys = Slot(layout.free.0 + 2);
    let mut steps: Vec<Step> = layout
        .tasks
        .iter()
        .map(|tasks| Step::JoinCgroup { tasks: *tasks })
        .collect();
    steps.push(Step::NewCgroupNamespace);
    root_steps(layout, root, &mut steps);
    kernel_mounts(layout, root, proc, sys, &mut steps);
    steps.push(Step::OomScore {
        inside: proc,
        score: OOM_SCORE,
    });
    for placed in &layout.placed {
        steps.push(Step::Mount {
            source: placed.source.clone(),
            root,
            target: placed.target.clone(),
            directory: placed.directory,
            attributes: Attributes {
                read_only: !placed.writable,
                no_suid: true,
                no_devices: true,
                no_exec: false,
            },
            users: layout
                .users
                .filter(|_| placed.map)
                .map(|users| users.namespace),
            keep: None,
            asked: placed.asked,
        });
    }
    if spec.network == Network::None {
        steps.push(Step::LoopbackUp);
        steps.extend(SYSCTLS.map(|(path, value)| Step::Sysctl {
            inside: proc,
            path: path.to_owned(),
            value: value.to_owned(),
        }));
    }
    protect(proc, sys, &mut steps);
    steps.push(Step::Hostname(spec.hostname.clone()));
    steps.push(Step::Pivot { root });
    if let Some(users) = layout.users {
        steps.push(Step::EnterUsers {
            users: users.namespace,
        });
    }
    steps.extend([
        Step::Become {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
        },
        Step::MakeDirectory(spec.process.workdir.clone()),
        Step::NewKeyring,
        Step::NoCoreFiles,
        Step::BoundCapabilities(capabilities::DEFAULT),
        Step::HoldCapabilities(capabilities::DEFAULT),
        Step::NoNewPrivileges,
        Step::DieWithExecutor,
    ]);
    steps
}

/// The root from its layers.
fn root_steps(layout: &Layout, root: Slot, steps: &mut Vec<Step>) {
    let namespace = layout.users.map(|users| users.namespace);
    let attach = |tree: Slot, at: String| Step::AttachTree {
        tree,
        users: namespace,
        at,
    };
    for (number, layer) in layout.layers.iter().enumerate() {
        steps.push(attach(*layer, format!("/l/{number}")));
    }
    steps.push(attach(layout.writable, "/u".to_owned()));
    if let Some(extra) = layout.extra {
        steps.push(attach(extra, "/e".to_owned()));
    }
    if let Some(users) = layout.users {
        steps.push(Step::FileOwner {
            uid: users.first,
            gid: users.first,
        });
    }
    let names: Vec<String> = (0..layout.layers.len())
        .map(|number| number.to_string())
        .collect();
    let mut options = format!(
        "lowerdir={},upperdir=/u/{},workdir=/u/{},redirect_dir=off,index=off,metacopy=off",
        names.join(":"),
        layout.upper,
        layout.work
    );
    if layout.volatile {
        options.push_str(",volatile");
    }
    steps.push(Step::Overlay {
        from: "/l".to_owned(),
        options,
        at: "/r".to_owned(),
    });
    steps.push(Step::OpenRoot {
        at: "/r".to_owned(),
        into: root,
    });
}

/// The file systems that the kernel makes.
fn kernel_mounts(layout: &Layout, root: Slot, proc: Slot, sys: Slot, steps: &mut Vec<Step>) {
    let sealed = Attributes {
        read_only: false,
        no_suid: true,
        no_devices: true,
        no_exec: true,
    };
    let sealed_ro = Attributes {
        read_only: true,
        ..sealed
    };
    let devices = Attributes {
        no_devices: false,
        ..sealed
    };
    let tty = layout.users.map_or(0, |users| users.first) + TTY_GROUP;
    let mut add = |kind: &str, options: &[(&str, &str)], target: &str, attributes, keep| {
        steps.push(instance(kind, options, root, target, attributes, keep));
    };
    add("proc", &[], "/proc", sealed, Some(proc));
    add("sysfs", &[], "/sys", sealed_ro, Some(sys));
    if layout.cgroup_tree {
        add("cgroup2", &[], "/sys/fs/cgroup", sealed_ro, None);
    }
    let tty = tty.to_string();
    let shm = [("mode", "1777"), ("size", "64m")];
    let pts = [
        ("mode", "0620"),
        ("ptmxmode", "0666"),
        ("gid", tty.as_str()),
    ];
    steps.push(Step::Mount {
        source: Source::Path("/t/dev".to_owned()),
        root,
        target: "/dev".to_owned(),
        directory: true,
        attributes: Attributes {
            no_devices: false,
            ..sealed_ro
        },
        users: layout.users.map(|users| users.namespace),
        keep: None,
        asked: false,
    });
    steps.extend([
        instance("devpts", &pts, root, "/dev/pts", devices, None),
        instance("tmpfs", &shm, root, "/dev/shm", sealed, None),
        instance("mqueue", &[], root, "/dev/mqueue", sealed, None),
    ]);
}

/// A new instance of a file system.
fn instance(
    kind: &str,
    options: &[(&str, &str)],
    root: Slot,
    target: &str,
    attributes: Attributes,
    keep: Option<Slot>,
) -> Step {
    let options = options
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
        .collect();
    Step::Mount {
        source: Source::New {
            kind: kind.to_owned(),
            options,
        },
        root,
        target: target.to_owned(),
        directory: true,
        attributes,
        users: None,
        keep,
        asked: false,
    }
}

/// Hides and protects parts of `/proc` and `/sys`.
fn protect(proc: Slot, sys: Slot, steps: &mut Vec<Step>) {
    steps.extend(MASKED_IN_PROC.map(|path| Step::Mask {
        inside: proc,
        path: path.to_owned(),
    }));
    steps.extend(MASKED_IN_SYS.map(|path| Step::Mask {
        inside: sys,
        path: path.to_owned(),
    }));
    steps.extend(READ_ONLY_IN_PROC.map(|path| Step::ReadOnly {
        inside: proc,
        path: path.to_owned(),
    }));
}

/// What the second process does until it is the program.
pub fn program(spec: &ContainerSpec, layout: &Layout) -> Vec<Step> {
    let process = &spec.process;
    let env = environment(spec, layout);
    let files = spec.limits.files;
    let hard = files.unwrap_or(layout.files_hard).min(layout.files_hard);
    let soft = if files.is_some() {
        hard
    } else {
        hard.min(FILES_SOFT)
    };
    vec![
        Step::NewSession,
        Step::Umask(0o022),
        Step::Standard {
            out: layout.out,
            err: layout.err,
        },
        Step::LimitFiles { soft, hard },
        Step::ChangeDirectory(process.workdir.clone()),
        Step::Become {
            uid: process.uid,
            gid: process.gid,
            groups: process.groups.clone(),
        },
        Step::HoldCapabilities(if process.uid == 0 {
            capabilities::DEFAULT
        } else {
            0
        }),
        Step::CloseDescriptors,
        Step::DefaultSignals,
        Step::Filter,
        Step::Execute {
            candidates: candidates(&process.argv, &env),
            argv: process.argv.clone(),
            env: env
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        },
    ]
}

/// The specification's environment, then what the host adds where that has no such name, then a PATH.
fn environment(spec: &ContainerSpec, layout: &Layout) -> Vec<(String, String)> {
    let mut env = spec.process.env.clone();
    let path = ("PATH".to_owned(), PATH.to_owned());
    for (name, value) in layout.env.iter().chain([&path]) {
        if !env.iter().any(|(known, _)| known == name) {
            env.push((name.clone(), value.clone()));
        }
    }
    env
}

/// Where a program may be: as `execvp` looks, but with the container's own PATH.
fn candidates(argv: &[String], env: &[(String, String)]) -> Vec<String> {
    let name = argv.first().map_or("", String::as_str);
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    // The last one counts, as it does for a program that reads its environment into a table.
    let path = env
        .iter()
        .rev()
        .find(|(name, _)| name == "PATH")
        .map_or(PATH, |(_, path)| path);
    path.split(':')
        .map(|directory| if directory.is_empty() { "." } else { directory })
        .map(|directory| format!("{directory}/{name}"))
        .collect()
}
