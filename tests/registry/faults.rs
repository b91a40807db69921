//! Connections that break, registries that lie or are busy: what was fetched is kept, what is wrong is refused,
//! and nothing is left. May not: wait longer than a retry needs.

use regatta_image::Silent;
use regatta_image::reference::Repository;
use regatta_model::Digest;

use crate::place::{Place, blobs, client, noise};
use crate::server::Registry;
use crate::wire::{Fixed, Pieces, Relay, answer};

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let place = Place::new();
    let registry = Registry::start(place.dir.path());
    let image = place.image("large", 2_000_000);
    place
        .push(&client(), &image, &registry.name("large:1"))
        .unwrap();
    let relay = Relay::start(registry.port, 600_000, 2);
    let store = place.other_store("other");
    let name = format!("127.0.0.1:{}/large:1", relay.port);
    assert_eq!(place.pull(&client(), &store, &name).unwrap(), image);
    assert_eq!(relay.broken.load(std::sync::atomic::Ordering::SeqCst), 2);
    let ranges = relay.ranges.lock().unwrap().clone();
    let starts: Vec<u64> = ranges
        .iter()
        .map(|range| {
            range
                .trim_start_matches("bytes=")
                .trim_end_matches('-')
                .parse()
                .unwrap()
        })
        .collect();
    assert_eq!(starts.len(), 2, "{ranges:?}");
    assert!(
        starts[0] > 100_000 && starts[1] > starts[0],
        "each goes on behind the one before: {starts:?}"
    );
    store.unpack(&image).unwrap();
}

#[test]
fn a_registry_without_ranges_is_read_again_and_what_was_there_is_skipped() {
    let place = Place::new();
    let content = noise("blob", 100_000);
    let digest = Digest::of(&content);
    let body = content.clone();
    let server = Fixed::start("127.0.0.1", move |asked, number| {
        let mut whole = answer("200 OK", &[], &body);
        if asked.line.starts_with("GET /v2/") && number < 3 {
            whole.truncate(60_000);
        }
        whole
    });
    let repository = Repository::parse(&format!("127.0.0.1:{}/x", server.port)).unwrap();
    let got =
        place
            .runtime
            .block_on(client().fetch_blob(&repository, &digest, &place.store, &Silent));
    assert_eq!(got.unwrap(), 100_000);
    let asked = server.asked();
    assert!(
        asked.iter().any(|asked| asked.header("range").is_some()),
        "{asked:?}"
    );
}

#[test]
fn a_download_that_never_ends_whole_is_given_up() {
    let place = Place::new();
    let digest = Digest::of(&noise("blob", 100_000));
    let server = Fixed::start("127.0.0.1", move |asked, _| {
        let status = if asked.header("range").is_some() {
            "206 Partial Content"
        } else {
            "200 OK"
        };
        let mut whole = answer(
            status,
            &[("Content-Range", "bytes 0-99999/100000")],
            &noise("blob", 100_000),
        );
        whole.truncate(0);
        whole
    });
    let repository = Repository::parse(&format!("127.0.0.1:{}/x", server.port)).unwrap();
    let got =
        place
            .runtime
            .block_on(client().fetch_blob(&repository, &digest, &place.store, &Silent));
    let error = got.unwrap_err().to_string();
    assert!(error.contains("cannot be reached"), "{error}");
    assert!(server.asked().len() < 20);
    assert_eq!(blobs(&place.store), 0);
}

#[test]
fn a_damaged_blob_is_refused_and_nothing_is_left() {
    let place = Place::new();
    let registry = Registry::start(place.dir.path());
    let image = place.image("mine", 100_000);
    place
        .push(&client(), &image, &registry.name("mine:1"))
        .unwrap();
    let layer = place.store.manifest(&image).unwrap().layers[0].digest;
    let path = registry.blob(&layer.to_string());
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[5_000] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let store = place.other_store("other");
    let error = place
        .pull(&client(), &store, &registry.name("mine:1"))
        .unwrap_err();
    assert!(
        error.contains("not what it claims to be") && error.contains(&layer.to_string()),
        "{error}"
    );
    assert!(!store.has(&layer));
    assert_eq!(store.list().unwrap().len(), 0);
    store.prune().unwrap();
    assert_eq!(
        blobs(&store),
        0,
        "nothing is left that a name or a later pull would take for whole"
    );
    // Longer than promised.
    std::fs::write(&path, [whole.as_slice(), b"more"].concat()).unwrap();
    let error = place
        .pull(&client(), &store, &registry.name("mine:1"))
        .unwrap_err();
    assert!(
        error.contains("longer") || error.contains("not what it claims"),
        "{error}"
    );
    assert!(!store.has(&layer));
    // Mended, it comes.
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(
        place
            .pull(&client(), &store, &registry.name("mine:1"))
            .unwrap(),
        image
    );
}

