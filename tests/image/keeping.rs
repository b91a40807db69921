//! Names, what is kept and what is removed, and who may look. May not: depend on the order of tests.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

use regatta_image::archive::{Import, PackOptions, pack, pack_directory};
use regatta_image::{Silent, Store, UnpackLimits, passwd};

use crate::place::{Place, run, tree};
use crate::tars::{dir, file, gzip, hardlink, pax, symlink, tar};

#[test]
fn names_are_given_moved_and_taken() {
    let place = Place::new();
    let one = place.import(&tar(&[file("x", "one")]), "one").unwrap();
    let two = place
        .import(&tar(&[file("x", "two")]), "team/two:3")
        .unwrap();
    let store = &place.store;
    for name in [
        "one",
        "one:latest",
        "docker.io/library/one",
        &one.to_string(),
        &format!("one@{one}"),
    ] {
        assert_eq!(store.resolve(name), Some(one), "{name}");
    }
    assert_eq!(store.resolve("team/two"), None);
    assert_eq!(store.resolve("no name at all!"), None);
    store.tag("alias:1", &one).unwrap();
    store.tag("alias:1", &two).unwrap();
    assert_eq!(store.resolve("alias:1"), Some(two));
    let names: Vec<_> = store
        .list()
        .unwrap()
        .into_iter()
        .map(|listed| listed.name)
        .collect();
    assert_eq!(names, ["alias:1", "one:latest", "team/two:3"]);
    let inspected = store.inspect("team/two:3").unwrap();
    assert_eq!(inspected.names, ["alias:1", "team/two:3"]);
    assert_eq!(inspected.config["config"]["Cmd"][0], "/bin/sh");
    store.remove("team/two:3").unwrap();
    assert_eq!(store.resolve("alias:1"), Some(two));
    assert_eq!(
        store
            .remove("team/two:3")
            .unwrap_err()
            .to_string()
            .lines()
            .count(),
        1
    );
    // Another opening, as another process has it, sees the same.
    let again = Store::open(store.directory()).unwrap();
    assert_eq!(again.resolve("alias:1"), Some(two));
    assert!(
        store
            .tag("alias:1", &regatta_model::Digest::of(b"nothing"))
            .is_err()
    );
}

#[test]
fn what_no_name_refers_to_is_pruned_and_what_is_held_is_not() {
    let place = Place::new();
    let empty = place.content();
    let store = &place.store;
    let shared = tar(&[file("x", "shared")]);
    let one = place.import(&shared, "one").unwrap();
    let options = Import {
        command: vec!["/other".into()],
        ..Import::default()
    };
    let two = store
        .import(shared.as_slice(), "two", &options, &Silent)
        .unwrap();
    assert_ne!(one, two);
    let layers = store.unpack(&one).unwrap();
    let freed = store.remove("two").unwrap();
    assert_eq!(
        (freed.blobs, freed.layers),
        (2, 0),
        "the layer is one's too"
    );
    assert!(layers[0].exists());
    let hold = store.hold(&one).unwrap();
    let other = Store::open(store.directory()).unwrap();
    store.untag("one").unwrap();
    assert_eq!(other.prune().unwrap().blobs, 0, "held");
    assert!(layers[0].exists());
    drop(hold);
    let work = store.work().unwrap();
    assert!(
        other.prune().unwrap_err().to_string().contains("in use"),
        "work is under way"
    );
    drop(work);
    let freed = other.prune().unwrap();
    assert_eq!((freed.blobs, freed.layers), (3, 1));
    drop(other);
    assert_eq!(place.content(), empty);
}

#[test]
fn holds_end_with_their_process() {
    let place = Place::new();
    let one = place.import(&tar(&[file("x", "one")]), "one").unwrap();
    let store = Store::open(place.store.directory()).unwrap();
    let hold = store.hold(&one).unwrap();
    std::mem::forget(hold);
    place.store.untag("one").unwrap();
    // A session that ended without letting go: its lock is gone, its file is not.
    let holds = place.path("store/holds");
    let held = std::fs::read_dir(&holds).unwrap().next().unwrap().unwrap();
    std::fs::write(holds.join("999999-dead-0"), one.to_string()).unwrap();
    assert_eq!(place.store.prune().unwrap().blobs, 0);
    std::fs::remove_file(held.path()).unwrap();
    assert_eq!(place.store.prune().unwrap().blobs, 3);
    assert_eq!(std::fs::read_dir(&holds).unwrap().count(), 0);
}

#[test]
fn locks_of_layers_end_with_their_process() {
    let place = Place::new();
    // A process that was killed between unpacking a layer and removing its lock's file.
    let left = place
        .path("store/locks")
        .join(format!("layer-{}", "0".repeat(64)));
    std::fs::write(&left, "").unwrap();
    drop(Store::open(place.store.directory()).unwrap());
    assert!(!left.exists());
    // The lock of a layer that another process unpacks stays.
    std::fs::write(&left, "").unwrap();
    let held = std::fs::File::open(&left).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    drop(Store::open(place.store.directory()).unwrap());
    assert!(left.exists());
}

