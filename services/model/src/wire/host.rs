//! What an agent says of its host. May not: say what the host holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Resources};

/// What a host is. Recorded beside outcomes; it enters no identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostFacts {
    /// Kernel release.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// CPUs that it may use.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Version of Regatta.
    pub version: String,
    /// What labels it carries; `arch` is always among them.
    pub labels: BTreeMap<String, String>,
    /// Bytes free where its data lives.
    pub disk_free_bytes: u64,
    /// How it is now.
    #[serde(default)]
    pub observed: Observed,
    /// Images (by manifest) and set-up layers (by key) that it has, the last used first; [`READY_MOST`] of each at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<Digest>,
}

/// Most images, and most set-up layers, that a host tells that it has.
pub const READY_MOST: usize = 64;

/// How a host is, as its agent sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Observed {
    /// Files that can still be made where its data lives; none where the file system does not count them.
    pub nodes_free: Option<u64>,
    /// How much of the last ten seconds tasks stood still.
    pub pressure: Pressure,
    /// What keeps it from working, a sentence each; while there is any, it gets nothing new.
    pub lacks: Vec<String>,
    /// What became of its canaries; none where it runs none (an older agent, an architecture without one).
    pub canaries: Option<Canaries>,
    /// What its kernel complained of since its agent started; none where the kernel's log cannot be read.
    pub kernel: Option<Kernel>,
}

/// Canaries of a host: small containers whose answer is known, run by the agent as it runs attempts. Counted from the
/// start of the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Canaries {
    /// Those that gave the right answer.
    pub passed: u64,
    /// Those that did not.
    pub failed: u64,
    /// What was wrong with the last one that failed, in a sentence; empty where none did.
    pub failure: String,
}

/// What a host's kernel wrote into its log since the agent started, counted by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Kernel {
    /// Tasks that stood still for long.
    pub hung_tasks: u64,
    /// Faults of processors, memory and buses.
    pub machine_checks: u64,
    /// Reads and writes that a disk refused.
    pub io_errors: u64,
    /// Processes that were ended because the whole host had no memory left; a container's own limit does not count.
    pub out_of_memory: u64,
    /// The last such line, cut to [`KERNEL_LINE_MOST`]; empty where there was none.
    pub last: String,
}

/// Longest line of a kernel's log that is told, in bytes.
pub const KERNEL_LINE_MOST: usize = 200;

/// Time in which some task of a host waited, of the last ten seconds, in a thousandth; none where its kernel does not
/// tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Pressure {
    /// For a processor.
    pub cpu: Option<u32>,
    /// For memory.
    pub memory: Option<u32>,
    /// For a disk.
    pub io: Option<u32>,
}

impl HostFacts {
    /// The processors and the memory that attempts can have.
    pub fn resources(&self) -> Resources {
        Resources {
            cpu_millis: u64::from(self.cpus) * 1000,
            memory_bytes: self.memory_bytes,
        }
    }
}
