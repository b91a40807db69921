//! `exec` and `image`: a container by hand, and a mould made from it.

use regatta_tests::busybox;
use std::time::Duration;

use regatta_tests::command::Data;
use regatta_tests::leaks::Left;
use regatta_tests::process::Process;
use regatta_tests::wait_until;

fn ready() -> Data {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    data
}

#[test]
fn exec_gives_the_commands_output_and_status() {
    let data = ready();
    let done = data
        .run([
            "exec",
            "busybox",
            "--",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 7",
        ])
        .expect(7);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\n", "err\n"));
    data.run(["exec", "busybox", "--", "sh", "-c", "kill -TERM $$"])
        .expect(128 + 15);
    let done = data
        .run(["exec", "busybox", "--", "no-such-command"])
        .expect(127);
    assert!(done.err.contains("no-such-command"), "{}", done.err);
    let done = data
        .run(["exec", "no-such-image:1", "--", "true"])
        .expect(125);
    assert!(done.err.contains("no-such-image"), "{}", done.err);
}

#[test]
fn exec_takes_environment_user_and_limits() {
    let data = ready();
    let done = data
        .run([
            "exec",
            "busybox",
            "--env",
            "A=b c",
            "--user",
            "tester",
            "--workdir",
            "/tmp",
            "--",
            "sh",
            "-c",
            "echo $A $(id -un) $(id -G) $PWD",
        ])
        .expect(0);
    assert_eq!(done.out, "b c tester 1000 2000 /tmp\n");
    let done = data.run([
        "exec",
        "busybox",
        "--timeout",
        "300ms",
        "--",
        "sleep",
        "100",
    ]);
    assert!(
        done.err.contains("timed out"),
        "{} {}",
        done.status,
        done.err
    );
    let done = data.run([
        "exec",
        "busybox",
        "--memory",
        "20MiB",
        "--",
        "sh",
        "-c",
        "dd if=/dev/zero of=/dev/shm/x bs=1M count=60; tail /dev/zero",
    ]);
    assert!(
        done.status == 137 && done.err.contains("memory"),
        "{} {}",
        done.status,
        done.err
    );
}

#[test]
fn a_volume_outlives_its_containers_and_a_read_only_one_stays() {
    let data = ready();
    data.run([
        "exec",
        "busybox",
        "--volume",
        "v:/v",
        "--",
        "sh",
        "-c",
        "echo kept > /v/file",
    ])
    .expect(0);
    let done = data.run([
        "exec",
        "busybox",
        "--volume",
        "v:/v:ro",
        "--",
        "sh",
        "-c",
        "cat /v/file; echo x > /v/file",
    ]);
    assert_eq!(
        (done.out.as_str(), done.status),
        ("kept\n", 1),
        "{}",
        done.err
    );
}

#[test]
fn a_committed_container_is_a_mould() {
    let data = ready();
    data.run([
        "exec",
        "busybox",
        "--commit",
        "updated",
        "--",
        "sh",
        "-c",
        "echo new > /made; rm /etc/group",
    ])
    .expect(0);
    let done = data
        .run(["exec", "updated", "--", "sh", "-c", "cat /made; ls /etc"])
        .expect(0);
    assert_eq!(done.out, "new\nhostname\nhosts\npasswd\nresolv.conf\n");
}

#[test]
fn a_command_that_ends_leaves_the_containers_of_others_alone() {
    let data = ready();
    let wait = "touch /sign/begun; until test -e /sign/go; do sleep 0.1; done; echo done";
    // The first one starts the executor, and ends while the second one still runs.
    let mut first = data.command([
        "exec",
        "busybox",
        "--volume",
        "one:/sign",
        "--",
        "sh",
        "-c",
        wait,
    ]);
    let mut first = Process::start(&mut first, &data.path().join("first.log"));
    let volumes = data.path().join("volumes");
    let begun = |name: &str| volumes.join(name).join("begun").exists();
    wait_until("the first runs", Duration::from_secs(60), || begun("one"));
    let mut second = data.command([
        "exec",
        "busybox",
        "--volume",
        "two:/sign",
        "--",
        "sh",
        "-c",
        wait,
    ]);
    let log = data.path().join("second.log");
    let mut second = Process::start(&mut second, &log);
    wait_until("the second runs", Duration::from_secs(60), || begun("two"));
    std::fs::write(volumes.join("one/go"), "").unwrap();
    first.wait();
    std::fs::write(volumes.join("two/go"), "").unwrap();
    second.wait();
    assert_eq!(std::fs::read_to_string(log).unwrap(), "done\n");
    wait_until(
        "the executor ends with the last",
        Duration::from_secs(30),
        || Left::of(data.path(), &[]).is_empty(),
    );
}
