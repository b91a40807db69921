//! The identity of an attempt: the digest of all that defines it. Two attempts with the same identity
//! were offered the same container. May not: hold anything that differs between equal attempts (their ids,
//! the host, times).
//!
//! The canonical form is the canonical JSON (sorted keys, no white space) of [`Identity`], and the identity
//! its SHA-256. A field may be added only together with a new [`FORMAT`], or left out where it says nothing, so that what it
//! says nothing of keeps its identity.

use std::collections::BTreeMap;

use regatta_model::Digest;
use regatta_model::container::{ContainerSpec, Limits, Network};
use regatta_model::plan::{AttemptPlan, FilePlan, VolumePlan};
use serde::Serialize;

/// Version of the canonical form and of what the executor makes of an order.
pub const FORMAT: u32 = 1;

/// The seccomp profile that every container gets: Docker's default in effect, as of this version.
pub const SECCOMP: &str = "regatta-default-1";

/// All that defines an attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Identity<'a> {
    /// [`FORMAT`].
    pub format: u32,
    /// Digest of the image's manifest.
    pub image: Digest,
    /// What was copied in, in order.
    pub files: &'a [FilePlan],
    /// Digest of the set-up layer's contents (names, kinds, modes, owners, bytes; not times).
    pub setup: Option<Digest>,
    /// Program and arguments.
    pub argv: &'a [String],
    /// The whole environment but for what names the attempt itself (`REGATTA_RUN`, `REGATTA_CELL`,
    /// `REGATTA_ATTEMPT`).
    pub env: BTreeMap<&'a str, &'a str>,
    /// Working directory.
    pub workdir: &'a str,
    /// User, group and further groups.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// See `uid`.
    pub groups: &'a [u32],
    /// The name of the container's host.
    pub hostname: &'a str,
    /// What it may use.
    pub limits: Limits,
    /// Milliseconds.
    pub timeout_ms: u64,
    /// Its network.
    pub network: Network,
    /// Volumes by name, place and mode; what they hold changes.
    pub volumes: &'a [VolumePlan],
    /// [`SECCOMP`].
    pub seccomp: &'static str,
    /// The plan that says which shard runs which case; left out where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<Digest>,
}

/// Variables that differ between equal attempts.
const ITS_OWN: [&str; 3] = ["REGATTA_RUN", "REGATTA_CELL", "REGATTA_ATTEMPT"];

impl<'a> Identity<'a> {
    /// The identity of the container that `spec` orders for `plan`, on a set-up layer with these contents.
    pub fn new(plan: &'a AttemptPlan, spec: &'a ContainerSpec, setup: Option<Digest>) -> Self {
        let env = spec
            .process
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        Self {
            format: FORMAT,
            image: plan.image,
            files: &plan.files,
            setup,
            argv: &spec.process.argv,
            env: env.filter(|(name, _)| !ITS_OWN.contains(name)).collect(),
            workdir: &spec.process.workdir,
            uid: spec.process.uid,
            gid: spec.process.gid,
            groups: &spec.process.groups,
            hostname: &spec.hostname,
            limits: spec.limits,
            timeout_ms: spec.timeout_ms,
            network: spec.network,
            volumes: &plan.volumes,
            seccomp: SECCOMP,
            shards: plan.shard.and_then(|shard| shard.plan),
        }
    }

    /// The digest of the canonical form.
    pub fn digest(&self) -> Digest {
        Digest::of_canonical(self)
    }
}
