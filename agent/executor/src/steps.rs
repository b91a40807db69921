//! A container's set-up as data: a list of steps, written by the executor and carried out by the
//! container's first process. May not: call the kernel. A step prints as a sentence, which is how a
//! failed one is named.

use std::fmt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// A place in the table of descriptors that a container's first process holds: first those that came with
/// its order, then those that its steps open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot(pub u16);

/// Most places in the table.
pub const SLOTS_MOST: u16 = 1024;

/// Whose doing it is when a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The container's: it asked for what its image does not have.
    Container,
    /// The host's.
    Host,
}

/// Where a mount comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Source {
    /// A detached mount.
    Tree(Slot),
    /// A copy of a part of the zygote's own mounts.
    Path(String),
    /// A new instance of a file system; options without a value are flags.
    New {
        /// Its kind, as in `/proc/filesystems`.
        kind: String,
        /// Its options.
        options: Vec<(String, Option<String>)>,
    },
}

/// Attributes of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Nothing can be written.
    pub read_only: bool,
    /// Set-user-id bits count for nothing.
    pub no_suid: bool,
    /// Device nodes cannot be opened.
    pub no_devices: bool,
    /// Nothing can be executed.
    pub no_exec: bool,
}

/// One thing that is done to a process between clone and exec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Enter a cgroup of version 1.
    JoinCgroup {
        /// Its `tasks` file, opened for writing.
        tasks: Slot,
    },
    /// Make the cgroup we are in the root of what we see.
    NewCgroupNamespace,
    /// Make new files as this owner from here on (host ids).
    FileOwner {
        /// Host user id.
        uid: u32,
        /// Host group id.
        gid: u32,
    },
    /// Attach a detached mount beneath the zygote's root, owners mapped where `users` is given.
    AttachTree {
        /// The mount.
        tree: Slot,
        /// The user namespace whose map it gets.
        users: Option<Slot>,
        /// Where.
        at: String,
    },
    /// Mount the root from its layers; names in the options are relative to `from`.
    Overlay {
        /// Working directory for the names.
        from: String,
        /// Options as mount(2) takes them, shorter than a page.
        options: String,
        /// Where.
        at: String,
    },
    /// Open the container's root, beneath which everything else is named.
    OpenRoot {
        /// Where it is mounted.
        at: String,
        /// Its place in the table.
        into: Slot,
    },
    /// Mount something inside the container's root. What is missing on the way is made.
    Mount {
        /// What.
        source: Source,
        /// The container's root.
        root: Slot,
        /// Where inside.
        target: String,
        /// Whether the target is a directory.
        directory: bool,
        /// Its attributes.
        attributes: Attributes,
        /// The user namespace whose map it gets.
        users: Option<Slot>,
        /// Keep the mount's descriptor here.
        keep: Option<Slot>,
        /// Whether the container asked for it (else Regatta did).
        asked: bool,
    },
    /// Hide a file or directory of a kernel file system, if this kernel has it.
    Mask {
        /// The file system's mount.
        inside: Slot,
        /// The path in it.
        path: String,
    },
    /// Make a part of a kernel file system read-only, if this kernel has it.
    ReadOnly {
        /// The file system's mount.
        inside: Slot,
        /// The path in it.
        path: String,
    },
    /// Bring up the loopback interface.
    LoopbackUp,
    /// Set a value of this network namespace through the container's own `/proc`.
    Sysctl {
        /// The mount of `/proc`.
        inside: Slot,
        /// Path in it.
        path: String,
        /// What to write.
        value: String,
    },
    /// Set the host name.
    Hostname(String),
    /// Score for the kernel's choice of whom to end when memory runs out, through the container's own `/proc`.
    OomScore {
        /// The mount of `/proc`.
        inside: Slot,
        /// The score.
        score: i32,
    },
    /// Make the container's root the root, and let go of all else.
    Pivot {
        /// The root.
        root: Slot,
    },
    /// Enter the container's user namespace.
    EnterUsers {
        /// The namespace.
        users: Slot,
    },
    /// Become this user.
    Become {
        /// User id inside.
        uid: u32,
        /// Group id inside.
        gid: u32,
        /// Further group ids inside.
        groups: Vec<u32>,
    },
    /// Make a directory and those above it, if they are missing, inside.
    MakeDirectory(String),
    /// A session keyring of our own.
    NewKeyring,
    /// Let no capability ever come back but these (a mask).
    BoundCapabilities(u64),
    /// Hold these capabilities (a mask) and no more.
    HoldCapabilities(u64),
    /// Be ended when the executor ends, and be no target for ptrace.
    DieWithExecutor,
    /// Nothing executed from here on gains power.
    NoNewPrivileges,
    /// Open files of a process: soft and hard limit.
    LimitFiles {
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    },
    /// No core files.
    NoCoreFiles,
    /// A session of our own, without a terminal.
    NewSession,
    /// New files get these permissions off.
    Umask(u32),
    /// Standard input from `/dev/null`, standard output and error into these.
    Standard {
        /// Standard output.
        out: Slot,
        /// Standard error.
        err: Slot,
    },
    /// Change the working directory.
    ChangeDirectory(String),
    /// Unblock all signals, with their default effects.
    DefaultSignals,
    /// Close every descriptor but the standard ones when the program is executed.
    CloseDescriptors,
    /// Load the filter of system calls.
    Filter,
    /// Execute the first of these programs that exists.
    Execute {
        /// Paths to try in order.
        candidates: Vec<String>,
        /// Arguments, the program's name first.
        argv: Vec<String>,
        /// `NAME=VALUE` each.
        env: Vec<String>,
    },
}

