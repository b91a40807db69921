//! What only a bucket can do: be elsewhere, be another one, ask who one is, be busy. May not: reach beyond loopback.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use regatta_store::{BlobKey, Blobs, Error};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::place::{MOST, attempt, body, get, noise, put, run};
use crate::s3::{S3, SECRET};

/// Asserts that a place is refused, with words that name it and the way out.
fn refused(opened: Result<Blobs, Error>, words: &[&str]) {
    let text = match opened {
        Ok(_) => panic!("it opened; expected an error with {words:?}"),
        Err(error) => error.to_string(),
    };
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    assert!(
        !text.contains(SECRET) && !text.contains("hush"),
        "tells a secret: {text}"
    );
    assert!(
        text.len() < 400 && !text.contains('\n'),
        "no sentence: {text}"
    );
}

#[tokio::test]
async fn a_bucket_that_cannot_be_used_is_named_with_the_way_out() {
    let s3 = S3::start().await;
    let at = s3.endpoint.as_str();
    let other = s3.open("s3://ships").await;
    refused(other, &["bucket ships", at, "NoSuchBucket", "--blobs"]);
    let secret = s3
        .open_but("s3://boats", "AWS_SECRET_ACCESS_KEY", "hush")
        .await;
    refused(
        secret,
        &[
            "bucket boats",
            at,
            "SignatureDoesNotMatch",
            "AWS_SECRET_ACCESS_KEY",
        ],
    );
    let id = s3
        .open_but("s3://boats", "AWS_ACCESS_KEY_ID", "AKIDOTHER")
        .await;
    refused(id, &["bucket boats", at, "AWS_ACCESS_KEY_ID"]);
    let half = s3.open_but("s3://boats", "AWS_SECRET_ACCESS_KEY", "").await;
    refused(half, &["bucket boats", at, "AWS_SECRET_ACCESS_KEY"]);
    let line = s3
        .open_but("s3://boats", "AWS_ACCESS_KEY_ID", "AKID\n")
        .await;
    refused(
        line,
        &["bucket boats", "AWS_ACCESS_KEY_ID", "end of a line"],
    );
    let plain = s3.open_but("s3://boats", "AWS_ALLOW_HTTP", "").await;
    refused(
        plain,
        &["bucket boats", at, "AWS_ALLOW_HTTP=true", "https://"],
    );
    let word = s3.open_but("s3://boats", "AWS_ALLOW_HTTP", "perhaps").await;
    refused(word, &["bucket boats", at, "AWS_ALLOW_HTTP"]);
    for wrong in [
        "minio",
        "minio:9000",
        "ftp://minio",
        "http://",
        "http://a b",
        "http://hush@minio",
        "http://minio/?x",
        "http://minio/a|b",
        "http://minio:99999",
    ] {
        let endpoint = s3.open_but("s3://boats", "AWS_ENDPOINT_URL", wrong).await;
        refused(
            endpoint,
            &["bucket boats", "AWS_ENDPOINT_URL", "https://HOST"],
        );
    }
    let region = Blobs::open_with(
        "s3://boats",
        [("AWS_REGION".to_owned(), "north pole".to_owned())],
    )
    .await;
    refused(region, &["bucket boats", "AWS_REGION"]);
    // A variable of another program is none of this one's business.
    s3.open_but("s3://boats", "AWS_PAGER", "less\n")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_url_that_names_no_place_is_refused_with_what_is_expected() {
    for wrong in [
        "s3://",
        "s3:///",
        "s3://b",
        "s3://bo ats",
        "s3://boats?region=x",
        "s3://boats/a//b",
        "s3://boats/../x",
        "s3://boats/ü",
        "s3://boats:9000/x",
    ] {
        let opened = Blobs::open_with(wrong, []).await;
        refused(opened, &[wrong, "expected s3://BUCKET"]);
    }
    let long = format!("s3://boats/{}", "x".repeat(257));
    let opened = Blobs::open_with(&long, []).await;
    assert!(matches!(opened, Err(Error::NotSupported(text)) if text.contains("PREFIX_BYTES_MOST")));
    for wrong in [
        "",
        "boats",
        "/var/boats",
        "file://boats",
        "http://minio/boats",
        "S3://boats",
        "gs://boats",
    ] {
        let opened = Blobs::open(wrong).await;
        refused(opened, &[wrong, "file:///DIRECTORY", "s3://BUCKET"]);
    }
}

#[tokio::test]
async fn where_no_server_is_opening_fails_soon() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let s3 = S3::start().await;
    let began = Instant::now();
    let opened = s3.open_but("s3://boats", "AWS_ENDPOINT_URL", &at).await;
    refused(
        opened,
        &["bucket boats", &at, "refused", "AWS_ENDPOINT_URL"],
    );
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    // Connections are taken by the system, and by nobody else.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", silent.local_addr().unwrap());
    let s3 = S3::start().await;
    let began = Instant::now();
    let opened = s3.open_but("s3://boats", "AWS_ENDPOINT_URL", &at).await;
    refused(
        opened,
        &["bucket boats", &at, "OPEN_WITHIN", "AWS_ENDPOINT_URL"],
    );
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_is_no_store_is_not_quoted_at_length() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", other.local_addr().unwrap());
    tokio::spawn(async move {
        let page = "<html>\n  no such page\n".repeat(100);
        let length = page.len();
        let answer = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {length}\r\n\r\n{page}");
        while let Ok((mut stream, _)) = other.accept().await {
            let mut request = [0; 4096];
            assert_ne!(stream.read(&mut request).await.unwrap(), 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let s3 = S3::start().await;
    let opened = s3.open_but("s3://boats", "AWS_ENDPOINT_URL", &at).await;
    refused(opened, &["bucket boats", &at, "404", "AWS_ENDPOINT_URL"]);
}

#[tokio::test]
async fn without_credentials_a_machine_has_a_role_or_is_told_so() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let roles = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let s3 = S3::start().await;
    let variables = [
        ("AWS_ENDPOINT_URL", s3.endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_METADATA_ENDPOINT", &roles),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let opened = Blobs::open_with("s3://boats", variables).await;
    refused(
        opened,
        &["bucket boats", &s3.endpoint, "AWS_ACCESS_KEY_ID", "role"],
    );
}

#[tokio::test]
async fn prefixes_part_a_bucket() {
    let s3 = S3::start().await;
    let key = BlobKey::Log(attempt("a", 1), None);
    let mut places = Vec::new();
    for url in [
        "s3://boats",
        "s3://boats/",
        "s3://boats/one/x",
        "s3://boats/one/x/",
        "s3://boats/one/xy",
    ] {
        places.push(s3.open(url).await.unwrap());
    }
    let [bare, bare_too, one, one_too, two] = places.as_slice() else {
        unreachable!()
    };
    put(bare, &key, b"bare").await.unwrap();
    put(one, &key, b"one").await.unwrap();
    assert_eq!(get(two, &key).await, None);
    put(two, &key, b"two").await.unwrap();
    assert_eq!(
        s3.left(),
        [
            "boats/one/x/runs/a/1/1/log",
            "boats/one/xy/runs/a/1/1/log",
            "boats/runs/a/1/1/log"
        ]
    );
    assert_eq!(get(bare_too, &key).await.unwrap(), b"bare");
    assert_eq!(one_too.delete_run(&run("a")).await.unwrap(), 1);
    assert_eq!(bare.delete_run(&run("a")).await.unwrap(), 1);
    assert_eq!(s3.left(), ["boats/one/xy/runs/a/1/1/log"]);
}

#[tokio::test]
async fn a_long_blob_goes_in_parts_and_a_short_one_at_once() {
    let s3 = S3::start().await;
    let blobs = s3.open("s3://boats").await.unwrap();
    let key = BlobKey::Log(attempt("a", 1), None);
    put(&blobs, &key, &noise(5 << 20)).await.unwrap();
    assert_eq!(s3.seen.parts.load(Ordering::Relaxed), 0);
    put(&blobs, &key, &noise(12 << 20)).await.unwrap();
    assert_eq!(s3.seen.parts.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_few_parts_of_a_blob_are_in_memory_at_once() {
    const PART: usize = 5 << 20;
    let s3 = S3::start().await;
    let blobs = s3.open("s3://boats").await.unwrap();
    let (seen, mut given) = (std::sync::Arc::clone(&s3.seen), 0);
    let chunk = Bytes::from(noise(1 << 20));
    // A sender who is never waited for: only the blobs can keep it from giving all at once.
    let chunks = (0..60).map(move |_| {
        let stored = seen.parts.load(Ordering::Relaxed) * PART;
        assert!(
            given <= stored + 3 * PART,
            "{given} bytes were taken, {stored} are stored"
        );
        given += chunk.len();
        Ok::<_, &str>(chunk.clone())
    });
    let key = BlobKey::Log(attempt("a", 1), None);
    let written = blobs
        .put(&key, futures_util::stream::iter(chunks), MOST, "MOST")
        .await;
    assert_eq!(written.unwrap(), 60 << 20);
}

#[tokio::test]
async fn a_part_that_is_refused_leaves_nothing() {
    let s3 = S3::start().await;
    let blobs = s3.open("s3://boats").await.unwrap();
    let key = BlobKey::Log(attempt("a", 1), None);
    for parts in 0..3 {
        s3.seen.parts_most.store(parts, Ordering::Relaxed);
        let failed = blobs.put(&key, body(&noise(12 << 20)), MOST, "MOST").await;
        assert!(matches!(failed, Err(Error::Blob { .. })), "{failed:?}");
        assert_eq!(s3.left(), [""; 0], "after {parts} parts");
    }
    assert_eq!(get(&blobs, &key).await, None);
}

#[tokio::test]
async fn a_busy_store_is_asked_again() {
    let s3 = S3::start().await;
    s3.seen.busy.store(2, Ordering::Relaxed);
    let blobs = s3.open("s3://boats").await.unwrap();
    let key = BlobKey::Log(attempt("a", 1), None);
    s3.seen.busy.store(2, Ordering::Relaxed);
    put(&blobs, &key, b"whole").await.unwrap();
    s3.seen.busy.store(2, Ordering::Relaxed);
    assert_eq!(get(&blobs, &key).await.unwrap(), b"whole");
    s3.seen.busy.store(3, Ordering::Relaxed);
    let opened = s3.open("s3://boats").await;
    refused(opened, &["bucket boats", &s3.endpoint, "503"]);
}

#[tokio::test]
async fn a_run_is_dropped_by_the_thousand() {
    let s3 = S3::start().await;
    let blobs = s3.open("s3://boats").await.unwrap();
    for cell in 0..20 {
        put(&blobs, &BlobKey::Log(attempt("a", cell), None), b"x")
            .await
            .unwrap();
    }
    assert_eq!(blobs.delete_run(&run("a")).await.unwrap(), 20);
    assert_eq!(s3.seen.sweeps.load(Ordering::Relaxed), 1);
}
