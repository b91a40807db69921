//! Nothing of a container is left: not after it ended, however it did, nor after its executor was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use regatta_model::container::{Ending, Message, Request, Writable};

use crate::kit::{Host, MIB, until};

/// What an executor holds of its host.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    cgroups: BTreeSet<String>,
    mounts: usize,
    processes: usize,
    network_namespaces: usize,
    descriptors: Vec<String>,
    files: BTreeMap<String, u64>,
}

fn held(host: &Host, instance: &str) -> Held {
    let family = family(host.executor_pid());
    let mut namespaces = BTreeSet::new();
    let (mut mounts, mut users, mut descriptors) = (0, 0, Vec::new());
    for id in &family {
        mounts += fs::read_to_string(format!("/proc/{id}/mountinfo"))
            .unwrap_or_default()
            .lines()
            .count();
        namespaces.extend(fs::read_link(format!("/proc/{id}/ns/net")).ok());
        for entry in fs::read_dir(format!("/proc/{id}/fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            // Numbers of pipes and the like are new each time; what they are is not.
            let text = target.to_string_lossy();
            let kind = text.split(":[").next().unwrap_or_default();
            // So are the ranges of ids, of which an executor takes any that is free.
            let kind = kind.trim_end_matches(|c: char| c.is_ascii_digit());
            if kind == "user" {
                // Those that are free are kept for the next containers: as many as there were at once.
                users += 1;
            } else {
                descriptors.push(kind.to_owned());
            }
            if target.to_string_lossy().starts_with("net:[") {
                namespaces.insert(target);
            }
        }
    }
    let mut files = BTreeMap::new();
    tree(&host.path("data"), &mut files);
    let mut cgroups = BTreeSet::new();
    groups(Path::new("/sys/fs/cgroup"), instance, &mut cgroups);
    descriptors.sort();
    assert!(
        users <= 2 * AT_ONCE,
        "{users} user namespaces for {AT_ONCE} containers"
    );
    Held {
        cgroups,
        mounts,
        processes: family.len(),
        network_namespaces: namespaces.len(),
        descriptors,
        files,
    }
}

/// A process and all that descend from it.
fn family(id: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let id: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            Some((id, parent))
        })
        .collect();
    let mut family = vec![id];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(
            parents
                .iter()
                .filter(|(_, above)| *above == parent)
                .map(|(id, _)| *id),
        );
        next += 1;
    }
    family
}

fn tree(path: &Path, files: &mut BTreeMap<String, u64>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let Ok(about) = entry.path().symlink_metadata() else {
            continue;
        };
        // A file's size may grow (a journal); a directory counts by being there.
        files.insert(
            entry.path().display().to_string(),
            u64::from(about.mode() & 0o170_000),
        );
        if about.is_dir() {
            tree(&entry.path(), files);
        }
    }
}

/// An executor's own group and those of its containers, in all hierarchies.
fn groups(path: &Path, instance: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            groups(&entry.path(), instance, found);
            if entry
                .path()
                .components()
                .any(|part| part.as_os_str() == instance)
            {
                found.insert(entry.path().display().to_string());
            }
        }
    }
}