#[test]
fn the_store_is_closed_to_other_users() {
    let place = Place::new();
    let su = file("su", "x").mode(0o4755);
    let digest = place.import(&tar(&[su]), "one").unwrap();
    let layers = place.store.unpack(&digest).unwrap();
    assert_eq!(
        place.path("store").metadata().unwrap().mode() & 0o777,
        0o700
    );
    // The directory above is open, so that the store's own door is what is tried.
    std::fs::set_permissions(place.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    for path in [place.path("store/index.json"), layers[0].join("su")] {
        let script = format!("! cat {}", path.display());
        run(
            "setpriv",
            &[
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "sh",
                "-c",
                &script,
            ],
        );
    }
}

#[test]
fn every_compression_gives_the_same_layer() {
    let place = Place::new();
    let plain = tar(&[dir("d"), file("d/x", "content".repeat(10_000))]);
    let path = place.path("plain.tar");
    std::fs::write(&path, &plain).unwrap();
    run("xz", &["--keep", path.to_str().unwrap()]);
    let half = plain.len() / 2;
    let members = [gzip(&plain[..half]), gzip(&plain[half..])].concat();
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let frames = [zstd(&plain[..half]), zstd(&plain[half..])].concat();
    let mut layers = Vec::new();
    for (name, bytes) in [
        ("plain", plain.clone()),
        ("gzip", gzip(&plain)),
        ("members", members),
        ("zstd", zstd(&plain)),
        ("frames", frames),
        ("xz", std::fs::read(place.path("plain.tar.xz")).unwrap()),
    ] {
        let digest = place.import(&bytes, name).unwrap();
        let inspected = place.store.inspect(name).unwrap();
        assert_eq!(
            inspected.layers[0].diff_id,
            regatta_model::Digest::of(&plain),
            "{name}"
        );
        layers.push(place.store.unpack(&digest).unwrap());
    }
    layers.dedup();
    assert_eq!(layers.len(), 1);
}

#[test]
fn what_files_have_is_kept() {
    let place = Place::new();
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let bytes = [
        crate::tars::entry(&pax(&[
            ("mtime", b"1234567890.123456789"),
            ("SCHILY.xattr.user.note", b"hello"),
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.trusted.secret", b"no"),
        ])),
        tar(&[
            file("d/ping", "x").mode(0o755).owner(70_000, 3),
            hardlink("d/pong", "d/ping"),
            symlink("l", "d"),
            dir("d").mode(0o2750).owner(5, 6),
        ]),
    ]
    .concat();
    let digest = place.import(&bytes, "kept").unwrap();
    let fs = place.store.unpack(&digest).unwrap().remove(0);
    let ping = fs.join("d/ping").symlink_metadata().unwrap();
    assert_eq!(
        (ping.mode() & 0o7777, ping.uid(), ping.gid(), ping.nlink()),
        (0o755, 70_000, 3, 2)
    );
    assert_eq!(
        (ping.mtime(), ping.mtime_nsec()),
        (1_234_567_890, 123_456_789)
    );
    assert_eq!(fs.join("d/pong").metadata().unwrap().ino(), ping.ino());
    assert_eq!(
        xattr::get(fs.join("d/ping"), "user.note").unwrap().unwrap(),
        b"hello"
    );
    assert_eq!(
        xattr::get(fs.join("d/ping"), "security.capability")
            .unwrap()
            .unwrap(),
        capability
    );
    assert_eq!(
        xattr::get(fs.join("d/ping"), "trusted.secret").unwrap(),
        None
    );
    let d = fs.join("d").metadata().unwrap();
    assert_eq!(
        (d.mode() & 0o7777, d.uid(), d.gid(), d.mtime()),
        (0o2750, 5, 6, 1_000_000_000)
    );
    assert_eq!(
        fs.join("l").symlink_metadata().unwrap().mtime(),
        1_000_000_000
    );
}

#[test]
fn sparse_files_of_gnu_tar_are_unpacked_with_their_holes() {
    let place = Place::new();
    let source = place.path("source");
    std::fs::create_dir(&source).unwrap();
    let file = std::fs::File::create(source.join("holes")).unwrap();
    for at in 0..40_u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[b'a'; 4096], at * 1_000_000).unwrap();
    }
    file.set_len(50_000_000).unwrap();
    let wanted = std::fs::read(source.join("holes")).unwrap();
    for form in [
        "--format=gnu",
        "--format=posix --sparse-version=0.0",
        "--format=posix --sparse-version=0.1",
        "--format=posix --sparse-version=1.0",
    ] {
        let out = place.path("sparse.tar");
        let mut arguments = vec![
            "--create",
            "--sparse",
            "--file",
            out.to_str().unwrap(),
            "-C",
            source.to_str().unwrap(),
        ];
        arguments.extend(form.split(' '));
        arguments.push("holes");
        run("tar", &arguments);
        let digest = place
            .import(&std::fs::read(&out).unwrap(), "sparse")
            .unwrap();
        let fs = place.store.unpack(&digest).unwrap().remove(0);
        assert!(std::fs::read(fs.join("holes")).unwrap() == wanted, "{form}");
        assert!(
            fs.join("holes").metadata().unwrap().blocks() * 512 < 1_000_000,
            "{form}"
        );
    }
}

