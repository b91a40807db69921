//! What of the host a container does not even see.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::kit::{Host, until};

#[test]
fn every_namespace_is_its_own() {
    let host = Host::start();
    for kind in ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup"] {
        let path = format!("/proc/self/ns/{kind}");
        let outside = fs::read_link(&path).unwrap().display().to_string();
        let inside = host.sh(&format!("readlink {path}"));
        assert!(inside.starts_with(&format!("{kind}:[")), "{inside}");
        assert_ne!(inside.trim(), outside);
    }
}

#[test]
fn ids_are_a_range_that_no_other_container_has() {
    let host = Host::start();
    let share = host.make("share");
    fs::set_permissions(&share, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut specs = Vec::new();
    // More than one block of ids has.
    let names: Vec<String> = (0..70).map(|number| format!("c{number}")).collect();
    for name in &names {
        let mut spec = host.shell(&format!(
            "cat /proc/self/uid_map /proc/self/gid_map > /share/{name}.new; mv /share/{name}.new /share/{name}
             while [ ! -e /share/go ]; do usleep 50000; done"
        ));
        spec.mounts.push(host.mount(&share, "/share", true));
        host.order(&spec);
        specs.push(spec);
    }
    until("all of them run", || {
        names.iter().all(|name| share.join(name).exists())
    });
    let mut taken = BTreeSet::new();
    for name in &names {
        let map = fs::read_to_string(share.join(name)).unwrap();
        let lines: Vec<Vec<u64>> = map
            .lines()
            .map(|line| {
                line.split_whitespace()
                    .map(|word| word.parse().unwrap())
                    .collect()
            })
            .collect();
        assert_eq!(
            lines.len(),
            2,
            "one range of users and one of groups: {map}"
        );
        for line in &lines {
            assert_eq!(line[0], 0);
            assert!(
                line[1] >= 65_536,
                "host ids below 65536 belong to people: {map}"
            );
            assert_eq!(line[2], 65_536);
        }
        assert_eq!(lines[0], lines[1]);
        assert!(taken.insert(lines[0][1]), "two containers share {map}");
    }
    let starts: Vec<u64> = taken.into_iter().collect();
    assert!(
        starts.windows(2).all(|pair| pair[1] - pair[0] >= 65_536),
        "{starts:?} overlap"
    );
    fs::write(share.join("go"), "").unwrap();
    for spec in &specs {
        host.wait(spec).output();
    }
}

#[test]
fn the_root_holds_the_layers_and_nothing_of_the_host() {
    let host = Host::start();
    let names = host.run(&host.spec(&["/bin/ls", "-A", "/"])).lines();
    assert_eq!(
        names,
        [
            "bin", "dev", "etc", "home", "probe", "proc", "sys", "tmp", "var"
        ]
    );
    let canary = host.path("canary").display().to_string();
    let seen = host.sh(&format!(
        "cat {canary} /proc/1/root{canary} /proc/self/root{canary} 2>&1 || true"
    ));
    assert!(!seen.contains("only the host"), "{seen}");
    // `..` of the root is the root, and nothing is mounted over it.
    let above = host.sh("cd /; cd ../../..; ls -A; stat -c %i / /..");
    assert!(above.starts_with("bin\ndev\n"), "{above}");
}

#[test]
fn mounts_do_not_travel_between_host_and_container() {
    let host = Host::start();
    let mounts = host.sh("cat /proc/self/mountinfo");
    assert!(mounts.lines().count() > 8, "{mounts}");
    for line in mounts.lines() {
        let before = line.split(" - ").next().unwrap();
        assert!(
            !before.contains("shared:") && !before.contains("master:"),
            "{line}"
        );
    }
    let roots = mounts
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some("/"))
        .count();
    assert_eq!(roots, 1, "the host's root is still beneath: {mounts}");
}

#[test]
fn processes_of_the_host_are_hidden() {
    let host = Host::start();
    let ids = host.sh("echo /proc/[0-9]*; cat /proc/1/comm; cat /proc/1/cmdline | tr '\\0' ' '");
    let mut lines = ids.lines();
    assert!(lines.next().unwrap().split(' ').count() <= 3, "{ids}");
    assert_eq!(lines.next(), Some("regatta-init"));
    let arguments = lines.next().unwrap_or_default();
    assert!(
        !arguments.contains('/'),
        "init shows paths of the host: {arguments}"
    );
    // No signal reaches outside: the host's ids mean nothing here.
    let own = std::process::id();
    assert_eq!(
        host.sh(&format!(
            "kill -0 {own} 2>/dev/null && echo reached || echo nobody"
        )),
        "nobody\n"
    );
}

#[test]
fn the_host_name_is_its_own_and_stays() {
    let host = Host::start();
    let before = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(
        host.sh("hostname; uname -n; cat /etc/hostname"),
        "box\nbox\nbox\n"
    );
    let tried = host.probe(&[
        "calls",
        "sethostname:170:@other,5",
        "setdomainname:171:@other,5",
    ]);
    assert_eq!(tried, ["sethostname errno 1", "setdomainname errno 1"]);
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap(),
        before
    );
}

#[test]
fn the_hosts_file_names_the_container() {
    let host = Host::start();
    let hosts = host.sh("cat /etc/hosts");
    let names = |address: &str| {
        let line = hosts
            .lines()
            .find(|line| line.split_whitespace().next() == Some(address));
        line.unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(
        names("127.0.0.1").contains(&"localhost".to_owned()),
        "{hosts}"
    );
    assert!(names("::1").contains(&"localhost".to_owned()), "{hosts}");
    assert!(
        hosts
            .lines()
            .any(|line| line.split_whitespace().any(|word| word == "box")),
        "{hosts}"
    );
}

#[test]
fn loopback_works_and_nothing_else_is_reached() {
    let host = Host::start();
    assert_eq!(host.probe(&["loopback"]), ["hello"]);
    let devices =
        host.sh("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; tail -n +2 /proc/net/route");
    assert_eq!(devices, "lo\n");
    // ENETUNREACH, or ECONNREFUSED by its own loopback.
    assert_eq!(host.probe(&["connect", "192.0.2.1:80"]), ["errno 101"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    assert_eq!(host.probe(&["connect", &address]), ["errno 111"]);
}

#[test]
fn abstract_sockets_of_the_host_are_out_of_reach() {
    let host = Host::start();
    let name = format!("regatta-canary-{}", std::process::id());
    let _listener =
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    assert_eq!(host.probe(&["abstract", &name]), ["errno 111"]);
    assert_eq!(host.sh("grep -c @ /proc/net/unix || true"), "0\n");
}

#[test]
fn shared_memory_and_queues_are_its_own() {
    let host = Host::start();
    let mine = format!("/dev/shm/regatta-canary-{}", std::process::id());
    fs::write(&mine, "host").unwrap();
    let seen = host.sh(&format!(
        "cat {mine} 2>&1; touch /dev/shm/x && ls /dev/shm; ls /dev/mqueue"
    ));
    fs::remove_file(&mine).unwrap();
    assert!(!seen.contains("host\n"), "{seen}");
    assert!(seen.ends_with("x\n"), "{seen}");
    let options = host.sh("grep -E ' /dev/(shm|mqueue|pts) ' /proc/mounts | cut -d' ' -f2,4");
    for line in options.lines() {
        assert!(line.contains("nosuid") && line.contains("noexec"), "{line}");
    }
    assert_eq!(options.lines().count(), 3, "{options}");
}
