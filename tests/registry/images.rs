//! Images go to a registry and come from it with the digests that they had, also beside skopeo. May not:
//! need authorisation.

use regatta_image::Silent;
use regatta_image::archive::Format;
use regatta_image::reference::{Reference, Repository};
use regatta_model::Digest;
use serde_json::{Value, json};

use crate::place::{Place, blobs, client, noise, run};
use crate::server::Registry;

fn raw(name: &str) -> String {
    run(
        "skopeo",
        &[
            "inspect",
            "--tls-verify=false",
            "--raw",
            &format!("docker://{name}"),
        ],
    )
}

#[test]
fn what_is_pushed_comes_back_with_the_same_digests() {
    let place = Place::new();
    let registry = Registry::start(place.dir.path());
    let client = client();
    let image = place.image("mine", 300_000);
    let name = registry.name("team/mine:1");
    place.push(&client, &image, &name).unwrap();
    assert_eq!(
        Digest::of(raw(&name).as_bytes()),
        image,
        "skopeo sees the manifest byte for byte"
    );
    let other = place.other_store("other");
    assert_eq!(place.pull(&client, &other, &name).unwrap(), image);
    assert_eq!(other.resolve(&name), Some(image));
    assert_eq!(blobs(&other), 3);
    assert_eq!(other.unpack(&image).unwrap().len(), 1);
    // By digest too, and again without fetching anything.
    let by_digest = format!("{}@{image}", registry.name("team/mine"));
    assert_eq!(place.pull(&client, &other, &by_digest).unwrap(), image);
    assert_eq!(other.resolve(&by_digest), Some(image));
    // What the registry has is not sent again, and an empty one is.
    place
        .push(&client, &image, &registry.name("team/mine:again"))
        .unwrap();
    place
        .push(&client, &image, &registry.name("another/name"))
        .unwrap();
    assert_eq!(
        Digest::of(raw(&registry.name("another/name:latest")).as_bytes()),
        image
    );
    let reference = Reference::parse(&name).unwrap();
    assert_eq!(
        place.runtime.block_on(client.resolve(&reference)).unwrap(),
        image
    );
}

#[test]
fn skopeo_pushes_what_we_pull_in_both_forms() {
    let place = Place::new();
    let registry = Registry::start(place.dir.path());
    let image = place.image("mine", 100_000);
    let archive = place.path("mine.tar");
    place
        .store
        .save(&["mine".into()], Format::Oci, &archive, &Silent)
        .unwrap();
    for form in ["oci", "v2s2"] {
        let name = registry.name(&format!("by-skopeo/{form}:1"));
        let from = format!("oci-archive:{}:mine:latest", archive.display());
        // Docker's form has no uncompressed layers; skopeo compresses them.
        let form_options = if form == "oci" {
            vec!["--preserve-digests"]
        } else {
            vec!["--format", form]
        };
        let to = format!("docker://{name}");
        run(
            "skopeo",
            &[
                vec!["copy", "--dest-tls-verify=false"],
                form_options,
                vec![&from, &to],
            ]
            .concat(),
        );
        let store = place.other_store(form);
        let pulled = place.pull(&client(), &store, &name).unwrap();
        let text = raw(&name);
        assert_eq!(Digest::of(text.as_bytes()), pulled, "{form}");
        if form == "oci" {
            assert_eq!(pulled, image);
        } else {
            let manifest: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                manifest["mediaType"],
                "application/vnd.docker.distribution.manifest.v2+json"
            );
        }
        // Docker's form is pushed on as it is.
        let on = registry.name(&format!("onward/{form}:1"));
        let reference = Reference::parse(&on).unwrap();
        place
            .runtime
            .block_on(client().push(&store, &pulled, &reference, &Silent))
            .unwrap();
        assert_eq!(raw(&on), text);
        run(
            "skopeo",
            &[
                "copy",
                "--src-tls-verify=false",
                &format!("docker://{on}"),
                &format!("dir:{}", place.path(form).join("copy").display()),
            ],
        );
    }
}

