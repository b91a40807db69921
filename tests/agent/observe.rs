//! What an agent sees of its host: a disk that is full, that is read-only, that has no files left.

use std::path::Path;
use std::process::Command;

use regatta_daemon::observe::observe;

/// A file system of its own.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(options: &str) -> Self {
        regatta_tests::need_root();
        let directory = tempfile::tempdir().unwrap();
        let disk = Self(directory);
        disk.mount(options);
        disk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn mount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "regatta-test"])
            .arg(self.path())
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "mount {options}"
        );
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

fn lacks(disk: &Disk) -> String {
    observe(disk.path()).lacks.join("; ")
}

#[test]
fn a_disk_with_room_lacks_nothing_and_nothing_is_left_on_it() {
    let disk = Disk::new("size=512m");
    let observed = observe(disk.path());
    assert_eq!(observed.lacks, Vec::<String>::new());
    assert!(observed.nodes_free.is_some_and(|nodes| nodes > 1000));
    assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0);
    let told = Path::new("/proc/pressure/cpu").exists();
    assert_eq!(observed.pressure.cpu.is_some(), told);
    assert!(observed.pressure.cpu.unwrap_or(0) <= 1000);
}

#[test]
fn a_full_disk_and_one_without_files_and_a_read_only_one_are_told() {
    let disk = Disk::new("size=300m");
    std::fs::write(disk.path().join("filler"), vec![0; 100 << 20]).unwrap();
    assert_eq!(lacks(&disk), "only 200 MiB are free where its data lies");
    let disk = Disk::new("size=512m,nr_inodes=20");
    assert_eq!(
        lacks(&disk),
        "only 19 more files can be made where its data lies"
    );
    let disk = Disk::new("size=512m");
    disk.mount("ro,size=512m");
    let seen = lacks(&disk);
    drop(Command::new("umount").arg(disk.path()).status());
    assert_eq!(seen, "its data lies on a file system that is read-only");
}

#[test]
fn data_that_cannot_be_written_is_told_whatever_the_disk_says() {
    let disk = Disk::new("size=512m");
    std::fs::create_dir(disk.path().join("probe")).unwrap();
    assert!(
        lacks(&disk).starts_with("its data cannot be written: "),
        "{}",
        lacks(&disk)
    );
}
