//! What holds wherever blobs are. May not: know which place it is.

use bytes::Bytes;
use futures_util::StreamExt as _;
use regatta_store::{BlobKey, Error};
use tokio::sync::oneshot;

use crate::kit::until;
use crate::place::{MOST, Place, attempt, body, get, noise, put, run};

pub async fn a_blob_comes_back_and_is_replaced_and_dropped(place: &Place) {
    let blobs = place.open().await;
    let log = BlobKey::Log(attempt("a", 1), None);
    let artifact = BlobKey::Artifact(attempt("a", 1), None, "log".into());
    assert_eq!(put(&blobs, &log, b"first").await.unwrap(), 5);
    assert_eq!(put(&blobs, &artifact, b"").await.unwrap(), 0);
    assert_eq!(get(&blobs, &log).await.unwrap(), b"first");
    assert_eq!(get(&blobs, &artifact).await.unwrap(), b"");
    assert_eq!(put(&blobs, &log, b"the second").await.unwrap(), 10);
    assert_eq!(get(&blobs, &log).await.unwrap(), b"the second");
    // Somebody else who opens the same place.
    let again = place.open().await;
    assert_eq!(get(&again, &log).await.unwrap(), b"the second");
    again.delete(&log).await.unwrap();
    assert_eq!(get(&blobs, &log).await, None);
    assert_eq!(get(&blobs, &artifact).await.unwrap(), b"", "another blob");
}

pub async fn what_is_not_there_is_none(place: &Place) {
    let blobs = place.open().await;
    let key = BlobKey::Log(attempt("a", 1), None);
    assert_eq!(get(&blobs, &key).await, None);
    blobs.delete(&key).await.unwrap();
    assert_eq!(blobs.delete_run(&run("a")).await.unwrap(), 0);
}

pub async fn a_long_blob_comes_back_byte_for_byte(place: &Place) {
    let blobs = place.open().await;
    let key = BlobKey::Log(attempt("a", 1), None);
    let whole = noise(12 << 20);
    assert_eq!(put(&blobs, &key, &whole).await.unwrap(), 12 << 20);
    assert!(get(&blobs, &key).await.unwrap() == whole, "other bytes");
    // As one chunk, and exactly two parts.
    let one = futures_util::stream::iter([Ok::<_, &str>(Bytes::from(whole).split_to(10 << 20))]);
    assert_eq!(blobs.put(&key, one, MOST, "MOST").await.unwrap(), 10 << 20);
    assert!(
        get(&blobs, &key).await.unwrap() == noise(10 << 20),
        "other bytes"
    );
    assert_eq!(place.left().len(), 1, "{:?}", place.left());
}

pub async fn a_blob_that_is_cut_off_leaves_nothing(place: &Place) {
    let blobs = place.open().await;
    let (new, old) = (
        BlobKey::Log(attempt("a", 1), None),
        BlobKey::Log(attempt("a", 2), None),
    );
    put(&blobs, &old, b"old").await.unwrap();
    let before = place.left();
    for bytes in [1, 12 << 20] {
        for key in [&new, &old] {
            let gone = futures_util::stream::iter([Err("the line is dead")]);
            let cut = body(&noise(bytes)).chain(gone);
            let Err(error @ Error::Cut { .. }) = blobs.put(key, cut, MOST, "MOST").await else {
                panic!("half a blob was kept")
            };
            assert!(error.to_string().contains("the line is dead"), "{error}");
            assert_eq!(place.left(), before);
        }
    }
    assert_eq!(get(&blobs, &new).await, None);
    assert_eq!(get(&blobs, &old).await.unwrap(), b"old");
}

pub async fn a_blob_beyond_its_limit_leaves_nothing(place: &Place) {
    let blobs = place.open().await;
    let key = BlobKey::Log(attempt("a", 1), None);
    for most in [9, 8 << 20] {
        let bytes = noise(usize::try_from(most).unwrap() + 1);
        let long = blobs.put(&key, body(&bytes), most, "BOAT_MOST").await;
        let Err(error @ Error::TooLong { .. }) = long else {
            panic!("{long:?}")
        };
        let text = error.to_string();
        assert!(
            text.contains("BOAT_MOST") && text.contains(&most.to_string()),
            "{text}"
        );
        assert_eq!(place.left(), [""; 0]);
        assert_eq!(get(&blobs, &key).await, None);
        let fits = blobs.put(&key, body(&bytes[1..]), most, "BOAT_MOST").await;
        assert_eq!(fits.unwrap(), most);
        blobs.delete(&key).await.unwrap();
    }
}

