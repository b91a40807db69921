//! A cell made ready to run: every template filled in, every reference a digest. What a server hands
//! to an agent. May not: hold a name that could mean something else tomorrow.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::container::{Limits, Network};

/// Most shards of a cell.
pub const SHARDS_MOST: u32 = 64;

/// Longest plan of shards, in bytes; the shortest cases are left out of a longer one.
pub const SHARD_PLAN_BYTES_MOST: usize = 16 << 20;

/// All that one attempt is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AttemptPlan {
    /// The cell's axis values.
    pub axes: BTreeMap<String, String>,
    /// Digest of the image's manifest, in the server's store.
    pub image: Digest,
    /// Files copied in before set-up, in order.
    pub files: Vec<FilePlan>,
    /// What becomes a layer that cells with the same set-up share.
    pub setup: Option<StepPlan>,
    /// The test.
    pub test: StepPlan,
    /// Volumes of the host.
    pub volumes: Vec<VolumePlan>,
    /// What set-up and test may use.
    pub limits: Limits,
    /// Globs of result files, below the results directory.
    pub results: Vec<String>,
    /// Globs of artifacts, below the artifacts directory.
    pub artifacts: Vec<String>,
    /// When the container's writable layer is kept as an image.
    pub keep: Keep,
    /// Which of the cell's tests it runs; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
}

/// One of several parts of a cell's tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Shard {
    /// Which one, from 0.
    pub index: u32,
    /// How many there are: 2 to [`SHARDS_MOST`].
    pub total: u32,
    /// The blob that says which shard runs which case, one a line: its name, a tab, and the shard from 0. What is not in it
    /// is split as the test likes. None: nothing is known of the cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Digest>,
}

/// What a plan of shards names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShardUnit {
    /// Cases, by their names in reports.
    #[default]
    Case,
    /// What stands before the first `::` of a case's name: a package of Go, all of whose tests one process runs. Of its tests,
    /// those with a `/` are parts of others, and their time of the others'.
    Package,
    /// The same: a file, all of whose tests run one after the other.
    File,
}

/// Version of how a set-up layer is made.
const SETUP_FORMAT: u32 = 1;

/// What a set-up layer is made from.
#[derive(Serialize)]
struct SetupKey<'a> {
    format: u32,
    image: Digest,
    files: &'a [FilePlan],
    argv: Vec<String>,
    env: &'a BTreeMap<String, String>,
    user: Option<&'a str>,
    workdir: Option<&'a str>,
    network: Network,
}

impl AttemptPlan {
    /// The key of its set-up layer; none where it has no set-up. Limits and timeout are not in it: they do not change
    /// what it makes.
    pub fn setup_key(&self) -> Option<Digest> {
        let step = self.setup.as_ref()?;
        Some(Digest::of_canonical(&SetupKey {
            format: SETUP_FORMAT,
            image: self.image,
            files: &self.files,
            argv: step.run.argv(),
            env: &step.env,
            user: step.user.as_deref(),
            workdir: step.workdir.as_deref(),
            network: step.network,
        }))
    }
}

/// Files to copy in: a tar archive, kept as a blob.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FilePlan {
    /// Digest of the uncompressed tar; its names are relative to `to`.
    pub blob: Digest,
    /// The absolute directory inside.
    pub to: String,
}

/// A command in a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StepPlan {
    /// What to run.
    pub run: Command,
    /// Added to the image's environment.
    pub env: BTreeMap<String, String>,
    /// Name or `uid[:gid]`; none: the image's.
    pub user: Option<String>,
    /// None: the image's.
    pub workdir: Option<String>,
    /// Milliseconds.
    pub timeout_ms: u64,
    /// Which network.
    pub network: Network,
}

/// A command as the matrix gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Command {
    /// Run by `/bin/sh -ec`.
    Shell(String),
    /// Executed as it is.
    Exec(Vec<String>),
}

impl Command {
    /// Program and arguments.
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Shell(text) => vec!["/bin/sh".into(), "-ec".into(), text.clone()],
            Self::Exec(argv) => argv.clone(),
        }
    }
}

/// A volume in a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VolumePlan {
    /// Its name on the host: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Where it is mounted, absolute.
    pub at: String,
    /// Whether the container may write to it.
    pub writable: bool,
}

/// When a container's writable layer is kept as an image.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Never.
    #[default]
    Never,
    /// When the attempt did not pass.
    OnFailure,
}
