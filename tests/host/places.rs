//! What of the kernel's file systems and of the host's directories a container may read and write.

use std::fs;
use std::path::Path;

use regatta_model::container::Ending;

use crate::kit::Host;

/// What Docker hides, where the kernel has it.
const HIDDEN: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

#[test]
fn what_tells_of_the_host_is_hidden() {
    let host = Host::start();
    let here: Vec<&str> = HIDDEN
        .into_iter()
        .filter(|path| Path::new(path).exists())
        .collect();
    assert!(
        here.len() >= 4,
        "this kernel has too little to hide: {here:?}"
    );
    for path in here {
        let count = format!(
            "if [ -d {path} ]; then ls -A {path} | wc -l; else head -c 64 {path} | wc -c; fi"
        );
        assert_eq!(host.sh(&count), "0\n", "{path}");
    }
}

#[test]
fn the_kernels_switches_cannot_be_written() {
    let host = Host::start();
    let switches = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/proc/fs/nfsd",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/power/state",
        "/sys/class/net/lo/mtu",
    ];
    let mut calls = vec!["calls".to_owned()];
    // openat(AT_FDCWD, path, O_WRONLY): opened only, never written.
    calls.extend(
        switches
            .iter()
            .map(|path| format!("{path}:257:-100,@{path},1")),
    );
    let answers = host.probe(&calls.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(answers.len(), switches.len());
    let mut refused = 0;
    for answer in &answers {
        // EACCES, EISDIR, EROFS; ENOENT where this kernel has no such switch.
        let (path, errno) = answer
            .split_once(" errno ")
            .unwrap_or_else(|| panic!("{answer}"));
        assert!(["2", "13", "21", "30"].contains(&errno), "{answer}");
        refused += usize::from(errno == "30" || errno == "13");
        assert!(
            errno != "2" || !Path::new(path).exists() || path.starts_with("/sys/class/net"),
            "{answer}"
        );
    }
    assert!(refused >= 5, "{answers:?}");
}

#[test]
fn sys_is_read_only_and_shows_its_own_network() {
    let host = Host::start();
    assert_eq!(host.sh("ls /sys/class/net"), "lo\n");
    let mounts = host.sh("grep ' /sys' /proc/mounts");
    for line in mounts.lines() {
        let options = line.split(' ').nth(3).unwrap();
        assert!(options.split(',').any(|option| option == "ro"), "{line}");
    }
    assert_eq!(host.sh("mkdir /sys/x 2>&1 | grep -c . ; echo 1 2>/dev/null > /sys/kernel/profiling || echo refused"), "1\nrefused\n");
}

#[test]
fn control_groups_cannot_be_mounted_or_written() {
    let host = Host::start();
    let mounts = host.probe(&[
        "calls",
        "cgroup:165:@none,@/tmp,@cgroup,0,@memory",
        "cgroup2:165:@none,@/tmp,@cgroup2,0,0",
    ]);
    assert_eq!(mounts, ["cgroup errno 1", "cgroup2 errno 1"]);
    let written = host.sh("find /sys/fs/cgroup -type f 2>/dev/null | while read f; do (echo 1 > $f) 2>/dev/null && echo $f; done; echo end");
    assert_eq!(written, "end\n");
    assert_eq!(
        host.sh("mkdir /sys/fs/cgroup/x 2>/dev/null || echo refused"),
        "refused\n"
    );
}

#[test]
fn devices_are_exactly_the_harmless_ones() {
    let host = Host::start();
    let names = host.run(&host.spec(&["/bin/ls", "-A", "/dev"])).lines();
    let expected = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    ];
    assert_eq!(names, expected);
    let kinds = host.sh("cd /dev; stat -c '%n %F %t:%T' full null random tty urandom zero");
    let expected = "full character special file 1:7\nnull character special file 1:3\n\
                    random character special file 1:8\ntty character special file 5:0\n\
                    urandom character special file 1:9\nzero character special file 1:5\n";
    assert_eq!(kinds, expected);
    let use_them = host.sh(
        "head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; echo x > /dev/null; \
         echo x 2>/dev/null > /dev/full || echo full",
    );
    assert_eq!(use_them, "4\n4\nfull\n");
    assert_eq!(
        host.sh(
            "touch /dev/x 2>/dev/null || echo refused; rm /dev/null 2>/dev/null || echo refused"
        ),
        "refused\nrefused\n"
    );
}

#[test]
fn device_nodes_cannot_be_made_or_used() {
    let host = Host::start();
    let answers = host.probe(&[
        "calls",
        "null:133:@/tmp/null,0x21b6,0x103",
        "memory:133:@/tmp/memory,0x21b6,0x101",
        "loop:133:@/tmp/loop,0x61b6,0x700",
        "fuse:259:-100,@/tmp/fuse,0x21b6,0xae5",
        "pipe:133:@/tmp/pipe,0x11b6,0",
    ]);
    assert_eq!(
        answers,
        [
            "null errno 1",
            "memory errno 1",
            "loop errno 1",
            "fuse errno 1",
            "pipe ok"
        ]
    );
    // One that an image brings along is dead.
    let mut spec = host.shell("head -c 1 /zero 2>&1 | grep -c . ; [ -c /zero ] && echo there");
    spec.layers.push(host.layer("nodes", |root| {
        let made = std::process::Command::new("mknod")
            .arg(root.join("zero"))
            .args(["c", "1", "5"])
            .status();
        assert!(made.unwrap().success());
    }));
    assert_eq!(host.run(&spec).output(), "1\nthere\n");
}

#[test]
fn mounts_of_the_host_keep_their_mode() {
    let host = Host::start();
    let (rw, ro) = (host.make("rw"), host.make("ro"));
    fs::write(ro.join("given"), "from the host\n").unwrap();
    let mut spec = host.shell(
        "cat /ro/given; echo made > /rw/made; touch /ro/x 2>/dev/null || echo refused; id -u > /rw/id; \
         chmod 4755 /rw/made; stat -c %u:%g /rw/made /ro/given",
    );
    spec.mounts = vec![host.mount(&rw, "/rw", true), host.mount(&ro, "/ro", false)];
    assert_eq!(
        host.run(&spec).output(),
        "from the host\nrefused\n0:0\n0:0\n"
    );
    assert_eq!(fs::read_to_string(rw.join("made")).unwrap(), "made\n");
    assert!(!ro.join("x").exists());
}

#[test]
fn what_changed_outside_the_declared_places_is_told() {
    let host = Host::start();
    let results = host.make("results");
    let mut spec = host.shell(
        "echo x > /etc/new; rm /etc/group; mkdir -p /srv/made; echo y > /tmp/free; echo z > /var/tmp/free; \
         echo r > /results/r; mkdir -p /run && echo q > /run/free; chmod 700 /home",
    );
    spec.mounts.push(host.mount(&results, "/results", true));
    let done = host.run(&spec);
    assert_eq!(
        done.ended.ending,
        Ending::Exited { code: 0 },
        "{}",
        done.output
    );
    assert_eq!(
        done.ended.changed,
        ["/etc/group", "/etc/new", "/home", "/srv/made"]
    );
    assert!(!done.ended.changed_more);
    let nothing = host.run(&host.shell("ls / > /dev/null; echo x > /tmp/x"));
    assert_eq!(nothing.ended.changed, [""; 0]);
    // The next one starts from the layers again.
    assert_eq!(
        host.sh("ls /etc /srv 2>&1 | grep -c -e new -e made || true; cat /etc/group | head -n 1"),
        "0\nroot:x:0:\n"
    );
}
