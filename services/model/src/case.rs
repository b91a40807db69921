//! Test cases and their results, as an agent read them from an attempt's files. May not: parse them
//! (that is `verdict::results`).

use serde::{Deserialize, Serialize};

use crate::Digest;

/// How a case ended.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CaseStatus {
    /// It passed.
    Passed,
    /// An assertion of it failed.
    Failed,
    /// Something outside its assertions failed (JUnit's `<error>`); counts as failed.
    Error,
    /// It did not run.
    Skipped,
    /// It failed and then passed within one attempt (Surefire's reruns, nextest's retries).
    Flaky,
    /// It failed, as the matrix says that it is known to. Agents do not say so; the server does.
    Known,
}

impl CaseStatus {
    /// Whether the case counts as failed.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Error)
    }
}

/// A case that did not simply pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CaseException {
    /// Index into the names of the case set.
    pub index: u32,
    /// How it ended: never [`CaseStatus::Passed`].
    pub status: CaseStatus,
    /// The decisive lines, cut to [`MESSAGE_MOST`] bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Longest message kept of a failing case, in bytes.
pub const MESSAGE_MOST: usize = 2048;

/// Most exceptions that carry a message; further ones keep only their status.
pub const MESSAGES_MOST: usize = 500;

/// The results of one attempt. The names are the same for most attempts of a run, so they stand apart
/// and are stored once per distinct set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Results {
    /// Names of all cases, sorted, each once; a duplicate within one attempt got `#2`, ...
    pub names: Vec<String>,
    /// Those that did not simply pass, by index.
    pub exceptions: Vec<CaseException>,
    /// Whether any results file was found.
    pub found: bool,
    /// What could not be read, one sentence each: file, place, reason. Not empty: the results are not whole.
    pub problems: Vec<String>,
    /// How long each case took, in the order of the names, as [`crate::lasted`] writes it; empty where nobody said, or
    /// where nobody needs to know: only shards are balanced by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub durations: Vec<u8>,
}

impl Results {
    /// The digest of the set of names.
    pub fn set(&self) -> Digest {
        Digest::of_canonical(&self.names)
    }

    /// How many cases ended as `status`.
    pub fn count(&self, status: CaseStatus) -> u64 {
        let exceptions = self
            .exceptions
            .iter()
            .filter(|e| e.status == status)
            .count();
        let count = match status {
            CaseStatus::Passed => self.names.len().saturating_sub(self.exceptions.len()),
            _ => exceptions,
        };
        count.try_into().unwrap_or(u64::MAX)
    }

    /// The same, with the digest in place of the names.
    pub fn by_digest(&self, set: NamedSet) -> ToldResults {
        self.told(ToldNames::Set(set))
    }

    fn told(&self, names: ToldNames) -> ToldResults {
        ToldResults {
            names,
            exceptions: self.exceptions.clone(),
            found: self.found,
            problems: self.problems.clone(),
            durations: self.durations.clone(),
        }
    }

    /// The digest of the set of names, and how many there are.
    pub fn named_set(&self) -> NamedSet {
        NamedSet {
            set: self.set(),
            cases: u32::try_from(self.names.len()).unwrap_or(u32::MAX),
        }
    }

    /// Name and exception of every case that counts as failed.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &CaseException)> {
        self.exceptions
            .iter()
            .filter(|e| e.status.is_failure())
            .filter_map(|e| {
                let index = usize::try_from(e.index).ok()?;
                Some((self.names.get(index)?.as_str(), e))
            })
    }
}

/// A set of names whose names are told elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NamedSet {
    /// [`Results::set`].
    pub set: Digest,
    /// How many names it has.
    pub cases: u32,
}

/// Names as an agent tells them. Written so that a server which knows nothing of digests finds no list and refuses the
/// whole message, rather than take an attempt for one without cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum ToldNames {
    /// All of them, as in [`Results::names`].
    Listed(Vec<String>),
    /// By the digest alone, to a server that said that this is enough.
    Set(NamedSet),
}

/// As [`Results`] without names.
impl Default for ToldNames {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// The results of one attempt, as an agent tells them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ToldResults {
    /// Names of all cases, or their digest.
    pub names: ToldNames,
    /// Those that did not simply pass, by index.
    pub exceptions: Vec<CaseException>,
    /// Whether any results file was found.
    pub found: bool,
    /// What could not be read, one sentence each: file, place, reason. Not empty: the results are not whole.
    pub problems: Vec<String>,
    /// As in [`Results::durations`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub durations: Vec<u8>,
}

impl From<&Results> for ToldResults {
    fn from(results: &Results) -> Self {
        results.told(ToldNames::Listed(results.names.clone()))
    }
}