#[test]
fn an_index_gives_the_image_of_this_platform() {
    let place = Place::new();
    let registry = Registry::start(place.dir.path());
    let client = client();
    let (mine, foreign) = (place.image("mine", 10_000), place.image("foreign", 10_000));
    let entry = |digest: &Digest, os: &str, architecture: &str| {
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.to_string(),
            "size": place.store.blob_size(digest).unwrap(), "platform": {"os": os, "architecture": architecture},
        })
    };
    for (name, digest) in [("many:mine", &mine), ("many:foreign", &foreign)] {
        place.push(&client, digest, &registry.name(name)).unwrap();
    }
    let put = |tag: &str, entries: Value| {
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries,
        });
        let url = format!(
            "http://{}/v2/many/manifests/{tag}",
            registry.name("").trim_end_matches('/')
        );
        let header = "Content-Type: application/vnd.oci.image.index.v1+json";
        run(
            "curl",
            &[
                "--silent",
                "--show-error",
                "--fail",
                "-X",
                "PUT",
                "-H",
                header,
                "--data-binary",
                &index.to_string(),
                &url,
            ],
        );
        let bytes = index.to_string();
        (Digest::of(bytes.as_bytes()), bytes.len())
    };
    let own = regatta_image::Platform::host().architecture;
    let (inner, size) = put(
        "index",
        json!([
            entry(&foreign, "linux", "s390x"),
            entry(&foreign, "unknown", "unknown"),
            entry(&mine, "linux", &own)
        ]),
    );
    let store = place.other_store("other");
    assert_eq!(
        place
            .pull(&client, &store, &registry.name("many:index"))
            .unwrap(),
        mine
    );
    assert!(!store.has(&foreign));
    // By the index's digest, and an index in an index.
    let by_digest = format!("{}@{inner}", registry.name("many"));
    assert_eq!(place.pull(&client, &store, &by_digest).unwrap(), mine);
    put(
        "outer",
        json!([{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": inner.to_string(), "size": size, "platform": {"os": "linux", "architecture": own}}]),
    );
    assert_eq!(
        place
            .pull(&client, &store, &registry.name("many:outer"))
            .unwrap(),
        mine
    );
    put(
        "none",
        json!([
            entry(&foreign, "linux", "s390x"),
            entry(&foreign, "unknown", "unknown")
        ]),
    );
    let error = place
        .pull(&client, &store, &registry.name("many:none"))
        .unwrap_err();
    assert!(
        error.contains("has no image for linux/") && error.contains("it has linux/s390x"),
        "{error}"
    );
}

#[test]
fn single_blobs_travel_by_their_digest() {
    let place = Place::new();
    let registry = Registry::start(place.dir.path());
    let client = client();
    let repository = Repository::parse(&registry.name("regatta/files")).unwrap();
    let path = place.path("blob");
    std::fs::write(&path, noise("blob", 200_000)).unwrap();
    let digest = place
        .runtime
        .block_on(client.push_blob(&repository, &path, &Silent))
        .unwrap();
    assert_eq!(digest, Digest::of(&noise("blob", 200_000)));
    let has = |digest| {
        place
            .runtime
            .block_on(client.has_blob(&repository, digest))
            .unwrap()
    };
    assert!(has(&digest) && !has(&Digest::of(b"other")));
    let fetch = |digest| {
        place
            .runtime
            .block_on(client.fetch_blob(&repository, digest, &place.store, &Silent))
    };
    assert_eq!(fetch(&digest).unwrap(), 200_000);
    assert_eq!(fetch(&digest).unwrap(), 200_000);
    assert!(place.store.has(&digest));
    let error = fetch(&Digest::of(b"other")).unwrap_err().to_string();
    assert!(
        error.contains("404") && error.contains("regatta/files"),
        "{error}"
    );
}
