//! Images that put links where Regatta mounts things: none of them leads out.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use regatta_model::container::{ContainerSpec, Ending};

use crate::kit::Host;

/// A container whose only layer is the test's root with `name` replaced by a link.
fn with_link(host: &Host, name: &str, to: &Path, line: &str) -> ContainerSpec {
    let mut spec = host.shell(line);
    spec.layers.push(host.layer(
        &format!("link-{}-{}", name.replace('/', "-"), spec.id),
        |root| {
            let place = root.join(name);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            symlink(to, place).unwrap();
        },
    ));
    spec
}

/// Whether a container either ran, or was refused for the container's own doing.
fn is_calm(ending: &Ending) -> bool {
    matches!(ending, Ending::Exited { .. } | Ending::CannotStart { .. })
}

#[test]
fn an_image_whose_system_directories_are_links_stays_inside() {
    let host = Host::start();
    let bait = host.make("bait");
    fs::write(bait.join("canary"), "untouched").unwrap();
    let far = "../".repeat(20);
    for name in [
        "dev", "proc", "sys", "etc", "run", "tmp", "sys/fs", "dev/shm",
    ] {
        for to in [
            bait.clone(),
            Path::new(&far).join(bait.strip_prefix("/").unwrap()),
            "/".into(),
            "/proc/self/root".into(),
        ] {
            let done = host.run(&with_link(
                &host,
                name,
                &to,
                "cat /canary 2>/dev/null; echo calm",
            ));
            let ending = &done.ended.ending;
            let refused = matches!(ending, Ending::HostFault { .. });
            assert!(
                is_calm(ending) || refused,
                "{name} -> {}: {ending:?}",
                to.display()
            );
            assert!(
                !done.output.contains("untouched"),
                "{name} -> {}",
                to.display()
            );
            let names: Vec<_> = fs::read_dir(&bait)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(names, ["canary"], "{name} -> {}", to.display());
            assert_eq!(
                fs::read_to_string(bait.join("canary")).unwrap(),
                "untouched"
            );
        }
    }
}

#[test]
fn an_image_that_fakes_devices_gets_the_real_ones() {
    let host = Host::start();
    // CVE-2025-31133, CVE-2025-52565: what is mounted over hidden files, or over the console, is a link.
    for name in [
        "dev/null",
        "dev/console",
        "dev/pts/0",
        "dev/ptmx",
        "dev/zero",
    ] {
        let spec = with_link(
            &host,
            name,
            Path::new("/proc/sys/kernel/core_pattern"),
            "[ -c /dev/null ] && echo device; head -c 9 /proc/kcore 2>/dev/null | wc -c; echo x 2>/dev/null > /proc/sys/kernel/core_pattern || echo refused",
        );
        assert_eq!(host.run(&spec).output(), "device\n0\nrefused\n", "{name}");
    }
}

#[test]
fn a_mount_target_that_is_a_link_stays_inside() {
    let host = Host::start();
    let (bait, given) = (host.make("bait"), host.make("given"));
    fs::write(given.join("file"), "given").unwrap();
    for to in [
        bait.as_path(),
        Path::new("/proc/self/fd"),
        Path::new("/proc/1/root"),
        Path::new("/sys"),
    ] {
        let mut spec = with_link(&host, "data", to, "cat /data/in/file 2>/dev/null");
        spec.mounts.push(host.mount(&given, "/data/in", true));
        let done = host.run(&spec);
        assert!(
            is_calm(&done.ended.ending),
            "{}: {:?}",
            to.display(),
            done.ended.ending
        );
        assert_eq!(fs::read_dir(&bait).unwrap().count(), 0, "{}", to.display());
    }
}

#[test]
fn a_mount_over_the_kernels_file_systems_is_refused_or_harmless() {
    let host = Host::start();
    let fake = host.make("fake");
    fs::create_dir_all(fake.join("sys/kernel")).unwrap();
    fs::write(fake.join("sys/kernel/core_pattern"), "fake").unwrap();
    for target in [
        "/proc",
        "/proc/self",
        "/proc/self/attr",
        "/proc/sys",
        "/sys",
        "/sys/fs/cgroup",
        "/dev",
        "/",
        "/../..",
        "/dev/null",
    ] {
        let mut spec = host.shell(
            "echo x 2>/dev/null > /proc/sys/kernel/core_pattern; grep CapEff /proc/self/status",
        );
        spec.mounts.push(host.mount(&fake, target, false));
        match host.order(&spec) {
            regatta_model::container::Message::Refused { message } => {
                assert!(message.contains(target), "{message}")
            }
            _ => {
                let done = host.wait(&spec);
                assert!(
                    is_calm(&done.ended.ending),
                    "{target}: {:?}",
                    done.ended.ending
                );
            }
        }
    }
    assert_eq!(
        fs::read_to_string(fake.join("sys/kernel/core_pattern")).unwrap(),
        "fake"
    );
}
