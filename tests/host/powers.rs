//! Which powers and system calls a container has.

use crate::kit::Host;

/// Docker's default set, as `/proc/self/status` prints it.
const DEFAULT: &str = "00000000a80425fb";
const NONE: &str = "0000000000000000";

fn status(text: &str, key: &str) -> String {
    let line = text
        .lines()
        .find(|line| line.starts_with(key))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn roots_capabilities_are_dockers_default_set() {
    let host = Host::start();
    let text = host.sh("cat /proc/self/status");
    for (key, expected) in [
        ("CapInh", NONE),
        ("CapPrm", DEFAULT),
        ("CapEff", DEFAULT),
        ("CapBnd", DEFAULT),
        ("CapAmb", NONE),
    ] {
        assert_eq!(status(&text, key), expected, "{key}");
    }
}

#[test]
fn a_user_has_no_capabilities_and_gains_none() {
    let host = Host::start();
    let mut spec = host.shell("cat /proc/self/status; /suid/busybox id -u; /suid/busybox cat /proc/self/status | grep CapEff");
    (spec.process.uid, spec.process.gid, spec.process.groups) = (1000, 1000, vec![27]);
    spec.layers.push(host.layer("suid-layer", |root| {
        std::fs::create_dir(root.join("suid")).unwrap();
        let busybox = root.join("suid/busybox");
        std::fs::copy(host.path("layer/bin/busybox"), &busybox).unwrap();
        std::fs::set_permissions(
            &busybox,
            std::os::unix::fs::PermissionsExt::from_mode(0o4755),
        )
        .unwrap();
    }));
    let text = host.run(&spec).output();
    for (key, expected) in [
        ("CapInh", NONE),
        ("CapPrm", NONE),
        ("CapEff", NONE),
        ("CapBnd", DEFAULT),
        ("CapAmb", NONE),
    ] {
        assert_eq!(status(&text, key), expected, "{key}");
    }
    assert_eq!(status(&text, "Uid:"), "1000");
    assert_eq!(status(&text, "Groups:"), "27");
    assert!(
        text.ends_with(&format!("\n1000\nCapEff:\t{NONE}\n")),
        "a set-user-id file gave power: {text}"
    );
}

#[test]
fn no_new_privileges_and_a_filter_are_set() {
    let host = Host::start();
    let text = host.sh("cat /proc/self/status");
    assert_eq!(status(&text, "NoNewPrivs"), "1");
    assert_eq!(status(&text, "Seccomp:"), "2");
    assert_eq!(status(&text, "Seccomp_filters"), "1");
}

/// Calls that Docker's profile refuses, with arguments for which the kernel itself would say something else.
const REFUSED: [&str; 58] = [
    "unshare:272:0",
    "unshare-user:272:0x10000000",
    "mount:165:0,0,0,0,0",
    "umount2:166:0,0",
    "pivot_root:155:0,0",
    "setns:308:-1,0",
    "open_tree:428:-1,0,0",
    "move_mount:429:-1,0,-1,0,0",
    "fsopen:430:0,0",
    "fsconfig:431:-1,0,0,0,0",
    "fsmount:432:-1,0,0",
    "fspick:433:-1,0,0",
    "mount_setattr:442:-1,0,0,0,0",
    "add_key:248:0,0,0,0,0",
    "request_key:249:0,0,0,0",
    "keyctl:250:0,-3,0",
    "bpf:321:0x7fff,0,0",
    "perf_event_open:298:0,0,-1,-1,0",
    "userfaultfd:323:0x7fffffff",
    "io_uring_setup:425:0,0",
    "io_uring_enter:426:-1,0,0,0,0,0",
    "io_uring_register:427:-1,0,0,0",
    "kexec_load:246:0,0,0,0x7fff",
    "kexec_file_load:320:-1,-1,0,0,0x7fff",
    "init_module:175:0,0,0",
    "finit_module:313:-1,0,0x7fff",
    "delete_module:176:0,0",
    "open_by_handle_at:304:-1,0,0",
    "swapon:167:0,0x7fffffff",
    "swapoff:168:0",
    "reboot:169:0,0,0,0",
    "syslog:103:10,0,0",
    "acct:163:1",
    "quotactl:179:0,0,0,0",
    "lookup_dcookie:212:0,0,0",
    "vhangup:153:",
    "iopl:172:0",
    "ioperm:173:0,0,0",
    "settimeofday:164:1,0",
    "clock_settime:227:99,0",
    "fanotify_init:300:0x7fffffff,0",
    "kcmp:312:0,0,9,0,0",
    "pidfd_getfd:438:-1,0,0",
    "process_madvise:440:-1,0,0,0,0",
    "mbind:237:0,0,9,0,0,0",
    "set_mempolicy:238:9,0,0",
    "get_mempolicy:239:0,0,0,0,99",
    "move_pages:279:0,0,0,0,0,0x7f",
    "migrate_pages:256:0,0,0,0",
    "uselib:134:0",
    "ustat:136:0,0",
    "sysfs:139:9,0,0",
    "nfsservctl:180:0,0,0",
    "personality-no-randomize:135:0x0040000",
    "personality-bsd:135:6",
    "socket-vsock:41:40,1,0",
    "socket-vsock-high:41:0x100000028,1,0",
    "socket-alg:41:38,5,0",
];

#[test]
fn dangerous_calls_are_refused() {
    let host = Host::start();
    let mut calls = vec!["calls"];
    calls.extend(REFUSED);
    let answers = host.probe(&calls);
    let expected: Vec<String> = REFUSED
        .iter()
        .map(|call| format!("{} errno 1", call.split(':').next().unwrap()))
        .collect();
    assert_eq!(answers, expected);
}

#[test]
fn namespaces_cannot_be_made_by_clone() {
    let host = Host::start();
    let flags = [
        ("new-ns", 0x0002_0000),
        ("new-cgroup", 0x0200_0000),
        ("new-uts", 0x0400_0000),
        ("new-ipc", 0x0800_0000),
        ("new-user", 0x1000_0000),
        ("new-pid", 0x2000_0000),
        ("new-net", 0x4000_0000),
    ];
    let mut calls = vec!["calls".to_owned()];
    // SIGCHLD in the low byte; the high half of the flags must not hide the low one.
    for (name, flag) in flags {
        calls.push(format!("{name}:56:{:#x},0", flag | 0x11));
        calls.push(format!("{name}-high:56:{:#x},0", flag | 0x8_0000_0011_u64));
    }
    // ENOSYS lets a C library fall back to clone.
    calls.push("clone3:435:&,88".to_owned());
    let answers = host.probe(&calls.iter().map(String::as_str).collect::<Vec<_>>());
    for answer in &answers[..answers.len() - 1] {
        assert!(answer.ends_with(" errno 1"), "{answer}");
    }
    assert_eq!(answers.len(), 15);
    assert_eq!(answers[14], "clone3 errno 38");
}

#[test]
fn calls_that_programs_need_are_allowed() {
    let host = Host::start();
    let answers = host.probe(&[
        "calls",
        "personality-tell:135:0xffffffff",
        "personality-linux:135:0",
        "socket-inet:41:2,1,0",
        "socket-unix:41:1,1,0",
        "socket-netlink:41:16,3,0",
        "ptrace-traceme:101:0,0,0,0",
        "chroot:161:@/tmp",
        "memfd:319:@x,0",
        "futex_wake:454:0,0,0,0",
        "mlock:149:0,0",
        "inotify:253:",
    ]);
    let expected = [
        "personality-tell ok",
        "personality-linux ok",
        "socket-inet ok",
        "socket-unix ok",
        "socket-netlink ok",
        "ptrace-traceme ok",
        "chroot ok",
        "memfd ok",
    ];
    assert_eq!(answers[..8], expected);
    // What the filter lets through gets the kernel's own answer, on any kernel: not EPERM.
    assert!(!answers[8].ends_with(" errno 1"), "{answers:?}");
    assert_eq!(answers[9..], ["mlock ok", "inotify ok"]);
}

#[test]
fn a_call_newer_than_the_profile_is_unknown() {
    let host = Host::start();
    let answers = host.probe(&["calls", "next:467:0", "far:900:0", "x32-far:0x40000300:0"]);
    assert_eq!(
        answers,
        ["next errno 38", "far errno 38", "x32-far errno 38"]
    );
}

#[test]
fn dangerous_calls_of_32_bit_programs_are_refused() {
    let host = Host::start();
    let answers = host.probe(&[
        "calls32",
        "getpid:20",
        "unshare:310:0x10000000",
        "mount:21:0,0,0,0,0",
        "umount:22:0",
        "clone-user:120:0x10000011,0",
        "clone3:435:0,0",
        "keyctl:288:0,-3,0",
        "bpf:357:0x7fff,0,0",
        "userfaultfd:374:0x7fffffff",
        "io_uring_setup:425:0,0",
        "setns:346:-1,0",
        "socket-vsock:359:40,1,0",
        "socket-alg:359:38,5,0",
        "personality:136:0x0040000",
        "vm86:166:0,0",
        "open_by_handle_at:342:-1,0,0",
        "perf_event_open:336:0,0,-1,-1,0",
    ]);
    // A kernel without 32-bit programs ends them with a signal: nothing is reached either.
    if answers[0] != "getpid ok" {
        assert!(
            answers.iter().all(|answer| answer.contains(" status ")),
            "{answers:?}"
        );
        return;
    }
    assert_eq!(answers[5], "clone3 errno 38");
    for (number, answer) in answers
        .iter()
        .enumerate()
        .filter(|(number, _)| *number != 0 && *number != 5)
    {
        assert!(answer.ends_with(" errno 1"), "{number}: {answer}");
    }
}

#[test]
fn dangerous_calls_of_x32_programs_are_refused() {
    let host = Host::start();
    let answers = host.probe(&[
        "calls",
        "unshare:0x40000110:0",
        "mount:0x400000a5:0,0,0,0,0",
        "clone-user:0x40000038:0x10000011,0",
        "keyctl:0x400000fa:0,-3,0",
        "bpf:0x40000141:0x7fff,0,0",
        "socket-vsock:0x40000029:40,1,0",
        "kexec_load:0x40000210:0,0,0,0",
    ]);
    assert_eq!(answers.len(), 7);
    assert!(
        answers.iter().all(|answer| answer.ends_with(" errno 1")),
        "{answers:?}"
    );
}

#[test]
fn text_cannot_be_put_into_a_terminal() {
    let host = Host::start();
    let lines = host.probe(&["terminal"]);
    assert!(lines[0].starts_with("terminal /dev/pts/"), "{lines:?}");
    assert_eq!(
        lines[1..],
        [
            "TIOCSTI errno 1",
            "TIOCLINUX errno 1",
            "TIOCSTI+high errno 1"
        ]
    );
}

#[test]
fn keys_of_the_host_are_out_of_reach() {
    let host = Host::start();
    assert_eq!(host.sh("head -c 100 /proc/keys | wc -c"), "0\n");
    let answers = host.probe(&[
        "calls",
        "session:250:0,-3,0",
        "search:250:10,-3,@user,@canary,0",
    ]);
    assert_eq!(answers, ["session errno 1", "search errno 1"]);
}