impl Step {
    /// Whose doing it is when this step fails with this error.
    pub fn fault(&self, error: Errno) -> Fault {
        match self {
            // What an image has where something is to be mounted is the image's own doing.
            Self::Mount { asked: false, .. } => match error {
                Errno::ELOOP
                | Errno::ENOTDIR
                | Errno::EISDIR
                | Errno::ENOENT
                | Errno::EEXIST
                | Errno::EROFS
                | Errno::EACCES => Fault::Container,
                _ => Fault::Host,
            },
            Self::Mount { .. }
            | Self::Become { .. }
            | Self::MakeDirectory(_)
            | Self::ChangeDirectory(_)
            | Self::Execute { .. } => match error {
                Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::EIO => {
                    Fault::Host
                }
                _ => Fault::Container,
            },
            _ => Fault::Host,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.read_only, "ro"),
            (self.no_suid, "nosuid"),
            (self.no_devices, "nodev"),
            (self.no_exec, "noexec"),
        ];
        let chosen: Vec<&str> = names
            .iter()
            .filter(|(chosen, _)| *chosen)
            .map(|(_, name)| *name)
            .collect();
        if chosen.is_empty() {
            write!(f, "rw")
        } else {
            write!(f, "{}", chosen.join(","))
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(slot) => write!(f, "tree {slot}"),
            Self::Path(path) => write!(f, "zygote's {path}"),
            Self::New { kind, options } => {
                write!(f, "new {kind}")?;
                for (name, value) in options {
                    match value {
                        Some(value) => write!(f, " {name}={value}")?,
                        None => write!(f, " {name}")?,
                    }
                }
                Ok(())
            }
        }
    }
}

/// " with owners mapped by #N", or nothing.
struct Mapped(Option<Slot>);

impl fmt::Display for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .map_or(Ok(()), |users| write!(f, " with owners mapped by {users}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinCgroup { tasks } => write!(f, "join the cgroup of {tasks}"),
            Self::NewCgroupNamespace => write!(f, "make a cgroup namespace"),
            Self::FileOwner { uid, gid } => write!(f, "make files as host ids {uid}:{gid}"),
            Self::AttachTree { tree, users, at } => {
                write!(
                    f,
                    "attach tree {tree} at the zygote's {at}{}",
                    Mapped(*users)
                )
            }
            Self::Overlay { from, options, at } => {
                write!(
                    f,
                    "mount overlay at the zygote's {at} from {from} with {options}"
                )
            }
            Self::OpenRoot { at, into } => write!(f, "open the root at {at} as {into}"),
            Self::Mount {
                source,
                target,
                attributes,
                users,
                ..
            } => {
                write!(
                    f,
                    "mount {source} at {target} ({attributes}){}",
                    Mapped(*users)
                )
            }
            Self::Mask { path, inside } => write!(f, "hide {path} of {inside}"),
            Self::ReadOnly { path, inside } => write!(f, "make {path} of {inside} read-only"),
            Self::LoopbackUp => write!(f, "bring up the loopback interface"),
            Self::Sysctl { path, value, .. } => write!(f, "write {value:?} to /proc/{path}"),
            Self::Hostname(name) => write!(f, "set the host name {name:?}"),
            Self::OomScore { score, .. } => write!(f, "set oom_score_adj to {score}"),
            Self::Pivot { root } => write!(f, "pivot into {root}"),
            Self::EnterUsers { users } => write!(f, "enter the user namespace {users}"),
            Self::Become { uid, gid, groups } => {
                write!(
                    f,
                    "become user {uid}, group {gid}, further groups {groups:?}"
                )
            }
            Self::MakeDirectory(path) => write!(f, "make the directory {path:?}"),
            Self::NewKeyring => write!(f, "make a session keyring"),
            Self::BoundCapabilities(mask) => write!(f, "bound capabilities to {mask:#x}"),
            Self::HoldCapabilities(mask) => write!(f, "hold capabilities {mask:#x}"),
            Self::DieWithExecutor => write!(f, "tie this process to its executor"),
            Self::NoNewPrivileges => write!(f, "set no_new_privs"),
            Self::LimitFiles { soft, hard } => write!(f, "limit open files to {soft}, {hard}"),
            Self::NoCoreFiles => write!(f, "forbid core files"),
            Self::NewSession => write!(f, "make a session"),
            Self::Umask(mask) => write!(f, "set umask {mask:03o}"),
            Self::Standard { out, err } => {
                write!(f, "join standard output to {out} and error to {err}")
            }
            Self::ChangeDirectory(path) => write!(f, "change to the directory {path:?}"),
            Self::DefaultSignals => write!(f, "reset signals"),
            Self::CloseDescriptors => write!(f, "close descriptors"),
            Self::Filter => write!(f, "load the seccomp filter"),
            Self::Execute {
                candidates, argv, ..
            } => {
                let name = argv.first().map_or("", String::as_str);
                if candidates.len() > 1 {
                    write!(
                        f,
                        "execute {name:?}, looked for as {}",
                        candidates.join(", ")
                    )
                } else {
                    write!(
                        f,
                        "execute {:?}",
                        candidates.first().map_or(name, String::as_str)
                    )
                }
            }
        }
    }
}
