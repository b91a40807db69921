//! Content that is not what it claims to be. Each is refused with a sentence, and the store is what it was.

use regatta_image::Silent;
use regatta_model::Digest;
use serde_json::{Value, json};

use crate::place::Place;
use crate::tars::{Head, dir, file, gzip, hardlink, symlink, tar};

/// An OCI archive of one image; each part may be changed before it is packed.
struct Archive {
    layer: Vec<u8>,
    diff_id: Digest,
    config: Option<Vec<u8>>,
    manifest: Option<Vec<u8>>,
    index: Option<Value>,
    /// Digest under which the layer stands, and size the manifest tells.
    layer_name: Option<Digest>,
    layer_size: Option<usize>,
}

impl Archive {
    fn new(layer: Vec<u8>, diff_id: Digest) -> Self {
        let (config, manifest, index, layer_name, layer_size) = (None, None, None, None, None);
        Self {
            layer,
            diff_id,
            config,
            manifest,
            index,
            layer_name,
            layer_size,
        }
    }

    fn pack(self) -> Vec<u8> {
        let config = self.config.unwrap_or_else(|| config(&[self.diff_id]));
        let layer = self.layer_name.unwrap_or_else(|| Digest::of(&self.layer));
        let manifest = self.manifest.unwrap_or_else(|| {
            let size = self.layer_size.unwrap_or(self.layer.len());
            json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(&config), "size": config.len()},
                "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer, "size": size}],
            })
            .to_string()
            .into_bytes()
        });
        let index = self.index.unwrap_or_else(|| {
            json!({"schemaVersion": 2, "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": Digest::of(&manifest),
                "size": manifest.len(),
                "annotations": {"org.opencontainers.image.ref.name": "liar:1"},
            }]})
        });
        let blob =
            |digest: Digest, bytes: &[u8]| file(format!("blobs/sha256/{}", digest.hex()), bytes);
        tar(&[
            file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
            file("index.json", index.to_string()),
            dir("blobs"),
            blob(Digest::of(&config), &config),
            blob(Digest::of(&manifest), &manifest),
            blob(layer, &self.layer),
        ])
    }
}

fn config(diff_ids: &[Digest]) -> Vec<u8> {
    json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string()
        .into_bytes()
}

#[test]
fn archives_that_lie_leave_nothing() {
    let place = Place::new();
    place.import(&tar(&[file("first", "x")]), "first").unwrap();
    let content = place.content();
    let plain = tar(&[file("x", "content")]);
    let packed = gzip(&plain);
    let other = Digest::of(b"something else");
    let honest = || Archive::new(packed.clone(), Digest::of(&plain));
    let garbled = {
        let mut bytes = packed.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        bytes
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "a lying diffID",
            Archive::new(packed.clone(), other).pack(),
            "diffID",
        ),
        (
            "a blob under another's digest",
            Archive {
                layer_name: Some(other),
                ..honest()
            }
            .pack(),
            "not what it claims",
        ),
        (
            "a layer whose size lies",
            Archive {
                layer_size: Some(7),
                ..honest()
            }
            .pack(),
            "size",
        ),
        (
            "a damaged layer",
            Archive {
                layer: garbled,
                layer_name: Some(Digest::of(&packed)),
                ..honest()
            }
            .pack(),
            "not what it claims",
        ),
        (
            "more diffIDs than layers",
            Archive {
                config: Some(config(&[other, other])),
                ..honest()
            }
            .pack(),
            "tells of 2 layers",
        ),
        (
            "a configuration that is none",
            Archive {
                config: Some(b"[]".to_vec()),
                ..honest()
            }
            .pack(),
            "cannot be used",
        ),
        (
            "a manifest that is none",
            Archive {
                manifest: Some(b"{}".to_vec()),
                ..honest()
            }
            .pack(),
            "cannot be used",
        ),
        (
            "no image in it",
            Archive {
                index: Some(json!({"schemaVersion": 2, "manifests": []})),
                ..honest()
            }
            .pack(),
            "no image",
        ),
        (
            "a manifest of 5 MiB",
            Archive {
                manifest: Some(vec![b' '; 5 << 20]),
                ..honest()
            }
            .pack(),
            "json_bytes",
        ),
        (
            "a manifest that is missing",
            Archive {
                index: Some(json!({"manifests": [{"digest": other, "size": 2}]})),
                ..honest()
            }
            .pack(),
            "missing",
        ),
        (
            "a hostile layer",
            {
                let evil = tar(&[file("../x", "x")]);
                Archive::new(gzip(&evil), Digest::of(&evil))
            }
            .pack(),
            "\"..\"",
        ),
        (
            "neither form",
            tar(&[file("x", "x")]),
            "regatta image import",
        ),
        (
            "two members of a name",
            tar(&[file("index.json", "{}"), file("./index.json", "{}")]),
            "two members",
        ),
        (
            "a member that leads outside",
            tar(&[file("../../index.json", "{}")]),
            "leads outside",
        ),
        (
            "docker: a layer that is a link outside",
            docker(&plain, &[symlink("l.tar", "/etc/passwd")], "l.tar", None),
            "outside",
        ),
        (
            "docker: a layer that is a link up",
            docker(
                &plain,
                &[symlink("a/l.tar", "../../../etc/passwd")],
                "a/l.tar",
                None,
            ),
            "outside",
        ),
        (
            "docker: a layer that is missing",
            docker(&plain, &[], "l.tar", None),
            "missing",
        ),
        (
            "docker: links in a circle",
            docker(
                &plain,
                &[symlink("l.tar", "m.tar"), symlink("m.tar", "l.tar")],
                "l.tar",
                None,
            ),
            "too many times",
        ),
        (
            "docker: another layer's content",
            docker(
                &plain,
                &[file("l.tar", tar(&[file("y", "y")]))],
                "l.tar",
                None,
            ),
            "diffID",
        ),
        (
            "docker: another configuration",
            docker(&plain, &[file("l.tar", &plain)], "l.tar", Some(other)),
            "configuration",
        ),
        (
            "docker: a path as a name",
            tar(&[file(
                "manifest.json",
                r#"[{"Config":"../../etc/passwd","Layers":[]}]"#,
            )]),
            "leads outside",
        ),
    ];
    for (name, bytes, words) in cases {
        let error = place
            .store
            .load(bytes.as_slice(), &Silent)
            .expect_err(name)
            .to_string();
        assert!(error.contains(words), "{name}: {error}");
        assert_eq!(place.content(), content, "{name}: something is left");
    }
    let loaded = place
        .store
        .load(honest().pack().as_slice(), &Silent)
        .unwrap();
    assert_eq!(loaded[0].names, ["liar:1"]);
}

