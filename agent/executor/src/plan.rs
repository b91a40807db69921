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
    /// Whether its owners are mapped; else they are host ids.
    pub writable_mapped: bool,
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
    steps.push(Step::AttachTree {
        tree: layout.writable,
        users: namespace.filter(|_| layout.writable_mapped),
        at: "/u".to_owned(),
    });
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use regatta_model::container::{Limits, Process, Writable};

    use super::*;

    fn spec(network: Network) -> ContainerSpec {
        ContainerSpec {
            id: "one".to_owned(),
            layers: vec![PathBuf::from("/images/a"), PathBuf::from("/images/b")],
            writable: Writable::Memory,
            process: Process {
                argv: vec!["pytest".to_owned(), "-q".to_owned()],
                env: vec![("PATH".to_owned(), "/opt/bin:/bin".to_owned())],
                workdir: "/src".to_owned(),
                uid: 1000,
                gid: 1000,
                groups: vec![20],
            },
            hostname: "cell-7".to_owned(),
            network,
            mounts: Vec::new(),
            limits: Limits {
                files: Some(256),
                ..Limits::default()
            },
            timeout_ms: 1_000,
            grace_ms: 100,
            log: PathBuf::from("/log"),
            lease_ms: None,
        }
    }

    fn layout(users: Option<Users>) -> Layout {
        Layout {
            out: Slot(1),
            err: Slot(2),
            users,
            tasks: vec![Slot(4)],
            cgroup_tree: false,
            layers: vec![Slot(5), Slot(6), Slot(7)],
            writable_mapped: false,
            writable: Slot(8),
            upper: "upper".to_owned(),
            work: "work".to_owned(),
            volatile: true,
            extra: None,
            placed: vec![Placed {
                source: Source::Tree(Slot(9)),
                target: "/results".to_owned(),
                directory: true,
                writable: false,
                map: true,
                asked: true,
            }],
            files_hard: 4_096,
            env: vec![("http_proxy".to_owned(), "http://proxy:3128".to_owned())],
            free: Slot(10),
        }
    }

    fn printed(steps: &[Step]) -> Vec<String> {
        steps.iter().map(Step::to_string).collect()
    }

    const USERS: Option<Users> = Some(Users {
        namespace: Slot(3),
        first: 5_000_000,
    });

    #[test]
    fn the_set_up_of_an_isolated_container_is_this() {
        let steps = setup(&spec(Network::None), &layout(USERS));
        let expected = "\
join the cgroup of #4
make a cgroup namespace
attach tree #5 at the zygote's /l/0 with owners mapped by #3
attach tree #6 at the zygote's /l/1 with owners mapped by #3
attach tree #7 at the zygote's /l/2 with owners mapped by #3
attach tree #8 at the zygote's /u
make files as host ids 5000000:5000000
mount overlay at the zygote's /r from /l with lowerdir=0:1:2,upperdir=/u/upper,workdir=/u/work,redirect_dir=off,index=off,metacopy=off,volatile
open the root at /r as #10
mount new proc at /proc (nosuid,nodev,noexec)
mount new sysfs at /sys (ro,nosuid,nodev,noexec)
mount zygote's /t/dev at /dev (ro,nosuid,noexec) with owners mapped by #3
mount new devpts mode=0620 ptmxmode=0666 gid=5000005 at /dev/pts (nosuid,noexec)
mount new tmpfs mode=1777 size=64m at /dev/shm (nosuid,nodev,noexec)
mount new mqueue at /dev/mqueue (nosuid,nodev,noexec)
set oom_score_adj to 500
mount tree #9 at /results (ro,nosuid,nodev) with owners mapped by #3
bring up the loopback interface
write \"0\" to /proc/sys/net/ipv4/ip_unprivileged_port_start
write \"0 2147483647\" to /proc/sys/net/ipv4/ping_group_range
hide acpi of #11
hide asound of #11
hide interrupts of #11
hide kcore of #11
hide keys of #11
hide latency_stats of #11
hide sched_debug of #11
hide scsi of #11
hide timer_list of #11
hide timer_stats of #11
hide devices/virtual/powercap of #12
hide firmware of #12
make bus of #11 read-only
make fs of #11 read-only
make irq of #11 read-only
make sys of #11 read-only
make sysrq-trigger of #11 read-only
set the host name \"cell-7\"
pivot into #10
enter the user namespace #3
become user 0, group 0, further groups []
make the directory \"/src\"
make a session keyring
forbid core files
bound capabilities to 0xa80425fb
hold capabilities 0xa80425fb
set no_new_privs
tie this process to its executor";
        assert_eq!(printed(&steps).join("\n"), expected);
    }

    #[test]
    fn the_program_is_reached_by_these_steps() {
        let steps = program(&spec(Network::None), &layout(USERS));
        let expected = "\
make a session
set umask 022
join standard output to #1 and error to #2
limit open files to 256, 256
change to the directory \"/src\"
become user 1000, group 1000, further groups [20]
hold capabilities 0x0
close descriptors
reset signals
load the seccomp filter
execute \"pytest\", looked for as /opt/bin/pytest, /bin/pytest";
        assert_eq!(printed(&steps).join("\n"), expected);
        let Some(Step::Execute { env, .. }) = steps.last() else {
            panic!("{steps:?}")
        };
        assert_eq!(env, &["PATH=/opt/bin:/bin", "http_proxy=http://proxy:3128"]);
    }

    #[test]
    fn with_the_hosts_network_nothing_of_it_is_set_up() {
        let steps = printed(&setup(&spec(Network::Host), &layout(USERS))).join("\n");
        assert!(
            !steps.contains("loopback") && !steps.contains("ip_unprivileged"),
            "{steps}"
        );
    }

    #[test]
    fn without_user_namespaces_no_owner_is_mapped() {
        let steps = printed(&setup(&spec(Network::None), &layout(None))).join("\n");
        assert!(
            !steps.contains("mapped") && !steps.contains("user namespace"),
            "{steps}"
        );
        assert!(
            steps.contains("gid=5 ") && steps.contains("bound capabilities"),
            "{steps}"
        );
    }

    #[test]
    fn root_is_made_before_it_is_left_and_privileges_go_before_the_filter() {
        let layout = layout(USERS);
        let all: Vec<Step> = setup(&spec(Network::None), &layout)
            .into_iter()
            .chain(program(&spec(Network::None), &layout))
            .collect();
        let at = |wanted: fn(&Step) -> bool| all.iter().position(wanted).unwrap();
        let pivot = at(|step| matches!(step, Step::Pivot { .. }));
        assert!(
            all[pivot..]
                .iter()
                .all(|step| !matches!(step, Step::Mount { .. }))
        );
        assert!(pivot < at(|step| matches!(step, Step::EnterUsers { .. })));
        assert!(at(|step| *step == Step::NoNewPrivileges) < at(|step| *step == Step::Filter));
        assert!(matches!(
            all[all.len() - 2..],
            [Step::Filter, Step::Execute { .. }]
        ));
    }
}
