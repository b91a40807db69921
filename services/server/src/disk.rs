//! Room on the disk: uploads leave enough of it for what must be recorded. May not: make room.

use std::path::Path;

use crate::limits::DISK_FREE_LEAST;

/// Bytes after which an upload asks again.
pub(crate) const ASK_EVERY: u64 = 64 << 20;

/// Whether an upload may be written where `path` lies. Where the system does not say, it may.
pub(crate) fn has_room(path: &Path) -> bool {
    rustix::fs::statvfs(path).map_or(true, |disk| {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let all = disk.f_blocks.saturating_mul(disk.f_frsize);
        // A small disk (a test's, an appliance's) keeps a twentieth instead.
        free >= DISK_FREE_LEAST.min(all / 20)
    })
}

/// The sentence for whoever cannot upload.
pub(crate) fn full() -> String {
    format!(
        "the server's disk is nearly full (limit DISK_FREE_LEAST, {DISK_FREE_LEAST} bytes are kept free): remove old \
         images with `regatta image prune`, or give it more room; try again then"
    )
}