fn docker(plain: &[u8], members: &[Head], layer: &str, config_name: Option<Digest>) -> Vec<u8> {
    let config = config(&[Digest::of(plain)]);
    let name = format!(
        "{}.json",
        config_name.unwrap_or_else(|| Digest::of(&config)).hex()
    );
    let manifest = json!([{"Config": name, "RepoTags": ["liar:1"], "Layers": [layer]}]);
    let mut heads = vec![
        file(&name, config),
        file("manifest.json", manifest.to_string()),
    ];
    heads.extend(members.iter().cloned());
    tar(&heads)
}

#[test]
fn docker_archives_with_links_between_layers_are_loaded() {
    let place = Place::new();
    let plain = tar(&[file("x", "content")]);
    let members = [
        file("a/layer.tar", &plain),
        symlink("b/layer.tar", "../a/layer.tar"),
        hardlink("c.tar", "b/layer.tar"),
    ];
    let loaded = place
        .store
        .load(docker(&plain, &members, "c.tar", None).as_slice(), &Silent)
        .unwrap();
    assert_eq!(place.store.resolve("liar:1"), Some(loaded[0].digest));
}

#[test]
fn a_blob_that_was_damaged_on_disk_is_noticed() {
    let place = Place::new();
    let digest = place
        .import(&gzip(&tar(&[file("x", "content")])), "one")
        .unwrap();
    let layer = place.store.manifest(&digest).unwrap().layers[0].clone();
    let path = place.store.blob_path(&layer.digest);
    let honest = std::fs::read(&path).unwrap();
    // The layer unpacked is taken away, as after a restore from a backup of the blobs alone.
    std::fs::remove_dir_all(place.path("store/layers")).unwrap();
    std::fs::create_dir(place.path("store/layers")).unwrap();
    for at in [0, 4, honest.len() / 2, honest.len() - 1] {
        let mut bytes = honest.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let content = place.content();
        let error = place.store.unpack(&digest).unwrap_err().to_string();
        assert!(
            error.contains("not what it claims") && error.contains(&layer.digest.to_string()),
            "{at}: {error}"
        );
        assert_eq!(place.content(), content);
    }
    std::fs::write(&path, &honest[..honest.len() - 5]).unwrap();
    assert!(
        place
            .store
            .unpack(&digest)
            .unwrap_err()
            .to_string()
            .contains("not what it claims")
    );
    std::fs::write(&path, &honest).unwrap();
    assert_eq!(place.store.unpack(&digest).unwrap().len(), 1);
    std::fs::write(place.store.blob_path(&digest), "{}").unwrap();
    assert!(place.store.manifest(&digest).is_err());
}

#[test]
fn a_blob_is_taken_in_only_under_its_own_digest() {
    let place = Place::new();
    let content = place.content();
    let error = place
        .store
        .ingest(b"content".as_slice(), Some(Digest::of(b"other")))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&Digest::of(b"content").to_string()),
        "{error}"
    );
    assert_eq!(place.content(), content);
    let (digest, size) = place
        .store
        .ingest(b"content".as_slice(), Some(Digest::of(b"content")))
        .unwrap();
    assert_eq!((digest, size), (Digest::of(b"content"), 7));
    assert!(place.store.has(&digest));
}
