//! Where this host mounts its control groups, read from two files of /proc. May not: do anything but
//! read text.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The v1 controllers that bound, freeze and account for containers.
pub(super) const V1_CONTROLLERS: [&str; 6] =
    ["cpu", "cpuacct", "devices", "freezer", "memory", "pids"];

/// The hierarchies of a host.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Mounts {
    /// v1: a controller to where it is mounted. Controllers mounted together have equal paths.
    pub(super) v1: BTreeMap<&'static str, PathBuf>,
    /// v2: where it is mounted.
    pub(super) v2: Option<PathBuf>,
    /// Our own group in v2: absolute, below the mount.
    pub(super) own: String,
}

impl Mounts {
    /// Reads the text of `/proc/self/mountinfo` and of `/proc/self/cgroup`.
    pub(super) fn parse(mountinfo: &str, own: &str) -> Self {
        let line = own.lines().find_map(|line| line.strip_prefix("0::"));
        let mut mounts = Self {
            own: line.unwrap_or("/").to_owned(),
            ..Self::default()
        };
        for line in mountinfo.lines() {
            let Some((place, source)) = line.split_once(" - ") else {
                continue;
            };
            let mut place = place.split(' ').skip(4);
            let Some(point) = place.next().map(unescaped) else {
                continue;
            };
            let mut source = source.split(' ');
            let kind = source.next().unwrap_or_default();
            let options = source.nth(1).unwrap_or_default();
            match kind {
                // A later mount of a controller is a second view of the same tree: the first one counts.
                "cgroup" => {
                    for option in options.split(',') {
                        if let Some(known) = V1_CONTROLLERS.iter().find(|name| **name == option) {
                            mounts.v1.entry(known).or_insert_with(|| point.clone());
                        }
                    }
                }
                "cgroup2" => {
                    mounts.v2.get_or_insert(point);
                }
                _ => {}
            }
        }
        mounts
    }

    /// Whether v1 bounds memory or processes: then v2, where it is mounted too, has no such controller.
    pub(super) fn bounds_by_v1(&self) -> bool {
        self.v1.contains_key("memory") || self.v1.contains_key("pids")
    }
}

/// A path as mountinfo writes it: white space and backslashes as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let mut path = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        path.push_str(before);
        let digits = after
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let (character, skipped) = digits.map_or(('\\', 0), |byte| (char::from(byte), 3));
        path.push(character);
        rest = after.get(skipped..).unwrap_or_default();
    }
    path.push_str(rest);
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 1 0:22 / /proc rw - proc proc rw
30 28 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
31 28 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 28 0:28 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
33 28 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
34 28 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
35 28 0:27 / /srv/second rw,relatime - cgroup cgroup rw,memory
";

    #[test]
    fn a_hybrid_host_bounds_by_v1() {
        let mounts = Mounts::parse(HYBRID, "4:memory:/x\n0::/init.scope\n");
        assert!(mounts.bounds_by_v1());
        assert_eq!(mounts.v1["cpu"], mounts.v1["cpuacct"]);
        assert_eq!(mounts.v1["memory"], PathBuf::from("/sys/fs/cgroup/memory"));
        assert_eq!(
            mounts.v1.keys().copied().collect::<Vec<_>>(),
            ["cpu", "cpuacct", "memory", "pids"]
        );
        assert_eq!(mounts.v2, Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mounts.own, "/init.scope");
    }

    #[test]
    fn a_pure_v2_host_is_one() {
        let text = "24 1 0:9 / /sys/fs/c\\040group rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let mounts = Mounts::parse(text, "0::/\n");
        assert!(!mounts.bounds_by_v1());
        assert_eq!(mounts.v2, Some(PathBuf::from("/sys/fs/c group")));
    }

    #[test]
    fn no_text_is_taken_for_a_mount() {
        for text in [
            "",
            "\n",
            " - ",
            "1 2 3",
            "- cgroup2",
            "1 2 3 4 /a\\9 - cgroup2",
        ] {
            let mounts = Mounts::parse(text, "nonsense");
            assert!(mounts.v1.is_empty());
            assert_eq!(mounts.own, "/");
        }
    }
}
