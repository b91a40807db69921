//! Images from containers: what a container wrote becomes a layer, whatever it wrote. May not: follow it.

use std::fs;
use std::os::unix::fs::symlink;

use regatta_image::commit::{self, Options};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::place::{Place, set_mode};

fn upper(place: &Place) -> std::path::PathBuf {
    let upper = place.data.path().join("upper");
    fs::create_dir_all(&upper).unwrap();
    upper
}

#[test]
fn an_upper_directory_becomes_a_layer() {
    let place = Place::with_busybox();
    let base = place.store.resolve("busybox").unwrap();
    let upper = upper(&place);
    fs::create_dir_all(upper.join("home")).unwrap();
    fs::create_dir_all(upper.join("a/b")).unwrap();
    fs::write(upper.join("a/b/file"), "new").unwrap();
    fs::hard_link(upper.join("a/b/file"), upper.join("a/hard")).unwrap();
    symlink("/etc/shadow", upper.join("a/link")).unwrap();
    set_mode(&upper.join("a/b/file"), 0o2711);
    xattr::set(upper.join("a/b/file"), "user.note", b"kept").unwrap();
    fs::create_dir(upper.join("bin")).unwrap();
    xattr::set(upper.join("bin"), "trusted.overlay.opaque", b"y").unwrap();
    fs::write(upper.join("bin/only"), "one").unwrap();
    fs::create_dir(upper.join("etc")).unwrap();
    mknodat(
        CWD,
        upper.join("etc/group"),
        FileType::CharacterDevice,
        Mode::empty(),
        0,
    )
    .unwrap();
    let long = "n".repeat(200);
    fs::create_dir(upper.join(&long)).unwrap();
    fs::write(upper.join(&long).join(&long), "long").unwrap();
    let options = Options {
        created_by: "by hand".into(),
        epoch: Some(1_000),
    };
    let image = commit::commit(&place.store, &base, &upper, &options).unwrap();
    let tree = place.tree(&image);
    assert_eq!(tree["/a/b/file"], "new 2711 0:0");
    assert_eq!(tree["/a/link"], "-> /etc/shadow 777 0:0");
    assert_eq!(tree[&format!("/{long}/{long}")], "long 644 0:0");
    assert_eq!(tree["/bin/only"], "one 644 0:0");
    assert!(
        !tree.contains_key("/bin/sh"),
        "an opaque directory hides what was below"
    );
    assert!(tree.contains_key("/etc/passwd") && !tree.contains_key("/etc/group"));
    let layer = place.store.unpack(&image).unwrap().pop().unwrap();
    assert_eq!(crate::place::links(&layer.join("a/hard")), 2);
    assert_eq!(
        xattr::get(layer.join("a/b/file"), "user.note")
            .unwrap()
            .unwrap(),
        b"kept"
    );
    let config = place.config(&image);
    assert_eq!(
        config["history"].as_array().unwrap().last().unwrap()["created_by"],
        "by hand"
    );
    assert_eq!(
        commit::commit(&place.store, &base, &upper, &options).unwrap(),
        image
    );
    // What others unpack is the same.
    place.store.tag("mine", &image).unwrap();
    let bundle = place.data.path().join("bundle");
    let status = std::process::Command::new("umoci")
        .args([
            "unpack",
            "--image",
            &format!("{}:mine:latest", place.store.directory().display()),
        ])
        .arg(&bundle)
        .output()
        .unwrap();
    assert!(
        status.status.success(),
        "{}",
        String::from_utf8_lossy(&status.stderr)
    );
    assert_eq!(
        fs::read_to_string(bundle.join("rootfs").join(&long).join(&long)).unwrap(),
        "long"
    );
    assert!(!bundle.join("rootfs/bin/sh").exists() && !bundle.join("rootfs/etc/group").exists());
}

#[test]
fn a_container_that_changed_nothing_adds_no_layer() {
    let place = Place::with_busybox();
    let base = place.store.resolve("busybox").unwrap();
    let image = commit::commit(&place.store, &base, &upper(&place), &Options::default()).unwrap();
    assert_eq!(
        place.store.manifest(&image).unwrap().layers,
        place.store.manifest(&base).unwrap().layers
    );
}

#[test]
fn names_that_would_mean_something_else_are_refused() {
    let place = Place::with_busybox();
    let base = place.store.resolve("busybox").unwrap();
    for name in [".wh.passwd", ".wh..wh..opq", ".wh."] {
        let upper = upper(&place);
        fs::create_dir_all(upper.join("etc")).unwrap();
        fs::write(upper.join("etc").join(name), "").unwrap();
        let error = commit::commit(&place.store, &base, &upper, &Options::default()).unwrap_err();
        assert!(error.to_string().contains("rename it"), "{error}");
        fs::remove_dir_all(upper).unwrap();
    }
    let upper = upper(&place);
    fs::create_dir(upper.join("moved")).unwrap();
    xattr::set(upper.join("moved"), "trusted.overlay.redirect", b"/etc").unwrap();
    let error = commit::commit(&place.store, &base, &upper, &Options::default()).unwrap_err();
    assert!(error.to_string().contains("another layer"), "{error}");
    fs::remove_dir_all(&upper).unwrap();
    let mut deep = upper.clone();
    for _ in 0..300 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    let error = commit::commit(&place.store, &base, &upper, &Options::default()).unwrap_err();
    assert!(error.to_string().contains("unpack.depth"), "{error}");
}
