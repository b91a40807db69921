//! Blobs in a directory.

use regatta_model::AttemptId;
use regatta_store::{BlobKey, Blobs, Error};

use super::id;

#[tokio::test]
async fn a_blob_is_there_as_a_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&format!(
        "file://{}",
        directory.path().join("blobs").display()
    ))
    .unwrap();
    let attempt = AttemptId {
        run: id("a"),
        cell: 1,
        ordinal: 1,
    };
    let key = BlobKey::Artifact(attempt.clone(), "d/ü %2e.log".into());
    let chunks = |list: Vec<Result<&'static [u8], &'static str>>| {
        futures_util::stream::iter(
            list.into_iter()
                .map(|chunk| chunk.map(bytes::Bytes::from_static)),
        )
    };
    let read = async |key: &BlobKey| {
        let (length, stream) = blobs.get(key).await.unwrap()?;
        let chunks: Vec<_> = futures_util::StreamExt::collect(stream).await;
        let whole: Vec<u8> = chunks
            .into_iter()
            .flat_map(|chunk| chunk.unwrap())
            .collect();
        assert_eq!(length, whole.len() as u64);
        Some(whole)
    };
    let cut = blobs
        .put(&key, chunks(vec![Ok(b"half"), Err("gone")]), 100, "MOST")
        .await;
    assert!(matches!(cut, Err(Error::Cut { .. })));
    let long = blobs
        .put(&key, chunks(vec![Ok(b"12345"), Ok(b"67890")]), 9, "MOST")
        .await;
    let Err(error @ Error::TooLong { .. }) = long else {
        panic!("{long:?}")
    };
    assert!(
        error.to_string().contains("MOST") && error.to_string().contains('9'),
        "{error}"
    );
    assert_eq!(read(&key).await, None);
    assert_eq!(
        blobs
            .put(&key, chunks(vec![Ok(b"whole")]), 100, "MOST")
            .await
            .unwrap(),
        5
    );
    assert_eq!(
        blobs
            .put(&BlobKey::Log(attempt.clone()), chunks(vec![]), 100, "MOST")
            .await
            .unwrap(),
        0
    );
    assert_eq!(read(&key).await.unwrap(), b"whole");
    assert_eq!(read(&BlobKey::Log(attempt)).await.unwrap(), b"");
    blobs.delete(&key).await.unwrap();
    blobs.delete(&key).await.unwrap();
    assert_eq!(read(&key).await, None);
    assert!(Blobs::open("s3://bucket").is_err());
}
