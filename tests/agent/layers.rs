//! Layers made on this host: whole or absent, one maker at a time, gone only when nobody uses them.

use std::fs;
use std::path::Path;

use regatta_daemon::layers::{Found, Layer, Layers, Making};
use regatta_model::Digest;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

async fn absent(layers: &Layers, key: Digest) -> Making {
    match layers.get(key).await.unwrap() {
        Found::Absent(making) => making,
        Found::Ready(layer) => panic!("there is a layer: {layer:?}"),
    }
}

async fn ready(layers: &Layers, key: Digest) -> Layer {
    match layers.get(key).await.unwrap() {
        Found::Ready(layer) => layer,
        Found::Absent(making) => panic!("there is none: {making:?}"),
    }
}

fn fill(making: Making, text: &str) -> Layer {
    fs::create_dir(making.directory().join("fs")).unwrap();
    fs::write(making.directory().join("fs/file"), text).unwrap();
    making.done().unwrap()
}

fn entries(directory: &Path, prefix: &str) -> usize {
    let names = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_str().unwrap().starts_with(prefix))
        .count()
}

#[test]
fn many_who_ask_at_once_get_one_that_was_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let layers = Layers::new(directory.path().to_owned());
    let key = Digest::of(b"key");
    let made = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    runtime().block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (layers, made) = (layers.clone(), std::sync::Arc::clone(&made));
            all.spawn(async move {
                match layers.get(key).await.unwrap() {
                    Found::Ready(layer) => layer.digest,
                    Found::Absent(making) => {
                        made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        fill(making, "content").digest
                    }
                }
            });
        }
        let digests = all.join_all().await;
        assert!(digests.iter().all(|digest| *digest == digests[0]));
    });
    assert_eq!(made.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn what_a_dead_maker_left_is_no_layer_and_is_swept() {
    let directory = tempfile::tempdir().unwrap();
    let layers = Layers::new(directory.path().to_owned());
    let key = Digest::of(b"key");
    runtime().block_on(async {
        let making = absent(&layers, key).await;
        fs::create_dir(making.directory().join("fs")).unwrap();
        // Its process dies: the lock goes, the directory stays.
        drop(making);
        assert_eq!(entries(directory.path(), "tmp-"), 1);
        let making = absent(&layers, key).await;
        layers.clean().unwrap();
        assert_eq!(
            entries(directory.path(), "tmp-"),
            2,
            "one is being made: both stay"
        );
        drop(fill(making, "content"));
        layers.clean().unwrap();
        assert_eq!(entries(directory.path(), "tmp-"), 0);
        drop(ready(&layers, key).await);
    });
}

#[test]
fn after_a_crash_of_the_host_a_damaged_layer_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let layers = Layers::new(directory.path().to_owned());
    let (good, bad) = (Digest::of(b"good"), Digest::of(b"bad"));
    runtime().block_on(async {
        for key in [good, bad] {
            let layer = fill(absent(&layers, key).await, "content");
            let meta = layer.directory.join("meta.json");
            let text = fs::read_to_string(&meta).unwrap();
            let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
            json["boot"] = "another boot".into();
            fs::write(&meta, json.to_string()).unwrap();
        }
        // What the crash did: a file is empty that was not.
        fs::write(directory.path().join(bad.hex()).join("fs/file"), "").unwrap();
        drop(ready(&layers, good).await);
        drop(absent(&layers, bad).await);
    });
}

#[test]
fn the_digest_is_of_the_contents_and_not_of_times() {
    let directory = tempfile::tempdir().unwrap();
    let layers = Layers::new(directory.path().to_owned());
    runtime().block_on(async {
        let one = fill(absent(&layers, Digest::of(b"1")).await, "content");
        let two = fill(absent(&layers, Digest::of(b"2")).await, "content");
        let other = fill(absent(&layers, Digest::of(b"3")).await, "CONTENT");
        assert_eq!(one.digest, two.digest);
        assert_ne!(one.digest, other.digest);
    });
}

#[test]
fn above_the_limit_the_longest_unused_go_and_those_in_use_stay() {
    let directory = tempfile::tempdir().unwrap();
    let layers = Layers::bounded(directory.path().to_owned(), 20);
    let keys = [b"1", b"2", b"3", b"4"].map(|name| Digest::of(name));
    runtime().block_on(async {
        let mut held = Vec::new();
        for (age, key) in keys.into_iter().enumerate() {
            let layer = fill(absent(&layers, key).await, "ten bytes.");
            let meta = fs::File::options()
                .append(true)
                .open(layer.directory.join("meta.json"));
            let used =
                std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age as u64);
            meta.unwrap().set_modified(used).unwrap();
            held.push(layer);
        }
        // The first, the oldest, stays in use.
        held.truncate(1);
        layers.clean().unwrap();
        let there = keys.map(|key| directory.path().join(key.hex()).exists());
        assert_eq!(
            there,
            [true, false, false, true],
            "20 bytes at most, the oldest unused first"
        );
    });
}