#[test]
fn a_packed_directory_depends_on_its_content_only() {
    let place = Place::new();
    let make = |name: &str, order: &[&str]| {
        let root = place.path(name);
        std::fs::create_dir_all(root.join("sub/deep")).unwrap();
        for file in order {
            std::fs::write(root.join(file), format!("content of {file}")).unwrap();
        }
        std::os::unix::fs::symlink("b", root.join("link")).unwrap();
        std::fs::hard_link(root.join("a"), root.join("sub/same")).unwrap();
        let mut tar = Vec::new();
        let packed = pack(&root, &mut tar).unwrap();
        assert_eq!(packed.entries, 8);
        tar
    };
    let long = format!("sub/{}", "n".repeat(150));
    let one = make("one", &["a", "b", "sub/deep/ü", &long]);
    let two = make("two", &["sub/deep/ü", &long, "b", "a"]);
    assert!(one == two);
    let into = place.path("into");
    std::fs::create_dir(&into).unwrap();
    place
        .store
        .unpack_tar(one.as_slice(), &into, &UnpackLimits::default())
        .unwrap();
    let (mut found, mut wanted) = (tree(&into, ""), tree(&place.path("one"), ""));
    found.remove("");
    wanted.remove("");
    assert_eq!(found, wanted);
    std::fs::write(place.path("one/.wh.a"), "").unwrap();
    assert!(
        pack(&place.path("one"), &mut Vec::new())
            .unwrap_err()
            .to_string()
            .contains(".wh.")
    );
}

#[test]
fn a_filter_chooses_what_is_packed() {
    use regatta_image::archive::Take;
    let place = Place::new();
    let root = place.path("root");
    std::fs::create_dir_all(root.join("keep/some")).unwrap();
    std::fs::create_dir_all(root.join("drop/all")).unwrap();
    for name in ["keep/some/x", "keep/some/y", "drop/all/x", "z"] {
        std::fs::write(root.join(name), "").unwrap();
    }
    let mut filter =
        |path: &std::path::Path, is_directory: bool| match path.file_name().unwrap().to_str() {
            Some("x") => Take::Yes,
            Some("all") => Take::No,
            _ if is_directory => Take::Below,
            _ => Take::No,
        };
    let mut tar = Vec::new();
    let options = PackOptions {
        prefix: "at".into(),
        filter: Some(&mut filter),
        ..PackOptions::default()
    };
    pack_directory(&root, options, &mut tar).unwrap();
    let path = place.path("out.tar");
    std::fs::write(&path, tar).unwrap();
    let names = run("tar", &["--list", "--file", path.to_str().unwrap()]);
    assert_eq!(
        names.lines().collect::<Vec<_>>(),
        ["at/keep/", "at/keep/some/", "at/keep/some/x"]
    );
}

#[test]
fn users_are_looked_up_through_the_merged_layers() {
    let place = Place::new();
    let base = tar(&[
        dir("etc"),
        file("etc/passwd", "ann:x:1:2::/old:/bin/sh\n"),
        file("etc/group", "g:x:9:ann\n"),
    ]);
    let upper = tar(&[
        dir("etc"),
        symlink("etc/passwd", "/../usr/passwd"),
        dir("usr"),
        file("usr/passwd", "ann:x:3:4::/new:/bin/sh\n"),
    ]);
    let top = tar(&[dir("etc"), file("etc/.wh.group", "")]);
    let layers: Vec<_> = [base, upper, top]
        .iter()
        .enumerate()
        .map(|(at, tar)| {
            let into = place.path(&format!("layer{at}"));
            std::fs::create_dir(&into).unwrap();
            place
                .store
                .unpack_tar(tar.as_slice(), &into, &UnpackLimits::default())
                .unwrap();
            into
        })
        .collect();
    let find = |layers: &[std::path::PathBuf]| {
        let user = passwd::resolve(layers, "ann").unwrap();
        (user.uid, user.gid, user.groups, user.home)
    };
    assert_eq!(find(&layers[..1]), (1, 2, vec![9], "/old".into()));
    assert_eq!(find(&layers[..2]), (3, 4, vec![9], "/new".into()));
    assert_eq!(find(&layers), (3, 4, vec![], "/new".into()));
}
