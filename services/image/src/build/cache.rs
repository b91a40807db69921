//! What a step made, kept by what it was made of, so that an unchanged step is not carried out again. One
//! small file a step. May not: claim a layer that the store has no more.

use std::fs;
use std::path::PathBuf;

use regatta_model::Digest;
use serde::{Deserialize, Serialize};

use super::layer::Layer;
use crate::error::{Error, Result};
use crate::store::Store;

/// Changes when records of before cannot be used any more.
const VERSION: u32 = 1;
/// Largest record, in bytes.
const RECORD_MOST: u64 = 4 << 10;

/// What a step made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its layer; none: it changed nothing.
    pub(crate) layer: Option<Layer>,
}

/// The key of a step: all that its result depends on.
pub(crate) fn key(chain: Digest, epoch: Option<u64>, what: &serde_json::Value) -> Digest {
    Digest::of_canonical(&serde_json::json!({
        "version": VERSION, "chain": chain, "epoch": epoch, "step": what,
    }))
}

fn directory(store: &Store) -> PathBuf {
    store.directory().join("build-cache")
}

fn path(store: &Store, key: &Digest) -> PathBuf {
    directory(store).join(format!("{}.json", key.hex()))
}

/// What is known for a key; a record whose layer is gone is dropped.
pub(crate) fn find(store: &Store, key: &Digest) -> Option<Record> {
    let path = path(store, key);
    let size = fs::metadata(&path).ok()?.len();
    let record = (size <= RECORD_MOST)
        .then(|| {
            fs::read(&path)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok())
        })
        .flatten()
        .filter(|record| is_whole(store, record));
    if record.is_none() {
        // Another process may have dropped it first.
        let _ = fs::remove_file(&path);
    }
    record
}

fn is_whole(store: &Store, record: &Record) -> bool {
    record.layer.as_ref().is_none_or(|layer| {
        store
            .blob_size(&layer.digest)
            .is_ok_and(|s| s == layer.size)
    })
}

/// Remembers what a step made.
pub(crate) fn remember(store: &Store, key: &Digest, record: &Record) -> Result<()> {
    let directory = directory(store);
    fs::create_dir_all(&directory).map_err(|e| Error::at("make", &directory, e))?;
    let scratch = store.scratch()?;
    let new = scratch.path().join("record");
    let text = serde_json::to_vec(record)
        .map_err(|e| Error::malformed("a record of the build cache", e.to_string()))?;
    fs::write(&new, text).map_err(|e| Error::at("write", &new, e))?;
    // A torn record after a crash of the machine is no record; that costs one step.
    let place = path(store, key);
    fs::rename(&new, &place).map_err(|e| Error::at("write", &place, e))
}

/// Drops the records whose layers are not in the store any more; gives how many.
pub fn sweep(store: &Store) -> Result<u64> {
    let directory = directory(store);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(Error::at("list", &directory, e)),
    };
    let mut dropped = 0;
    for entry in entries {
        let path = entry.map_err(|e| Error::at("list", &directory, e))?.path();
        let hex = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        match format!("sha256:{hex}").parse() {
            Ok(key) if find(store, &key).is_some() => {}
            _ => {
                let _ = fs::remove_file(&path);
                dropped += 1;
            }
        }
    }
    Ok(dropped)
}
