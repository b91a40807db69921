//! Images pass between our store and skopeo and umoci, both ways, with the same digests. May not: need a
//! registry; that is the suite `registry`.

use std::path::Path;

use regatta_image::Silent;
use regatta_image::archive::Format;
use regatta_model::Digest;
use serde_json::Value;

use crate::place::{Place, run, tree};
use crate::tars::{dir, file, gzip, symlink, tar};

/// An image of two layers, made by umoci in an OCI layout; gives the directory.
fn by_umoci(place: &Place) -> String {
    let layout = place.path("umoci").to_str().unwrap().to_owned();
    let image = format!("{layout}:mine");
    run("umoci", &["init", "--layout", &layout]);
    run("umoci", &["new", "--image", &image]);
    for (name, heads) in [
        (
            "one.tar",
            vec![
                dir("bin"),
                file("bin/sh", "not really").mode(0o755),
                dir("etc"),
                file("etc/x", "x"),
            ],
        ),
        (
            "two.tar",
            vec![
                dir("etc"),
                file("etc/.wh.x", ""),
                file("etc/y", "y"),
                symlink("sh", "bin/sh"),
            ],
        ),
    ] {
        let path = place.path(name);
        std::fs::write(&path, tar(&heads)).unwrap();
        run(
            "umoci",
            &[
                "raw",
                "add-layer",
                "--image",
                &image,
                path.to_str().unwrap(),
            ],
        );
    }
    run(
        "umoci",
        &[
            "config",
            "--image",
            &image,
            "--config.cmd",
            "/bin/sh",
            "--config.env",
            "A=b",
        ],
    );
    layout
}

/// Manifest digest, configuration digest, layers: what must stay the same.
fn parts(place: &Place, transport: &str) -> (String, String, Vec<String>) {
    let raw = run("skopeo", &["inspect", "--raw", transport]);
    let manifest: Value = serde_json::from_str(&raw).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    let _ = place;
    (
        Digest::of(raw.as_bytes()).to_string(),
        manifest["config"]["digest"].as_str().unwrap().to_owned(),
        layers
            .iter()
            .map(|layer| layer["digest"].as_str().unwrap().to_owned())
            .collect(),
    )
}

fn load(place: &Place, path: &Path) -> regatta_image::archive::Loaded {
    place
        .store
        .load(std::fs::File::open(path).unwrap(), &Silent)
        .unwrap()
        .remove(0)
}

#[test]
fn oci_archives_keep_every_digest_both_ways() {
    let place = Place::new();
    let layout = by_umoci(&place);
    let original = parts(&place, &format!("oci:{layout}:mine"));
    let archive = place.path("in.tar");
    run(
        "skopeo",
        &[
            "copy",
            &format!("oci:{layout}:mine"),
            &format!("oci-archive:{}:mine:1", archive.display()),
        ],
    );
    let loaded = load(&place, &archive);
    assert_eq!(loaded.names, ["mine:1"]);
    assert_eq!(loaded.digest.to_string(), original.0);
    // Our store is itself a layout that they read.
    let store = place.store.directory().to_str().unwrap().to_owned();
    assert_eq!(parts(&place, &format!("oci:{store}:mine:1")), original);
    run("umoci", &["stat", "--image", &format!("{store}:mine:1")]);
    let out = place.path("out.tar");
    place
        .store
        .save(&["mine:1".into()], Format::Oci, &out, &Silent)
        .unwrap();
    assert_eq!(
        parts(&place, &format!("oci-archive:{}:mine:1", out.display())),
        original
    );
    let back = place.path("back").to_str().unwrap().to_owned();
    run(
        "skopeo",
        &[
            "copy",
            &format!("oci-archive:{}:mine:1", out.display()),
            &format!("oci:{back}:mine"),
        ],
    );
    assert_eq!(parts(&place, &format!("oci:{back}:mine")), original);
    // And what umoci unpacks is what we do.
    let bundle = place.path("bundle");
    run(
        "umoci",
        &[
            "unpack",
            "--image",
            &format!("{back}:mine"),
            bundle.to_str().unwrap(),
        ],
    );
    let theirs = tree(&bundle.join("rootfs"), "");
    assert_eq!(theirs["/etc/y"], "file y 644 0:0");
    assert!(!theirs.contains_key("/etc/x"));
    let layers = place.store.unpack(&loaded.digest).unwrap();
    assert_eq!(tree(&layers[1], "")["/etc/x"], "other 20000 0 0 0:0");
}