#[test]
fn a_manifest_that_has_not_its_digest_is_refused() {
    let place = Place::new();
    let text = br#"{"schemaVersion":2,"config":{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;
    let claimed = Digest::of(b"something else").to_string();
    let header = claimed.clone();
    let server = Fixed::start("127.0.0.1", move |_, _| {
        answer("200 OK", &[("Docker-Content-Digest", &header)], text)
    });
    let name = format!("127.0.0.1:{}/x", server.port);
    let error = place
        .pull(&client(), &place.store, &format!("{name}@{claimed}"))
        .unwrap_err();
    assert!(
        error.contains("damaged") || error.contains("not what it claims"),
        "{error}"
    );
    let error = place
        .pull(&client(), &place.store, &format!("{name}:1"))
        .unwrap_err();
    assert!(error.contains("damaged"), "{error}");
}

#[test]
fn manifests_beyond_all_measure_are_refused() {
    let place = Place::new();
    let server = Fixed::start("127.0.0.1", move |asked, _| {
        match asked.line.rsplit('/').next() {
            Some("huge") => answer("200 OK", &[], &vec![b' '; 5 << 20]),
            Some("text") => answer("200 OK", &[], b"<html>hello</html>"),
            Some("old") => answer("200 OK", &[], br#"{"schemaVersion":1}"#),
            _ => answer(
                "200 OK",
                &[],
                br#"{"schemaVersion":2,"mediaType":"application/x"}"#,
            ),
        }
    });
    for (tag, part) in [
        ("huge", "limit"),
        ("text", "not JSON"),
        ("old", "outdated"),
        ("other", "not an image's form"),
    ] {
        let name = format!("127.0.0.1:{}/x:{tag}", server.port);
        let error = place.pull(&client(), &place.store, &name).unwrap_err();
        assert!(error.contains(part), "{tag}: {error}");
    }
    assert_eq!(blobs(&place.store), 0);
}

#[test]
fn a_busy_registry_is_asked_again_and_a_refusing_one_is_not() {
    let place = Place::new();
    let content = noise("blob", 1_000);
    let digest = Digest::of(&content);
    let server = Fixed::start("127.0.0.1", move |_, number| match number {
        // The first connection asks for TLS and is not counted; these are answers to real requests.
        1 => answer("503 Service Unavailable", &[], b""),
        2 => answer("429 Too Many Requests", &[("Retry-After", "0")], b""),
        3 => answer("200 OK", &[], &content),
        4 => answer(
            "403 Forbidden",
            &[],
            br#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#,
        ),
        _ => answer("429 Too Many Requests", &[("Retry-After", "3600")], b""),
    });
    let repository = Repository::parse(&format!("127.0.0.1:{}/x", server.port)).unwrap();
    let client = client();
    let fetch = |digest: &Digest| {
        place
            .runtime
            .block_on(client.fetch_blob(&repository, digest, &place.store, &Silent))
    };
    assert_eq!(fetch(&digest).unwrap(), 1_000);
    assert_eq!(server.asked().len(), 3);
    let error = fetch(&Digest::of(b"y")).unwrap_err().to_string();
    assert_eq!(server.asked().len(), 4, "a refusal is final");
    assert!(
        error.contains("403")
            && error.contains("DENIED: not yours")
            && error.contains("docker login"),
        "{error}"
    );
    let error = fetch(&Digest::of(b"y")).unwrap_err().to_string();
    assert!(error.contains("come back in 3600 s"), "{error}");
}

#[test]
fn a_large_blob_is_sent_in_pieces_where_it_is_refused_whole() {
    let place = Place::new();
    let server = Pieces::start(17 << 20);
    let content = noise("blob", 40 << 20);
    let path = place.path("blob");
    std::fs::write(&path, &content).unwrap();
    let repository = Repository::parse(&format!("127.0.0.1:{}/x", server.port)).unwrap();
    let client = client();
    let sent = place
        .runtime
        .block_on(client.push_blob(&repository, &path, &Silent));
    assert_eq!(sent.unwrap(), Digest::of(&content));
    assert!(
        *server.content.lock().unwrap() == content,
        "every byte once and in order"
    );
    let requests = server.requests.lock().unwrap().clone();
    let pieces: Vec<_> = requests
        .iter()
        .filter(|asked| asked.starts_with("PATCH"))
        .collect();
    assert_eq!(
        pieces,
        ["PATCH 16777216", "PATCH 16777216", "PATCH 8388608"],
        "{requests:?}"
    );
    assert_eq!(requests.last().unwrap(), "PUT 0");
}
