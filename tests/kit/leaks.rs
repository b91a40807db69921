//! The count of what a host has and containers may not leave: control groups, mounts, processes. May not: count what
//! other programs on the machine have.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What there is of a data directory's containers on this host.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    pub mounts: BTreeSet<String>,
    pub processes: BTreeSet<String>,
    pub cgroups: BTreeSet<PathBuf>,
}

impl Left {
    /// Mounts below the directory, in any mount namespace of a live process; processes with the directory in their
    /// words; control groups below `regatta` that hold one of the names.
    pub fn of(data: &Path, names: &[&str]) -> Self {
        let mut left = Self::default();
        let text = data.to_str().unwrap();
        for pid in std::fs::read_dir("/proc").unwrap().flatten() {
            let pid = pid.path();
            let mounts = std::fs::read_to_string(pid.join("mountinfo")).unwrap_or_default();
            left.mounts.extend(
                mounts
                    .lines()
                    .filter(|line| line.contains(text))
                    .map(str::to_owned),
            );
            let words = std::fs::read(pid.join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            if words.contains(text) && !words.contains("regatta_tests") {
                left.processes.insert(words);
            }
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            groups(&hierarchy.path(), 6, &mut |group| {
                let name = group
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default();
                if names.iter().any(|wanted| name.contains(wanted)) {
                    left.cgroups.insert(group.to_owned());
                }
            });
        }
        left
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn groups(directory: &Path, depth: u32, see: &mut impl FnMut(&Path)) {
    if depth == 0 {
        return;
    }
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            see(&entry.path());
            groups(&entry.path(), depth - 1, see);
        }
    }
}
