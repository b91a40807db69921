//! `exec` and `image`: a container by hand, and a mould made from it.

use regatta_tests::busybox;
use regatta_tests::command::Data;

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
