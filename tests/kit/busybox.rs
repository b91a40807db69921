//! A root filesystem of busybox alone, as a tar and as an image. May not: need a network.

use std::path::PathBuf;
use std::process::Command;

use crate::command::Data;

/// A tar of a root with busybox' applets, /etc/passwd with root and `tester` (1000), and /tmp.
pub fn root_tar(data: &Data) -> PathBuf {
    let root = data.path().join("busybox-root");
    let tar = data.path().join("busybox.tar");
    if tar.exists() {
        return tar;
    }
    for directory in ["bin", "etc", "tmp", "root", "home/tester", "var/tmp"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))
        .expect("busybox is missing: apt-get install busybox-static");
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout)
        .unwrap()
        .lines()
        .filter(|applet| *applet != "busybox")
    {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\ntester:x:1000:1000::/home/tester:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(
        root.join("etc/group"),
        "root:x:0:\ntester:x:1000:\nextra:x:2000:tester\n",
    )
    .unwrap();
    let status = Command::new("tar")
        .args([
            "--create",
            "--numeric-owner",
            "--owner=0",
            "--group=0",
            "--sort=name",
            "--mtime=@0",
        ])
        .arg("--file")
        .arg(&tar)
        .arg("--directory")
        .arg(&root)
        .arg(".")
        .status()
        .unwrap();
    assert!(status.success());
    tar
}

/// Imports it as the image `busybox` into a data directory.
pub fn import(data: &Data) {
    let tar = root_tar(data);
    data.run(["image", "import", tar.to_str().unwrap(), "busybox"])
        .expect(0);
}
