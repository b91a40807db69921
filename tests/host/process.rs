//! What a container's program starts with, and what its init does for it.

use std::fs;

use regatta_model::container::{Ending, Request};

use crate::kit::Host;

#[test]
fn no_descriptor_comes_along() {
    let host = Host::start();
    assert_eq!(host.probe(&["descriptors"]), ["0", "1", "2"]);
    // Those of init are not to be looked at either.
    let seen = host.sh("ls -l /proc/1/fd 2>/dev/null | grep -c -- '->' || true");
    assert_eq!(seen, "0\n");
}

#[test]
fn the_environment_is_what_was_ordered() {
    let host = Host::start();
    let mut lines = host.run(&host.spec(&["/bin/env"])).lines();
    lines.sort();
    assert_eq!(lines, ["COLOUR=blue", "PATH=/bin"]);
    let init = host.sh("cat /proc/1/environ 2>/dev/null | grep -c REGATTA_CANARY || true");
    assert_eq!(init, "0\n");
}

#[test]
fn the_session_is_its_own_and_has_no_terminal() {
    let host = Host::start();
    // Fields 5 to 7 of stat: process group, session, terminal. The program is the session's first.
    let text = host
        .run(&host.spec(&["/bin/sh", "-c", "cut -d' ' -f1,5,6,7 /proc/$$/stat"]))
        .output();
    let fields: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(fields[0], fields[1]);
    assert_eq!(fields[0], fields[2]);
    assert_eq!(fields[3], "0");
    // ENXIO
    assert_eq!(
        host.probe(&["calls", "tty:257:-100,@/dev/tty,2"]),
        ["tty errno 6"]
    );
}

#[test]
fn standard_input_is_empty() {
    let host = Host::start();
    assert_eq!(
        host.sh("cat | wc -c; readlink /proc/self/fd/0"),
        "0\n/dev/null\n"
    );
}

#[test]
fn orphans_are_reaped() {
    let host = Host::start();
    let mut spec = host.spec(&["/probe", "forks", "3000"]);
    spec.limits.processes = Some(32);
    assert_eq!(host.run(&spec).output(), "forked 3000\n");
}

#[test]
fn init_cannot_be_ended_or_stopped_from_inside() {
    let host = Host::start();
    let text =
        host.sh("kill -STOP 1; kill -KILL 1; usleep 20000; grep State /proc/1/status; echo alive");
    assert_eq!(text, "State:\tS (sleeping)\nalive\n");
    // Nor can it be traced: PTRACE_SEIZE, PTRACE_ATTACH.
    assert_eq!(
        host.probe(&["calls", "seize:101:0x4206,1,0,0", "attach:101:16,1,0,0"]),
        ["seize errno 1", "attach errno 1"]
    );
}

#[test]
fn a_signal_reaches_the_program() {
    let host = Host::start();
    let share = host.make("share");
    let mut spec = host.shell(
        "trap 'echo got it; exit 7' USR1; touch /share/ready; while :; do usleep 1000; done",
    );
    spec.mounts.push(host.mount(&share, "/share", true));
    host.order(&spec);
    crate::kit::until("the program is ready", || share.join("ready").exists());
    host.ask(Request::Signal {
        id: spec.id.clone(),
        signal: 10,
    });
    let done = host.wait(&spec);
    assert_eq!(done.ended.ending, Ending::Exited { code: 7 });
    assert_eq!(done.output, "got it\n");
}

#[test]
fn the_executors_program_cannot_be_written() {
    let host = Host::start();
    let before = fs::read(crate::kit::regatta())
        .map(|bytes| regatta_model::Digest::of(&bytes))
        .unwrap();
    // CVE-2019-5736: whoever runs /proc/self/exe, or opens that of init for writing, has the host's program.
    let mut spec = host.spec(&["/entry"]);
    spec.layers.push(host.layer("entry-layer", |root| {
        fs::write(root.join("entry"), "#!/proc/self/exe\n").unwrap();
        fs::set_permissions(
            root.join("entry"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
    }));
    let done = host.run(&spec);
    assert_ne!(
        done.ended.ending,
        Ending::Exited { code: 0 },
        "{}",
        done.output
    );
    assert!(!done.output.contains("regatta"), "{}", done.output);
    let tried = host.sh(
        "i=0; while [ $i -lt 300 ]; do for p in /proc/[0-9]*/exe; do
             [ $p = /proc/$$/exe ] || (echo x > $p) 2>/dev/null && echo opened $p; done; i=$((i+1)); done; \
         cat /proc/1/exe 2>/dev/null | wc -c",
    );
    let opened: Vec<&str> = tried
        .lines()
        .filter(|line| line.starts_with("opened /proc/1/"))
        .collect();
    assert!(opened.is_empty(), "{opened:?}");
    assert!(
        tried.ends_with("\n0\n") || tried == "0\n",
        "init's program can be read: {tried}"
    );
    let after = fs::read(crate::kit::regatta())
        .map(|bytes| regatta_model::Digest::of(&bytes))
        .unwrap();
    assert_eq!(before, after);
}

#[test]
fn a_working_directory_is_no_way_out() {
    let host = Host::start();
    for number in 0..48 {
        // CVE-2024-21626: a descriptor of the host's that is still open when the directory is changed.
        let mut spec = host
            .shell("cat ../../../../canary ../../canary canary 2>/dev/null; pwd -P; stat -c %i /");
        spec.process.workdir = format!("/proc/self/fd/{number}");
        let done = host.run(&spec);
        match done.ended.ending {
            Ending::CannotStart { .. } => {}
            Ending::Exited { .. } => {
                assert!(
                    !done.output.contains("only the host"),
                    "{number}: {}",
                    done.output
                );
                assert!(
                    !done.output.contains("unreachable"),
                    "{number}: {}",
                    done.output
                );
            }
            other => panic!("{number}: {other:?} {}", done.output),
        }
    }
    let mut spec = host.spec(&["/probe", "cwd"]);
    spec.process.workdir = "/made/for/it".to_owned();
    assert_eq!(host.run(&spec).output(), "/made/for/it\n");
}

#[test]
fn what_cannot_start_says_why() {
    let host = Host::start();
    for (argv, expected) in [
        ("/no/such/program", "/no/such/program"),
        ("/etc/passwd", "/etc/passwd"),
        ("nowhere", "nowhere"),
    ] {
        let done = host.run(&host.spec(&[argv]));
        let Ending::CannotStart { message } = done.ended.ending else {
            panic!("{argv}: {:?}", done.ended.ending);
        };
        assert!(message.contains(expected), "{message}");
    }
}
