//! How big is a writable layer on disk? Where the file system has no quotas for directories, looking now and
//! then is all that can be done. May not: take longer for a bigger layer than its bound.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Entries that are looked at; a layer with more is let be until its file count is the smaller trouble.
const ENTRIES_MOST: usize = 20_000;
/// Bytes of one block of `st_blocks`.
const BLOCK: u64 = 512;

/// Whether the files below a directory take more than `most` bytes on disk.
///
/// It follows no symbolic link and counts at most [`ENTRIES_MOST`] entries, so that a loop that asks stays
/// quick.
pub(crate) fn exceeds(directory: &Path, most: u64) -> bool {
    let mut waiting = vec![directory.to_owned()];
    let mut bytes = 0_u64;
    let mut seen = 0;
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            seen += 1;
            if seen > ENTRIES_MOST {
                return false;
            }
            // Of the entry itself, not of what a link names.
            let Ok(data) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(data.blocks().saturating_mul(BLOCK));
            if bytes > most {
                return true;
            }
            if data.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_as_big_as_its_files() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("below")).unwrap();
        fs::write(scratch.path().join("below/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", scratch.path().join("link")).unwrap();
        assert!(exceeds(scratch.path(), 90_000));
        assert!(!exceeds(scratch.path(), 200_000));
    }
}
