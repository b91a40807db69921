//! What an executor is asked to run, and what it answers: the only types that the executor shares
//! with the rest. May not: name an image, a registry or a run; an executor knows directories only.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything that one container needs. All of it is decided before; an executor chooses nothing
/// but host ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The container's name: 1 to 128 letters, digits, `-`, `_`, `.`; unique while it is known.
    pub id: String,
    /// Unpacked layers on this host, the lowest first; none is written to. Whiteouts in them are
    /// 0/0 character devices, opaque directories carry both `trusted.overlay.opaque` and
    /// `user.overlay.opaque`.
    pub layers: Vec<PathBuf>,
    /// Where the container's writable layer lives.
    pub writable: Writable,
    /// The program.
    pub process: Process,
    /// The name that `hostname` gives inside.
    pub hostname: String,
    /// Which network it sees.
    pub network: Network,
    /// Directories and files of the host that it sees besides its root.
    pub mounts: Vec<Mount>,
    /// What it may use at most.
    pub limits: Limits,
    /// When it must have ended, in milliseconds after its start.
    pub timeout_ms: u64,
    /// Time between SIGTERM and SIGKILL once the timeout came, in milliseconds.
    pub grace_ms: u64,
    /// The file that gets standard output and error (see [`crate::log`]); it is made by the executor.
    pub log: PathBuf,
    /// How long it may run without a renewal, in milliseconds; none: it needs no lease.
    pub lease_ms: Option<u64>,
}

/// Where a container's changes to its root go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Writable {
    /// Into memory, counted against the memory limit; discarded at the end.
    Memory,
    /// Into a new directory that the executor makes on disk and discards at the end.
    Disk,
    /// Into this directory, which must be empty or absent and on disk, and stays after the end as a
    /// layer: owners as seen inside the container, whiteouts as in [`ContainerSpec::layers`].
    Keep {
        /// The directory.
        directory: PathBuf,
    },
}

/// The program in a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments; a program without `/` is looked up in the environment's PATH, inside.
    pub argv: Vec<String>,
    /// `NAME=VALUE` pairs, in order; exactly these (and what [`Network::Host`] adds).
    pub env: Vec<(String, String)>,
    /// The working directory, absolute; made if it is missing.
    pub workdir: String,
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Further group ids inside.
    pub groups: Vec<u32>,
}

/// Which network a container sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// A loopback interface of its own, and nothing else.
    None,
    /// The host's network, with its resolv.conf, proxy variables and trusted certificates.
    Host,
}

/// One directory or file of the host in a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host; must exist.
    pub source: PathBuf,
    /// Inside, absolute; made if it is missing.
    pub target: String,
    /// Whether the container may write there.
    pub writable: bool,
}

/// What a container may use at most. `None`: no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Limits {
    /// Processor time, in thousandths of one processor.
    pub cpu_millis: Option<u64>,
    /// Memory in bytes, page cache and [`Writable::Memory`] included; swap is off.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at once.
    pub processes: Option<u64>,
    /// Bytes in the writable layer.
    pub disk_bytes: Option<u64>,
    /// Open files of each process.
    pub files: Option<u64>,
    /// Bytes of standard output and error that are kept; the middle is dropped.
    pub output_bytes: u64,
}

/// How a container ended, as its executor saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Ending {
    /// Its program ended by itself.
    Exited {
        /// Exit status, 0 to 255.
        code: i32,
    },
    /// A signal that Regatta did not send ended its program.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// The timeout ended it.
    TimedOut,
    /// The kernel ended a process of it for the memory limit, and the program did not exit with 0.
    OutOfMemory,
    /// It was stopped on request.
    Stopped,
    /// Its lease ran out.
    LeaseEnded,
    /// It never started: the container's own doing (no such program, no such directory, ...).
    CannotStart {
        /// What was tried, and the error.
        message: String,
    },
    /// It never started: the host's doing (a mount, a cgroup, no memory, ...).
    HostFault {
        /// What was tried, and the error.
        message: String,
    },
    /// The executor that ran it ended; the next one ended it.
    ExecutorLost,
}

/// A container's end and what it used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Which container.
    pub id: String,
    /// How.
    pub ending: Ending,
    /// From the order to the start of the program, in microseconds.
    pub start_us: u64,
    /// From the start of the program to its end, in milliseconds.
    pub wall_ms: u64,
    /// Processor time of all its processes, in microseconds.
    pub cpu_us: u64,
    /// Most memory it held at once, in bytes; 0 where the kernel does not tell.
    pub peak_memory_bytes: u64,
    /// How many of its processes the kernel ended for the memory limit.
    pub oom_kills: u64,
    /// Bytes of output that it wrote in all.
    pub output_bytes: u64,
    /// Bytes of output that were dropped from the middle.
    pub output_dropped: u64,
    /// Paths changed in its writable layer outside `/tmp`, `/var/tmp`, `/run` and its mounts, sorted; at most
    /// [`CHANGED_MOST`].
    pub changed: Vec<String>,
    /// Whether more paths changed than `changed` lists.
    pub changed_more: bool,
}

/// How many changed paths an outcome lists.
pub const CHANGED_MOST: usize = 200;

/// A container that an executor knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Which container.
    pub id: String,
    /// Its end, once it came; kept until [`Request::Forget`].
    pub ended: Option<Ended>,
}

/// What an executor's socket takes. Each message is a little-endian u32 length and that many bytes of
/// JSON, at most [`MESSAGE_MOST`]; a request carries a number that its answer repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Request {
    /// Who are you? Also makes this connection hear [`Message::Ended`] of every container.
    Hello,
    /// Make this container and start it.
    Start {
        /// What to run.
        spec: Box<ContainerSpec>,
    },
    /// End a container, as its timeout would, without grace.
    Stop {
        /// Which.
        id: String,
    },
    /// Send a signal to a container's program.
    Signal {
        /// Which.
        id: String,
        /// The signal's number.
        signal: i32,
    },
    /// Let these run for so long from now on; containers with a lease that are not named end when
    /// theirs does.
    Renew {
        /// Which.
        ids: Vec<String>,
        /// Milliseconds from now.
        lease_ms: u64,
    },
    /// Tell of every container, running or ended and not yet forgotten.
    List,
    /// An ended container's outcome was taken: drop it.
    Forget {
        /// Which.
        id: String,
    },
    /// End every container, then the executor itself.
    Shutdown,
}

/// A numbered request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// Chosen by the asker; the answer repeats it.
    pub number: u64,
    /// The request or the answer.
    #[serde(flatten)]
    pub body: T,
}

/// What an executor's socket says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "say")]
pub enum Message {
    /// To [`Request::Hello`].
    Hello {
        /// Version of the executor's program.
        version: String,
        /// Which life of the executor this is: its start, in nanoseconds since 1970, and so larger each time.
        incarnation: u64,
        /// Process id.
        pid: u32,
        /// What this host's kernel gives, one line each, for `regatta doctor` and host facts.
        features: Vec<String>,
        /// Connections to it, this one included.
        #[serde(default)]
        clients: u64,
    },
    /// Done.
    Done {},
    /// To [`Request::List`].
    Containers {
        /// Sorted by id.
        containers: Vec<Status>,
    },
    /// Not done: the request was wrong. The sentence says why and what to do.
    Refused {
        /// For a person.
        message: String,
    },
    /// A container ended; not an answer (its number is 0).
    Ended(Ended),
}

/// Longest message on an executor's socket, in bytes.
pub const MESSAGE_MOST: usize = 4 << 20;
