//! What an agent remembers of an attempt on disk, so that the next process can go on with its container. May not:
//! hold an outcome (that is the outbox) or be trusted: a record that cannot be read is no record.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use regatta_model::plan::AttemptPlan;
use regatta_model::{AttemptId, Digest, Incarnation};
use serde::{Deserialize, Serialize};

use crate::Layout;
use crate::layout::attempt_name;

/// Longest record that is read, in bytes.
const RECORD_MOST: u64 = 16 << 20;

/// One attempt that was about to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Which.
    pub attempt: AttemptId,
    /// The generation of its assignment.
    pub generation: u64,
    /// The life of the executor that was to run it.
    pub incarnation: Incarnation,
    /// From its assignment until it was ready, in milliseconds.
    pub queue_ms: u64,
    /// The digest of all that defines it.
    pub identity: Digest,
    /// The layers beyond the image's, as directories; they must not be removed while it runs.
    pub made_layers: Vec<PathBuf>,
    /// What it runs.
    pub plan: AttemptPlan,
}

/// The directories of one attempt.
#[derive(Clone, Debug)]
pub struct Places {
    /// Its directory.
    pub directory: PathBuf,
    /// Its record.
    pub record: PathBuf,
    /// Where its results are written.
    pub results: PathBuf,
    /// Where its artifacts are written.
    pub artifacts: PathBuf,
    /// Its output.
    pub log: PathBuf,
    /// Its output, compressed.
    pub packed_log: PathBuf,
    /// The plan of its shards, as the container sees it.
    pub shards: PathBuf,
    /// Its writable layer, where it is to be kept.
    pub upper: PathBuf,
    /// Says that `upper` stays after the acknowledgement.
    pub kept: PathBuf,
}

impl Places {
    /// The places of an attempt.
    pub fn new(layout: &Layout, attempt: &AttemptId) -> Self {
        Self::within(layout.attempt(attempt))
    }

    /// The places in an attempt's directory.
    pub fn within(directory: PathBuf) -> Self {
        Self {
            record: directory.join("plan.json"),
            results: directory.join("results"),
            artifacts: directory.join("artifacts"),
            log: directory.join("log"),
            packed_log: directory.join("log.zst"),
            shards: directory.join("shards.tsv"),
            upper: directory.join("upper"),
            kept: directory.join("kept"),
            directory,
        }
    }

    /// Makes the directories anew, and writes the record last.
    pub fn make(&self, record: &Record) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;

        if fs::create_dir(&self.directory).is_err() {
            // An earlier try of the same attempt, or one of an earlier agent.
            fs::remove_dir_all(&self.directory)?;
            fs::create_dir(&self.directory)?;
        }
        for shared in [&self.results, &self.artifacts] {
            fs::create_dir(shared)?;
            // Whatever user the test runs as may write there; only this agent reaches it from outside.
            fs::set_permissions(shared, fs::Permissions::from_mode(0o777))?;
        }
        fs::write(&self.record, serde_json::to_vec(record)?)
    }

    /// Removes everything but a writable layer that is kept.
    pub fn clear(&self) -> io::Result<()> {
        if !self.kept.exists() {
            return match fs::remove_dir_all(&self.directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        for directory in [&self.results, &self.artifacts] {
            fs::remove_dir_all(directory)?;
        }
        for file in [&self.log, &self.packed_log, &self.shards] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The record in an attempt's directory, if it is whole and stands where it belongs.
pub fn read(directory: &Path) -> Option<Record> {
    let path = directory.join("plan.json");
    if fs::metadata(&path).ok()?.len() > RECORD_MOST {
        return None;
    }
    let record: Record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let named = directory.file_name()?.to_str()? == attempt_name(&record.attempt);
    named.then_some(record)
}

/// The last attempt of a cell whose writable layer was kept on this host, and that layer's directory. A cell in shards is
/// named by its first one's number, and each shard by its own.
pub fn kept(layout: &Layout, run: &str, cell: u64) -> Option<(Record, PathBuf)> {
    let entries = fs::read_dir(layout.attempts()).ok()?;
    let kept = entries.flatten().filter_map(|entry| {
        let places = Places::within(entry.path());
        let record = read(&places.directory)?;
        let own = record.attempt.cell;
        let shard = record.plan.shard.map_or(0, |shard| shard.index.into());
        let meant = own == cell || own.checked_sub(shard) == Some(cell);
        let wanted = meant && record.attempt.run.as_str() == run;
        (wanted && places.kept.exists()).then_some((record, places.upper))
    });
    kept.max_by_key(|(record, _)| record.attempt.ordinal)
}

/// A container's name for an attempt.
pub fn container_id(attempt: &AttemptId) -> String {
    format!("a-{}", attempt_name(attempt))
}
