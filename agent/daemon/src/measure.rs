//! What an ended attempt measured, from the files that it left beside its results. May not: judge, or compare.

use std::path::Path;

use regatta_verdict::measured::{GLOBS, Limits, Measured};

use crate::collect;

/// Most files of one attempt that are looked at for measurements.
pub const MEASURED_FILES_MOST: usize = 200;

/// Most bytes of all of them.
pub const MEASURED_BYTES_MOST: u64 = 32 << 20;

/// Reads the measurements that an attempt left.
pub fn read(root: &Path) -> Measured {
    let globs = GLOBS.map(str::to_owned);
    let limits = Limits::default();
    // What is beyond the limits may be test results, whose reader tells of it.
    let (left, _) = collect::find(root, &globs, MEASURED_FILES_MOST, MEASURED_BYTES_MOST);
    let files = left.into_iter().filter_map(|left| {
        let bytes = left.read().ok()?;
        Some((left.name, bytes))
    });
    let files: Vec<(String, Vec<u8>)> = files.collect();
    regatta_verdict::measured::read(&files, &limits)
}
