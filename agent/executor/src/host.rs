//! What an executor holds of its host, for all its containers: its directory, its control groups, its
//! ranges of ids, and directories with nothing but mount points. May not: know a container's state.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::Error;
use crate::cgroup::Hierarchy;
use crate::users::{Range, Ranges};

/// Distinct sets of mount points that are kept for the next container with the same set.
const SKELETONS_MOST: usize = 256;

/// The host as one executor sees it.
#[derive(Debug)]
pub(crate) struct Host {
    state: PathBuf,
    pub hierarchy: Hierarchy,
    ranges: Option<Ranges>,
    skeletons: BTreeMap<Vec<(String, bool)>, PathBuf>,
    /// Hard limit of open files.
    pub files_hard: u64,
}

impl Host {
    /// Looks at the host. The state directory exists and is ours; `maps_owners` tells whether containers over it can have
    /// user namespaces.
    pub(crate) fn open(state: &Path, maps_owners: bool) -> Result<Self, Error> {
        let hierarchy = Hierarchy::detect(&instance(state))
            .map_err(|error| Error::Host(format!("cannot use control groups: {error}")))?;
        let ranges = if maps_owners {
            Some(Ranges::claim()?)
        } else {
            None
        };
        let limit = getrlimit(Resource::RLIMIT_NOFILE)
            .map_err(|errno| Error::call("read the limit of open files", errno))?;
        setrlimit(Resource::RLIMIT_NOFILE, limit.1, limit.1)
            .map_err(|errno| Error::call("raise the limit of open files", errno))?;
        Ok(Self {
            state: state.to_owned(),
            hierarchy,
            ranges,
            skeletons: BTreeMap::new(),
            files_hard: limit.1,
        })
    }

    /// Whether containers get user namespaces.
    pub(crate) fn has_users(&self) -> bool {
        self.ranges.is_some()
    }

    pub(crate) fn take_range(&mut self) -> Result<Option<Range>, String> {
        match &mut self.ranges {
            None => Ok(None),
            Some(ranges) => ranges
                .take()
                .map(Some)
                .ok_or_else(|| "all ranges of user ids are in use; run fewer at once".to_owned()),
        }
    }

    pub(crate) fn give_back(&mut self, range: Option<Range>) {
        if let (Some(ranges), Some(range)) = (&mut self.ranges, range) {
            ranges.give_back(range);
        }
    }

    /// The user namespace of a range.
    pub(crate) fn namespace(&mut self, range: Range) -> Result<OwnedFd, String> {
        let Some(ranges) = &mut self.ranges else {
            return Err("there are no user namespaces".to_owned());
        };
        let namespace = ranges
            .namespace(range)
            .map_err(|errno| format!("cannot make a user namespace: {}", errno.desc()))?;
        namespace
            .try_clone_to_owned()
            .map_err(|error| format!("cannot pass on a user namespace: {error}"))
    }

    pub(crate) fn rooms(&self) -> PathBuf {
        self.state.join("rooms")
    }

    /// Removes what a former executor's containers had.
    pub(crate) fn clear_rooms(&self) -> Result<(), Error> {
        for directory in [self.rooms(), self.skeleton_directory()] {
            let _absent = fs::remove_dir_all(&directory);
            make_all(&directory).map_err(Error::Host)?;
        }
        Ok(())
    }

    fn skeleton_directory(&self) -> PathBuf {
        self.state.join("skeletons")
    }

    /// Where a container's own files are, once they are made.
    pub(crate) fn room(&self, number: u64) -> PathBuf {
        self.rooms().join(number.to_string())
    }

    /// Makes a container's own directory.
    pub(crate) fn make_room(&self, number: u64) -> Result<PathBuf, String> {
        let room = self.room(number);
        make_all(&room)?;
        Ok(room)
    }

    /// A directory that has these mount points and nothing else: the lowest layer of a container, so that
    /// mounting on them changes nothing in its writable one.
    pub(crate) fn skeleton(
        &mut self,
        number: u64,
        targets: &[(String, bool)],
    ) -> Result<PathBuf, String> {
        if let Some(known) = self.skeletons.get(targets) {
            return Ok(known.clone());
        }
        let keep = self.skeletons.len() < SKELETONS_MOST;
        let directory = if keep {
            self.skeleton_directory()
                .join(self.skeletons.len().to_string())
        } else {
            self.make_room(number)?.join("skeleton")
        };
        make_all(&directory)?;
        for (target, is_directory) in targets {
            let path = directory.join(target.trim_start_matches('/'));
            if *is_directory {
                make_all(&path)?;
            } else {
                make_all(path.parent().unwrap_or(&directory))?;
                if !path.exists() {
                    fs::write(&path, b"")
                        .map_err(|error| format!("cannot make a place for {target}: {error}"))?;
                }
            }
        }
        if keep {
            self.skeletons.insert(targets.to_vec(), directory.clone());
        }
        Ok(directory)
    }
}

fn make_all(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| format!("cannot make {}: {error}", path.display()))
}

/// The name by which this executor's control groups are found again by the next one with the same directory.
fn instance(state: &Path) -> String {
    // FNV-1a: the same in every build, which the standard library's hasher does not promise.
    let hash = state
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("e-{hash:016x}")
}