#[test]
fn docker_archives_keep_the_image_id_and_the_layers_both_ways() {
    let place = Place::new();
    let layout = by_umoci(&place);
    let original = parts(&place, &format!("oci:{layout}:mine"));
    let archive = place.path("in.tar");
    run(
        "skopeo",
        &[
            "copy",
            &format!("oci:{layout}:mine"),
            &format!("docker-archive:{}:mine:1", archive.display()),
        ],
    );
    let loaded = load(&place, &archive);
    assert_eq!(loaded.names, ["mine:1"]);
    let inspected = place.store.inspect("mine:1").unwrap();
    let diff_ids: Vec<_> = inspected
        .layers
        .iter()
        .map(|layer| layer.diff_id.to_string())
        .collect();
    // skopeo writes the configuration anew for Docker; what it tells of must stay.
    let theirs: Value = serde_json::from_str(&run(
        "skopeo",
        &[
            "inspect",
            "--config",
            "--raw",
            &format!("oci:{layout}:mine"),
        ],
    ))
    .unwrap();
    let wanted: Vec<_> = theirs["rootfs"]["diff_ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(diff_ids, wanted);
    assert_eq!(original.2.len(), 2);
    let out = place.path("out.tar");
    place
        .store
        .save(&["mine:1".into()], Format::Docker, &out, &Silent)
        .unwrap();
    let (_, config, layers) = parts(&place, &format!("docker-archive:{}:mine:1", out.display()));
    assert_eq!(config, inspected.config_digest.to_string());
    assert_eq!(
        layers, wanted,
        "layers are uncompressed, so their digests are the diffIDs"
    );
    // Back in, nothing has changed.
    let other = Place::new();
    let again = load(&other, &out);
    assert_eq!((again.digest, again.names), (loaded.digest, loaded.names));
}

#[test]
fn skopeo_writes_into_our_store_and_reads_out_of_it() {
    let place = Place::new();
    let base = place
        .import(&gzip(&tar(&[dir("bin"), file("bin/sh", "x")])), "base")
        .unwrap();
    let layout = by_umoci(&place);
    let store = place.store.directory().to_str().unwrap().to_owned();
    run(
        "skopeo",
        &[
            "copy",
            &format!("oci:{layout}:mine"),
            &format!("oci:{store}:theirs:1"),
        ],
    );
    assert_eq!(place.store.resolve("base"), Some(base));
    let theirs = place.store.resolve("theirs:1").unwrap();
    assert_eq!(
        theirs.to_string(),
        parts(&place, &format!("oci:{layout}:mine")).0
    );
    assert_eq!(place.store.unpack(&theirs).unwrap().len(), 2);
    assert_eq!(
        place
            .store
            .config(&theirs)
            .unwrap()
            .config()
            .as_ref()
            .unwrap()
            .cmd()
            .as_ref()
            .unwrap(),
        &["/bin/sh"]
    );
    let back = place.path("back").to_str().unwrap().to_owned();
    run(
        "skopeo",
        &[
            "copy",
            &format!("oci:{store}:base:latest"),
            &format!("oci:{back}:base"),
        ],
    );
    assert_eq!(
        parts(&place, &format!("oci:{back}:base")).0,
        base.to_string()
    );
    // umoci removes a name of ours; prune then frees the rest.
    run("umoci", &["rm", "--image", &format!("{store}:theirs:1")]);
    assert_eq!(place.store.resolve("theirs:1"), None);
    assert_eq!(place.store.prune().unwrap().layers, 2);
}

#[test]
fn several_images_travel_in_one_archive() {
    let place = Place::new();
    let shared = tar(&[dir("bin"), file("bin/sh", "x")]);
    let one = place.import(&shared, "one").unwrap();
    place.store.tag("alias", &one).unwrap();
    let two = place.import(&tar(&[file("two", "2")]), "two:2").unwrap();
    let names: Vec<String> = ["one", "alias", "two:2"].map(str::to_owned).to_vec();
    for format in [Format::Oci, Format::Docker] {
        let out = place.path("all.tar");
        place.store.save(&names, format, &out, &Silent).unwrap();
        let first = std::fs::read(&out).unwrap();
        place.store.save(&names, format, &out, &Silent).unwrap();
        assert!(
            std::fs::read(&out).unwrap() == first,
            "equal images give equal files"
        );
        let other = Place::new();
        let loaded = other.store.load(gzip(&first).as_slice(), &Silent).unwrap();
        let found: Vec<_> = loaded
            .iter()
            .map(|image| (image.digest, image.names.join(" ")))
            .collect();
        assert_eq!(
            found,
            [
                (one, "alias:latest one:latest".into()),
                (two, "two:2".into())
            ],
            "{format:?}"
        );
    }
    let error = place
        .store
        .save(
            &["three".into()],
            Format::Oci,
            &place.path("no.tar"),
            &Silent,
        )
        .unwrap_err();
    assert!(error.to_string().contains("regatta image ls"), "{error}");
    assert!(!place.path("no.tar").exists());
}