/// A client whose connection ends takes the server's answer to it along.
pub async fn a_blob_that_nobody_waits_for_leaves_nothing(place: &Place) {
    let blobs = place.open().await;
    let key = BlobKey::Log(attempt("a", 1), None);
    let (sender, sent) = oneshot::channel();
    let endless = futures_util::stream::once(async move {
        sender.send(()).unwrap();
        std::future::pending().await
    });
    let half = body(&noise(12 << 20)).chain(Box::pin(endless));
    let mut writing = Box::pin(blobs.put(&key, half, MOST, "MOST"));
    tokio::select! {
        done = &mut writing => panic!("{done:?}"),
        sent = sent => sent.unwrap(),
    }
    assert!(!place.left().is_empty(), "half of it is on its way");
    drop(writing);
    until("nothing is left of it", async || place.left().is_empty()).await;
    assert_eq!(get(&blobs, &key).await, None);
}

pub async fn names_stay_within_their_attempt(place: &Place) {
    let blobs = place.open().await;
    let deep = vec!["d"; 500].join("/");
    let long = "x".repeat(1000);
    let other = "ü".repeat(127);
    let names = [
        "..",
        ".",
        "../..",
        "../../2/1/log",
        "a/../b",
        "%2E%2E",
        "a%2Fb",
        "a%2fb",
        "a/b",
        "a#1",
        "a?b=c",
        "a b",
        " ",
        "a+b",
        "a&b",
        "a\\b",
        "~",
        "*",
        "\u{1}\n\r",
        "log",
        "ünï/文字/🚤",
        "-",
        ".hidden",
        "a.",
        "<Key>",
        "a=b;c",
        "\"'`",
        "C:\\x",
        "x#2",
        "long",
        &deep,
        &long,
        &other,
    ];
    let before = place.left();
    // Each in an attempt of its own: on a disk, a name is a file's or a directory's.
    for (cell, name) in (0..).zip(names) {
        let attempt = attempt("a", cell);
        let key = BlobKey::Artifact(attempt.clone(), None, name.to_owned());
        let before = place.left();
        put(&blobs, &BlobKey::Log(attempt, None), b"the log")
            .await
            .unwrap();
        put(&blobs, &key, name.as_bytes()).await.unwrap();
        let mut new = place.left();
        new.retain(|file| !before.contains(file));
        assert_eq!(new.len(), 2, "{name:?}: {new:?}");
        let inside = format!("runs/a/{cell}/1/");
        for file in new {
            assert!(file.contains(&inside), "{file} left its attempt");
        }
    }
    for (cell, name) in (0..).zip(names) {
        let read = get(
            &blobs,
            &BlobKey::Artifact(attempt("a", cell), None, name.to_owned()),
        )
        .await;
        assert_eq!(read.as_deref(), Some(name.as_bytes()), "{name:?}");
        let log = get(&blobs, &BlobKey::Log(attempt("a", cell), None)).await;
        assert_eq!(log.unwrap(), b"the log", "beside {name:?}");
    }
    let dropped = blobs.delete_run(&run("a")).await.unwrap();
    assert_eq!(dropped, 2 * names.len() as u64);
    assert_eq!(place.left(), before);
}

pub async fn a_run_is_dropped_and_no_other(place: &Place) {
    // More than a store lists or drops at once.
    const BLOBS: u64 = 1100;
    let blobs = place.open().await;
    let others = ["ab", "b", "a-1"];
    for other in others {
        put(
            &blobs,
            &BlobKey::Log(attempt(other, 1), None),
            other.as_bytes(),
        )
        .await
        .unwrap();
    }
    let before = place.left();
    let each = futures_util::stream::iter(0..BLOBS).for_each_concurrent(32, |cell| {
        let (blobs, attempt) = (blobs.clone(), attempt("a", cell / 2));
        async move {
            let key = match cell % 2 {
                0 => BlobKey::Log(attempt, None),
                _ => BlobKey::Artifact(attempt, None, "d/x".into()),
            };
            put(&blobs, &key, b"x").await.unwrap();
        }
    });
    each.await;
    assert_eq!(
        place.left().len(),
        before.len() + usize::try_from(BLOBS).unwrap()
    );
    assert_eq!(blobs.delete_run(&run("a")).await.unwrap(), BLOBS);
    assert_eq!(place.left(), before);
    assert_eq!(blobs.delete_run(&run("a")).await.unwrap(), 0, "again");
    for other in others {
        let read = get(&blobs, &BlobKey::Log(attempt(other, 1), None)).await;
        assert_eq!(read.unwrap(), other.as_bytes());
    }
}