/// What the executor calls itself in the tree of control groups, as a container of it shows.
fn instance(host: &Host) -> String {
    let spec = host.shell("sleep 1000");
    host.order(&spec);
    let mut instance = None;
    until("a container is in its control groups", || {
        let family = family(host.executor_pid());
        let groups = family
            .iter()
            .filter_map(|id| fs::read_to_string(format!("/proc/{id}/cgroup")).ok());
        let found = groups.flat_map(|text| {
            let names = text.lines().filter_map(|line| line.split_once("/regatta/"));
            names
                .map(|(_, below)| below.split('/').next().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        });
        instance = found.into_iter().next();
        instance.is_some()
    });
    host.ask(Request::Stop {
        id: spec.id.clone(),
    });
    host.wait(&spec);
    instance.unwrap()
}

/// In the slow machine of `cgroup_v2` there is less of everything.
fn in_guest() -> bool {
    std::env::var_os("REGATTA_GUEST").is_some()
}

/// How many containers run at once in these tests.
const AT_ONCE: usize = 8;

/// Containers that end in every way there is.
fn a_crowd(host: &Host, size: usize) {
    let mut specs = Vec::new();
    for number in 0..size {
        let mut spec = match number % 8 {
            0 => host.shell("true"),
            1 => host.shell("echo x > /etc/x; (setsid sleep 1000 &); exit 3"),
            2 => host.spec(&["/no/such/program"]),
            3 => host.shell("kill -KILL $$"),
            4 => host.spec(&["/probe", "allocate", "134217728"]),
            5 => host.shell("trap '' TERM; sleep 1000"),
            6 => host.shell("dd if=/dev/zero of=/x bs=1M count=4 2>/dev/null; mkdir -p /a/b/c"),
            _ => host.probe_spec(),
        };
        if number % 8 == 4 {
            spec.limits.memory_bytes = Some(32 * MIB);
        }
        if number % 8 == 5 {
            (spec.timeout_ms, spec.grace_ms) = (100, 50);
        }
        if number % 3 == 0 {
            spec.writable = Writable::Disk;
        }
        specs.push(spec);
    }
    for batch in specs.chunks(AT_ONCE) {
        for spec in batch {
            host.order(spec);
        }
        for spec in batch {
            host.wait(spec);
        }
    }
}

/// Waits until an executor holds what it held before; says what differs.
fn assert_back_to(before: &Held, host: &Host, instance: &str) {
    let mut now = held(host, instance);
    for _ in 0..300 {
        if now == *before {
            return;
        }
        thread::sleep(Duration::from_millis(20));
        now = held(host, instance);
    }
    assert_eq!(now, *before, "left");
}

/// What an executor holds once it has made its provisions and is at rest.
fn at_rest(host: &Host, instance: &str) -> Held {
    let mut before = held(host, instance);
    let mut same = 0;
    until("the executor is at rest", || {
        thread::sleep(Duration::from_millis(50));
        let now = held(host, instance);
        same = if now == before { same + 1 } else { 0 };
        before = now;
        same == 4
    });
    before
}

#[test]
fn nothing_is_left_of_ended_containers() {
    let host = Host::start();
    let instance = instance(&host);
    // What an executor keeps ready is there from then on.
    a_crowd(&host, 16);
    let before = at_rest(&host, &instance);
    let container = host.shell("sleep 1000");
    host.order(&container);
    until("a container counts", || {
        held(&host, &instance).cgroups.len() > before.cgroups.len()
    });
    host.ask(Request::Stop {
        id: container.id.clone(),
    });
    host.wait(&container);
    a_crowd(&host, if in_guest() { 24 } else { 64 });
    assert_back_to(&before, &host, &instance);
}

#[test]
fn nothing_is_left_of_an_executor_that_ended() {
    let mut host = Host::start();
    let instance = instance(&host);
    let spec = host.shell("sleep 1000");
    host.order(&spec);
    until("it has its control groups", || {
        held(&host, &instance)
            .cgroups
            .iter()
            .any(|path| !path.ends_with(&instance))
    });
    let family = family(host.executor_pid());
    assert!(family.len() > 2, "{family:?}");
    host.end_executor();
    let mut cgroups = BTreeSet::new();
    groups(Path::new("/sys/fs/cgroup"), &instance, &mut cgroups);
    assert_eq!(cgroups, BTreeSet::new());
    for id in family {
        let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }
    let text = host.path("data").display().to_string();
    assert!(
        !fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .contains(&text)
    );
}

#[test]
fn the_next_executor_ends_what_a_killed_one_left() {
    let mut host = Host::start();
    let mark = format!("76543.{}", std::process::id());
    let instance = instance(&host);
    a_crowd(&host, 16);
    let quiet = at_rest(&host, &instance);
    for round in 0..if in_guest() { 4 } else { 8 } {
        let mut specs = Vec::new();
        for number in 0..6 {
            let line = format!("trap '' TERM; (setsid sleep {mark} &); echo up; sleep {mark}");
            let mut spec = host.shell(&line);
            if number % 2 == 0 {
                spec.writable = Writable::Disk;
            }
            specs.push(spec);
        }
        // Killed between two orders, or in the middle of the starts that they caused: any moment is right.
        for spec in specs.iter().take(usize::try_from(round).unwrap()) {
            host.order(spec);
        }
        thread::sleep(Duration::from_micros(700 * round * round));
        host.kill_executor();
        host.start_executor();
        assert_eq!(with_mark(&mark), 0, "round {round}: processes are left");
        let Message::Containers { containers } = host.ask(Request::List) else {
            panic!("no list");
        };
        for status in &containers {
            let ending = status.ended.as_ref().map(|ended| &ended.ending);
            assert!(
                matches!(ending, Some(Ending::ExecutorLost)),
                "round {round}: {status:?}"
            );
            host.ask(Request::Forget {
                id: status.id.clone(),
            });
        }
        // The same names can be used again, and work.
        let mut again = specs.swap_remove(0);
        again.process.argv = vec!["/bin/echo".to_owned(), "again".to_owned()];
        host.forget_endings();
        assert_eq!(host.run(&again).output(), "again\n");
    }
    a_crowd(&host, 16);
    assert_back_to(&quiet, &host, &instance);
}

fn with_mark(mark: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            line.split(|byte| *byte == 0)
                .any(|word| word == mark.as_bytes())
        })
        .count()
}
